//! Reading graphs, by example.

use crate::graph::{
    Conduct, FailurePolicy, ForEachErrorPolicy, Graph, InputSchema, Issue, IssueCode, Leaf, OnError, Sleep, StepKind,
    WhileMode, WhileTest, limits::*,
};
use agentruntime_host_api::ErrorCode;
use serde_json::{Value, json};
use std::time::Duration;

fn lua(id: &str) -> Value {
    json!({ "id": id, "type": "lua_script", "script": "return {}" })
}

fn with(mut step: Value, more: Value) -> Value {
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    step
}

fn parse(steps: Value) -> Result<Graph, Vec<Issue>> {
    Graph::parse(&json!({ "steps": steps }))
}

fn codes(steps: Value) -> Vec<(IssueCode, String)> {
    parse(steps).unwrap_err().into_iter().map(|issue| (issue.code, issue.json_path)).collect()
}

/// One step with these settings has exactly this error at this key.
fn refused(settings: Value, code: IssueCode, key: &str) {
    let step = with(lua("a"), settings);
    assert_eq!(codes(json!([step])), [(code, format!("$.steps[0].{key}"))], "{step}");
}

#[test]
fn a_misspelt_key_is_named_also_where_the_type_is_not_known() {
    let issues = parse(json!([{ "id": "a", "typ": "lua_script", "scirpt": "return {}" }])).unwrap_err();
    let told = |path: &str| {
        let issue = issues.iter().find(|issue| issue.json_path == path).unwrap();
        (issue.code, issue.suggestion.clone().unwrap_or_default())
    };
    assert_eq!(told("$.steps[0].typ"), (IssueCode::UnknownKey, "did you mean `type`?".into()));
    assert_eq!(told("$.steps[0].scirpt"), (IssueCode::UnknownKey, "did you mean `script`?".into()));
    assert_eq!(told("$.steps[0].type").0, IssueCode::GraphSchemaValidation);
    let issues = parse(json!([with(lua("a"), json!({ "for_eachh": [] }))])).unwrap_err();
    assert!(issues[0].message.contains("`for_eachh`"), "{issues:?}");
}

fn accepted(settings: Value) -> Graph {
    let step = with(lua("a"), settings);
    parse(json!([step])).unwrap_or_else(|issues| panic!("{step}: {issues:?}"))
}

fn conduct(settings: Value) -> Conduct {
    accepted(settings).steps[0].conduct.clone()
}

#[test]
fn a_graph_knows_its_order_and_who_reads_whom() {
    let graph = parse(json!([
        with(lua("join"), json!({ "depends_on": ["left", "right"], "input_allowlist": ["root", "left"] })),
        lua("root"),
        with(lua("right"), json!({ "depends_on": ["root"] })),
        with(lua("left"), json!({ "depends_on": ["root"] })),
    ]))
    .unwrap();
    assert_eq!(graph.topological_order, [1, 2, 3, 0]);
    assert_eq!(graph.steps[0].depends_on, [3, 2]);
    assert_eq!(graph.steps[0].readable, [1, 3]);
    assert_eq!(graph.steps[1].dependents, [2, 3]);
    assert_eq!(graph.steps[2].readable, [1]);
    assert_eq!(graph.step("left"), Some(3));
}

