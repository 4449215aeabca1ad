//! One attempt of a step: runs the program and gets it what it asks for.
//!
//! What a program asks for is written down before anybody outside can see of it, and what came back is written down, too. A
//! program that is begun again asks for the same and is handed what is written. This serves a crash as well as a long wait:
//! a program whose reply takes its time is given up meanwhile, so that waiting costs no sandbox.

use super::{
    Compute,
    consent::{Consent, Consents},
    numbers,
    output::LiveOutput,
    own_time::OwnTime,
    room::RequestRoom,
    turns::Turns,
    watch::Watchers,
};
use crate::run::{Executing, Job, Question, Recorded, Work};
use agentruntime_host_api::{
    Caller, Errand, ErrorCode, Grants, Guest, Host, HostReply, HostRequest, Invocation, Outcome, StepError, StepOutput,
    broker::Permit,
};
use futures_util::{
    StreamExt,
    future::{AbortHandle, Abortable, BoxFuture, FutureExt, abortable},
    stream,
};
use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    task::{self, JoinHandle},
    time,
};
use tracing::Instrument;

/// How long a program waits in its sandbox for a reply. Beginning anew costs it less than that.
const PARK_AFTER: Duration = Duration::from_millis(10);

/// How many requests of an attempt are under way at once. Replies lie in memory until they are written, and a program can ask
/// for a thousand things in one go.
const REQUESTS_AT_ONCE: usize = 32;

/// About how many calls of an attempt people are asked at once: who is asked more does not read what they approve.
const QUESTIONS_AT_ONCE: usize = 32;

/// An attempt under way. Aborting or dropping it stops the program.
pub(super) type Execution = Abortable<BoxFuture<'static, Ended>>;

/// How an attempt ended.
pub(super) struct Ended {
    pub(super) executing: Executing,
    pub(super) outcome: Result<StepOutput, Halt>,
    pub(super) duration: Duration,
}

/// Why an attempt did not come to its end.
pub(super) enum Halt {
    /// It failed.
    Failed(StepError),
    /// It waits for people, and is begun again when one has answered.
    Waits,
}

impl From<StepError> for Halt {
    fn from(error: StepError) -> Self {
        Self::Failed(error)
    }
}

/// What an attempt tells its run's actor on the way.
pub(super) enum Report {
    /// It asks for something, or people about it. Where others could see of it, somebody waits until that is durable.
    Requested {
        executing: Executing,
        requests: Vec<HostRequest>,
        questions: Vec<Question>,
        durable: Option<oneshot::Sender<()>>,
    },
    /// It got a reply.
    Replied { executing: Executing, number: u32, reply: HostReply, duration: Duration },
}

/// What every attempt of a run needs.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) guest: Arc<dyn Guest>,
    pub(super) host: Arc<dyn Host>,
    pub(super) turns: Turns,
    pub(super) watchers: Watchers,
    pub(super) compute: Arc<Compute>,
    pub(super) reports: UnboundedSender<Report>,
}

/// Begins an attempt: `alone` within the task that polls it, otherwise in a task of its own beside others.
pub(super) fn execute(
    surroundings: Surroundings,
    executing: Executing,
    work: Work,
    alone: bool,
) -> (Execution, AbortHandle) {
    let span = tracing::info_span!("step", step_id = %executing.path, attempt = executing.attempt);
    let attempt = attempt(surroundings, executing, work).instrument(span);
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

async fn attempt(surroundings: Surroundings, executing: Executing, work: Work) -> Ended {
    let begun = Instant::now();
    let attempt = carry_out(surroundings, &executing, work);
    let outcome = AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|_| Err(broken().into()));
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

async fn carry_out(surroundings: Surroundings, executing: &Executing, work: Work) -> Result<StepOutput, Halt> {
    match work {
        Work::Program(job) => {
            let Job { invocation, caller, grants, recorded, adapter } = *job;
            let mut attempt = Attempt { surroundings, executing, caller: Arc::new(caller), grants, recorded };
            let begun = Instant::now();
            let mut output = attempt.run(invocation).await?;
            if !attempt.recorded.is_empty() {
                // What it asked for took time as well, and it may have been begun several times meanwhile.
                output.duration = begun.elapsed();
            }
            match adapter {
                Some(adapter) => Ok(adapter.output(output)?),
                None => Ok(output),
            }
        }
        Work::Refused(error) => Err(error.into()),
    }
}

/// An attempt and what it has asked for.
struct Attempt<'e> {
    surroundings: Surroundings,
    executing: &'e Executing,
    caller: Arc<Caller>,
    grants: Arc<Grants>,
    /// By the numbers of the requests.
    recorded: Vec<Recorded>,
}

