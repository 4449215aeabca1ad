//! What a published step may ask for.
//!
//! Owns the form of grants and what each covers. Grants are read from a version's graph, which nobody can change, so that a
//! step cannot be given more after it was published. Never knows what a secret's value is or where a tool really runs.

use crate::Terms;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};
use url::Url;

/// Everything that one step may ask for. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Where it may send requests by HTTP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostPattern>,
    /// The secrets that it may have put into its requests, by the name that it gives them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretRef>,
    /// The tools that it may call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolGrant>,
    /// The models that it may ask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelGrant>,
    /// Whether it may have values checked by a JSON Schema. The engine gives it to its own programs, and no graph says it.
    #[serde(skip)]
    pub checks: bool,
}

/// Where requests may go: `api.example.com`, `*.example.com`, `api.example.com:8443`, `http://intranet.example`.
///
/// Without a scheme it is HTTPS, without a port the scheme's own. `*.` stands for one or more labels before the rest, and not
/// for the rest alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HostPattern {
    is_secure: bool,
    is_wildcard: bool,
    host: String,
    port: u16,
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SecretRef {
    /// A credential of a connection: `connection/<id or display name>/<credential key>`.
    Connection {
        /// The connection's id or display name.
        connection: String,
        /// Which of its credentials.
        key: String,
    },
    /// An entry of the workspace's vault: `vault/<path>`.
    Vault(String),
}

/// Tools of one server, and on which terms they may be called. Where several grants cover a call, it is enough that it keeps the
/// terms of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ToolGrant {
    /// The server.
    #[serde(flatten)]
    pub server: ToolServer,
    /// The tools, by name.
    pub tools: BTreeSet<String>,
    /// On which terms.
    #[serde(flatten)]
    pub terms: Terms,
}

/// Which tool server is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ToolServer {
    /// A registered instance, by its id or name.
    #[serde(rename = "instance_id")]
    Instance(String),
    /// The instance of the server at this address.
    #[serde(rename = "server_url")]
    Url(String),
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelGrant {
    /// `direct.<vendor>.<model>`, or the vendor's own name of it.
    pub model: String,
    /// Whose key is used; nothing: the workspace's own, else the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Where that key is looked for: `tenant` or `platform`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// The longest address of a tool server.
pub const SERVER_URL_BYTES_MAX: usize = 2 << 10;

/// What stands for any tool, server or model in a grant: that of a step which takes the name from its input.
pub const ANY: &str = "*";

/// A text that is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAGrant(String);

impl Grants {
    /// Whether nothing may be asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What these grants hold and the others do not, each as a person reads it, such as ``tool `send_email` of instance `mail` ``.
    /// They are compared as they are written, so that a host that a wildcard covered is another grant; a tool on terms is part
    /// of the same one without.
    pub fn beyond(&self, others: &Self) -> BTreeSet<String> {
        let hosts = self.hosts.iter().filter(|host| !others.hosts.contains(host)).map(|host| format!("host {host}"));
        let secrets = self.secrets.values().filter(|kept| !others.secrets.values().any(|other| other == *kept));
        let secrets = secrets.map(|secret| format!("secret {secret}"));
        let models = self.models.iter().filter(|model| !others.models.contains(model)).map(ToString::to_string);
        let tools = self.tools.iter().flat_map(|grant| {
            let is_new = |tool: &&String| !others.tools.iter().any(|other| other.includes(grant, tool));
            grant.tools.iter().filter(is_new).map(move |tool| grant.listed(tool))
        });
        hosts.chain(secrets).chain(tools).chain(models).collect()
    }

    /// Whether a person may be asked before a tool is called.
    pub fn asks(&self) -> bool {
        self.tools.iter().any(|grant| grant.terms.requires_approval)
    }
}

impl ModelGrant {
    /// Whether this model may be asked with this key.
    pub fn covers(&self, wanted: &Self) -> bool {
        let covers = |granted: Option<&str>, wanted: Option<&str>| granted == Some(ANY) || granted == wanted;
        covers(Some(&self.model), Some(&wanted.model))
            && covers(self.credential.as_deref(), wanted.credential.as_deref())
            && covers(self.scope.as_deref(), wanted.scope.as_deref())
    }
}

impl ToolGrant {
    /// Whether this tool of this server may be called. A server is meant by the word that the grant has for it: who names an
    /// instance by its name and by its id names two.
    pub fn covers(&self, server: &ToolServer, tool: &str) -> bool {
        let is_same = match (&self.server, server) {
            (ToolServer::Instance(any), ToolServer::Instance(_)) | (ToolServer::Url(any), ToolServer::Url(_))
                if any == ANY =>
            {
                true
            }
            (ToolServer::Url(granted), ToolServer::Url(_)) => ToolServer::at(granted).is_ok_and(|it| it == *server),
            (granted, server) => granted == server,
        };
        is_same && (self.tools.contains(tool) || self.tools.contains(ANY))
    }

    /// Whether it holds another grant's tool, as it is written, on the same terms or on fewer.
    fn includes(&self, other: &Self, tool: &str) -> bool {
        self.server == other.server && self.tools.contains(tool) && self.terms.allow(&other.terms)
    }

    /// One of its tools as a person reads it.
    fn listed(&self, tool: &str) -> String {
        format!("tool `{tool}` of {}{}", self.server, self.terms)
    }
}

impl ToolServer {
    /// The server at an address, in the one spelling that is compared.
    ///
    /// # Errors
    /// It is no address that a server can have.
    pub fn at(text: &str) -> Result<Self, NotAGrant> {
        let shown: String = text.chars().take(200).collect();
        let wrong = |reason: &str| NotAGrant(format!("`{shown}` is no address of an MCP server: {reason}"));
        if text.len() > SERVER_URL_BYTES_MAX {
            return Err(wrong(&format!("it has more than {SERVER_URL_BYTES_MAX} bytes")));
        }
        let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            let reason = "one begins with https:// and is served over Streamable HTTP; servers that are started as a \
                program (stdio) cannot be reached";
            return Err(wrong(reason));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it must not hold a user or a password: bind credentials in a config profile"));
        }
        url.set_fragment(None);
        Ok(Self::Url(url.into()))
    }
}

