//! One run: where it and its steps stand, its events, what it read and gave.

use super::{
    State,
    answers::{self, Large},
    bodies::Share,
    commands::Failure,
    extract::{Path, Query},
    problem::{Problem, ProblemBody},
    runs::RunSummary,
};
use crate::{
    access::{May, permission::ReadWorkflows},
    operations::{
        Timeline,
        timeline::{Standing, type_of},
    },
};
use agentruntime_engine::{
    graph::StepIndex,
    run::{
        Phase, RunState,
        event::{Event, StepInputs},
    },
    store::{EVENTS_MAX, RunRecord},
};
use agentruntime_host_api::{Json, RunId, TaskId, Timestamp, WorkflowId};
use axum::{Json as JsonBody, extract::State as Given};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of one run.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(read)).routes(routes!(summary)).routes(routes!(events)).routes(routes!(context))
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
) -> Result<Large, Problem> {
    let (record, timeline, share) = whole(&app, &may, workflow, run).await?;
    let now = app.clock().now();
    let steps = timeline.order().map(|(index, _)| RunStep::of(&timeline, index, now)).collect();
    let RunState { end, .. } = &timeline.state;
    let outputs = end.as_ref().and_then(|end| end.as_ref().ok()).cloned();
    Large::of(&Run { outputs, steps, summary: record.into() }, share)
}

/// A run with all that its events tell, and what an answer with that counts.
async fn whole(
    app: &State,
    may: &May<ReadWorkflows>,
    workflow: Uuid,
    run: Uuid,
) -> Result<(RunRecord, Timeline, Share), Problem> {
    let project = app.project(&may.place);
    let record = project.run_of(&WorkflowId::new(workflow.to_string()), run.into()).await?;
    let share = answers::room(app, &project.scope.tenant, project.run_bytes(record.run).await?)?;
    let timeline = project.timeline(&record).await?;
    Ok((record, timeline, share))
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
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Only those with a higher number; 0 where it is missing.
    after_seq: Option<u64>,
    /// How many at most: 1 to 1000, 200 where it is missing. Of large ones a page has fewer; `next_after_seq` says whether
    /// others follow.
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
) -> Result<Large, Problem> {
    let limit = query.limit.unwrap_or(EVENTS_DEFAULT);
    if !(1..=EVENTS_MAX).contains(&limit) {
        return Err(Problem::query("limit", format!("it is 1 to {EVENTS_MAX}")));
    }
    let after = query.after_seq.unwrap_or_default();
    if i64::try_from(after).is_err() {
        return Err(Problem::query("after_seq", "it is the number of an event, or 0"));
    }
    let project = app.project(&may.place);
    let record = project.run_of(&WorkflowId::new(workflow.to_string()), run.into()).await?;
    let page = project.events_page(record.run, after, limit).await?;
    let last = page.last().map(|event| event.seq).filter(|seq| *seq < record.last_seq);
    let bytes = page.iter().map(Event::document_bytes).sum();
    let share = answers::room(&app, &project.scope.tenant, bytes as u64)?;
    let run = record.run;
    let written = move || {
        let items = page.iter().map(|event| event.public(run)).collect();
        Large::of(&EventsPage { items, next_after_seq: last }, share)
    };
    app.node.work_on_json(&project.scope.tenant, bytes, written).await
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
    trigger_steps: StepInputs,
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
) -> Result<Large, Problem> {
    let (record, timeline, share) = whole(&app, &may, workflow, run).await?;
    let began = |index: &StepIndex| !matches!(timeline.state.steps[*index].phase, Phase::Waiting);
    let steps = timeline.order().map(|(index, _)| index).filter(began).map(|index| {
        let state = &timeline.state.steps[index];
        let context = StepContext {
            status: word(timeline.standing(index)),
            inputs: state.inputs.as_ref().map(|inputs| inputs.json().clone()),
            result: state.result().map(|result| result.json().clone()),
            error: timeline.error(index).cloned().map(Failure::from),
        };
        (timeline.state.graph.steps[index].id.to_string(), context)
    });
    let RunState { start, end, input, .. } = &timeline.state;
    let context = RunContext {
        run_id: record.run,
        status: record.status.as_str(),
        input: input.json().clone(),
        trigger_steps: start.trigger_steps.clone(),
        steps: steps.collect(),
        outputs: end.as_ref().and_then(|end| end.as_ref().ok()).cloned(),
    };
    Large::of(&context, share)
}
