//! Composites: the turns of a `for_each` and a `while`.

use super::{
    apply::{ITEM_FAILED, task_id},
    body::{Site, Slot},
    decide::{Effect, Machine, micros},
    event::{EventKind, RunStatus, SkipReason, StepPath},
    lookup::View,
    start::{Asked, applies, leaf_inputs},
    state::{Executing, Inner, Iteration, IterationOutcome, Loop, Phase, RunState},
    tally::{self, StoppedReason},
};
use crate::graph::{ForEach, ForEachErrorPolicy, StepIndex, StepKind, While, WhileMode, WhileTest};
use agentruntime_host_api::{ErrorCode, Json, StepError, TaskId};
use serde_json::{Value, json};
use std::time::Duration;

/// The most that the collected result of a composite may take: it is one entry of the journal.
pub const COMPOSITE_RESULT_BYTES_MAX: usize = 16 << 20;

/// The task type of the question about a failed item.
const REVIEW: &str = "for_each_item_review";

impl Machine<'_> {
    /// Begins what a composite can begin, and completes it when it is through.
    pub(super) fn advance_loop(&mut self, index: StepIndex) {
        let graph = self.state.graph.clone();
        match &graph.steps[index].kind {
            StepKind::ForEach(spec) => self.advance_for_each(index, spec),
            StepKind::While(spec) => self.advance_while(index, spec),
            StepKind::Leaf(_) | StepKind::HumanTask(_) | StepKind::WorkflowCall(_) | StepKind::Sleep(_) => {}
        }
    }

    fn looped(&self, index: StepIndex) -> Option<&Loop> {
        match &self.state.steps[index].phase {
            Phase::Looping(looped) if self.state.status == RunStatus::Running && !self.is_over() => Some(looped),
            _ => None,
        }
    }

    fn advance_for_each(&mut self, index: StepIndex, spec: &ForEach) {
        let open = self.looped(index).map(|looped| looped.open.clone()).unwrap_or_default();
        for number in open {
            if self.is_spent() {
                return;
            }
            self.advance_iteration(index, number);
        }
        while !self.is_spent()
            && let Some(looped) = self.looped(index)
        {
            let number = looped.iterations.len();
            if number == looped.items.len() {
                if looped.open.is_empty() {
                    let result = tally::for_each(looped, spec);
                    self.complete(index, result);
                }
                return;
            }
            if looped.open.len() >= spec.max_parallel {
                return;
            }
            // Items are bounded by the size of a result, far below 2^32.
            self.advance_iteration(index, number as u32);
        }
    }

    fn advance_while(&mut self, index: StepIndex, spec: &While) {
        while !self.is_spent()
            && let Some(looped) = self.looped(index)
        {
            let Some(last) = looped.iterations.len().checked_sub(1) else {
                self.advance_iteration(index, 0);
                continue;
            };
            let number = last as u32;
            match &looped.iterations[last].outcome {
                IterationOutcome::Open => {
                    if !self.advance_iteration(index, number) {
                        return;
                    }
                }
                IterationOutcome::Done => {
                    let stopped = self.stopped(index, spec, number);
                    self.spend();
                    match (stopped, self.looped(index)) {
                        (Some(reason), Some(looped)) => {
                            let result = tally::while_loop(looped, spec, reason);
                            return self.complete(index, result);
                        }
                        (Some(_), None) => return,
                        (None, _) => {
                            self.advance_iteration(index, number + 1);
                        }
                    }
                }
                IterationOutcome::Failed(_) | IterationOutcome::InReview(..) | IterationOutcome::Halted => return,
            }
        }
    }

    fn stopped(&self, index: StepIndex, spec: &While, number: u32) -> Option<StoppedReason> {
        let holds = match &spec.test {
            WhileTest::Condition(condition) => condition.holds(&View::iteration(self.state, index, number)),
            WhileTest::Script(_) => {
                let looped = self.looped(index)?;
                let answer = looped.iterations.get(number as usize)?.output(spec.body.len())?;
                tally::verdict(answer.value()).is_some_and(crate::graph::is_truthy)
            }
        };
        let met = match spec.mode {
            WhileMode::Until => holds,
            WhileMode::While => !holds,
        };
        match met {
            true => Some(StoppedReason::ConditionMet),
            false => (number + 1 >= spec.max_iterations).then_some(StoppedReason::MaxIterations),
        }
    }

    /// Begins the next body step of an iteration; says whether anything happened.
    fn advance_iteration(&mut self, index: StepIndex, number: u32) -> bool {
        let graph = self.state.graph.clone();
        let kind = &graph.steps[index].kind;
        let mut moved = false;
        // The first is done in any case: a decision that was left in the middle gets on.
        while !(moved && self.is_spent())
            && let Some((position, attempts)) = self.next_inner(index, number, kind.slots())
        {
            self.spend();
            let Some(slot) = kind.slot(position) else { return moved };
            moved = true;
            let path = self.state.inner_path(index, number, position);
            let prepared = prepare_inner(&slot, &View::iteration(self.state, index, number));
            match prepared {
                Err(reason) => self.emit(EventKind::StepSkipped { path, reason }),
                Ok(inputs) => {
                    let site = Site::Inner { step: index, iteration: number, position };
                    self.start_inner(site, path, attempts + 1, inputs);
                }
            }
        }
        moved
    }

    fn start_inner(&mut self, site: Site, path: StepPath, attempt: u32, inputs: Result<Option<Json>, StepError>) {
        match inputs {
            Ok(inputs) => {
                self.emit(EventKind::StepStarted { path: path.clone(), attempt, inputs });
                self.effect(Effect::Execute(Executing { path, attempt }));
            }
            Err(error) => {
                self.emit(EventKind::StepStarted { path, attempt, inputs: None });
                self.fail(site, attempt, error, Duration::ZERO);
            }
        }
    }

    /// The body step whose turn it is, and the attempts it has behind it.
    fn next_inner(&self, index: StepIndex, number: u32, slots: usize) -> Option<(usize, u32)> {
        let looped = self.looped(index)?;
        let Some(iteration) = looped.iterations.get(number as usize) else {
            return (slots > 0).then_some((0, 0));
        };
        if !matches!(iteration.outcome, IterationOutcome::Open) {
            return None;
        }
        for (position, inner) in iteration.inner.iter().enumerate() {
            match inner {
                Inner::Waiting { attempts } => return Some((position, *attempts)),
                Inner::BackingOff { attempt, due, .. } if *due <= self.now => return Some((position, *attempt)),
                Inner::BackingOff { .. } | Inner::Executing { .. } | Inner::Failed { .. } => return None,
                Inner::Completed(_) | Inner::Skipped => {}
            }
        }
        None
    }

    fn complete(&mut self, index: StepIndex, result: Json) {
        let (path, step) = (self.state.path(index), &self.state.steps[index]);
        let (attempt, duration) = (step.attempt, self.now.since(step.started_at));
        if result.as_str().len() > COMPOSITE_RESULT_BYTES_MAX {
            let message = format!(
                "the collected results of `{path}` take {} bytes, more than the {COMPOSITE_RESULT_BYTES_MAX} allowed; return less from its body steps",
                result.as_str().len()
            );
            let error = StepError::new(ErrorCode::SandboxOutputLimit, message);
            return self.fail(Site::Top(index), attempt, error, duration);
        }
        let duration_us = micros(duration);
        self.emit(EventKind::StepCompleted { path, attempt, result, duration_us, fuel: None, reused_from: None });
    }

    /// A body step failed for good: what that means for its composite.
    pub(super) fn item_failed(&mut self, index: StepIndex, number: u32, path: StepPath, error: StepError) {
        let graph = self.state.graph.clone();
        let policy = match &graph.steps[index].kind {
            StepKind::ForEach(spec) => spec.error_policy,
            _ => ForEachErrorPolicy::FailFast,
        };
        match policy {
            ForEachErrorPolicy::FailFast => self.fail_composite(index, &path, error),
            ForEachErrorPolicy::ContinueOnError => {}
            ForEachErrorPolicy::Pause if self.state.status == RunStatus::Running => {
                self.change(RunStatus::Paused, ITEM_FAILED);
            }
            ForEachErrorPolicy::Pause => {}
            ForEachErrorPolicy::HumanReview => self.ask_about(index, number, path, error),
        }
    }

    fn ask_about(&mut self, index: StepIndex, number: u32, path: StepPath, error: StepError) {
        let item = View::iteration(self.state, index, number).item().cloned().unwrap_or(Value::Null);
        let payload = json!({ "step_id": path.step, "index": number, "item": item, "error": error });
        let attempt = self.state.failed_attempt(index, number);
        let task = task_id(self.state.run, &path, attempt);
        let (task_type, payload) = (REVIEW.into(), payload.into());
        self.open_task(Asked { task, path, task_type, payload, due: None, request: None });
    }

    pub(super) fn fail_composite(&mut self, index: StepIndex, path: &StepPath, error: StepError) {
        self.let_go(index, super::signal::TaskStatus::Cancelled);
        let step = &self.state.steps[index];
        let (attempt, duration) = (step.attempt, self.now.since(step.started_at));
        let failed = StepError { message: format!("{path}: {}", error.message), ..error };
        self.fail(Site::Top(index), attempt, failed, duration);
    }
}