impl HostPattern {
    /// The host of an address, and no other; nothing where the address has none, or is not HTTP.
    pub fn of(url: &Url) -> Option<Self> {
        url.origin().ascii_serialization().parse().ok()
    }

    /// Whether requests to this address are covered.
    pub fn covers(&self, url: &Url) -> bool {
        let is_secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return false,
        };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
        is_secure == self.is_secure && port == self.port && self.covers_host(host)
    }

    /// The address of the host itself; nothing for a pattern of several.
    pub fn url(&self) -> Option<Url> {
        let scheme = if self.is_secure { "https" } else { "http" };
        let url = format!("{scheme}://{}:{}/", self.host, self.port);
        if self.is_wildcard { None } else { Url::parse(&url).ok() }
    }

    fn covers_host(&self, host: &str) -> bool {
        match self.is_wildcard {
            false => host == self.host,
            true => host.strip_suffix(&*self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }
}

impl FromStr for HostPattern {
    type Err = NotAGrant;

    fn from_str(text: &str) -> Result<Self, NotAGrant> {
        let wrong = || {
            NotAGrant(format!(
                "`{}` is no host: write `api.example.com`, `*.example.com`, `api.example.com:8443` or `http://intranet.example`",
                text.chars().take(100).collect::<String>()
            ))
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some(_) => return Err(wrong()),
            None => ("https", text),
        };
        let (is_wildcard, name) = match rest.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, rest),
        };
        // The parser of addresses decides what a host is, so that a pattern and an address spell it the same way.
        let url = Url::parse(&format!("{scheme}://{name}/")).map_err(|_| wrong())?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let has_no_user = url.username().is_empty() && url.password().is_none();
        let is_plain = is_bare && has_no_user && !name.contains(['/', '\\', '?', '#', '@', '*', '%']);
        let is_name = matches!(url.host(), Some(url::Host::Domain(_)));
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Err(wrong()) };
        // A wildcard over a whole top-level domain, or over numbers, is a slip.
        if !is_plain || (is_wildcard && !(is_name && host.contains('.'))) {
            return Err(wrong());
        }
        Ok(Self { is_secure: scheme == "https", is_wildcard, host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_secure {
            f.write_str("http://")?;
        }
        if self.is_wildcard {
            f.write_str("*.")?;
        }
        f.write_str(&self.host)?;
        if self.port != if self.is_secure { 443 } else { 80 } {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl FromStr for SecretRef {
    type Err = NotAGrant;

    fn from_str(text: &str) -> Result<Self, NotAGrant> {
        let wrong = || {
            NotAGrant(format!(
                "`{}` names no secret: write `connection/<connection>/<credential key>` or `vault/<path>`",
                text.chars().take(100).collect::<String>()
            ))
        };
        match text.split_once('/') {
            Some(("vault", path)) if is_path(path) => Ok(Self::Vault(path.into())),
            Some(("connection", rest)) => match rest.rsplit_once('/') {
                Some((connection, key)) if !connection.is_empty() && !key.is_empty() => {
                    Ok(Self::Connection { connection: connection.into(), key: key.into() })
                }
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

/// Segments of letters, digits and a few marks, none empty and none of dots alone.
fn is_path(path: &str) -> bool {
    let is_segment = |segment: &str| {
        !segment.is_empty()
            && segment.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
            && segment.chars().any(|c| c != '.')
    };
    path.split('/').all(is_segment)
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection { connection, key } => write!(f, "connection/{connection}/{key}"),
            Self::Vault(path) => write!(f, "vault/{path}"),
        }
    }
}

impl fmt::Display for ToolServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(instance) => write!(f, "instance `{instance}`"),
            Self::Url(url) => write!(f, "the server {url}"),
        }
    }
}

impl fmt::Display for ModelGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.model.as_str() {
            ANY => f.write_str("any model")?,
            model => write!(f, "model {model}")?,
        }
        if let Some(credential) = &self.credential {
            write!(f, " with the credential {credential}")?;
        }
        match &self.scope {
            Some(scope) => write!(f, " of the {scope}"),
            None => Ok(()),
        }
    }
}

