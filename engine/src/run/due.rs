//! What happens because time went by: sleeps end, steps and questions run out of time.

use super::{
    body::Site,
    decide::{Machine, micros},
    event::EventKind,
    signal::TaskStatus,
    state::Phase,
};
use crate::graph::{StepIndex, StepKind};
use agentruntime_host_api::{ErrorCode, StepError, Timestamp};
use serde_json::json;

impl Machine<'_> {
    pub(super) fn tick(&mut self) {
        if self.state.drain_due.is_some_and(|due| due <= self.now) {
            let message = "what was in flight did not finish in time after the graceful stop";
            return self.stop_run(StepError::new(ErrorCode::DrainTimeout, message));
        }
        for index in 0..self.state.steps.len() {
            let step = &self.state.steps[index];
            if step.deadline.is_some_and(|due| due <= self.now) && step.phase.is_in_flight() {
                self.time_out(index);
            } else if let Phase::Sleeping(due) = step.phase
                && due <= self.now
            {
                self.wake(index, due);
            }
        }
    }

    fn wake(&mut self, index: StepIndex, due: Timestamp) {
        let (path, step) = (self.state.path(index), &self.state.steps[index]);
        let (attempt, slept) = (step.attempt, due.since(step.started_at));
        let result = json!({ "slept_s": slept.as_secs_f64() }).into();
        let duration_us = micros(self.now.since(step.started_at));
        self.emit(EventKind::StepCompleted { path, attempt, result, duration_us, fuel: None, reused_from: None });
    }

    fn time_out(&mut self, index: StepIndex) {
        let limit = self.state.graph.steps[index].conduct.timeout.unwrap_or_default().as_secs_f64();
        let step = &self.state.steps[index];
        let (attempt, duration) = (step.attempt, self.now.since(step.started_at));
        let error = match self.state.graph.steps[index].kind {
            StepKind::HumanTask(_) => {
                let message = format!("nobody completed the task within {limit} s");
                StepError::new(ErrorCode::HumanTaskFailed, message)
            }
            _ => StepError::new(ErrorCode::StepTimeout, format!("the step ran longer than its timeout_s of {limit} s")),
        };
        self.let_go(index, TaskStatus::Expired);
        self.fail(Site::Top(index), attempt, error, duration);
    }
}
