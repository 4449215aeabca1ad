//! How often somebody may try: to guess a password, or to have mails sent to others, invitations too.
//!
//! Counted per process and in memory: a cluster allows as many times more as it has nodes, which changes nothing about how
//! long guessing takes.

use super::{AccessError, UserId};
use agentruntime_host_api::TenantId;
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Passwords tried for one account: somebody who mistypes gets through, somebody who guesses tries 1,440 a day.
const PASSWORDS_PER_ACCOUNT: Limit = Limit { at_once: 10, then_every: Duration::from_secs(60) };
/// Passwords tried from one address, behind which an office may sit.
const PASSWORDS_PER_ADDRESS: Limit = Limit { at_once: 50, then_every: Duration::from_secs(2) };
/// Mails that anybody can cause to one address.
const MAILS_PER_ACCOUNT: Limit = Limit { at_once: 5, then_every: Duration::from_secs(600) };
/// Mails and tokens asked for from one address.
const MAILS_PER_ADDRESS: Limit = Limit { at_once: 50, then_every: Duration::from_secs(10) };
/// Invitations that one person sends, in whichever workspaces: a team is invited at once, and the world is not.
const INVITES_PER_INVITER: Limit = Limit { at_once: 30, then_every: Duration::from_secs(60) };
/// Invitations that leave one workspace, whoever of its admins sends them.
const INVITES_PER_TENANT: Limit = Limit { at_once: 60, then_every: Duration::from_secs(60) };
/// Sign-ins elsewhere that are begun from one address: each is a row.
const STARTS_PER_ADDRESS: Limit = Limit { at_once: 50, then_every: Duration::from_secs(2) };
/// Keys that one limiter remembers before it looks for those that are as good as new: some ten megabytes.
const KEYS_KEPT: usize = 50_000;
/// Looking goes through all keys: not at each attempt.
const ATTEMPTS_PER_LOOK: usize = 4_096;

const PASSWORDS: &str = "too many passwords were tried";
const MAILS: &str = "too many mails were asked for";
const INVITES: &str = "too many invitations were sent";
const STARTS: &str = "too many sign-ins were begun";

struct Limit {
    at_once: u32,
    then_every: Duration,
}

/// The counters.
pub(crate) struct Attempts {
    passwords_per_account: Limiter<String>,
    passwords_per_address: Limiter<IpAddr>,
    mails_per_account: Limiter<String>,
    mails_per_address: Limiter<IpAddr>,
    invites_per_inviter: Limiter<UserId>,
    invites_per_tenant: Limiter<TenantId>,
    starts_per_address: Limiter<IpAddr>,
}

struct Limiter<K: Hash + Eq + Clone> {
    keys: DefaultKeyedRateLimiter<K>,
    attempts: AtomicUsize,
}

impl Attempts {
    /// Nobody has tried anything.
    pub(crate) fn new() -> Self {
        Self {
            passwords_per_account: Limiter::new(&PASSWORDS_PER_ACCOUNT),
            passwords_per_address: Limiter::new(&PASSWORDS_PER_ADDRESS),
            mails_per_account: Limiter::new(&MAILS_PER_ACCOUNT),
            mails_per_address: Limiter::new(&MAILS_PER_ADDRESS),
            invites_per_inviter: Limiter::new(&INVITES_PER_INVITER),
            invites_per_tenant: Limiter::new(&INVITES_PER_TENANT),
            starts_per_address: Limiter::new(&STARTS_PER_ADDRESS),
        }
    }

    /// Somebody tries a password. The answer is the same whether there is such an account or not.
    pub(crate) fn password(&self, address: IpAddr, email: &str) -> Result<(), AccessError> {
        self.passwords_per_address.check(&network(address), PASSWORDS)?;
        self.passwords_per_account.check(&email.to_owned(), PASSWORDS)
    }

    /// Somebody wants a mail sent.
    pub(crate) fn mail(&self, address: IpAddr, email: &str) -> Result<(), AccessError> {
        self.mails_per_address.check(&network(address), MAILS)?;
        self.mails_per_account.check(&email.to_owned(), MAILS)
    }

