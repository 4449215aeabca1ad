//! Mistakes in conditions and templates.

use super::{Spot, Wrong, pointers, with};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What can be read nowhere.
const BAD_TEMPLATES: [&str; 14] = [
    "{{ input.x",
    "{{",
    "{{ }}",
    "{{ input..x }}",
    "{{ .input }}",
    "{{ input.x | }}",
    "{{ input.x | 1 | 2 }}",
    "{{ input[0] }}",
    "{{ input.a == 1 }}",
    "{{ nowhere.x }}",
    "{{ inptu.x }}",
    "{{ steps }}",
    "{{ steps.no_such_step.result }}",
    "{{ run.secret }}",
];

/// Keys whose strings are templates.
const TEMPLATE_KEYS: [&str; 10] = [
    "task_payload",
    "tool_args",
    "prompt",
    "system",
    "llm_params",
    "input",
    "agent",
    "for_each_items",
    "model",
    "server_url",
];

pub(super) fn condition_mistakes(base: &Value, spot: &Spot) -> Vec<Wrong> {
    let mut keys = vec!["condition", "skip_when"];
    if spot.step(base).get("while_condition").is_some() {
        keys.push("while_condition");
    }
    let mut all = Vec::new();
    for key in keys {
        let constants = [
            json!(null),
            json!(""),
            json!("yes"),
            json!("steps"),
            json!("input.x == 1"),
            json!("not input.x"),
            json!([]),
            json!({}),
        ];
        let values = constants.into_iter().chain(BAD_TEMPLATES.map(Value::from));
        all.extend(
            values
                .filter(|value| !(value.is_null() && key == "while_condition"))
                .map(|value| spot.set(base, key, value)),
        );
    }
    all
}

pub(super) fn template_mistakes(base: &Value, spot: &Spot, spots: &[Spot]) -> Vec<Wrong> {
    let readable = ancestors(base, spot);
    let mut bad: Vec<String> = BAD_TEMPLATES.map(String::from).to_vec();
    for other in spots.iter().filter(|other| !readable.contains(&other.id)) {
        bad.push(format!("{{{{ steps.{}.result.x }}}}", other.id));
        bad.push(format!("{{{{ input.x | steps.{}.input | 1 }}}}", other.id));
    }
    if !spot.is_inner {
        bad.extend(
            ["{{ item }}", "{{ index }}", "{{ foreach.item }}", "{{ body.x }}", "{{ while.iteration }}"]
                .map(String::from),
        );
    }
    let mut all = Vec::new();
    let step = spot.step(base);
    for key in TEMPLATE_KEYS.iter().filter(|key| step.get(**key).is_some()) {
        for pointer in pointers(&step[*key])
            .into_iter()
            .filter(|pointer| step[*key].pointer(pointer).is_some_and(Value::is_string))
        {
            for text in &bad {
                let document = with(base, &format!("{}/{key}{pointer}", spot.pointer), json!(text));
                all.push(spot.wrong(
                    format!("{key}{pointer} of `{}` is {text}", spot.id),
                    document,
                    &format!(".{key}{}", path_of(&pointer)),
                ));
            }
        }
    }
    all
}

/// The ids whose results a step may read.
fn ancestors(base: &Value, spot: &Spot) -> BTreeSet<String> {
    let steps = base["steps"].as_array().unwrap();
    let position: usize = spot.pointer.split('/').nth(2).unwrap().parse().unwrap();
    let mut found = BTreeSet::new();
    let mut open = vec![&steps[position]];
    while let Some(step) = open.pop() {
        for id in step["depends_on"].as_array().into_iter().flatten() {
            if found.insert(id.as_str().unwrap().to_owned()) {
                open.extend(steps.iter().find(|step| step["id"] == *id));
            }
        }
    }
    match steps[position]["input_allowlist"].as_array() {
        Some(allowed) => found.into_iter().filter(|id| allowed.contains(&json!(id))).collect(),
        None => found,
    }
}

fn path_of(pointer: &str) -> String {
    let segments = pointer.split('/').skip(1);
    segments
        .map(|segment| if segment.parse::<usize>().is_ok() { format!("[{segment}]") } else { format!(".{segment}") })
        .collect()
}
