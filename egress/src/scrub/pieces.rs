//! A text that comes in pieces, handed on as it comes: what may be the beginning of a secret is held back until it is seen
//! whether it is one.

use super::{NESTING_MAX, Scrubber, layer::Layer, redacted, spellings};
use secrecy::{SecretString, zeroize::Zeroize};

/// What is looked at again with each piece, at most. A text that looks for longer as if a secret came, or that is written in
/// escapes without end, has nothing more of it handed on.
const KEPT_BYTES_MAX: usize = 16 << 10;
/// Escapes one after the other of which the ends may be missing. No text has as many that is meant to be read.
const UNFINISHED_MAX: usize = 32;
/// What is looked at of a large piece at a time.
const SLICE_BYTES: usize = KEPT_BYTES_MAX;
/// From so much on that is held back, it is looked at again only when it has grown by an eighth, so that all looks together cost
/// no more than a few of the longest.
const LOOKED_AT_BYTES: usize = 1 << 10;
/// The longest escape of JSON: a character that is written as two.
const ESCAPE_BYTES_MAX: usize = 12;

/// Takes secrets out of a text of which a part is there.
pub struct Pieces {
    scrubber: Scrubber,
    spellings: Vec<Vec<u8>>,
    /// What was not handed on, and before it what says how escapes in it are read.
    kept: String,
    /// Up to where it was handed on.
    handed: usize,
    /// How much there was when it was looked at last.
    looked_at: usize,
    is_given_up: bool,
}

impl Pieces {
    /// For these secrets.
    pub fn of<'s>(secrets: impl IntoIterator<Item = &'s SecretString>) -> Self {
        let spellings = spellings(secrets);
        let scrubber = Scrubber::spelled(&spellings);
        Self { scrubber, spellings, kept: String::new(), handed: 0, looked_at: 0, is_given_up: false }
    }

    /// Takes the next piece, and gives what can be handed on.
    pub fn push(&mut self, piece: &str) -> String {
        let mut given = String::new();
        let mut left = piece;
        while !left.is_empty() && !self.is_given_up {
            let (slice, further) = left.split_at(left.floor_char_boundary(SLICE_BYTES));
            given.push_str(&self.push_slice(slice));
            left = further;
        }
        given
    }

    fn push_slice(&mut self, slice: &str) -> String {
        self.kept.push_str(slice);
        if self.looked_at > LOOKED_AT_BYTES && self.kept.len() < self.looked_at + self.looked_at / 8 {
            return String::new();
        }
        let given = self.hand_on(self.settled());
        let known = self.known();
        self.kept.drain(..known);
        self.handed -= known;
        self.looked_at = self.kept.len();
        if self.kept.len() > KEPT_BYTES_MAX {
            self.is_given_up = true;
            self.kept.zeroize();
            self.handed = 0;
        }
        given
    }

    /// What is left when no more comes.
    pub fn rest(&mut self) -> String {
        let given = self.hand_on(self.kept.len());
        self.kept.clear();
        self.handed = 0;
        given
    }

    fn hand_on(&mut self, end: usize) -> String {
        let start = std::mem::replace(&mut self.handed, end);
        let mut places = self.scrubber.places(&self.kept.as_bytes()[..end]);
        places.retain(|place| place.end > start);
        places.iter_mut().for_each(|place| *place = place.start.max(start) - start..place.end - start);
        let given = redacted(&self.kept.as_bytes()[start..end], places);
        String::from_utf8_lossy(&given).into_owned()
    }

    /// How much of the beginning says nothing any more about how what follows is read: up to where no escape can reach.
    fn known(&self) -> usize {
        let escape = |end: usize| self.kept.as_bytes()[..end].iter().rposition(|byte| *byte == b'\\');
        let mut end = self.handed;
        while let Some(last) = escape(end) {
            if end - last >= ESCAPE_BYTES_MAX {
                break;
            }
            end = last;
        }
        // Between two escapes that are far from each other, and at the beginning, what follows is read as it is written.
        self.kept.floor_char_boundary(end)
    }

    /// Up to where nothing belongs to a secret of which more may come. What is there of it is whole then, so that it is found.
    fn settled(&self) -> usize {
        let text = self.kept.as_bytes();
        if self.spellings.is_empty() {
            return text.len();
        }
        let mut end = self.open(&Layer::top(text), NESTING_MAX);
        let places = self.scrubber.places(text);
        loop {
            let before = end;
            for place in &places {
                if place.contains(&end) {
                    end = place.start;
                }
            }
            end = self.kept.floor_char_boundary(end);
            if end == before {
                return end.max(self.handed);
            }
        }
    }

    /// Where the beginning of a secret stands at the end, or one of an escape that may belong to it: in the layer, and in so many
    /// under it.
    ///
    /// What an escape means is not known before it is whole, so that all is held back from where such ones begin at the end. A secret
    /// may have begun before them, and then the text before them ends with a beginning of it. That text is what others that are
    /// longer begin with, whatever the escapes come to mean: it is read, and none of the others. The time is linear in the text.
    fn open(&self, layer: &Layer, depth: usize) -> usize {
        let Some(end) = certain(&layer.bytes) else { return 0 };
        let layer = layer.first(end);
        let text = &layer.bytes;
        let begun = text.len() - self.spellings.iter().map(|it| overlap(text, it)).max().unwrap_or(0);
        let open = layer.start(begun);
        match layer.next() {
            Some(under) if depth > 0 => open.min(self.open(&under, depth - 1)),
            _ => open,
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.spellings.iter_mut().for_each(Zeroize::zeroize);
        self.kept.zeroize();
    }
}