#[test]
fn every_type_is_read_with_its_fields() {
    let graph = Graph::parse(&json!({
        "name": "all", "failure_policy": "drain", "tenant_id": "t", "nodes": [], "canvas": {},
        "input_schema": [{ "name": "x", "type": "any" }],
        "steps": [
            { "id": "mcp", "type": "mcp_call", "tool_name": "search", "instance_id": "i", "tool_args": { "q": "{{ input.x }}" } },
            { "id": "llm", "type": "llm_call", "model_ref": "m", "prompt": "{{ input.x }}", "llm_credential_id": "c" },
            { "id": "agent", "type": "agent_call", "agent": { "model": "m", "max_turns": 3 }, "input": { "q": 1 } },
            { "id": "ask", "type": "human_task", "task_type": "approval", "on_reject": "continue" },
            { "id": "each", "type": "for_each", "for_each_items": "{{ input.x | [] }}", "for_each_error_policy": "pause",
              "for_each_body_steps": [with(lua("second"), json!({ "depends_on": ["first"] })), lua("first")] },
            { "id": "loop", "type": "while", "while_mode": "until", "while_max_iterations": 3.0,
              "while_condition": "body.inner.ok", "while_body_steps": [lua("inner")] },
            { "id": "call", "type": "workflow_call", "workflow_id": "child", "version": 2, "input": "{{ input.x }}" },
            { "id": "nap", "type": "sleep", "until": "2026-01-01T00:00:00Z" },
        ],
    }))
    .unwrap();
    assert_eq!(graph.failure_policy, FailurePolicy::Drain);
    let kinds: Vec<&StepKind> = graph.steps.iter().map(|step| &step.kind).collect();
    assert!(matches!(kinds[0], StepKind::Leaf(Leaf::Mcp(call)) if call.tool_name == "search"));
    assert!(
        matches!(kinds[1], StepKind::Leaf(Leaf::Llm(call)) if call.grants.models[0].model == "m" && call.grants.models[0].credential.is_some())
    );
    assert!(
        matches!(kinds[2], StepKind::Leaf(Leaf::Agent(call)) if call.agent_id.is_none() && call.grants.models[0].model == "m")
    );
    assert!(matches!(kinds[3], StepKind::HumanTask(task) if task.continue_on_reject));
    let StepKind::ForEach(each) = kinds[4] else { panic!("{:?}", kinds[4]) };
    assert_eq!((each.max_parallel, each.error_policy), (10, ForEachErrorPolicy::Pause));
    assert_eq!(each.body.iter().map(|step| &*step.id).collect::<Vec<_>>(), ["first", "second"]);
    let StepKind::While(each) = kinds[5] else { panic!("{:?}", kinds[5]) };
    assert_eq!((each.mode, each.max_iterations), (WhileMode::Until, 3));
    assert!(
        matches!(&each.test, WhileTest::Condition(condition) if condition.paths()[0].to_string() == "body.inner.ok")
    );
    assert!(matches!(kinds[6], StepKind::WorkflowCall(call) if call.version == Some(2)));
    assert!(matches!(kinds[7], StepKind::Sleep(Sleep::Until(_))));
    let timeouts: Vec<Option<u64>> =
        graph.steps.iter().map(|step| step.conduct.timeout.map(|time| time.as_secs())).collect();
    assert_eq!(timeouts, [Some(60), Some(180), Some(600), None, None, None, None, None]);
}

#[test]
fn what_a_step_does_about_time_and_failure() {
    assert_eq!(conduct(json!({})).timeout, Some(Duration::from_secs(5)));
    assert_eq!(conduct(json!({ "timeout_s": 30 })).timeout, Some(Duration::from_secs(30)));
    assert_eq!(conduct(json!({ "timeout_s": 0.5, "condition": true })).timeout, Some(Duration::from_millis(500)));
    assert_eq!(conduct(json!({})).retry.max_attempts, 1);
    assert_eq!(conduct(json!({ "retry_count": 2 })).retry.max_attempts, 3);
    let retry = conduct(json!({ "retry": { "initial_s": 2, "factor": 1.5, "on": ["STEP_TIMEOUT"] } })).retry;
    assert_eq!((retry.max_attempts, retry.initial, retry.factor), (3, Duration::from_secs(2), 1.5));
    assert_eq!(retry.on, [ErrorCode::StepTimeout]);
    assert_eq!(conduct(json!({ "on_error": "continue" })).on_error, OnError::Continue);
    assert_eq!(conduct(json!({ "on_error": { "result": null } })).on_error, OnError::Result(Value::Null.into()));
    assert_eq!(conduct(json!({ "on_error": "fail", "name": null, "retry_count": null })).on_error, OnError::Fail);
}

