//! Requests of a step and the replies to them: plain data, so that they can be recorded and replayed.

use crate::{Json, StepError};
use serde::{Deserialize, Serialize};

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
