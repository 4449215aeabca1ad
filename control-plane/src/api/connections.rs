//! Connections: credentials of a project, which are written and never read back.

use super::{
    State,
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
    secret_body::SecretText,
};
use crate::{
    access::{
        May,
        permission::{ReadConnections, WriteConnections},
    },
    integrations::{
        ConnectionId,
        connections::{self, Change},
        oauth::{Grant, Status},
    },
};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of connections.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, change, delete)).routes(routes!(test))
}

/// A connection. The values of its credentials are in no answer.
#[derive(Serialize, ToSchema)]
pub(super) struct Connection {
    /// Its id.
    id: Uuid,
    /// For people, and for workflows, whose `capabilities` name it as `connection/<display name>/<credential key>`.
    #[schema(example = "crm")]
    display_name: String,
    /// Who gave the credentials.
    #[schema(example = "github")]
    provider: String,
    /// What they are for.
    #[schema(example = "github")]
    service: String,
    /// The names of its credentials.
    #[schema(example = json!(["api_key"]))]
    credential_keys: Vec<String>,
    /// The hosts that the credentials may be sent to; none: they are sent nowhere, and only sign.
    #[schema(example = json!(["api.github.com"]))]
    allowed_hosts: Vec<String>,
    /// The access that it holds, where it was authorized at an MCP server; null: it holds what somebody wrote.
    authorization: Option<ConnectionAuthorization>,
    /// Who made it.
    created_by: Uuid,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was changed last.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// An access that a connection holds. Its token is in no answer.
#[derive(Serialize, ToSchema)]
struct ConnectionAuthorization {
    /// The MCP server.
    server_id: Uuid,
    /// Who grants it.
    #[schema(example = "https://login.example.com")]
    issuer: String,
    /// Whether it can be used, or is to be authorized again.
    #[schema(value_type = AuthorizationStatus)]
    status: Status,
    /// What it is good for, as far as that is known.
    #[schema(example = json!(["files:read"]))]
    scopes: Vec<String>,
    /// Who authorized it.
    authorized_by: Uuid,
    /// When.
    #[schema(format = DateTime)]
    authorized_at: String,
    /// When its token ends; it is renewed before, if it can be. Null: that was not said.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// Whether an access can be used.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only described: the domain's own type is what is written")]
enum AuthorizationStatus {
    /// As far as is known.
    Authorized,
    /// Not any more: it is to be authorized again.
    AuthorizationRequired,
}

/// What a new connection is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewConnection {
    /// For people, and for workflows; 1 to 100 characters, without `/`, and no other connection of the project has it.
    #[schema(min_length = 1, max_length = 100, example = "crm")]
    display_name: String,
    /// Who gave the credentials.
    #[schema(min_length = 1, max_length = 64, example = "github")]
    provider: String,
    /// What they are for.
    #[schema(min_length = 1, max_length = 64, example = "github")]
    service: String,
    /// Values by their names.
    #[schema(value_type = BTreeMap<String, String>, example = json!({ "api_key": "…" }))]
    credentials: BTreeMap<String, SecretText>,
    /// The hosts that the credentials may be sent to: `api.example.com`, `*.example.com`, `api.example.com:8443`,
    /// `http://intranet.example`. Where it is missing: those of the service, if it is a known one.
    #[schema(example = json!(["api.github.com"]))]
    allowed_hosts: Option<Vec<String>>,
}

/// What is to be different; what is missing stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConnectionChange {
    /// The name.
    #[schema(min_length = 1, max_length = 100)]
    display_name: Option<String>,
    /// New values by their names; null takes one away.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    credentials: Option<BTreeMap<String, Option<SecretText>>>,
    /// The hosts that the credentials may be sent to, in place of the ones before. With a host that was not among them, or with
    /// none in place of some, all credentials are given again along with it.
    allowed_hosts: Option<Vec<String>>,
}

/// Whether a connection is fit to be used.
#[derive(Serialize, ToSchema)]
struct ConnectionTest {
    /// Whether all checks passed.
    ok: bool,
    /// What was checked.
    checks: Vec<ConnectionCheck>,
}

