//! Filling in: each path's value is looked up and put where its template stands.

use super::{
    Lookup, Node, Path, Template,
    syntax::{Expression, Fallback, Part},
};
use agentruntime_host_api::{ErrorCode, Limits, StepError};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// What one resolved value may take: a small template can name a large result a thousand times.
pub const RESOLVED_BYTES_MAX: usize = 8 << 20;

/// What is left of a template after filling in.
enum Resolved {
    Value(Value),
    /// The key or element that holds the template goes.
    Omit,
}

impl Template {
    /// The value with every path filled in. A template that asks for omission takes its key or list element with it; where
    /// there is none, because the whole value is that template, null comes out.
    pub fn resolve(&self, lookup: &dyn Lookup) -> Result<Value, StepError> {
        let mut filling = Filling { lookup, bytes_left: RESOLVED_BYTES_MAX };
        match filling.node(&self.0, 0)? {
            Resolved::Value(value) => Ok(value),
            Resolved::Omit => Ok(Value::Null),
        }
    }
}

impl Template {
    /// What a condition looks at, where that is there. Nothing is copied, however large it is.
    pub(crate) fn peek<'f>(&'f self, lookup: &'f dyn Lookup) -> Option<Cow<'f, Value>> {
        match &self.0 {
            Node::Constant(value) => Some(Cow::Borrowed(value)),
            Node::Text(parts) => match parts.as_slice() {
                [Part::Expression(expression)] => match find(expression, lookup) {
                    Found::Value(value) => Some(value),
                    Found::Omit | Found::Nothing(_) => None,
                },
                _ => self.resolve(lookup).ok().map(Cow::Owned),
            },
            Node::List(_) | Node::Object(_) => self.resolve(lookup).ok().map(Cow::Owned),
        }
    }
}

struct Filling<'l> {
    lookup: &'l dyn Lookup,
    bytes_left: usize,
}

impl Filling<'_> {
    fn node(&mut self, node: &Node, depth: usize) -> Result<Resolved, StepError> {
        match node {
            Node::Constant(value) => self.admit(value, depth).map(|()| Resolved::Value(value.clone())),
            Node::Text(parts) => self.text(parts, depth),
            Node::List(nodes) => {
                let mut items = Vec::with_capacity(nodes.len());
                for node in nodes {
                    if let Resolved::Value(value) = self.node(node, depth + 1)? {
                        items.push(value);
                    }
                }
                Ok(Resolved::Value(Value::Array(items)))
            }
            Node::Object(nodes) => {
                let mut members = Map::new();
                for (name, node) in nodes {
                    if let Resolved::Value(value) = self.node(node, depth + 1)? {
                        members.insert(name.clone(), value);
                    }
                }
                Ok(Resolved::Value(Value::Object(members)))
            }
        }
    }

    fn text(&mut self, parts: &[Part], depth: usize) -> Result<Resolved, StepError> {
        if let [Part::Expression(expression)] = parts {
            let resolved = self.expression(expression)?;
            if let Resolved::Value(value) = &resolved {
                self.admit(value, depth)?;
            }
            return Ok(resolved);
        }
        let mut text = String::new();
        for part in parts {
            let before = text.len();
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Expression(expression) => match self.expression(expression)? {
                    Resolved::Omit => return Ok(Resolved::Omit),
                    Resolved::Value(Value::String(string)) => text.push_str(&string),
                    Resolved::Value(value) => text.push_str(&value.to_string()),
                },
            }
            self.spend(text.len() - before)?;
        }
        Ok(Resolved::Value(Value::String(text)))
    }

    fn expression(&self, expression: &Expression) -> Result<Resolved, StepError> {
        match find(expression, self.lookup) {
            Found::Value(value) => Ok(Resolved::Value(value.into_owned())),
            Found::Omit => Ok(Resolved::Omit),
            Found::Nothing(path) => Err(self.unresolved(path)),
        }
    }

    fn unresolved(&self, path: &Path) -> StepError {
        let nearest = self.lookup.nearest(path).filter(|nearest| *nearest != path.to_string());
        let hint = match &nearest {
            Some(nearest) => format!("; the nearest path that exists is `{nearest}`"),
            None => String::new(),
        };
        StepError::new(ErrorCode::TemplateUnresolved, format!("`{{{{ {path} }}}}` does not resolve{hint}"))
            .with_details(json!({ "path": path.to_string(), "nearest": nearest }))
    }

    fn admit(&mut self, value: &Value, depth: usize) -> Result<(), StepError> {
        let (bytes, levels) = measure(value);
        if depth + levels > Limits::JSON_DEPTH_MAX {
            let message = format!("the resolved value nests deeper than {} levels", Limits::JSON_DEPTH_MAX);
            return Err(StepError::new(ErrorCode::InvalidInput, message));
        }
        self.spend(bytes)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), StepError> {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                Ok(())
            }
            None => {
                let message = format!(
                    "the resolved value is larger than {RESOLVED_BYTES_MAX} bytes; name the parts that are needed rather than whole results"
                );
                Err(StepError::new(ErrorCode::InvalidInput, message))
            }
        }
    }
}

/// What an expression leads to.
enum Found<'f> {
    Value(Cow<'f, Value>),
    Omit,
    /// Nothing; the path is the last that was tried.
    Nothing(&'f Path),
}

/// The first alternative that is set. Where none is, the fallback; without one, the last as it is.
fn find<'f>(expression: &'f Expression, lookup: &'f dyn Lookup) -> Found<'f> {
    for (position, path) in expression.paths.iter().enumerate() {
        let is_last = position + 1 == expression.paths.len() && expression.fallback.is_none();
        match lookup.lookup(path) {
            Some(value) if is_last || is_set(&value) => return Found::Value(value),
            _ => {}
        }
    }
    match (&expression.fallback, expression.paths.last()) {
        (Some(Fallback::Default(value)), _) => Found::Value(Cow::Borrowed(value)),
        (Some(Fallback::Omit), _) => Found::Omit,
        (None, Some(path)) => Found::Nothing(path),
        (None, None) => Found::Value(Cow::Owned(Value::Null)),
    }
}

/// Set is what resolves to something: not null, not an empty text.
fn is_set(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

/// Roughly the length of a value as text, and how deep it nests.
fn measure(value: &Value) -> (usize, usize) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => (4, 0),
        Value::String(text) => (text.len() + 2, 0),
        Value::Array(items) => items.iter().map(measure).fold((2, 1), |(bytes, levels), (item_bytes, item_levels)| {
            (bytes + item_bytes + 1, levels.max(item_levels + 1))
        }),
        Value::Object(members) => members.iter().fold((2, 1), |(bytes, levels), (name, member)| {
            let (member_bytes, member_levels) = measure(member);
            (bytes + name.len() + member_bytes + 4, levels.max(member_levels + 1))
        }),
    }
}
