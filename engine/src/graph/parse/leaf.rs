//! The step types that a body may hold, too: `lua_script`, `mcp_call`, `llm_call`, `agent_call`.

use super::{
    fields::{Fields, type_name},
    keys, terms,
};
use crate::graph::{
    grants,
    issue::IssueCode,
    limits::{AGENT_TOOLS_MAX, AGENT_TURNS_MAX, SCRIPT_BYTES_MAX, TOKEN_BUDGET_MAX},
    lua_reads::LuaReads,
    model::{AgentCall, Leaf, LlmCall, LuaScript, McpCall},
    report::ScriptFound,
    template::Template,
};
use agentruntime_host_api::{Grants, SecretRef, ToolGrant, ToolServer};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a script is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ScriptUse {
    Result,
    LoopTest,
}

/// The step of a leaf type, or nothing where the type is another.
pub(super) fn leaf(kind: &str, fields: &mut Fields<'_, '_>) -> Option<Leaf> {
    Some(match kind {
        "lua_script" => Leaf::Lua(script(fields, "script", ScriptUse::Result)),
        "mcp_call" => Leaf::Mcp(mcp_call(fields)),
        "llm_call" => Leaf::Llm(llm_call(fields)),
        "agent_call" => Leaf::Agent(agent_call(fields)),
        _ => return None,
    })
}

/// A script that is there. What is wrong with it has been reported.
pub(super) fn script(fields: &mut Fields<'_, '_>, key: &str, purpose: ScriptUse) -> LuaScript {
    let source = fields.text(key).unwrap_or_default();
    if fields.get(key).and_then(Value::as_str).is_some_and(|text| text.trim().is_empty()) {
        fields.error(key, IssueCode::GraphSchemaValidation, format!("`{key}` is empty: a script returns a table"));
    }
    if source.len() > SCRIPT_BYTES_MAX {
        let message = format!("`{key}` has {} bytes; at most {SCRIPT_BYTES_MAX} are allowed", source.len());
        let issue =
            fields.place.key(key).error(IssueCode::ScriptTooLarge, message).suggest("divide it between several steps");
        fields.sink.report.push(issue);
        return LuaScript { source: "".into(), reads: LuaReads::of(""), grants: Arc::default() };
    }
    let source: Arc<str> = source.into();
    let grants = if purpose == ScriptUse::Result { capabilities(fields) } else { Grants::default() };
    if let Some(site) = &fields.sink.site {
        fields.sink.scripts.push(ScriptFound {
            site: site.clone(),
            place: fields.place.key(key),
            source: source.clone(),
            is_loop_test: purpose == ScriptUse::LoopTest,
        });
    }
    LuaScript { reads: LuaReads::of(&source), source, grants: Arc::new(grants) }
}

/// What a script may ask for. A part that is wrong is reported and not granted.
fn capabilities(fields: &mut Fields<'_, '_>) -> Grants {
    let mut grants = Grants::default();
    let Some(members) = fields.object("capabilities") else { return grants };
    let mut inner = Fields::new(members, fields.place.key("capabilities"), &mut *fields.sink);
    inner.only(&["hosts", "secrets", "tools"], "`capabilities`");
    for (text, place) in inner.texts("hosts").unwrap_or_default() {
        match text.parse() {
            Ok(host) => grants.hosts.push(host),
            Err(error) => inner.sink.report.push(place.error(IssueCode::ValueOutOfRange, error.to_string())),
        }
    }
    grants.tools = tools(&mut inner);
    let Some(secrets) = inner.object("secrets") else { return grants };
    let mut named = Fields::new(secrets, inner.place.key("secrets"), &mut *inner.sink);
    for name in named.keys() {
        let Some(text) = named.text(name) else { continue };
        match text.parse::<SecretRef>() {
            Ok(kept) => {
                grants.secrets.insert(name.to_owned(), kept);
            }
            Err(error) => named.error(name, IssueCode::ValueOutOfRange, error.to_string()),
        }
    }
    grants
}

