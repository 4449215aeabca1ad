//! Pausing, stopping and retrying runs, and beginning new ones from old.

use crate::program::Desk;
use serde_json::json;

fn waiting_run(desk: &Desk) {
    let graph = desk.graph(
        "asking",
        &json!({ "steps": [
        { "id": "ask", "type": "human_task", "task_type": "approval" },
        { "id": "after", "type": "lua_script", "depends_on": ["ask"], "script": "return { done = true }" },
    ] }),
    );
    desk.run(&["run", &graph]).expect(3);
}

#[test]
fn a_paused_run_starts_nothing_until_it_is_resumed() {
    let desk = Desk::new();
    waiting_run(&desk);
    assert_eq!(desk.run(&["pause", "last", "--json"]).expect(0).json()["status"], "paused");
    let paused = desk.run(&["task", "complete", "last", "ask", "--approve", "--json"]).expect(3).summary();
    assert_eq!((&paused["status"], &paused["awaiting"]), (&json!("paused"), &json!("resume")));
    assert!(desk.run(&["show", "last"]).expect(0).stdout.contains("agentruntime resume "));
    assert_eq!(desk.run(&["resume", "last"]).expect(0).json(), json!({ "after": { "done": true } }));
    let refused = desk.run(&["pause", "last", "--json"]).expect(2).error();
    assert_eq!(refused["code"], "WRONG_STATUS");
}

#[test]
fn a_stopped_run_stays_stopped() {
    for more in [&[] as &[&str], &["--graceful"]] {
        let desk = Desk::new();
        waiting_run(&desk);
        assert_eq!(desk.run(&[&["stop", "last", "--json"], more].concat()).expect(0).json()["status"], "stopped");
        let resumed = desk.run(&["resume", "last", "--json"]).expect(1).summary();
        assert_eq!((&resumed["status"], &resumed["error"]["code"]), (&json!("stopped"), &json!("RUN_STOPPED")));
        desk.run(&["stop", "last"]).expect(2);
    }
}

#[test]
fn a_failed_run_is_tried_again_from_the_failed_step() {
    let desk = Desk::new();
    let graph = desk.graph(
        "failing",
        &json!({ "steps": [
        { "id": "first", "type": "lua_script", "script": "return { n = 1 }" },
        { "id": "boom", "type": "lua_script", "depends_on": ["first"], "script": "local t = nil\nreturn t.x" },
    ] }),
    );
    let failed = desk.run(&["run", &graph]).expect(1);
    assert!(failed.stderr.contains("boom:2: attempt to index a nil value"), "{}", failed.stderr);
    let shown = desk.run(&["show", "last"]).expect(0).stdout;
    for part in ["LUA_ERROR", "boom:2:", "stack traceback:", "agentruntime retry "] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let again = desk.run(&["retry", "last", "--json"]).expect(1);
    let started: Vec<_> = again.lines().into_iter().filter(|event| event["event_type"] == "step_started").collect();
    assert_eq!(started.len(), 1, "{}", again.stdout);
    assert_eq!((&started[0]["step_id"], &started[0]["attempt"]), (&json!("boom"), &json!(2)));
}

#[test]
fn a_run_whose_input_was_refused_is_not_tried_again() {
    let desk = Desk::new();
    let step = json!({ "id": "a", "type": "lua_script", "script": "return {}" });
    let child = desk.graph("child", &json!({ "input_schema": [{ "name": "n", "type": "integer" }], "steps": [step] }));
    desk.run(&["publish", &child]).expect(0);
    let call = json!({ "id": "call", "type": "workflow_call", "workflow_id": "child", "input": { "n": "x" } });
    let parent = desk.graph("parent", &json!({ "steps": [call] }));
    desk.run(&["run", &parent]).expect(1);
    let runs = desk.run(&["runs", "--workflow", "child", "--json"]).expect(0).json();
    assert_eq!(runs[0]["error"]["code"], "INVALID_INPUT");
    let refused = desk.run(&["retry", runs[0]["run_id"].as_str().unwrap()]).expect(2);
    assert!(refused.stderr.contains("its input was refused"), "{}", refused.stderr);
}

#[test]
fn a_completed_run_cannot_be_retried_and_says_what_can_be_done() {
    let desk = Desk::new();
    let graph = desk.graph("fine", &json!({ "steps": [{ "id": "a", "type": "lua_script", "script": "return {}" }] }));
    desk.run(&["run", &graph]).expect(0);
    let refused = desk.run(&["retry", "last"]).expect(2);
    assert!(refused.stderr.contains("--resume-from"), "{}", refused.stderr);
}

#[test]
fn a_new_run_takes_over_the_results_of_an_earlier_one() {
    let desk = Desk::new();
    let script = |text: &str| format!("return {{ at = run.run_id, n = {text} }}");
    let graph = desk.graph(
        "chain",
        &json!({ "steps": [
        { "id": "a", "type": "lua_script", "script": script("1") },
        { "id": "b", "type": "lua_script", "depends_on": ["a"], "script": script("steps.a.result.n + 1") },
        { "id": "c", "type": "lua_script", "depends_on": ["b"], "script": script("steps.b.result.n + 1") },
    ] }),
    );
    let first = desk.run(&["run", &graph, "--json"]).expect(0).summary();
    let again = desk.run(&["run", &graph, "--resume-from", "last", "--from-step", "c", "--json"]).expect(0);
    let reused: Vec<_> = again.lines().into_iter().filter(|event| !event["data"]["reused_from"].is_null()).collect();
    assert_eq!(reused.len(), 2);
    assert_eq!(reused[0]["data"]["reused_from"], first["run_id"]);
    assert_eq!(again.summary()["outputs"]["c"]["n"], 3);
    desk.run(&["run", &graph, "--from-step", "c"]).expect(2);
    let unknown = desk.run(&["run", &graph, "--resume-from", "last", "--from-step", "z", "--json"]).expect(2).error();
    assert_eq!(unknown["code"], "UNKNOWN_STEP");
}
