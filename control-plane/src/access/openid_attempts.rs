//! Sign-ins at an issuer that are under way: from the start to the way back, in the browser that began.

use super::{
    AccessError, UserId,
    token::{self, NewToken, TokenHash},
};
use agentruntime_engine::database::{Tx, Values, maybe_id, text, time};
use agentruntime_host_api::Timestamp;
use std::time::Duration;

const INSERT: &str = "INSERT INTO oauth_attempts (state_hash, browser_hash, link_user_id, return_to, expires_at) \
    VALUES ($1, $2, $3, $4, $5)";
const TAKE: &str = "DELETE FROM oauth_attempts WHERE state_hash = $1 AND browser_hash = $2 \
    RETURNING link_user_id, return_to, expires_at";
const DELETE_OVER: &str = "DELETE FROM oauth_attempts WHERE expires_at <= $1";

/// People look for a password, and for the telephone with the second factor.
pub(crate) const LASTS: Duration = Duration::from_secs(10 * 60);

/// A sign-in that is under way.
pub(crate) struct Attempt {
    /// The account that the issuer's is to be linked to; none to sign in.
    pub(crate) link: Option<UserId>,
    /// Where the browser goes afterwards: a path here.
    pub(crate) return_to: String,
}

/// What the browser and the issuer hold of a sign-in that was begun.
pub(crate) struct Begun {
    /// In a cookie. The secrets of this sign-in follow from it.
    pub(crate) browser: NewToken,
    /// Goes to the issuer and comes back.
    pub(crate) state: NewToken,
}

/// Notes a sign-in, and forgets those that are over.
pub(crate) async fn begin(tx: &mut Tx<'_>, attempt: &Attempt, now: Timestamp) -> Result<Begun, AccessError> {
    let mut values = Values::default();
    values.number(now.as_micros());
    tx.rows(DELETE_OVER, values).await?;
    let begun = Begun { browser: token::new_opaque(), state: token::new_opaque() };
    let mut values = Values::default();
    values.text(begun.state.hash.as_str()).text(begun.browser.hash.as_str());
    values.maybe_text(attempt.link.map(|user| user.to_string())).text(&attempt.return_to);
    values.number(now.plus(LASTS).as_micros());
    tx.rows(INSERT, values).await?;
    Ok(begun)
}

/// The sign-in that comes back with this state to this browser: once, and in time.
pub(crate) async fn take(
    tx: &mut Tx<'_>,
    state: &str,
    browser: &str,
    now: Timestamp,
) -> Result<Option<Attempt>, AccessError> {
    let mut values = Values::default();
    values.text(TokenHash::of(state).as_str()).text(TokenHash::of(browser).as_str());
    let Some(row) = tx.row(TAKE, values).await? else { return Ok(None) };
    let attempt = Attempt { link: maybe_id(&row, 0)?, return_to: text(&row, 1)?.to_owned() };
    Ok((time(&row, 2)? > now).then_some(attempt))
}

/// The nonce of a sign-in, which the issuer writes into its token.
pub(crate) fn nonce(browser: &str) -> String {
    token::derived(browser, "nonce")
}

/// The verifier of a sign-in's code challenge (PKCE): 64 characters.
pub(crate) fn pkce_verifier(browser: &str) -> String {
    token::derived(browser, "pkce")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tables;
    use agentruntime_engine::database::{Database, Location, ManualClock};
    use std::sync::Arc;

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    struct Bench {
        database: Database,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let location = Location::Sqlite(folder.path().join("data"));
            let database = Database::open(&location, Arc::new(ManualClock::at(NOW))).await.unwrap();
            database.migrate(&tables::MIGRATIONS).await.unwrap();
            Self { database, _folder: folder }
        }

        async fn begin(&self) -> Begun {
            let mut tx = self.database.begin().await.unwrap();
            let attempt = Attempt { link: None, return_to: "/runs".into() };
            let begun = begin(&mut tx, &attempt, NOW).await.unwrap();
            tx.commit().await.unwrap();
            begun
        }

        /// Where the browser goes after it came back.
        async fn take(&self, state: &NewToken, browser: &NewToken, at: Timestamp) -> Option<String> {
            let mut tx = self.database.begin().await.unwrap();
            let attempt = take(&mut tx, state.expose(), browser.expose(), at).await.unwrap();
            tx.commit().await.unwrap();
            attempt.map(|attempt| attempt.return_to)
        }
    }

    #[tokio::test]
    async fn a_sign_in_comes_back_once_and_to_the_browser_that_began_it() {
        let bench = Bench::new().await;
        let (mine, other) = (bench.begin().await, bench.begin().await);
        assert_eq!(bench.take(&mine.state, &other.browser, NOW).await, None);
        assert_eq!(bench.take(&other.state, &mine.browser, NOW).await, None);
        assert_eq!(bench.take(&mine.state, &mine.browser, NOW).await.as_deref(), Some("/runs"));
        assert_eq!(bench.take(&mine.state, &mine.browser, NOW).await, None);
    }

    #[tokio::test]
    async fn a_sign_in_comes_back_in_time() {
        let bench = Bench::new().await;
        let (early, late) = (bench.begin().await, bench.begin().await);
        let last = Timestamp::from_micros(NOW.plus(LASTS).as_micros() - 1);
        assert!(bench.take(&early.state, &early.browser, last).await.is_some());
        assert!(bench.take(&late.state, &late.browser, NOW.plus(LASTS)).await.is_none());
    }

    #[test]
    fn the_secrets_of_a_sign_in_tell_nothing_of_each_other() {
        let (nonce, verifier) = (nonce("cookie"), pkce_verifier("cookie"));
        assert_ne!(nonce, verifier);
        // RFC 7636 wants 43 to 128 characters.
        assert_eq!(verifier.len(), 64);
        assert_ne!(verifier, pkce_verifier("another cookie"));
    }
}
