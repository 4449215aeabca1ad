//! What a step can ask for, read from the request as the step wrote it.
//!
//! Owns the names of capabilities and the form of their arguments. An [`Act`] says what is to be done and holds no secret:
//! where one belongs, it has the secret's name. Never decides whether it may be done.

use crate::{ErrorCode, HostRequest, Json, ModelGrant, StepError, ToolServer};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use url::Url;

/// Something to do outside the sandbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// `http.fetch`: send a request by HTTP.
    Fetch(Fetch),
    /// `crypto.hmac`: sign with a secret.
    Sign(Sign),
    /// `llm.resolve`: say which provider would be asked for a model.
    Resolve(ModelGrant),
    /// `llm.request`: ask a model.
    Ask(Ask),
    /// `schema.check`: check a value by a JSON Schema.
    Check(Check),
    /// `mcp.call`: call a tool of an MCP server.
    Call(ToolCall),
    /// `mcp.describe`: say what a tool is for and what it is called with.
    Describe(ToolCall),
}

/// A request by HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    /// `GET`, `POST`, …
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers in the order of their names, in lower case.
    pub headers: BTreeMap<String, Text>,
    /// The body, if it has one.
    pub body: Option<String>,
    /// How long it may take; nothing: the default.
    pub timeout: Option<Duration>,
}

/// A signature: the hex digits of HMAC-SHA-256 over some data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// The name of the secret that is the key.
    pub secret: SecretName,
    /// What is signed.
    pub data: String,
}

/// A request to a language model, in its vendor's form. Where it goes and with which key is the provider's affair.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Which model, with whose key.
    pub model: ModelGrant,
    /// In which form the body is written.
    pub operation: Operation,
    /// The body without the model's name, which is put in where the form wants it.
    pub body: serde_json::Map<String, Value>,
    /// Whether the answer is wanted piece by piece, for those who watch. What is replied with is the same.
    #[serde(default)]
    pub stream: bool,
}

/// The form in which a model is asked, named by the vendor's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// OpenAI's `chat/completions`, which many servers have.
    Chat,
    /// OpenAI's `responses`.
    Responses,
    /// Anthropic's `messages`.
    Messages,
    /// Google's `generateContent`.
    Generate,
}

/// A check of a value by a JSON Schema.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The schema.
    pub schema: Value,
    /// The value.
    pub value: Value,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// Whose tool.
    pub server: ToolServer,
    /// Its name.
    pub tool: String,
    /// What it is called with.
    pub arguments: serde_json::Map<String, Value>,
    /// How long it may take; nothing: the default.
    pub timeout: Option<Duration>,
}

/// The name that a step gives a secret, in the form `{ "$secret": "name" }`: what Lua's `secret("name")` makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretName {
    /// The name in the step's grants.
    #[serde(rename = "$secret")]
    pub name: String,
}

/// A text in which secrets stand by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub Vec<Part>);

/// A part of a [`Text`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Plain(String),
    /// A secret's value.
    Secret(SecretName),
}

/// What a request by HTTP does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// The longest that a single request may take.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// The longest URL: more than servers take.
pub const URL_BYTES_MAX: usize = 8 << 10;
/// Headers of a request.
pub const HEADERS_MAX: usize = 64;
/// The longest name or value of a header, before secrets are put in.
pub const HEADER_BYTES_MAX: usize = 8 << 10;

