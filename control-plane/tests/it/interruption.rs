//! Ctrl-C, and two processes on one folder.

use crate::program::Desk;
use serde_json::{Value, json};

fn napping(seconds: f64) -> Value {
    json!({ "steps": [
        { "id": "before", "type": "lua_script", "script": "return { n = 20 }" },
        { "id": "nap", "type": "sleep", "duration_s": seconds, "depends_on": ["before"] },
        { "id": "after", "type": "lua_script", "depends_on": ["before", "nap"],
          "script": "return { n = steps.before.result.n + 1 }" },
    ] })
}

#[test]
fn an_interrupted_run_is_finished_by_resume() {
    let desk = Desk::new();
    let graph = desk.graph("napping", &napping(0.7));
    let mut at_work = desk.begin(&["run", &graph]);
    let event = at_work.wait_for("step_started", "nap");
    let interrupted = at_work.interrupt().expect(130).summary();
    assert_eq!((&interrupted["run_id"], &interrupted["status"]), (&event["run_id"], &json!("running")));
    let resumed = desk.run(&["resume", "last", "--json"]).expect(0);
    let events = resumed.lines();
    assert!(
        events.iter().all(|event| event["step_id"] != "before"),
        "what was done is not done again: {}",
        resumed.stdout
    );
    assert_eq!(resumed.summary()["outputs"], json!({ "after": { "n": 21 } }));
}

#[test]
fn a_script_that_was_interrupted_runs_again() {
    let desk = Desk::new();
    let graph = desk.graph(
        "busy",
        &json!({ "steps": [{ "id": "spin", "type": "lua_script", "timeout_s": 30,
        "script": "local n = 0 for _ = 1, input.turns do n = n + 1 end return { n = n }" }] }),
    );
    let mut at_work = desk.begin(&["run", &graph, "--input", r#"{"turns": 20000000}"#]);
    at_work.wait_for("step_started", "spin");
    at_work.interrupt().expect(130);
    let resumed = desk.run(&["resume", "last"]).expect(0);
    assert_eq!(resumed.json(), json!({ "spin": { "n": 20_000_000 } }));
}

#[test]
fn people_are_told_how_to_go_on_after_an_interruption() {
    let desk = Desk::new();
    let graph = desk.graph("napping", &napping(3600.0));
    let mut at_work = desk.begin(&["run", &graph]);
    at_work.wait_for("step_started", "nap");
    at_work.interrupt().expect(130);
    let shown = desk.run(&["show", "last"]).expect(0);
    assert!(shown.stdout.contains("agentruntime resume "), "{}", shown.stdout);
    assert!(shown.stdout.contains("until "), "{}", shown.stdout);
}

#[test]
fn a_second_process_on_the_folder_is_told_of_the_first() {
    let desk = Desk::new();
    let graph = desk.graph("napping", &napping(3600.0));
    let mut first = desk.begin(&["run", &graph]);
    first.wait_for("step_started", "nap");
    let second = desk.run(&["runs", "--json"]).expect(2).error();
    assert_eq!(second["code"], "DATA_IN_USE");
    let message = second["error"].as_str().unwrap();
    assert!(message.contains(&format!("process {}", first.pid())), "{message}");
    first.interrupt().expect(130);
    desk.run(&["runs"]).expect(0);
}
