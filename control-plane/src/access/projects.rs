//! Projects of a workspace, and who may enter them. A slug stays what it was; name, visibility and use change.

use super::{
    AccessError, Caller, InProject, InTenant, May, ProjectRole, TenantRole, UserId, Visibility,
    audit::{self, Entry},
    entry::Reach,
    field, members,
    permission::{EnterTenant, ManageProject, ManageTenant},
    rows::{Ceiling, check_room},
    tenants::word,
};
use agentruntime_engine::database::{
    Database, Row, StoreError, Tx, Values, maybe_text, maybe_time, number, text, time,
};
use agentruntime_host_api::{ProjectId, Timestamp};
use serde_json::json;
use uuid::Uuid;

const ENTERED: &str = "SELECT p.project_id, p.slug, p.visibility, m.role FROM projects p \
    LEFT JOIN project_members m ON m.project_id = p.project_id AND m.user_id = $3 \
    WHERE p.tenant_id = $1 AND (p.project_id = $2 OR p.slug = $2) \
    AND ($4 = 1 OR p.archived_at IS NULL)";

const INSERT: &str = "INSERT INTO projects (project_id, tenant_id, slug, name, visibility, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, slug) DO NOTHING RETURNING project_id";

const INSERT_MAKER: &str = "INSERT INTO project_members (tenant_id, project_id, user_id, role, created_at) \
    VALUES ($1, $2, $3, 'project_admin', $4)";

const COUNT: &str = "SELECT COUNT(*) FROM projects WHERE tenant_id = $1";

const LIST: &str = "SELECT p.project_id, p.slug, p.visibility, m.role, p.name, p.created_at, p.archived_at, p.require_grant_approval \
    FROM projects p LEFT JOIN project_members m ON m.project_id = p.project_id AND m.user_id = $2 \
    WHERE p.tenant_id = $1 AND p.project_id > $3 AND ($4 = 1 OR p.visibility = 'public' OR m.role IS NOT NULL) \
    AND ($5 = 1 OR p.archived_at IS NULL) AND ($6 IS NULL OR p.project_id = $6) ORDER BY p.project_id LIMIT $7";

const READ: &str = "SELECT p.project_id, p.slug, p.visibility, m.role, p.name, p.created_at, p.archived_at, p.require_grant_approval \
    FROM projects p LEFT JOIN project_members m ON m.project_id = p.project_id AND m.user_id = $2 \
    WHERE p.tenant_id = $1 AND p.project_id = $3";

const UPDATE: &str = "UPDATE projects SET name = $3, visibility = $4, archived_at = $5, require_grant_approval = $6 \
    WHERE tenant_id = $1 AND project_id = $2";

/// Projects of one workspace, archived ones too: lists and choices stay usable.
const PROJECTS_MAX: u32 = 1_000;

/// A project, as somebody who may enter it sees it.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// Its id.
    pub(crate) id: ProjectId,
    /// Its name in URLs and headers.
    pub(crate) slug: String,
    /// Its name for people.
    pub(crate) name: String,
    /// Who may enter it.
    pub(crate) visibility: Visibility,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it was taken out of use.
    pub(crate) archived_at: Option<Timestamp>,
    /// What the one who sees it is there.
    pub(crate) role: ProjectRole,
    /// Whether a version that asks for more than the one in use needs an admin's approval.
    pub(crate) requires_grant_approval: bool,
}

/// What is to become of a project. What is missing stays.
#[derive(Debug, Default)]
pub(crate) struct ProjectChange {
    /// Another name.
    pub(crate) name: Option<String>,
    /// Who may enter it.
    pub(crate) visibility: Option<Visibility>,
    /// Whether it is out of use.
    pub(crate) archived: Option<bool>,
    /// Whether a version that asks for more than the one in use needs an admin's approval.
    pub(crate) requires_grant_approval: Option<bool>,
}

