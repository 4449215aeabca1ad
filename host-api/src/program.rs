//! A program, its call, and how the call ends: the seam between the engine and whatever runs steps.

use crate::{HostReply, HostRequest, Json, Limits, StepError, TenantId, Timestamp};
use futures_util::future::BoxFuture;
use std::{sync::Arc, time::Duration};

/// What a program is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// Lua 5.4.
    Lua,
}

/// Code of an author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What it is written in.
    pub language: Language,
    /// What error messages call it: the step's id.
    pub name: Arc<str>,
    /// The source text.
    pub source: Arc<str>,
}

/// The global variables of a program: names and their JSON. A program sees these and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Variables in the order in which they are set.
    pub globals: Vec<(&'static str, Json)>,
    /// The table `steps`: for each upstream step its id and its entry, such as `{"result": …}`.
    pub steps: Vec<(Arc<str>, Json)>,
}

/// The seed of a program's random numbers: the same for every execution of the same step of the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entropy(pub u64);

/// One call of a program.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Whose budget it runs on.
    pub tenant: TenantId,
    /// What runs.
    pub program: Program,
    /// What it can read.
    pub scope: Scope,
    /// What its clock says: the recorded start of the step.
    pub started_at: Timestamp,
    /// What its random numbers are made from.
    pub entropy: Entropy,
    /// What it may use.
    pub limits: Limits,
}

/// What a program computed.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOutput {
    /// The returned table.
    pub json: Json,
    /// WebAssembly instructions it took, where they were metered.
    pub fuel: Option<u64>,
    /// Time from its start to its end.
    pub duration: Duration,
}

/// How a call, or a part of it, ended.
pub enum Outcome {
    /// The program returned.
    Done(StepOutput),
    /// The program failed, or was stopped at a limit.
    Failed(StepError),
    /// The program waits for the replies to these requests, which can be carried out at the same time.
    Requests {
        /// What it asks for: at least one.
        requests: Vec<HostRequest>,
        /// The stopped program. Dropping it ends it.
        execution: Box<dyn Execution>,
    },
}

/// A program that waits for replies.
pub trait Execution: Send {
    /// Goes on with one reply for each request, in their order.
    fn resume(self: Box<Self>, replies: Vec<HostReply>) -> BoxFuture<'static, Outcome>;
}

/// Something that runs programs. Dropping the future stops the program.
///
/// Two kinds exist: the sandbox, and scripted steps by which the engine is tested without any WebAssembly.
pub trait Guest: Send + Sync {
    /// Runs a program up to its end or its first requests.
    fn start(&self, invocation: Invocation) -> BoxFuture<'_, Outcome>;

    /// Whether the source compiles, on the budget of a tenant; nothing of it is executed.
    fn check(&self, tenant: TenantId, program: Program) -> BoxFuture<'_, Result<(), StepError>>;
}
