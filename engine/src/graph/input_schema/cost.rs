//! What checking a payload takes, counted before it is begun.
//!
//! Schema and payload multiply, and a check that was begun cannot be stopped. So this goes the way that the check will go,
//! judges nothing, and gives up when the steps are more than allowed. Never counts too little: where it is unclear what a
//! check looks at, it counts all.

use serde_json::{Map, Value};
use std::collections::HashMap;

/// Bytes of text that are compared or measured in one step.
const BYTES_PER_STEP: u64 = 32;
/// What `format: "regex"` takes: the payload's text is compiled as a pattern.
const REGEX_FORMAT_STEPS: u64 = 1_000_000;
/// What any other format takes for each byte of text.
const FORMAT_STEPS_PER_BYTE: u64 = 16;
/// How often `unevaluatedProperties` and `unevaluatedItems` may check the schemas beside them once more.
pub(super) const UNEVALUATED_FACTOR: u64 = 64;

/// What a check takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// In all. One step looks at one keyword, or at a few bytes of text: some ten nanoseconds.
    pub(super) all: u64,
    /// Those inside of `anyOf` and `oneOf`, where everything that is wrong with each alternative belongs to one failure.
    pub(super) in_alternatives: u64,
}

/// More steps than allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManySteps;

/// A schema as far as the cost of checking by it goes.
pub(super) struct Cost {
    nodes: Vec<Node>,
    root: usize,
}

/// A subschema.
#[derive(Default)]
struct Node {
    /// What it takes for any value.
    own: u64,
    /// What it takes for each byte of a text, and of each key of an object.
    per_byte: u64,
    per_key_byte: u64,
    /// Whether the items of a list are compared with each other.
    compares_items: bool,
    /// How often all of it is done.
    factor: u64,
    /// Subschemas for the same value.
    same: Vec<usize>,
    alternatives: Vec<usize>,
    /// Subschemas for the members of an object, and the items of a list.
    members: HashMap<String, usize>,
    each_member: Vec<usize>,
    each_key: Vec<usize>,
    each_item: Vec<usize>,
}

impl Cost {
    /// Of a schema within its [bounds](super::bounds). `pattern_steps` says what a pattern takes for each byte of text.
    pub(super) fn of(schema: &Value, pattern_steps: &dyn Fn(&str) -> u64) -> Self {
        let mut reader = Reader { document: schema, nodes: Vec::new(), known: HashMap::new(), pattern_steps };
        let root = reader.node(schema);
        Self { nodes: reader.nodes, root }
    }

    /// What checking this payload takes, if it is not more than `most`.
    pub(super) fn steps(&self, payload: &Value, most: u64) -> Result<Steps, TooManySteps> {
        let mut count = Count { nodes: &self.nodes, steps: Steps::default(), most };
        count.value(self.root, payload, Through { factor: 1, in_alternative: false })?;
        Ok(count.steps)
    }
}

struct Reader<'s> {
    document: &'s Value,
    nodes: Vec<Node>,
    /// What references lead to.
    known: HashMap<&'s str, usize>,
    pattern_steps: &'s dyn Fn(&str) -> u64,
}

impl<'s> Reader<'s> {
    fn node(&mut self, schema: &'s Value) -> usize {
        let mut node = Node { own: 1, factor: 1, ..Node::default() };
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            node.own += 1;
            self.keyword(&mut node, keyword, value);
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn keyword(&mut self, node: &mut Node, keyword: &str, value: &'s Value) {
        match (keyword, value) {
            ("$ref", Value::String(reference)) => node.same.extend(self.referenced(reference)),
            ("allOf", Value::Array(schemas)) => node.same.extend(self.all(schemas)),
            ("anyOf" | "oneOf", Value::Array(schemas)) => node.alternatives.extend(self.all(schemas)),
            ("not" | "if" | "then" | "else", schema) => node.same.push(self.node(schema)),
            ("dependentSchemas" | "dependencies", Value::Object(schemas)) => {
                node.own += weight(value);
                node.same.extend(schemas.values().filter(|schema| schema.is_object()).map(|schema| self.node(schema)));
            }
            ("properties", Value::Object(schemas)) => self.properties(node, schemas),
            ("patternProperties", Value::Object(schemas)) => {
                // Once for itself, and once to know what is additional.
                let patterns = schemas.keys().map(|pattern| (self.pattern_steps)(pattern));
                node.per_key_byte += 2 * patterns.fold(0, u64::saturating_add);
                node.each_member.extend(schemas.values().map(|schema| self.node(schema)));
            }
            ("additionalProperties" | "unevaluatedProperties", schema) => {
                node.each_member.push(self.node(schema));
                node.factor *= if keyword == "unevaluatedProperties" { UNEVALUATED_FACTOR } else { 1 };
            }
            ("propertyNames", schema) => node.each_key.push(self.node(schema)),
            ("items" | "prefixItems", Value::Array(schemas)) => node.each_item.extend(self.all(schemas)),
            ("items" | "additionalItems" | "contains" | "unevaluatedItems", schema) => {
                node.each_item.push(self.node(schema));
                node.factor *= if keyword == "unevaluatedItems" { UNEVALUATED_FACTOR } else { 1 };
            }
            ("uniqueItems", Value::Bool(true)) => node.compares_items = true,
            ("pattern", Value::String(pattern)) => node.per_byte += (self.pattern_steps)(pattern),
            ("format", Value::String(format)) if format == "regex" => node.own += REGEX_FORMAT_STEPS,
            ("format" | "contentMediaType" | "contentEncoding", _) => node.per_byte += FORMAT_STEPS_PER_BYTE,
            ("enum" | "const" | "required" | "dependentRequired" | "type", _) => node.own += weight(value),
            _ => {}
        }
    }

    fn all(&mut self, schemas: &'s [Value]) -> Vec<usize> {
        schemas.iter().map(|schema| self.node(schema)).collect()
    }

    fn properties(&mut self, node: &mut Node, schemas: &'s Map<String, Value>) {
        for (name, schema) in schemas {
            let property = self.node(schema);
            node.members.insert(name.clone(), property);
        }
    }

    fn referenced(&mut self, reference: &'s str) -> Option<usize> {
        if let Some(&node) = self.known.get(reference) {
            return Some(node);
        }
        let target = self.document.pointer(reference.strip_prefix('#')?)?;
        let node = self.node(target);
        self.known.insert(reference, node);
        Some(node)
    }
}

/// By which way a value is reached.
#[derive(Clone, Copy)]
struct Through {
    factor: u64,
    in_alternative: bool,
}

struct Count<'c> {
    nodes: &'c [Node],
    steps: Steps,
    most: u64,
}

