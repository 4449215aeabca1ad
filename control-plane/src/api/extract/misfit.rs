//! Why what was sent does not fit: the place, and a sentence of ours.
//!
//! serde speaks to who writes programs with it: it names our types, and repeats values, which may be secrets. So its messages
//! are read here, once, and told anew. Never decides whether something fits.

use agentruntime_engine::graph::nearest;

/// The longest place or word that a sentence repeats, in characters: they are the sender's.
const SHOWN_CHARS_MAX: usize = 120;

/// Why something does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// Where: `steps[2].name`; nothing for the whole of it.
    pub(super) place: Option<String>,
    /// What is wrong there, and what would be right.
    pub(super) reason: String,
}

impl Misfit {
    /// What serde said about a place.
    pub(super) fn told(path: &serde_path_to_error::Path, message: &str) -> Self {
        let path = path.to_string();
        let place = if path == "." { String::new() } else { path };
        if let Some(field) = quoted(message, "missing field ") {
            return Self::at(joined(&place, field), "it is missing");
        }
        if let Some(field) = quoted(message, "duplicate field ") {
            return Self::at(joined(&place, field), "it stands there twice");
        }
        Self::at(place, &reason(message))
    }

    /// The whole is of another kind than an object; `text` is how it begins.
    pub(super) fn no_object(text: &str) -> Self {
        let found = match text.as_bytes().first() {
            Some(b'[') => "a list",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        };
        Self::at(String::new(), &format!("it is {found}, and should be an object"))
    }

    /// A text holds U+0000.
    pub(super) fn nul(place: String) -> Self {
        Self::at(place, "its text holds the character U+0000, which cannot be kept; leave it out")
    }

    /// The same as a part of something larger.
    pub(super) fn within(self, name: &str) -> Self {
        let place = self.place.map_or_else(|| name.to_owned(), |place| joined(name, &place));
        Self { place: Some(place), ..self }
    }

    fn at(place: String, reason: &str) -> Self {
        let place = shown(&place);
        Self { place: (!place.is_empty()).then_some(place), reason: reason.to_owned() }
    }

    /// The sentence; `whole` is what is meant where no place within it is.
    pub(super) fn sentence(&self, whole: &str) -> String {
        match &self.place {
            Some(place) => format!("`{place}`: {}", self.reason),
            None => format!("{whole}: {}", self.reason),
        }
    }
}

fn joined(place: &str, field: &str) -> String {
    if place.is_empty() { field.to_owned() } else { format!("{place}.{field}") }
}

/// Short enough to be read, and without what no log and no terminal should get.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.replace(char::is_control, "\u{fffd}")
}

/// The name between the first backtick and the next, behind these words.
fn quoted<'m>(message: &'m str, words: &str) -> Option<&'m str> {
    message.strip_prefix(words)?.strip_prefix('`')?.split('`').next()
}

fn reason(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        return unknown(rest, |_| "it is not known".to_owned(), "what can stand here is");
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        return unknown(rest, |name| format!("`{name}` is not known"), "it is one of");
    }
    if let Some((found, wanted)) = message.strip_prefix("invalid type: ").and_then(expected) {
        return format!("it is {}, and should be {}", kind(found), wish(wanted));
    }
    let value = message.strip_prefix("invalid value: ").or(message.strip_prefix("invalid length "));
    if let Some((_, wanted)) = value.and_then(expected) {
        return format!("it should be {}", wish(wanted));
    }
    other(message)
}

/// The last `, expected ` parts them: what was found may hold any text.
fn expected(rest: &str) -> Option<(&str, &str)> {
    rest.rsplit_once(", expected ")
}

/// A name that is not known, and those that are.
fn unknown(rest: &str, says: impl Fn(&str) -> String, known: &str) -> String {
    let (name, candidates) =
        rest.rsplit_once("`, expected ").unwrap_or((rest.trim_end_matches("`, there are no fields"), ""));
    // Names of ours are all that is between backticks there.
    let candidates: Vec<&str> = candidates.split('`').skip(1).step_by(2).collect();
    let says = says(&shown(name));
    match (nearest(name, candidates.iter().copied()), candidates.as_slice()) {
        (Some(nearest), _) => format!("{says}; did you mean `{nearest}`?"),
        (None, []) => format!("{says}; leave it out"),
        (None, all) => format!("{says}; {known} `{}`", all.join("`, `")),
    }
}

