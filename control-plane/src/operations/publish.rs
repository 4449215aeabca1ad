//! The dry-run of a graph, publishing it as an immutable version, and what changed between two versions.

use super::{OperationError, Project, checks::CHECK_TIME_MAX, drafts};
use crate::access::Caller;
use agentruntime_engine::{
    graph::{
        self, DryRun, DryRunOptions, Graph, GraphDiff, Issue, Readiness, diff,
        limits::{ID_CHARS_MAX, STEPS_MAX},
        pin_children, validate,
    },
    store::{StoreError, VersionEntry, VersionRecord},
};
use agentruntime_host_api::{Guest, Json, WorkflowId};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tokio::{runtime::Handle, task, time};
use tokio_util::sync::CancellationToken;

/// Why a version was published: what is longer is a document of its own.
pub(crate) const CHANGELOG_CHARS_MAX: usize = 10_000;

/// What came of publishing.
pub(crate) struct Publication {
    /// The version that has the graph now.
    pub(crate) version: VersionRecord,
    /// The graph.
    pub(crate) graph: Graph,
    /// Whether the version was made by this; a graph that is published already is not published again.
    pub(crate) is_new: bool,
    /// What the author should look at.
    pub(crate) warnings: Vec<Issue>,
}

/// Checks a graph without running it. Large graphs and many scripts take long: this has a thread of its own, and ends when
/// nobody waits for it any more.
pub(crate) async fn dry_run(document: Arc<Value>, options: DryRunOptions, guest: Arc<dyn Guest>) -> DryRun {
    let wanted = CancellationToken::new();
    let _asked = wanted.clone().drop_guard();
    let runtime = Handle::current();
    let report = on_its_own_thread(move || {
        let checking = validate(&document, options, Some(&*guest));
        runtime.block_on(wanted.run_until_cancelled(checking))
    });
    report.await.expect("it is cancelled only after this function was left")
}

/// The same for a service, where nobody's check lasts for ever.
async fn timed_dry_run(
    document: Arc<Value>,
    options: DryRunOptions,
    guest: Arc<dyn Guest>,
) -> Result<DryRun, OperationError> {
    let report = time::timeout(CHECK_TIME_MAX, dry_run(document, options, guest)).await;
    report.map_err(|_| OperationError::CheckTooLong)
}

/// Work that takes a processor for longer than others should wait.
async fn on_its_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn parse(document: &Arc<Value>) -> Result<Graph, Vec<Issue>> {
    let document = document.clone();
    on_its_own_thread(move || Graph::parse(&document)).await
}

impl Project {
    /// Publishes a graph as the next version of a workflow, or finds that the newest version is this graph.
    pub(crate) async fn publish(
        &self,
        guest: Arc<dyn Guest>,
        workflow: &WorkflowId,
        mut document: Value,
        changelog: Option<&str>,
    ) -> Result<Publication, OperationError> {
        let newest: HashMap<String, u32> =
            self.workflows().await?.into_iter().map(|it| (it.workflow.to_string(), it.version)).collect();
        let unpinned = pin_children(&mut document, |child, named| named.or_else(|| newest.get(child).copied()));
        let unpinned = unpinned.err().unwrap_or_default();
        match self.prepare(guest, workflow, document, unpinned).await? {
            Prepared::Published(publication) => Ok(publication),
            Prepared::Fit { graph, warnings } => {
                let version =
                    self.store.publish(&self.scope, workflow, &graph.canonical, &graph.hash, changelog).await?;
                Ok(Publication { version, graph, is_new: true, warnings })
            }
        }
    }

    /// Publishes a workflow's draft as its next version, or finds that the newest version is this graph.
    pub(crate) async fn publish_draft(
        &self,
        caller: &Caller,
        guest: Arc<dyn Guest>,
        id: &WorkflowId,
        changelog: Option<&str>,
    ) -> Result<Publication, OperationError> {
        if changelog.is_some_and(|text| text.chars().count() > CHANGELOG_CHARS_MAX) {
            let message = format!("write at most {CHANGELOG_CHARS_MAX} characters");
            return Err(OperationError::InvalidField { field: "changelog", message });
        }
        let (workflow, draft) = self.draft(id).await?;
        workflow.not_archived()?;
        let mut document = draft.to_value();
        let unpinned = self.pin_live_children(&mut document).await?;
        let (graph, warnings) = match self.prepare(guest, id, document, unpinned).await? {
            Prepared::Published(publication) => return Ok(publication),
            Prepared::Fit { graph, warnings } => (graph, warnings),
        };
        let mut tx = self.store.database().begin().await?;
        drafts::hold(&mut tx, &self.scope, id).await?;
        let (canonical, hash) = (&graph.canonical, &graph.hash);
        let (version, is_new) = self.store.publish_within(&mut tx, &self.scope, id, canonical, hash, changelog).await?;
        if is_new {
            drafts::set_version(&mut tx, &self.scope, id, version.version).await?;
            let details = json!({ "version": version.version, "graph_hash": version.graph_hash });
            self.audit(&mut tx, caller, "workflow.publish", id, details).await?;
            tx.commit().await?;
        }
        Ok(Publication { version, graph, is_new, warnings })
    }

