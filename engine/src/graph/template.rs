//! Templates: `{{ path }}` inside the strings of a JSON value, parsed once and resolved for each step.
//!
//! Owns the syntax and the filling in. Never knows what a path means: that is the [`Lookup`]'s business, and whether a path
//! may stand where it stands is checked beside the graph.

mod resolve;
mod syntax;

use serde_json::{Map, Value};
use std::{borrow::Cow, fmt, ops::ControlFlow, sync::Arc};

pub use resolve::RESOLVED_BYTES_MAX;
use syntax::Part;
pub use syntax::TemplateSyntaxError;
pub(crate) use syntax::parse_path;

/// A path such as `steps.price.result.items.0.title`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// What stands between the dots; elements of lists are numbers.
    pub segments: Vec<Arc<str>>,
}

impl Path {
    /// What the path starts with.
    pub fn root(&self) -> &str {
        self.segments.first().map_or("", |root| root)
    }

    /// The segment at a position, where there is one.
    pub fn segment(&self, position: usize) -> Option<&str> {
        self.segments.get(position).map(|segment| &**segment)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.segments.iter().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            f.write_str(segment)?;
        }
        Ok(())
    }
}

/// Where the values of paths come from.
pub trait Lookup {
    /// The value, or nothing where the path leads nowhere.
    fn lookup(&self, path: &Path) -> Option<Cow<'_, Value>>;

    /// The nearest path that exists, for the message about one that does not.
    fn nearest(&self, path: &Path) -> Option<String> {
        let _ = path;
        None
    }
}

/// One step from a value to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The member of an object.
    Name(Arc<str>),
    /// The element of a list, from 0.
    Index(usize),
}

/// A JSON value with templates in its strings.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Node);

/// The inside of a template. What holds no template is one constant, however large.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Constant(Value),
    Text(Vec<Part>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// How many malformed strings of one value are told.
const SYNTAX_ERRORS_MAX: usize = 50;

/// A path that a template names, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct PathUse<'t> {
    /// The path.
    pub path: &'t Path,
    /// Where its string stands inside the value.
    pub at: Vec<Key>,
    /// Whether something else is taken where it does not resolve.
    pub has_alternative: bool,
}

impl Template {
    /// Reads the templates in a value's strings; fails with the first that is malformed.
    pub fn parse(value: &Value) -> Result<Self, TemplateSyntaxError> {
        let mut errors = Vec::new();
        let template = Self::parse_all(value, &mut errors);
        match errors.into_iter().next() {
            None => Ok(template),
            Some(error) => Err(error),
        }
    }

    /// Reads the templates in a value's strings and gathers what is malformed, up to a limit.
    pub fn parse_all(value: &Value, errors: &mut Vec<TemplateSyntaxError>) -> Self {
        Self(Node::parse(value, &mut Vec::new(), errors))
    }

    /// A value that is taken as it is, whatever its strings look like.
    pub fn constant(value: Value) -> Self {
        Self(Node::Constant(value))
    }

    /// The value itself, where it holds no template.
    pub fn as_constant(&self) -> Option<&Value> {
        match &self.0 {
            Node::Constant(value) => Some(value),
            Node::Text(_) | Node::List(_) | Node::Object(_) => None,
        }
    }

    /// Whether it is one string that is one template and nothing else, so that the value's own type comes out.
    pub fn is_single_path(&self) -> bool {
        matches!(&self.0, Node::Text(parts) if matches!(parts.as_slice(), [Part::Expression(_)]))
    }

    /// Whether it is a list, with or without templates inside.
    pub fn is_list(&self) -> bool {
        matches!(&self.0, Node::List(_) | Node::Constant(Value::Array(_)))
    }

    /// The default that is taken where no path of a single template is set.
    pub fn default_value(&self) -> Option<&Value> {
        match &self.0 {
            Node::Text(parts) => match parts.as_slice() {
                [Part::Expression(expression)] => expression.default_value(),
                _ => None,
            },
            Node::Constant(_) | Node::List(_) | Node::Object(_) => None,
        }
    }

    /// Every path it names.
    pub fn paths(&self) -> Vec<&Path> {
        self.uses().into_iter().map(|found| found.path).collect()
    }

    /// Every path it names, with its place.
    pub fn uses(&self) -> Vec<PathUse<'_>> {
        let mut uses = Vec::new();
        let _ = self.each_use(&mut |found, at| {
            uses.push(PathUse { at: at.to_vec(), ..found });
            ControlFlow::Continue(())
        });
        uses
    }

    /// Visits every path with the place of its string, until the visitor has enough. A document's places taken together can
    /// be far larger than the document.
    pub(crate) fn each_use<'t>(&'t self, visit: &mut Visit<'_, 't>) -> ControlFlow<()> {
        self.0.each_use(&mut Vec::new(), visit)
    }
}

