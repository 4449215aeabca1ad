//! What the operator decides: read once at the start from flags, environment and file, and checked as a whole.
//!
//! To add a setting: a line in [`keys::KEYS`], a field of [`Settings`] (or of a part of it), a line in `Settings::read`, and
//! its place in `docs/agentruntime.toml`. Tests hold the four together. Secrets come from files and the environment, never
//! from flags, and never leave as text.
//!
//! | file | owns |
//! |---|---|
//! | `keys` | the table of all settings: names, help |
//! | `given` | what was given where, and which of it counts |
//! | `file` | reading the TOML file |
//! | `flags` | settings on the command line |
//! | `read` | defaults, bounds, and what does not go together |

mod file;
mod flags;
mod given;
mod keys;
mod read;

pub(crate) use flags::SettingFlags;
pub(crate) use given::{Effective, Given};

use crate::{
    integrations::llm::Endpoint,
    vault::{self, ExternalSettings},
};
use agentruntime_engine::node::{Ceilings, NodeConfig};
use ipnet::IpNet;
use secrecy::SecretString;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};
use url::{Host, Url};

/// The settings of the service.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The key that seals stored secrets, in base64; where none is given, a data folder has its own.
    pub(crate) master_key: Option<SecretString>,
    /// Keys that only open what they sealed before.
    pub(crate) previous_master_keys: Vec<SecretString>,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// How it is reached from outside: in links, and as the origin of browsers.
    pub(crate) public_url: Url,
    /// Whether it is the one of a developer: mails land in a folder, cookies work without TLS.
    pub(crate) is_dev: bool,
    /// Proxies whose word on the client's address is taken.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// The largest body of a request, in bytes.
    pub(crate) body_bytes_max: usize,
    /// How many bytes bodies under way may have together.
    pub(crate) body_room: BodyRoom,
    /// The domain that session cookies are for, such as `example.com` for all hosts under it; the host alone where none
    /// is given, which is safer.
    pub(crate) cookie_domain: Option<String>,
    /// The name server that is asked whether a domain is a workspace's; the machine's own where none is given.
    pub(crate) name_server: Option<SocketAddr>,
    /// Providers of language models for all workspaces.
    pub(crate) platform_providers: Vec<Endpoint>,
    /// Where the values of vaults are kept, if not in the database.
    pub(crate) external_vault: Option<ExternalSettings>,
    /// How requests of steps leave.
    pub(crate) egress: EgressSettings,
    /// How mails are sent.
    pub(crate) mail: MailSettings,
    /// The issuer of sign-ins with OpenID Connect, if there is one.
    pub(crate) openid: Option<OpenIdSettings>,
    /// The certificate, where connections are encrypted here and not by a proxy.
    pub(crate) tls: Option<TlsFiles>,
    /// Other origins whose pages may use the API from a browser.
    pub(crate) allowed_origins: Vec<Origin>,
    /// Connections at once.
    pub(crate) connections_max: usize,
    /// Those of them that come from one address; any number where nothing is given.
    pub(crate) connections_per_address_max: Option<NonZeroUsize>,
    /// How long a client may take to send the head of a request, and its body beyond what the body's size earns.
    pub(crate) read_max: Duration,
    /// How long everything is served still after the service was told to end, while `/readyz` says that it will.
    pub(crate) drain_notice: Duration,
    /// How long requests under way may take after the service was told to end.
    pub(crate) drain: Duration,
    /// How many requests anybody may send.
    pub(crate) rates: Rates,
    /// What is told about the service's work, and where.
    pub(crate) observe: Observe,
    /// How many runs the node works on at once.
    pub(crate) active_runs_max: usize,
    /// How many requests of steps the node has under way at once.
    pub(crate) request_room: RequestRoom,
    /// How many runs of one workspace may be unfinished.
    pub(crate) workspace_unfinished_runs_max: u32,
    /// How many bytes the events of one workspace's runs may take; any number where nothing is given.
    pub(crate) workspace_stored_bytes_max: Option<u64>,
    /// How many scripts of one workspace compute at once; without a ceiling of its own where nothing is given.
    pub(crate) workspace_processors_max: Option<usize>,
    /// When runs that ended are removed; never where nothing is given.
    pub(crate) retention: Option<Retention>,
}

