//! What a text means to who decodes it as JSON: its escapes read, and from where in it each byte came.
//!
//! It is no parser of JSON. Escapes are read wherever they stand, since what comes back may be no JSON as a whole, or break off.

use std::iter;

/// A text with one or more levels of escapes read.
pub(super) struct Layer {
    /// What it means.
    pub(super) bytes: Vec<u8>,
    /// Where in the text at the top each of these bytes begins, and where the last one ends. All bytes of a character
    /// that was an escape begin where the escape does.
    starts: Vec<usize>,
}

impl Layer {
    /// What this text means; nothing where it has no escapes.
    pub(super) fn under(text: &[u8]) -> Option<Self> {
        Self::read(text, |at| at)
    }

    /// The text itself, none of its escapes read.
    pub(super) fn top(text: &[u8]) -> Self {
        Self { bytes: text.to_vec(), starts: (0..=text.len()).collect() }
    }

    /// Only so many of the bytes.
    pub(super) fn first(&self, bytes: usize) -> Self {
        Self { bytes: self.bytes[..bytes].to_vec(), starts: self.starts[..=bytes].to_vec() }
    }

    /// What this one means in turn, as a text of JSON inside a text of JSON does.
    pub(super) fn next(&self) -> Option<Self> {
        Self::read(&self.bytes, |at| self.starts[at])
    }

    /// Where in the text at the top this place is.
    pub(super) fn start(&self, at: usize) -> usize {
        self.starts[at]
    }

    fn read(text: &[u8], start: impl Fn(usize) -> usize) -> Option<Self> {
        let first = text.iter().position(|byte| *byte == b'\\')?;
        let mut bytes = text[..first].to_vec();
        let mut starts: Vec<usize> = (0..first).map(&start).collect();
        let mut at = first;
        while at < text.len() {
            let length = match escape(&text[at..]) {
                Some((meant, length)) => {
                    bytes.extend_from_slice(meant.encode_utf8(&mut [0; 4]).as_bytes());
                    length
                }
                None => {
                    bytes.push(text[at]);
                    1
                }
            };
            starts.resize(bytes.len(), start(at));
            at += length;
        }
        starts.push(start(at));
        // An escape is longer than what it means.
        (bytes.len() < text.len()).then_some(Self { bytes, starts })
    }
}

/// The character that an escape at the beginning of this text means, and the escape's length.
fn escape(text: &[u8]) -> Option<(char, usize)> {
    let [b'\\', kind, ..] = text else { return None };
    let meant = match kind {
        b'u' => {
            // A character beyond the first 65536 is two escapes. Half of one means nothing.
            let units = iter::once(unit(text)?).chain(text.get(6..).and_then(unit));
            let meant = char::decode_utf16(units).next()?.ok()?;
            return Some((meant, 6 * meant.len_utf16()));
        }
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        // JSON escapes three of the marks; Markdown and lenient writers of JSON escape others too.
        mark if mark.is_ascii_punctuation() => char::from(*mark),
        _ => return None,
    };
    Some((meant, 2))
}

/// The number that `\uXXXX` at the beginning of this text is.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?))
}