#[test]
fn settings_are_refused_where_they_stand() {
    use IssueCode::*;
    refused(json!({ "timeout_s": 30.001 }), ValueOutOfRange, "timeout_s");
    refused(json!({ "timeout_s": 0 }), ValueOutOfRange, "timeout_s");
    refused(json!({ "timeout_s": "5" }), GraphSchemaValidation, "timeout_s");
    refused(json!({ "retry_count": -1 }), ValueOutOfRange, "retry_count");
    refused(json!({ "retry_count": 1.5 }), ValueOutOfRange, "retry_count");
    refused(json!({ "retry_count": RETRY_ATTEMPTS_MAX }), ValueOutOfRange, "retry_count");
    refused(json!({ "retry_count": 1, "retry": {} }), StepConfigConflict, "retry_count");
    refused(json!({ "retry": { "max_attempts": 0 } }), ValueOutOfRange, "retry.max_attempts");
    refused(json!({ "retry": { "attempts": 1 } }), UnknownKey, "retry.attempts");
    refused(json!({ "retry": { "initial_s": 5, "max_s": 4 } }), StepConfigConflict, "retry.max_s");
    refused(json!({ "retry": { "on": ["STEP_TIMOUT"] } }), ValueOutOfRange, "retry.on[0]");
    refused(json!({ "on_error": "ignore" }), ValueOutOfRange, "on_error");
    refused(json!({ "on_error": {} }), GraphSchemaValidation, "on_error.result");
    refused(json!({ "on_error": true }), GraphSchemaValidation, "on_error");
    refused(json!({ "enabled": "false" }), GraphSchemaValidation, "enabled");
    refused(json!({ "condition": null }), ConditionInvalid, "condition");
    refused(json!({ "condition": "yes" }), ConditionInvalid, "condition");
    refused(json!({ "condition": "{{ input.x == 1 }}" }), ConditionInvalid, "condition");
    refused(json!({ "depends_on": "b" }), GraphSchemaValidation, "depends_on");
    refused(json!({ "depends_on": ["a"] }), DependencyCycle, "depends_on");
    refused(json!({ "depends_on": ["b"] }), DependencyMissing, "depends_on[0]");
    refused(json!({ "scirpt": "" }), UnknownKey, "scirpt");
    refused(json!({ "tool_name": "x" }), UnknownKey, "tool_name");
    refused(json!({ "id": "1a" }), StepIdInvalid, "id");
    refused(json!({ "id": "" }), StepIdInvalid, "id");
    refused(json!({ "type": "lua" }), UnknownStepType, "type");
    refused(json!({ "script": " " }), GraphSchemaValidation, "script");
}

#[test]
fn a_limit_is_kept_at_its_edge() {
    let script = |bytes: usize| json!({ "script": format!("return {{}}{}", " ".repeat(bytes - 9)) });
    accepted(script(SCRIPT_BYTES_MAX));
    refused(script(SCRIPT_BYTES_MAX + 1), IssueCode::ScriptTooLarge, "script");
    accepted(json!({ "id": "a".repeat(ID_CHARS_MAX) }));
    refused(json!({ "id": "a".repeat(ID_CHARS_MAX + 1) }), IssueCode::StepIdInvalid, "id");
    accepted(json!({ "id": "3f2b8c1e-0d4a-4b6e-9a77-1c2d3e4f5a6b" }));
    accepted(json!({ "retry_count": RETRY_ATTEMPTS_MAX - 1 }));

    let steps = |count: usize| (0..count).map(|index| lua(&format!("s{index}"))).collect::<Value>();
    assert_eq!(parse(steps(STEPS_MAX)).unwrap().steps.len(), STEPS_MAX);
    assert_eq!(codes(steps(STEPS_MAX + 1)), [(IssueCode::GraphTooLarge, "$.steps".into())]);

    let each = |more: Value| {
        json!([with(
            json!({ "id": "e", "type": "for_each", "for_each_items": [], "for_each_body_steps": [lua("b")] }),
            more
        )])
    };
    for fits in [1, 100] {
        parse(each(json!({ "for_each_max_parallel": fits }))).unwrap();
    }
    for wrong in [0, 101] {
        let expected = [(IssueCode::ValueOutOfRange, "$.steps[0].for_each_max_parallel".to_owned())];
        assert_eq!(codes(each(json!({ "for_each_max_parallel": wrong }))), expected);
    }
    parse(each(json!({ "for_each_body_steps": steps(BODY_STEPS_MAX) }))).unwrap();
    let expected = [(IssueCode::GraphTooLarge, "$.steps[0].for_each_body_steps".to_owned())];
    assert_eq!(codes(each(json!({ "for_each_body_steps": steps(BODY_STEPS_MAX + 1) }))), expected);

    // Five levels are above the value: the document, its steps, the step, `on_error`, and the value's own.
    let deep =
        |levels: usize| json!({ "on_error": { "result": (0..levels).fold(json!(0), |inner, _| json!([inner])) } });
    accepted(deep(GRAPH_DEPTH_MAX - 4));
    let issues = parse(json!([with(lua("a"), deep(GRAPH_DEPTH_MAX - 3))])).unwrap_err();
    assert_eq!((issues.len(), issues[0].code), (1, IssueCode::GraphTooLarge));
    assert!(issues[0].json_path.starts_with("$.steps[0].on_error.result[0]"), "{}", issues[0].json_path);

    let paths = |count: usize| json!([{ "id": "h", "type": "human_task", "task_type": "t", "task_payload": vec!["{{ input.x }}"; count] }]);
    parse(paths(TEMPLATE_PATHS_MAX)).unwrap();
    assert_eq!(codes(paths(TEMPLATE_PATHS_MAX + 1)), [(IssueCode::GraphTooLarge, "$.steps[0].task_payload".into())]);

    let large = |bytes: usize| parse(json!([with(lua("a"), json!({ "on_error": { "result": "x".repeat(bytes) } }))]));
    assert!(large(GRAPH_BYTES_MAX - 200).is_ok());
    assert_eq!(large(GRAPH_BYTES_MAX).unwrap_err()[0].code, IssueCode::GraphTooLarge);
}

