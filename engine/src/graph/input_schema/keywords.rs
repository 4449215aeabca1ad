//! The keywords of a schema that lets things pass or not: one that is misspelt would let everything pass.

use serde_json::Value;

/// Those of JSON Schema in its drafts from 7 to 2020-12.
const KNOWN: [&str; 55] = [
    "$comment",
    "$defs",
    "$id",
    "$ref",
    "$schema",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "deprecated",
    "description",
    "else",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "readOnly",
    "required",
    "then",
    "title",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Keywords whose members are schemas by names of their own.
const BY_NAME: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];
/// Keywords that hold values, which may look like schemas.
const VALUES: [&str; 4] = ["const", "default", "enum", "examples"];

/// A keyword that is none. The schema is known not to nest deeper than is allowed.
pub(super) fn unknown(schema: &Value) -> Option<&str> {
    match schema {
        Value::Object(members) => members.iter().find_map(|(keyword, value)| match keyword.as_str() {
            keyword if !KNOWN.contains(&keyword) => Some(keyword),
            keyword if VALUES.contains(&keyword) => None,
            keyword if BY_NAME.contains(&keyword) => value.as_object()?.values().find_map(unknown),
            _ => unknown(value),
        }),
        Value::Array(schemas) => schemas.iter().find_map(unknown),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// All of them, for suggestions.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.into_iter()
}
