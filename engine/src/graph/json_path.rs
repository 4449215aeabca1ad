//! Places in a document, written as `$.steps[2].tool_args["a b"]`.

use super::{issue::shown, template::Key};
use std::fmt;

/// Where something stands in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonPath(String);

impl JsonPath {
    /// The document itself.
    pub(crate) fn root() -> Self {
        Self("$".into())
    }

    /// The member of that name.
    pub(crate) fn key(&self, name: &str) -> Self {
        let shown = shown(name);
        let is_simple = !shown.is_empty() && shown.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_simple { Self(format!("{}.{shown}", self.0)) } else { Self(format!("{}[{shown:?}]", self.0)) }
    }

    /// The element at that position.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// A part of the value here.
    pub(crate) fn join(&self, keys: &[Key]) -> Self {
        keys.iter().fold(self.clone(), |path, key| match key {
            Key::Name(name) => path.key(name),
            Key::Index(index) => path.index(*index),
        })
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
