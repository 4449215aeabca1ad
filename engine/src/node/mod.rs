//! A node: claims runs, executes their steps and commits what happened.
//!
//! Owns everything that takes time: executions, leases, timers, the group commit. Decides nothing about a run: what an
//! outcome means is the business of [`run`](crate::run), and the node carries out the effects.
//!
//! | file | owns |
//! |---|---|
//! | `actor` | one run while a node holds it |
//! | `execute` | one attempt of a step |
//! | `room` | a request's turn while it is carried out |
//! | `own_time` | what of its waiting is an attempt's own |
//! | `turns` | which requests are under way outside |
//! | `commit` | the writer that gathers what all runs append |
//! | `ceilings` | what one tenant may take |
//! | `compute` | what takes the host's own processor for long |
//! | `consent` | whether a request may go out: grants, rules, a person's word |
//! | `claim` | taking runs up, and keeping their leases |
//! | `versions` | published graphs, parsed once |
//! | `watch` | durable events for those who follow a run |
//! | `output` | what a step gives while a request of it is under way |

mod actor;
mod ceilings;
mod claim;
mod commit;
mod compute;
mod consent;
mod execute;
mod numbers;
mod output;
mod own_time;
mod room;
mod start;
mod turns;
mod versions;
mod watch;

pub use crate::store::StartKey;
pub use ceilings::{Ceiling, Ceilings};
pub use compute::Compute;
pub use output::OutputDelta;
pub use start::{StartError, StartRequest};
pub use watch::{Told, Watcher, WorkflowWatcher};

use crate::{
    run::{RunState, Signal},
    store::{Clock, Lease, NodeId, Scope, Store, StoreError},
};
use actor::Actor;
use agentruntime_host_api::{Guest, Host, Json, NoHost, RunId, TaskId, TenantId, WorkflowId};
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    task::{AbortHandle, JoinHandle},
};

/// How a node works.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// How long a lease lasts without being renewed: how long a dead node's runs lie still.
    pub lease: Duration,
    /// How many runs the node works on at once; further ones stay in the store.
    pub active_runs_max: usize,
    /// How often the node looks for work that nobody told it of.
    pub poll: Duration,
    /// How many requests of steps the node has under way outside at once, of all tenants; further ones wait.
    pub requests_max: usize,
    /// What one tenant may take, where nothing else is [set](Node::set_ceilings) for it.
    pub ceilings: Ceilings,
    /// What carries out what steps ask for; by default nothing.
    pub host: Arc<dyn Host>,
    /// Where what takes the processor for long is done, for the host too if it has the same.
    pub compute: Arc<Compute>,
    /// How runs become parts of the traces of whoever started them, where somebody traces.
    pub traces: Option<Traces>,
}

/// The two ways between a span and its place in a trace, which is text to the engine: it travels with a run's start, so that
/// a run stays in one trace wherever it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Traces {
    /// Names the place of the current span.
    pub place: fn() -> Option<String>,
    /// Puts a span at a place.
    pub adopt: fn(&tracing::Span, &str),
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            active_runs_max: 1_000,
            poll: Duration::from_secs(1),
            // Each may bring two megabytes, which lie in memory until they are written: a gigabyte at the worst.
            requests_max: 512,
            ceilings: Ceilings::default(),
            host: Arc::new(NoHost),
            compute: Arc::default(),
            traces: None,
        }
    }
}

/// A node at work. Dropping it stops it where it is; what it had not finished goes on at the next claim.
pub struct Node {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What the parts of a node have in common.
pub(crate) struct Shared {
    id: NodeId,
    config: NodeConfig,
    store: Store,
    guest: Arc<dyn Guest>,
    clock: Arc<dyn Clock>,
    commits: mpsc::Sender<commit::Commit>,
    active: Mutex<HashMap<RunId, Active>>,
    graphs: versions::Graphs,
    watchers: watch::Watchers,
    tenants: Arc<ceilings::Tenants>,
    turns: turns::Turns,
    compute: Arc<Compute>,
    /// Somebody made a run claimable or room for one.
    work: Notify,
}

/// What a run is there for: all runs of one workflow have it in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Commission {
    scope: Scope,
    workflow: WorkflowId,
}

/// A run that the node holds.
struct Active {
    lease: Lease,
    /// Given back when the run is let go.
    place: ceilings::Place,
    standing: Standing,
    news: Arc<Notify>,
    task: Option<AbortHandle>,
}

/// Whether the store knows a run yet.
#[derive(Clone, Copy, PartialEq)]
enum Standing {
    /// Its start is with the writer.
    Ahead,
    /// Its start is durable.
    Durable,
}

impl Node {
    /// Starts a node. Has to be called within a Tokio runtime.
    pub fn start(config: NodeConfig, store: Store, guest: Arc<dyn Guest>, clock: Arc<dyn Clock>) -> Self {
        let (commits, queue) = mpsc::channel(commit::QUEUE_MAX);
        let tenants = Arc::new(ceilings::Tenants::new(config.ceilings.clone()));
        let shared = Arc::new(Shared {
            turns: turns::Turns::new(config.requests_max, tenants.clone()),
            tenants,
            id: NodeId(RunId::new_v7().to_string()),
            compute: config.compute.clone(),
            config,
            store,
            guest,
            clock,
            commits,
            active: Mutex::default(),
            graphs: versions::Graphs::default(),
            watchers: watch::Watchers::default(),
            work: Notify::new(),
        });
        let tasks = vec![
            tokio::spawn(commit::write(shared.clone(), queue)),
            tokio::spawn(claim::take_up(shared.clone())),
            tokio::spawn(claim::keep(shared.clone())),
        ];
        Self { shared, tasks: Mutex::new(tasks) }
    }

