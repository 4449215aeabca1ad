//! How triggers are refused.

use crate::{access::AccessError, operations::OperationError, vault::SealError};
use agentruntime_engine::{node::StartError, store::StoreError};

/// Why something was not done. Nothing was changed, and no run was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TriggerError {
    /// A delivery did not prove where it comes from. Which of its proofs is missing or wrong, and whether there is such a
    /// subscription at all, is not told.
    #[error("this delivery is not authenticated: send the subscription's token and a right, recent signature")]
    NotGenuine,
    /// The body of a delivery is not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// The body of a delivery is a bare number, under a signature that cannot tell it from a time.
    #[error("the body is a bare number, which `X-Agentruntime-Signature` does not sign; send an object that holds it")]
    BareNumber,
    /// The key of a delivery was used before, for another body.
    #[error("this key was used for another body before; send each event under a key of its own")]
    KeyReused,
    /// Access, or a field, was refused.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A secret could not be kept, or not be had.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The workflow, or the start of a run, was refused.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl TriggerError {
    /// A field that does not hold what it should.
    pub(super) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        AccessError::Invalid { field, message: message.into() }.into()
    }
}

impl From<StoreError> for TriggerError {
    fn from(error: StoreError) -> Self {
        Self::Access(error.into())
    }
}

impl From<StartError> for TriggerError {
    fn from(error: StartError) -> Self {
        Self::Operation(error.into())
    }
}
