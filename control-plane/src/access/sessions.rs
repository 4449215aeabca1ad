//! Sessions of browsers: 256 random bits in a cookie, kept as a hash.
//!
//! A session ends 30 days after sign-in, or 12 hours after it was last used. Each sign-in makes a new one and ends the one
//! whose cookie the browser showed, so that a cookie that was planted before never becomes somebody's session. The token
//! against cross-site requests follows from the cookie: it is given out anew whenever it is asked for, and is not stored.

use super::{
    AccessError, Caller, Credential, SessionId, UserId,
    caller::Origin,
    field,
    token::{self, TokenHash},
};
use agentruntime_engine::database::{Database, Row, StoreError, Tx, Values, id, text, time};
use agentruntime_host_api::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// A browser left alone for half a day is signed out.
const IDLE: Duration = Duration::from_secs(12 * 60 * 60);
/// Nobody stays signed in for longer.
pub(crate) const ABSOLUTE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How exact the time of the last use is: a write a minute, and not one a request.
const SEEN_EVERY: Duration = Duration::from_secs(60);
/// Sessions of one account: the oldest gives way.
const SESSIONS_MAX: u32 = 50;
/// What is kept of a browser's name for itself.
const USER_AGENT_CHARS_MAX: usize = 200;

const INSERT: &str = "INSERT INTO sessions \
    (session_hash, session_id, user_id, created_at, last_seen_at, expires_at, address, user_agent) \
    VALUES ($1, $2, $3, $4, $4, $5, $6, $7)";
const RECOGNISE: &str = "SELECT s.session_id, s.last_seen_at, s.expires_at, u.user_id, u.email \
    FROM sessions s JOIN users u ON u.user_id = s.user_id WHERE s.session_hash = $1 AND u.disabled_at IS NULL";
const SEEN: &str = "UPDATE sessions SET last_seen_at = $2 WHERE session_hash = $1 AND last_seen_at < $2";
const LIST: &str = "SELECT session_id, created_at, last_seen_at, expires_at, address, user_agent FROM sessions \
    WHERE user_id = $1 AND expires_at > $2 AND last_seen_at > $3 ORDER BY last_seen_at DESC, session_id LIMIT $4";
const REVOKE: &str = "DELETE FROM sessions WHERE user_id = $1 AND session_id = $2 RETURNING session_id";
const REVOKE_COOKIE: &str = "DELETE FROM sessions WHERE session_hash = $1";
const REVOKE_ALL: &str = "DELETE FROM sessions WHERE user_id = $1";
const DELETE_OVER: &str = "DELETE FROM sessions WHERE user_id = $1 AND (expires_at <= $2 OR last_seen_at <= $3)";
const DELETE_OLDEST: &str = "DELETE FROM sessions WHERE user_id = $1 AND session_id NOT IN \
    (SELECT session_id FROM sessions WHERE user_id = $1 ORDER BY created_at DESC, session_id DESC LIMIT $2)";

/// The browser that signs in.
#[derive(Clone)]
pub(crate) struct Browser {
    /// What it calls itself.
    pub(crate) user_agent: String,
    /// The session cookie that it showed, if any.
    pub(crate) cookie: Option<SecretString>,
    /// From where.
    pub(crate) origin: Origin,
}

/// A session that was begun.
pub(crate) struct NewSession {
    /// What the cookie holds.
    pub(crate) cookie: SecretString,
    /// Which.
    pub(crate) session: SessionId,
}

/// A session, as its owner sees it.
pub(crate) struct Session {
    pub(crate) session: SessionId,
    pub(crate) created_at: Timestamp,
    pub(crate) last_seen_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) address: String,
    pub(crate) user_agent: String,
}

/// Begins a session, and ends the one whose cookie the browser showed.
pub(crate) async fn begin(
    tx: &mut Tx<'_>,
    user: UserId,
    browser: &Browser,
    now: Timestamp,
) -> Result<NewSession, AccessError> {
    if let Some(cookie) = &browser.cookie {
        let mut values = Values::default();
        values.text(TokenHash::of(cookie.expose_secret()).as_str());
        tx.rows(REVOKE_COOKIE, values).await?;
    }
    let mut values = Values::default();
    values.id(user).number(now.as_micros()).number(idle_since(now));
    tx.rows(DELETE_OVER, values).await?;
    let (new, session) = (token::new_opaque(), SessionId::new_v7());
    let user_agent = field::plain(&browser.user_agent, USER_AGENT_CHARS_MAX);
    let mut values = Values::default();
    values.text(new.hash.as_str()).id(session).id(user).number(now.as_micros());
    values.number(now.plus(ABSOLUTE).as_micros()).text(browser.origin.address.to_string()).text(user_agent);
    tx.rows(INSERT, values).await?;
    let mut values = Values::default();
    values.id(user).number(SESSIONS_MAX);
    tx.rows(DELETE_OLDEST, values).await?;
    Ok(NewSession { cookie: new.token, session })
}

