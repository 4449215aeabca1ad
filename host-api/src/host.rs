//! Whoever carries out what the broker let pass.

use crate::{ErrorCode, HostReply, ProjectId, RunId, StepError, TenantId, broker::Permit};
use futures_util::future::BoxFuture;
use std::{fmt, sync::Arc, time::Duration};

/// Something that a step asked for and may have done.
#[derive(Clone, Debug)]
pub struct Errand {
    /// For whom.
    pub caller: Arc<Caller>,
    /// The number of the request within the step, from 0.
    pub number: u32,
    /// What.
    pub permit: Permit,
    /// Its room among the requests that are under way.
    pub room: Arc<dyn Room>,
    /// Who hears what comes before the reply.
    pub live: Arc<dyn Live>,
}

/// The step that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its workspace.
    pub tenant: TenantId,
    /// Its project.
    pub project: ProjectId,
    /// Its run.
    pub run: RunId,
    /// Its path in the run.
    pub step: String,
}

/// The same for every repetition of a request, after a crash and by a retry: `run/step/number`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl Errand {
    /// What tells a server that a request comes again.
    pub fn idempotency_key(&self) -> IdempotencyKey {
        let Caller { run, step, .. } = &*self.caller;
        IdempotencyKey(format!("{run}/{step}/{}", self.number))
    }
}

impl IdempotencyKey {
    /// The key as it goes out.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The room of an errand among those that are under way at once.
pub trait Room: Send + Sync + fmt::Debug {
    /// Gives the room to others for so long, and waits for room again. A host that lets time pass without doing anything does so
    /// here: else those who wait for room would wait for nothing.
    fn rest(&self, duration: Duration) -> BoxFuture<'_, ()>;
}

/// Hears what a model says while it says it.
pub trait Live: Send + Sync + fmt::Debug {
    /// The next piece, without secrets. Parts count from 0; one that is 0 begins the answer, anew where there were pieces before.
    /// Never waits: a piece that nobody has room for is lost, and the reply has all of them.
    fn said(&self, part: u32, text: String);
}

/// Carries out errands: the only way from a step to the outside. Dropping the future stops what is under way.
pub trait Host: Send + Sync + fmt::Debug {
    /// Does what the permit says, and gives what came of it. No secret is in the reply.
    fn carry_out(&self, errand: Errand) -> BoxFuture<'_, HostReply>;

    /// A run is not worked on any more by whoever has this host: it ended, it waits, or others have it. What was kept for its next
    /// errand can go.
    fn let_go(&self, run: RunId) {
        let _ = run;
    }
}

/// A host that reaches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHost;

impl Host for NoHost {
    fn carry_out(&self, _: Errand) -> BoxFuture<'_, HostReply> {
        let message = "this installation reaches nothing outside: it was started without connections";
        Box::pin(std::future::ready(Err(StepError::new(ErrorCode::DependencyUnavailable, message))))
    }
}
