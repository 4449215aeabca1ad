//! A tool as a server shows it: what of it may be kept, and its hash.

use super::{MCP_TOOL_DESCRIPTION_BYTES_MAX, MCP_TOOL_NAME_BYTES_MAX, MCP_TOOL_SCHEMA_BYTES_MAX, failure::shortened};
use agentruntime_engine::graph::{canonical_text, sha256_hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What tools say of their effects. A server may say more, and the client's library know it one day: it is no part of what is
/// frozen, so that a new version of the library makes no tool another one.
const ANNOTATIONS: [&str; 5] = ["title", "readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];

/// A tool. What servers add for clients' screens, such as icons, is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tool {
    /// Its name, one of a kind at its server.
    pub(crate) name: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
    /// What it does: the server's word, nobody's promise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    /// What it takes.
    pub(crate) input_schema: Value,
    /// What it gives, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_schema: Option<Value>,
    /// What it says of its effects: the server's word, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<Value>,
}

/// The tools of a server, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ToolList(Vec<Tool>);

/// What differs between two lists, by names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolChanges {
    /// Shown now, and not before.
    pub(crate) added: Vec<String>,
    /// Not shown any more.
    pub(crate) removed: Vec<String>,
    /// Shown differently.
    pub(crate) changed: Vec<String>,
}

impl Tool {
    /// The tool, or why it is not taken.
    pub(super) fn read(shown: &rmcp::model::Tool) -> Result<Self, String> {
        let name = shown.name.to_string();
        let is_name = (1..=MCP_TOOL_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        if !is_name {
            let shown = shortened(&name.escape_default().to_string());
            return Err(format!("`{shown}` is no name of a tool: one has 1 to {MCP_TOOL_NAME_BYTES_MAX} bytes"));
        }
        let texts = [shown.title.as_deref(), shown.description.as_deref()];
        if texts.into_iter().flatten().any(|text| text.len() > MCP_TOOL_DESCRIPTION_BYTES_MAX) {
            return Err(format!(
                "the description of the tool `{name}` is longer than {MCP_TOOL_DESCRIPTION_BYTES_MAX} bytes"
            ));
        }
        let schema = |schema: &serde_json::Map<String, Value>| {
            let schema = Value::Object(schema.clone());
            match schema.to_string().len() > MCP_TOOL_SCHEMA_BYTES_MAX {
                true => Err(format!("a schema of the tool `{name}` is longer than {MCP_TOOL_SCHEMA_BYTES_MAX} bytes")),
                false => Ok(schema),
            }
        };
        Ok(Self {
            title: shown.title.clone(),
            description: shown.description.as_deref().map(str::to_owned),
            input_schema: schema(&shown.input_schema)?,
            output_schema: shown.output_schema.as_deref().map(schema).transpose()?,
            annotations: shown.annotations.as_ref().and_then(|it| serde_json::to_value(it).ok()).map(known),
            name,
        })
    }

    /// SHA-256 over its canonical JSON.
    pub(crate) fn hash(&self) -> String {
        sha256_hex(&self.text())
    }

    /// How long it is as JSON.
    pub(super) fn bytes(&self) -> usize {
        self.text().len()
    }

    fn text(&self) -> String {
        canonical_text(&serde_json::to_value(self).unwrap_or_default())
    }
}

fn known(mut annotations: Value) -> Value {
    if let Some(members) = annotations.as_object_mut() {
        members.retain(|name, _| ANNOTATIONS.contains(&name.as_str()));
    }
    annotations
}

impl ToolList {
    /// The list, or the name that is in it twice.
    pub(super) fn new(mut tools: Vec<Tool>) -> Result<Self, String> {
        tools.sort_by(|left, right| left.name.cmp(&right.name));
        match tools.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(format!("it shows two tools of the name `{}`", pair[0].name)),
            None => Ok(Self(tools)),
        }
    }

    /// SHA-256 over its canonical JSON.
    pub(crate) fn hash(&self) -> String {
        sha256_hex(&self.text())
    }

    /// Its canonical JSON: what is kept.
    pub(crate) fn text(&self) -> String {
        canonical_text(&serde_json::to_value(self).unwrap_or_default())
    }

    /// The tools.
    pub(crate) fn tools(&self) -> &[Tool] {
        &self.0
    }

    /// The tool of a name.
    pub(crate) fn named(&self, name: &str) -> Option<&Tool> {
        self.0.binary_search_by(|tool| tool.name.as_str().cmp(name)).ok().map(|at| &self.0[at])
    }

    /// Some names of tools, for whoever asked for another.
    pub(crate) fn some_names(&self) -> String {
        const SOME: usize = 20;
        let names: Vec<&str> = self.0.iter().take(SOME).map(|tool| tool.name.as_str()).collect();
        match (names.is_empty(), self.0.len() > SOME) {
            (true, _) => "none".to_owned(),
            (false, true) => format!("{}, …", names.join(", ")),
            (false, false) => names.join(", "),
        }
    }

