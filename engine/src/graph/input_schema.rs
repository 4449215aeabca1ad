//! What a start payload must look like.
//!
//! Owns the two forms of `input_schema`, the defaults it fills in and the check. Never fetches anything: a schema stands
//! alone. A schema is an author's program that runs in the host, so what could make it run for long is refused when the
//! graph is read: references in circles, references that multiply, patterns that backtrack.

mod bounds;

use super::issue::{Issue, IssueCode, Place};
use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value, json};
use std::fmt;

/// The longest compiled pattern: some kilobytes of text can mean gigabytes of states.
const PATTERN_BYTES_MAX: usize = 256 << 10;
/// How many things wrong with one payload are told: the first are enough to correct it.
const INPUT_ISSUES_MAX: usize = 20;
/// What the short form calls types.
const SHORT_TYPES: [&str; 8] = ["string", "number", "integer", "boolean", "object", "array", "null", "any"];

/// A schema that is ready to check payloads.
pub struct InputSchema {
    validator: Validator,
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
            Value::Object(_) => Self::compile(schema, false, place).map_err(|issue| vec![issue]),
            Value::Array(fields) => Self::compile(&long_form(fields, place)?, true, place).map_err(|issue| vec![issue]),
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

    fn compile(schema: &Value, is_short: bool, place: &Place) -> Result<Self, Issue> {
        let invalid = |message: String| place.error(IssueCode::InputSchemaInvalid, message);
        bounds::check(schema).map_err(invalid)?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let validator = jsonschema::options().with_pattern_options(patterns).build(schema).map_err(|error| {
            invalid(format!("`input_schema` is not a JSON Schema: {error} (at `{}`)", error.instance_path()))
        })?;
        let properties = schema.get("properties").and_then(Value::as_object);
        let defaults = properties.into_iter().flatten();
        let defaults = defaults.filter_map(|(name, property)| Some((name.clone(), property.get("default")?.clone())));
        Ok(Self {
            validator,
            defaults: defaults.collect(),
            properties: properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect(),
            is_closed: is_short || schema.get("additionalProperties") == Some(&Value::Bool(false)),
        })
    }

    /// Fills in the defaults of missing top-level keys, then checks. What is refused says where, under `$`.
    pub fn admit(&self, mut input: Value) -> Result<Value, Vec<Issue>> {
        if let Value::Object(members) = &mut input {
            for (name, default) in &self.defaults {
                if !members.contains_key(name) {
                    members.insert(name.clone(), default.clone());
                }
            }
        }
        let issues: Vec<Issue> =
            self.validator.iter_errors(&input).take(INPUT_ISSUES_MAX).map(|error| refusal(&error)).collect();
        if issues.is_empty() { Ok(input) } else { Err(issues) }
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
