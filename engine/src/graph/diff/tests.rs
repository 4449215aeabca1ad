//! What two graphs differ in, as readers of a comparison see it.

use super::*;
use serde_json::json;

fn lua(id: &str, script: &str, depends_on: &[&str]) -> Value {
    json!({ "id": id, "type": "lua_script", "script": script, "depends_on": depends_on })
}

fn of(steps: Value) -> Value {
    json!({ "steps": steps })
}

/// What differs, as it is answered, without what is empty.
fn check(old: &Value, new: &Value, expected: Value) {
    let Value::Object(mut told) = serde_json::to_value(diff(old, new)).unwrap() else { panic!("a diff is an object") };
    told.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    assert_eq!(Value::Object(told), expected);
}

#[test]
fn equal_graphs_differ_in_nothing() {
    let graph = of(json!([lua("a", "return {}", &[]), lua("b", "return {}", &["a"])]));
    assert!(diff(&graph, &graph).is_empty());
    let same = of(json!([lua("a", "return {}", &[]), { "id": "b", "type": "lua_script", "script": "return {}",
        "depends_on": ["a"], "on_error": null }]));
    assert!(diff(&graph, &same).is_empty(), "null is as good as nothing");
}

#[test]
fn a_changed_key_is_told_with_both_values() {
    check(
        &of(json!([lua("a", "return {}", &[])])),
        &of(json!([lua("a", "return { n = 1 }", &[])])),
        json!({ "steps_changed": [
            { "parent": null, "id": "a", "keys": [{ "key": "script", "old": "return {}", "new": "return { n = 1 }" }] },
        ] }),
    );
}

#[test]
fn steps_and_edges_come_and_go() {
    check(
        &of(json!([lua("a", "", &[]), lua("b", "", &["a"])])),
        &of(json!([lua("a", "", &[]), lua("c", "", &["a"])])),
        json!({
            "steps_added": [{ "parent": null, "id": "c", "type": "lua_script" }],
            "steps_removed": [{ "parent": null, "id": "b", "type": "lua_script" }],
            "edges_added": [{ "parent": null, "from": "a", "to": "c" }],
            "edges_removed": [{ "parent": null, "from": "a", "to": "b" }],
        }),
    );
    check(
        &of(json!([lua("a", "", &[]), lua("b", "", &[])])),
        &of(json!([lua("a", "", &[]), lua("b", "", &["a"])])),
        json!({ "edges_added": [{ "parent": null, "from": "a", "to": "b" }] }),
    );
}

#[test]
fn limits_stand_apart() {
    let step = |timeout: Value, retries: Value| {
        of(json!([{ "id": "a", "type": "lua_script", "timeout_s": timeout, "retry_count": retries }]))
    };
    check(
        &step(json!(5), json!(null)),
        &step(json!(30), json!(2)),
        json!({ "limits": [
            { "parent": null, "id": "a", "key": "retry_count", "old": null, "new": 2 },
            { "parent": null, "id": "a", "key": "timeout_s", "old": 5, "new": 30 },
        ] }),
    );
}

#[test]
fn bodies_are_compared_step_by_step_and_in_their_order() {
    let looped = |body: Value| of(json!([{ "id": "loop", "type": "for_each", "for_each_body_steps": body }]));
    check(
        &looped(json!([lua("x", "1", &[]), lua("y", "1", &[])])),
        &looped(json!([lua("y", "1", &[]), lua("x", "2", &[]), lua("z", "1", &["x"])])),
        json!({
            "steps_added": [{ "parent": "loop", "id": "z", "type": "lua_script" }],
            "steps_changed": [
                { "parent": "loop", "id": "x", "keys": [{ "key": "script", "old": "1", "new": "2" }] },
                { "parent": null, "id": "loop",
                  "keys": [{ "key": "for_each_body_steps", "old": ["x", "y"], "new": ["y", "x"] }] },
            ],
            "edges_added": [{ "parent": "loop", "from": "x", "to": "z" }],
        }),
    );
}

#[test]
fn the_document_and_its_schema_are_compared() {
    check(
        &json!({ "name": "one", "steps": [lua("a", "", &[]), lua("b", "", &[])] }),
        &json!({ "name": "two", "failure_policy": "drain", "input_schema": [{ "name": "n", "type": "number" }],
            "steps": [lua("b", "", &[]), lua("a", "", &[])] }),
        json!({
            "input_schema": { "key": "input_schema", "old": null, "new": [{ "name": "n", "type": "number" }] },
            "document": [
                { "key": "name", "old": "one", "new": "two" },
                { "key": "failure_policy", "old": null, "new": "drain" },
                { "key": "steps", "old": ["a", "b"], "new": ["b", "a"] },
            ],
        }),
    );
}

