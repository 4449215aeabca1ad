//! How an operation is refused: a stable code, and a sentence that says what to do.

use super::{
    approvals::ApprovalState,
    checks::{CHECK_TIME_MAX, TENANT_CHECKS_MAX},
    drafts::WORKFLOWS_PER_PROJECT_MAX,
};
use crate::access::AccessError;
use agentruntime_engine::{graph::Issue, node::StartError, run::event::RunStatus, store::StoreError};
use agentruntime_host_api::RunId;
use serde_json::{Value, json};

/// What to do with a run that a command does not fit. Each skin may say it in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Instead {
    /// It is there already.
    #[error(" already; `resume` lets it go on")]
    ResumeLater,
    /// It goes on.
    #[error(" and goes on by itself")]
    Nothing,
    /// It goes to its end.
    #[error(", and ends when what is under way has finished")]
    WaitForEnd,
    /// It has ended.
    #[error("; that is its end, and `start` begins another run")]
    StartAnother,
    /// It can be tried again.
    #[error("; `retry` tries it again from the failed step")]
    Retry,
    /// It can go on.
    #[error("; `resume` lets it go on")]
    Resume,
    /// It has not failed.
    #[error("; a run can be retried once it has failed")]
    WaitForFailure,
    /// It ended otherwise than by failing.
    #[error("; only a failed run is retried, `start` with `resume_from_run_id` begins a new one from its results")]
    StartFromItsResults,
    /// It never began.
    #[error("; its input was refused, so it would be again: start a new run")]
    StartAnew,
}

