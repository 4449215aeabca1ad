//! Vectors: what is signed as it should be, and everything that is not.

use super::*;
use axum::http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use standardwebhooks::Webhook;

const NOW: i64 = 1_767_225_600;
const BODY: &[u8] = br#"{"order": 7}"#;

fn secret(byte: u8) -> SigningSecret {
    SigningSecret::of(SecretString::from(format!("whsec_{}", BASE64_STANDARD.encode([byte; 32]))))
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

/// Our signature, made in another way than `verify` does.
fn sha256(secret: &SigningSecret, text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.text().expose_secret().as_bytes()).unwrap();
    mac.update(text);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

fn timed(secret: &SigningSecret, at: i64, body: &[u8]) -> String {
    sha256(secret, &[format!("{at}.").as_bytes(), body].concat())
}

fn checked_at(now_us: i64, headers: &HeaderMap, body: &[u8]) -> Result<Signed, NotSigned> {
    let current = secret(1);
    verify(&Secrets { current: &current, previous: None }, headers, body, Timestamp::from_micros(now_us))
}

fn checked(pairs: &[(&str, &str)], body: &[u8]) -> Result<Signed, NotSigned> {
    checked_at(NOW * 1_000_000, &headers(pairs), body)
}

/// What our signature says alone.
fn signed(at: Option<&str>) -> Signed {
    Signed { ours: Some(Ours { at: at.map(str::to_owned) }), id: None }
}

#[test]
fn a_signed_body_is_taken_and_an_altered_one_is_not() {
    let signature = sha256(&secret(1), BODY);
    assert_eq!(checked(&[(SIGNATURE, &signature)], BODY), Ok(signed(None)));
    assert_eq!(checked(&[(SIGNATURE, &signature.to_uppercase().replace("SHA256", "sha256"))], BODY), Ok(signed(None)));
    for position in 0..BODY.len() * 8 {
        let mut altered = BODY.to_vec();
        altered[position / 8] ^= 1 << (position % 8);
        assert_eq!(checked(&[(SIGNATURE, &signature)], &altered), Err(NotSigned), "bit {position}");
    }
    assert_eq!(checked(&[(SIGNATURE, &sha256(&secret(2), BODY))], BODY), Err(NotSigned));
}

#[test]
fn an_altered_or_missing_signature_is_refused() {
    let signature = sha256(&secret(1), BODY);
    let bytes = unhex(&signature["sha256=".len()..]).unwrap();
    for position in 0..bytes.len() * 8 {
        let mut altered = bytes.clone();
        altered[position / 8] ^= 1 << (position % 8);
        let altered: String = altered.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(checked(&[(SIGNATURE, &format!("sha256={altered}"))], BODY), Err(NotSigned), "bit {position}");
    }
    assert_eq!(checked(&[], BODY), Err(NotSigned));
    let bare = &signature["sha256=".len()..];
    for wrong in ["", "sha256=", bare, &signature[..signature.len() - 1], &signature[..signature.len() - 2], "sha256=é"]
    {
        assert_eq!(checked(&[(SIGNATURE, wrong)], BODY), Err(NotSigned), "{wrong}");
    }
    // Twice is not once.
    assert_eq!(checked(&[(SIGNATURE, &signature), (SIGNATURE, &signature)], BODY), Err(NotSigned));
}

#[test]
fn a_signed_time_is_near_to_the_very_edge() {
    let at_distance = |seconds: i64, micros: i64| {
        let (at, current) = ((NOW + seconds).to_string(), secret(1));
        let headers = headers(&[(SIGNATURE, &timed(&current, NOW + seconds, BODY)), (TIMESTAMP, &at)]);
        checked_at(NOW * 1_000_000 + micros, &headers, BODY).map(|found| found == signed(Some(&at)))
    };
    for seconds in [0, 299, 300, -299, -300] {
        assert_eq!(at_distance(seconds, 0), Ok(true), "{seconds}");
    }
    for (seconds, micros) in [(301, 0), (-301, 0), (-300, 1), (300, -1)] {
        assert_eq!(at_distance(seconds, micros), Err(NotSigned), "{seconds} s and {micros} µs");
    }
}

#[test]
fn a_time_that_is_not_signed_counts_for_nothing() {
    let (current, at) = (secret(1), NOW.to_string());
    let bare = sha256(&current, BODY);
    // Added to a signature that is not over it, or changed, or taken away.
    assert_eq!(checked(&[(SIGNATURE, &bare), (TIMESTAMP, &at)], BODY), Err(NotSigned));
    let dated = timed(&current, NOW, BODY);
    assert_eq!(checked(&[(SIGNATURE, &dated), (TIMESTAMP, &(NOW + 1).to_string())], BODY), Err(NotSigned));
    assert_eq!(checked(&[(SIGNATURE, &dated)], BODY), Err(NotSigned));
    // The other family's time is not what ours signs.
    assert_eq!(checked(&[(SIGNATURE, &bare), (STANDARD_TIMESTAMP, &at)], BODY), Ok(signed(None)));
    for odd in ["", "+1", "-1", "1e9", " 1", "99999999999999999999"] {
        let text = [odd.as_bytes(), b".", BODY].concat();
        let pairs = [(SIGNATURE, sha256(&current, &text)), (TIMESTAMP, odd.to_owned())];
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(checked(&pairs, BODY), Err(NotSigned), "{odd}");
    }
}

#[test]
fn a_time_and_a_number_can_be_mistaken_for_a_number_and_nothing_else_can() {
    for number in ["5", "0", "-1", "1767225600.5", " 7", "\n\t-2e3"] {
        assert!(is_number(number.as_bytes()), "{number}");
    }
    for other in ["", "{}", "[5]", "\"5\"", "null", "true", " {\"a\": 5}"] {
        assert!(!is_number(other.as_bytes()), "{other}");
        // So that none of them behind a time is JSON again.
        let behind = format!("{NOW}.{other}");
        assert!(other.is_empty() || serde_json::from_str::<serde_json::Value>(&behind).is_err(), "{behind}");
    }
}

#[test]
fn standard_webhooks_are_taken_as_their_own_library_signs_them() {
    let library = |secret: &SigningSecret| Webhook::new(secret.text().expose_secret()).unwrap();
    let (at, signature) = (NOW.to_string(), library(&secret(1)).sign("msg_1", NOW, BODY).unwrap());
    let check = |id: &str, at: &str, signature: &str, body: &[u8]| {
        checked(&[(STANDARD_ID, id), (STANDARD_TIMESTAMP, at), (STANDARD_SIGNATURE, signature)], body)
    };
    let taken = Signed { ours: None, id: Some("msg_1".into()) };
    assert_eq!(check("msg_1", &at, &signature, BODY), Ok(taken.clone()));
    // One of several: other versions, other keys.
    let other = library(&secret(2)).sign("msg_1", NOW, BODY).unwrap();
    assert_eq!(check("msg_1", &at, &format!("v1a,x {other} {signature}"), BODY), Ok(taken));
    let wrong = [
        check("msg_2", &at, &signature, BODY),
        check("msg_1", &(NOW + 1).to_string(), &signature, BODY),
        check("msg_1", &at, &other, BODY),
        check("msg_1", &at, &signature.replace("v1,", "v2,"), BODY),
        check("msg_1", &at, "", BODY),
        check("msg_1", &at, &signature, b"{}"),
        checked(&[(STANDARD_ID, "msg_1"), (STANDARD_SIGNATURE, &signature)], BODY),
        checked(&[(STANDARD_TIMESTAMP, &at), (STANDARD_SIGNATURE, &signature)], BODY),
    ];
    assert!(wrong.iter().all(Result::is_err), "{wrong:?}");
    let (old, dotted) = (NOW - 301, library(&secret(1)).sign("msg.1", NOW, BODY).unwrap());
    let stale = library(&secret(1)).sign("msg_1", old, BODY).unwrap();
    assert_eq!(check("msg_1", &old.to_string(), &stale, BODY), Err(NotSigned));
    assert_eq!(check("msg.1", &at, &dotted, BODY), Err(NotSigned));
}

#[test]
fn of_two_families_both_have_to_be_right() {
    let (current, at) = (secret(1), NOW.to_string());
    let ours = sha256(&current, BODY);
    let standard = Webhook::new(current.text().expose_secret()).unwrap().sign("m", NOW, BODY).unwrap();
    let pairs = |ours: &str, standard: &str| {
        let pairs = [(SIGNATURE, ours), (STANDARD_ID, "m"), (STANDARD_TIMESTAMP, &at), (STANDARD_SIGNATURE, standard)];
        checked(&pairs, BODY)
    };
    assert_eq!(pairs(&ours, &standard), Ok(Signed { id: Some("m".into()), ..signed(None) }));
    assert_eq!(pairs(&sha256(&secret(2), BODY), &standard), Err(NotSigned));
    assert_eq!(pairs(&ours, "v1,AAAA"), Err(NotSigned));
}

#[test]
fn the_secret_before_is_taken_while_it_is_given() {
    let (current, previous) = (secret(2), secret(1));
    let headers = headers(&[(SIGNATURE, &sha256(&previous, BODY))]);
    let now = Timestamp::from_micros(NOW * 1_000_000);
    let check =
        |previous: Option<&SigningSecret>| verify(&Secrets { current: &current, previous }, &headers, BODY, now);
    assert_eq!(check(Some(&previous)), Ok(signed(None)));
    assert_eq!(check(None), Err(NotSigned));
}
