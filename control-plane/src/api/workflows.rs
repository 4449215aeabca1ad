//! Workflows: a name and a draft, from which versions are published.

use super::{
    State,
    extract::Query,
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::access::{May, permission::ReadWorkflows};
use axum::{Json, extract::State as Given};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes of workflows.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A workflow.
#[derive(Serialize, ToSchema)]
struct Workflow {
    /// Its id.
    id: String,
}

/// Lists the workflows of the project, in the order in which they were made.
#[utoipa::path(
    get,
    path = "/workflows",
    tag = "workflows",
    params(PageQuery),
    responses((status = 200, body = Page<Workflow>), (status = "default", body = ProblemBody))
)]
async fn list(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<Workflow>>, Problem> {
    let limit = page.limit()?;
    let workflows = app.project(&may.place).workflows().await?;
    let item = |record: agentruntime_engine::store::WorkflowRecord| Workflow { id: record.workflow.to_string() };
    Ok(Json(Page::of(workflows, limit, |record| record.workflow.to_string(), item)))
}
