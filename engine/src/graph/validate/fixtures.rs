//! Made-up surroundings of a script.

use super::DryRunOptions;
use crate::graph::{lua_reads::LuaReads, parse::Draft, report::ScriptFound};
use agentruntime_host_api::{Entropy, Invocation, Json, Limits, Program, Scope};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The global variables that a made-up scope can hold, beside `steps`.
const GLOBALS: [&str; 8] = ["input", "run", "connection", "item", "index", "foreach", "body", "loop"];

/// The call of a script on what the options give: its own scope, or made-up results of every step that it reads.
pub(super) fn invocation(
    draft: &Draft,
    options: &DryRunOptions,
    script: &ScriptFound,
    program: Program,
) -> Option<Invocation> {
    let id = script.site.inner.as_ref().unwrap_or(&draft.steps[script.site.step].id);
    let own = match options.mock_lua_scopes.get(&**id) {
        Some(Value::Object(members)) => members.clone(),
        Some(_) => Map::new(),
        // What a body's script sees, such as its item, does not follow from results of other steps.
        None if script.site.inner.is_some() || script.is_loop_test => return None,
        None if !reads_are_given(draft, options, script) => return None,
        None => Map::new(),
    };
    Some(Invocation {
        tenant: options.tenant.clone(),
        program,
        scope: scope(options, own),
        started_at: options.started_at,
        entropy: Entropy(0),
        limits: Limits::default(),
    })
}

/// Whether there is a made-up result for each ancestor that the script can read.
fn reads_are_given(draft: &Draft, options: &DryRunOptions, script: &ScriptFound) -> bool {
    let reads = LuaReads::of(&script.source);
    let Some(links) = &draft.links else { return false };
    draft.steps.iter().enumerate().all(|(index, step)| {
        let is_read = reads.step(&step.id) && links.order.is_ancestor(index, script.site.step) != Some(false);
        !is_read || options.mock_step_outputs.contains_key(&*step.id)
    })
}

fn scope(options: &DryRunOptions, mut own: Map<String, Value>) -> Scope {
    let mut steps: Map<String, Value> =
        options.mock_step_outputs.iter().map(|(id, output)| (id.clone(), json!({ "result": output }))).collect();
    if let Some(Value::Object(given)) = own.remove("steps") {
        steps.extend(given);
    }
    let defaults = [
        ("input", options.params.trigger_payload.clone().unwrap_or_else(|| json!({}))),
        (
            "run",
            json!({ "run_id": "dry-run", "started_at": options.started_at.to_string(), "trigger_type": "dry_run" }),
        ),
        ("connection", json!({})),
    ];
    for (name, value) in defaults {
        own.entry(name).or_insert(value);
    }
    let globals = GLOBALS.iter().filter_map(|name| Some((*name, Json::of_value(own.get(*name)?)))).collect();
    let steps = steps.iter().map(|(id, entry)| (Arc::from(id.as_str()), Json::of_value(entry))).collect();
    Scope { globals, steps }
}
