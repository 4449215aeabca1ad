//! One mistake at a time, at every place where it can be made.

mod texts;

use super::Wrong;
use crate::graph::{
    limits::*,
    parse::keys::{COMMON_KEYS, STEP_TYPES, step_type},
};
use serde_json::{Value, json};

/// A step of a document.
pub(super) struct Spot {
    /// As the JSON library writes it: `/steps/0`.
    pub(super) pointer: String,
    /// As issues write it: `$.steps[0]`.
    pub(super) path: String,
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) is_inner: bool,
}

/// Every wrong graph that comes from a valid one.
pub(super) fn all(base: &Value) -> Vec<Wrong> {
    let spots = spots(base);
    let mut all = document_mistakes(base);
    for spot in &spots {
        all.extend(key_mistakes(base, spot));
        all.extend(type_mistakes(base, spot));
        all.extend(value_mistakes(base, spot));
        all.extend(id_mistakes(base, spot, &spots));
        all.extend(dependency_mistakes(base, spot, &spots));
        all.extend(body_mistakes(base, spot));
        all.extend(texts::condition_mistakes(base, spot));
        all.extend(texts::template_mistakes(base, spot, &spots));
    }
    all
}

/// Every value of the document replaced by some of every kind, and every key removed.
pub(super) fn arbitrary(base: &Value) -> Vec<Value> {
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("{{ a"),
        json!("a"),
        json!([]),
        json!([[null]]),
        json!({}),
        json!({ "": 1 }),
    ];
    let mut all = Vec::new();
    for pointer in pointers(base) {
        all.extend(values.iter().map(|value| with(base, &pointer, value.clone())));
        let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", ""));
        let mut document = base.clone();
        if let Some(Value::Object(members)) = document.pointer_mut(parent) {
            members.remove(key);
            all.push(document);
        }
    }
    all
}

fn pointers(value: &Value) -> Vec<String> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), member)).collect(),
        _ => Vec::new(),
    };
    let below = inner
        .into_iter()
        .flat_map(|(name, inner)| pointers(inner).into_iter().map(move |rest| format!("/{name}{rest}")));
    std::iter::once(String::new()).chain(below).collect()
}

fn spots(base: &Value) -> Vec<Spot> {
    let mut spots = Vec::new();
    for (index, step) in base["steps"].as_array().unwrap().iter().enumerate() {
        let (pointer, path) = (format!("/steps/{index}"), format!("$.steps[{index}]"));
        for key in ["for_each_body_steps", "while_body_steps"] {
            for (inner_index, inner) in step[key].as_array().into_iter().flatten().enumerate() {
                spots.push(spot(
                    inner,
                    format!("{pointer}/{key}/{inner_index}"),
                    format!("{path}.{key}[{inner_index}]"),
                    true,
                ));
            }
        }
        spots.push(spot(step, pointer, path, false));
    }
    spots
}

fn spot(step: &Value, pointer: String, path: String, is_inner: bool) -> Spot {
    let text = |key: &str| step[key].as_str().unwrap().to_owned();
    Spot { pointer, path, id: text("id"), kind: text("type"), is_inner }
}

impl Spot {
    /// The step with a key set, expected to be refused at that key.
    pub(super) fn set(&self, base: &Value, key: &str, value: Value) -> Wrong {
        let mut document = base.clone();
        document.pointer_mut(&self.pointer).unwrap()[key] = value.clone();
        let shown: String = value.to_string().chars().take(60).collect();
        self.wrong(format!("{} of `{}` is {shown}", key, self.id), document, &format!(".{key}"))
    }

    pub(super) fn wrong(&self, how: String, document: Value, at: &str) -> Wrong {
        Wrong { how, document, paths: vec![format!("{}{at}", self.path)], step: Some(self.id.clone()) }
    }

    pub(super) fn step<'d>(&self, base: &'d Value) -> &'d Value {
        base.pointer(&self.pointer).unwrap()
    }
}

pub(super) fn with(base: &Value, pointer: &str, value: Value) -> Value {
    let mut document = base.clone();
    *document.pointer_mut(pointer).unwrap() = value;
    document
}

