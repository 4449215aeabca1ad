//! The programs of steps that call tools and models.
//!
//! They are Lua, run in the sandbox as any script does, and may ask for what their step was granted and nothing else: so what
//! servers and models say is read where it can do no harm. Here is what they are given, and how their answer is meant.

use agentruntime_host_api::{ErrorCode, Json, StepError, StepOutput};
use serde::Deserialize;
use std::sync::{Arc, LazyLock};

/// A program that comes with the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// Calls a tool.
    Tool,
    /// Asks a model.
    Model,
    /// Lets a model work with tools.
    Agent,
}

/// The global variable in which a program finds what it is to do.
pub(crate) const CALL: &str = "call";

static TOOL: LazyLock<Arc<str>> = LazyLock::new(|| include_str!("tool.lua").into());
static MODEL: LazyLock<Arc<str>> =
    LazyLock::new(|| concat!(include_str!("models.lua"), "\n", include_str!("llm.lua")).into());
static AGENT: LazyLock<Arc<str>> =
    LazyLock::new(|| concat!(include_str!("models.lua"), "\n", include_str!("agent.lua")).into());

/// How a program answers: the result in an envelope, so that it may be of any type and is told from a failure.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Option<Json>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    code: ErrorCode,
    message: String,
    #[serde(default)]
    details: Option<Json>,
}

impl Adapter {
    pub(crate) fn source(self) -> Arc<str> {
        match self {
            Self::Tool => TOOL.clone(),
            Self::Model => MODEL.clone(),
            Self::Agent => AGENT.clone(),
        }
    }

    /// The step's output, taken out of the program's answer.
    ///
    /// # Errors
    /// What the program says went wrong.
    pub fn output(self, output: StepOutput) -> Result<StepOutput, StepError> {
        let answer = output.json.read::<Answer>().map_err(|error| broken(&error.to_string()))?;
        match answer {
            Answer { error: Some(Failure { code, message, details }), .. } => Err(StepError { code, message, details }),
            Answer { result: Some(result), .. } => Ok(StepOutput { json: result, ..output }),
            Answer { .. } => Ok(StepOutput { json: Json::null(), ..output }),
        }
    }
}

fn broken(why: &str) -> StepError {
    let message = format!("the program that carries out the step answered in no form that is known: {why}");
    StepError::new(ErrorCode::SandboxTrap, message)
}
