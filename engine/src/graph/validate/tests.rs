//! The dry-run, by example.

use super::*;
use crate::graph::Severity;
use agentruntime_host_api::{
    ErrorCode, HostRequest, Invocation, Json, Outcome, Program, StepError, StepOutput, TenantId,
};
use futures_util::future::BoxFuture;
use serde_json::json;
use std::{sync::Mutex, time::Duration};

/// A guest that acts by the script's text, and notes what it was given.
#[derive(Default)]
struct Scripted(Mutex<Vec<Invocation>>);

impl Guest for Scripted {
    fn start(&self, invocation: Invocation) -> BoxFuture<'_, Outcome> {
        let source = invocation.program.source.clone();
        self.0.lock().unwrap().push(invocation);
        Box::pin(async move {
            match &*source {
                "return 1" => Outcome::Failed(StepError::new(ErrorCode::LuaError, "a:1: a script must return a table")),
                "error()" => Outcome::Failed(StepError::new(ErrorCode::LuaError, "a:1: nil")),
                "ask()" => Outcome::Requests { requests: vec![request()], execution: Box::new(Never) },
                _ => Outcome::Done(StepOutput { json: Json::empty_object(), fuel: None, duration: Duration::ZERO }),
            }
        })
    }

    fn check(&self, _: TenantId, program: Program) -> BoxFuture<'_, Result<(), StepError>> {
        let fits = !program.source.contains("syntax");
        Box::pin(async move { if fits { Ok(()) } else { Err(StepError::new(ErrorCode::LuaError, "near `syntax`")) } })
    }
}

fn request() -> HostRequest {
    HostRequest { number: 0, capability: "http.fetch".into(), arguments: Json::empty_object() }
}

struct Never;

impl agentruntime_host_api::Execution for Never {
    fn resume(self: Box<Self>, _: Vec<agentruntime_host_api::HostReply>) -> BoxFuture<'static, Outcome> {
        panic!("a dry-run answers no request")
    }
}

async fn dry_run(document: &Value, options: Value) -> DryRun {
    validate(document, serde_json::from_value(options).unwrap(), Some(&Scripted::default())).await
}

/// Each issue as `code path`.
async fn found(document: &Value, options: Value) -> Vec<String> {
    dry_run(document, options).await.issues.iter().map(|issue| format!("{} {}", issue.code, issue.json_path)).collect()
}

fn lua(id: &str, script: &str) -> Value {
    json!({ "id": id, "type": "lua_script", "script": script })
}

#[tokio::test]
async fn a_valid_graph_is_ready() {
    let graph = json!({ "steps": [{ "id": "b", "type": "lua_script", "script": "return {}", "depends_on": ["a"] }, lua("a", "return {}")] });
    let answer = dry_run(&graph, json!({})).await;
    assert!(answer.valid && answer.issues.is_empty());
    assert_eq!(answer.graph_hash.clone().unwrap(), crate::graph::Graph::parse(&graph).unwrap().hash);
    let hash = answer.graph_hash.clone().unwrap();
    assert_eq!(
        serde_json::to_value(&answer).unwrap(),
        json!({
            "valid": true, "readiness": "ready", "issues": [],
            "checks_performed": ["graph", "graph_schema", "dependencies", "step_config", "templates", "lua_syntax",
                                 "mcp_bindings", "mcp_resolve", "disabled_steps", "input_schema"],
            "topological_order": ["a", "b"], "graph_hash": hash,
        })
    );
}

#[tokio::test]
async fn an_issue_says_what_where_and_what_to_do() {
    let graph = json!({ "steps": [
        lua("load", "return {}"), lua("price", "return {}"),
        { "id": "ask", "type": "human_task", "task_type": "t", "depends_on": ["load"],
          "task_payload": { "rows": ["{{ steps.price.result.rows }}"] } },
    ] });
    let answer = dry_run(&graph, json!({})).await;
    assert!(!answer.valid && answer.readiness == Readiness::Blocked);
    assert_eq!(
        serde_json::to_value(&answer.issues).unwrap(),
        json!([{
            "severity": "error", "code": "template_missing_dependency", "step_id": "ask",
            "json_path": "$.steps[2].task_payload.rows[0]",
            "message": "`steps.price.result.rows` reads `price`, which this step does not wait for",
            "suggestion": "add `price` to the dependencies of `ask`: \"depends_on\": [\"load\", \"price\"]",
        }])
    );
}