fn document_mistakes(base: &Value) -> Vec<Wrong> {
    let mut all = Vec::new();
    let mut set = |key: &str, value: Value| {
        let mut document = base.clone();
        document[key] = value.clone();
        all.push(Wrong { how: format!("{key} is {value}"), document, paths: vec![format!("$.{key}")], step: None });
    };
    for wrong in [json!(null), json!([]), json!({}), json!("x"), json!([1]), json!([null])] {
        set("steps", wrong);
    }
    for wrong in [json!("fail-fast"), json!("FAIL_FAST"), json!("stop"), json!(""), json!(1), json!(true)] {
        set("failure_policy", wrong);
    }
    for wrong in [
        json!(3),
        json!("object"),
        json!({ "type": "objekt" }),
        json!({ "$ref": "#" }),
        json!({ "$ref": "https://x" }),
        json!([{ "name": "a" }]),
        json!([{ "name": "a", "type": "text" }]),
        json!([3]),
        json!({ "required": "a" }),
    ] {
        set("input_schema", wrong);
    }
    for key in ["name", "description"] {
        for wrong in [json!(1), json!([]), json!({}), json!(false)] {
            set(key, wrong);
        }
    }
    for wrong in [json!(1), json!([]), json!("x")] {
        set("params", wrong);
    }
    for typo in ["failure_polcy", "failurePolicy", "input_shema", "inputschema", "descripton", "stepss", "param"] {
        set(typo, json!({}));
    }
    let mut document = base.clone();
    let steps = document.as_object_mut().unwrap().remove("steps").unwrap();
    all.push(Wrong { how: "no steps".into(), document: document.clone(), paths: vec!["$.steps".into()], step: None });
    document["Steps"] = steps;
    all.push(Wrong { how: "steps misspelt".into(), document, paths: vec!["$.steps".into()], step: None });
    for document in [json!(null), json!([base]), json!("graph"), json!(1)] {
        all.push(Wrong { how: "no object".into(), document, paths: vec!["$".into()], step: None });
    }
    all
}

fn key_mistakes(base: &Value, spot: &Spot) -> Vec<Wrong> {
    let mut all = Vec::new();
    let required = step_type(&spot.kind).unwrap().required;
    for key in ["id", "type"].iter().chain(required) {
        let mut document = base.clone();
        document.pointer_mut(&spot.pointer).unwrap().as_object_mut().unwrap().remove(*key);
        let wrong = spot.wrong(format!("`{}` without {key}", spot.id), document.clone(), &format!(".{key}"));
        all.push(Wrong { step: wrong.step.filter(|_| *key != "id"), ..wrong });
        document.pointer_mut(&spot.pointer).unwrap()[*key] = Value::Null;
        all.push(Wrong { how: "null".into(), document, paths: vec![format!("{}.{key}", spot.path)], step: None });
    }
    for (key, value) in spot.step(base).as_object().unwrap() {
        for typo in typos(key) {
            let mut document = base.clone();
            let members = document.pointer_mut(&spot.pointer).unwrap().as_object_mut().unwrap();
            members.remove(key);
            members.insert(typo.clone(), value.clone());
            let wrong = spot.wrong(format!("{key} of `{}` written {typo}", spot.id), document, &format!(".{typo}"));
            // Without its type, nothing is known of a step's keys; what is missing is told instead.
            let paths = if key == "type" { vec![format!("{}.type", spot.path)] } else { wrong.paths };
            all.push(Wrong { step: wrong.step.filter(|_| key != "id"), paths, ..wrong });
        }
    }
    let foreign =
        STEP_TYPES.iter().flat_map(|kind| kind.keys).filter(|key| !step_type(&spot.kind).unwrap().keys.contains(key));
    all.extend(foreign.take(6).map(|key| spot.set(base, key, json!("x"))));
    all
}

fn typos(key: &str) -> Vec<String> {
    let (start, end) = key.split_at(key.len() / 2);
    let swapped: String = key.chars().skip(1).take(1).chain(key.chars().take(1)).chain(key.chars().skip(2)).collect();
    let cut = key[..key.len() - 1].to_owned();
    let typos = [format!("{start}x{end}"), swapped, key.to_uppercase(), format!("{key}_"), cut];
    typos.into_iter().filter(|typo| typo != key).collect()
}

