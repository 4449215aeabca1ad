//! Templates against what is known of the values: a given start payload, made-up results, and the form of built-in results.

use super::DryRunOptions;
use crate::graph::{
    issue::{IssueCode, Place, shown},
    model::{Leaf, OnError, StepKind},
    nearest::nearest,
    parse::{Draft, StepDraft},
    report::{Report, Role, TemplateFound, TemplateText},
    template::{Lookup, Path, PathUse, Template, nearest_path, walk},
};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Checks the start payload, and every template whose values are known.
pub(super) fn check(draft: &Draft, options: &DryRunOptions, report: &mut Report) {
    let known = Known { input: admitted(draft, options, report), outputs: &options.mock_step_outputs };
    for found in &draft.templates {
        let TemplateText::Value(template) = &found.text else { continue };
        for path in template.uses().into_iter().filter(|path| !path.has_alternative) {
            if report.is_full() {
                return;
            }
            check_path(draft, &known, found, &path, report);
        }
        if found.role == Role::Items {
            check_items(&known, template, &found.place, report);
        }
    }
}

/// The payload as a run would get it.
fn admitted(draft: &Draft, options: &DryRunOptions, report: &mut Report) -> Option<Value> {
    let payload = options.params.trigger_payload.clone()?;
    let Some(schema) = &draft.input_schema else { return Some(payload) };
    match schema.admit(payload.clone()) {
        Ok(admitted) => Some(admitted),
        Err(issues) => {
            let prefix = Place::root().key("params").key("trigger_payload").path.to_string();
            report.extend(issues.into_iter().map(|mut issue| {
                issue.json_path.replace_range(..1, &prefix);
                issue
            }));
            Some(payload)
        }
    }
}

struct Known<'o> {
    input: Option<Value>,
    outputs: &'o Map<String, Value>,
}

impl Known<'_> {
    /// The value that a path leads into, with how many segments it takes to name it.
    fn source(&self, path: &Path) -> Option<(&Value, usize)> {
        match path.root() {
            "input" => Some((self.input.as_ref()?, 1)),
            "steps" if path.segment(2) == Some("result") => Some((self.outputs.get(path.segment(1)?)?, 3)),
            _ => None,
        }
    }
}

impl Lookup for Known<'_> {
    fn lookup(&self, path: &Path) -> Option<Cow<'_, Value>> {
        let (value, named) = self.source(path)?;
        walk(value, &path.segments[named..]).map(Cow::Borrowed)
    }

    fn nearest(&self, path: &Path) -> Option<String> {
        let (value, named) = self.source(path)?;
        let prefix = Path { segments: path.segments[..named].to_vec() };
        nearest_path(&prefix.to_string(), value, &path.segments[named..])
    }
}

fn check_path(draft: &Draft, known: &Known<'_>, found: &TemplateFound, path: &PathUse<'_>, report: &mut Report) {
    let code =
        if found.role == Role::Items { IssueCode::ForEachItemsUnresolved } else { IssueCode::TemplateUnresolved };
    let place = || found.place.inside(&path.at);
    let name = shown(&path.path.to_string()).into_owned();
    if known.source(path.path).is_some() {
        if known.lookup(path.path).is_none() {
            let message = format!("`{name}` does not resolve with the values that this dry-run was given");
            let issue = place().error(code, message);
            report.push(match known.nearest(path.path) {
                Some(nearest) => issue.suggest(format!("the nearest path that exists is `{nearest}`")),
                None => issue,
            });
        }
        return;
    }
    let upstream =
        path.path.segment(1).filter(|_| path.path.root() == "steps" && path.path.segment(2) == Some("result"));
    let step = upstream.and_then(|id| draft.steps.iter().find(|step| &*step.id == id));
    let (Some(keys), Some(key)) = (step.and_then(result_keys), path.path.segment(3)) else { return };
    if !keys.contains(&key) {
        let message = format!("`{name}`: the result has {}", keys.join(", "));
        let issue = place().warning(code, message);
        let prefix = Path { segments: path.path.segments[..3].to_vec() };
        report.push(match nearest(key, keys.iter().copied()) {
            Some(meant) => issue.suggest(format!("did you mean `{prefix}.{meant}`?")),
            None => issue,
        });
    }
}

/// The keys of a result whose form is fixed.
fn result_keys(step: &StepDraft) -> Option<&'static [&'static str]> {
    if step.conduct.on_error != OnError::Fail || !step.enabled {
        return None;
    }
    match step.kind.as_ref()? {
        StepKind::Leaf(Leaf::Llm(_)) => Some(&[
            "model",
            "text",
            "tokens_in",
            "tokens_out",
            "latency_ms",
            "json",
            "tool_calls",
            "finish_reason",
            "refusal",
        ]),
        StepKind::Leaf(Leaf::Agent(_)) => Some(&["text", "turns", "tool_calls", "tokens_in", "tokens_out"]),
        StepKind::ForEach(_) => {
            Some(&["count", "max_parallel", "succeeded_count", "failed_count", "results", "partial_success"])
        }
        StepKind::While(_) => Some(&["iteration_count", "max_iterations", "stopped_reason", "last", "iterations"]),
        StepKind::Sleep(_) => Some(&["slept_s"]),
        StepKind::Leaf(Leaf::Lua(_) | Leaf::Mcp(_)) | StepKind::HumanTask(_) | StepKind::WorkflowCall(_) => None,
    }
}

/// Whether the items are a list, where all that they are made of is known.
fn check_items(known: &Known<'_>, items: &Template, place: &Place, report: &mut Report) {
    if !items.paths().iter().all(|path| known.source(path).is_some()) {
        return;
    }
    let found = match items.resolve(known) {
        Ok(Value::Null | Value::Array(_)) | Err(_) => return,
        Ok(Value::Object(members)) if members.is_empty() => return,
        Ok(Value::Object(_)) => "an object",
        Ok(Value::String(_)) => "a text",
        Ok(Value::Number(_)) => "a number",
        Ok(Value::Bool(_)) => "true or false",
    };
    let message =
        format!("`for_each_items` resolves to {found}, not to a list, with the values that this dry-run was given");
    report.push(place.error(IssueCode::ForEachItemsInvalid, message));
}
