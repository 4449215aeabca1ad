//! What the guest's answer means.
//!
//! Owns the codes of failures as the guest writes them. A script cannot choose its code freely: that of a failed request
//! counts only if the host gave it as a reply in this step.

use crate::{
    instance::memory_limit,
    message::{Answer, Malformed},
};
use agentruntime_host_api::{ErrorCode, HostReply, HostRequest, Json, Limits, StepError};
use serde_json::json;

/// The guest's answer, read.
#[derive(Debug)]
pub(crate) enum Reading {
    Done(Json),
    Requests(Vec<HostRequest>),
    Failed(StepError),
}

/// What is known about the requests of a step.
#[derive(Default)]
pub(crate) struct Asked {
    count: u32,
    /// Codes of the replies so far.
    codes: Vec<ErrorCode>,
}

impl Asked {
    pub(crate) fn note(&mut self, replies: &[HostReply]) {
        for error in replies.iter().filter_map(|reply| reply.as_ref().err()) {
            if !self.codes.contains(&error.code) {
                self.codes.push(error.code);
            }
        }
    }
}

/// Reads an answer. An error means that the guest itself is broken.
pub(crate) fn read(answer: &[u8], limits: &Limits, asked: &mut Asked) -> Result<Reading, Malformed> {
    let mut answer = Answer::new(answer);
    match answer.byte()? {
        0 => read_output(&mut answer, limits),
        1 => read_requests(&mut answer, limits, asked),
        2 => read_failure(&mut answer, limits, asked),
        _ => Err(Malformed("it is of no known kind")),
    }
}

fn read_output(answer: &mut Answer<'_>, limits: &Limits) -> Result<Reading, Malformed> {
    let text = answer.rest()?;
    if text.len() > limits.output_bytes {
        let message = format!("the output is longer than the {} bytes that it may have", limits.output_bytes);
        return Ok(Reading::Failed(StepError::new(ErrorCode::SandboxOutputLimit, message)));
    }
    Json::parse(text).map(Reading::Done).map_err(|_| Malformed("the output is not JSON"))
}

fn read_requests(answer: &mut Answer<'_>, limits: &Limits, asked: &mut Asked) -> Result<Reading, Malformed> {
    let count = answer.u32()?;
    if count == 0 {
        return Err(Malformed("it asks for nothing"));
    }
    if count > limits.requests.saturating_sub(asked.count) {
        let message = format!("the step made more than the {} requests that it may make", limits.requests);
        return Ok(Reading::Failed(StepError::new(ErrorCode::CapabilityDenied, message)));
    }
    let mut requests = Vec::with_capacity(count as usize);
    for number in asked.count..asked.count + count {
        let capability = answer.lossy_text()?;
        let arguments = Json::parse(answer.text()?).map_err(|_| Malformed("arguments are not JSON"))?;
        requests.push(HostRequest { number, capability, arguments });
    }
    asked.count += count;
    Ok(Reading::Requests(requests))
}

fn read_failure(answer: &mut Answer<'_>, limits: &Limits, asked: &Asked) -> Result<Reading, Malformed> {
    let kind = answer.byte()?;
    let line = answer.u32()?;
    let code = answer.lossy_text()?;
    let message = answer.lossy_text()?;
    let traceback = answer.lossy_text()?;
    let value = answer.lossy_text()?;
    let code = match kind {
        0 => ErrorCode::LuaError,
        1 => return Ok(Reading::Failed(memory_limit(limits))),
        2 => ErrorCode::SandboxOutputLimit,
        3 => asked.codes.iter().copied().find(|known| known.to_string() == code).unwrap_or(ErrorCode::LuaError),
        _ => return Err(Malformed("a failure is of no known kind")),
    };
    let mut details = serde_json::Map::new();
    if line > 0 {
        details.insert("line".into(), json!(line));
    }
    if !traceback.is_empty() {
        details.insert("traceback".into(), json!(traceback));
    }
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&value) {
        details.insert("value".into(), value);
    }
    let details = (!details.is_empty()).then(|| Json::from(serde_json::Value::Object(details)));
    Ok(Reading::Failed(StepError { code, message, details }))
}
