//! Takes secrets out of what comes back: as they are, in lower case, in base64, in hex and in URL encoding, each of these however
//! JSON writes it.
//!
//! A server that was given a secret can transform it in any way; these are the ways in which servers echo what they got
//! without meaning harm, and which an author would notice too late.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use layer::Layer;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroize};
use std::{fmt::Write, ops::Range};

mod layer;
mod pieces;

pub use pieces::Pieces;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";
/// A secret that is shorter cannot be told from ordinary text, and is left.
pub const SECRET_BYTES_MIN: usize = 6;
/// How often what comes back is read as JSON: a tool gives a JSON text inside the JSON text of its server, and its result
/// is cleaned once more as JSON.
const NESTING_MAX: usize = 3;

/// Knows some secrets in all their spellings.
pub struct Scrubber(Option<AhoCorasick>);

impl Scrubber {
    /// For these secrets. Its search structure holds their spellings; it lives as long as one request.
    pub fn of<'s>(secrets: impl IntoIterator<Item = &'s SecretString>) -> Self {
        let mut spellings = spellings(secrets);
        let scrubber = Self::spelled(&spellings);
        spellings.iter_mut().for_each(Zeroize::zeroize);
        scrubber
    }

    fn spelled(spellings: &[Vec<u8>]) -> Self {
        if spellings.is_empty() {
            return Self(None);
        }
        // Of its kinds this one is made in a moment also for long secrets, and searches in linear time for any; what looks
        // ahead for beginnings of them, to be faster in ordinary text, does not.
        let kind = Some(AhoCorasickKind::ContiguousNFA);
        let found = AhoCorasick::builder().kind(kind).prefilter(false).build(spellings);
        // It fails only where the spellings are longer than its numbers go, hundreds of megabytes.
        Self(found.ok())
    }

    /// The text without them.
    pub fn clean(&self, text: String) -> String {
        match self.cleaned(text.as_bytes()) {
            // They are whole characters, so that what is left is text.
            Some(cleaned) => String::from_utf8_lossy(&cleaned).into_owned(),
            None => text,
        }
    }

    /// The bytes without them.
    pub fn clean_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.cleaned(&bytes).unwrap_or(bytes)
    }

    /// What is left, where there was one of them.
    fn cleaned(&self, text: &[u8]) -> Option<Vec<u8>> {
        let places = self.places(text);
        (!places.is_empty()).then(|| redacted(text, places))
    }

    /// Where they are.
    ///
    /// A server may write each character of a JSON text as itself or as an escape, and whoever decodes it has the secret again.
    /// So it is looked for in what the text means, too, and what was written for it is taken out.
    ///
    /// The time is linear in the length of the text, but for putting the places in order: it and up to [`NESTING_MAX`] layers,
    /// none longer than the one above it, are read once to decode and once to search. A search for all matches never goes
    /// back in the text, as one for the longest would after each, and finds at one place at most one match of each spelling.
    /// A text without a backslash has no layers.
    fn places(&self, text: &[u8]) -> Vec<Range<usize>> {
        let Some(found) = &self.0 else { return Vec::new() };
        let mut places = Vec::new();
        for secret in found.find_overlapping_iter(text) {
            add(&mut places, secret.range());
        }
        let mut layer = Layer::under(text);
        for _ in 0..NESTING_MAX {
            let Some(read) = layer else { break };
            let mut further = Vec::new();
            for secret in found.find_overlapping_iter(&read.bytes) {
                add(&mut further, read.start(secret.start())..read.start(secret.end()));
            }
            places.append(&mut further);
            layer = read.next();
        }
        places
    }
}

/// Adds a place to those of the same layer, which end no later than it does. Those that it overlaps become part of it, so that
/// they stay few.
fn add(places: &mut Vec<Range<usize>>, mut place: Range<usize>) {
    while let Some(before) = places.pop_if(|before| before.end > place.start) {
        place.start = place.start.min(before.start);
    }
    places.push(place);
}

/// The text with these places replaced. Those that overlap are one: layers see the same secret, with or without its last
/// backslash.
fn redacted(text: &[u8], mut places: Vec<Range<usize>>) -> Vec<u8> {
    places.sort_unstable_by_key(|place| place.start);
    let mut cleaned = Vec::with_capacity(text.len());
    let mut end = 0;
    for place in places {
        if place.start >= end {
            cleaned.extend_from_slice(&text[end..place.start]);
            cleaned.extend_from_slice(REDACTED.as_bytes());
        }
        end = end.max(place.end);
    }
    cleaned.extend_from_slice(&text[end..]);
    cleaned
}

/// All spellings of these secrets. Whoever has them wipes them.
fn spellings<'s>(secrets: impl IntoIterator<Item = &'s SecretString>) -> Vec<Vec<u8>> {
    let mut spellings = Vec::new();
    for secret in secrets {
        let secret = secret.expose_secret().trim();
        if secret.len() >= SECRET_BYTES_MIN {
            spell(secret, &mut spellings);
        }
    }
    spellings
}

fn spell(secret: &str, spellings: &mut Vec<Vec<u8>>) {
    let bytes = secret.as_bytes();
    let mut add = |spelling: String| {
        if spelling.len() >= SECRET_BYTES_MIN {
            spellings.push(spelling.into_bytes());
        }
    };
    add(secret.to_owned());
    // As names of hosts and of headers are read, whatever a server wrote.
    add(secret.to_ascii_lowercase());
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
mod tests;
