//! What the benchmarks run in: a sandbox, a store in a folder of its own, a node, published graphs.

use agentruntime_engine::{
    graph::Graph,
    node::{Node, NodeConfig, StartRequest},
    run::event::EventKind,
    store::{Location, Scope, Store, SystemClock},
};
use agentruntime_host_api::{Json, ProjectId, RunId, TenantId, WorkflowId};
use agentruntime_sandbox::{Sandbox, SandboxConfig};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The file of the embedded database in a data folder.
const DATABASE: &str = "journal.db";

/// A node on an empty store.
pub(crate) struct World {
    pub(crate) node: Arc<Node>,
    pub(crate) scope: Scope,
    pub(crate) folder: TempDir,
}

pub(crate) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// The one sandbox of the process.
pub(crate) fn sandbox() -> Result<Sandbox> {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    if let Some(sandbox) = SANDBOX.get() {
        return Ok(sandbox.clone());
    }
    let sandbox = Sandbox::new(SandboxConfig::default())?;
    Ok(SANDBOX.get_or_init(|| sandbox).clone())
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        Self::in_folder(folder).await
    }

    async fn in_folder(folder: TempDir) -> Result<Self> {
        let clock = Arc::new(SystemClock);
        let store = Store::open(&Location::Sqlite(folder.path().to_owned()), clock.clone()).await?;
        let node = Node::start(NodeConfig::default(), store, Arc::new(sandbox()?), clock);
        Ok(Self { node: Arc::new(node), scope: scope(), folder })
    }

    /// Publishes a graph under a name.
    pub(crate) async fn publish(&self, workflow: &str, document: &Value) -> Result<WorkflowId> {
        let graph =
            Graph::parse(document).map_err(|issues| anyhow!("the benchmark's graph is not valid: {issues:?}"))?;
        let workflow = WorkflowId::new(workflow);
        self.node.store().publish(&self.scope, &workflow, &graph.canonical, &graph.hash, None).await?;
        Ok(workflow)
    }

    /// Runs to the durable end and gives the outputs.
    pub(crate) async fn run(&self, workflow: &WorkflowId) -> Result<Value> {
        run_to_end(&self.node, &self.scope, workflow).await
    }

    /// Starts a run and returns when its start is durable.
    pub(crate) async fn start(&self, workflow: &WorkflowId) -> Result<RunId> {
        Ok(self.node.start_run(&self.scope, StartRequest::new(workflow.clone(), Json::empty_object())).await?)
    }

    /// What the data folder takes on disk, in bytes, once the write-ahead log is folded in.
    pub(crate) async fn disk_bytes(&self) -> Result<u64> {
        let mut database = SqliteConnectOptions::new().filename(self.folder.path().join(DATABASE)).connect().await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut database).await?;
        database.close().await?;
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.folder.path())? {
            let metadata = entry?.metadata()?;
            if metadata.is_file() {
                bytes += metadata.len();
            }
        }
        Ok(bytes)
    }
}

pub(crate) fn scope() -> Scope {
    Scope { tenant: TenantId::new("bench"), project: ProjectId::new("default") }
}

pub(crate) async fn run_to_end(node: &Node, scope: &Scope, workflow: &WorkflowId) -> Result<Value> {
    let request = StartRequest::new(workflow.clone(), Json::empty_object());
    let (_, mut watcher) = node.start_watched(scope, request).await?;
    loop {
        let events = watcher.next().await.context("the run can no longer be followed")?;
        match events.last().map(|event| &event.kind) {
            Some(EventKind::RunCompleted { outputs }) => return Ok(outputs.to_value()),
            Some(kind) if kind.ends_run() => bail!("the run did not complete: {kind:?}"),
            _ => {}
        }
    }
}

/// A chain of steps, each with the script that `script` makes of its predecessor's id.
pub(crate) fn chain(length: usize, script: impl Fn(Option<&str>) -> String) -> Value {
    let ids: Vec<String> = (0..length).map(|number| format!("s{number}")).collect();
    let steps = ids.iter().enumerate().map(|(at, id)| {
        let before = at.checked_sub(1).map(|at| ids[at].as_str());
        json!({ "id": id, "type": "lua_script", "script": script(before), "depends_on": Vec::from_iter(before) })
    });
    json!({ "steps": steps.collect::<Vec<_>>() })
}

/// Adds one to what the step before returned.
pub(crate) fn add_one(before: Option<&str>) -> String {
    match before {
        Some(before) => format!("return {{ n = steps.{before}.result.n + 1 }}"),
        None => "return { n = 1 }".into(),
    }
}
