//! Any bytes as JSON inside the sandbox: what is a document comes out as it went in, and nothing else does harm.

use agentruntime_host_api::{
    Entropy, ErrorCode, Guest, Invocation, Json, Language, Limits, Outcome, Program, Scope, TenantId, Timestamp,
};
use agentruntime_sandbox::{Sandbox, SandboxConfig};
use serde_json::Value;
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};

static SANDBOX: LazyLock<Sandbox> =
    LazyLock::new(|| Sandbox::new(SandboxConfig::default()).expect("the sandbox can be set up"));
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime can be built"));

/// Reads the bytes as a script's input, and by `json.decode`.
pub(crate) fn drive(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let (Ok(document), Ok(value)) = (Json::parse(text), serde_json::from_str::<Value>(text)) {
        match run("return {value = input}", document) {
            Ok(output) => assert_eq!(output["value"], as_lua_numbers(value), "the document came out changed"),
            Err(code) => assert!(is_orderly(code), "the document ended in {code}"),
        }
    }
    let decode = "local ok, value = pcall(json.decode, input) return {ok = ok, value = ok and value or nil}";
    match run(decode, Json::of_value(&text.into())) {
        Ok(output) => assert!(output["ok"].is_boolean(), "decoding answered {output}"),
        Err(code) => assert!(is_orderly(code), "decoding ended in {code}"),
    }
}

/// Lua's integers have 64 bits and a sign; whole numbers beyond are floats.
fn as_lua_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64().is_none() => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(items) => items.into_iter().map(as_lua_numbers).collect(),
        Value::Object(members) => members.into_iter().map(|(key, value)| (key, as_lua_numbers(value))).collect(),
        other => other,
    }
}

/// Too deep or too large is the document's own fault; a trap would be the guest's.
fn is_orderly(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::LuaError | ErrorCode::SandboxOutputLimit | ErrorCode::SandboxMemoryLimit)
}

fn run(source: &str, input: Json) -> Result<Value, ErrorCode> {
    let invocation = Invocation {
        tenant: TenantId::new("fuzz"),
        program: Program { language: Language::Lua, name: "fuzz".into(), source: source.into() },
        scope: Scope { globals: vec![("input", input)], steps: Vec::new() },
        started_at: Timestamp::from_micros(0),
        entropy: Entropy(0),
        limits: Limits::default(),
    };
    match RUNTIME.block_on(SANDBOX.start(invocation)) {
        Outcome::Done(output) => Ok(output.json.to_value()),
        Outcome::Failed(error) => Err(error.code),
        Outcome::Requests { .. } => panic!("the script asks for nothing"),
    }
}
