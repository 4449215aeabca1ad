//! The contract between a sandboxed step and its host.
//!
//! Owns what a step is given ([`Invocation`]), what it may ask for ([`HostRequest`]), what comes back ([`HostReply`]),
//! how a step ends ([`Outcome`], [`StepError`]) and who decides whether a request may pass ([`broker`]).
//! Never knows WebAssembly engines, SQL or HTTP servers: the engine and the sandbox meet here and nowhere else.

pub mod broker;
mod error;
mod id;
mod json;
mod limits;
mod program;
mod request;
mod time;

pub use error::{ErrorCode, StepError};
pub use id::{ProjectId, RunId, TaskId, TenantId, WorkflowId};
pub use json::{Json, JsonError};
pub use limits::Limits;
pub use program::{Entropy, Execution, Guest, Invocation, Language, Outcome, Program, Scope, StepOutput};
pub use request::{HostReply, HostRequest};
pub use time::{Timestamp, TimestampError};