/// The tools that a script may call.
fn tools(fields: &mut Fields<'_, '_>) -> Vec<ToolGrant> {
    let mut granted = Vec::new();
    for (index, item) in fields.list("tools").unwrap_or_default().iter().enumerate() {
        let place = fields.place.key("tools").index(index);
        let Some(members) = item.as_object() else {
            let issue = place.error(IssueCode::GraphSchemaValidation, "what may be called is an object");
            let example = "write `{ \"instance_id\": \"crm\", \"tools\": [\"search\"] }`";
            fields.sink.report.push(issue.suggest(example));
            continue;
        };
        let mut inner = Fields::new(members, place, &mut *fields.sink);
        inner.only(
            &["instance_id", "server_url", "tools", "arguments", "requires_approval"],
            "a server whose tools may be called",
        );
        inner.require("tools", "a server whose tools may be called");
        let names: Vec<&str> = inner.texts("tools").unwrap_or_default().into_iter().map(|(name, _)| name).collect();
        let server = match (inner.name("instance_id"), inner.text("server_url")) {
            (Some(instance), None) => Ok(ToolServer::Instance(instance.to_owned())),
            (None, Some(url)) => ToolServer::at(url).map_err(|error| ("server_url", error.to_string())),
            _ => Err(("instance_id", "say whose tools they are: by `instance_id` or by `server_url`".to_owned())),
        };
        match server {
            Ok(server) => {
                terms::check(&mut inner);
                let (tools, terms) = (names.into_iter().map(str::to_owned).collect(), grants::terms(members));
                granted.push((inner.place, ToolGrant { server, tools, terms }));
            }
            Err((key, message)) => inner.error(key, IssueCode::ValueOutOfRange, message),
        }
    }
    terms::check_together(&granted, fields.sink);
    granted.into_iter().map(|(_, grant)| grant).collect()
}

fn mcp_call(fields: &mut Fields<'_, '_>) -> McpCall {
    let tool_name = fields.template_name("tool_name").unwrap_or_default();
    let (instance, url) = (fields.template_name("instance_id"), fields.template_name("server_url"));
    let tool_args = fields.template("tool_args").unwrap_or_else(empty_object);
    if let Some(args) = fields.get("tool_args").filter(|args| !may_be_object(args, &tool_args)) {
        let message = format!("`tool_args` is an object, not {}", type_name(args));
        fields.error("tool_args", IssueCode::McpToolArgsInvalid, message);
    }
    if let Some(url) = url
        && !["https://", "http://", "{{"].iter().any(|start| url.starts_with(start))
    {
        let issue = fields.place.key("server_url").error(IssueCode::ValueOutOfRange, "`server_url` is no address");
        fields.sink.report.push(issue.suggest("write one that starts with https://"));
    }
    if !fields.has("instance_id") && !fields.has("server_url") {
        let issue = fields.place.error(IssueCode::McpBindingMissing, "nothing says where the tool is");
        fields.sink.report.push(issue.suggest("give the `instance_id` of a registered instance, or a `server_url`"));
    }
    let tools = grants::tool(|key| fields.get(key)?.as_str()).into_iter().collect();
    // An instance says more than an address does.
    let place = if instance.is_some() { "instance_id" } else { "server_url" };
    McpCall {
        tool_name: tool_name.into(),
        instance_id: instance.map(Into::into),
        server_url: url.map(Into::into),
        settings: settings(fields, &[("tool_name", "tool"), (place, place), ("tool_args", "arguments")]),
        tool_args,
        grants: Arc::new(Grants { tools, ..Grants::default() }),
    }
}

fn llm_call(fields: &mut Fields<'_, '_>) -> LlmCall {
    match (fields.has("model"), fields.has("model_ref")) {
        (false, false) => fields.require("model", "an `llm_call`"),
        (true, true) => {
            fields.error(
                "model_ref",
                IssueCode::StepConfigConflict,
                "`model` and `model_ref` both name a model; keep one",
            );
        }
        (true, false) | (false, true) => {}
    }
    for name in ["model", "model_ref", "llm_credential_id", "llm_credential_scope"] {
        fields.template_name(name);
    }
    if let Some(wrong) = fields.get("response_format").filter(|format| !format.is_object() && !format.is_string()) {
        let message = format!("`response_format` is an object or a text, not {}", type_name(wrong));
        fields.error("response_format", IssueCode::GraphSchemaValidation, message);
    }
    fields.template("response_format");
    let params = fields.template("llm_params").unwrap_or_else(empty_object);
    object_or_template(fields, "llm_params", &params);
    prompt(fields, "prompt");
    if fields.has("system") {
        prompt(fields, "system");
    }
    let models = vec![grants::model(|key| fields.get(key)?.as_str())];
    LlmCall {
        settings: settings(
            fields,
            &[
                ("model", "model"),
                ("model_ref", "model"),
                ("prompt", "prompt"),
                ("system", "system"),
                ("llm_params", "params"),
                ("llm_credential_id", "credential"),
                ("llm_credential_scope", "scope"),
                ("response_format", "response_format"),
            ],
        ),
        grants: Arc::new(Grants { models, checks: true, ..Grants::default() }),
    }
}

/// What a step says, under the names that its program knows. What is wrong with it has been reported.
fn settings(fields: &Fields<'_, '_>, names: &[(&str, &str)]) -> Template {
    let given = names.iter().filter_map(|(key, name)| Some(((*name).to_owned(), fields.get(key)?.clone())));
    Template::parse_all(&Value::Object(given.collect()), &mut Vec::new())
}

