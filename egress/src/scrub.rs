//! Takes secrets out of what comes back: as they are, in base64, in hex and in URL encoding.
//!
//! A server that was given a secret can transform it in any way; these are the ways in which servers echo what they got
//! without meaning harm, and which an author would notice too late.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroize};
use std::fmt::Write;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";
/// A secret that is shorter cannot be told from ordinary text, and is left.
pub const SECRET_BYTES_MIN: usize = 6;

/// Knows some secrets in all their spellings.
pub struct Scrubber(Option<AhoCorasick>);

impl Scrubber {
    /// For these secrets. Its search structure holds their spellings; it lives as long as one request.
    pub fn of<'s>(secrets: impl IntoIterator<Item = &'s SecretString>) -> Self {
        let mut spellings: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            let secret = secret.expose_secret().trim();
            if secret.len() >= SECRET_BYTES_MIN {
                spell(secret, &mut spellings);
            }
        }
        if spellings.is_empty() {
            return Self(None);
        }
        let found = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&spellings);
        spellings.iter_mut().for_each(Zeroize::zeroize);
        // It fails only where the spellings are longer than its numbers go, hundreds of megabytes.
        Self(found.ok())
    }

    /// The text without them.
    pub fn clean(&self, text: String) -> String {
        match &self.0 {
            Some(found) if found.is_match(&text) => found.replace_all(&text, &vec![REDACTED; found.patterns_len()]),
            _ => text,
        }
    }

    /// The bytes without them.
    pub fn clean_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        match &self.0 {
            Some(found) if found.is_match(&bytes) => {
                found.replace_all_bytes(&bytes, &vec![REDACTED.as_bytes(); found.patterns_len()])
            }
            _ => bytes,
        }
    }
}

fn spell(secret: &str, spellings: &mut Vec<Vec<u8>>) {
    let bytes = secret.as_bytes();
    let mut add = |spelling: String| {
        if spelling.len() >= SECRET_BYTES_MIN {
            spellings.push(spelling.into_bytes());
        }
    };
    add(secret.to_owned());
    // As JSON writes it inside a text.
    let quoted = serde_json::Value::from(secret).to_string();
    add(quoted[1..quoted.len() - 1].to_owned());
    for upper in [false, true] {
        add(hex(bytes, upper));
        add(url_encoded(bytes, upper, " "));
        add(url_encoded(bytes, upper, "+"));
    }
    for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
        for shift in 0..3 {
            add(inner_base64(engine, bytes, shift));
        }
    }
}

/// The digits of base64 that are the secret's own, where `shift` bytes of something else come before it.
fn inner_base64(engine: &impl Engine, bytes: &[u8], shift: usize) -> String {
    let mut shifted = vec![0; shift];
    shifted.extend_from_slice(bytes);
    let digits = engine.encode(&shifted);
    // The first digits mix with what comes before, the last with what follows.
    let first = (8 * shift).div_ceil(6);
    let last = 8 * shifted.len() / 6;
    shifted.zeroize();
    digits[first..last.max(first)].to_owned()
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = if upper { write!(text, "{byte:02X}") } else { write!(text, "{byte:02x}") };
        text
    })
}

/// RFC 3986, 2.3: everything but letters, digits and four marks; a space as `%20` or as forms write it.
fn url_encoded(bytes: &[u8], upper: bool, space: &str) -> String {
    let mut text = String::with_capacity(3 * bytes.len());
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            b' ' if space == "+" => text.push('+'),
            _ if upper => text.push_str(&format!("%{byte:02X}")),
            _ => text.push_str(&format!("%{byte:02x}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    const SECRET: &str = "s3cr\u{e9}t/\"key\"+?? 42";

    fn cleaned(text: &str) -> String {
        let secret = SecretString::from(SECRET);
        Scrubber::of([&secret]).clean(text.to_owned())
    }

    #[test]
    fn a_secret_is_taken_out_in_each_of_its_spellings_and_the_rest_stays() {
        let quoted = serde_json::to_string(SECRET).unwrap();
        let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
        for spelling in [
            SECRET.to_owned(),
            quoted[1..quoted.len() - 1].to_owned(),
            hex(SECRET.as_bytes(), false),
            hex(SECRET.as_bytes(), true),
            encoded,
        ] {
            assert_eq!(cleaned(&format!("a {spelling} b {spelling}")), "a [redacted] b [redacted]", "{spelling}");
        }
    }

    #[test]
    fn base64_is_found_wherever_the_secret_stands_in_what_was_encoded() {
        for before in ["", "u", "us", "use", "user:"] {
            for after in ["", ".", "..", "..."] {
                for engine in [&BASE64_STANDARD, &BASE64_URL_SAFE] {
                    let encoded = engine.encode(format!("{before}{SECRET}{after}"));
                    assert!(cleaned(&encoded).contains(REDACTED), "{before:?} {after:?}: {encoded}");
                }
            }
        }
    }

    #[test]
    fn what_is_too_short_to_be_told_from_text_is_left() {
        let short = SecretString::from("abc");
        assert_eq!(Scrubber::of([&short]).clean("abc".into()), "abc");
        assert_eq!(Scrubber::of([]).clean("abc".into()), "abc");
    }
}
