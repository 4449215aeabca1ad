//! Authorizations that are under way: from the start to the way back. Each comes back once, in time, and to whoever began it.

use super::grant::{Client, maybe_secret, secret};
use crate::{
    access::{UserId, token::TokenHash},
    integrations::{IntegrationError, McpServerId},
    vault::{Place, SealError, Sealer},
};
use agentruntime_engine::{
    database::{Tx, Values, id, text, time},
    store::Scope,
};
use agentruntime_host_api::{ProjectId, TenantId, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const INSERT: &str = "INSERT INTO mcp_authorizations (state_hash, tenant_id, project_id, server_id, user_id, display_name, \
    sealed, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const TAKE: &str = "DELETE FROM mcp_authorizations WHERE state_hash = $1 AND user_id = $2 \
    RETURNING tenant_id, project_id, server_id, display_name, sealed, expires_at";
const DELETE_OVER: &str = "DELETE FROM mcp_authorizations WHERE expires_at <= $1";

/// What is sealed is bound to this.
const KIND: &str = "mcp-authorization";
/// How long one may be under way: people sign in, and ask others whether they may.
pub(crate) const LASTS: Duration = Duration::from_secs(10 * 60);

/// An authorization that is under way.
pub(super) struct Attempt {
    /// Where it was begun.
    pub(super) scope: Scope,
    /// For which server.
    pub(super) server: McpServerId,
    /// What the connection is to be called.
    pub(super) display_name: String,
    /// The rest, sealed.
    sealed: String,
}

/// What the way back needs.
#[derive(Debug, Deserialize)]
pub(super) struct Pending {
    /// The server's address.
    pub(super) url: String,
    /// Who grants.
    pub(super) issuer: String,
    /// Whether who grants says so on the way back (RFC 9207).
    pub(super) names_issuer: bool,
    /// What was asked for.
    pub(super) scopes: Vec<String>,
    /// Who we are there.
    pub(super) client: Client,
    /// What proves it, if something does.
    #[serde(default, deserialize_with = "maybe_secret")]
    pub(super) client_secret: Option<SecretString>,
    /// What proves that we began (PKCE).
    #[serde(deserialize_with = "secret")]
    pub(super) verifier: SecretString,
}

/// The same, on its way to be sealed.
#[derive(Serialize)]
struct Written<'p> {
    url: &'p str,
    issuer: &'p str,
    names_issuer: bool,
    scopes: &'p [String],
    client: &'p Client,
    client_secret: Option<&'p str>,
    verifier: &'p str,
}

/// What is begun.
pub(super) struct New<'n> {
    /// What goes with the browser and comes back.
    pub(super) state: &'n SecretString,
    pub(super) scope: &'n Scope,
    pub(super) server: McpServerId,
    pub(super) user: UserId,
    pub(super) display_name: &'n str,
    pub(super) pending: &'n Pending,
}

/// Notes an authorization, and forgets those that are over.
pub(super) async fn begin(
    tx: &mut Tx<'_>,
    sealer: &Sealer,
    new: New<'_>,
    now: Timestamp,
) -> Result<Timestamp, IntegrationError> {
    let mut values = Values::default();
    values.number(now.as_micros());
    tx.rows(DELETE_OVER, values).await?;
    let (hash, expires_at) = (TokenHash::of(new.state.expose_secret()), now.plus(LASTS));
    let pending = new.pending;
    let written = Written {
        url: &pending.url,
        issuer: &pending.issuer,
        names_issuer: pending.names_issuer,
        scopes: &pending.scopes,
        client: &pending.client,
        client_secret: pending.client_secret.as_ref().map(ExposeSecret::expose_secret),
        verifier: pending.verifier.expose_secret(),
    };
    let written = SecretString::from(serde_json::to_string(&written).unwrap_or_default());
    let sealed = sealer.seal(Place { tenant: &new.scope.tenant, kind: KIND, id: hash.as_str() }, &written)?;
    let mut values = Values::default();
    values.text(hash.as_str()).scope(new.scope).id(new.server).id(new.user).text(new.display_name).text(sealed);
    values.number(expires_at.as_micros());
    tx.rows(INSERT, values).await?;
    Ok(expires_at)
}

/// The authorization that comes back with this state to whoever began it: once, and in time.
pub(super) async fn take(
    tx: &mut Tx<'_>,
    state: &SecretString,
    user: UserId,
    now: Timestamp,
) -> Result<Option<Attempt>, IntegrationError> {
    let mut values = Values::default();
    values.text(TokenHash::of(state.expose_secret()).as_str()).id(user);
    let Some(row) = tx.row(TAKE, values).await? else { return Ok(None) };
    let attempt = Attempt {
        scope: Scope { tenant: TenantId::new(text(&row, 0)?), project: ProjectId::new(text(&row, 1)?) },
        server: id(&row, 2)?,
        display_name: text(&row, 3)?.to_owned(),
        sealed: text(&row, 4)?.to_owned(),
    };
    Ok((time(&row, 5)? > now).then_some(attempt))
}

impl Attempt {
    /// What was kept for the way back.
    pub(super) fn open(&self, sealer: &Sealer, state: &SecretString) -> Result<Pending, SealError> {
        let hash = TokenHash::of(state.expose_secret());
        let place = Place { tenant: &self.scope.tenant, kind: KIND, id: hash.as_str() };
        let text = sealer.open_sealed(place, &self.sealed)?;
        serde_json::from_str(text.expose_secret()).map_err(|_| SealError::Damaged)
    }
}
