//! Reading a document into a graph.
//!
//! There is one reading: publishing, running and the dry-run all go through [`read`], which gathers every issue rather than
//! stop at the first. A rule stands in one place, beside the key that it is about; what can only be told of the graph as a
//! whole follows in [`links`] and in [`references`](super::references).

mod composite;
mod conduct;
mod fields;
pub(crate) mod keys;
mod leaf;
mod links;
mod step;
mod terms;

use super::{
    canonical::{canonical_text, essence, sha256_hex},
    condition::Condition,
    input_schema::InputSchema,
    issue::{IssueCode, Place},
    limits::{GRAPH_BYTES_MAX, GRAPH_DEPTH_MAX, STEPS_MAX},
    model::{Conduct, FailurePolicy, StepKind},
    nearest::nearest,
    order::Order,
    references,
    report::{Report, ScriptFound, Site, TemplateFound},
};
use fields::Fields;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Keys that editors and registries write beside the graph.
const EDITOR_KEYS: [&str; 4] = ["tenant_id", "workflow_id", "nodes", "edges"];

/// A document as far as it could be read.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) input_schema: Option<InputSchema>,
    pub(crate) failure_policy: FailurePolicy,
    pub(crate) steps: Vec<StepDraft>,
    pub(crate) links: Option<Links>,
    pub(crate) templates: Vec<TemplateFound>,
    pub(crate) scripts: Vec<ScriptFound>,
    inner_ids: Vec<InnerId>,
    /// The canonical text and its hash.
    pub(crate) canonical: Option<(String, String)>,
    pub(crate) report: Report,
}

/// A step as far as it could be read.
pub(crate) struct StepDraft {
    pub(crate) id: Arc<str>,
    pub(crate) name: Option<String>,
    pub(crate) depends_on: Vec<(String, Place)>,
    pub(crate) input_allowlist: Option<Vec<(String, Place)>>,
    pub(crate) enabled: bool,
    pub(crate) condition: Option<Condition>,
    pub(crate) skip_when: Option<Condition>,
    pub(crate) no_auto_start: bool,
    pub(crate) terminal: bool,
    pub(crate) conduct: Conduct,
    pub(crate) kind: Option<StepKind>,
    pub(crate) kind_name: Option<&'static str>,
    pub(crate) place: Place,
}

/// How the steps hang together.
pub(crate) struct Links {
    /// What each step depends on, by position.
    pub(crate) depends_on: Vec<Vec<usize>>,
    pub(crate) order: Order,
}

/// What reading gathers on the way.
#[derive(Default)]
pub(crate) struct Sink {
    report: Report,
    /// The step that is being read.
    site: Option<Site>,
    templates: Vec<TemplateFound>,
    scripts: Vec<ScriptFound>,
    /// Paths named so far.
    paths: usize,
    inner_ids: Vec<InnerId>,
}

/// The id of a body step.
pub(crate) struct InnerId {
    id: Arc<str>,
    /// The position of the step that holds the body.
    step: usize,
    place: Place,
}

impl Draft {
    /// Where a body step stands.
    pub(crate) fn inner_place(&self, owner: usize, id: &str) -> Place {
        // Ids are gathered step by step, so those of one body lie together.
        let first = self.inner_ids.partition_point(|inner| inner.step < owner);
        let of_owner = self.inner_ids[first..].iter().take_while(|inner| inner.step == owner);
        let mut found = of_owner.filter(|inner| &*inner.id == id);
        found.next().map_or_else(|| self.steps[owner].place.clone(), |inner| inner.place.clone())
    }
}

/// Reads a document, with everything that is wrong with it.
pub(crate) fn read(document: &Value) -> Draft {
    let mut sink = Sink::default();
    let Some(members) = document_members(document, &mut sink.report) else {
        return Draft { report: sink.report, ..Draft::default() };
    };
    let text = canonical_text(&Value::Object(essence(members)));
    if text.len() > GRAPH_BYTES_MAX {
        let message = format!("the graph has {} bytes; at most {GRAPH_BYTES_MAX} are allowed", text.len());
        sink.report.push(Place::root().error(IssueCode::GraphTooLarge, message));
        return Draft { report: sink.report, ..Draft::default() };
    }
    let mut fields = Fields::new(members, Place::root(), &mut sink);
    refuse_misspelt_keys(&mut fields);
    let policies = [("fail_fast", FailurePolicy::FailFast), ("drain", FailurePolicy::Drain)];
    let name = fields.text("name").map(Into::into);
    let description = fields.text("description").map(Into::into);
    let failure_policy = fields.choice("failure_policy", &policies).unwrap_or_default();
    fields.object("params");
    let input_schema = input_schema(&mut fields);
    let steps = steps(&mut fields);
    let mut draft = Draft {
        name,
        description,
        input_schema,
        failure_policy,
        steps,
        links: None,
        templates: sink.templates,
        scripts: sink.scripts,
        inner_ids: sink.inner_ids,
        canonical: Some((text.clone(), sha256_hex(&text))),
        report: sink.report,
    };
    draft.links = Some(links::link(&draft.steps, &draft.inner_ids, &mut draft.report));
    references::check(&mut draft);
    draft
}

