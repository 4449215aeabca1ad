//! JSON kept as the text it arrived as.
//!
//! Results travel from a step to the journal and on into the next step's scope without being parsed on the way: what
//! is not read costs nothing, and no digit or key order is lost.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use std::{fmt, sync::Arc};

/// One valid JSON document as text. Cloning shares it.
#[derive(Clone)]
pub struct Json(Arc<RawValue>);

/// The text is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("not valid JSON: {0}")]
pub struct JsonError(#[from] serde_json::Error);

impl Json {
    /// Checks that the text is one JSON document and keeps it.
    pub fn parse(text: impl Into<String>) -> Result<Self, JsonError> {
        Ok(Self(RawValue::from_string(text.into())?.into()))
    }

    /// The JSON form of a value.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        Ok(Self(serde_json::value::to_raw_value(value)?.into()))
    }

    /// The JSON form of a parsed document, which always has one.
    pub fn of_value(value: &Value) -> Self {
        Self::parse(value.to_string()).expect("a parsed document prints as JSON")
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Reads the text into a type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        Ok(serde_json::from_str(self.0.get())?)
    }

    /// The parsed document.
    ///
    /// Text that is valid can still nest deeper than the parser goes (128 levels); it reads as null.
    pub fn to_value(&self) -> Value {
        self.read().unwrap_or(Value::Null)
    }

    /// `null`.
    pub fn null() -> Self {
        Self::of_value(&Value::Null)
    }

    /// `{}`.
    pub fn empty_object() -> Self {
        Self::of_value(&Value::Object(serde_json::Map::new()))
    }
}

impl PartialEq for Json {
    /// Equal text, or equal documents: the spelling of a number, white space and the order of keys do not count.
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str() || self.to_value() == other.to_value()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self::of_value(&value)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<RawValue>::deserialize(deserializer)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_as_it_came() {
        let text = r#"{"b":1.0,"a":[18446744073709551615,-0.0]}"#;
        assert_eq!(Json::parse(text).unwrap().as_str(), text);
        assert!(Json::parse("{").is_err());
        assert!(Json::parse("1 2").is_err());
    }

    #[test]
    fn equality_is_that_of_documents() {
        assert_eq!(Json::parse(r#"{"a":1,"b":2}"#).unwrap(), Json::parse(r#"{ "b":2, "a":1 }"#).unwrap());
        assert_ne!(Json::parse("1").unwrap(), Json::parse("2").unwrap());
    }
}
