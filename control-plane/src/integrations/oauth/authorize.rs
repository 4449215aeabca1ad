//! Authorizing: a person, or the client itself, has access granted, and a connection holds it from then on.

use super::{
    CALLBACK_PARAMETER_BYTES_MAX, CLIENT_ID_BYTES_MAX, Own, SCOPE_BYTES_MAX, SCOPES_MAX,
    attempts::{self, Attempt, New, Pending},
    discovery::{self, Found, Page, Question},
    grant::{Flow, Grant, Status},
    http::OverEgress,
    renewal::renewed_at,
    tokens::{Code, Counter, Given, NotGiven},
};
use crate::{
    access::{
        AccessError, May, SignedIn,
        entry::{self, NamedPlace},
        permission::WriteConnections,
    },
    app::App,
    integrations::{
        IntegrationError, McpServerId,
        connections::{Connection, granted},
        fields::{check_value, name},
        inquiries::Inquiry,
        mcp::{servers, shortened},
    },
    vault::data_keys,
};
use agentruntime_host_api::Timestamp;
use oauth2::RedirectUrl;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::Url;

/// How access is to be granted.
pub(crate) struct Wanted {
    /// What the connection is called. One that holds access to the same server gets the new one.
    pub(crate) display_name: String,
    /// By whom it is granted.
    pub(crate) flow: Flow,
    /// Our name at the authorization server; nothing: we register there.
    pub(crate) client_id: Option<String>,
    /// And what proves it.
    pub(crate) client_secret: Option<SecretString>,
    /// At which authorization server that is so: a secret goes to no other. Nothing, without a secret: whomever the server names.
    pub(crate) issuer: Option<String>,
    /// What is asked for; nothing: what the server says that it wants.
    pub(crate) scopes: Option<Vec<String>>,
}

/// What became of a beginning.
pub(crate) enum Begun {
    /// A person is to open a page.
    Page(Opened),
    /// It is done.
    Done(Box<Connection>),
}

/// A page that a person is to open.
pub(crate) struct Opened {
    /// Its address.
    pub(crate) url: Url,
    /// Until when the browser has to be back.
    pub(crate) expires_at: Timestamp,
    /// Who grants access there.
    pub(crate) issuer: String,
}

/// What a browser comes back with.
pub(crate) struct Return {
    pub(crate) state: SecretString,
    /// The code, or the server's word for why there is none.
    pub(crate) outcome: Result<SecretString, String>,
    /// Whom the server says that it is (RFC 9207).
    pub(crate) issuer: Option<String>,
}

/// Begins to have access granted to a server.
pub(crate) async fn begin(
    app: &App,
    may: &May<WriteConnections>,
    server: McpServerId,
    wanted: Wanted,
) -> Result<Begun, IntegrationError> {
    let display_name = name("display_name", &wanted.display_name)?;
    check(&wanted)?;
    let (database, scope) = (app.database(), may.place.scope());
    let url = servers::address(&servers::get(database, &scope, server).await?.canonical_url)?;
    granted::check_free(database, &scope, &display_name, &url).await?;
    let _inquiry = app.inquiries.admit(&scope.tenant)?;
    // Without a key to seal with there is nothing to begin.
    let sealer = data_keys::sealer(database, &app.sealer, &scope.tenant).await?;
    let mut tx = database.begin().await?;
    let details = json!({
        "display_name": display_name, "grant_type": wanted.flow, "client_id": wanted.client_id, "issuer": wanted.issuer,
        "scopes": wanted.scopes,
    });
    may.record(&mut tx, "mcp_server.authorize", server, details, database.time()).await?;
    tx.commit().await?;
    let own = Own::of(&app.settings);
    let question = Question {
        server: &url,
        flow: wanted.flow,
        client_id: wanted.client_id.as_deref(),
        client_secret: wanted.client_secret.as_ref(),
        issuer: wanted.issuer.as_deref(),
        scopes: wanted.scopes.as_deref(),
        own: &own,
    };
    let found = discovery::find(app.outside.egress(), &question).await?;
    let (page, pending) = split(&url, found);
    let Some(Page { url: page, state, verifier }) = page else {
        let given = counter(app, &pending, &OverEgress::new(app.outside.egress())).for_client(&pending.scopes).await;
        return Ok(Begun::Done(Box::new(keep(app, may, server, &display_name, pending, given).await?)));
    };
    let pending = Pending { verifier, ..pending };
    let mut tx = database.begin().await?;
    let user = may.caller.user;
    let new = New { state: &state, scope: &scope, server, user, display_name: &display_name, pending: &pending };
    let expires_at = attempts::begin(&mut tx, &sealer, new, database.time()).await?;
    tx.commit().await?;
    Ok(Begun::Page(Opened { url: page, expires_at, issuer: pending.issuer }))
}