/// Whose session a cookie is of; it was used now. One that is unknown, over or revoked is nobody's: the answer does not tell
/// which.
pub(crate) async fn recognise(
    database: &Database,
    cookie: &SecretString,
    origin: Origin,
) -> Result<Option<Caller>, AccessError> {
    let Some(found) = find(database, cookie, origin).await? else { return Ok(None) };
    if found.now.since(found.last_seen_at) >= SEEN_EVERY {
        let mut values = Values::default();
        values.text(found.hash.as_str()).number(found.now.as_micros());
        // Who may enter does not hang on whether it can be noted.
        if let Err(error) = database.write(SEEN, values).await {
            tracing::warn!(%error, "the last use of a session was not noted");
        }
    }
    Ok(Some(found.caller))
}

/// The same for a session that is not used: a look does not keep it from ending.
pub(crate) async fn look_up(
    database: &Database,
    cookie: &SecretString,
    origin: Origin,
) -> Result<Option<Caller>, AccessError> {
    Ok(find(database, cookie, origin).await?.map(|found| found.caller))
}

/// A session that is not over.
struct Found {
    hash: TokenHash,
    last_seen_at: Timestamp,
    now: Timestamp,
    caller: Caller,
}

async fn find(database: &Database, cookie: &SecretString, origin: Origin) -> Result<Option<Found>, AccessError> {
    let hash = TokenHash::of(cookie.expose_secret());
    let mut values = Values::default();
    values.text(hash.as_str());
    let rows = database.rows(RECOGNISE, values).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (now, last_seen_at) = (database.time(), time(row, 1)?);
    if time(row, 2)? <= now || last_seen_at.as_micros() <= idle_since(now) {
        return Ok(None);
    }
    let credential = Credential::Session(id(row, 0)?);
    let caller = Caller { user: id(row, 3)?, email: text(row, 4)?.to_owned(), credential, origin };
    Ok(Some(Found { hash, last_seen_at, now, caller }))
}

/// What a page shows to prove that a request comes from it.
pub(crate) fn csrf_token(cookie: &SecretString) -> String {
    token::derived(cookie.expose_secret(), "csrf")
}

/// Whether a page proved that the request comes from it.
pub(crate) fn is_csrf_token(cookie: &SecretString, shown: &str) -> bool {
    csrf_token(cookie).as_bytes().ct_eq(shown.as_bytes()).into()
}

/// The session that a caller signed in with; a token is none.
pub(crate) fn of(caller: &Caller) -> Result<SessionId, AccessError> {
    match caller.credential {
        Credential::Session(session) => Ok(session),
        Credential::Token { .. } => Err(AccessError::SessionNeeded),
    }
}

/// The sessions of an account, the last used first.
pub(crate) async fn list(database: &Database, user: UserId) -> Result<Vec<Session>, AccessError> {
    let now = database.time();
    let mut values = Values::default();
    values.id(user).number(now.as_micros()).number(idle_since(now)).number(SESSIONS_MAX);
    let rows = database.rows(LIST, values).await?;
    Ok(rows.iter().map(session).collect::<Result<_, _>>()?)
}

fn session(row: &Row) -> Result<Session, StoreError> {
    Ok(Session {
        session: id(row, 0)?,
        created_at: time(row, 1)?,
        last_seen_at: time(row, 2)?,
        expires_at: time(row, 3)?,
        address: text(row, 4)?.to_owned(),
        user_agent: text(row, 5)?.to_owned(),
    })
}

/// Ends a session of an account at once.
pub(crate) async fn revoke(database: &Database, user: UserId, session: SessionId) -> Result<(), AccessError> {
    let mut values = Values::default();
    values.id(user).id(session);
    match database.write(REVOKE, values).await?.is_empty() {
        true => Err(AccessError::NotFound { kind: "session", id: session.to_string() }),
        false => Ok(()),
    }
}

/// Ends all sessions of an account at once.
pub(crate) async fn revoke_all(tx: &mut Tx<'_>, user: UserId) -> Result<(), AccessError> {
    let mut values = Values::default();
    values.id(user);
    tx.rows(REVOKE_ALL, values).await?;
    Ok(())
}

