//! Runs: lists, one run, its events, what it read and gave.

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
    operations::{
        self, Timeline,
        timeline::{Standing, type_of},
    },
};
use agentruntime_engine::{
    graph::StepIndex,
    run::{Phase, RunState, event::RunStatus},
    store::{EVENTS_MAX, Lineage, RunCursor, RunFilter, RunRecord},
};
use agentruntime_host_api::{Json, RunId, TaskId, Timestamp, WorkflowId};
use axum::{Json as JsonBody, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The longest text that runs are searched for.
const SEARCH_CHARS_MAX: usize = 200;

/// The routes of runs.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(list_of_workflow))
        .routes(routes!(read))
        .routes(routes!(summary))
        .routes(routes!(events))
        .routes(routes!(context))
}

/// A run in a list.
#[derive(Serialize, ToSchema)]
struct RunSummary {
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
                invalid(format!("`status` is one of: {known}"))
            })
        });
        if self.q.as_ref().is_some_and(|text| text.chars().count() > SEARCH_CHARS_MAX) {
            return Err(invalid(format!("`q` is at most {SEARCH_CHARS_MAX} characters long")));
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
    let read = |text: &str| text.parse().map_err(|error| invalid(format!("`{name}`: {error}")));
    text.map(read).transpose()
}

fn invalid(error: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "INVALID_QUERY", error)
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

/// A run with its steps.
#[derive(Serialize, ToSchema)]
struct Run {
    /// What lists tell of it.
    #[serde(flatten)]
    summary: RunSummary,
    /// What it gave, where it completed.
    #[schema(value_type = Option<Object>)]
    outputs: Option<Json>,
    /// Its steps, in the order in which they can run.
    steps: Vec<RunStep>,
}

/// A step of a run.
#[derive(Serialize, ToSchema)]
struct RunStep {
    /// The step.
    step_id: String,
    /// Its type, as authors write it.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Where it stands: `waiting`, `running`, `retrying`, `awaiting_human`, `awaiting_child`, `sleeping`, `completed`, `rejected`,
    /// `skipped`, `recovered`, `failed`, `cancelled`.
    status: &'static str,
    /// Why it was skipped.
    #[schema(value_type = Option<String>)]
    skip_reason: Option<Value>,
    /// The last attempt that began; 0 before the first.
    attempt: u32,
    /// When it began first.
    started_at: Option<String>,
    /// When it ended last.
    finished_at: Option<String>,
    /// How long it was under way, in milliseconds.
    duration_ms: Option<f64>,
    /// Why it failed.
    error: Option<Failure>,
    /// The question that it asks.
    #[schema(value_type = Option<Uuid>)]
    task_id: Option<TaskId>,
    /// The run that it waits for.
    #[schema(value_type = Option<Uuid>)]
    child_run_id: Option<RunId>,
}

impl RunStep {
    fn of(timeline: &Timeline, index: StepIndex, now: Timestamp) -> Self {
        let step = &timeline.state.graph.steps[index];
        let standing = timeline.standing(index);
        let spans = &timeline.times[index].spans;
        let (skip_reason, child_run_id) = match standing {
            Standing::Skipped(reason) => (serde_json::to_value(reason).ok(), None),
            Standing::Calling(child) => (None, Some(child)),
            _ => (None, None),
        };
        let elapsed = timeline.elapsed_us(index, now);
        let asks = |(_, path): &(&TaskId, &agentruntime_engine::run::event::StepPath)| *path.step == *step.id;
        Self {
            step_id: step.id.to_string(),
            kind: type_of(step),
            status: word(standing),
            skip_reason,
            attempt: timeline.state.steps[index].attempt,
            started_at: spans.first().map(|span| span.from.to_string()),
            finished_at: spans.last().and_then(|span| span.to).map(|at| at.to_string()),
            duration_ms: elapsed.map(|micros| micros as f64 / 1000.0),
            error: timeline.error(index).cloned().map(Failure::from),
            task_id: timeline.tasks.iter().find(asks).map(|(task, _)| *task),
            child_run_id,
        }
    }
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Waiting => "waiting",
        Standing::Running => "running",
        Standing::Retrying(_) => "retrying",
        Standing::Asking => "awaiting_human",
        Standing::Calling(_) => "awaiting_child",
        Standing::Sleeping(_) => "sleeping",
        Standing::Completed => "completed",
        Standing::Rejected => "rejected",
        Standing::Skipped(_) => "skipped",
        Standing::Recovered => "recovered",
        Standing::Failed => "failed",
        Standing::Cancelled => "cancelled",
    }
}

