//! Time, attempts and what happens after the last: the settings that every step has.

use super::fields::Fields;
use crate::graph::{
    issue::{IssueCode, shown},
    limits::*,
    model::{Conduct, OnError, Retry},
};
use agentruntime_host_api::{ErrorCode, Json};
use serde_json::Value;
use std::time::Duration;

/// What a step that says nothing does.
const NO_RETRY: Retry = Retry {
    max_attempts: 1,
    initial: RETRY_INITIAL_DEFAULT,
    factor: RETRY_FACTOR_DEFAULT,
    max: RETRY_WAIT_DEFAULT,
    on: Vec::new(),
};

pub(super) fn conduct(fields: &mut Fields<'_, '_>, kind: &str) -> Conduct {
    let (default, max) = timeout_limits(kind);
    Conduct { timeout: fields.seconds("timeout_s", max).or(default), retry: retry(fields), on_error: on_error(fields) }
}

/// The default and the most of a type's `timeout_s`.
fn timeout_limits(kind: &str) -> (Option<Duration>, u64) {
    match kind {
        "lua_script" => (Some(LUA_TIMEOUT_DEFAULT), LUA_TIMEOUT_S_MAX),
        "mcp_call" => (Some(MCP_TIMEOUT_DEFAULT), CALL_TIMEOUT_S_MAX),
        "llm_call" => (Some(LLM_TIMEOUT_DEFAULT), CALL_TIMEOUT_S_MAX),
        "agent_call" => (Some(AGENT_TIMEOUT_DEFAULT), CALL_TIMEOUT_S_MAX),
        _ => (None, WAIT_S_MAX),
    }
}

fn retry(fields: &mut Fields<'_, '_>) -> Retry {
    let count = fields.whole("retry_count", 0..=RETRY_ATTEMPTS_MAX - 1);
    let Some(members) = fields.object("retry") else {
        return Retry { max_attempts: attempts(count.unwrap_or(0) + 1), ..NO_RETRY };
    };
    if fields.has("retry_count") {
        fields.error(
            "retry_count",
            IssueCode::StepConfigConflict,
            "`retry_count` and `retry` say the same in two ways; keep one",
        );
    }
    let mut inner = Fields::new(members, fields.place.key("retry"), &mut *fields.sink);
    inner.only(&["max_attempts", "initial_s", "factor", "max_s", "on"], "`retry`");
    let retry = Retry {
        max_attempts: attempts(inner.whole("max_attempts", 1..=RETRY_ATTEMPTS_MAX).unwrap_or(RETRY_ATTEMPTS_DEFAULT)),
        initial: inner.seconds("initial_s", RETRY_WAIT_S_MAX).unwrap_or(RETRY_INITIAL_DEFAULT),
        factor: inner.number("factor", 1.0..=RETRY_FACTOR_MAX).unwrap_or(RETRY_FACTOR_DEFAULT),
        max: inner.seconds("max_s", RETRY_WAIT_S_MAX).unwrap_or(RETRY_WAIT_DEFAULT),
        on: codes(&mut inner),
    };
    if inner.has("max_s") && retry.max < retry.initial {
        inner.error("max_s", IssueCode::StepConfigConflict, "`max_s` is less than `initial_s`");
    }
    retry
}

/// The limits keep it far below where it would not fit.
fn attempts(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn codes(fields: &mut Fields<'_, '_>) -> Vec<ErrorCode> {
    let mut codes = Vec::new();
    for (name, place) in fields.texts("on").unwrap_or_default() {
        match ErrorCode::ALL.into_iter().find(|code| code.to_string() == name) {
            Some(code) => {
                if code.is_final() {
                    let message = format!("`{code}` is never tried again: the same would come out");
                    fields.sink.report.push(place.warning(IssueCode::StepConfigIgnored, message));
                }
                // Kept all the same: an empty list would mean every code.
                codes.push(code);
            }
            None => {
                let names: Vec<String> = ErrorCode::ALL.iter().map(ToString::to_string).collect();
                let issue = place.error(IssueCode::ValueOutOfRange, format!("`{}` is not an error code", shown(name)));
                fields.sink.report.push(issue.suggest_nearest(name, names.iter().map(String::as_str)));
            }
        }
    }
    codes
}

fn on_error(fields: &mut Fields<'_, '_>) -> OnError {
    match fields.get("on_error") {
        None => OnError::Fail,
        Some(Value::Object(members)) => {
            let mut inner = Fields::new(members, fields.place.key("on_error"), &mut *fields.sink);
            inner.only(&["result"], "`on_error`");
            match inner.get_raw("result") {
                Some(result) => {
                    if result.to_string().contains("{{") {
                        let message = "the result of `on_error` is taken as it is: templates in it are not filled in";
                        let issue = inner.place.key("result").warning(IssueCode::StepConfigIgnored, message);
                        inner.sink.report.push(issue);
                    }
                    OnError::Result(Json::of_value(result))
                }
                None => {
                    inner.require("result", "`on_error`");
                    OnError::Fail
                }
            }
        }
        Some(Value::String(_)) => {
            let is_continue = fields.choice("on_error", &[("fail", false), ("continue", true)]);
            if is_continue == Some(true) { OnError::Continue } else { OnError::Fail }
        }
        Some(_) => {
            let message = "`on_error` is \"fail\", \"continue\" or `{ \"result\": … }`";
            fields.error("on_error", IssueCode::GraphSchemaValidation, message);
            OnError::Fail
        }
    }
}
