//! Secrets in bodies of requests.

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

/// A text that is not printed, wherever it comes to.
pub(super) struct SecretText(pub(super) SecretString);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.into()))
    }
}
