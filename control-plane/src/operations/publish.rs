//! The dry-run of a graph, and publishing it as an immutable version.

use super::{OperationError, Project};
use agentruntime_engine::{
    graph::{DryRun, DryRunOptions, Graph, Issue, pin_children, validate},
    store::{StoreError, VersionRecord},
};
use agentruntime_host_api::{Guest, WorkflowId};
use serde_json::Value;
use std::collections::HashMap;

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

/// Checks a graph without running it.
pub(crate) async fn dry_run(document: &Value, options: DryRunOptions, guest: &dyn Guest) -> DryRun {
    validate(document, options, Some(guest)).await
}

impl Project {
    /// Publishes a graph as the next version of a workflow, or finds that the newest version is this graph.
    pub(crate) async fn publish(
        &self,
        guest: &dyn Guest,
        workflow: &WorkflowId,
        mut document: Value,
        changelog: Option<&str>,
    ) -> Result<Publication, OperationError> {
        let newest: HashMap<String, u32> =
            self.workflows().await?.into_iter().map(|it| (it.workflow.to_string(), it.version)).collect();
        let unpinned = pin_children(&mut document, |child| newest.get(child).copied()).err().unwrap_or_default();
        if unpinned.is_empty()
            && let Ok(graph) = Graph::parse(&document)
            && let Some(version) = self.newest_if(workflow, &graph.hash).await?
        {
            return Ok(Publication { version, graph, is_new: false, warnings: Vec::new() });
        }
        let report = dry_run(&document, DryRunOptions::default(), guest).await;
        let issues: Vec<Issue> = unpinned.into_iter().chain(report.issues).collect();
        if issues.iter().any(Issue::is_error) {
            return Err(OperationError::InvalidGraph { issues });
        }
        let graph = Graph::parse(&document).map_err(|issues| OperationError::InvalidGraph { issues })?;
        let version = self.store.publish(&self.scope, workflow, &graph.canonical, &graph.hash, changelog).await?;
        Ok(Publication { version, graph, is_new: true, warnings: issues })
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
