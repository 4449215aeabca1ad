//! The HTTP of the client: Streamable HTTP over the egress, so that addresses, redirects, sizes and secrets are its affair.
//!
//! One wire serves one conversation. What fails on it is remembered, because the library above tells it with less words, or
//! not at all.

use super::{MCP_MESSAGE_BYTES_MAX, MCP_REQUESTS_MAX, MCP_STREAM_BYTES_MAX, failure::Failure};
use agentruntime_egress::{Egress, EgressError, LineLimits, Opened, Scrubber, Secret, Send as Sending};
use agentruntime_host_api::{Fetch, HostPattern, Method, Part, Text};
use axum::http::{HeaderName, HeaderValue};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, ErrorData, RequestId, ServerJsonRpcMessage},
    transport::{
        common::http_header::{EVENT_STREAM_MIME_TYPE, HEADER_LAST_EVENT_ID, HEADER_SESSION_ID, JSON_MIME_TYPE},
        streamable_http_client::{
            SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse as Answer,
        },
    },
};
use sse_stream::{Sse, SseStream};
use std::{
    collections::{BTreeMap, HashMap},
    io::Cursor,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use url::Url;

/// One server, and what it is told of who asks.
#[derive(Clone)]
pub(super) struct Wire(Arc<Inner>);

/// What a wire is made of.
pub(super) struct Ends {
    /// What everything goes through.
    pub(super) egress: Egress,
    /// The server.
    pub(super) url: Url,
    /// Headers with credentials, by name.
    pub(super) headers: BTreeMap<String, Text>,
    /// The credentials, by the names in the headers.
    pub(super) secrets: BTreeMap<String, Secret>,
    /// What tells the server that a call comes again.
    pub(super) idempotency_key: Option<String>,
    /// How long any answer may take to begin.
    pub(super) timeout: Duration,
}

struct Inner {
    ends: Ends,
    /// Requests, and redirects of them, stay with the server.
    hosts: Vec<HostPattern>,
    sent: AtomicUsize,
    failure: Mutex<Option<Failure>>,
    failed: CancellationToken,
}

/// What the library is told of a failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct WireError(String);

type Refused = StreamableHttpError<WireError>;

const LIMITS: LineLimits = LineLimits { line_bytes_max: MCP_MESSAGE_BYTES_MAX, bytes_max: MCP_STREAM_BYTES_MAX };

impl Wire {
    pub(super) fn new(ends: Ends) -> Self {
        let hosts = HostPattern::of(&ends.url).into_iter().collect();
        let (sent, failure, failed) = (AtomicUsize::new(0), Mutex::default(), CancellationToken::new());
        Self(Arc::new(Inner { ends, hosts, sent, failure, failed }))
    }

    /// Waits until something failed that the conversation cannot survive.
    pub(super) async fn failed(&self) -> Failure {
        self.0.failed.cancelled().await;
        self.failure().unwrap_or(Failure::Stopped)
    }

    /// What failed, if something did.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server.
    pub(super) fn url(&self) -> &Url {
        &self.0.ends.url
    }

    /// Takes the credentials out of texts.
    pub(super) fn scrubber(&self) -> Scrubber {
        Scrubber::of(self.0.ends.secrets.values().map(|secret| &secret.value))
    }

    fn fail(&self, failure: Failure) -> Refused {
        let error = WireError(failure.to_string());
        // The first failure is the cause of the others.
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.0.failed.cancel();
        StreamableHttpError::Client(error)
    }

    async fn open(&self, method: Method, request: Request, key: Option<&str>) -> Result<Opened, Refused> {
        if self.0.sent.fetch_add(1, Relaxed) >= MCP_REQUESTS_MAX {
            let what = format!("it makes more than {MCP_REQUESTS_MAX} requests of one");
            return Err(self.fail(Failure::misfit(what)));
        }
        let Ends { egress, url, headers, secrets, timeout, .. } = &self.0.ends;
        let mut all = request.headers;
        // What carries credentials is the registry's to say, not the library's.
        all.extend(headers.clone());
        let fetch = Fetch { method, url: url.clone(), headers: all, body: request.body, timeout: Some(*timeout) };
        let sending = Sending { fetch: &fetch, hosts: &self.0.hosts, secrets, idempotency_key: key };
        egress.open(sending).await.map_err(|error| self.fail(Failure::from(&error)))
    }

    async fn post(&self, message: ClientJsonRpcMessage, request: Request) -> Result<Answer, Refused> {
        let has_session = request.has_session();
        let id = match &message {
            ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let is_call = is(&message, |request| matches!(request, ClientRequest::CallToolRequest(_)));
        let key = self.0.ends.idempotency_key.as_deref().filter(|_| is_call);
        let body = serde_json::to_string(&message)?;
        let request = request.with("content-type", JSON_MIME_TYPE).with_body(body);
        let opened = self.open(Method::Post, request, key).await?;
        let session = opened.headers.get(&HEADER_SESSION_ID.to_ascii_lowercase()).cloned();
        match (opened.status, id) {
            (404, _) if has_session => Err(StreamableHttpError::SessionExpired),
            (200..=299, None) => Ok(Answer::Accepted),
            (200..=299, Some(id)) => self.answer(opened, &id, session).await,
            (status, Some(id)) => {
                let is_probe = !has_session && is(&message, |it| matches!(it, ClientRequest::DiscoverRequest(_)));
                self.refusal(opened, id, is_probe && is_legacy(status)).await
            }
            (status, None) => Err(self.fail(refused_with(status))),
        }
    }

    /// What a request is answered with.
    async fn answer(&self, opened: Opened, id: &RequestId, session: Option<String>) -> Result<Answer, Refused> {
        match kind(&opened) {
            Some(Kind::Json) => {
                let reply = opened.whole(MCP_MESSAGE_BYTES_MAX).await;
                let body = reply.map_err(|error| self.fail(Failure::from(&error)))?.body;
                let message = serde_json::from_slice(&body).ok().and_then(|message| answering(message, id));
                let message = message.ok_or_else(|| self.fail(Failure::misfit("its reply answers no request of ours")));
                Ok(Answer::Json(message?, session))
            }
            Some(Kind::Events) => Ok(Answer::Sse(self.events(opened), session)),
            None => {
                let what = "its reply is neither JSON nor a stream of events; is this the address of its MCP endpoint?";
                Err(self.fail(Failure::misfit(what)))
            }
        }
    }

    /// A request that is refused with a status can be so in the protocol's own words.
    async fn refusal(&self, opened: Opened, id: RequestId, is_probe: bool) -> Result<Answer, Refused> {
        let status = opened.status;
        let said = match kind(&opened) {
            Some(Kind::Json) if !matches!(status, 401 | 403) => opened.whole(MCP_MESSAGE_BYTES_MAX).await.ok(),
            _ => None,
        };
        let said = said.and_then(|reply| serde_json::from_slice(&reply.body).ok());
        match said {
            Some(ServerJsonRpcMessage::Error(error)) => {
                Ok(Answer::Json(ServerJsonRpcMessage::error(error.error, Some(id)), None))
            }
            // A server of an older revision does not know what it is asked first.
            _ if is_probe => {
                let error = ErrorData::invalid_request(format!("refused with the status {status}"), None);
                Ok(Answer::Json(ServerJsonRpcMessage::error(error, Some(id)), None))
            }
            _ => Err(self.fail(refused_with(status))),
        }
    }

    /// The events of a stream. One that merely breaks off can be taken up again.
    fn events(&self, opened: Opened) -> BoxStream<'static, Result<Sse, SseError>> {
        let wire = self.clone();
        let lines = opened.lines(LIMITS).map_ok(Cursor::new).inspect_err(move |error| {
            if !matches!(error, EgressError::Unreachable { .. }) {
                wire.fail(Failure::from(error));
            }
        });
        SseStream::from_bytes_stream(lines).boxed()
    }
}

impl StreamableHttpClient for Wire {
    type Error = WireError;

    async fn post_message(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Answer, Refused> {
        let accepted = format!("{JSON_MIME_TYPE}, {EVENT_STREAM_MIME_TYPE}");
        self.post(message, Request::new(headers, session.as_deref()).with("accept", &accepted)).await
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Refused> {
        // Whatever it answers: nobody uses the session again.
        self.open(Method::Delete, Request::new(headers, Some(&session)), None).await.map(|_| ())
    }

    /// Only to take up a stream that broke off: what a server says unasked is not listened to.
    async fn get_stream(
        &self,
        _: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Refused> {
        let Some(last_event) = last_event else { return Err(StreamableHttpError::ServerDoesNotSupportSse) };
        let request = Request::new(headers, session.as_deref()).with("accept", EVENT_STREAM_MIME_TYPE);
        let opened = self.open(Method::Get, request.with(HEADER_LAST_EVENT_ID, &last_event), None).await?;
        match (opened.status, kind(&opened)) {
            (200..=299, Some(Kind::Events)) => Ok(self.events(opened)),
            (405, _) => Err(StreamableHttpError::ServerDoesNotSupportSse),
            (status, _) => Err(self.fail(refused_with(status))),
        }
    }
}

/// Headers and a body that go out, without credentials.
struct Request {
    headers: BTreeMap<String, Text>,
    body: Option<String>,
}

impl Request {
    fn new(headers: HashMap<HeaderName, HeaderValue>, session: Option<&str>) -> Self {
        let plain = |value: &HeaderValue| Text(vec![Part::Plain(value.to_str().unwrap_or_default().to_owned())]);
        let headers = headers.iter().map(|(name, value)| (name.as_str().to_owned(), plain(value))).collect();
        let request = Self { headers, body: None };
        match session {
            Some(session) => request.with(HEADER_SESSION_ID, session),
            None => request,
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), Text(vec![Part::Plain(value.to_owned())]));
        self
    }

    fn with_body(self, body: String) -> Self {
        Self { body: Some(body), ..self }
    }

    fn has_session(&self) -> bool {
        self.headers.contains_key(&HEADER_SESSION_ID.to_ascii_lowercase())
    }
}

enum Kind {
    Json,
    Events,
}

fn kind(opened: &Opened) -> Option<Kind> {
    let kind = opened.headers.get("content-type")?.split(';').next()?.trim().to_ascii_lowercase();
    match kind.as_str() {
        JSON_MIME_TYPE => Some(Kind::Json),
        EVENT_STREAM_MIME_TYPE => Some(Kind::Events),
        _ => None,
    }
}

fn is(message: &ClientJsonRpcMessage, what: impl Fn(&ClientRequest) -> bool) -> bool {
    matches!(message, ClientJsonRpcMessage::Request(request) if what(&request.request))
}

/// Whether a status says that a server does not know the request, and not that it does not know who asks.
fn is_legacy(status: u16) -> bool {
    (400..=499).contains(&status) && !matches!(status, 401 | 403)
}

/// The message, if it answers this request. An error that names none can only be about this one. Servers may write a number
/// as a text.
fn answering(message: ServerJsonRpcMessage, asked: &RequestId) -> Option<ServerJsonRpcMessage> {
    let is_asked = |id: &RequestId| id.to_string() == asked.to_string();
    match message {
        ServerJsonRpcMessage::Response(reply) if is_asked(&reply.id) => Some(ServerJsonRpcMessage::Response(reply)),
        ServerJsonRpcMessage::Error(error) if error.id.as_ref().is_none_or(is_asked) => {
            Some(ServerJsonRpcMessage::error(error.error, Some(asked.clone())))
        }
        _ => None,
    }
}

fn refused_with(status: u16) -> Failure {
    let remedy = match status {
        401 | 403 => "; bind credentials that it takes in a config profile of the instance, and make that one active",
        404 => "; is this the address of its MCP endpoint?",
        429 => "; it is asked too often",
        _ => "",
    };
    Failure::Upstream(format!("the MCP server answered with the status {status}{remedy}"))
}