#[test]
fn all_errors_are_told_and_not_more_than_help() {
    let graph = json!({ "steps": [with(lua("a"), json!({ "timeout_s": 99, "retry_count": -1 })), { "id": "b" }, 3], "failure_policy": "drian" });
    let issues = Graph::parse(&graph).unwrap_err();
    let paths: Vec<&str> = issues.iter().map(|issue| issue.json_path.as_str()).collect();
    assert_eq!(
        paths,
        ["$.failure_policy", "$.steps[0].timeout_s", "$.steps[0].retry_count", "$.steps[1].type", "$.steps[2]"]
    );
    assert_eq!(issues[0].suggestion.as_deref(), Some("did you mean `drain`?"));
    assert_eq!(issues[1].step_id.as_deref(), Some("a"));
    let bad: Value = (0..900).map(|_| json!({ "id": "a" })).collect();
    assert_eq!(parse(bad).unwrap_err().len(), ISSUES_MAX);
}

#[test]
fn a_suggestion_names_what_was_meant() {
    let suggestion = |steps: Value| parse(steps).unwrap_err()[0].suggestion.clone().unwrap_or_default();
    assert_eq!(suggestion(json!([with(lua("a"), json!({ "depend_on": [] }))])), "did you mean `depends_on`?");
    assert_eq!(suggestion(json!([with(lua("a"), json!({ "prompt_": "x" }))])), "");
    assert_eq!(suggestion(json!([with(lua("a"), json!({ "tool_name": "x" }))])), "it belongs to a `mcp_call` step");
    assert_eq!(
        suggestion(json!([lua("price"), with(lua("b"), json!({ "depends_on": ["prise"] }))])),
        "did you mean `price`?"
    );
    assert_eq!(suggestion(json!([{ "id": "a", "type": "luascript" }])), "did you mean `lua_script`?");
    assert_eq!(suggestion(json!([with(lua("my step"), json!({}))])), "write `my_step`");
    let inside = json!([
        { "id": "each", "type": "for_each", "for_each_items": [], "for_each_body_steps": [lua("inner")] },
        with(lua("b"), json!({ "depends_on": ["inner"] })),
    ]);
    assert!(suggestion(inside).contains("name `each`"));
    let issues = Graph::parse(&json!({ "steps": [lua("a")], "failure_polcy": "drain" })).unwrap_err();
    assert_eq!((issues[0].code, issues[0].json_path.as_str()), (IssueCode::UnknownKey, "$.failure_polcy"));
}

