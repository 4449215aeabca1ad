//! The graph that a command is given, and what it is called.

use super::{failure::Refusal, json_argument};
use agentruntime_host_api::WorkflowId;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The file that a folder's graph lies in.
const FILE: &str = "workflow.json";
const WORKFLOW_ID_CHARS_MAX: usize = 128;

/// A document that should be a graph.
pub(crate) struct GraphFile {
    /// Where it came from, for messages.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) document: Value,
}

impl GraphFile {
    /// Reads a file, the `workflow.json` of a folder, or stdin.
    pub(crate) fn read(path: &Path) -> Result<Self, Refusal> {
        let path = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let shown = path.display();
        let refused = |message: String| Refusal::new("INVALID_GRAPH", message);
        let text = if path == Path::new("-") {
            json_argument::stdin("the graph")?
        } else {
            fs::read_to_string(&path).map_err(|error| refused(format!("cannot read the graph `{shown}`: {error}")))?
        };
        let document = serde_json::from_str(&text)
            .map_err(|error| refused(format!("the graph `{shown}` is not JSON: {error}")))?;
        Ok(Self { path, document })
    }

    /// The workflow's id: the one given, else the graph's name, else that of the file or, for a `workflow.json`, its folder.
    pub(crate) fn workflow_id(&self, given: Option<&str>) -> Result<WorkflowId, Refusal> {
        if let Some(id) = given {
            return checked(id);
        }
        let name = self.document.get("name").and_then(Value::as_str).map(slug);
        let id = name.filter(|slug| !slug.is_empty()).unwrap_or_else(|| slug(&self.file_name()));
        checked(if id.is_empty() { "workflow" } else { &id })
    }

    /// What people call the workflow: the graph's name, else that of the file or, for a `workflow.json`, its folder.
    pub(crate) fn name(&self) -> String {
        let name = self.document.get("name").and_then(Value::as_str).map(str::trim).unwrap_or_default().to_owned();
        let name = if name.is_empty() { self.file_name() } else { name };
        if name.is_empty() || name == "-" { "workflow".to_owned() } else { name }
    }

    fn file_name(&self) -> String {
        let name =
            |path: Option<&std::ffi::OsStr>| path.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if self.path.file_name().is_some_and(|file| file == FILE) {
            let folder = fs::canonicalize(&self.path).ok().and_then(|path| path.parent().map(Path::to_owned));
            return name(folder.as_deref().and_then(Path::file_name));
        }
        name(self.path.file_stem())
    }
}

/// Whether a text is an id that a server gave, not a name.
pub(crate) fn is_id(text: &str) -> bool {
    text.parse::<uuid::Uuid>().is_ok()
}

fn checked(id: &str) -> Result<WorkflowId, Refusal> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    if id.is_empty() || id.len() > WORKFLOW_ID_CHARS_MAX || !id.chars().all(is_plain) {
        let message = format!("`{id}` cannot be a workflow's id: write letters, digits, `-`, `_` and `.`, at most 128");
        return Err(Refusal::new("INVALID_WORKFLOW_ID", message));
    }
    Ok(WorkflowId::new(id))
}

/// A name as an id: lower case, hyphens between words.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for character in name.chars() {
        if character.is_ascii_alphanumeric() || matches!(character, '_' | '.') {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(WORKFLOW_ID_CHARS_MAX);
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn id(path: &str, document: Value, given: Option<&str>) -> String {
        GraphFile { path: path.into(), document }.workflow_id(given).unwrap().to_string()
    }

    #[test]
    fn a_workflow_is_called_as_given_or_by_its_name_or_its_file() {
        assert_eq!(id("x/a.json", json!({ "name": "Order triage, v2!" }), Some("mine")), "mine");
        assert_eq!(id("x/a.json", json!({ "name": "Order triage, v2!" }), None), "order-triage-v2");
        assert_eq!(id("x/Big Job.json", json!({ "name": "…" }), None), "big-job");
        assert_eq!(id("-", json!({}), None), "workflow");
    }

    #[test]
    fn an_id_that_could_not_be_typed_is_refused() {
        let file = GraphFile { path: "a.json".into(), document: json!({}) };
        for id in ["", "a b", "ä", "a/b", &"x".repeat(129)] {
            assert!(file.workflow_id(Some(id)).is_err(), "{id}");
        }
    }
}
