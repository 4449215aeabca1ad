//! The state of a run: what its events add up to. Changed by [`apply`](super::apply) alone.

use super::{
    Awaiting,
    event::{RunStatus, SkipReason, Start, StepPath},
    payload::Payload,
    requests::Requests,
};
use crate::graph::{Graph, Issue, StepIndex};
use agentruntime_host_api::{Json, RunId, StepError, TaskId, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

/// A run as its journal tells it.
#[derive(Debug)]
pub struct RunState {
    /// The run.
    pub run: RunId,
    /// The published graph with the start's overrides.
    pub graph: Arc<Graph>,
    /// How it was started.
    pub start: Start,
    /// The start payload with the defaults of the input schema.
    pub input: Payload,
    /// Whether the start payload fits the input schema.
    pub admission: Admission,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// The number of its last event.
    pub seq: u64,
    /// What its input, results and questions take, in bytes of JSON.
    pub bytes: usize,
    /// Where it stands.
    pub status: RunStatus,
    /// One for each step of the graph.
    pub steps: Vec<StepState>,
    /// The failure that ends the run once parallel branches are through.
    pub failure: Option<(StepPath, StepError)>,
    /// How a finished run ended.
    pub end: Option<Result<Json, StepError>>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When a graceful stop becomes an immediate one.
    pub drain_due: Option<Timestamp>,
    /// Which steps the start left out.
    pub out_of_scope: Vec<bool>,
    pub(super) run_json: Json,
    pub(super) requests: Requests,
}

/// Whether a start payload fits the input schema. It is checked once: what came of it is in the journal.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// Nobody has checked.
    Unchecked,
    /// It fits.
    Fits,
    /// It does not; why is forgotten once it is recorded.
    Refused(Vec<Issue>),
}

/// Where a top-level step stands.
#[derive(Debug)]
pub struct StepState {
    /// What it is doing.
    pub phase: Phase,
    /// The last attempt that began; 0 before the first.
    pub attempt: u32,
    /// The attempts that were used up before the last `retry` of the run.
    pub attempts_before: u32,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// When a step without a sandbox runs out of time.
    pub deadline: Option<Timestamp>,
    /// Its resolved configuration.
    pub inputs: Option<Payload>,
    /// The progress of a composite that failed, for the next attempt.
    pub kept: Option<Box<Loop>>,
}

/// What a top-level step is doing.
#[derive(Debug)]
pub enum Phase {
    /// Its dependencies are not settled, or the run starts nothing new.
    Waiting,
    /// An execution is under way, or is begun again after a crash.
    Executing,
    /// The next attempt begins at this time.
    BackingOff(Timestamp),
    /// A person is asked.
    AwaitingTask(TaskId),
    /// A child run is under way.
    AwaitingChild(RunId),
    /// It goes on at this time.
    Sleeping(Timestamp),
    /// Its body runs.
    Looping(Box<Loop>),
    /// It ended well.
    Completed {
        /// Its output.
        result: Payload,
        /// Whether it is a task that a person rejected.
        rejected: bool,
    },
    /// It does not run.
    Skipped(SkipReason),
    /// It failed for good; `recovered` is what dependents go on with, where they may.
    Failed {
        /// Why.
        error: StepError,
        /// What its `on_error` gives instead.
        recovered: Option<Payload>,
    },
    /// The run ended while it was in flight.
    Cancelled,
}

/// The progress of a composite.
#[derive(Debug, Default)]
pub struct Loop {
    /// The items of a `for_each`.
    pub items: Vec<Value>,
    /// Iterations that began.
    pub iterations: Vec<Iteration>,
    /// Those of them that are not settled.
    pub open: Vec<u32>,
}

/// One turn of a composite's body.
#[derive(Debug)]
pub struct Iteration {
    /// One for each body step; a `while` with a script has one more at the end.
    pub inner: Vec<Inner>,
    /// How it stands as a whole.
    pub outcome: IterationOutcome,
}

/// How an iteration stands.
#[derive(Debug)]
pub enum IterationOutcome {
    /// Under way.
    Open,
    /// Through.
    Done,
    /// Failed; its `for_each` goes on without it.
    Failed(StepError),
    /// Failed; a person decides.
    InReview(StepError, TaskId),
    /// Failed; tried again when the run is resumed.
    Halted,
}

