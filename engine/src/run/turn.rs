//! `apply` inside a composite: what an event does to one turn of its body.

use super::{
    event::{Event, EventKind, StepPath},
    payload::Payload,
    state::{Inner, Iteration, IterationOutcome, Loop, Phase, RunState},
};
use crate::graph::{ForEachErrorPolicy, StepIndex, StepKind};
use agentruntime_host_api::Json;

impl RunState {
    pub(super) fn apply_to_body(
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
        iteration.allows(position, &event.kind)?;
        iteration.take(position, event)?;
        if let (StepKind::ForEach(spec), IterationOutcome::Failed(_)) =
            (&self.graph.steps[index].kind, &iteration.outcome)
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
    pub(super) fn reopen(&mut self, wanted: impl Fn(&IterationOutcome) -> bool) {
        for (number, iteration) in (0u32..).zip(&mut self.iterations) {
            if !wanted(&iteration.outcome) {
                continue;
            }
            iteration.outcome = IterationOutcome::Open;
            for inner in &mut iteration.inner {
                match inner {
                    Inner::Failed { attempt }
                    | Inner::Executing { attempt, .. }
                    | Inner::BackingOff { attempt, .. } => {
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