/// How much of a spelling, but not all of it, the text ends with.
fn overlap(text: &[u8], spelling: &[u8]) -> usize {
    let most = text.len().min(spelling.len() - 1);
    (1..=most).rev().find(|length| text.ends_with(&spelling[..*length])).unwrap_or(0)
}

/// How much of a text does not depend on what comes after it: up to the escapes at its end of which the ends may be missing, one
/// of which can make others of those before it. Nothing where these are too many to be told apart.
fn certain(text: &[u8]) -> Option<usize> {
    let mut end = text.len();
    for _ in 0..UNFINISHED_MAX {
        // What ends with the mark of an escape may be in the middle of one, however many of them there are.
        end = text[..end].iter().rposition(|byte| *byte != b'\\').map_or(0, |last| last + 1);
        match unfinished_escape(&text[..end]) {
            whole if whole == end => return Some(end),
            escape => end = escape,
        }
    }
    None
}

/// Where an escape begins of which the end may be missing.
fn unfinished_escape(text: &[u8]) -> usize {
    let first = text.len().saturating_sub(ESCAPE_BYTES_MAX - 1);
    (first..text.len()).find(|at| is_unfinished(&text[*at..])).unwrap_or(text.len())
}

fn is_unfinished(text: &[u8]) -> bool {
    let Some(after) = text.strip_prefix(b"\\") else { return false };
    let Some((b'u', digits)) = after.split_first() else { return after.is_empty() };
    let (unit, low) = digits.split_at(digits.len().min(4));
    if !unit.iter().all(u8::is_ascii_hexdigit) {
        return false;
    }
    // Half of a character that is written as two.
    let is_half = || matches!(unit, [b'd' | b'D', b'8' | b'9' | b'a' | b'A' | b'b' | b'B', ..]);
    unit.len() < 4 || (is_half() && (low.is_empty() || is_unfinished(low)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrub::{
        REDACTED,
        tests::{escaped, secrets},
    };
    use proptest::{collection::vec, prelude::*};

    fn pieces(secret: &str, text: &[&str]) -> Vec<String> {
        let mut pieces = Pieces::of([&SecretString::from(secret)]);
        let mut given: Vec<String> = text.iter().map(|piece| pieces.push(piece)).collect();
        given.push(pieces.rest());
        given
    }

    #[test]
    fn what_cannot_be_a_secret_is_handed_on_at_once_and_what_can_is_held_back() {
        assert_eq!(pieces("sk-secret", &["Hello ", "Ada"]), ["Hello ", "Ada", ""]);
        assert_eq!(pieces("sk-secret", &["a sk-", "se", "cret b"]), ["a ", "", "[redacted] b", ""]);
        assert_eq!(pieces("sk-secret", &["a sk-", "sea"]), ["a ", "sk-sea", ""]);
        assert_eq!(pieces("sk-secret", &["a sk-se"]), ["a ", "sk-se"]);
        assert_eq!(pieces("sk-secret", &["sk-secret", "sk-secret"]), [REDACTED, REDACTED, ""]);
        assert_eq!(pieces("short", &["a sho", "rt"]), ["a sho", "rt", ""], "it cannot be told from text");
    }

    #[test]
    fn escapes_that_are_cut_are_held_back_too() {
        let secret = "sk/secret";
        assert_eq!(pieces(secret, &[r"x sk\", "/sec", "ret y"]), ["x ", "", "[redacted] y", ""]);
        assert_eq!(pieces(secret, &[r"x sk\u0", "02fse", "cret"]), ["x ", "", REDACTED, ""]);
        assert_eq!(pieces(secret, &[r"x sk\\u002", "fsecret"]), ["x ", REDACTED, ""]);
    }

    #[test]
    fn what_looks_like_a_secret_without_end_is_not_handed_on_and_not_kept() {
        let mut pieces = Pieces::of([&SecretString::from("aaaaaaaa")]);
        let mut given = String::new();
        for _ in 0..2 {
            given += &pieces.push(&"a".repeat(KEPT_BYTES_MAX / 2 + 1));
        }
        given += &pieces.push("b");
        assert_eq!((given.as_str(), pieces.kept.len()), ("", 0));
    }

    /// Whoever writes these has a text in which each end could be the middle of an escape.
    #[test]
    fn escapes_without_end_cost_no_more_than_their_length() {
        for escape in ["\\", "\\u", "\\ud800", "\\u005c", "\\\\u005", "a\\"] {
            let mut one_by_one = Pieces::of([&SecretString::from("sk/secret")]);
            for _ in 0..KEPT_BYTES_MAX {
                one_by_one.push(escape);
            }
            one_by_one.rest();
            let mut at_once = Pieces::of([&SecretString::from("sk/secret")]);
            at_once.push(&escape.repeat(1 << 20));
            at_once.push("x");
            at_once.rest();
            assert!(
                at_once.kept.len() <= 2 * KEPT_BYTES_MAX && at_once.kept.capacity() <= 4 * KEPT_BYTES_MAX,
                "{escape}"
            );
        }
    }

    #[test]
    fn a_text_with_many_marks_of_escapes_is_handed_on_after_them() {
        let marks = "\\".repeat(1_000);
        assert_eq!(
            pieces("sk/secret", &["a", &marks, "b sk/secret !"]),
            ["a", "", &format!("{marks}b [redacted] !"), ""]
        );
    }

    proptest! {
        // Each case looks at a text as often as it has pieces.
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn no_way_of_cutting_brings_a_secret_through(
            secret in secrets(),
            (before, after) in ("[ -~\u{e9}]{0,8}", "[ -~\u{e9}]{0,8}"),
            levels in 0..=NESTING_MAX,
            choices in vec(any::<u8>(), 1..64),
            cuts in vec(1..40_usize, 1..40),
        ) {
            let secret = secret.trim();
            prop_assume!(!REDACTED.contains(secret));
            let mut choices = choices.into_iter().cycle();
            let text = (0..levels).fold(format!("{before}{secret}{after}"), |text, _| escaped(&text, &mut choices));
            let whole = Scrubber::of([&SecretString::from(secret)]).clean(text.clone());
            let (mut pieces, mut given) = (Pieces::of([&SecretString::from(secret)]), String::new());
            let (mut rest, mut cuts) = (text.as_str(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let end = rest.char_indices().nth(cuts.next().unwrap()).map_or(rest.len(), |(at, _)| at);
                given += &pieces.push(&rest[..end]);
                rest = &rest[end..];
            }
            given += &pieces.rest();
            // Whose backslash it is that a secret ends with can be seen in two ways.
            match secret.contains('\\') {
                true => {
                    prop_assert!(given.contains(REDACTED));
                    prop_assert_eq!(Scrubber::of([&SecretString::from(secret)]).clean(given.clone()), given);
                }
                false => prop_assert_eq!(given, whole),
            }
        }
    }
}
