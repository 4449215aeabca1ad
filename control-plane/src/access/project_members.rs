//! Who has a role of their own in a project.

use super::{
    AccessError, InProject, May, ProjectRole, UserId, members,
    permission::ManageProject,
    tenants::{self, word},
};
use agentruntime_engine::database::{Database, Row, StoreError, Values, id, text, time};
use agentruntime_host_api::Timestamp;
use serde_json::json;

const LIST: &str = "SELECT p.user_id, u.email, u.display_name, p.role, p.created_at FROM project_members p \
    JOIN users u ON u.user_id = p.user_id \
    WHERE p.tenant_id = $1 AND p.project_id = $2 AND p.user_id > $3 ORDER BY p.user_id LIMIT $4";

const SET: &str = "INSERT INTO project_members (tenant_id, project_id, user_id, role, created_at) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role";

const READ: &str = "SELECT p.user_id, u.email, u.display_name, p.role, p.created_at FROM project_members p \
    JOIN users u ON u.user_id = p.user_id WHERE p.tenant_id = $1 AND p.project_id = $2 AND p.user_id = $3";

const DELETE: &str =
    "DELETE FROM project_members WHERE tenant_id = $1 AND project_id = $2 AND user_id = $3 RETURNING role";

/// Somebody with a role of their own in a project.
#[derive(Debug)]
pub(crate) struct ProjectMember {
    /// Who.
    pub(crate) user: UserId,
    /// Their address.
    pub(crate) email: String,
    /// Their name.
    pub(crate) display_name: String,
    /// As what.
    pub(crate) role: ProjectRole,
    /// Since when.
    pub(crate) created_at: Timestamp,
}

/// Those who have a role of their own in the project, after one of them.
pub(crate) async fn list(
    database: &Database,
    may: &May<ManageProject>,
    after: &str,
    limit: u32,
) -> Result<Vec<ProjectMember>, AccessError> {
    let mut values = place(may);
    values.text(after).number(limit);
    database.rows(LIST, values).await?.iter().map(read).collect()
}

/// Gives a member of the workspace a role in the project.
pub(crate) async fn set(
    database: &Database,
    may: &May<ManageProject>,
    user: UserId,
    role: ProjectRole,
) -> Result<ProjectMember, AccessError> {
    let (tenant, now) = (&may.place.tenant.tenant, database.time());
    let mut tx = database.begin().await?;
    // Nobody leaves the workspace between the look and the row.
    tenants::lock(&mut tx, tenant).await?;
    let Some(_) = members::read(&mut tx, tenant, user).await? else { return Err(not_found(user)) };
    let mut values = place(may);
    values.id(user).text(role.as_str()).number(now.as_micros());
    tx.rows(SET, values).await?;
    may.record(&mut tx, "project.member.set", &may.place.project, json!({ "user_id": user, "role": role }), now)
        .await?;
    let mut values = place(may);
    values.id(user);
    let set = read(&tx.row(READ, values).await?.ok_or(StoreError::NotFound)?)?;
    tx.commit().await?;
    Ok(set)
}

/// Takes a role of somebody's own away. What the project gives everybody, they keep.
pub(crate) async fn remove(database: &Database, may: &May<ManageProject>, user: UserId) -> Result<(), AccessError> {
    let now = database.time();
    let mut tx = database.begin().await?;
    let mut values = place(may);
    values.id(user);
    if tx.row(DELETE, values).await?.is_none() {
        return Err(not_found(user));
    }
    may.record(&mut tx, "project.member.remove", &may.place.project, json!({ "user_id": user }), now).await?;
    Ok(tx.commit().await?)
}

fn place(may: &May<ManageProject>) -> Values {
    let InProject { tenant, project, .. } = &may.place;
    let mut values = Values::default();
    values.text(tenant.tenant.as_str()).text(project.as_str());
    values
}

fn not_found(user: UserId) -> AccessError {
    AccessError::NotFound { kind: "member", id: user.to_string() }
}

fn read(row: &Row) -> Result<ProjectMember, AccessError> {
    Ok(ProjectMember {
        user: id(row, 0)?,
        email: text(row, 1)?.to_owned(),
        display_name: text(row, 2)?.to_owned(),
        role: word(row, 3)?,
        created_at: time(row, 4)?,
    })
}