    /// The store the node works on.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Sets what one tenant may take of this node from now on; nothing: what the node's configuration says.
    pub fn set_ceilings(&self, tenant: TenantId, ceilings: Option<Ceilings>) {
        self.shared.tenants.set(tenant, ceilings);
        self.shared.work.notify_one();
    }

    /// Follows the events of a run from now on, each after it is durable. Events before have to be read from the store.
    pub fn watch(&self, run: RunId) -> Watcher {
        self.shared.watchers.watch(run)
    }

    /// Follows the events of all runs of a workflow from now on, as far as this node works on them or accepts them, each after
    /// it is durable.
    pub fn watch_workflow(&self, scope: &Scope, workflow: &WorkflowId) -> WorkflowWatcher {
        self.shared.watchers.watch_workflow(Commission { scope: scope.clone(), workflow: workflow.clone() })
    }

    /// Does work on so much JSON: at once where that takes a moment, else apart from the asynchronous threads, when it is the
    /// tenant's turn.
    pub async fn work_on_json<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match bytes <= compute::LIGHT_BYTES_MAX {
            true => work(),
            false => self.shared.compute.apart(tenant, work).await,
        }
    }

    /// Sends a message to a run.
    pub async fn signal(&self, scope: &Scope, run: RunId, signal: Signal) -> Result<(), StoreError> {
        self.shared.store.signal(scope, run, signal).await?;
        self.shared.tell(run);
        Ok(())
    }

    /// Answers a question that a run asks.
    pub async fn complete_task(
        &self,
        scope: &Scope,
        run: RunId,
        task: TaskId,
        approved: bool,
        result: Json,
    ) -> Result<(), StoreError> {
        self.shared.store.complete_task(scope, run, task, approved, result).await?;
        self.shared.tell(run);
        Ok(())
    }

    /// Stops the node where it is and lets go of its runs, so that others take them up at once rather than when the leases
    /// end. What was not committed is done again there.
    pub async fn stop(&self) -> Result<(), StoreError> {
        let tasks = self.halt();
        for task in tasks {
            // It ended by being aborted; a panic of it was told when it happened.
            let _ = task.await;
        }
        self.shared.store.release(&self.shared.id).await
    }

    /// Aborts everything, and gives what has to end before the leases can be let go: whoever writes.
    fn halt(&self) -> Vec<JoinHandle<()>> {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(JoinHandle::abort);
        for (_, active) in self.shared.active().drain() {
            if let Some(task) = active.task {
                task.abort();
            }
        }
        tasks
    }

    /// Whether the node claims, writes and keeps its leases: not after it was stopped, nor when a part of it broke.
    pub fn is_working(&self) -> bool {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        !tasks.is_empty() && tasks.iter().all(|task| !task.is_finished())
    }

    /// How many runs the node holds.
    pub fn active_runs(&self) -> usize {
        self.shared.active().len()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.halt();
    }
}

impl Shared {
    /// No code that holds this lock can panic half-way, so a poisoned one is as good.
    fn active(&self) -> MutexGuard<'_, HashMap<RunId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the run's actor, or whoever claims, that there is news.
    fn tell(&self, run: RunId) {
        match self.active().get(&run) {
            Some(active) => active.news.notify_one(),
            None => self.work.notify_one(),
        }
    }

    fn has_room(&self) -> usize {
        self.config.active_runs_max.saturating_sub(self.active().len())
    }

    /// Lets an actor begin on a run that was just started here.
    fn spawn_fresh(
        self: &Arc<Self>,
        of: &Arc<Commission>,
        place: ceilings::Place,
        lease: Lease,
        state: RunState,
        standing: Standing,
    ) {
        self.spawn(lease, place, standing, |news| {
            Actor::fresh(self.clone(), of.clone(), lease, standing, state, news).work()
        });
    }

    /// Lets a task begin on a run that the node holds the lease of.
    fn spawn<F>(&self, lease: Lease, place: ceilings::Place, standing: Standing, work: impl FnOnce(Arc<Notify>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let news = Arc::new(Notify::new());
        let active = Active { lease, place, standing, news: news.clone(), task: None };
        let earlier = self.active().insert(lease.run, active);
        // A lease of this node that ran out unnoticed: whatever was done under it cannot be written any more.
        if let Some(task) = earlier.and_then(|earlier| earlier.task) {
            task.abort();
        }
        let task = tokio::spawn(work(news)).abort_handle();
        if let Some(active) = self.active().get_mut(&lease.run).filter(|active| active.lease == lease) {
            active.task = Some(task);
        }
    }

    /// Whether the node holds the run under this lease.
    fn holds(&self, lease: Lease) -> bool {
        self.active().get(&lease.run).is_some_and(|active| active.lease == lease)
    }

    /// Notes that the store knows the run.
    fn is_durable(&self, lease: Lease) {
        if let Some(active) = self.active().get_mut(&lease.run) {
            active.standing = Standing::Durable;
        }
    }

    /// Forgets a run that the node no longer holds.
    fn forget(&self, lease: Lease) {
        let mut active = self.active();
        if let Some(held) = active.get(&lease.run).filter(|active| active.lease == lease) {
            let was_full = active.len() >= self.config.active_runs_max || self.tenants.is_full(held.place.tenant());
            active.remove(&lease.run);
            if was_full {
                self.work.notify_one();
            }
        }
    }

    /// Stops work on a run whose lease is lost: whoever holds it now goes on from the journal.
    fn abandon(&self, lease: Lease) {
        let task = self.active().get(&lease.run).filter(|active| active.lease == lease).and_then(|it| it.task.clone());
        if let Some(task) = task {
            task.abort();
        }
        self.forget(lease);
    }
}