macro_rules! as_text {
    ($kind:ty) => {
        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $kind {
            type Error = NotAGrant;

            fn try_from(text: String) -> Result<Self, NotAGrant> {
                text.parse()
            }
        }
    };
}

as_text!(HostPattern);
as_text!(SecretRef);

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, url: &str) -> bool {
        pattern.parse::<HostPattern>().unwrap().covers(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_host_covers_its_own_scheme_and_port_alone() {
        assert!(covers("api.example.com", "https://api.example.com/v1?q=1"));
        assert!(covers("API.Example.com", "https://api.EXAMPLE.com:443/"));
        assert!(covers("api.example.com:8443", "https://api.example.com:8443/"));
        assert!(covers("http://127.0.0.1:8080", "http://127.0.0.1:8080/x"));
        assert!(covers("bücher.example", "https://xn--bcher-kva.example/"));
        for url in [
            "http://api.example.com/",
            "https://api.example.com:8443/",
            "https://example.com/",
            "https://evil-api.example.com/",
            "https://api.example.com.evil.test/",
            "https://api.example.com@evil.test/",
            "ftp://api.example.com/",
        ] {
            assert!(!covers("api.example.com", url), "{url}");
        }
    }

    #[test]
    fn a_wildcard_covers_what_lies_below_and_not_the_name_itself() {
        assert!(covers("*.example.com", "https://a.example.com/"));
        assert!(covers("*.example.com", "https://a.b.example.com/"));
        for url in
            ["https://example.com/", "https://aexample.com/", "https://.example.com/", "https://example.com.test/"]
        {
            assert!(!covers("*.example.com", url), "{url}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_with_the_forms_that_are() {
        for text in [
            "",
            "*",
            "*.com",
            "*.1.2.3.4",
            "a/b",
            "user@a.example",
            "https://",
            "ftp://a.example",
            "a.example:x",
            "a b",
            "*.*.example.com",
            "file:///etc/passwd",
            "a.example?x",
            "a.example\\b",
            "%61.example",
        ] {
            let error = text.parse::<HostPattern>().expect_err(text);
            assert!(error.to_string().contains("api.example.com:8443"), "{error}");
        }
    }

    #[test]
    fn what_is_held_beyond_is_told_by_the_grants_as_they_are_written() {
        let grants = |text: &str| serde_json::from_str::<Grants>(text).unwrap();
        let old =
            grants(r#"{ "hosts": ["*.a.example"], "secrets": { "k": "vault/k" }, "models": [{ "model": "m" }] }"#);
        let new = grants(
            r#"{ "hosts": ["b.a.example"], "secrets": { "other": "vault/k", "l": "vault/l" }, "models": [{ "model": "*" }] }"#,
        );
        let beyond: Vec<String> = new.beyond(&old).into_iter().collect();
        assert_eq!(beyond, ["any model", "host b.a.example", "secret vault/l"]);
        assert!(new.beyond(&new).is_empty());
    }

    #[test]
    fn grants_are_written_as_they_are_read() {
        for text in ["api.example.com", "*.example.com:8443", "http://a.example", "http://[::1]:80"] {
            let pattern: HostPattern = text.parse().unwrap();
            assert_eq!(pattern, pattern.to_string().parse().unwrap());
        }
        for text in ["vault/crm/key", "connection/0192/api_key", "connection/My CRM/token"] {
            assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text);
        }
        for text in ["", "vault/", "vault/../x", "vault//x", "connection/x", "connection//x", "env/HOME"] {
            text.parse::<SecretRef>().expect_err(text);
        }
    }
}
