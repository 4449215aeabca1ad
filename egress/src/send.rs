//! One request on its way: where it may go, what is put in, how long it takes.

use crate::{
    address::Reach,
    reply::{Opened, Reply},
    resolve::{Guard, Lookup, OutOfReach, SystemLookup},
    scrub::Scrubber,
};
use agentruntime_host_api::{Fetch, HostPattern, Method, Part, Text};
use reqwest::{
    Client, Response, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use secrecy::{ExposeSecret, SecretString};
use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};
use url::{Host, Url};

/// How long a request may take that says nothing about it.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// How large the body of a reply may be: it goes into the journal and into the sandbox.
pub const REPLY_BYTES_DEFAULT: usize = 1 << 20;
/// How many redirects of a request are followed.
pub const REDIRECTS_MAX: usize = 5;
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What goes out, and how.
#[derive(Clone, Debug)]
pub struct EgressConfig {
    /// Which addresses may be reached.
    pub reach: Reach,
    /// Who turns names into addresses.
    pub lookup: Arc<dyn Lookup>,
    /// A proxy that all requests go through. It then is what looks names up and decides on addresses.
    pub proxy: Option<Url>,
    /// How large the body of a reply may be.
    pub reply_bytes_max: usize,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self {
            reach: Reach::default(),
            lookup: Arc::new(SystemLookup),
            proxy: None,
            reply_bytes_max: REPLY_BYTES_DEFAULT,
        }
    }
}

/// Sends requests.
#[derive(Clone, Debug)]
pub struct Egress {
    client: Client,
    reach: Arc<Reach>,
    is_proxied: bool,
    reply_bytes_max: usize,
}

/// A secret and where it may be sent.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The value.
    pub value: SecretString,
    /// The hosts that may get it.
    pub hosts: Vec<HostPattern>,
}

/// A request that may go out.
#[derive(Clone, Debug)]
pub struct Send<'r> {
    /// The request.
    pub fetch: &'r Fetch,
    /// Where the request, and redirects of it, may go.
    pub hosts: &'r [HostPattern],
    /// The secrets that it names.
    pub secrets: &'r BTreeMap<String, Secret>,
    /// What tells the server that it comes again, where doing it twice makes a difference.
    pub idempotency_key: Option<&'r str>,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The address may not be reached.
    #[error(
        "{0}, and this node connects to no others; whoever operates it can allow a network: a service with \
         `egress_allowed_networks`, `agentruntime run` with `--allow-network`"
    )]
    OutOfReach(String),
    /// A secret may not be sent there.
    #[error(
        "the secret `{name}` may not be sent to {host}: the connection that keeps it allows {allowed}; add the host to its \
         `allowed_hosts`, or send the secret elsewhere"
    )]
    SecretNotForHost {
        /// The step's name of the secret.
        name: String,
        /// Where it should have gone.
        host: String,
        /// Where it may go.
        allowed: String,
    },
    /// A secret cannot be part of a header.
    #[error("the secret `{0}` holds a line break or another character that no header can have")]
    SecretNotAHeader(String),
    /// The server sends the request to where it may not go.
    #[error("{from} redirects to {to}, which this workflow version was not granted")]
    RedirectNotGranted {
        /// Who redirects.
        from: String,
        /// Where to.
        to: String,
    },
    /// It redirects without end.
    #[error("{0} redirects more than {REDIRECTS_MAX} times")]
    TooManyRedirects(String),
    /// It takes too long.
    #[error("{host} did not answer within {seconds} s")]
    TimedOut {
        /// Who.
        host: String,
        /// The limit.
        seconds: f64,
    },
    /// The reply is too large.
    #[error("the reply of {host} is longer than the {limit} bytes that it may have")]
    TooLarge {
        /// Whose.
        host: String,
        /// The limit.
        limit: usize,
    },
    /// The server cannot be reached, or does not speak HTTP.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// Who.
        host: String,
        /// Why.
        reason: String,
    },
}

impl EgressError {
    /// Whether it is a matter of what is allowed, so that trying again cannot help.
    pub fn is_denial(&self) -> bool {
        match self {
            Self::OutOfReach(_)
            | Self::SecretNotForHost { .. }
            | Self::SecretNotAHeader(_)
            | Self::RedirectNotGranted { .. } => true,
            Self::TooManyRedirects(_) | Self::TimedOut { .. } | Self::TooLarge { .. } | Self::Unreachable { .. } => {
                false
            }
        }
    }

