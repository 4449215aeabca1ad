//! Appending to journals.

use crate::{fixture::*, on_both_databases};
use agentruntime_engine::{
    run::{
        Signal,
        event::{Event, EventKind, RunStatus, StepPath},
    },
    store::{Append, Appended, Lease, NewRun, Release, RowUpdate, Store, StoreError},
};
use agentruntime_host_api::{ErrorCode, Json, RunId, StepError};
use std::sync::Arc;

on_both_databases!(
    a_run_is_created_once,
    an_append_writes_events_and_row,
    a_gap_is_refused,
    a_lost_run_takes_nothing_else_with_it,
    a_creation_with_a_used_id_destroys_nothing,
    a_run_can_begin_and_end_in_one_append,
    a_run_that_occurs_twice_in_a_batch_is_written_in_order,
    a_batch_of_any_size_is_written,
    children_begin_with_their_parents_events,
    a_child_that_ends_tells_its_parent,
    a_lost_append_starts_no_child_and_tells_nobody,
    many_writers_lose_nothing,
    text_comes_back_as_it_went_in,
    an_empty_batch_is_nothing,
);

async fn a_run_is_created_once(fixture: Fixture) {
    let store = fixture.open().await;
    let new = new_run();
    store.create_run(new.clone()).await.unwrap();
    let again = NewRun { events: chunk(1, 3), ..new.clone() };
    assert!(matches!(store.create_run(again).await, Err(StoreError::AlreadyExists)));
    assert_eq!(store.seqs(new.run).await, [1]);
}

async fn an_append_writes_events_and_row(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    let error = StepError::new(ErrorCode::LuaError, "line 3: boom").with_details(serde_json::json!({ "line": 3 }));
    let row = RowUpdate {
        status: RunStatus::Failed,
        awaiting: None,
        finished_at: Some(START.plus(LEASE)),
        error: Some(error.clone()),
    };
    let last = Append { row, release: Some(Release { wake_at: None }), ..append(lease, 4, 4) };
    assert_eq!(store.commit_one(&node("a"), append(lease, 2, 3)).await, Appended::Durable);
    assert_eq!(store.run(&scope("acme"), lease.run).await.unwrap().status, RunStatus::Running);
    assert_eq!(store.commit_one(&node("a"), last).await, Appended::Durable);
    let record = store.run(&scope("acme"), lease.run).await.unwrap();
    assert_eq!((record.status, record.last_seq, record.error), (RunStatus::Failed, 4, Some(error)));
    assert_eq!(record.finished_at, Some(START.plus(LEASE)));
    assert_eq!(store.journal(lease.run).await.unwrap(), (1..=4).map(event).collect::<Vec<_>>());
}

async fn a_gap_is_refused(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    for (first, last) in [(1, 1), (3, 3), (1, 2)] {
        assert_eq!(store.commit_one(&node("a"), append(lease, first, last)).await, Appended::LeaseLost);
    }
    let older = Lease { epoch: 0, ..lease };
    assert_eq!(store.commit_one(&node("a"), append(older, 2, 2)).await, Appended::LeaseLost);
    let unknown = Lease { run: RunId::new_v7(), epoch: 1 };
    assert_eq!(store.commit_one(&node("a"), append(unknown, 2, 2)).await, Appended::LeaseLost);
    let new = new_run();
    let gap = Append { events: Some(chunk(3, 3)), ..create(&new) };
    assert_eq!(store.commit_one(&node("a"), gap).await, Appended::LeaseLost);
    assert!(matches!(store.run(&new.scope, new.run).await, Err(StoreError::NotFound)));
    assert_eq!(store.seqs(lease.run).await, [1]);
    assert_eq!(store.commit_one(&node("a"), append(lease, 2, 2)).await, Appended::Durable);
}

async fn a_lost_run_takes_nothing_else_with_it(fixture: Fixture) {
    let store = fixture.open().await;
    let mut leases = Vec::new();
    for _ in 0..5 {
        leases.push(store.started(&new_run(), &node("a")).await.lease);
    }
    let epoch_of = |index: usize| if index.is_multiple_of(2) { 1 } else { 9 };
    let with_epoch = |(index, lease): (usize, &Lease)| append(Lease { epoch: epoch_of(index), ..*lease }, 2, 2);
    let batch: Vec<_> = leases.iter().enumerate().map(with_epoch).collect();
    let answers = store.commit(&node("a"), LEASE, &batch).await.unwrap();
    for (index, lease) in leases.iter().enumerate() {
        let durable = index % 2 == 0;
        assert_eq!(answers[index], if durable { Appended::Durable } else { Appended::LeaseLost });
        assert_eq!(store.seqs(lease.run).await.len(), if durable { 2 } else { 1 });
    }
}