#[tokio::test]
async fn steps_that_reach_outside_are_warned_about() {
    let graph = json!({ "steps": [
        { "id": "a", "type": "mcp_call", "tool_name": "t", "server_url": "https://x", "tool_args": { "q": "{{ input.q }}", "r": 1 } },
        { "id": "b", "type": "mcp_call", "tool_name": "t" },
        { "id": "c", "type": "llm_call", "model": "m", "prompt": "p", "enabled": false },
    ] });
    assert_eq!(
        found(&graph, json!({})).await,
        [
            "mcp_binding_missing $.steps[1]",
            "mcp_instance_unresolved $.steps[0].server_url",
            "mcp_tool_input_schema_unavailable $.steps[0].tool_name",
            "mcp_tool_arg_deferred $.steps[0].tool_args.q",
            "mcp_tool_input_schema_unavailable $.steps[1].tool_name",
        ]
    );
    let valid = json!({ "steps": [{ "id": "e", "type": "for_each", "for_each_items": [1], "for_each_body_steps": [
        { "id": "i", "type": "agent_call", "agent_id": "a", "prompt": "{{ item }}" }] }] });
    let answer = dry_run(&valid, json!({})).await;
    assert_eq!((answer.valid, answer.readiness), (true, Readiness::Blocked));
    assert_eq!(answer.issues[0].json_path, "$.steps[0].for_each_body_steps[0].agent_id");
    assert_eq!(answer.issues[0].severity, Severity::Warning);
}

#[tokio::test]
async fn checks_and_steps_can_be_chosen() {
    let graph = json!({ "steps": [
        { "id": "a", "type": "mcp_call", "tool_name": "t", "retry_count": -1 },
        { "id": "b", "type": "lua_script", "script": "syntax", "depends_on": ["c"] },
    ] });
    assert_eq!(
        found(&graph, json!({ "checks": ["dependencies"] })).await,
        ["dependency_missing $.steps[1].depends_on[0]"]
    );
    let skip = json!({ "skip_checks": ["mcp_bindings", "mcp_resolve", "step_config", "graph_schema"] });
    assert_eq!(
        found(&graph, skip).await,
        ["dependency_missing $.steps[1].depends_on[0]", "lua_syntax_error $.steps[1].script"]
    );
    let only = json!({ "step_ids": ["b"], "checks": ["graph_schema", "lua_syntax"] });
    assert_eq!(found(&graph, only).await, ["lua_syntax_error $.steps[1].script"]);
    let answer = dry_run(&graph, json!({ "checks": ["graph"] })).await;
    assert_eq!(answer.checks_performed, [Check::Graph]);
    let without_guest = validate(&graph, DryRunOptions::default(), None).await;
    assert!(!without_guest.checks_performed.contains(&Check::LuaSyntax));
    assert!(serde_json::from_value::<DryRunOptions>(json!({ "check": [] })).is_err());
}

#[tokio::test]
async fn a_start_payload_is_tried_on_schema_and_templates() {
    let graph = json!({
        "input_schema": { "properties": { "n": { "type": "integer" }, "d": { "default": [] } } },
        "steps": [
            { "id": "h", "type": "human_task", "task_type": "t", "condition": "{{ input.absent }}",
              "task_payload": ["{{ input.custommer.name }}", "{{ input.absent | 1 }}", "{{ input.d }}"] },
            { "id": "e", "type": "for_each", "for_each_items": "{{ input.n }}", "for_each_body_steps": [lua("i", "return {}")] },
            { "id": "f", "type": "for_each", "for_each_items": "{{ input.rows }}", "for_each_body_steps": [lua("i", "return {}")] },
        ],
    });
    let payload = json!({ "params": { "trigger_payload": { "n": "3", "customer": { "name": "Ada" } } } });
    assert_eq!(
        found(&graph, payload.clone()).await,
        [
            "input_invalid $.params.trigger_payload.n",
            "template_unresolved $.steps[0].task_payload[0]",
            "template_unresolved $.steps[0].task_payload[2]",
            "for_each_items_invalid $.steps[1].for_each_items",
            "for_each_items_unresolved $.steps[2].for_each_items",
        ]
    );
    let answer = dry_run(&graph, payload).await;
    assert_eq!(answer.issues[1].suggestion.as_deref(), Some("the nearest path that exists is `input.customer`"));
    let fits = json!({ "params": { "trigger_payload": { "n": 3, "custommer": { "name": 1 }, "rows": null } } });
    assert_eq!(found(&graph, fits).await, ["for_each_items_invalid $.steps[1].for_each_items"]);
}

