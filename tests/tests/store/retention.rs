//! Runs that ended long ago: archived first, then removed with everything of theirs, and nothing else.

use crate::{fixture::*, on_both_databases};
use agentruntime_engine::{
    run::{
        Signal, TaskStatus,
        event::{RunStatus, StepPath},
    },
    store::{
        Append, Appended, Archive, ArchiveError, ArchivedRun, ExpireError, Lease, NewRun, Release, RowUpdate,
        RunFilter, StartKey, Store, StoreError, TaskFilter, TaskRecord,
    },
};
use agentruntime_host_api::{Json, RunId, TaskId, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

on_both_databases!(
    a_run_goes_with_all_that_is_its_own,
    runs_that_ended_lately_or_not_at_all_stay,
    a_parent_keeps_its_children_as_long_as_it_lives,
    a_tree_goes_as_a_whole,
    nothing_goes_that_the_archive_did_not_keep,
    a_run_that_is_told_something_meanwhile_stays,
    what_a_crash_leaves_of_a_tree_is_found_again,
    a_process_that_dies_while_it_archives_leaves_all_as_it_was,
    no_more_trees_go_than_were_asked_for,
    several_processes_share_the_work,
);

const DAY: Duration = Duration::from_secs(24 * 3600);
const LIMIT: u32 = 1_000;

/// Keeps what it is given, in memory; what it is told to do with a run comes before.
#[derive(Default)]
struct Kept {
    runs: Mutex<BTreeMap<RunId, String>>,
    refused: Mutex<Option<RunId>>,
    signals: Option<(Store, RunId, RunId)>,
    hangs: bool,
}

#[async_trait::async_trait]
impl Archive for Kept {
    async fn keep(&self, run: ArchivedRun) -> Result<(), ArchiveError> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if *self.refused.lock().unwrap() == Some(run.record.run) {
            return Err("the disk is full".into());
        }
        if let Some((store, at, to)) = &self.signals
            && *at == run.record.run
        {
            store.signal(&run.record.scope, *to, Signal::Pause).await?;
        }
        self.runs.lock().unwrap().insert(run.record.run, run.lines);
        Ok(())
    }
}

impl Kept {
    fn ids(&self) -> Vec<RunId> {
        self.runs.lock().unwrap().keys().copied().collect()
    }
}

/// The end of a run, with all signals read.
fn end(lease: Lease, seq: u64, at: Timestamp) -> Append {
    let row = RowUpdate { finished_at: Some(at), ..row(RunStatus::Completed) };
    Append { row, release: Some(Release { wake_at: None }), ..append(lease, seq, seq) }
}

fn child_of(parent: &NewRun) -> NewRun {
    NewRun { parent: Some(parent.run), trigger_type: "workflow_call".into(), ..new_run() }
}

/// Runs that ended at the start of time, each with two events.
async fn ended(store: &Store, runs: &[&NewRun]) {
    for new in runs {
        let lease = store.started(new, &node("a")).await.lease;
        assert_eq!(store.commit_one(&node("a"), end(lease, 2, START)).await, Appended::Durable);
    }
}

async fn expire(store: &Store, archive: &Kept) -> Result<u32, ExpireError> {
    store.expire_finished(START.plus(DAY), LIMIT, archive).await
}

async fn is_there(store: &Store, run: RunId) -> bool {
    match store.run(&scope("acme"), run).await {
        Ok(_) => true,
        Err(StoreError::NotFound) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn a_run_goes_with_all_that_is_its_own(fixture: Fixture) {
    let (store, archive) = (fixture.open().await, Kept::default());
    let key = StartKey { name: "k".into(), digest: "a".into(), keep: 100 * DAY };
    let new = NewRun { keys: vec![key], external_user_id: Some("ü\0".into()), ..new_run() };
    let lease = store.started(&new, &node("a")).await.lease;
    let task = TaskRecord {
        task: TaskId::derived(new.run.as_uuid(), "approve"),
        run: new.run,
        step: StepPath::top(&"approve".into()),
        task_type: "approval".into(),
        payload: Json::null(),
        status: TaskStatus::Pending,
        created_at: START,
        due: None,
    };
    store.signal(&new.scope, new.run, Signal::Pause).await.unwrap();
    let last = Append { tasks_opened: vec![task], inbox_read: 1, ..end(lease, 2, START) };
    assert_eq!(store.commit_one(&node("a"), last).await, Appended::Durable);
    let other = new_run();
    store.create_run(other.clone()).await.unwrap();
    let row = store.run(&new.scope, new.run).await.unwrap();

    assert_eq!(expire(&store, &archive).await.unwrap(), 1);

    let runs = store.runs(&new.scope, &RunFilter::default()).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.run).collect::<Vec<_>>(), [other.run]);
    assert!(store.journal(new.run).await.unwrap().is_empty());
    assert_eq!(store.seqs(other.run).await, [1]);
    let of_run = TaskFilter { run: Some(new.run), ..TaskFilter::default() };
    assert!(store.tasks(&new.scope, &of_run).await.unwrap().is_empty());
    store.create_run(NewRun { run: RunId::new_v7(), ..new.clone() }).await.expect("the key went, too");

    let kept = archive.runs.lock().unwrap();
    let lines: Vec<serde_json::Value> =
        kept[&new.run].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["run_id"], new.run.to_string());
    assert_eq!(lines[0]["status"], "completed");
    assert_eq!(lines[0]["last_seq"], row.last_seq);
    assert_eq!(lines[0]["external_user_id"], "ü\0");
    assert_eq!(lines[2], event(2).public(new.run));
    assert!(kept[&new.run].ends_with('\n'));
}

