//! Messages to a run, and what becomes of the questions it asks.

use super::event::StepPath;
use agentruntime_host_api::{Json, RunId, StepError, TaskId};
use serde::{Deserialize, Serialize};

/// A message to a run: what is not decided by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Signal {
    /// Start nothing new.
    Pause,
    /// Go on.
    Resume,
    /// End.
    Stop {
        /// Let what is in flight finish first.
        graceful: bool,
    },
    /// Try a failed run again from the failed step.
    Retry,
    /// A person answered.
    TaskCompleted {
        /// The question.
        task: TaskId,
        /// Yes or no.
        approved: bool,
        /// Fields of the answer: an object.
        result: Json,
    },
    /// A child run ended.
    ChildFinished {
        /// The child.
        child: RunId,
        /// The `workflow_call` step that waits for it.
        step: StepPath,
        /// Its outputs, or why there are none.
        outcome: Result<Json, StepError>,
    },
}

/// Where a question to a person stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Waiting for an answer.
    Pending,
    /// Answered.
    Completed,
    /// Nobody answered in time.
    Expired,
    /// The run ended first.
    Cancelled,
}

/// What a run waits for, holding nothing but its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Awaiting {
    /// A person.
    HumanTask,
    /// A point in time.
    Timer,
    /// A child run.
    Child,
    /// The command `resume`.
    Resume,
}

impl Awaiting {
    /// The word used in answers and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HumanTask => "human_task",
            Self::Timer => "timer",
            Self::Child => "child",
            Self::Resume => "resume",
        }
    }

    /// Reads [`Awaiting::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::HumanTask, Self::Timer, Self::Child, Self::Resume].into_iter().find(|word| word.as_str() == text)
    }
}
