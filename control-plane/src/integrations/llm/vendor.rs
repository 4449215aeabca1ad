//! How each vendor is asked. From the vendors' references: OpenAI's and Anthropic's API, Google's Gemini API.

use agentruntime_host_api::{Operation, Part, SecretName, Text};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use url::Url;
use utoipa::ToSchema;

/// The name of the key among the secrets of a request.
pub(super) const KEY: &str = "api_key";

/// Anthropic's API in the form that its `messages` have here.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Whose models they are, which decides the form in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Vendor {
    /// OpenAI.
    Openai,
    /// Anthropic.
    Anthropic,
    /// Google.
    Google,
    /// Any server that takes what OpenAI's `chat/completions` takes.
    OpenaiCompatible,
}

impl Vendor {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Google => "google",
            Self::OpenaiCompatible => "openai_compatible",
        }
    }

    /// Where it is; nothing for those that are anywhere.
    pub(super) fn base_url(self) -> Option<&'static str> {
        match self {
            Self::Openai => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com/v1"),
            Self::Google => Some("https://generativelanguage.googleapis.com/v1beta"),
            Self::OpenaiCompatible => None,
        }
    }

    /// The forms in which it is asked; the first unless a step wants another.
    pub(super) fn operations(self) -> &'static [Operation] {
        match self {
            Self::Openai | Self::OpenaiCompatible => &[Operation::Chat, Operation::Responses],
            Self::Anthropic => &[Operation::Messages],
            Self::Google => &[Operation::Generate],
        }
    }

    /// Whose a model is, by its name.
    pub(super) fn of_model(model: &str) -> Option<Self> {
        const BEGINNINGS: [(&str, Vendor); 7] = [
            ("gpt-", Vendor::Openai),
            ("chatgpt-", Vendor::Openai),
            ("o1", Vendor::Openai),
            ("o3", Vendor::Openai),
            ("o4", Vendor::Openai),
            ("claude-", Vendor::Anthropic),
            ("gemini-", Vendor::Google),
        ];
        BEGINNINGS.iter().find(|(beginning, _)| model.starts_with(beginning)).map(|(_, vendor)| *vendor)
    }

    /// The headers by which it knows who asks.
    pub(super) fn headers(self, has_key: bool) -> BTreeMap<String, Text> {
        let secret = Part::Secret(SecretName { name: KEY.into() });
        let (name, value) = match self {
            Self::Openai | Self::OpenaiCompatible => ("authorization", vec![Part::Plain("Bearer ".into()), secret]),
            Self::Anthropic => ("x-api-key", vec![secret]),
            Self::Google => ("x-goog-api-key", vec![secret]),
        };
        let mut headers = BTreeMap::new();
        if has_key {
            headers.insert(name.to_owned(), Text(value));
        }
        if self == Self::Anthropic {
            headers.insert("anthropic-version".into(), Text(vec![Part::Plain(ANTHROPIC_VERSION.into())]));
        }
        headers
    }
}

/// How an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::integrations) enum Delivery {
    /// At once.
    Whole,
    /// Piece by piece, with an account of the tokens in the end.
    Streamed,
}

/// Says in a body how the answer is to come. Google is told by the address.
pub(super) fn deliver(body: &mut Map<String, Value>, operation: Operation, delivery: Delivery) {
    body.remove("stream");
    if delivery == Delivery::Whole || operation == Operation::Generate {
        return;
    }
    body.insert("stream".into(), true.into());
    if operation == Operation::Chat {
        // A server that does not take it can be spared it, by `null`.
        let options = body.entry("stream_options").or_insert_with(|| json!({ "include_usage": true }));
        if options.is_null() {
            body.remove("stream_options");
        }
    }
}

/// Where a request of that form goes.
pub(super) fn address(base: &Url, operation: Operation, model: &str, delivery: Delivery) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty();
        match operation {
            Operation::Chat => path.extend(["chat", "completions"]),
            Operation::Responses => path.push("responses"),
            Operation::Messages => path.push("messages"),
            Operation::Generate if delivery == Delivery::Streamed => {
                path.push("models").push(&format!("{model}:streamGenerateContent"))
            }
            Operation::Generate => path.push("models").push(&format!("{model}:generateContent")),
        };
    }
    if operation == Operation::Generate && delivery == Delivery::Streamed {
        url.set_query(Some("alt=sse"));
    }
    url
}

/// Where the models are listed.
pub(super) fn list_address(base: &Url) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push("models");
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_address() {
        let at = |base: &str, operation| address(&base.parse().unwrap(), operation, "a/b", Delivery::Whole).to_string();
        assert_eq!(at("https://a.example/v1", Operation::Chat), "https://a.example/v1/chat/completions");
        assert_eq!(at("https://a.example/v1/", Operation::Responses), "https://a.example/v1/responses");
        assert_eq!(at("https://a.example", Operation::Messages), "https://a.example/messages");
        assert_eq!(
            at("https://a.example/v1beta", Operation::Generate),
            "https://a.example/v1beta/models/a%2Fb:generateContent"
        );
        let streamed =
            |operation| address(&"https://a.example".parse().unwrap(), operation, "a", Delivery::Streamed).to_string();
        assert_eq!(streamed(Operation::Generate), "https://a.example/models/a:streamGenerateContent?alt=sse");
        assert_eq!(streamed(Operation::Chat), "https://a.example/chat/completions");
        assert_eq!(list_address(&"http://[::1]:8080/v1/".parse().unwrap()).as_str(), "http://[::1]:8080/v1/models");
    }

    #[test]
    fn each_form_is_told_in_its_own_way_to_stream() {
        let told = |body: Value, operation, delivery| {
            let Value::Object(mut body) = body else { unreachable!() };
            deliver(&mut body, operation, delivery);
            Value::Object(body)
        };
        let plain = json!({ "stream": true, "x": 1 });
        assert_eq!(told(plain, Operation::Chat, Delivery::Whole), json!({ "x": 1 }));
        let usage = json!({ "stream": true, "stream_options": { "include_usage": true } });
        assert_eq!(told(json!({}), Operation::Chat, Delivery::Streamed), usage);
        let spared = json!({ "stream_options": null });
        assert_eq!(told(spared, Operation::Chat, Delivery::Streamed), json!({ "stream": true }));
        for operation in [Operation::Responses, Operation::Messages] {
            assert_eq!(told(json!({}), operation, Delivery::Streamed), json!({ "stream": true }));
        }
        assert_eq!(told(json!({}), Operation::Generate, Delivery::Streamed), json!({}));
    }

    #[test]
    fn a_vendor_is_known_by_the_names_of_its_models() {
        assert_eq!(Vendor::of_model("claude-x"), Some(Vendor::Anthropic));
        assert_eq!(Vendor::of_model("llama-x"), None);
    }
}