#[tokio::test]
async fn results_of_a_fixed_form_are_known() {
    let graph = json!({ "steps": [
        { "id": "e", "type": "for_each", "for_each_items": [], "for_each_body_steps": [lua("i", "return {}")] },
        { "id": "h", "type": "human_task", "task_type": "t", "depends_on": ["e"], "task_payload": "{{ steps.e.result.result }}" },
        { "id": "off", "type": "lua_script", "script": "return {}", "enabled": false },
        { "id": "g", "type": "human_task", "task_type": "t", "depends_on": ["off"],
          "task_payload": ["{{ steps.off.result.x }}", "{{ steps.off.result.x | 1 }}", "{{ steps.off.result }}"] },
    ] });
    let answer = dry_run(&graph, json!({})).await;
    assert!(answer.valid);
    assert_eq!(answer.issues.len(), 2);
    assert_eq!(answer.issues[0].code.to_string(), "disabled_step_read");
    assert_eq!(answer.issues[1].suggestion.as_deref(), Some("did you mean `steps.e.result.results`?"));
}

#[tokio::test]
async fn scripts_run_on_made_up_values() {
    let mut graph = json!({ "steps": [lua("a", "return {}"), lua("b", "return 1"), lua("c", "error()"), lua("d", "ask()"), lua("e", "return steps.a.result")] });
    graph["steps"][4]["depends_on"] = json!(["a"]);
    let all = json!({ "mock_lua_scopes": { "b": {}, "c": {}, "d": {} } });
    assert_eq!(
        found(&graph, all).await,
        [
            "lua_fixture_return_type $.steps[1].script",
            "lua_fixture_runtime $.steps[2].script",
            "lua_fixture_runtime $.steps[3].script",
        ]
    );
    assert_eq!(found(&graph, json!({ "mock_step_outputs": {} })).await, [""; 0]);

    let guest = Scripted::default();
    let options = json!({ "mock_step_outputs": { "a": { "x": 1 } }, "params": { "trigger_payload": { "n": 2 } }, "step_ids": ["e"] });
    validate(&graph, serde_json::from_value(options).unwrap(), Some(&guest)).await;
    let calls = guest.0.into_inner().unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(&*calls[0].program.name, "e");
    assert_eq!(calls[0].scope.steps, [("a".into(), json!({ "result": { "x": 1 } }).into())]);
    assert_eq!(calls[0].scope.globals[0], ("input", json!({ "n": 2 }).into()));
}

#[tokio::test]
async fn no_script_runs_where_nothing_is_made_up() {
    let guest = Scripted::default();
    let graph = json!({ "steps": [lua("a", "while true do end")] });
    assert!(validate(&graph, DryRunOptions::default(), Some(&guest)).await.valid);
    assert!(guest.0.into_inner().unwrap().is_empty());
}

#[tokio::test]
async fn body_scripts_run_on_scopes_of_their_own() {
    let graph = json!({ "steps": [{ "id": "e", "type": "for_each", "for_each_items": [], "for_each_body_steps": [lua("i", "return {}")] }] });
    let guest = Scripted::default();
    let options = json!({ "mock_step_outputs": { "x": 1 }, "mock_lua_scopes": { "i": { "item": 5, "index": 0, "steps": { "y": { "result": 2 } } } } });
    let answer = validate(&graph, serde_json::from_value(options).unwrap(), Some(&guest)).await;
    assert!(answer.checks_performed.contains(&Check::LuaFixture));
    let call = &guest.0.into_inner().unwrap()[0];
    assert!(call.scope.globals.contains(&("item", json!(5).into())));
    assert_eq!(call.scope.steps.iter().map(|(id, _)| &**id).collect::<Vec<_>>(), ["x", "y"]);
}

#[tokio::test]
async fn what_is_no_graph_is_answered_all_the_same() {
    for document in [json!(null), json!([]), json!({}), json!({ "steps": {} }), json!({ "steps": [null, 1, []] })] {
        let answer = dry_run(&document, json!({})).await;
        assert!(!answer.valid && !answer.issues.is_empty(), "{document}");
    }
}
