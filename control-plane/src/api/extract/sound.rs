//! Whether all of a JSON text can be read into memory later: no number too large, no half of a character, not nested too deep.
//!
//! What callers send as theirs is kept as text until somebody looks into it, and the parser that skips over it takes more
//! than the one that reads it. This reads all and keeps nothing.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::fmt;

/// The members of bodies that operations read whole before they keep them, and refuse in their own way.
const READ_AT_ONCE: [&str; 2] = ["graph", "run_setup"];

/// What a reader says about the first place of a body, an object, that cannot be read.
pub(super) fn check(text: &str) -> Result<(), serde_path_to_error::Error<serde_json::Error>> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text)).map(|SoundBody| ())
}

/// A body whose members were read.
struct SoundBody;

impl<'de> Deserialize<'de> for SoundBody {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(BodyReader)
    }
}

struct BodyReader;

impl<'de> Visitor<'de> for BodyReader {
    type Value = SoundBody;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<SoundBody, A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            match READ_AT_ONCE.contains(&name.as_str()) {
                true => members.next_value::<IgnoredAny>().map(drop)?,
                false => members.next_value::<Sound>().map(drop)?,
            }
        }
        Ok(SoundBody)
    }
}

/// Something that was read, and is forgotten.
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Sound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_str<E>(self, _: &str) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Sound, A::Error> {
        while items.next_element::<Sound>()?.is_some() {}
        Ok(Sound)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Sound, A::Error> {
        while members.next_entry::<Sound, Sound>()?.is_some() {}
        Ok(Sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn what_is_sound_can_be_read_and_nothing_else() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let values = [
            r#"{"a":[1,-2,3.5e300,true,null,"\u00e4\ud83d\ude00"],"":{}}"#,
            "18446744073709551616",
            "1e999",
            r#"{"a":[{"b":-1e999}]}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"\udc00":1}"#,
            &deep(126),
            &deep(127),
            &deep(10_000),
        ];
        for value in values {
            let body = format!(r#"{{"value":{value}}}"#);
            assert_eq!(check(&body).is_ok(), serde_json::from_str::<Value>(&body).is_ok(), "{value}");
            assert!(check(&format!(r#"{{"graph":{value}}}"#)).is_ok(), "{value}");
        }
    }

    #[test]
    fn what_is_not_is_told_with_its_place() {
        let error = check(r#"{"params":{"trigger_payload":{"a":[1,1e999]}}}"#).unwrap_err();
        assert_eq!(error.path().to_string(), "params.trigger_payload.a[1]");
    }
}
