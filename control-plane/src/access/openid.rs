//! Signing in with an account elsewhere, by OpenID Connect: the code flow with PKCE, a nonce, and a state that is bound to
//! the browser by a cookie.
//!
//! Who somebody is, is the issuer and the subject it names, never the address. An account that is here already is never
//! taken over by an address: its owner signs in to it, and links the account elsewhere from there.

pub(crate) use super::openid_issuer::OpenIdSetupError;
use super::{
    AccessError, UserId,
    attempts::Attempts,
    field,
    openid_attempts::{self, Attempt},
    openid_issuer::{Claims, Issuer, Secrets},
    sessions::{self, Browser, NewSession},
    token::NewToken,
    users::{self, Identity},
};
use crate::settings::Settings;
use agentruntime_engine::database::{Database, Tx};
use agentruntime_host_api::Timestamp;
use std::{sync::Arc, time::Duration};
use url::Url;

/// The path that the issuer sends browsers back to.
pub(crate) const CALLBACK: &str = "/v1/auth/oauth/google/callback";
/// The longest path to return to.
const RETURN_TO_BYTES_MAX: usize = 1024;
/// The longest code and state that an issuer sends back; ours has 43 characters, Google's code under 300.
const PARAMETER_BYTES_MAX: usize = 4096;
/// How long a sign-in may be under way.
pub(crate) const LASTS: Duration = openid_attempts::LASTS;

const STALE: AccessError = AccessError::NotAuthenticated(
    "this sign-in was not begun in this browser, or not in the last ten minutes; begin again",
);

/// Signing in with an account elsewhere.
pub(crate) struct OpenId {
    database: Database,
    issuer: Issuer,
    attempts: Arc<Attempts>,
}

/// A sign-in that was begun.
pub(crate) struct Start {
    /// Where the browser goes.
    pub(crate) url: Url,
    /// What it keeps in a cookie meanwhile.
    pub(crate) browser: NewToken,
}

/// What the issuer sent the browser back with.
pub(crate) struct Return {
    pub(crate) state: String,
    /// The code, or the issuer's word for why there is none.
    pub(crate) outcome: Result<String, String>,
    /// The issuer's name for itself, if it gives one.
    pub(crate) issuer: Option<String>,
    /// The cookie of the start.
    pub(crate) browser_cookie: Option<String>,
    /// Who is signed in here already.
    pub(crate) signed_in: Option<UserId>,
}

/// A sign-in that was finished.
pub(crate) struct Finished {
    /// The session, unless an account was linked.
    pub(crate) session: Option<NewSession>,
    /// Where the browser goes.
    pub(crate) return_to: String,
}

/// Whether signing in elsewhere could be set up as the settings say; nobody is asked.
pub(crate) fn check(settings: &Settings) -> Result<(), OpenIdSetupError> {
    issuer(settings).map(drop)
}

fn issuer(settings: &Settings) -> Result<Option<Issuer>, OpenIdSetupError> {
    let Some(openid) = &settings.openid else { return Ok(None) };
    let mut callback = settings.public_url.clone();
    callback.set_path(CALLBACK);
    Issuer::new(openid, &callback).map(Some)
}

impl OpenId {
    /// Signing in elsewhere, if the settings name an issuer.
    pub(crate) fn new(
        database: Database,
        settings: &Settings,
        attempts: Arc<Attempts>,
    ) -> Result<Option<Self>, OpenIdSetupError> {
        Ok(issuer(settings)?.map(|issuer| Self { database, issuer, attempts }))
    }

    /// Begins a sign-in, or for somebody who is signed in, the linking of an account elsewhere.
    pub(crate) async fn start(
        &self,
        browser: &Browser,
        return_to: &str,
        link: Option<UserId>,
    ) -> Result<Start, AccessError> {
        self.attempts.start(browser.origin.address)?;
        let attempt = Attempt { link, return_to: local(return_to)?.to_owned() };
        let mut tx = self.database.begin().await?;
        let begun = openid_attempts::begin(&mut tx, &attempt, self.database.time()).await?;
        tx.commit().await?;
        let url = self.issuer.sign_in_url(begun.state.expose().to_owned(), &secrets(begun.browser.expose())).await?;
        Ok(Start { url, browser: begun.browser })
    }