    /// The same without secrets: what a library says of a failure can quote what was sent, and a server names the hosts that it
    /// redirects to.
    pub(crate) fn cleaned(self, scrubber: &Scrubber) -> Self {
        let clean = |text| scrubber.clean(text);
        match self {
            Self::OutOfReach(why) => Self::OutOfReach(clean(why)),
            Self::RedirectNotGranted { from, to } => Self::RedirectNotGranted { from: clean(from), to: clean(to) },
            Self::TooLarge { host, limit } => Self::TooLarge { host: clean(host), limit },
            Self::Unreachable { host, reason } => Self::Unreachable { host: clean(host), reason: clean(reason) },
            // These name what the step itself asked for.
            own @ (Self::SecretNotForHost { .. }
            | Self::SecretNotAHeader(_)
            | Self::TooManyRedirects(_)
            | Self::TimedOut { .. }) => own,
        }
    }
}

impl Egress {
    /// # Errors
    /// The proxy's address is none, or the machine's certificates cannot be read.
    pub fn new(config: EgressConfig) -> Result<Self, reqwest::Error> {
        let reach = Arc::new(config.reach);
        let guard = Guard { reach: reach.clone(), lookup: config.lookup };
        let is_proxied = config.proxy.is_some();
        let mut client = Client::builder()
            .user_agent(concat!("AgentRuntime/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .referer(false)
            // Of the environment's proxies nobody who reads the settings would know.
            .no_proxy();
        client = match config.proxy {
            Some(proxy) => client.proxy(reqwest::Proxy::all(proxy)?),
            None => client.dns_resolver(guard),
        };
        Ok(Self { client: client.build()?, reach, is_proxied, reply_bytes_max: config.reply_bytes_max })
    }

    /// Sends a request, follows its redirects, and gives what comes back in the end.
    ///
    /// # Errors
    /// It may not go where it, or a redirect of it, leads; or no reply came that is whole and small enough.
    pub async fn send(&self, send: Send<'_>) -> Result<Reply, EgressError> {
        in_time(&send, async { self.arrive(&send).await?.whole(self.reply_bytes_max).await }).await
    }

    /// The same, as soon as the reply begins: whoever asks reads it, and decides how long that may take.
    ///
    /// # Errors
    /// It may not go where it, or a redirect of it, leads; or no reply began.
    pub async fn open(&self, send: Send<'_>) -> Result<Opened, EgressError> {
        in_time(&send, self.arrive(&send)).await
    }

    async fn arrive(&self, send: &Send<'_>) -> Result<Opened, EgressError> {
        // Made when something has come: it would be a good part of what a request holds that waits.
        let scrubber = || Scrubber::of(send.secrets.values().map(|secret| &secret.value));
        match self.send_on(send).await {
            Ok((url, response)) => Ok(Opened::new(url, response, scrubber())),
            Err(error) => Err(error.cleaned(&scrubber())),
        }
    }

    async fn send_on(&self, send: &Send<'_>) -> Result<(Url, Response), EgressError> {
        let mut hop = Hop::first(send)?;
        for _ in 0..=REDIRECTS_MAX {
            self.check_literal(&hop.url)?;
            let response = self.go(&hop).await?;
            match hop.next(&response, send.hosts)? {
                Some(next) => hop = next,
                None => return Ok((hop.url, response)),
            }
        }
        Err(EgressError::TooManyRedirects(shown(&send.fetch.url)))
    }

    /// A host that is an address is looked up by nobody.
    fn check_literal(&self, url: &Url) -> Result<(), EgressError> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.is_proxied || self.reach.covers(address) {
            return Ok(());
        }
        Err(EgressError::OutOfReach(format!("{address} is no address of the public internet")))
    }

    async fn go(&self, hop: &Hop) -> Result<Response, EgressError> {
        let request = self.client.request(hop.method.clone(), hop.url.clone()).headers(hop.headers.clone());
        let request = match &hop.body {
            Some(body) => request.body(body.clone()),
            None => request,
        };
        request.send().await.map_err(|error| unreachable(&hop.url, &error))
    }
}

/// One request of the several that redirects can make of one.
struct Hop {
    method: reqwest::Method,
    url: Url,
    headers: HeaderMap,
    body: Option<String>,
}

impl Hop {
    fn first(send: &Send<'_>) -> Result<Self, EgressError> {
        let fetch = send.fetch;
        let mut headers = HeaderMap::new();
        for (name, text) in &fetch.headers {
            let mut value = HeaderValue::from_str(&filled(text, send)?)
                .map_err(|_| EgressError::SecretNotAHeader(secret_of(text).unwrap_or(name).to_owned()))?;
            value.set_sensitive(secret_of(text).is_some());
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                headers.insert(name, value);
            }
        }
        // A body that comes compressed would be larger than what is counted.
        headers.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
        if let Some(Ok(key)) = send.idempotency_key.map(HeaderValue::from_str) {
            headers.entry("idempotency-key").or_insert(key);
        }
        Ok(Self { method: method(fetch.method), url: fetch.url.clone(), headers, body: fetch.body.clone() })
    }

