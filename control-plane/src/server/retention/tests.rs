//! Old runs on a clock that is moved, and the files they become.

use super::*;
use agentruntime_engine::{
    run::event::{Event, EventKind, RunStatus},
    store::{Append, Chunk, Lease, Location, ManualClock, NewRun, NodeId, Release, RowUpdate, RunFilter, Scope},
};
use agentruntime_host_api::{Json, ProjectId, RunId, TenantId, WorkflowId};
use tempfile::TempDir;

/// 2026-01-01T00:00:30Z
const START: Timestamp = Timestamp::from_micros(1_767_225_630_000_000);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct World {
    store: Store,
    clock: Arc<ManualClock>,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(START)));
        let store = Store::open(&Location::Sqlite(folder.path().join("data")), clock.clone()).await.unwrap();
        Self { store, clock, folder }
    }

    fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    /// A run that starts and ends now.
    async fn ended(&self, tenant: &str) -> RunId {
        let (run, now) = (RunId::new_v7(), self.store.database().time());
        let outputs = Json::of_value(&serde_json::json!({ "n": 1 }));
        let new = NewRun {
            run,
            scope: scope(tenant),
            workflow: WorkflowId::new("triage"),
            version: 1,
            started_at: now,
            parent: None,
            trigger_type: "manual".into(),
            user_id: None,
            pat_id: None,
            external_user_id: None,
            keys: Vec::new(),
            events: Chunk::of(&[Event { seq: 1, at: now, kind: EventKind::RunCompleted { outputs } }]),
        };
        let row = RowUpdate { status: RunStatus::Completed, awaiting: None, finished_at: Some(now), error: None };
        let release = Some(Release { wake_at: None });
        let created = Append { row, release, ..Append::create(Lease { run, epoch: 1 }, new) };
        self.store.commit(&NodeId("n".into()), DAY, &[created]).await.unwrap();
        run
    }

    async fn pass(&self, archive: Option<PathBuf>) -> Result<u64, ExpireError> {
        let (runs, ended) = pass(&self.store, &Retention { keep: 7 * DAY, archive }, &CancellationToken::new()).await;
        ended.map(|()| runs)
    }

    async fn runs(&self, tenant: &str) -> Vec<RunId> {
        let runs = self.store.runs(&scope(tenant), &RunFilter::default()).await.unwrap();
        runs.iter().map(|record| record.run).collect()
    }
}

fn scope(tenant: &str) -> Scope {
    Scope { tenant: TenantId::new(tenant), project: ProjectId::new("main") }
}

#[tokio::test]
async fn old_runs_become_files_and_others_stay() {
    let world = World::new().await;
    let mut old = Vec::new();
    // More than one batch.
    for _ in 0..=BATCH {
        old.push(world.ended("acme").await);
    }
    world.clock.advance(DAY);
    let other = world.ended("acme").await;
    world.clock.advance(6 * DAY);
    assert_eq!(world.pass(Some(world.archive())).await.unwrap(), 0, "not a moment before its time");
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(world.pass(Some(world.archive())).await.unwrap(), u64::from(BATCH) + 1);
    assert_eq!(world.runs("acme").await, [other]);
    let folder = world.archive().join("acme/main/2026-01-01");
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut expected: Vec<_> = old.iter().map(|run| format!("{run}.ndjson")).collect();
    names.sort();
    expected.sort();
    assert_eq!(names, expected, "and nothing half-written");
    let text = std::fs::read_to_string(folder.join(&expected[0])).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["status"], &lines[1]["event_type"]), (&"completed".into(), &"run_completed".into()));
}

#[tokio::test]
async fn without_an_archive_old_runs_are_gone() {
    let world = World::new().await;
    world.ended("acme").await;
    world.clock.advance(8 * DAY);
    assert_eq!(world.pass(None).await.unwrap(), 1);
    assert!(world.runs("acme").await.is_empty());
}

#[tokio::test]
async fn nothing_goes_where_the_archive_cannot_be_written() {
    let world = World::new().await;
    let run = world.ended("acme").await;
    world.clock.advance(8 * DAY);
    // A file where the folder is to be.
    std::fs::write(world.archive(), "").unwrap();
    let refused = world.pass(Some(world.archive())).await;
    assert!(matches!(&refused, Err(ExpireError::Archive { run: told, .. }) if *told == run), "{refused:?}");
    assert_eq!(world.runs("acme").await, [run]);
    std::fs::remove_file(world.archive()).unwrap();
    assert_eq!(world.pass(Some(world.archive())).await.unwrap(), 1);
}

#[tokio::test]
async fn an_id_does_not_lead_out_of_the_folder() {
    let world = World::new().await;
    world.ended("../../x").await;
    world.clock.advance(8 * DAY);
    world.pass(Some(world.archive())).await.unwrap();
    assert!(world.archive().join("%2E%2E%2F%2E%2E%2Fx/main/2026-01-01").is_dir());
}

#[tokio::test]
async fn what_is_archived_again_replaces_itself() {
    let world = World::new().await;
    let run = world.ended("acme").await;
    world.clock.advance(8 * DAY);
    let record = world.store.run(&scope("acme"), run).await.unwrap();
    let folder = Folder(world.archive());
    for lines in ["half\n", "whole\n"] {
        folder.keep(ArchivedRun { record: record.clone(), lines: lines.into() }).await.unwrap();
    }
    let file = world.archive().join(format!("acme/main/2026-01-01/{run}.ndjson"));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "whole\n");
}
