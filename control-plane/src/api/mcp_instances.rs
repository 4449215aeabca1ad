//! Instances of MCP servers: what workflows name when they call a tool, and where the credentials for it are kept.

use super::{
    State,
    extract::{Body, Path, Query},
    mcp_servers::{Tool, shown_tool},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::{
    access::{
        May,
        permission::{ReadConnections, WriteConnections},
    },
    integrations::{
        IntegrationError, McpInstanceId, McpServerId,
        mcp::{
            catalog::{self, Listed},
            instances::{self, Change, ConfigProfile, McpInstance, Wanted},
        },
    },
};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of instances.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(resolve))
        .routes(routes!(get, change, delete))
        .routes(routes!(list_profiles, create_profile))
        .routes(routes!(set_active))
        .routes(routes!(delete_profile))
        .routes(routes!(tools))
}

/// An instance of an MCP server.
#[derive(Serialize, ToSchema)]
#[schema(as = McpInstance)]
struct Instance {
    /// Its id.
    id: Uuid,
    /// For people, and for workflows, which name it or its id as `instance_id`.
    #[schema(example = "crm")]
    name: String,
    /// The server.
    server_id: Uuid,
    /// The version of its tools.
    version: u32,
    /// The config profile that calls use; null: they have no credentials.
    active_profile: Option<String>,
    /// Who made it.
    created_by: Uuid,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was changed last.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// What a new instance is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMcpInstance)]
struct NewInstance {
    /// For people, and for workflows; 1 to 100 characters, without `/`, and no other instance of the project has it.
    #[schema(min_length = 1, max_length = 100, example = "crm")]
    name: String,
    /// The server.
    server_id: Uuid,
    /// The version of its tools.
    #[schema(minimum = 1, example = 1)]
    version: u32,
}

/// What is to be different; what is missing stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = McpInstanceChange)]
struct InstanceChange {
    /// The name.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// The version of the server's tools.
    #[schema(minimum = 1)]
    version: Option<u32>,
}

/// Which instance is wanted: by one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = McpResolution)]
struct Resolution {
    /// Its id or its name.
    #[schema(example = "crm")]
    instance_id: Option<String>,
    /// The address of its server.
    #[schema(example = "https://crm.example.com/mcp")]
    server_url: Option<String>,
    /// A tool that is wanted as well.
    #[schema(example = "search")]
    tool_name: Option<String>,
}

/// An instance, and one of its tools where that was asked for.
#[derive(Serialize, ToSchema)]
#[schema(as = McpResolved)]
struct Resolved {
    /// The instance.
    instance: Instance,
    /// The tool.
    tool: Option<Tool>,
}

/// Where the credentials of an instance are kept.
#[derive(Serialize, ToSchema)]
#[schema(as = McpConfigProfile)]
struct Profile {
    /// Its name.
    #[schema(example = "live")]
    name: String,
    /// By the fields of the server: `connection/<connection>/<credential key>`.
    #[schema(example = json!({ "token": "connection/crm/api_key" }))]
    bindings: BTreeMap<String, String>,
    /// Whether calls use it.
    is_active: bool,
    /// Who made it.
    created_by: Uuid,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
}

/// The config profiles of an instance.
#[derive(Serialize, ToSchema)]
#[schema(as = McpConfigProfiles)]
struct Profiles {
    /// By name.
    items: Vec<Profile>,
}

/// What a new config profile is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMcpConfigProfile)]
struct NewProfile {
    /// 1 to 100 characters, without `/`, and no other profile of the instance has it.
    #[schema(min_length = 1, max_length = 100, example = "live")]
    name: String,
    /// By the fields of the server: `connection/<connection>/<credential key>`. A field that is not bound is not sent.
    #[schema(example = json!({ "token": "connection/crm/api_key" }))]
    bindings: BTreeMap<String, String>,
}

/// Which config profile calls are to use.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = McpActiveProfile)]
struct ActiveProfile {
    /// Its name; null: none, and no credentials.
    #[schema(example = "live")]
    name: Option<String>,
}

/// A tool of an instance, in short.
#[derive(Serialize, ToSchema)]
#[schema(as = McpListedTool)]
struct ListedTool {
    /// The instance.
    instance_id: Uuid,
    /// Its name.
    #[schema(example = "crm")]
    instance_name: String,
    /// The version of the server's tools that it is at.
    version: u32,
    /// The tool.
    #[schema(example = "search")]
    name: String,
    /// A name for people.
    title: Option<String>,
    /// What it does: the server's word, nobody's promise.
    description: Option<String>,
    /// SHA-256 over its canonical JSON.
    hash: String,
}

/// Lists the instances of MCP servers of the project, in the order in which they were made.
#[utoipa::path(
    get,
    path = "/mcp/instances",
    operation_id = "list_mcp_instances",
    tag = "integrations",
    params(PageQuery),
    responses((status = 200, body = Page<Instance>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<Instance>>, Problem> {
    let (limit, after) = (page.limit()?, page.after()?);
    let found = instances::list(app.database(), &may, after, limit + 1).await?;
    let place = |it: &McpInstance| (it.created_at.as_micros(), it.id.as_uuid());
    Ok(Json(Page::of(found, limit, place, shown)))
}

/// Makes an instance of an MCP server at one version of its tools. Workflows call its tools by its name.
#[utoipa::path(
    post,
    path = "/mcp/instances",
    operation_id = "create_mcp_instance",
    tag = "integrations",
    request_body = NewInstance,
    responses((status = 201, body = Instance), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn create(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Body(new, _): Body<NewInstance>,
) -> Result<(StatusCode, Json<Instance>), Problem> {
    let server = McpServerId::from(new.server_id);
    let made = instances::create(&app, &may, &new.name, server, new.version).await?;
    Ok((StatusCode::CREATED, Json(shown(made))))
}

/// Finds an instance by its id, its name or the address of its server, and one of its tools with its schemas.
#[utoipa::path(
    post,
    path = "/mcp/instances/resolve",
    operation_id = "resolve_mcp_instance",
    tag = "integrations",
    request_body = Resolution,
    responses((status = 200, body = Resolved), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn resolve(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Body(given, _): Body<Resolution>,
) -> Result<Json<Resolved>, Problem> {
    let wanted = match (&given.instance_id, &given.server_url) {
        (Some(name), None) => Wanted::Named(name),
        (None, Some(url)) => Wanted::At(url),
        _ => {
            let message = "say which instance: by `instance_id` or by `server_url`";
            return Err(IntegrationError::invalid("instance_id", message).into());
        }
    };
    let (instance, tool) = instances::resolve(app.database(), &may, wanted, given.tool_name.as_deref()).await?;
    Ok(Json(Resolved { instance: shown(instance), tool: tool.map(shown_tool) }))
}

/// Shows an instance of an MCP server.
#[utoipa::path(
    get,
    path = "/mcp/instances/{id}",
    operation_id = "get_mcp_instance",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The instance")),
    responses((status = 200, body = Instance), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn get(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<Json<Instance>, Problem> {
    Ok(Json(shown(instances::get(app.database(), &may.place.scope(), McpInstanceId::from(id)).await?)))
}

/// Changes an instance of an MCP server. Steps use the new version of the tools from then on, those of runs under way too.
#[utoipa::path(
    patch,
    path = "/mcp/instances/{id}",
    operation_id = "update_mcp_instance",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The instance")),
    request_body = InstanceChange,
    responses((status = 200, body = Instance), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn change(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    Body(given, _): Body<InstanceChange>,
) -> Result<Json<Instance>, Problem> {
    let change = Change { name: given.name, version: given.version };
    Ok(Json(shown(instances::change(&app, &may, McpInstanceId::from(id), change).await?)))
}

/// Deletes an instance of an MCP server with its config profiles. Steps that name it fail from then on.
#[utoipa::path(
    delete,
    path = "/mcp/instances/{id}",
    operation_id = "delete_mcp_instance",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The instance")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn delete(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    instances::delete(&app, &may, McpInstanceId::from(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the config profiles of an instance, by name.
#[utoipa::path(
    get,
    path = "/mcp/instances/{id}/config-profiles",
    operation_id = "list_mcp_config_profiles",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The instance")),
    responses((status = 200, body = Profiles), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list_profiles(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<Json<Profiles>, Problem> {
    let (scope, id) = (may.place.scope(), McpInstanceId::from(id));
    let (instance, profiles) = instances::profiles(app.database(), &scope, id).await?;
    let active = instance.active_profile.as_deref();
    let items = profiles.into_iter().map(|it| shown_profile(it, active)).collect();
    Ok(Json(Profiles { items }))
}

/// Makes a config profile: where the credentials are kept that the server wants. It is not active before it is made so.
#[utoipa::path(
    post,
    path = "/mcp/instances/{id}/config-profiles",
    operation_id = "create_mcp_config_profile",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The instance")),
    request_body = NewProfile,
    responses((status = 201, body = Profile), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn create_profile(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    Body(new, _): Body<NewProfile>,
) -> Result<(StatusCode, Json<Profile>), Problem> {
    let made = instances::create_profile(&app, &may, McpInstanceId::from(id), &new.name, new.bindings).await?;
    Ok((StatusCode::CREATED, Json(shown_profile(made, None))))
}

/// Decides which config profile calls use.
#[utoipa::path(
    post,
    path = "/mcp/instances/{id}/config-profiles/set-active",
    operation_id = "set_active_mcp_config_profile",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The instance")),
    request_body = ActiveProfile,
    responses((status = 200, body = Instance), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn set_active(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    Body(given, _): Body<ActiveProfile>,
) -> Result<Json<Instance>, Problem> {
    Ok(Json(shown(instances::set_active(&app, &may, McpInstanceId::from(id), given.name).await?)))
}

/// Deletes a config profile. Where it was the active one, calls have no credentials from then on.
#[utoipa::path(
    delete,
    path = "/mcp/instances/{id}/config-profiles/{profile}",
    operation_id = "delete_mcp_config_profile",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The instance"), ("profile" = String, Path, description = "The profile's name")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn delete_profile(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path((id, profile)): Path<(Uuid, String)>,
) -> Result<StatusCode, Problem> {
    instances::delete_profile(&app, &may, McpInstanceId::from(id), &profile).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the tools of all instances of the project, without their schemas: those are at the server's version, and in
/// `POST /mcp/instances/resolve`.
#[utoipa::path(
    get,
    path = "/mcp/tools",
    operation_id = "list_mcp_tools",
    tag = "integrations",
    params(PageQuery),
    responses((status = 200, body = Page<ListedTool>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn tools(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ListedTool>>, Problem> {
    let (limit, after) = (page.limit()?, page.after()?);
    let found = catalog::tools(app.database(), &may, after, limit + 1).await?;
    Ok(Json(Page::of(found, limit, Listed::place, listed)))
}

fn listed(it: Listed) -> ListedTool {
    ListedTool {
        instance_id: it.instance.id.as_uuid(),
        instance_name: it.instance.name,
        version: it.instance.version,
        hash: it.hash,
        name: it.name,
        title: it.title,
        description: it.description,
    }
}

fn shown(it: McpInstance) -> Instance {
    Instance {
        id: it.id.as_uuid(),
        name: it.name,
        server_id: it.server.as_uuid(),
        version: it.version,
        active_profile: it.active_profile,
        created_by: it.created_by.as_uuid(),
        created_at: it.created_at.to_string(),
        updated_at: it.updated_at.to_string(),
    }
}

fn shown_profile(it: ConfigProfile, active: Option<&str>) -> Profile {
    Profile {
        is_active: active == Some(&it.name),
        bindings: it.bindings.iter().map(|(field, kept)| (field.clone(), kept.to_string())).collect(),
        name: it.name,
        created_by: it.created_by.as_uuid(),
        created_at: it.created_at.to_string(),
    }
}
