//! From a server's address to who grants access to it, who we are there, and the page where a person grants it.
//!
//! The library reads the server's challenge, its description (RFC 9728) and that of the authorization server (RFC 8414, OpenID
//! Connect), checks that each is of whom it should be, registers us (RFC 7591) and writes the address of the page. What it would
//! tolerate of older revisions of MCP is refused here.

use super::{
    CLIENT_ID_BYTES_MAX, CLIENT_NAME, OAUTH_DISCOVERY_TIMEOUT, OAUTH_TIMEOUT, Own, SCOPE_BYTES_MAX, SCOPES_MAX,
    grant::{Client, Flow, endpoint},
    http::{HttpFailure, OverEgress},
};
use crate::integrations::{IntegrationError, mcp::shortened};
use agentruntime_egress::Egress;
use agentruntime_host_api::{Fetch, Method, Part, Text};
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, InMemoryStateStore, OAuthClientConfig, StateStore,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};
use tokio::time::timeout;
use url::Url;

/// The scope that makes a token last beyond the visit of a person (OpenID Connect).
const OFFLINE: &str = "offline_access";

/// What is wanted of an authorization server.
pub(super) struct Question<'q> {
    /// The server of MCP.
    pub(super) server: &'q Url,
    /// How access is to be granted.
    pub(super) flow: Flow,
    /// Our name there, if somebody registered us.
    pub(super) client_id: Option<&'q str>,
    /// And what proves it.
    pub(super) client_secret: Option<&'q SecretString>,
    /// Who is to grant it, if somebody says so.
    pub(super) issuer: Option<&'q str>,
    /// What is asked for; nothing: what the server says that it wants.
    pub(super) scopes: Option<&'q [String]>,
    /// Who we are.
    pub(super) own: &'q Own,
}

/// Who grants access, and who we are there.
pub(super) struct Found {
    /// Who grants.
    pub(super) issuer: String,
    /// Whether it says so on the way back (RFC 9207).
    pub(super) names_issuer: bool,
    /// What is to be asked for.
    pub(super) scopes: Vec<String>,
    /// Who we are there.
    pub(super) client: Client,
    /// What proves it, if something does.
    pub(super) client_secret: Option<SecretString>,
    /// Where a person grants access; none where the client does by itself.
    pub(super) page: Option<Page>,
}

/// Where a person grants access.
pub(super) struct Page {
    /// Its address.
    pub(super) url: Url,
    /// What comes back from there.
    pub(super) state: SecretString,
    /// What proves that we began (PKCE).
    pub(super) verifier: SecretString,
}

/// Asks the server, and whom it names.
pub(super) async fn find(egress: &Egress, question: &Question<'_>) -> Result<Found, IntegrationError> {
    let found = timeout(OAUTH_DISCOVERY_TIMEOUT, look(egress, question)).await.unwrap_or_else(|_| {
        let seconds = OAUTH_DISCOVERY_TIMEOUT.as_secs();
        let message = format!("who grants access to this MCP server was not found out within {seconds} s");
        Err(IntegrationError::McpServer(message))
    })?;
    let names = [&found.issuer, &found.client.id, &found.client.resource];
    let is_long = names.into_iter().any(|name| name.len() > CLIENT_ID_BYTES_MAX);
    let is_wide = found.scopes.len() > SCOPES_MAX || found.scopes.iter().any(|scope| scope.len() > SCOPE_BYTES_MAX);
    match is_long || is_wide {
        true => {
            let message = format!(
                "the MCP server, or its authorization server, gives a name of more than {CLIENT_ID_BYTES_MAX} bytes, or more \
                 than {SCOPES_MAX} scopes; say by `scopes` what is to be asked for"
            );
            Err(IntegrationError::McpServer(message))
        }
        false => Ok(found),
    }
}

