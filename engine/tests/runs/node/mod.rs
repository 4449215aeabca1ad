//! Nodes with scripted steps on a real SQLite store.

mod approvals;
mod ceilings;
mod compute;
mod feed;
mod keys;
mod leases;
mod requests;
mod trouble;
mod work;

use crate::{program, rules::listed};
use agentruntime_engine::{
    graph::Graph,
    node::{Node, NodeConfig, StartRequest},
    run::event::Event,
    store::{Clock, Location, ManualClock, RunRecord, Scope, Store, SystemClock, TaskFilter, TaskRecord},
};
use agentruntime_host_api::{
    Guest, Invocation, Json, Outcome, ProjectId, RunId, StepError, StepOutput, TenantId, WorkflowId,
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// Far more than anything here takes; a test that hangs says so.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store in a folder of its own.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) scope: Scope,
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock)).await
    }

    /// A place where time stands still until it is moved.
    pub(crate) async fn with_manual_clock() -> (Self, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(crate::world::START));
        (Self::with_clock(clock.clone()).await, clock)
    }

    async fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Location::Sqlite(folder.path().join("data")), clock.clone()).await.unwrap();
        let scope = Scope { tenant: TenantId::new("t"), project: ProjectId::new("p") };
        Self { folder, store, clock, scope }
    }

    pub(crate) fn node(&self, guest: &Arc<Scripted>) -> Node {
        self.node_for(guest, NodeConfig::default().active_runs_max)
    }

    pub(crate) fn node_for(&self, guest: &Arc<Scripted>, active_runs_max: usize) -> Node {
        let config = NodeConfig { active_runs_max, ..NodeConfig::default() };
        self.node_with(guest, config)
    }

    pub(crate) fn node_with(&self, guest: &Arc<Scripted>, config: NodeConfig) -> Node {
        // A simulated clock wakes nobody when it is moved, so nodes look often.
        let config = NodeConfig { poll: Duration::from_millis(5), ..config };
        Node::start(config, self.store.clone(), guest.clone(), self.clock.clone())
    }

    /// Publishes steps as a workflow; a step without a type is a script.
    pub(crate) async fn publish(&self, name: &str, mut steps: Value) -> WorkflowId {
        for step in steps.as_array_mut().unwrap() {
            if step.get("type").is_none() {
                step["type"] = "lua_script".into();
            }
        }
        let graph = Graph::parse(&json!({ "steps": steps })).unwrap();
        let workflow = WorkflowId::new(name);
        self.store.publish(&self.scope, &workflow, &graph.canonical, &graph.hash, None).await.unwrap();
        workflow
    }

    pub(crate) async fn start(&self, node: &Node, workflow: &WorkflowId) -> RunId {
        let request = StartRequest::new(workflow.clone(), json!({}).into());
        node.start_run(&self.scope, request).await.unwrap()
    }

    pub(crate) async fn journal(&self, run: RunId) -> Vec<Event> {
        self.store.events(&self.scope, run, 0, 1_000).await.unwrap()
    }

    pub(crate) async fn row(&self, run: RunId) -> RunRecord {
        self.store.run(&self.scope, run).await.unwrap()
    }

    /// The journal of a run in short.
    pub(crate) async fn told(&self, run: RunId) -> String {
        let journal = self.journal(run).await;
        assert!(journal.iter().map(|event| event.seq).eq(1..=journal.len() as u64), "no gaps");
        journal.iter().map(listed).collect::<Vec<_>>().join("\n")
    }

    /// Waits until the run is over.
    pub(crate) async fn end(&self, run: RunId) -> Result<Value, StepError> {
        self.until(|| async { self.row(run).await.status.is_final() }).await;
        self.ended(run).await
    }

    async fn ended(&self, run: RunId) -> Result<Value, StepError> {
        let row = self.row(run).await;
        match self.journal(run).await.last().map(|event| event.kind.clone()) {
            Some(agentruntime_engine::run::event::EventKind::RunCompleted { outputs }) => Ok(outputs.to_value()),
            _ => Err(row.error.unwrap()),
        }
    }

    pub(crate) async fn tasks(&self) -> Vec<TaskRecord> {
        self.store.tasks(&self.scope, &TaskFilter::default()).await.unwrap()
    }

    /// Waits for what nobody announces.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, is_so: impl Fn() -> F) {
        let wait = async {
            while !is_so().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("what is waited for happens");
    }
}

/// Steps that do what their [`program`] says, and know how often they were begun.
pub(crate) struct Scripted {
    attempts: Mutex<HashMap<(u64, String), u32>>,
    /// How many steps hold now, or did.
    held: AtomicUsize,
    dropped: Arc<AtomicUsize>,
    /// Every program that waits for replies has one of these.
    waiting: Arc<()>,
    gate: Semaphore,
}

impl Scripted {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            attempts: Mutex::default(),
            held: AtomicUsize::new(0),
            dropped: Arc::default(),
            waiting: Arc::default(),
            gate: Semaphore::new(0),
        })
    }

    /// Lets that many steps that hold go on.
    pub(crate) fn release(&self, steps: usize) {
        self.gate.add_permits(steps);
    }

    /// How many steps came to where they hold.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// How many steps were stopped while they held.
    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    /// How many programs wait for replies where they are, and were not given up.
    pub(crate) fn waiting(&self) -> usize {
        Arc::strong_count(&self.waiting) - 1
    }

    /// How often a step was begun, in all runs.
    pub(crate) fn begun(&self, step: &str) -> u32 {
        self.attempts.lock().unwrap().iter().filter(|((_, name), _)| name == step).map(|(_, count)| count).sum()
    }

    async fn outcome(&self, invocation: Invocation) -> Outcome {
        let key = (invocation.entropy.0, invocation.program.name.to_string());
        let attempt = {
            let mut attempts = self.attempts.lock().unwrap();
            let count = attempts.entry(key).or_default();
            *count += 1;
            *count
        };
        let outcome = match program::outcome(&invocation, attempt) {
            Some(outcome) => outcome,
            None if invocation.program.source.starts_with("ask") => {
                return requests::ask(&invocation, Vec::new(), self.waiting.clone());
            }
            None => {
                self.held.fetch_add(1, Ordering::SeqCst);
                let mut held = Held(Some(self.dropped.clone()));
                self.gate.acquire().await.unwrap().forget();
                held.0 = None;
                Ok(json!({ "held": true }).into())
            }
        };
        match outcome {
            Ok(json) => Outcome::Done(StepOutput { json, fuel: None, duration: Duration::from_micros(1) }),
            Err(error) => Outcome::Failed(error),
        }
    }
}

/// A step that holds; it counts as dropped unless it was let go on.
struct Held(Option<Arc<AtomicUsize>>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(dropped) = &self.0 {
            dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Guest for Scripted {
    fn start(&self, invocation: Invocation) -> BoxFuture<'_, Outcome> {
        Box::pin(self.outcome(invocation))
    }

    fn check(&self, _: TenantId, _: agentruntime_host_api::Program) -> BoxFuture<'_, Result<(), StepError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A JSON document.
pub(crate) fn doc(value: Value) -> Json {
    value.into()
}
