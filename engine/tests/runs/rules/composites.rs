//! `for_each` and `while`.

use super::steps;
use insta::assert_snapshot;
use serde_json::{Value, json};

fn each(items: Value, more: Value) -> super::Case {
    let mut step = json!({
        "id": "each", "type": "for_each", "for_each_items": items, "for_each_max_parallel": 2,
        "for_each_body_steps": [
            { "id": "work", "script": "fail LUA_ERROR if item \"bad\"" },
            { "id": "note", "script": "echo index body" },
        ],
    });
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    steps(json!([step, { "id": "after", "depends_on": ["each"], "script": "give {}" }]))
}

#[test]
fn a_body_runs_for_each_item_in_order_and_no_more_than_allowed_at_once() {
    assert_snapshot!(each(json!(["a", "b", "c"]), json!({})).alone(), @r#"
    started each
    started each[0].work
    started each[1].work
    completed each[0].work: {"item":"a"}
    started each[0].note
    completed each[1].work: {"item":"b"}
    started each[1].note
    completed each[0].note: {"body":{"work":{"item":"a"}},"index":0}
    started each[2].work
    completed each[1].note: {"body":{"work":{"item":"b"}},"index":1}
    completed each[2].work: {"item":"c"}
    started each[2].note
    completed each[2].note: {"body":{"work":{"item":"c"}},"index":2}
    completed each: {"count":3,"max_parallel":2,"succeeded_count":3,"failed_count":0,"results":[{"index":0,"body":{"work":{"item":"a"},"note":{"body":{"work":{"item":"a"}},"index":0}},"result":{"body":{"work":{"item":"a"}},"index":0}},{"index":1,"body":{"work":{"item":"b"},"note":{"body":{"work":{"item":"b"}},"index":1}},"result":{"body":{"work":{"item":"b"}},"index":1}},{"index":2,"body":{"work":{"item":"c"},"note":{"body":{"work":{"item":"c"}},"index":2}},"result":{"body":{"work":{"item":"c"}},"index":2}}]}
    started after
    completed after: {}
    run completed: {"after":{}}
    "#);
    let held = each(json!(["a", "b", "c"]), json!({ "for_each_body_steps": [{ "id": "work", "script": "hold" }] }));
    assert_snapshot!(held.plays("ends each[1].work {\"n\":1}\n crash\n ends each[0].work {\"n\":0}\n ends each[2].work {\"n\":2}"), @r#"
    started each
    started each[0].work
    started each[1].work
    > ends each[1].work {"n":1}
    completed each[1].work: {"n":1}
    started each[2].work
    > crash
    > ends each[0].work {"n":0}
    completed each[0].work: {"n":0}
    > ends each[2].work {"n":2}
    completed each[2].work: {"n":2}
    completed each: {"count":3,"max_parallel":2,"succeeded_count":3,"failed_count":0,"results":[{"index":0,"body":{"work":{"n":0}},"result":{"n":0}},{"index":1,"body":{"work":{"n":1}},"result":{"n":1}},{"index":2,"body":{"work":{"n":2}},"result":{"n":2}}]}
    started after
    completed after: {}
    run completed: {"after":{}}
    "#);
}

#[test]
fn null_an_empty_object_and_an_empty_list_are_no_items() {
    for input in [json!({ "items": null }), json!({ "items": {} }), json!({ "items": [] })] {
        let played = each("{{ input.items }}".into(), json!({})).input(input).alone();
        assert_eq!(
            played.lines().nth(1),
            Some(r#"completed each: {"count":0,"max_parallel":2,"succeeded_count":0,"failed_count":0,"results":[]}"#)
        );
    }
}

#[test]
fn what_is_no_list_or_does_not_resolve_is_an_error_and_never_one_item() {
    assert_snapshot!(each("{{ input.items }}".into(), json!({})).input(json!({ "items": "one" })).alone(), @r#"
    started each
    failed each: INVALID_INPUT
    skipped after: blocked
    run failed in each: INVALID_INPUT
    "#);
    assert_snapshot!(each("{{ input.items }}".into(), json!({})).alone(), @r#"
    started each
    failed each: TEMPLATE_UNRESOLVED
    skipped after: blocked
    run failed in each: TEMPLATE_UNRESOLVED
    "#);
}

#[test]
fn fail_fast_fails_the_step_with_the_first_item() {
    assert_snapshot!(each(json!(["a", "bad", "c"]), json!({})).alone(), @r#"
    started each
    started each[0].work
    started each[1].work
    completed each[0].work: {"item":"a"}
    started each[0].note
    failed each[1].work: LUA_ERROR
    cancelled each[0].note
    failed each: LUA_ERROR
    skipped after: blocked
    run failed in each: LUA_ERROR
    "#);
}

#[test]
fn continue_on_error_completes_with_partial_success() {
    let policy = json!({ "for_each_error_policy": "continue_on_error" });
    assert_snapshot!(each(json!(["a", "bad", "c"]), policy).alone(), @r#"
    started each
    started each[0].work
    started each[1].work
    completed each[0].work: {"item":"a"}
    started each[0].note
    failed each[1].work: LUA_ERROR
    started each[2].work
    completed each[0].note: {"body":{"work":{"item":"a"}},"index":0}
    completed each[2].work: {"item":"c"}
    started each[2].note
    completed each[2].note: {"body":{"work":{"item":"c"}},"index":2}
    completed each: {"count":3,"max_parallel":2,"succeeded_count":2,"failed_count":1,"partial_success":true,"results":[{"index":0,"body":{"work":{"item":"a"},"note":{"body":{"work":{"item":"a"}},"index":0}},"result":{"body":{"work":{"item":"a"}},"index":0}},{"index":1,"error":{"code":"LUA_ERROR","message":"as scripted"}},{"index":2,"body":{"work":{"item":"c"},"note":{"body":{"work":{"item":"c"}},"index":2}},"result":{"body":{"work":{"item":"c"}},"index":2}}]}
    started after
    completed after: {}
    run completed: {"after":{}}
    "#);
}

#[test]
fn pause_stops_the_run_until_it_is_resumed_and_then_tries_the_item_again() {
    let more = json!({ "for_each_error_policy": "pause", "for_each_max_parallel": 1, "for_each_body_steps": [{ "id": "work", "script": "hold" }] });
    let plays = "ends each[0].work in LUA_ERROR\n resume\n ends each[0].work {}\n ends each[1].work {}";
    assert_snapshot!(each(json!(["a", "b"]), more).plays(plays), @r#"
    started each
    started each[0].work
    > ends each[0].work in LUA_ERROR
    failed each[0].work: LUA_ERROR
    running → paused (for_each_item_failed)
    > resume
    paused → running (resume)
    started each[0].work #2
    > ends each[0].work {}
    completed each[0].work #2: {}
    started each[1].work
    > ends each[1].work {}
    completed each[1].work: {}
    completed each: {"count":2,"max_parallel":1,"succeeded_count":2,"failed_count":0,"results":[{"index":0,"body":{"work":{}},"result":{}},{"index":1,"body":{"work":{}},"result":{}}]}
    started after
    completed after: {}
    run completed: {"after":{}}
    "#);
}

#[test]
fn human_review_asks_what_to_do_with_a_failed_item() {
    let policy = json!({ "for_each_error_policy": "human_review" });
    let case = || each(json!(["bad", "b"]), policy.clone());
    assert_snapshot!(case().plays("crash\n approve each[0].work"), @r#"
    started each
    started each[0].work
    started each[1].work
    failed each[0].work: LUA_ERROR
    asked each[0].work: for_each_item_review {"error":{"code":"LUA_ERROR","message":"as scripted"},"index":0,"item":"bad","step_id":"each"}
    completed each[1].work: {"item":"b"}
    started each[1].note
    completed each[1].note: {"body":{"work":{"item":"b"}},"index":1}
    > crash
    > approve each[0].work
    answered each[0].work: yes {}
    completed each: {"count":2,"max_parallel":2,"succeeded_count":1,"failed_count":1,"partial_success":true,"results":[{"index":0,"error":{"code":"LUA_ERROR","message":"as scripted"}},{"index":1,"body":{"work":{"item":"b"},"note":{"body":{"work":{"item":"b"}},"index":1}},"result":{"body":{"work":{"item":"b"}},"index":1}}]}
    started after
    completed after: {}
    run completed: {"after":{}}
    "#);
    assert_snapshot!(case().plays("approve each[0].work {\"item\":\"mended\"}"), @r#"
    started each
    started each[0].work
    started each[1].work
    failed each[0].work: LUA_ERROR
    asked each[0].work: for_each_item_review {"error":{"code":"LUA_ERROR","message":"as scripted"},"index":0,"item":"bad","step_id":"each"}
    completed each[1].work: {"item":"b"}
    started each[1].note
    completed each[1].note: {"body":{"work":{"item":"b"}},"index":1}
    > approve each[0].work {"item":"mended"}
    answered each[0].work: yes {"item":"mended"}
    started each[0].note
    completed each[0].note: {"body":{"work":{"item":"mended"}},"index":0}
    completed each: {"count":2,"max_parallel":2,"succeeded_count":2,"failed_count":0,"results":[{"index":0,"body":{"work":{"item":"mended"},"note":{"body":{"work":{"item":"mended"}},"index":0}},"result":{"body":{"work":{"item":"mended"}},"index":0}},{"index":1,"body":{"work":{"item":"b"},"note":{"body":{"work":{"item":"b"}},"index":1}},"result":{"body":{"work":{"item":"b"}},"index":1}}]}
    started after
    completed after: {}
    run completed: {"after":{}}
    "#);
    assert_snapshot!(case().plays("reject each[0].work"), @r#"
    started each
    started each[0].work
    started each[1].work
    failed each[0].work: LUA_ERROR
    asked each[0].work: for_each_item_review {"error":{"code":"LUA_ERROR","message":"as scripted"},"index":0,"item":"bad","step_id":"each"}
    completed each[1].work: {"item":"b"}
    started each[1].note
    completed each[1].note: {"body":{"work":{"item":"b"}},"index":1}
    > reject each[0].work
    answered each[0].work: no {}
    failed each: LUA_ERROR
    skipped after: blocked
    run failed in each: LUA_ERROR
    "#);
}

#[test]
fn a_body_step_is_skipped_recovered_and_retried_like_any_other() {
    let body = json!([
        { "id": "off", "enabled": false, "script": "give {}" },
        { "id": "never", "condition": "{{ item.no }}", "script": "give {}" },
        { "id": "again", "retry_count": 1, "script": "fail LUA_ERROR until 2" },
        { "id": "lost", "on_error": "continue", "script": "fail SANDBOX_TRAP" },
    ]);
    assert_snapshot!(each(json!([{ "no": false }]), json!({ "for_each_body_steps": body })).plays("wait 60"), @r#"
    started each
    skipped each[0].off: step_disabled
    skipped each[0].never: condition_false
    started each[0].again
    retrying each[0].again: LUA_ERROR
    > wait 60
    started each[0].again #2
    completed each[0].again #2: {"attempt":2}
    started each[0].lost
    failed each[0].lost: SANDBOX_TRAP, goes on with {"error":{"code":"SANDBOX_TRAP","message":"as scripted"}}
    completed each: {"count":1,"max_parallel":2,"succeeded_count":1,"failed_count":0,"results":[{"index":0,"body":{"again":{"attempt":2},"lost":{"error":{"code":"SANDBOX_TRAP","message":"as scripted"}}},"result":{"error":{"code":"SANDBOX_TRAP","message":"as scripted"}}}]}
    started after
    completed after: {}
    run completed: {"after":{}}
    "#);
}

#[test]
fn a_failed_for_each_keeps_what_it_did_when_the_run_is_retried() {
    let body = json!([{ "id": "work", "script": "hold" }]);
    let plays = "ends each[0].work {\"n\":0}\n ends each[1].work in LUA_ERROR\n crash\n retry\n ends each[1].work {\"n\":1}\n ends each[2].work {\"n\":2}";
    assert_snapshot!(each(json!(["a", "b", "c"]), json!({ "for_each_body_steps": body })).plays(plays), @r#"
    started each
    started each[0].work
    started each[1].work
    > ends each[0].work {"n":0}
    completed each[0].work: {"n":0}
    started each[2].work
    > ends each[1].work in LUA_ERROR
    failed each[1].work: LUA_ERROR
    cancelled each[2].work
    failed each: LUA_ERROR
    skipped after: blocked
    run failed in each: LUA_ERROR
    > crash
    > retry
    failed → running (retry)
    started each #2
    started each[1].work #2
    started each[2].work #2
    > ends each[1].work {"n":1}
    completed each[1].work #2: {"n":1}
    > ends each[2].work {"n":2}
    completed each[2].work #2: {"n":2}
    completed each #2: {"count":3,"max_parallel":2,"succeeded_count":3,"failed_count":0,"results":[{"index":0,"body":{"work":{"n":0}},"result":{"n":0}},{"index":1,"body":{"work":{"n":1}},"result":{"n":1}},{"index":2,"body":{"work":{"n":2}},"result":{"n":2}}]}
    started after
    completed after: {}
    run completed: {"after":{}}
    "#);
}

#[test]
fn a_composite_that_runs_past_its_timeout_is_let_go() {
    let body = json!([{ "id": "work", "script": "hold" }]);
    let case = each(json!(["a", "b", "c"]), json!({ "timeout_s": 5, "for_each_body_steps": body }));
    assert_snapshot!(case.plays("wait 5"), @r#"
    started each
    started each[0].work
    started each[1].work
    > wait 5
    cancelled each[0].work
    cancelled each[1].work
    failed each: STEP_TIMEOUT
    skipped after: blocked
    run failed in each: STEP_TIMEOUT
    "#);
}

fn repeat(more: Value) -> super::Case {
    let mut step = json!({
        "id": "loop", "type": "while", "while_mode": "until", "while_max_iterations": 5,
        "while_body_steps": [{ "id": "turn", "script": "pass loop 2" }],
        "while_condition": "{{ body.turn.pass }}",
    });
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    if more.get("while_eval_script").is_some() {
        step.as_object_mut().unwrap().remove("while_condition");
    }
    steps(json!([step]))
}

#[test]
fn until_stops_on_true_and_while_on_false_after_at_least_one_turn() {
    assert_snapshot!(repeat(json!({})).alone(), @r#"
    started loop
    started loop[0].turn
    completed loop[0].turn: {"pass":false}
    started loop[1].turn
    completed loop[1].turn: {"pass":false}
    started loop[2].turn
    completed loop[2].turn: {"pass":true}
    completed loop: {"iteration_count":3,"max_iterations":5,"stopped_reason":"condition_met","last":{"turn":{"pass":true}},"iterations":[{"index":0,"body":{"turn":{"pass":false}}},{"index":1,"body":{"turn":{"pass":false}}},{"index":2,"body":{"turn":{"pass":true}}}]}
    run completed: {"loop":{"iteration_count":3,"max_iterations":5,"stopped_reason":"condition_met","last":{"turn":{"pass":true}},"iterations":[{"index":0,"body":{"turn":{"pass":false}}},{"index":1,"body":{"turn":{"pass":false}}},{"index":2,"body":{"turn":{"pass":true}}}]}}
    "#);
    assert_snapshot!(repeat(json!({ "while_mode": "while" })).alone(), @r#"
    started loop
    started loop[0].turn
    completed loop[0].turn: {"pass":false}
    completed loop: {"iteration_count":1,"max_iterations":5,"stopped_reason":"condition_met","last":{"turn":{"pass":false}},"iterations":[{"index":0,"body":{"turn":{"pass":false}}}]}
    run completed: {"loop":{"iteration_count":1,"max_iterations":5,"stopped_reason":"condition_met","last":{"turn":{"pass":false}},"iterations":[{"index":0,"body":{"turn":{"pass":false}}}]}}
    "#);
}

#[test]
fn reaching_the_cap_does_not_fail_the_step() {
    assert_snapshot!(repeat(json!({ "while_max_iterations": 2 })).alone(), @r#"
    started loop
    started loop[0].turn
    completed loop[0].turn: {"pass":false}
    started loop[1].turn
    completed loop[1].turn: {"pass":false}
    completed loop: {"iteration_count":2,"max_iterations":2,"stopped_reason":"max_iterations","last":{"turn":{"pass":false}},"iterations":[{"index":0,"body":{"turn":{"pass":false}}},{"index":1,"body":{"turn":{"pass":false}}}]}
    run completed: {"loop":{"iteration_count":2,"max_iterations":2,"stopped_reason":"max_iterations","last":{"turn":{"pass":false}},"iterations":[{"index":0,"body":{"turn":{"pass":false}}},{"index":1,"body":{"turn":{"pass":false}}}]}}
    "#);
}

#[test]
fn a_script_decides_where_there_is_one() {
    assert_snapshot!(repeat(json!({ "while_eval_script": "pass loop 1" })).alone(), @r#"
    started loop
    started loop[0].turn
    completed loop[0].turn: {"pass":false}
    started loop[0].while_eval_script
    completed loop[0].while_eval_script: {"pass":false}
    started loop[1].turn
    completed loop[1].turn: {"pass":false}
    started loop[1].while_eval_script
    completed loop[1].while_eval_script: {"pass":true}
    completed loop: {"iteration_count":2,"max_iterations":5,"stopped_reason":"condition_met","last":{"turn":{"pass":false}},"iterations":[{"index":0,"body":{"turn":{"pass":false}}},{"index":1,"body":{"turn":{"pass":false}}}]}
    run completed: {"loop":{"iteration_count":2,"max_iterations":5,"stopped_reason":"condition_met","last":{"turn":{"pass":false}},"iterations":[{"index":0,"body":{"turn":{"pass":false}}},{"index":1,"body":{"turn":{"pass":false}}}]}}
    "#);
    assert_snapshot!(repeat(json!({ "while_eval_script": "give {\"result\":true}" })).alone(), @r#"
    started loop
    started loop[0].turn
    completed loop[0].turn: {"pass":false}
    started loop[0].while_eval_script
    completed loop[0].while_eval_script: {"result":true}
    completed loop: {"iteration_count":1,"max_iterations":5,"stopped_reason":"condition_met","last":{"turn":{"pass":false}},"iterations":[{"index":0,"body":{"turn":{"pass":false}}}]}
    run completed: {"loop":{"iteration_count":1,"max_iterations":5,"stopped_reason":"condition_met","last":{"turn":{"pass":false}},"iterations":[{"index":0,"body":{"turn":{"pass":false}}}]}}
    "#);
    assert_snapshot!(repeat(json!({ "while_eval_script": "give {\"done\":true}" })).alone(), @r#"
    started loop
    started loop[0].turn
    completed loop[0].turn: {"pass":false}
    started loop[0].while_eval_script
    failed loop[0].while_eval_script: LUA_ERROR
    failed loop: LUA_ERROR
    run failed in loop: LUA_ERROR
    "#);
    assert_snapshot!(repeat(json!({ "while_eval_script": "fail LUA_ERROR" })).alone(), @r#"
    started loop
    started loop[0].turn
    completed loop[0].turn: {"pass":false}
    started loop[0].while_eval_script
    failed loop[0].while_eval_script: LUA_ERROR
    failed loop: LUA_ERROR
    run failed in loop: LUA_ERROR
    "#);
}

#[test]
fn a_turn_sees_the_outputs_of_the_one_before() {
    let body = json!([{ "id": "turn", "script": "echo loop" }]);
    let case = repeat(json!({ "while_body_steps": body, "while_max_iterations": 2, "while_condition": false }));
    assert_snapshot!(case.alone(), @r#"
    started loop
    started loop[0].turn
    completed loop[0].turn: {"loop":{"iteration":0,"prev":{}}}
    started loop[1].turn
    completed loop[1].turn: {"loop":{"iteration":1,"prev":{"turn":{"loop":{"iteration":0,"prev":{}}}}}}
    completed loop: {"iteration_count":2,"max_iterations":2,"stopped_reason":"max_iterations","last":{"turn":{"loop":{"iteration":1,"prev":{"turn":{"loop":{"iteration":0,"prev":{}}}}}}},"iterations":[{"index":0,"body":{"turn":{"loop":{"iteration":0,"prev":{}}}}},{"index":1,"body":{"turn":{"loop":{"iteration":1,"prev":{"turn":{"loop":{"iteration":0,"prev":{}}}}}}}}]}
    run completed: {"loop":{"iteration_count":2,"max_iterations":2,"stopped_reason":"max_iterations","last":{"turn":{"loop":{"iteration":1,"prev":{"turn":{"loop":{"iteration":0,"prev":{}}}}}}},"iterations":[{"index":0,"body":{"turn":{"loop":{"iteration":0,"prev":{}}}}},{"index":1,"body":{"turn":{"loop":{"iteration":1,"prev":{"turn":{"loop":{"iteration":0,"prev":{}}}}}}}}]}}
    "#);
}

#[test]
fn a_failed_while_goes_on_in_the_failed_turn_when_the_run_is_retried() {
    let body = json!([{ "id": "turn", "script": "hold" }]);
    let case = repeat(json!({ "while_body_steps": body }));
    let plays =
        "ends loop[0].turn {}\n ends loop[1].turn in LUA_ERROR\n retry\n crash\n ends loop[1].turn {\"pass\":true}";
    assert_snapshot!(case.plays(plays), @r#"
    started loop
    started loop[0].turn
    > ends loop[0].turn {}
    completed loop[0].turn: {}
    started loop[1].turn
    > ends loop[1].turn in LUA_ERROR
    failed loop[1].turn: LUA_ERROR
    failed loop: LUA_ERROR
    run failed in loop: LUA_ERROR
    > retry
    failed → running (retry)
    started loop #2
    started loop[1].turn #2
    > crash
    > ends loop[1].turn {"pass":true}
    completed loop[1].turn #2: {"pass":true}
    completed loop #2: {"iteration_count":2,"max_iterations":5,"stopped_reason":"condition_met","last":{"turn":{"pass":true}},"iterations":[{"index":0,"body":{"turn":{}}},{"index":1,"body":{"turn":{"pass":true}}}]}
    run completed: {"loop":{"iteration_count":2,"max_iterations":5,"stopped_reason":"condition_met","last":{"turn":{"pass":true}},"iterations":[{"index":0,"body":{"turn":{}}},{"index":1,"body":{"turn":{"pass":true}}}]}}
    "#);
}
