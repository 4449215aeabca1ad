//! A disk that refuses to write.

use super::{Place, Scripted, leases::LEASE};
use agentruntime_engine::run::{Signal, event::RunStatus};
use serde_json::json;
use sqlx::{Connection, Executor};

/// As a full disk would: no journal entry can be written any more, and SQLite ends the transaction by itself.
const REFUSE: &str =
    "CREATE TRIGGER refuse BEFORE INSERT ON run_events BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_commit_failed_is_taken_up_again_from_its_journal_and_no_signal_is_lost() {
    let (place, clock) = Place::with_manual_clock().await;
    let guest = Scripted::new();
    let node = place.node(&guest);
    let steps = json!([
        { "id": "a", "script": "hold" },
        { "id": "b", "depends_on": ["a"], "script": "give {\"n\":2}" },
        { "id": "c", "depends_on": ["b"], "script": "give {\"n\":3}" },
    ]);
    let workflow = place.publish("refused", steps).await;
    let run = place.start(&node, &workflow).await;
    place.until(|| async { guest.held() == 1 && place.row(run).await.last_seq == 2 }).await;

    let file = place.folder.path().join("data/journal.db");
    let mut other = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    other.execute(REFUSE).await.unwrap();
    let mut watcher = node.watch(run);
    node.signal(&place.scope, run, Signal::Pause).await.unwrap();
    place.until(|| async { node.active_runs() == 0 }).await;
    assert!(watcher.next().await.is_none(), "followers are sent to the store, and were told nothing that is not in it");
    let row = place.row(run).await;
    assert_eq!((row.status, row.last_seq), (RunStatus::Running, 2));

    other.execute("DROP TRIGGER refuse").await.unwrap();
    clock.advance(LEASE);
    place.until(|| async { place.row(run).await.status == RunStatus::Paused }).await;
    guest.release(1);
    place.until(|| async { node.active_runs() == 0 }).await;
    assert_eq!(guest.begun("b"), 0, "nothing new starts in a paused run");
    node.signal(&place.scope, run, Signal::Resume).await.unwrap();
    assert_eq!(place.end(run).await, Ok(json!({ "c": { "n": 3 } })));
    assert_eq!(place.told(run).await.matches("completed a").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_be_written_is_not_accepted() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let workflow = place.publish("refused", json!([{ "id": "a", "script": "give {}" }])).await;
    let file = place.folder.path().join("data/journal.db");
    let mut other = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    other.execute(REFUSE).await.unwrap();
    let request = agentruntime_engine::node::StartRequest::new(workflow.clone(), json!({}).into());
    assert!(node.start_run(&place.scope, request).await.is_err());
    place.until(|| async { node.active_runs() == 0 }).await;
    assert!(place.store.runs(&place.scope, &Default::default()).await.unwrap().is_empty());

    other.execute("DROP TRIGGER refuse").await.unwrap();
    let run = place.start(&node, &workflow).await;
    assert_eq!(place.end(run).await, Ok(json!({ "a": {} })));
}
