//! Projects of a workspace, and who may enter them.

use super::{
    AccessError, Caller, InProject, InTenant, ProjectRole, TenantRole, UserId, Visibility,
    audit::{self, Entry},
    tenants::check_slug,
};
use agentruntime_engine::database::{Database, Row, Tx, Values, maybe_text, text};
use agentruntime_host_api::ProjectId;
use uuid::Uuid;

const ENTERED: &str = "SELECT p.project_id, p.slug, p.visibility, m.role FROM projects p \
    LEFT JOIN project_members m ON m.project_id = p.project_id AND m.user_id = $3 \
    WHERE p.tenant_id = $1 AND (p.project_id = $2 OR p.slug = $2) AND p.archived_at IS NULL";

const INSERT: &str = "INSERT INTO projects (project_id, tenant_id, slug, name, visibility, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, slug) DO NOTHING RETURNING project_id";

/// The project by slug or id, if the user may enter it.
pub(crate) async fn entered(
    database: &Database,
    user: UserId,
    tenant: InTenant,
    name: &str,
) -> Result<Option<InProject>, AccessError> {
    let mut values = Values::default();
    values.text(tenant.tenant.as_str()).text(name).id(user);
    let rows = database.rows(ENTERED, values).await?;
    rows.first().map_or(Ok(None), |row| in_project(row, tenant))
}

/// What somebody is in a project: by their role in the workspace, by the project's own, or as it is public.
pub(crate) fn role_in(tenant: TenantRole, visibility: Visibility, own: Option<ProjectRole>) -> Option<ProjectRole> {
    let by_tenant = (tenant >= TenantRole::Admin).then_some(ProjectRole::Admin);
    let by_visibility = (visibility == Visibility::Public).then_some(ProjectRole::Contributor);
    // A role given in a public project may also be a lower one: that is what it was given for.
    by_tenant.or(own).or(by_visibility)
}

/// Makes a project. A private one has its maker as its admin.
pub(crate) async fn create(
    tx: &mut Tx<'_>,
    caller: &Caller,
    tenant: &InTenant,
    slug: &str,
    name: &str,
    visibility: Visibility,
    now: i64,
) -> Result<InProject, AccessError> {
    check_slug(slug)?;
    let project = ProjectId::new(Uuid::now_v7().to_string());
    let mut values = Values::default();
    values.text(project.as_str()).text(tenant.tenant.as_str()).text(slug).text(name);
    values.text(visibility.as_str()).number(now);
    if tx.row(INSERT, values).await?.is_none() {
        let message = format!("a project `{slug}` exists already; choose another slug");
        return Err(AccessError::Conflict { code: "SLUG_TAKEN", message });
    }
    let details = serde_json::json!({ "slug": slug, "visibility": visibility });
    let entry = Entry { action: "project.create", target: project.to_string(), details };
    audit::record(tx, &tenant.tenant, caller, entry, now).await?;
    Ok(InProject { tenant: tenant.clone(), project, slug: slug.to_owned(), role: ProjectRole::Admin })
}

fn in_project(row: &Row, tenant: InTenant) -> Result<Option<InProject>, AccessError> {
    let visibility = super::tenants::word(row, 2)?;
    let own = maybe_text(row, 3)?.map(|_| super::tenants::word(row, 3)).transpose()?;
    let Some(role) = role_in(tenant.role, visibility, own) else { return Ok(None) };
    Ok(Some(InProject { tenant, project: ProjectId::new(text(row, 0)?), slug: text(row, 1)?.to_owned(), role }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_enter_a_project() {
        let role = |tenant, visibility, own| role_in(tenant, visibility, own);
        use super::Visibility::{Private, Public};
        use ProjectRole::{Admin, Contributor, Viewer};
        assert_eq!(role(TenantRole::Member, Public, None), Some(Contributor));
        assert_eq!(role(TenantRole::Member, Private, None), None);
        assert_eq!(role(TenantRole::Member, Private, Some(Viewer)), Some(Viewer));
        assert_eq!(role(TenantRole::Member, Public, Some(Viewer)), Some(Viewer));
        assert_eq!(role(TenantRole::Admin, Private, None), Some(Admin));
        assert_eq!(role(TenantRole::Owner, Private, Some(Viewer)), Some(Admin));
    }
}
