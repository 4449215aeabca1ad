//! One request to a model. What a vendor puts off is repeated, as late as it says.

use super::{
    endpoint::Endpoint,
    fault::Fault,
    streamed::{self, Reading},
    vendor::{self, Delivery, KEY},
};
use agentruntime_egress::{Egress, EgressError, REPLY_BYTES_DEFAULT, Reply, Secret, Send};
use agentruntime_engine::node::Compute;
use agentruntime_host_api::{
    Caller, Errand, ErrorCode, Fetch, HostPattern, Method, Operation, Part, REQUEST_TIMEOUT_MAX, StepError, Text,
};
use reqwest::StatusCode;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How often a request is sent at most.
const ATTEMPTS_MAX: u32 = 3;
/// The longest wait between two of them: who asks for more is not waited for, and a step's `retry` may try later.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The first wait where the vendor says nothing; the next is twice as long.
const WAIT_DEFAULT: Duration = Duration::from_secs(1);
/// So much of what a vendor says about a failure is kept.
const FAILURE_BYTES_MAX: usize = 4 << 10;

/// What is asked, and where.
pub(in crate::integrations) struct Asking<'a> {
    /// The provider.
    pub(in crate::integrations) endpoint: &'a Endpoint,
    /// The vendor's name of the model.
    pub(in crate::integrations) model: &'a str,
    /// Its key, opened.
    pub(in crate::integrations) key: Option<SecretString>,
    /// The form of the body.
    pub(in crate::integrations) operation: Operation,
    /// The body.
    pub(in crate::integrations) body: Map<String, Value>,
    /// How the answer is to come.
    pub(in crate::integrations) delivery: Delivery,
    /// Where large pieces of it are read.
    pub(in crate::integrations) compute: &'a Compute,
    /// For whom; the key tells the vendor that it comes again.
    pub(in crate::integrations) errand: &'a Errand,
}

/// Asks, and gives the body that came back with an account.
pub(in crate::integrations) async fn ask(egress: &Egress, asking: Asking<'_>) -> Result<Value, StepError> {
    let Asking { endpoint, model, operation, delivery, compute, errand, .. } = asking;
    if !endpoint.vendor.operations().contains(&operation) {
        let message = format!("the provider `{}` is not asked in the form {operation:?}", endpoint.name);
        return Err(StepError::new(ErrorCode::InvalidInput, message));
    }
    let hosts: Vec<HostPattern> = endpoint.host().into_iter().collect();
    let secrets: BTreeMap<String, Secret> =
        asking.key.into_iter().map(|value| (KEY.to_owned(), Secret { value, hosts: hosts.clone() })).collect();
    let mut body = asking.body;
    vendor::deliver(&mut body, operation, delivery);
    if operation != Operation::Generate {
        body.insert("model".into(), model.into());
    }
    let mut headers = endpoint.vendor.headers(!secrets.is_empty());
    headers.insert("content-type".into(), Text(vec![Part::Plain("application/json".into())]));
    let url = vendor::address(&endpoint.base_url, operation, model, delivery);
    let timeout = Some(REQUEST_TIMEOUT_MAX);
    let fetch = Fetch { method: Method::Post, url, headers, body: Some(Value::Object(body).to_string()), timeout };
    let idempotency_key = errand.idempotency_key();
    let idempotency_key = Some(idempotency_key.as_str());
    let send = Send { fetch: &fetch, hosts: &hosts, secrets: &secrets, idempotency_key };
    let once = || async {
        match delivery {
            Delivery::Whole => Ok(egress.send(send.clone()).await?),
            Delivery::Streamed => {
                let secrets = secrets.values().map(|secret| &secret.value).collect();
                stream(egress, &send, Reading { operation, secrets, errand, compute }).await
            }
        }
    };
    repeat(once, &endpoint.name, errand).await
}

/// Asks for an answer piece by piece, and gives what it is in the end. All of it may take as long as any request.
async fn stream(egress: &Egress, send: &Send<'_>, reading: Reading<'_>) -> Result<Reply, Fault> {
    let answered = async {
        let opened = egress.open(send.clone()).await?;
        if !streamed::is_stream(&opened) {
            return Ok(opened.whole(REPLY_BYTES_DEFAULT).await?);
        }
        let (status, headers) = (opened.status, opened.headers.clone());
        let body = streamed::read(opened, reading).await?.into_bytes();
        Ok(Reply { status, headers, body })
    };
    let late = || {
        let host = send.fetch.url.host_str().unwrap_or("the server").to_owned();
        EgressError::TimedOut { host, seconds: REQUEST_TIMEOUT_MAX.as_secs_f64() }
    };
    tokio::time::timeout(REQUEST_TIMEOUT_MAX, answered).await.unwrap_or_else(|_| Err(late().into()))
}

