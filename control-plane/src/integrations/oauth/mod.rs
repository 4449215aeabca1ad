//! Access that somebody grants us at a server of MCP, by OAuth 2.1: connections whose token is fetched, kept and renewed.
//!
//! Owns how such a connection comes about, and that its token is fresh where it is used. The library reads what servers say of
//! themselves; every byte goes through [`agentruntime_egress`]. Never decides where a token may go but to the server that it is
//! for, and never gives one out.
//!
//! | file | owns |
//! |---|---|
//! | `http` | the libraries' HTTP, over the egress |
//! | `discovery` | from a server's address to who grants access to it, and to the page where a person does |
//! | `grant` | what is known of an access, and its secrets, sealed |
//! | `attempts` | authorizations that are under way |
//! | `tokens` | asking for tokens |
//! | `renewal` | a token that is fresh, renewed by one at a time |
//! | `authorize` | the operations: begin, and finish |

mod attempts;
pub(crate) mod authorize;
mod discovery;
mod grant;
mod http;
mod renewal;
mod tokens;

pub(super) use grant::kept_token;
pub(crate) use grant::{Flow, Grant, Status};
pub(super) use renewal::{ACCESS_TOKEN, fresh, renew};

use crate::settings::Settings;
use std::time::Duration;
use url::Url;

/// The path that authorization servers send browsers back to.
pub(crate) const CALLBACK: &str = "/v1/mcp/oauth/callback";
/// The path at which we describe ourselves: its address is our name at servers that take such names.
pub(crate) const CLIENT_DOCUMENT: &str = "/v1/mcp/oauth/client.json";
/// Our name for people, where we register or describe ourselves.
pub(crate) const CLIENT_NAME: &str = "AgentRuntime";
/// How long one request of an authorization may take: people and steps wait for it.
pub(crate) const OAUTH_TIMEOUT: Duration = Duration::from_secs(15);
/// How long finding out who grants access may take in all: a person waits for it.
pub(crate) const OAUTH_DISCOVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// How many requests that may take: a server can name authorization servers without end.
pub(crate) const OAUTH_REQUESTS_MAX: usize = 32;
/// The longest answer of an authorization server: descriptions and tokens are some kilobytes.
pub(crate) const OAUTH_REPLY_BYTES_MAX: usize = 256 << 10;
/// How long before its end a token is renewed: calls begin with it, and servers' clocks differ.
pub(crate) const RENEWED_BEFORE: Duration = Duration::from_secs(60);
/// For how long one node has the renewal of a token to itself: longer than the request takes. A node that was killed meanwhile
/// keeps others waiting for as long.
pub(crate) const RENEWAL_LEASE: Duration = Duration::from_secs(30);
/// Scopes of one authorization, and how long each may be, in characters: more than servers have.
pub(crate) const SCOPES_MAX: usize = 64;
/// The longest scope, in bytes.
pub(crate) const SCOPE_BYTES_MAX: usize = 256;
/// The longest id of a client, and name or address that a server gives itself, in bytes: some of the first are addresses.
pub(crate) const CLIENT_ID_BYTES_MAX: usize = 2048;
/// How long what comes back in the browser's address may be, in bytes: codes can be long, addresses are not.
pub(crate) const CALLBACK_PARAMETER_BYTES_MAX: usize = 4096;

/// Who we are to authorization servers.
pub(crate) struct Own {
    /// Where browsers come back.
    pub(crate) callback: Url,
    /// Where we describe ourselves.
    pub(crate) document: Url,
}

impl Own {
    /// As the settings say how others reach us.
    pub(crate) fn of(settings: &Settings) -> Self {
        let at = |path: &str| {
            let mut url = settings.public_url.clone();
            url.set_path(path);
            url
        };
        Self { callback: at(CALLBACK), document: at(CLIENT_DOCUMENT) }
    }

    /// What kind of client we are: a browser comes back to a site, or to a program on its own machine.
    pub(crate) fn kind(&self) -> &'static str {
        if self.callback.scheme() == "https" { "web" } else { "native" }
    }
}
