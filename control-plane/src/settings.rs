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

mod file;
mod flags;
mod given;
mod keys;

pub(crate) use flags::SettingFlags;
pub(crate) use given::{Effective, Given};

use crate::vault;
use agentruntime_engine::node::Ceilings;
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

/// The largest body of a request unless the operator decides otherwise: a graph or an input far larger than is written by hand.
const BODY_BYTES_MAX: u64 = 1024 * 1024;
/// Bodies of all requests under way: what is kept of them takes twice as much memory for a moment, and what is worked at more,
/// so that a machine with 1 GiB bears it.
const BODIES_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Those of one workspace: sixteen of the largest, or thousands of usual ones, and a quarter of the room for all.
const WORKSPACE_BODIES_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// No machine has more memory for them.
const BODIES_BYTES_CEILING: u64 = 1 << 40;
/// More than this would be held in memory for each request under way.
const BODY_BYTES_CEILING: u64 = 64 * 1024 * 1024;
/// Each connection takes a file descriptor and some 50 KiB.
const CONNECTIONS_MAX: u64 = 10_000;
/// An office with some tabs for each, or a machine with hundreds of programs that follow runs; it takes twenty such addresses
/// to leave no room for others.
const CONNECTIONS_PER_ADDRESS_MAX: u64 = 500;
/// A head is a packet or two, and a body begins right behind it: who needs longer only holds the connection.
const READ_SECONDS: u64 = 20;
/// Ten a second on average: far more than a person or a polling program needs.
const TOKEN_PER_MINUTE: u64 = 600;
/// Anonymous callers sign in, follow links and knock at webhooks: fewer, though many may share an address.
const ADDRESS_PER_MINUTE: u64 = 300;
/// Nobody mistypes a token more often than this.
const FAILURES_PER_MINUTE: u64 = 30;
const DRAIN_SECONDS: u64 = 30;
/// Millions of small runs, or a hundred of the largest: enough to forget about, and a fraction of a server's disk, so that no
/// workspace alone fills it.
const STORED_BYTES_MAX: u64 = 10 << 30;
/// No disk has more.
const STORED_BYTES_CEILING: u64 = 1 << 60;
/// No machine has more processors.
const PROCESSORS_CEILING: u64 = 10_000;
/// A century: who wants more wants them for ever.
const RETENTION_DAYS_CEILING: u64 = 36_500;
/// The port where none is named.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8600);

impl Settings {
    /// Reads what was given; what is wrong with it is noted there.
    pub(crate) fn read(given: &mut Given, mode: Mode) -> Self {
        let listen = given.parsed_or("listen", "an address and a port, such as 0.0.0.0:8600", LISTEN);
        let tls = read_tls(given);
        let body_bytes_max = given.number("body_bytes_max", 1_024..=BODY_BYTES_CEILING, BODY_BYTES_MAX);
        let unfinished = given.number(
            "workspace_unfinished_runs_max",
            1..=100_000_000,
            Ceilings::default().unfinished_runs_max.into(),
        );
        let settings = Self {
            master_key: given.secret_that("master_key", vault::check_form),
            previous_master_keys: given.secrets_in_files("previous_master_key_files", vault::check_form),
            listen,
            public_url: read_public_url(given, listen, tls.is_some(), mode),
            is_dev: mode == Mode::Dev,
            trusted_proxies: given.list("trusted_proxies", "a network such as 10.0.0.0/8"),
            body_bytes_max: usize_of(body_bytes_max),
            body_room: read_body_room(given, body_bytes_max),
            cookie_domain: given.text("cookie_domain"),
            name_server: given.parsed("name_server", "an address and a port, such as 127.0.0.1:53"),
            egress: EgressSettings {
                allowed_networks: given.list("egress_allowed_networks", "a network such as 10.0.0.0/8"),
                proxy: given.parsed("egress_proxy", "a URL such as http://proxy.internal:3128"),
            },
            mail: read_mail(given),
            openid: read_openid(given),
            tls,
            allowed_origins: given.list("allowed_origins", "an origin such as https://app.example.com"),
            connections_max: usize_of(given.number("connections_max", 1..=1_000_000, CONNECTIONS_MAX)),
            connections_per_address_max: read_connections_per_address_max(given, mode),
            read_max: Duration::from_secs(given.number("read_seconds_max", 1..=3_600, READ_SECONDS)),
            drain_notice: Duration::from_secs(given.number("drain_notice_seconds", 0..=3_600, 0)),
            drain: Duration::from_secs(given.number("drain_seconds", 0..=3_600, DRAIN_SECONDS)),
            rates: read_rates(given, mode),
            observe: read_observe(given),
            active_runs_max: usize_of(given.number("active_runs_max", 1..=100_000, 1_000)),
            workspace_unfinished_runs_max: u32::try_from(unfinished).unwrap_or(u32::MAX),
            workspace_stored_bytes_max: read_stored_bytes_max(given),
            workspace_processors_max: match given.number("workspace_processors_max", 0..=PROCESSORS_CEILING, 0) {
                0 => None,
                processors => Some(usize_of(processors)),
            },
            retention: read_retention(given),
        };
        if let Some(endpoint) = &settings.observe.otlp_endpoint
            && !matches!(endpoint.scheme(), "http" | "https")
        {
            given.refuse("otlp_endpoint", "has to be an http or https URL, such as http://127.0.0.1:4318/v1/traces");
        }
        settings
    }