/// The resolved configuration of a body step, or why it is skipped.
fn prepare_inner(slot: &Slot<'_>, view: &View<'_>) -> Result<Result<Option<Json>, StepError>, SkipReason> {
    match slot {
        Slot::Eval(_) => Ok(Ok(None)),
        Slot::Step(body) if !body.enabled => Err(SkipReason::StepDisabled),
        Slot::Step(body) if !applies(body.condition.as_ref(), body.skip_when.as_ref(), view) => {
            Err(SkipReason::ConditionFalse)
        }
        Slot::Step(body) => Ok(leaf_inputs(&body.leaf, view)),
    }
}

impl RunState {
    pub(super) fn path_of(&self, site: Site) -> StepPath {
        match site {
            Site::Top(step) => self.path(step),
            Site::Inner { step, iteration, position } => self.inner_path(step, iteration, position),
        }
    }

    fn inner(&self, site: Site) -> Option<&Inner> {
        let Site::Inner { step, iteration, position } = site else { return None };
        match &self.steps[step].phase {
            Phase::Looping(looped) => looped.iterations.get(iteration as usize)?.inner.get(position),
            _ => None,
        }
    }

    /// The attempt that is being executed at a place, if one is.
    pub(super) fn attempt_under_way(&self, site: Site) -> Option<u32> {
        match site {
            Site::Top(step) => {
                let step = &self.steps[step];
                matches!(step.phase, Phase::Executing).then_some(step.attempt)
            }
            Site::Inner { .. } => match self.inner(site)? {
                Inner::Executing { attempt, .. } => Some(*attempt),
                _ => None,
            },
        }
    }

