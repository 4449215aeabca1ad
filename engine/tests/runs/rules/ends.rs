//! Commands, and how a run ends.

use super::{graph, steps};
use insta::assert_snapshot;
use serde_json::json;

fn two_steps() -> super::Case {
    steps(json!([
        { "id": "a", "script": "hold" },
        { "id": "b", "depends_on": ["a"], "script": "give {\"n\":2}" },
    ]))
}

#[test]
fn a_paused_run_finishes_what_is_in_flight_and_starts_nothing() {
    assert_snapshot!(two_steps().plays("pause\n ends a {}\n crash\n wait 9\n resume"), @r#"
    started a
    > pause
    running → paused (pause)
    > ends a {}
    completed a: {}
    > crash
    > wait 9
    > resume
    paused → running (resume)
    started b
    completed b: {"n":2}
    run completed: {"b":{"n":2}}
    "#);
}

#[test]
fn a_command_that_does_not_fit_changes_nothing() {
    assert_snapshot!(two_steps().plays("resume\n pause\n pause\n retry\n resume\n ends a {}\n pause\n stop\n retry"), @r#"
    started a
    > resume
    > pause
    running → paused (pause)
    > pause
    > retry
    > resume
    paused → running (resume)
    > ends a {}
    completed a: {}
    started b
    completed b: {"n":2}
    run completed: {"b":{"n":2}}
    > pause
    > stop
    > retry
    "#);
}

#[test]
fn an_attempt_that_fails_in_a_paused_run_waits_for_the_resume() {
    let case = steps(json!([{ "id": "a", "retry_count": 1, "script": "hold" }]));
    assert_snapshot!(case.plays("pause\n ends a in LUA_ERROR\n wait 60\n resume\n ends a {}"), @r#"
    started a
    > pause
    running → paused (pause)
    > ends a in LUA_ERROR
    retrying a: LUA_ERROR
    > wait 60
    > resume
    paused → running (resume)
    started a #2
    > ends a {}
    completed a #2: {}
    run completed: {"a":{}}
    "#);
}

#[test]
fn an_immediate_stop_cancels_what_is_in_flight() {
    let case = steps(json!([
        { "id": "run", "script": "hold" },
        { "id": "ask", "type": "human_task", "task_type": "t" },
        { "id": "nap", "type": "sleep", "duration_s": 60 },
        { "id": "call", "type": "workflow_call", "workflow_id": "w", "version": 1 },
        { "id": "each", "type": "for_each", "for_each_items": [1], "for_each_body_steps": [{ "id": "in", "script": "hold" }] },
        { "id": "never", "depends_on": ["run"], "script": "give {}" },
    ]));
    assert_snapshot!(case.plays("stop"), @r#"
    started run
    started ask with {}
    asked ask: t {}
    started nap with {"until":"2026-01-01T00:01:00.000000Z"}
    started call with {}
    started each
    started each[0].in
      ~ child of call: w version 1, depth 1, with {}
    > stop
    cancelled run
    cancelled ask
    cancelled nap
    cancelled call
    cancelled each[0].in
    cancelled each
    run stopped: RUN_STOPPED
      ~ question of ask cancelled
      ~ child of call told to stop
    "#);
}

#[test]
fn a_graceful_stop_lets_what_is_in_flight_finish() {
    assert_snapshot!(two_steps().plays("stop gracefully\n crash\n ends a {}"), @r#"
    started a
    > stop gracefully
    running → draining (stop)
    > crash
    > ends a {}
    completed a: {}
    run stopped: RUN_STOPPED
    "#);
}

#[test]
fn a_graceful_stop_that_takes_too_long_becomes_an_immediate_one() {
    assert_snapshot!(two_steps().plays("stop gracefully\n wait 299\n wait 1"), @r#"
    started a
    > stop gracefully
    running → draining (stop)
    > wait 299
    > wait 1
    cancelled a
    run stopped: DRAIN_TIMEOUT
    "#);
}

#[test]
fn a_graceful_stop_asks_children_to_drain_and_ends_as_stopped() {
    let case = steps(json!([{ "id": "call", "type": "workflow_call", "workflow_id": "w", "version": 1 }]));
    assert_snapshot!(case.plays("stop gracefully\n child call in RUN_STOPPED"), @r#"
    started call with {}
      ~ child of call: w version 1, depth 1, with {}
    > stop gracefully
    running → draining (stop)
      ~ child of call told to stop gracefully
    > child call in RUN_STOPPED
    failed call: CHILD_RUN_FAILED
    run stopped: RUN_STOPPED
    "#);
}

#[test]
fn a_draining_run_does_not_try_again() {
    let case = steps(json!([{ "id": "a", "retry_count": 5, "script": "hold" }]));
    assert_snapshot!(case.plays("stop gracefully\n ends a in LUA_ERROR"), @r#"
    started a
    > stop gracefully
    running → draining (stop)
    > ends a in LUA_ERROR
    failed a: LUA_ERROR
    run stopped: RUN_STOPPED
    "#);
}

#[test]
fn the_outputs_are_those_of_the_terminal_step_that_completed() {
    let case = |condition: bool| {
        steps(json!([
            { "id": "a", "script": "give {\"n\":1}" },
            { "id": "end", "terminal": true, "depends_on": ["a"], "condition": condition, "script": "give {\"n\":2}" },
            { "id": "other", "depends_on": ["a"], "script": "give {\"n\":3}" },
            { "id": "tail", "depends_on": ["end", "other"], "script": "give {\"n\":4}" },
        ]))
    };
    let last = |played: String| played.lines().last().unwrap().to_owned();
    assert_eq!(last(case(true).alone()), r#"run completed: {"n":2}"#);
    assert_eq!(last(case(false).alone()), r#"run completed: {"tail":{"n":4}}"#);
}

#[test]
fn without_a_terminal_step_the_outputs_are_those_of_the_last_ones() {
    let case = graph(json!({ "steps": [
        { "id": "a", "script": "give {\"n\":1}" },
        { "id": "b", "depends_on": ["a"], "script": "give {\"n\":2}" },
        { "id": "c", "depends_on": ["a"], "condition": false, "script": "give {\"n\":3}" },
        { "id": "d", "enabled": false, "script": "give {}" },
        { "id": "e", "on_error": { "result": { "n": 5 } }, "script": "fail LUA_ERROR" },
    ] }));
    assert_eq!(case.alone().lines().last(), Some(r#"run completed: {"b":{"n":2},"e":{"n":5}}"#));
}
