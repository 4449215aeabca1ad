//! What a step of a fixed kind may ask for: the tools, or the model, that it names.

use agentruntime_host_api::{ANY, ArgumentRule, Grants, ModelGrant, Terms, ToolGrant, ToolServer};
use serde_json::{Map, Value};

/// The model of an `llm_call`, from the step's own texts.
pub(super) fn model<'d>(text: impl Fn(&str) -> Option<&'d str>) -> ModelGrant {
    let name = |key: &str| text(key).map(|text| named(text).to_owned());
    ModelGrant {
        model: name("model").or_else(|| name("model_ref")).unwrap_or_default(),
        credential: name("llm_credential_id"),
        scope: name("llm_credential_scope"),
    }
}

/// The tool of an `mcp_call`, from the step's own texts; nothing where it says no server.
pub(super) fn tool<'d>(text: impl Fn(&str) -> Option<&'d str>) -> Option<ToolGrant> {
    let name = |key: &str| text(key).map(|text| named(text).to_owned());
    // An instance says more than an address does.
    let server = name("instance_id").map(ToolServer::Instance).or_else(|| name("server_url").map(ToolServer::Url))?;
    Some(ToolGrant { server, tools: [name("tool_name").unwrap_or_default()].into(), terms: Terms::default() })
}

/// The tool that an agent's entry names, on the terms that it says; nothing where it says no server.
pub(super) fn agent_tool(entry: &Map<String, Value>) -> Option<ToolGrant> {
    Some(ToolGrant { terms: terms(entry), ..tool(|key| entry.get(key)?.as_str())? })
}

/// The terms of an entry. They are granted as they are written, so that a start changes nothing about them.
pub(super) fn terms(entry: &Map<String, Value>) -> Terms {
    let rule = entry.get("arguments").filter(|schema| schema.is_object()).map(ArgumentRule::of);
    Terms { rule, requires_approval: entry.get("requires_approval") == Some(&Value::Bool(true)) }
}

/// The model and the tools of an inline agent.
pub(super) fn agent(agent: &Map<String, Value>) -> Grants {
    let tools = agent.get("tools").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    Grants {
        models: vec![model(|key| agent.get(key)?.as_str())],
        tools: tools.filter_map(agent_tool).collect(),
        ..Grants::default()
    }
}

/// A name as it is granted. One that is known only when the step runs stands for any.
fn named(name: &str) -> &str {
    if name.contains("{{") { ANY } else { name }
}