async fn runs_that_ended_lately_or_not_at_all_stay(fixture: Fixture) {
    let (store, archive) = (fixture.open().await, Kept::default());
    let (old, lately) = (new_run(), new_run());
    for (new, at) in [(&old, START.plus(DAY - Duration::from_micros(1))), (&lately, START.plus(DAY))] {
        let lease = store.started(new, &node("a")).await.lease;
        store.commit_one(&node("a"), end(lease, 2, at)).await;
    }
    store.started(&new_run(), &node("a")).await;
    store.create_run(new_run()).await.unwrap();
    assert_eq!(expire(&store, &archive).await.unwrap(), 1);
    assert_eq!(archive.ids(), [old.run]);
    assert_eq!(store.runs(&old.scope, &RunFilter::default()).await.unwrap().len(), 3);
}

async fn a_parent_keeps_its_children_as_long_as_it_lives(fixture: Fixture) {
    let (store, archive) = (fixture.open().await, Kept::default());
    let parent = new_run();
    let (child, grandchild) = (child_of(&parent), new_run());
    let grandchild = NewRun { parent: Some(child.run), ..grandchild };
    let lease = store.started(&parent, &node("a")).await.lease;
    ended(&store, &[&child, &grandchild]).await;
    assert_eq!(expire(&store, &archive).await.unwrap(), 0);
    // It ends, but not long enough ago.
    store.commit_one(&node("a"), end(lease, 2, START.plus(DAY))).await;
    assert_eq!(expire(&store, &archive).await.unwrap(), 0);
    assert!(archive.ids().is_empty());
    assert_eq!(store.expire_finished(START.plus(2 * DAY), LIMIT, &archive).await.unwrap(), 3);
}

async fn a_tree_goes_as_a_whole(fixture: Fixture) {
    let (store, archive) = (fixture.open().await, Kept::default());
    let root = new_run();
    // More than one transaction removes.
    let children: Vec<_> = (0..130).map(|_| child_of(&root)).collect();
    let below = child_of(&children[7]);
    let batch: Vec<_> = [&root, &below].into_iter().chain(&children).map(create).collect();
    let answers = store.commit(&node("a"), LEASE, &batch).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Appended::Durable));
    let ends: Vec<_> = batch.iter().skip(1).map(|create| end(create.lease, 2, START)).collect();
    store.commit(&node("a"), LEASE, &ends).await.unwrap();
    assert_eq!(expire(&store, &archive).await.unwrap(), 0, "the topmost is at work");
    store.commit_one(&node("a"), end(batch[0].lease, 2, START)).await;
    assert_eq!(expire(&store, &archive).await.unwrap(), 132);
    assert_eq!(archive.ids().len(), 132);
    assert!(store.runs(&root.scope, &RunFilter::default()).await.unwrap().is_empty());
    assert!(store.journal(below.run).await.unwrap().is_empty());
}

async fn nothing_goes_that_the_archive_did_not_keep(fixture: Fixture) {
    let (store, archive) = (fixture.open().await, Kept::default());
    let root = new_run();
    let child = child_of(&root);
    ended(&store, &[&root, &child]).await;
    *archive.refused.lock().unwrap() = Some(child.run);
    let refused = expire(&store, &archive).await;
    assert!(matches!(&refused, Err(ExpireError::Archive { run, .. }) if *run == child.run), "{refused:?}");
    assert!(is_there(&store, root.run).await && is_there(&store, child.run).await);
    assert_eq!(store.seqs(root.run).await, [1, 2]);
    *archive.refused.lock().unwrap() = None;
    assert_eq!(expire(&store, &archive).await.unwrap(), 2);
}

async fn a_run_that_is_told_something_meanwhile_stays(fixture: Fixture) {
    let store = fixture.open().await;
    let root = new_run();
    let child = child_of(&root);
    ended(&store, &[&root, &child]).await;
    let archive = Kept { signals: Some((store.clone(), child.run, root.run)), ..Kept::default() };
    assert_eq!(expire(&store, &archive).await.unwrap(), 0);
    assert!(is_there(&store, root.run).await && is_there(&store, child.run).await);
    let [claimed] = store.claim_all(&node("b")).await.try_into().expect("the run that was told something is due");
    assert_eq!(claimed.lease.run, root.run);
    assert_eq!(expire(&store, &Kept::default()).await.unwrap(), 0, "a node works on it");
    store.commit_one(&node("b"), Append { inbox_read: 1, ..end(claimed.lease, 3, START) }).await;
    assert_eq!(expire(&store, &Kept::default()).await.unwrap(), 2);
}

