//! Accounts: signing up, proving an address, signing in, setting a new password.
//!
//! Nothing here tells a stranger whether an address has an account: the answers are the same, and so is the work behind
//! them. The owner of the address is told by mail. How often somebody may try is counted here, so that no way in forgets it.

use super::{
    AccessError, UserId,
    attempts::Attempts,
    mail_tokens::{self, Pending, Purpose},
    passwords::{self, Passwords},
    sessions::{self, Browser, NewSession},
    users::{self, User},
};
use crate::{
    access::caller::Origin,
    mail::{Mail, Mailer},
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

/// Somebody who wants an account.
pub(crate) struct SignUp {
    pub(crate) email: String,
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
    pub(crate) async fn sign_up(&self, origin: &Origin, wanted: SignUp) -> Result<(), AccessError> {
        let email = users::normal(&wanted.email)?;
        self.check_mail()?;
        self.attempts.mail(origin.address, &email)?;
        let display_name = users::display_name(wanted.display_name.as_deref(), &email)?;
        passwords::check(&wanted.password, &email)?;
        let password_hash = self.passwords.hash(wanted.password).await?;
        let known = users::by_email(&self.database, &email).await?;
        let purpose = match known {
            None => Purpose::Verify(Pending { display_name, password_hash }),
            Some(_) => Purpose::Void,
        };
        let token = self.issue(&purpose, &email).await?;
        let mail = match known {
            None => self.verify_mail(email, token.expose_secret()),
            Some(_) => self.known_mail(email),
        };
        self.mail.send(mail);
        Ok(())
    }

    /// Makes the account whose address the token proves.
    pub(crate) async fn verify(&self, origin: &Origin, token: &str) -> Result<User, AccessError> {
        self.attempts.mail_token(origin.address)?;
        let now = self.database.time();
        let mut tx = self.database.begin().await?;
        let Some((email, pending)) = mail_tokens::verify(&mut tx, token, now).await? else { return Err(stale_token()) };
        let Pending { display_name, password_hash } = pending;
        let made = users::create(&mut tx, &email, &display_name, Some(&password_hash), now.as_micros()).await?;
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
        let email = users::normal(email)?;
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
        let email = users::normal(email)?;
        self.check_mail()?;
        self.attempts.mail(origin.address, &email)?;
        let known = users::by_email(&self.database, &email).await?.filter(|user| user.disabled_at.is_none());
        let purpose = if known.is_some() { Purpose::Reset } else { Purpose::Void };
        let token = self.issue(&purpose, &email).await?;
        if known.is_some() {
            self.mail.send(self.reset_mail(email, token.expose_secret()));
        }
        Ok(())
    }

    /// Sets a new password, and ends all sessions.
    pub(crate) async fn reset(&self, origin: &Origin, token: &str, password: SecretString) -> Result<(), AccessError> {
        self.attempts.mail_token(origin.address)?;
        passwords::check(&password, "")?;
        let lower_case = SecretString::from(password.expose_secret().to_lowercase());
        let hash = self.passwords.hash(password).await?;
        let mut tx = self.database.begin().await?;
        let email = mail_tokens::reset(&mut tx, token, self.database.time()).await?.ok_or_else(stale_token)?;
        passwords::check_is_not(lower_case.expose_secret(), &email)?;
        let user: UserId = users::set_password(&mut tx, &email, &hash).await?.ok_or_else(stale_token)?;
        sessions::revoke_all(&mut tx, user).await?;
        tx.commit().await?;
        tracing::info!(user_id = %user, "a password was set anew");
        self.mail.send(changed_mail(email));
        Ok(())
    }

    /// Without mails, nobody can prove an address: better refused than promised.
    fn check_mail(&self) -> Result<(), AccessError> {
        let missing = "this server sends no mails, so that nobody can sign up or set a new password; ask its operator";
        if self.mail.is_set_up() { Ok(()) } else { Err(AccessError::NotConfigured(missing)) }
    }

    async fn issue(&self, purpose: &Purpose, email: &str) -> Result<SecretString, AccessError> {
        let mut tx = self.database.begin().await?;
        let new = mail_tokens::issue(&mut tx, purpose, email, self.database.time()).await?;
        tx.commit().await?;
        Ok(new.token)
    }

    fn verify_mail(&self, to: String, token: &str) -> Mail {
        let call = self.call("auth/verify", &format!("{{\"token\":\"{token}\"}}"));
        let text = format!(
            "Somebody, probably you, wants an account at {} with this address.\n\n\
             Confirm it within 24 hours with this token:\n\n  {token}\n\nOn a command line:\n\n  {call}\n\n\
             If it was not you, do nothing: no account is made.\n",
            self.public_url
        );
        Mail { to, subject: "Confirm your address".into(), text }
    }

    fn known_mail(&self, to: String) -> Mail {
        let text = format!(
            "Somebody, probably you, wanted to sign up at {} with this address. There is an account already.\n\n\
             Sign in with it. If the password is forgotten, ask for a new one. If it was not you, do nothing.\n",
            self.public_url
        );
        Mail { to, subject: "You have an account already".into(), text }
    }

    fn reset_mail(&self, to: String, token: &str) -> Mail {
        let call =
            self.call("auth/password/reset", &format!("{{\"token\":\"{token}\",\"password\":\"NEW-PASSWORD\"}}"));
        let text = format!(
            "Somebody, probably you, wants to set a new password at {}.\n\n\
             Set it within an hour with this token:\n\n  {token}\n\nOn a command line:\n\n  {call}\n\n\
             If it was not you, do nothing: the password stays as it is.\n",
            self.public_url
        );
        Mail { to, subject: "Set a new password".into(), text }
    }

    fn call(&self, path: &str, body: &str) -> String {
        let base = self.public_url.as_str().trim_end_matches('/');
        format!("curl -H 'Content-Type: application/json' -d '{body}' {base}/v1/{path}")
    }
}

fn changed_mail(to: String) -> Mail {
    let text = "Your password was set anew, and all sessions were ended.\n\n\
        If it was not you, somebody reads your mail: ask for a new password, and change that of your mail first.\n";
    Mail { to, subject: "Your password was changed".into(), text: text.into() }
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

        async fn sign_up(&self, password: &str) -> Result<(), AccessError> {
            let (email, password) = ("Ada@Example.com".to_owned(), password.to_owned().into());
            self.accounts.sign_up(&origin(), SignUp { email, password, display_name: None }).await
        }

        async fn sign_in(&self, password: &str) -> Result<NewSession, AccessError> {
            self.accounts.sign_in(&browser(), ADA, password.to_owned().into()).await
        }
    }

    #[tokio::test]
    async fn an_account_is_there_when_its_address_is_proven() {
        let bench = Bench::new().await;
        bench.sign_up("correct horse battery").await.unwrap();
        assert!(matches!(bench.sign_in("correct horse battery").await, Err(AccessError::NotAuthenticated(_))));
        let token = bench.mailed("Confirm").await;
        assert_eq!(bench.accounts.verify(&origin(), &token).await.unwrap().email, ADA);
        assert!(bench.accounts.verify(&origin(), &token).await.is_err(), "once");
        bench.sign_in("correct horse battery").await.unwrap();
        assert!(matches!(bench.sign_in("correct horse batterz").await, Err(AccessError::NotAuthenticated(_))));
    }

    #[tokio::test]
    async fn a_mail_is_good_for_its_time_only() {
        let bench = Bench::new().await;
        bench.sign_up("correct horse battery").await.unwrap();
        let token = bench.mailed("Confirm").await;
        bench.clock.advance(Duration::from_secs(24 * 60 * 60));
        assert!(bench.accounts.verify(&origin(), &token).await.is_err());
    }

    #[tokio::test]
    async fn a_token_is_good_for_its_purpose_only() {
        let bench = Bench::new().await;
        bench.sign_up("correct horse battery").await.unwrap();
        let token = bench.mailed("Confirm").await;
        assert!(bench.accounts.reset(&origin(), &token, "another long one".to_owned().into()).await.is_err());
        bench.accounts.verify(&origin(), &token).await.unwrap();
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