/// Which kinds of value each key takes: t(ext), n(umber), b(oolean), l(ist), o(bject).
const KINDS: &[(&str, &str)] = &[
    ("id", "t"),
    ("type", "t"),
    ("name", "t"),
    ("depends_on", "l"),
    ("enabled", "b"),
    ("timeout_s", "n"),
    ("retry_count", "n"),
    ("retry", "o"),
    ("on_error", "to"),
    ("no_auto_start", "b"),
    ("terminal", "b"),
    ("input_allowlist", "l"),
    ("script", "t"),
    ("tool_name", "t"),
    ("instance_id", "t"),
    ("server_url", "t"),
    ("tool_args", "o"),
    ("model", "t"),
    ("model_ref", "t"),
    ("prompt", "tl"),
    ("system", "tl"),
    ("llm_params", "o"),
    ("llm_credential_id", "t"),
    ("llm_credential_scope", "t"),
    ("response_format", "to"),
    ("agent_id", "t"),
    ("agent", "o"),
    ("task_type", "t"),
    ("on_reject", "t"),
    ("for_each_items", "tl"),
    ("for_each_body_steps", "l"),
    ("for_each_max_parallel", "n"),
    ("for_each_error_policy", "t"),
    ("while_mode", "t"),
    ("while_max_iterations", "n"),
    ("while_body_steps", "l"),
    ("while_condition", "tbn"),
    ("while_eval_script", "t"),
    ("workflow_id", "t"),
    ("version", "n"),
    ("duration_s", "tn"),
    ("until", "t"),
    ("condition", "tbn"),
    ("skip_when", "tbn"),
];

fn type_mistakes(base: &Value, spot: &Spot) -> Vec<Wrong> {
    let values = [('t', json!("1")), ('n', json!(1)), ('b', json!(true)), ('l', json!([1])), ('o', json!({ "x": 1 }))];
    let mut all = Vec::new();
    for (key, kinds) in KINDS {
        let is_own = COMMON_KEYS.contains(key) || spot.step(base).get(*key).is_some();
        for (kind, value) in values.iter().filter(|(kind, _)| is_own && !kinds.contains(*kind)) {
            let wrong = spot.set(base, key, value.clone());
            all.push(Wrong {
                how: format!("{kind}: {}", wrong.how),
                step: wrong.step.filter(|_| *key != "id"),
                ..wrong
            });
        }
    }
    all
}

fn value_mistakes(base: &Value, spot: &Spot) -> Vec<Wrong> {
    let timeout = if spot.kind == "lua_script" { LUA_TIMEOUT_S_MAX } else { WAIT_S_MAX };
    let mut mistakes: Vec<(&str, Value)> = vec![
        ("timeout_s", json!(0)),
        ("timeout_s", json!(-5)),
        ("timeout_s", json!(timeout + 1)),
        ("timeout_s", json!(1e300)),
        ("retry_count", json!(-1)),
        ("retry_count", json!(0.5)),
        ("retry_count", json!(RETRY_ATTEMPTS_MAX)),
        ("retry", json!({ "max_attempts": 0 })),
        ("retry", json!({ "max_atempts": 2 })),
        ("retry", json!({ "initial_s": 0 })),
        ("retry", json!({ "factor": 0.5 })),
        ("retry", json!({ "max_s": "60" })),
        ("retry", json!({ "on": ["TIMEOUT"] })),
        ("retry", json!({ "on": "LUA_ERROR" })),
        ("retry", json!({ "initial_s": 9, "max_s": 8 })),
        ("on_error", json!("stop")),
        ("on_error", json!({})),
        ("on_error", json!({ "results": 1 })),
        ("type", json!("lua")),
        ("type", json!("")),
        ("type", json!("LUA_SCRIPT")),
        ("type", json!("http_call")),
    ];
    for (key, value) in [
        ("for_each_max_parallel", json!(0)),
        ("for_each_max_parallel", json!(MAX_PARALLEL_MAX + 1)),
        ("for_each_max_parallel", json!(1.5)),
        ("for_each_error_policy", json!("continue")),
        ("for_each_error_policy", json!("failfast")),
        ("for_each_items", json!("rows")),
        ("for_each_items", json!(7)),
        ("for_each_items", json!("a {{ input.x }}")),
        ("for_each_items", json!({ "a": 1 })),
        ("while_mode", json!("till")),
        ("while_mode", json!("While")),
        ("while_max_iterations", json!(0)),
        ("while_max_iterations", json!(-1)),
        ("while_max_iterations", json!(ITERATIONS_MAX + 1)),
        ("while_max_iterations", json!(1.5)),
        ("version", json!(0)),
        ("version", json!(1u64 << 32)),
        ("workflow_id", json!("")),
        ("workflow_id", json!("a b")),
        ("duration_s", json!(-1)),
        ("duration_s", json!(WAIT_S_MAX + 1)),
        ("duration_s", json!("soon")),
        ("until", json!("tomorrow")),
        ("until", json!("2026-02-30T00:00:00Z")),
        ("on_reject", json!("go")),
        ("task_type", json!("")),
        ("tool_name", json!(" ")),
        ("server_url", json!("tools.example")),
        ("agent", json!({})),
        ("agent", json!({ "model": "m", "max_turn": 3 })),
        ("agent", json!({ "model": "m", "max_turns": 0 })),
        ("agent", json!({ "model": "m", "token_budget": 0 })),
        ("agent", json!({ "model": "m", "tools": ["search"] })),
        ("agent", json!({ "model": "m", "tools": [{ "tool_name": "search" }] })),
        ("agent", json!({ "model": "m", "tools": [{ "instance_id": "web" }] })),
        ("script", json!("")),
        ("script", json!("x".repeat(SCRIPT_BYTES_MAX + 1))),
        ("while_eval_script", json!("x".repeat(SCRIPT_BYTES_MAX + 1))),
        ("model", json!("")),
        ("prompt", json!(null)),
        ("tool_args", json!("text")),
        ("llm_params", json!("text")),
    ] {
        if spot.step(base).get(key).is_some() {
            mistakes.push((key, value));
        }
    }
    mistakes.into_iter().map(|(key, value)| spot.set(base, key, value)).collect()
}

