//! A run's events as a picture of its steps: where each stands, when it worked, how far a loop is.
//!
//! Owns nothing but the picture: what the events mean is told by [`RunState`], to which this adds the times.

use super::OperationError;
use agentruntime_engine::{
    graph::{Graph, Step, StepIndex, StepKind},
    run::{
        Inner, IterationOutcome, Phase, RunState,
        event::{Event, EventKind, SkipReason, StepPath},
    },
};
use agentruntime_host_api::{Json, RunId, StepError, TaskId, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// A run so far.
pub(crate) struct Timeline {
    /// The run as its events tell it.
    pub(crate) state: RunState,
    /// One for each step of the graph.
    pub(crate) times: Vec<StepTimes>,
    /// The questions that are open, and which step asks each.
    pub(crate) tasks: BTreeMap<TaskId, StepPath>,
    /// When the last event was decided.
    pub(crate) last_at: Timestamp,
}

/// When a step worked.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepTimes {
    /// Each attempt, the last one perhaps still under way.
    pub(crate) spans: Vec<Span>,
    /// How long the last attempt computed, in microseconds, where that was measured.
    pub(crate) duration_us: Option<u64>,
    /// The run that its result was taken over from.
    pub(crate) reused_from: Option<RunId>,
    /// Why the last attempt failed, where another followed.
    pub(crate) retried: Option<StepError>,
    /// How far its loop came, once that is over.
    pub(crate) looped: Option<Progress>,
}

/// A stretch of time in which a step was under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// From.
    pub(crate) from: Timestamp,
    /// To; nothing while it lasts.
    pub(crate) to: Option<Timestamp>,
}

/// How far a loop is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Iterations that are settled.
    pub(crate) done: usize,
    /// Iterations in all; of a `while` the most there can be.
    pub(crate) total: usize,
    /// Iterations that failed.
    pub(crate) failed: usize,
    /// Whether it may end earlier.
    pub(crate) is_open_ended: bool,
}

/// What a step is doing, in one word of its own for each case that people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its turn has not come.
    Waiting,
    /// Under way.
    Running,
    /// Tried again at that time.
    Retrying(Timestamp),
    /// A person is asked.
    Asking,
    /// A child run is under way.
    Calling(RunId),
    /// Goes on at that time.
    Sleeping(Timestamp),
    /// Ended well.
    Completed,
    /// A person said no.
    Rejected,
    /// Did not run.
    Skipped(SkipReason),
    /// Failed, and the run goes on with something else.
    Recovered,
    /// Failed for good.
    Failed,
    /// Stopped with the run.
    Cancelled,
}

impl Timeline {
    /// The picture after the first event.
    pub(crate) fn begin(run: RunId, graph: Arc<Graph>, first: &Event) -> Result<Self, OperationError> {
        let state = RunState::replayed(run, graph, std::slice::from_ref(first))
            .map_err(|error| OperationError::Unreadable { run, reason: error.to_string() })?;
        let times = vec![StepTimes::default(); state.steps.len()];
        Ok(Self { state, times, tasks: BTreeMap::new(), last_at: first.at })
    }

