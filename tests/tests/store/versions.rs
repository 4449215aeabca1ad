//! Publishing.

use crate::{fixture::*, on_both_databases};
use agentruntime_engine::store::{Scope, Store, StoreError};
use agentruntime_host_api::{Json, WorkflowId};
use std::collections::BTreeSet;

on_both_databases!(
    publishing_the_same_graph_again_gives_the_same_version,
    publishing_another_graph_gives_the_next_version,
    racing_publications_of_one_graph_give_one_version,
    racing_publications_of_many_graphs_give_each_its_number,
    an_unknown_workflow_is_not_found,
);

async fn publish(store: &Store, scope: &Scope, graph: &str) -> u32 {
    let (workflow, document) = (WorkflowId::new("triage"), Json::parse(format!(r#"{{"name":"{graph}"}}"#)).unwrap());
    store.publish(scope, &workflow, &document, graph, None).await.unwrap().version
}

async fn publishing_the_same_graph_again_gives_the_same_version(fixture: Fixture) {
    let store = fixture.open().await;
    assert_eq!(publish(&store, &scope("acme"), "a").await, 1);
    assert_eq!(publish(&store, &scope("acme"), "a").await, 1);
    assert_eq!(publish(&store, &scope("other"), "a").await, 1);
    assert_eq!(store.versions(&scope("acme"), &WorkflowId::new("triage")).await.unwrap().len(), 1);
}

async fn publishing_another_graph_gives_the_next_version(fixture: Fixture) {
    let store = fixture.open().await;
    let (scope, workflow) = (scope("acme"), WorkflowId::new("triage"));
    let graph = Json::parse(r#"{"name":"ä\u0000"}"#).unwrap();
    let changelog = Some("why not\0\u{1F600}");
    for (expected, hash) in [(1, "a"), (2, "b"), (3, "a")] {
        let published = store.publish(&scope, &workflow, &graph, hash, changelog).await.unwrap();
        assert_eq!(published.version, expected, "only the newest version counts as the same");
    }
    let newest = store.version(&scope, &workflow, None).await.unwrap();
    assert_eq!((newest.version, newest.graph_hash.as_str(), newest.published_at), (3, "a", START));
    assert_eq!(newest.graph.as_str(), graph.as_str());
    assert_eq!(newest.changelog.as_deref(), changelog);
    let second = store.version(&scope, &workflow, Some(2)).await.unwrap();
    assert_eq!((second.version, second.graph_hash.as_str()), (2, "b"));
    let entries = store.versions(&scope, &workflow).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.version).collect::<Vec<_>>(), [3, 2, 1]);
    let workflows = store.workflows(&scope).await.unwrap();
    assert_eq!(workflows.iter().map(|it| (it.workflow.as_str(), it.version)).collect::<Vec<_>>(), [("triage", 3)]);
}

async fn racing(store: &Store, graphs: [&'static str; 8]) -> Vec<u32> {
    let mut publications = tokio::task::JoinSet::new();
    for graph in graphs {
        let store = store.clone();
        publications.spawn(async move { publish(&store, &scope("acme"), graph).await });
    }
    publications.join_all().await
}

async fn racing_publications_of_one_graph_give_one_version(fixture: Fixture) {
    let store = fixture.open().await;
    assert_eq!(racing(&store, ["a"; 8]).await, [1; 8]);
}

async fn racing_publications_of_many_graphs_give_each_its_number(fixture: Fixture) {
    let store = fixture.open().await;
    let versions = racing(&store, ["a", "b", "c", "d", "e", "f", "g", "h"]).await;
    assert_eq!(BTreeSet::from_iter(versions), (1..=8).collect());
}

async fn an_unknown_workflow_is_not_found(fixture: Fixture) {
    let store = fixture.open().await;
    publish(&store, &scope("acme"), "a").await;
    let unknown = WorkflowId::new("unknown");
    assert!(matches!(store.version(&scope("acme"), &unknown, None).await, Err(StoreError::NotFound)));
    assert!(matches!(store.versions(&scope("acme"), &unknown).await, Err(StoreError::NotFound)));
    let beyond = store.version(&scope("acme"), &WorkflowId::new("triage"), Some(2)).await;
    assert!(matches!(beyond, Err(StoreError::NotFound)));
}
