//! Checks by a JSON Schema that a step asks for.

use agentruntime_engine::graph::InputSchema;
use agentruntime_host_api::{Check, ErrorCode, HostReply, StepError};
use serde_json::json;

/// Problems that are told of.
const PROBLEMS_MAX: usize = 10;

/// Says whether the value fits, and what does not. How long a check takes is bounded; a long one is none of the threads' that
/// serve others.
pub(super) async fn check(check: &Check) -> HostReply {
    let invalid = |message: String| StepError::new(ErrorCode::InvalidInput, message);
    let schema = InputSchema::parse(&check.schema).map_err(|issues| {
        let issue = issues.first().map(|issue| issue.message.replace("`input_schema`", "the schema"));
        invalid(issue.unwrap_or_default())
    })?;
    let issues = if schema.is_light_for(&check.value) {
        schema.check(&check.value)
    } else {
        let value = check.value.clone();
        let checked = tokio::task::spawn_blocking(move || schema.check(&value)).await;
        checked.map_err(|_| invalid("the value could not be checked".into()))?
    };
    let told = |issue: &agentruntime_engine::graph::Issue| format!("{} {}", issue.json_path, issue.message);
    let problems: Vec<String> = issues.iter().take(PROBLEMS_MAX).map(told).collect();
    Ok(json!({ "valid": problems.is_empty(), "problems": problems }).into())
}
