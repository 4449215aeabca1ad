//! The dry-run's question and answer, as the API writes them.

use crate::operations::DryRunQuestion;
use agentruntime_engine::graph::{Check, DryRun, Issue, Readiness};
use agentruntime_host_api::Json;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What to check, and on which made-up values.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ValidateWorkflow {
    /// Another graph than the draft.
    #[schema(value_type = Option<Object>)]
    graph: Option<Json>,
    /// Only these checks.
    #[schema(value_type = Option<Vec<String>>)]
    checks: Option<Vec<Check>>,
    /// Not these checks.
    #[schema(value_type = Option<Vec<String>>)]
    skip_checks: Option<Vec<Check>>,
    /// Only issues of these steps and of the graph as a whole.
    step_ids: Option<Vec<String>>,
    /// A start to check against.
    params: Option<ValidateParams>,
    /// Made-up results, by step id: scripts that read them are run, and templates are checked against them.
    #[schema(value_type = Option<Object>)]
    mock_step_outputs: Option<BTreeMap<String, Json>>,
    /// Made-up global variables, by step id: the scripts of these steps are run.
    #[schema(value_type = Option<Object>)]
    mock_lua_scopes: Option<BTreeMap<String, Json>>,
}

/// A start to check against.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ValidateParams {
    /// What a run would be started with.
    #[schema(value_type = Option<Object>)]
    trigger_payload: Option<Json>,
}

/// What was found.
#[derive(Serialize, ToSchema)]
pub(super) struct Validation {
    /// Whether the graph can be published: no issue is an error.
    valid: bool,
    /// `ready`: nothing stands in the way of a run. `blocked`: an error does, or a step that this installation cannot carry out.
    #[schema(value_type = String)]
    readiness: Readiness,
    /// What was found, errors first.
    issues: Vec<IssueBody>,
    /// The questions that were asked.
    #[schema(value_type = Vec<String>)]
    checks_performed: Vec<Check>,
    /// The steps in an order in which they could run, without those in or after a circle.
    topological_order: Vec<String>,
    /// SHA-256 of the graph as it would be published, where it could be read.
    graph_hash: Option<String>,
}

/// One thing to correct.
#[derive(Serialize, ToSchema)]
#[schema(as = Issue)]
pub(super) struct IssueBody {
    /// `error` keeps the graph from being published, `warning` does not.
    severity: String,
    /// What kind of issue it is.
    #[schema(example = "template_unresolved")]
    code: String,
    /// The step it is about, where it is about one.
    step_id: Option<String>,
    /// Where in the document.
    #[schema(example = "$.steps[2].depends_on[0]")]
    json_path: String,
    /// What is wrong.
    message: String,
    /// What to write instead, where that can be told.
    suggestion: Option<String>,
}

impl From<ValidateWorkflow> for DryRunQuestion {
    fn from(asked: ValidateWorkflow) -> Self {
        Self {
            graph: asked.graph,
            checks: asked.checks,
            skip_checks: asked.skip_checks.unwrap_or_default(),
            step_ids: asked.step_ids,
            trigger_payload: asked.params.unwrap_or_default().trigger_payload,
            mock_step_outputs: asked.mock_step_outputs.unwrap_or_default(),
            mock_lua_scopes: asked.mock_lua_scopes.unwrap_or_default(),
        }
    }
}

impl From<DryRun> for Validation {
    fn from(report: DryRun) -> Self {
        Self {
            valid: report.valid,
            readiness: report.readiness,
            issues: report.issues.into_iter().map(IssueBody::from).collect(),
            checks_performed: report.checks_performed,
            topological_order: report.topological_order.iter().map(ToString::to_string).collect(),
            graph_hash: report.graph_hash,
        }
    }
}

impl From<Issue> for IssueBody {
    fn from(issue: Issue) -> Self {
        Self {
            severity: if issue.is_error() { "error" } else { "warning" }.to_owned(),
            code: issue.code.to_string(),
            step_id: issue.step_id.as_deref().map(str::to_owned),
            json_path: issue.json_path,
            message: issue.message,
            suggestion: issue.suggestion,
        }
    }
}
