//! One-time tokens that go out by mail: to verify an address, to set a new password.

use super::{
    AccessError,
    token::{self, NewToken, TokenHash},
};
use agentruntime_engine::database::{Tx, Values, text, time};
use agentruntime_host_api::Timestamp;
use std::time::Duration;

const INSERT: &str = "INSERT INTO mail_tokens (token_hash, purpose, email, expires_at) VALUES ($1, $2, $3, $4)";
const DELETE_OVER: &str = "DELETE FROM mail_tokens WHERE expires_at <= $1";
const TAKE: &str = "DELETE FROM mail_tokens WHERE token_hash = $1 AND purpose = $2 RETURNING email, expires_at";
const DELETE_OF: &str = "DELETE FROM mail_tokens WHERE email = $1 AND purpose = $2";

/// Who signs up reads the mail the same day.
const VERIFY: Duration = Duration::from_secs(24 * 60 * 60);
/// Who forgot a password waits for the mail.
const RESET: Duration = Duration::from_secs(60 * 60);

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To make an account.
    Verify,
    /// To set a new password.
    Reset,
    /// Nothing: it costs what one costs that goes out, where none may go out.
    Void,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Reset => "reset",
            Self::Void => "void",
        }
    }

    fn lasts(self) -> Duration {
        match self {
            Self::Verify => VERIFY,
            Self::Reset | Self::Void => RESET,
        }
    }
}

/// Makes a token for an address, and forgets those that are over.
pub(crate) async fn issue(
    tx: &mut Tx<'_>,
    purpose: Purpose,
    email: &str,
    now: Timestamp,
) -> Result<NewToken, AccessError> {
    let mut values = Values::default();
    values.number(now.as_micros());
    tx.rows(DELETE_OVER, values).await?;
    let new = token::new_opaque();
    let mut values = Values::default();
    values.text(new.hash.as_str()).text(purpose.word()).text(email);
    values.number(now.plus(purpose.lasts()).as_micros());
    tx.rows(INSERT, values).await?;
    Ok(new)
}

/// The address that a token is good for. Afterwards no token of that address is good for the same.
pub(crate) async fn take(
    tx: &mut Tx<'_>,
    token: &str,
    purpose: Purpose,
    now: Timestamp,
) -> Result<Option<String>, AccessError> {
    let mut values = Values::default();
    values.text(TokenHash::of(token).as_str()).text(purpose.word());
    let Some(row) = tx.row(TAKE, values).await? else { return Ok(None) };
    if time(&row, 1)? <= now {
        return Ok(None);
    }
    let email = text(&row, 0)?.to_owned();
    let mut values = Values::default();
    values.text(&email).text(purpose.word());
    tx.rows(DELETE_OF, values).await?;
    Ok(Some(email))
}
