//! JSON given on the command line: as it is, `@` a file, or `-` for stdin.

use super::failure::Refusal;
use crate::{
    integrations::llm::{Endpoint, Tier, given},
    operations::Answer,
};
use agentruntime_host_api::SecretRef;
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
};

/// Larger input than this belongs somewhere else, and its address into the payload.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// Reads a document; `what` names it in errors.
pub(crate) fn read(what: &str, argument: &str) -> Result<Value, Refusal> {
    let refused = |message: String| Refusal::new("INVALID_JSON", message);
    let (text, place) = match argument.strip_prefix('@') {
        Some(file) => {
            let bytes =
                fs::read(file).map_err(|error| refused(format!("cannot read {what} from `{file}`: {error}")))?;
            let text =
                String::from_utf8(bytes).map_err(|_| refused(format!("{what} in `{file}` is not UTF-8 text")))?;
            (text, format!("`{file}`"))
        }
        None if argument == "-" => (stdin(what)?, "stdin".into()),
        None => (argument.to_owned(), "the argument".into()),
    };
    serde_json::from_str(&text).map_err(|error| {
        let hint = if place == "the argument" && fs::metadata(argument).is_ok() {
            format!("; to read the file, write @{argument}")
        } else {
            String::new()
        };
        refused(format!("{what} is not JSON: {error} of {place}{hint}"))
    })
}

/// Reads an object.
pub(crate) fn read_object(what: &str, argument: &str) -> Result<Map<String, Value>, Refusal> {
    match read(what, argument)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(Refusal::new("INVALID_JSON", format!("{what} must be a JSON object, such as {{\"key\": \"value\"}}"))),
    }
}

/// Reads secrets by what keeps them at a server, such as `connection/crm/api_key`.
pub(crate) fn read_secrets(argument: &str) -> Result<BTreeMap<SecretRef, SecretString>, Refusal> {
    let refused = |message: String| Refusal::new("INVALID_SECRETS", message);
    let fields = read_object("--secrets", argument)?;
    let secret = |(name, value): (String, Value)| {
        let kept = name.parse::<SecretRef>().map_err(|error| refused(format!("--secrets: {error}")))?;
        match value {
            Value::String(text) => Ok((kept, text.into())),
            _ => Err(refused(format!("--secrets: the value of `{name}` is a text"))),
        }
    };
    fields.into_iter().map(secret).collect()
}

/// Reads providers of models, such as `[{"vendor": "openai", "api_key": "…"}]`.
pub(crate) fn read_providers(argument: &str) -> Result<Vec<Endpoint>, Refusal> {
    let text = SecretString::from(read("--providers", argument)?.to_string());
    given::read(&text, Tier::Tenant).map_err(|error| Refusal::new("INVALID_PROVIDERS", format!("--providers {error}")))
}

/// Reads `STEP={"approved": …}`.
pub(crate) fn read_answer(argument: &str) -> Result<(String, Answer), Refusal> {
    let refused = |message: String| Refusal::new("INVALID_ANSWER", message);
    let Some((step, json)) = argument.split_once('=') else {
        return Err(refused(format!(
            "`--answer {argument}` needs the form STEP=JSON, such as approve='{{\"approved\": true}}'"
        )));
    };
    let mut fields = read_object(&format!("the answer for `{step}`"), json)?;
    let Some(Value::Bool(approved)) = fields.remove("approved") else {
        return Err(refused(format!("the answer for `{step}` must say \"approved\": true or false")));
    };
    // As it is written for the API, the fields stand under `result`.
    let fields = match (fields.len(), fields.get("result")) {
        (1, Some(Value::Object(inner))) => inner.clone(),
        _ => fields,
    };
    let answer = Answer::new(approved, fields).map_err(|error| refused(format!("the answer for `{step}`: {error}")))?;
    Ok((step.to_owned(), answer))
}

/// All of stdin, as far as it is text of a sensible size.
pub(crate) fn stdin(what: &str) -> Result<String, Refusal> {
    let refused = |message: String| Refusal::new("INVALID_JSON", message);
    let mut text = String::new();
    let read = io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| refused(format!("cannot read {what} from stdin: {error}")))?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        return Err(refused(format!("{what} is larger than {} MiB", INPUT_BYTES_MAX >> 20)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<T>(result: Result<T, Refusal>) -> String {
        result.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn an_answer_is_a_decision_with_fields() {
        let (step, answer) = read_answer(r#"ask={"approved": false, "why": "a=b"}"#).unwrap();
        assert_eq!((step.as_str(), answer.approved, answer.result.as_str()), ("ask", false, r#"{"why":"a=b"}"#));
        assert!(refusal(read_answer("ask")).contains("STEP=JSON"));
        let (_, answer) = read_answer(r#"ask={"approved": true, "result": {"who": "Zoe"}}"#).unwrap();
        assert_eq!(answer.result.as_str(), r#"{"who":"Zoe"}"#);
        let twice = read_answer(r#"ask={"approved": true, "result": {"approved": false}}"#);
        assert!(refusal(twice).contains("beside `result`"));
        assert!(refusal(read_answer("ask={}")).contains("\"approved\": true or false"));
        assert!(refusal(read_answer(r#"ask={"approved":"yes"}"#)).contains("\"approved\": true or false"));
        assert!(refusal(read_answer("ask=[]")).contains("must be a JSON object"));
    }

    #[test]
    fn a_file_without_its_sign_is_recognised() {
        assert!(refusal(read("the input", "Cargo.toml")).contains("write @Cargo.toml"));
        assert!(refusal(read("the input", "@no-such-file")).contains("cannot read the input from `no-such-file`"));
    }
}