#[test]
fn the_hash_is_that_of_what_runs() {
    let hash = |document: Value| Graph::parse(&document).unwrap().hash;
    let plain = hash(json!({ "steps": [lua("a")] }));
    assert_eq!(
        plain,
        hash(json!({ "steps": [{ "script": "return {}", "type": "lua_script", "id": "a" }], "nodes": [1], "zoom": 2 }))
    );
    assert_ne!(plain, hash(json!({ "steps": [with(lua("a"), json!({ "enabled": true }))] })));
    let graph = Graph::parse(&json!({ "steps": [lua("a")], "edges": [] })).unwrap();
    assert_eq!(graph.canonical.as_str(), r#"{"steps":[{"id":"a","script":"return {}","type":"lua_script"}]}"#);
    assert_eq!(Graph::parse(&graph.canonical.to_value()).unwrap().hash, graph.hash);
}

fn step_inputs(given: &Value) -> crate::run::event::StepInputs {
    crate::run::event::step_inputs(given.as_object().unwrap().clone())
}

#[test]
fn a_start_replaces_settings_and_never_code() {
    let graph = parse(json!([
        with(lua("a"), json!({ "timeout_s": 1, "capabilities": { "hosts": ["api.example.com"] } })),
        { "id": "m", "type": "mcp_call", "tool_name": "t", "instance_id": "i", "tool_args": { "q": 1, "r": 2 } },
    ]))
    .unwrap();
    let given = json!({
        "a": {
            "timeout_s": 3, "script": "return {hacked = true}", "id": "x", "type": "sleep", "depends_on": ["m"], "order": 7,
            "capabilities": { "hosts": ["evil.example"], "secrets": { "key": "vault/all/of/it" } },
        },
        "m": { "q": 5, "other": 1, "tool_name": "u" },
    });
    let changed = graph.with_overrides(&step_inputs(&given)).unwrap();
    assert_eq!(changed.steps[0].conduct.timeout, Some(Duration::from_secs(3)));
    let StepKind::Leaf(Leaf::Lua(lua)) = &changed.steps[0].kind else { panic!("{:?}", changed.steps[0]) };
    assert_eq!((&*lua.source, lua.grants.secrets.len()), ("return {}", 0));
    assert_eq!(lua.grants.hosts, ["api.example.com".parse().unwrap()]);
    assert!(changed.steps[0].depends_on.is_empty() && &*changed.steps[0].id == "a");
    let StepKind::Leaf(Leaf::Mcp(call)) = &changed.steps[1].kind else { panic!("{:?}", changed.steps[1]) };
    assert_eq!((call.tool_name.as_str(), call.tool_args.as_constant()), ("u", Some(&json!({ "q": 5, "r": 2 }))));
    let tools: Vec<&str> = call.grants.tools.iter().flat_map(|granted| &granted.tools).map(String::as_str).collect();
    assert_eq!(tools, ["t"], "what is asked for now was not granted, and is refused when it is asked for");

    let refused = |given: Value| graph.with_overrides(&step_inputs(&given)).unwrap_err()[0].json_path.clone();
    assert_eq!(refused(json!({ "b": {} })), "$.trigger_steps.b");
    assert_eq!(refused(json!({ "a": 1 })), "$.trigger_steps.a");
    assert_eq!(refused(json!({ "a": { "timeout_s": 31 } })), "$.steps[0].timeout_s");
}

/// An agent with these entries of `tools`.
fn agent_with(tools: &Value) -> Value {
    let agent = json!({ "model": "m", "tools": tools });
    json!([{ "id": "a", "type": "agent_call", "agent": agent, "prompt": "Work." }])
}

#[test]
fn a_tool_is_granted_on_the_terms_that_its_entry_says() {
    let rule = json!({ "properties": { "cents": { "maximum": 5_000 } } });
    let entry = |more: Value| with(json!({ "instance_id": "shop", "tool_name": "refund" }), more);
    let small = entry(json!({ "arguments": rule }));
    let large = entry(json!({ "requires_approval": true, "arguments": null }));
    let graph = parse(agent_with(&json!([small, large]))).unwrap_or_else(|issues| panic!("{issues:?}"));
    let StepKind::Leaf(leaf) = &graph.steps[0].kind else { panic!("it is a leaf") };
    let terms: Vec<String> = leaf.grants().tools.iter().map(|grant| grant.terms.to_string()).collect();
    let written = r#", with arguments that satisfy {"properties":{"cents":{"maximum":5000}}}"#;
    assert_eq!(terms, [written, ", each call approved by a person"]);

    let entry =
        json!({ "instance_id": "shop", "tools": ["refund", "void"], "arguments": rule, "requires_approval": true });
    let graph = accepted(json!({ "capabilities": { "tools": [entry] } }));
    let StepKind::Leaf(leaf) = &graph.steps[0].kind else { panic!("it is a leaf") };
    let terms = &leaf.grants().tools[0].terms;
    assert_eq!((terms.rule.as_ref().unwrap().schema(), terms.requires_approval), (rule, true));
}

#[test]
fn terms_that_hold_nothing_back_are_refused_where_they_stand() {
    let entry = |more: Value| with(json!({ "instance_id": "shop", "tool_name": "refund" }), more);
    let refused = |more: Value, code: IssueCode, key: &str| {
        let place = format!("$.steps[0].agent.tools[0].{key}");
        assert_eq!(codes(agent_with(&json!([entry(more.clone())]))), [(code, place)], "{more}");
    };
    refused(json!({ "requires_approval": "yes" }), IssueCode::GraphSchemaValidation, "requires_approval");
    refused(json!({ "arguments": [] }), IssueCode::GraphSchemaValidation, "arguments");
    for rule in [
        json!({ "type": "strnig" }),
        json!({ "$ref": "https://elsewhere.example/schema" }),
        json!({ "properties": { "n": { "pattern": "(?=x)" } } }),
        json!({ "properties": { "n": { "const": "{{ input.n }}" } } }),
        json!({ "$ref": "#" }),
        json!({ "propertis": { "n": { "maximum": 1 } } }),
        json!({ "properties": { "n": { "maxmum": 1 } } }),
        json!({ "properties": { "n": { "format": "ip-adress" } } }),
    ] {
        refused(json!({ "arguments": rule }), IssueCode::ArgumentRuleInvalid, "arguments");
    }
    let rule = json!({ "properties": { "propertis": { "const": { "maxmum": 1 } } }, "required": ["propertis"] });
    assert!(parse(agent_with(&json!([entry(json!({ "arguments": rule }))]))).is_ok(), "a name is no keyword");
    let ip = |text: &str| {
        InputSchema::rule(&json!({ "properties": { "ip": { "format": "ipv4" } } }))
            .unwrap()
            .check(&json!({ "ip": text }))
    };
    assert!(ip("10.0.0.1").is_empty() && !ip("not an address").is_empty(), "formats count");
    let issues = parse(agent_with(&json!([entry(json!({ "arguments": { "$ref": "#" } }))]))).unwrap_err();
    assert!(issues[0].message.starts_with("`arguments` refers to itself"), "{issues:?}");

    // An entry that lets the same be done without terms.
    let (asked, free) = (entry(json!({ "requires_approval": true })), entry(json!({})));
    let conflict = (IssueCode::StepConfigConflict, "$.steps[0].agent.tools[0]".to_owned());
    assert_eq!(codes(agent_with(&json!([asked, free]))), [conflict]);
    let at = |url: &str, more: Value| with(json!({ "server_url": url, "tool_name": "refund" }), more);
    let spelled = at("HTTPS://Shop.example:443/mcp", json!({ "requires_approval": true }));
    let conflict = (IssueCode::StepConfigConflict, "$.steps[0].agent.tools[1]".to_owned());
    assert_eq!(codes(agent_with(&json!([at("https://shop.example/mcp", json!({})), spelled]))), [conflict]);
    let any = json!([{ "instance_id": "shop", "tools": ["*"] }, { "instance_id": "shop", "tools": ["void"], "requires_approval": true }]);
    let step = with(lua("a"), json!({ "capabilities": { "tools": any } }));
    let conflict = (IssueCode::StepConfigConflict, "$.steps[0].capabilities.tools[1]".to_owned());
    assert_eq!(codes(json!([step])), [conflict]);
}

#[test]
fn a_start_cannot_change_the_terms_on_which_a_tool_is_called() {
    let entry = json!({ "instance_id": "shop", "tool_name": "refund", "requires_approval": true });
    let graph = parse(agent_with(&json!([entry]))).unwrap();
    let lax = json!({ "agent": { "model": "m", "tools": [{ "instance_id": "shop", "tool_name": "refund" }] } });
    let changed = graph.with_overrides(&[("a".to_owned(), lax.into())].into()).unwrap();
    let (StepKind::Leaf(before), StepKind::Leaf(after)) = (&graph.steps[0].kind, &changed.steps[0].kind) else {
        panic!("they are leaves")
    };
    assert_eq!(after.grants(), before.grants());
    assert!(after.grants().asks());
}
