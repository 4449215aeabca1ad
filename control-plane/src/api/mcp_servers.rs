//! Servers of MCP: registered, asked for their tools, and frozen in versions.

use super::{
    State,
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::{
    access::{
        May,
        permission::{ReadConnections, WriteConnections},
    },
    integrations::{
        ConnectionId, McpServerId,
        mcp::{
            fields::CredentialField,
            servers::{self, McpServer},
            tools::ToolList,
            versions::{self, McpVersion},
        },
    },
};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of servers.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, delete))
        .routes(routes!(discover))
        .routes(routes!(list_versions, freeze))
        .routes(routes!(get_version))
        .routes(routes!(validate))
        .routes(routes!(platform_catalog))
}

/// A server of MCP.
#[derive(Serialize, ToSchema)]
#[schema(as = McpServer)]
struct Server {
    /// Its id.
    id: Uuid,
    /// For people.
    #[schema(example = "crm")]
    name: String,
    /// Where it is, over Streamable HTTP.
    #[schema(example = "https://crm.example.com/mcp")]
    canonical_url: String,
    /// Which credentials it wants, and in which headers.
    credential_fields: Vec<Field>,
    /// SHA-256 over the tools that it showed when it was asked last; null before.
    tools_hash: Option<String>,
    /// The revision of MCP that it spoke then.
    #[schema(example = "2025-11-25")]
    protocol_version: Option<String>,
    /// When that was.
    #[schema(format = DateTime)]
    discovered_at: Option<String>,
    /// Who registered it.
    created_by: Uuid,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
}

/// A credential that a server wants.
#[derive(Serialize, ToSchema)]
#[schema(as = McpCredentialField)]
struct Field {
    /// Its name, which config profiles bind.
    #[schema(example = "token")]
    name: String,
    /// The header that it goes in.
    #[schema(example = "authorization")]
    header: String,
    /// The header's text, in which `{value}` stands for the credential.
    #[schema(example = "Bearer {value}")]
    format: String,
}

/// A tool as its server shows it. What it says of itself is the server's word, nobody's promise.
#[derive(Serialize, ToSchema)]
#[schema(as = McpTool)]
pub(super) struct Tool {
    /// Its name.
    #[schema(example = "search")]
    pub(super) name: String,
    /// A name for people.
    pub(super) title: Option<String>,
    /// What it does.
    pub(super) description: Option<String>,
    /// What it takes: a JSON Schema.
    #[schema(value_type = Object)]
    pub(super) input_schema: Value,
    /// What it gives: a JSON Schema, if it says so.
    #[schema(value_type = Option<Object>)]
    pub(super) output_schema: Option<Value>,
    /// What it says of its effects.
    #[schema(value_type = Option<Object>)]
    pub(super) annotations: Option<Value>,
    /// SHA-256 over its canonical JSON.
    pub(super) hash: String,
}

/// What a new server is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMcpServer)]
struct NewServer {
    /// For people; 1 to 100 characters, and no other server of the project has it.
    #[schema(min_length = 1, max_length = 100, example = "crm")]
    name: String,
    /// Where it is, over Streamable HTTP. A server that is started as a program (stdio) cannot be reached.
    #[schema(example = "https://crm.example.com/mcp")]
    canonical_url: String,
    /// Which credentials it wants.
    #[serde(default)]
    credential_fields: Option<Vec<NewField>>,
}

/// A credential that a new server wants.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMcpCredentialField)]
struct NewField {
    /// Its name, which config profiles bind.
    #[schema(min_length = 1, max_length = 64, example = "token")]
    name: String,
    /// The header that it goes in.
    #[schema(example = "Authorization")]
    header: String,
    /// The header's text, in which `{value}` stands for the credential; nothing: the credential alone.
    #[schema(example = "Bearer {value}")]
    format: Option<String>,
}

/// With which credentials a server is asked.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = McpDiscovery)]
struct Discovery {
    /// A connection with a credential of the name of each field of the server; nothing: it is asked without credentials.
    connection_id: Option<Uuid>,
}

/// What a server shows now.
#[derive(Serialize, ToSchema)]
#[schema(as = McpDiscovered)]
struct Discovered {
    /// SHA-256 over the canonical JSON of its tools.
    tools_hash: String,
    /// The revision of MCP that it speaks.
    #[schema(example = "2025-11-25")]
    protocol_version: Option<String>,
    /// Its tools, by name.
    tools: Vec<Tool>,
}

