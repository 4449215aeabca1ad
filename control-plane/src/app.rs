//! The running service: what requests and background work have in common.

use crate::{
    access::{
        accounts::Accounts,
        attempts::Attempts,
        last_used::LastUsed,
        openid::{OpenId, OpenIdSetupError},
        tables,
    },
    api::{bodies::Bodies, health::Pulse, limits::Limits, stream::Seats},
    integrations::{Inquiries, Keys, Outside},
    mail::{MailError, Mailer},
    observe::Telling,
    operations::{Checking, Checks, Project, WorkflowFeeds},
    settings::Settings,
    vault::{ExternalVault, Sealer},
};
use agentruntime_engine::{
    database::{Clock, Database, StoreError},
    node::Node,
    store::Store,
};
use agentruntime_sandbox::Sandbox;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The service. Shared by all requests.
pub(crate) struct App {
    /// Versions, runs, events, tasks.
    pub(crate) store: Store,
    /// The node that works on runs in this process.
    pub(crate) node: Node,
    /// What runs scripts, for dry-runs.
    pub(crate) guest: Arc<Sandbox>,
    /// What the operator decided.
    pub(crate) settings: Settings,
    /// When tokens were used last, as far as that is not written yet.
    pub(crate) last_used: LastUsed,
    /// Seals stored secrets, and opens them again.
    pub(crate) sealer: Arc<Sealer>,
    /// Has the values of vaults, where the operator set that up.
    pub(crate) external_vault: Option<ExternalVault>,
    /// What steps reach outside.
    pub(crate) outside: Arc<Outside>,
    /// Sends mails.
    pub(crate) mail: Mailer,
    /// How often somebody may try.
    pub(crate) attempts: Arc<Attempts>,
    /// What people do with their accounts.
    pub(crate) accounts: Accounts,
    /// Signing in with accounts elsewhere, if the operator set it up.
    pub(crate) openid: Option<OpenId>,
    /// The bodies of requests that are under way.
    pub(crate) bodies: Bodies,
    /// The checks of graphs that are under way.
    pub(crate) checks: Checks,
    /// The requests that ask servers elsewhere.
    pub(crate) inquiries: Inquiries,
    /// What streams of whole workflows take their events from.
    pub(crate) feeds: WorkflowFeeds,
    /// The streams of events that are open.
    pub(crate) seats: Seats,
    /// What is told about the service's work.
    pub(crate) telling: Arc<Telling>,
    /// How many requests anybody may send.
    pub(crate) limits: Limits,
    /// Whether the database answers.
    pub(crate) pulse: Pulse,
    /// Cancelled when the service was told to end: it says that it is not ready any more.
    pub(crate) ending: CancellationToken,
    /// Cancelled when the service drains: long answers end then.
    pub(crate) draining: CancellationToken,
}

/// Why the service cannot be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStarted {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The settings of mails are wrong.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The settings of signing in elsewhere are wrong.
    #[error(transparent)]
    OpenId(#[from] OpenIdSetupError),
}

impl App {
    /// Puts the service together, over a store and a node that are open.
    pub(crate) async fn new(
        store: Store,
        node: Node,
        guest: Arc<Sandbox>,
        keys: Keys,
        outside: Arc<Outside>,
        settings: Settings,
        telling: Telling,
    ) -> Result<Arc<Self>, NotStarted> {
        let database = store.database();
        database.migrate(&tables::MIGRATIONS).await?;
        let mail = Mailer::new(&settings.mail)?;
        let attempts = Arc::new(Attempts::new());
        let accounts = Accounts::new(database.clone(), mail.clone(), settings.public_url.clone(), attempts.clone());
        let openid = OpenId::new(database.clone(), &settings, attempts.clone())?;
        let (limits, bodies) = (Limits::new(&settings.rates), Bodies::new(settings.body_room));
        Ok(Arc::new(Self {
            store,
            node,
            guest,
            settings,
            last_used: LastUsed::default(),
            sealer: keys.master,
            external_vault: keys.external,
            outside,
            mail,
            attempts,
            accounts,
            openid,
            limits,
            telling: Arc::new(telling),
            pulse: Pulse::default(),
            bodies,
            checks: Checks::default(),
            inquiries: Inquiries::default(),
            feeds: WorkflowFeeds::default(),
            seats: Seats::default(),
            ending: CancellationToken::new(),
            draining: CancellationToken::new(),
        }))
    }

    /// The database, for the control plane's own tables.
    pub(crate) fn database(&self) -> &Database {
        self.store.database()
    }

    /// What opens the secrets that are kept.
    pub(crate) fn keys(&self) -> Keys {
        Keys { master: self.sealer.clone(), external: self.external_vault.clone() }
    }

    /// What time it is.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        self.database().clock()
    }

    /// What graphs are checked with.
    pub(crate) fn checking(&self) -> Checking<'_> {
        Checking { checks: &self.checks, guest: self.guest.clone() }
    }

    /// The workflows and runs of the project that somebody may enter.
    pub(crate) fn project(&self, place: &crate::access::InProject) -> Project {
        Project::of(self.store.clone(), place.tenant.tenant.clone(), place.project.clone())
    }
}
