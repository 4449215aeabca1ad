//! The rules of access, on real databases and with a clock that the test moves.

mod audit_chain;
mod invitations;
mod membership;

use super::{
    AccessError, Caller, Credential, InSession, InTenant, May, RequestId, SessionId, TenantRole, UserId, Visibility,
    caller::Origin,
    entry::{self, Enter, NamedPlace},
    members,
    permission::{ManageTenant, Permission},
    projects, tables, tenants, users,
};
use agentruntime_engine::database::{Clock, Database, Location, ManualClock};
use agentruntime_host_api::Timestamp;
use agentruntime_tests::postgres;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};
use tempfile::TempDir;

/// A database with one workspace, `acme`, that Ada owns, and a public project in it, `main`.
pub(super) struct Acme {
    pub(super) database: Database,
    pub(super) clock: Arc<ManualClock>,
    pub(super) place: InTenant,
    pub(super) ada: UserId,
    _folder: TempDir,
}

/// Runs a test on SQLite, and on PostgreSQL where the machine has it.
pub(super) async fn on_both<F: Future<Output = ()>>(test: impl Fn(Acme) -> F) {
    let folder = tempfile::tempdir().unwrap();
    test(Acme::at(&Location::Sqlite(folder.path().join("data")), folder).await).await;
    if let Some(postgres) = postgres::server() {
        test(Acme::at(&postgres.database().parse().unwrap(), tempfile::tempdir().unwrap()).await).await;
    }
}

impl Acme {
    async fn at(location: &Location, folder: TempDir) -> Self {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Arc::new(ManualClock::at(start));
        let database = Database::open(location, clock.clone()).await.unwrap();
        database.migrate(&tables::MIGRATIONS).await.unwrap();
        let mut tx = database.begin().await.unwrap();
        let now = start.as_micros();
        let ada = users::create_verified(&mut tx, "ada@acme.example", "Ada", now).await.unwrap();
        let owner = caller(ada, "ada@acme.example");
        let place = tenants::create(&mut tx, &owner, "acme", "Acme", now).await.unwrap();
        projects::create(&mut tx, &owner, &place, "main", "Main", Visibility::Public, now).await.unwrap();
        tx.commit().await.unwrap();
        Self { database, clock, place, ada, _folder: folder }
    }

    /// Somebody with an account and no workspace.
    pub(super) async fn stranger(&self, email: &str) -> UserId {
        let mut tx = self.database.begin().await.unwrap();
        let user = users::create_verified(&mut tx, email, email, self.clock.now().as_micros()).await.unwrap();
        tx.commit().await.unwrap();
        user
    }

    /// Somebody in the workspace.
    pub(super) async fn member(&self, email: &str, role: TenantRole) -> UserId {
        let user = self.stranger(email).await;
        let mut tx = self.database.begin().await.unwrap();
        assert!(members::add(&mut tx, &self.place.tenant, user, role, self.clock.now().as_micros()).await.unwrap());
        tx.commit().await.unwrap();
        user
    }

    /// What somebody may do by a session.
    pub(super) async fn may<P>(&self, user: UserId) -> Result<May<P>, AccessError>
    where
        P: Permission,
        P::Place: Enter,
    {
        let named = NamedPlace { tenant: Some("acme".into()), project: Some("main".into()), ..NamedPlace::default() };
        entry::enter(&self.database, caller(user, "somebody@acme.example"), &named).await
    }

    /// What somebody may do who runs the workspace.
    pub(super) async fn manage(&self, user: UserId) -> May<ManageTenant> {
        self.may(user).await.unwrap()
    }
}

/// Somebody by a session.
pub(super) fn caller(user: UserId, email: &str) -> Caller {
    let origin = Origin { address: IpAddr::V4(Ipv4Addr::LOCALHOST), request: RequestId::new_v7() };
    Caller { user, email: email.into(), credential: Credential::Session(SessionId::new_v7()), origin }
}

/// Somebody by a session, without a place.
pub(super) fn in_session(user: UserId, email: &str) -> InSession {
    InSession::of(caller(user, email)).unwrap()
}

/// The name of a refusal.
pub(super) fn code<T: std::fmt::Debug>(outcome: Result<T, AccessError>) -> &'static str {
    match outcome.unwrap_err() {
        AccessError::Conflict { code, .. } => code,
        AccessError::Forbidden(_) => "FORBIDDEN",
        AccessError::NotFound { .. } => "NOT_FOUND",
        AccessError::NoSuchPlace(_) => "PLACE_NOT_FOUND",
        AccessError::TenantRoleTooLow { .. } | AccessError::ProjectRoleTooLow { .. } => "ROLE_TOO_LOW",
        other => panic!("{other}"),
    }
}