    /// Where data lies, which is asked for before anything else is.
    pub(crate) fn read_data(given: &mut Given) -> Option<String> {
        let from_file = given.secret("data_url");
        let data = given.location("data");
        match from_file {
            Some(_) if data.is_some() => {
                given.refuse("data", "is given beside `data_url`; give one of the two");
                data
            }
            Some(url) => Some(secrecy::ExposeSecret::expose_secret(&url).to_owned()),
            None => data,
        }
    }

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

/// What fits 64 MiB fits a pointer's width.
fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Room for one body at least, for a workspace and for all.
fn read_body_room(given: &mut Given, body_bytes_max: u64) -> BodyRoom {
    let each_default = WORKSPACE_BODIES_BYTES_MAX.max(body_bytes_max);
    let each = given.number("workspace_bodies_bytes_max", 1_024..=BODIES_BYTES_CEILING, each_default);
    if each < body_bytes_max {
        given.refuse("workspace_bodies_bytes_max", "has to be `body_bytes_max` at least: one body has to fit");
    }
    let all = given.number("bodies_bytes_max", 1_024..=BODIES_BYTES_CEILING, BODIES_BYTES_MAX.max(each));
    if all < each {
        given.refuse("bodies_bytes_max", "has to be `workspace_bodies_bytes_max` at least");
    }
    BodyRoom { all: usize_of(all), each: usize_of(each) }
}

fn read_connections_per_address_max(given: &mut Given, mode: Mode) -> Option<NonZeroUsize> {
    // A developer's programs all come from one address.
    let default = if mode == Mode::Dev { 0 } else { CONNECTIONS_PER_ADDRESS_MAX };
    let max = given.number("connections_per_address_max", 0..=1_000_000, default);
    NonZeroUsize::new(usize_of(max))
}

fn read_stored_bytes_max(given: &mut Given) -> Option<u64> {
    let max = given.number("workspace_stored_bytes_max", 0..=STORED_BYTES_CEILING, STORED_BYTES_MAX);
    (max > 0).then_some(max)
}

fn read_rates(given: &mut Given, mode: Mode) -> Rates {
    // A developer's tests and loops are not to be slowed down.
    let or_none = |default| if mode == Mode::Dev { 0 } else { default };
    Rates {
        token: rate(given, "requests_per_minute", or_none(TOKEN_PER_MINUTE)),
        address: rate(given, "anonymous_requests_per_minute", or_none(ADDRESS_PER_MINUTE)),
        failures: rate(given, "failed_authentications_per_minute", or_none(FAILURES_PER_MINUTE)),
    }
}

fn rate(given: &mut Given, name: &'static str, default: u64) -> u32 {
    u32::try_from(given.number(name, 0..=10_000_000, default)).unwrap_or(u32::MAX)
}

fn read_tls(given: &mut Given) -> Option<TlsFiles> {
    let mut readable = |name| {
        let path = given.path(name)?;
        if let Err(error) = std::fs::File::open(&path) {
            given.refuse(name, &format!("{} cannot be read: {error}", path.display()));
        }
        Some(path)
    };
    match (readable("tls_certificate"), readable("tls_key")) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            given.refuse("tls_certificate", "needs `tls_key` beside it");
            None
        }
        (None, Some(_)) => {
            given.refuse("tls_key", "needs `tls_certificate` beside it");
            None
        }
    }
}

