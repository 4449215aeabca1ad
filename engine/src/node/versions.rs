//! Published graphs, parsed once for all runs of a node.

use super::Shared;
use crate::{
    graph::Graph,
    store::{Scope, StoreError},
};
use agentruntime_host_api::WorkflowId;
use std::{collections::HashMap, sync::Arc, sync::Mutex, sync::PoisonError};

/// How many graphs are kept parsed; a version never changes, so that any may be dropped at any time.
const GRAPHS_MAX: usize = 256;

type Key = (Scope, WorkflowId, u32);

#[derive(Default)]
pub(super) struct Graphs(Mutex<HashMap<Key, Arc<Graph>>>);

impl Graphs {
    fn get(&self, key: &Key) -> Option<Arc<Graph>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: Key, graph: Arc<Graph>) {
        let mut graphs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if graphs.len() >= GRAPHS_MAX {
            graphs.clear();
        }
        graphs.insert(key, graph);
    }
}

impl Shared {
    /// The graph of a published version.
    pub(super) async fn graph(
        &self,
        scope: &Scope,
        workflow: &WorkflowId,
        version: u32,
    ) -> Result<Arc<Graph>, StoreError> {
        let key = (scope.clone(), workflow.clone(), version);
        if let Some(graph) = self.graphs.get(&key) {
            return Ok(graph);
        }
        let record = self.store.version(scope, workflow, Some(version)).await?;
        let parse = move || Graph::parse(&record.graph.to_value());
        let graph = self.compute.apart(&scope.tenant, parse).await.map_err(|issues| {
            let first = issues.first().map(|issue| issue.message.clone()).unwrap_or_default();
            StoreError::Corrupt(format!("version {version} of `{workflow}` is not a valid graph: {first}"))
        })?;
        let graph = Arc::new(graph);
        self.graphs.put(key, graph.clone());
        Ok(graph)
    }
}