/// Where a body step stands.
#[derive(Debug)]
pub enum Inner {
    /// Its turn has not come.
    Waiting {
        /// The attempts made before.
        attempts: u32,
    },
    /// An execution is under way.
    Executing {
        /// From 1.
        attempt: u32,
        /// The attempts that do not count against its retry policy.
        before: u32,
        /// When it began.
        started_at: Timestamp,
    },
    /// The next attempt begins later.
    BackingOff {
        /// The attempt that failed.
        attempt: u32,
        /// The attempts that do not count.
        before: u32,
        /// When the next begins.
        due: Timestamp,
    },
    /// It ended, well or recovered.
    Completed(Payload),
    /// It did not run.
    Skipped,
    /// It failed for good.
    Failed {
        /// The last attempt.
        attempt: u32,
    },
}

/// What a node has to have under way for a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Executing {
    /// Which step.
    pub path: StepPath,
    /// Which attempt.
    pub attempt: u32,
}

impl RunState {
    /// The state after `run_started`. Whether the payload fits is [checked](Self::check_input) by whoever begins the run.
    ///
    /// # Errors
    /// The start's `trigger_steps` make the graph invalid: nobody checked the start before it was recorded.
    pub fn started(run: RunId, graph: Arc<Graph>, start: Start, at: Timestamp) -> Result<Self, Vec<Issue>> {
        let graph = match start.trigger_steps.is_empty() {
            true => graph,
            false => Arc::new(graph.with_overrides(&start.trigger_steps)?),
        };
        let bytes = start.input.as_str().len();
        let input = filled(&graph, &start.input);
        let steps = graph.steps.iter().map(|_| StepState::new(at)).collect();
        let out_of_scope = out_of_scope(&graph, &start);
        let run_json = json!({
            "run_id": run,
            "started_at": at.to_string(),
            "trigger_type": start.trigger_type,
            "external_user_id": start.external_user_id,
            "user_id": start.user_id,
            "due_at": start.due_at.map(|due| due.to_string()),
        });
        Ok(Self {
            run,
            graph,
            start,
            input: Payload::new(input),
            admission: Admission::Unchecked,
            started_at: at,
            seq: 1,
            bytes,
            status: RunStatus::Running,
            steps,
            failure: None,
            end: None,
            finished_at: None,
            drain_due: None,
            out_of_scope,
            run_json: run_json.into(),
            requests: Requests::default(),
        })
    }

    /// Checks the start payload, where nobody has.
    pub fn check_input(&mut self) {
        if self.admission != Admission::Unchecked {
            return;
        }
        let issues = self.graph.input_schema.as_ref().map(|schema| schema.check(self.input.value()));
        self.admission = match issues.unwrap_or_default() {
            issues if issues.is_empty() => Admission::Fits,
            issues => Admission::Refused(issues),
        };
    }

    /// Whether the start payload was found not to fit.
    pub fn is_refused(&self) -> bool {
        matches!(self.admission, Admission::Refused(_))
    }

    /// Every execution that is under way: what a node begins after it took the run over. One that waits for people alone is
    /// not.
    pub fn executing(&self) -> Vec<Executing> {
        let mut all = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            match &step.phase {
                Phase::Executing => {
                    all.push(Executing { path: StepPath::top(&self.graph.steps[index].id), attempt: step.attempt });
                }
                Phase::Looping(looped) => self.executing_inside(index, looped, &mut all),
                _ => {}
            }
        }
        all.retain(|executing| !self.waits_for_people(&executing.path));
        all
    }

    fn executing_inside(&self, index: StepIndex, looped: &Loop, all: &mut Vec<Executing>) {
        for &iteration in &looped.open {
            for (position, inner) in looped.iterations[iteration as usize].inner.iter().enumerate() {
                if let Inner::Executing { attempt, .. } = inner {
                    all.push(Executing { path: self.inner_path(index, iteration, position), attempt: *attempt });
                }
            }
        }
    }

    /// The earliest time at which something is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        if self.status.is_final() {
            return None;
        }
        let may_start = self.status == RunStatus::Running;
        let steps = self.steps.iter().filter_map(|step| {
            let own = match &step.phase {
                Phase::Sleeping(due) => Some(*due),
                Phase::BackingOff(due) if may_start => Some(*due),
                Phase::Looping(looped) if may_start => looped.next_due(),
                _ => None,
            };
            let deadline = step.deadline.filter(|_| step.phase.is_in_flight());
            earliest(own, deadline)
        });
        steps.chain(self.drain_due).min()
    }

    /// What a run with nothing to execute waits for.
    pub fn awaiting(&self) -> Option<Awaiting> {
        if self.status == RunStatus::Paused {
            return Some(Awaiting::Resume);
        }
        let phases = || self.steps.iter().map(|step| &step.phase);
        let asks = |phase: &Phase| match phase {
            Phase::AwaitingTask(_) => true,
            Phase::Looping(looped) => looped.is_in_review(),
            _ => false,
        };
        if phases().any(asks) || self.requests.ask() {
            Some(Awaiting::HumanTask)
        } else if phases().any(|phase| matches!(phase, Phase::AwaitingChild(_))) {
            Some(Awaiting::Child)
        } else {
            self.next_due().map(|_| Awaiting::Timer)
        }
    }

    pub(super) fn path(&self, index: StepIndex) -> StepPath {
        StepPath::top(&self.graph.steps[index].id)
    }
}

