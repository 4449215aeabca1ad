//! Which projects of a workspace somebody may enter: all of them at once, for lists across projects.

use super::{AccessError, Caller, InTenant, projects::role_in, tenants::word};
use agentruntime_engine::database::{Database, Row, Values, maybe_text, text};
use agentruntime_host_api::ProjectId;

/// Projects that a list across a workspace looks into: a question to the database each, the newest first.
pub(crate) const PROJECTS_LISTED_MAX: u32 = 1_000;

const SELECT: &str = "SELECT p.project_id, p.visibility, m.role FROM projects p \
    LEFT JOIN project_members m ON m.project_id = p.project_id AND m.user_id = $2 \
    WHERE p.tenant_id = $1 AND p.archived_at IS NULL AND ($3 IS NULL OR p.project_id = $3) \
    ORDER BY p.created_at DESC, p.project_id LIMIT $4";

/// The projects that the caller may enter; a token that is bound to one reaches no other.
pub(crate) async fn projects(
    database: &Database,
    caller: &Caller,
    place: &InTenant,
) -> Result<Vec<ProjectId>, AccessError> {
    let bound = caller.credential.project().map(ProjectId::as_str);
    let mut values = Values::default();
    values.text(place.tenant.as_str()).id(caller.user).maybe_text(bound).number(PROJECTS_LISTED_MAX);
    let rows = database.rows(SELECT, values).await?;
    let enterable = rows.iter().map(|row| Ok(may_enter(row, place)?.then_some(ProjectId::new(text(row, 0)?))));
    enterable.filter_map(Result::transpose).collect()
}

fn may_enter(row: &Row, place: &InTenant) -> Result<bool, AccessError> {
    let own = maybe_text(row, 2)?.map(|_| word(row, 2)).transpose()?;
    Ok(role_in(place.role, word(row, 1)?, own).is_some())
}