async fn a_creation_with_a_used_id_destroys_nothing(fixture: Fixture) {
    let store = fixture.open().await;
    let (used, fresh) = (new_run(), new_run());
    let lease = store.started(&used, &node("a")).await.lease;
    let again = Append { events: Some(chunk(2, 9)), ..create(&used) };
    let answers = store.commit(&node("b"), LEASE, &[again, create(&fresh)]).await.unwrap();
    assert_eq!(answers, [Appended::AlreadyExists, Appended::Durable]);
    assert_eq!(store.seqs(used.run).await, [1]);
    assert_eq!(store.commit_one(&node("a"), append(lease, 2, 2)).await, Appended::Durable);
}

async fn a_run_can_begin_and_end_in_one_append(fixture: Fixture) {
    let store = fixture.open().await;
    let new = new_run();
    let whole = Append {
        events: Some(chunk(2, 7)),
        row: row(RunStatus::Completed),
        release: Some(Release { wake_at: None }),
        ..create(&new)
    };
    assert_eq!(store.commit_one(&node("a"), whole).await, Appended::Durable);
    assert_eq!(store.journal(new.run).await.unwrap(), (1..=7).map(event).collect::<Vec<_>>());
    let record = store.run(&new.scope, new.run).await.unwrap();
    assert_eq!((record.status, record.last_seq), (RunStatus::Completed, 7));
    assert!(store.claim_all(&node("b")).await.is_empty());

    let held = new_run();
    assert_eq!(store.commit_one(&node("a"), create(&held)).await, Appended::Durable);
    assert!(store.claim_all(&node("b")).await.is_empty(), "its creator holds it");
    fixture.clock.advance(LEASE);
    assert_eq!(store.claim_all(&node("b")).await[0].lease, Lease { run: held.run, epoch: 2 });
}

async fn a_run_that_occurs_twice_in_a_batch_is_written_in_order(fixture: Fixture) {
    let store = fixture.open().await;
    let new = new_run();
    let lease = Lease { run: new.run, epoch: 1 };
    let end = Append { row: row(RunStatus::Completed), ..append(lease, 4, 4) };
    let batch = [create(&new), append(lease, 2, 3), end, append(lease, 9, 9)];
    let answers = store.commit(&node("a"), LEASE, &batch).await.unwrap();
    assert_eq!(answers, [Appended::Durable, Appended::Durable, Appended::Durable, Appended::LeaseLost]);
    assert_eq!(store.seqs(new.run).await, [1, 2, 3, 4]);
    assert_eq!(store.run(&new.scope, new.run).await.unwrap().status, RunStatus::Completed);
}

async fn a_batch_of_any_size_is_written(fixture: Fixture) {
    let store = fixture.open().await;
    for size in [1, 2, 3, 5, 64, 65, 130] {
        let runs: Vec<_> = (0..size).map(|_| new_run()).collect();
        let creations: Vec<_> = runs.iter().map(create).collect();
        let answers = store.commit(&node("a"), LEASE, &creations).await.unwrap();
        assert_eq!(answers, vec![Appended::Durable; size]);
        let next: Vec<_> = runs.iter().map(|new| append(Lease { run: new.run, epoch: 1 }, 2, 3)).collect();
        let answers = store.commit(&node("a"), LEASE, &next).await.unwrap();
        assert_eq!(answers, vec![Appended::Durable; size]);
        for new in &runs {
            assert_eq!(store.seqs(new.run).await, [1, 2, 3]);
        }
    }
}

async fn children_begin_with_their_parents_events(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    let child = NewRun { parent: Some(lease.run), ..new_run() };
    let with_child = |first| Append { children: vec![child.clone()], ..append(lease, first, first) };
    assert_eq!(store.commit_one(&node("a"), with_child(2)).await, Appended::Durable);
    let [claimed] = store.claim_all(&node("b")).await.try_into().unwrap();
    assert_eq!((claimed.record.run, claimed.record.parent), (child.run, Some(lease.run)));
    assert_eq!(store.commit_one(&node("b"), append(claimed.lease, 2, 2)).await, Appended::Durable);
    // Begun again, after a crash for instance, it stays what it is.
    assert_eq!(store.commit_one(&node("a"), with_child(3)).await, Appended::Durable);
    assert_eq!(store.seqs(child.run).await, [1, 2]);
}

fn child_finished(child: RunId) -> Signal {
    Signal::ChildFinished { child, step: StepPath::top(&Arc::from("call")), outcome: Ok(Json::empty_object()) }
}

