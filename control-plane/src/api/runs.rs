//! Runs: the lists of them, and how one stands there.

use super::{
    State,
    commands::Failure,
    extract::{Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::{
    access::{
        May, enterable,
        permission::{ReadTenantRuns, ReadWorkflows},
    },
    operations,
};
use agentruntime_engine::{
    run::event::RunStatus,
    store::{Lineage, RunCursor, RunFilter, RunRecord},
};
use agentruntime_host_api::{RunId, Timestamp, TimestampError, WorkflowId};
use axum::{Json as JsonBody, extract::State as Given};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The longest text that runs are searched for.
const SEARCH_CHARS_MAX: usize = 200;

/// The routes of lists of runs.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(list_of_workflow))
}

/// A run in a list.
#[derive(Serialize, ToSchema)]
pub(super) struct RunSummary {
    /// The run.
    #[schema(value_type = Uuid)]
    run_id: RunId,
    /// Its workflow.
    workflow_id: String,
    /// Its project.
    project_id: String,
    /// The version that it follows.
    version: u32,
    /// Where it stands: `pending`, `running`, `paused`, `draining`, `completed`, `failed`, `stopped`.
    status: &'static str,
    /// What it waits for: `human_task`, `timer`, `child`, `resume`.
    awaiting: Option<&'static str>,
    /// When it was accepted.
    started_at: String,
    /// When it ended.
    finished_at: Option<String>,
    /// Why it failed or was stopped.
    error: Option<Failure>,
    /// What started it: `manual`, `webhook`, `schedule`, `workflow_call`.
    trigger_type: String,
    /// Who started it.
    user_id: Option<String>,
    /// The token with which they did; null in a session, or where nobody asked.
    #[schema(format = Uuid)]
    pat_id: Option<String>,
    /// The caller's own name for its user.
    external_user_id: Option<String>,
    /// The run that waits for it.
    #[schema(value_type = Option<Uuid>)]
    parent_run_id: Option<RunId>,
    /// The number of its last event.
    last_seq: u64,
}

impl From<RunRecord> for RunSummary {
    fn from(run: RunRecord) -> Self {
        Self {
            run_id: run.run,
            workflow_id: run.workflow.to_string(),
            project_id: run.scope.project.to_string(),
            version: run.version,
            status: run.status.as_str(),
            awaiting: run.awaiting.map(|awaiting| awaiting.as_str()),
            started_at: run.started_at.to_string(),
            finished_at: run.finished_at.map(|at| at.to_string()),
            error: run.error.map(Failure::from),
            trigger_type: run.trigger_type,
            user_id: run.user_id,
            pat_id: run.pat_id,
            external_user_id: run.external_user_id,
            parent_run_id: run.parent,
            last_seq: run.last_seq,
        }
    }
}

/// Which runs are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RunsQuery {
    /// How many items at most: 1 to 200, 50 where it is missing.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only those that stand there: `pending`, `running`, `paused`, `draining`, `completed`, `failed`, `stopped`.
    status: Option<String>,
    /// Only those of this version.
    version: Option<u32>,
    /// Only those that this started: `manual`, `webhook`, `schedule`, `workflow_call`.
    trigger: Option<String>,
    /// Only those that were started with this token.
    pat_id: Option<Uuid>,
    /// Only those accepted at this time (RFC 3339) or later.
    started_from: Option<String>,
    /// Only those accepted before this time.
    started_to: Option<String>,
    /// Only those with this text in their id, their workflow's id, the caller's name for its user, or why they failed.
    #[param(max_length = 200)]
    q: Option<String>,
    /// `false` leaves out the runs that other runs started.
    children: Option<bool>,
    /// Only those of this workflow; where the path names one, that counts.
    workflow_id: Option<Uuid>,
}

impl RunsQuery {
    fn page(&self) -> PageQuery {
        PageQuery { limit: self.limit, cursor: self.cursor.clone() }
    }

    /// The filter for one item more than fits on the page.
    fn filter(&self) -> Result<RunFilter, Problem> {
        let page = self.page();
        let before = page.after::<(i64, RunId)>()?;
        let before = before.map(|(at, run)| RunCursor { started_at: Timestamp::from_micros(at), run });
        let status = self.status.as_deref().map(|word| {
            RunStatus::parse(word).ok_or_else(|| {
                let known = "pending, running, paused, draining, completed, failed, stopped";
                Problem::query("status", format!("it is one of: {known}"))
            })
        });
        if self.q.as_ref().is_some_and(|text| text.chars().count() > SEARCH_CHARS_MAX) {
            return Err(Problem::query("q", format!("it is at most {SEARCH_CHARS_MAX} characters long")));
        }
        Ok(RunFilter {
            status: status.transpose()?,
            workflow: self.workflow_id.map(|workflow| WorkflowId::new(workflow.to_string())),
            version: self.version,
            trigger_type: self.trigger.clone(),
            pat_id: self.pat_id.map(|pat| pat.to_string()),
            started_from: time("started_from", self.started_from.as_deref())?,
            started_to: time("started_to", self.started_to.as_deref())?,
            text: self.q.clone().filter(|text| !text.is_empty()),
            lineage: if self.children == Some(false) { Lineage::Parentless } else { Lineage::Any },
            before,
            limit: Some(page.limit()? + 1),
        })
    }
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let read = |text: &str| text.parse().map_err(|error: TimestampError| Problem::query(name, error.to_string()));
    text.map(read).transpose()
}

fn page_of(runs: Vec<RunRecord>, limit: u32) -> Page<RunSummary> {
    Page::of(runs, limit, |run| (run.started_at.as_micros(), run.run), RunSummary::from)
}

/// Lists the runs of a workflow, the newest first.
#[utoipa::path(
    get,
    path = "/workflows/{workflow_id}/runs",
    operation_id = "list_runs_of_workflow",
    tag = "runs",
    params(("workflow_id" = Uuid, Path, description = "The workflow"), RunsQuery),
    responses((status = 200, body = Page<RunSummary>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list_of_workflow(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path(workflow): Path<Uuid>,
    Query(query): Query<RunsQuery>,
) -> Result<JsonBody<Page<RunSummary>>, Problem> {
    let filter = RunFilter { workflow: Some(WorkflowId::new(workflow.to_string())), ..query.filter()? };
    let project = app.project(&may.place);
    project.workflow(&WorkflowId::new(workflow.to_string())).await?;
    let runs = project.runs(&filter).await?;
    Ok(JsonBody(page_of(runs, query.page().limit()?)))
}

/// Lists the runs of all projects of the workspace that the caller may enter, the newest first.
#[utoipa::path(
    get,
    path = "/runs",
    operation_id = "list_runs",
    tag = "runs",
    params(RunsQuery),
    responses((status = 200, body = Page<RunSummary>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list(
    may: May<ReadTenantRuns>,
    Given(app): Given<State>,
    Query(query): Query<RunsQuery>,
) -> Result<JsonBody<Page<RunSummary>>, Problem> {
    let projects = enterable::projects(app.database(), &may.caller, &may.place).await?;
    let runs = operations::runs_of_tenant(&app.store, &may.place.tenant, &projects, &query.filter()?).await?;
    Ok(JsonBody(page_of(runs, query.page().limit()?)))
}