    /// Where the reply sends the request, if it does.
    fn next(&self, response: &Response, hosts: &[HostPattern]) -> Result<Option<Self>, EgressError> {
        let status = response.status();
        let is_redirect = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let (true, Some(location)) = (is_redirect, location) else { return Ok(None) };
        let Ok(url) = self.url.join(location) else { return Ok(None) };
        if !hosts.iter().any(|host| host.covers(&url)) || !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::RedirectNotGranted { from: shown(&self.url), to: shown(&url) });
        }
        let mut headers = self.headers.clone();
        if url.origin() != self.url.origin() {
            // What was meant for one server is nothing for another.
            let sensitive: Vec<HeaderName> = headers
                .iter()
                .filter(|(name, value)| {
                    value.is_sensitive() || **name == header::AUTHORIZATION || **name == header::COOKIE
                })
                .map(|(name, _)| name.clone())
                .collect();
            for name in sensitive {
                headers.remove(name);
            }
        }
        let keeps = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
            || matches!(self.method, reqwest::Method::GET | reqwest::Method::HEAD);
        let (method, body) = match keeps {
            true => (self.method.clone(), self.body.clone()),
            false => {
                headers.remove(header::CONTENT_TYPE);
                (reqwest::Method::GET, None)
            }
        };
        Ok(Some(Self { method, url, headers, body }))
    }
}

/// A text with its secrets in place.
fn filled(text: &Text, send: &Send<'_>) -> Result<String, EgressError> {
    let mut filled = String::new();
    for part in &text.0 {
        match part {
            Part::Plain(plain) => filled.push_str(plain),
            Part::Secret(used) => {
                let url = &send.fetch.url;
                let secret = send.secrets.get(&used.name).filter(|it| it.hosts.iter().any(|host| host.covers(url)));
                match secret {
                    Some(secret) => filled.push_str(secret.value.expose_secret()),
                    None => return Err(not_for_host(&used.name, url, send.secrets.get(&used.name))),
                }
            }
        }
    }
    Ok(filled)
}

fn not_for_host(name: &str, url: &Url, secret: Option<&Secret>) -> EgressError {
    let hosts: Vec<String> = secret.into_iter().flat_map(|secret| &secret.hosts).map(ToString::to_string).collect();
    let allowed = if hosts.is_empty() { "no host".to_owned() } else { hosts.join(", ") };
    EgressError::SecretNotForHost { name: name.to_owned(), host: spelled(url), allowed }
}

/// An address's place as grants and connections spell it: without a scheme it is HTTPS.
fn spelled(url: &Url) -> String {
    url.origin().ascii_serialization().trim_start_matches("https://").to_owned()
}

fn secret_of(text: &Text) -> Option<&str> {
    text.0.iter().find_map(|part| match part {
        Part::Secret(secret) => Some(secret.name.as_str()),
        Part::Plain(_) => None,
    })
}

fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
        Method::Options => reqwest::Method::OPTIONS,
    }
}

async fn in_time<T>(send: &Send<'_>, within: impl Future<Output = Result<T, EgressError>>) -> Result<T, EgressError> {
    let limit = send.fetch.timeout.unwrap_or(TIMEOUT_DEFAULT);
    let late = || EgressError::TimedOut { host: shown(&send.fetch.url), seconds: limit.as_secs_f64() };
    tokio::time::timeout(limit, within).await.unwrap_or_else(|_| Err(late()))
}

/// Host and port, which are no secret.
pub(crate) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or("the server");
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Looks for what the reason behind all reasons is.
pub(crate) fn unreachable(url: &Url, error: &reqwest::Error) -> EgressError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut reason = String::new();
    while let Some(error) = cause {
        if let Some(out) = error.downcast_ref::<OutOfReach>() {
            return EgressError::OutOfReach(out.to_string());
        }
        reason = error.to_string();
        cause = error.source();
    }
    EgressError::Unreachable { host: shown(url), reason }
}