impl<'c> Count<'c> {
    fn value(&mut self, at: usize, value: &Value, through: Through) -> Result<(), TooManySteps> {
        let (node, through) = self.same(at, through, &mut |count, at, through| count.value(at, value, through))?;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
            Value::String(text) => self.text(node, text, through),
            Value::Array(items) => {
                if node.compares_items {
                    self.spend(items.iter().map(weight).fold(0, u64::saturating_add).saturating_mul(16), through)?;
                }
                items.iter().try_for_each(|item| {
                    node.each_item.iter().try_for_each(|&schema| self.value(schema, item, through))
                })
            }
            Value::Object(members) => members.iter().try_for_each(|(name, member)| {
                self.spend(1 + node.per_key_byte.saturating_mul(name.len() as u64), through)?;
                node.each_key.iter().try_for_each(|&schema| self.key(schema, name, through))?;
                let named = node.members.get(name).into_iter();
                named.chain(&node.each_member).try_for_each(|&schema| self.value(schema, member, through))
            }),
        }
    }

    /// A key of an object, which is checked like a text.
    fn key(&mut self, at: usize, name: &str, through: Through) -> Result<(), TooManySteps> {
        let (node, through) = self.same(at, through, &mut |count, at, through| count.key(at, name, through))?;
        self.text(node, name, through)
    }

    fn text(&mut self, node: &Node, text: &str, through: Through) -> Result<(), TooManySteps> {
        let bytes = text.len() as u64;
        self.spend(node.per_byte.saturating_mul(bytes).saturating_add(bytes / BYTES_PER_STEP), through)
    }

    /// What a subschema takes for whatever stands there, with all subschemas that are for the same value.
    fn same(
        &mut self,
        at: usize,
        through: Through,
        inside: &mut dyn FnMut(&mut Self, usize, Through) -> Result<(), TooManySteps>,
    ) -> Result<(&'c Node, Through), TooManySteps> {
        let nodes = self.nodes;
        let node = &nodes[at];
        let through = Through { factor: through.factor.saturating_mul(node.factor), ..through };
        self.spend(node.own, through)?;
        node.same.iter().try_for_each(|&schema| inside(self, schema, through))?;
        let alternative = Through { in_alternative: true, ..through };
        node.alternatives.iter().try_for_each(|&schema| inside(self, schema, alternative))?;
        Ok((node, through))
    }

    fn spend(&mut self, steps: u64, through: Through) -> Result<(), TooManySteps> {
        let steps = steps.saturating_mul(through.factor);
        self.steps.all = self.steps.all.saturating_add(steps);
        if through.in_alternative {
            self.steps.in_alternatives = self.steps.in_alternatives.saturating_add(steps);
        }
        if self.steps.all > self.most { Err(TooManySteps) } else { Ok(()) }
    }
}

/// What comparing with a value takes.
fn weight(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => 1 + text.len() as u64 / BYTES_PER_STEP,
        Value::Array(items) => 1 + items.iter().map(weight).sum::<u64>(),
        Value::Object(members) => {
            1 + members.iter().map(|(name, member)| weight(member) + name.len() as u64 / BYTES_PER_STEP).sum::<u64>()
        }
    }
}
