//! Runs over HTTP: started, looked at, controlled, and what is refused.

use crate::{
    server::{Server, on_both},
    workflow::{PATIENCE, Workflow, asking, failing, greeting},
};
use agentruntime_engine::{
    database::Values,
    store::{Store, SystemClock},
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::{self, Instant};

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn a_run_is_started_waited_for_and_looked_at() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), greeting()).await;
        let ended = workflow.command_and_wait("start", json!({ "name": "Ada" })).await.expect(200);
        assert_eq!((&ended["status"], &ended["version"]), (&json!("completed"), &json!(1)));
        assert_eq!(ended["outputs"], json!({ "greet": { "text": "Hello Ada" } }));
        let run = ended["run_id"].as_str().unwrap();

        let read = workflow.get(&format!("/runs/{run}")).await.expect(200);
        assert_eq!((&read["started_at"], &read["finished_at"]), (&ended["started_at"], &ended["finished_at"]));
        assert_eq!((&read["outputs"], &read["trigger_type"]), (&ended["outputs"], &json!("manual")));
        let step = &read["steps"][0];
        assert_eq!(
            (&step["step_id"], &step["type"], &step["status"]),
            (&json!("greet"), &json!("lua_script"), &json!("completed"))
        );
        assert_eq!(step["attempt"], 1);

        let summary = workflow.get(&format!("/runs/{run}/summary")).await.expect(200);
        assert_eq!((&summary["status"], summary.get("steps")), (&json!("completed"), None));
        let context = workflow.get(&format!("/runs/{run}/context")).await.expect(200);
        assert_eq!(context["input"], json!({ "name": "Ada" }));
        assert_eq!(context["steps"]["greet"]["result"], json!({ "text": "Hello Ada" }));

        let events = workflow.events(run).await;
        let kinds: Vec<&str> = events.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["run_started", "step_started", "step_completed", "run_completed"]);
        let after = workflow.get(&format!("/runs/{run}/events?after_seq=2&limit=1")).await.expect(200);
        assert_eq!((&after["items"], &after["next_after_seq"]), (&json!([events[2]]), &json!(3)));
    })
    .await;
}

#[tokio::test]
async fn a_run_is_paused_resumed_stopped_and_retried() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), asking()).await;
        let (run, _) = workflow.start_asking(json!({})).await;
        let params = json!({ "run_id": run });
        let paused = workflow.command_and_wait("pause", params.clone()).await.expect(200);
        assert_eq!(paused["status"], "paused");
        workflow.command("pause", params.clone()).await.refused(409, "WRONG_STATUS");
        workflow.command("resume", params.clone()).await.expect(200);
        workflow.reaches(&run, "running").await;
        let stopped = workflow.command_and_wait("stop", params.clone()).await.expect(200);
        assert_eq!((&stopped["status"], &stopped["error"]["code"]), (&json!("stopped"), &json!("RUN_STOPPED")));
        workflow.command("retry", params).await.refused(409, "WRONG_STATUS");

        let unlucky = Workflow::publish(server.owner(), failing()).await;
        let failed = unlucky.command_and_wait("start", json!({})).await.expect(200);
        assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("LUA_ERROR")));
        let again = unlucky.command_and_wait("retry", json!({ "run_id": failed["run_id"] })).await.expect(200);
        assert_eq!(again["status"], "failed");
        let read = unlucky.get(&format!("/runs/{}", failed["run_id"].as_str().unwrap())).await.expect(200);
        assert_eq!(read["steps"][0]["attempt"], 2);
    })
    .await;
}

