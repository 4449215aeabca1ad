//! How many requests anybody may send: known before the database is asked.
//!
//! A credential that was recognised before has a limit of its own. Whoever comes without one, or with one that was never
//! recognised, counts under the address: making credentials up gives no new limit. Whether one is good is said by those who
//! authenticate, and by them alone: an answer that needed nobody, whatever its status, says nothing about the credential
//! that came along. Wrong credentials of an address count once more, under a tighter limit; while that is reached, the
//! address may go on only with credentials that were good before, or that have the form of one. Those have 256 random bits
//! and cost one look-up, so that the address's own limit bounds guesses well enough; and others behind the same address,
//! who fail, do not keep out somebody with a new token.

use super::{
    State, authenticate,
    cookies::{self, Purpose},
    problem::Problem,
    telling::{Trail, Verdict},
};
use crate::{
    access::{attempts::network, caller::Origin, token},
    settings::{Rates, Settings},
};
use axum::{
    extract::{Request, State as Given},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::{StateInformationMiddleware, StateSnapshot},
    state::keyed::DashMapStateStore,
};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Callers that are remembered, each by some fifty bytes. Beyond it, those that have all of their limit left are forgotten,
/// and where that does not help, all: a flood from many addresses costs everybody's limit a fresh start, and no memory.
const KEYS_MAX: usize = 100_000;
/// A credential counts as good for this long after it was: as a session lasts at most. One that is revoked is found to be
/// wrong when it is used next.
const GOOD: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Who is counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Key {
    /// The beginning of a credential's hash.
    Credential(u128),
    /// An address; of IPv6 the network that one customer gets.
    Address(u128),
}

/// What a request brings to prove who sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Brought {
    key: Key,
    form: Form,
}

/// Whether something could be a credential of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// It has the form of one.
    Fits,
    /// Nobody has to look it up to know that it is none.
    Made,
}

/// The limits of one process.
pub(crate) struct Limits {
    token: Option<Limiter>,
    address: Option<Limiter>,
    failures: Option<Limiter>,
    good: Recent,
    blocked: Recent,
}

/// A limit per caller.
struct Limiter {
    quota: Quota,
    counts: RwLock<Counts>,
}

type Counts = RateLimiter<Key, DashMapStateStore<Key>, DefaultClock, StateInformationMiddleware>;

/// How a caller stands after a request: what the headers tell.
struct Standing {
    limit: u32,
    remaining: u32,
    reset: Duration,
}

/// A caller who has to wait.
#[derive(Debug)]
struct Wait(Duration, u32);

impl Limits {
    /// Limits as the settings say.
    pub(crate) fn new(rates: &Rates) -> Self {
        let (good, blocked) = (Recent::default(), Recent::default());
        let limiter = |per_minute| NonZeroU32::new(per_minute).map(Limiter::new);
        let (token, address, failures) = (limiter(rates.token), limiter(rates.address), limiter(rates.failures));
        Self { token, address, failures, good, blocked }
    }

    fn admit(&self, address: Key, credential: Option<Brought>) -> Result<Option<Standing>, Wait> {
        let now = Instant::now();
        let good = credential.filter(|credential| self.good.lasts(credential.key, now).is_some());
        if let Some(good) = good {
            return self.token.as_ref().map(|limiter| limiter.take(good.key)).transpose();
        }
        if credential.is_some_and(|credential| credential.form == Form::Made)
            && let Some(wait) = self.blocked.lasts(address, now)
        {
            return Err(Wait(wait, self.failures.as_ref().map_or(0, Limiter::limit)));
        }
        self.address.as_ref().map(|limiter| limiter.take(address)).transpose()
    }

    /// Learns whether a credential was one.
    fn learn(&self, address: Key, credential: Key, verdict: Verdict) {
        let now = Instant::now();
        if verdict == Verdict::Genuine {
            self.good.note(credential, now + GOOD, now);
            return;
        }
        self.good.forget(credential);
        if let Some(Err(Wait(wait, _))) = self.failures.as_ref().map(|failures| failures.take(address)) {
            self.blocked.note(address, now + wait, now);
        }
    }
}

impl Limiter {
    /// A minute's worth may come at once; it comes back evenly.
    fn new(per_minute: NonZeroU32) -> Self {
        let quota = Quota::per_minute(per_minute);
        Self { quota, counts: RwLock::new(counts(quota)) }
    }

    fn limit(&self) -> u32 {
        self.quota.burst_size().get()
    }

    fn take(&self, key: Key) -> Result<Standing, Wait> {
        self.make_room();
        let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
        match counts.check_key(&key) {
            Ok(snapshot) => Ok(self.standing(&snapshot)),
            Err(until) => Err(Wait(until.wait_time_from(counts.clock().now()), self.limit())),
        }
    }

