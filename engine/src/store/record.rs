//! What the store keeps and answers: rows as types.

use crate::run::event::{RunStatus, StepPath};
use agentruntime_host_api::{Json, ProjectId, RunId, StepError, TaskId, TenantId, Timestamp, WorkflowId};
use serde::{Deserialize, Serialize};

/// Whose rows a query may see. Nothing outside it is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The tenant.
    pub tenant: TenantId,
    /// The project inside it.
    pub project: ProjectId,
}

/// A node's name in leases: unique to one start of one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(pub String);

/// An immutable version of a workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionRecord {
    /// The workflow.
    pub workflow: WorkflowId,
    /// 1, 2, 3 …
    pub version: u32,
    /// SHA-256 of `graph` in hex.
    pub graph_hash: String,
    /// The canonical document.
    pub graph: Json,
    /// Why it was published.
    pub changelog: Option<String>,
    /// When.
    pub published_at: Timestamp,
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

/// A run's row.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// Whose it is.
    pub scope: Scope,
    /// Its workflow.
    pub workflow: WorkflowId,
    /// Its version.
    pub version: u32,
    /// Where it stands.
    pub status: RunStatus,
    /// What it waits for.
    pub awaiting: Option<Awaiting>,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it failed or was stopped.
    pub error: Option<StepError>,
    /// The number of its last event.
    pub last_seq: u64,
    /// The run that waits for it.
    pub parent: Option<RunId>,
}

/// A new run. Its row and its first events are written together.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The run.
    pub run: RunId,
    /// Whose it is.
    pub scope: Scope,
    /// Its workflow.
    pub workflow: WorkflowId,
    /// Its version.
    pub version: u32,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// The run that waits for it.
    pub parent: Option<RunId>,
    /// Its journal so far, from number 1: `run_started`.
    pub events: Chunk,
}

/// Consecutive events of one run as they are stored: in one row, because they were committed together.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The number of the first.
    pub first_seq: u64,
    /// The number of the last.
    pub last_seq: u64,
    /// The events as a JSON list.
    pub body: String,
}

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

/// A signal in the inbox of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct InboxSignal {
    /// Its number: 1, 2, 3 … within the run, without gaps.
    pub number: u64,
    /// The message.
    pub signal: Signal,
}

/// The lease of a node on a run: the right to append to its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The run.
    pub run: RunId,
    /// Grows with each claim; an append under an older epoch writes nothing.
    pub epoch: u64,
}

/// A run that a node has just claimed.
#[derive(Clone, Debug)]
pub struct ClaimedRun {
    /// The right to append.
    pub lease: Lease,
    /// The row as claimed.
    pub record: RunRecord,
    /// The highest inbox number that the journal already covers.
    pub inbox_read: u64,
}

/// A question to a person.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    /// The question.
    pub task: TaskId,
    /// The run that waits.
    pub run: RunId,
    /// The step that asks.
    pub step: StepPath,
    /// What kind of answer is wanted.
    pub task_type: String,
    /// What the person is shown.
    pub payload: Json,
    /// Where it stands.
    pub status: TaskStatus,
    /// When it was asked.
    pub created_at: Timestamp,
    /// When it expires.
    pub due: Option<Timestamp>,
}

/// Where a task stands.
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

/// Everything that one commit writes for one run, all or nothing.
#[derive(Clone, Debug)]
pub struct Append {
    /// The right to write. A run that is created by this append has epoch 1.
    pub lease: Lease,
    /// The run's row, where this append creates it (then `create.events` is empty of events after the first chunk and
    /// `events` continues it).
    pub create: Option<NewRun>,
    /// New journal entries; they continue the run's `last_seq` without a gap, or nothing is written.
    pub events: Option<Chunk>,
    /// The row afterwards.
    pub row: RowUpdate,
    /// Signals up to this number are taken in by these events and leave the inbox.
    pub inbox_read: u64,
    /// Whether the node lets go of the run.
    pub release: Option<Release>,
    /// Questions opened by these events.
    pub tasks_opened: Vec<TaskRecord>,
    /// Questions closed by these events.
    pub tasks_closed: Vec<(TaskId, TaskStatus)>,
    /// Child runs begun by these events: claimable at once.
    pub children: Vec<NewRun>,
    /// Messages to other runs of the same scope.
    pub signals: Vec<(RunId, Signal)>,
}

/// The run's row after an append.
#[derive(Clone, Debug, PartialEq)]
pub struct RowUpdate {
    /// Where the run stands.
    pub status: RunStatus,
    /// What it waits for.
    pub awaiting: Option<Awaiting>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it failed or was stopped.
    pub error: Option<StepError>,
}

/// How a node lets go of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// When the run wants to be claimed again, if no signal comes first; none: only for a signal.
    ///
    /// A signal that arrived and is not yet read makes it claimable at once.
    pub wake_at: Option<Timestamp>,
}

/// What became of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is durable.
    Durable,
    /// The lease or the journal's position is no longer the node's: nothing was written.
    LeaseLost,
}
