//! Refusals speak for themselves: what is wrong, where, and what to do, in our words and not in a library's.

use crate::{
    server::{Answer, Server},
    workflow::{Workflow, asking, greeting},
};
use serde_json::json;

#[tokio::test]
async fn no_refusal_speaks_in_a_library_s_words() {
    let server = Server::unlimited();
    let owner = server.owner();
    let workflow = Workflow::publish(owner.clone(), greeting()).await;
    let told = |answer: Answer, code: &str| {
        assert_eq!(answer.body["code"], code, "{:#}", answer.body);
        answer.body["error"].as_str().unwrap().to_owned()
    };
    let graph = owner.post("/v1/workflows", json!({ "name": "x", "graph": [] })).await;
    assert!(told(graph, "INVALID_FIELD").ends_with("and this is a list"));
    let setup = workflow.client.patch(&workflow.path(""), json!({ "run_setup": { "excluded_step_ids": 7 } })).await;
    assert!(told(setup, "INVALID_FIELD").contains("a list of steps' ids"));
    let cron = workflow
        .client
        .post(
            &workflow.path("/triggers"),
            json!({ "cron": "0 25 * * *", "timezone": "UTC", "trigger_payload": { "name": "Ada" } }),
        )
        .await;
    assert!(told(cron, "INVALID_FIELD").contains("`25` is no hour"));
    for (name, value, part) in [
        ("run_id", json!("x"), "a UUID"),
        ("version", json!("one"), "a whole number"),
        ("excluded_step_ids", json!("a"), "a list"),
        ("trigger_steps", json!([]), "an object"),
        ("use_run_setup_defaults", json!("yes"), "`true` or `false`"),
    ] {
        let sentence = told(workflow.command("start", json!({ name: value })).await, "INVALID_PARAMS");
        assert!(sentence.contains(part) && sentence.contains(name), "{sentence}");
    }
    // Each names the parameter, for programs, too.
    for (query, field) in [
        ("/v1/workflows?limit=0", "limit"),
        ("/v1/workflows?q=%07", "q"),
        ("/v1/runs?status=flying", "status"),
        ("/v1/runs?started_from=yesterday", "started_from"),
    ] {
        let refused = owner.get(query).await.refused(400, "INVALID_QUERY");
        assert_eq!(refused["details"]["field"], field, "{refused:#}");
        assert!(refused["details"]["reason"].is_string(), "{refused:#}");
    }
    let nowhere = owner.get("/workflows").await.refused(404, "ROUTE_NOT_FOUND");
    assert!(nowhere["error"].as_str().unwrap().contains("begin with /v1/"), "{nowhere:#}");
}

#[tokio::test]
async fn a_command_that_does_not_fit_a_run_says_what_does() {
    let server = Server::unlimited();
    let workflow = Workflow::publish(server.owner(), greeting()).await;
    let ended = workflow.command_and_wait("start", json!({ "name": "Ada" })).await.expect(200)["run_id"].clone();
    for command in ["pause", "resume", "stop"] {
        let refused = workflow.command(command, json!({ "run_id": ended })).await.refused(409, "WRONG_STATUS");
        assert!(refused["error"].as_str().unwrap().ends_with("`start` begins another run"), "{refused:#}");
    }
    let workflow = Workflow::publish(server.owner(), asking()).await;
    let (run, _) = workflow.start_asking(json!({})).await;
    let resumed = workflow.command("resume", json!({ "run_id": run })).await.refused(409, "WRONG_STATUS");
    assert!(resumed["error"].as_str().unwrap().ends_with("goes on by itself"), "{resumed:#}");
    workflow.command_and_wait("pause", json!({ "run_id": run })).await.expect(200);
    let paused = workflow.command("pause", json!({ "run_id": run })).await.refused(409, "WRONG_STATUS");
    assert!(paused["error"].as_str().unwrap().contains("paused already; `resume`"), "{paused:#}");
}

#[tokio::test]
async fn a_parameter_of_a_start_that_is_misspelt_is_told_with_the_run_and_with_the_refusal() {
    let server = Server::start();
    let workflow = Workflow::publish(server.owner(), asking()).await;
    let misspelt = json!({ "triger_payload": { "name": "Ada" } });
    let started = workflow.command("start", misspelt.clone()).await.expect(200);
    assert!(started["warnings"][0].as_str().unwrap().contains("if `trigger_payload` was meant"), "{started:#}");
    assert!(workflow.command("start", json!({ "name": "Ada" })).await.expect(200).get("warnings").is_none());
    let workflow = Workflow::publish(server.owner(), greeting()).await;
    let refused = workflow.command("start", misspelt).await.refused(422, "INVALID_INPUT");
    assert!(refused["error"].as_str().unwrap().contains("if `trigger_payload` was meant"), "{refused:#}");
    // And what is missing is named, with what to write.
    for command in ["pause", "stop"] {
        let missing = workflow.client.post(&workflow.path("/command"), json!({ "command": command })).await;
        let missing = missing.refused(422, "INVALID_PARAMS");
        assert_eq!(missing["details"]["field"], "params.run_id");
        assert!(missing["error"].as_str().unwrap().contains("`\"params\": { \"run_id\""), "{missing:#}");
    }
}
