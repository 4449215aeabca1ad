//! A result as the run keeps it: the text, and what is derived from it when somebody asks.

use agentruntime_host_api::Json;
use serde_json::Value;
use std::{
    fmt,
    sync::{Arc, LazyLock, OnceLock},
};

/// JSON that is parsed at most once, and only where a template looks into it.
#[derive(Clone)]
pub struct Payload(Arc<Inner>);

struct Inner {
    json: Json,
    value: OnceLock<Value>,
    entry: OnceLock<Json>,
}

impl fmt::Debug for Payload {
    /// The text alone: whether somebody has looked into it is no part of the state.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.json.fmt(f)
    }
}

impl Payload {
    /// Keeps the text.
    pub fn new(json: Json) -> Self {
        Self(Arc::new(Inner { json, value: OnceLock::new(), entry: OnceLock::new() }))
    }

    /// `{}`, which a disabled step counts as.
    pub fn empty_object() -> &'static Self {
        static EMPTY: LazyLock<Payload> = LazyLock::new(|| Payload::new(Json::empty_object()));
        &EMPTY
    }

    /// The text.
    pub fn json(&self) -> &Json {
        &self.0.json
    }

    /// The parsed document.
    pub fn value(&self) -> &Value {
        self.0.value.get_or_init(|| self.0.json.to_value())
    }

    /// The entry of a script's `steps` table: `{"result": …}`.
    pub fn entry(&self) -> &Json {
        self.0.entry.get_or_init(|| {
            Json::parse(format!(r#"{{"result":{}}}"#, self.0.json)).expect("valid JSON in an object is valid JSON")
        })
    }
}
