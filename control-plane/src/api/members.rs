//! Members of a workspace.

use super::{
    State,
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::access::{
    May, TenantRole,
    members::{self, Member, MemberChange},
    permission::ManageTenant,
};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of members.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(change, remove))
}

/// A member of the workspace.
#[derive(Serialize, ToSchema)]
#[schema(as = Member)]
struct MemberView {
    /// Who.
    user_id: Uuid,
    /// Their address.
    email: String,
    /// Their name.
    display_name: String,
    /// As what.
    role: TenantRole,
    /// Since when.
    #[schema(format = DateTime)]
    created_at: String,
    /// Since when they cannot enter; null for those who can.
    #[schema(format = DateTime)]
    deactivated_at: Option<String>,
}

/// What is to become of a member. What is missing stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MemberPatch {
    /// Another role, no higher than your own.
    role: Option<TenantRole>,
    /// `false` deactivates: they cannot enter from their next request on, and their tokens here are revoked for good.
    /// `true` lets them in again.
    active: Option<bool>,
}

impl From<Member> for MemberView {
    fn from(member: Member) -> Self {
        Self {
            user_id: member.user.as_uuid(),
            email: member.email,
            display_name: member.display_name,
            role: member.role,
            created_at: member.created_at.to_string(),
            deactivated_at: member.deactivated_at.map(|at| at.to_string()),
        }
    }
}

/// Lists the members of the workspace, deactivated ones too.
#[utoipa::path(
    get,
    path = "/tenants/current/members",
    operation_id = "list_members",
    tag = "workspaces",
    params(PageQuery),
    responses((status = 200, body = Page<MemberView>), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn list(
    may: May<ManageTenant>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<MemberView>>, Problem> {
    let (after, limit) = (page.after::<String>()?.unwrap_or_default(), page.limit()?);
    let members = members::list(app.database(), &may, &after, limit + 1).await?;
    Ok(Json(Page::of(members, limit, |member| member.user.to_string(), MemberView::from)))
}

/// Changes a member's role, deactivates them, or lets them in again. The last active owner stays one, and only owners change
/// owners.
#[utoipa::path(
    patch,
    path = "/tenants/current/members/{user}",
    operation_id = "update_member",
    tag = "workspaces",
    params(("user" = Uuid, Path, description = "Who.")),
    request_body = MemberPatch,
    responses((status = 200, body = MemberView), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn change(
    may: May<ManageTenant>,
    Given(app): Given<State>,
    Path(user): Path<Uuid>,
    Body(patch, _): Body<MemberPatch>,
) -> Result<Json<MemberView>, Problem> {
    let change = MemberChange { role: patch.role, active: patch.active };
    Ok(Json(members::change(app.database(), &may, user.into(), change).await?.into()))
}

/// Takes a member out of the workspace and its projects; their tokens here are revoked.
#[utoipa::path(
    delete,
    path = "/tenants/current/members/{user}",
    operation_id = "remove_member",
    tag = "workspaces",
    params(("user" = Uuid, Path, description = "Who.")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn remove(
    may: May<ManageTenant>,
    Given(app): Given<State>,
    Path(user): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    members::remove(app.database(), &may, user.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}
