//! Approving versions that ask for more than the one in use, and rejecting them.

use super::{
    State,
    extract::{Body, Path},
    problem::{Problem, ProblemBody},
    versions::GrantName,
    workflows::named,
};
use crate::{
    access::{May, permission::ApproveVersions},
    operations::approvals::{Approval, ApprovalState, Verdict},
};
use axum::{Json, extract::State as Given};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of approvals.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(approve)).routes(routes!(reject))
}

/// Who approved or rejected a version.
#[derive(Serialize, ToSchema)]
pub(super) struct DecisionBody {
    /// Who.
    #[schema(format = Uuid)]
    by: String,
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// Why, if they said so.
    comment: Option<String>,
}

/// What was decided about a version.
#[derive(Serialize, ToSchema)]
struct VersionApproval {
    /// 1, 2, 3 …
    version: u32,
    /// Of which workflow.
    #[schema(format = Uuid)]
    workflow_id: String,
    /// Whether it may be started and called.
    approval: ApprovalState,
    /// What needed the approval: what it asked for newly when it was published.
    new_grants: Vec<GrantName>,
    /// Who decided, and when.
    decision: Option<DecisionBody>,
}

/// What to say about it.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DecideVersion {
    /// Why.
    #[schema(max_length = 2_000)]
    comment: Option<String>,
}

/// An approval as answers tell it: its state, what needed it, who decided.
pub(super) fn told(approval: Approval) -> (ApprovalState, Vec<GrantName>, Option<DecisionBody>) {
    let Approval { state, new_grants, decision } = approval;
    let decision = decision.map(|it| DecisionBody { by: it.by, at: it.at.to_string(), comment: it.comment });
    (state, new_grants.into_iter().map(GrantName::from).collect(), decision)
}

async fn decide(
    may: May<ApproveVersions>,
    app: State,
    (id, version): (Uuid, u32),
    verdict: Verdict,
    body: Option<Body<DecideVersion>>,
) -> Result<Json<VersionApproval>, Problem> {
    let DecideVersion { comment } = body.map(|Body(body, _)| body).unwrap_or_default();
    let project = app.project(&may.place);
    let decided = project.decide_version(&may.caller, &named(id), version, verdict, comment.as_deref()).await?;
    let (approval, new_grants, decision) = told(decided);
    Ok(Json(VersionApproval { version, workflow_id: id.to_string(), approval, new_grants, decision }))
}

/// Approves a version that asks for more than the one in use: it can be started and called from then on, and is the one in use
/// if none that is newer is. One that was rejected can still be approved; one that is approved already answers 409.
#[utoipa::path(
    post,
    path = "/workflows/{id}/versions/{version}/approve",
    operation_id = "approve_version",
    tag = "versions",
    params(("id" = Uuid, Path, description = "The workflow"), ("version" = u32, Path, description = "1, 2, 3 …")),
    request_body = Option<DecideVersion>,
    responses((status = 200, body = VersionApproval), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn approve(
    may: May<ApproveVersions>,
    Given(app): Given<State>,
    Path(version): Path<(Uuid, u32)>,
    body: Option<Body<DecideVersion>>,
) -> Result<Json<VersionApproval>, Problem> {
    decide(may, app, version, Verdict::Approve, body).await
}

/// Rejects a version that waits for an approval. Nothing starts or calls it; what is in use stays so. One that is approved
/// answers 409, as it may have been started.
#[utoipa::path(
    post,
    path = "/workflows/{id}/versions/{version}/reject",
    operation_id = "reject_version",
    tag = "versions",
    params(("id" = Uuid, Path, description = "The workflow"), ("version" = u32, Path, description = "1, 2, 3 …")),
    request_body = Option<DecideVersion>,
    responses((status = 200, body = VersionApproval), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn reject(
    may: May<ApproveVersions>,
    Given(app): Given<State>,
    Path(version): Path<(Uuid, u32)>,
    body: Option<Body<DecideVersion>>,
) -> Result<Json<VersionApproval>, Problem> {
    decide(may, app, version, Verdict::Reject, body).await
}
