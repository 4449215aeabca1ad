//! Accounts: signing up, proving an address, signing in, setting a new password.
//!
//! Nothing here tells a stranger whether an address has an account: the answers are the same, and so is the work behind
//! them. The owner of the address is told by mail. How often somebody may try is counted here, so that no way in forgets it.
//!
//! Who asks for an account may be anybody and says nothing but the address. All that the account is to be, its password above
//! all, is said together with the token from the mail, by who has shown to read it: nobody chooses a password for another.

use super::{
    AccessError, UserId,
    attempts::Attempts,
    field,
    mail_tokens::{self, Purpose},
    passwords::{self, Passwords},
    sessions::{self, Browser, NewSession},
    users::{self, User},
};
use crate::{
    access::caller::Origin,
    mail::{Mailer, letters},
};
use agentruntime_engine::database::Database;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use url::Url;

/// What people do with their accounts.
pub(crate) struct Accounts {
    database: Database,
    mail: Mailer,
    public_url: Url,
    passwords: Passwords,
    attempts: Arc<Attempts>,
}

/// What an account is to be, said by who has shown to read its address's mail.
pub(crate) struct Verification {
    pub(crate) token: SecretString,
    pub(crate) password: SecretString,
    pub(crate) display_name: Option<String>,
}

const WRONG: AccessError = AccessError::NotAuthenticated(
    "address or password are wrong, or the address is not verified yet: look for the mail, or sign up again",
);

fn stale_token() -> AccessError {
    let message = "this token is not valid, or not any more; ask for a new mail".to_owned();
    AccessError::Invalid { field: "token", message }
}

impl Accounts {
    pub(crate) fn new(database: Database, mail: Mailer, public_url: Url, attempts: Arc<Attempts>) -> Self {
        Self { database, mail, public_url, passwords: Passwords::new(), attempts }
    }

    /// Sends a mail with which an account is made, or one that says that there is one already.
    pub(crate) async fn sign_up(&self, origin: &Origin, email: &str) -> Result<(), AccessError> {
        let email = field::email(email)?;
        self.check_mail()?;
        self.attempts.mail(origin.address, &email)?;
        let is_known = users::by_email(&self.database, &email).await?.is_some();
        let token = self.issue(if is_known { Purpose::Void } else { Purpose::Verify }, &email).await?;
        self.mail.send(match is_known {
            false => letters::verify(&self.public_url, email, token.expose_secret()),
            true => letters::known(&self.public_url, email),
        });
        Ok(())
    }

    /// Makes the account whose address the token proves, with the password that comes along.
    pub(crate) async fn verify(&self, origin: &Origin, wanted: Verification) -> Result<User, AccessError> {
        let Verification { token, password, display_name } = wanted;
        self.attempts.mail_token(origin.address)?;
        passwords::check(&password)?;
        let display_name = display_name.map(|name| field::name("display_name", &name)).transpose()?;
        let (lower_case, hash) = self.hash(password).await?;
        let now = self.database.time();
        let mut tx = self.database.begin().await?;
        let email = mail_tokens::take(&mut tx, token.expose_secret(), Purpose::Verify, now).await?;
        let email = email.ok_or_else(stale_token)?;
        passwords::check_is_not(lower_case.expose_secret(), &email)?;
        let display_name = users::display_name(display_name.as_deref(), &email)?;
        let made = users::create(&mut tx, &email, &display_name, Some(&hash), now.as_micros()).await?;
        // Somebody who came by another way in the meantime keeps the account as it is.
        let user = users::by_email_in(&mut tx, &email).await?.filter(|_| made.is_some());
        tx.commit().await?;
        tracing::info!(user_id = ?made, "an account was made");
        user.ok_or_else(stale_token)
    }

    /// Begins a session for whoever knows the password.
    pub(crate) async fn sign_in(
        &self,
        browser: &Browser,
        email: &str,
        password: SecretString,
    ) -> Result<NewSession, AccessError> {
        let email = field::email(email)?;
        self.attempts.password(browser.origin.address, &email)?;
        let known = users::by_email(&self.database, &email).await?.filter(|user| user.disabled_at.is_none());
        let hash = known.as_ref().and_then(|user| user.password_hash.clone());
        let is_right = self.passwords.verify(password, hash).await?;
        let Some(user) = known.filter(|_| is_right) else {
            tracing::info!(address = %browser.origin.address, "a sign-in was refused");
            return Err(WRONG);
        };
        let mut tx = self.database.begin().await?;
        let session = sessions::begin(&mut tx, user.user, browser, self.database.time()).await?;
        tx.commit().await?;
        tracing::info!(user_id = %user.user, session_id = %session.session, "somebody signed in");
        Ok(session)
    }

    /// Sends a mail with which a new password is set, where there is an account.
    pub(crate) async fn forgot(&self, origin: &Origin, email: &str) -> Result<(), AccessError> {
        let email = field::email(email)?;
        self.check_mail()?;
        self.attempts.mail(origin.address, &email)?;
        let known = users::by_email(&self.database, &email).await?.filter(|user| user.disabled_at.is_none());
        let purpose = if known.is_some() { Purpose::Reset } else { Purpose::Void };
        let token = self.issue(purpose, &email).await?;
        if known.is_some() {
            self.mail.send(letters::reset(&self.public_url, email, token.expose_secret()));
        }
        Ok(())
    }

