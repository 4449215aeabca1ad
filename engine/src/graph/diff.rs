//! What changed between two versions of a graph, for the people who review it.
//!
//! Owns the comparison of documents that were published, and are valid. Each change stands in one place: dependencies under
//! edges, what bounds a step under limits, all other keys under the step. A step is the same as long as its id is, so a
//! renamed one is removed and added. What a version may newly ask for is a list of its own besides, so that nobody has to look
//! for it. Never reads scripts or templates: they are compared as text.

use super::{canonical::DOCUMENT_KEYS, grants};
use agentruntime_host_api::{Grants, HostPattern, SecretRef};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Keys that bound what a step may take.
const LIMIT_KEYS: [&str; 5] = ["timeout_s", "retry_count", "retry", "for_each_max_parallel", "while_max_iterations"];
/// Keys that hold the steps of a body, which are compared one by one.
const BODY_KEYS: [&str; 2] = ["for_each_body_steps", "while_body_steps"];
const DEPENDS_ON: &str = "depends_on";
const INPUT_SCHEMA: &str = "input_schema";
const STEPS: &str = "steps";
const CAPABILITIES: &str = "capabilities";

/// What changed from one graph to another.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GraphDiff {
    /// Steps that are new.
    pub steps_added: Vec<StepRef>,
    /// Steps that are gone.
    pub steps_removed: Vec<StepRef>,
    /// Steps in both whose settings differ.
    pub steps_changed: Vec<StepChange>,
    /// Dependencies that are new.
    pub edges_added: Vec<Edge>,
    /// Dependencies that are gone.
    pub edges_removed: Vec<Edge>,
    /// What steps may newly ask for.
    pub grants_added: Vec<GrantRef>,
    /// What steps may not ask for any more.
    pub grants_removed: Vec<GrantRef>,
    /// What bounds the steps in both, where it differs.
    pub limits: Vec<LimitChange>,
    /// The form of the start payload, where it differs.
    pub input_schema: Option<KeyChange>,
    /// Other keys of the document that differ; under `steps` the ids in their order, where that differs.
    pub document: Vec<KeyChange>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StepRef {
    /// The step whose body it is in.
    pub parent: Option<String>,
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A step whose settings differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepChange {
    /// The step whose body it is in.
    pub parent: Option<String>,
    /// Its id.
    pub id: String,
    /// What differs; under a body's key the ids in their order, where that differs.
    pub keys: Vec<KeyChange>,
}

/// A key whose value differs. What is not there is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyChange {
    /// The key.
    pub key: String,
    /// Its value before.
    pub old: Value,
    /// Its value now.
    pub new: Value,
}

/// A dependency: `to` waits for `from`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// The step whose body both are in.
    pub parent: Option<String>,
    /// The step that is waited for.
    pub from: String,
    /// The step that waits.
    pub to: String,
}

/// Something that a step may ask for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GrantRef {
    /// The step whose body it is in.
    pub parent: Option<String>,
    /// The step.
    pub id: String,
    /// What it may ask for, such as `host api.example.com`.
    pub grant: String,
}

/// A bound of a step that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitChange {
    /// The step whose body it is in.
    pub parent: Option<String>,
    /// The step.
    pub id: String,
    /// What is bounded, before and now.
    #[serde(flatten)]
    pub change: KeyChange,
}

/// Compares two documents.
pub fn diff(old: &Value, new: &Value) -> GraphDiff {
    let mut diff = GraphDiff::default();
    let keys = DOCUMENT_KEYS.into_iter().filter(|key| ![STEPS, INPUT_SCHEMA].contains(key));
    diff.document = keys.filter_map(|key| changed(key, &old[key], &new[key])).collect();
    diff.input_schema = changed(INPUT_SCHEMA, &old[INPUT_SCHEMA], &new[INPUT_SCHEMA]);
    let order = diff.compare_steps(None, &old[STEPS], &new[STEPS], STEPS);
    diff.document.extend(order);
    diff.grants_added = grants_added(old, new);
    diff.grants_removed = grants_added(new, old);
    diff
}

/// What steps of the new document may ask for that the same steps of the old one may not: by the grants as they are written,
/// so that a host that a wildcard covered is another grant. A tool that is newly on terms is none that is added. A document of
/// nothing grants nothing.
pub fn grants_added(old: &Value, new: &Value) -> Vec<GrantRef> {
    let (before, now) = (all_grants(None, &old[STEPS]), all_grants(None, &new[STEPS]));
    let nothing = Grants::default();
    let mut added = BTreeSet::new();
    for ((parent, id), grants) in &now {
        let beyond = grants.beyond(before.get(&(*parent, *id)).unwrap_or(&nothing));
        let of_step = |grant| GrantRef { parent: parent.map(str::to_owned), id: (*id).to_owned(), grant };
        added.extend(beyond.into_iter().map(of_step));
    }
    added.into_iter().collect()
}