fn agent_call(fields: &mut Fields<'_, '_>) -> AgentCall {
    match (fields.has("agent_id"), fields.has("agent")) {
        (false, false) => fields.require("agent_id", "an `agent_call` without an inline `agent`"),
        (true, true) => {
            fields.error(
                "agent",
                IssueCode::StepConfigConflict,
                "`agent_id` and `agent` both say which agent; keep one",
            );
        }
        (true, false) | (false, true) => {}
    }
    match (fields.has("prompt"), fields.has("input")) {
        (false, false) => fields.require("prompt", "an `agent_call` without `input`"),
        (true, true) => {
            fields.error("input", IssueCode::StepConfigConflict, "`prompt` and `input` both say the task; keep one")
        }
        (true, false) | (false, true) => {}
    }
    let agent_id = fields.name("agent_id").map(str::to_owned);
    let mut given = inline_agent(fields).cloned().unwrap_or_default();
    let grants = Arc::new(grants::agent(&given));
    let key = if fields.has("input") { "input" } else { "prompt" };
    match key {
        "input" => drop(fields.template("input")),
        _ => drop(prompt(fields, "prompt")),
    }
    for (key, name) in [
        ("model_ref", "model"),
        ("llm_params", "params"),
        ("llm_credential_id", "credential"),
        ("llm_credential_scope", "scope"),
    ] {
        if let Some(value) = given.remove(key) {
            given.insert(name.into(), value);
        }
    }
    given.insert("input".into(), fields.get(key).cloned().unwrap_or_default());
    AgentCall { agent_id, settings: Template::parse_all(&Value::Object(given), &mut Vec::new()), grants }
}

fn inline_agent<'d>(fields: &mut Fields<'d, '_>) -> Option<&'d Map<String, Value>> {
    let members = fields.object("agent")?;
    let mut inner = Fields::new(members, fields.place.key("agent"), &mut *fields.sink);
    inner.only(keys::AGENT_KEYS, "an inline agent");
    if !inner.has("model_ref") {
        inner.require("model", "an inline agent");
    }
    for name in ["model", "model_ref", "llm_credential_id", "llm_credential_scope"] {
        inner.template_name(name);
    }
    inner.text("system");
    inner.template("system");
    inner.template("llm_params");
    inner.whole("max_turns", 1..=AGENT_TURNS_MAX);
    inner.whole("token_budget", 1..=TOKEN_BUDGET_MAX);
    inner.template("tools");
    let count = inner.list("tools").map_or(0, <[Value]>::len);
    if count > AGENT_TOOLS_MAX {
        let message = format!("an agent has {count} tools; at most {AGENT_TOOLS_MAX} are allowed");
        inner.error("tools", IssueCode::ValueOutOfRange, message);
    }
    let mut granted = Vec::new();
    for (entry, place) in inner.objects("tools") {
        granted.extend(grants::agent_tool(entry).map(|grant| (place.clone(), grant)));
        let mut tool = Fields::new(entry, place, &mut *inner.sink);
        tool.only(&["tool_name", "instance_id", "server_url", "arguments", "requires_approval"], "a tool of an agent");
        terms::check(&mut tool);
        tool.require("tool_name", "a tool of an agent");
        for name in ["tool_name", "instance_id", "server_url"] {
            tool.name(name);
        }
        if !tool.has("instance_id") && !tool.has("server_url") {
            let issue = tool.place.error(IssueCode::McpBindingMissing, "nothing says where the tool is");
            tool.sink.report.push(issue.suggest("give the `instance_id` of a registered instance, or a `server_url`"));
        }
    }
    terms::check_together(&granted, inner.sink);
    Some(members)
}

/// What a model is told: a text, or a list of messages.
fn prompt(fields: &mut Fields<'_, '_>, key: &str) -> Template {
    if let Some(value) = fields.get(key).filter(|value| !value.is_string() && !value.is_array()) {
        let message = format!("`{key}` is a text or a list of messages, not {}", type_name(value));
        fields.error(key, IssueCode::GraphSchemaValidation, message);
    }
    fields.template(key).unwrap_or_else(|| Template::constant(Value::Null))
}

/// An object, or one template that may become one.
fn may_be_object(value: &Value, template: &Template) -> bool {
    value.is_object() || template.is_single_path()
}

/// Reports a setting that can never become an object.
pub(super) fn object_or_template(fields: &mut Fields<'_, '_>, key: &str, template: &Template) {
    if let Some(value) = fields.get(key).filter(|value| !may_be_object(value, template)) {
        let message = format!("`{key}` is an object, not {}", type_name(value));
        fields.error(key, IssueCode::GraphSchemaValidation, message);
    }
}

pub(super) fn empty_object() -> Template {
    Template::constant(json!({}))
}