    /// Checks a workflow's draft, or another graph in its place, as publishing would.
    pub(crate) async fn validate_draft(
        &self,
        guest: Arc<dyn Guest>,
        id: &WorkflowId,
        other: Option<Json>,
        options: DryRunOptions,
    ) -> Result<DryRun, OperationError> {
        let draft = self.draft(id).await?.1;
        let mut document = other.unwrap_or(draft).to_value();
        let unpinned = self.pin_live_children(&mut document).await?;
        let options = DryRunOptions { tenant: self.scope.tenant.clone(), ..options };
        let step_ids = options.step_ids.clone();
        let mut report = timed_dry_run(Arc::new(document), options, guest).await?;
        let is_asked = |issue: &Issue| {
            let is_about = |ids: &Vec<String>| ids.iter().any(|id| Some(id.as_str()) == issue.step_id.as_deref());
            report.checks_performed.contains(&issue.code.check()) && step_ids.as_ref().is_none_or(is_about)
        };
        let unpinned: Vec<Issue> = unpinned.into_iter().filter(is_asked).collect();
        if !unpinned.is_empty() {
            report.valid = false;
            report.readiness = Readiness::Blocked;
            report.issues.splice(0..0, unpinned);
        }
        Ok(report)
    }

    /// Versions of a workflow before a number, the newest first: at most `limit`.
    pub(crate) async fn versions_before(
        &self,
        id: &WorkflowId,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<VersionEntry>, OperationError> {
        self.workflow(id).await?;
        Ok(self.store.versions_before(&self.scope, id, before, limit).await?)
    }

    /// One version of a workflow.
    pub(crate) async fn version(&self, id: &WorkflowId, version: u32) -> Result<VersionRecord, OperationError> {
        self.workflow(id).await?;
        self.store.version(&self.scope, id, Some(version)).await.map_err(|error| match error {
            StoreError::NotFound => OperationError::UnknownVersion { workflow: id.to_string(), version },
            other => other.into(),
        })
    }

    /// What changed from one version of a workflow to another.
    pub(crate) async fn diff(&self, id: &WorkflowId, from: u32, to: u32) -> Result<GraphDiff, OperationError> {
        let (from, to) = (self.version(id, from).await?.graph, self.version(id, to).await?.graph);
        Ok(on_its_own_thread(move || diff(&from.to_value(), &to.to_value())).await)
    }

    /// The same graph, if it is the newest version already; else the graph as it can be published.
    async fn prepare(
        &self,
        guest: Arc<dyn Guest>,
        workflow: &WorkflowId,
        document: Value,
        unpinned: Vec<Issue>,
    ) -> Result<Prepared, OperationError> {
        let document = Arc::new(document);
        let parsed = parse(&document).await;
        let published = match &parsed {
            Ok(graph) if unpinned.is_empty() => self.newest_if(workflow, &graph.hash).await?,
            Ok(_) | Err(_) => None,
        };
        let parsed = match (published, parsed) {
            (Some(version), Ok(graph)) => {
                return Ok(Prepared::Published(Publication { version, graph, is_new: false, warnings: Vec::new() }));
            }
            (_, parsed) => parsed,
        };
        let options = DryRunOptions { tenant: self.scope.tenant.clone(), ..DryRunOptions::default() };
        let report = timed_dry_run(document, options, guest).await?;
        let issues: Vec<Issue> = unpinned.into_iter().chain(report.issues).collect();
        if issues.iter().any(Issue::is_error) {
            return Err(OperationError::InvalidGraph { issues });
        }
        let graph = parsed.map_err(|issues| OperationError::InvalidGraph { issues })?;
        Ok(Prepared::Fit { graph, warnings: issues })
    }

    /// Writes the version of each called workflow that is in use here; gives what is wrong with the other calls.
    async fn pin_live_children(&self, document: &mut Value) -> Result<Vec<Issue>, OperationError> {
        let mut versions = HashMap::new();
        for (child, named) in calls(document) {
            let version = self.child_version(&WorkflowId::new(child.as_str()), named).await?;
            versions.insert((child, named), version);
        }
        let version_of = |child: &str, named| versions.get(&(child.to_owned(), named)).copied().flatten();
        Ok(pin_children(document, version_of).err().unwrap_or_default())
    }

    /// The version that a call means, if there is such a one: of an archived workflow only a version that is named.
    async fn child_version(&self, child: &WorkflowId, named: Option<u32>) -> Result<Option<u32>, OperationError> {
        let found = match named {
            Some(named) => self.version(child, named).await.map(|record| Some(record.version)),
            None => self.live_workflow(child).await.map(|workflow| workflow.published_version),
        };
        match found {
            Err(OperationError::Store(error)) => Err(error.into()),
            // The graph may name whatever it likes: what is no workflow here has no version.
            Err(_) => Ok(None),
            Ok(version) => Ok(version),
        }
    }

    /// The newest version of a workflow, if it has this graph.
    async fn newest_if(&self, workflow: &WorkflowId, hash: &str) -> Result<Option<VersionRecord>, OperationError> {
        match self.store.version(&self.scope, workflow, None).await {
            Ok(newest) => Ok(Some(newest).filter(|newest| newest.graph_hash == hash)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A graph on its way to become a version.
enum Prepared {
    /// It is one.
    Published(Publication),
    /// It can become one.
    Fit { graph: Graph, warnings: Vec<Issue> },
}

/// The workflows and versions that a document calls, each once: as many as a graph has steps at most, so that looking them up
/// is bounded whatever the document holds. None of a longer one, which is refused anyway.
fn calls(document: &Value) -> BTreeSet<(String, Option<u32>)> {
    let steps = document["steps"].as_array().map_or(0, Vec::len);
    let calls = graph::called(document).filter(|_| steps <= STEPS_MAX);
    // PostgreSQL takes no NUL in a text, and no id has one.
    let ids = calls.filter(|(id, _)| id.len() <= ID_CHARS_MAX && !id.contains('\0'));
    ids.map(|(id, version)| (id.to_owned(), version)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentruntime_host_api::{Invocation, Outcome, Program, StepError, TenantId};
    use futures_util::future::{BoxFuture, FutureExt, pending};
    use std::sync::Mutex;
    use tokio::sync::oneshot;

    /// Compiles for ever; tells when it begins, and drops what it holds when it is left.
    struct Endless {
        begun: Mutex<Option<oneshot::Sender<()>>>,
        held: Mutex<Option<oneshot::Sender<()>>>,
    }

    impl Guest for Endless {
        fn start(&self, _: Invocation) -> BoxFuture<'_, Outcome> {
            pending().boxed()
        }

        fn check(&self, _: TenantId, _: Program) -> BoxFuture<'_, Result<(), StepError>> {
            let held = self.held.lock().unwrap().take();
            self.begun.lock().unwrap().take().unwrap().send(()).unwrap();
            async move {
                let _held = held;
                pending().await
            }
            .boxed()
        }
    }

    #[tokio::test]
    async fn a_dry_run_that_nobody_waits_for_ends() {
        let (begins, begun) = oneshot::channel();
        let (held, left) = oneshot::channel::<()>();
        let guest = Endless { begun: Mutex::new(Some(begins)), held: Mutex::new(Some(held)) };
        let document = json!({ "steps": [{ "id": "a", "type": "lua_script", "script": "return {}" }] });
        let asking = tokio::spawn(dry_run(Arc::new(document), DryRunOptions::default(), Arc::new(guest)));
        begun.await.unwrap();
        asking.abort();
        assert!(left.await.is_err(), "what was held is dropped");
    }

    #[test]
    fn only_so_many_children_are_looked_up() {
        let call = |id: &str| json!({ "type": "workflow_call", "workflow_id": id });
        let few = json!({ "steps": [call("b"), call("a"), call("b"), call("n\0"), call(&"l".repeat(129)), {}] });
        assert_eq!(calls(&few), [("a".to_owned(), None), ("b".to_owned(), None)].into());
        let many: Vec<Value> = (0..=STEPS_MAX).map(|index| call(&index.to_string())).collect();
        assert!(calls(&json!({ "steps": many })).is_empty());
    }
}