/// Takes one use, whose `at` is empty, and its place.
type Visit<'v, 't> = dyn FnMut(PathUse<'t>, &[Key]) -> ControlFlow<()> + 'v;

impl Node {
    fn parse(value: &Value, at: &mut Vec<Key>, errors: &mut Vec<TemplateSyntaxError>) -> Self {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Constant(value.clone()),
            Value::String(text) => Self::parse_text(text, at, errors),
            Value::Array(items) => {
                let nodes: Vec<Self> = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| Self::parse_at(Key::Index(index), item, at, errors))
                    .collect();
                match nodes.iter().map(Self::constant).collect::<Option<Vec<_>>>() {
                    Some(constants) => Self::Constant(constants.into_iter().cloned().collect()),
                    None => Self::List(nodes),
                }
            }
            Value::Object(members) => {
                let nodes: Vec<(String, Self)> = members
                    .iter()
                    .map(|(name, member)| {
                        (name.clone(), Self::parse_at(Key::Name(name.as_str().into()), member, at, errors))
                    })
                    .collect();
                match nodes.iter().map(|(name, node)| Some((name, node.constant()?))).collect::<Option<Vec<_>>>() {
                    Some(constants) => Self::Constant(Value::Object(
                        constants.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>(),
                    )),
                    None => Self::Object(nodes),
                }
            }
        }
    }

    fn parse_at(key: Key, value: &Value, at: &mut Vec<Key>, errors: &mut Vec<TemplateSyntaxError>) -> Self {
        at.push(key);
        let node = Self::parse(value, at, errors);
        at.pop();
        node
    }

    fn parse_text(text: &str, at: &[Key], errors: &mut Vec<TemplateSyntaxError>) -> Self {
        match syntax::parse_text(text) {
            Ok(parts) => match parts.as_slice() {
                [] => Self::Constant(Value::String(String::new())),
                [Part::Literal(literal)] => Self::Constant(Value::String(literal.clone())),
                _ => Self::Text(parts),
            },
            Err(error) => {
                if errors.len() < SYNTAX_ERRORS_MAX {
                    errors.push(error.inside(at));
                }
                Self::Constant(Value::Null)
            }
        }
    }

    fn constant(&self) -> Option<&Value> {
        match self {
            Self::Constant(value) => Some(value),
            Self::Text(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    fn each_use<'t>(&'t self, at: &mut Vec<Key>, visit: &mut Visit<'_, 't>) -> ControlFlow<()> {
        match self {
            Self::Constant(_) => {}
            Self::Text(parts) => {
                for part in parts {
                    let Part::Expression(expression) = part else { continue };
                    let has_alternative = expression.has_alternative();
                    for path in &expression.paths {
                        visit(PathUse { path, at: Vec::new(), has_alternative }, at)?;
                    }
                }
            }
            Self::List(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    at.push(Key::Index(index));
                    node.each_use(at, visit)?;
                    at.pop();
                }
            }
            Self::Object(nodes) => {
                for (name, node) in nodes {
                    at.push(Key::Name(name.as_str().into()));
                    node.each_use(at, visit)?;
                    at.pop();
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// Follows the segments into a value: members of objects by name, elements of lists by number.
pub fn walk<'v>(value: &'v Value, segments: &[Arc<str>]) -> Option<&'v Value> {
    segments.iter().try_fold(value, |value, segment| match value {
        Value::Object(members) => members.get(&**segment),
        Value::Array(items) => items.get(list_index(segment)?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

/// Only plain decimal numbers are list positions: `+1` and `01` are not.
fn list_index(segment: &str) -> Option<usize> {
    let plain = segment == "0" || !segment.starts_with(['0', '+']);
    if plain { segment.parse().ok() } else { None }
}

/// The nearest path to one that does not lead through a value: as far as it goes, then the name that is most alike.
///
/// `prefix` is how the value itself is called, such as `steps.price.result`.
pub fn nearest_path(prefix: &str, value: &Value, segments: &[Arc<str>]) -> Option<String> {
    let mut found = prefix.to_owned();
    let mut value = value;
    for segment in segments {
        if let Some(next) = walk(value, std::slice::from_ref(segment)) {
            found = format!("{found}.{segment}");
            value = next;
            continue;
        }
        let alike =
            value.as_object().and_then(|members| super::nearest::nearest(segment, members.keys().map(String::as_str)));
        return match alike {
            Some(name) => Some(format!("{found}.{name}")),
            None => Some(found),
        };
    }
    Some(found)
}

#[cfg(test)]
mod tests;
