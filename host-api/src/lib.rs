//! The contract between a sandboxed step and its host.
//!
//! Owns what a step is given ([`Invocation`]), what it asks for ([`HostRequest`], [`Act`]), what it may ask for ([`Grants`]), who
//! decides whether a request may pass ([`broker`]), who carries it out ([`Host`]), what comes back ([`HostReply`]) and how a step
//! ends ([`Outcome`], [`StepError`]).
//! Never knows WebAssembly engines, SQL or HTTP servers: the engine and the sandbox meet here and nowhere else.

mod act;
pub mod broker;
mod error;
mod grants;
mod host;
mod id;
mod json;
mod limits;
mod program;
mod request;
mod terms;
mod time;

pub use act::{
    Act, Ask, Check, Fetch, HEADER_BYTES_MAX, HEADERS_MAX, Method, OWN_HEADERS, Operation, Part, REQUEST_TIMEOUT_MAX,
    SecretName, Sign, Text, ToolCall, URL_BYTES_MAX,
};
pub use error::{ErrorCode, StepError};
pub use grants::{
    ANY, Grants, HostPattern, ModelGrant, NotAGrant, SERVER_URL_BYTES_MAX, SecretRef, ToolGrant, ToolServer,
};
pub use host::{Caller, Errand, Host, IdempotencyKey, Live, NoHost, Room};
pub use id::{ProjectId, RunId, TaskId, TenantId, WorkflowId};
pub use json::{Json, JsonError};
pub use limits::Limits;
pub use program::{Entropy, Execution, Guest, Invocation, Language, Outcome, Program, Scope, StepOutput};
pub use request::{HostReply, HostRequest, RequestDigest};
pub use terms::{ArgumentRule, Terms};
pub use time::{Timestamp, TimestampError};