    fn make_room(&self) {
        let is_full = |counts: &Counts| counts.len() >= KEYS_MAX;
        if !is_full(&self.counts.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut counted = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        counted.retain_recent();
        if is_full(&counted) {
            *counted = counts(self.quota);
        }
    }

    fn standing(&self, snapshot: &StateSnapshot) -> Standing {
        let (limit, remaining) = (self.limit(), snapshot.remaining_burst_capacity());
        Standing { limit, remaining, reset: self.quota.replenish_interval() * limit.saturating_sub(remaining) }
    }
}

fn counts(quota: Quota) -> Counts {
    RateLimiter::dashmap(quota).with_middleware()
}

/// What holds for some time.
#[derive(Default)]
struct Recent(Mutex<HashMap<Key, Instant>>);

impl Recent {
    fn note(&self, key: Key, until: Instant, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEYS_MAX {
            known.retain(|_, until| *until > now);
            if known.len() >= KEYS_MAX {
                known.clear();
            }
        }
        known.insert(key, until);
    }

    fn forget(&self, key: Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// How long it still holds.
    fn lasts(&self, key: Key, now: Instant) -> Option<Duration> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key).and_then(|until| until.checked_duration_since(now)).filter(|left| !left.is_zero())
    }
}

/// Refuses who sends too much, and tells the others how they stand.
pub(super) async fn limit(Given(app): Given<State>, request: Request, next: Next) -> Response {
    let origin = request.extensions().get::<Origin>().expect("the outermost layer identifies every request");
    let address = address(origin.address);
    let credential = credential(request.headers(), &app.settings);
    let trail = request.extensions().get::<Trail>().cloned().unwrap_or_default();
    let standing = match app.limits.admit(address, credential) {
        Ok(standing) => standing,
        Err(wait) => return too_many(&wait),
    };
    let mut response = next.run(request).await;
    if let (Some(credential), Some(verdict)) = (credential, trail.verdict()) {
        app.limits.learn(address, credential.key, verdict);
    }
    if let Some(standing) = standing {
        tell(response.headers_mut(), &standing);
    }
    response
}

fn tell(headers: &mut HeaderMap, standing: &Standing) {
    headers.insert(LIMIT, standing.limit.into());
    headers.insert(REMAINING, standing.remaining.into());
    headers.insert(RESET, whole_seconds(standing.reset).into());
}

fn too_many(Wait(wait, limit): &Wait) -> Response {
    let seconds = whole_seconds(*wait).max(1);
    let error = format!("too many requests; wait {seconds} s, and at most {limit} a minute");
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", error)
        .with_header(header::RETRY_AFTER, HeaderValue::from(seconds));
    let mut response = problem.into_response();
    tell(response.headers_mut(), &Standing { limit: *limit, remaining: 0, reset: *wait });
    response
}

/// Seconds after which the time is surely over.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What a request proves itself with, as those read it who authenticate: the token, or else the session's cookie. What else
/// stands in the headers does not count, or one good credential with something different beside it would be many.
fn credential(headers: &HeaderMap, settings: &Settings) -> Option<Brought> {
    let (hash, fits) = match headers.get(header::AUTHORIZATION) {
        Some(given) => {
            let token = authenticate::token(headers);
            let fits = token.is_some_and(|token| token::parse_pat(token).is_some());
            (Sha256::digest(token.map_or(given.as_bytes(), str::as_bytes)), fits)
        }
        None => {
            let cookie = cookies::read(headers, Purpose::Session, settings)?;
            (Sha256::digest(cookie.expose_secret()), token::is_opaque(cookie.expose_secret()))
        }
    };
    let (beginning, _) = hash.split_first_chunk::<16>()?;
    let form = if fits { Form::Fits } else { Form::Made };
    Some(Brought { key: Key::Credential(u128::from_be_bytes(*beginning)), form })
}

