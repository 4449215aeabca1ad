//! The form of a graph as a JSON Schema, for editors.
//!
//! Owns nothing that the parser does not know better: keys come from the parser's own table and limits from its limits. What
//! a schema cannot say, such as what a template may name, only the dry-run tells.

use super::{
    limits::*,
    parse::keys::{COMMON_KEYS, OUTER_KEYS, STEP_TYPES, StepType},
};
use agentruntime_host_api::ErrorCode;
use serde_json::{Map, Value, json};

/// The JSON Schema of a graph document.
pub fn schema() -> Value {
    let tops: Vec<Value> = STEP_TYPES.iter().map(|kind| step(kind, OUTER_KEYS)).collect();
    let bodies: Vec<Value> = STEP_TYPES.iter().filter(|kind| kind.is_leaf).map(|kind| step(kind, &[])).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "AgentRuntime workflow graph",
        "type": "object",
        "required": ["steps"],
        "properties": {
            "name": optional(json!({ "type": "string" })),
            "description": optional(json!({ "type": "string" })),
            "params": optional(json!({ "type": "object" })),
            "input_schema": optional(json!({ "type": ["object", "array"] })),
            "failure_policy": optional(json!({ "enum": ["fail_fast", "drain"] })),
            "steps": { "type": "array", "minItems": 1, "maxItems": STEPS_MAX, "items": { "oneOf": tops } },
        },
        "$defs": { "body": { "type": "array", "minItems": 1, "maxItems": BODY_STEPS_MAX, "items": { "oneOf": bodies } } },
    })
}

fn step(kind: &StepType, outer: &[&str]) -> Value {
    let keys = COMMON_KEYS.iter().chain(outer).chain(kind.keys);
    let mut properties: Map<String, Value> = keys.map(|key| (key.to_string(), key_schema(key, kind))).collect();
    properties.insert("type".into(), json!({ "const": kind.name }));
    let required: Vec<&str> = ["id", "type"].into_iter().chain(kind.required.iter().copied()).collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

/// What a key holds. Optional keys may be null, as editors write them; a template may stand for an object.
fn key_schema(key: &str, kind: &StepType) -> Value {
    match key {
        "id" => json!({ "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_-]*$", "maxLength": ID_CHARS_MAX }),
        "depends_on" | "input_allowlist" => optional(json!({ "type": "array", "items": { "type": "string" } })),
        "enabled" | "no_auto_start" | "terminal" => optional(json!({ "type": "boolean" })),
        "condition" | "skip_when" | "while_condition" => json!({ "type": ["boolean", "number", "string"] }),
        "timeout_s" => optional(seconds(if kind.name == "lua_script" { LUA_TIMEOUT_S_MAX } else { WAIT_S_MAX })),
        "retry_count" => optional(whole(0, RETRY_ATTEMPTS_MAX - 1)),
        "retry" => optional(retry()),
        "on_error" => optional(json!({ "oneOf": [
            { "enum": ["fail", "continue"] },
            { "type": "object", "required": ["result"], "properties": { "result": {} }, "additionalProperties": false },
        ] })),
        "tool_args" | "llm_params" => optional(json!({ "type": ["object", "string"] })),
        "input" if kind.name == "workflow_call" => optional(json!({ "type": ["object", "string"] })),
        "prompt" | "system" => optional(json!({ "type": ["string", "array"] })),
        "response_format" => optional(json!({ "type": ["object", "string"] })),
        "agent" => optional(agent()),
        "capabilities" => optional(capabilities()),
        "task_payload" | "input" => json!({}),
        "on_reject" => optional(json!({ "enum": ["stop", "continue"] })),
        "for_each_items" => json!({ "type": ["string", "array", "object"] }),
        "for_each_body_steps" | "while_body_steps" => json!({ "$ref": "#/$defs/body" }),
        "for_each_max_parallel" => optional(whole(1, MAX_PARALLEL_MAX)),
        "for_each_error_policy" => {
            optional(json!({ "enum": ["fail_fast", "continue_on_error", "pause", "human_review"] }))
        }
        "while_mode" => json!({ "enum": ["until", "while"] }),
        "while_max_iterations" => whole(1, ITERATIONS_MAX),
        "version" => optional(whole(1, u64::from(u32::MAX))),
        "duration_s" => optional(json!({ "type": ["number", "string"], "minimum": 0, "maximum": WAIT_S_MAX })),
        key if kind.required.contains(&key) => json!({ "type": "string", "minLength": 1 }),
        _ => optional(json!({ "type": "string" })),
    }
}

fn optional(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn whole(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

fn seconds(most: u64) -> Value {
    json!({ "type": "number", "minimum": 0.001, "maximum": most })
}

fn retry() -> Value {
    json!({
        "type": "object",
        "properties": {
            "max_attempts": optional(whole(1, RETRY_ATTEMPTS_MAX)),
            "initial_s": optional(seconds(RETRY_WAIT_S_MAX)),
            "factor": optional(json!({ "type": "number", "minimum": 1, "maximum": RETRY_FACTOR_MAX })),
            "max_s": optional(seconds(RETRY_WAIT_S_MAX)),
            "on": optional(json!({ "type": "array", "items": { "enum": ErrorCode::ALL } })),
        },
        "additionalProperties": false,
    })
}

fn capabilities() -> Value {
    json!({
        "type": "object",
        "properties": {
            "hosts": optional(json!({ "type": "array", "items": { "type": "string" } })),
            "secrets": optional(json!({ "type": "object", "additionalProperties": { "type": "string" } })),
            "tools": optional(json!({ "type": "array", "items": tool_grant() })),
        },
        "additionalProperties": false,
    })
}

fn tool_grant() -> Value {
    json!({
        "type": "object",
        "required": ["tools"],
        "properties": {
            "instance_id": { "type": "string", "minLength": 1 },
            "server_url": { "type": "string" },
            "tools": { "type": "array", "items": { "type": "string" } },
            "arguments": optional(json!({ "type": "object" })),
            "requires_approval": optional(json!({ "type": "boolean" })),
        },
        "oneOf": [{ "required": ["instance_id"] }, { "required": ["server_url"] }],
        "additionalProperties": false,
    })
}

fn agent() -> Value {
    let text = || json!({ "type": "string", "minLength": 1 });
    let tool = json!({
        "type": "object",
        "required": ["tool_name"],
        "properties": {
            "tool_name": text(),
            "instance_id": optional(text()),
            "server_url": optional(text()),
            "arguments": optional(json!({ "type": "object" })),
            "requires_approval": optional(json!({ "type": "boolean" })),
        },
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {
            "name": {},
            "model": optional(text()),
            "model_ref": optional(text()),
            "system": optional(json!({ "type": "string" })),
            "tools": optional(json!({ "type": "array", "items": tool, "maxItems": AGENT_TOOLS_MAX })),
            "max_turns": optional(whole(1, AGENT_TURNS_MAX)),
            "token_budget": optional(whole(1, TOKEN_BUDGET_MAX)),
            "llm_params": {},
            "llm_credential_id": optional(text()),
            "llm_credential_scope": optional(text()),
        },
        "additionalProperties": false,
    })
}
