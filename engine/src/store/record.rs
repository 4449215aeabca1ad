//! What the store keeps and answers: rows as types.

use crate::run::{
    Awaiting, Signal, TaskStatus,
    event::{Event, RunStatus, StepPath},
};
use agentruntime_host_api::{Json, ProjectId, RunId, StepError, TaskId, TenantId, Timestamp, WorkflowId};
use std::time::Duration;

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

/// A workflow and its newest version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowRecord {
    /// The workflow.
    pub workflow: WorkflowId,
    /// Its newest version.
    pub version: u32,
    /// When that was published.
    pub published_at: Timestamp,
}

/// A version in a list: all but the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionEntry {
    /// 1, 2, 3 …
    pub version: u32,
    /// SHA-256 of its graph in hex.
    pub graph_hash: String,
    /// Why it was published.
    pub changelog: Option<String>,
    /// When.
    pub published_at: Timestamp,
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
    /// What started it: `manual`, `workflow_call`, …
    pub trigger_type: String,
    /// Who started it here.
    pub user_id: Option<String>,
    /// The token with which they did; nothing without one.
    pub pat_id: Option<String>,
    /// The caller's own name for its user.
    pub external_user_id: Option<String>,
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
    /// What starts it: `manual`, `workflow_call`, …
    pub trigger_type: String,
    /// Who starts it here.
    pub user_id: Option<String>,
    /// The token with which they do; nothing without one.
    pub pat_id: Option<String>,
    /// The caller's own name for its user.
    pub external_user_id: Option<String>,
    /// Under each of these keys it starts once.
    pub keys: Vec<StartKey>,
    /// Its journal so far, from number 1: `run_started`.
    pub events: Chunk,
}

/// What makes a start happen once, however often it is asked for. It is written in the transaction that creates the run.
///
/// A start may have several: it takes all of them or none, and is a repeat if one is known. Where they tell of different
/// runs, a key whose digest differs speaks before all others, and else the one that stands first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartKey {
    /// Unique within tenant and project as long as it is kept; whoever starts says in it whose key it is.
    pub name: String,
    /// Stands for what is to be started: a repeat with another digest asks for something else.
    pub digest: String,
    /// How long a repeat is recognised.
    pub keep: Duration,
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

impl Chunk {
    /// Consecutive events as one chunk: at least one.
    pub fn of(events: &[Event]) -> Self {
        Self {
            first_seq: events.first().map_or(1, |event| event.seq),
            last_seq: events.last().map_or(0, |event| event.seq),
            body: serde_json::to_string(events).expect("events have string keys and no failing parts"),
        }
    }

    /// The events.
    pub fn events(&self) -> Result<Vec<Event>, serde_json::Error> {
        serde_json::from_str(&self.body)
    }
}

/// Which runs to list.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Only those that stand there.
    pub status: Option<RunStatus>,
    /// Only those of this workflow.
    pub workflow: Option<WorkflowId>,
    /// Only those of this version of it.
    pub version: Option<u32>,
    /// Only those that this started: `manual`, `workflow_call`, …
    pub trigger_type: Option<String>,
    /// Only those that were started with this token.
    pub pat_id: Option<String>,
    /// Only those accepted then or later.
    pub started_from: Option<Timestamp>,
    /// Only those accepted before.
    pub started_to: Option<Timestamp>,
    /// Only those with this text in their id, their workflow's id, the caller's name for its user, or why they failed; the
    /// case of ASCII letters makes no difference. All runs that fit the rest of the filter are looked through.
    pub text: Option<String>,
    /// Whether child runs are listed, too.
    pub lineage: Lineage,
    /// Only those after this one in the list: the last of the page before.
    pub before: Option<RunCursor>,
    /// How many at most; none: [`LIST_MAX`], which no page exceeds.
    pub limit: Option<u32>,
}

/// Which runs to list by who started them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lineage {
    /// All.
    #[default]
    Any,
    /// Those that no run started.
    Parentless,
}

/// A place in the list of runs, which goes from the newest to the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunCursor {
    /// When the run at this place was accepted.
    pub started_at: Timestamp,
    /// The run at this place.
    pub run: RunId,
}

impl From<&RunRecord> for RunCursor {
    fn from(record: &RunRecord) -> Self {
        Self { started_at: record.started_at, run: record.run }
    }
}

/// Rows on one page of any list: a page is held in memory and sent as one answer.
pub const LIST_MAX: u32 = 1_000;

/// Which tasks to list.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Only those of this run.
    pub run: Option<RunId>,
    /// Only those that stand there.
    pub status: Option<TaskStatus>,
    /// How many at most; none: [`LIST_MAX`], which no page exceeds.
    pub limit: Option<u32>,
}

/// A place in the list of tasks, which goes from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskCursor {
    /// When the task at this place was asked.
    pub created_at: Timestamp,
    /// The task at this place.
    pub task: TaskId,
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

/// A lease that was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The lease.
    pub lease: Lease,
    /// How many signals were ever sent to the run: more than its owner has read is news.
    pub inbox: u64,
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

impl TaskStatus {
    /// The word used in answers and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads [`TaskStatus::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Completed, Self::Expired, Self::Cancelled].into_iter().find(|word| word.as_str() == text)
    }
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

impl Append {
    /// An append that writes the row and nothing else.
    pub fn nothing(lease: Lease, row: RowUpdate) -> Self {
        Self {
            lease,
            create: None,
            events: None,
            row,
            inbox_read: 0,
            release: None,
            tasks_opened: Vec::new(),
            tasks_closed: Vec::new(),
            children: Vec::new(),
            signals: Vec::new(),
        }
    }

    /// How many bytes its events take, with those of the child runs that it begins.
    pub fn event_bytes(&self) -> usize {
        let begun = self.create.iter().chain(&self.children).map(|new| &new.events);
        let bytes: usize = begun.chain(&self.events).map(|chunk| chunk.body.len()).sum();
        // The first events of a run and those that continue them become one list: a comma stands where two brackets were.
        bytes - usize::from(self.create.is_some() && self.events.is_some())
    }

    /// The creation of a run by the node that goes on with it at once.
    pub fn create(lease: Lease, new: NewRun) -> Self {
        let row = RowUpdate { status: RunStatus::Running, awaiting: None, finished_at: None, error: None };
        Self { create: Some(new), ..Self::nothing(lease, row) }
    }
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

/// A start whose key was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The run that the key started.
    pub run: RunId,
    /// Whether the digests are equal, so that the same was asked for.
    pub same: bool,
}

/// What became of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is durable.
    Durable,
    /// The lease or the journal's position is no longer the node's: nothing was written.
    LeaseLost,
    /// The append was to create a run whose id exists: nothing was written. What is there is to be read.
    AlreadyExists,
    /// The append was to create a run under a key that was used before: nothing was written.
    Repeated(Repeated),
}
