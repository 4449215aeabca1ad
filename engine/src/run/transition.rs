//! Which event may follow which state. What may not is a damaged journal, or a mistake in [`decide`](super::decide).

use super::{
    apply::RETRY,
    event::{EventKind, RunStatus},
    state::{Inner, Iteration, IterationOutcome, Phase, RunState, StepState},
};

impl RunState {
    /// # Errors
    /// The run does not stand where such an event can happen to it.
    pub(super) fn allows(&self, kind: &EventKind) -> Result<(), String> {
        let allowed = match kind {
            EventKind::RunStarted(_) => false,
            EventKind::RunRejected { .. } => self.seq == 1,
            EventKind::StateChanged { from, to, reason } => {
                *from == self.status && changes(*from, *to, reason == RETRY)
            }
            // A run ends when nothing of it is in flight any more.
            EventKind::RunCompleted { .. } | EventKind::RunFailed { .. } | EventKind::RunStopped { .. } => {
                !self.status.is_final() && !self.steps.iter().any(|step| step.phase.is_in_flight())
            }
            EventKind::StepStarted { .. } => self.status == RunStatus::Running,
            EventKind::StepCompleted { .. }
            | EventKind::StepSkipped { .. }
            | EventKind::StepFailed { .. }
            | EventKind::StepRetrying { .. }
            | EventKind::RequestMade { .. }
            | EventKind::RequestCompleted { .. }
            | EventKind::StepCancelled { .. }
            | EventKind::HumanTaskCreated { .. }
            | EventKind::HumanTaskCompleted { .. } => !self.status.is_final(),
        };
        if allowed {
            Ok(())
        } else {
            Err(format!("{} cannot follow while the run is {}", kind.event_type(), self.status))
        }
    }
}

fn changes(from: RunStatus, to: RunStatus, is_retry: bool) -> bool {
    match (from, to) {
        (RunStatus::Failed, RunStatus::Running) => is_retry,
        (RunStatus::Running, RunStatus::Paused | RunStatus::Draining)
        | (RunStatus::Paused, RunStatus::Running | RunStatus::Draining) => !is_retry,
        _ => false,
    }
}

impl StepState {
    /// # Errors
    /// The step does not stand where such an event can happen to it.
    pub(super) fn allows(&self, kind: &EventKind) -> Result<(), String> {
        let allowed = match kind {
            EventKind::StepStarted { attempt, .. } => {
                *attempt == self.attempt + 1 && matches!(self.phase, Phase::Waiting | Phase::BackingOff(_))
            }
            EventKind::StepCompleted { reused_from: Some(_), .. } | EventKind::StepSkipped { .. } => {
                matches!(self.phase, Phase::Waiting)
            }
            EventKind::StepCompleted { attempt, .. } => {
                *attempt == self.attempt
                    && matches!(
                        self.phase,
                        Phase::Executing | Phase::AwaitingChild(_) | Phase::Sleeping(_) | Phase::Looping(_)
                    )
            }
            EventKind::StepFailed { attempt, .. } | EventKind::StepRetrying { attempt, .. } => {
                *attempt == self.attempt && self.phase.is_in_flight() && !matches!(self.phase, Phase::BackingOff(_))
            }
            EventKind::StepCancelled { attempt, .. } => *attempt == self.attempt && self.phase.is_in_flight(),
            EventKind::HumanTaskCreated { .. } => matches!(self.phase, Phase::Executing),
            EventKind::HumanTaskCompleted { task, .. } => {
                matches!(self.phase, Phase::AwaitingTask(asked) if asked == *task)
            }
            EventKind::RunStarted(_)
            | EventKind::RunRejected { .. }
            | EventKind::RequestMade { .. }
            | EventKind::RequestCompleted { .. }
            | EventKind::StateChanged { .. }
            | EventKind::RunCompleted { .. }
            | EventKind::RunFailed { .. }
            | EventKind::RunStopped { .. } => false,
        };
        if allowed { Ok(()) } else { Err(format!("{} cannot follow {}", kind.event_type(), self.phase.name())) }
    }
}

impl Iteration {
    /// # Errors
    /// The body step does not stand where such an event can happen to it.
    pub(super) fn allows(&self, position: usize, kind: &EventKind) -> Result<(), String> {
        let inner = self.inner.get(position);
        let is_open = matches!(self.outcome, IterationOutcome::Open);
        let allowed = match (kind, inner) {
            (_, None) => false,
            (EventKind::StepStarted { attempt, .. }, Some(Inner::Waiting { attempts: made })) => {
                is_open && *attempt == made + 1
            }
            (EventKind::StepStarted { attempt, .. }, Some(Inner::BackingOff { attempt: failed, .. })) => {
                is_open && *attempt == failed + 1
            }
            (EventKind::StepSkipped { .. }, Some(Inner::Waiting { .. })) => is_open,
            (
                EventKind::StepCompleted { attempt, .. }
                | EventKind::StepFailed { attempt, .. }
                | EventKind::StepRetrying { attempt, .. }
                | EventKind::StepCancelled { attempt, .. },
                Some(Inner::Executing { attempt: under_way, .. }),
            ) => attempt == under_way,
            (EventKind::HumanTaskCreated { .. }, Some(Inner::Failed { .. })) => {
                matches!(self.outcome, IterationOutcome::Failed(_))
            }
            (EventKind::HumanTaskCompleted { task, .. }, Some(Inner::Failed { .. })) => {
                matches!(self.outcome, IterationOutcome::InReview(_, asked) if asked == *task)
            }
            (_, Some(_)) => false,
        };
        if allowed { Ok(()) } else { Err(format!("{} cannot follow where the body step stands", kind.event_type())) }
    }
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Executing => "executing",
            Self::BackingOff(_) => "backing off",
            Self::AwaitingTask(_) => "awaiting an answer",
            Self::AwaitingChild(_) => "awaiting a child run",
            Self::Sleeping(_) => "sleeping",
            Self::Looping(_) => "looping",
            Self::Completed { .. } => "completed",
            Self::Skipped(_) => "skipped",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}
