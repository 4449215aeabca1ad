//! Signing secrets: `whsec_` and the base64 of 32 random bytes, shown once and kept sealed.
//!
//! The two families of headers take them differently, as their senders do: Standard Webhooks signs with the bytes that the
//! base64 stands for, `X-Agentruntime-Signature` with the text as it is shown, prefix and all.

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{
    ExposeSecret, SecretString,
    zeroize::{Zeroize, Zeroizing},
};

const PREFIX: &str = "whsec_";
const RANDOM_BYTES: usize = 32;

/// A signing secret.
pub(crate) struct SigningSecret(SecretString);

impl SigningSecret {
    /// A new one.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; RANDOM_BYTES];
        // Without randomness there is no safe way on.
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        let body = Zeroizing::new(BASE64_STANDARD.encode(bytes));
        bytes.zeroize();
        Self(SecretString::from(format!("{PREFIX}{}", *body)))
    }

    /// As it was shown.
    pub(crate) fn of(text: SecretString) -> Self {
        Self(text)
    }

    /// As it is shown.
    pub(crate) fn text(&self) -> &SecretString {
        &self.0
    }

    /// The key of `X-Agentruntime-Signature`.
    pub(super) fn shown_bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }

    /// The key of `webhook-signature`.
    pub(super) fn decoded_bytes(&self) -> Zeroizing<Vec<u8>> {
        let body = self.0.expose_secret().trim_start_matches(PREFIX);
        // Only secrets that were made here are kept; whatever else it were, no signature fits it.
        Zeroizing::new(BASE64_STANDARD.decode(body).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_random_and_has_the_known_form() {
        let (one, other) = (SigningSecret::random(), SigningSecret::random());
        let text = one.text().expose_secret();
        assert!(text.starts_with(PREFIX) && text.len() == PREFIX.len() + 44, "{} characters", text.len());
        assert_eq!(one.decoded_bytes().len(), RANDOM_BYTES);
        assert_ne!(one.shown_bytes(), other.shown_bytes());
    }
}