fn id_mistakes(base: &Value, spot: &Spot, spots: &[Spot]) -> Vec<Wrong> {
    let bad = ["", " ", "1st", "a b", "a.b", "-a", "é", "a/b", "{{ input.x }}", &"a".repeat(ID_CHARS_MAX + 1)]
        .map(String::from);
    let body = |spot: &Spot| spot.pointer.rsplit_once('/').unwrap().0.to_owned();
    let mut all: Vec<Wrong> =
        bad.into_iter().map(|id| spot.set(base, "id", json!(id))).map(|wrong| Wrong { step: None, ..wrong }).collect();
    for other in spots.iter().filter(|other| other.id != spot.id && (!other.is_inner || body(other) == body(spot))) {
        let wrong = spot.set(base, "id", json!(other.id));
        all.push(Wrong { paths: vec![format!("{}.id", spot.path), format!("{}.id", other.path)], step: None, ..wrong });
    }
    all
}

fn dependency_mistakes(base: &Value, spot: &Spot, spots: &[Spot]) -> Vec<Wrong> {
    let now: Vec<Value> = spot.step(base)["depends_on"].as_array().cloned().unwrap_or_default();
    let adding = |id: &str| json!(now.iter().cloned().chain([json!(id)]).collect::<Vec<_>>());
    let last = format!("{}.depends_on[{}]", spot.path, now.len());
    let mut all = Vec::new();
    for missing in ["no_such_step", "", "steps", "{{ input.step }}"] {
        all.push(Wrong { paths: vec![last.clone()], ..spot.set(base, "depends_on", adding(missing)) });
    }
    all.push(spot.set(base, "depends_on", adding(&spot.id)));
    for other in spots.iter().filter(|other| other.id != spot.id) {
        let depends = other.step(base)["depends_on"].as_array().is_some_and(|ids| ids.contains(&json!(spot.id)));
        if depends && !other.is_inner {
            let circle = vec![format!("{}.depends_on", spot.path), format!("{}.depends_on", other.path)];
            all.push(Wrong { paths: circle, step: None, ..spot.set(base, "depends_on", adding(&other.id)) });
        } else if spot.is_inner != other.is_inner {
            all.push(Wrong { paths: vec![last.clone()], ..spot.set(base, "depends_on", adding(&other.id)) });
        }
    }
    all
}

fn body_mistakes(base: &Value, spot: &Spot) -> Vec<Wrong> {
    if !spot.is_inner {
        return Vec::new();
    }
    let mut all = vec![
        spot.set(base, "no_auto_start", json!(true)),
        spot.set(base, "terminal", json!(true)),
        spot.set(base, "input_allowlist", json!([])),
    ];
    all.extend(STEP_TYPES.iter().filter(|kind| !kind.is_leaf).map(|kind| spot.set(base, "type", json!(kind.name))));
    let nested = json!({ "id": spot.id, "type": "for_each", "for_each_items": [], "for_each_body_steps": [{ "id": "x", "type": "lua_script", "script": "return {}" }] });
    all.push(spot.wrong(format!("a loop for `{}`", spot.id), with(base, &spot.pointer, nested), ".type"));
    for value in [json!(null), json!(1), json!("x"), json!([])] {
        let wrong = spot.wrong(format!("{value} for `{}`", spot.id), with(base, &spot.pointer, value), "");
        all.push(Wrong { step: None, ..wrong });
    }
    all
}
