//! What a service says and does when its database is away, stands still, or takes no writes, and that it goes on by itself.

use crate::{
    server::{Answer, Program, Server},
    workflow::{PATIENCE, Workflow, asking, greeting},
};
use agentruntime_tests::postgres;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What a request may take whose dependency is away: far less than the half minute for which a pool waits of itself.
const SOON: Duration = Duration::from_secs(7);

/// Asks until the service is ready, or is not for this reason; gives the answer.
async fn until_ready(server: &Server, wanted: Result<(), &str>) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = Instant::now();
        let answer = server.anybody().get("/readyz").await;
        assert!(asked.elapsed() < SOON, "/readyz took {:?}", asked.elapsed());
        let is_met = match wanted {
            Ok(()) => answer.status == 200,
            Err(check) => answer.status == 503 && answer.body["details"]["checks"][check] == false,
        };
        if is_met {
            return answer.body;
        }
        assert!(Instant::now() < deadline, "never so: {wanted:?}; it says {:#}", answer.body);
    }
}

/// A start, as the API is asked for it.
async fn start(workflow: &Workflow) -> Answer {
    workflow.command("start", json!({ "name": "Ada" })).await
}

#[tokio::test]
async fn a_database_that_is_away_is_named_at_once_and_used_again_when_it_is_back() {
    let Some(postgres) = postgres::own_server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let server = Server::logging_on(Some(&postgres.database()), &log, &["--requests-per-minute", "0"]);
    let workflow = Workflow::publish(server.owner(), asking()).await;
    let waiting = start(&workflow).await.expect(200)["run_id"].clone();
    postgres.stop();
    let asked = Instant::now();
    server.owner().get("/v1/workflows").await.refused(503, "DEPENDENCY_UNAVAILABLE");
    assert!(asked.elapsed() < SOON, "the first request took {:?}", asked.elapsed());
    let told = until_ready(&server, Err("database")).await;
    assert!(told["details"]["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{told:#}");
    let asked = Instant::now();
    for _ in 0..50 {
        let refused = server.owner().get("/v1/workflows").await;
        assert_eq!(refused.headers["retry-after"], "5");
        let body = refused.refused(503, "DEPENDENCY_UNAVAILABLE");
        assert!(body["error"].as_str().unwrap().contains("database"), "{body:#}");
        start(&workflow).await.refused(503, "DEPENDENCY_UNAVAILABLE");
    }
    assert!(asked.elapsed() < SOON, "a hundred requests took {:?}", asked.elapsed());
    server.anybody().get("/healthz").await.expect(200);
    postgres.start();
    until_ready(&server, Ok(())).await;
    server.owner().get("/v1/workflows").await.expect(200);
    start(&workflow).await.expect(200);
    // What was begun before is there, and goes on.
    workflow.reaches(waiting.as_str().unwrap(), "running").await;
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(lines(&text, "the database cannot be reached"), 1, "{text}");
    // Those who found out, and nobody after them.
    assert!(lines(&text, "a dependency does not answer") < 5, "{text}");
}

fn lines(log: &str, about: &str) -> usize {
    log.lines().filter(|line| line.contains(about) && !line.contains("still:")).count()
}

#[tokio::test]
async fn a_database_that_stands_still_is_noticed() {
    let Some(postgres) = postgres::own_server() else { return };
    let server = Server::start_with(Some(&postgres.database()), &[]);
    server.owner().get("/v1/workflows").await.expect(200);
    postgres.freeze();
    let asked = Instant::now();
    server.owner().get("/v1/workflows").await.refused(503, "DEPENDENCY_UNAVAILABLE");
    assert!(asked.elapsed() < SOON, "the first request took {:?}", asked.elapsed());
    until_ready(&server, Err("database")).await;
    postgres.thaw();
    until_ready(&server, Ok(())).await;
    server.owner().get("/v1/workflows").await.expect(200);
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_read_and_not_ready() {
    let Some(postgres) = postgres::own_server() else { return };
    let server = Server::start_with(Some(&postgres.database()), &[]);
    let workflow = Workflow::publish(server.owner(), greeting()).await;
    postgres.execute("ALTER SYSTEM SET default_transaction_read_only = on");
    postgres.execute("SELECT pg_reload_conf()");
    // Sessions hear of it a moment later each.
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let answer = start(&workflow).await;
        if answer.status == 503 {
            break answer.refused(503, "DEPENDENCY_UNAVAILABLE");
        }
        assert!(Instant::now() < deadline, "writes are taken still");
    };
    assert!(refused["error"].as_str().unwrap().contains("takes no writes"), "{refused:#}");
    let told = until_ready(&server, Err("storage")).await;
    assert_eq!(told["details"]["checks"]["database"], true);
    assert!(told["details"]["cause"].as_str().is_some_and(|cause| cause.contains("read-only")), "{told:#}");
    server.owner().get("/v1/workflows").await.expect(200);
    postgres.execute("ALTER SYSTEM RESET default_transaction_read_only");
    postgres.execute("SELECT pg_reload_conf()");
    until_ready(&server, Ok(())).await;
    start(&workflow).await.expect(200);
}

/// A file system of a few megabytes, unmounted when it goes.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where this machine does not let us mount one.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m", "none"]).arg(folder.path()).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        eprintln!("skipped: a small file system cannot be mounted here");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).unwrap();
        for size in [65_536, 4_096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What cannot be unmounted now is when the service has ended.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_left_behind() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let data = disk.path().join("data");
    let server = Server::logging_on(Some(data.to_str().unwrap()), &log, &["--requests-per-minute", "0"]);
    let workflow = Workflow::publish(server.owner(), asking()).await;
    let waiting = start(&workflow).await.expect(200)["run_id"].as_str().unwrap().to_owned();
    disk.fill();
    // The log of the database had some room of its own.
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let answer = start(&workflow).await;
        if answer.status == 503 {
            break answer.refused(503, "DEPENDENCY_UNAVAILABLE");
        }
        assert!(Instant::now() < deadline, "starts are taken still");
    };
    assert!(refused["error"].as_str().unwrap().contains("storage"), "{refused:#}");
    let told = until_ready(&server, Err("storage")).await;
    assert!(told["details"]["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{told:#}");
    for _ in 0..100 {
        start(&workflow).await.refused(503, "DEPENDENCY_UNAVAILABLE");
    }
    workflow.get(&format!("/runs/{waiting}/summary")).await.expect(200);
    // Some seconds of it, in which nobody else writes to the log.
    for _ in 0..200 {
        until_ready(&server, Err("storage")).await;
    }
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(lines(&text, "takes no writes"), 1, "{text}");
    assert!(text.lines().count() < 20, "{text}");
    disk.make_room();
    until_ready(&server, Ok(())).await;
    start(&workflow).await.expect(200);
}

#[tokio::test]
async fn a_service_that_ends_on_a_full_disk_says_where_it_could_not_write_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let data = disk.path().join("data");
    let data = data.to_str().unwrap();
    let mut server = Server::logging_on(Some(data), &log, &["--requests-per-minute", "0"]);
    let workflow = Workflow::publish(server.owner(), asking()).await;
    disk.fill();
    let deadline = Instant::now() + PATIENCE;
    let mut accepted = Vec::new();
    loop {
        let answer = start(&workflow).await;
        if answer.status == 503 {
            break;
        }
        accepted.push(answer.expect(200)["run_id"].as_str().unwrap().to_owned());
        assert!(Instant::now() < deadline, "starts are taken still");
    }
    server.signal("TERM");
    assert_eq!(server.ended(), Some(2));
    let text = fs::read_to_string(&log).unwrap();
    let told: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(told["code"], "NOT_ENDED_IN_ORDER");
    let sentence = told["error"].as_str().unwrap();
    let is_told_why = sentence.contains("full") || sentence.contains("No space left");
    assert!(sentence.contains(data) && is_told_why, "{sentence}");
    // What is in the log of the time before names the folder, too.
    let begun = text.lines().find(|line| line.contains("takes no writes")).unwrap();
    assert!(begun.contains(data), "{begun}");
    disk.make_room();
    let server = server.restart();
    let workflow = Workflow { client: server.owner(), id: workflow.id };
    for run in accepted {
        workflow.reaches(&run, "running").await;
    }
}

