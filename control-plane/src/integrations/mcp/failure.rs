//! How a conversation with a server fails.

use super::MCP_SHOWN_CHARS_MAX;
use crate::integrations::IntegrationError;
use agentruntime_egress::{EgressError, Scrubber};
use agentruntime_host_api::{ErrorCode, StepError};
use rmcp::{
    model::ErrorData,
    service::{ClientInitializeError, ServiceError},
};
use serde_json::json;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It may not be asked: an address out of reach, a credential that is not for it.
    #[error("{0}")]
    Denied(String),
    /// It does not take what was sent to prove who asks.
    #[error("{0}")]
    Unauthorized(String),
    /// It wants more than the access reaches.
    #[error(
        "the MCP server wants more than the access reaches (`insufficient_scope`): {}. Authorize the connection again, with \
         these among its `scopes`",
        .0.join(" ")
    )]
    Scopes(Vec<String>),
    /// It cannot be reached, or says what it should not.
    #[error("{0}")]
    Upstream(String),
    /// It says that it failed.
    #[error("the server answered with an error: {message}")]
    Tool {
        /// Its own words.
        message: String,
        /// Its own code.
        code: i32,
    },
    /// It may be asked, and its answer is not to be used.
    #[error("{0}")]
    Refused(StepError),
    /// It does not know the session in which it is asked, so it did nothing.
    #[error("the MCP server does not know the session that it began a moment before")]
    Forgotten,
    /// Nobody waits any more.
    #[error("the call was given up")]
    Stopped,
}

impl Failure {
    /// What the server sent is no answer.
    pub(super) fn misfit(what: impl std::fmt::Display) -> Self {
        Self::Upstream(shortened(&format!("the MCP server answered wrongly: {what}")))
    }

    /// The conversation did not begin.
    pub(super) fn of_start(error: ClientInitializeError) -> Self {
        match error {
            ClientInitializeError::LegacyFallbackFailed { fallback, .. } => Self::of_start(*fallback),
            ClientInitializeError::JsonRpcError(error) => Self::said(error),
            other => Self::misfit(format!("no session could be begun: {other}")),
        }
    }

    /// A request within the conversation.
    pub(super) fn of_request(error: ServiceError) -> Self {
        match error {
            ServiceError::McpError(error) => Self::said(error),
            ServiceError::TransportClosed => Self::misfit("it ended the connection before its answer"),
            other => Self::misfit(other),
        }
    }

    /// Whether the session in which it happened is used no more: what is still to come in it could be anything.
    pub(super) fn ends_session(&self) -> bool {
        match self {
            Self::Denied(_)
            | Self::Unauthorized(_)
            | Self::Scopes(_)
            | Self::Upstream(_)
            | Self::Forgotten
            | Self::Stopped => true,
            Self::Tool { .. } | Self::Refused(_) => false,
        }
    }

    fn said(error: ErrorData) -> Self {
        Self::Tool { message: shortened(&error.message), code: error.code.0 }
    }

    /// The same without secrets.
    pub(super) fn cleaned(self, scrubber: &Scrubber) -> Self {
        match self {
            Self::Denied(message) => Self::Denied(scrubber.clean(message)),
            Self::Unauthorized(message) => Self::Unauthorized(scrubber.clean(message)),
            Self::Upstream(message) => Self::Upstream(scrubber.clean(message)),
            Self::Tool { message, code } => Self::Tool { message: scrubber.clean(message), code },
            Self::Refused(mut error) => {
                error.message = scrubber.clean(error.message);
                Self::Refused(error)
            }
            Self::Forgotten => Self::Forgotten,
            Self::Scopes(scopes) => Self::Scopes(scopes.into_iter().map(|scope| scrubber.clean(scope)).collect()),
            Self::Stopped => Self::Stopped,
        }
    }
}

/// What a server says can be long.
pub(in crate::integrations) fn shortened(text: &str) -> String {
    match text.char_indices().nth(MCP_SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl From<&EgressError> for Failure {
    fn from(error: &EgressError) -> Self {
        match error.is_denial() {
            true => Self::Denied(error.to_string()),
            false => Self::Upstream(error.to_string()),
        }
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for IntegrationError {
    fn from(failure: Failure) -> Self {
        let (scopes, error) = match failure {
            Failure::Scopes(scopes) => (scopes.clone(), StepError::from(Failure::Scopes(scopes))),
            failure => (Vec::new(), failure.into()),
        };
        match error.code {
            ErrorCode::McpAuthorizationRequired => Self::McpAuthorization { message: error.message, scopes },
            _ => Self::McpServer(error.message),
        }
    }
}

impl From<Failure> for StepError {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::Denied(_) => Self::new(ErrorCode::CapabilityDenied, message),
            Failure::Unauthorized(_) | Failure::Upstream(_) | Failure::Forgotten | Failure::Stopped => {
                Self::new(ErrorCode::UpstreamError, message)
            }
            Failure::Tool { code, .. } => {
                Self::new(ErrorCode::McpToolFailed, message).with_details(json!({ "mcp_code": code }))
            }
            Failure::Scopes(scopes) => {
                Self::new(ErrorCode::McpAuthorizationRequired, message).with_details(json!({ "scopes": scopes }))
            }
            Failure::Refused(error) => error,
        }
    }
}