    /// When the attempt at a place began.
    pub(super) fn attempt_started(&self, site: Site) -> Option<agentruntime_host_api::Timestamp> {
        match site {
            Site::Top(step) => Some(self.steps[step].started_at),
            Site::Inner { .. } => match self.inner(site)? {
                Inner::Executing { started_at, .. } => Some(*started_at),
                _ => None,
            },
        }
    }

    /// The attempts at a place that its retry policy does not count.
    pub(super) fn attempts_before(&self, site: Site) -> u32 {
        match site {
            Site::Top(step) => self.steps[step].attempts_before,
            Site::Inner { .. } => match self.inner(site) {
                Some(Inner::Executing { before, .. } | Inner::BackingOff { before, .. }) => *before,
                _ => 0,
            },
        }
    }

    fn failed_attempt(&self, index: StepIndex, number: u32) -> u32 {
        let Phase::Looping(looped) = &self.steps[index].phase else { return 0 };
        let inner = looped.iterations.get(number as usize).map(|iteration| iteration.inner.as_slice());
        let failed = inner.unwrap_or_default().iter().filter_map(|inner| match inner {
            Inner::Failed { attempt } => Some(*attempt),
            _ => None,
        });
        failed.max().unwrap_or(0)
    }

    /// The failed body step that a question is about.
    pub(super) fn in_review(&self, task: TaskId) -> Option<(Site, StepError)> {
        self.steps.iter().enumerate().find_map(|(step, state)| {
            let Phase::Looping(looped) = &state.phase else { return None };
            looped.open.iter().find_map(|&iteration| {
                let turn = &looped.iterations[iteration as usize];
                let IterationOutcome::InReview(error, open) = &turn.outcome else { return None };
                let position = turn.failed_position()?;
                (*open == task).then(|| (Site::Inner { step, iteration, position }, error.clone()))
            })
        })
    }
}

impl Iteration {
    fn failed_position(&self) -> Option<usize> {
        self.inner.iter().position(|inner| matches!(inner, Inner::Failed { .. }))
    }
}
