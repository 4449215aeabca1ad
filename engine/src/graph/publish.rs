//! What publishing adds to a document: the versions of the workflows that it calls.
//!
//! A published graph never changes what it runs, so each `workflow_call` names its child's version from then on.

use super::issue::{Issue, IssueCode, Place};
use serde_json::Value;

/// Writes the version of each called workflow that names none. `version_of` is asked with the version that a call names and
/// gives it, if there is one, else the newest that is published. Fails with the calls for which there is none.
pub fn pin_children(
    document: &mut Value,
    version_of: impl Fn(&str, Option<u32>) -> Option<u32>,
) -> Result<(), Vec<Issue>> {
    let mut issues = Vec::new();
    let steps = document.get_mut("steps").and_then(Value::as_array_mut);
    for (index, step) in steps.into_iter().flatten().enumerate() {
        let Some(Call { workflow, version }) = Call::of(step) else { continue };
        match version_of(workflow, version) {
            Some(version) => step["version"] = version.into(),
            None => issues.push(unpublished(index, step, workflow, version)),
        }
    }
    if issues.is_empty() { Ok(()) } else { Err(issues) }
}

/// The workflows that a document calls, each with the version that the call names.
pub fn called(document: &Value) -> impl Iterator<Item = (&str, Option<u32>)> {
    let steps = document.get("steps").and_then(Value::as_array);
    steps.into_iter().flatten().filter_map(Call::of).map(|call| (call.workflow, call.version))
}

/// A step that calls a workflow.
struct Call<'d> {
    workflow: &'d str,
    version: Option<u32>,
}

impl<'d> Call<'d> {
    /// None where the step is another, or not of the right form, which the parser tells better.
    fn of(step: &'d Value) -> Option<Self> {
        let workflow = step["workflow_id"].as_str().filter(|_| step["type"] == "workflow_call")?;
        let version = match step.get("version") {
            None | Some(Value::Null) => None,
            Some(version) => Some(version.as_u64().and_then(|version| u32::try_from(version).ok())?),
        };
        Some(Self { workflow, version })
    }
}

fn unpublished(index: usize, step: &Value, workflow: &str, version: Option<u32>) -> Issue {
    let list = Place::root().key("steps").index(index);
    let place = Place { step_id: step["id"].as_str().map(Into::into), top_step: Some(index), ..list };
    let workflow = super::issue::shown(workflow);
    match version {
        None => {
            let message = format!("the workflow `{workflow}` has no published version");
            let issue = place.key("workflow_id").error(IssueCode::ChildUnpublished, message);
            issue.suggest("publish it first, or name its `version`")
        }
        Some(version) => {
            let message = format!("the workflow `{workflow}` has no version {version}");
            let issue = place.key("version").error(IssueCode::ChildUnpublished, message);
            issue.suggest("name one that is published, or leave `version` out for the newest")
        }
    }
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
        pin_children(&mut document, |workflow, named| (workflow == "child").then_some(named.unwrap_or(7))).unwrap();
        let versions: Vec<&Value> = document["steps"].as_array().unwrap().iter().map(|step| &step["version"]).collect();
        assert_eq!(versions, [&json!(7), &json!(1), &json!(null)]);
    }

    #[test]
    fn a_child_without_versions_is_named() {
        let mut document = json!({ "steps": [{ "id": "a", "type": "workflow_call", "workflow_id": "child" }] });
        let issues = pin_children(&mut document, |_, _| None).unwrap_err();
        assert_eq!(issues[0].json_path, "$.steps[0].workflow_id");
        assert_eq!(issues[0].step_id.as_deref(), Some("a"));
    }

    #[test]
    fn a_named_version_that_is_not_there_is_named() {
        let call = json!({ "id": "a", "type": "workflow_call", "workflow_id": "child", "version": 9 });
        let mut document = json!({ "steps": [call] });
        assert_eq!(called(&document).collect::<Vec<_>>(), [("child", Some(9))]);
        let issues = pin_children(&mut document, |_, named| named.filter(|version| *version < 9)).unwrap_err();
        assert_eq!(issues[0].json_path, "$.steps[0].version");
        assert_eq!(issues[0].message, "the workflow `child` has no version 9");
    }

    #[test]
    fn what_is_no_graph_has_no_children() {
        for mut document in [json!(null), json!([]), json!({ "steps": 3 }), json!({ "steps": [1, null, "x", []] })] {
            pin_children(&mut document, |_, _| None).unwrap();
        }
    }
}