    /// Finishes a sign-in.
    pub(crate) async fn finish(&self, browser: &Browser, back: Return) -> Result<Finished, AccessError> {
        self.attempts.start(browser.origin.address)?;
        let (attempt, cookie) = self.take(&back).await?;
        if back.issuer.is_some_and(|issuer| issuer != self.issuer.name()) {
            return Err(STALE);
        }
        let code = back.outcome.map_err(|reason| {
            tracing::info!(reason, "the issuer did not sign somebody in");
            AccessError::NotAuthenticated("the issuer did not sign you in; begin again, or sign in with a password")
        })?;
        let claims = self.issuer.claims(code, secrets(&cookie)).await?;
        let now = self.database.time();
        let mut tx = self.database.begin().await?;
        let session = match attempt.link {
            Some(user) if back.signed_in == Some(user) => {
                self.link(&mut tx, user, &claims, now).await?;
                None
            }
            Some(_) => return Err(STALE),
            None => {
                let user = self.account(&mut tx, &claims, now).await?;
                Some(sessions::begin(&mut tx, user, browser, now).await?)
            }
        };
        tx.commit().await?;
        Ok(Finished { session, return_to: attempt.return_to })
    }

    async fn take(&self, back: &Return) -> Result<(Attempt, String), AccessError> {
        let is_short = |text: &str| text.len() <= PARAMETER_BYTES_MAX;
        let code = match &back.outcome {
            Ok(text) | Err(text) => text,
        };
        if !is_short(&back.state) || !is_short(code) {
            return Err(STALE);
        }
        let cookie = back.browser_cookie.clone().ok_or(STALE)?;
        let mut tx = self.database.begin().await?;
        let attempt = openid_attempts::take(&mut tx, &back.state, &cookie, self.database.time()).await?;
        tx.commit().await?;
        Ok((attempt.ok_or(STALE)?, cookie))
    }

    /// The account that signs in, made where there is none.
    async fn account(&self, tx: &mut Tx<'_>, claims: &Claims, now: Timestamp) -> Result<UserId, AccessError> {
        let identity = Identity { issuer: self.issuer.name(), subject: &claims.subject };
        if let Some(user) = users::by_identity(tx, &identity).await? {
            let known = users::by_id_in(tx, user).await?.filter(|user| user.disabled_at.is_none());
            return known.map(|user| user.user).ok_or(AccessError::Forbidden("this account is disabled"));
        }
        let Some(email) = &claims.email else {
            return Err(AccessError::Forbidden("the issuer has not verified your address; verify it there first"));
        };
        let email = field::email(email)?;
        let local_part = || users::display_name(None, &email);
        let name = users::display_name(claims.name.as_deref(), &email).or_else(|_| local_part())?;
        let Some(user) = users::create(tx, &email, &name, None, now.as_micros()).await? else {
            let message = "an account with this address exists already: sign in to it, \
                then link the account elsewhere by POST /v1/auth/oauth/google/start"
                .to_owned();
            return Err(AccessError::Conflict { code: "ACCOUNT_EXISTS", message });
        };
        users::link(tx, user, &identity, now.as_micros()).await?;
        tracing::info!(user_id = %user, "an account was made");
        Ok(user)
    }

    async fn link(&self, tx: &mut Tx<'_>, user: UserId, claims: &Claims, now: Timestamp) -> Result<(), AccessError> {
        let identity = Identity { issuer: self.issuer.name(), subject: &claims.subject };
        if !users::link(tx, user, &identity, now.as_micros()).await?
            && users::by_identity(tx, &identity).await? != Some(user)
        {
            let message = "this account elsewhere signs in to another account here; use that one".to_owned();
            return Err(AccessError::Conflict { code: "IDENTITY_TAKEN", message });
        }
        tracing::info!(user_id = %user, "an account elsewhere was linked");
        Ok(())
    }
}

fn secrets(browser: &str) -> Secrets {
    Secrets { nonce: openid_attempts::nonce(browser), pkce_verifier: openid_attempts::pkce_verifier(browser) }
}

/// Refuses what leads elsewhere: browsers read `//host` and `/\host` as another site.
fn local(return_to: &str) -> Result<&str, AccessError> {
    let is_local = return_to.len() <= RETURN_TO_BYTES_MAX
        && return_to.starts_with('/')
        && !return_to.starts_with("//")
        && return_to.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    match is_local {
        true => Ok(return_to),
        false => {
            let message = format!("write a path here, such as /runs, of up to {RETURN_TO_BYTES_MAX} bytes");
            Err(AccessError::Invalid { field: "return_to", message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_returns_to_a_path_here_only() {
        for fine in ["/", "/runs?status=failed#top", "/a//b"] {
            assert!(local(fine).is_ok(), "{fine}");
        }
        let long = format!("/{}", "a".repeat(1024));
        for wrong in
            ["", "runs", "//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil", "/a\r\nb", &long]
        {
            assert!(local(wrong).is_err(), "{wrong}");
        }
    }
}
