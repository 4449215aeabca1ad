//! U+0000 in what was sent: JSON can write it, and PostgreSQL keeps no text that holds it.
//!
//! What runs read and give and what people write at length is kept as JSON, where the character stays an escape; so it may hold
//! it. Anything else is refused before it gets anywhere.

use serde_json::Value;

/// The members of bodies that are kept as JSON: what runs are started with, what people answer, and what they write of
/// workflows and versions.
const KEPT_AS_JSON: [&str; 4] = ["changelog", "description", "params", "result"];

/// The first place of a body that holds the character and must not; nothing where the text is no JSON.
pub(super) fn place(text: &str) -> Option<String> {
    // Almost no body has one, and then nothing is read twice.
    if !text.contains("\\u0000") {
        return None;
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else { return None };
    match &value {
        Value::Object(members) => {
            members.iter().filter(|(name, _)| !KEPT_AS_JSON.contains(&name.as_str())).find_map(|it| in_member(it, ""))
        }
        other => within(other, ""),
    }
}

fn within(value: &Value, place: &str) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(|| place.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| within(item, &format!("{place}[{index}]")))
        }
        Value::Object(members) => members.iter().find_map(|it| in_member(it, place)),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn in_member((name, value): (&String, &Value), parent: &str) -> Option<String> {
    let place = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
    if name.contains('\0') { Some(place) } else { within(value, &place) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_character_is_found_wherever_it_is() {
        let found = |text: &str| place(text);
        assert_eq!(found(r#"{"name":"a\u0000b"}"#).as_deref(), Some("name"));
        assert_eq!(found(r#"{"a":{"b":[1,{"c":"\u0000"}]}}"#).as_deref(), Some("a.b[1].c"));
        assert_eq!(found(r#"{"a":{"b\u0000":1}}"#).as_deref(), Some("a.b\0"));
        assert_eq!(found(r#"["\u0000"]"#).as_deref(), Some("[0]"));
    }

    #[test]
    fn its_spelling_and_the_data_of_runs_are_left_alone() {
        assert_eq!(place(r#"{"script":"return '\\u0000'"}"#), None);
        assert_eq!(place(r#"{"params":{"a":"\u0000"},"result":["\u0000"]}"#), None);
        assert_eq!(place(r#"{"x":{"params":"\u0000"}}"#).as_deref(), Some("x.params"));
    }
}
