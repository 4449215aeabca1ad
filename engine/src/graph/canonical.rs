//! The canonical form of a graph: what is stored, and what its hash is taken of.
//!
//! Keys are sorted, there is no white space, numbers are written as they are read (`1` and `1.0` differ, as they do in Lua).
//! What execution ignores, such as the editor's `nodes` and `edges`, is no part of it: moving a box on the screen makes no
//! new version.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// The keys of a document that are part of the published graph.
pub(crate) const DOCUMENT_KEYS: [&str; 6] =
    ["name", "description", "input_schema", "params", "failure_policy", "steps"];

/// The document without what execution ignores.
pub(crate) fn essence(document: &Map<String, Value>) -> Map<String, Value> {
    let kept = document.iter().filter(|(key, _)| DOCUMENT_KEYS.contains(&key.as_str()));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The one text of a value.
pub fn canonical_text(value: &Value) -> String {
    let mut text = String::new();
    write_value(value, &mut text);
    text
}

/// SHA-256 of a text in lower-case hex.
pub fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing into a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = write!(text, "{value}");
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(item, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            // The map's own order depends on how the JSON library was built.
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|left, right| left.0.cmp(right.0));
            text.push('{');
            for (index, (name, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                let _ = write!(text, "{}:", Value::from(name.as_str()));
                write_value(member, text);
            }
            text.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_numbers_keep_their_kind() {
        let value: Value =
            serde_json::from_str(r#"{ "b": [1.0, 1, 1e2, "é\n\""], "a": { "d": null, "c": {} } }"#).unwrap();
        assert_eq!(canonical_text(&value), r#"{"a":{"c":{},"d":null},"b":[1.0,1,100.0,"é\n\""]}"#);
    }

    #[test]
    fn the_editors_keys_are_left_out() {
        let document = json!({ "steps": [], "nodes": [1], "edges": [], "tenant_id": "t", "anything": 1, "name": "n" });
        let kept = essence(document.as_object().unwrap());
        assert_eq!(Value::Object(kept), json!({ "steps": [], "name": "n" }));
    }

    #[test]
    fn the_hash_is_that_of_the_text() {
        assert_eq!(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
