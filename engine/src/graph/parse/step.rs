//! One step: the keys it may have, its id, and what all types share.

use super::{InnerId, Sink, StepDraft, composite::composite, conduct::conduct, fields::Fields, keys, leaf::leaf};
use crate::graph::{
    issue::{IssueCode, Place, shown},
    limits::{BODY_STEPS_MAX, ID_CHARS_MAX},
    model::{BodyStep, StepKind},
    order::Order,
    report::{Role, Site},
};
use serde_json::{Map, Value};
use std::{collections::HashMap, sync::Arc};

/// The name of a loop's script among the steps of its body.
const RESERVED_INNER_ID: &str = "while_eval_script";

/// Reads a top-level step; `position` is where it comes among those read.
pub(super) fn step(members: &Map<String, Value>, place: &Place, position: usize, sink: &mut Sink) -> StepDraft {
    let place = Place { step_id: id_of(members), ..place.clone() };
    sink.site = Some(Site { step: position, inner: None });
    let mut fields = Fields::new(members, place.clone(), sink);
    let id = id(&mut fields);
    let kind = kind(&mut fields, Level::Top);
    let draft = StepDraft {
        id,
        name: fields.text("name").map(Into::into),
        depends_on: fields.ids("depends_on").unwrap_or_default(),
        input_allowlist: fields.ids("input_allowlist"),
        enabled: fields.flag("enabled").unwrap_or(true),
        condition: fields.condition("condition", Role::Condition),
        skip_when: fields.condition("skip_when", Role::Condition),
        no_auto_start: fields.flag("no_auto_start").unwrap_or(false),
        terminal: fields.flag("terminal").unwrap_or(false),
        conduct: conduct(&mut fields, kind.map_or("", |kind| kind.name)),
        kind: kind.and_then(|kind| match kind.is_leaf {
            true => leaf(kind.name, &mut fields).map(StepKind::Leaf),
            false => composite(kind.name, &mut fields),
        }),
        kind_name: kind.map(|kind| kind.name),
        place,
    };
    sink.site = None;
    draft
}

/// Reads the steps of a body, in the order in which they run.
pub(super) fn body_steps(fields: &mut Fields<'_, '_>, key: &str) -> Vec<BodyStep> {
    let Some(items) = fields.list(key) else { return Vec::new() };
    if items.is_empty() {
        fields.error(key, IssueCode::GraphSchemaValidation, format!("`{key}` needs at least one step"));
    }
    if items.len() > BODY_STEPS_MAX {
        let message = format!("`{key}` has {} steps; at most {BODY_STEPS_MAX} are allowed", items.len());
        fields.error(key, IssueCode::GraphTooLarge, message);
        return Vec::new();
    }
    let list = fields.place.key(key);
    let outer = fields.sink.site.clone();
    let mut steps = Vec::new();
    let mut dependencies = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let place = list.index(index);
        let Value::Object(members) = item else {
            fields.sink.report.push(place.error(IssueCode::GraphSchemaValidation, "a step is an object"));
            continue;
        };
        let place = Place { step_id: id_of(members), ..place };
        fields.sink.site = outer.as_ref().map(|site| Site { inner: place.step_id.clone(), ..site.clone() });
        let (step, depends_on) = body_step(members, &place, fields.sink);
        if place.step_id.as_deref() == Some(RESERVED_INNER_ID) {
            let message = format!("`{RESERVED_INNER_ID}` is how a loop's own script is called in events");
            fields
                .sink
                .report
                .push(place.key("id").error(IssueCode::StepIdInvalid, message).suggest("give the step another id"));
        }
        if let (Some(id), Some(outer)) = (&place.step_id, &outer) {
            fields.sink.inner_ids.push(InnerId { id: id.clone(), step: outer.step, place: place.clone() });
        }
        steps.extend(step.map(|step| (step, place)));
        dependencies.push(depends_on);
    }
    fields.sink.site = outer;
    if steps.len() != items.len() {
        return Vec::new();
    }
    in_order(steps, &dependencies, fields.sink)
}

type Dependencies = Vec<(String, Place)>;

fn body_step(members: &Map<String, Value>, place: &Place, sink: &mut Sink) -> (Option<BodyStep>, Dependencies) {
    let mut fields = Fields::new(members, place.clone(), sink);
    let id = id(&mut fields);
    let kind = kind(&mut fields, Level::Body);
    for key in ["no_auto_start", "terminal"] {
        if fields.flag(key) == Some(true) {
            fields.error(key, IssueCode::BodyStepInvalid, format!("a step inside a body has no `{key}`"));
        }
    }
    if fields.has("input_allowlist") {
        let issue = fields
            .place
            .key("input_allowlist")
            .error(IssueCode::BodyStepInvalid, "a step inside a body has no `input_allowlist`");
        fields.sink.report.push(issue.suggest("put it on the step that holds the body"));
    }
    let depends_on = fields.ids("depends_on").unwrap_or_default();
    let name = fields.text("name").map(Into::into);
    let enabled = fields.flag("enabled").unwrap_or(true);
    let condition = fields.condition("condition", Role::Condition);
    let skip_when = fields.condition("skip_when", Role::Condition);
    let conduct = conduct(&mut fields, kind.map_or("", |kind| kind.name));
    let leaf = kind.and_then(|kind| leaf(kind.name, &mut fields));
    let step = leaf.map(|leaf| BodyStep { id, name, enabled, condition, skip_when, conduct, leaf });
    (step, depends_on)
}