    /// Sets a new password, and ends all sessions.
    pub(crate) async fn reset(&self, origin: &Origin, token: &str, password: SecretString) -> Result<(), AccessError> {
        self.attempts.mail_token(origin.address)?;
        passwords::check(&password)?;
        let (lower_case, hash) = self.hash(password).await?;
        let now = self.database.time();
        let mut tx = self.database.begin().await?;
        let email = mail_tokens::take(&mut tx, token, Purpose::Reset, now).await?.ok_or_else(stale_token)?;
        passwords::check_is_not(lower_case.expose_secret(), &email)?;
        let user: UserId = users::set_password(&mut tx, &email, &hash).await?.ok_or_else(stale_token)?;
        sessions::revoke_all(&mut tx, user).await?;
        tx.commit().await?;
        tracing::info!(user_id = %user, "a password was set anew");
        self.mail.send(letters::changed(email));
        Ok(())
    }

    /// Without mails, nobody can prove an address: better refused than promised.
    fn check_mail(&self) -> Result<(), AccessError> {
        let missing = "this server sends no mails, so that nobody can sign up or set a new password; ask its operator";
        if self.mail.is_set_up() { Ok(()) } else { Err(AccessError::NotConfigured(missing)) }
    }

    /// The password in lower case, and its hash: whose it is, and whether it may be theirs, is known only afterwards.
    async fn hash(&self, password: SecretString) -> Result<(SecretString, String), AccessError> {
        let lower_case = SecretString::from(password.expose_secret().to_lowercase());
        Ok((lower_case, self.passwords.hash(password).await?))
    }

    async fn issue(&self, purpose: Purpose, email: &str) -> Result<SecretString, AccessError> {
        let mut tx = self.database.begin().await?;
        let new = mail_tokens::issue(&mut tx, purpose, email, self.database.time()).await?;
        tx.commit().await?;
        Ok(new.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::{RequestId, tables},
        settings::MailSettings,
    };
    use agentruntime_engine::database::{Location, ManualClock};
    use agentruntime_host_api::Timestamp;
    use std::{net::IpAddr, time::Duration};

    struct Bench {
        accounts: Accounts,
        clock: Arc<ManualClock>,
        folder: tempfile::TempDir,
    }

    const ADA: &str = "ada@example.com";

    fn origin() -> Origin {
        Origin { address: IpAddr::from([10, 0, 0, 1]), request: RequestId::new_v7() }
    }

    fn browser() -> Browser {
        Browser { user_agent: String::new(), cookie: None, origin: origin() }
    }

    impl Bench {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_767_225_600_000_000)));
            let location = Location::Sqlite(folder.path().join("data"));
            let database = Database::open(&location, clock.clone()).await.unwrap();
            database.migrate(&tables::MIGRATIONS).await.unwrap();
            let mail = Mailer::new(&MailSettings::Folder(folder.path().join("mail"))).unwrap();
            let url = "http://127.0.0.1:1".parse().unwrap();
            Self { accounts: Accounts::new(database, mail, url, Arc::new(Attempts::new())), clock, folder }
        }

        /// The token in the only mail that has this subject. Afterwards no mail can be sent.
        async fn mailed(&self, subject: &str) -> String {
            self.accounts.mail.finish().await;
            let files = std::fs::read_dir(self.folder.path().join("mail")).unwrap();
            let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
            let mut texts: Vec<String> = texts.filter(|text| text.contains(subject)).collect();
            assert_eq!(texts.len(), 1, "{texts:?}");
            let text = texts.remove(0);
            text.lines().find_map(|line| line.strip_prefix("  ")).unwrap_or_default().to_owned()
        }

        async fn verify(&self, token: &str, password: &str) -> Result<User, AccessError> {
            let (token, password) = (token.to_owned().into(), password.to_owned().into());
            self.accounts.verify(&origin(), Verification { token, password, display_name: None }).await
        }

        async fn sign_up(&self) {
            self.accounts.sign_up(&origin(), "Ada@Example.com").await.unwrap();
        }

        async fn sign_in(&self, password: &str) -> Result<NewSession, AccessError> {
            self.accounts.sign_in(&browser(), ADA, password.to_owned().into()).await
        }
    }

    #[tokio::test]
    async fn an_account_is_there_when_its_address_is_proven() {
        let bench = Bench::new().await;
        bench.sign_up().await;
        assert!(matches!(bench.sign_in("correct horse battery").await, Err(AccessError::NotAuthenticated(_))));
        let token = bench.mailed("Confirm").await;
        for wrong in ["short", "Ada@Example.com"] {
            assert!(matches!(bench.verify(&token, wrong).await, Err(AccessError::Invalid { field: "password", .. })));
        }
        assert_eq!(bench.verify(&token, "correct horse battery").await.unwrap().email, ADA);
        assert!(bench.verify(&token, "another long one").await.is_err(), "once");
        bench.sign_in("correct horse battery").await.unwrap();
        assert!(matches!(bench.sign_in("correct horse batterz").await, Err(AccessError::NotAuthenticated(_))));
    }

    #[tokio::test]
    async fn a_mail_is_good_for_its_time_only() {
        let bench = Bench::new().await;
        bench.sign_up().await;
        let token = bench.mailed("Confirm").await;
        bench.clock.advance(Duration::from_secs(24 * 60 * 60));
        assert!(bench.verify(&token, "correct horse battery").await.is_err());
    }

    #[tokio::test]
    async fn a_token_is_good_for_its_purpose_only() {
        let bench = Bench::new().await;
        bench.sign_up().await;
        let token = bench.mailed("Confirm").await;
        assert!(bench.accounts.reset(&origin(), &token, "another long one".to_owned().into()).await.is_err());
        bench.verify(&token, "correct horse battery").await.unwrap();
    }

    #[tokio::test]
    async fn guessing_is_slowed_down_whoever_guesses() {
        let bench = Bench::new().await;
        for _ in 0..10 {
            assert!(matches!(bench.sign_in("wrong wrong wrong").await, Err(AccessError::NotAuthenticated(_))));
        }
        assert!(matches!(bench.sign_in("wrong wrong wrong").await, Err(AccessError::TooMany { .. })));
    }
}