fn address(address: IpAddr) -> Key {
    Key::Address(match network(address) {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Given, Mode, SettingFlags};

    const HERE: Key = Key::Address(1);
    const TOKEN: Key = Key::Credential(1);

    /// Something that nobody has to look up.
    fn made(key: Key) -> Option<Brought> {
        Some(Brought { key, form: Form::Made })
    }

    /// Something that could be a credential.
    fn fitting(key: Key) -> Option<Brought> {
        Some(Brought { key, form: Form::Fits })
    }

    fn limits(token: u32, address: u32, failures: u32) -> Limits {
        Limits::new(&Rates { token, address, failures })
    }

    #[test]
    fn a_credential_that_was_good_has_a_limit_of_its_own() {
        let limits = limits(2, 1, 1);
        assert_eq!(limits.admit(HERE, fitting(TOKEN)).unwrap().unwrap().remaining, 0);
        limits.learn(HERE, TOKEN, Verdict::Genuine);
        assert_eq!(limits.admit(HERE, fitting(TOKEN)).unwrap().unwrap().remaining, 1);
        assert_eq!(limits.admit(HERE, fitting(TOKEN)).unwrap().unwrap().remaining, 0);
        let Wait(wait, limit) = limits.admit(HERE, fitting(TOKEN)).err().unwrap();
        assert!(wait > Duration::from_secs(29) && wait <= Duration::from_secs(30), "{wait:?}");
        assert_eq!(limit, 2);
    }

    #[test]
    fn credentials_that_are_made_up_count_under_the_address() {
        let limits = limits(100, 3, 100);
        for made_up in 0..3 {
            limits.admit(HERE, fitting(Key::Credential(made_up))).unwrap();
            limits.learn(HERE, Key::Credential(made_up), Verdict::Wrong);
        }
        assert!(limits.admit(HERE, fitting(Key::Credential(3))).is_err());
        assert!(limits.admit(Key::Address(2), None).is_ok());
    }

    #[test]
    fn wrong_credentials_block_the_address_but_not_who_was_good_before_or_may_be() {
        let limits = limits(100, 100, 2);
        limits.learn(HERE, TOKEN, Verdict::Genuine);
        for _ in 0..3 {
            limits.admit(HERE, made(Key::Credential(9))).unwrap();
            limits.learn(HERE, Key::Credential(9), Verdict::Wrong);
        }
        assert!(limits.admit(HERE, made(Key::Credential(9))).is_err());
        assert!(limits.admit(HERE, fitting(TOKEN)).is_ok());
        // Nor who may have been: that is looked up, under the limit of the address.
        let remaining = |standing: Option<Standing>| standing.unwrap().remaining;
        let new = fitting(Key::Credential(7));
        let before = remaining(limits.admit(HERE, new).unwrap());
        limits.learn(HERE, Key::Credential(7), Verdict::Wrong);
        assert_eq!(remaining(limits.admit(HERE, new).unwrap()), before - 1);
        // Whoever brings no credential has none that could be wrong.
        assert!(limits.admit(HERE, None).is_ok());
    }

    #[test]
    fn a_revoked_credential_is_not_good_any_more() {
        let limits = limits(100, 1, 100);
        limits.learn(HERE, TOKEN, Verdict::Genuine);
        limits.learn(HERE, TOKEN, Verdict::Wrong);
        limits.admit(HERE, fitting(TOKEN)).unwrap();
        assert!(limits.admit(HERE, fitting(TOKEN)).is_err());
    }

    #[test]
    fn zero_is_without_limit() {
        let limits = limits(0, 0, 0);
        assert!(limits.admit(HERE, None).unwrap().is_none());
        limits.learn(HERE, TOKEN, Verdict::Wrong);
        assert!(limits.admit(HERE, fitting(TOKEN)).unwrap().is_none());
    }

    #[test]
    fn one_customer_is_one_address() {
        let key = |text: &str| address(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
        assert_ne!(key("::ffff:10.0.0.1"), key("::ffff:10.0.0.2"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }

    #[test]
    fn a_credential_is_the_same_whatever_stands_beside_it() {
        let settings =
            Settings::read(&mut Given::gather(&SettingFlags::default(), None, std::iter::empty(), None), Mode::Dev);
        let key = |name: HeaderName, value: &'static str| {
            credential(&HeaderMap::from_iter([(name, HeaderValue::from_static(value))]), &settings)
        };
        let (token, cookie) = (|value| key(header::AUTHORIZATION, value), |value| key(header::COOKIE, value));
        assert!(token("Bearer pat_1").is_some());
        assert_eq!(token("Bearer pat_1").unwrap().form, Form::Made);
        assert_eq!(token("bearer   pat_1 "), token("Bearer pat_1"));
        assert_ne!(token("Bearer pat_2"), token("Bearer pat_1"));
        assert_ne!(token("Basic a"), token("Basic b"));
        assert!(cookie("session=abc").is_some());
        assert_eq!(cookie("a=1; session=abc; b=2"), cookie("session=abc"));
        assert_ne!(cookie("session=abd"), cookie("session=abc"));
        assert_eq!(cookie("a=1"), None);
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::new(NonZeroU32::MIN);
        for key in 0..=KEYS_MAX as u128 {
            // Each has used its limit up, so that none can be forgotten for having all of it left.
            let _ = limiter.take(Key::Address(key));
        }
        assert!(limiter.counts.read().unwrap().len() <= KEYS_MAX);
    }
}
