//! What the outside sees: lists, pages, and the wall between scopes.

use crate::{fixture::*, on_both_databases};
use agentruntime_engine::{
    run::{
        Signal,
        event::{Event, EventKind, RunStatus},
    },
    store::{Append, Appended, Chunk, EVENTS_BYTES_MAX, NewRun, RunCursor, RunFilter, Scope, StoreError, TaskFilter},
};
use agentruntime_host_api::{Json, ProjectId, RunId, TaskId, WorkflowId};
use serde_json::json;
use std::time::Duration;

on_both_databases!(
    nothing_is_found_from_another_scope,
    runs_are_listed_newest_first_in_pages,
    runs_are_listed_by_status_and_workflow,
    events_are_read_in_pages_across_chunks,
    a_page_of_large_events_ends_where_it_has_enough,
    the_end_of_a_long_journal_is_read_without_the_rest,
);

async fn nothing_is_found_from_another_scope(fixture: Fixture) {
    let store = fixture.open().await;
    let (new, workflow) = (new_run(), WorkflowId::new("triage"));
    store.publish(&new.scope, &workflow, &Json::empty_object(), "hash", None).await.unwrap();
    let lease = store.started(&new, &node("a")).await.lease;
    let task = TaskId::derived(new.run.as_uuid(), "approve");
    let opened = agentruntime_engine::store::TaskRecord {
        task,
        run: new.run,
        step: agentruntime_engine::run::event::StepPath::top(&"approve".into()),
        task_type: "approval".into(),
        payload: Json::null(),
        status: agentruntime_engine::run::TaskStatus::Pending,
        created_at: START,
        due: None,
    };
    let asks = Append { tasks_opened: vec![opened], ..append(lease, 2, 2) };
    assert_eq!(store.commit_one(&node("a"), asks).await, Appended::Durable);

    let other_tenant = scope("other");
    let other_project = Scope { project: ProjectId::new("other"), ..scope("acme") };
    for elsewhere in [&other_tenant, &other_project] {
        assert!(matches!(store.version(elsewhere, &workflow, None).await, Err(StoreError::NotFound)));
        assert!(matches!(store.version(elsewhere, &workflow, Some(1)).await, Err(StoreError::NotFound)));
        assert!(matches!(store.versions(elsewhere, &workflow).await, Err(StoreError::NotFound)));
        assert!(store.workflows(elsewhere).await.unwrap().is_empty());
        assert!(matches!(store.run(elsewhere, new.run).await, Err(StoreError::NotFound)));
        assert!(store.runs(elsewhere, &RunFilter::default()).await.unwrap().is_empty());
        assert!(matches!(store.events(elsewhere, new.run, 0, 10).await, Err(StoreError::NotFound)));
        assert!(matches!(store.signal(elsewhere, new.run, Signal::Pause).await, Err(StoreError::NotFound)));
        assert!(store.tasks(elsewhere, &TaskFilter::default()).await.unwrap().is_empty());
        let of_run = TaskFilter { run: Some(new.run), ..TaskFilter::default() };
        assert!(store.tasks(elsewhere, &of_run).await.unwrap().is_empty());
        let answered = store.complete_task(elsewhere, new.run, task, true, Json::empty_object()).await;
        assert!(matches!(answered, Err(StoreError::NotFound)));
    }
    assert!(store.inbox(new.run, 0).await.unwrap().is_empty());
    assert_eq!(store.run(&new.scope, new.run).await.unwrap().last_seq, 2);
    assert_eq!(store.tasks(&new.scope, &TaskFilter::default()).await.unwrap().len(), 1);
    let unknown = RunId::new_v7();
    assert!(matches!(store.run(&new.scope, unknown).await, Err(StoreError::NotFound)));
    assert!(matches!(store.signal(&new.scope, unknown, Signal::Pause).await, Err(StoreError::NotFound)));
}

