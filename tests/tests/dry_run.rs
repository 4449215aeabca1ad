//! The dry-run with the real sandbox: scripts are compiled and tried where they would run.

use agentruntime_engine::graph::{DryRun, validate};
use agentruntime_sandbox::{Sandbox, SandboxConfig};
use serde_json::{Value, json};

async fn dry_run(document: Value, options: Value) -> DryRun {
    let sandbox =
        Sandbox::new(SandboxConfig { max_instances: 2, ..SandboxConfig::default() }).expect("the sandbox starts");
    let options = serde_json::from_value(options).expect("the options are options");
    validate(&document, options, Some(&sandbox)).await
}

fn lua(id: &str, script: &str) -> Value {
    json!({ "id": id, "type": "lua_script", "script": script })
}

fn found(answer: &DryRun) -> Vec<String> {
    answer.issues.iter().map(|issue| format!("{} {}", issue.code, issue.json_path)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_does_not_compile_is_named_with_its_line() {
    let graph = json!({ "steps": [lua("fine", "return { x = 1 }"), lua("broken", "local x = 1\nreturn {{ x }")] });
    let answer = dry_run(graph, json!({})).await;
    assert_eq!(found(&answer), ["lua_syntax_error $.steps[1].script"]);
    assert_eq!(answer.issues[0].step_id.as_deref(), Some("broken"));
    assert!(answer.issues[0].message.contains("broken:2:"), "{}", answer.issues[0].message);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_are_tried_on_made_up_values() {
    let mut graph = json!({ "steps": [
        lua("load", "return {}"),
        lua("sum", "return { total = steps.load.result.a + input.b }"),
        lua("number", "return steps.load.result.a"),
        lua("missing", "return { x = steps.load.result.none.x }"),
    ] });
    for index in 1..4 {
        graph["steps"][index]["depends_on"] = json!(["load"]);
    }
    let options = json!({
        "mock_step_outputs": { "load": { "a": 1 } },
        "params": { "trigger_payload": { "b": 2 } },
    });
    let answer = dry_run(graph, options).await;
    assert_eq!(found(&answer), ["lua_fixture_return_type $.steps[2].script", "lua_fixture_runtime $.steps[3].script"]);
}
