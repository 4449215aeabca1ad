//! What is taken out of replies, and what is left in them.

use super::*;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use proptest::{collection::vec, prelude::*, sample::select};

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

#[test]
fn a_secret_is_taken_out_whichever_of_its_characters_json_escapes() {
    let secret = SecretString::from("sk-SECRET/KEY+12&\u{e9}\u{1f511}");
    let scrubber = Scrubber::of([&secret]);
    for written in [
        // As PHP, Go and Python write it.
        r"sk-SECRET\/KEY+12&\u00e9\ud83d\udd11",
        "sk-SECRET/KEY\\u002b12\\u0026\u{e9}\u{1f511}",
        r"sk-SECRET/KEY+12&\u00E9\uD83D\uDD11",
        // A JSON text inside a JSON text.
        r"sk-SECRET\\\/KEY\\u002b12\\u0026\\u00e9\\ud83d\\udd11",
        r"\u005cu0073k-SECRET\\/KEY+12&\u00e9\u005cuD83D\\uDD11",
        // A Markdown text inside a JSON text.
        "sk\\\\-SECRET/KEY\\\\+12&\u{e9}\u{1f511}",
    ] {
        for (before, after) in [("", ""), ("\\", ""), ("\\\\", "\\n"), ("\\ud83d", "\\"), ("C:\\Users\\", "\\u00")] {
            let whole = format!("{before} {written}{after}");
            assert_eq!(scrubber.clean(whole.clone()), format!("{before} [redacted]{after}"), "{whole}");
        }
    }
    // Base64 has a slash too. Its last digit mixes with what follows.
    let slashed = SecretString::from("???????");
    assert_eq!(Scrubber::of([&slashed]).clean(r"Pz8\/Pz8\/Pw==".into()), "[redacted]w==");
}

/// As JSON may write it inside a text, by these choices for its characters.
pub(super) fn escaped(text: &str, choices: &mut impl Iterator<Item = u8>) -> String {
    text.chars().fold(String::new(), |mut written, char| {
        let needs_escape = matches!(char, '"' | '\\') || char.is_control();
        match choices.next().unwrap() % 4 {
            0 if !needs_escape => written.push(char),
            1 if matches!(char, '/' | '"' | '\\') => written.extend(['\\', char]),
            2 => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(written, "\\u{unit:04X}").unwrap()),
            _ => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(written, "\\u{unit:04x}").unwrap()),
        }
        written
    })
}

pub(super) fn secrets() -> impl Strategy<Value = String> {
    prop_oneof!["[!-~][ -~]{4,20}[!-~]", "[!-~\\\\/\"+&<>]{6,12}", "\\PC{6,12}"]
        .prop_filter("it is long enough without its spaces", |secret| secret.trim().len() >= SECRET_BYTES_MIN)
}

/// Bytes of which many are, or are nearly, escapes.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&[u8]; 11] =
        [b"\\", b"\\\\", b"u", b"\\u", b"00", b"5c", b"\\ud83d", b"\\udd11", b"\"", b"\\u005c", "\u{1f511}".as_bytes()];
    let piece = prop_oneof![2 => select(pieces.to_vec()).prop_map(<[u8]>::to_vec), 1 => vec(any::<u8>(), 1..3)];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_choice_of_escapes_brings_a_secret_back(
        secret in secrets(),
        (before, after) in ("[ -~\u{e9}]{0,8}", "[ -~\u{e9}]{0,8}"),
        levels in 0..=NESTING_MAX,
        choices in vec(any::<u8>(), 1..64),
    ) {
        let secret = secret.trim();
        prop_assume!(!REDACTED.contains(secret));
        let whole = format!("{before}{secret}{after}");
        let mut choices = choices.into_iter().cycle();
        let written = (0..levels).fold(whole, |text, _| escaped(&text, &mut choices));
        let mut cleaned = Scrubber::of([&SecretString::from(secret)]).clean(written);
        prop_assert!(cleaned.contains(REDACTED));
        for _ in 0..levels {
            prop_assert!(!cleaned.contains(secret));
            cleaned = serde_json::from_str(&format!("\"{cleaned}\"")).unwrap();
        }
        prop_assert!(!cleaned.contains(secret));
    }

    #[test]
    fn what_holds_no_secret_stays_as_it_is(secret in secrets(), bytes in bytes()) {
        let scrubber = Scrubber::of([&SecretString::from(format!("{secret}-never"))]);
        prop_assert_eq!(scrubber.clean_bytes(bytes.clone()), bytes);
    }

    #[test]
    fn any_bytes_are_cleaned(secret in bytes(), before in bytes(), after in bytes()) {
        let secret = String::from_utf8_lossy(&secret).trim().to_owned();
        let scrubber = Scrubber::of([&SecretString::from(secret.clone())]);
        let whole = [&before[..], secret.as_bytes(), &after[..]].concat();
        let cleaned = scrubber.clean_bytes(whole.clone());
        prop_assert_eq!(cleaned != whole, secret.len() >= SECRET_BYTES_MIN);
        let _ = scrubber.clean(String::from_utf8_lossy(&whole).into_owned());
    }
}
