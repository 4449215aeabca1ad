//! Cookies, and whether a request comes from a page of ours.

use crate::{
    access::{AccessError, openid, sessions},
    settings::Settings,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use cookie::{Cookie, SameSite};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use url::{Host, Url};

/// A cookie's value is one of our tokens; longer ones are not looked at.
const COOKIE_BYTES_MAX: usize = 128;
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

const ELSEWHERE: AccessError = AccessError::CrossSite("this request comes from another site; use a page of this one");
const UNPROVEN: AccessError =
    AccessError::CrossSite("send X-CSRF-Token with what signing in, or GET /v1/auth/me, gave as `csrf_token`");

/// The cookies that we set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Who is signed in.
    Session,
    /// Which browser began to sign in elsewhere.
    OpenId,
}

impl Purpose {
    fn lasts(self) -> Duration {
        match self {
            Self::Session => sessions::ABSOLUTE,
            Self::OpenId => openid::LASTS,
        }
    }

    /// `__Host-` keeps other hosts of the domain from planting one; it needs TLS and no domain.
    fn name(self, settings: &Settings) -> &'static str {
        let is_bare = settings.is_dev || (self == Self::Session && settings.cookie_domain.is_some());
        match (self, is_bare) {
            (Self::Session, true) => "session",
            (Self::Session, false) => "__Host-session",
            (Self::OpenId, true) => "sign-in",
            (Self::OpenId, false) => "__Host-sign-in",
        }
    }
}

/// The value of a cookie of ours.
pub(super) fn read(headers: &HeaderMap, purpose: Purpose, settings: &Settings) -> Option<SecretString> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut cookies = lines.flat_map(Cookie::split_parse).filter_map(Result::ok);
    let found = cookies.find(|cookie| cookie.name() == purpose.name(settings))?;
    let is_ours = !found.value().is_empty() && found.value().len() <= COOKIE_BYTES_MAX;
    is_ours.then(|| SecretString::from(found.value()))
}

/// The header that sets a cookie.
pub(super) fn set(purpose: Purpose, value: &SecretString, settings: &Settings) -> HeaderValue {
    header_value(purpose, value.expose_secret(), purpose.lasts(), settings)
}

/// The header that removes a cookie.
pub(super) fn remove(purpose: Purpose, settings: &Settings) -> HeaderValue {
    header_value(purpose, "", Duration::ZERO, settings)
}

fn header_value(purpose: Purpose, value: &str, lasts: Duration, settings: &Settings) -> HeaderValue {
    let seconds = i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX);
    let mut cookie = Cookie::build((purpose.name(settings), value))
        .path("/")
        .http_only(true)
        // Not strict: a browser that comes back from the issuer has to show both.
        .same_site(SameSite::Lax)
        .max_age(cookie::time::Duration::seconds(seconds))
        .build();
    if !settings.is_dev {
        cookie.set_secure(true);
    }
    if let Some(domain) = settings.cookie_domain.as_ref().filter(|_| purpose == Purpose::Session) {
        cookie.set_domain(domain.clone());
    }
    let mut value = HeaderValue::from_str(&cookie.to_string()).expect("tokens and settings are plain text");
    value.set_sensitive(true);
    value
}

/// Refuses what a browser says comes from another site. Who is no browser says nothing.
pub(super) fn check_site(headers: &HeaderMap, settings: &Settings) -> Result<(), AccessError> {
    if headers.get(FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(ELSEWHERE);
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Url>().ok()).ok_or(ELSEWHERE)?;
    let is_ours = origin.origin() == settings.public_url.origin();
    // A developer's browser may call the machine by another of its names.
    let is_dev = settings.is_dev
        && is_loopback(&origin)
        && is_loopback(&settings.public_url)
        && origin.port_or_known_default() == settings.public_url.port_or_known_default();
    if is_ours || is_dev { Ok(()) } else { Err(ELSEWHERE) }
}

/// Whether a URL names this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Refuses a change that a session's own page did not ask for.
pub(super) fn check_csrf(headers: &HeaderMap, cookie: &SecretString, settings: &Settings) -> Result<(), AccessError> {
    check_site(headers, settings)?;
    let shown = headers.get(CSRF_TOKEN).and_then(|shown| shown.to_str().ok()).unwrap_or_default();
    if sessions::is_csrf_token(cookie, shown) { Ok(()) } else { Err(UNPROVEN) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Given, Mode, SettingFlags};

    fn settings(public_url: &str, is_dev: bool, cookie_domain: Option<&str>) -> Settings {
        let mut given = Given::gather(&SettingFlags::default(), None, std::iter::empty(), None);
        let mut settings = Settings::read(&mut given, if is_dev { Mode::Dev } else { Mode::Serve });
        settings.public_url = public_url.parse().unwrap();
        settings.cookie_domain = cookie_domain.map(str::to_owned);
        settings
    }

    #[test]
    fn a_cookie_is_for_our_host_and_no_script() {
        let value = SecretString::from("abc");
        let set = |settings: &Settings| set(Purpose::Session, &value, settings).to_str().unwrap().to_owned();
        assert_eq!(
            set(&settings("https://example.com", false, None)),
            "__Host-session=abc; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=2592000"
        );
        assert_eq!(
            set(&settings("https://a.example.com", false, Some("example.com"))),
            "session=abc; HttpOnly; SameSite=Lax; Secure; Path=/; Domain=example.com; Max-Age=2592000"
        );
        assert_eq!(
            set(&settings("http://127.0.0.1:8600", true, None)),
            "session=abc; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000"
        );
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let settings = settings("https://example.com", false, None);
        let read = |line: &str| {
            let mut headers = HeaderMap::new();
            headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
            read(&headers, Purpose::Session, &settings).map(|value| value.expose_secret().to_owned())
        };
        assert_eq!(read("a=b; __Host-session=abc; session=planted").as_deref(), Some("abc"));
        assert_eq!(read("session=planted"), None);
        assert_eq!(read(&format!("__Host-session={}", "a".repeat(129))), None);
    }

    #[test]
    fn a_request_from_another_site_is_refused() {
        let check = |settings: &Settings, name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            check_site(&headers, settings).is_ok()
        };
        let real = settings("https://example.com", false, None);
        assert!(check(&real, "origin", "https://example.com"));
        for other in
            ["https://evil.example", "http://example.com", "https://a.example.com", "https://example.com:8443", "null"]
        {
            assert!(!check(&real, "origin", other), "{other}");
        }
        assert!(check(&real, "sec-fetch-site", "same-origin"));
        assert!(!check(&real, "sec-fetch-site", "cross-site") && !check(&real, "sec-fetch-site", "same-site"));
        let dev = settings("http://127.0.0.1:8600", true, None);
        assert!(check(&dev, "origin", "http://localhost:8600"));
        assert!(!check(&dev, "origin", "http://localhost:3000") && !check(&dev, "origin", "http://evil.example:8600"));
    }
}