/// The document's members, unless it is no object or too deep to be read any further.
fn document_members<'d>(document: &'d Value, report: &mut Report) -> Option<&'d Map<String, Value>> {
    if let Some(place) = too_deep(document, &Place::root(), GRAPH_DEPTH_MAX) {
        report.push(
            place.error(IssueCode::GraphTooLarge, format!("the graph nests deeper than {GRAPH_DEPTH_MAX} levels")),
        );
        return None;
    }
    let members = document.as_object();
    if members.is_none() {
        let found = fields::type_name(document);
        let issue = Place::root().error(IssueCode::GraphSchemaValidation, format!("a graph is an object, not {found}"));
        report.push(issue.suggest("write `{ \"steps\": [ … ] }`"));
    }
    members
}

/// The first place that is deeper than the levels left, where there is one. Places are only made on the way back.
fn too_deep(value: &Value, place: &Place, levels: usize) -> Option<Place> {
    if !is_deeper(value, levels) {
        return None;
    }
    let inner = match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find(|(_, item)| is_deeper(item, levels.saturating_sub(1)))
            .map(|(index, item)| (place.index(index), item)),
        Value::Object(members) => members
            .iter()
            .find(|(_, member)| is_deeper(member, levels.saturating_sub(1)))
            .map(|(name, member)| (place.key(name), member)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    match inner {
        Some((place, _)) if levels <= 1 => Some(place),
        Some((inner_place, inner)) => too_deep(inner, &inner_place, levels - 1),
        None => Some(place.clone()),
    }
}

/// Whether lists and objects nest deeper than so many levels.
fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        Value::Object(members) => levels == 0 || members.values().any(|member| is_deeper(member, levels - 1)),
    }
}

/// Other keys belong to whoever wrote them, unless they look like one that means something.
fn refuse_misspelt_keys(fields: &mut Fields<'_, '_>) {
    let known = super::canonical::DOCUMENT_KEYS;
    for key in fields.keys() {
        if known.contains(&key) || EDITOR_KEYS.contains(&key) {
            continue;
        }
        if let Some(meant) = nearest(key, known.into_iter().chain(EDITOR_KEYS)).filter(|meant| known.contains(meant)) {
            let message = format!("`{key}` means nothing here");
            let issue = fields.place.key(key).error(IssueCode::UnknownKey, message);
            fields.sink.report.push(issue.suggest(format!("did you mean `{meant}`?")));
        }
    }
}

fn input_schema(fields: &mut Fields<'_, '_>) -> Option<InputSchema> {
    let schema = fields.get("input_schema")?;
    match InputSchema::parse_at(schema, &fields.place.key("input_schema")) {
        Ok(schema) => Some(schema),
        Err(issues) => {
            fields.sink.report.extend(issues);
            None
        }
    }
}

fn steps(fields: &mut Fields<'_, '_>) -> Vec<StepDraft> {
    let items = fields.list("steps").unwrap_or_default();
    if !fields.has("steps") || fields.get("steps").is_some_and(|steps| steps.as_array().is_some_and(Vec::is_empty)) {
        let issue = fields.place.key("steps").error(IssueCode::GraphWithoutSteps, "a graph needs at least one step");
        fields.sink.report.push(issue.suggest(
            "write `\"steps\": [{ \"id\": \"hello\", \"type\": \"lua_script\", \"script\": \"return {}\" }]`",
        ));
    }
    if items.len() > STEPS_MAX {
        let message = format!("the graph has {} steps; at most {STEPS_MAX} are allowed", items.len());
        let issue = fields.place.key("steps").error(IssueCode::GraphTooLarge, message);
        fields.sink.report.push(issue.suggest("divide it into workflows that call each other by `workflow_call`"));
        return Vec::new();
    }
    let list = fields.place.key("steps");
    let mut steps = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let place = Place { top_step: Some(index), ..list.index(index) };
        match item {
            Value::Object(members) if !fields.sink.is_full() => {
                steps.push(step::step(members, &place, steps.len(), fields.sink))
            }
            Value::Object(_) => {}
            _ => fields.sink.report.push(place.error(IssueCode::GraphSchemaValidation, "a step is an object")),
        }
    }
    steps
}

#[cfg(test)]
mod tests;