async fn look(egress: &Egress, question: &Question<'_>) -> Result<Found, IntegrationError> {
    let http = OverEgress::new(egress);
    let server = question.server;
    let challenge = challenge(&http, server).await.map_err(|failure| refused(&failure))?;
    let mut manager = AuthorizationManager::new_with_oauth_http_client(server.as_str(), Arc::new(http)).await;
    let manager = manager.as_mut().map_err(|error| refused(error))?;
    let states = InMemoryStateStore::new();
    manager.set_state_store(states.clone());
    let resolution = manager.resolve_metadata_from_challenge(challenge.as_deref()).await;
    let resolution = resolution.map_err(|error| refused(&error))?;
    if !resolution.source.is_discovered() {
        let message = "this MCP server names no authorization server, neither where it refuses (`WWW-Authenticate`) nor at \
            the well-known addresses; does it want credentials of another kind?";
        return Err(IntegrationError::McpServer(message.into()));
    }
    let metadata = resolution.metadata;
    let token_endpoint = check(question, &metadata)?;
    manager.set_metadata(metadata.clone());
    let scopes = scopes(manager, question).await;
    let config = client(manager, question, &metadata, &scopes).await?;
    manager.configure_client(config.clone()).map_err(|error| refused(&error))?;
    let asked: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let url = manager.get_authorization_url(&asked).await;
    let (resource, page) = match question.flow {
        Flow::AuthorizationCode => {
            let url = parsed(&url.map_err(|error| refused(&error))?)?;
            (parameter(&url, "resource"), Some(page(url, &states, &scopes).await?))
        }
        Flow::ClientCredentials => {
            (url.ok().and_then(|url| Url::parse(&url).ok()).and_then(|url| parameter(&url, "resource")), None)
        }
    };
    Ok(Found {
        issuer: metadata.issuer.clone().unwrap_or_default(),
        names_issuer: names_issuer(&metadata),
        scopes,
        client: Client {
            flow: question.flow,
            id: config.client_id,
            token_endpoint,
            is_secret_in_body: is_secret_in_body(&metadata),
            resource: resource.unwrap_or_else(|| server.to_string()),
        },
        client_secret: config.client_secret.map(SecretString::from),
        page,
    })
}

/// What the server says to who asks for its tools without a token. One that has nothing against that, or wants a session first,
/// may name who grants access nevertheless.
async fn challenge(http: &OverEgress, server: &Url) -> Result<Option<String>, HttpFailure> {
    let plain = |text: &str| Text(vec![Part::Plain(text.to_owned())]);
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let headers = BTreeMap::from([
        ("accept".to_owned(), plain("application/json, text/event-stream")),
        ("content-type".to_owned(), plain("application/json")),
    ]);
    let (body, timeout) = (Some(body.to_string()), Some(OAUTH_TIMEOUT));
    let fetch = Fetch { method: Method::Post, url: server.clone(), headers, body, timeout };
    http.challenge(&fetch).await
}

/// Refuses an authorization server that lacks what keeps an authorization safe; gives where tokens are asked for.
fn check(question: &Question<'_>, metadata: &AuthorizationMetadata) -> Result<Url, IntegrationError> {
    let refuse = |message: &str| Err(IntegrationError::McpServer(message.to_owned()));
    if metadata.issuer.as_ref().is_none_or(String::is_empty) {
        return refuse("the authorization server's description does not say whose it is (`issuer`)");
    }
    check_issuer(question, metadata.issuer.as_deref().unwrap_or_default())?;
    if question.flow == Flow::AuthorizationCode {
        let methods = metadata.code_challenge_methods_supported.iter().flatten();
        if !methods.into_iter().any(|method| method == "S256") {
            return refuse(
                "the authorization server does not offer PKCE with S256 (`code_challenge_methods_supported`), without which \
                 others could use what it gives a browser",
            );
        }
        let page = endpoint(question.server, "authorization_endpoint", &metadata.authorization_endpoint)?;
        check_page(metadata, &page)?;
    }
    endpoint(question.server, "token_endpoint", &metadata.token_endpoint)
}

/// Refuses another authorization server than the one that is wanted: the server of MCP can name any, and the next time another
/// one. What is found out here is kept with the authorization, and its code and all renewals go to the token endpoint that this
/// issuer named, whatever the server of MCP says later.
fn check_issuer(question: &Question<'_>, found: &str) -> Result<(), IntegrationError> {
    // Servers and people add a slash at the end and leave it out; it leads to the same description.
    let spelt = |issuer: &str| issuer.strip_suffix('/').unwrap_or(issuer).to_owned();
    match question.issuer {
        Some(wanted) if spelt(wanted) != spelt(found) => {
            let message = format!(
                "this MCP server has access granted by {}, not by {wanted}; nothing was sent there. Is that whose client it \
                 is, and do you trust it? Then send it as `issuer`",
                shortened(found)
            );
            Err(IntegrationError::McpServer(message))
        }
        _ => Ok(()),
    }
}

/// Refuses a page of somebody else's. A hostile server could name an honest one's page, and the client that is known there: the
/// honest one would send its code to our one callback, and we would take it, and the verifier, to the hostile one's token
/// endpoint (mix-up). A server that says who it is on the way back (RFC 9207) is held to that there, and so may have its page
/// anywhere. The other endpoints may be at any origin, as with providers that are well-known they are: what is sent there was
/// given by this server's own page, or is for it.
fn check_page(metadata: &AuthorizationMetadata, page: &Url) -> Result<(), IntegrationError> {
    let issuer = metadata.issuer.as_deref().and_then(|issuer| Url::parse(issuer).ok());
    let is_own = issuer.is_some_and(|issuer| issuer.origin() == page.origin());
    match is_own || names_issuer(metadata) {
        true => Ok(()),
        false => {
            let message = "the authorization server's page (`authorization_endpoint`) is at another origin than the server \
                (`issuer`), which does not say who it is on the way back (`authorization_response_iss_parameter_supported`), so \
                that what another server gives a browser could be taken to it";
            Err(IntegrationError::McpServer(message.into()))
        }
    }
}