/// Headers that the connection decides.
pub const OWN_HEADERS: [&str; 9] =
    ["host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "expect"];

impl Act {
    /// Reads a request.
    ///
    /// # Errors
    /// `CAPABILITY_DENIED` where there is no such capability, `INVALID_INPUT` where the arguments are not as it takes them.
    pub fn read(request: &HostRequest) -> Result<Self, StepError> {
        match request.capability.as_str() {
            "http.fetch" => fetch(&request.arguments).map(Self::Fetch),
            "crypto.hmac" => arguments(request).map(Self::Sign),
            "llm.resolve" => arguments(request).map(Self::Resolve),
            "llm.request" => arguments(request).map(Self::Ask),
            "schema.check" => arguments(request).map(Self::Check),
            "mcp.call" => call("mcp.call", &request.arguments).map(Self::Call),
            "mcp.describe" => call("mcp.describe", &request.arguments).map(Self::Describe),
            other => Err(unknown(other)),
        }
    }

    /// The name of its capability.
    pub fn capability(&self) -> &'static str {
        match self {
            Self::Fetch(_) => "http.fetch",
            Self::Sign(_) => "crypto.hmac",
            Self::Resolve(_) => "llm.resolve",
            Self::Ask(_) => "llm.request",
            Self::Check(_) => "schema.check",
            Self::Call(_) => "mcp.call",
            Self::Describe(_) => "mcp.describe",
        }
    }

    /// The secrets that it uses.
    pub fn secrets(&self) -> Vec<&SecretName> {
        match self {
            Self::Fetch(fetch) => fetch.headers.values().flat_map(Text::secrets).collect(),
            Self::Sign(sign) => vec![&sign.secret],
            Self::Resolve(_) | Self::Ask(_) | Self::Check(_) | Self::Call(_) | Self::Describe(_) => Vec::new(),
        }
    }

    /// Whether others can see that it was done, so that it must be written down before.
    pub fn acts_outside(&self) -> bool {
        match self {
            Self::Fetch(_) | Self::Ask(_) | Self::Call(_) | Self::Describe(_) => true,
            Self::Sign(_) | Self::Resolve(_) | Self::Check(_) => false,
        }
    }

    /// The model that it is about.
    pub fn model(&self) -> Option<&ModelGrant> {
        match self {
            Self::Resolve(model) | Self::Ask(Ask { model, .. }) => Some(model),
            Self::Fetch(_) | Self::Sign(_) | Self::Check(_) | Self::Call(_) | Self::Describe(_) => None,
        }
    }

    /// The tool that it is about.
    pub fn tool(&self) -> Option<&ToolCall> {
        match self {
            Self::Call(call) | Self::Describe(call) => Some(call),
            Self::Fetch(_) | Self::Sign(_) | Self::Resolve(_) | Self::Ask(_) | Self::Check(_) => None,
        }
    }
}

impl Text {
    fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.0.iter().filter_map(|part| match part {
            Part::Secret(name) => Some(name),
            Part::Plain(_) => None,
        })
    }

    /// The bytes that stand in it as they are.
    fn plain(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Plain(text) => Some(text.as_str()),
            Part::Secret(_) => None,
        })
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = match Value::deserialize(deserializer)? {
            Value::Object(mut members) if members.len() == 1 && members.contains_key("$text") => {
                match members.remove("$text") {
                    Some(Value::Array(parts)) => parts,
                    _ => return Err(de::Error::custom("`$text` is a list of texts and secrets")),
                }
            }
            one => vec![one],
        };
        parts.into_iter().map(part).collect::<Result<_, _>>().map(Self).map_err(de::Error::custom)
    }
}

