//! What the operator decides: checked once, at the start.

use ipnet::IpNet;
use std::net::SocketAddr;
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
}

/// The largest body of a request unless the operator decides otherwise.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;
