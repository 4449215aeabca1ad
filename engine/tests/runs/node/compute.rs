//! What takes the host's own processor for long: it is bounded, and a node that does it does other things, too.

use super::{Place, Scripted, doc};
use agentruntime_engine::{
    graph::Graph,
    node::{StartError, StartRequest},
    run::event::RunStatus,
};
use agentruntime_host_api::{ErrorCode, WorkflowId};
use serde_json::{Value, json};

/// A workflow that takes a list, each item of which may be any of so many numbers.
async fn with_alternatives(place: &Place, numbers: usize) -> WorkflowId {
    let numbers: Vec<Value> = (0..numbers).map(|number| json!({ "const": number })).collect();
    let graph = json!({
        "input_schema": { "properties": { "list": { "items": { "anyOf": numbers } } } },
        "steps": [{ "id": "a", "type": "lua_script", "script": "give {}" }],
    });
    let graph = Graph::parse(&graph).unwrap();
    let workflow = WorkflowId::new("alternatives");
    place.store.publish(&place.scope, &workflow, &graph.canonical, &graph.hash, None).await.unwrap();
    workflow
}

fn list(workflow: &WorkflowId, number: usize, items: usize) -> StartRequest {
    StartRequest::new(workflow.clone(), doc(json!({ "list": vec![number; items] })))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_takes_too_long_to_check_is_refused_wherever_it_comes_from() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let workflow = with_alternatives(&place, 4_000).await;
    let refused = node.start_run(&place.scope, list(&workflow, 0, 20_000)).await;
    let too_much = "takes more than 50000000 steps";
    assert!(matches!(&refused, Err(StartError::Rejected { error, .. }) if error.message.contains(too_much)));

    let call = json!([{
        "id": "c", "type": "workflow_call", "workflow_id": workflow.as_str(), "version": 1,
        "input": { "list": "{{ input.list }}" },
    }]);
    let parent = place.publish("parent", call).await;
    let run = node.start_run(&place.scope, list(&parent, 0, 20_000)).await.unwrap();
    let error = place.end(run).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ChildRunFailed);
    assert!(error.message.contains(too_much), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_takes_long_to_check_is_started_if_it_fits_and_refused_if_not() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let workflow = with_alternatives(&place, 500).await;
    let run = node.start_run(&place.scope, list(&workflow, 499, 500)).await.unwrap();
    assert_eq!(place.end(run).await, Ok(json!({ "a": {} })));
    let refused = node.start_run(&place.scope, list(&workflow, 500, 500)).await;
    assert!(matches!(refused, Err(StartError::Rejected { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_loop_that_executes_nothing_goes_to_its_end_in_many_decisions() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let body = json!([{ "id": "b", "type": "lua_script", "script": "give {}", "condition": "{{ input.never }}" }]);
    let steps = json!([{
        "id": "w", "type": "while", "while_mode": "until", "while_max_iterations": 3_000,
        "while_condition": "{{ input.never }}", "while_body_steps": body,
    }]);
    let workflow = place.publish("idle", steps).await;
    let run = place.start(&node, &workflow).await;
    place.until(|| async { place.row(run).await.status.is_final() }).await;
    let row = place.row(run).await;
    assert_eq!((row.status, row.last_seq), (RunStatus::Completed, 3_000 + 4));
    assert_eq!(guest.begun("b"), 0);
}