#[tokio::test]
async fn start_parameters_do_what_they_say() {
    let server = Server::start();
    let workflow = Workflow::publish(server.owner(), greeting()).await;
    let chosen = uuid::Uuid::now_v7().to_string();
    let params =
        json!({ "trigger_payload": { "name": "Ada" }, "run_id": chosen, "external_user_id": "u-7", "version": 1 });
    let ended = workflow.command_and_wait("start", params.clone()).await.expect(200);
    assert_eq!((&ended["run_id"], &ended["status"]), (&json!(chosen), &json!("completed")));
    workflow.command("start", params).await.refused(409, "RUN_EXISTS");
    let read = workflow.get(&format!("/runs/{chosen}")).await.expect(200);
    assert_eq!(read["external_user_id"], "u-7");

    let refused = workflow.command("start", json!({ "name": 7 })).await.refused(422, "INVALID_INPUT");
    assert_eq!(refused["issues"][0]["json_path"], "$.name");
    let unknown = json!({ "trigger_payload": { "name": "Ada" }, "excluded_step_ids": ["nothing"] });
    workflow.command("start", unknown).await.refused(422, "UNKNOWN_STEP");
    let misspelt = workflow.command("start", json!({ "version": "one" })).await.refused(422, "INVALID_PARAMS");
    assert_eq!(misspelt["details"]["field"], "version");
    workflow.command("start", json!([1])).await.refused(422, "INVALID_PARAMS");
    workflow.command("fly", json!({})).await.refused(422, "INVALID_BODY");
    let wait = workflow.path("/command?wait=61s");
    workflow.client.post(&wait, json!({ "command": "start" })).await.refused(400, "INVALID_QUERY");
}

#[tokio::test]
async fn an_answer_comes_when_the_time_is_over() {
    let server = Server::start();
    let graph = json!({ "steps": [{ "id": "sleep", "type": "sleep", "duration_s": 3600 }] });
    let workflow = Workflow::publish(server.owner(), graph).await;
    let path = workflow.path("/command?wait=300ms");
    let running = workflow.client.post(&path, json!({ "command": "start" })).await.expect(200);
    assert_eq!((&running["status"], &running["awaiting"]), (&json!("running"), &json!("timer")));
}

#[tokio::test]
async fn what_is_not_there_looks_like_what_is_elsewhere() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), greeting()).await;
        let other = Workflow::publish(server.owner(), greeting()).await;
        let run = workflow.start(json!({ "name": "Ada" })).await;
        for rest in ["", "/summary", "/events", "/context", "/tasks/pending"] {
            workflow.get(&format!("/runs/{NOBODY}{rest}")).await.refused(404, "RUN_NOT_FOUND");
            other.get(&format!("/runs/{run}{rest}")).await.refused(404, "RUN_NOT_FOUND");
            workflow.get(&format!("/runs/not-an-id{rest}")).await.refused(404, "NOT_FOUND");
        }
        other.command("stop", json!({ "run_id": run })).await.refused(404, "RUN_NOT_FOUND");
        let nowhere = Workflow { client: server.owner(), id: NOBODY.into() };
        nowhere.command("start", json!({})).await.refused(404, "WORKFLOW_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn runs_are_listed_from_the_newest_page_by_page() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), greeting()).await;
        let other = Workflow::publish(server.owner(), failing()).await;
        let mut started = Vec::new();
        for number in 0..5 {
            let ended = workflow.command_and_wait("start", json!({ "name": format!("{number}") })).await.expect(200);
            started.insert(0, ended["run_id"].clone());
        }
        other.command_and_wait("start", json!({})).await.expect(200);
        let mut listed: Vec<Value> = Vec::new();
        let mut rest = "/runs?limit=2".to_owned();
        loop {
            let page = workflow.get(&rest).await.expect(200);
            listed.extend(page["items"].as_array().unwrap().iter().map(|run| run["run_id"].clone()));
            match page["next_cursor"].as_str() {
                Some(cursor) => rest = format!("/runs?limit=2&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(listed, started);
        let failed = workflow.get("/runs?status=failed").await.expect(200);
        assert_eq!(failed["items"], json!([]));
        workflow.get("/runs?status=flying").await.refused(400, "INVALID_QUERY");
    })
    .await;
}

#[tokio::test]
async fn what_was_accepted_before_a_crash_ends_after_it() {
    on_both(|mut server| async move {
        let workflow = Workflow::publish(server.owner(), greeting()).await;
        let (accepted, mut heard) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..200 {
            let body = json!({ "command": "start", "params": { "name": format!("{number}") } });
            let request = workflow.client.request(reqwest::Method::POST, &workflow.path("/command")).json(&body);
            let accepted = accepted.clone();
            tokio::spawn(async move {
                // The crash answers nobody.
                let Ok(response) = request.send().await else { return };
                assert_eq!(response.status(), 200);
                if let Ok(body) = response.json::<Value>().await {
                    accepted.send(body["run_id"].as_str().unwrap().to_owned()).unwrap();
                }
            });
        }
        drop(accepted);
        let mut runs = Vec::new();
        while runs.len() < 20 {
            runs.push(heard.recv().await.expect("some are accepted"));
        }
        server.kill();
        while let Some(run) = heard.recv().await {
            runs.push(run);
        }
        let server = server.restart();
        let workflow = Workflow { client: server.owner(), id: workflow.id };
        let deadline = Instant::now() + PATIENCE;
        for run in &runs {
            time::timeout_at(deadline, workflow.reaches(run, "completed")).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn of_fifty_starts_at_once_under_one_key_one_starts() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), greeting()).await;
        let keyed = Workflow { client: workflow.client.with("idempotency-key", "order 7"), id: workflow.id.clone() };
        let starts = (0..50).map(|_| keyed.command("start", json!({ "name": "Ada" })));
        let answers = futures_util::future::join_all(starts).await;
        let first = &answers[0].body["run_id"];
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.body["run_id"] == *first), "{answers:#?}");
        let replayed = answers.iter().filter(|answer| answer.headers.contains_key("idempotency-replayed")).count();
        assert_eq!(replayed, 49);
        let runs = workflow.get("/runs").await.expect(200);
        assert_eq!(runs["items"].as_array().unwrap().len(), 1);

        // The order of keys makes no other body, and the result is that of the first start.
        let again = keyed.command_and_wait("start", json!({ "trigger_payload": { "name": "Ada" } })).await;
        again.refused(409, "IDEMPOTENCY_KEY_REUSED");
        let again = keyed.command_and_wait("start", json!({ "name": "Ada" })).await.expect(200);
        assert_eq!((&again["run_id"], &again["outputs"]["greet"]["text"]), (first, &json!("Hello Ada")));
        // Under another workflow the key is another one.
        let other = Workflow::publish(keyed.client.clone(), greeting()).await;
        let elsewhere = other.command("start", json!({ "name": "Ada" })).await.expect(200);
        assert_ne!(elsewhere["run_id"], *first);
    })
    .await;
}

