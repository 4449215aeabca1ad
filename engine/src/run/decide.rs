//! `decide`: what an input means for a run. Pure: the same state, input and time give the same events and effects.
//!
//! Inputs that come twice or too late change nothing, so a node may hand over whatever it has.

use super::{
    apply::{RETRY, error_result, too_large},
    backoff,
    body::Site,
    event::{Event, EventKind, RunStatus, StepPath},
    requests::Question,
    signal::{Signal, TaskStatus},
    state::{Admission, Executing, Phase, RunState},
    tally,
};
use crate::graph::{FailurePolicy, OnError};
use agentruntime_host_api::{
    ErrorCode, HostReply, HostRequest, Json, RunId, StepError, StepOutput, TaskId, Timestamp, WorkflowId,
};
use serde_json::json;
use std::time::Duration;

/// What a run is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// It was just accepted.
    Begin,
    /// An execution ended well.
    StepDone {
        /// Which.
        executing: Executing,
        /// With what.
        output: StepOutput,
    },
    /// An execution failed.
    StepFailed {
        /// Which.
        executing: Executing,
        /// Why.
        error: StepError,
        /// How long it took.
        duration: Duration,
    },
    /// An execution asks for something.
    Requested {
        /// Which.
        executing: Executing,
        /// What for, in the order of their numbers.
        requests: Vec<HostRequest>,
        /// About which of them, or of those before, a person is to be asked first.
        questions: Vec<Question>,
    },
    /// It was given what it asked for, or refused.
    Replied {
        /// Which.
        executing: Executing,
        /// Which of its requests.
        number: u32,
        /// What came back.
        reply: HostReply,
        /// How long it took.
        duration: Duration,
    },
    /// Time went by.
    Tick,
    /// Somebody sent a message.
    Signal(Signal),
}

/// What follows from an input.
#[derive(Debug, Default, PartialEq)]
pub struct Decision {
    /// What happened, in order. Already applied to the state.
    pub events: Vec<Event>,
    /// What is to be done about it.
    pub effects: Vec<Effect>,
    /// Whether it was left in the middle, because it had taken long: [`Input::Tick`] goes on with it.
    pub is_unfinished: bool,
}

/// Something to do outside the state machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Begin this execution.
    Execute(Executing),
    /// Stop this execution, if it is under way.
    Abort(StepPath),
    /// Put a question into the inbox of people.
    OpenTask {
        /// The question.
        task: TaskId,
        /// Which step asks.
        path: StepPath,
        /// What kind of answer is wanted.
        task_type: String,
        /// What the person is shown.
        payload: Json,
        /// When it expires.
        due: Option<Timestamp>,
    },
    /// Take it out again.
    CloseTask(TaskId, TaskStatus),
    /// Start a child run.
    StartChild {
        /// Its id.
        run: RunId,
        /// The step that waits for it.
        step: StepPath,
        /// Which workflow.
        workflow: WorkflowId,
        /// Which version.
        version: u32,
        /// Its start payload.
        input: Json,
        /// How many parents it has.
        depth: u32,
        /// How many runs may come below it.
        descendants: u32,
    },
    /// Stop a child run.
    StopChild {
        /// Which.
        run: RunId,
        /// Whether what it has in flight may finish.
        graceful: bool,
    },
}

/// What one decision may take before it is left, so that it keeps a thread for some milliseconds at most. One step begins, skips
/// or tests one thing where the run holds little.
pub const DECISION_STEPS_MAX: usize = 500;
/// So many bytes that the run holds make it a step more: what is begun or tested may look at all of them.
const BYTES_PER_STEP: usize = 128 << 10;

/// Takes an input into the state and says what follows. Where that is much, it says the first part of it.
pub fn decide(state: &mut RunState, input: Input, now: Timestamp) -> Decision {
    let mut machine = Machine { state, now, decision: Decision::default(), steps_left: DECISION_STEPS_MAX };
    machine.take(input);
    machine.advance();
    machine.decision
}

/// A decision in the making.
pub(super) struct Machine<'s> {
    pub(super) state: &'s mut RunState,
    pub(super) now: Timestamp,
    pub(super) decision: Decision,
    /// What is left of [`DECISION_STEPS_MAX`].
    steps_left: usize,
}

