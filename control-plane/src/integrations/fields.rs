//! What connections and the vault may be given: names, and how many values of what size.

use super::IntegrationError;
use crate::access::field;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Credentials of one connection.
pub(crate) const CREDENTIALS_MAX: usize = 32;
/// The longest value of a credential, in bytes: a private key fits.
pub(crate) const CREDENTIAL_BYTES_MAX: usize = 16 << 10;
/// The longest name of a provider, a service or a credential, in characters.
pub(crate) const WORD_CHARS_MAX: usize = 64;

/// Refuses a value that is none, or too long.
pub(super) fn check_value(field: &'static str, value: &SecretString) -> Result<(), IntegrationError> {
    match value.expose_secret().len() {
        1..=CREDENTIAL_BYTES_MAX => Ok(()),
        len => {
            let message = format!("a value has {len} bytes; it has 1 to {CREDENTIAL_BYTES_MAX}");
            Err(IntegrationError::invalid(field, message))
        }
    }
}

/// Refuses a connection of too many credentials, or of none.
pub(super) fn check_count(sealed: &BTreeMap<String, String>) -> Result<(), IntegrationError> {
    match sealed.len() {
        1..=CREDENTIALS_MAX => Ok(()),
        count => {
            let message = format!("the connection would have {count}; it has 1 to {CREDENTIALS_MAX}");
            Err(IntegrationError::invalid("credentials", message))
        }
    }
}

/// A name that is no id, so that a workflow can say either.
pub(super) fn name(of: &'static str, text: &str) -> Result<String, IntegrationError> {
    let name = field::name(of, text)?;
    match name.parse::<Uuid>().is_ok() || name.contains('/') {
        true => Err(IntegrationError::invalid(of, "write a name that is no id and has no `/`")),
        false => Ok(name),
    }
}

/// Refuses what is no name for programs.
pub(super) fn word(field: &'static str, text: &str) -> Result<(), IntegrationError> {
    let is_word = (1..=WORD_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    match is_word {
        true => Ok(()),
        false => {
            let message = format!("a name here has 1 to {WORD_CHARS_MAX} letters, digits and _ - . in ASCII");
            Err(IntegrationError::invalid(field, message))
        }
    }
}
