//! Many at once, and the end of the process in the middle of it.

use crate::server::{Client, Server};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

const AT_ONCE: usize = 1_000;
/// How long all of them may take, on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(120);

fn two_steps() -> Value {
    json!({ "steps": [
        { "id": "a", "type": "lua_script", "script": "return { n = input.n + 1 }" },
        { "id": "b", "type": "lua_script", "depends_on": ["a"], "script": "return { n = steps.a.result.n * 2 }" },
    ] })
}

async fn published(owner: &Client) -> String {
    let workflow = owner.post("/v1/workflows", json!({ "name": "load", "graph": two_steps() })).await.expect(201);
    let id = workflow["id"].as_str().unwrap().to_owned();
    owner.post(&format!("/v1/workflows/{id}/versions"), json!({})).await.expect(201);
    id
}

#[tokio::test]
async fn a_thousand_requests_at_once_each_get_their_own_finished_run() {
    let server = Server::unlimited();
    let owner = server.owner();
    let workflow = published(&owner).await;
    let path = format!("/v1/workflows/{workflow}/command?wait=60s");
    let one = |n: usize| {
        let (owner, path) = (owner.clone(), path.clone());
        async move {
            let begun = Instant::now();
            let run = owner.post(&path, json!({ "command": "start", "params": { "n": n } })).await.expect(200);
            assert_eq!(run["status"], "completed", "{run:#}");
            assert_eq!(run["outputs"]["b"]["n"], (n + 1) * 2, "{run:#}");
            (run["run_id"].as_str().unwrap().to_owned(), begun.elapsed())
        }
    };
    let answers = join_all((0..AT_ONCE).map(one)).await;
    let ids: HashSet<&String> = answers.iter().map(|(run, _)| run).collect();
    assert_eq!(ids.len(), AT_ONCE);
    let mut times: Vec<Duration> = answers.iter().map(|(_, time)| *time).collect();
    times.sort_unstable();
    eprintln!("{AT_ONCE} starts at once: p50 {:?}, p99 {:?}", times[AT_ONCE / 2], times[AT_ONCE * 99 / 100]);
}

#[tokio::test]
async fn what_was_accepted_before_a_kill_ends_after_it() {
    let mut server = Server::unlimited();
    let owner = server.owner();
    let workflow = published(&owner).await;
    let path = format!("/v1/workflows/{workflow}/command");
    let one = |n: usize| {
        let (owner, path) = (owner.clone(), path.clone());
        async move {
            let body = json!({ "command": "start", "params": { "n": n } });
            // After the kill there is nobody to answer.
            let answer = owner.request(Method::POST, &path).json(&body).send().await.ok()?;
            let run: Value = answer.error_for_status().ok()?.json().await.ok()?;
            Some(run["run_id"].as_str()?.to_owned())
        }
    };
    let load = tokio::spawn(join_all((0..AT_ONCE).map(one)));
    // As soon as some have been accepted, and long before all have.
    let deadline = Instant::now() + DEADLINE;
    while owner.get(&format!("/v1/workflows/{workflow}/runs?limit=1")).await.expect(200)["items"] == json!([]) {
        assert!(Instant::now() < deadline, "no start was accepted");
    }
    server.kill();
    let accepted: Vec<String> = load.await.unwrap().into_iter().flatten().collect();
    assert!(!accepted.is_empty());
    let server = server.restart();
    let owner = server.owner();
    for run in &accepted {
        loop {
            let summary = owner.get(&format!("/v1/workflows/{workflow}/runs/{run}/summary")).await.expect(200);
            if summary["status"] == "completed" {
                break;
            }
            assert!(Instant::now() < deadline, "run {run} does not end: {summary:#}");
            tokio::task::yield_now().await;
        }
    }
}
