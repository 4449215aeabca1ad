//! On which terms a tool may be called: with which arguments, and whether a person is asked.
//!
//! Owns the form of terms and which are wider than which. Never checks by a rule, and never asks: the engine does both.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::{collections::BTreeMap, fmt, ops::Not};

/// On which terms a tool may be called. The default is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// What the arguments of each call must satisfy, beside the tool's own schema.
    #[serde(rename = "arguments", skip_serializing_if = "Option::is_none")]
    pub rule: Option<ArgumentRule>,
    /// Whether a person is asked before each call.
    #[serde(deserialize_with = "flag", skip_serializing_if = "Not::not")]
    pub requires_approval: bool,
}

/// A JSON Schema that the arguments of calls must satisfy, in one spelling. Whoever checks by it reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArgumentRule(String);

impl Terms {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every call that keeps the other terms keeps these as well, as far as can be told without knowing the rules.
    pub fn allow(&self, other: &Self) -> bool {
        (self.rule.is_none() || self.rule == other.rule) && (!self.requires_approval || other.requires_approval)
    }
}

impl ArgumentRule {
    /// The rule that a schema is.
    pub fn of(schema: &Value) -> Self {
        let mut text = String::new();
        write_sorted(schema, &mut text);
        Self(text)
    }

    /// The schema.
    pub fn schema(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

/// A value with its keys in their order: the map's own depends on how the JSON library was built.
fn write_sorted(value: &Value, text: &mut String) {
    let listed = |open: char, parts: Vec<String>, close: char| format!("{open}{}{close}", parts.join(","));
    let one = |value: &Value| {
        let mut text = String::new();
        write_sorted(value, &mut text);
        text
    };
    *text += &match value {
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            let member = |(name, value): (&String, &Value)| format!("{}:{}", Value::from(name.as_str()), one(value));
            listed('{', sorted.into_iter().map(member).collect(), '}')
        }
        Value::Array(items) => listed('[', items.iter().map(one).collect(), ']'),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    };
}

/// Null is taken as absent, as editors write it.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = &self.rule {
            write!(f, ", with arguments that satisfy {rule}")?;
        }
        match self.requires_approval {
            true => f.write_str(", each call approved by a person"),
            false => Ok(()),
        }
    }
}

impl fmt::Display for ArgumentRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ArgumentRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.schema().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ArgumentRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|schema| Self::of(&schema))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Grants;
    use std::collections::BTreeSet;

    fn tools(listed: Value) -> Grants {
        serde_json::from_value(serde_json::json!({ "tools": listed })).unwrap()
    }

    #[test]
    fn terms_that_go_widen_and_terms_that_come_narrow() {
        let rule = serde_json::json!({ "properties": { "n": { "maximum": 5 } }, "additionalProperties": false });
        let entry = |more: Value| {
            let mut entry = serde_json::json!({ "instance_id": "i", "tools": ["t"] });
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            tools(serde_json::json!([entry]))
        };
        let free = entry(serde_json::json!({ "arguments": null, "requires_approval": null }));
        let ruled = entry(serde_json::json!({ "arguments": rule }));
        let asked = entry(serde_json::json!({ "requires_approval": true }));
        let both = entry(serde_json::json!({ "arguments": rule, "requires_approval": true }));
        let other = entry(serde_json::json!({ "arguments": { "properties": { "n": { "maximum": 6 } } } }));
        let plain = BTreeSet::from(["tool `t` of instance `i`".to_owned()]);
        for narrower in [&ruled, &asked, &both] {
            assert!(narrower.beyond(&free).is_empty());
            assert_eq!(free.beyond(narrower), plain);
        }
        assert!(both.beyond(&ruled).is_empty() && both.beyond(&asked).is_empty());
        let written = "tool `t` of instance `i`, with arguments that satisfy \
            {\"additionalProperties\":false,\"properties\":{\"n\":{\"maximum\":5}}}";
        assert_eq!(
            ruled.beyond(&other),
            BTreeSet::from([written.to_owned()]),
            "which of two rules is wider nobody knows"
        );
        assert_eq!(ruled.beyond(&both), BTreeSet::from([written.to_owned()]));
        assert_eq!(
            asked.beyond(&both),
            BTreeSet::from(["tool `t` of instance `i`, each call approved by a person".to_owned()])
        );
        assert!(both.asks() && !ruled.asks());
    }

    #[test]
    fn a_rule_has_one_spelling() {
        let rule = |text: &str| ArgumentRule::of(&serde_json::from_str(text).unwrap());
        let (one, other) = (
            rule(r#"{ "b": [1, {}], "a": { "d": null, "c": "\u00e9" } }"#),
            rule(r#"{"a":{"c":"é","d":null},"b":[1,{}]}"#),
        );
        assert_eq!(one, other);
        assert_eq!(one.to_string(), r#"{"a":{"c":"é","d":null},"b":[1,{}]}"#);
        assert_eq!(ArgumentRule::of(&one.schema()), one);
    }
}
