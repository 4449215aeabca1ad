//! Several nodes on one store.

use super::{Place, Scripted};
use serde_json::json;
use std::time::Duration;

/// A lease that is not renewed ends within this.
pub(crate) const LEASE: Duration = Duration::from_secs(31);

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_what_one_has_no_room_for() {
    let place = Place::new().await;
    let (first_guest, second_guest) = (Scripted::new(), Scripted::new());
    let first = place.node_for(&first_guest, 2);
    let workflow = place.publish("held", json!([{ "id": "a", "script": "hold" }])).await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(place.start(&first, &workflow).await);
    }
    place.until(|| async { first_guest.held() == 2 }).await;
    let second = place.node(&second_guest);
    place.until(|| async { second_guest.held() == 3 }).await;
    assert_eq!((first.active_runs(), second.active_runs()), (2, 3));
    first_guest.release(2);
    second_guest.release(3);
    for run in runs {
        assert_eq!(place.end(run).await, Ok(json!({ "a": { "held": true } })));
    }
    assert_eq!(first_guest.begun("a") + second_guest.begun("a"), 5, "no run was worked on twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runs_of_a_dead_node_are_taken_over_when_its_leases_end() {
    let (place, clock) = Place::with_manual_clock().await;
    let (dead_guest, guest) = (Scripted::new(), Scripted::new());
    let dead = place.node(&dead_guest);
    let steps = json!([
        { "id": "a", "script": "give {\"n\":1}" },
        { "id": "b", "depends_on": ["a"], "script": "hold" },
    ]);
    let workflow = place.publish("held", steps).await;
    let run = place.start(&dead, &workflow).await;
    place.until(|| async { dead_guest.held() == 1 && place.row(run).await.last_seq == 4 }).await;
    drop(dead);

    let node = place.node(&guest);
    let other = place.publish("other", json!([{ "id": "x", "script": "give {}" }])).await;
    let other = place.start(&node, &other).await;
    place.end(other).await.unwrap();
    assert_eq!(node.active_runs() + guest.held(), 0, "a lease holds as long as it lasts");
    clock.advance(LEASE);
    place.until(|| async { guest.held() == 1 }).await;
    guest.release(1);
    assert_eq!(place.end(run).await, Ok(json!({ "b": { "held": true } })));
    assert_eq!((guest.begun("a"), guest.begun("b")), (0, 1), "what was complete is not done again");
    assert_eq!(
        place.told(run).await.matches("started b").count(),
        1,
        "an attempt that is begun again is the same attempt"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runs_of_a_node_that_stops_in_order_are_taken_over_at_once() {
    let (place, _clock) = Place::with_manual_clock().await;
    let (stopped_guest, guest) = (Scripted::new(), Scripted::new());
    let stopped = place.node(&stopped_guest);
    let workflow = place.publish("held", json!([{ "id": "a", "script": "hold" }])).await;
    let run = place.start(&stopped, &workflow).await;
    place.until(|| async { stopped_guest.held() == 1 && place.row(run).await.last_seq == 2 }).await;
    stopped.stop().await.unwrap();

    // The clock stands still: no lease ends.
    let _node = place.node(&guest);
    place.until(|| async { guest.held() == 1 }).await;
    guest.release(1);
    assert_eq!(place.end(run).await, Ok(json!({ "a": { "held": true } })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_lease_writes_nothing() {
    let (place, clock) = Place::with_manual_clock().await;
    let (slow_guest, guest) = (Scripted::new(), Scripted::new());
    // It has room for one run, so that it does not take up itself what it lost.
    let slow = place.node_for(&slow_guest, 1);
    let workflow = place.publish("held", json!([{ "id": "a", "script": "hold" }])).await;
    let run = place.start(&slow, &workflow).await;
    place.until(|| async { slow_guest.held() == 1 && place.row(run).await.last_seq == 2 }).await;
    clock.advance(LEASE);
    let node = place.node(&guest);
    place.until(|| async { guest.held() == 1 }).await;
    let before = place.journal(run).await;
    slow_guest.release(1);
    place.until(|| async { slow.active_runs() == 0 }).await;
    assert_eq!(place.journal(run).await, before, "the lost lease writes nothing");
    guest.release(1);
    assert_eq!(place.end(run).await, Ok(json!({ "a": { "held": true } })));
    assert_eq!(place.told(run).await.matches("completed a").count(), 1);
    place.until(|| async { node.active_runs() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_up_a_run_again_lets_its_own_earlier_work_go() {
    let (place, clock) = Place::with_manual_clock().await;
    let guest = Scripted::new();
    let node = place.node(&guest);
    let workflow = place.publish("held", json!([{ "id": "a", "script": "hold" }])).await;
    let run = place.start(&node, &workflow).await;
    place.until(|| async { guest.held() == 1 && place.row(run).await.last_seq == 2 }).await;
    clock.advance(LEASE);
    place.until(|| async { guest.held() == 2 }).await;
    place.until(|| async { guest.dropped() == 1 }).await;
    guest.release(1);
    assert_eq!(place.end(run).await, Ok(json!({ "a": { "held": true } })));
}
