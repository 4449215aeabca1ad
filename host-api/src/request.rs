//! Requests of a step and the replies to them: plain data, so that they can be recorded and replayed.

use crate::{Json, StepError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Something a step asks its host to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostRequest {
    /// The number of the request within the step attempt, from 0.
    pub number: u32,
    /// What is asked for, such as `http.fetch`.
    pub capability: String,
    /// The arguments as the step wrote them.
    pub arguments: Json,
}

/// What the host answers. An error is raised in the script, where `pcall` catches it.
pub type HostReply = Result<Json, StepError>;

/// What a request was, to know it again: SHA-256 over capability and arguments as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestDigest([u8; 32]);

impl HostRequest {
    /// What it asks for, without its number.
    pub fn digest(&self) -> RequestDigest {
        let mut hash = Sha256::new();
        // No name of a capability holds a NUL that could be taken for the border.
        hash.update(self.capability.as_bytes());
        hash.update([0]);
        hash.update(self.arguments.as_str().as_bytes());
        RequestDigest(hash.finalize().into())
    }
}
