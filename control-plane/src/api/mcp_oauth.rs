//! Authorizing at MCP servers by OAuth: where it begins, and where browsers come back.

use super::{
    State,
    connections::{self, Connection},
    extract::{Body, Path, Query},
    problem::{Problem, ProblemBody},
    secret_body::SecretText,
};
use crate::{
    access::{May, SignedIn, permission::WriteConnections},
    integrations::{
        McpServerId,
        oauth::{
            CLIENT_NAME, Flow, Own,
            authorize::{self, Begun, Opened, Return, Wanted},
        },
    },
};
use axum::{
    Json,
    extract::State as Given,
    http::header,
    response::{Html, IntoResponse},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// What a browser is shown in the end: it loads nothing, and nobody frames it.
const PAGE: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Authorized</title></head>\
    <body><h1>Authorized</h1><p>The connection holds the access now. You can close this page.</p></body></html>\n";
const PAGE_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The routes of authorizing.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(begin)).routes(routes!(finish)).routes(routes!(describe))
}

/// How access to a server is to be granted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMcpAuthorization)]
struct NewAuthorization {
    /// What the connection is called that holds the access; 1 to 100 characters, without `/`. One that holds access to this
    /// server already gets the new one, and no other connection of the project has the name.
    #[schema(min_length = 1, max_length = 100, example = "crm")]
    display_name: String,
    /// By whom it is granted: `authorization_code`, where it is missing: by a person, in a browser; `client_credentials`: by
    /// what the client itself may do.
    grant_type: Option<GrantType>,
    /// The client that somebody registered at the authorization server, with this service's
    /// `/v1/mcp/oauth/callback` as its redirect URI. Where it is missing, the service registers itself, if the server lets it.
    #[schema(max_length = 2048)]
    client_id: Option<String>,
    /// And what proves it.
    #[schema(value_type = Option<String>)]
    client_secret: Option<SecretText>,
    /// The authorization server that is to grant access, by the address that it calls itself; another one that the MCP server
    /// names is refused. `client_secret` wants it.
    #[schema(max_length = 2048, example = "https://login.example.com")]
    issuer: Option<String>,
    /// What is asked for. Where it is missing: what the server says that it wants.
    #[schema(max_items = 64, example = json!(["files:read"]))]
    scopes: Option<Vec<String>>,
}

/// By whom access is granted.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = McpGrantType)]
enum GrantType {
    /// By a person, in a browser.
    AuthorizationCode,
    /// By what the client itself may do.
    ClientCredentials,
}

/// What became of a beginning: a page to open, or a connection.
#[derive(Serialize, ToSchema)]
#[schema(as = McpAuthorization)]
struct Authorization {
    /// The page at which a person grants access, in a browser in which they are signed in here; null: nobody has to.
    #[schema(example = "https://login.example.com/authorize?state=…")]
    authorization_url: Option<String>,
    /// Until when the browser has to be back.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// The authorization server that grants access.
    #[schema(example = "https://login.example.com")]
    issuer: String,
    /// The connection that holds the access; null: there is none before the browser is back.
    connection: Option<Connection>,
}

/// What an authorization server sends a browser back with.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ReturnQuery {
    /// What the start gave the server.
    state: Option<String>,
    /// What the token is asked for with.
    code: Option<String>,
    /// Why there is no code.
    error: Option<String>,
    /// Who the server is (RFC 9207).
    iss: Option<String>,
}

/// Who this service is to authorization servers that take the address of this document for the name of a client (OAuth Client ID
/// Metadata Document).
#[derive(Serialize, ToSchema)]
#[schema(as = McpOauthClient)]
struct Client {
    /// The address of this document.
    #[schema(example = "https://agents.example.com/v1/mcp/oauth/client.json")]
    client_id: String,
    /// Its name for people.
    client_name: &'static str,
    /// The service.
    client_uri: String,
    /// Where browsers come back.
    redirect_uris: [String; 1],
    /// How it gets tokens.
    grant_types: [&'static str; 2],
    /// What browsers bring.
    response_types: [&'static str; 1],
    /// It has no secret.
    token_endpoint_auth_method: &'static str,
    /// `web`, or `native` where it serves its own machine.
    application_type: &'static str,
}

/// Begins to have access to an MCP server granted by OAuth: asks it who grants it, and tells which page a person opens for
/// that. The connection is made when the browser comes back, and holds a token for this server alone, which is renewed.
#[utoipa::path(
    post,
    path = "/mcp/servers/{id}/authorize",
    operation_id = "authorize_mcp_server",
    tag = "integrations",
    params(("id" = Uuid, Path, description = "The server")),
    request_body = NewAuthorization,
    responses((status = 200, body = Authorization), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn begin(
    may: May<WriteConnections>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    Body(given, _): Body<NewAuthorization>,
) -> Result<Json<Authorization>, Problem> {
    let wanted = Wanted {
        display_name: given.display_name,
        flow: match given.grant_type {
            None | Some(GrantType::AuthorizationCode) => Flow::AuthorizationCode,
            Some(GrantType::ClientCredentials) => Flow::ClientCredentials,
        },
        client_id: given.client_id,
        client_secret: given.client_secret.map(|secret| secret.0),
        issuer: given.issuer,
        scopes: given.scopes,
    };
    Ok(Json(match authorize::begin(&app, &may, McpServerId::from(id), wanted).await? {
        Begun::Page(Opened { url, expires_at, issuer }) => Authorization {
            authorization_url: Some(url.into()),
            expires_at: Some(expires_at.to_string()),
            issuer,
            connection: None,
        },
        Begun::Done(made) => Authorization {
            authorization_url: None,
            expires_at: None,
            issuer: made.grant.as_ref().map(|grant| grant.issuer.clone()).unwrap_or_default(),
            connection: Some(connections::shown(*made)),
        },
    }))
}

/// Finishes an authorization: the authorization server sends the browser here. Whoever began it is signed in in that browser,
/// or sends the address here with the token that it was begun with.
#[utoipa::path(
    get,
    path = "/mcp/oauth/callback",
    operation_id = "finish_mcp_authorization",
    tag = "integrations",
    params(ReturnQuery),
    responses(
        (status = 200, content_type = "text/html", body = String, description = "A page that says so"),
        (status = "default", body = ProblemBody)
    ),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn finish(
    who: SignedIn,
    Given(app): Given<State>,
    Query(query): Query<ReturnQuery>,
) -> Result<impl IntoResponse, Problem> {
    let back = Return {
        state: query.state.unwrap_or_default().into(),
        outcome: query.code.map(Into::into).ok_or_else(|| query.error.unwrap_or_default()),
        issuer: query.iss,
    };
    authorize::finish(&app, who, back).await?;
    let headers = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    Ok((headers, Html(PAGE)))
}

/// Describes this service as a client, to authorization servers of MCP servers that ask.
#[utoipa::path(
    get,
    path = "/mcp/oauth/client.json",
    operation_id = "describe_mcp_oauth_client",
    tag = "integrations",
    responses((status = 200, body = Client), (status = "default", body = ProblemBody)),
    security(())
)]
async fn describe(Given(app): Given<State>) -> Json<Client> {
    let own = Own::of(&app.settings);
    Json(Client {
        application_type: own.kind(),
        client_id: own.document.into(),
        client_name: CLIENT_NAME,
        client_uri: app.settings.public_url.to_string(),
        redirect_uris: [own.callback.into()],
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
        token_endpoint_auth_method: "none",
    })
}
