//! Personal access tokens: one's own.

use super::{
    State,
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::access::{
    AccessError, May, TokenScope, TokenScopes,
    permission::OwnTokens,
    tokens::{self, Pat, TokenSpec},
};
use agentruntime_host_api::{ProjectId, Timestamp, TimestampError};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of tokens.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// A personal access token. The token itself was shown when it was made, and is not kept.
#[derive(Serialize, ToSchema)]
#[schema(as = Pat)]
struct PatView {
    /// Its id.
    id: Uuid,
    /// Its name.
    name: String,
    /// Its last characters, to tell tokens apart.
    hint: String,
    /// What it may be used for, beside the role of its owner.
    scopes: Vec<TokenScope>,
    /// The only project it may be used in; null for all of the workspace.
    #[schema(format = Uuid)]
    project_id: Option<String>,
    /// When it ends; null for never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// When it was used last, to the minute; null for never.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was revoked; null while it is valid.
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
}

/// A token to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPat {
    /// Its name.
    #[schema(max_length = 100)]
    name: String,
    /// What it may be used for.
    scopes: Vec<TokenScope>,
    /// The only project it is to be used in: slug or id.
    #[schema(max_length = 63)]
    project_id: Option<String>,
    /// When it is to end.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// A new token.
#[derive(Serialize, ToSchema)]
struct CreatedPat {
    /// What is kept of it.
    pat: PatView,
    /// The token, which is shown this once.
    #[schema(example = "pat_…")]
    token: String,
}

impl From<Pat> for PatView {
    fn from(pat: Pat) -> Self {
        Self {
            id: pat.id.as_uuid(),
            name: pat.name,
            hint: pat.hint,
            scopes: pat.scopes.iter().collect(),
            project_id: pat.project.map(|project| project.to_string()),
            expires_at: pat.expires_at.map(|at| at.to_string()),
            last_used_at: pat.last_used_at.map(|at| at.to_string()),
            created_at: pat.created_at.to_string(),
            revoked_at: pat.revoked_at.map(|at| at.to_string()),
        }
    }
}

/// Lists your tokens in the workspace, revoked ones too, in the order in which they were made.
#[utoipa::path(
    get,
    path = "/pats",
    operation_id = "list_pats",
    tag = "tokens",
    params(PageQuery),
    responses((status = 200, body = Page<PatView>), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn list(
    may: May<OwnTokens>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<PatView>>, Problem> {
    let (after, limit) = (page.after::<String>()?.unwrap_or_default(), page.limit()?);
    let mut pats = tokens::list(app.database(), &may, &after, limit + 1).await?;
    for pat in &mut pats {
        pat.last_used_at = pat.last_used_at.max(app.last_used.of(pat.id));
    }
    Ok(Json(Page::of(pats, limit, |pat| pat.id.to_string(), PatView::from)))
}

/// Makes a token. The answer shows it, this once. A token cannot make one that may do more than itself.
#[utoipa::path(
    post,
    path = "/pats",
    operation_id = "create_pat",
    tag = "tokens",
    request_body = NewPat,
    responses((status = 201, body = CreatedPat), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn create(
    may: May<OwnTokens>,
    Given(app): Given<State>,
    Body(new, _): Body<NewPat>,
) -> Result<(StatusCode, Json<CreatedPat>), Problem> {
    let invalid = |error: TimestampError| AccessError::Invalid { field: "expires_at", message: error.to_string() };
    let expires_at = new.expires_at.map(|at| at.parse::<Timestamp>()).transpose().map_err(invalid)?;
    let (scopes, project) = (TokenScopes::new(new.scopes), new.project_id.map(ProjectId::new));
    let spec = TokenSpec { name: new.name, project, scopes, expires_at };
    let (pat, new) = tokens::issue(app.database(), &may, spec).await?;
    Ok((StatusCode::CREATED, Json(CreatedPat { pat: pat.into(), token: new.expose().to_owned() })))
}

/// Revokes one of your tokens and every token that was made with it, from the next request on.
#[utoipa::path(
    delete,
    path = "/pats/{id}",
    operation_id = "revoke_pat",
    tag = "tokens",
    params(("id" = Uuid, Path, description = "The token's id.")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn revoke(may: May<OwnTokens>, Given(app): Given<State>, Path(id): Path<Uuid>) -> Result<StatusCode, Problem> {
    tokens::revoke(app.database(), &may, id.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}
