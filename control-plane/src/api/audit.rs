//! The log of who did what.

use super::{
    State,
    extract::Query,
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::access::{
    AccessError, May,
    audit::{self, Integrity, Line, Wanted},
    permission::ReadAudit,
};
use agentruntime_host_api::Timestamp;
use axum::{Json, extract::State as Given};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of the audit log.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(integrity))
}

/// One line of the log.
#[derive(Serialize, ToSchema)]
struct AuditLine {
    /// Its number in the workspace's log, from 1 and without gaps.
    seq: u64,
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// Who; null where the service acted by itself.
    #[schema(format = Uuid)]
    user_id: Option<String>,
    /// With which token; null for a session.
    #[schema(format = Uuid)]
    pat_id: Option<String>,
    /// From which network address.
    address: Option<String>,
    /// In which request.
    request_id: Option<String>,
    /// What was done: a stable word.
    #[schema(example = "member.update")]
    action: String,
    /// To what: an id.
    target: String,
    /// What else matters.
    details: Value,
    /// SHA-256 over the line before and this one, in hex.
    hash: String,
}

/// Which lines are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// How many items at most: 1 to 200, 50 where it is missing.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Those of one action.
    action: Option<String>,
    /// Those of one person.
    user: Option<Uuid>,
    /// Those with one token. What it started is told by the runs: `GET /v1/runs?pat_id=`.
    pat_id: Option<Uuid>,
    /// Not before this time.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Before this time.
    #[param(format = DateTime)]
    to: Option<String>,
}

/// Where the check begins.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct IntegrityQuery {
    /// After this line, which is taken as it is; from the first line where it is missing.
    after_seq: Option<u64>,
}

/// What following the chain of hashes has shown.
#[derive(Serialize, ToSchema)]
struct IntegrityView {
    /// Whether every line that was looked at is what it was when it was written.
    intact: bool,
    /// Whether the end of the log was reached. If not, go on with `after_seq` = `checked_through`.
    complete: bool,
    /// The last line that was looked at and found intact.
    checked_through: u64,
    /// The first line that is missing or was changed.
    broken_at: Option<u64>,
    /// The number of the newest line. Keep it with `head_hash` somewhere else, and a later check tells whether the log up
    /// to here was rewritten.
    head_seq: u64,
    /// The hash of the newest line.
    head_hash: String,
}

impl From<Line> for AuditLine {
    fn from(line: Line) -> Self {
        let details = serde_json::from_str(&line.details).unwrap_or(Value::String(line.details));
        let Line { seq, at, user, pat, address, request, action, target, hash, .. } = line;
        let at = at.to_string();
        Self { seq, at, user_id: user, pat_id: pat, address, request_id: request, action, target, details, hash }
    }
}

impl From<Integrity> for IntegrityView {
    fn from(found: Integrity) -> Self {
        let (intact, complete) = (found.broken_at.is_none(), found.is_complete());
        let Integrity { checked_through, head: (head_seq, head_hash), broken_at } = found;
        Self { intact, complete, checked_through, broken_at, head_seq, head_hash }
    }
}

/// Lists what was done in the workspace, the newest first.
#[utoipa::path(
    get,
    path = "/audit",
    operation_id = "list_audit",
    tag = "audit",
    params(AuditQuery),
    responses((status = 200, body = Page<AuditLine>), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn list(
    may: May<ReadAudit>,
    Given(app): Given<State>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditLine>>, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let wanted = Wanted {
        action: query.action,
        user: query.user.map(Into::into),
        pat: query.pat_id.map(Into::into),
        from: query.from.map(|at| point("from", &at)).transpose()?,
        to: query.to.map(|at| point("to", &at)).transpose()?,
        before: page.after::<u64>()?,
    };
    let lines = audit::list(app.database(), &may, &wanted, limit + 1).await?;
    Ok(Json(Page::of(lines, limit, |line| line.seq, AuditLine::from)))
}

/// Follows the log's chain of hashes, and says whether a line is missing or was changed.
#[utoipa::path(
    get,
    path = "/audit/integrity",
    operation_id = "check_audit",
    tag = "audit",
    params(IntegrityQuery),
    responses((status = 200, body = IntegrityView), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn integrity(
    may: May<ReadAudit>,
    Given(app): Given<State>,
    Query(query): Query<IntegrityQuery>,
) -> Result<Json<IntegrityView>, Problem> {
    Ok(Json(audit::check(app.database(), &may, query.after_seq.unwrap_or(0)).await?.into()))
}

fn point(field: &'static str, text: &str) -> Result<Timestamp, AccessError> {
    text.parse().map_err(|error: agentruntime_host_api::TimestampError| AccessError::Invalid {
        field,
        message: error.to_string(),
    })
}