/// Finishes it, for whoever began it. What is refused keeps nothing.
pub(crate) async fn finish(app: &App, who: SignedIn, back: Return) -> Result<Connection, IntegrationError> {
    let database = app.database();
    let (attempt, _inquiry) = take(app, &who, &back).await?;
    let named = NamedPlace {
        tenant: Some(attempt.scope.tenant.to_string()),
        project: Some(attempt.scope.project.to_string()),
        ..NamedPlace::default()
    };
    // They may not be let in any more.
    let may: May<WriteConnections> = entry::enter(database, who.caller, &named).await?;
    let sealer = data_keys::opener(database, &app.sealer, &attempt.scope.tenant).await?;
    let pending = attempt.open(&sealer, &back.state)?;
    let is_named = match &back.issuer {
        Some(issuer) => *issuer == pending.issuer,
        None => !pending.names_issuer,
    };
    if !is_named {
        let message = "the browser came back from another authorization server than it was sent to; nothing was kept";
        return Err(IntegrationError::McpServer(message.into()));
    }
    let code = back.outcome.map_err(|reason| {
        let reason = shortened(&reason);
        IntegrationError::McpServer(format!("the authorization server did not grant access: {reason}; begin again"))
    })?;
    let redirect_url = RedirectUrl::from_url(Own::of(&app.settings).callback);
    let http = OverEgress::new(app.outside.egress());
    let code = Code { code, verifier: pending.verifier.clone(), redirect_url };
    let given = counter(app, &pending, &http).for_code(code).await;
    keep(app, &may, attempt.server, &attempt.display_name, pending, given).await
}

/// The attempt, and the right to ask for its token.
async fn take(app: &App, who: &SignedIn, back: &Return) -> Result<(Attempt, Inquiry), IntegrationError> {
    let stale = || {
        let message = "you began no such authorization, it came back before, or it took longer than ten minutes; begin again, \
            and open the page where you are signed in";
        IntegrationError::invalid("state", message)
    };
    let code = match &back.outcome {
        Ok(code) => code.expose_secret(),
        Err(reason) => reason,
    };
    let parts = [back.state.expose_secret(), code, back.issuer.as_deref().unwrap_or_default()];
    if parts.iter().any(|part| part.len() > CALLBACK_PARAMETER_BYTES_MAX) {
        return Err(stale());
    }
    let mut tx = app.database().begin().await?;
    let Some(attempt) = attempts::take(&mut tx, &back.state, who.user(), app.database().time()).await? else {
        tx.commit().await?;
        return Err(stale());
    };
    // Where there is no room the attempt stays, and the browser comes back with it once more.
    let inquiry = app.inquiries.admit(&attempt.scope.tenant)?;
    tx.commit().await?;
    Ok((attempt, inquiry))
}

/// The page, and what is needed after it.
fn split(url: &Url, found: Found) -> (Option<Page>, Pending) {
    let Found { issuer, names_issuer, scopes, client, client_secret, page } = found;
    let verifier = SecretString::default();
    (page, Pending { url: url.to_string(), issuer, names_issuer, scopes, client, client_secret, verifier })
}

