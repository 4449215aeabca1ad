//! Old runs, and a service that is to remove them. What goes and what stays is tested where it is decided.

use crate::server::{Server, on_both};
use agentruntime_engine::{
    run::event::{Event, EventKind, RunStatus},
    store::{Append, Chunk, Lease, ManualClock, NewRun, NodeId, Release, RowUpdate, Scope, Store},
};
use agentruntime_host_api::{Json, ProjectId, RunId, TenantId, Timestamp, WorkflowId};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// 2021-02-03T04:05:06Z
const LONG_AGO: Timestamp = Timestamp::from_micros(1_612_325_106_000_000);
/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_service_archives_old_runs_when_it_starts() {
    on_both(|mut server| async move {
        server.kill();
        let scope = Scope { tenant: TenantId::new("acme"), project: ProjectId::new("main") };
        let run = ended_long_ago(&server.data, scope, Json::empty_object()).await;
        let archive = server.folder.path().join("archive");
        let file = archive.join(format!("acme/main/2021-02-03/{run}.ndjson"));
        let arguments = ["--retention-days", "1", "--archive-dir", archive.to_str().unwrap()];
        let server = server.restart_with(&arguments);
        let deadline = Instant::now() + PATIENCE;
        while !file.exists() {
            assert!(Instant::now() < deadline, "{} is not there", file.display());
            server.anybody().get("/healthz").await;
        }
        let lines = std::fs::read_to_string(&file).unwrap();
        assert_eq!(lines.lines().count(), 2, "{lines}");
    })
    .await;
}

#[tokio::test]
async fn the_log_names_the_folder_that_takes_no_archive_and_the_setting_that_names_it() {
    let mut server = Server::start();
    server.kill();
    let scope = Scope { tenant: TenantId::new("acme"), project: ProjectId::new("main") };
    ended_long_ago(&server.data, scope, Json::empty_object()).await;
    let (archive, log) = (server.folder.path().join("archive"), server.folder.path().join("log"));
    std::fs::create_dir(&archive).unwrap();
    // Where the folder of the workspace would be made, there is a file.
    std::fs::write(archive.join("acme"), "").unwrap();
    let _server = server.restart_logging(&log, &["--retention-days", "1", "--archive-dir", archive.to_str().unwrap()]);
    let line = logged(&log, "`archive_dir`").await;
    assert!(line.contains(archive.to_str().unwrap()) && line.contains("ERROR"), "{line}");
}

#[tokio::test]
async fn a_pass_that_removed_something_says_how_much() {
    let mut server = Server::start();
    server.kill();
    for _ in 0..3 {
        let scope = Scope { tenant: TenantId::new("acme"), project: ProjectId::new("main") };
        ended_long_ago(&server.data, scope, Json::empty_object()).await;
    }
    let log = server.folder.path().join("log");
    let _server = server.restart_logging(&log, &["--retention-days", "1", "--log", "info"]);
    let line = logged(&log, "removed runs that ended long ago").await;
    assert!(line.contains("runs=3"), "{line}");
}

/// The first line of a log that holds a text.
async fn logged(log: &Path, text: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lines = std::fs::read_to_string(log).unwrap();
        // A line is whole when its end is there.
        if let Some(line) = lines.split_inclusive('\n').find(|line| line.contains(text) && line.ends_with('\n')) {
            return line.to_owned();
        }
        assert!(Instant::now() < deadline, "`{text}` is not in {lines}");
        tokio::task::yield_now().await;
    }
}

/// Puts an old run into the database of a service that does not work.
pub(crate) async fn ended_long_ago(data: &str, scope: Scope, outputs: Json) -> RunId {
    let store = Store::open(&data.parse().unwrap(), Arc::new(ManualClock::at(LONG_AGO))).await.unwrap();
    let run = RunId::new_v7();
    let kind = EventKind::RunCompleted { outputs };
    let new = NewRun {
        run,
        scope,
        workflow: WorkflowId::new("triage"),
        version: 1,
        started_at: LONG_AGO,
        parent: None,
        trigger_type: "manual".into(),
        user_id: None,
        pat_id: None,
        external_user_id: None,
        keys: Vec::new(),
        events: Chunk::of(&[Event { seq: 1, at: LONG_AGO, kind }]),
    };
    let row = RowUpdate { status: RunStatus::Completed, awaiting: None, finished_at: Some(LONG_AGO), error: None };
    let release = Some(Release { wake_at: None });
    let created = Append { row, release, ..Append::create(Lease { run, epoch: 1 }, new) };
    store.commit(&NodeId("n".into()), Duration::from_secs(10), &[created]).await.unwrap();
    store.close().await;
    run
}