#[tokio::test]
async fn a_key_has_a_form() {
    let server = Server::start();
    let workflow = Workflow::publish(server.owner(), greeting()).await;
    let with = |key: &str| Workflow { client: workflow.client.with("idempotency-key", key), id: workflow.id.clone() };
    with(&"k".repeat(256)).command("start", json!({ "name": "Ada" })).await.refused(400, "INVALID_IDEMPOTENCY_KEY");
    with("").command("start", json!({ "name": "Ada" })).await.refused(400, "INVALID_IDEMPOTENCY_KEY");
    with(&"k".repeat(255)).command("start", json!({ "name": "Ada" })).await.expect(200);
}

#[tokio::test]
async fn runs_of_all_projects_are_one_list() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), greeting()).await;
        let unlucky = Workflow::publish(server.owner(), failing()).await;
        let good = workflow.command_and_wait(
            "start",
            json!({ "trigger_payload": { "name": "Ada" }, "external_user_id": "Customer_7" }),
        );
        let good = good.await.expect(200);
        let bad = unlucky.command_and_wait("start", json!({})).await.expect(200);
        let client = &workflow.client;
        let listed = async |query: &str| -> Vec<Value> {
            let page = client.get(&format!("/v1/runs{query}")).await.expect(200);
            page["items"].as_array().unwrap().iter().map(|run| run["run_id"].clone()).collect()
        };
        let (good_id, bad_id) = (&good["run_id"], &bad["run_id"]);
        assert_eq!(listed("").await, [bad_id.clone(), good_id.clone()]);
        assert_eq!(listed("?status=failed").await, std::slice::from_ref(bad_id));
        assert_eq!(listed(&format!("?workflow_id={}", workflow.id)).await, std::slice::from_ref(good_id));
        assert_eq!(listed("?q=customer_7").await, std::slice::from_ref(good_id));
        assert_eq!(listed("?q=no%20luck").await, std::slice::from_ref(bad_id));
        assert_eq!(listed("?trigger=webhook").await, [] as [Value; 0]);
        assert_eq!(listed("?version=1&trigger=manual&children=false").await.len(), 2);
        let at = good["started_at"].as_str().unwrap();
        assert_eq!(
            listed(&format!("?started_to={}", bad["started_at"].as_str().unwrap())).await,
            std::slice::from_ref(good_id)
        );
        assert_eq!(listed(&format!("?started_from={at}")).await.len(), 2);
        client.get("/v1/runs?started_from=yesterday").await.refused(400, "INVALID_QUERY");
        client.get(&format!("/v1/runs?q={}", "x".repeat(201))).await.refused(400, "INVALID_QUERY");
    })
    .await;
}

