//! One-time tokens that go out by mail: to verify an address, to set a new password.

use super::{
    AccessError,
    token::{self, NewToken, TokenHash},
};
use agentruntime_engine::database::{Tx, Values, maybe_text, text, time};
use agentruntime_host_api::Timestamp;
use std::time::Duration;

const INSERT: &str = "INSERT INTO mail_tokens \
    (token_hash, purpose, email, display_name, password_hash, expires_at) VALUES ($1, $2, $3, $4, $5, $6)";
const DELETE_OVER: &str = "DELETE FROM mail_tokens WHERE expires_at <= $1";
const TAKE: &str = "DELETE FROM mail_tokens WHERE token_hash = $1 AND purpose = $2 \
    RETURNING email, display_name, password_hash, expires_at";
const DELETE_OF: &str = "DELETE FROM mail_tokens WHERE email = $1 AND purpose = $2";

/// Who signs up reads the mail the same day.
const VERIFY: Duration = Duration::from_secs(24 * 60 * 60);
/// Who forgot a password waits for the mail.
const RESET: Duration = Duration::from_secs(60 * 60);

/// What a token is for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// To make an account.
    Verify(Pending),
    /// To set a new password.
    Reset,
    /// Nothing: it costs what one costs that goes out, where none may go out.
    Void,
}

/// An account that is made when the address is known to be its owner's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// For people.
    pub(crate) display_name: String,
    /// What is kept of the password.
    pub(crate) password_hash: String,
}

impl Purpose {
    const VERIFY: &str = "verify";
    const RESET: &str = "reset";

    fn word(&self) -> &'static str {
        match self {
            Self::Verify(_) => Self::VERIFY,
            Self::Reset => Self::RESET,
            Self::Void => "void",
        }
    }

    fn lasts(&self) -> Duration {
        match self {
            Self::Verify(_) => VERIFY,
            Self::Reset | Self::Void => RESET,
        }
    }
}

/// Makes a token for an address, and forgets those that are over.
pub(crate) async fn issue(
    tx: &mut Tx<'_>,
    purpose: &Purpose,
    email: &str,
    now: Timestamp,
) -> Result<NewToken, AccessError> {
    let mut values = Values::default();
    values.number(now.as_micros());
    tx.rows(DELETE_OVER, values).await?;
    let pending = match purpose {
        Purpose::Verify(pending) => Some(pending),
        Purpose::Reset | Purpose::Void => None,
    };
    let new = token::new_opaque();
    let mut values = Values::default();
    values.text(new.hash.as_str()).text(purpose.word()).text(email);
    values.maybe_text(pending.map(|pending| &pending.display_name));
    values.maybe_text(pending.map(|pending| &pending.password_hash));
    values.number(now.plus(purpose.lasts()).as_micros());
    tx.rows(INSERT, values).await?;
    Ok(new)
}

/// The address and the account that a token verifies. Afterwards no token of that address verifies anything.
pub(crate) async fn verify(
    tx: &mut Tx<'_>,
    token: &str,
    now: Timestamp,
) -> Result<Option<(String, Pending)>, AccessError> {
    let Some((email, Some(display_name), Some(password_hash))) = take(tx, token, Purpose::VERIFY, now).await? else {
        return Ok(None);
    };
    Ok(Some((email, Pending { display_name, password_hash })))
}

/// The address whose password a token lets be set. Afterwards no token of that address does.
pub(crate) async fn reset(tx: &mut Tx<'_>, token: &str, now: Timestamp) -> Result<Option<String>, AccessError> {
    Ok(take(tx, token, Purpose::RESET, now).await?.map(|(email, ..)| email))
}

type Taken = (String, Option<String>, Option<String>);

async fn take(
    tx: &mut Tx<'_>,
    token: &str,
    purpose: &'static str,
    now: Timestamp,
) -> Result<Option<Taken>, AccessError> {
    let mut values = Values::default();
    values.text(TokenHash::of(token).as_str()).text(purpose);
    let Some(row) = tx.row(TAKE, values).await? else { return Ok(None) };
    if time(&row, 3)? <= now {
        return Ok(None);
    }
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let taken = (text(&row, 0)?.to_owned(), owned(maybe_text(&row, 1)?), owned(maybe_text(&row, 2)?));
    let mut values = Values::default();
    values.text(&taken.0).text(purpose);
    tx.rows(DELETE_OF, values).await?;
    Ok(Some(taken))
}
