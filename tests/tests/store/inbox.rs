//! Signals and tasks.

use crate::{fixture::*, on_both_databases};
use agentruntime_engine::{
    run::{
        Signal, TaskStatus,
        event::{RunStatus, StepPath},
    },
    store::{Append, Appended, Lease, Release, Store, StoreError, TaskFilter, TaskRecord},
};
use agentruntime_host_api::{Json, TaskId};
use std::sync::Arc;

on_both_databases!(
    signals_are_numbered_in_their_order,
    signals_that_were_read_leave_the_inbox,
    the_owner_of_a_run_is_told_that_it_has_unread_signals,
    a_signal_makes_a_finished_run_claimable,
    a_task_is_opened_and_answered,
    a_task_is_answered_once_however_many_try,
    a_task_that_its_run_closed_takes_no_answer,
    an_answered_task_stays_answered,
    a_task_can_be_opened_again,
);

async fn signals_are_numbered_in_their_order(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    let sent = [Signal::Pause, Signal::Resume, Signal::Stop { graceful: true }, Signal::Retry];
    for signal in &sent {
        store.signal(&scope("acme"), lease.run, signal.clone()).await.unwrap();
    }
    let inbox = store.inbox(lease.run, 1).await.unwrap();
    let expected: Vec<_> = (2..).zip(sent.into_iter().skip(1)).collect();
    assert_eq!(inbox.into_iter().map(|it| (it.number, it.signal)).collect::<Vec<_>>(), expected);
}

async fn signals_that_were_read_leave_the_inbox(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    for _ in 0..3 {
        store.signal(&scope("acme"), lease.run, Signal::Pause).await.unwrap();
    }
    let read = Append { inbox_read: 2, ..append(lease, 2, 2) };
    assert_eq!(store.commit_one(&node("a"), read).await, Appended::Durable);
    let numbers = |store: Store| async move {
        store.inbox(lease.run, 0).await.unwrap().iter().map(|it| it.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(store.clone()).await, [3]);
    store.signal(&scope("acme"), lease.run, Signal::Pause).await.unwrap();
    assert_eq!(numbers(store.clone()).await, [3, 4], "numbers are not used again");
    fixture.clock.advance(LEASE);
    assert_eq!(store.claim_all(&node("b")).await[0].inbox_read, 2);
}

async fn the_owner_of_a_run_is_told_that_it_has_unread_signals(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    assert_eq!(store.unread(&node("a")).await.unwrap(), []);
    store.signal(&scope("acme"), lease.run, Signal::Pause).await.unwrap();
    assert_eq!(store.unread(&node("a")).await.unwrap(), [lease.run]);
    assert_eq!(store.unread(&node("b")).await.unwrap(), [], "it is told to nobody else");
    let read = Append { inbox_read: 1, ..append(lease, 2, 2) };
    assert_eq!(store.commit_one(&node("a"), read).await, Appended::Durable);
    assert_eq!(store.unread(&node("a")).await.unwrap(), []);
}

async fn a_signal_makes_a_finished_run_claimable(fixture: Fixture) {
    let store = fixture.open().await;
    let new = new_run();
    let row = row(RunStatus::Failed);
    let failed = Append { row, release: Some(Release { wake_at: None }), ..create(&new) };
    assert_eq!(store.commit_one(&node("a"), failed).await, Appended::Durable);
    store.signal(&new.scope, new.run, Signal::Retry).await.unwrap();
    let [claimed] = store.claim_all(&node("b")).await.try_into().unwrap();
    assert_eq!((claimed.record.run, claimed.record.status), (new.run, RunStatus::Failed));
}

fn task(lease: Lease, name: &str) -> TaskRecord {
    TaskRecord {
        task: TaskId::derived(lease.run.as_uuid(), name),
        run: lease.run,
        step: StepPath::inner(&Arc::from("each"), 3, &Arc::from(name)),
        task_type: "approval\0".into(),
        payload: Json::parse(r#"{"total":12.50}"#).unwrap(),
        status: TaskStatus::Pending,
        created_at: START,
        due: Some(START.plus(LEASE)),
    }
}

async fn asked(store: &Store, name: &str) -> (Lease, TaskRecord) {
    let lease = store.started(&new_run(), &node("a")).await.lease;
    let task = task(lease, name);
    let asks = Append { tasks_opened: vec![task.clone()], ..append(lease, 2, 2) };
    assert_eq!(store.commit_one(&node("a"), asks).await, Appended::Durable);
    (lease, task)
}

async fn statuses(store: &Store, lease: Lease) -> Vec<TaskStatus> {
    let filter = TaskFilter { run: Some(lease.run), ..TaskFilter::default() };
    store.tasks(&scope("acme"), &filter).await.unwrap().iter().map(|task| task.status).collect()
}

fn answer() -> Json {
    Json::parse(r#"{"note":"ok"}"#).unwrap()
}

async fn a_task_is_opened_and_answered(fixture: Fixture) {
    let store = fixture.open().await;
    let (lease, task) = asked(&store, "approve").await;
    let (_, other) = asked(&store, "check").await;
    let pending = TaskFilter { status: Some(TaskStatus::Pending), ..TaskFilter::default() };
    let mut open = store.tasks(&scope("acme"), &pending).await.unwrap();
    open.sort_by_key(|task| task.step.to_string());
    assert_eq!(open, [task.clone(), other.clone()]);
    store.complete_task(&scope("acme"), lease.run, task.task, true, answer()).await.unwrap();
    assert_eq!(store.tasks(&scope("acme"), &pending).await.unwrap(), [other]);
    let inbox = store.inbox(lease.run, 0).await.unwrap();
    assert_eq!(inbox[0].signal, Signal::TaskCompleted { task: task.task, approved: true, result: answer() });
}

async fn a_task_is_answered_once_however_many_try(fixture: Fixture) {
    let store = fixture.open().await;
    let (lease, task) = asked(&store, "approve").await;
    let mut answers = tokio::task::JoinSet::new();
    for index in 0..8 {
        let store = store.clone();
        answers.spawn(async move {
            store.complete_task(&scope("acme"), lease.run, task.task, index % 2 == 0, answer()).await
        });
    }
    let answers = answers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Err(StoreError::AlreadyClosed))).count(), 7);
    assert_eq!(store.inbox(lease.run, 0).await.unwrap().len(), 1);
    let unknown = TaskId::derived(lease.run.as_uuid(), "unknown");
    let refused = store.complete_task(&scope("acme"), lease.run, unknown, true, answer()).await;
    assert!(matches!(refused, Err(StoreError::NotFound)));
    assert_eq!(store.inbox(lease.run, 0).await.unwrap().len(), 1, "a refused answer sends nothing");
}

