//! Workflows: a name and a draft, from which versions are published.

use super::{
    State,
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
    validation::{ValidateWorkflow, Validation},
};
use crate::{
    access::{
        May,
        permission::{ReadWorkflows, ValidateWorkflows, WriteWorkflows},
    },
    operations::drafts::{
        Archived, DESCRIPTION_CHARS_MAX, Expected, NAME_CHARS_MAX, NewWorkflow, Workflow, WorkflowChange,
        WorkflowCursor, WorkflowFilter,
    },
};
use agentruntime_engine::graph;
use agentruntime_host_api::{Json, WorkflowId};
use axum::{
    extract::State as Given,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// A text to look for: names are not longer.
const SEARCH_CHARS_MAX: usize = NAME_CHARS_MAX;

/// The routes of workflows.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(schema))
        .routes(routes!(read, change, archive))
        .routes(routes!(validate_graph))
        .routes(routes!(validate))
}

/// The engine's name for the workflow with this id.
pub(super) fn named(id: Uuid) -> WorkflowId {
    WorkflowId::new(id.to_string())
}

/// A workflow, without its draft.
#[derive(Serialize, ToSchema)]
#[schema(as = Workflow)]
pub(super) struct WorkflowBody {
    /// Its id.
    #[schema(format = Uuid)]
    id: String,
    /// For people; several workflows may have the same.
    name: String,
    /// What it is for.
    description: String,
    /// Its version in use, which starts unless another one is named: the newest one that is approved; null where none is.
    published_version: Option<u32>,
    /// What a start with `use_run_setup_defaults` is given, as it was written.
    #[schema(value_type = Option<RunSetupBody>)]
    run_setup: Option<Json>,
    /// Raised by every change of the draft: what `ETag` holds.
    revision: u64,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When the draft was changed last.
    #[schema(format = DateTime)]
    updated_at: String,
    /// When it was archived; null while it is in use.
    #[schema(format = DateTime)]
    archived_at: Option<String>,
}

/// A workflow with its draft.
#[derive(Serialize, ToSchema)]
pub(super) struct WorkflowWithDraft {
    #[serde(flatten)]
    workflow: WorkflowBody,
    /// The draft of the graph, as it was given.
    #[schema(value_type = Object)]
    graph: Json,
}

/// What a start with `use_run_setup_defaults` is given, where its own parameters do not say otherwise. Other members are kept.
#[derive(Deserialize, ToSchema)]
#[schema(as = RunSetup)]
#[expect(dead_code, reason = "describes what is kept as it was given")]
struct RunSetupBody {
    /// The input.
    trigger_payload: Option<Value>,
    /// Input of single steps, by their ids; also lets roots with `no_auto_start` run.
    #[schema(value_type = Option<Object>)]
    trigger_steps: Option<Value>,
    /// Roots that are left out.
    excluded_step_ids: Option<Vec<String>>,
}

/// A workflow to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateWorkflow {
    /// For people, on one line.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// What it is for.
    #[schema(max_length = 10_000)]
    description: Option<String>,
    /// The draft: an object. It need not be valid before it is published.
    #[schema(value_type = Object)]
    graph: Json,
    /// What a start with `use_run_setup_defaults` is given.
    #[schema(value_type = Option<RunSetupBody>)]
    run_setup: Option<Json>,
}

/// What to change. What is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeWorkflow {
    /// Another name.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Another description.
    #[schema(max_length = 10_000)]
    description: Option<String>,
    /// Another draft.
    #[schema(value_type = Option<Object>)]
    graph: Option<Json>,
    /// Another run setup; null takes it away.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Option<RunSetupBody>)]
    run_setup: Option<Option<Json>>,
}

/// Which workflows are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WorkflowQuery {
    /// Only those whose name has this in it, in upper or lower case.
    #[param(max_length = 200)]
    q: Option<String>,
    /// `true`: the archived ones, instead of those in use.
    #[serde(default)]
    archived: bool,
    /// How many items at most: 1 to 200, 50 where it is missing.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists the workflows of the project, the newest first.
