//! Refuses schemas whose check could take for ever: references in circles or that multiply, or that lead outside.

use super::cost::UNEVALUATED_FACTOR;
use serde_json::Value;
use std::collections::HashMap;

/// How many subschemas a schema may amount to once every reference is written out.
const EXPANDED_NODES_MAX: u64 = 5_000;
/// How many patterns a schema may hold: each is compiled.
const PATTERNS_MAX: usize = 64;
/// How deep a schema may nest once every reference is written out: a check goes as deep on its thread's stack.
const EXPANDED_DEPTH_MAX: usize = 128;
/// Keywords whose references depend on the path by which they are reached, or that move what `#` means.
const UNBOUNDED: [&str; 6] =
    ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$anchor", "$vocabulary"];

/// The reason why a schema is refused, where it is.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let mut expansion = Expansion { document: schema, known: HashMap::new(), open: Vec::new(), patterns: 0 };
    expansion.extent(schema, 0).map(|_| ())
}

/// What a part of a schema amounts to.
#[derive(Clone, Copy, Default)]
struct Extent {
    nodes: u64,
    depth: usize,
}

struct Expansion<'s> {
    document: &'s Value,
    /// What a reference amounts to.
    known: HashMap<&'s str, Extent>,
    /// The references that are being followed.
    open: Vec<&'s str>,
    patterns: usize,
}

impl<'s> Expansion<'s> {
    fn extent(&mut self, schema: &'s Value, level: usize) -> Result<Extent, String> {
        let mut total = Extent { nodes: u64::from(schema.is_object() || schema.is_array()), depth: 1 };
        if level >= EXPANDED_DEPTH_MAX {
            return Err(too_deep());
        }
        match schema {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            Value::Array(items) => {
                for item in items {
                    total.add(self.extent(item, level + 1)?);
                }
            }
            Value::Object(members) => {
                for (keyword, value) in members {
                    self.count_patterns(keyword, value)?;
                    unsupported(keyword, value, level)?;
                    total.add(match (keyword.as_str(), value) {
                        ("$ref", Value::String(reference)) => self.referenced(reference, level + 1)?,
                        (_, value) => self.extent(value, level + 1)?,
                    });
                }
                let repeats =
                    ["unevaluatedProperties", "unevaluatedItems"].map(|keyword| members.contains_key(keyword));
                for _ in repeats.into_iter().filter(|repeats| *repeats) {
                    total.nodes = total.nodes.saturating_mul(UNEVALUATED_FACTOR);
                }
            }
        }
        if total.nodes > EXPANDED_NODES_MAX {
            return Err(format!(
                "`input_schema` amounts to more than {EXPANDED_NODES_MAX} subschemas once its references are written out, each `unevaluated…` counting those beside it {UNEVALUATED_FACTOR} times"
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

    fn referenced(&mut self, reference: &'s str, level: usize) -> Result<Extent, String> {
        if let Some(extent) = self.known.get(reference) {
            return if level + extent.depth > EXPANDED_DEPTH_MAX { Err(too_deep()) } else { Ok(*extent) };
        }
        if self.open.contains(&reference) {
            return Err(format!(
                "`input_schema` refers to itself by `{reference}`: its check would have no bound; write the levels out"
            ));
        }
        let pointer = reference.strip_prefix('#').ok_or_else(|| {
            format!("`input_schema` refers to `{reference}`, and nothing is fetched; copy it under `$defs` and refer by `#/$defs/…`")
        })?;
        let target = self
            .document
            .pointer(pointer)
            .ok_or_else(|| format!("`input_schema` refers to `{reference}`, which is not there"))?;
        self.open.push(reference);
        let extent = self.extent(target, level)?;
        self.open.pop();
        self.known.insert(reference, extent);
        Ok(extent)
    }
}

impl Extent {
    fn add(&mut self, inside: Self) {
        self.nodes = self.nodes.saturating_add(inside.nodes);
        self.depth = self.depth.max(inside.depth + 1);
    }
}

fn too_deep() -> String {
    format!("`input_schema` nests deeper than {EXPANDED_DEPTH_MAX} levels once its references are written out")
}

fn unsupported(keyword: &str, value: &Value, level: usize) -> Result<(), String> {
    match (keyword, value) {
        ("$id", Value::String(_)) if level > 0 => {
            Err("`$id` inside `input_schema` is not supported; remove it and refer by `#/$defs/…`".into())
        }
        // In draft 4 a property of the name `id` moves what `#` means.
        ("$schema", Value::String(draft)) if draft.contains("draft-04") || draft.contains("draft-03") => {
            Err("drafts before 6 are not supported in `input_schema`; write for 2020-12".into())
        }
        (keyword, Value::String(_) | Value::Bool(_) | Value::Object(_)) if UNBOUNDED.contains(&keyword) => {
            Err(format!("`{keyword}` is not supported in `input_schema`; refer by `#/$defs/…`"))
        }
        _ => Ok(()),
    }
}