async fn what_a_crash_leaves_of_a_tree_is_found_again(fixture: Fixture) {
    let store = fixture.open().await;
    let root = new_run();
    let child = child_of(&root);
    let below = child_of(&child);
    ended(&store, &[&root, &child, &below]).await;
    // The child is told something when all is archived: it stays without its parent, and keeps what is below it.
    let archive = Kept { signals: Some((store.clone(), below.run, child.run)), ..Kept::default() };
    assert_eq!(expire(&store, &archive).await.unwrap(), 1);
    let left = [root.run, child.run, below.run];
    let mut there = Vec::new();
    for run in left {
        there.push(is_there(&store, run).await);
    }
    assert_eq!(there, [false, true, true]);
    let [claimed] = store.claim_all(&node("b")).await.try_into().expect("the child is due");
    store.commit_one(&node("b"), Append { inbox_read: 1, ..end(claimed.lease, 3, START) }).await;

    let again = Kept::default();
    assert_eq!(expire(&store, &again).await.unwrap(), 2);
    let first = archive.runs.lock().unwrap();
    let second = again.runs.lock().unwrap();
    assert_eq!(first[&below.run], second[&below.run], "archived again, as the same");
    assert!(second[&child.run].lines().count() == 4 && !second.contains_key(&root.run));
}

async fn a_process_that_dies_while_it_archives_leaves_all_as_it_was(fixture: Fixture) {
    let store = fixture.open().await;
    let new = new_run();
    ended(&store, &[&new]).await;
    let hangs = Kept { hangs: true, ..Kept::default() };
    let dies = tokio::spawn({
        let store = store.clone();
        async move { expire(&store, &hangs).await }
    });
    // It holds the run: nobody else takes it.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !is_held(&store).await {
        assert!(std::time::Instant::now() < deadline, "nobody holds the run");
        tokio::task::yield_now().await;
    }
    assert_eq!(expire(&store, &Kept::default()).await.unwrap(), 0);
    dies.abort();
    assert!(dies.await.unwrap_err().is_cancelled());
    fixture.clock.advance(DAY);
    let [claimed] = store.claim_all(&node("b")).await.try_into().expect("a node looks after a lease that ended");
    assert_eq!(store.commit_one(&node("b"), release_as_ended(claimed.lease)).await, Appended::Durable);
    assert_eq!(store.seqs(new.run).await, [1, 2]);
    assert_eq!(expire(&store, &Kept::default()).await.unwrap(), 1);
}

/// Whether some run is held for its removal.
async fn is_held(store: &Store) -> bool {
    let sql = "SELECT run_id FROM runs WHERE lease_owner = 'retention'";
    !store.database().rows(sql, Default::default()).await.unwrap().is_empty()
}

/// What a node does with a finished run that nobody told anything.
fn release_as_ended(lease: Lease) -> Append {
    let row = RowUpdate { finished_at: Some(START), ..row(RunStatus::Completed) };
    Append { release: Some(Release { wake_at: None }), ..Append::nothing(lease, row) }
}

async fn no_more_trees_go_than_were_asked_for(fixture: Fixture) {
    let (store, archive) = (fixture.open().await, Kept::default());
    let runs: Vec<_> = (0..3).map(|_| new_run()).collect();
    let child = child_of(&runs[0]);
    ended(&store, &[&runs[0], &child, &runs[1], &runs[2]]).await;
    let mut removed = Vec::new();
    for _ in 0..4 {
        removed.push(store.expire_finished(START.plus(DAY), 1, &archive).await.unwrap());
    }
    assert_eq!(removed, [2, 1, 1, 0]);
}

async fn several_processes_share_the_work(fixture: Fixture) {
    let store = fixture.open().await;
    let second = if store.is_shared() { fixture.open().await } else { store.clone() };
    let runs: Vec<_> = (0..60).map(|_| new_run()).collect();
    let batch: Vec<_> = runs.iter().map(create).collect();
    store.commit(&node("a"), LEASE, &batch).await.unwrap();
    let ends: Vec<_> = batch.iter().map(|create| end(create.lease, 2, START)).collect();
    store.commit(&node("a"), LEASE, &ends).await.unwrap();
    let archives = [Arc::new(Kept::default()), Arc::new(Kept::default())];
    let work = [store.clone(), second]
        .into_iter()
        .zip(archives.clone())
        .map(|(store, archive)| tokio::spawn(async move { expire(&store, &archive).await.unwrap() }));
    let mut removed = 0;
    for work in work.collect::<Vec<_>>() {
        removed += work.await.unwrap();
    }
    assert_eq!(removed, 60);
    let mut kept: Vec<_> = archives.iter().flat_map(|archive| archive.ids()).collect();
    kept.sort();
    let mut expected: Vec<_> = runs.iter().map(|run| run.run).collect();
    expected.sort();
    assert_eq!(kept, expected, "each was archived once");
}