    /// Takes the next event in.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<(), OperationError> {
        let run = self.state.run;
        self.state.apply(event).map_err(|error| OperationError::Unreadable { run, reason: error.to_string() })?;
        self.last_at = event.at;
        match &event.kind {
            EventKind::HumanTaskCreated { path, task, .. } => drop(self.tasks.insert(*task, path.clone())),
            EventKind::HumanTaskCompleted { task, .. } => drop(self.tasks.remove(task)),
            // What an attempt asked people about comes to nothing when it ends.
            EventKind::StepCompleted { path, .. }
            | EventKind::StepFailed { path, .. }
            | EventKind::StepRetrying { path, .. }
            | EventKind::StepCancelled { path, .. } => self.tasks.retain(|_, asking| asking != path),
            kind if kind.ends_run() => self.close_all(event.at),
            _ => {}
        }
        let top = event.kind.path().filter(|path| path.body.is_none()).and_then(|path| self.index(path));
        if let Some(index) = top {
            self.note(index, event);
        }
        Ok(())
    }

    /// The steps in the order in which they can run.
    pub(crate) fn order(&self) -> impl Iterator<Item = (StepIndex, &Step)> {
        let graph = &self.state.graph;
        graph.topological_order.iter().map(|&index| (index, &graph.steps[index]))
    }

    /// Whether an attempt of a step is under way; of a step in a loop, whether the loop is.
    pub(crate) fn is_under_way(&self, path: &StepPath, attempt: u32) -> bool {
        let is_current = |index: StepIndex| path.body.is_some() || self.state.steps[index].attempt == attempt;
        self.index(path).is_some_and(|index| self.standing(index) == Standing::Running && is_current(index))
    }

    /// What a step is doing.
    pub(crate) fn standing(&self, index: StepIndex) -> Standing {
        match &self.state.steps[index].phase {
            Phase::Waiting => Standing::Waiting,
            Phase::Executing if self.tasks.values().any(|path| self.index(path) == Some(index)) => Standing::Asking,
            Phase::Executing => Standing::Running,
            Phase::BackingOff(due) => Standing::Retrying(*due),
            Phase::AwaitingTask(_) => Standing::Asking,
            Phase::AwaitingChild(child) => Standing::Calling(*child),
            Phase::Sleeping(due) => Standing::Sleeping(*due),
            Phase::Looping(_) if self.tasks.values().any(|path| self.index(path) == Some(index)) => Standing::Asking,
            Phase::Looping(_) => Standing::Running,
            Phase::Completed { rejected: true, .. } => Standing::Rejected,
            Phase::Completed { rejected: false, .. } => Standing::Completed,
            Phase::Skipped(reason) => Standing::Skipped(*reason),
            Phase::Failed { recovered: Some(_), .. } => Standing::Recovered,
            Phase::Failed { recovered: None, .. } => Standing::Failed,
            Phase::Cancelled => Standing::Cancelled,
        }
    }

    /// Why a step failed.
    pub(crate) fn error(&self, index: StepIndex) -> Option<&StepError> {
        match &self.state.steps[index].phase {
            Phase::Failed { error, .. } => Some(error),
            _ => self.times[index].retried.as_ref(),
        }
    }

    /// Why a person said no, where they told.
    pub(crate) fn rejection(&self, index: StepIndex) -> Option<String> {
        match &self.state.steps[index].phase {
            Phase::Completed { result, rejected: true } => reason(result.value()),
            _ => None,
        }
    }

    /// How far a step's loop is, where it has one.
    pub(crate) fn progress(&self, index: StepIndex) -> Option<Progress> {
        let Phase::Looping(looped) = &self.state.steps[index].phase else { return self.times[index].looped };
        let (total, is_open_ended) = match &self.state.graph.steps[index].kind {
            StepKind::While(spec) => (spec.max_iterations as usize, true),
            _ => (looped.items.len(), false),
        };
        let failed = looped.iterations.iter().filter(|it| matches!(it.outcome, IterationOutcome::Failed(_))).count();
        Some(Progress { done: looped.iterations.len() - looped.open.len(), total, failed, is_open_ended })
    }

    /// How long a step was under way in all, by the clock; so far, where it still is.
    pub(crate) fn elapsed_us(&self, index: StepIndex, now: Timestamp) -> Option<u64> {
        let spans = &self.times[index].spans;
        let sum = |spans: &[Span]| -> u64 { spans.iter().map(|span| micros(span.from, span.to.unwrap_or(now))).sum() };
        match spans.as_slice() {
            [] => None,
            [Span { to: Some(_), .. }] => self.times[index].duration_us.or_else(|| Some(sum(spans))),
            spans => Some(sum(spans)),
        }
    }

    /// Whether something happens without anybody doing anything: a timer is due, a child is under way, a step computes.
    pub(crate) fn goes_on_by_itself(&self) -> bool {
        let has_timer = |phase: &Phase| match phase {
            Phase::BackingOff(_) | Phase::Sleeping(_) => true,
            Phase::Looping(looped) => looped.open.iter().any(|&open| {
                let inner = &looped.iterations[open as usize].inner;
                inner.iter().any(|inner| matches!(inner, Inner::BackingOff { .. }))
            }),
            _ => false,
        };
        !self.state.executing().is_empty() || self.state.steps.iter().any(|step| has_timer(&step.phase))
    }

    /// The child runs that are under way.
    pub(crate) fn children(&self) -> Vec<RunId> {
        let child = |phase: &Phase| match phase {
            Phase::AwaitingChild(child) => Some(*child),
            _ => None,
        };
        self.state.steps.iter().filter_map(|step| child(&step.phase)).collect()
    }

    fn index(&self, path: &StepPath) -> Option<StepIndex> {
        self.state.graph.step(&path.step)
    }

    fn note(&mut self, index: StepIndex, event: &Event) {
        let is_loop = matches!(self.state.graph.steps[index].kind, StepKind::ForEach(_) | StepKind::While(_));
        let times = &mut self.times[index];
        match &event.kind {
            EventKind::StepStarted { .. } => times.spans.push(Span { from: event.at, to: None }),
            EventKind::StepCompleted { result, duration_us, reused_from, .. } => {
                times.end(event.at, Some(*duration_us));
                times.reused_from = *reused_from;
                times.retried = None;
                times.looped = if is_loop { Progress::of_result(result) } else { None };
            }
            EventKind::StepFailed { duration_us, .. } => times.end(event.at, Some(*duration_us)),
            EventKind::StepRetrying { error, .. } => {
                times.end(event.at, None);
                times.retried = Some(error.clone());
            }
            EventKind::StepCancelled { .. } => times.end(event.at, None),
            _ => {}
        }
        if !self.state.steps[index].phase.is_in_flight() {
            self.times[index].close(event.at);
            let step = &self.state.graph.steps[index].id;
            self.tasks.retain(|_, path| path.step != *step);
        }
    }

    fn close_all(&mut self, at: Timestamp) {
        self.tasks.clear();
        self.times.iter_mut().for_each(|times| times.close(at));
    }
}