async fn a_task_that_its_run_closed_takes_no_answer(fixture: Fixture) {
    let store = fixture.open().await;
    let (lease, task) = asked(&store, "approve").await;
    let expires = Append { tasks_closed: vec![(task.task, TaskStatus::Expired)], ..append(lease, 3, 3) };
    assert_eq!(store.commit_one(&node("a"), expires).await, Appended::Durable);
    assert_eq!(statuses(&store, lease).await, [TaskStatus::Expired]);
    let late = store.complete_task(&scope("acme"), lease.run, task.task, true, answer()).await;
    assert!(matches!(late, Err(StoreError::AlreadyClosed)));
    assert!(store.inbox(lease.run, 0).await.unwrap().is_empty());
}

async fn an_answered_task_stays_answered(fixture: Fixture) {
    let store = fixture.open().await;
    let (lease, task) = asked(&store, "approve").await;
    store.complete_task(&scope("acme"), lease.run, task.task, true, answer()).await.unwrap();
    let cancels = Append { tasks_closed: vec![(task.task, TaskStatus::Cancelled)], ..append(lease, 3, 3) };
    assert_eq!(store.commit_one(&node("a"), cancels).await, Appended::Durable);
    assert_eq!(statuses(&store, lease).await, [TaskStatus::Completed]);
}

async fn a_task_can_be_opened_again(fixture: Fixture) {
    let store = fixture.open().await;
    let (lease, task) = asked(&store, "approve").await;
    let cancels = Append { tasks_closed: vec![(task.task, TaskStatus::Cancelled)], ..append(lease, 3, 3) };
    let reopens = Append { tasks_opened: vec![task], ..append(lease, 4, 4) };
    let answers = store.commit(&node("a"), LEASE, &[cancels, reopens]).await.unwrap();
    assert_eq!(answers, [Appended::Durable; 2]);
    assert_eq!(statuses(&store, lease).await, [TaskStatus::Pending]);
}
