//! How a step fails: a stable code, a sentence for a person, and what a program may want to know.

use crate::Json;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The stable reason of a failure, as written in events and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// The script raised an error, does not compile, or returned no table.
    LuaError,
    /// The step ran longer than its `timeout_s`.
    StepTimeout,
    /// The step wanted more memory than it may have.
    SandboxMemoryLimit,
    /// The step executed more instructions than it may, where they are metered.
    SandboxFuelLimit,
    /// The step's output is larger or deeper than it may be.
    SandboxOutputLimit,
    /// The sandbox stopped the step for a reason of its own.
    SandboxTrap,
    /// A template names a value that is not there.
    TemplateUnresolved,
    /// The step asked for something that its published version was not granted.
    CapabilityDenied,
    /// A person declined the call of a tool.
    ApprovalRejected,
    /// A tool answered with an error.
    McpToolFailed,
    /// Access to a server of tools is over, or does not reach far enough: somebody has to grant it again.
    McpAuthorizationRequired,
    /// A language model answered with an error.
    LlmRequestFailed,
    /// Nobody completed the task in time.
    HumanTaskFailed,
    /// The child run did not complete.
    ChildRunFailed,
    /// The tenant's credit is used up.
    InsufficientCredits,
    /// The run made no progress, or ran past its limit of time or events.
    RunStalledOrTimedOut,
    /// Somebody stopped the run.
    RunStopped,
    /// A graceful stop took too long.
    DrainTimeout,
    /// Something outside answered wrongly.
    UpstreamError,
    /// Something that the step needs is not available here.
    DependencyUnavailable,
    /// The input, or the configuration made from it, does not fit.
    InvalidInput,
}

impl ErrorCode {
    /// Every code, for documentation and tests.
    pub const ALL: [Self; 21] = [
        Self::LuaError,
        Self::StepTimeout,
        Self::SandboxMemoryLimit,
        Self::SandboxFuelLimit,
        Self::SandboxOutputLimit,
        Self::SandboxTrap,
        Self::TemplateUnresolved,
        Self::CapabilityDenied,
        Self::ApprovalRejected,
        Self::McpToolFailed,
        Self::McpAuthorizationRequired,
        Self::LlmRequestFailed,
        Self::HumanTaskFailed,
        Self::ChildRunFailed,
        Self::InsufficientCredits,
        Self::RunStalledOrTimedOut,
        Self::RunStopped,
        Self::DrainTimeout,
        Self::UpstreamError,
        Self::DependencyUnavailable,
        Self::InvalidInput,
    ];

    /// Whether trying the same again can never help, so that a retry policy does not apply.
    pub fn is_final(self) -> bool {
        match self {
            Self::CapabilityDenied
            | Self::ApprovalRejected
            | Self::InsufficientCredits
            | Self::InvalidInput
            | Self::McpAuthorizationRequired
            | Self::TemplateUnresolved
            | Self::RunStopped => true,
            Self::LuaError
            | Self::StepTimeout
            | Self::SandboxMemoryLimit
            | Self::SandboxFuelLimit
            | Self::SandboxOutputLimit
            | Self::SandboxTrap
            | Self::McpToolFailed
            | Self::LlmRequestFailed
            | Self::HumanTaskFailed
            | Self::ChildRunFailed
            | Self::RunStalledOrTimedOut
            | Self::DrainTimeout
            | Self::UpstreamError
            | Self::DependencyUnavailable => false,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct StepError {
    /// The stable reason.
    pub code: ErrorCode,
    /// What happened, where, and what to do; written for a person.
    pub message: String,
    /// More for programs: a Lua traceback, a limit and its value, the nearest path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Json>,
}

impl StepError {
    /// A failure without details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: None }
    }

    /// The failure of a step that took longer than it may.
    pub fn timed_out(limit: std::time::Duration) -> Self {
        let seconds = limit.as_secs_f64();
        Self::new(ErrorCode::StepTimeout, format!("the step ran longer than its {seconds} s and was stopped"))
            .with_details(serde_json::json!({ "limit_s": seconds }))
    }

    /// The same failure with details.
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.details = Some(details.into());
        self
    }
}