/// The project by slug or id, if the user may enter it.
pub(crate) async fn entered(
    database: &Database,
    user: UserId,
    tenant: InTenant,
    name: &str,
    reach: Reach,
) -> Result<Option<InProject>, AccessError> {
    let mut values = Values::default();
    values.text(tenant.tenant.as_str()).text(name).id(user).number(i64::from(reach == Reach::Archived));
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

/// The projects of the workspace that the caller may enter, after one of them: a token for one project that one only.
pub(crate) async fn list(
    database: &Database,
    may: &May<EnterTenant>,
    reach: Reach,
    after: &str,
    limit: u32,
) -> Result<Vec<Project>, AccessError> {
    let InTenant { tenant, role, .. } = &may.place;
    let mut values = Values::default();
    values.text(tenant.as_str()).id(may.caller.user).text(after).number(i64::from(*role >= TenantRole::Admin));
    values.number(i64::from(reach == Reach::Archived));
    values.maybe_text(may.caller.credential.project().map(ProjectId::as_str)).number(limit);
    database.rows(LIST, values).await?.iter().map(|row| project(row, *role)).collect()
}

/// Makes a project in the workspace.
pub(crate) async fn found(
    database: &Database,
    may: &May<ManageTenant>,
    slug: &str,
    name: &str,
    visibility: Visibility,
) -> Result<Project, AccessError> {
    let (name, now) = (field::name("name", name)?, database.time());
    let mut tx = database.begin().await?;
    members::take_turn(&mut tx, may).await?;
    let mut values = Values::default();
    values.text(may.place.tenant.as_str());
    let message = format!("a workspace has {PROJECTS_MAX} projects at most; use another workspace");
    let ceiling = Ceiling { count: COUNT, max: PROJECTS_MAX, code: "TOO_MANY_PROJECTS", message };
    check_room(&mut tx, values, ceiling).await?;
    let made = create(&mut tx, &may.caller, &may.place, slug, &name, visibility, now.as_micros()).await?;
    tx.commit().await?;
    let InProject { project: id, slug, role, .. } = made;
    let requires_grant_approval = false;
    Ok(Project { id, slug, name, visibility, created_at: now, archived_at: None, role, requires_grant_approval })
}

/// Makes a project, with its maker as its admin.
pub(crate) async fn create(
    tx: &mut Tx<'_>,
    caller: &Caller,
    tenant: &InTenant,
    slug: &str,
    name: &str,
    visibility: Visibility,
    now: i64,
) -> Result<InProject, AccessError> {
    field::check_slug(slug)?;
    let project = ProjectId::new(Uuid::now_v7().to_string());
    let mut values = Values::default();
    values.text(project.as_str()).text(tenant.tenant.as_str()).text(slug).text(name);
    values.text(visibility.as_str()).number(now);
    if tx.row(INSERT, values).await?.is_none() {
        let message = format!("a project `{slug}` exists already; choose another slug");
        return Err(AccessError::Conflict { code: "SLUG_TAKEN", message });
    }
    let mut values = Values::default();
    values.text(tenant.tenant.as_str()).text(project.as_str()).id(caller.user).number(now);
    tx.rows(INSERT_MAKER, values).await?;
    let details = json!({ "slug": slug, "visibility": visibility });
    let entry = Entry { action: "project.create", target: project.to_string(), details };
    audit::record(tx, &tenant.tenant, caller, entry, now).await?;
    Ok(InProject { tenant: tenant.clone(), project, slug: slug.to_owned(), role: ProjectRole::Admin })
}

/// Changes a project.
pub(crate) async fn change(
    database: &Database,
    may: &May<ManageProject>,
    change: ProjectChange,
) -> Result<Project, AccessError> {
    let name = change.name.as_deref().map(|name| field::name("name", name)).transpose()?;
    let (InProject { tenant, project: id, .. }, now) = (&may.place, database.time());
    let mut tx = database.begin().await?;
    // Writing the log takes the workspace's turn; taking it first keeps others from changing what is read here.
    super::tenants::lock(&mut tx, &tenant.tenant).await?;
    let mut values = Values::default();
    values.text(tenant.tenant.as_str()).id(may.caller.user).text(id.as_str());
    let mut changed = project(&tx.row(READ, values).await?.ok_or(StoreError::NotFound)?, tenant.role)?;
    let details = json!({
        "name": name,
        "visibility": change.visibility,
        "archived": change.archived,
        "require_grant_approval": change.requires_grant_approval,
    });
    changed.name = name.unwrap_or(changed.name);
    changed.visibility = change.visibility.unwrap_or(changed.visibility);
    changed.requires_grant_approval = change.requires_grant_approval.unwrap_or(changed.requires_grant_approval);
    changed.archived_at = match change.archived {
        Some(true) => changed.archived_at.or(Some(now)),
        Some(false) => None,
        None => changed.archived_at,
    };
    let mut values = Values::default();
    values.text(tenant.tenant.as_str()).text(id.as_str()).text(&changed.name).text(changed.visibility.as_str());
    values.maybe_number(changed.archived_at.map(Timestamp::as_micros));
    values.number(i64::from(changed.requires_grant_approval));
    tx.rows(UPDATE, values).await?;
    may.record(&mut tx, "project.update", id, details, now).await?;
    tx.commit().await?;
    Ok(changed)
}

fn project(row: &Row, by_tenant: TenantRole) -> Result<Project, AccessError> {
    let (visibility, own) = (word(row, 2)?, own_role(row)?);
    Ok(Project {
        id: ProjectId::new(text(row, 0)?),
        slug: text(row, 1)?.to_owned(),
        visibility,
        name: text(row, 4)?.to_owned(),
        created_at: time(row, 5)?,
        archived_at: maybe_time(row, 6)?,
        role: role_in(by_tenant, visibility, own).ok_or(StoreError::NotFound)?,
        requires_grant_approval: number::<i64>(row, 7)? != 0,
    })
}

fn own_role(row: &Row) -> Result<Option<ProjectRole>, AccessError> {
    Ok(maybe_text(row, 3)?.map(|_| word(row, 3)).transpose()?)
}

fn in_project(row: &Row, tenant: InTenant) -> Result<Option<InProject>, AccessError> {
    let (visibility, own) = (word(row, 2)?, own_role(row)?);
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
