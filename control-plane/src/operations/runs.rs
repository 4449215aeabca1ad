//! Starting, reading and listing runs.

use super::{OperationError, Project, RunSource, Timeline};
use agentruntime_engine::{
    graph::Graph,
    node::{Node, StartError, StartRequest},
    run::event::Event,
    store::{
        EVENTS_MAX, LIST_MAX, PROJECTS_MAX, RunFilter, RunRecord, Store, StoreError, VersionEntry, WorkflowRecord,
    },
};
use agentruntime_host_api::{ProjectId, RunId, TenantId, WorkflowId};
use std::sync::Arc;

impl Project {
    /// Starts a run on a node; answers when its start is durable.
    pub(crate) async fn start(&self, node: &Node, request: StartRequest) -> Result<RunId, OperationError> {
        let (workflow, chosen, earlier) = (request.workflow.clone(), request.run, request.resume_from);
        node.start_run(&self.scope, request).await.map_err(|error| match (error, chosen, earlier) {
            (StartError::Store(StoreError::AlreadyExists), Some(run), _) => OperationError::RunExists(run),
            (StartError::Store(StoreError::NotFound), _, Some(run)) => OperationError::UnknownRun(run.to_string()),
            (StartError::Store(StoreError::NotFound), _, None) => OperationError::UnknownWorkflow(workflow.to_string()),
            (other, _, _) => other.into(),
        })
    }

    /// One run.
    pub(crate) async fn run(&self, run: RunId) -> Result<RunRecord, OperationError> {
        self.store.run(&self.scope, run).await.map_err(|error| match error {
            StoreError::NotFound => OperationError::UnknownRun(run.to_string()),
            other => other.into(),
        })
    }

    /// Runs, the newest first.
    pub(crate) async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, OperationError> {
        Ok(self.store.runs(&self.scope, filter).await?)
    }

    /// One page of the events after a number.
    pub(crate) async fn events(&self, run: RunId, after: u64) -> Result<Vec<Event>, OperationError> {
        self.events_page(run, after, EVENTS_MAX).await
    }

    /// At most so many of the events after a number.
    pub(crate) async fn events_page(&self, run: RunId, after: u64, limit: u32) -> Result<Vec<Event>, OperationError> {
        Ok(self.store.events(&self.scope, run, after, limit).await?)
    }

    /// How many bytes the events of a run take.
    pub(crate) async fn run_bytes(&self, run: RunId) -> Result<u64, OperationError> {
        Ok(self.store.run_bytes(run).await?)
    }

    /// A run of a workflow: under another workflow it does not exist.
    pub(crate) async fn run_of(&self, workflow: &WorkflowId, run: RunId) -> Result<RunRecord, OperationError> {
        let record = self.run(run).await?;
        match record.workflow == *workflow {
            true => Ok(record),
            false => Err(OperationError::UnknownRun(run.to_string())),
        }
    }

    /// The events of a run so far, as a picture of its steps.
    pub(crate) async fn timeline(&self, record: &RunRecord) -> Result<Timeline, OperationError> {
        RunSource::timeline(self, record).await
    }

    /// The graph that a run follows.
    pub(crate) async fn graph(&self, record: &RunRecord) -> Result<Arc<Graph>, OperationError> {
        let version = self.store.version(&self.scope, &record.workflow, Some(record.version)).await?;
        let graph = Graph::parse(&version.graph.to_value()).map_err(|issues| {
            let reason = issues.first().map(|issue| issue.message.clone()).unwrap_or_default();
            OperationError::Unreadable { run: record.run, reason: format!("its graph is not valid: {reason}") }
        })?;
        Ok(Arc::new(graph))
    }

    /// All workflows, by name.
    pub(crate) async fn workflows(&self) -> Result<Vec<WorkflowRecord>, OperationError> {
        Ok(self.store.workflows(&self.scope).await?)
    }

    /// All versions of a workflow, the newest first.
    pub(crate) async fn versions(&self, workflow: &WorkflowId) -> Result<Vec<VersionEntry>, OperationError> {
        self.store.versions(&self.scope, workflow).await.map_err(|error| match error {
            StoreError::NotFound => OperationError::UnknownWorkflow(workflow.to_string()),
            other => other.into(),
        })
    }
}

/// Runs of several projects of a workspace as one list, the newest first. Whoever calls this knows that the caller may enter
/// them.
pub(crate) async fn runs_of_tenant(
    store: &Store,
    tenant: &TenantId,
    projects: &[ProjectId],
    filter: &RunFilter,
) -> Result<Vec<RunRecord>, OperationError> {
    let mut found: Vec<RunRecord> = Vec::new();
    for some in projects.chunks(PROJECTS_MAX) {
        found.extend(store.runs_in(tenant, some, filter).await?);
    }
    found.sort_unstable_by_key(|record| std::cmp::Reverse((record.started_at, record.run)));
    found.truncate(filter.limit.unwrap_or(LIST_MAX) as usize);
    Ok(found)
}
