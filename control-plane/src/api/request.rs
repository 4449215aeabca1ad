//! The outermost layer: each request gets an id and an address, each answer its headers, each refusal its body.

use super::problem::Problem;
use crate::{
    access::{RequestId, caller::Origin},
    settings::Settings,
};
use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State as Given},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Two years, as browsers' lists of such hosts ask for.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// What lies between clients and the service.
pub(super) struct Outside {
    /// Proxies whose word on the client's address is taken.
    pub(super) proxies: Vec<IpNet>,
    /// Whether clients reach the service by TLS.
    pub(super) is_https: bool,
}

impl Outside {
    /// As the operator set it up.
    pub(super) fn of(settings: &Settings) -> Self {
        Self { proxies: settings.trusted_proxies.clone(), is_https: settings.is_https() }
    }
}

/// Names the request and its origin, and writes both where they belong.
pub(super) async fn identify(Given(outside): Given<Arc<Outside>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::new_v7();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = client(peer, request.headers(), &outside.proxies);
    request.extensions_mut().insert(Origin { address, request: id });
    finish(next.run(request).await, id, outside.is_https)
}

fn finish(mut response: Response, id: RequestId, is_https: bool) -> Response {
    let text = id.to_string();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        *response.body_mut() = Body::from(problem.body(&text));
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&text).expect("an id is plain text"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    // Answers are for who asked, and for now.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The client's address: the peer's, or where the peer is a trusted proxy, what that says the request came to it from, and
/// so on to the first that is not one of ours. Each proxy appends at the right, so that is where reading begins; all that
/// stands to the left of the first hop that is not ours, or cannot be read, is what somebody outside wrote.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let lines: Vec<&HeaderValue> = headers.get_all(FORWARDED_FOR).iter().collect();
    let hops = lines.into_iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut address = peer.to_canonical();
    for hop in hops {
        if !is_trusted(address, trusted) {
            break;
        }
        let Some(hop) = read_hop(hop) else { break };
        address = hop;
    }
    address
}

/// Whether an address is one of our proxies'.
pub(crate) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    // A network may be written in the form in which a socket of version 6 shows addresses of version 4.
    let (address, mapped) = match address.to_canonical() {
        IpAddr::V4(address) => (IpAddr::V4(address), Some(IpAddr::V6(address.to_ipv6_mapped()))),
        address @ IpAddr::V6(_) => (address, None),
    };
    trusted.iter().any(|net| net.contains(&address) || mapped.is_some_and(|mapped| net.contains(&mapped)))
}

/// One hop: an address, which may have a port behind it and, of version 6, brackets around it.
fn read_hop(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let with_port = || hop.parse().map(|socket: SocketAddr| socket.ip()).ok();
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().map(IpAddr::V6).ok();
    let address: Option<IpAddr> = hop.parse().ok().or_else(with_port).or_else(in_brackets);
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who a request is from, by its peer, the lines of the header, and the trusted networks.
    fn seen(peer: &str, forwarded: &[&[u8]], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let ours = ["10.0.0.0/8"];
        assert_eq!(seen("9.9.9.9", &[b"1.1.1.1"], &[]), "9.9.9.9");
        assert_eq!(seen("9.9.9.9", &[b"1.1.1.1"], &ours), "9.9.9.9");
        assert_eq!(seen("10.0.0.1", &[], &ours), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[b"1.1.1.1"], &ours), "1.1.1.1");
        // What the client claims before the first trusted proxy is a claim.
        assert_eq!(seen("10.0.0.1", &[b"6.6.6.6, 1.1.1.1"], &ours), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", &[b"6.6.6.6, 1.1.1.1, 10.0.0.2"], &ours), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", &[b"6.6.6.6", b"10.0.0.7,1.1.1.1", b"10.0.0.2"], &ours), "1.1.1.1");
    }

    #[test]
    fn what_a_client_writes_hides_nothing_that_the_proxies_append() {
        let ours = ["10.0.0.0/8"];
        for garbage in
            [&b"nonsense"[..], b"", b",,", b"6.6.6.6 7.7.7.7", b"\xff\xfe", b"unknown", b"[::1", b"1.2.3.4:99999"]
        {
            let line = [garbage, b", 1.1.1.1, 10.0.0.2"].concat();
            assert_eq!(seen("10.0.0.1", &[&line], &ours), "1.1.1.1", "{garbage:?}");
            assert_eq!(seen("10.0.0.1", &[garbage, b"1.1.1.1"], &ours), "1.1.1.1", "{garbage:?}");
            // Where a proxy itself says nothing that can be read, it is the last that is known.
            assert_eq!(seen("10.0.0.1", &[garbage], &ours), "10.0.0.1", "{garbage:?}");
            assert_eq!(seen("10.0.0.1", &[b"6.6.6.6", garbage, b"10.0.0.2"], &ours), "10.0.0.2", "{garbage:?}");
        }
    }

    #[test]
    fn a_hop_may_have_a_port_and_brackets() {
        let ours = ["10.0.0.0/8", "2001:db8:1::/48"];
        let through = |hops: &[u8]| seen("10.0.0.1", &[hops], &ours);
        assert_eq!(through(b"1.1.1.1:4711"), "1.1.1.1");
        assert_eq!(through(b"6.6.6.6, 2001:db8::1, 10.0.0.2:80"), "2001:db8::1");
        assert_eq!(through(b"6.6.6.6, [2001:db8::1], [2001:db8:1::2]:443"), "2001:db8::1");
        assert_eq!(through(b"6.6.6.6, [2001:db8::1]:4711,\t2001:db8:1::2 "), "2001:db8::1");
    }

    #[test]
    fn an_address_of_version_4_is_itself_in_either_form() {
        assert_eq!(seen("::ffff:9.9.9.9", &[], &[]), "9.9.9.9");
        assert_eq!(seen("::ffff:10.0.0.1", &[b"::ffff:1.1.1.1, ::ffff:10.0.0.2"], &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", &[b"1.1.1.1"], &["::ffff:10.0.0.0/104"]), "1.1.1.1");
        assert_eq!(seen("::ffff:9.9.9.9", &[b"1.1.1.1"], &["::ffff:10.0.0.0/104"]), "9.9.9.9");
    }
}
