//! Workspaces.

use super::{
    State,
    extract::{Body, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::access::{
    InSession, May, SignedIn, TenantRole,
    permission::ManageTenant,
    tenants::{self, Tenant, TenantChange},
};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes of workspaces.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, change))
}

/// A workspace, as one of its members sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Tenant)]
struct TenantView {
    /// Its id.
    #[schema(format = Uuid)]
    id: String,
    /// Its name in URLs, and in `X-Tenant-Id`. It never changes.
    slug: String,
    /// Its name for people.
    name: String,
    /// Whether only addresses of its verified domains may join.
    restrict_domains: bool,
    /// What you are there.
    role: TenantRole,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
}

/// A workspace to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    /// Its name in URLs: up to 63 lower-case letters, digits and hyphens, with a letter first.
    #[schema(max_length = 63)]
    slug: String,
    /// Its name for people.
    #[schema(max_length = 100)]
    name: String,
}

/// What is to become of a workspace. What is missing stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TenantPatch {
    /// Another name for people.
    #[schema(max_length = 100)]
    name: Option<String>,
    /// Whether only addresses of its verified domains may join. Needs a verified domain, and your own address in one. Who
    /// is a member already stays.
    restrict_domains: Option<bool>,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        let Tenant { id, slug, name, restrict_domains, created_at, role } = tenant;
        let (id, created_at) = (id.to_string(), created_at.to_string());
        Self { id, slug, name, restrict_domains, role, created_at }
    }
}

/// Lists the workspaces that you may enter; with a token, the one that it belongs to.
#[utoipa::path(
    get,
    path = "/tenants",
    operation_id = "list_tenants",
    tag = "workspaces",
    params(PageQuery),
    responses((status = 200, body = Page<TenantView>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list(
    who: SignedIn,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<TenantView>>, Problem> {
    let (after, limit) = (page.after::<String>()?.unwrap_or_default(), page.limit()?);
    let tenants = tenants::list(app.database(), &who, &after, limit + 1).await?;
    Ok(Json(Page::of(tenants, limit, |tenant| tenant.id.to_string(), TenantView::from)))
}

/// Makes a workspace, with you as its owner. Only a session can.
#[utoipa::path(
    post,
    path = "/tenants",
    operation_id = "create_tenant",
    tag = "workspaces",
    request_body = NewTenant,
    responses((status = 201, body = TenantView), (status = "default", body = ProblemBody)),
    security(("session" = []))
)]
async fn create(
    who: InSession,
    Given(app): Given<State>,
    Body(new, _): Body<NewTenant>,
) -> Result<(StatusCode, Json<TenantView>), Problem> {
    let tenant = tenants::found(app.database(), &who, &new.slug, &new.name).await?;
    Ok((StatusCode::CREATED, Json(tenant.into())))
}

/// Shows the workspace that `X-Tenant-Id` names, or that the token belongs to.
#[utoipa::path(
    get,
    path = "/tenants/current",
    operation_id = "get_tenant",
    tag = "workspaces",
    responses((status = 200, body = TenantView), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn read(may: May<ManageTenant>, Given(app): Given<State>) -> Result<Json<TenantView>, Problem> {
    Ok(Json(tenants::read(app.database(), &may).await?.into()))
}

/// Renames the workspace, or closes it to all but the addresses of its domains.
#[utoipa::path(
    patch,
    path = "/tenants/current",
    operation_id = "update_tenant",
    tag = "workspaces",
    request_body = TenantPatch,
    responses((status = 200, body = TenantView), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn change(
    may: May<ManageTenant>,
    Given(app): Given<State>,
    Body(patch, _): Body<TenantPatch>,
) -> Result<Json<TenantView>, Problem> {
    let change = TenantChange { name: patch.name, restrict_domains: patch.restrict_domains };
    Ok(Json(tenants::change(app.database(), &may, change).await?.into()))
}
