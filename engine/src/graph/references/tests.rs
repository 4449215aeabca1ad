//! What templates and scripts may refer to, by example.

use crate::graph::{Graph, IssueCode};
use serde_json::{Value, json};

fn lua(id: &str) -> Value {
    json!({ "id": id, "type": "lua_script", "script": "return {}" })
}

/// What is wrong with a template in a step after `up`, with an unrelated step `side`, and what is suggested.
fn at_top(template: &str) -> Option<(IssueCode, String)> {
    first_error(json!([
        lua("up"),
        lua("side"),
        { "id": "after", "type": "lua_script", "script": "return {}", "depends_on": ["me"] },
        { "id": "each", "type": "for_each", "for_each_items": [1], "for_each_body_steps": [lua("inner")] },
        { "id": "me", "type": "human_task", "task_type": "t", "depends_on": ["up", "each"], "task_payload": template },
    ]))
}

/// The same in the second body step of a `for_each` or `while` after `up`.
fn in_body(kind: &str, template: &str) -> Option<(IssueCode, String)> {
    let body = json!([
        lua("first"),
        { "id": "me", "type": "agent_call", "agent_id": "x", "prompt": template },
        lua("last"),
    ]);
    let composite = match kind {
        "for_each" => json!({ "id": "each", "type": "for_each", "for_each_items": [1], "for_each_body_steps": body }),
        _ => {
            json!({ "id": "loop", "type": "while", "while_mode": "until", "while_max_iterations": 2, "while_condition": true, "while_body_steps": body })
        }
    };
    let mut steps = json!([lua("up"), composite]);
    steps[1]["depends_on"] = json!(["up"]);
    first_error(steps)
}

fn first_error(steps: Value) -> Option<(IssueCode, String)> {
    let issues = Graph::parse(&json!({ "steps": steps })).err()?;
    assert_eq!(issues.len(), 1, "{issues:?}");
    Some((issues[0].code, issues[0].suggestion.clone().unwrap_or_default()))
}

fn unresolved(suggestion: &str) -> Option<(IssueCode, String)> {
    Some((IssueCode::TemplateUnresolved, suggestion.into()))
}

#[test]
fn what_a_top_level_template_can_name() {
    for fits in [
        "{{ input }}",
        "{{ input.a.0.b }}",
        "{{ steps.up.result }}",
        "{{ steps.up.input.x }}",
        "{{ steps.each.result.results.0 }}",
        "{{ run.run_id }}",
        "{{ run.external_user_id }}",
        "{{ run.due_at }}",
        "{{ connection.by_instance.x.id }}",
        "\\{{ steps.none }}",
    ] {
        assert_eq!(at_top(fits), None, "{fits}");
    }
    assert_eq!(at_top("{{ steps.upp.result }}"), unresolved("did you mean `steps.up`?"));
    assert_eq!(at_top("{{ steps.up.total }}"), unresolved("write `steps.up.result.total`"));
    assert_eq!(at_top("{{ steps.up }}"), unresolved("write `steps.up.result`"));
    assert_eq!(at_top("{{ steps.me.result }}"), unresolved(""));
    assert_eq!(at_top("{{ steps.each.item }}"), unresolved(""));
    assert_eq!(at_top("{{ item }}"), unresolved(""));
    assert_eq!(at_top("{{ body.inner }}"), unresolved("write `steps.<id>.result`"));
    assert_eq!(at_top("{{ while.iteration }}"), unresolved(""));
    assert_eq!(at_top("{{ run.runid }}"), unresolved("did you mean `run.run_id`?"));
    assert_eq!(at_top("{{ connection.secret }}"), unresolved(""));
    assert_eq!(at_top("{{ inputs.x | 1 }}"), unresolved("did you mean `input`?"));
    let missing = |suggestion: &str| Some((IssueCode::TemplateMissingDependency, suggestion.to_owned()));
    assert_eq!(
        at_top("{{ input.x | steps.side.result }}"),
        missing("add `side` to the dependencies of `me`: \"depends_on\": [\"up\", \"each\", \"side\"]")
    );
    assert_eq!(
        at_top("{{ steps.after.result }}"),
        missing("`after` runs after `me`, so its result cannot be read here")
    );
}

