//! When a step runs, and when it does not.

use super::{graph, steps};
use insta::assert_snapshot;
use serde_json::json;

#[test]
fn a_step_starts_when_all_it_depends_on_is_through() {
    let diamond = steps(json!([
        { "id": "a", "script": "give {\"n\":1}" },
        { "id": "b", "depends_on": ["a"], "script": "hold" },
        { "id": "c", "depends_on": ["a"], "script": "hold" },
        { "id": "d", "depends_on": ["b", "c"], "script": "echo steps" },
    ]));
    assert_snapshot!(diamond.plays("ends c {\"n\":3}\n ends b {\"n\":2}"), @r#"
    started a
    completed a: {"n":1}
    started b
    started c
    > ends c {"n":3}
    completed c: {"n":3}
    > ends b {"n":2}
    completed b: {"n":2}
    started d
    completed d: {"steps":{"a":{"result":{"n":1}},"b":{"result":{"n":2}},"c":{"result":{"n":3}}}}
    run completed: {"d":{"steps":{"a":{"result":{"n":1}},"b":{"result":{"n":2}},"c":{"result":{"n":3}}}}}
    "#);
}

#[test]
fn a_disabled_step_counts_as_completed_with_an_empty_object() {
    let case = steps(json!([
        { "id": "a", "script": "give {}", "enabled": false },
        { "id": "b", "depends_on": ["a"], "script": "echo steps" },
    ]));
    assert_snapshot!(case.alone(), @r#"
    skipped a: step_disabled
    started b
    completed b: {"steps":{"a":{"result":{}}}}
    run completed: {"b":{"steps":{"a":{"result":{}}}}}
    "#);
}

#[test]
fn a_false_condition_skips_and_everything_falsy_is_false() {
    let when = |condition: serde_json::Value| {
        let case = steps(json!([
            { "id": "a", "script": "give {\"zero\":0,\"empty\":\"\",\"no\":\"false\",\"list\":[],\"object\":{},\"null\":null,\"one\":1}" },
            { "id": "b", "depends_on": ["a"], "condition": condition, "script": "give {}" },
        ]));
        let played = case.alone();
        played.lines().find(|line| line.ends_with("condition_false") || *line == "started b").unwrap().to_owned()
    };
    for falsy in ["zero", "empty", "no", "list", "object", "null", "missing"] {
        assert_eq!(when(format!("{{{{ steps.a.result.{falsy} }}}}").into()), "skipped b: condition_false", "{falsy}");
    }
    assert_eq!(when(false.into()), "skipped b: condition_false");
    assert_eq!(when("{{ steps.a.result.one }}".into()), "started b");
    assert_eq!(when("steps.a.result.one".into()), "started b");
}

#[test]
fn skip_when_skips_on_true_and_an_unresolved_one_does_not() {
    let case = steps(json!([
        { "id": "a", "script": "give {\"yes\":true}" },
        { "id": "b", "depends_on": ["a"], "skip_when": "{{ steps.a.result.yes }}", "script": "give {}" },
        { "id": "c", "depends_on": ["a"], "skip_when": "{{ steps.a.result.missing }}", "script": "give {}" },
    ]));
    assert_snapshot!(case.alone(), @r#"
    started a
    completed a: {"yes":true}
    skipped b: condition_false
    started c
    completed c: {}
    run completed: {"c":{}}
    "#);
}

#[test]
fn a_join_after_two_conditional_branches_runs_once_either_did() {
    let join = |left: bool, right: bool| {
        steps(json!([
            { "id": "left", "condition": left, "script": "give {\"side\":\"left\"}" },
            { "id": "right", "condition": right, "script": "give {\"side\":\"right\"}" },
            { "id": "join", "depends_on": ["left", "right"], "script": "echo steps" },
            { "id": "after", "depends_on": ["join"], "script": "give {}" },
        ]))
    };
    assert_snapshot!(join(false, true).alone(), @r#"
    skipped left: condition_false
    started right
    completed right: {"side":"right"}
    started join
    completed join: {"steps":{"right":{"result":{"side":"right"}}}}
    started after
    completed after: {}
    run completed: {"after":{}}
    "#);
    assert_snapshot!(join(false, false).alone(), @r#"
    skipped left: condition_false
    skipped right: condition_false
    skipped join: upstream_skipped
    skipped after: upstream_skipped
    run completed: {}
    "#);
}

#[test]
fn a_disabled_step_behind_a_skipped_one_is_skipped_with_it() {
    let case = steps(json!([
        { "id": "a", "condition": false, "script": "give {}" },
        { "id": "b", "depends_on": ["a"], "enabled": false, "script": "give {}" },
        { "id": "c", "depends_on": ["b"], "script": "give {}" },
    ]));
    assert_snapshot!(case.alone(), @r#"
    skipped a: condition_false
    skipped b: upstream_skipped
    skipped c: upstream_skipped
    run completed: {}
    "#);
}

#[test]
fn a_root_without_auto_start_runs_only_where_the_start_names_it() {
    let case = || {
        steps(json!([
            { "id": "auto", "script": "give {}" },
            { "id": "by_hand", "no_auto_start": true, "script": "echo input" },
            { "id": "after", "depends_on": ["by_hand"], "script": "give {}" },
            { "id": "join", "depends_on": ["by_hand", "auto"], "script": "give {}" },
        ]))
        .input(json!({ "shared": 1, "over": "shared" }))
    };
    assert_snapshot!(case().alone(), @r#"
    started auto
    skipped by_hand: out_of_scope
    skipped after: out_of_scope
    completed auto: {}
    started join
    completed join: {}
    run completed: {"join":{}}
    "#);
    let named = case().trigger(json!({ "by_hand": { "over": "own" } }));
    assert_snapshot!(named.alone(), @r#"
    started auto
    started by_hand
    completed auto: {}
    completed by_hand: {"input":{"over":"own","shared":1}}
    started after
    started join
    completed after: {}
    completed join: {}
    run completed: {"after":{},"join":{}}
    "#);
}

#[test]
fn roots_that_a_start_excludes_are_out_of_scope_with_what_depends_only_on_them() {
    let case = steps(json!([
        { "id": "a", "script": "give {}" },
        { "id": "b", "script": "give {}" },
        { "id": "c", "depends_on": ["a"], "script": "give {}" },
        { "id": "d", "depends_on": ["a", "b"], "script": "give {}" },
    ]));
    assert_snapshot!(case.without("a").alone(), @r#"
    skipped a: out_of_scope
    started b
    skipped c: out_of_scope
    completed b: {}
    started d
    completed d: {}
    run completed: {"d":{}}
    "#);
}

#[test]
fn a_start_can_replace_settings_of_a_step() {
    let case = steps(json!([
        { "id": "a", "script": "fail LUA_ERROR until 2" },
        { "id": "b", "depends_on": ["a"], "script": "echo input" },
    ]));
    let case = case.trigger(json!({ "a": { "on_error": "continue" } })).input(json!({ "x": 1 }));
    assert_snapshot!(case.alone(), @r#"
    started a
    failed a: LUA_ERROR, goes on with {"error":{"code":"LUA_ERROR","message":"as scripted"}}
    started b
    completed b: {"input":{"x":1}}
    run completed: {"b":{"input":{"x":1}}}
    "#);
}

#[test]
fn an_allowlist_hides_the_other_ancestors() {
    let case = steps(json!([
        { "id": "a", "script": "give {\"secret\":1}" },
        { "id": "b", "depends_on": ["a"], "script": "give {\"open\":2}" },
        { "id": "c", "depends_on": ["b"], "input_allowlist": ["b"], "script": "echo steps" },
    ]));
    assert_snapshot!(case.alone(), @r#"
    started a
    completed a: {"secret":1}
    started b
    completed b: {"open":2}
    started c
    completed c: {"steps":{"b":{"result":{"open":2}}}}
    run completed: {"c":{"steps":{"b":{"result":{"open":2}}}}}
    "#);
}

#[test]
fn defaults_of_the_input_schema_fill_in_and_what_does_not_fit_is_rejected() {
    let case = || {
        graph(json!({
            "input_schema": {
                "type": "object",
                "properties": { "a": { "type": "integer" }, "b": { "type": "string", "default": "filled" } },
                "required": ["a", "b"],
            },
            "steps": [{ "id": "s", "script": "echo input" }],
        }))
    };
    assert_snapshot!(case().input(json!({ "a": 1 })).alone(), @r#"
    started s
    completed s: {"input":{"a":1,"b":"filled"}}
    run completed: {"s":{"input":{"a":1,"b":"filled"}}}
    "#);
    assert_snapshot!(case().input(json!({ "a": "one" })).plays("retry"), @r#"
    run rejected: INVALID_INPUT: the input does not fit the workflow's input_schema: input.a: value is not of type "integer"
    > retry
    "#);
}

#[test]
fn completed_results_of_another_run_are_taken_over_and_the_rest_runs() {
    let case = steps(json!([
        { "id": "a", "script": "fail LUA_ERROR" },
        { "id": "b", "depends_on": ["a"], "script": "echo steps" },
    ]));
    assert_snapshot!(case.reusing(json!({ "a": { "from": "before" } })).alone(), @r#"
    completed a: {"from":"before"} (reused)
    started b
    completed b: {"steps":{"a":{"result":{"from":"before"}}}}
    run completed: {"b":{"steps":{"a":{"result":{"from":"before"}}}}}
    "#);
}

#[test]
fn a_rejection_that_is_taken_over_still_stops_its_branch() {
    let case = steps(json!([
        { "id": "ok", "type": "human_task", "task_type": "approval" },
        { "id": "mail", "depends_on": ["ok"], "script": "give {}" },
    ]));
    assert_snapshot!(case.reusing(json!({ "ok": { "approved": false } })).alone(), @r#"
    completed ok: {"approved":false} (reused)
    skipped mail: upstream_rejected
    run completed: {}
    "#);
}
