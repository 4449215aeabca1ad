//! Bodies as people write them, for the operations that they begin with: part of the description. A test sends each to a service.

use serde_json::{Value, json};

/// An example of an operation's body.
pub(super) fn of(operation: &str) -> Option<Value> {
    Some(match operation {
        "create_workflow" => {
            json!({ "name": "greeting", "description": "Greets, once somebody agrees.", "graph": graph() })
        }
        "update_workflow" => json!({ "description": "Greets by name, once somebody agrees.", "graph": graph() }),
        "validate_workflow" => json!({ "params": { "trigger_payload": { "name": "Ada" } } }),
        "publish_version" => json!({ "changelog": "Asks before it greets." }),
        "command_workflow" => json!({ "command": "start", "params": { "trigger_payload": { "name": "Ada" } } }),
        "complete_task" => json!({ "approved": true, "result": { "note": "Go ahead." } }),
        "create_schedule" => json!({
            "cron": "30 9 * * MON-FRI",
            "timezone": "Europe/Berlin",
            "trigger_payload": { "name": "Ada" },
            "overlap": "skip",
        }),
        "create_pat" => json!({ "name": "ci", "scopes": ["workflow:read", "workflow:run"], "project_id": "default" }),
        "create_project" => json!({ "slug": "support", "name": "Support" }),
        "create_invite" => json!({ "email": "grace@example.com", "role": "member" }),
        _ => return None,
    })
}

fn graph() -> Value {
    json!({
        "input_schema": [{ "name": "name", "type": "string" }],
        "steps": [
            { "id": "ask", "type": "human_task", "task_type": "approval", "task_payload": { "question": "Greet {{ input.name }}?" } },
            { "id": "greet", "type": "lua_script", "depends_on": ["ask"], "script": "return { text = 'Hello ' .. input.name }" },
        ],
    })
}
