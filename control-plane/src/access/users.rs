//! People with accounts. There is no account before its address is known to be its owner's.

use super::{AccessError, UserId, field};
use agentruntime_engine::database::{Database, Row, StoreError, Tx, Values, id, maybe_text, maybe_time, text, time};
use agentruntime_host_api::Timestamp;

const INSERT: &str = "INSERT INTO users (user_id, email, display_name, password_hash, verified_at, created_at) \
    VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (email) DO NOTHING RETURNING user_id";

const BY_EMAIL: &str =
    "SELECT user_id, email, display_name, password_hash, disabled_at, created_at FROM users WHERE email = $1";
const BY_ID: &str =
    "SELECT user_id, email, display_name, password_hash, disabled_at, created_at FROM users WHERE user_id = $1";

const SET_PASSWORD: &str =
    "UPDATE users SET password_hash = $2 WHERE email = $1 AND disabled_at IS NULL RETURNING user_id";

const BY_IDENTITY: &str = "SELECT i.user_id FROM identities i JOIN users u ON u.user_id = i.user_id \
    WHERE i.issuer = $1 AND i.subject = $2";
const INSERT_IDENTITY: &str = "INSERT INTO identities (issuer, subject, user_id, created_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (issuer, subject) DO NOTHING RETURNING user_id";
const ISSUERS: &str = "SELECT issuer FROM identities WHERE user_id = $1 ORDER BY issuer";

/// An account.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) user: UserId,
    /// In lower case.
    pub(crate) email: String,
    pub(crate) display_name: String,
    /// None for those who sign in elsewhere only.
    pub(crate) password_hash: Option<String>,
    /// Since when nobody may sign in to it.
    pub(crate) disabled_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
}

/// An account at an issuer of OpenID Connect.
pub(crate) struct Identity<'a> {
    pub(crate) issuer: &'a str,
    /// Who it is there: an address can change hands, this cannot.
    pub(crate) subject: &'a str,
}

/// The account of an address.
pub(crate) async fn by_email(database: &Database, email: &str) -> Result<Option<User>, AccessError> {
    let mut values = Values::default();
    values.text(email);
    Ok(database.rows(BY_EMAIL, values).await?.first().map(user).transpose()?)
}

/// The account.
pub(crate) async fn by_id(database: &Database, id: UserId) -> Result<Option<User>, AccessError> {
    let mut values = Values::default();
    values.id(id);
    Ok(database.rows(BY_ID, values).await?.first().map(user).transpose()?)
}

/// The account of an address, as it is in the transaction.
pub(crate) async fn by_email_in(tx: &mut Tx<'_>, email: &str) -> Result<Option<User>, AccessError> {
    let mut values = Values::default();
    values.text(email);
    Ok(tx.row(BY_EMAIL, values).await?.as_ref().map(user).transpose()?)
}

/// The account, as it is in the transaction.
pub(crate) async fn by_id_in(tx: &mut Tx<'_>, id: UserId) -> Result<Option<User>, AccessError> {
    let mut values = Values::default();
    values.id(id);
    Ok(tx.row(BY_ID, values).await?.as_ref().map(user).transpose()?)
}

fn user(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        user: id(row, 0)?,
        email: text(row, 1)?.to_owned(),
        display_name: text(row, 2)?.to_owned(),
        password_hash: maybe_text(row, 3)?.map(str::to_owned),
        disabled_at: maybe_time(row, 4)?,
        created_at: time(row, 5)?,
    })
}

/// Makes an account whose address is known to be its owner's. Without a password, there is no signing in with one.
pub(crate) async fn create_verified(
    tx: &mut Tx<'_>,
    email: &str,
    display_name: &str,
    now: i64,
) -> Result<UserId, AccessError> {
    let taken = || {
        let message = "an account with this address exists already; sign in instead".to_owned();
        AccessError::Conflict { code: "EMAIL_TAKEN", message }
    };
    create(tx, &email.to_lowercase(), display_name, None, now).await?.ok_or_else(taken)
}

/// Makes an account whose address is known to be its owner's, unless there is one.
pub(crate) async fn create(
    tx: &mut Tx<'_>,
    email: &str,
    display_name: &str,
    password_hash: Option<&str>,
    now: i64,
) -> Result<Option<UserId>, AccessError> {
    let user = UserId::new_v7();
    let mut values = Values::default();
    values.id(user).text(email).text(display_name).maybe_text(password_hash).number(now);
    Ok(tx.row(INSERT, values).await?.map(|_| user))
}

/// Sets the password of an account; gives whose it is.
pub(crate) async fn set_password(tx: &mut Tx<'_>, email: &str, hash: &str) -> Result<Option<UserId>, AccessError> {
    let mut values = Values::default();
    values.text(email).text(hash);
    Ok(tx.row(SET_PASSWORD, values).await?.map(|row| id(&row, 0)).transpose()?)
}

/// Whose account at an issuer this is.
pub(crate) async fn by_identity(tx: &mut Tx<'_>, identity: &Identity<'_>) -> Result<Option<UserId>, AccessError> {
    let mut values = Values::default();
    values.text(identity.issuer).text(identity.subject);
    Ok(tx.row(BY_IDENTITY, values).await?.map(|row| id(&row, 0)).transpose()?)
}

/// Lets an account at an issuer sign in to this account.
pub(crate) async fn link(
    tx: &mut Tx<'_>,
    user: UserId,
    identity: &Identity<'_>,
    now: i64,
) -> Result<bool, AccessError> {
    let mut values = Values::default();
    values.text(identity.issuer).text(identity.subject).id(user).number(now);
    Ok(tx.row(INSERT_IDENTITY, values).await?.is_some())
}

/// The issuers whose accounts may sign in to this account.
pub(crate) async fn issuers(database: &Database, user: UserId) -> Result<Vec<String>, AccessError> {
    let mut values = Values::default();
    values.id(user);
    let rows = database.rows(ISSUERS, values).await?;
    Ok(rows.iter().map(|row| text(row, 0).map(str::to_owned)).collect::<Result<_, _>>()?)
}

/// A name for people: what was given, or else the part of the address before the `@`.
pub(crate) fn display_name(given: Option<&str>, email: &str) -> Result<String, AccessError> {
    let given = given.filter(|name| !name.trim().is_empty());
    field::name("display_name", given.unwrap_or_else(|| email.split('@').next().unwrap_or(email)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_without_a_name_is_called_by_the_address() {
        assert_eq!(display_name(None, "ada@example.com").unwrap(), "ada");
        assert_eq!(display_name(Some("  "), "ada@example.com").unwrap(), "ada");
        assert_eq!(display_name(Some(" Ada L. "), "ada@example.com").unwrap(), "Ada L.");
        assert!(display_name(Some("Ada\nBcc"), "ada@example.com").is_err());
        assert!(display_name(Some(&"a".repeat(101)), "ada@example.com").is_err());
    }
}