/// The program, told to serve from a database; its log and its greeting can be read.
fn launch(folder: &Path, database: &str) -> std::process::Child {
    let mut command = Program::command(folder);
    command.args(["dev", "--json", "--listen", "127.0.0.1:0", "--data", database]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[tokio::test]
async fn a_service_waits_for_its_database_and_says_so() {
    let Some(postgres) = postgres::own_server() else { return };
    let database = postgres.database().replace("postgres@", "postgres:hush@");
    postgres.stop();
    let folder = tempfile::tempdir().unwrap();
    let mut process = launch(folder.path(), &database);
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let told = log.next().unwrap().unwrap();
    let place = format!("host 127.0.0.1, port {}, database test_0, user postgres", postgres.port());
    assert!(told.contains(&place) && told.contains("refused") && told.contains("trying again"), "{told}");
    assert!(!told.contains("hush"), "{told}");
    postgres.start();
    let mut greeting = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
    assert!(greeting.contains("\"url\""), "{greeting}");
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_command_tells_at_once_which_database_it_does_not_reach_and_why() {
    let Some(postgres) = postgres::own_server() else { return };
    let database = postgres.database().replace("postgres@", "postgres:hush@");
    postgres.stop();
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let output = Program::command(folder.path()).args(["runs", "--json", "--data", &database]).output().unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        told.contains("STORE_UNAVAILABLE") && told.contains("host 127.0.0.1") && told.contains("refused"),
        "{told}"
    );
    assert!(!told.contains("hush"), "{told}");
}
