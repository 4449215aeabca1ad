//! The outermost layer: each request gets an id and an address, each answer its headers, each refusal its body.

use super::{State, problem::Problem};
use crate::access::{RequestId, caller::Origin};
use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State as Given},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Two years, as browsers' lists of such hosts ask for.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// Names the request and its origin, and writes both where they belong.
pub(super) async fn identify(Given(app): Given<State>, mut request: Request, next: Next) -> Response {
    let id = RequestId::new_v7();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = client(peer, request.headers(), &app.settings.trusted_proxies);
    request.extensions_mut().insert(Origin { address, request: id });
    finish(next.run(request).await, id, app.settings.is_https())
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

/// The client's address: the peer's, or what the nearest untrusted hop is according to the trusted proxies before it.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    let hops = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<IpAddr> = hops.flat_map(|value| value.split(',')).map_while(|hop| hop.trim().parse().ok()).collect();
    let mut address = peer;
    for hop in hops.into_iter().rev() {
        if !is_trusted(address) {
            break;
        }
        address = hop;
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let seen = |peer: &str, forwarded: &str, trusted: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED_FOR, HeaderValue::from_str(forwarded).unwrap());
            let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
            client(peer.parse().unwrap(), &headers, &trusted).to_string()
        };
        assert_eq!(seen("9.9.9.9", "1.1.1.1", &[]), "9.9.9.9");
        assert_eq!(seen("10.0.0.1", "1.1.1.1", &["10.0.0.0/8"]), "1.1.1.1");
        // What the client claims before the first trusted proxy is a claim.
        assert_eq!(seen("10.0.0.1", "6.6.6.6, 1.1.1.1", &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", "nonsense", &["10.0.0.0/8"]), "10.0.0.1");
    }
}
