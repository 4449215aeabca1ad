//! Following all runs of a workflow.

use super::{Place, Scripted};
use agentruntime_engine::{node::WorkflowWatcher, run::event::EventKind};
use agentruntime_host_api::RunId;
use serde_json::json;
use std::collections::BTreeMap;

/// What is told until that many runs ended: how many events of each, which have to come in order.
async fn told(feed: &mut WorkflowWatcher, ends: usize) -> BTreeMap<RunId, u64> {
    let (mut last, mut ended) = (BTreeMap::new(), 0);
    while ended < ends {
        let (run, events) = feed.next().await.expect("the feed goes on");
        for event in events.iter() {
            let seq = last.entry(run).or_default();
            assert_eq!(event.seq, *seq + 1, "no gap and no repeat");
            *seq = event.seq;
            ended += usize::from(matches!(event.kind, EventKind::RunCompleted { .. }));
        }
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_of_a_workflow_tells_all_its_runs_and_no_others() {
    let (place, guest) = (Place::new().await, Scripted::new());
    // Room for one: the others are accepted first and begun later.
    let node = place.node_for(&guest, 1);
    let child = place.publish("child", json!([{ "id": "x", "script": "give {}" }])).await;
    let call = json!([{ "id": "call", "type": "workflow_call", "workflow_id": child, "version": 1 }]);
    let parent = place.publish("parent", call).await;
    let (mut children, mut parents) =
        (node.watch_workflow(&place.scope, &child), node.watch_workflow(&place.scope, &parent));
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(place.start(&node, &child).await);
    }
    let called_by = place.start(&node, &parent).await;
    place.end(called_by).await.unwrap();
    let told_children = told(&mut children, 4).await;
    assert!(runs.iter().all(|run| told_children.contains_key(run)));
    assert_eq!(told_children.len(), 4, "the called one, too");
    for (run, last) in told_children {
        assert_eq!(place.row(run).await.last_seq, last);
    }
    let told_parents = told(&mut parents, 1).await;
    assert_eq!(told_parents.into_keys().collect::<Vec<_>>(), [called_by]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_a_workflow_that_is_too_slow_is_let_go_and_holds_nobody_up() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let workflow = place.publish("quick", json!([{ "id": "x", "script": "give {}" }])).await;
    let mut feed = node.watch_workflow(&place.scope, &workflow);
    let mut last = None;
    for _ in 0..1_100 {
        last = Some(place.start(&node, &workflow).await);
    }
    place.end(last.unwrap()).await.unwrap();
    let mut batches = 0;
    while feed.next().await.is_some() {
        batches += 1;
    }
    assert_eq!(batches, 1_024, "what was told before is still there, and then it ends");
}
