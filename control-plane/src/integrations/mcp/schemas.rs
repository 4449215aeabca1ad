//! Checking what goes to a tool, and what comes from it, by the tool's schemas.
//!
//! A schema is a server's program that runs in the host. It is bounded as the schemas of workflows are: nothing is fetched,
//! and what could make a check run for long is refused.

use super::tools::Tool;
use crate::integrations::schemas::{Checked, Checks};
use agentruntime_engine::graph::Issue;
use agentruntime_host_api::{ErrorCode, StepError};
use serde_json::{Value, json};

/// Refuses arguments that the tool does not take.
pub(super) async fn check_arguments(checks: &Checks, tool: &Tool, arguments: Value) -> Result<(), StepError> {
    let name = tool.name.clone();
    let schema = tool.input_schema.clone();
    match checks.checked(schema, arguments).await {
        Checked::Fits => Ok(()),
        Checked::NotASchema(why) => Err(unusable(&name, "input", &told(&why))),
        Checked::Misfits(issues) => {
            let message = format!("the tool `{name}` does not take these arguments: {}", told(&issues));
            Err(StepError::new(ErrorCode::InvalidInput, message).with_details(json!({ "issues": issues })))
        }
    }
}

/// Refuses a result that is not what the tool says it gives.
pub(super) async fn check_result(checks: &Checks, tool: &Tool, result: Option<&Value>) -> Result<(), StepError> {
    let Some(schema) = &tool.output_schema else { return Ok(()) };
    let name = &tool.name;
    let failed = |message: String| StepError::new(ErrorCode::McpToolFailed, message);
    let Some(result) = result else {
        return Err(failed(format!("the tool `{name}` has an output schema and answered without structured content")));
    };
    match checks.checked(schema.clone(), result.clone()).await {
        Checked::Fits => Ok(()),
        Checked::NotASchema(why) => Err(unusable(name, "output", &told(&why))),
        Checked::Misfits(issues) => {
            let message =
                format!("the tool `{name}` answered otherwise than its output schema says: {}", told(&issues));
            Err(failed(message).with_details(json!({ "issues": issues })))
        }
    }
}

fn told(issues: &[Issue]) -> String {
    let sentences: Vec<String> = issues.iter().map(ToString::to_string).collect();
    sentences.join("; ")
}

fn unusable(tool: &str, side: &str, why: &str) -> StepError {
    // The check names the schema as workflows have it.
    let why = why.replace("$.input_schema: ", "").replace("`input_schema`", &format!("its {side} schema"));
    let message = format!("the tool `{tool}` cannot be called: {why}; whoever runs its server can correct that");
    StepError::new(ErrorCode::McpToolFailed, message)
}
