//! Invitations, and the rule of domains.

use super::{Acme, code, in_session, on_both};
use crate::access::{
    AccessError, InTenant, InviteId, TenantRole, UserId, domains,
    invites::{self, GOOD_FOR},
    members::{self, MemberChange},
    tenants::{self, TenantChange},
};
use agentruntime_engine::database::Values;
use std::time::Duration;

const EVE: &str = "eve@other.example";

impl Acme {
    async fn invite(&self, by: UserId, email: &str, role: TenantRole) -> Result<(InviteId, String), AccessError> {
        let may = self.manage(by).await;
        let mut tx = self.database.begin().await.unwrap();
        let (invite, new) = invites::invite(&mut tx, &may, email, role, self.database.time()).await?;
        tx.commit().await.unwrap();
        Ok((invite.id, new.expose().to_owned()))
    }

    async fn accept(&self, user: UserId, token: &str) -> Result<InTenant, AccessError> {
        invites::accept(&self.database, &in_session(user, ""), token).await
    }
}

#[tokio::test]
async fn an_invitation_is_for_one_address_and_good_once() {
    on_both(|acme| async move {
        let (eve, other) = (acme.stranger(EVE).await, acme.stranger("mallory@other.example").await);
        let (_, token) = acme.invite(acme.ada, " Eve@Other.example ", TenantRole::Admin).await.unwrap();
        assert_eq!(code(acme.accept(other, &token).await), "NOT_FOUND");
        assert_eq!(code(acme.accept(eve, "made up").await), "NOT_FOUND");
        let joined = acme.accept(eve, &token).await.unwrap();
        assert_eq!((joined.slug.as_str(), joined.role), ("acme", TenantRole::Admin));
        assert_eq!(acme.manage(eve).await.place.role, TenantRole::Admin);
        assert_eq!(code(acme.accept(eve, &token).await), "NOT_FOUND");
        assert_eq!(code(acme.invite(acme.ada, EVE, TenantRole::Member).await), "ALREADY_MEMBER");
    })
    .await;
}

#[tokio::test]
async fn an_invitation_ends_by_time_by_hand_by_a_newer_one_and_with_its_sender() {
    on_both(|acme| async move {
        let bob = acme.member("bob@acme.example", TenantRole::Admin).await;
        let eve = acme.stranger(EVE).await;
        let (_, late) = acme.invite(acme.ada, EVE, TenantRole::Member).await.unwrap();
        acme.clock.advance(GOOD_FOR);
        assert_eq!(code(acme.accept(eve, &late).await), "NOT_FOUND");
        let (id, taken_back) = acme.invite(acme.ada, EVE, TenantRole::Member).await.unwrap();
        let by_ada = acme.manage(acme.ada).await;
        invites::revoke(&acme.database, &by_ada, id).await.unwrap();
        invites::revoke(&acme.database, &by_ada, id).await.unwrap();
        assert_eq!(code(invites::revoke(&acme.database, &by_ada, InviteId::new_v7()).await), "NOT_FOUND");
        assert_eq!(code(acme.accept(eve, &taken_back).await), "NOT_FOUND");
        let (_, older) = acme.invite(acme.ada, EVE, TenantRole::Member).await.unwrap();
        let (_, by_bob) = acme.invite(bob, EVE, TenantRole::Admin).await.unwrap();
        assert_eq!(code(acme.accept(eve, &older).await), "NOT_FOUND");
        let demoted = MemberChange { role: Some(TenantRole::Member), active: None };
        members::change(&acme.database, &by_ada, bob, demoted).await.unwrap();
        assert_eq!(code(acme.accept(eve, &by_bob).await), "NOT_FOUND");
        let (_, last) = acme.invite(acme.ada, EVE, TenantRole::Member).await.unwrap();
        acme.clock.advance(GOOD_FOR - Duration::from_micros(1));
        assert!(acme.accept(eve, &last).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn an_admin_invites_no_owner_and_a_deactivated_member_does_not_come_back_by_invitation() {
    on_both(|acme| async move {
        let bob = acme.member("bob@acme.example", TenantRole::Admin).await;
        assert_eq!(code(acme.invite(bob, EVE, TenantRole::Owner).await), "FORBIDDEN");
        let eve = acme.stranger(EVE).await;
        let (_, token) = acme.invite(bob, EVE, TenantRole::Member).await.unwrap();
        acme.accept(eve, &token).await.unwrap();
        let by_bob = acme.manage(bob).await;
        let deactivated = MemberChange { role: None, active: Some(false) };
        members::change(&acme.database, &by_bob, eve, deactivated).await.unwrap();
        assert_eq!(code(acme.invite(bob, EVE, TenantRole::Member).await), "ALREADY_MEMBER");
    })
    .await;
}

#[tokio::test]
async fn a_closed_workspace_takes_addresses_of_its_domains_only() {
    on_both(|acme| async move {
        let mut by_ada = acme.manage(acme.ada).await;
        by_ada.caller.email = "ada@acme.example".into();
        let close = || TenantChange { restrict_domains: Some(true), ..TenantChange::default() };
        let change = async |change| tenants::change(&acme.database, &by_ada, change).await;
        let own = async |domain: &str| {
            domains::claim(&acme.database, &by_ada, domain).await.unwrap();
            // What the DNS record would show.
            let mut values = Values::default();
            values.text(domain);
            acme.database.write("UPDATE domains SET verified_at = 1 WHERE domain = $1", values).await.unwrap();
        };
        let (eve, zoe) = (acme.stranger(EVE).await, acme.member("zoe@other.example", TenantRole::Member).await);
        let (_, before) = acme.invite(acme.ada, EVE, TenantRole::Member).await.unwrap();
        assert_eq!(code(change(close()).await), "NO_VERIFIED_DOMAIN");
        own("else.example").await;
        assert_eq!(code(change(close()).await), "OWN_DOMAIN_MISSING");
        own("acme.example").await;
        assert!(change(close()).await.unwrap().restrict_domains);
        assert_eq!(code(acme.accept(eve, &before).await), "DOMAIN_NOT_ALLOWED");
        assert_eq!(code(acme.invite(acme.ada, EVE, TenantRole::Member).await), "DOMAIN_NOT_ALLOWED");
        assert!(acme.invite(acme.ada, "x@acme.example", TenantRole::Member).await.is_ok());
        assert_eq!(code(acme.invite(acme.ada, "x@sub.acme.example", TenantRole::Member).await), "DOMAIN_NOT_ALLOWED");
        // Who is in stays in; who was taken out from outside the domains does not come back.
        let set = async |active| {
            let change = MemberChange { role: None, active: Some(active) };
            members::change(&acme.database, &by_ada, zoe, change).await
        };
        assert!(acme.may::<crate::access::permission::EnterTenant>(zoe).await.is_ok());
        set(false).await.unwrap();
        assert_eq!(code(set(true).await), "DOMAIN_NOT_ALLOWED");
        domains::remove(&acme.database, &by_ada, "else.example").await.unwrap();
        assert_eq!(code(domains::remove(&acme.database, &by_ada, "acme.example").await), "LAST_DOMAIN");
        let open = TenantChange { restrict_domains: Some(false), ..TenantChange::default() };
        assert!(!change(open).await.unwrap().restrict_domains);
        assert!(acme.accept(eve, &before).await.is_ok());
    })
    .await;
}