/// Why an operation was not done. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    /// The graph has errors.
    #[error("the graph is not valid: {}", first_of(issues))]
    InvalidGraph {
        /// All that was found, warnings too.
        issues: Vec<Issue>,
    },
    /// No run has this id.
    #[error("there is no run `{0}`")]
    UnknownRun(String),
    /// There are no runs at all.
    #[error("there are no runs yet")]
    NoRuns,
    /// Several runs have this part of an id.
    #[error("`{text}` fits {} runs: {}; write more of the id", runs.len(), listed(runs))]
    AmbiguousRun {
        /// What was asked for.
        text: String,
        /// Which runs it fits.
        runs: Vec<RunId>,
    },
    /// The text is too short to name a run.
    #[error("`{0}` is too short for a run: write at least 4 characters of its id, its beginning or its end, or `last`")]
    ShortRun(String),
    /// No workflow has this id.
    #[error("there is no workflow `{0}`")]
    UnknownWorkflow(String),
    /// The workflow was put away.
    #[error("the workflow `{0}` is archived: its versions and runs can be read, but it is not changed or started")]
    WorkflowArchived(String),
    /// The workflow has a draft only.
    #[error("the workflow `{0}` has no version yet; publish it first")]
    NeverPublished(String),
    /// The workflow has no such version.
    #[error("the workflow `{workflow}` has no version {version}")]
    UnknownVersion {
        /// The workflow.
        workflow: String,
        /// What was asked for.
        version: u32,
    },
    /// The version may not be used.
    #[error("version {version} of the workflow `{workflow}` {}", not_approved(*state))]
    VersionNotApproved {
        /// The workflow.
        workflow: String,
        /// Which was to be used.
        version: u32,
        /// How it stands.
        state: ApprovalState,
    },
    /// There is nothing to decide about the version.
    #[error("version {version} is {state} already")]
    VersionDecided {
        /// Which was to be approved or rejected.
        version: u32,
        /// How it stands.
        state: ApprovalState,
    },
    /// The draft is not the one that the caller read.
    #[error("the draft was changed since you read it; read it again, and change that")]
    StaleDraft,
    /// The workspace has as many graphs checked as it may at once.
    #[error("{TENANT_CHECKS_MAX} graphs of this workspace are being checked already; wait until one is done")]
    TooManyChecks,
    /// The check of a graph took too long.
    #[error(
        "the graph is not checked within {} s: its scripts take too long together; give fewer of them mock values, or name \
         `step_ids`",
        CHECK_TIME_MAX.as_secs()
    )]
    CheckTooLong,
    /// The project is full.
    #[error("a project has at most {WORKFLOWS_PER_PROJECT_MAX} workflows; begin another project")]
    TooManyWorkflows,
    /// A field does not hold what it should.
    #[error("`{field}`: {message}")]
    InvalidField {
        /// Which.
        field: &'static str,
        /// What it should hold.
        message: String,
    },
    /// No question of the run fits.
    #[error("run {run} asks nothing at step `{step}`{}", pending_hint(pending))]
    UnknownTask {
        /// The run.
        run: RunId,
        /// What was asked for.
        step: String,
        /// What the run does ask.
        pending: Vec<String>,
    },
    /// A step asks several questions, and none is meant by its name.
    #[error("run {run} asks several questions at step `{step}`: {}; name one of them by its id", pending.join(", "))]
    AmbiguousTask {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// What it asks.
        pending: Vec<String>,
    },
    /// The question was answered or withdrawn in the meantime.
    #[error("the task `{step}` of run {run} is closed already")]
    TaskClosed {
        /// The run.
        run: RunId,
        /// The step that asked.
        step: String,
    },
    /// The run is not where the command makes sense.
    #[error("cannot {command} run {run}: it is {status}{instead}")]
    WrongStatus {
        /// What was to be done.
        command: &'static str,
        /// The run.
        run: RunId,
        /// Where it stands.
        status: RunStatus,
        /// What to do instead.
        instead: Instead,
    },
    /// A run with this id exists.
    #[error("there is a run with the id {0} already")]
    RunExists(RunId),
    /// A parameter does not hold what it should.
    #[error("`{field}`: {message}")]
    InvalidParams {
        /// Which.
        field: &'static str,
        /// What it should hold.
        message: String,
    },
    /// The run was not started.
    #[error(transparent)]
    Start(StartError),
    /// The run was started, now or by an earlier start under the same key, and what became of it cannot be told.
    #[error(
        "run {run} was started, but how it stands cannot be read; ask for it in a moment, and do not start it again"
    )]
    StartedUnseen {
        /// The run.
        run: RunId,
        /// Why it cannot be read.
        cause: StoreError,
    },
    /// The start ended by a fault of the program; where, is in the log.
    #[error("the start failed here (the log says how); look for the run before you start it again")]
    Panicked,
    /// A journal does not fit its graph.
    #[error("the journal of run {run} cannot be read: {reason}")]
    Unreadable {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// Access was refused, or the audit log could not be written.
    #[error(transparent)]
    Access(AccessError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OperationError {
    /// Whether an outage of the database is the cause, which the database tells the log of itself.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_outage())
    }

    /// A stable name for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::InvalidGraph { .. } => "INVALID_GRAPH",
            Self::UnknownRun(_) | Self::NoRuns => "RUN_NOT_FOUND",
            Self::AmbiguousRun { .. } => "RUN_AMBIGUOUS",
            Self::ShortRun(_) => "INVALID_RUN_ID",
            Self::UnknownWorkflow(_) => "WORKFLOW_NOT_FOUND",
            Self::WorkflowArchived(_) => "WORKFLOW_ARCHIVED",
            Self::NeverPublished(_) => "WORKFLOW_NOT_PUBLISHED",
            Self::UnknownVersion { .. } => "VERSION_NOT_FOUND",
            Self::VersionNotApproved { .. } => "VERSION_NOT_APPROVED",
            Self::VersionDecided { .. } => "VERSION_DECIDED",
            Self::StaleDraft => "WORKFLOW_CHANGED",
            Self::TooManyChecks => "TOO_MANY_CHECKS",
            Self::CheckTooLong => "CHECK_TOO_LONG",
            Self::TooManyWorkflows => "TOO_MANY_WORKFLOWS",
            Self::InvalidField { .. } => "INVALID_FIELD",
            Self::UnknownTask { .. } => "TASK_NOT_FOUND",
            Self::AmbiguousTask { .. } => "TASK_AMBIGUOUS",
            Self::TaskClosed { .. } => "TASK_CLOSED",
            Self::WrongStatus { .. } => "WRONG_STATUS",
            Self::RunExists(_) => "RUN_EXISTS",
            Self::InvalidParams { .. } => "INVALID_PARAMS",
            Self::Start(StartError::Rejected { .. }) => "INVALID_INPUT",
            Self::Start(StartError::UnknownStep(_)) => "UNKNOWN_STEP",
            Self::Start(StartError::OtherWorkflow(_)) => "OTHER_WORKFLOW",
            Self::Start(StartError::Ceiling { .. }) => "CEILING_REACHED",
            Self::Start(StartError::Repeated { .. }) => "IDEMPOTENCY_KEY_REUSED",
            Self::Start(StartError::Stopping(_)) => "STOPPING",
            Self::Start(StartError::Store(error)) | Self::Store(error) => error.code(),
            Self::StartedUnseen { .. } => "STARTED_UNSEEN",
            Self::Panicked => "INTERNAL",
            Self::Unreadable { .. } => "STORE_CORRUPT",
            Self::Access(_) => "ACCESS_REFUSED",
        }
    }

    /// What a program may want to know besides.
    pub(crate) fn details(&self) -> Option<Value> {
        match self {
            Self::InvalidGraph { issues } => Some(json!({ "issues": issues })),
            Self::InvalidField { field, message } => Some(json!({ "field": field, "reason": message })),
            Self::VersionNotApproved { version, state, .. } | Self::VersionDecided { version, state } => {
                Some(json!({ "version": version, "approval": state }))
            }
            Self::AmbiguousRun { runs, .. } => Some(json!({ "runs": runs })),
            Self::UnknownTask { pending, .. } | Self::AmbiguousTask { pending, .. } => {
                Some(json!({ "pending": pending }))
            }
            Self::InvalidParams { field, .. } => Some(json!({ "field": field })),
            Self::Start(StartError::Rejected { issues, .. }) => Some(json!({ "issues": issues })),
            Self::Start(StartError::Ceiling { what, limit }) => {
                Some(json!({ "ceiling": what.as_str(), "limit": limit }))
            }
            Self::Start(StartError::Stopping(run)) | Self::StartedUnseen { run, .. } => Some(json!({ "run_id": run })),
            _ => None,
        }
    }
}

