//! Where a server is. Plain HTTP is for the loopback interface: elsewhere, whoever carries the bytes could read the token.

use super::ClientError;
use std::{fmt, net::IpAddr, str::FromStr};
use url::{Host, ParseError, Url};

/// Whether a token may travel unencrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plaintext {
    /// Only to this machine itself.
    Loopback,
    /// Somebody said that it may.
    Allowed,
}

/// The URL of a server, without the path of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(Url);

impl Address {
    /// Reads a URL as people write it, and refuses one to which no token may be sent.
    pub(crate) fn parse(text: &str, plaintext: Plaintext) -> Result<Self, ClientError> {
        let invalid = |why: &str| ClientError::InvalidUrl { url: shown(text), why: why.to_owned() };
        let url = Url::parse(text).map_err(|error| invalid(wrong(error)))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(invalid("it begins with https:// and a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("leave user and password out; the token is given apart from it"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it ends with the path"));
        }
        let address = Self(without_api(url));
        if address.0.scheme() == "http" && !address.is_loopback() && plaintext == Plaintext::Loopback {
            return Err(ClientError::Plaintext(address.to_string()));
        }
        Ok(address)
    }

    /// Whether it is this machine: what is sent there passes nobody.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
            None => false,
        }
    }

    /// The URL of a path of the API, such as `/workflows`.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{self}/v1{path}")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl FromStr for Address {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        Self::parse(text, Plaintext::Loopback)
    }
}

/// What is wrong with a text that is no URL, in our words.
fn wrong(error: ParseError) -> &'static str {
    match error {
        ParseError::RelativeUrlWithoutBase => "it begins with https:// and a host, such as https://agents.example.com",
        ParseError::EmptyHost => "its host is missing: write it behind https://",
        ParseError::InvalidPort => "its port is no number from 0 to 65535",
        ParseError::InvalidIpv4Address | ParseError::InvalidIpv6Address => "its host is no address",
        _ => "write it as https://agents.example.com",
    }
}

/// The API's own path may be copied along.
fn without_api(mut url: Url) -> Url {
    let path = url.path().trim_end_matches('/').to_owned();
    let path = path.strip_suffix("/v1").unwrap_or(&path).to_owned();
    url.set_path(&path);
    url
}

/// A URL for messages: never with a password in it.
fn shown(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, plaintext: Plaintext) -> String {
        match Address::parse(text, plaintext) {
            Ok(address) => address.to_string(),
            Err(error) => error.code().to_owned(),
        }
    }

    #[test]
    fn a_url_is_read_as_people_write_it() {
        let read = |text| read(text, Plaintext::Loopback);
        assert_eq!(read("https://agents.example.com"), "https://agents.example.com");
        assert_eq!(read("https://agents.example.com/"), "https://agents.example.com");
        assert_eq!(read("https://example.com/agents/v1/"), "https://example.com/agents");
        for wrong in
            ["agents.example.com", "ftp://example.com", "https://a:b@example.com", "https://example.com/?a=b", ""]
        {
            assert_eq!(read(wrong), "INVALID_URL", "{wrong}");
        }
        let told = Address::parse("https://ada:secret@example.com", Plaintext::Loopback).unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn a_token_travels_encrypted_or_not_at_all() {
        for near in ["http://127.0.0.1:8600", "http://localhost:8600", "http://[::1]:8600"] {
            assert_eq!(read(near, Plaintext::Loopback), near);
        }
        for far in
            ["http://192.168.0.7", "http://example.com", "http://127.0.0.1.example.com", "http://localhost.example.com"]
        {
            assert_eq!(read(far, Plaintext::Loopback), "PLAINTEXT_REFUSED");
            assert_eq!(read(far, Plaintext::Allowed), far);
        }
    }
}
