//! What a failed step means.

use super::{graph, steps};
use insta::assert_snapshot;
use serde_json::json;

fn two_branches(policy: &str) -> super::Case {
    graph(json!({
        "failure_policy": policy,
        "steps": [
            { "id": "bad", "script": "hold" },
            { "id": "after_bad", "depends_on": ["bad"], "script": "give {}" },
            { "id": "slow", "script": "hold" },
            { "id": "after_slow", "depends_on": ["slow"], "script": "give {}" },
            { "id": "join", "depends_on": ["after_bad", "after_slow"], "script": "give {}" },
        ],
    }))
}

#[test]
fn a_failure_ends_the_run_at_once() {
    assert_snapshot!(two_branches("fail_fast").plays("ends bad in LUA_ERROR"), @r#"
    started bad
    started slow
    > ends bad in LUA_ERROR
    failed bad: LUA_ERROR
    cancelled slow
    skipped after_bad: blocked
    skipped after_slow: blocked
    skipped join: blocked
    run failed in bad: LUA_ERROR
    "#);
}

#[test]
fn with_drain_other_branches_finish_first() {
    assert_snapshot!(two_branches("drain").plays("ends bad in LUA_ERROR\n ends slow {}"), @r#"
    started bad
    started slow
    > ends bad in LUA_ERROR
    failed bad: LUA_ERROR
    > ends slow {}
    completed slow: {}
    started after_slow
    completed after_slow: {}
    skipped after_bad: blocked
    skipped join: blocked
    run failed in bad: LUA_ERROR
    "#);
}

#[test]
fn dependents_go_on_with_what_on_error_says() {
    let case = steps(json!([
        { "id": "a", "on_error": "continue", "script": "fail LUA_ERROR" },
        { "id": "b", "on_error": { "result": { "n": 0 } }, "script": "fail SANDBOX_TRAP" },
        { "id": "c", "depends_on": ["a", "b"], "script": "echo steps" },
    ]));
    assert_snapshot!(case.alone(), @r#"
    started a
    started b
    failed a: LUA_ERROR, goes on with {"error":{"code":"LUA_ERROR","message":"as scripted"}}
    failed b: SANDBOX_TRAP, goes on with {"n":0}
    started c
    completed c: {"steps":{"a":{"result":{"error":{"code":"LUA_ERROR","message":"as scripted"}}},"b":{"result":{"n":0}}}}
    run completed: {"c":{"steps":{"a":{"result":{"error":{"code":"LUA_ERROR","message":"as scripted"}}},"b":{"result":{"n":0}}}}}
    "#);
}

#[test]
fn a_failed_attempt_is_tried_again_as_often_as_asked() {
    let case = |script: &str| steps(json!([{ "id": "a", "retry_count": 2, "script": script }]));
    assert_snapshot!(case("fail LUA_ERROR until 3").plays("wait 60"), @r#"
    started a
    retrying a: LUA_ERROR
    > wait 60
    started a #2
    retrying a #2: LUA_ERROR
    started a #3
    completed a #3: {"attempt":3}
    run completed: {"a":{"attempt":3}}
    "#);
    assert_snapshot!(case("fail LUA_ERROR until 4").plays("wait 60"), @r#"
    started a
    retrying a: LUA_ERROR
    > wait 60
    started a #2
    retrying a #2: LUA_ERROR
    started a #3
    failed a #3: LUA_ERROR
    run failed in a: LUA_ERROR
    "#);
}

#[test]
fn failures_that_cannot_pass_are_not_tried_again() {
    for code in ["CAPABILITY_DENIED", "INSUFFICIENT_CREDITS", "INVALID_INPUT", "TEMPLATE_UNRESOLVED"] {
        let case = steps(json!([{ "id": "a", "retry_count": 2, "script": format!("fail {code}") }]));
        assert_eq!(case.alone(), format!("started a\nfailed a: {code}\nrun failed in a: {code}"));
    }
}

#[test]
fn only_the_codes_named_are_tried_again() {
    let retry = json!({ "max_attempts": 3, "on": ["STEP_TIMEOUT"] });
    let case = steps(json!([{ "id": "a", "retry": retry, "script": "hold" }]));
    assert_snapshot!(case.plays("ends a in STEP_TIMEOUT\n wait 60\n ends a in LUA_ERROR"), @r#"
    started a
    > ends a in STEP_TIMEOUT
    retrying a: STEP_TIMEOUT
    > wait 60
    started a #2
    > ends a in LUA_ERROR
    failed a #2: LUA_ERROR
    run failed in a: LUA_ERROR
    "#);
}

#[test]
fn a_template_that_does_not_resolve_fails_its_step() {
    let case = steps(json!([
        { "id": "a", "script": "give {\"title\":1}" },
        { "id": "ask", "type": "human_task", "task_type": "t", "depends_on": ["a"],
          "task_payload": { "x": "{{ steps.a.result.titel }}" }, "retry_count": 3 },
    ]));
    assert_snapshot!(case.alone(), @r#"
    started a
    completed a: {"title":1}
    started ask
    failed ask: TEMPLATE_UNRESOLVED
    run failed in ask: TEMPLATE_UNRESOLVED
    "#);
}

#[test]
fn calls_that_this_installation_cannot_make_say_so() {
    let case = steps(json!([
        { "id": "m", "type": "mcp_call", "tool_name": "t", "server_url": "https://x.example", "tool_args": { "a": "{{ input.n }}" }, "on_error": "continue" },
        { "id": "l", "type": "llm_call", "model": "m", "prompt": "p", "on_error": "continue" },
    ]));
    assert_snapshot!(case.input(json!({ "n": 7 })).alone(), @r#"
    started m with {"a":7}
    started l with {"model":"m","prompt":"p"}
    failed m: DEPENDENCY_UNAVAILABLE, goes on with {"error":{"code":"DEPENDENCY_UNAVAILABLE","message":"no MCP servers"}}
    failed l: DEPENDENCY_UNAVAILABLE, goes on with {"error":{"code":"DEPENDENCY_UNAVAILABLE","message":"no language models"}}
    run completed: {"l":{"error":{"code":"DEPENDENCY_UNAVAILABLE","message":"no language models"}},"m":{"error":{"code":"DEPENDENCY_UNAVAILABLE","message":"no MCP servers"}}}
    "#);
}

#[test]
fn a_failed_run_is_retried_from_the_failed_step() {
    let case = steps(json!([
        { "id": "a", "script": "give {\"n\":1}" },
        { "id": "b", "depends_on": ["a"], "retry_count": 1, "script": "fail LUA_ERROR until 4" },
        { "id": "slow", "script": "hold" },
        { "id": "c", "depends_on": ["b", "slow"], "script": "echo steps" },
    ]));
    assert_snapshot!(case.plays("wait 60\n retry\n wait 60\n ends slow {}"), @r#"
    started a
    started slow
    completed a: {"n":1}
    started b
    retrying b: LUA_ERROR
    > wait 60
    started b #2
    failed b #2: LUA_ERROR
    cancelled slow
    skipped c: blocked
    run failed in b: LUA_ERROR
    > retry
    failed → running (retry)
    started b #3
    started slow #2
    retrying b #3: LUA_ERROR
    > wait 60
    started b #4
    completed b #4: {"attempt":4}
    > ends slow {}
    completed slow #2: {}
    started c
    completed c: {"steps":{"a":{"result":{"n":1}},"b":{"result":{"attempt":4}},"slow":{"result":{}}}}
    run completed: {"c":{"steps":{"a":{"result":{"n":1}},"b":{"result":{"attempt":4}},"slow":{"result":{}}}}}
    "#);
}

#[test]
fn only_a_failed_run_can_be_retried() {
    let case = steps(json!([{ "id": "a", "script": "hold" }]));
    assert_snapshot!(case.plays("retry\n ends a {}\n retry"), @r#"
    started a
    > retry
    > ends a {}
    completed a: {}
    run completed: {"a":{}}
    > retry
    "#);
}
