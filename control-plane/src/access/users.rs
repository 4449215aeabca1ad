//! People with accounts.

use super::{AccessError, UserId};
use agentruntime_engine::database::{Tx, Values};

const INSERT: &str = "INSERT INTO users (user_id, email, display_name, verified_at, created_at) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (email) DO NOTHING RETURNING user_id";

/// Makes an account whose address is known to be its owner's. Without a password, there is no signing in with one.
pub(crate) async fn create_verified(
    tx: &mut Tx<'_>,
    email: &str,
    display_name: &str,
    now: i64,
) -> Result<UserId, AccessError> {
    let user = UserId::new_v7();
    let mut values = Values::default();
    values.id(user).text(email.to_lowercase()).text(display_name).number(now).number(now);
    match tx.row(INSERT, values).await? {
        Some(_) => Ok(user),
        None => {
            let message = "an account with this address exists already; sign in instead".to_owned();
            Err(AccessError::Conflict { code: "EMAIL_TAKEN", message })
        }
    }
}
