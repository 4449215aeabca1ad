//! What one tenant may take of a node, at the edge of each limit.

use super::{Place, Scripted};
use agentruntime_engine::{
    node::{Ceiling, Ceilings, Node, NodeConfig, StartError, StartRequest},
    store::{Archive, ArchiveError, ArchivedRun, Scope, Store},
};
use agentruntime_host_api::{Json, RunId, TenantId, Timestamp, WorkflowId};
use serde_json::json;
use std::{sync::Arc, time::Duration};

fn node_with(place: &Place, guest: &Arc<Scripted>, ceilings: Ceilings) -> Node {
    let config = NodeConfig { poll: Duration::from_millis(5), ceilings, ..NodeConfig::default() };
    Node::start(config, place.store.clone(), guest.clone(), place.clock.clone())
}

fn request(workflow: &WorkflowId) -> StartRequest {
    StartRequest::new(workflow.clone(), json!({}).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_as_many_unfinished_runs_as_it_may_starts_no_more_until_one_ends() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = node_with(&place, &guest, Ceilings { unfinished_runs_max: 3, ..Ceilings::default() });
    let workflow = place.publish("held", json!([{ "id": "a", "script": "hold" }])).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(place.start(&node, &workflow).await);
    }
    let refused = node.start_run(&place.scope, request(&workflow)).await;
    let reached = |answer: &Result<RunId, StartError>| {
        matches!(answer, Err(StartError::Ceiling { what: Ceiling::UnfinishedRuns, limit: 3 }))
    };
    assert!(reached(&refused), "{refused:?}");
    assert_eq!(place.store.unfinished_runs(&place.scope.tenant, 100).await.unwrap(), 3);
    place.until(|| async { guest.held() == 3 }).await;
    guest.release(1);
    place.until(|| async { place.store.unfinished_runs(&place.scope.tenant, 100).await.unwrap() == 2 }).await;
    let again = || async { node.start_run(&place.scope, request(&workflow)).await.is_ok() };
    place.until(again).await;
    let refused = node.start_run(&place.scope, request(&workflow)).await;
    assert!(reached(&refused), "{refused:?}");

    node.set_ceilings(place.scope.tenant.clone(), Some(Ceilings { unfinished_runs_max: 4, ..Ceilings::default() }));
    place.start(&node, &workflow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_starts_do_not_pass_the_ceiling_together_and_failed_ones_do_not_count() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = Arc::new(node_with(&place, &guest, Ceilings { unfinished_runs_max: 10, ..Ceilings::default() }));
    let workflow = place.publish("held", json!([{ "id": "a", "script": "hold" }])).await;
    let run = Some(place.start(&node, &workflow).await);
    for _ in 0..20 {
        let taken = node.start_run(&place.scope, StartRequest { run, ..request(&workflow) }).await;
        assert!(matches!(taken, Err(StartError::Store(_))), "{taken:?}");
    }
    let starts = (0..40).map(|_| {
        let (node, scope, request) = (node.clone(), place.scope.clone(), request(&workflow));
        tokio::spawn(async move { node.start_run(&scope, request).await.is_ok() })
    });
    let mut started = 0;
    for start in starts.collect::<Vec<_>>() {
        started += usize::from(start.await.unwrap());
    }
    assert_eq!(started, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_as_many_stored_bytes_as_it_may_starts_no_more_and_what_runs_goes_on() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let leaf = place.publish("leaf", json!([{ "id": "x", "script": "give {\"n\":1}" }])).await;
    let held = json!([
        { "id": "a", "script": "hold" },
        { "id": "b", "type": "workflow_call", "workflow_id": leaf, "version": 1, "depends_on": ["a"] },
    ]);
    let held = place.publish("held", held).await;
    let tenant = &place.scope.tenant;
    let stored = || async { place.store.stored_bytes(&place.scope.tenant).await.unwrap() };
    let node = place.node(&guest);
    let ended = place.start(&node, &leaf).await;
    place.end(ended).await.unwrap();

    // To the last byte: what the node itself writes is known at once.
    let limit = stored().await + 1;
    node.set_ceilings(tenant.clone(), Some(Ceilings { stored_bytes_max: limit, ..Ceilings::default() }));
    let run = place.start(&node, &held).await;
    let is_refused = async || {
        let answer = node.start_run(&place.scope, request(&leaf)).await;
        matches!(answer, Err(StartError::Ceiling { what: Ceiling::StoredBytes, limit: told }) if told == limit)
    };
    assert!(is_refused().await);
    // The run and its child are not.
    place.until(|| async { guest.held() == 1 }).await;
    guest.release(1);
    place.end(run).await.unwrap();
    assert!(is_refused().await);

    // A run that ended may be let go of a moment later.
    let all_gone = async || {
        place.store.expire_finished(Timestamp::from_micros(i64::MAX), 100, &Nowhere).await.unwrap();
        stored().await == 0
    };
    place.until(all_gone).await;
    place.until(|| async { node.start_run(&place.scope, request(&leaf)).await.is_ok() }).await;
}

struct Nowhere;

#[async_trait::async_trait]
impl Archive for Nowhere {
    async fn keep(&self, _: ArchivedRun) -> Result<(), ArchiveError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_is_taken_up_to_its_last_byte_and_not_beyond() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = node_with(&place, &guest, Ceilings { input_bytes_max: 100, ..Ceilings::default() });
    let workflow = place.publish("quick", json!([{ "id": "a", "script": "give {}" }])).await;
    // {"k":"…"} is eight bytes and the text.
    let with_bytes =
        |bytes: usize| StartRequest { input: Some(json!({ "k": "x".repeat(bytes - 8) }).into()), ..request(&workflow) };
    let run = node.start_run(&place.scope, with_bytes(100)).await.unwrap();
    place.end(run).await.unwrap();
    let refused = node.start_run(&place.scope, with_bytes(101)).await;
    assert!(matches!(refused, Err(StartError::Ceiling { what: Ceiling::InputBytes, limit: 100 })), "{refused:?}");
    let steps = StartRequest {
        trigger_steps: [("a".to_owned(), Json::empty_object())].into_iter().collect(),
        ..with_bytes(100)
    };
    assert!(matches!(node.start_run(&place.scope, steps).await, Err(StartError::Ceiling { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_works_on_no_more_runs_of_a_tenant_than_it_may_and_on_those_of_others() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = node_with(&place, &guest, Ceilings { active_runs_max: 2, ..Ceilings::default() });
    let workflow = place.publish("held", json!([{ "id": "a", "script": "hold" }])).await;
    let mut runs = Vec::new();
    for _ in 0..7 {
        runs.push(place.start(&node, &workflow).await);
    }
    place.until(|| async { guest.held() == 2 }).await;
    let elsewhere = Scope { tenant: TenantId::new("other"), ..place.scope.clone() };
    publish_as(&place.store, &place.scope, &elsewhere, &workflow).await;
    for _ in 0..2 {
        node.start_run(&elsewhere, request(&workflow)).await.unwrap();
    }
    place.until(|| async { guest.held() == 4 }).await;
    assert_eq!(node.active_runs(), 4, "two of each");
    // What is claimed keeps to the limit as what is started does.
    guest.release(9);
    let within = || async {
        assert!(node.active_runs() <= 4);
        place.store.unfinished_runs(&place.scope.tenant, 10).await.unwrap() == 0
    };
    place.until(within).await;
    for run in runs {
        place.end(run).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_takes_as_many_as_the_tenants_own_ceiling_lets_it() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let workflow = place.publish("held", json!([{ "id": "a", "script": "hold" }])).await;
    let idle = node_with(&place, &guest, Ceilings { active_runs_max: 0, ..Ceilings::default() });
    for _ in 0..6 {
        place.start(&idle, &workflow).await;
    }
    assert_eq!((idle.active_runs(), guest.held()), (0, 0));
    idle.set_ceilings(place.scope.tenant.clone(), Some(Ceilings { active_runs_max: 3, ..Ceilings::default() }));
    place.until(|| async { guest.held() == 3 }).await;
    idle.set_ceilings(place.scope.tenant.clone(), Some(Ceilings { active_runs_max: 5, ..Ceilings::default() }));
    place.until(|| async { guest.held() == 5 }).await;
    assert_eq!(idle.active_runs(), 5);
    guest.release(6);
    place.until(|| async { place.store.unfinished_runs(&place.scope.tenant, 10).await.unwrap() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_and_children_of_a_tenant_that_has_room_for_one_run_all_end() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = node_with(&place, &guest, Ceilings { active_runs_max: 1, ..Ceilings::default() });
    let leaf = place.publish("leaf", json!([{ "id": "x", "script": "give {\"n\":1}" }])).await;
    let call = |target: &WorkflowId| {
        json!([
            { "id": "one", "type": "workflow_call", "workflow_id": target, "version": 1 },
            { "id": "two", "type": "workflow_call", "workflow_id": target, "version": 1 },
        ])
    };
    let middle = place.publish("middle", call(&leaf)).await;
    let top = place.publish("top", call(&middle)).await;
    let runs = [place.start(&node, &top).await, place.start(&node, &top).await];
    for run in runs {
        place.end(run).await.unwrap();
    }
    assert_eq!(guest.begun("x"), 8);
}

async fn publish_as(store: &Store, from: &Scope, to: &Scope, workflow: &WorkflowId) {
    let version = store.version(from, workflow, None).await.unwrap();
    store.publish(to, workflow, &version.graph, &version.graph_hash, None).await.unwrap();
}