fn read_mail(given: &mut Given) -> MailSettings {
    let from = given.text_or("mail_from", MAIL_FROM);
    match given.secret("smtp_url") {
        Some(url) => MailSettings::Smtp { url, from },
        None => MailSettings::Off,
    }
}

fn read_retention(given: &mut Given) -> Option<Retention> {
    let days = given.number("retention_days", 0..=RETENTION_DAYS_CEILING, 0);
    let archive = given.path("archive_dir");
    if let Some(path) = archive.as_deref().filter(|path| path.exists() && !path.is_dir()) {
        given.refuse("archive_dir", &format!("{} is no folder", path.display()));
    }
    if archive.is_some() && days == 0 {
        given.refuse("archive_dir", "needs `retention_days` beside it: without, runs are kept for ever");
    }
    (days > 0).then(|| Retention { keep: Duration::from_secs(days * 24 * 3600), archive })
}

fn read_openid(given: &mut Given) -> Option<OpenIdSettings> {
    let issuer = given.text_or("openid_issuer", GOOGLE);
    match (given.text("openid_client_id"), given.secret("openid_client_secret")) {
        (Some(client_id), Some(client_secret)) => Some(OpenIdSettings { issuer, client_id, client_secret }),
        (None, None) => None,
        (Some(_), None) => {
            given.refuse("openid_client_id", "needs `openid_client_secret_file` beside it");
            None
        }
        (None, Some(_)) => {
            given.refuse("openid_client_secret", "needs `openid_client_id` beside it");
            None
        }
    }
}

fn read_public_url(given: &mut Given, listen: SocketAddr, is_tls: bool, mode: Mode) -> Url {
    let scheme = if is_tls { "https" } else { "http" };
    let own = Url::parse(&format!("{scheme}://{listen}")).expect("a scheme and an address make a URL");
    let url = given.parsed_or("public_url", "a URL such as https://agents.example.com", own);
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() || url.path() != "/" || url.query().is_some()
    {
        given.refuse("public_url", "has to be scheme and host and nothing behind, such as https://agents.example.com");
    } else if mode == Mode::Serve && url.scheme() == "http" && !is_local {
        let sentence = "has to begin with https:// where others than this machine use the service: give `tls_certificate` and \
            `tls_key`, or let a proxy encrypt, and say here how clients reach it";
        given.refuse("public_url", sentence);
    }
    url
}

fn read_observe(given: &mut Given) -> Observe {
    let log = given.text_or("log", "info");
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&log) {
        given.refuse(
            "log",
            &format!("has to be a level, or targets with levels, such as info,agentruntime=debug: {error}"),
        );
    }
    Observe {
        log,
        log_format: given.parsed_or("log_format", "`text` or `json`", LogFormat::Text),
        metrics_listen: given.parsed("metrics_listen", "an address and a port, such as 127.0.0.1:9600"),
        otlp_endpoint: given.parsed("otlp_endpoint", "a URL such as http://127.0.0.1:4318/v1/traces"),
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
