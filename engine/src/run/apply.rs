//! `apply`: takes one event into the state. The only place that changes a [`RunState`].

use super::{
    body::Site,
    event::{Event, EventKind, RunStatus, SkipReason, StepPath},
    lookup::View,
    payload::Payload,
    state::{Inner, Iteration, IterationOutcome, Loop, Phase, RunState},
};
use crate::graph::{ForEachErrorPolicy, Graph, StepIndex, StepKind};
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
        let illegal = |reason: String| IllegalEvent { run: self.run, seq: event.seq, reason };
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
        self.seq = event.seq;
        match site {
            None => self.apply_to_run(&event.kind, event.at),
            Some((Site::Top(step), path)) => self.apply_to_step(step, path, &event.kind, event.at),
            Some((Site::Inner { step, iteration, position }, path)) => {
                self.apply_to_body(step, iteration, position, path, event)
            }
        }
        .map_err(|reason| IllegalEvent { run: self.run, seq: event.seq, reason })
    }

    fn apply_to_run(&mut self, kind: &EventKind, at: Timestamp) -> Result<(), String> {
        match kind {
            EventKind::RunRejected { error } => self.finish(RunStatus::Failed, Err(error.clone())),
            EventKind::RunCompleted { outputs } => self.finish(RunStatus::Completed, Ok(outputs.clone())),
            EventKind::RunFailed { error, .. } => self.finish(RunStatus::Failed, Err(error.clone())),
            EventKind::RunStopped { error } => self.finish(RunStatus::Stopped, Err(error.clone())),
            EventKind::StateChanged { to, reason, .. } => self.change(*to, reason, at),
            EventKind::RunStarted(_) => return Err("a run starts once".into()),
            _ => return Err("it names no step".into()),
        }
        Ok(())
    }

    fn finish(&mut self, status: RunStatus, end: Result<Json, StepError>) {
        self.status = status;
        self.end = Some(end);
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

    fn apply_to_step(&mut self, index: StepIndex, path: &StepPath, kind: &EventKind, at: Timestamp) -> Result<(), String> {
        match kind {
            EventKind::StepStarted { attempt, inputs, .. } => self.start_step(index, *attempt, inputs.as_ref(), at),
            EventKind::StepCompleted { result, .. } => {
                self.settle(index, Phase::Completed { result: Payload::new(result.clone()), rejected: false });
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
                self.steps[index].kept = kept;
                self.steps[index].phase = Phase::BackingOff(*due);
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
        step.inputs = inputs.cloned();
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

    fn apply_to_body(
        &mut self,
        index: StepIndex,
        number: u32,
        position: usize,
        path: &StepPath,
        event: &Event,
    ) -> Result<(), String> {
        let slots = self.graph.steps[index].kind.slots();
        let Phase::Looping(looped) = &mut self.steps[index].phase else {
            return Err(format!("`{}` runs no body", path.step));
        };
        if number as usize == looped.iterations.len() {
            looped.iterations.push(Iteration::new(slots));
            looped.open.push(number);
        }
        let Some(iteration) = looped.iteration(number) else {
            return Err(format!("iteration {number} comes before its turn"));
        };
        iteration.take(position, event)?;
        if let (StepKind::ForEach(spec), IterationOutcome::Failed(_)) = (&self.graph.steps[index].kind, &iteration.outcome)
            && spec.error_policy == ForEachErrorPolicy::Pause
        {
            iteration.outcome = IterationOutcome::Halted;
        }
        looped.close_settled(number);
        Ok(())
    }
}

impl Iteration {
    fn take(&mut self, position: usize, event: &Event) -> Result<(), String> {
        let before = self.inner[position].attempts_before();
        let inner = match &event.kind {
            EventKind::StepStarted { attempt, .. } => {
                Inner::Executing { attempt: *attempt, before, started_at: event.at }
            }
            EventKind::StepRetrying { attempt, due, .. } => Inner::BackingOff { attempt: *attempt, before, due: *due },
            EventKind::StepCompleted { result, .. } => Inner::Completed(Payload::new(result.clone())),
            EventKind::StepSkipped { .. } => Inner::Skipped,
            EventKind::StepFailed { recovered: Some(result), .. } => Inner::Completed(Payload::new(result.clone())),
            EventKind::StepFailed { attempt, error, .. } => {
                self.outcome = IterationOutcome::Failed(error.clone());
                Inner::Failed { attempt: *attempt }
            }
            EventKind::StepCancelled { attempt, .. } => Inner::Waiting { attempts: *attempt },
            EventKind::HumanTaskCreated { task, .. } => {
                if let IterationOutcome::Failed(error) = &self.outcome {
                    self.outcome = IterationOutcome::InReview(error.clone(), *task);
                }
                return Ok(());
            }
            EventKind::HumanTaskCompleted { approved, result, .. } => return self.review(position, *approved, result),
            _ => return Err("it is not about a body step".into()),
        };
        self.inner[position] = inner;
        let through = self.inner.iter().all(Inner::is_settled);
        if through {
            self.outcome = IterationOutcome::Done;
        }
        Ok(())
    }

    /// A person's answer to a failed item: fields given stand in for the failed body step's output; otherwise the loop goes
    /// on without the item.
    fn review(&mut self, position: usize, approved: bool, result: &Json) -> Result<(), String> {
        let IterationOutcome::InReview(error, _) = &self.outcome else {
            return Err("the iteration is not in review".into());
        };
        let replaced = approved && result.as_str() != "{}";
        self.outcome = match replaced {
            true => IterationOutcome::Open,
            false => IterationOutcome::Failed(error.clone()),
        };
        if replaced {
            self.inner[position] = Inner::Completed(Payload::new(result.clone()));
            if self.inner.iter().all(Inner::is_settled) {
                self.outcome = IterationOutcome::Done;
            }
        }
        Ok(())
    }
}

impl Inner {
    fn attempts_before(&self) -> u32 {
        match self {
            Self::Waiting { attempts } => *attempts,
            Self::Executing { before, .. } | Self::BackingOff { before, .. } => *before,
            Self::Completed(_) | Self::Skipped | Self::Failed { .. } => 0,
        }
    }
}

impl Loop {
    /// Iterations whose outcome asks for it run again from the body step that failed.
    fn reopen(&mut self, wanted: impl Fn(&IterationOutcome) -> bool) {
        for (number, iteration) in (0u32..).zip(&mut self.iterations) {
            if !wanted(&iteration.outcome) {
                continue;
            }
            iteration.outcome = IterationOutcome::Open;
            for inner in &mut iteration.inner {
                match inner {
                    Inner::Failed { attempt } | Inner::Executing { attempt, .. } | Inner::BackingOff { attempt, .. } => {
                        *inner = Inner::Waiting { attempts: *attempt };
                    }
                    Inner::Waiting { .. } | Inner::Completed(_) | Inner::Skipped => {}
                }
            }
            if !self.open.contains(&number) {
                self.open.push(number);
            }
        }
        self.open.sort_unstable();
    }

    /// Keeps `open` to the iterations that are not settled.
    fn close_settled(&mut self, number: u32) {
        let open = self.iterations.get(number as usize).is_some_and(|iteration| match iteration.outcome {
            IterationOutcome::Open | IterationOutcome::InReview(..) | IterationOutcome::Halted => true,
            IterationOutcome::Done | IterationOutcome::Failed(_) => false,
        });
        match (open, self.open.iter().position(|&other| other == number)) {
            (false, Some(at)) => {
                self.open.remove(at);
            }
            (true, None) => self.open.push(number),
            _ => {}
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
pub(super) fn too_many_events(limit: u64) -> StepError {
    StepError::new(
        ErrorCode::RunStalledOrTimedOut,
        format!("the run reached its limit of {limit} events; split the work into child runs with workflow_call"),
    )
}
