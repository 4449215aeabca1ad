//! From what was given to settings: defaults, bounds, and what does not go together.

use super::*;
use crate::integrations::llm;

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
/// Each is a connection of its own, and a process has no more.
const EGRESS_REQUESTS_CEILING: u64 = 60_000;
/// No machine has more processors.
const PROCESSORS_CEILING: u64 = 10_000;
/// A century: who wants more wants them for ever.
const RETENTION_DAYS_CEILING: u64 = 36_500;
/// Where the engine is mounted by default.
const VAULT_MOUNT: &str = "secret";
/// The folder in it, unless the operator decides otherwise.
const VAULT_PREFIX: &str = "agentruntime";
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
            platform_providers: read_platform_providers(given),
            external_vault: read_external_vault(given),
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
            request_room: read_request_room(given),
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
        if settings.observe.metrics_listen.is_some_and(|metrics| metrics == listen && metrics.port() != 0) {
            given.refuse("metrics_listen", "has to be another address or port than `listen`");
        }
        if let (Some(domain), Some(host)) = (&settings.cookie_domain, settings.public_url.host_str())
            && !is_within(host, domain)
        {
            given.refuse(
                "cookie_domain",
                "has to be the host of `public_url`, or a domain above it: a browser takes no other",
            );
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
}

/// RFC 6265, 5.1.3.
fn is_within(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    host == domain || host.strip_suffix(&*domain).is_some_and(|rest| rest.ends_with('.'))
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

fn read_request_room(given: &mut Given) -> RequestRoom {
    let (all, each) = (NodeConfig::default().requests_max as u64, Ceilings::default().requests_max.into());
    let all = given.number("egress_requests_max", 1..=EGRESS_REQUESTS_CEILING, all);
    let each = given.number("workspace_egress_requests_max", 1..=EGRESS_REQUESTS_CEILING, each);
    RequestRoom { all: usize_of(all), each: u32::try_from(each).unwrap_or(u32::MAX) }
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

fn read_platform_providers(given: &mut Given) -> Vec<Endpoint> {
    let read = |text: &SecretString| llm::given::read(text, llm::Tier::Platform);
    let text = given.secret_that("platform_providers", |text| read(text).map(drop));
    text.and_then(|text| read(&text).ok()).unwrap_or_default()
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

fn read_external_vault(given: &mut Given) -> Option<ExternalSettings> {
    let address: Option<Url> = given.parsed("vault_address", "a URL such as https://vault.internal:8200");
    let token_file = given.path("vault_token_file");
    let mount = given.text_or("vault_mount", VAULT_MOUNT);
    let prefix = given.text_or("vault_prefix", VAULT_PREFIX);
    for (name, path) in [("vault_mount", &mount), ("vault_prefix", &prefix)] {
        if !vault::is_folder(path) {
            given.refuse(name, "has to be letters, digits and _ - ., in parts divided by `/`, none of them empty");
        }
    }
    match (address, token_file) {
        (Some(address), Some(_)) if !is_private(&address) => {
            let sentence = "has to begin with https://, or be on this machine: secrets go over it";
            given.refuse("vault_address", sentence);
            None
        }
        (Some(address), Some(token_file)) => Some(ExternalSettings { address, token_file, mount, prefix }),
        (None, None) => None,
        (Some(_), None) => {
            given.refuse("vault_address", "needs `vault_token_file` beside it");
            None
        }
        (None, Some(_)) => {
            given.refuse("vault_token_file", "needs `vault_address` beside it");
            None
        }
    }
}

/// Whether nobody reads along on the way to a server.
fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_this_machine(url))
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn read_public_url(given: &mut Given, listen: SocketAddr, is_tls: bool, mode: Mode) -> Url {
    let scheme = if is_tls { "https" } else { "http" };
    let own = Url::parse(&format!("{scheme}://{listen}")).expect("a scheme and an address make a URL");
    let url = given.parsed_or("public_url", "a URL such as https://agents.example.com", own);
    let is_local = is_this_machine(&url);
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
    // One word that is no level would be taken for a target, of which there are no lines.
    let is_word = |part: &str| part.chars().all(|c| c.is_ascii_alphabetic());
    let words = log.split(',').map(str::trim).filter(|part| !part.is_empty() && is_word(part));
    if let Some(word) = words.into_iter().find(|word| word.parse::<tracing_subscriber::filter::LevelFilter>().is_err())
    {
        let message = format!(
            "has the word `{word}`, which is no level: write off, error, warn, info, debug or trace, or target=level"
        );
        given.refuse("log", &message);
    }
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