#[test]
fn what_is_no_graph_is_compared_without_failing() {
    for odd in [json!(null), json!([]), json!({ "steps": 3 }), json!({ "steps": [1, {}, { "id": 2 }] })] {
        assert!(diff(&odd, &of(json!([]))).is_empty());
    }
}

#[test]
fn what_a_version_newly_asks_for_is_listed() {
    let with = |capabilities: Value| {
        let ask = json!({ "id": "ask", "type": "lua_script", "script": "", "capabilities": capabilities });
        of(json!([{ "id": "each", "type": "for_each", "for_each_items": [], "for_each_body_steps": [ask] }]))
    };
    let before = with(json!({ "hosts": ["a.example"] }));
    let after = with(json!({
        "hosts": ["b.example:8443"], "secrets": { "key": "connection/crm/api_key" },
        "tools": [{ "instance_id": "crm", "tools": ["search"] }, { "server_url": "https://a.example/mcp", "tools": ["x"] }],
    }));
    let GraphDiff { grants_added, grants_removed, .. } = diff(&before, &after);
    let grant = |grant: &str| GrantRef { parent: Some("each".into()), id: "ask".into(), grant: grant.into() };
    let tools = [grant("tool `search` of instance `crm`"), grant("tool `x` of the server https://a.example/mcp")];
    assert_eq!(grants_added[..2], [grant("host b.example:8443"), grant("secret connection/crm/api_key")]);
    assert_eq!(grants_added[2..], tools);
    assert_eq!(grants_removed, [grant("host a.example")]);
    let moved =
        of(json!([{ "id": "ask", "type": "lua_script", "script": "", "capabilities": { "hosts": ["a.example"] } }]));
    assert_eq!(diff(&of(json!([])), &moved).grants_added, [GrantRef { parent: None, ..grant("host a.example") }]);
}

#[test]
fn a_step_that_names_a_tool_or_a_model_asks_for_it() {
    let mail = json!({ "id": "mail", "type": "mcp_call", "tool_name": "send_email", "instance_id": "mailer" });
    let any = json!({ "id": "any", "type": "mcp_call", "tool_name": "{{ input.tool }}", "server_url": "https://a.example/mcp" });
    let model = json!({ "id": "ask", "type": "llm_call", "model_ref": "direct.openai.x", "llm_credential_id": "own", "prompt": "" });
    let open = json!({ "id": "open", "type": "llm_call", "model": "{{ input.model }}", "prompt": "" });
    let added = diff(&of(json!([])), &of(json!([mail, any, model, open]))).grants_added;
    let told: Vec<(&str, &str)> = added.iter().map(|it| (&*it.id, &*it.grant)).collect();
    assert_eq!(
        told,
        [
            ("any", "tool `*` of the server https://a.example/mcp"),
            ("ask", "model direct.openai.x with the credential own"),
            ("mail", "tool `send_email` of instance `mailer`"),
            ("open", "any model"),
        ]
    );
}

#[test]
fn terms_of_a_tool_that_go_are_a_grant_that_is_added_and_terms_that_come_are_none() {
    let agent = |terms: Value| {
        let mut tool = json!({ "instance_id": "shop", "tool_name": "refund" });
        tool.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
        of(json!([{ "id": "a", "type": "agent_call", "prompt": "", "agent": { "model": "m", "tools": [tool] } }]))
    };
    let script = |terms: Value| {
        let mut tools = json!({ "instance_id": "shop", "tools": ["refund"] });
        tools.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
        of(json!([{ "id": "a", "type": "lua_script", "script": "", "capabilities": { "tools": [tools] } }]))
    };
    let grant = |grant: &str| GrantRef { parent: None, id: "a".into(), grant: grant.into() };
    let free = grant("tool `refund` of instance `shop`");
    let asked = grant("tool `refund` of instance `shop`, each call approved by a person");
    let ruled = |max: u32| json!({ "arguments": { "maxProperties": max } });
    for make in [&agent as &dyn Fn(Value) -> Value, &script] {
        for terms in [json!({ "requires_approval": true }), ruled(1)] {
            let narrowed = diff(&make(json!({ "requires_approval": null })), &make(terms.clone()));
            assert_eq!((narrowed.grants_added, narrowed.grants_removed), (Vec::new(), vec![free.clone()]));
            assert_eq!(narrowed.steps_changed.len(), 1);
            let widened = diff(&make(terms), &make(json!({})));
            assert_eq!((widened.grants_added.as_slice(), widened.grants_removed.len()), ([free.clone()].as_slice(), 0));
        }
        let other = diff(&make(ruled(1)), &make(json!({ "requires_approval": true })));
        assert_eq!(other.grants_added, std::slice::from_ref(&asked), "less of one is not less of all");
        let rules = diff(&make(ruled(1)), &make(ruled(2))).grants_added;
        assert_eq!(
            rules,
            [grant("tool `refund` of instance `shop`, with arguments that satisfy {\"maxProperties\":2}")]
        );
    }
}
