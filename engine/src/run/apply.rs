//! `apply`: takes one event into the state. The only place that changes a [`RunState`].

use super::{
    body::Site,
    event::{Event, EventKind, RunStatus, SkipReason, StepPath},
    lookup::View,
    payload::Payload,
    state::{Admission, IterationOutcome, Loop, Phase, RunState},
};
use crate::graph::{Graph, StepIndex, StepKind};
use agentruntime_host_api::{ErrorCode, Json, RunId, StepError, TaskId, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

/// An event that cannot follow what the journal holds so far: the journal is damaged, or is of another graph.
#[derive(Debug, thiserror::Error)]
#[error("event {seq} of run {run} cannot be applied: {reason}")]
pub struct IllegalEvent {
    /// The run.
    pub run: RunId,
    /// The event's number.
    pub seq: u64,
    /// What does not fit.
    pub reason: String,
}

/// The reason of a `state_changed` that a failed item of a `for_each` with the policy `pause` causes.
pub(super) const ITEM_FAILED: &str = "for_each_item_failed";
/// The reason of a `state_changed` that begins the retry of a failed run.
pub(super) const RETRY: &str = "retry";
/// How many events a run may have before it is ended: its journal has to be read whole when a node takes it over.
pub const RUN_EVENTS_MAX: u64 = 50_000;
/// What the input, results and questions of a run may take together, in bytes: a node holds them while it works on it.
pub const RUN_BYTES_MAX: usize = 64 << 20;
/// How long a graceful stop waits for what is in flight.
pub const DRAIN_LIMIT: std::time::Duration = std::time::Duration::from_secs(300);

impl RunState {
    /// The state that a whole journal adds up to.
    ///
    /// # Errors
    /// The journal does not begin with `run_started`, or an event does not continue it.
    pub fn replayed(run: RunId, graph: Arc<Graph>, journal: &[Event]) -> Result<Self, IllegalEvent> {
        let illegal = |reason: &str| IllegalEvent { run, seq: 1, reason: reason.into() };
        let Some((Event { seq: 1, at, kind: EventKind::RunStarted(start) }, rest)) = journal.split_first() else {
            return Err(illegal("a journal begins with run_started"));
        };
        let mut state = Self::started(run, graph, (**start).clone(), *at)
            .map_err(|_| illegal("the start does not fit the graph of its version"))?;
        for event in rest {
            state.apply(event)?;
        }
        Ok(state)
    }

    /// Takes one event in.
    ///
    /// # Errors
    /// The event does not continue the journal. Events of [`decide`](super::decide) always do.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        let run = self.run;
        let illegal = |reason: String| IllegalEvent { run, seq: event.seq, reason };
        if event.seq != self.seq + 1 {
            return Err(illegal(format!("it should have number {}", self.seq + 1)));
        }
        let site = match event.kind.path() {
            None => None,
            Some(path) => match self.site(path) {
                Some(site) => Some((site, path)),
                None => return Err(illegal(format!("the graph has no step `{path}`"))),
            },
        };
        self.allows(&event.kind).map_err(illegal)?;
        if self.seq == 1 {
            self.admission = match event.kind {
                EventKind::RunRejected { .. } => Admission::Refused(Vec::new()),
                _ => Admission::Fits,
            };
        }
        self.seq = event.seq;
        self.bytes = self.bytes.saturating_add(event.kind.payload_bytes());
        if let Some((site, _)) = site
            && self.apply_to_requests(site, &event.kind).map_err(illegal)?
        {
            return Ok(());
        }
        match site {
            None => self.apply_to_run(&event.kind, event.at),
            Some((Site::Top(step), path)) => self.apply_to_step(step, path, &event.kind, event.at),
            Some((Site::Inner { step, iteration, position }, path)) => {
                self.apply_to_body(step, iteration, position, path, event)
            }
        }
        .map_err(illegal)
    }

    fn apply_to_run(&mut self, kind: &EventKind, at: Timestamp) -> Result<(), String> {
        match kind {
            EventKind::RunRejected { error } => self.finish(RunStatus::Failed, Err(error.clone()), at),
            EventKind::RunCompleted { outputs } => self.finish(RunStatus::Completed, Ok(outputs.clone()), at),
            EventKind::RunFailed { error, .. } => self.finish(RunStatus::Failed, Err(error.clone()), at),
            EventKind::RunStopped { error } => self.finish(RunStatus::Stopped, Err(error.clone()), at),
            EventKind::StateChanged { to, reason, .. } => self.change(*to, reason, at),
            EventKind::RunStarted(_) => return Err("a run starts once".into()),
            _ => return Err("it names no step".into()),
        }
        Ok(())
    }

    fn finish(&mut self, status: RunStatus, end: Result<Json, StepError>, at: Timestamp) {
        self.status = status;
        self.end = Some(end);
        self.finished_at = Some(at);
        self.drain_due = None;
    }

    fn change(&mut self, to: RunStatus, reason: &str, at: Timestamp) {
        self.drain_due = (to == RunStatus::Draining).then(|| at.plus(DRAIN_LIMIT));
        match (self.status, to) {
            (RunStatus::Failed, RunStatus::Running) if reason == RETRY => self.rewind(),
            (RunStatus::Paused, RunStatus::Running) => self.reopen_halted(),
            _ => {}
        }
        self.status = to;
    }

    /// Makes what failed, and what it kept from running, wait for its turn again.
    fn rewind(&mut self) {
        self.end = None;
        self.finished_at = None;
        self.failure = None;
        for step in &mut self.steps {
            match step.phase {
                Phase::Failed { recovered: None, .. } | Phase::Cancelled | Phase::Skipped(SkipReason::Blocked) => {
                    step.phase = Phase::Waiting;
                    step.attempts_before = step.attempt;
                }
                _ => {}
            }
        }
    }

    fn reopen_halted(&mut self) {
        for step in &mut self.steps {
            if let Phase::Looping(looped) = &mut step.phase {
                looped.reopen(|outcome| matches!(outcome, IterationOutcome::Halted));
            }
        }
    }

    fn apply_to_step(
        &mut self,
        index: StepIndex,
        path: &StepPath,
        kind: &EventKind,
        at: Timestamp,
    ) -> Result<(), String> {
        self.steps[index].allows(kind)?;
        match kind {
            EventKind::StepStarted { attempt, inputs, .. } => self.start_step(index, *attempt, inputs.as_ref(), at),
            EventKind::StepCompleted { result, .. } => {
                let result = Payload::new(result.clone());
                // A question whose answer is taken over from another run: what it said counts here as it did there.
                let is_question = matches!(self.graph.steps[index].kind, StepKind::HumanTask(_));
                let rejected = is_question && result.value()["approved"] == Value::Bool(false);
                self.settle(index, Phase::Completed { result, rejected });
            }
            EventKind::StepSkipped { reason, .. } => self.settle(index, Phase::Skipped(*reason)),
            EventKind::StepFailed { error, recovered, .. } => {
                let recovered = recovered.clone().map(Payload::new);
                if recovered.is_none() {
                    self.failure.get_or_insert_with(|| (path.clone(), error.clone()));
                }
                self.settle(index, Phase::Failed { error: error.clone(), recovered });
            }
            EventKind::StepRetrying { due, .. } => {
                let kept = self.take_loop(index);
                let step = &mut self.steps[index];
                step.kept = kept;
                step.phase = Phase::BackingOff(*due);
                step.deadline = None;
            }
            EventKind::StepCancelled { .. } => self.settle(index, Phase::Cancelled),
            EventKind::HumanTaskCreated { task, due, .. } => {
                self.steps[index].phase = Phase::AwaitingTask(*task);
                self.steps[index].deadline = *due;
            }
            EventKind::HumanTaskCompleted { approved, result, .. } => {
                let result = Payload::new(task_result(*approved, result));
                self.settle(index, Phase::Completed { result, rejected: !approved });
            }
            _ => return Err("it is not about a step".into()),
        }
        Ok(())
    }

    fn start_step(&mut self, index: StepIndex, attempt: u32, inputs: Option<&Json>, at: Timestamp) {
        let path = self.path(index);
        let kept = self.steps[index].kept.take();
        let phase = match &self.graph.steps[index].kind {
            StepKind::Leaf(_) | StepKind::HumanTask(_) => Phase::Executing,
            StepKind::WorkflowCall(_) => Phase::AwaitingChild(child_run(self.run, &path, attempt)),
            StepKind::Sleep(_) => Phase::Sleeping(inputs.and_then(sleep_end).unwrap_or(at)),
            StepKind::ForEach(_) | StepKind::While(_) => Phase::Looping(match kept {
                Some(mut looped) => {
                    looped.reopen(|outcome| !matches!(outcome, IterationOutcome::Done));
                    looped
                }
                None => Box::new(Loop { items: self.items(index), ..Loop::default() }),
            }),
        };
        let timeout = self.graph.steps[index].conduct.timeout;
        let step = &mut self.steps[index];
        step.deadline = match &phase {
            // The sandbox keeps the time of what it executes.
            Phase::Executing => None,
            _ => timeout.map(|timeout| at.plus(timeout)),
        };
        step.phase = phase;
        step.attempt = attempt;
        step.started_at = at;
        step.inputs = inputs.cloned().map(Payload::new);
    }

    fn items(&self, index: StepIndex) -> Vec<Value> {
        match &self.graph.steps[index].kind {
            StepKind::ForEach(spec) => match spec.items.resolve(&View::top(self, index)) {
                Ok(Value::Array(items)) => items,
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    fn settle(&mut self, index: StepIndex, phase: Phase) {
        let keeps = matches!(phase, Phase::Failed { recovered: None, .. } | Phase::Cancelled);
        let kept = self.take_loop(index);
        let step = &mut self.steps[index];
        step.kept = if keeps { kept.or(step.kept.take()) } else { None };
        step.phase = phase;
        step.deadline = None;
    }

    fn take_loop(&mut self, index: StepIndex) -> Option<Box<Loop>> {
        match std::mem::replace(&mut self.steps[index].phase, Phase::Waiting) {
            Phase::Looping(looped) => Some(looped),
            other => {
                self.steps[index].phase = other;
                None
            }
        }
    }
}

/// The result of a human task: the answer's fields and `approved`.
fn task_result(approved: bool, result: &Json) -> Json {
    let mut fields = match result.to_value() {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    fields.insert("approved".into(), approved.into());
    Json::of_value(&Value::Object(fields))
}

/// The id of the child run of one attempt of a `workflow_call`: a repeated start of the same attempt is the same run.
pub(super) fn child_run(run: RunId, path: &StepPath, attempt: u32) -> RunId {
    RunId::derived(run.as_uuid(), &format!("child/{path}/{attempt}"))
}

/// The id of the question that one attempt of a step asks.
pub(super) fn task_id(run: RunId, path: &StepPath, attempt: u32) -> TaskId {
    TaskId::derived(run.as_uuid(), &format!("task/{path}/{attempt}"))
}

/// The id of the question whether a request of an attempt may go out: the same request asks the same question.
pub(super) fn approval_id(run: RunId, path: &StepPath, attempt: u32, number: u32) -> TaskId {
    TaskId::derived(run.as_uuid(), &format!("approval/{path}/{attempt}/{number}"))
}

/// The inputs of a sleeping step: the point in time at which it goes on.
pub(super) fn sleep_inputs(until: Timestamp) -> Json {
    json!({ "until": until.to_string() }).into()
}

fn sleep_end(inputs: &Json) -> Option<Timestamp> {
    inputs.to_value().get("until")?.as_str()?.parse().ok()
}

/// What dependents of a failed step with `on_error: "continue"` see.
pub(super) fn error_result(error: &StepError) -> Json {
    json!({ "error": error }).into()
}

/// The failure of a run whose journal is full.
pub(super) fn too_large(state: &RunState) -> Option<StepError> {
    let reached = if state.seq > RUN_EVENTS_MAX {
        format!("{RUN_EVENTS_MAX} events")
    } else if state.bytes > RUN_BYTES_MAX {
        format!("{} MiB of input, results and questions", RUN_BYTES_MAX >> 20)
    } else {
        return None;
    };
    let message = format!("the run reached its limit of {reached}; split the work into child runs with workflow_call");
    Some(StepError::new(ErrorCode::RunStalledOrTimedOut, message))
}