/// What was found, without the value: it may be a secret.
fn kind(found: &str) -> &'static str {
    match found.split([' ', ',']).next().unwrap_or_default() {
        "string" | "character" => "a string",
        "integer" | "floating" => "a number",
        "boolean" => "a boolean",
        "null" | "unit" => "null",
        "sequence" => "a list",
        "map" => "an object",
        _ => "something else",
    }
}

/// What was wanted, in the words of JSON.
fn wish(wanted: &str) -> String {
    match wanted {
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "a list".to_owned(),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, not below 0".to_owned(),
        "i32" | "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a string" | "a borrowed string" | "string or map" => "a string".to_owned(),
        _ if wanted.contains("UUID") => "a UUID".to_owned(),
        _ if wanted.contains("map") || wanted.starts_with("struct ") => "an object".to_owned(),
        other => other.to_owned(),
    }
}

/// What is no sentence of serde's own: of parsers, and of types of ours, which speak for themselves.
fn other(message: &str) -> String {
    let says = match message {
        "expected value" => "it has a type that cannot stand here",
        "invalid digit found in string" | "cannot parse integer from empty string" => "it should be a whole number",
        "number too large to fit in target type" | "number out of range" => "the number is too large",
        "provided string was not `true` or `false`" => "it should be `true` or `false`",
        _ if message.starts_with("UUID parsing failed") => "it should be a UUID",
        _ if message.starts_with("recursion limit") => "it is nested more than 127 deep",
        _ if message.contains("surrogate") || message.contains("hex escape") => {
            "its text holds half of a surrogate pair (`\\ud800` to `\\udfff`), which is no character"
        }
        _ => message,
    };
    says.to_owned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};
    use uuid::Uuid;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Sent {
        name: String,
        #[serde(default)]
        visibility: Visibility,
        count: Option<u32>,
        flag: Option<bool>,
        id: Option<Uuid>,
        inner: Option<Vec<Inner>>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Visibility {
        #[default]
        Public,
        Private,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Inner {
        trigger_payload: Value,
    }

    #[track_caller]
    fn check(sent: &Value, sentence: &str) {
        let text = sent.to_string();
        let error = crate::api::extract::json::<Sent>(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), sentence);
    }

    #[test]
    fn a_name_that_is_not_known_meets_the_nearest_that_is() {
        check(&json!({ "name": "x", "visibilty": 1 }), "`visibilty`: it is not known; did you mean `visibility`?");
        check(
            &json!({ "private": true }),
            "`private`: it is not known; what can stand here is `name`, `visibility`, `count`, `flag`, `id`, `inner`",
        );
        check(
            &json!({ "name": "x", "inner": [{ "trigger_paylod": 1 }] }),
            "`inner[0].trigger_paylod`: it is not known; did you mean `trigger_payload`?",
        );
        check(
            &json!({ "name": "x", "visibility": "privat" }),
            "`visibility`: `privat` is not known; did you mean `private`?",
        );
        check(
            &json!({ "a`, expected `b": 1 }),
            "`a`, expected `b`: it is not known; what can stand here is `name`, `visibility`, `count`, `flag`, `id`, `inner`",
        );
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_told_with_its_place_and_without_its_value() {
        check(&json!({}), "`name`: it is missing");
        check(&json!({ "name": "x", "inner": [{}] }), "`inner[0].trigger_payload`: it is missing");
        check(&json!({ "name": 42 }), "`name`: it is a number, and should be a string");
        check(
            &json!({ "name": "x", "flag": "s3cret, expected" }),
            "`flag`: it is a string, and should be `true` or `false`",
        );
        check(&json!({ "name": "x", "count": -1 }), "`count`: it should be a whole number from 0 to 4294967295");
        check(&json!({ "name": "x", "inner": {} }), "`inner`: it is an object, and should be a list");
        check(&json!({ "name": "x", "inner": [null] }), "`inner[0]`: it is null, and should be an object");
        check(&json!({ "name": "x", "visibility": 5 }), "`visibility`: it has a type that cannot stand here");
        check(&json!({ "name": "x", "id": "here" }), "`id`: it should be a UUID");
        check(&json!(["x"]), "the body: it is a list, and should be an object");
    }
}
