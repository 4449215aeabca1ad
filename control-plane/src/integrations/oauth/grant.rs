//! What is known of an access that was granted, and what is secret of it.

use super::CLIENT_ID_BYTES_MAX;
use crate::{
    access::UserId,
    integrations::{ConnectionId, IntegrationError, McpServerId, fields::CREDENTIAL_BYTES_MAX},
    vault::{Place, SealError, Sealer},
};
use agentruntime_host_api::{HostPattern, TenantId, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

/// What sealed secrets of an access are bound to.
const KIND: &str = "authorization";

/// An access that was granted. It holds no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// The server of MCP, as it was registered.
    pub(crate) server: McpServerId,
    /// Its address: the token goes to this origin alone.
    pub(crate) url: Url,
    /// Who grants.
    pub(crate) issuer: String,
    /// Whether it can be used.
    pub(crate) status: Status,
    /// What it is good for, as far as that is known.
    pub(crate) scopes: Vec<String>,
    /// Who got it.
    pub(crate) authorized_by: UserId,
    /// When.
    pub(crate) authorized_at: Timestamp,
    /// When the token ends, if that was said.
    pub(crate) expires_at: Option<Timestamp>,
    /// How tokens are asked for.
    pub(super) client: Client,
    /// When the token is renewed.
    pub(super) renewed_at: Option<Timestamp>,
}

/// Whether an access can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// As far as is known.
    Authorized,
    /// Not any more: it is to be granted again.
    AuthorizationRequired,
}

/// By whom an access is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Flow {
    /// By a person, in a browser.
    AuthorizationCode,
    /// By what the client itself may do.
    ClientCredentials,
}

/// Who we are where tokens are asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Client {
    /// How access is granted.
    pub(super) flow: Flow,
    /// Our name there.
    pub(super) id: String,
    /// Where tokens are asked for.
    pub(super) token_endpoint: Url,
    /// Whether the client's secret goes in the body of a request, and not in its header.
    pub(super) is_secret_in_body: bool,
    /// What a token is for, as the server names itself (RFC 8707).
    pub(super) resource: String,
}

/// What is secret of an access.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Secrets {
    #[serde(deserialize_with = "secret")]
    pub(super) access_token: SecretString,
    #[serde(default, deserialize_with = "maybe_secret")]
    pub(super) refresh_token: Option<SecretString>,
    #[serde(default, deserialize_with = "maybe_secret")]
    pub(super) client_secret: Option<SecretString>,
}

/// The same, on its way to be sealed.
#[derive(Serialize)]
struct Written<'s> {
    access_token: &'s str,
    refresh_token: Option<&'s str>,
    client_secret: Option<&'s str>,
}

impl Grant {
    /// Where the token may be sent.
    pub(crate) fn hosts(&self) -> Vec<HostPattern> {
        HostPattern::of(&self.url).into_iter().collect()
    }
}

impl Secrets {
    /// Refuses what cannot be kept, or not be sent.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let is_header = |token: &SecretString| token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic());
        let is_fit = |token: &SecretString| (1..=CREDENTIAL_BYTES_MAX).contains(&token.expose_secret().len());
        match is_fit(&self.access_token) && is_header(&self.access_token) && self.refresh_token.iter().all(is_fit) {
            true => Ok(()),
            false => Err("the authorization server gave a token that is empty, too long or no text of a header"),
        }
    }

    /// Seals them for their connection.
    pub(super) fn seal(&self, sealer: &Sealer, tenant: &TenantId, id: ConnectionId) -> Result<String, SealError> {
        let written = Written {
            access_token: self.access_token.expose_secret(),
            refresh_token: self.refresh_token.as_ref().map(ExposeSecret::expose_secret),
            client_secret: self.client_secret.as_ref().map(ExposeSecret::expose_secret),
        };
        let text = SecretString::from(serde_json::to_string(&written).unwrap_or_default());
        sealer.seal(Place { tenant, kind: KIND, id: &id.to_string() }, &text)
    }

    /// Opens what was sealed for a connection.
    pub(super) fn open(sealer: &Sealer, tenant: &TenantId, id: ConnectionId, sealed: &str) -> Result<Self, SealError> {
        let text = sealer.open_sealed(Place { tenant, kind: KIND, id: &id.to_string() }, sealed)?;
        serde_json::from_str(text.expose_secret()).map_err(|_| SealError::Damaged)
    }
}

/// The token that is kept, fresh or not.
pub(in crate::integrations) fn kept_token(
    sealer: &Sealer,
    tenant: &TenantId,
    id: ConnectionId,
    sealed: &str,
) -> Result<SecretString, SealError> {
    Ok(Secrets::open(sealer, tenant, id, sealed)?.access_token)
}

/// An address at which tokens or permissions are asked for: as safe as the server that they are for.
pub(super) fn endpoint(server: &Url, what: &str, text: &str) -> Result<Url, IntegrationError> {
    let found = Url::parse(text).ok().filter(|url| {
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && server.scheme() == "http");
        is_safe
            && text.len() <= CLIENT_ID_BYTES_MAX
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none()
    });
    found.ok_or_else(|| {
        let message = format!("the authorization server's {what} is no address that begins with https://, or too long");
        IntegrationError::McpServer(message)
    })
}

pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    Ok(String::deserialize(deserializer)?.into())
}

pub(super) fn maybe_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Into::into))
}