/// A list of tools that was frozen.
#[derive(Serialize, ToSchema)]
#[schema(as = McpServerVersion)]
struct Version {
    /// From 1.
    version: u32,
    /// SHA-256 over the canonical JSON of the tools.
    tools_hash: String,
    /// The tools, by name; missing in a list of versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<Vec<Tool>>,
    /// Who froze it.
    created_by: Uuid,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
}

/// The versions of a server.
#[derive(Serialize, ToSchema)]
#[schema(as = McpServerVersions)]
struct Versions {
    /// The newest first.
    items: Vec<Version>,
}

/// What a new version is made of.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMcpServerVersion)]
struct NewVersion {}

/// Which version a server is compared to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = McpValidation)]
struct Validation {
    /// The version.
    #[schema(minimum = 1, example = 1)]
    version: u32,
    /// A connection with a credential of the name of each field of the server; nothing: it is asked without credentials.
    connection_id: Option<Uuid>,
}

/// What a server shows now, compared to a version.
#[derive(Serialize, ToSchema)]
#[schema(as = McpValidated)]
struct Validated {
    /// Whether it shows what was frozen.
    unchanged: bool,
    /// The version.
    version: u32,
    /// The hash of the version.
    version_hash: String,
    /// The hash of what it shows now.
    tools_hash: String,
    /// Tools that it shows now, and that the version does not have.
    added: Vec<String>,
    /// Tools of the version that it does not show any more.
    removed: Vec<String>,
    /// Tools that it shows differently; calls of them are refused.
    changed: Vec<String>,
}

/// Servers that the platform offers.
#[derive(Serialize, ToSchema)]
#[schema(as = McpPlatformCatalog)]
struct PlatformCatalog {
    /// None yet.
    items: Vec<Server>,
}

