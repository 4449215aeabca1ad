//! The broker: every request of a step passes here before anything acts on it.
//!
//! It denies what was not granted. No capability is served yet, so a version can be granted nothing and every request is
//! refused; the refusal names what was asked for, and the script can catch it.

use crate::{ErrorCode, HostReply, HostRequest, StepError};

/// Answers a request that no grant covers.
pub fn refuse(request: &HostRequest) -> HostReply {
    Err(StepError::new(
        ErrorCode::CapabilityDenied,
        format!(
            "this workflow version was not granted `{}`; a step may only ask for what its version was granted when it was published",
            request.capability
        ),
    ))
}