async fn a_child_that_ends_tells_its_parent(fixture: Fixture) {
    let store = fixture.open().await;
    let parent = store.started(&new_run(), &node("a")).await.lease;
    let stranger = store.started(&new_run_of(&scope("other")), &node("a")).await.lease;
    let mut children = Vec::new();
    for _ in 0..5 {
        children.push(store.started(&new_run(), &node("a")).await.lease);
    }
    assert_eq!(store.commit_one(&node("a"), release(parent, 0)).await, Appended::Durable);
    assert_eq!(store.commit_one(&node("a"), release(stranger, 0)).await, Appended::Durable);
    let finished = |child: &Lease| {
        let signal = child_finished(child.run);
        let signals = vec![(parent.run, signal.clone()), (stranger.run, signal.clone()), (RunId::new_v7(), signal)];
        Append { signals, ..append(*child, 2, 2) }
    };
    let batch: Vec<_> = children.iter().map(finished).collect();
    assert_eq!(store.commit(&node("a"), LEASE, &batch).await.unwrap(), [Appended::Durable; 5]);
    let inbox = store.inbox(parent.run, 0).await.unwrap();
    let expected: Vec<_> = (1..).zip(children.iter().map(|child| child_finished(child.run))).collect();
    assert_eq!(inbox.into_iter().map(|it| (it.number, it.signal)).collect::<Vec<_>>(), expected);
    let claimed: Vec<_> = store.claim_all(&node("b")).await.iter().map(|run| run.lease.run).collect();
    assert_eq!(claimed, [parent.run], "the parent is due, and the other tenant's run heard nothing");
    assert!(store.inbox(stranger.run, 0).await.unwrap().is_empty());
}

async fn a_lost_append_starts_no_child_and_tells_nobody(fixture: Fixture) {
    let store = fixture.open().await;
    let parent = store.started(&new_run(), &node("a")).await.lease;
    let lost = Lease { epoch: 9, ..store.started(&new_run(), &node("a")).await.lease };
    let child = new_run();
    let signals = vec![(parent.run, child_finished(lost.run))];
    let append = Append { children: vec![child.clone()], signals, ..append(lost, 2, 2) };
    assert_eq!(store.commit_one(&node("a"), append).await, Appended::LeaseLost);
    assert!(matches!(store.run(&child.scope, child.run).await, Err(StoreError::NotFound)));
    assert!(store.inbox(parent.run, 0).await.unwrap().is_empty());
}

/// Appends events 2 to 11 to one run, each with a signal to the next run, so that rows are locked crosswise.
async fn write_ten(store: Store, lease: Lease, next: RunId) {
    for seq in 2..=11 {
        let signals = vec![(next, child_finished(lease.run))];
        let append = Append { signals, ..append(lease, seq, seq) };
        assert_eq!(store.commit_one(&node("a"), append).await, Appended::Durable);
    }
}

async fn many_writers_lose_nothing(fixture: Fixture) {
    let store = fixture.open().await;
    let mut leases = Vec::new();
    for _ in 0..12 {
        leases.push(store.started(&new_run(), &node("a")).await.lease);
    }
    let mut writers = tokio::task::JoinSet::new();
    for (index, lease) in leases.iter().enumerate() {
        let next = leases[(index + 1) % leases.len()].run;
        writers.spawn(write_ten(store.clone(), *lease, next));
        let (store, run) = (store.clone(), lease.run);
        writers.spawn(async move {
            for _ in 0..10 {
                store.signal(&scope("acme"), run, Signal::Pause).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    for lease in leases {
        assert_eq!(store.seqs(lease.run).await, (1..=11).collect::<Vec<_>>());
        let numbers: Vec<_> = store.inbox(lease.run, 0).await.unwrap().iter().map(|it| it.number).collect();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
        assert_eq!(store.run(&scope("acme"), lease.run).await.unwrap().last_seq, 11);
    }
}

async fn text_comes_back_as_it_went_in(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    let texts = [
        r#"{"nul":"\u0000","quote":"'\"","emoji":"😀","zero":-0.0,"big":18446744073709551615}"#.to_owned(),
        format!(r#""{}""#, "ä\u{2028}\u{7f}".repeat(200_000)),
        format!(r#""{}""#, "x".repeat(1 << 20)),
    ];
    for (seq, text) in (2..).zip(&texts) {
        let kind = EventKind::RunCompleted { outputs: Json::parse(text.as_str()).unwrap() };
        let chunk = agentruntime_engine::store::Chunk::of(&[Event { seq, at: START, kind }]);
        let append = Append { events: Some(chunk), ..append(lease, seq, seq) };
        assert_eq!(store.commit_one(&node("a"), append).await, Appended::Durable);
    }
    let journal = store.journal(lease.run).await.unwrap();
    for (event, text) in journal[1..].iter().zip(&texts) {
        let EventKind::RunCompleted { outputs } = &event.kind else { panic!("another event") };
        assert!(outputs.as_str() == text, "{} bytes came back as {}", text.len(), outputs.as_str().len());
    }
}

async fn an_empty_batch_is_nothing(fixture: Fixture) {
    let store = fixture.open().await;
    assert!(store.commit(&node("a"), LEASE, &[]).await.unwrap().is_empty());
    assert!(store.renew(&node("a"), &[], LEASE).await.unwrap().is_empty());
}
