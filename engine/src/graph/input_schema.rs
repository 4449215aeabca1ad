//! What a start payload must look like.
//!
//! Owns the two forms of `input_schema`, the defaults it fills in and the check. Never fetches anything: a schema stands
//! alone. A schema is an author's program that runs in the host, so what could make it run for long is refused when the
//! graph is read: references in circles, references that multiply, patterns that backtrack. What schema and payload
//! amount to together is counted before each check.

mod bounds;
mod cost;
mod keywords;

use super::issue::{Issue, IssueCode, Place, shown};
use cost::{Cost, Steps, TooManySteps};
use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value, json};
use std::fmt;

/// The longest compiled pattern: some kilobytes of text can mean gigabytes of states.
const PATTERN_BYTES_MAX: usize = 256 << 10;
/// The compiled sizes by which patterns are told apart: what a pattern takes for a byte of text grows with its states.
const PATTERN_CLASSES_BYTES: [usize; 5] = [1 << 10, 4 << 10, 16 << 10, 64 << 10, PATTERN_BYTES_MAX];
/// A state of a compiled pattern takes at least as many bytes, two steps' worth of time, and is looked at once for each byte
/// of text at worst.
const PATTERN_BYTES_PER_STEP: usize = 64;
/// How many things wrong with one payload are told: the first are enough to correct it.
const INPUT_ISSUES_MAX: usize = 20;
/// What the check of one payload may take, in steps of some ten nanoseconds: about half a second of a processor. Some megabytes of
/// ordinary data take less.
pub(super) const CHECK_STEPS_MAX: u64 = 50_000_000;
/// A check of so many steps takes well under a millisecond: it keeps nobody waiting.
pub(super) const LIGHT_CHECK_STEPS_MAX: u64 = 20_000;
/// Everything that is wrong is collected only by checks of so many steps: each of them can fail, and failures take memory.
const TOLD_STEPS_MAX: u64 = 20_000;
/// What the short form calls types.
const SHORT_TYPES: [&str; 8] = ["string", "number", "integer", "boolean", "object", "array", "null", "any"];

/// A schema that is ready to check payloads.
pub struct InputSchema {
    validator: Validator,
    cost: Cost,
    defaults: Map<String, Value>,
    properties: Vec<String>,
    is_closed: bool,
}

impl InputSchema {
    /// Reads a JSON Schema object, or the short form `[{ "name", "type", "optional"? }]`.
    pub fn parse(schema: &Value) -> Result<Self, Vec<Issue>> {
        Self::parse_at(schema, &Place::root().key("input_schema"))
    }

    pub(crate) fn parse_at(schema: &Value, place: &Place) -> Result<Self, Vec<Issue>> {
        match schema {
            Value::Object(_) => Self::compile(schema, Reading::Long, place).map_err(|issue| vec![issue]),
            Value::Array(fields) => {
                Self::compile(&long_form(fields, place)?, Reading::Short, place).map_err(|issue| vec![issue])
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let issue =
                    place.error(IssueCode::InputSchemaInvalid, "`input_schema` is neither an object nor a list");
                Err(vec![
                    issue
                        .suggest("write a JSON Schema object, or `[{ \"name\": \"order_id\", \"type\": \"string\" }]`"),
                ])
            }
        }
    }

    /// Reads a schema that decides what passes: its formats count, and it has no keyword that would count for nothing.
    pub(crate) fn rule_at(schema: &Value, place: &Place) -> Result<Self, Issue> {
        Self::compile(schema, Reading::Rule, place)
    }

    /// The same, of one that was read before.
    pub fn rule(schema: &Value) -> Result<Self, Issue> {
        Self::rule_at(schema, &Place::root())
    }

