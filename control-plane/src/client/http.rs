//! One request and its answer. Reads are tried again where that helps; whatever changes something is sent once.

use super::{Address, ClientError, error::Refused};
use agentruntime_engine::graph::Issue;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{error::Error as _, sync::Arc, time::Duration};
use tokio::time::{self, Instant};

/// Longer than a server is given for a connection, nobody wants to look at nothing.
const CONNECT: Duration = Duration::from_secs(10);
/// Longer than any answer but a stream takes: the longest wait of the API, and some.
const ANSWER: Duration = Duration::from_secs(90);
/// How often a read is repeated that the server puts off.
const PUT_OFF_MAX: u32 = 5;
/// What a server may ask to wait at once; what is longer is told to whoever asked.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The waits between attempts to reach a server that was there before.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(2);
/// An answer is held in memory; none of the API's is near this.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Where at a server: a project of a workspace. A token that is bound to one project needs neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The workspace.
    pub(crate) tenant: Option<String>,
    /// The project.
    pub(crate) project: Option<String>,
}

/// A way to a server.
#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    pub(super) address: Address,
    pub(super) place: Place,
    headers: HeaderMap,
    /// How long a server that does not answer is waited for.
    patience: Duration,
    /// Who is told that something is waited for, and what.
    notice: Option<Notice>,
}

