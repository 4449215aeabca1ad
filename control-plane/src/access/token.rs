//! Tokens: 256 random bits that are shown once and kept as a hash.
//!
//! A personal access token is `pat_`, 32 random bytes in base62 (43 characters), and six characters of checksum over
//! those: a token that was mistyped or made up is refused before the database is asked, and scanners of leaked secrets can
//! tell a token from other text.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

const RANDOM_BYTES: usize = 32;
/// 62^43 > 2^256.
const RANDOM_CHARS: usize = 43;
/// 62^6 > 2^32, and the checksum is 32 bits.
const CHECKSUM_CHARS: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PAT_PREFIX: &str = "pat_";
/// The characters of a token that lists show.
const HINT_CHARS: usize = 4;

/// What is kept of a token: its SHA-256 in hex. As the token is random, nothing stronger is needed, and a look-up by hash
/// tells an attacker who measures it nothing about any token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenHash(String);

impl TokenHash {
    /// The hash of a token.
    pub(crate) fn of(token: &str) -> Self {
        Self(hex(&Sha256::digest(token.as_bytes())))
    }

    /// As the database keeps it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A new token, which is shown to its owner once.
pub(crate) struct NewToken {
    /// The token.
    pub(crate) token: SecretString,
    /// What is kept of it.
    pub(crate) hash: TokenHash,
    /// Its last characters.
    pub(crate) hint: String,
}

/// A new personal access token.
pub(crate) fn new_pat() -> NewToken {
    let body = random();
    finish(format!("{PAT_PREFIX}{body}{}", checksum(&body)))
}

/// A new token for cookies and links.
pub(crate) fn new_opaque() -> NewToken {
    finish(random())
}

/// The hash of a personal access token, if the text has the form of one.
pub(crate) fn parse_pat(text: &str) -> Option<TokenHash> {
    let rest = text.strip_prefix(PAT_PREFIX)?;
    if rest.len() != RANDOM_CHARS + CHECKSUM_CHARS || !rest.bytes().all(|byte| DIGITS.contains(&byte)) {
        return None;
    }
    let (body, sum) = rest.split_at(RANDOM_CHARS);
    (checksum(body) == sum).then(|| TokenHash::of(text))
}

/// Whether a text has the form of a token for cookies and links.
pub(crate) fn is_opaque(text: &str) -> bool {
    text.len() == RANDOM_CHARS && text.bytes().all(|byte| DIGITS.contains(&byte))
}

/// A secret that follows from another, and from which the other does not follow: HMAC-SHA-256, in hex.
pub(crate) fn derived(secret: &str, purpose: &'static str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length does");
    mac.update(purpose.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn finish(token: String) -> NewToken {
    let hash = TokenHash::of(&token);
    let hint = token[token.len() - HINT_CHARS..].to_owned();
    NewToken { token: SecretString::from(token), hash, hint }
}

impl NewToken {
    /// The token, to be shown.
    pub(crate) fn expose(&self) -> &str {
        self.token.expose_secret()
    }
}

fn random() -> String {
    let mut bytes = [0; RANDOM_BYTES];
    // Without randomness there is no safe way on.
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    base62(&bytes, RANDOM_CHARS)
}

fn checksum(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    base62(&digest[..4], CHECKSUM_CHARS)
}

/// The bytes as one number, big-endian, in base 62.
fn base62(bytes: &[u8], chars: usize) -> String {
    let mut number = bytes.to_vec();
    let mut text = vec![0; chars];
    for place in text.iter_mut().rev() {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        *place = DIGITS[rest as usize];
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_recognised_and_an_altered_one_is_not() {
        let new = new_pat();
        let token = new.expose().to_owned();
        assert_eq!(token.len(), 4 + 43 + 6);
        assert_eq!(parse_pat(&token), Some(new.hash));
        for position in 4..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[position] = if altered[position] == b'x' { b'y' } else { b'x' };
            assert_eq!(parse_pat(std::str::from_utf8(&altered).unwrap()), None, "character {position}");
        }
        assert_eq!(parse_pat(&token[..token.len() - 1]), None);
        assert_eq!(parse_pat(&format!("{token}0")), None);
        assert_eq!(parse_pat("pat_"), None);
        let opaque = new_opaque().expose().to_owned();
        assert!(is_opaque(&opaque) && !is_opaque(&opaque[1..]) && !is_opaque(&token) && !is_opaque(&"ä".repeat(43)));
        assert_eq!(parse_pat(&token.replace("pat_", "tap_")), None);
    }

    #[test]
    fn base62_counts_like_a_number() {
        assert_eq!(base62(&[0, 61], 3), "00z");
        assert_eq!(base62(&[0, 62], 3), "010");
        assert_eq!(base62(&[0xff; 32], 43).len(), 43);
    }
}