#[utoipa::path(
    get,
    path = "/workflows",
    operation_id = "list_workflows",
    tag = "workflows",
    params(WorkflowQuery),
    responses((status = 200, body = Page<WorkflowBody>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Query(query): Query<WorkflowQuery>,
) -> Result<axum::Json<Page<WorkflowBody>>, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let archived = if query.archived { Archived::Yes } else { Archived::No };
    let filter = WorkflowFilter { text: query.q.map(searched).transpose()?, archived, before: page.after()? };
    let workflows = app.project(&may.place).list_workflows(&filter, limit + 1).await?;
    let page = Page::of(workflows, limit, |workflow| WorkflowCursor::from(workflow), WorkflowBody::from);
    Ok(axum::Json(page))
}

/// Makes a workflow with a draft, which need not be valid yet.
#[utoipa::path(
    post,
    path = "/workflows",
    operation_id = "create_workflow",
    tag = "workflows",
    request_body = CreateWorkflow,
    responses((status = 201, body = WorkflowWithDraft), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn create(
    may: May<WriteWorkflows>,
    Given(app): Given<State>,
    Body(body, _): Body<CreateWorkflow>,
) -> Result<(StatusCode, [(header::HeaderName, HeaderValue); 1], axum::Json<WorkflowWithDraft>), Problem> {
    let CreateWorkflow { name, description, graph, run_setup } = body;
    let new = NewWorkflow { name, description: description.unwrap_or_default(), graph: graph.clone(), run_setup };
    let workflow = app.project(&may.place).create_workflow(&may.caller, new).await?;
    Ok((StatusCode::CREATED, etag(&workflow), with_draft(workflow, graph)))
}

/// The JSON Schema of a graph, for editors.
#[utoipa::path(
    get,
    path = "/workflows/schema",
    operation_id = "get_graph_schema",
    tag = "workflows",
    responses((status = 200, body = Object), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn schema(_may: May<ReadWorkflows>) -> axum::Json<Value> {
    axum::Json(graph::schema())
}

/// Reads a workflow with its draft.
#[utoipa::path(
    get,
    path = "/workflows/{id}",
    operation_id = "get_workflow",
    tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow")),
    responses(
        (status = 200, body = WorkflowWithDraft, headers(("ETag" = String, description = "For `If-Match` of a change"))),
        (status = "default", body = ProblemBody)
    ),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn read(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<([(header::HeaderName, HeaderValue); 1], axum::Json<WorkflowWithDraft>), Problem> {
    let (workflow, graph) = app.project(&may.place).draft(&named(id)).await?;
    Ok((etag(&workflow), with_draft(workflow, graph)))
}

/// Changes a workflow's name, description, draft or run setup. With `If-Match`, only if the draft is the one that was read.
#[utoipa::path(
    patch,
    path = "/workflows/{id}",
    operation_id = "update_workflow",
    tag = "workflows",
    params(
        ("id" = Uuid, Path, description = "The workflow"),
        ("If-Match" = Option<String>, Header, description = "An `ETag` that was read: another draft answers 412")
    ),
    request_body = ChangeWorkflow,
    responses(
        (status = 200, body = WorkflowWithDraft, headers(("ETag" = String, description = "For `If-Match` of a change"))),
        (status = "default", body = ProblemBody)
    ),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn change(
    may: May<WriteWorkflows>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    Body(body, _): Body<ChangeWorkflow>,
) -> Result<([(header::HeaderName, HeaderValue); 1], axum::Json<WorkflowWithDraft>), Problem> {
    let ChangeWorkflow { name, description, graph, run_setup } = body;
    let change = WorkflowChange { name, description, graph, run_setup };
    let project = app.project(&may.place);
    let (workflow, graph) = project.change_workflow(&may.caller, &named(id), change, &expected(&headers)).await?;
    Ok((etag(&workflow), with_draft(workflow, graph)))
}

/// Archives a workflow: nothing of it starts any more; its versions and runs stay readable.
#[utoipa::path(
    delete,
    path = "/workflows/{id}",
    operation_id = "archive_workflow",
    tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow")),
    responses((status = 204, description = "It is archived"), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn archive(
    may: May<WriteWorkflows>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    app.project(&may.place).archive_workflow(&may.caller, &named(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Checks the draft, or the graph in the body, as publishing would, and calls no tool and no model.
#[utoipa::path(
    post,
    path = "/workflows/{id}/validate",
    operation_id = "validate_workflow",
    tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow")),
    request_body(content = Option<ValidateWorkflow>, description = "Nothing is all checks on the draft"),
    responses((status = 200, body = Validation), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn validate(
    may: May<ValidateWorkflows>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    body: Option<Body<ValidateWorkflow>>,
) -> Result<axum::Json<Validation>, Problem> {
    let (question, share) = body.map(|Body(body, share)| (body, share)).unzip();
    let question = question.unwrap_or_default().into();
    let report = app.project(&may.place).validate_draft(app.checking(), &named(id), question, share).await?;
    Ok(axum::Json(report.into()))
}

/// Checks a graph of which there is no workflow yet, as publishing would. Nothing is kept of it.
#[utoipa::path(
    post,
    path = "/workflows/validate",
    operation_id = "validate_graph",
    tag = "workflows",
    request_body(content = ValidateWorkflow, description = "`graph` is what is checked; without it, there is no graph, which is an error"),
    responses((status = 200, body = Validation), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn validate_graph(
    may: May<ValidateWorkflows>,
    Given(app): Given<State>,
    Body(question, share): Body<ValidateWorkflow>,
) -> Result<axum::Json<Validation>, Problem> {
    let report = app.project(&may.place).validate_graph(app.checking(), question.into(), share).await?;
    Ok(axum::Json(report.into()))
}

impl From<Workflow> for WorkflowBody {
    fn from(workflow: Workflow) -> Self {
        Self {
            id: workflow.id.to_string(),
            name: workflow.name,
            description: workflow.description,
            published_version: workflow.published_version,
            run_setup: workflow.run_setup,
            revision: workflow.revision,
            created_at: workflow.created_at.to_string(),
            updated_at: workflow.updated_at.to_string(),
            archived_at: workflow.archived_at.map(|at| at.to_string()),
        }
    }
}

fn with_draft(workflow: Workflow, graph: Json) -> axum::Json<WorkflowWithDraft> {
    axum::Json(WorkflowWithDraft { workflow: workflow.into(), graph })
}

fn etag(workflow: &Workflow) -> [(header::HeaderName, HeaderValue); 1] {
    let value = format!("\"{}\"", workflow.revision);
    [(header::ETAG, HeaderValue::from_str(&value).expect("digits in quotes"))]
}

/// The revisions that `If-Match` allows. Tags that no draft can have match none.
fn expected(headers: &HeaderMap) -> Expected {
    let mut revisions = Vec::new();
    for value in headers.get_all(header::IF_MATCH) {
        for tag in value.to_str().unwrap_or_default().split(',').map(str::trim) {
            if tag == "*" {
                return Expected::Anything;
            }
            revisions.extend(tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')?.parse::<u64>().ok()));
        }
    }
    match headers.contains_key(header::IF_MATCH) {
        true => Expected::Revisions(revisions),
        false => Expected::Anything,
    }
}

fn searched(text: String) -> Result<String, Problem> {
    if text.chars().count() > SEARCH_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(Problem::query("q", format!("it is at most {SEARCH_CHARS_MAX} characters on one line")));
    }
    Ok(text)
}

/// What is there, null too.
fn there<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

const _: () = assert!(NAME_CHARS_MAX == 200 && DESCRIPTION_CHARS_MAX == 10_000, "the description above says so");
