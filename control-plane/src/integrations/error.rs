//! How integrations are refused.

use super::inquiries::TooMany;
use crate::{
    access::AccessError,
    vault::{DataKeyError, ExternalError, SealError},
};
use agentruntime_engine::store::StoreError;

/// Why something was not done. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntegrationError {
    /// Access, or a field, was refused.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A server of MCP was asked, and did not answer as it should.
    #[error("{0}")]
    McpServer(String),
    /// An access to a server of MCP is over, or does not reach far enough.
    #[error("{message}")]
    McpAuthorization {
        /// What to do, as a sentence.
        message: String,
        /// The scopes that the server wants, where it says so.
        scopes: Vec<String>,
    },
    /// As many requests ask servers elsewhere as may.
    #[error(transparent)]
    TooManyInquiries(#[from] TooMany),
    /// A secret could not be kept, or not be had.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The external vault did not keep a secret, or not give it.
    #[error(transparent)]
    External(#[from] ExternalError),
}

impl IntegrationError {
    /// A field that does not hold what it should.
    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        AccessError::Invalid { field, message: message.into() }.into()
    }
}

impl From<StoreError> for IntegrationError {
    fn from(error: StoreError) -> Self {
        Self::Access(error.into())
    }
}

impl From<DataKeyError> for IntegrationError {
    fn from(error: DataKeyError) -> Self {
        match error {
            DataKeyError::Seal(error) => Self::Seal(error),
            DataKeyError::Store(error) => error.into(),
        }
    }
}
