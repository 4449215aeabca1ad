//! One attempt of a step: runs the program and answers what it asks for.

use crate::run::{Executing, Work};
use agentruntime_host_api::{ErrorCode, Guest, Outcome, StepError, StepOutput, broker};
use futures_util::future::{AbortHandle, Abortable, BoxFuture, FutureExt, abortable};
use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::{self, JoinHandle};
use tracing::Instrument;

/// An attempt under way. Aborting or dropping it stops the program.
pub(super) type Execution = Abortable<BoxFuture<'static, Ended>>;

/// How an attempt ended.
pub(super) struct Ended {
    pub(super) executing: Executing,
    pub(super) outcome: Result<StepOutput, StepError>,
    pub(super) duration: Duration,
}

/// Begins an attempt: `alone` within the task that polls it, otherwise in a task of its own beside others.
pub(super) fn execute(
    guest: Arc<dyn Guest>,
    executing: Executing,
    work: Work,
    alone: bool,
) -> (Execution, AbortHandle) {
    let span = tracing::info_span!("step", step_id = %executing.path, attempt = executing.attempt);
    let attempt = attempt(guest, executing, work).instrument(span);
    abortable(match alone {
        // The writer gets its turn first: it was just handed what the actor appended.
        true => async {
            task::yield_now().await;
            attempt.await
        }
        .boxed(),
        false => Beside(task::spawn(attempt)).ended().boxed(),
    })
}

async fn attempt(guest: Arc<dyn Guest>, executing: Executing, work: Work) -> Ended {
    let begun = Instant::now();
    let outcome = AssertUnwindSafe(carry_out(&*guest, work)).catch_unwind().await.unwrap_or_else(|_| Err(broken()));
    Ended { executing, outcome, duration: begun.elapsed() }
}

/// A panic beneath a step is the host's fault. It ends the step and not the run's actor, which would be taken up again and
/// again only to meet it anew.
fn broken() -> StepError {
    StepError::new(
        ErrorCode::SandboxTrap,
        "the sandbox itself failed while it ran the step: a defect of the host, not of the step",
    )
}

async fn carry_out(guest: &dyn Guest, work: Work) -> Result<StepOutput, StepError> {
    let invocation = match work {
        Work::Script(invocation) => *invocation,
        Work::Unavailable(what) => {
            let message = format!("this installation cannot reach {what} yet: connectors are not part of it");
            return Err(StepError::new(ErrorCode::DependencyUnavailable, message));
        }
    };
    let mut outcome = guest.start(invocation).await;
    loop {
        match outcome {
            Outcome::Done(output) => return Ok(output),
            Outcome::Failed(error) => return Err(error),
            Outcome::Requests { requests, execution } => {
                let replies = requests.iter().map(broker::refuse).collect();
                outcome = execution.resume(replies).await;
            }
        }
    }
}

/// A task that ends with whoever waits for it.
struct Beside(JoinHandle<Ended>);

impl Beside {
    async fn ended(mut self) -> Ended {
        match (&mut self.0).await {
            Ok(ended) => ended,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime shuts down, and whoever waits here with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.abort();
    }
}