#[tokio::test]
async fn a_start_takes_the_defaults_of_the_workflow_where_it_asks() {
    let server = Server::start();
    let workflow = Workflow::publish(server.owner(), greeting()).await;
    let setup = json!({ "run_setup": { "trigger_payload": { "name": "Grace", "extra": 1 } } });
    workflow.client.patch(&workflow.path(""), setup).await.expect(200);
    workflow.command("start", json!({ "use_run_setup_defaults": false })).await.refused(422, "INVALID_INPUT");
    let ended = workflow.command_and_wait("start", json!({ "use_run_setup_defaults": true })).await.expect(200);
    assert_eq!(ended["outputs"]["greet"]["text"], "Hello Grace");
    let params = json!({ "use_run_setup_defaults": true, "trigger_payload": { "name": "Ada" } });
    let ended = workflow.command_and_wait("start", params).await.expect(200);
    assert_eq!(ended["outputs"]["greet"]["text"], "Hello Ada");
    let run = ended["run_id"].as_str().unwrap();
    let context = workflow.get(&format!("/runs/{run}/context")).await.expect(200);
    assert_eq!(context["input"], json!({ "name": "Ada", "extra": 1 }));

    workflow.client.delete(&workflow.path("")).await.expect(204);
    workflow.command("start", json!({ "name": "Ada" })).await.refused(409, "WORKFLOW_ARCHIVED");
    workflow.get(&format!("/runs/{run}")).await.expect(200);
}

#[tokio::test]
async fn a_start_that_was_accepted_names_its_run_also_when_the_database_is_gone() {
    let Some(postgres) = agentruntime_tests::postgres::server() else { return };
    let server = Server::start_with(Some(&postgres.database()), &[]);
    let sleeping = json!({ "steps": [{ "id": "rest", "type": "sleep", "duration_s": 3600 }] });
    let workflow = Workflow::publish(server.owner(), sleeping).await;
    let (path, start) = (workflow.path("/command?wait=20s"), json!({ "command": "start" }));
    let keyed = server.owner().with("idempotency-key", "once");
    let waiting = {
        let (keyed, path, start) = (keyed.clone(), path.clone(), start.clone());
        tokio::spawn(async move { keyed.post(&path, start).await })
    };
    let run = loop {
        let runs = workflow.get("/runs").await.expect(200);
        if let Some(run) = runs["items"].as_array().unwrap().first() {
            break run["run_id"].clone();
        }
    };
    let store = Store::open(&server.data.parse().unwrap(), Arc::new(SystemClock)).await.unwrap();
    store.database().write("ALTER TABLE runs RENAME TO away", Values::default()).await.unwrap();
    // Its key is known, and the run is not to be read.
    let repeat = keyed.post(&path, start).await.refused(503, "STARTED_UNSEEN");
    assert_eq!(repeat["details"]["run_id"], run);
    let answered = waiting.await.unwrap().expect(200);
    assert_eq!((&answered["run_id"], &answered["status"]), (&run, &json!("running")));
}

#[tokio::test]
async fn parameters_of_a_start_mixed_with_an_input_start_nothing() {
    let server = Server::start();
    let workflow = Workflow::publish(server.owner(), greeting()).await;
    let refused =
        workflow.command("start", json!({ "name": "Ada", "version": 1 })).await.refused(422, "INVALID_PARAMS");
    assert!(refused["error"].as_str().unwrap().contains("`trigger_payload`"), "{refused}");
    assert_eq!(workflow.get("/runs").await.expect(200)["items"], json!([]));
}