/// One check.
#[derive(Serialize, ToSchema)]
struct ConnectionCheck {
    /// A credential or a host.
    #[schema(example = "host api.github.com")]
    what: String,
    /// Whether it passed.
    ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Lists the connections of the project, in the order in which they were made.
#[utoipa::path(
    get,
    path = "/connections",
    operation_id = "list_connections",
    tag = "integrations",
    params(PageQuery),
    responses((status = 200, body = Page<Connection>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<Connection>>, Problem> {
    let (limit, after) = (page.limit()?, page.after()?);
    let found = connections::list(app.database(), &may, after, limit + 1).await?;
    let place = |it: &connections::Connection| (it.created_at.as_micros(), it.id.as_uuid());
    Ok(Json(Page::of(found, limit, place, shown)))
}

/// Makes a connection: credentials that workflows of the project use and nobody reads.
#[utoipa::path(
    post,
    path = "/connections",
    operation_id = "create_connection",
    tag = "integrations",
    request_body = NewConnection,
    responses((status = 201, body = Connection), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn create(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Body(new, _): Body<NewConnection>,
) -> Result<(StatusCode, Json<Connection>), Problem> {
    let new = connections::NewConnection {
        display_name: new.display_name,
        provider: new.provider,
        service: new.service,
        credentials: new.credentials.into_iter().map(|(key, value)| (key, value.0)).collect(),
        allowed_hosts: new.allowed_hosts,
    };
    Ok((StatusCode::CREATED, Json(shown(connections::create(&app, &may, new).await?))))
}

/// Shows a connection.
#[utoipa::path(
    get,
    path = "/connections/{id}",
    operation_id = "get_connection",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The connection")),
    responses((status = 200, body = Connection), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn get(
    may: May<ReadConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<Json<Connection>, Problem> {
    Ok(Json(shown(connections::get(app.database(), &may, ConnectionId::from(id)).await?)))
}

/// Changes a connection. Steps use the new values from then on, those of runs under way too.
#[utoipa::path(
    patch,
    path = "/connections/{id}",
    operation_id = "update_connection",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The connection")),
    request_body = ConnectionChange,
    responses((status = 200, body = Connection), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn change(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    Body(change, _): Body<ConnectionChange>,
) -> Result<Json<Connection>, Problem> {
    let credentials = change.credentials.unwrap_or_default().into_iter();
    let change = Change {
        display_name: change.display_name,
        credentials: credentials.map(|(key, value)| (key, value.map(|value| value.0))).collect(),
        allowed_hosts: change.allowed_hosts,
    };
    Ok(Json(shown(connections::change(&app, &may, ConnectionId::from(id), change).await?)))
}

/// Deletes a connection. Steps that use it fail from then on.
#[utoipa::path(
    delete,
    path = "/connections/{id}",
    operation_id = "delete_connection",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The connection")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn delete(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    connections::delete(&app, &may, ConnectionId::from(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Checks a connection: that its credentials can be opened, and that its hosts answer. No credential is sent.
#[utoipa::path(
    post,
    path = "/connections/{id}/test",
    operation_id = "test_connection",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The connection")),
    responses((status = 200, body = ConnectionTest), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn test(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
) -> Result<Json<ConnectionTest>, Problem> {
    let checks = connections::test(&app, &may, ConnectionId::from(id)).await?;
    let checks: Vec<ConnectionCheck> = checks
        .into_iter()
        .map(|it| ConnectionCheck { what: it.what, ok: it.error.is_none(), error: it.error })
        .collect();
    Ok(Json(ConnectionTest { ok: checks.iter().all(|check| check.ok), checks }))
}

pub(super) fn shown(it: connections::Connection) -> Connection {
    Connection {
        id: it.id.as_uuid(),
        credential_keys: it.credential_keys().into_iter().map(str::to_owned).collect(),
        authorization: it.grant.map(authorization),
        display_name: it.display_name,
        provider: it.provider,
        service: it.service,
        allowed_hosts: it.allowed_hosts.iter().map(ToString::to_string).collect(),
        created_by: it.created_by.as_uuid(),
        created_at: it.created_at.to_string(),
        updated_at: it.updated_at.to_string(),
    }
}

fn authorization(it: Grant) -> ConnectionAuthorization {
    ConnectionAuthorization {
        server_id: it.server.as_uuid(),
        issuer: it.issuer,
        status: it.status,
        scopes: it.scopes,
        authorized_by: it.authorized_by.as_uuid(),
        authorized_at: it.authorized_at.to_string(),
        expires_at: it.expires_at.map(|at| at.to_string()),
    }
}