/// Reads a run: where it and its steps stand, what it gave.
#[utoipa::path(
    get,
    path = "/workflows/{workflow_id}/runs/{run_id}",
    operation_id = "get_run",
    tag = "runs",
    params(("workflow_id" = Uuid, Path, description = "The workflow"), ("run_id" = Uuid, Path, description = "The run")),
    responses((status = 200, body = Run), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn read(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path((workflow, run)): Path<(Uuid, Uuid)>,
) -> Result<JsonBody<Run>, Problem> {
    let project = app.project(&may.place);
    let record = project.run_of(&WorkflowId::new(workflow.to_string()), run.into()).await?;
    let timeline = project.timeline(&record).await?;
    let now = app.clock().now();
    let steps = timeline.order().map(|(index, _)| RunStep::of(&timeline, index, now)).collect();
    let RunState { end, .. } = &timeline.state;
    Ok(JsonBody(Run {
        outputs: end.as_ref().and_then(|end| end.as_ref().ok()).cloned(),
        steps,
        summary: record.into(),
    }))
}

/// Reads where a run stands, without its steps and outputs: cheap enough to ask often.
#[utoipa::path(
    get,
    path = "/workflows/{workflow_id}/runs/{run_id}/summary",
    operation_id = "get_run_summary",
    tag = "runs",
    params(("workflow_id" = Uuid, Path, description = "The workflow"), ("run_id" = Uuid, Path, description = "The run")),
    responses((status = 200, body = RunSummary), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn summary(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path((workflow, run)): Path<(Uuid, Uuid)>,
) -> Result<JsonBody<RunSummary>, Problem> {
    let record = app.project(&may.place).run_of(&WorkflowId::new(workflow.to_string()), run.into()).await?;
    Ok(JsonBody(record.into()))
}

/// Which events are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Only those with a higher number; 0 where it is missing.
    after_seq: Option<u64>,
    /// How many at most: 1 to 1000, 200 where it is missing.
    #[param(minimum = 1, maximum = 1000, default = 200)]
    limit: Option<u32>,
}

/// Events on a page where the request does not say.
const EVENTS_DEFAULT: u32 = 200;

/// A page of events.
#[derive(Serialize, ToSchema)]
struct EventsPage {
    /// The events: `event_type`, `run_id`, `seq`, `step_id`, `attempt`, `at`, `data`.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Value>,
    /// `after_seq` of the next page; nothing where these are the last so far.
    next_after_seq: Option<u64>,
}

/// Reads the events of a run, in order.
#[utoipa::path(
    get,
    path = "/workflows/{workflow_id}/runs/{run_id}/events",
    operation_id = "list_run_events",
    tag = "runs",
    params(
        ("workflow_id" = Uuid, Path, description = "The workflow"),
        ("run_id" = Uuid, Path, description = "The run"),
        EventsQuery
    ),
    responses((status = 200, body = EventsPage), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn events(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path((workflow, run)): Path<(Uuid, Uuid)>,
    Query(query): Query<EventsQuery>,
) -> Result<JsonBody<EventsPage>, Problem> {
    let limit = query.limit.unwrap_or(EVENTS_DEFAULT);
    if !(1..=EVENTS_MAX).contains(&limit) {
        return Err(invalid(format!("`limit` is 1 to {EVENTS_MAX}")));
    }
    let after = query.after_seq.unwrap_or_default();
    if i64::try_from(after).is_err() {
        return Err(invalid("`after_seq` is the number of an event".into()));
    }
    let project = app.project(&may.place);
    let record = project.run_of(&WorkflowId::new(workflow.to_string()), run.into()).await?;
    let page = project.events_page(record.run, after, limit).await?;
    let last = page.last().map(|event| event.seq).filter(|seq| *seq < record.last_seq);
    let items = page.iter().map(|event| event.public(record.run)).collect();
    Ok(JsonBody(EventsPage { items, next_after_seq: last }))
}

/// What a run read and gave.
#[derive(Serialize, ToSchema)]
struct RunContext {
    /// The run.
    #[schema(value_type = Uuid)]
    run_id: RunId,
    /// Where it stands.
    status: &'static str,
    /// The start payload, defaults filled in.
    #[schema(value_type = Object)]
    input: Json,
    /// Per-step inputs of the start.
    #[schema(value_type = Object)]
    trigger_steps: Value,
    /// Each step that has begun or is settled, by its id.
    steps: BTreeMap<String, StepContext>,
    /// What it gave, where it completed.
    #[schema(value_type = Option<Object>)]
    outputs: Option<Json>,
}

/// What a step read and gave.
#[derive(Serialize, ToSchema)]
struct StepContext {
    /// Where it stands, as in the run.
    status: &'static str,
    /// Its resolved configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    inputs: Option<Json>,
    /// What it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    result: Option<Json>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

/// Reads what a run was started with, and what each step gave.
#[utoipa::path(
    get,
    path = "/workflows/{workflow_id}/runs/{run_id}/context",
    operation_id = "get_run_context",
    tag = "runs",
    params(("workflow_id" = Uuid, Path, description = "The workflow"), ("run_id" = Uuid, Path, description = "The run")),
    responses((status = 200, body = RunContext), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn context(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path((workflow, run)): Path<(Uuid, Uuid)>,
) -> Result<JsonBody<RunContext>, Problem> {
    let project = app.project(&may.place);
    let record = project.run_of(&WorkflowId::new(workflow.to_string()), run.into()).await?;
    let timeline = project.timeline(&record).await?;
    let began = |index: &StepIndex| !matches!(timeline.state.steps[*index].phase, Phase::Waiting);
    let steps = timeline.order().map(|(index, _)| index).filter(began).map(|index| {
        let state = &timeline.state.steps[index];
        let context = StepContext {
            status: word(timeline.standing(index)),
            inputs: state.inputs.clone(),
            result: state.result().map(|result| result.json().clone()),
            error: timeline.error(index).cloned().map(Failure::from),
        };
        (timeline.state.graph.steps[index].id.to_string(), context)
    });
    let RunState { start, end, input, .. } = &timeline.state;
    Ok(JsonBody(RunContext {
        run_id: record.run,
        status: record.status.as_str(),
        input: input.json().clone(),
        trigger_steps: Value::Object(start.trigger_steps.clone()),
        steps: steps.collect(),
        outputs: end.as_ref().and_then(|end| end.as_ref().ok()).cloned(),
    }))
}