/// Lists the MCP servers of the project, in the order in which they were registered.
#[utoipa::path(
    get,
    path = "/mcp/servers",
    operation_id = "list_mcp_servers",
    tag = "integrations",
    params(PageQuery),
    responses((status = 200, body = Page<Server>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<Server>>, Problem> {
    let (limit, after) = (page.limit()?, page.after()?);
    let found = servers::list(app.database(), &may, after, limit + 1).await?;
    let place = |it: &McpServer| (it.created_at.as_micros(), it.id.as_uuid());
    Ok(Json(Page::of(found, limit, place, shown)))
}

/// Registers an MCP server. It is not asked anything yet.
#[utoipa::path(
    post,
    path = "/mcp/servers",
    operation_id = "create_mcp_server",
    tag = "integrations",
    request_body = NewServer,
    responses((status = 201, body = Server), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn create(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Body(new, _): Body<NewServer>,
) -> Result<(StatusCode, Json<Server>), Problem> {
    let fields = new.credential_fields.unwrap_or_default().into_iter();
    let fields = fields.map(|it| CredentialField::new(it.name, &it.header, it.format)).collect::<Result<_, _>>()?;
    let made = servers::create(&app, &may, &new.name, &new.canonical_url, fields).await?;
    Ok((StatusCode::CREATED, Json(shown(made))))
}

/// Shows an MCP server.
#[utoipa::path(
    get,
    path = "/mcp/servers/{id}",
    operation_id = "get_mcp_server",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The server")),
    responses((status = 200, body = Server), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn get(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<Json<Server>, Problem> {
    Ok(Json(shown(servers::get(app.database(), &may.place.scope(), McpServerId::from(id)).await?)))
}

/// Deletes an MCP server and its versions. One that instances are of is kept.
#[utoipa::path(
    delete,
    path = "/mcp/servers/{id}",
    operation_id = "delete_mcp_server",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The server")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn delete(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    servers::delete(&app, &may, McpServerId::from(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks an MCP server for its tools now, and keeps what it shows as the newest discovery.
#[utoipa::path(
    post,
    path = "/mcp/servers/{id}/discover",
    operation_id = "discover_mcp_server",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The server")),
    request_body = Discovery,
    responses((status = 200, body = Discovered), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn discover(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    body: Option<Body<Discovery>>,
) -> Result<Json<Discovered>, Problem> {
    let connection = body.and_then(|Body(given, _)| given.connection_id).map(ConnectionId::from);
    let (server, tools) = servers::discover(&app, &may, McpServerId::from(id), connection).await?;
    Ok(Json(Discovered {
        tools_hash: tools.hash(),
        protocol_version: server.protocol_version,
        tools: shown_tools(&tools),
    }))
}

/// Lists the versions of an MCP server, the newest first.
#[utoipa::path(
    get,
    path = "/mcp/servers/{id}/versions",
    operation_id = "list_mcp_server_versions",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The server")),
    responses((status = 200, body = Versions), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list_versions(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<Json<Versions>, Problem> {
    let found = versions::list(app.database(), &may.place.scope(), McpServerId::from(id)).await?;
    let items = found.into_iter().map(|it| Version { tools: None, ..shown_version(it) }).collect();
    Ok(Json(Versions { items }))
}

/// Freezes the tools that an MCP server showed when it was asked last, as its next version. Where the newest version has the
/// same tools, that one is the answer.
#[utoipa::path(
    post,
    path = "/mcp/servers/{id}/versions",
    operation_id = "create_mcp_server_version",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The server")),
    request_body = NewVersion,
    responses((status = 201, body = Version), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn freeze(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    _: Option<Body<NewVersion>>,
) -> Result<(StatusCode, Json<Version>), Problem> {
    let frozen = versions::freeze(&app, &may, McpServerId::from(id)).await?;
    Ok((StatusCode::CREATED, Json(shown_version(frozen))))
}

/// Shows a version of an MCP server, with its tools.
#[utoipa::path(
    get,
    path = "/mcp/servers/{id}/versions/{version}",
    operation_id = "get_mcp_server_version",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The server"), ("version" = u32, Path, description = "The version")),
    responses((status = 200, body = Version), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn get_version(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Path((id, version)): Path<(Uuid, u32)>,
) -> Result<Json<Version>, Problem> {
    let found = versions::get(app.database(), &may.place.scope(), McpServerId::from(id), version).await?;
    Ok(Json(shown_version(found)))
}

/// Asks an MCP server for its tools now, and compares them to a version.
#[utoipa::path(
    post,
    path = "/mcp/servers/{id}/validate",
    operation_id = "validate_mcp_server",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The server")),
    request_body = Validation,
    responses((status = 200, body = Validated), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn validate(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    Body(given, _): Body<Validation>,
) -> Result<Json<Validated>, Problem> {
    let connection = given.connection_id.map(ConnectionId::from);
    let it = servers::validate(&app, &may, McpServerId::from(id), given.version, connection).await?;
    Ok(Json(Validated {
        unchanged: it.changes.is_empty(),
        version: it.version,
        version_hash: it.version_hash,
        tools_hash: it.shown_hash,
        added: it.changes.added,
        removed: it.changes.removed,
        changed: it.changes.changed,
    }))
}

/// Lists the MCP servers that the platform offers to all projects. There are none yet: the list is empty.
#[utoipa::path(
    get,
    path = "/mcp/platform-catalog",
    operation_id = "list_mcp_platform_catalog",
    tag = "integrations",
    responses((status = 200, body = PlatformCatalog), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn platform_catalog(_: May<ReadConnections>) -> Json<PlatformCatalog> {
    Json(PlatformCatalog { items: Vec::new() })
}

fn shown(it: McpServer) -> Server {
    let field = |it: CredentialField| Field { name: it.name, header: it.header, format: it.format };
    Server {
        id: it.id.as_uuid(),
        name: it.name,
        canonical_url: it.canonical_url,
        credential_fields: it.credential_fields.into_iter().map(field).collect(),
        tools_hash: it.discovered_hash,
        protocol_version: it.protocol_version,
        discovered_at: it.discovered_at.map(|at| at.to_string()),
        created_by: it.created_by.as_uuid(),
        created_at: it.created_at.to_string(),
    }
}

fn shown_version(it: McpVersion) -> Version {
    Version {
        version: it.version,
        tools: Some(shown_tools(&it.tools)),
        tools_hash: it.tools_hash,
        created_by: it.created_by.as_uuid(),
        created_at: it.created_at.to_string(),
    }
}

fn shown_tools(tools: &ToolList) -> Vec<Tool> {
    tools.tools().iter().cloned().map(shown_tool).collect()
}

pub(super) fn shown_tool(it: crate::integrations::mcp::tools::Tool) -> Tool {
    Tool {
        hash: it.hash(),
        name: it.name,
        title: it.title,
        description: it.description,
        input_schema: it.input_schema,
        output_schema: it.output_schema,
        annotations: it.annotations,
    }
}