    /// What differs in the other list.
    pub(crate) fn changes_to(&self, now: &Self) -> ToolChanges {
        let before: BTreeMap<&str, &Tool> = self.0.iter().map(|tool| (tool.name.as_str(), tool)).collect();
        let after: BTreeMap<&str, &Tool> = now.0.iter().map(|tool| (tool.name.as_str(), tool)).collect();
        let names = |tools: Vec<&&str>| tools.into_iter().map(|name| (*name).to_owned()).collect();
        ToolChanges {
            added: names(after.keys().filter(|name| !before.contains_key(**name)).collect()),
            removed: names(before.keys().filter(|name| !after.contains_key(**name)).collect()),
            changed: names(
                after
                    .iter()
                    .filter(|(name, tool)| before.get(**name).is_some_and(|old| old != *tool))
                    .map(|it| it.0)
                    .collect(),
            ),
        }
    }
}

impl ToolChanges {
    /// Whether nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tool(name: &str, schema: Value) -> Tool {
        let shown = json!({ "name": name, "inputSchema": schema });
        Tool::read(&serde_json::from_value(shown).unwrap()).unwrap()
    }

    fn list(tools: &[Tool]) -> ToolList {
        ToolList::new(tools.to_vec()).unwrap()
    }

    #[test]
    fn the_hash_is_of_what_is_shown_and_not_of_how() {
        let (a, b) = (tool("a", json!({ "type": "object", "title": "x" })), tool("b", json!({})));
        let again = tool("a", json!({ "title": "x", "type": "object" }));
        assert_eq!(a.hash(), again.hash());
        assert_eq!(list(&[a.clone(), b.clone()]).hash(), list(&[b.clone(), again]).hash());
        assert_ne!(a.hash(), tool("a", json!({ "type": "object" })).hash());
        assert_eq!(list(&[]).hash(), "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945", "of `[]`");
        assert_eq!(list(&[b.clone(), a.clone()]).named("b"), Some(&b));
        assert_eq!(ToolList::new(vec![a.clone(), a]).unwrap_err(), "it shows two tools of the name `a`");
    }

    #[test]
    fn of_annotations_what_is_known_is_kept() {
        let shown = json!({ "name": "a", "inputSchema": {}, "icons": [], "_meta": { "x": 1 },
            "annotations": { "readOnlyHint": true, "newestHint": true } });
        let tool = Tool::read(&serde_json::from_value(shown).unwrap()).unwrap();
        let kept = json!({ "name": "a", "input_schema": {}, "annotations": { "readOnlyHint": true } });
        assert_eq!(serde_json::to_value(&tool).unwrap(), kept);
        assert_eq!(known(json!({ "title": "x", "newestHint": true })), json!({ "title": "x" }));
    }

    #[test]
    fn what_differs_is_told_by_name() {
        let before = list(&[tool("a", json!({})), tool("b", json!({})), tool("c", json!({}))]);
        let now = list(&[tool("b", json!({})), tool("c", json!({ "type": "object" })), tool("d", json!({}))]);
        let changes = before.changes_to(&now);
        let one = |name: &str| vec![name.to_owned()];
        assert_eq!(changes, ToolChanges { added: one("d"), removed: one("a"), changed: one("c") });
        assert!(before.changes_to(&before).is_empty());
    }

    #[test]
    fn what_is_too_large_is_not_taken() {
        let read = |shown: Value| Tool::read(&serde_json::from_value(shown).unwrap()).map(|_| ());
        let long = |bytes: usize| "x".repeat(bytes);
        let good = json!({ "name": long(128), "description": long(16 << 10), "inputSchema": {} });
        read(good).unwrap();
        for (field, value) in [("name", json!(long(129))), ("name", json!("")), ("name", json!("a\nb"))] {
            let mut shown = json!({ "name": "a", "inputSchema": {} });
            shown[field] = value;
            assert!(read(shown).unwrap_err().contains("no name of a tool"));
        }
        for field in ["description", "title"] {
            let mut shown = json!({ "name": "a", "inputSchema": {} });
            shown[field] = json!(long((16 << 10) + 1));
            assert!(read(shown).unwrap_err().contains("description of the tool `a`"));
        }
        // Braces, the key and the quotes are the rest.
        let schema = |bytes: usize| json!({ "title": long(bytes - r#"{"title":""}"#.len()) });
        read(json!({ "name": "a", "inputSchema": schema(64 << 10) })).unwrap();
        for field in ["inputSchema", "outputSchema"] {
            let mut shown = json!({ "name": "a", "inputSchema": {} });
            shown[field] = schema((64 << 10) + 1);
            assert!(read(shown).unwrap_err().contains("a schema of the tool `a`"), "{field}");
        }
    }
}
