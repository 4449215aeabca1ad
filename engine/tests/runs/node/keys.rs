//! Starts under a key, as a node answers them.

use super::{Place, Scripted};
use agentruntime_engine::node::{Ceilings, StartError, StartKey, StartRequest};
use agentruntime_host_api::{RunId, WorkflowId};
use serde_json::json;
use std::{sync::Arc, time::Duration};

fn request(workflow: &WorkflowId, digest: &str) -> StartRequest {
    let key = StartKey { name: "k".into(), digest: digest.into(), keep: Duration::from_secs(60) };
    StartRequest { keys: vec![key], user: Some("u".into()), ..StartRequest::new(workflow.clone(), json!({}).into()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_under_a_used_key_tells_the_first_run_and_executes_nothing() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let workflow = place.publish("once", json!([{ "id": "a", "script": "hold" }])).await;
    let first = node.start_run(&place.scope, request(&workflow, "x")).await.unwrap();
    for (digest, expected) in [("x", true), ("y", false)] {
        let refused = node.start_run(&place.scope, request(&workflow, digest)).await;
        assert!(
            matches!(refused, Err(StartError::Repeated { run, same }) if run == first && same == expected),
            "{refused:?}"
        );
    }
    guest.release(1);
    place.end(first).await.unwrap();
    assert_eq!((guest.begun("a"), node.active_runs()), (1, 0));
    let row = place.row(first).await;
    assert_eq!((row.trigger_type.as_str(), row.user_id.as_deref()), ("manual", Some("u")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_recognises_a_used_key_too() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node_for(&guest, 1);
    let workflow = place.publish("once", json!([{ "id": "a", "script": "hold" }])).await;
    let first = node.start_run(&place.scope, request(&workflow, "x")).await.unwrap();
    let refused = node.start_run(&place.scope, request(&workflow, "x")).await;
    assert!(matches!(refused, Err(StartError::Repeated { run, same: true }) if run == first), "{refused:?}");
    guest.release(1);
    place.end(first).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_racing_starts_under_one_key_start_one_run() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = Arc::new(place.node(&guest));
    let workflow = place.publish("once", json!([{ "id": "a", "script": "give {}" }])).await;
    let starts = (0..50).map(|_| {
        let (node, scope, request) = (node.clone(), place.scope.clone(), request(&workflow, "x"));
        tokio::spawn(async move { node.start_run(&scope, request).await })
    });
    let (mut started, mut told) = (Vec::new(), Vec::new());
    for start in starts.collect::<Vec<_>>() {
        match start.await.unwrap() {
            Ok(run) => started.push(run),
            Err(StartError::Repeated { run, same: true }) => told.push(run),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((started.len(), told.len()), (1, 49));
    assert!(told.iter().all(|run| *run == started[0]));
    place.end(started[0]).await.unwrap();
    assert_eq!(guest.begun("a"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_the_id_of_a_run_at_work_leaves_that_run_alone() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let workflow = place.publish("held", json!([{ "id": "a", "script": "hold" }])).await;
    let run = RunId::new_v7();
    let request = StartRequest { run: Some(run), ..StartRequest::new(workflow, json!({}).into()) };
    node.start_run(&place.scope, request.clone()).await.unwrap();
    place.until(|| async { guest.held() == 1 }).await;
    assert!(node.start_run(&place.scope, request).await.is_err());
    assert_eq!((guest.dropped(), node.active_runs()), (0, 1));
    guest.release(1);
    place.end(run).await.unwrap();
    assert_eq!(guest.begun("a"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_told_its_run_also_where_a_new_start_would_be_refused() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let workflow = place.publish("once", json!([{ "id": "a", "script": "hold" }])).await;
    let first = node.start_run(&place.scope, request(&workflow, "x")).await.unwrap();
    let full = Ceilings { unfinished_runs_max: 1, ..Ceilings::default() };
    node.set_ceilings(place.scope.tenant.clone(), Some(full));
    let fresh = StartRequest::new(workflow.clone(), json!({}).into());
    let refused = node.start_run(&place.scope, fresh.clone()).await;
    assert!(matches!(refused, Err(StartError::Ceiling { .. })), "{refused:?}");
    // At the ceiling, and naming what the graph does not have any more.
    let gone = StartRequest { excluded_step_ids: vec!["gone".into()], ..request(&workflow, "x") };
    for repeat in [request(&workflow, "x"), gone] {
        let told = node.start_run(&place.scope, repeat).await;
        assert!(matches!(told, Err(StartError::Repeated { run, same: true }) if run == first), "{told:?}");
    }
    let other = node.start_run(&place.scope, request(&workflow, "y")).await;
    assert!(matches!(other, Err(StartError::Repeated { run, same: false }) if run == first), "{other:?}");
    guest.release(1);
    place.end(first).await.unwrap();
    assert_eq!(guest.begun("a"), 1);
}