    fn compile(schema: &Value, reading: Reading, place: &Place) -> Result<Self, Issue> {
        let invalid = |message: String| place.error(IssueCode::InputSchemaInvalid, message);
        bounds::check(schema).map_err(invalid)?;
        if let (Reading::Rule, Some(unknown)) = (reading, keywords::unknown(schema)) {
            let message = format!("`{}` is no keyword of JSON Schema, and would let everything pass", shown(unknown));
            return Err(invalid(message).suggest_nearest(unknown, keywords::known()));
        }
        let validator = compile(schema, PATTERN_BYTES_MAX, reading).map_err(|error| {
            invalid(format!("`input_schema` is not a JSON Schema: {error} (at `{}`)", error.instance_path()))
        })?;
        let properties = schema.get("properties").and_then(Value::as_object);
        let defaults = properties.into_iter().flatten();
        let defaults = defaults.filter_map(|(name, property)| Some((name.clone(), property.get("default")?.clone())));
        Ok(Self {
            validator,
            cost: Cost::of(schema, &pattern_steps),
            defaults: defaults.collect(),
            properties: properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect(),
            is_closed: reading == Reading::Short || schema.get("additionalProperties") == Some(&Value::Bool(false)),
        })
    }

    /// Fills in the defaults of missing top-level keys, then checks. What is refused says where, under `$`.
    pub fn admit(&self, input: Value) -> Result<Value, Vec<Issue>> {
        let filled = self.fill(input);
        let issues = self.check(&filled);
        if issues.is_empty() { Ok(filled) } else { Err(issues) }
    }

    /// Fills in the defaults of missing top-level keys.
    pub fn fill(&self, mut input: Value) -> Value {
        if let Value::Object(members) = &mut input {
            for (name, default) in &self.defaults {
                if !members.contains_key(name) {
                    members.insert(name.clone(), default.clone());
                }
            }
        }
        input
    }

    /// Whether there is anything that [`fill`](Self::fill) could fill in.
    pub fn has_defaults(&self) -> bool {
        !self.defaults.is_empty()
    }

    /// What does not fit, and where, under `$`. Takes no more than `CHECK_STEPS_MAX`: what would take more is refused
    /// without being checked.
    pub fn check(&self, input: &Value) -> Vec<Issue> {
        match self.cost.steps(input, CHECK_STEPS_MAX) {
            Err(TooManySteps) => vec![too_costly()],
            Ok(_) if self.validator.is_valid(input) => Vec::new(),
            Ok(steps) => self.told(input, steps),
        }
    }

    /// Whether the check takes no longer than an asynchronous thread may be kept. To know that takes no longer, either.
    pub fn is_light_for(&self, input: &Value) -> bool {
        self.cost.steps(input, LIGHT_CHECK_STEPS_MAX).is_ok()
    }

    /// What is wrong with an input that does not fit. One failure of `anyOf` holds all failures of all alternatives, so
    /// that even the first can be too much.
    fn told(&self, input: &Value, steps: Steps) -> Vec<Issue> {
        if steps.all <= TOLD_STEPS_MAX {
            return self.validator.iter_errors(input).take(INPUT_ISSUES_MAX).map(|error| refusal(&error)).collect();
        }
        let first = (steps.in_alternatives <= TOLD_STEPS_MAX).then(|| self.validator.validate(input).err()).flatten();
        vec![first.map_or_else(untold, |error| refusal(&error))]
    }

    /// The top-level keys that are declared.
    pub fn properties(&self) -> impl Iterator<Item = &str> {
        self.properties.iter().map(String::as_str)
    }

    /// Whether the schema names every top-level key that a template could sensibly read.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

impl fmt::Debug for InputSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputSchema").field("properties", &self.properties).finish_non_exhaustive()
    }
}

fn compile(
    schema: &Value,
    pattern_bytes_max: usize,
    reading: Reading,
) -> Result<Validator, jsonschema::ValidationError<'static>> {
    let patterns = PatternOptions::regex().size_limit(pattern_bytes_max).dfa_size_limit(PATTERN_BYTES_MAX);
    let is_rule = reading == Reading::Rule;
    let options = jsonschema::options().with_pattern_options(patterns);
    options.should_validate_formats(is_rule).should_ignore_unknown_formats(!is_rule).build(schema)
}

/// What a schema is for, and how it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It describes data, as JSON Schema.
    Long,
    /// It describes data, in the short form.
    Short,
    /// It decides what passes.
    Rule,
}