#[test]
fn what_a_body_template_can_name() {
    for fits in [
        "{{ item.x }}",
        "{{ index }}",
        "{{ foreach.item }}",
        "{{ foreach.index }}",
        "{{ steps.each.item }}",
        "{{ steps.up.result }}",
        "{{ body.first.x }}",
        "{{ body.first.result.x }}",
    ] {
        assert_eq!(in_body("for_each", fits), None, "{fits}");
    }
    for fits in ["{{ while.iteration }}", "{{ while.prev.last.x }}", "{{ body.first }}"] {
        assert_eq!(in_body("while", fits), None, "{fits}");
    }
    assert_eq!(in_body("for_each", "{{ foreach.itm }}"), unresolved("did you mean `foreach.item`?"));
    assert_eq!(in_body("for_each", "{{ steps.first.result.x }}"), unresolved("write `body.first.x`"));
    assert_eq!(in_body("for_each", "{{ steps.each.result }}"), unresolved(""));
    assert_eq!(in_body("for_each", "{{ body.frist.x }}"), unresolved("did you mean `body.first`?"));
    assert_eq!(in_body("for_each", "{{ while.iteration }}"), unresolved(""));
    assert_eq!(in_body("while", "{{ item }}"), unresolved(""));
    assert_eq!(in_body("while", "{{ while.prev.lsat }}"), unresolved("did you mean `while.prev.last`?"));
    assert!(in_body("while", "{{ loop.iteration }}").unwrap().1.contains("while.iteration"));
    for later in ["{{ body.me }}", "{{ body.last }}"] {
        assert_eq!(in_body("for_each", later).unwrap().0, IssueCode::TemplateMissingDependency);
    }
}

#[test]
fn the_test_of_a_loop_sees_its_whole_body_and_the_composite_itself_does_not() {
    let looped = |more: Value| {
        let mut step = json!({ "id": "loop", "type": "while", "while_mode": "until", "while_max_iterations": 2, "while_condition": true, "while_body_steps": [lua("a"), lua("b")] });
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        first_error(json!([step]))
    };
    assert_eq!(looped(json!({ "while_condition": "{{ body.b.ok }}" })), None);
    assert_eq!(looped(json!({ "while_condition": "while.prev.a.ok" })), None);
    assert_eq!(looped(json!({ "condition": "body.b.ok" })), unresolved("write `steps.<id>.result`"));
}

#[test]
fn the_items_of_a_loop_have_codes_of_their_own() {
    let items = |items: Value| {
        first_error(
            json!([{ "id": "each", "type": "for_each", "for_each_items": items, "for_each_body_steps": [lua("a")] }]),
        )
        .map(|found| found.0)
    };
    for fits in [
        json!("{{ input.rows }}"),
        json!([1, "{{ input.x }}"]),
        json!("{{ input.rows | [] }}"),
        json!("{{ input.rows | omit }}"),
        json!({}),
    ] {
        assert_eq!(items(fits.clone()), None, "{fits}");
    }
    for wrong in [
        json!("input.rows"),
        json!("{{ input.a }},{{ input.b }}"),
        json!(3),
        json!({ "a": 1 }),
        json!("{{ input.rows | 5 }}"),
    ] {
        assert_eq!(items(wrong.clone()), Some(IssueCode::ForEachItemsInvalid), "{wrong}");
    }
    assert_eq!(items(json!("{{ steps.none.result }}")), Some(IssueCode::ForEachItemsUnresolved));
    assert_eq!(items(json!("{{ item }}")), Some(IssueCode::ForEachItemsUnresolved));
}

#[test]
fn an_allowlist_narrows_what_can_be_read() {
    let found = first_error(json!([
        lua("a"), lua("b"),
        { "id": "me", "type": "human_task", "task_type": "t", "depends_on": ["a", "b"], "input_allowlist": ["a"],
          "task_payload": ["{{ steps.a.result }}", "{{ steps.b.result }}"] },
    ]));
    assert_eq!(found, Some((IssueCode::TemplateNotAllowed, "add `b` to the `input_allowlist` of `me`".into())));
}