impl Attempt<'_> {
    async fn run(&mut self, mut invocation: Invocation) -> Result<StepOutput, Halt> {
        let limit = invocation.limits.time;
        let guest = self.surroundings.guest.clone();
        let mut outcome = guest.start(invocation.clone()).await;
        loop {
            let (requests, execution) = match outcome {
                Outcome::Done(output) => return Ok(output),
                Outcome::Failed(error) if error.code == ErrorCode::StepTimeout => {
                    return Err(StepError::timed_out(limit).into());
                }
                Outcome::Failed(error) => return Err(error.into()),
                Outcome::Requests { requests, execution } => (requests, execution),
            };
            let own = Arc::new(OwnTime::from(Instant::now()));
            let replies = {
                let answers = self.answers(requests, &own);
                tokio::pin!(answers);
                match time::timeout(PARK_AFTER, &mut answers).await {
                    Ok(replies) => Some((execution, replies?)),
                    Err(_) => {
                        drop(execution);
                        let waited = own.within(invocation.limits.time, answers).await;
                        waited.map_err(|_| StepError::timed_out(limit))??;
                        None
                    }
                }
            };
            outcome = match replies {
                Some((execution, replies)) => execution.resume(replies).await,
                None => {
                    // It is begun anew with what is left of its time.
                    invocation.limits.time = invocation.limits.time.saturating_sub(own.spent());
                    guest.start(invocation.clone()).await
                }
            };
        }
    }

    /// The replies to requests, in their order: those that are recorded, and those that are fetched now. Where people are asked
    /// first, what waits for nobody is fetched meanwhile.
    async fn answers(&mut self, requests: Vec<HostRequest>, own: &Arc<OwnTime>) -> Result<Vec<HostReply>, Halt> {
        let numbers: Vec<usize> = requests.iter().map(|request| request.number as usize).collect();
        let mut asked = Asked::default();
        let mut waiting = 0;
        for request in requests {
            let digest = request.digest();
            let (is_new, approval) = match self.recorded.get(request.number as usize) {
                Some(recorded) if recorded.digest != digest => return Err(diverged(&request).into()),
                Some(Recorded { reply: Some(_), .. }) => continue,
                Some(recorded) => (false, recorded.approval.clone()),
                None => (true, None),
            };
            let consents =
                Consents { compute: &self.surroundings.compute, tenant: &self.caller.tenant, grants: &self.grants };
            match consents.to(&request, approval.as_ref()).await {
                // An answer that is not durable yet must not be seen of, either.
                Consent::Given(permit) => {
                    asked.is_seen |= permit.act().acts_outside() && (is_new || approval.is_some());
                    asked.open.push((request.number, Ok(permit)));
                }
                Consent::Refused(error) => asked.open.push((request.number, Err(error))),
                Consent::Wanted(_) if waiting == QUESTIONS_AT_ONCE => {
                    asked.open.push((request.number, Err(asks_too_much())));
                }
                Consent::Wanted(payload) => {
                    waiting += 1;
                    asked.questions.push(Question { number: request.number, payload });
                }
                Consent::Awaited => waiting += 1,
            }
            if is_new {
                self.recorded.push(Recorded::new(digest));
                asked.new.push(request);
            }
        }
        let open = std::mem::take(&mut asked.open);
        self.requested(asked).await;
        self.fetch(open, own).await;
        if waiting > 0 {
            return Err(Halt::Waits);
        }
        let replies = numbers.into_iter().map(|number| self.recorded.get(number).and_then(|it| it.reply.clone()));
        Ok(replies.map(|reply| reply.unwrap_or_else(|| Err(broken()))).collect())
    }

    /// Tells what is asked for, and waits until that is durable where somebody outside will see of it.
    async fn requested(&self, asked: Asked) {
        let Asked { new: requests, questions, is_seen, .. } = asked;
        if requests.is_empty() && questions.is_empty() && !is_seen {
            return;
        }
        let (durable, written) = oneshot::channel();
        let durable = is_seen.then_some(durable);
        self.report(Report::Requested { executing: self.executing.clone(), requests, questions, durable });
        if is_seen && written.await.is_err() {
            // The run is somebody else's now, and this attempt is about to be stopped.
            std::future::pending::<()>().await;
        }
    }

    async fn fetch(&mut self, open: Vec<(u32, Result<Permit, StepError>)>, own: &Arc<OwnTime>) {
        let Surroundings { host, turns, watchers, .. } = self.surroundings.clone();
        let (caller, executing) = (self.caller.clone(), self.executing);
        let fetching = open.into_iter().map(|(number, permit)| {
            let (host, turns, caller) = (&host, &turns, caller.clone());
            let live = Arc::new(LiveOutput::of(&watchers, caller.run, executing, number));
            async move {
                let permit = match permit {
                    Ok(permit) => permit,
                    Err(denied) => return (number, Err(denied), Duration::ZERO),
                };
                let capability = permit.act().capability();
                let room = Arc::new(RequestRoom::new(turns, own, &caller.tenant));
                if permit.act().acts_outside() {
                    room.enter().await;
                }
                let under_way = numbers::one("agentruntime_step_requests_under_way");
                let begun = Instant::now();
                let reply = host.carry_out(Errand { caller, number, permit, room: room.clone(), live }).await;
                let took = begun.elapsed();
                numbers::replied(capability, &reply, took);
                room.leave();
                drop(under_way);
                (number, reply, took)
            }
        });
        let fetching: Vec<_> = fetching.collect();
        let mut fetching = stream::iter(fetching).buffer_unordered(REQUESTS_AT_ONCE);
        while let Some((number, reply, duration)) = fetching.next().await {
            if let Some(recorded) = self.recorded.get_mut(number as usize) {
                recorded.reply = Some(reply.clone());
            }
            self.report(Report::Replied { executing: self.executing.clone(), number, reply, duration });
        }
    }

    fn report(&self, report: Report) {
        // Nobody hears where the run was let go, and then this attempt is about to be stopped.
        let _ = self.surroundings.reports.send(report);
    }
}

/// What a program asks for at once and has no reply to.
#[derive(Default)]
struct Asked {
    /// What is asked for the first time.
    new: Vec<HostRequest>,
    /// What people are to be asked.
    questions: Vec<Question>,
    /// What can be answered now.
    open: Vec<(u32, Result<Permit, StepError>)>,
    /// Whether somebody outside will see of something that may not be durable.
    is_seen: bool,
}

fn asks_too_much() -> StepError {
    let message = format!(
        "people are asked about at most {QUESTIONS_AT_ONCE} calls of a step at once, and so many wait for an answer; ask \
         for fewer calls at once"
    );
    StepError::new(ErrorCode::CapabilityDenied, message)
}

/// A program that does not do the same again cannot be handed what it got before.
fn diverged(request: &HostRequest) -> StepError {
    let message = format!(
        "request {} of the step, `{}`, is not the one that was recorded before the step was begun again: the program that \
         runs it has changed since",
        request.number, request.capability
    );
    StepError::new(ErrorCode::SandboxTrap, message)
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