/// What a pattern takes for each byte of text at worst.
fn pattern_steps(pattern: &str) -> u64 {
    let schema = json!({ "pattern": pattern });
    let class = PATTERN_CLASSES_BYTES.into_iter().find(|bytes| compile(&schema, *bytes, Reading::Long).is_ok());
    (class.unwrap_or(PATTERN_BYTES_MAX) / PATTERN_BYTES_PER_STEP) as u64
}

fn too_costly() -> Issue {
    let message = format!("to check it by `input_schema` takes more than {CHECK_STEPS_MAX} steps");
    let issue = Place::root().error(IssueCode::InputInvalid, message);
    issue.suggest("start with less data, or make the schema simpler: alternatives, patterns and lists of values count for each value that they are compared with")
}

fn untold() -> Issue {
    let message = "it does not fit, and the schema has too many alternatives to say where in so much data";
    Place::root().error(IssueCode::InputInvalid, message).suggest("check a smaller part of the data by the same schema")
}

fn refusal(error: &jsonschema::ValidationError<'_>) -> Issue {
    let place =
        error.instance_path().as_str().split('/').skip(1).fold(Place::root(), |place, segment| match segment.parse() {
            Ok(index) => place.index(index),
            Err(_) => place.key(&segment.replace("~1", "/").replace("~0", "~")),
        });
    // A payload can be a customer's data and this text goes into events, so no value is quoted in it.
    place.error(IssueCode::InputInvalid, error.masked().to_string())
}

fn long_form(fields: &[Value], place: &Place) -> Result<Value, Vec<Issue>> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut issues = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        match short_field(field, &place.index(index)) {
            Ok((name, schema, is_optional)) => {
                if !is_optional && schema.get("default").is_none() {
                    required.push(Value::from(name));
                }
                if properties.insert(name.to_owned(), schema).is_some() {
                    let message = format!("the field `{name}` is declared twice");
                    issues.push(place.index(index).key("name").error(IssueCode::InputSchemaInvalid, message));
                }
            }
            Err(issue) => issues.push(issue),
        }
    }
    if !issues.is_empty() {
        return Err(issues);
    }
    Ok(json!({ "type": "object", "properties": properties, "required": required }))
}

fn short_field<'f>(field: &'f Value, place: &Place) -> Result<(&'f str, Value, bool), Issue> {
    let invalid = |place: &Place, message: &str| place.error(IssueCode::InputSchemaInvalid, message);
    let Value::Object(members) = field else {
        return Err(
            invalid(place, "a field is an object").suggest("write `{ \"name\": \"order_id\", \"type\": \"string\" }`")
        );
    };
    let known = ["name", "type", "optional", "default", "description"];
    if let Some(unknown) = members.keys().find(|key| !known.contains(&key.as_str())) {
        let issue = place.key(unknown).error(IssueCode::UnknownKey, format!("`{unknown}` is not a key of a field"));
        return Err(issue.suggest_nearest(unknown, known));
    }
    let Some(name) = members.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
        return Err(invalid(&place.key("name"), "a field has a `name`, a text"));
    };
    let Some(kind) = members.get("type").and_then(Value::as_str) else {
        return Err(invalid(&place.key("type"), "a field has a `type`, a text")
            .suggest(format!("one of {}", SHORT_TYPES.join(", "))));
    };
    if !SHORT_TYPES.contains(&kind) {
        let issue = invalid(&place.key("type"), &format!("`{kind}` is not a type"));
        return Err(issue.suggest(format!("one of {}", SHORT_TYPES.join(", "))).suggest_nearest(kind, SHORT_TYPES));
    }
    let is_optional = match members.get("optional") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(is_optional)) => *is_optional,
        Some(_) => return Err(invalid(&place.key("optional"), "`optional` is true or false")),
    };
    let mut schema = if kind == "any" { json!({}) } else { json!({ "type": kind }) };
    if let Some(default) = members.get("default") {
        schema["default"] = default.clone();
    }
    Ok((name, schema, is_optional))
}

#[cfg(test)]
mod tests;
