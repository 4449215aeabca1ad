//! Questions to people: the inbox, and answers.

use super::{
    State,
    answers::{self, Large},
    commands::note,
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::{
    access::{
        May,
        audit::Entry,
        permission::{ReadWorkflows, RunWorkflows},
    },
    operations::Answer,
};
use agentruntime_engine::store::{OpenTasks, TaskCursor, TaskRecord};
use agentruntime_host_api::{Json, RunId, TaskId, TenantId, Timestamp, WorkflowId};
use axum::{Json as JsonBody, extract::State as Given};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of tasks.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list_pending)).routes(routes!(list_pending_of_run)).routes(routes!(complete))
}

/// A question to a person.
#[derive(Serialize, ToSchema)]
struct Task {
    /// The question.
    #[schema(value_type = Uuid)]
    task_id: TaskId,
    /// The run that waits.
    #[schema(value_type = Uuid)]
    run_id: RunId,
    /// The workflow of the run.
    workflow_id: String,
    /// The step that asks; inside a loop, `loop[3].step`.
    step_id: String,
    /// What kind of answer is wanted.
    task_type: String,
    /// What the person is shown.
    #[schema(value_type = Object)]
    task_payload: Json,
    /// `pending`.
    status: &'static str,
    /// When it was asked.
    created_at: String,
    /// When it expires.
    expires_at: Option<String>,
}

impl From<(TaskRecord, WorkflowId)> for Task {
    fn from((task, workflow): (TaskRecord, WorkflowId)) -> Self {
        Self {
            task_id: task.task,
            run_id: task.run,
            workflow_id: workflow.to_string(),
            step_id: task.step.to_string(),
            task_type: task.task_type,
            task_payload: task.payload,
            status: task.status.as_str(),
            created_at: task.created_at.to_string(),
            expires_at: task.due.map(|due| due.to_string()),
        }
    }
}

/// Lists the questions of the project that wait for an answer, the oldest first.
#[utoipa::path(
    get,
    path = "/tasks/pending",
    operation_id = "list_pending_tasks",
    tag = "tasks",
    params(PageQuery),
    responses((status = 200, body = Page<Task>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list_pending(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Large, Problem> {
    let (limit, after) = (page.limit()?, page.after::<(i64, TaskId)>()?.map(cursor));
    let project = app.project(&may.place);
    let page = project.pending_page(None, after, limit).await?;
    written(&app, &project.scope.tenant, page)
}

/// Lists the questions of one run that wait for an answer, the oldest first.
#[utoipa::path(
    get,
    path = "/workflows/{workflow_id}/runs/{run_id}/tasks/pending",
    operation_id = "list_pending_tasks_of_run",
    tag = "tasks",
    params(
        ("workflow_id" = Uuid, Path, description = "The workflow"),
        ("run_id" = Uuid, Path, description = "The run"),
        PageQuery
    ),
    responses((status = 200, body = Page<Task>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list_pending_of_run(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path((workflow, run)): Path<(Uuid, Uuid)>,
    Query(page): Query<PageQuery>,
) -> Result<Large, Problem> {
    let (limit, after) = (page.limit()?, page.after::<(i64, TaskId)>()?.map(cursor));
    let project = app.project(&may.place);
    let run = project.run_of(&WorkflowId::new(workflow.to_string()), run.into()).await?.run;
    let page = project.pending_page(Some(run), after, limit).await?;
    written(&app, &project.scope.tenant, page)
}

fn written(app: &State, tenant: &TenantId, page: OpenTasks) -> Result<Large, Problem> {
    let bytes: usize = page.tasks.iter().map(|(task, _)| task.payload.as_str().len()).sum();
    let share = answers::room(app, tenant, bytes as u64)?;
    Large::of(&Page::cut(page.tasks, page.has_more, place, Task::from), share)
}

fn place((task, _): &(TaskRecord, WorkflowId)) -> (i64, TaskId) {
    (task.created_at.as_micros(), task.task)
}

fn cursor((created_at, task): (i64, TaskId)) -> TaskCursor {
    TaskCursor { created_at: Timestamp::from_micros(created_at), task }
}

/// What a person decided.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CompleteBody {
    /// Yes or no.
    approved: bool,
    /// The fields of the answer, such as `{ "reason": "too dear" }`: all but yes or no stands here. The workflow reads them beside
    /// `approved`, as `steps.<id>.result.reason`.
    #[serde(default)]
    result: Option<Map<String, Value>>,
}

/// A question that was answered.
#[derive(Serialize, ToSchema)]
struct CompletedTask {
    /// The question.
    #[schema(value_type = Uuid)]
    task_id: TaskId,
    /// The run that waited.
    #[schema(value_type = Uuid)]
    run_id: RunId,
    /// `completed`.
    status: &'static str,
    /// What was decided.
    approved: bool,
}

/// Answers a question. The first answer counts: a second one is refused with 409.
///
/// What the person says beside yes or no goes under `result`: `{ "approved": false, "result": { "reason": "too dear" } }`. The
/// steps after the question read it as `steps.<id>.result.reason`, beside `steps.<id>.result.approved`.
#[utoipa::path(
    post,
    path = "/workflows/{workflow_id}/runs/{run_id}/tasks/{task_id}/complete",
    operation_id = "complete_task",
    tag = "tasks",
    params(
        ("workflow_id" = Uuid, Path, description = "The workflow"),
        ("run_id" = Uuid, Path, description = "The run"),
        ("task_id" = Uuid, Path, description = "The question")
    ),
    request_body = CompleteBody,
    responses((status = 200, body = CompletedTask), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:run"]), ("session" = []))
)]
async fn complete(
    may: May<RunWorkflows>,
    Given(app): Given<State>,
    Path((workflow, run, task)): Path<(Uuid, Uuid, Uuid)>,
    Body(body, _): Body<CompleteBody>,
) -> Result<JsonBody<CompletedTask>, Problem> {
    let (workflow, task, approved) = (WorkflowId::new(workflow.to_string()), TaskId::from(task), body.approved);
    let project = app.project(&may.place);
    let run = project.run_of(&workflow, run.into()).await?.run;
    let answer = Answer::new(approved, body.result.unwrap_or_default())?;
    project.check_pending(run, task).await?;
    let details = json!({ "run_id": run, "workflow_id": workflow, "approved": approved });
    note(&app, &may.caller, &may.place, Entry { action: "task.complete", target: task.to_string(), details }).await?;
    project.complete_task_at(&app.node, run, task, answer).await?;
    Ok(JsonBody(CompletedTask { task_id: task, run_id: run, status: "completed", approved }))
}
