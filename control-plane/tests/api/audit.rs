//! The log of who did what.

use crate::{
    hooks::published,
    server::{Server, on_both},
};
use agentruntime_engine::{
    database::Values,
    store::{Store, SystemClock},
};
use serde_json::json;
use std::sync::Arc;

#[tokio::test]
async fn what_was_done_is_told_with_who_and_where() {
    on_both(|server| async move {
        let admin = server.admin();
        let made = admin.post("/v1/pats", json!({ "name": "ci", "scopes": ["workflow:read"] })).await;
        let request = made.headers["x-request-id"].to_str().unwrap().to_owned();
        let id = made.expect(201)["pat"]["id"].clone();
        let log = admin.get("/v1/audit?action=pat.create&limit=1").await.expect(200);
        let line = &log["items"][0];
        assert_eq!((&line["target"], &line["request_id"]), (&id, &json!(request)));
        assert_eq!((&line["address"], &line["details"]["name"]), (&json!("127.0.0.1"), &json!("ci")));
        assert!(line["user_id"].is_string() && line["pat_id"].is_string(), "{line}");
        let user = line["user_id"].as_str().unwrap();
        let of = async |query: &str| {
            let log = admin.get(&format!("/v1/audit?{query}")).await.expect(200);
            log["items"].as_array().unwrap().len()
        };
        // The workspace, the project, two tokens of the first start, and this one.
        assert_eq!(of("").await, 5);
        assert_eq!(of(&format!("user={user}")).await, 5);
        assert_eq!(of("user=00000000-0000-7000-8000-000000000000").await, 0);
        assert_eq!(of("to=2001-01-01T00:00:00Z").await, 0);
        assert_eq!(of("from=2001-01-01T00:00:00Z&action=tenant.create").await, 1);
        admin.get("/v1/audit?from=yesterday").await.refused(422, "INVALID_FIELD");
        server.owner().get("/v1/audit").await.refused(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn pages_of_the_log_follow_each_other_and_its_chain_holds() {
    on_both(|server| async move {
        let admin = server.admin();
        let mut seen = Vec::new();
        let mut path = "/v1/audit?limit=3".to_owned();
        loop {
            let page = admin.get(&path).await.expect(200);
            seen.extend(page["items"].as_array().unwrap().iter().map(|line| line["seq"].as_u64().unwrap()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/audit?limit=3&cursor={next}");
        }
        assert_eq!(seen, [4, 3, 2, 1]);
        let found = admin.get("/v1/audit/integrity").await.expect(200);
        assert_eq!((&found["intact"], &found["complete"], &found["head_seq"]), (&json!(true), &json!(true), &json!(4)));
        let found = admin.get("/v1/audit/integrity?after_seq=3").await.expect(200);
        assert_eq!((&found["intact"], &found["checked_through"]), (&json!(true), &json!(4)));
    })
    .await;
}

#[tokio::test]
async fn what_was_done_with_one_token_is_found() {
    on_both(|server| async move {
        let (owner, admin) = (server.owner(), server.admin());
        let workflow = published(&owner).await;
        let new = json!({ "name": "leaked", "scopes": ["workflow:run", "workflow:read"], "project_id": "default" });
        let made = admin.post("/v1/pats", new).await.expect(201);
        let (leaked, pat) = (server.holder(made["token"].as_str().unwrap()), made["pat"]["id"].as_str().unwrap());
        let command = format!("/v1/workflows/{workflow}/command");
        let run = leaked.post(&command, json!({ "command": "start" })).await.expect(200)["run_id"].clone();
        owner.post(&command, json!({ "command": "start" })).await.expect(200);
        leaked.post(&command, json!({ "command": "stop", "params": { "run_id": run } })).await.expect(200);
        let runs = admin.get(&format!("/v1/runs?pat_id={pat}")).await.expect(200);
        let runs = runs["items"].as_array().unwrap();
        assert_eq!((runs.len(), &runs[0]["run_id"], &runs[0]["pat_id"]), (1, &run, &json!(pat)));
        let path = format!("/v1/workflows/{workflow}/runs/{}/events", run.as_str().unwrap());
        assert_eq!(owner.get(&path).await.expect(200)["items"][0]["data"]["pat_id"], pat);
        let log = admin.get(&format!("/v1/audit?pat_id={pat}")).await.expect(200);
        let lines = log["items"].as_array().unwrap();
        assert_eq!((lines.len(), &lines[0]["action"], &lines[0]["target"]), (1, &json!("run.stop"), &run));
    })
    .await;
}

#[tokio::test]
async fn nothing_is_done_to_a_run_that_no_line_tells() {
    let Some(postgres) = agentruntime_tests::postgres::server() else { return };
    let server = Server::start_with(Some(&postgres.database()), &[]);
    let owner = server.owner();
    let workflow = published(&owner).await;
    let command = format!("/v1/workflows/{workflow}/command");
    let run = owner.post(&format!("{command}?wait=30s"), json!({ "command": "start" })).await.expect(200);
    let run = run["run_id"].as_str().unwrap();
    let own = format!("/v1/workflows/{workflow}/runs/{run}");
    let task = owner.get(&format!("{own}/tasks/pending")).await.expect(200)["items"][0]["task_id"].clone();
    // Whatever was refused is not told, either.
    owner
        .post(&command, json!({ "command": "resume", "params": { "run_id": run } }))
        .await
        .refused(409, "WRONG_STATUS");
    let log = server.admin().get("/v1/audit?action=run.resume").await.expect(200);
    assert_eq!(log["items"], json!([]));
    let store = Store::open(&server.data.parse().unwrap(), Arc::new(SystemClock)).await.unwrap();
    store.database().write("ALTER TABLE audit_log RENAME TO away", Values::default()).await.unwrap();
    let stop = json!({ "command": "stop", "params": { "run_id": run } });
    owner.post(&command, stop).await.refused(503, "DEPENDENCY_UNAVAILABLE");
    let complete = format!("{own}/tasks/{}/complete", task.as_str().unwrap());
    owner.post(&complete, json!({ "approved": true })).await.refused(503, "DEPENDENCY_UNAVAILABLE");
    let still = owner.get(&own).await.expect(200);
    assert_eq!((&still["status"], &still["awaiting"]), (&json!("running"), &json!("human_task")));
}
