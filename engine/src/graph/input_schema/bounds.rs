//! Refuses schemas whose check could take for ever: references in circles or that multiply, or that lead outside.

use serde_json::Value;
use std::collections::HashMap;

/// How many subschemas a schema may amount to once every reference is written out.
const EXPANDED_NODES_MAX: u64 = 5_000;
/// How many patterns a schema may hold: each is compiled.
const PATTERNS_MAX: usize = 64;
/// How deep references may lead into each other.
const REFERENCE_DEPTH_MAX: usize = 64;
/// Keywords whose references depend on the path by which they are reached, or that move what `#` means.
const UNBOUNDED: [&str; 6] =
    ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$anchor", "$vocabulary"];

/// The reason why a schema is refused, where it is.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let mut expansion = Expansion { document: schema, known: HashMap::new(), open: Vec::new(), patterns: 0 };
    expansion.nodes(schema, true).map(|_| ())
}

struct Expansion<'s> {
    document: &'s Value,
    /// What a reference amounts to.
    known: HashMap<&'s str, u64>,
    /// The references that are being followed.
    open: Vec<&'s str>,
    patterns: usize,
}

impl<'s> Expansion<'s> {
    fn nodes(&mut self, schema: &'s Value, is_root: bool) -> Result<u64, String> {
        let mut total: u64 = u64::from(schema.is_object() || schema.is_array());
        match schema {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            Value::Array(items) => {
                for item in items {
                    total = total.saturating_add(self.nodes(item, false)?);
                }
            }
            Value::Object(members) => {
                for (keyword, value) in members {
                    self.count_patterns(keyword, value)?;
                    total = total.saturating_add(match (keyword.as_str(), value) {
                        ("$ref", Value::String(reference)) => self.referenced(reference)?,
                        ("$id", Value::String(_)) if !is_root => {
                            return Err(
                                "`$id` inside `input_schema` is not supported; remove it and refer by `#/$defs/…`"
                                    .into(),
                            );
                        }
                        // In draft 4 a property of the name `id` moves what `#` means.
                        ("$schema", Value::String(draft))
                            if draft.contains("draft-04") || draft.contains("draft-03") =>
                        {
                            return Err("drafts before 6 are not supported in `input_schema`; write for 2020-12".into());
                        }
                        (keyword, Value::String(_) | Value::Bool(_) | Value::Object(_))
                            if UNBOUNDED.contains(&keyword) =>
                        {
                            return Err(format!(
                                "`{keyword}` is not supported in `input_schema`; refer by `#/$defs/…`"
                            ));
                        }
                        (_, value) => self.nodes(value, false)?,
                    });
                }
            }
        }
        if total > EXPANDED_NODES_MAX {
            return Err(format!(
                "`input_schema` amounts to more than {EXPANDED_NODES_MAX} subschemas once its references are written out"
            ));
        }
        Ok(total)
    }

    fn count_patterns(&mut self, keyword: &str, value: &Value) -> Result<(), String> {
        self.patterns += match (keyword, value) {
            ("pattern", Value::String(_)) => 1,
            ("patternProperties", Value::Object(members)) => members.len(),
            _ => 0,
        };
        if self.patterns > PATTERNS_MAX {
            return Err(format!("`input_schema` has more than {PATTERNS_MAX} patterns"));
        }
        Ok(())
    }

    fn referenced(&mut self, reference: &'s str) -> Result<u64, String> {
        if let Some(nodes) = self.known.get(reference) {
            return Ok(*nodes);
        }
        if self.open.contains(&reference) {
            return Err(format!(
                "`input_schema` refers to itself by `{reference}`: its check would have no bound; write the levels out"
            ));
        }
        if self.open.len() >= REFERENCE_DEPTH_MAX {
            return Err(format!("references in `input_schema` lead more than {REFERENCE_DEPTH_MAX} levels deep"));
        }
        let pointer = reference.strip_prefix('#').ok_or_else(|| {
            format!("`input_schema` refers to `{reference}`, and nothing is fetched; copy it under `$defs` and refer by `#/$defs/…`")
        })?;
        let target = self
            .document
            .pointer(pointer)
            .ok_or_else(|| format!("`input_schema` refers to `{reference}`, which is not there"))?;
        self.open.push(reference);
        let nodes = self.nodes(target, false)?;
        self.open.pop();
        self.known.insert(reference, nodes);
        Ok(nodes)
    }
}
