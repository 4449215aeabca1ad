//! Members: who changes whom, and what becomes of those who leave.

use super::{Acme, caller, code, on_both};
use crate::access::{
    May, ProjectRole, TenantRole, TokenScope, TokenScopes, UserId, Visibility,
    members::{self, MemberChange},
    permission::{EnterTenant, ManageProject, OwnTokens, ReadWorkflows, WriteWorkflows},
    project_members,
    projects::{self, ProjectChange},
    tokens::{self, TokenSpec},
};

const fn role(role: TenantRole) -> MemberChange {
    MemberChange { role: Some(role), active: None }
}

const fn active(active: bool) -> MemberChange {
    MemberChange { role: None, active: Some(active) }
}

impl Acme {
    async fn token(&self, user: UserId) -> String {
        let may: May<OwnTokens> = self.may(user).await.unwrap();
        let scopes = TokenScopes::new([TokenScope::WorkflowRead]);
        let spec = TokenSpec { name: "x".into(), project: None, scopes, expires_at: None };
        tokens::issue(&self.database, &may, spec).await.unwrap().1.expose().to_owned()
    }

    async fn is_known(&self, token: &str) -> bool {
        let origin = caller(self.ada, "").origin;
        tokens::recognise(&self.database, token, origin).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn admins_do_not_touch_owners_and_nobody_rises_above_who_raises_them() {
    on_both(|acme| async move {
        let bob = acme.member("bob@acme.example", TenantRole::Admin).await;
        let eve = acme.member("eve@acme.example", TenantRole::Member).await;
        let (ada, by_bob) = (acme.ada, acme.manage(bob).await);
        let change = async |user, change| members::change(&acme.database, &by_bob, user, change).await;
        assert_eq!(code(change(ada, role(TenantRole::Member)).await), "FORBIDDEN");
        assert_eq!(code(change(ada, active(false)).await), "FORBIDDEN");
        assert_eq!(code(members::remove(&acme.database, &by_bob, ada).await), "FORBIDDEN");
        assert_eq!(code(change(eve, role(TenantRole::Owner)).await), "FORBIDDEN");
        assert_eq!(code(change(bob, role(TenantRole::Owner)).await), "FORBIDDEN");
        assert_eq!(change(eve, role(TenantRole::Admin)).await.unwrap().role, TenantRole::Admin);
        let by_ada = acme.manage(ada).await;
        let raised = members::change(&acme.database, &by_ada, bob, role(TenantRole::Owner)).await.unwrap();
        assert_eq!(raised.role, TenantRole::Owner);
    })
    .await;
}

#[tokio::test]
async fn who_was_demoted_meanwhile_does_not_go_on() {
    on_both(|acme| async move {
        let bob = acme.member("bob@acme.example", TenantRole::Admin).await;
        let (by_ada, by_bob) = (acme.manage(acme.ada).await, acme.manage(bob).await);
        members::change(&acme.database, &by_ada, bob, role(TenantRole::Member)).await.unwrap();
        let outcome = members::change(&acme.database, &by_bob, bob, role(TenantRole::Admin)).await;
        assert_eq!(code(outcome), "ROLE_TOO_LOW");
    })
    .await;
}

#[tokio::test]
async fn two_owners_who_demote_each_other_at_once_leave_one() {
    on_both(|acme| async move {
        let bob = acme.member("bob@acme.example", TenantRole::Owner).await;
        let (by_ada, by_bob) = (acme.manage(acme.ada).await, acme.manage(bob).await);
        let (first, second) = tokio::join!(
            members::change(&acme.database, &by_ada, bob, role(TenantRole::Member)),
            members::change(&acme.database, &by_bob, acme.ada, role(TenantRole::Member)),
        );
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        // The one who is left cannot go either.
        let (last, by_last) = if first.is_ok() { (acme.ada, by_ada) } else { (bob, by_bob) };
        let outcome = members::change(&acme.database, &by_last, last, role(TenantRole::Member)).await;
        assert_eq!(code(outcome), "LAST_OWNER");
    })
    .await;
}

#[tokio::test]
async fn two_owners_who_both_step_down_at_once_leave_one() {
    on_both(|acme| async move {
        let bob = acme.member("bob@acme.example", TenantRole::Owner).await;
        let (by_ada, by_bob) = (acme.manage(acme.ada).await, acme.manage(bob).await);
        let (first, second) = tokio::join!(
            members::change(&acme.database, &by_ada, acme.ada, active(false)),
            members::change(&acme.database, &by_bob, bob, role(TenantRole::Member)),
        );
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    })
    .await;
}

#[tokio::test]
async fn deactivation_holds_from_the_next_request_on_and_its_tokens_stay_dead() {
    on_both(|acme| async move {
        let bob = acme.member("bob@acme.example", TenantRole::Member).await;
        let (by_ada, token) = (acme.manage(acme.ada).await, acme.token(bob).await);
        assert!(acme.is_known(&token).await && acme.may::<ReadWorkflows>(bob).await.is_ok());
        members::change(&acme.database, &by_ada, bob, active(false)).await.unwrap();
        assert!(!acme.is_known(&token).await);
        assert_eq!(code(acme.may::<ReadWorkflows>(bob).await), "PLACE_NOT_FOUND");
        members::change(&acme.database, &by_ada, bob, active(true)).await.unwrap();
        assert!(acme.may::<ReadWorkflows>(bob).await.is_ok());
        assert!(!acme.is_known(&token).await);
        let (project, other) = (acme.may(acme.ada).await.unwrap(), acme.token(bob).await);
        project_members::set(&acme.database, &project, bob, ProjectRole::Admin).await.unwrap();
        members::remove(&acme.database, &by_ada, bob).await.unwrap();
        assert!(!acme.is_known(&other).await);
        assert_eq!(code(acme.may::<EnterTenant>(bob).await), "PLACE_NOT_FOUND");
        assert!(project_members::list(&acme.database, &project, "", 10).await.unwrap().iter().all(|it| it.user != bob));
    })
    .await;
}

#[tokio::test]
async fn a_role_of_ones_own_decides_what_one_is_in_a_project() {
    on_both(|acme| async move {
        let bob = acme.member("bob@acme.example", TenantRole::Member).await;
        let manage: May<ManageProject> = acme.may(acme.ada).await.unwrap();
        assert!(acme.may::<WriteWorkflows>(bob).await.is_ok());
        project_members::set(&acme.database, &manage, bob, ProjectRole::Viewer).await.unwrap();
        assert!(acme.may::<ReadWorkflows>(bob).await.is_ok());
        assert_eq!(code(acme.may::<WriteWorkflows>(bob).await), "ROLE_TOO_LOW");
        let private = ProjectChange { visibility: Some(Visibility::Private), ..ProjectChange::default() };
        projects::change(&acme.database, &manage, private).await.unwrap();
        assert!(acme.may::<ReadWorkflows>(bob).await.is_ok());
        project_members::remove(&acme.database, &manage, bob).await.unwrap();
        assert_eq!(code(acme.may::<ReadWorkflows>(bob).await), "PLACE_NOT_FOUND");
        assert_eq!(code(project_members::remove(&acme.database, &manage, bob).await), "NOT_FOUND");
        project_members::set(&acme.database, &manage, bob, ProjectRole::Admin).await.unwrap();
        assert!(acme.may::<ManageProject>(bob).await.is_ok());
        let stranger = acme.stranger("eve@other.example").await;
        let outcome = project_members::set(&acme.database, &manage, stranger, ProjectRole::Viewer).await;
        assert_eq!(code(outcome), "NOT_FOUND");
    })
    .await;
}