/// Hears a sentence.
pub(crate) type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// An answer that is no refusal.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Http {
    /// A way to a server for whoever holds a token of it.
    pub(crate) fn new(address: Address, token: &SecretString, place: &Place) -> Result<Self, ClientError> {
        let invalid = |why: &str| ClientError::InvalidUrl { url: address.to_string(), why: why.to_owned() };
        let mut headers = HeaderMap::new();
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret().trim()))
            .map_err(|_| invalid("its token has characters that no token has"))?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
        for (name, value) in [("x-tenant-id", &place.tenant), ("x-project-id", &place.project)] {
            let Some(value) = value else { continue };
            let value = HeaderValue::from_str(value)
                .map_err(|_| invalid("the workspace or project has characters that no name has"))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("agentruntime/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT);
        if address.is_loopback() {
            // A proxy of the environment would be sent what must not leave this machine.
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| invalid(&error.to_string()))?;
        Ok(Self { client, address, place: place.clone(), headers, patience: Duration::ZERO, notice: None })
    }

    /// The same that tells somebody when it begins to wait: a command that says nothing for a minute seems to hang.
    pub(crate) fn telling(self, notice: Option<Notice>) -> Self {
        Self { notice, ..self }
    }

    /// The same for somebody who follows what goes on there: a restart of the server is waited out.
    pub(crate) fn patient(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// Reads: tried again where the server puts it off, or was there and is gone.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, ClientError> {
        let give_up = Instant::now() + self.patience;
        let (mut backoff, mut put_off, mut is_told) = (BACKOFF_FIRST, 0, false);
        loop {
            let request = self.request(Method::GET, path).query(query).timeout(ANSWER);
            let error = match self.send(request).await {
                Ok(reply) => return Ok(reply.body),
                Err(error) => error,
            };
            let wait = match &error {
                ClientError::Refused(refused) if matches!(refused.status, 429 | 503) && put_off < PUT_OFF_MAX => {
                    put_off += 1;
                    refused.retry_after_s.map(Duration::from_secs).filter(|wait| *wait <= RETRY_AFTER_MAX)
                }
                error if error.may_pass() && Instant::now() + backoff < give_up => Some(backoff),
                _ => None,
            };
            let Some(wait) = wait else { return Err(error) };
            if let Some(notice) = self.notice.as_ref().filter(|_| !is_told) {
                notice(&self.waiting(&error, wait));
                is_told = true;
            }
            time::sleep(wait).await;
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
    }

    /// What is waited for, and how long.
    fn waiting(&self, error: &ClientError, wait: Duration) -> String {
        match error {
            ClientError::Refused(refused) => format!(
                "{} answers {}: {}; waiting {} s, and asking up to {PUT_OFF_MAX} times",
                self.address,
                refused.status,
                refused.error,
                wait.as_secs().max(1)
            ),
            error => format!("{error} Asking again for up to {} s", self.patience.as_secs()),
        }
    }

    /// Reads into a type.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        let body = self.get(path, query).await?;
        self.parsed(body)
    }

    /// Sends something that changes something: once.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        headers: &[(&'static str, String)],
    ) -> Result<Reply, ClientError> {
        let mut request = self.request(method, path).json(body).timeout(ANSWER);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        self.send(request).await
    }

    /// A stream of live events.
    pub(super) async fn stream(
        &self,
        path: &str,
        query: &[(&str, String)],
        last_id: &str,
    ) -> Result<Response, ClientError> {
        let request = self.request(Method::GET, path).query(query);
        let request = request.header(header::ACCEPT, "text/event-stream").header("last-event-id", last_id);
        let response = request.send().await.map_err(|error| self.unsent(&error))?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.refusal(response).await),
        }
    }

    /// A document as a type.
    pub(super) fn parsed<T: DeserializeOwned>(&self, body: Value) -> Result<T, ClientError> {
        serde_json::from_value(body).map_err(|error| self.unexpected(error.to_string()))
    }

    pub(super) fn unexpected(&self, what: impl Into<String>) -> ClientError {
        ClientError::Unexpected { server: self.address.to_string(), what: what.into() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.address.path(path)).headers(self.headers.clone())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, ClientError> {
        let response = request.send().await.map_err(|error| self.unsent(&error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = self.body(response).await?;
        let body = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).map_err(|_| self.unexpected("its answer is not JSON"))?,
        };
        Ok(Reply { status, headers, body })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unsent(&error))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.unexpected("its answer does not end"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn refusal(&self, response: Response) -> ClientError {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if status.is_redirection() {
            let to = text(header::LOCATION).unwrap_or_else(|| "somewhere else".into());
            return ClientError::Redirected { server: self.address.to_string(), to };
        }
        let body = match self.body(response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
            return self.gateway(status, text(header::RETRY_AFTER));
        };
        if status == StatusCode::UNAUTHORIZED {
            return ClientError::NotAuthenticated { server: self.address.to_string(), error: problem.error };
        }
        // Issues of a kind that a later version knows are told by the sentence alone.
        let issues = problem.issues.into_iter().filter_map(|issue| serde_json::from_value::<Issue>(issue).ok());
        ClientError::Refused(Box::new(Refused {
            status: status.as_u16(),
            code: problem.code,
            error: problem.error,
            details: problem.details,
            issues: issues.collect(),
            retry_after_s: text(header::RETRY_AFTER).and_then(|text| text.parse().ok()),
            request_id: problem.request_id,
        }))
    }

    /// A refusal that is not the API's own: of a proxy before it, or of something else altogether.
    fn gateway(&self, status: StatusCode, retry_after: Option<String>) -> ClientError {
        if !matches!(status.as_u16(), 429 | 502..=504) {
            return self.unexpected(format!("it answers {status}"));
        }
        ClientError::Refused(Box::new(Refused {
            status: status.as_u16(),
            code: "SERVER_UNAVAILABLE".into(),
            error: format!("something before {} answers {status}", self.address),
            details: None,
            issues: Vec::new(),
            retry_after_s: retry_after.and_then(|text| text.parse().ok()),
            request_id: None,
        }))
    }

    fn unsent(&self, error: &reqwest::Error) -> ClientError {
        let server = self.address.to_string();
        let mut reasons: Vec<String> = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            reasons.push(error.to_string());
            cause = error.source();
        }
        // The last cause is what happened; those before say only that something did.
        let reason = reasons.pop().unwrap_or_else(|| error.to_string());
        let is_tls = reason.contains("certificate") || reason.contains("TLS") || reason.contains("corrupt message");
        if error.is_timeout() {
            let waited = if error.is_connect() { CONNECT } else { ANSWER };
            ClientError::Silent { server, seconds: waited.as_secs() }
        } else if is_tls {
            ClientError::Tls { server, reason }
        } else {
            ClientError::Unreachable { server, reason }
        }
    }
}

#[derive(Deserialize)]
struct Problem {
    error: String,
    code: String,
    details: Option<Value>,
    #[serde(default)]
    issues: Vec<Value>,
    request_id: Option<String>,
}
