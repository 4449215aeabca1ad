//! A database of a test's own, a clock that the test moves, and short ways to say what is written.

use agentruntime_engine::{
    run::event::{Event, EventKind, RunStatus},
    store::{
        Append, Appended, Chunk, ClaimedRun, Lease, Location, ManualClock, NewRun, NodeId, Release, RowUpdate, Scope,
        Store,
    },
};
use agentruntime_host_api::{Json, ProjectId, RunId, TenantId, Timestamp, WorkflowId};
use std::{sync::Arc, time::Duration};

pub(crate) const LEASE: Duration = Duration::from_secs(10);
pub(crate) const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

pub(crate) struct Fixture {
    pub(crate) location: Location,
    pub(crate) clock: Arc<ManualClock>,
    _folder: Option<tempfile::TempDir>,
}

impl Fixture {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("data"));
        Self { location, clock: Arc::new(ManualClock::at(START)), _folder: Some(folder) }
    }

    pub(crate) fn postgres() -> Option<Self> {
        let location = Location::Postgres(agentruntime_tests::postgres::server()?.database());
        Some(Self { location, clock: Arc::new(ManualClock::at(START)), _folder: None })
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.location, self.clock.clone()).await.unwrap()
    }
}

pub(crate) fn scope(tenant: &str) -> Scope {
    Scope { tenant: TenantId::new(tenant), project: ProjectId::new("main") }
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId(name.to_owned())
}

/// A run of tenant `acme` with one event.
pub(crate) fn new_run() -> NewRun {
    new_run_of(&scope("acme"))
}

pub(crate) fn new_run_of(scope: &Scope) -> NewRun {
    NewRun {
        run: RunId::new_v7(),
        scope: scope.clone(),
        workflow: WorkflowId::new("triage"),
        version: 1,
        started_at: START,
        parent: None,
        trigger_type: "manual".into(),
        user_id: None,
        pat_id: None,
        external_user_id: None,
        keys: Vec::new(),
        events: chunk(1, 1),
    }
}

/// An event that says its own number.
pub(crate) fn event(seq: u64) -> Event {
    let outputs = Json::of_value(&serde_json::json!({ "n": seq }));
    Event { seq, at: START, kind: EventKind::RunCompleted { outputs } }
}

/// The events from `first` to `last`.
pub(crate) fn chunk(first: u64, last: u64) -> Chunk {
    Chunk::of(&(first..=last).map(event).collect::<Vec<_>>())
}

pub(crate) fn row(status: RunStatus) -> RowUpdate {
    RowUpdate { status, awaiting: None, finished_at: None, error: None }
}

/// Events from `first` to `last` under a lease, which is kept.
pub(crate) fn append(lease: Lease, first: u64, last: u64) -> Append {
    Append { events: Some(chunk(first, last)), ..Append::nothing(lease, row(RunStatus::Running)) }
}

/// The creation of a run by the node that then holds it.
pub(crate) fn create(new: &NewRun) -> Append {
    Append::create(Lease { run: new.run, epoch: 1 }, new.clone())
}

/// Lets go of a run until a signal comes.
pub(crate) fn release(lease: Lease, inbox_read: u64) -> Append {
    release_until(lease, inbox_read, None)
}

pub(crate) fn release_until(lease: Lease, inbox_read: u64, wake_at: Option<Timestamp>) -> Append {
    let release = Some(Release { wake_at });
    Append { release, inbox_read, ..Append::nothing(lease, row(RunStatus::Running)) }
}

pub(crate) trait StoreExt {
    /// Creates a run and lets `node` claim it, where nothing else is due.
    async fn started(&self, new: &NewRun, node: &NodeId) -> ClaimedRun;
    async fn commit_one(&self, node: &NodeId, append: Append) -> Appended;
    async fn claim_all(&self, node: &NodeId) -> Vec<ClaimedRun>;
    async fn seqs(&self, run: RunId) -> Vec<u64>;
}

impl StoreExt for Store {
    async fn started(&self, new: &NewRun, node: &NodeId) -> ClaimedRun {
        self.create_run(new.clone()).await.unwrap();
        let [claimed] = self.claim_all(node).await.try_into().expect("one run is due");
        assert_eq!(claimed.record.run, new.run);
        claimed
    }

    async fn commit_one(&self, node: &NodeId, append: Append) -> Appended {
        self.commit(node, LEASE, &[append]).await.unwrap()[0]
    }

    async fn claim_all(&self, node: &NodeId) -> Vec<ClaimedRun> {
        self.claim(node, 1_000, LEASE).await.unwrap()
    }

    async fn seqs(&self, run: RunId) -> Vec<u64> {
        self.journal(run).await.unwrap().iter().map(|event| event.seq).collect()
    }
}
