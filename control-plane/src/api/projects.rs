//! Projects of a workspace, and their members.

use super::{
    State,
    at_project::AtProject,
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::access::{
    May, ProjectRole, Visibility,
    entry::Reach,
    permission::{EnterTenant, ManageProject, ManageTenant},
    project_members::{self, ProjectMember},
    projects::{self, Project, ProjectChange},
};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of projects.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(change))
        .routes(routes!(list_members))
        .routes(routes!(set_member, remove_member))
}

/// A project, as you see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Project)]
struct ProjectView {
    /// Its id.
    #[schema(format = Uuid)]
    id: String,
    /// Its name in URLs, and in `X-Project-Id`. It never changes.
    slug: String,
    /// Its name for people.
    name: String,
    /// Who may enter it.
    visibility: Visibility,
    /// What you are there.
    role: ProjectRole,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was taken out of use; null while it is in use.
    #[schema(format = DateTime)]
    archived_at: Option<String>,
    /// Whether a version that asks for more than the one in use waits for an admin's approval.
    require_grant_approval: bool,
}

/// Which projects are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ProjectQuery {
    /// How many items at most: 1 to 200, 50 where it is missing.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Whether archived ones are listed too.
    archived: Option<bool>,
}

/// A project to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewProject {
    /// Its name in URLs: up to 63 lower-case letters, digits and hyphens, with a letter first.
    #[schema(max_length = 63)]
    slug: String,
    /// Its name for people.
    #[schema(max_length = 100)]
    name: String,
    /// Who may enter it; `public`, which is every member of the workspace, where it is missing.
    visibility: Option<Visibility>,
}

/// What is to become of a project. What is missing stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProjectPatch {
    /// Another name for people.
    #[schema(max_length = 100)]
    name: Option<String>,
    /// Who may enter it.
    visibility: Option<Visibility>,
    /// `true` takes it out of use: nobody enters it, and what is in it stays. `false` takes it back.
    archived: Option<bool>,
    /// `true` lets versions that are published from now on wait for an admin's approval where they ask for more than the one in
    /// use; `false`, which it is at first, lets none wait. What waits already goes on waiting.
    require_grant_approval: Option<bool>,
}

/// Who, in the path behind the project.
#[derive(Deserialize)]
struct MemberPath {
    user: Uuid,
}

/// Somebody with a role of their own in a project.
#[derive(Serialize, ToSchema)]
#[schema(as = ProjectMember)]
struct ProjectMemberView {
    /// Who.
    user_id: Uuid,
    /// Their address.
    email: String,
    /// Their name.
    display_name: String,
    /// As what.
    role: ProjectRole,
    /// Since when.
    #[schema(format = DateTime)]
    created_at: String,
}

/// A role to give.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProjectRoleGiven {
    /// As what. Admins of the workspace are admins of every project, whatever is given here.
    role: ProjectRole,
}

impl From<Project> for ProjectView {
    fn from(project: Project) -> Self {
        Self {
            id: project.id.to_string(),
            slug: project.slug,
            name: project.name,
            visibility: project.visibility,
            role: project.role,
            created_at: project.created_at.to_string(),
            archived_at: project.archived_at.map(|at| at.to_string()),
            require_grant_approval: project.requires_grant_approval,
        }
    }
}

impl From<ProjectMember> for ProjectMemberView {
    fn from(member: ProjectMember) -> Self {
        let ProjectMember { user, email, display_name, role, created_at } = member;
        Self { user_id: user.as_uuid(), email, display_name, role, created_at: created_at.to_string() }
    }
}

