//! How work in flight is let go, and how a run ends before all its steps are through.

use super::{
    decide::{Effect, Machine},
    event::{EventKind, SkipReason, StepPath},
    signal::TaskStatus,
    state::{Inner, IterationOutcome, Phase},
};
use crate::graph::StepIndex;
use agentruntime_host_api::StepError;

impl Machine<'_> {
    /// Ends everything that a step has under way outside the state.
    pub(super) fn let_go(&mut self, index: StepIndex, task_status: TaskStatus) {
        match &self.state.steps[index].phase {
            Phase::Executing => {
                let path = self.state.path(index);
                self.effect(Effect::Abort(path));
            }
            Phase::AwaitingTask(task) => {
                let task = *task;
                self.effect(Effect::CloseTask(task, task_status));
            }
            Phase::AwaitingChild(run) => {
                let run = *run;
                self.effect(Effect::StopChild { run, graceful: false });
            }
            Phase::Looping(_) => self.let_go_body(index),
            Phase::Waiting
            | Phase::BackingOff(_)
            | Phase::Sleeping(_)
            | Phase::Completed { .. }
            | Phase::Skipped(_)
            | Phase::Failed { .. }
            | Phase::Cancelled => {}
        }
    }

    fn let_go_body(&mut self, index: StepIndex) {
        let Phase::Looping(looped) = &self.state.steps[index].phase else { return };
        let mut cancelled = Vec::new();
        let mut tasks = Vec::new();
        for &number in &looped.open {
            let iteration = &looped.iterations[number as usize];
            if let IterationOutcome::InReview(_, task) = iteration.outcome {
                tasks.push(task);
            }
            for (position, inner) in iteration.inner.iter().enumerate() {
                if let Inner::Executing { attempt, .. } = inner {
                    cancelled.push((self.state.inner_path(index, number, position), *attempt));
                }
            }
        }
        for (path, attempt) in cancelled {
            self.effect(Effect::Abort(path.clone()));
            self.emit(EventKind::StepCancelled { path, attempt });
        }
        for task in tasks {
            self.effect(Effect::CloseTask(task, TaskStatus::Cancelled));
        }
    }

    fn cancel_in_flight(&mut self) {
        for index in 0..self.state.steps.len() {
            if self.state.steps[index].phase.is_in_flight() {
                self.let_go(index, TaskStatus::Cancelled);
                let (path, attempt) = (self.state.path(index), self.state.steps[index].attempt);
                self.emit(EventKind::StepCancelled { path, attempt });
            }
        }
    }

    pub(super) fn fail_run(&mut self, path: Option<StepPath>, error: StepError) {
        self.cancel_in_flight();
        for index in 0..self.state.steps.len() {
            if matches!(self.state.steps[index].phase, Phase::Waiting) {
                let path = self.state.path(index);
                self.emit(EventKind::StepSkipped { path, reason: SkipReason::Blocked });
            }
        }
        self.emit(EventKind::RunFailed { path, error });
    }

    pub(super) fn stop_run(&mut self, error: StepError) {
        self.cancel_in_flight();
        self.emit(EventKind::RunStopped { error });
    }
}
