//! Asking with credentials, and once more where the server takes a token for over that can be renewed.

use super::failure::Failure;
use crate::integrations::{
    IntegrationError, oauth,
    secrets::{Keeper, SecretError},
};
use agentruntime_egress::Secret;
use agentruntime_host_api::{ErrorCode, SecretRef, StepError};
use std::collections::BTreeMap;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// A credential cannot be had.
    Secret(SecretError),
    /// The server did not give one.
    Failed(Failure),
}

/// Asks with the credentials that are bound. What a server refuses with 401 it has not done, so that asking again does nothing
/// twice.
pub(super) async fn ask<T, F>(
    keeper: &Keeper,
    bindings: &BTreeMap<String, SecretRef>,
    attempt: impl Fn(BTreeMap<String, Secret>) -> F,
) -> Result<T, Unanswered>
where
    F: Future<Output = Result<T, Failure>>,
{
    let sent = keeper.open(bindings).await?;
    match attempt(sent.clone()).await {
        Err(Failure::Unauthorized(_)) if oauth::renew(keeper, bindings, &sent).await? => {
            match attempt(keeper.open(bindings).await?).await {
                Err(Failure::Unauthorized(message)) => Err(Unanswered::Failed(refused_anew(&message))),
                answered => Ok(answered?),
            }
        }
        answered => Ok(answered?),
    }
}

fn refused_anew(message: &str) -> Failure {
    let message = format!("{message}. The token was renewed just now: authorize the connection again");
    StepError::new(ErrorCode::McpAuthorizationRequired, message).into()
}

impl Unanswered {
    /// For somebody who chose the credentials through a field of a request.
    pub(super) fn of_field(self, field: &'static str) -> IntegrationError {
        match self {
            Self::Secret(error) => error.of_field(field),
            Self::Failed(failure) => failure.into(),
        }
    }
}

impl From<SecretError> for Unanswered {
    fn from(error: SecretError) -> Self {
        Self::Secret(error)
    }
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Unanswered> for StepError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Secret(error) => error.into(),
            Unanswered::Failed(failure) => failure.into(),
        }
    }
}