fn counter<'c>(app: &'c App, pending: &'c Pending, http: &'c OverEgress) -> Counter<'c> {
    let client_secret = pending.client_secret.as_ref();
    Counter { http, client: &pending.client, client_secret, database: app.database() }
}

/// Keeps what was given, as the connection of this name.
async fn keep(
    app: &App,
    may: &May<WriteConnections>,
    server: McpServerId,
    display_name: &str,
    pending: Pending,
    given: Result<Given, NotGiven>,
) -> Result<Connection, IntegrationError> {
    let given = given.map_err(|why| IntegrationError::McpServer(why.told()))?;
    let now = app.database().time();
    let grant = Grant {
        server,
        url: servers::address(&pending.url)?,
        issuer: pending.issuer,
        status: Status::Authorized,
        scopes: given.scopes.unwrap_or(pending.scopes),
        authorized_by: may.caller.user,
        authorized_at: now,
        expires_at: given.expires_at,
        client: pending.client,
        renewed_at: renewed_at(now, given.expires_at),
    };
    let sealer = data_keys::sealer(app.database(), &app.sealer, &may.place.tenant.tenant).await?;
    let seal = |id| given.secrets.seal(&sealer, &may.place.tenant.tenant, id);
    granted::keep(app, may, display_name, grant, seal).await
}

/// A secret is for one authorization server, and whoever gives it says for which: the MCP server names any that it likes.
fn check_issuer(wanted: &Wanted) -> Result<(), IntegrationError> {
    match &wanted.issuer {
        None if wanted.client_secret.is_some() => {
            let message = "say which authorization server the `client_secret` is for, by the address that it calls itself; it is \
                sent to no other that the MCP server may name";
            Err(IntegrationError::invalid("issuer", message))
        }
        Some(issuer) if issuer.len() > CLIENT_ID_BYTES_MAX || Url::parse(issuer).is_err() => {
            let message =
                format!("write an address of up to {CLIENT_ID_BYTES_MAX} bytes such as https://login.example.com");
            Err(IntegrationError::invalid("issuer", message))
        }
        _ => Ok(()),
    }
}

fn check(wanted: &Wanted) -> Result<(), IntegrationError> {
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(id) = &wanted.client_id
        && !((1..=CLIENT_ID_BYTES_MAX).contains(&id.len()) && is_plain(id))
    {
        let message = format!("write 1 to {CLIENT_ID_BYTES_MAX} characters of ASCII without blanks");
        return Err(IntegrationError::invalid("client_id", message));
    }
    if let Some(secret) = &wanted.client_secret {
        check_value("client_secret", secret)?;
    }
    if wanted.client_secret.is_some() && wanted.client_id.is_none() {
        return Err(IntegrationError::invalid("client_id", "say whose `client_secret` it is"));
    }
    check_issuer(wanted)?;
    if wanted.flow == Flow::ClientCredentials && wanted.client_secret.is_none() {
        let message = "without a person, the client proves itself: send `client_id` and `client_secret`";
        return Err(IntegrationError::invalid("client_secret", message));
    }
    let scopes = wanted.scopes.as_deref().unwrap_or_default();
    // RFC 6749, appendix A.4.
    let is_scope = |scope: &String| {
        (1..=SCOPE_BYTES_MAX).contains(&scope.len()) && is_plain(scope) && !scope.contains(['"', '\\'])
    };
    if scopes.len() > SCOPES_MAX || !scopes.iter().all(is_scope) {
        let message = format!(
            "up to {SCOPES_MAX} scopes, each of 1 to {SCOPE_BYTES_MAX} characters of ASCII without blanks, quotes and backslashes"
        );
        return Err(AccessError::Invalid { field: "scopes", message }.into());
    }
    Ok(())
}