impl GraphDiff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Compares two lists of steps; gives the order of those in both, where that differs.
    fn compare_steps(&mut self, parent: Option<&str>, old: &Value, new: &Value, key: &str) -> Option<KeyChange> {
        let (old, new) = (Steps::of(old), Steps::of(new));
        for id in &old.order {
            match new.by_id.contains_key(id) {
                true => self.compare_step(parent, id, old.by_id[id], new.by_id[id]),
                false => self.steps_removed.push(step_ref(parent, id, old.by_id[id])),
            }
        }
        let added = new.order.iter().filter(|id| !old.by_id.contains_key(*id));
        self.steps_added.extend(added.map(|id| step_ref(parent, id, new.by_id[id])));
        let (before, now) = (old.edges(parent), new.edges(parent));
        self.edges_removed.extend(before.difference(&now).cloned());
        self.edges_added.extend(now.difference(&before).cloned());
        changed(key, &old.order_of_those_in(&new), &new.order_of_those_in(&old))
    }

    fn compare_step(&mut self, parent: Option<&str>, id: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let (parent_id, id_text) = (parent.map(str::to_owned), id.to_owned());
        let mut keys = Vec::new();
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names.into_iter().filter(|name| *name != DEPENDS_ON) {
            let (before, now) = (old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
            if BODY_KEYS.contains(&name.as_str()) {
                keys.extend(self.compare_steps(Some(id), before, now, name));
                continue;
            }
            let Some(change) = changed(name, before, now) else { continue };
            if LIMIT_KEYS.contains(&name.as_str()) {
                self.limits.push(LimitChange { parent: parent_id.clone(), id: id_text.clone(), change });
            } else {
                keys.push(change);
            }
        }
        if !keys.is_empty() {
            self.steps_changed.push(StepChange { parent: parent_id, id: id_text, keys });
        }
    }
}

/// The steps of a list by id, and their order.
struct Steps<'d> {
    order: Vec<&'d str>,
    by_id: BTreeMap<&'d str, &'d Map<String, Value>>,
}

impl<'d> Steps<'d> {
    fn of(list: &'d Value) -> Self {
        let steps = list.as_array().into_iter().flatten().filter_map(Value::as_object);
        let named: Vec<_> = steps.filter_map(|step| Some((step.get("id")?.as_str()?, step))).collect();
        Self { order: named.iter().map(|(id, _)| *id).collect(), by_id: named.into_iter().collect() }
    }

    fn edges(&self, parent: Option<&str>) -> BTreeSet<Edge> {
        let edge = |to: &str, from: &str| Edge { parent: parent.map(str::to_owned), from: from.into(), to: to.into() };
        let sources =
            |step: &'d Map<String, Value>| step.get(DEPENDS_ON).and_then(Value::as_array).into_iter().flatten();
        let of_step = |(to, step): (&&'d str, &&'d Map<String, Value>)| {
            let to = *to;
            sources(step).filter_map(Value::as_str).map(move |from| edge(to, from)).collect::<Vec<_>>()
        };
        self.by_id.iter().flat_map(of_step).collect()
    }

    fn order_of_those_in(&self, other: &Self) -> Value {
        self.order.iter().copied().filter(|id| other.by_id.contains_key(id)).collect()
    }
}

/// What the steps of a list, and of their bodies, may ask for: by the step whose body a step is in, and its id.
fn all_grants<'d>(parent: Option<&'d str>, list: &'d Value) -> BTreeMap<(Option<&'d str>, &'d str), Grants> {
    let mut all = BTreeMap::new();
    for (id, step) in Steps::of(list).by_id {
        all.insert((parent, id), granted(step));
        for body in BODY_KEYS.iter().filter_map(|key| step.get(*key)) {
            all.extend(all_grants(Some(id), body));
        }
    }
    all
}

/// What was published is valid, so that everything in it reads.
fn granted(step: &Map<String, Value>) -> Grants {
    let text = |key: &str| step.get(key)?.as_str();
    match text("type") {
        Some("mcp_call") => Grants { tools: grants::tool(text).into_iter().collect(), ..Grants::default() },
        Some("llm_call") => Grants { models: vec![grants::model(text)], ..Grants::default() },
        Some("agent_call") => step.get("agent").and_then(Value::as_object).map(grants::agent).unwrap_or_default(),
        _ => step.get(CAPABILITIES).map(capabilities).unwrap_or_default(),
    }
}

fn capabilities(capabilities: &Value) -> Grants {
    let hosts = capabilities["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let secrets = capabilities["secrets"].as_object().into_iter().flatten();
    let secret = |(name, kept): (&String, &Value)| Some((name.clone(), kept.as_str()?.parse::<SecretRef>().ok()?));
    Grants {
        hosts: hosts.filter_map(|host| host.parse::<HostPattern>().ok()).collect(),
        secrets: secrets.filter_map(secret).collect(),
        tools: serde_json::from_value(capabilities["tools"].clone()).unwrap_or_default(),
        ..Grants::default()
    }
}

fn step_ref(parent: Option<&str>, id: &str, step: &Map<String, Value>) -> StepRef {
    let kind = step.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    StepRef { parent: parent.map(str::to_owned), id: id.to_owned(), kind }
}

fn changed(key: &str, old: &Value, new: &Value) -> Option<KeyChange> {
    (old != new).then(|| KeyChange { key: key.to_owned(), old: old.clone(), new: new.clone() })
}

#[cfg(test)]
mod tests;
