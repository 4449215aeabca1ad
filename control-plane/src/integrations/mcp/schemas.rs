//! Checking what goes to a tool, and what comes from it, by the tool's schemas.
//!
//! A schema is a server's program that runs in the host. It is bounded as the schemas of workflows are: nothing is fetched,
//! and what could make a check run for long is refused.

use super::tools::Tool;
use agentruntime_engine::graph::{InputSchema, Issue};
use agentruntime_host_api::{ErrorCode, StepError};
use serde_json::{Value, json};
use std::{sync::LazyLock, thread::available_parallelism};
use tokio::sync::Semaphore;

/// So many checks compute at once: half of the processors are for others.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))));

/// Refuses arguments that the tool does not take.
pub(super) async fn check_arguments(tool: &Tool, arguments: Value) -> Result<(), StepError> {
    let name = tool.name.clone();
    let schema = tool.input_schema.clone();
    match checked(schema, arguments).await? {
        Checked::Fits => Ok(()),
        Checked::NotASchema(why) => Err(unusable(&name, "input", &why)),
        Checked::Misfits(issues) => {
            let message = format!("the tool `{name}` does not take these arguments: {}", told(&issues));
            Err(StepError::new(ErrorCode::InvalidInput, message).with_details(json!({ "issues": issues })))
        }
    }
}

/// Refuses a result that is not what the tool says it gives.
pub(super) async fn check_result(tool: &Tool, result: Option<&Value>) -> Result<(), StepError> {
    let Some(schema) = &tool.output_schema else { return Ok(()) };
    let name = &tool.name;
    let failed = |message: String| StepError::new(ErrorCode::McpToolFailed, message);
    let Some(result) = result else {
        return Err(failed(format!("the tool `{name}` has an output schema and answered without structured content")));
    };
    match checked(schema.clone(), result.clone()).await? {
        Checked::Fits => Ok(()),
        Checked::NotASchema(why) => Err(unusable(name, "output", &why)),
        Checked::Misfits(issues) => {
            let message =
                format!("the tool `{name}` answered otherwise than its output schema says: {}", told(&issues));
            Err(failed(message).with_details(json!({ "issues": issues })))
        }
    }
}

enum Checked {
    Fits,
    NotASchema(String),
    Misfits(Vec<Issue>),
}

/// In a thread of its own: compiling patterns takes its time.
async fn checked(schema: Value, value: Value) -> Result<Checked, StepError> {
    let _turn = TURNS.acquire().await;
    let check = move || match InputSchema::parse(&schema) {
        Err(issues) => Checked::NotASchema(told(&issues)),
        Ok(schema) => match schema.check(&value) {
            issues if issues.is_empty() => Checked::Fits,
            issues => Checked::Misfits(issues),
        },
    };
    let broken =
        |_| StepError::new(ErrorCode::McpToolFailed, "the check of a tool's schema failed: a defect of the host");
    tokio::task::spawn_blocking(check).await.map_err(broken)
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
