//! What a start may change for one run: settings of the steps that its `trigger_steps` name.

use super::{
    issue::{Issue, IssueCode, Place, shown},
    model::{Graph, Leaf, StepKind},
    parse::{self, keys},
};
use agentruntime_host_api::Json;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Keys that a start cannot replace: what the step is, what it waits for, code and what it may ask for. Who may start a run may
/// not write programs.
const FIXED_KEYS: [&str; 9] = [
    "id",
    "type",
    "depends_on",
    "input_allowlist",
    "script",
    "capabilities",
    "for_each_body_steps",
    "while_body_steps",
    "while_eval_script",
];

/// Keys that name what a step may ask for. Another name than the published one is refused when the step asks; one that is a
/// template was granted as any, and so stays what it is.
const NAMES: [&str; 9] = [
    "model",
    "model_ref",
    "llm_credential_id",
    "llm_credential_scope",
    "tool_name",
    "instance_id",
    "server_url",
    "agent",
    "agent_id",
];

fn is_template(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{"),
        Value::Array(items) => items.iter().any(is_template),
        Value::Object(members) => members.values().any(is_template),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

impl Graph {
    /// Reads a document. Fails with everything that is wrong with it.
    pub fn parse(document: &Value) -> Result<Self, Vec<Issue>> {
        parse::read(document).into_graph()
    }

    /// The graph for a run whose start gives values to steps: keys that are fields of a step replace them, for an `mcp_call`
    /// also entries of its `tool_args`. Other keys mean nothing here; they are input of the step.
    pub fn with_overrides(&self, trigger_steps: &BTreeMap<String, Json>) -> Result<Self, Vec<Issue>> {
        let mut document = self.canonical.to_value();
        let mut issues = Vec::new();
        for (id, given) in trigger_steps {
            let place = Place::root().key("trigger_steps").key(id);
            let step = document["steps"].as_array_mut().into_iter().flatten().find(|step| step["id"] == **id);
            match (step.and_then(Value::as_object_mut), given.to_value()) {
                (Some(step), Value::Object(given)) => replace(step, &given),
                (Some(_), Value::Null) => {}
                (Some(_), _) => {
                    let message = format!("what is given to `{id}` is an object");
                    issues.push(place.error(IssueCode::InputInvalid, message));
                }
                (None, _) => {
                    let issue = place.error(IssueCode::DependencyMissing, format!("there is no step `{}`", shown(id)));
                    issues.push(issue.suggest_nearest(id, self.steps.iter().map(|step| &*step.id)));
                }
            }
        }
        if !issues.is_empty() {
            return Err(issues);
        }
        let mut changed = Self::parse(&document)?;
        changed.keep_grants_of(self);
        Ok(changed)
    }

    /// Who may start a run may give a step another tool or model to use; it may still use what was published.
    fn keep_grants_of(&mut self, published: &Self) {
        for (step, before) in self.steps.iter_mut().zip(&published.steps) {
            if let (StepKind::Leaf(leaf), StepKind::Leaf(before)) = (&mut step.kind, &before.kind) {
                leaf.keep_grants_of(before);
            }
        }
    }
}

impl Leaf {
    fn keep_grants_of(&mut self, published: &Self) {
        match (self, published) {
            (Self::Lua(leaf), Self::Lua(before)) => leaf.grants = before.grants.clone(),
            (Self::Mcp(leaf), Self::Mcp(before)) => leaf.grants = before.grants.clone(),
            (Self::Llm(leaf), Self::Llm(before)) => leaf.grants = before.grants.clone(),
            (Self::Agent(leaf), Self::Agent(before)) => leaf.grants = before.grants.clone(),
            _ => {}
        }
    }
}

fn replace(step: &mut Map<String, Value>, given: &Map<String, Value>) {
    let Some(kind) = step.get("type").and_then(Value::as_str).and_then(keys::step_type) else { return };
    for (key, value) in given {
        let known = [keys::COMMON_KEYS, keys::OUTER_KEYS, kind.keys];
        if known.iter().any(|keys| keys.contains(&key.as_str())) {
            // A name that the author left open to the input is open to it in the author's way alone.
            let is_open = NAMES.contains(&key.as_str()) && step.get(key).is_some_and(is_template);
            if !FIXED_KEYS.contains(&key.as_str()) && !is_open {
                step.insert(key.clone(), value.clone());
            }
        } else if let (true, Some(Value::Object(args))) = (kind.name == "mcp_call", step.get_mut("tool_args"))
            && args.contains_key(key)
        {
            args.insert(key.clone(), value.clone());
        }
    }
}