    /// Somebody wants an invitation sent. What anybody can cause to one address counts together, however it is caused.
    pub(crate) fn invitation(&self, inviter: UserId, tenant: &TenantId, email: &str) -> Result<(), AccessError> {
        self.invites_per_inviter.check(&inviter, INVITES)?;
        self.invites_per_tenant.check(tenant, INVITES)?;
        self.mails_per_account.check(&email.to_owned(), MAILS)
    }

    /// Somebody shows a token that went out by mail.
    pub(crate) fn mail_token(&self, address: IpAddr) -> Result<(), AccessError> {
        self.mails_per_address.check(&network(address), MAILS)
    }

    /// Somebody begins to sign in elsewhere.
    pub(crate) fn start(&self, address: IpAddr) -> Result<(), AccessError> {
        self.starts_per_address.check(&network(address), STARTS)
    }
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn new(limit: &Limit) -> Self {
        let quota = Quota::with_period(limit.then_every).expect("the period is not zero");
        let quota = quota.allow_burst(NonZeroU32::new(limit.at_once).unwrap_or(NonZeroU32::MIN));
        Self { keys: RateLimiter::keyed(quota), attempts: AtomicUsize::new(0) }
    }

    fn check(&self, key: &K, reason: &'static str) -> Result<(), AccessError> {
        let attempts = self.attempts.fetch_add(1, Ordering::Relaxed);
        if attempts.is_multiple_of(ATTEMPTS_PER_LOOK) && self.keys.len() > KEYS_KEPT {
            self.keys.retain_recent();
        }
        self.keys.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            AccessError::TooMany { reason, retry_after_s: wait.as_secs() + 1 }
        })
    }
}

/// What one subscriber has: an address of version 4, or 64 bits of one of version 6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_account_is_not_guessed_from_many_addresses() {
        let attempts = Attempts::new();
        let from = |host: u32| attempts.password(address(&format!("10.0.0.{host}")), "ada@example.com");
        assert!((0..10).all(|host| from(host).is_ok()));
        assert!(matches!(from(11), Err(AccessError::TooMany { retry_after_s: 1..=61, .. })));
        assert!(attempts.password(address("10.0.0.11"), "bob@example.com").is_ok());
    }

    #[test]
    fn invitations_are_counted_by_who_sends_them_from_where_and_to_whom() {
        let attempts = Attempts::new();
        let (ada, bob, eve) = (UserId::new_v7(), UserId::new_v7(), UserId::new_v7());
        let (acme, other) = (TenantId::new("acme"), TenantId::new("other"));
        let invite = |by, tenant, to: u32| attempts.invitation(by, tenant, &format!("{to}@example.com"));
        assert!((0..30).all(|to| invite(ada, if to < 15 { &acme } else { &other }, to).is_ok()));
        assert!(matches!(invite(ada, &other, 31), Err(AccessError::TooMany { retry_after_s: 1..=61, .. })));
        // The workspace has let 15 out already, and lets 45 more.
        assert!((100..130).all(|to| invite(bob, &acme, to).is_ok()));
        assert!((200..215).all(|to| invite(eve, &acme, to).is_ok()));
        assert!(invite(eve, &acme, 215).is_err() && invite(eve, &other, 216).is_ok());
        // Whoever causes mails to one address.
        assert!((0..5).all(|_| attempts.mail(address("10.0.0.1"), "zoe@example.com").is_ok()));
        assert!(attempts.invitation(UserId::new_v7(), &TenantId::new("third"), "zoe@example.com").is_err());
    }

    #[test]
    fn an_address_does_not_try_many_accounts() {
        let attempts = Attempts::new();
        let at = |host: &str, user: u32| attempts.password(address(host), &format!("{user}@example.com"));
        assert!((0..50).all(|user| at("2001:db8::1", user).is_ok()));
        assert!(at("2001:db8::2", 51).is_err(), "the same subscriber");
        assert!(at("2001:db8:0:1::1", 51).is_ok(), "another subscriber");
        assert!(at("10.0.0.1", 51).is_ok());
    }
}