/// How many bytes of bodies may be under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyRoom {
    /// Of all requests together.
    pub(crate) all: usize,
    /// Of one workspace's, or of one address's that entered none.
    pub(crate) each: usize,
}

/// How many requests of steps are under way at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestRoom {
    /// Those of all workspaces together.
    pub(crate) all: usize,
    /// Those of one workspace.
    pub(crate) each: u32,
}

/// How requests of steps leave.
#[derive(Clone, Debug, Default)]
pub(crate) struct EgressSettings {
    /// Networks that may be reached beside the public internet.
    pub(crate) allowed_networks: Vec<IpNet>,
    /// A proxy that all requests go through.
    pub(crate) proxy: Option<Url>,
}

/// When runs that ended are removed.
#[derive(Clone, Debug)]
pub(crate) struct Retention {
    /// How long they are kept after they ended.
    pub(crate) keep: Duration,
    /// The folder into which they are written before; none: they are gone.
    pub(crate) archive: Option<PathBuf>,
}

/// How mails are sent.
#[derive(Clone, Debug)]
pub(crate) enum MailSettings {
    /// By an SMTP server.
    Smtp {
        /// `smtps://USER:PASSWORD@HOST`, or `smtp://HOST:PORT` without TLS (with `?tls=required` for STARTTLS).
        url: SecretString,
        /// Who writes: `NAME <ADDRESS>`, or `ADDRESS`.
        from: String,
    },
    /// Into a folder, for a developer.
    Folder(PathBuf),
    /// Not at all: nobody can sign up or be invited.
    Off,
}

/// An issuer of sign-ins with OpenID Connect.
#[derive(Clone, Debug)]
pub(crate) struct OpenIdSettings {
    /// The issuer's URL, exactly as it writes it itself: [`GOOGLE`], or another.
    pub(crate) issuer: String,
    /// What the issuer calls this service.
    pub(crate) client_id: String,
    /// How this service proves to the issuer that it is it.
    pub(crate) client_secret: SecretString,
}

/// The issuer unless the operator decides otherwise.
pub(crate) const GOOGLE: &str = "https://accounts.google.com";
/// Who writes mails unless the operator decides otherwise.
const MAIL_FROM: &str = "agentruntime@localhost";

/// The files of a certificate, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

/// How many requests anybody may send, per minute; 0 is without limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// With one token, or within one session.
    pub(crate) token: u32,
    /// From one address without a credential.
    pub(crate) address: u32,
    /// From one address with a credential that is none.
    pub(crate) failures: u32,
}

/// What is told about the service's work, and where.
#[derive(Clone, Debug)]
pub(crate) struct Observe {
    /// Which lines of the log are written.
    pub(crate) log: String,
    /// Their form.
    pub(crate) log_format: LogFormat,
    /// An address of their own for the metrics.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// The OTLP/HTTP receiver of traces.
    pub(crate) otlp_endpoint: Option<Url>,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The origin of web pages: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(String);

/// Which server is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A developer's.
    Dev,
    /// Everybody's.
    Serve,
}

impl Settings {
    /// Whether clients reach the service by TLS, here or at a proxy.
    pub(crate) fn is_https(&self) -> bool {
        self.public_url.scheme() == "https"
    }

    /// Takes the port that the system chose into the public address, where port 0 was asked for.
    pub(crate) fn listens_on(&mut self, address: SocketAddr) {
        if self.public_url.port() == Some(0) {
            // A URL with a host takes any port.
            let _ = self.public_url.set_port(Some(address.port()));
        }
        self.listen = address;
    }
}

impl FromStr for LogFormat {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl FromStr for Origin {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let url = Url::parse(text).map_err(|_| ())?;
        let origin = url.origin();
        let is_origin = origin.is_tuple() && matches!(url.scheme(), "http" | "https");
        let given = text.trim_end_matches('/');
        (is_origin && origin.ascii_serialization() == given).then(|| Self(given.to_owned())).ok_or(())
    }
}

impl Origin {
    /// As browsers write it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