impl From<StartError> for OperationError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Store(error) => Self::Store(error),
            other => Self::Start(other),
        }
    }
}

impl OperationError {
    /// The same about a run that was started: whoever started it has to learn its id.
    pub(crate) fn of_started(self, run: RunId) -> Self {
        match self {
            Self::Store(cause) => Self::StartedUnseen { run, cause },
            other => other,
        }
    }
}

impl From<AccessError> for OperationError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Store(error) => Self::Store(error),
            other => Self::Access(other),
        }
    }
}

fn first_of(issues: &[Issue]) -> String {
    let mut errors = issues.iter().filter(|issue| issue.is_error());
    let first = errors.next().map(|issue| format!("{} (at {})", issue.message, issue.json_path)).unwrap_or_default();
    match errors.count() {
        0 => first,
        more => format!("{first}, and {more} more"),
    }
}

fn not_approved(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Rejected => {
            "was rejected; an admin of the project can still approve it, or use one that is approved"
        }
        ApprovalState::Pending | ApprovalState::Approved => {
            "asks for more than the one in use and waits for an approval; an admin of the project gives it, or use one that is \
             approved"
        }
    }
}

fn listed(runs: &[RunId]) -> String {
    let shown: Vec<String> = runs.iter().take(3).map(ToString::to_string).collect();
    let more = if runs.len() > 3 { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn pending_hint(pending: &[String]) -> String {
    match pending {
        [] => "; it waits for no answer".into(),
        steps => format!("; it waits for an answer at: {}", steps.join(", ")),
    }
}
