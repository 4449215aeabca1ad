//! What the operator decides: checked once, at the start.

use ipnet::IpNet;
use secrecy::SecretString;
use std::{net::SocketAddr, path::PathBuf};
use url::Url;

/// The settings of the service.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
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
    /// The domain that session cookies are for, such as `example.com` for all hosts under it; the host alone where none
    /// is given, which is safer.
    pub(crate) cookie_domain: Option<String>,
    /// How mails are sent.
    pub(crate) mail: MailSettings,
    /// The issuer of sign-ins with OpenID Connect, if there is one.
    pub(crate) openid: Option<OpenIdSettings>,
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

/// The largest body of a request unless the operator decides otherwise.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;
