//! Commands to a run: pause, resume, stop, retry. What each does is the run's own decision; here is only when it is refused.

use super::{Instead, OperationError, Project};
use agentruntime_engine::{
    node::Node,
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
        self.check_command(record, command).await?;
        Ok(self.store.signal(&self.scope, record.run, command.signal()).await?)
    }

    /// The same through a node, which hears of it at once.
    pub(crate) async fn command_at(
        &self,
        node: &Node,
        record: &RunRecord,
        command: Command,
    ) -> Result<(), OperationError> {
        self.check_command(record, command).await?;
        Ok(node.signal(&self.scope, record.run, command.signal()).await?)
    }

    /// Refuses a command that the run is not in the way of; nothing is done.
    pub(crate) async fn check_command(&self, record: &RunRecord, command: Command) -> Result<(), OperationError> {
        let (run, status) = (record.run, record.status);
        if let Some(instead) = command.refusal(status) {
            return Err(OperationError::WrongStatus { command: command.word(), run, status, instead });
        }
        if command == Command::Retry && self.timeline(record).await?.state.is_refused() {
            let instead = Instead::StartAnew;
            return Err(OperationError::WrongStatus { command: command.word(), run, status, instead });
        }
        Ok(())
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
    fn refusal(self, status: RunStatus) -> Option<Instead> {
        use RunStatus::{Completed, Draining, Failed, Paused, Pending, Running, Stopped};
        match (self, status) {
            (Self::Pause, Pending | Running) => None,
            (Self::Pause, Paused) => Some(Instead::ResumeLater),
            (Self::Pause | Self::Resume, Draining) => Some(Instead::WaitForEnd),
            (Self::Pause, Failed) => Some(Instead::Retry),
            (Self::Resume, Paused) => None,
            (Self::Resume, Failed) => Some(Instead::Retry),
            (Self::Resume, Pending | Running) => Some(Instead::Nothing),
            (Self::Pause | Self::Resume, Completed | Stopped) => Some(Instead::StartAnother),
            (Self::Stop { .. }, Pending | Running | Paused | Draining) => None,
            (Self::Stop { .. }, Completed | Failed | Stopped) => Some(Instead::StartAnother),
            (Self::Retry, Failed) => None,
            (Self::Retry, Paused) => Some(Instead::Resume),
            (Self::Retry, Pending | Running | Draining) => Some(Instead::WaitForFailure),
            (Self::Retry, Completed | Stopped) => Some(Instead::StartFromItsResults),
        }
    }
}
