//! What publishing adds to a document: the versions of the workflows that it calls.
//!
//! A published graph never changes what it runs, so each `workflow_call` names its child's version from then on.

use super::issue::{Issue, IssueCode, Place};
use serde_json::Value;

/// Why a call has no version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoVersion {
    /// The workflow has none, or not the one that is named.
    Unpublished,
    /// There is no such workflow.
    Unknown,
    /// It is out of use, so that only a version that is named can be called.
    Archived,
    /// It has this one, which may not be used.
    NotApproved(u32),
    /// It is what people call these, and calls name ids.
    NameOf(Vec<String>),
}

/// Writes the version of each called workflow that names none. `version_of` is asked with the version that a call names and
/// gives it, if there is one, else the newest that may be used. Fails with the calls for which there is none.
pub fn pin_children(
    document: &mut Value,
    version_of: impl Fn(&str, Option<u32>) -> Result<u32, NoVersion>,
) -> Result<(), Vec<Issue>> {
    let mut issues = Vec::new();
    let steps = document.get_mut("steps").and_then(Value::as_array_mut);
    for (index, step) in steps.into_iter().flatten().enumerate() {
        let Some(Call { workflow, version }) = Call::of(step) else { continue };
        match version_of(workflow, version) {
            Ok(version) => step["version"] = version.into(),
            Err(reason) => issues.push(unpublished(index, step, Call { workflow, version }, &reason)),
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

fn unpublished(index: usize, step: &Value, call: Call<'_>, reason: &NoVersion) -> Issue {
    let list = Place::root().key("steps").index(index);
    let place = Place { step_id: step["id"].as_str().map(Into::into), top_step: Some(index), ..list };
    let workflow = super::issue::shown(call.workflow);
    let about_id = |message: String, suggestion: &str| {
        place.key("workflow_id").error(IssueCode::ChildUnpublished, message).suggest(suggestion)
    };
    match (reason, call.version) {
        (NoVersion::Unpublished, None) => about_id(
            format!("the workflow `{workflow}` has no published version"),
            "publish it first, or name its `version`",
        ),
        (NoVersion::Unpublished, Some(version)) => {
            let message = format!("the workflow `{workflow}` has no version {version}");
            let issue = place.key("version").error(IssueCode::ChildUnpublished, message);
            issue.suggest("name one that is published, or leave `version` out for the newest")
        }
        (NoVersion::Unknown, _) => about_id(
            format!("there is no workflow with the id `{workflow}` here"),
            "write the id of a workflow of this project, as the list of workflows has it",
        ),
        (NoVersion::Archived, _) => about_id(
            format!("the workflow `{workflow}` is archived"),
            "name the `version` that is meant, or call another workflow",
        ),
        (NoVersion::NotApproved(version), named) => {
            let message = format!("version {version} of the workflow `{workflow}` is not approved");
            let key = if named.is_some() { "version" } else { "workflow_id" };
            let issue = place.key(key).error(IssueCode::ChildUnpublished, message);
            issue.suggest("have it approved first, or name a `version` that is")
        }
        (NoVersion::NameOf(ids), _) => match ids.as_slice() {
            [id] => about_id(
                format!("`{workflow}` is a workflow's name, and a call names a workflow by its id"),
                &format!("write `{id}`"),
            ),
            several => about_id(
                format!("`{workflow}` is the name of {} workflows, and a call names one by its id", several.len()),
                &format!("write the id of the one that is meant: {}", several.join(", ")),
            ),
        },
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
        let version_of = |workflow: &str, named: Option<u32>| match workflow {
            "child" => Ok(named.unwrap_or(7)),
            _ => Err(NoVersion::Unknown),
        };
        pin_children(&mut document, version_of).unwrap();
        let versions: Vec<&Value> = document["steps"].as_array().unwrap().iter().map(|step| &step["version"]).collect();
        assert_eq!(versions, [&json!(7), &json!(1), &json!(null)]);
    }

    #[test]
    fn a_child_without_versions_is_named() {
        let mut document = json!({ "steps": [{ "id": "a", "type": "workflow_call", "workflow_id": "child" }] });
        let issues = pin_children(&mut document, |_, _| Err(NoVersion::Unpublished)).unwrap_err();
        assert_eq!(issues[0].json_path, "$.steps[0].workflow_id");
        assert_eq!(issues[0].step_id.as_deref(), Some("a"));
    }

    #[test]
    fn a_call_that_cannot_be_made_says_what_to_write() {
        let told = |reason: NoVersion| {
            let mut document = json!({ "steps": [{ "id": "a", "type": "workflow_call", "workflow_id": "child" }] });
            let issue = pin_children(&mut document, |_, _| Err(reason.clone())).unwrap_err().remove(0);
            (issue.message, issue.suggestion.unwrap())
        };
        let (message, suggestion) = told(NoVersion::Unknown);
        assert!(message.contains("no workflow with the id `child`") && suggestion.contains("the list of workflows"));
        let (message, suggestion) = told(NoVersion::NameOf(vec!["0198".into()]));
        assert!(message.contains("`child` is a workflow's name") && suggestion == "write `0198`");
        let (message, suggestion) = told(NoVersion::NameOf(vec!["1".into(), "2".into()]));
        assert!(message.contains("name of 2 workflows") && suggestion.ends_with("1, 2"));
        let (message, suggestion) = told(NoVersion::Archived);
        assert!(message.contains("is archived") && suggestion.contains("name the `version`"));
    }

    #[test]
    fn a_named_version_that_is_not_there_is_named() {
        let call = json!({ "id": "a", "type": "workflow_call", "workflow_id": "child", "version": 9 });
        let mut document = json!({ "steps": [call] });
        assert_eq!(called(&document).collect::<Vec<_>>(), [("child", Some(9))]);
        let issues = pin_children(&mut document, |_, _| Err(NoVersion::Unpublished)).unwrap_err();
        assert_eq!(issues[0].json_path, "$.steps[0].version");
        assert_eq!(issues[0].message, "the workflow `child` has no version 9");
    }

    #[test]
    fn a_version_that_is_not_approved_is_told_where_it_is_meant() {
        for (named, place) in [(json!(2), "$.steps[0].version"), (json!(null), "$.steps[0].workflow_id")] {
            let call = json!({ "id": "a", "type": "workflow_call", "workflow_id": "child", "version": named });
            let issue =
                pin_children(&mut json!({ "steps": [call] }), |_, _| Err(NoVersion::NotApproved(2))).unwrap_err();
            assert_eq!(issue[0].json_path, place);
            assert_eq!(issue[0].message, "version 2 of the workflow `child` is not approved");
        }
    }

    #[test]
    fn what_is_no_graph_has_no_children() {
        for mut document in [json!(null), json!([]), json!({ "steps": 3 }), json!({ "steps": [1, null, "x", []] })] {
            pin_children(&mut document, |_, _| Err(NoVersion::Unknown)).unwrap();
        }
    }
}
