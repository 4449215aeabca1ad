//! What publishing adds to a document: the versions of the workflows that it calls.
//!
//! A published graph never changes what it runs, so each `workflow_call` names its child's version from then on.

use super::issue::{Issue, IssueCode, Place};
use serde_json::Value;

/// Writes the version of each called workflow that names none: `newest` gives the newest that is published. Fails with the
/// calls whose workflow has none.
pub fn pin_children(document: &mut Value, newest: impl Fn(&str) -> Option<u32>) -> Result<(), Vec<Issue>> {
    let mut issues = Vec::new();
    let steps = document.get_mut("steps").and_then(Value::as_array_mut);
    for (index, step) in steps.into_iter().flatten().enumerate() {
        let is_open = step["type"] == "workflow_call" && step.get("version").is_none_or(Value::is_null);
        let Some(workflow) = step["workflow_id"].as_str().filter(|_| is_open) else { continue };
        match newest(workflow) {
            Some(version) => step["version"] = version.into(),
            None => {
                let list = Place::root().key("steps").index(index);
                let place = Place { step_id: step["id"].as_str().map(Into::into), top_step: Some(index), ..list };
                let message = format!("the workflow `{}` has no published version", super::issue::shown(workflow));
                let issue = place.key("workflow_id").error(IssueCode::ChildUnpublished, message);
                issues.push(issue.suggest("publish it first, or name its `version`"));
            }
        }
    }
    if issues.is_empty() { Ok(()) } else { Err(issues) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn open_calls_get_the_newest_version_and_named_ones_keep_theirs() {
        let mut document = json!({ "steps": [
            { "id": "a", "type": "workflow_call", "workflow_id": "child" },
            { "id": "b", "type": "workflow_call", "workflow_id": "child", "version": 1 },
            { "id": "c", "type": "lua_script", "workflow_id": "child" },
        ] });
        pin_children(&mut document, |workflow| (workflow == "child").then_some(7)).unwrap();
        let versions: Vec<&Value> = document["steps"].as_array().unwrap().iter().map(|step| &step["version"]).collect();
        assert_eq!(versions, [&json!(7), &json!(1), &json!(null)]);
    }

    #[test]
    fn a_child_without_versions_is_named() {
        let mut document = json!({ "steps": [{ "id": "a", "type": "workflow_call", "workflow_id": "child" }] });
        let issues = pin_children(&mut document, |_| None).unwrap_err();
        assert_eq!(issues[0].json_path, "$.steps[0].workflow_id");
        assert_eq!(issues[0].step_id.as_deref(), Some("a"));
    }

    #[test]
    fn what_is_no_graph_has_no_children() {
        for mut document in [json!(null), json!([]), json!({ "steps": 3 }), json!({ "steps": [1, null, "x", []] })] {
            pin_children(&mut document, |_| None).unwrap();
        }
    }
}
