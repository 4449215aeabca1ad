//! Commands to a run: pause, resume, stop, retry. What each does is the run's own decision; here is only when it is refused.

use super::{OperationError, Project};
use agentruntime_engine::{
    run::{Signal, event::RunStatus},
    store::RunRecord,
};

/// What can be asked of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Start nothing new.
    Pause,
    /// Go on after a pause.
    Resume,
    /// End.
    Stop {
        /// Let what is in flight finish first.
        graceful: bool,
    },
    /// Try a failed run again from the failed step.
    Retry,
}

impl Project {
    /// Leaves a command with a run. A node takes it in; until then the run is as it was.
    pub(crate) async fn command(&self, record: &RunRecord, command: Command) -> Result<(), OperationError> {
        if let Some(hint) = command.refusal(record.status) {
            let (run, status) = (record.run, record.status);
            let hint = hint.replace("RUN", &run.to_string());
            return Err(OperationError::WrongStatus { command: command.word(), run, status, hint });
        }
        if command == Command::Retry && !self.timeline(record).await?.state.input_issues.is_empty() {
            let (run, status) = (record.run, record.status);
            let hint = "; its input was refused, so it would be again: start a new run".to_owned();
            return Err(OperationError::WrongStatus { command: command.word(), run, status, hint });
        }
        Ok(self.store.signal(&self.scope, record.run, command.signal()).await?)
    }
}

impl Command {
    fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop { .. } => "stop",
            Self::Retry => "retry",
        }
    }

    fn signal(self) -> Signal {
        match self {
            Self::Pause => Signal::Pause,
            Self::Resume => Signal::Resume,
            Self::Stop { graceful } => Signal::Stop { graceful },
            Self::Retry => Signal::Retry,
        }
    }

    /// What to do instead, where the command makes no sense.
    fn refusal(self, status: RunStatus) -> Option<&'static str> {
        use RunStatus::{Completed, Draining, Failed, Paused, Pending, Running, Stopped};
        match (self, status) {
            (Self::Pause, Pending | Running) => None,
            (Self::Pause, Paused | Draining | Completed | Failed | Stopped) => Some(""),
            (Self::Resume, Paused) => None,
            (Self::Resume, Failed) => Some("; `agentruntime retry RUN` tries it again from the failed step"),
            (Self::Resume, Pending | Running | Draining | Completed | Stopped) => Some(""),
            (Self::Stop { .. }, Pending | Running | Paused | Draining) => None,
            (Self::Stop { .. }, Completed | Failed | Stopped) => Some(""),
            (Self::Retry, Failed) => None,
            (Self::Retry, Paused) => Some("; `agentruntime resume RUN` lets it go on"),
            (Self::Retry, Pending | Running | Draining) => Some("; a run can be retried once it has failed"),
            (Self::Retry, Completed | Stopped) => Some(
                "; only a failed run is retried, `agentruntime run --resume-from RUN` begins a new one from its results",
            ),
        }
    }
}