/// Who was not seen since is signed out.
fn idle_since(now: Timestamp) -> i64 {
    now.as_micros().saturating_sub(i64::try_from(IDLE.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{RequestId, tables, users};
    use agentruntime_engine::database::{Location, ManualClock};
    use std::{net::IpAddr, sync::Arc};

    struct Bench {
        database: Database,
        clock: Arc<ManualClock>,
        user: UserId,
        _folder: tempfile::TempDir,
    }

    fn browser(cookie: Option<&SecretString>) -> Browser {
        let origin = Origin { address: IpAddr::from([10, 0, 0, 1]), request: RequestId::new_v7() };
        Browser { user_agent: "Browser\r\n/1".into(), cookie: cookie.cloned(), origin }
    }

    impl Bench {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_767_225_600_000_000)));
            let location = Location::Sqlite(folder.path().join("data"));
            let database = Database::open(&location, clock.clone()).await.unwrap();
            database.migrate(&tables::MIGRATIONS).await.unwrap();
            let mut tx = database.begin().await.unwrap();
            let user = users::create_verified(&mut tx, "ada@example.com", "Ada", 0).await.unwrap();
            tx.commit().await.unwrap();
            Self { database, clock, user, _folder: folder }
        }

        async fn sign_in(&self, cookie: Option<&SecretString>) -> NewSession {
            let mut tx = self.database.begin().await.unwrap();
            let new = begin(&mut tx, self.user, &browser(cookie), self.database.time()).await.unwrap();
            tx.commit().await.unwrap();
            new
        }

        async fn is_in(&self, cookie: &SecretString) -> bool {
            recognise(&self.database, cookie, browser(None).origin).await.unwrap().is_some()
        }
    }

    const HOUR: Duration = Duration::from_secs(60 * 60);

    #[tokio::test]
    async fn a_session_that_is_not_used_ends_after_half_a_day() {
        let bench = Bench::new().await;
        let new = bench.sign_in(None).await;
        bench.clock.advance(IDLE - Duration::from_secs(1));
        assert!(bench.is_in(&new.cookie).await);
        bench.clock.advance(IDLE);
        assert!(!bench.is_in(&new.cookie).await);
        assert!(list(&bench.database, bench.user).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn looking_at_a_session_does_not_keep_it() {
        let bench = Bench::new().await;
        let new = bench.sign_in(None).await;
        let look = async || look_up(&bench.database, &new.cookie, browser(None).origin).await.unwrap().is_some();
        bench.clock.advance(IDLE - Duration::from_secs(1));
        assert!(look().await);
        bench.clock.advance(Duration::from_secs(1));
        assert!(!look().await);
    }

    #[tokio::test]
    async fn a_session_that_is_used_ends_after_thirty_days() {
        let bench = Bench::new().await;
        let new = bench.sign_in(None).await;
        for _ in 0..(ABSOLUTE.as_secs() / HOUR.as_secs() - 1) {
            bench.clock.advance(HOUR);
            assert!(bench.is_in(&new.cookie).await);
        }
        bench.clock.advance(HOUR);
        assert!(!bench.is_in(&new.cookie).await);
    }

    #[tokio::test]
    async fn the_last_use_is_written_once_a_minute() {
        let bench = Bench::new().await;
        let new = bench.sign_in(None).await;
        let seen = async || list(&bench.database, bench.user).await.unwrap()[0].last_seen_at;
        let begun = seen().await;
        bench.clock.advance(SEEN_EVERY - Duration::from_secs(1));
        assert!(bench.is_in(&new.cookie).await);
        assert_eq!(seen().await, begun);
        bench.clock.advance(Duration::from_secs(1));
        assert!(bench.is_in(&new.cookie).await);
        assert_eq!(seen().await, begun.plus(SEEN_EVERY));
    }

    #[tokio::test]
    async fn signing_in_ends_the_session_that_the_browser_had() {
        let bench = Bench::new().await;
        let (planted, other) = (bench.sign_in(None).await, bench.sign_in(None).await);
        let new = bench.sign_in(Some(&planted.cookie)).await;
        assert!(!bench.is_in(&planted.cookie).await);
        assert!(bench.is_in(&other.cookie).await && bench.is_in(&new.cookie).await);
        assert_eq!(list(&bench.database, bench.user).await.unwrap()[0].user_agent, "Browser/1");
    }

    #[tokio::test]
    async fn the_oldest_session_gives_way() {
        let bench = Bench::new().await;
        let first = bench.sign_in(None).await;
        for _ in 1..SESSIONS_MAX {
            bench.clock.advance(Duration::from_secs(1));
            bench.sign_in(None).await;
        }
        assert!(bench.is_in(&first.cookie).await);
        bench.clock.advance(Duration::from_secs(1));
        bench.sign_in(None).await;
        assert!(!bench.is_in(&first.cookie).await);
    }

    #[tokio::test]
    async fn who_is_disabled_is_out_at_once() {
        let bench = Bench::new().await;
        let new = bench.sign_in(None).await;
        let mut values = Values::default();
        values.id(bench.user);
        bench.database.write("UPDATE users SET disabled_at = 1 WHERE user_id = $1", values).await.unwrap();
        assert!(!bench.is_in(&new.cookie).await);
    }

    #[test]
    fn a_page_proves_itself_with_the_token_of_its_own_session() {
        let (mine, other) = (token::new_opaque().token, token::new_opaque().token);
        assert!(is_csrf_token(&mine, &csrf_token(&mine)));
        assert!(!is_csrf_token(&mine, &csrf_token(&other)));
        assert!(!is_csrf_token(&mine, "") && !is_csrf_token(&mine, mine.expose_secret()));
    }
}