async fn runs_are_listed_newest_first_in_pages(fixture: Fixture) {
    let store = fixture.open().await;
    let mut created = Vec::new();
    for index in 0..7 {
        // Several at one time: the id then decides.
        let started_at = START.plus(Duration::from_secs(index / 3));
        let new = NewRun { started_at, ..new_run() };
        store.create_run(new.clone()).await.unwrap();
        created.push((started_at, new.run));
    }
    created.sort_by_key(|(at, run)| (*at, run.to_string()));
    created.reverse();
    let mut listed = Vec::new();
    let mut before = None;
    loop {
        let filter = RunFilter { before, limit: Some(2), ..RunFilter::default() };
        let page = store.runs(&scope("acme"), &filter).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        before = Some(RunCursor::from(last));
        listed.extend(page.iter().map(|record| (record.started_at, record.run)));
    }
    assert_eq!(listed, created);
}

async fn runs_are_listed_by_status_and_workflow(fixture: Fixture) {
    let store = fixture.open().await;
    let completed = Append { row: row(RunStatus::Completed), ..create(&new_run()) };
    let digest = NewRun { workflow: WorkflowId::new("digest"), ..new_run() };
    let batch = [completed.clone(), create(&new_run()), create(&digest)];
    assert_eq!(store.commit(&node("a"), LEASE, &batch).await.unwrap(), [Appended::Durable; 3]);
    let count = |filter: RunFilter| {
        let store = store.clone();
        async move { store.runs(&scope("acme"), &filter).await.unwrap().len() }
    };
    let (status, workflow) = (Some(RunStatus::Running), Some(WorkflowId::new("digest")));
    assert_eq!(count(RunFilter::default()).await, 3);
    assert_eq!(count(RunFilter { status, ..RunFilter::default() }).await, 2);
    assert_eq!(count(RunFilter { workflow: workflow.clone(), ..RunFilter::default() }).await, 1);
    assert_eq!(count(RunFilter { status: Some(RunStatus::Completed), workflow, ..RunFilter::default() }).await, 0);
}

async fn events_are_read_in_pages_across_chunks(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    let batch = [append(lease, 2, 4), append(lease, 5, 5), append(lease, 6, 11)];
    assert_eq!(store.commit(&node("a"), LEASE, &batch).await.unwrap(), [Appended::Durable; 3]);
    for after in 0..=12 {
        for limit in 1..=12 {
            let page = store.events(&scope("acme"), lease.run, after, limit).await.unwrap();
            let expected: Vec<_> = (after + 1..=11).take(limit as usize).map(event).collect();
            assert_eq!(page, expected, "{limit} after {after}");
        }
    }
    assert!(store.events(&scope("acme"), lease.run, 0, 0).await.unwrap().is_empty());
}

/// Of large events a page has as many as fit, and one in any case.
async fn a_page_of_large_events_ends_where_it_has_enough(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    let large = |seq: u64, bytes: usize| Event {
        kind: EventKind::RunCompleted { outputs: json!({ "text": "x".repeat(bytes) }).into() },
        ..event(seq)
    };
    let half = EVENTS_BYTES_MAX / 2;
    let events = [large(2, half - 50), large(3, half - 50), large(4, half), large(5, 2 * EVENTS_BYTES_MAX), event(6)];
    let together = Append { events: Some(Chunk::of(&events)), ..append(lease, 2, 6) };
    assert_eq!(store.commit(&node("a"), LEASE, &[together]).await.unwrap(), [Appended::Durable]);
    let mut after = 1;
    for expected in [vec![2, 3], vec![4], vec![5], vec![6], vec![]] {
        let page = store.events(&scope("acme"), lease.run, after, 100).await.unwrap();
        let seqs: Vec<u64> = page.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, expected, "after {after}");
        after = seqs.last().copied().unwrap_or(after);
    }
    let bytes = store.run_bytes(lease.run).await.unwrap();
    assert!((4 * half as u64..8 * half as u64).contains(&bytes), "{bytes}");
}

async fn the_end_of_a_long_journal_is_read_without_the_rest(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    let batch: Vec<_> = (0..64).map(|part| append(lease, 2 + part * 100, 101 + part * 100)).collect();
    assert_eq!(store.commit(&node("a"), LEASE, &batch).await.unwrap(), [Appended::Durable; 64]);
    let page = store.events(&scope("acme"), lease.run, 6_395, 100).await.unwrap();
    assert_eq!(page, (6_396..=6_401).map(event).collect::<Vec<_>>());
    let page = store.events(&scope("acme"), lease.run, 0, u32::MAX).await.unwrap();
    assert_eq!(page.len(), agentruntime_engine::store::EVENTS_MAX as usize);
}