fn part(value: Value) -> Result<Part, &'static str> {
    match value {
        Value::String(text) => Ok(Part::Plain(text)),
        Value::Number(number) => Ok(Part::Plain(number.to_string())),
        Value::Bool(flag) => Ok(Part::Plain(flag.to_string())),
        object @ Value::Object(_) => {
            serde_json::from_value(object).map(Part::Secret).map_err(|_| "an object can only be a secret")
        }
        Value::Null | Value::Array(_) => Err("a text, a number or a secret is wanted"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FetchArguments {
    #[serde(default)]
    method: Method,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, Text>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    json: Option<Value>,
    #[serde(default)]
    timeout_s: Option<f64>,
}

fn fetch(given: &Json) -> Result<Fetch, StepError> {
    let FetchArguments { method, url, headers, body, json, timeout_s } = read("http.fetch", given)?;
    if url.len() > URL_BYTES_MAX {
        return Err(invalid(format!("http.fetch: `url` has {} bytes; at most {URL_BYTES_MAX} are allowed", url.len())));
    }
    let url = address(&url)?;
    let mut headers = headers_of(headers)?;
    let body = match (body, json) {
        (Some(_), Some(_)) => return Err(invalid("http.fetch: `body` and `json` both say the body; keep one".into())),
        (None, Some(json)) => {
            let kind = Text(vec![Part::Plain("application/json".into())]);
            headers.entry("content-type".into()).or_insert(kind);
            Some(json.to_string())
        }
        (body, None) => body,
    };
    let timeout = timeout_s.map(|seconds| timeout("http.fetch", seconds)).transpose()?;
    Ok(Fetch { method, url, headers, body, timeout })
}

fn address(text: &str) -> Result<Url, StepError> {
    let shown: String = text.chars().take(200).collect();
    let url = Url::parse(text).map_err(|error| invalid(format!("http.fetch: `{shown}` is no address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(invalid(format!("http.fetch: `{shown}` is no address that begins with https:// or http://")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let message = "http.fetch: an address must not hold a user or a password: put credentials into a header, as \
            `secret(\"name\")`";
        return Err(invalid(message.into()));
    }
    Ok(url)
}

fn headers_of(given: BTreeMap<String, Text>) -> Result<BTreeMap<String, Text>, StepError> {
    if given.len() > HEADERS_MAX {
        return Err(invalid(format!("http.fetch: {} headers; at most {HEADERS_MAX} are allowed", given.len())));
    }
    let mut headers = BTreeMap::new();
    for (name, value) in given {
        let name = name.to_ascii_lowercase();
        if !is_token(&name) {
            let shown: String = name.chars().take(100).collect();
            return Err(invalid(format!("http.fetch: `{shown}` is no name of a header")));
        }
        if OWN_HEADERS.contains(&&*name) || name.starts_with("proxy-") {
            return Err(invalid(format!("http.fetch: the header `{name}` cannot be set: the connection decides it")));
        }
        let len: usize = value.plain().map(str::len).sum();
        if len > HEADER_BYTES_MAX || !value.plain().all(is_header_text) {
            return Err(invalid(format!(
                "http.fetch: the header `{name}` holds a line break or another control character, or more than \
                 {HEADER_BYTES_MAX} bytes"
            )));
        }
        if headers.insert(name.clone(), value).is_some() {
            return Err(invalid(format!("http.fetch: the header `{name}` is given twice")));
        }
    }
    Ok(headers)
}

/// RFC 9110, 5.6.2.
fn is_token(name: &str) -> bool {
    let is_mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=HEADER_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallArguments {
    #[serde(default)]
    instance_id: Option<String>,
    #[serde(default)]
    server_url: Option<String>,
    tool: String,
    #[serde(default)]
    arguments: Option<Value>,
    #[serde(default)]
    timeout_s: Option<f64>,
}

fn call(capability: &str, given: &Json) -> Result<ToolCall, StepError> {
    let CallArguments { instance_id, server_url, tool, arguments, timeout_s } = read(capability, given)?;
    let server = match (instance_id, server_url) {
        (Some(instance), None) => ToolServer::Instance(instance),
        (None, Some(url)) => ToolServer::at(&url).map_err(|error| invalid(format!("{capability}: {error}")))?,
        _ => return Err(invalid(format!("{capability}: say whose tool it is, by `instance_id` or by `server_url`"))),
    };
    let arguments = match arguments {
        Some(Value::Object(members)) => members,
        None | Some(Value::Null) => serde_json::Map::new(),
        Some(_) => return Err(invalid(format!("{capability}: `arguments` is an object"))),
    };
    let timeout = timeout_s.map(|seconds| timeout(capability, seconds)).transpose()?;
    Ok(ToolCall { server, tool, arguments, timeout })
}

fn timeout(capability: &str, seconds: f64) -> Result<Duration, StepError> {
    let is_fit = seconds > 0.0 && seconds <= REQUEST_TIMEOUT_MAX.as_secs_f64();
    is_fit.then(|| Duration::from_secs_f64(seconds)).ok_or_else(|| {
        let most = REQUEST_TIMEOUT_MAX.as_secs();
        invalid(format!("{capability}: `timeout_s` is more than 0 and at most {most}"))
    })
}

fn arguments<T: de::DeserializeOwned>(request: &HostRequest) -> Result<T, StepError> {
    read(&request.capability, &request.arguments)
}

fn read<T: de::DeserializeOwned>(capability: &str, given: &Json) -> Result<T, StepError> {
    given.read().map_err(|error| invalid(format!("{capability}: {error}")))
}

fn invalid(message: String) -> StepError {
    StepError::new(ErrorCode::InvalidInput, message)
}

fn unknown(capability: &str) -> StepError {
    let shown: String = capability.chars().take(100).collect();
    let message = format!(
        "there is no capability `{shown}`; a step can ask for http.fetch, crypto.hmac, llm.resolve, llm.request, \
         mcp.call and mcp.describe"
    );
    StepError::new(ErrorCode::CapabilityDenied, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn act(capability: &str, arguments: Value) -> Result<Act, String> {
        let request = HostRequest { number: 0, capability: capability.into(), arguments: arguments.into() };
        Act::read(&request).map_err(|error| error.to_string())
    }

    fn fetched(arguments: Value) -> Result<Fetch, String> {
        act("http.fetch", arguments).map(|act| match act {
            Act::Fetch(fetch) => fetch,
            other => unreachable!("{other:?}"),
        })
    }

    #[test]
    fn every_act_is_read_under_its_own_name() {
        let (model, tool) = (json!({ "model": "m" }), json!({ "instance_id": "i", "tool": "t" }));
        for (capability, arguments) in [
            ("http.fetch", json!({ "url": "https://a.example/" })),
            ("crypto.hmac", json!({ "secret": { "$secret": "s" }, "data": "" })),
            ("llm.resolve", model.clone()),
            ("llm.request", json!({ "model": model, "operation": "chat", "body": {} })),
            ("schema.check", json!({ "schema": {}, "value": null })),
            ("mcp.call", tool.clone()),
            ("mcp.describe", tool),
        ] {
            assert_eq!(act(capability, arguments).unwrap().capability(), capability);
        }
    }

    #[test]
    fn a_header_may_hold_a_secret_by_name_with_text_around_it() {
        let fetch = fetched(json!({
            "url": "https://a.example/x",
            "headers": { "Authorization": { "$text": ["Bearer ", { "$secret": "key" }] }, "X-N": 5 },
            "json": { "a": 1 },
        }))
        .unwrap();
        let key = SecretName { name: "key".into() };
        assert_eq!(fetch.headers["authorization"].0, [Part::Plain("Bearer ".into()), Part::Secret(key.clone())]);
        assert_eq!(fetch.headers["x-n"].0, [Part::Plain("5".into())]);
        assert_eq!(fetch.headers["content-type"].0, [Part::Plain("application/json".into())]);
        assert_eq!(fetch.body.as_deref(), Some("{\"a\":1}"));
        assert_eq!(Act::Fetch(fetch).secrets(), [&key]);
    }

    #[test]
    fn a_secret_cannot_stand_in_an_address_or_a_body() {
        let secret = json!({ "$secret": "key" });
        for (field, value) in [("url", secret.clone()), ("body", secret.clone())] {
            let mut arguments = json!({ "url": "https://a.example/" });
            arguments[field] = value;
            fetched(arguments).expect_err(field);
        }
        let fetch = fetched(json!({ "url": "https://a.example/", "json": { "a": secret } })).unwrap();
        assert_eq!(fetch.body.as_deref(), Some("{\"a\":{\"$secret\":\"key\"}}"), "it goes out as the text that it is");
        assert!(Act::Fetch(fetch).secrets().is_empty());
    }

    #[test]
    fn what_would_split_or_redirect_a_request_is_refused() {
        let refused = |arguments: Value, part: &str| {
            let error = fetched(arguments).expect_err(part);
            assert!(error.contains(part), "{error}");
        };
        let url = "https://a.example/";
        refused(json!({ "url": url, "headers": { "x": "a\r\nHost: b" } }), "line break");
        refused(json!({ "url": url, "headers": { "a b": "x" } }), "no name of a header");
        refused(json!({ "url": url, "headers": { "Host": "b" } }), "`host` cannot be set");
        refused(json!({ "url": url, "headers": { "Proxy-Authorization": "b" } }), "cannot be set");
        refused(json!({ "url": url, "headers": { "A": "1", "a": "2" } }), "given twice");
        refused(json!({ "url": "https://u:p@a.example/" }), "user or a password");
        refused(json!({ "url": "file:///etc/passwd" }), "begins with https://");
        refused(json!({ "url": "unix:/run/x" }), "begins with https://");
        refused(json!({ "url": "nowhere" }), "no address");
        refused(json!({ "url": url, "body": "x", "json": 1 }), "keep one");
        refused(json!({ "url": url, "timeout_s": 601 }), "at most 600");
        refused(json!({ "url": url, "timeout_s": 0 }), "more than 0");
        refused(json!({ "url": url, "verify": false }), "verify");
        refused(json!({ "url": url, "method": "CONNECT" }), "CONNECT");
        refused(json!({ "url": format!("{url}{}", "a".repeat(URL_BYTES_MAX)) }), "at most");
    }

    #[test]
    fn a_tool_is_called_by_instance_or_by_address() {
        let call = |arguments: Value| {
            act("mcp.call", arguments).map(|act| match act {
                Act::Call(call) => call,
                _ => unreachable!(),
            })
        };
        let called = call(json!({ "instance_id": "crm", "tool": "search", "arguments": { "q": 1 } })).unwrap();
        assert_eq!((called.server, &*called.tool), (ToolServer::Instance("crm".into()), "search"));
        assert_eq!(Value::Object(called.arguments), json!({ "q": 1 }));
        let called = call(json!({ "server_url": "HTTPS://A.example:443/mcp", "tool": "x", "timeout_s": 2 })).unwrap();
        assert_eq!(called.server, ToolServer::Url("https://a.example/mcp".into()), "in one spelling");
        assert_eq!(called.timeout, Some(Duration::from_secs(2)));
        for (arguments, part) in [
            (json!({ "tool": "x" }), "by `instance_id` or by `server_url`"),
            (json!({ "tool": "x", "instance_id": "a", "server_url": "https://a.example" }), "by `instance_id`"),
            (json!({ "instance_id": "a" }), "tool"),
            (json!({ "instance_id": "a", "tool": "x", "arguments": [1] }), "`arguments` is an object"),
            (json!({ "instance_id": "a", "tool": "x", "timeout_s": 601 }), "at most 600"),
            (json!({ "instance_id": "a", "tool": "x", "args": {} }), "args"),
            (json!({ "server_url": "stdio:server", "tool": "x" }), "begins with https://"),
            (json!({ "server_url": "https://u:p@a.example", "tool": "x" }), "user or a password"),
        ] {
            let error = call(arguments).unwrap_err();
            assert!(error.starts_with("INVALID_INPUT") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_capability_that_is_not_there_is_denied_with_those_that_are() {
        let error = act("os.execute", json!({})).unwrap_err();
        assert!(error.starts_with("CAPABILITY_DENIED") && error.contains("http.fetch"), "{error}");
    }
}