impl StepState {
    fn new(at: Timestamp) -> Self {
        Self {
            phase: Phase::Waiting,
            attempt: 0,
            attempts_before: 0,
            started_at: at,
            deadline: None,
            inputs: None,
            kept: None,
        }
    }

    /// The output that dependents see.
    pub fn result(&self) -> Option<&Payload> {
        match &self.phase {
            Phase::Completed { result, .. } => Some(result),
            Phase::Failed { recovered, .. } => recovered.as_ref(),
            Phase::Skipped(SkipReason::StepDisabled) => Some(Payload::empty_object()),
            _ => None,
        }
    }
}

impl Phase {
    /// Whether the step began and has not ended.
    pub fn is_in_flight(&self) -> bool {
        match self {
            Self::Executing
            | Self::BackingOff(_)
            | Self::AwaitingTask(_)
            | Self::AwaitingChild(_)
            | Self::Sleeping(_)
            | Self::Looping(_) => true,
            Self::Waiting | Self::Completed { .. } | Self::Skipped(_) | Self::Failed { .. } | Self::Cancelled => false,
        }
    }

    /// Whether dependents need not wait for it any longer.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Completed { .. } | Self::Skipped(_) | Self::Failed { .. })
    }
}

impl Loop {
    pub(super) fn iteration(&mut self, number: u32) -> Option<&mut Iteration> {
        self.iterations.get_mut(number as usize)
    }

    fn is_in_review(&self) -> bool {
        let open = self.open.iter().filter_map(|&iteration| self.iterations.get(iteration as usize));
        open.into_iter().any(|iteration| matches!(iteration.outcome, IterationOutcome::InReview(..)))
    }

    fn next_due(&self) -> Option<Timestamp> {
        let open = self.open.iter().filter_map(|&iteration| self.iterations.get(iteration as usize));
        open.flat_map(|iteration| &iteration.inner)
            .filter_map(|inner| match inner {
                Inner::BackingOff { due, .. } => Some(*due),
                _ => None,
            })
            .min()
    }
}

impl Iteration {
    pub(super) fn new(body_len: usize) -> Self {
        let inner = (0..body_len).map(|_| Inner::Waiting { attempts: 0 }).collect();
        Self { inner, outcome: IterationOutcome::Open }
    }

    /// Whether one of its body steps began and has not ended.
    pub fn is_busy(&self) -> bool {
        self.inner.iter().any(|inner| matches!(inner, Inner::Executing { .. } | Inner::BackingOff { .. }))
    }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

fn filled(graph: &Graph, input: &Json) -> Json {
    match &graph.input_schema {
        Some(schema) if schema.has_defaults() => Json::of_value(&schema.fill(input.to_value())),
        _ => input.clone(),
    }
}

/// Roots that the start leaves out, and what depends only on such steps.
fn out_of_scope(graph: &Graph, start: &Start) -> Vec<bool> {
    let mut out = vec![false; graph.steps.len()];
    for &index in &graph.topological_order {
        let step = &graph.steps[index];
        out[index] = if step.depends_on.is_empty() {
            let named = start.trigger_steps.contains_key(&*step.id);
            let excluded = start.excluded_step_ids.iter().any(|id| **id == *step.id);
            excluded || (step.no_auto_start && !named)
        } else {
            step.depends_on.iter().all(|&dependency| out[dependency])
        };
    }
    out
}
