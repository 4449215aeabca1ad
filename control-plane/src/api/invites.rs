//! Invitations to a workspace.

use super::{
    State,
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::{
    access::{
        InSession, InTenant, May, TenantRole,
        invites::{self, Invite},
        permission::ManageTenant,
    },
    operations::invitation,
};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of invitations.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke)).routes(routes!(accept))
}

/// An invitation. Its token went out by mail and is shown nowhere.
#[derive(Serialize, ToSchema)]
#[schema(as = Invite)]
struct InviteView {
    /// Its id.
    id: Uuid,
    /// Who is invited: only the account with this address can accept.
    email: String,
    /// As what.
    role: TenantRole,
    /// By whom.
    invited_by: Uuid,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
    /// Until when it is good.
    #[schema(format = DateTime)]
    expires_at: String,
    /// When it was accepted.
    #[schema(format = DateTime)]
    accepted_at: Option<String>,
    /// When it was taken back.
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
}

/// Somebody to invite.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewInvite {
    /// Their address.
    #[schema(max_length = 254)]
    email: String,
    /// As what; no higher than your own role. A member where it is missing.
    role: Option<TenantRole>,
}

/// The token that came by mail.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Acceptance {
    /// The token in the mail.
    #[schema(max_length = 100)]
    token: String,
}

/// The workspace that was joined.
#[derive(Serialize, ToSchema)]
struct Joined {
    /// Its id.
    #[schema(format = Uuid)]
    tenant_id: String,
    /// Its name in URLs, and in `X-Tenant-Id`.
    slug: String,
    /// What you are there.
    role: TenantRole,
}

impl From<Invite> for InviteView {
    fn from(invite: Invite) -> Self {
        Self {
            id: invite.id.as_uuid(),
            email: invite.email,
            role: invite.role,
            invited_by: invite.invited_by.as_uuid(),
            created_at: invite.created_at.to_string(),
            expires_at: invite.expires_at.to_string(),
            accepted_at: invite.accepted_at.map(|at| at.to_string()),
            revoked_at: invite.revoked_at.map(|at| at.to_string()),
        }
    }
}

/// Lists the invitations of the workspace, in the order in which they were made.
#[utoipa::path(
    get,
    path = "/tenants/current/invites",
    operation_id = "list_invites",
    tag = "workspaces",
    params(PageQuery),
    responses((status = 200, body = Page<InviteView>), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn list(
    may: May<ManageTenant>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<InviteView>>, Problem> {
    let (after, limit) = (page.after::<String>()?.unwrap_or_default(), page.limit()?);
    let invites = invites::list(app.database(), &may, &after, limit + 1).await?;
    Ok(Json(Page::of(invites, limit, |invite| invite.id.to_string(), InviteView::from)))
}

/// Invites somebody by mail. The token in it is good once, for seven days; an earlier one for the same address ends.
#[utoipa::path(
    post,
    path = "/tenants/current/invites",
    operation_id = "create_invite",
    tag = "workspaces",
    request_body = NewInvite,
    responses((status = 201, body = InviteView), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn create(
    may: May<ManageTenant>,
    Given(app): Given<State>,
    Body(new, _): Body<NewInvite>,
) -> Result<(StatusCode, Json<InviteView>), Problem> {
    let invite = invitation::invite(&app, &may, &new.email, new.role.unwrap_or(TenantRole::Member)).await?;
    Ok((StatusCode::CREATED, Json(invite.into())))
}

/// Takes an invitation back.
#[utoipa::path(
    delete,
    path = "/tenants/current/invites/{id}",
    operation_id = "revoke_invite",
    tag = "workspaces",
    params(("id" = Uuid, Path, description = "The invitation.")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn revoke(may: May<ManageTenant>, Given(app): Given<State>, Path(id): Path<Uuid>) -> Result<StatusCode, Problem> {
    invites::revoke(app.database(), &may, id.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Accepts an invitation that came by mail to your address. Only a session can.
#[utoipa::path(
    post,
    path = "/invites/accept",
    operation_id = "accept_invite",
    tag = "workspaces",
    request_body = Acceptance,
    responses((status = 200, body = Joined), (status = "default", body = ProblemBody)),
    security(("session" = []))
)]
async fn accept(
    who: InSession,
    Given(app): Given<State>,
    Body(acceptance, _): Body<Acceptance>,
) -> Result<Json<Joined>, Problem> {
    let InTenant { tenant, slug, role } = invites::accept(app.database(), &who, &acceptance.token).await?;
    Ok(Json(Joined { tenant_id: tenant.to_string(), slug, role }))
}