impl Machine<'_> {
    fn take(&mut self, input: Input) {
        if self.state.seq == 1 {
            self.begin();
        }
        match input {
            Input::Begin => {}
            Input::StepDone { executing, output } => self.done(&executing, output),
            Input::StepFailed { executing, error, duration } => {
                if let Some(site) = self.under_way(&executing) {
                    self.fail(site, executing.attempt, error, duration);
                }
            }
            Input::Requested { executing, requests, questions } => self.requested(&executing, requests, questions),
            Input::Replied { executing, number, reply, duration } => {
                self.replied(&executing, number, reply, duration);
            }
            Input::Tick => self.tick(),
            Input::Signal(signal) => self.signal(signal),
        }
    }

    /// Moves everything on that can move now.
    fn advance(&mut self) {
        if self.state.status == RunStatus::Running {
            self.start_what_is_ready();
        }
        if self.state.status.is_final() {
            return;
        }
        if let Some(error) = too_large(self.state) {
            return self.fail_run(None, error);
        }
        if let Some((path, error)) = self.failed_fast() {
            return self.fail_run(Some(path), error);
        }
        match self.state.status {
            // What was not looked at may have to begin.
            RunStatus::Running if self.decision.is_unfinished => {}
            RunStatus::Running => self.end_if_through(),
            RunStatus::Draining if !self.has_running_work() => {
                self.stop_run(StepError::new(
                    ErrorCode::RunStopped,
                    "the run was stopped after what was in flight finished",
                ));
            }
            _ => {}
        }
    }

    /// Whether the decision is to be left here: asked before each thing that is begun, skipped or tested, and after at least
    /// one was.
    pub(super) fn is_spent(&mut self) -> bool {
        self.decision.is_unfinished |= self.steps_left == 0;
        self.decision.is_unfinished
    }

    /// Counts one thing that is begun, skipped or tested.
    pub(super) fn spend(&mut self) {
        self.steps_left = self.steps_left.saturating_sub(1 + self.state.bytes / BYTES_PER_STEP);
    }

    /// Whether the run is to end before anything else starts.
    pub(super) fn is_over(&self) -> bool {
        self.state.status.is_final() || too_large(self.state).is_some() || self.failed_fast().is_some()
    }

    /// The failure that ends the run at once. A run that was told to stop ends as stopped, whatever fails meanwhile: the
    /// children it stops, for one.
    fn failed_fast(&self) -> Option<(StepPath, StepError)> {
        match self.state.graph.failure_policy {
            FailurePolicy::FailFast if self.state.status != RunStatus::Draining => self.state.failure.clone(),
            FailurePolicy::FailFast | FailurePolicy::Drain => None,
        }
    }

    fn has_running_work(&self) -> bool {
        !self.state.executing().is_empty()
            || self.state.steps.iter().any(|step| matches!(step.phase, Phase::AwaitingChild(_)))
    }

    fn end_if_through(&mut self) {
        if self.state.steps.iter().any(|step| step.phase.is_in_flight()) {
            return;
        }
        if let Some((path, error)) = self.state.failure.clone() {
            return self.fail_run(Some(path), error);
        }
        let outputs = self.state.outputs();
        self.emit(EventKind::RunCompleted { outputs });
    }

    /// Records an event: the only way in which a decision changes the state.
    pub(super) fn emit(&mut self, kind: EventKind) {
        if let (Some(path), true) = (kind.path(), kind.ends_attempt()) {
            // What it asked people about comes to nothing.
            for task in self.state.open_questions(path) {
                self.effect(Effect::CloseTask(task, TaskStatus::Cancelled));
            }
        }
        let event = Event { seq: self.state.seq + 1, at: self.now, kind };
        self.state.apply(&event).expect("an event that was decided on the state continues its journal");
        self.decision.events.push(event);
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.decision.effects.push(effect);
    }

    /// Comes before whatever a run is told first.
    fn begin(&mut self) {
        self.state.check_input();
        if let Admission::Refused(issues) = &self.state.admission {
            let error = input_refused(issues);
            return self.emit(EventKind::RunRejected { error });
        }
        let Some(reuse) = self.state.start.reuse.clone() else { return };
        let graph = self.state.graph.clone();
        for &index in &graph.topological_order {
            let step = &graph.steps[index];
            let takes_part = step.enabled && !self.state.out_of_scope[index];
            if let (Some(result), true) = (reuse.results.get(&*step.id), takes_part) {
                let path = self.state.path(index);
                let (attempt, duration_us, reused_from) = (0, 0, Some(reuse.run));
                let result = result.clone();
                self.emit(EventKind::StepCompleted { path, attempt, result, duration_us, fuel: None, reused_from });
            }
        }
    }

    /// The place of an execution, if just this attempt of it is under way. One that waits for people alone tells nothing.
    pub(super) fn under_way(&self, executing: &Executing) -> Option<Site> {
        let site = self.state.site(&executing.path)?;
        let is_it = self.state.attempt_under_way(site) == Some(executing.attempt);
        (is_it && !self.state.waits_for_people(&executing.path)).then_some(site)
    }

    fn done(&mut self, executing: &Executing, output: StepOutput) {
        let Some(site) = self.under_way(executing) else { return };
        if self.state.is_loop_test(site) && tally::verdict(&output.json.to_value()).is_none() {
            let message = "a while_eval_script must return `{ pass = true }` or `{ pass = false }`";
            return self.fail(site, executing.attempt, StepError::new(ErrorCode::LuaError, message), output.duration);
        }
        self.emit(EventKind::StepCompleted {
            path: executing.path.clone(),
            attempt: executing.attempt,
            result: output.json,
            duration_us: micros(output.duration),
            fuel: output.fuel,
            reused_from: None,
        });
    }

    /// An attempt failed: another follows, or the step has failed for good.
    pub(super) fn fail(&mut self, site: Site, attempt: u32, error: StepError, duration: Duration) {
        let path = self.state.path_of(site);
        let conduct = self.state.conduct(site).clone();
        let used = attempt.saturating_sub(self.state.attempts_before(site));
        let may_retry = matches!(self.state.status, RunStatus::Running | RunStatus::Paused);
        let wait = backoff::wait(&conduct.retry, self.state.run, &path, attempt, used, &error).filter(|_| may_retry);
        if let Some(wait) = wait {
            let due = self.now.plus(wait);
            return self.emit(EventKind::StepRetrying { path, attempt, error, due });
        }
        let recovered = match conduct.on_error {
            OnError::Fail => None,
            OnError::Continue => Some(error_result(&error)),
            OnError::Result(result) => Some(result),
        };
        let is_final = recovered.is_none();
        let failed = EventKind::StepFailed {
            path: path.clone(),
            attempt,
            error: error.clone(),
            duration_us: micros(duration),
            recovered,
        };
        self.emit(failed);
        if let (Site::Inner { step, iteration, .. }, true) = (site, is_final) {
            self.item_failed(step, iteration, path, error);
        }
    }

    fn signal(&mut self, signal: Signal) {
        let status = self.state.status;
        match signal {
            Signal::Pause if status == RunStatus::Running => self.change(RunStatus::Paused, "pause"),
            Signal::Resume if status == RunStatus::Paused => self.change(RunStatus::Running, "resume"),
            Signal::Retry if status == RunStatus::Failed && self.state.admission == Admission::Fits => {
                self.change(RunStatus::Running, RETRY);
            }
            Signal::Stop { graceful: true } if matches!(status, RunStatus::Running | RunStatus::Paused) => self.drain(),
            Signal::Stop { graceful: false } if !status.is_final() => {
                self.stop_run(StepError::new(ErrorCode::RunStopped, "the run was stopped"));
            }
            Signal::TaskCompleted { task, approved, result } if !status.is_final() => {
                self.answer(task, approved, result);
            }
            Signal::ChildFinished { child, step, outcome } if !status.is_final() => {
                self.child_finished(child, &step, outcome);
            }
            Signal::Pause
            | Signal::Resume
            | Signal::Retry
            | Signal::Stop { .. }
            | Signal::TaskCompleted { .. }
            | Signal::ChildFinished { .. } => {}
        }
    }

    pub(super) fn change(&mut self, to: RunStatus, reason: &str) {
        self.emit(EventKind::StateChanged { from: self.state.status, to, reason: reason.into() });
    }

    fn drain(&mut self) {
        self.change(RunStatus::Draining, "stop");
        for index in 0..self.state.steps.len() {
            if let Phase::AwaitingChild(run) = self.state.steps[index].phase {
                self.effect(Effect::StopChild { run, graceful: true });
            }
        }
    }

    fn answer(&mut self, task: TaskId, approved: bool, result: Json) {
        let awaits = |step: &super::state::StepState| matches!(step.phase, Phase::AwaitingTask(open) if open == task);
        if let Some(index) = self.state.steps.iter().position(awaits) {
            let path = self.state.path(index);
            return self.emit(EventKind::HumanTaskCompleted { path, task, approved, result });
        }
        if let Some((site, error)) = self.state.in_review(task) {
            let path = self.state.path_of(site);
            self.emit(EventKind::HumanTaskCompleted { path: path.clone(), task, approved, result });
            if !approved {
                self.fail_composite(site.step(), &path, error);
            }
            return;
        }
        self.decided(task, approved, result);
    }

    fn child_finished(&mut self, child: RunId, step: &StepPath, outcome: Result<Json, StepError>) {
        let Some(site @ Site::Top(index)) = self.state.site(step) else { return };
        let spec = &self.state.steps[index];
        if !matches!(spec.phase, Phase::AwaitingChild(awaited) if awaited == child) {
            return;
        }
        let (attempt, duration) = (spec.attempt, self.now.since(spec.started_at));
        match outcome {
            Ok(result) => {
                let (path, duration_us) = (step.clone(), micros(duration));
                self.emit(EventKind::StepCompleted {
                    path,
                    attempt,
                    result,
                    duration_us,
                    fuel: None,
                    reused_from: None,
                });
            }
            Err(error) => {
                let message = format!("the child run {child} did not complete: {error}");
                let error = StepError::new(ErrorCode::ChildRunFailed, message)
                    .with_details(json!({ "child_run_id": child, "error": error }));
                self.fail(site, attempt, error, duration);
            }
        }
    }
}

/// The failure of a start whose payload does not fit the input schema.
pub(crate) fn input_refused(issues: &[crate::graph::Issue]) -> StepError {
    let sentences: Vec<String> = issues
        .iter()
        .map(|issue| format!("input{}: {}", issue.json_path.trim_start_matches('$'), issue.message))
        .collect();
    let message = format!("the input does not fit the workflow's input_schema: {}", sentences.join("; "));
    StepError::new(ErrorCode::InvalidInput, message).with_details(json!({ "issues": issues }))
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
