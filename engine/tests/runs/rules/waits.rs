//! People, timers and children.

use super::steps;
use insta::assert_snapshot;
use serde_json::json;

fn approval(more: serde_json::Value) -> super::Case {
    let mut task = json!({ "id": "ok", "type": "human_task", "task_type": "approval", "task_payload": { "sum": "{{ input.sum }}" } });
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let case = steps(json!([
        task,
        { "id": "mail", "depends_on": ["ok"], "script": "echo steps" },
        { "id": "log", "depends_on": ["mail"], "script": "give {}" },
        { "id": "told", "depends_on": ["ok"], "condition": "{{ steps.ok.result.approved }}", "script": "give {}" },
        { "id": "sorry", "depends_on": ["ok"], "skip_when": "{{ steps.ok.result.approved }}", "script": "give {}" },
    ]));
    case.input(json!({ "sum": 12 }))
}

#[test]
fn an_approval_lets_its_branch_go_on_with_the_fields_given() {
    assert_snapshot!(approval(json!({})).plays("approve ok {\"note\":\"fine\"}"), @r#"
    started ok with {"sum":12}
    asked ok: approval {"sum":12}
    > approve ok {"note":"fine"}
    answered ok: yes {"note":"fine"}
    started mail
    started told
    skipped sorry: condition_false
    completed mail: {"steps":{"ok":{"result":{"approved":true,"note":"fine"}}}}
    started log
    completed told: {}
    completed log: {}
    run completed: {"log":{},"told":{}}
    "#);
}

#[test]
fn a_rejection_stops_all_but_those_that_read_it() {
    assert_snapshot!(approval(json!({})).plays("reject ok"), @r#"
    started ok with {"sum":12}
    asked ok: approval {"sum":12}
    > reject ok
    answered ok: no {}
    skipped mail: upstream_rejected
    skipped log: upstream_rejected
    skipped told: condition_false
    started sorry
    completed sorry: {}
    run completed: {"sorry":{}}
    "#);
}

#[test]
fn a_rejection_lets_all_go_on_where_the_task_says_so() {
    assert_snapshot!(approval(json!({ "on_reject": "continue" })).plays("reject ok"), @r#"
    started ok with {"sum":12}
    asked ok: approval {"sum":12}
    > reject ok
    answered ok: no {}
    started mail
    skipped told: condition_false
    started sorry
    completed mail: {"steps":{"ok":{"result":{"approved":false}}}}
    started log
    completed sorry: {}
    completed log: {}
    run completed: {"log":{},"sorry":{}}
    "#);
}

#[test]
fn a_rejection_passes_through_a_disabled_step() {
    let case = steps(json!([
        { "id": "ok", "type": "human_task", "task_type": "approval" },
        { "id": "format", "depends_on": ["ok"], "enabled": false, "script": "give {}" },
        { "id": "mail", "depends_on": ["format"], "script": "give {}" },
    ]));
    assert_snapshot!(case.plays("reject ok"), @r#"
    started ok with {}
    asked ok: approval {}
    > reject ok
    answered ok: no {}
    skipped format: upstream_rejected
    skipped mail: upstream_rejected
    run completed: {}
    "#);
}

#[test]
fn nobody_answering_fails_the_task_and_closes_the_question() {
    assert_snapshot!(approval(json!({ "timeout_s": 3600 })).plays("wait 3599\n wait 2"), @r#"
    started ok with {"sum":12}
    asked ok: approval {"sum":12}, until +3600s
    > wait 3599
    > wait 2
    failed ok: HUMAN_TASK_FAILED
    skipped mail: blocked
    skipped log: blocked
    skipped told: blocked
    skipped sorry: blocked
    run failed in ok: HUMAN_TASK_FAILED
      ~ question of ok expired
    "#);
}

#[test]
fn a_task_that_expired_is_asked_again_where_it_is_retried() {
    let case = approval(json!({ "timeout_s": 10, "retry_count": 1, "on_error": "continue" }));
    assert_snapshot!(case.plays("wait 12\n wait 12"), @r#"
    started ok with {"sum":12}
    asked ok: approval {"sum":12}, until +10s
    > wait 12
    retrying ok: HUMAN_TASK_FAILED
      ~ question of ok expired
    started ok #2 with {"sum":12}
    asked ok: approval {"sum":12}, until +20.139247s
    > wait 12
    failed ok #2: HUMAN_TASK_FAILED, goes on with {"error":{"code":"HUMAN_TASK_FAILED","message":"nobody completed the task within 10 s"}}
    started mail
    skipped told: condition_false
    started sorry
    completed mail: {"steps":{"ok":{"result":{"error":{"code":"HUMAN_TASK_FAILED","message":"nobody completed the task within 10 s"}}}}}
    started log
    completed sorry: {}
    completed log: {}
    run completed: {"log":{},"sorry":{}}
      ~ question of ok expired
    "#);
}

#[test]
fn a_sleep_takes_its_time_and_says_how_long() {
    let case = steps(json!([
        { "id": "nap", "type": "sleep", "duration_s": "{{ input.s }}" },
        { "id": "late", "type": "sleep", "until": "2026-01-01T00:01:00Z" },
        { "id": "past", "type": "sleep", "until": "2025-01-01T00:00:00Z" },
        { "id": "bad", "type": "sleep", "duration_s": "{{ input.word }}", "on_error": "continue" },
    ]));
    let case = case.input(json!({ "s": 2.5, "word": "soon" }));
    assert_snapshot!(case.plays("wait 0\n wait 2.5\n crash\n wait 60"), @r#"
    started nap with {"until":"2026-01-01T00:00:02.500000Z"}
    started late with {"until":"2026-01-01T00:01:00.000000Z"}
    started past with {"until":"2026-01-01T00:00:00.000000Z"}
    started bad
    failed bad: INVALID_INPUT, goes on with {"error":{"code":"INVALID_INPUT","message":"duration_s is \"soon\"; it must be a number of seconds, 0 or more"}}
    > wait 0
    completed past: {"slept_s":0.0}
    > wait 2.5
    completed nap: {"slept_s":2.5}
    > crash
    > wait 60
    completed late: {"slept_s":60.0}
    run completed: {"bad":{"error":{"code":"INVALID_INPUT","message":"duration_s is \"soon\"; it must be a number of seconds, 0 or more"}},"late":{"slept_s":60.0},"nap":{"slept_s":2.5},"past":{"slept_s":0.0}}
    "#);
}

fn parent(more: serde_json::Value) -> super::Case {
    let mut call = json!({ "id": "call", "type": "workflow_call", "workflow_id": "child", "version": 3, "input": { "n": "{{ input.n }}" } });
    call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    steps(json!([call, { "id": "after", "depends_on": ["call"], "script": "echo steps" }])).input(json!({ "n": 5 }))
}

#[test]
fn a_child_runs_and_its_outputs_are_the_result() {
    assert_snapshot!(parent(json!({})).plays("crash\n child call {\"out\":1}"), @r#"
    started call with {"n":5}
      ~ child of call: child version 3, depth 1, with {"n":5}
    > crash
    > child call {"out":1}
    completed call: {"out":1}
    started after
    completed after: {"steps":{"call":{"result":{"out":1}}}}
    run completed: {"after":{"steps":{"call":{"result":{"out":1}}}}}
    "#);
}

#[test]
fn a_child_that_fails_fails_its_step_and_is_tried_as_another_run() {
    let plays = "child call in LUA_ERROR\n wait 60\n child call {\"out\":2}";
    assert_snapshot!(parent(json!({ "retry_count": 1 })).plays(plays), @r#"
    started call with {"n":5}
      ~ child of call: child version 3, depth 1, with {"n":5}
    > child call in LUA_ERROR
    retrying call: CHILD_RUN_FAILED
    > wait 60
    started call #2 with {"n":5}
      ~ child of call: child version 3, depth 1, with {"n":5}
    > child call {"out":2}
    completed call #2: {"out":2}
    started after
    completed after: {"steps":{"call":{"result":{"out":2}}}}
    run completed: {"after":{"steps":{"call":{"result":{"out":2}}}}}
    "#);
}

#[test]
fn a_child_that_takes_too_long_is_stopped() {
    assert_snapshot!(parent(json!({ "timeout_s": 5 })).plays("wait 6"), @r#"
    started call with {"n":5}
      ~ child of call: child version 3, depth 1, with {"n":5}
    > wait 6
    failed call: STEP_TIMEOUT
    skipped after: blocked
    run failed in call: STEP_TIMEOUT
      ~ child of call told to stop
    "#);
}

#[test]
fn a_child_without_a_pinned_version_cannot_run() {
    let case = steps(json!([{ "id": "call", "type": "workflow_call", "workflow_id": "child" }]));
    assert_snapshot!(case.alone(), @r#"
    started call
    failed call: DEPENDENCY_UNAVAILABLE
    run failed in call: DEPENDENCY_UNAVAILABLE
    "#);
}