/// Whether a server says who it is on the way back (RFC 9207).
fn names_issuer(metadata: &AuthorizationMetadata) -> bool {
    is_said(metadata, "authorization_response_iss_parameter_supported")
}

/// What is asked for: what somebody says, else what the server wants.
async fn scopes(manager: &AuthorizationManager, question: &Question<'_>) -> Vec<String> {
    match (question.scopes, question.flow) {
        (Some(scopes), _) => scopes.to_vec(),
        (None, Flow::AuthorizationCode) => manager.select_initial_scopes(&[]).await,
        (None, Flow::ClientCredentials) => {
            let mut scopes = manager.select_initial_scopes(&[]).await;
            scopes.retain(|scope| scope != OFFLINE);
            scopes
        }
    }
}

/// Who we are there: as somebody registered us, as we register ourselves, or as we describe ourselves at an address of ours. That
/// comes last, because the server has to reach us for it.
async fn client(
    manager: &mut AuthorizationManager,
    question: &Question<'_>,
    metadata: &AuthorizationMetadata,
    scopes: &[String],
) -> Result<OAuthClientConfig, IntegrationError> {
    let Own { callback, document } = question.own;
    let given = |id: &str| OAuthClientConfig::new(id, callback.as_str()).with_application_type(question.own.kind());
    if let Some(id) = question.client_id {
        return Ok(match question.client_secret {
            Some(secret) => given(id).with_client_secret(secret.expose_secret()),
            None => given(id),
        });
    }
    let Some(registration) = &metadata.registration_endpoint else {
        if document.scheme() == "https" && is_said(metadata, "client_id_metadata_document_supported") {
            return Ok(given(document.as_str()));
        }
        let message = format!(
            "the authorization server {} registers nobody who merely asks: register a client there yourself, with {callback} \
             as its redirect URI, and send its `client_id`, and if it has a `client_secret`, that and the server as `issuer`",
            shortened(metadata.issuer.as_deref().unwrap_or_default())
        );
        return Err(IntegrationError::McpServer(message));
    };
    endpoint(question.server, "registration_endpoint", registration)?;
    // What kind of client registers is told so.
    manager.configure_client(given("unregistered")).map_err(|error| refused(&error))?;
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let registered = manager.register_client(CLIENT_NAME, callback.as_str(), &scopes).await;
    registered.map_err(|error| refused(&error))
}

/// The page, with what the library keeps for the way back from there.
async fn page(mut url: Url, states: &InMemoryStateStore, scopes: &[String]) -> Result<Page, IntegrationError> {
    let state = parameter(&url, "state").unwrap_or_default();
    let kept = states.load(&state).await.map_err(|error| refused(&error))?;
    let kept = kept.ok_or_else(|| IntegrationError::McpServer("the authorization was not begun".into()))?;
    if scopes.iter().any(|scope| scope == OFFLINE) {
        // Without it, OpenID Connect has a server ignore the scope.
        url.query_pairs_mut().append_pair("prompt", "consent");
    }
    Ok(Page { url, state: state.into(), verifier: kept.pkce_verifier.into() })
}

/// Whether a secret goes in the body: where the server takes it there and nowhere else.
fn is_secret_in_body(metadata: &AuthorizationMetadata) -> bool {
    let methods = metadata.additional_fields.get("token_endpoint_auth_methods_supported");
    let methods = methods.and_then(|methods| methods.as_array()).map(Vec::as_slice).unwrap_or_default();
    let has = |name: &str| methods.iter().any(|method| method == name);
    has("client_secret_post") && !has("client_secret_basic")
}

fn is_said(metadata: &AuthorizationMetadata, name: &str) -> bool {
    metadata.additional_fields.get(name).and_then(serde_json::Value::as_bool).unwrap_or_default()
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

fn parsed(url: &str) -> Result<Url, IntegrationError> {
    Url::parse(url).map_err(|error| refused(&AuthError::from(error)))
}

/// Why it does not go on, with the causes, which say more.
fn refused(error: &(dyn std::error::Error + 'static)) -> IntegrationError {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let told = causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"));
    IntegrationError::McpServer(shortened(&format!("access to this MCP server cannot be authorized: {told}")))
}
