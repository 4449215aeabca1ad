//! Answers of the API as the records that the command line shows.

use super::{ClientError, http::Http};
use crate::operations::approvals::ApprovalState;
use agentruntime_engine::{
    graph::{GrantRef, Issue},
    run::{
        Awaiting, TaskStatus,
        event::{RunStatus, StepPath},
    },
    store::{RunRecord, Scope, TaskRecord, VersionEntry},
};
use agentruntime_host_api::{Json, ProjectId, RunId, StepError, TaskId, TenantId, Timestamp, WorkflowId};
use serde::Deserialize;
use serde_json::Value;

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next_cursor: Option<String>,
}

/// A page of events.
#[derive(Deserialize)]
pub(super) struct EventsPage {
    pub(super) items: Vec<Value>,
}

/// A workflow at a server.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ServerWorkflow {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its version in use, where it has one.
    pub(crate) published_version: Option<u32>,
    /// When its draft was changed last.
    pub(crate) updated_at: String,
    /// Raised by every change of its draft.
    #[serde(default)]
    pub(super) revision: u64,
}

/// What a server finds in a graph.
#[derive(Debug, Deserialize)]
pub(super) struct Validation {
    pub(super) issues: Vec<Issue>,
}

/// A version that was published, or was there already.
#[derive(Debug, Deserialize)]
pub(crate) struct Published {
    /// Its number.
    pub(crate) version: u32,
    /// Of which workflow.
    pub(crate) workflow_id: String,
    /// When.
    pub(crate) published_at: String,
    /// SHA-256 of its graph.
    pub(crate) graph_hash: String,
    /// What the author should look at.
    #[serde(default)]
    pub(crate) issues: Vec<Issue>,
    /// Whether it may be used; a server that does not tell lets every version be.
    #[serde(default = "approved")]
    pub(crate) approval: ApprovalState,
    /// What it newly asks for, where that needed an approval.
    #[serde(default)]
    pub(crate) new_grants: Vec<GrantRef>,
}

fn approved() -> ApprovalState {
    ApprovalState::Approved
}

/// A version about which somebody decided.
#[derive(Debug, Deserialize)]
pub(crate) struct Decided {
    /// Its number.
    pub(crate) version: u32,
    /// What was decided.
    pub(crate) approval: ApprovalState,
    /// What it newly asks for.
    pub(crate) new_grants: Vec<GrantRef>,
}

/// A run that was started.
#[derive(Debug, Deserialize)]
pub(crate) struct Started {
    /// The run.
    pub(crate) run_id: RunId,
    /// Where it stands.
    pub(crate) status: RunStatus,
    /// Its workflow.
    pub(crate) workflow_id: String,
    /// The version that it follows.
    pub(crate) version: u32,
    /// When it was accepted.
    pub(crate) started_at: String,
}

/// A version with its graph.
#[derive(Deserialize)]
pub(super) struct VersionAnswer {
    pub(super) graph_snapshot: Value,
}

/// A version in a list.
#[derive(Deserialize)]
pub(super) struct VersionItem {
    version: u32,
    graph_hash: String,
    changelog: Option<String>,
    published_at: String,
    #[serde(default = "approved")]
    approval: ApprovalState,
}

impl VersionItem {
    /// The version, and whether it may be used.
    pub(super) fn record(self, http: &Http) -> Result<(VersionEntry, ApprovalState), ClientError> {
        let entry = VersionEntry {
            version: self.version,
            graph_hash: self.graph_hash,
            changelog: self.changelog,
            published_at: time(http, &self.published_at)?,
        };
        Ok((entry, self.approval))
    }
}

/// A project in a list.
#[derive(Deserialize)]
pub(super) struct ProjectItem {
    pub(super) id: String,
    pub(super) slug: String,
}

/// A run in a list, or its summary.
#[derive(Deserialize)]
pub(super) struct RunItem {
    run_id: RunId,
    workflow_id: String,
    #[serde(default)]
    project_id: String,
    version: u32,
    status: RunStatus,
    awaiting: Option<Awaiting>,
    started_at: String,
    finished_at: Option<String>,
    error: Option<StepError>,
    last_seq: u64,
    parent_run_id: Option<RunId>,
    #[serde(default)]
    trigger_type: String,
    user_id: Option<String>,
    pat_id: Option<String>,
    external_user_id: Option<String>,
}

impl RunItem {
    /// The row. Which workspace it belongs to is the server's to know; nothing here asks for it.
    pub(super) fn record(self, http: &Http) -> Result<RunRecord, ClientError> {
        Ok(RunRecord {
            run: self.run_id,
            scope: Scope { tenant: TenantId::new(""), project: ProjectId::new(self.project_id) },
            workflow: WorkflowId::new(self.workflow_id),
            version: self.version,
            status: self.status,
            awaiting: self.awaiting,
            started_at: time(http, &self.started_at)?,
            finished_at: self.finished_at.map(|text| time(http, &text)).transpose()?,
            error: self.error,
            last_seq: self.last_seq,
            parent: self.parent_run_id,
            trigger_type: self.trigger_type,
            user_id: self.user_id,
            pat_id: self.pat_id,
            external_user_id: self.external_user_id,
        })
    }
}

/// A question in a list.
#[derive(Deserialize)]
pub(super) struct TaskItem {
    task_id: TaskId,
    run_id: RunId,
    workflow_id: String,
    step_id: String,
    task_type: String,
    task_payload: Value,
    created_at: String,
    expires_at: Option<String>,
}

impl TaskItem {
    /// The question, and the workflow of its run.
    pub(super) fn record(self, http: &Http) -> Result<(TaskRecord, WorkflowId), ClientError> {
        let task = TaskRecord {
            task: self.task_id,
            run: self.run_id,
            step: StepPath::parse(&self.step_id),
            task_type: self.task_type,
            payload: Json::from(self.task_payload),
            status: TaskStatus::Pending,
            created_at: time(http, &self.created_at)?,
            due: self.expires_at.map(|text| time(http, &text)).transpose()?,
        };
        Ok((task, WorkflowId::new(self.workflow_id)))
    }
}

fn time(http: &Http, text: &str) -> Result<Timestamp, ClientError> {
    text.parse().map_err(|error: agentruntime_host_api::TimestampError| http.unexpected(error.to_string()))
}