/// The field of an answer that by custom says why: a text with something in it.
pub(crate) fn reason(answer: &Value) -> Option<String> {
    answer["reason"].as_str().map(str::trim).filter(|reason| !reason.is_empty()).map(str::to_owned)
}

impl StepTimes {
    fn end(&mut self, at: Timestamp, duration_us: Option<u64>) {
        self.duration_us = duration_us;
        self.close(at);
    }

    fn close(&mut self, at: Timestamp) {
        if let Some(open) = self.spans.last_mut().filter(|span| span.to.is_none()) {
            open.to = Some(at);
        }
    }
}

impl Progress {
    /// The counts that a composite's result tells.
    fn of_result(result: &Json) -> Option<Self> {
        #[derive(Deserialize)]
        struct Counts {
            count: Option<usize>,
            failed_count: Option<usize>,
            iteration_count: Option<usize>,
            max_iterations: Option<usize>,
        }
        let counts: Counts = result.read().ok()?;
        let done = counts.count.or(counts.iteration_count)?;
        let failed = counts.failed_count.unwrap_or_default();
        let is_open_ended = counts.count.is_none();
        Some(Self { done, total: counts.count.or(counts.max_iterations)?, failed, is_open_ended })
    }
}

/// What authors call a step's type.
pub(crate) fn type_of(step: &Step) -> &'static str {
    use agentruntime_engine::graph::Leaf;
    match &step.kind {
        StepKind::Leaf(Leaf::Lua(_)) => "lua_script",
        StepKind::Leaf(Leaf::Mcp(_)) => "mcp_call",
        StepKind::Leaf(Leaf::Llm(_)) => "llm_call",
        StepKind::Leaf(Leaf::Agent(_)) => "agent_call",
        StepKind::ForEach(_) => "for_each",
        StepKind::While(_) => "while",
        StepKind::HumanTask(_) => "human_task",
        StepKind::WorkflowCall(_) => "workflow_call",
        StepKind::Sleep(_) => "sleep",
    }
}

fn micros(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.since(from).as_micros()).unwrap_or(u64::MAX)
}