/// Sorts a body: without dependencies as written, with them in a stable topological order.
fn in_order(steps: Vec<(BodyStep, Place)>, depends_on: &[Dependencies], sink: &mut Sink) -> Vec<BodyStep> {
    let mut positions = HashMap::new();
    for (index, (step, place)) in steps.iter().enumerate() {
        if positions.insert(step.id.clone(), index).is_some() {
            let message = format!("another step of this body has the id `{}`", step.id);
            sink.report.push(place.key("id").error(IssueCode::DuplicateStepId, message));
        }
    }
    let mut edges = vec![Vec::new(); steps.len()];
    for (index, dependencies) in depends_on.iter().enumerate() {
        for (id, place) in dependencies {
            match positions.get(id.as_str()) {
                Some(dependency) => edges[index].push(*dependency),
                None => {
                    let message = format!("`{}` is not a step of this body", shown(id));
                    let issue = place.error(IssueCode::DependencyMissing, message);
                    let ids = steps.iter().map(|(step, _)| &*step.id);
                    let advice =
                        "what comes before the whole body stands in the `depends_on` of the step that holds it";
                    sink.report.push(issue.suggest(advice).suggest_nearest(id, ids));
                }
            }
        }
    }
    let order = Order::of(&edges);
    for circle in &order.circles {
        let ids: Vec<&str> = circle.iter().map(|index| &*steps[*index].0.id).collect();
        sink.report.push(cycle(&steps[circle[0]].1, &ids));
    }
    let mut sorted: Vec<Option<BodyStep>> = steps.into_iter().map(|(step, _)| Some(step)).collect();
    order.sorted.iter().filter_map(|index| sorted[*index].take()).collect()
}

/// Steps that wait for each other, told at the first of them.
pub(super) fn cycle(place: &Place, ids: &[&str]) -> crate::graph::Issue {
    let message = match ids {
        [id, _] => format!("`{id}` waits for itself"),
        _ => format!("steps wait for each other: {}", ids.join(" → ")),
    };
    place.key("depends_on").error(IssueCode::DependencyCycle, message).suggest("remove one of these dependencies")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Body,
}

/// The step's type. Checks its keys on the way, so that a typo is told once.
fn kind(fields: &mut Fields<'_, '_>, level: Level) -> Option<&'static keys::StepType> {
    let known = || keys::STEP_TYPES.iter().filter(|kind| level == Level::Top || kind.is_leaf).map(|kind| kind.name);
    let Some(name) = fields.text("type") else {
        if !fields.has("type") {
            let names: Vec<&str> = known().collect();
            let issue = fields.place.key("type").error(IssueCode::GraphSchemaValidation, "a step needs a `type`");
            fields.sink.report.push(issue.suggest(format!("one of {}", names.join(", "))));
            // A key that no step has may be the type's own, misspelt.
            fields.only(&keys::of_any_step(), "a step");
        }
        return None;
    };
    let Some(kind) = keys::step_type(name) else {
        let names: Vec<&str> = known().collect();
        let issue =
            fields.place.key("type").error(IssueCode::UnknownStepType, format!("`{}` is not a step type", shown(name)));
        fields.sink.report.push(issue.suggest(format!("one of {}", names.join(", "))).suggest_nearest(name, names));
        return None;
    };
    if level == Level::Body && !kind.is_leaf {
        let names: Vec<&str> = known().collect();
        let issue =
            fields.place.key("type").error(IssueCode::BodyStepInvalid, format!("a body cannot hold a `{name}` step"));
        fields.sink.report.push(issue.suggest(format!(
            "one of {}; for more, call a workflow by a `workflow_call` at the top",
            names.join(", ")
        )));
        return None;
    }
    let keys: Vec<&str> = [keys::COMMON_KEYS, keys::OUTER_KEYS, kind.keys].concat();
    fields.only(&keys, &format!("a `{name}` step"));
    for key in kind.required {
        fields.require(key, &format!("a `{name}` step"));
    }
    Some(kind)
}

/// The id as far as it is one, for messages about the step.
fn id_of(members: &Map<String, Value>) -> Option<Arc<str>> {
    members.get("id").and_then(Value::as_str).map(|id| shown(id).into())
}

fn id(fields: &mut Fields<'_, '_>) -> Arc<str> {
    fields.require("id", "a step");
    let Some(id) = fields.text("id") else { return "".into() };
    if !is_identifier(id) && !is_uuid(id) {
        let message =
            format!("`{}` is not an id: letters, digits, _ and -, starting with a letter or _, or a UUID", shown(id));
        let tidy: String =
            id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(ID_CHARS_MAX).collect();
        let issue = fields.place.key("id").error(IssueCode::StepIdInvalid, message);
        let issue = if is_identifier(&tidy) { issue.suggest(format!("write `{}`", shown(&tidy))) } else { issue };
        fields.sink.report.push(issue);
    }
    id.into()
}

fn is_identifier(id: &str) -> bool {
    id.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && id.len() <= ID_CHARS_MAX
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

fn is_uuid(id: &str) -> bool {
    let groups: Vec<&str> = id.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.chars().all(|c| c.is_ascii_hexdigit()))
}