async fn repeat<F>(once: impl Fn() -> F, provider: &str, errand: &Errand) -> Result<Value, StepError>
where
    F: Future<Output = Result<Reply, Fault>>,
{
    let begun = Instant::now();
    let mut attempt = 1;
    loop {
        let outcome = once().await;
        let wait = (attempt < ATTEMPTS_MAX).then(|| wait(&outcome, attempt)).flatten();
        let Some(wait) = wait else { return finish(outcome, provider, attempt, begun.elapsed()) };
        let (reason, wait_ms) = (reason(&outcome), wait.as_millis());
        let Caller { tenant, run, step, .. } = &*errand.caller;
        tracing::info!(provider, attempt, reason, wait_ms, %tenant, %run, step, "a model is asked again");
        // Others have its turn meanwhile.
        errand.room.rest(wait).await;
        attempt += 1;
    }
}

/// Why a request is repeated, without anybody's own words.
fn reason(outcome: &Result<Reply, Fault>) -> String {
    match outcome {
        Ok(reply) => reply.status.to_string(),
        Err(Fault::BrokeOff) => "broke off".to_owned(),
        Err(_) => "unreachable".to_owned(),
    }
}

/// How long to wait before it is worth asking again; nothing where it is not.
fn wait(outcome: &Result<Reply, Fault>, attempt: u32) -> Option<Duration> {
    let default = WAIT_DEFAULT * 2_u32.saturating_pow(attempt - 1);
    match outcome {
        Err(fault) => fault.is_passing().then_some(default),
        Ok(reply) => {
            if !is_passing(reply) || reply.headers.get("x-should-retry").map(String::as_str) == Some("false") {
                return None;
            }
            let wanted = wanted(reply).unwrap_or(default);
            (wanted <= WAIT_MAX).then_some(wanted)
        }
    }
}

/// What there is to say where a vendor wants to be left alone for longer than is waited.
fn late(reply: &Reply) -> String {
    let wanted = wanted(reply).filter(|wanted| is_passing(reply) && *wanted > WAIT_MAX);
    let most = WAIT_MAX.as_secs();
    wanted.map_or_else(String::new, |wanted| {
        format!(
            " and wants to be asked again in {} s, longer than the {most} s that are waited for: try later",
            wanted.as_secs()
        )
    })
}

fn is_passing(reply: &Reply) -> bool {
    matches!(reply.status, 408 | 429 | 500 | 502 | 503 | 504 | 529)
}

/// How long the vendor wants to be left alone, if it says so.
fn wanted(reply: &Reply) -> Option<Duration> {
    let number = |name: &str| reply.headers.get(name)?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1e3).or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn finish(outcome: Result<Reply, Fault>, provider: &str, attempts: u32, took: Duration) -> Result<Value, StepError> {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let times = if attempts == 1 { String::new() } else { format!(" (asked {attempts} times)") };
    match outcome {
        Ok(reply) if (200..300).contains(&reply.status) => {
            let body = String::from_utf8_lossy(&reply.body);
            Ok(json!({ "status": reply.status, "body": body, "attempts": attempts, "duration_ms": duration_ms }))
        }
        Ok(reply) => {
            let status =
                StatusCode::from_u16(reply.status).map_or(reply.status.to_string(), |status| status.to_string());
            let body = String::from_utf8_lossy(&reply.body[..reply.body.len().min(FAILURE_BYTES_MAX)]);
            let details =
                json!({ "status": reply.status, "body": body, "attempts": attempts, "duration_ms": duration_ms });
            let late = late(&reply);
            let message = format!("the provider `{provider}` answered {status}{times}{late}");
            Err(StepError::new(ErrorCode::LlmRequestFailed, message).with_details(details))
        }
        Err(error) => {
            let code = if error.is_denial() { ErrorCode::CapabilityDenied } else { ErrorCode::LlmRequestFailed };
            let mut details = json!({ "attempts": attempts, "duration_ms": duration_ms });
            if let Fault::Said(said) = &error {
                let said = said.to_string();
                details["body"] = said[..said.floor_char_boundary(FAILURE_BYTES_MAX)].into();
            }
            Err(StepError::new(code, format!("the provider `{provider}`: {error}{times}")).with_details(details))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, headers: &[(&str, &str)]) -> Option<Duration> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        wait(&Ok(Reply { status, headers, body: Vec::new() }), 2)
    }

    #[test]
    fn a_vendor_is_waited_for_as_long_as_it_says_and_not_for_ever() {
        assert_eq!(told(429, &[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(told(429, &[("retry-after", "7"), ("retry-after-ms", "250")]), Some(Duration::from_millis(250)));
        assert_eq!(told(529, &[]), Some(Duration::from_secs(2)));
        assert_eq!(told(503, &[("retry-after", "60")]), Some(WAIT_MAX));
        assert_eq!(told(503, &[("retry-after", "61")]), None);
        assert_eq!(told(503, &[("retry-after", "-1")]), Some(Duration::from_secs(2)));
        assert_eq!(told(500, &[("x-should-retry", "false")]), None);
        for status in [200, 400, 401, 403, 404, 413, 422] {
            assert_eq!(told(status, &[("retry-after", "1")]), None, "{status}");
        }
    }
}