/// Lists the projects of the workspace that you may enter.
#[utoipa::path(
    get,
    path = "/projects",
    operation_id = "list_projects",
    tag = "projects",
    params(ProjectQuery),
    responses((status = 200, body = Page<ProjectView>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list(
    may: May<EnterTenant>,
    Given(app): Given<State>,
    Query(query): Query<ProjectQuery>,
) -> Result<Json<Page<ProjectView>>, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let (after, limit) = (page.after::<String>()?.unwrap_or_default(), page.limit()?);
    let reach = if query.archived == Some(true) { Reach::Archived } else { Reach::InUse };
    let projects = projects::list(app.database(), &may, reach, &after, limit + 1).await?;
    Ok(Json(Page::of(projects, limit, |project| project.id.to_string(), ProjectView::from)))
}

/// Makes a project in the workspace.
#[utoipa::path(
    post,
    path = "/projects",
    operation_id = "create_project",
    tag = "projects",
    request_body = NewProject,
    responses((status = 201, body = ProjectView), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn create(
    may: May<ManageTenant>,
    Given(app): Given<State>,
    Body(new, _): Body<NewProject>,
) -> Result<(StatusCode, Json<ProjectView>), Problem> {
    let visibility = new.visibility.unwrap_or(Visibility::Public);
    let project = projects::found(app.database(), &may, &new.slug, &new.name, visibility).await?;
    Ok((StatusCode::CREATED, Json(project.into())))
}

/// Renames a project, opens or closes it, takes it out of use or back, says whether wider grants need an approval.
#[utoipa::path(
    patch,
    path = "/projects/{id}",
    operation_id = "update_project",
    tag = "projects",
    params(("id" = String, Path, description = "The project: slug or id.")),
    request_body = ProjectPatch,
    responses((status = 200, body = ProjectView), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn change(
    AtProject(may): AtProject<ManageProject>,
    Given(app): Given<State>,
    Body(patch, _): Body<ProjectPatch>,
) -> Result<Json<ProjectView>, Problem> {
    let change = ProjectChange {
        name: patch.name,
        visibility: patch.visibility,
        archived: patch.archived,
        requires_grant_approval: patch.require_grant_approval,
    };
    Ok(Json(projects::change(app.database(), &may, change).await?.into()))
}

/// Lists those who have a role of their own in the project.
#[utoipa::path(
    get,
    path = "/projects/{id}/members",
    operation_id = "list_project_members",
    tag = "projects",
    params(("id" = String, Path, description = "The project: slug or id."), PageQuery),
    responses((status = 200, body = Page<ProjectMemberView>), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn list_members(
    AtProject(may): AtProject<ManageProject>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ProjectMemberView>>, Problem> {
    let (after, limit) = (page.after::<String>()?.unwrap_or_default(), page.limit()?);
    let members = project_members::list(app.database(), &may, &after, limit + 1).await?;
    Ok(Json(Page::of(members, limit, |member| member.user.to_string(), ProjectMemberView::from)))
}

/// Gives a member of the workspace a role in the project, or another one.
#[utoipa::path(
    put,
    path = "/projects/{id}/members/{user}",
    operation_id = "set_project_member",
    tag = "projects",
    params(("id" = String, Path, description = "The project: slug or id."), ("user" = Uuid, Path, description = "Who.")),
    request_body = ProjectRoleGiven,
    responses((status = 200, body = ProjectMemberView), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn set_member(
    AtProject(may): AtProject<ManageProject>,
    Given(app): Given<State>,
    Path(member): Path<MemberPath>,
    Body(given, _): Body<ProjectRoleGiven>,
) -> Result<Json<ProjectMemberView>, Problem> {
    Ok(Json(project_members::set(app.database(), &may, member.user.into(), given.role).await?.into()))
}

/// Takes away somebody's role of their own in the project. What the project gives everybody, they keep.
#[utoipa::path(
    delete,
    path = "/projects/{id}/members/{user}",
    operation_id = "remove_project_member",
    tag = "projects",
    params(("id" = String, Path, description = "The project: slug or id."), ("user" = Uuid, Path, description = "Who.")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn remove_member(
    AtProject(may): AtProject<ManageProject>,
    Given(app): Given<State>,
    Path(member): Path<MemberPath>,
) -> Result<StatusCode, Problem> {
    project_members::remove(app.database(), &may, member.user.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}
