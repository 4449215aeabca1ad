//! The HTTP of the client: Streamable HTTP over the egress, so that addresses, redirects, sizes and secrets are its affair.
//!
//! One wire serves one session. What fails on it is remembered, with the request that it failed for, because the library above
//! tells it with less words, or not at all.

use super::{
    MCP_MESSAGE_BYTES_MAX, MCP_REQUESTS_MAX, MCP_STREAM_BYTES_MAX,
    failure::{Failure, shortened},
    session::IDEMPOTENCY_META,
};
use agentruntime_egress::{Egress, EgressError, LineLimits, Opened, Scrubber, Secret, Send as Sending};
use agentruntime_host_api::{Fetch, HostPattern, Method, Part, Text};
use axum::http::{HeaderName, HeaderValue};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, ErrorData, GetMeta, RequestId, ServerJsonRpcMessage},
    transport::{
        auth::WWWAuthenticateParams,
        common::http_header::{EVENT_STREAM_MIME_TYPE, HEADER_LAST_EVENT_ID, HEADER_SESSION_ID, JSON_MIME_TYPE},
        streamable_http_client::{
            SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse as Answer,
        },
    },
};
use secrecy::ExposeSecret;
use serde_json::Value;
use sse_stream::{Sse, SseStream};
use std::{
    collections::{BTreeMap, HashMap},
    io::Cursor,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::Notify;
use url::Url;

/// How long an answer may take to begin at the most. Whoever asked waits less long, and gives the request up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// One server, and what it is told of who asks.
#[derive(Clone)]
pub(super) struct Wire(Arc<Inner>);

/// What a wire is made of.
#[derive(Clone)]
pub(super) struct Ends {
    /// What everything goes through.
    pub(super) egress: Egress,
    /// The server.
    pub(super) url: Url,
    /// Headers with credentials, by name.
    pub(super) headers: BTreeMap<String, Text>,
    /// The credentials, by the names in the headers.
    pub(super) secrets: BTreeMap<String, Secret>,
}

impl Ends {
    /// Takes the credentials out of texts.
    pub(super) fn scrubber(&self) -> Scrubber {
        Scrubber::of(self.secrets.values().map(|secret| &secret.value))
    }
}

struct Inner {
    ends: Ends,
    /// Requests, and redirects of them, stay with the server.
    hosts: Vec<HostPattern>,
    /// Since a call began last.
    sent: AtomicUsize,
    /// Where the session stands.
    standing: Standing,
    failures: Mutex<Failures>,
    failed: Notify,
}

/// Where a session stands.
#[derive(Default)]
struct Standing {
    /// The server has been greeted.
    is_begun: AtomicBool,
    /// It was used before, so that the server knew it then.
    is_kept: AtomicBool,
    /// The server said that it tells when its tools change, and nobody listens yet.
    tells: AtomicBool,
    /// Its credentials are not used any more.
    is_anonymous: AtomicBool,
}

/// What failed.
#[derive(Default)]
struct Failures {
    /// The session as a whole.
    all: Option<Failure>,
    /// By requests.
    of: HashMap<RequestId, Failure>,
    /// The last event of the stream of each request that has some, by which it would be taken up again.
    events: HashMap<RequestId, String>,
}

/// What something failed for.
#[derive(Clone, Copy)]
enum Whose<'r> {
    /// One request.
    Request(&'r RequestId),
    /// The session.
    Session,
    /// Nothing that anybody waits for, once the session has begun.
    Nobody,
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
        let (sent, standing) = (AtomicUsize::new(0), Standing::default());
        Self(Arc::new(Inner { ends, hosts, sent, standing, failures: Mutex::default(), failed: Notify::new() }))
    }

    /// Waits until something failed that the session, or this request in it, cannot survive.
    pub(super) async fn failed(&self, request: Option<&RequestId>) -> Failure {
        loop {
            let failed = self.0.failed.notified();
            tokio::pin!(failed);
            failed.as_mut().enable();
            if let Some(failure) = self.failure(request) {
                return failure;
            }
            failed.await;
        }
    }

    /// What failed, if something did. Of a request it is told once.
    pub(super) fn failure(&self, request: Option<&RequestId>) -> Option<Failure> {
        let mut failures = self.failures();
        let own = request.and_then(|request| failures.of.remove(request));
        own.or_else(|| failures.all.clone())
    }

    /// Nobody waits for this request any more.
    pub(super) fn settled(&self, request: &RequestId) {
        let mut failures = self.failures();
        failures.of.remove(request);
        failures.events.remove(request);
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has been greeted: from now on, what fails is one request's.
    pub(super) fn is_begun(&self) {
        self.0.standing.is_begun.store(true, Relaxed);
    }

    /// Somebody uses the session who did not begin it.
    pub(super) fn is_kept(&self) {
        self.0.standing.is_kept.store(true, Relaxed);
    }

    /// A call begins: it may take as many requests as any.
    pub(super) fn is_used(&self) {
        self.0.sent.store(0, Relaxed);
    }

    /// The credentials are somebody else's by now: what is still sent goes without.
    pub(super) fn drop_credentials(&self) {
        self.0.standing.is_anonymous.store(true, Relaxed);
    }

    /// Whether these are its own ends: the same server, told the same.
    pub(super) fn has(&self, ends: &Ends) -> bool {
        let own = &self.0.ends;
        let same = |(name, secret): (&String, &Secret)| {
            let other = ends.secrets.get(name);
            other.is_some_and(|it| it.value.expose_secret() == secret.value.expose_secret() && it.hosts == secret.hosts)
        };
        own.url == ends.url
            && own.headers == ends.headers
            && own.secrets.len() == ends.secrets.len()
            && own.secrets.iter().all(same)
    }

    /// The server.
    pub(super) fn url(&self) -> &Url {
        &self.0.ends.url
    }

    fn fail(&self, whose: Whose<'_>, failure: Failure) -> Refused {
        let error = WireError(failure.to_string());
        let mut failures = self.failures();
        // The first failure is the cause of the others.
        match whose {
            Whose::Request(id) if self.0.standing.is_begun.load(Relaxed) => {
                failures.of.entry(id.clone()).or_insert(failure);
            }
            Whose::Nobody if self.0.standing.is_begun.load(Relaxed) => {}
            Whose::Request(_) | Whose::Session | Whose::Nobody => {
                failures.all.get_or_insert(failure);
            }
        }
        drop(failures);
        self.0.failed.notify_waiters();
        StreamableHttpError::Client(error)
    }

    /// The server does not know the session.
    fn forgotten(&self, whose: Whose<'_>) -> Refused {
        self.fail(whose, Failure::Forgotten);
        StreamableHttpError::SessionExpired
    }

    async fn open(&self, whose: Whose<'_>, method: Method, request: Request) -> Result<Opened, Refused> {
        if self.0.sent.fetch_add(1, Relaxed) >= MCP_REQUESTS_MAX {
            let what = format!("it makes more than {MCP_REQUESTS_MAX} requests of one");
            return Err(self.fail(Whose::Session, Failure::misfit(what)));
        }
        let Ends { egress, url, headers, secrets } = &self.0.ends;
        let mut all = request.headers;
        if !self.0.standing.is_anonymous.load(Relaxed) {
            // What carries credentials is the registry's to say, not the library's.
            all.extend(headers.clone());
        }
        let timeout = Some(ANSWER_TIMEOUT);
        let fetch = Fetch { method, url: url.clone(), headers: all, body: request.body, timeout };
        let key = request.idempotency_key.as_deref();
        let sending = Sending { fetch: &fetch, hosts: &self.0.hosts, secrets, idempotency_key: key };
        egress.open(sending).await.map_err(|error| self.fail(whose, Failure::from(&error)))
    }

    async fn post(&self, message: ClientJsonRpcMessage, request: Request) -> Result<Answer, Refused> {
        let has_session = request.has_session();
        let id = match &message {
            ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let whose = id.as_ref().map_or(Whose::Nobody, Whose::Request);
        let body = serde_json::to_string(&message)?;
        let request = request.with("content-type", JSON_MIME_TYPE).with_body(body).with_key(key_of(&message));
        let opened = self.open(whose, Method::Post, request).await?;
        let session = opened.headers.get(&HEADER_SESSION_ID.to_ascii_lowercase()).cloned();
        match (opened.status, &id) {
            (404, _) if has_session => Err(self.forgotten(whose)),
            (200..=299, None) => Ok(Answer::Accepted),
            (200..=299, Some(id)) => {
                let is_greeting = is(&message, |it| matches!(it, ClientRequest::InitializeRequest(_)));
                self.answer(opened, id, session, is_greeting).await
            }
            (status, Some(id)) => {
                let is_probe = !has_session && is(&message, |it| matches!(it, ClientRequest::DiscoverRequest(_)));
                let refused = match (is_probe && is_legacy(status), has_session) {
                    (true, _) => Asked::Probe,
                    (false, true) if self.0.standing.is_kept.load(Relaxed) => Asked::InKeptSession,
                    (false, _) => Asked::Otherwise,
                };
                self.refusal(opened, id, refused).await
            }
            (_, None) => Err(self.fail(whose, refused(&opened, self.url()))),
        }
    }

    /// What a request is answered with.
    async fn answer(
        &self,
        opened: Opened,
        id: &RequestId,
        session: Option<String>,
        is_greeting: bool,
    ) -> Result<Answer, Refused> {
        let whose = Whose::Request(id);
        match kind(&opened) {
            Some(Kind::Json) => {
                let reply = opened.whole(MCP_MESSAGE_BYTES_MAX).await;
                let body = reply.map_err(|error| self.fail(whose, Failure::from(&error)))?.body;
                if is_greeting {
                    self.hear_greeting(&body);
                }
                let message = serde_json::from_slice(&body).ok().and_then(|message| answering(message, id));
                let misfit = || Failure::misfit("its reply answers no request of ours");
                Ok(Answer::Json(message.ok_or_else(|| self.fail(whose, misfit()))?, session))
            }
            Some(Kind::Events) => {
                let events = self.events(opened, Some(id.clone()));
                if !is_greeting {
                    return Ok(Answer::Sse(events, session));
                }
                let wire = self.clone();
                let events = events.inspect_ok(move |event| {
                    wire.hear_greeting(event.data.as_deref().unwrap_or_default().as_bytes());
                });
                Ok(Answer::Sse(events.boxed(), session))
            }
            None => {
                let what = "its reply is neither JSON nor a stream of events; is this the address of its MCP endpoint?";
                Err(self.fail(whose, Failure::misfit(what)))
            }
        }
    }

    /// Whether a server that greets says that it tells when its tools change.
    fn hear_greeting(&self, message: &[u8]) {
        let message: Value = serde_json::from_slice(message).unwrap_or_default();
        if message["result"]["capabilities"]["tools"]["listChanged"] == true {
            self.0.standing.tells.store(true, Relaxed);
        }
    }

    /// A request that is refused with a status can be so in the protocol's own words.
    async fn refusal(&self, opened: Opened, id: &RequestId, asked: Asked) -> Result<Answer, Refused> {
        let (status, whose) = (opened.status, Whose::Request(id));
        let refused = refused(&opened, self.url());
        let said = match kind(&opened) {
            Some(Kind::Json) if !matches!(status, 401 | 403) => opened.whole(MCP_MESSAGE_BYTES_MAX).await.ok(),
            _ => None,
        };
        let said = said.and_then(|reply| serde_json::from_slice(&reply.body).ok());
        match (said, asked) {
            // So servers answer that were started anew: not this request is wrong, they have not looked at it.
            (Some(ServerJsonRpcMessage::Error(error)), Asked::InKeptSession) if status == 400 && error.id.is_none() => {
                Err(self.forgotten(whose))
            }
            (Some(ServerJsonRpcMessage::Error(error)), _) => {
                Ok(Answer::Json(ServerJsonRpcMessage::error(error.error, Some(id.clone())), None))
            }
            // A server of an older revision does not know what it is asked first.
            (_, Asked::Probe) => {
                let error = ErrorData::invalid_request(format!("refused with the status {status}"), None);
                Ok(Answer::Json(ServerJsonRpcMessage::error(error, Some(id.clone())), None))
            }
            _ => Err(self.fail(whose, refused)),
        }
    }

    /// The events of a stream, which answers a request or is listened to. One that merely breaks off can be taken up again.
    fn events(&self, opened: Opened, of: Option<RequestId>) -> BoxStream<'static, Result<Sse, SseError>> {
        let (wire, hearing, id) = (self.clone(), self.clone(), of.clone());
        let lines = opened.lines(LIMITS).map_ok(Cursor::new).inspect_err(move |error| {
            if !matches!(error, EgressError::Unreachable { .. }) {
                wire.fail(of.as_ref().map_or(Whose::Nobody, Whose::Request), Failure::from(error));
            }
        });
        let events = SseStream::from_bytes_stream(lines).inspect_ok(move |event| {
            if let (Some(id), Some(event)) = (&id, &event.id) {
                hearing.failures().events.insert(id.clone(), event.clone());
            }
        });
        events.boxed()
    }

    /// The request whose stream broke off after this event.
    fn broken_off_at(&self, event: &str) -> Option<RequestId> {
        let mut failures = self.failures();
        let of = failures.events.iter().find(|(_, last)| *last == event).map(|(of, _)| of.clone())?;
        failures.events.remove(&of);
        Some(of)
    }

    /// Takes up a stream that broke off.
    async fn take_up(
        &self,
        id: &RequestId,
        request: Request,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Refused> {
        let whose = Whose::Request(id);
        let opened = self.open(whose, Method::Get, request).await?;
        match (opened.status, kind(&opened)) {
            (200..=299, Some(Kind::Events)) => Ok(self.events(opened, Some(id.clone()))),
            (405, _) => Err(StreamableHttpError::ServerDoesNotSupportSse),
            _ => Err(self.fail(whose, refused(&opened, self.url()))),
        }
    }

    /// Listens to what a server says unasked, once in a session: where that ends, tools are listed again soon enough.
    async fn listen(&self, request: Request) -> Result<BoxStream<'static, Result<Sse, SseError>>, Refused> {
        if !self.0.standing.tells.swap(false, Relaxed) {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        match self.open(Whose::Nobody, Method::Get, request).await {
            Ok(opened) if opened.status < 300 && matches!(kind(&opened), Some(Kind::Events)) => {
                Ok(self.events(opened, None))
            }
            _ => Err(StreamableHttpError::ServerDoesNotSupportSse),
        }
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
        let request = Request::new(headers, Some(&session));
        self.open(Whose::Nobody, Method::Delete, request).await.map(|_| ())
    }

    /// To take up a stream that broke off, and to hear when tools change. What else a server says unasked is not listened to.
    async fn get_stream(
        &self,
        _: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Refused> {
        let request = Request::new(headers, session.as_deref()).with("accept", EVENT_STREAM_MIME_TYPE);
        let Some(last_event) = last_event else { return self.listen(request).await };
        match self.broken_off_at(&last_event) {
            Some(id) => self.take_up(&id, request.with(HEADER_LAST_EVENT_ID, &last_event)).await,
            None => Err(StreamableHttpError::ServerDoesNotSupportSse),
        }
    }
}

/// Headers and a body that go out, without credentials.
struct Request {
    headers: BTreeMap<String, Text>,
    body: Option<String>,
    /// What tells the server that a call comes again.
    idempotency_key: Option<String>,
}

/// How a request was asked that is refused.
enum Asked {
    /// To find out which revision the server speaks.
    Probe,
    /// In a session that the server knew before.
    InKeptSession,
    /// In a new session, or without one.
    Otherwise,
}

impl Request {
    fn new(headers: HashMap<HeaderName, HeaderValue>, session: Option<&str>) -> Self {
        let plain = |value: &HeaderValue| Text(vec![Part::Plain(value.to_str().unwrap_or_default().to_owned())]);
        let headers = headers.iter().map(|(name, value)| (name.as_str().to_owned(), plain(value))).collect();
        let request = Self { headers, body: None, idempotency_key: None };
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

    fn with_key(self, idempotency_key: Option<String>) -> Self {
        Self { idempotency_key, ..self }
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

/// What tells the server that a call comes again.
fn key_of(message: &ClientJsonRpcMessage) -> Option<String> {
    match message {
        ClientJsonRpcMessage::Request(request) if is(message, |it| matches!(it, ClientRequest::CallToolRequest(_))) => {
            request.request.get_meta().get(IDEMPOTENCY_META)?.as_str().map(str::to_owned)
        }
        _ => None,
    }
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

/// What an answer says that is none.
fn refused(opened: &Opened, server: &Url) -> Failure {
    let status = opened.status;
    if let (403, Some(said)) = (status, opened.headers.get("www-authenticate")) {
        let said = WWWAuthenticateParams::parse(said, server);
        if said.is_insufficient_scope() {
            let scopes = shortened(&said.scope.unwrap_or_default());
            return Failure::Scopes(scopes.split_whitespace().map(str::to_owned).collect());
        }
    }
    let wants_oauth = opened.headers.get("www-authenticate").is_some_and(|said| said.contains("resource_metadata"));
    let remedy = match status {
        401 if wants_oauth => {
            "; it wants access by OAuth: POST /v1/mcp/servers/{id}/authorize makes a connection that has it; discover with its \
             `connection_id`, and for steps bind it in the active config profile of the instance"
        }
        401 | 403 => {
            "; it wants to know who asks: give what it takes in a connection (`credential_fields` of the server say in which \
             headers), discover with its `connection_id`, and for steps bind it in the active config profile of the instance"
        }
        404 => "; is this the address of its MCP endpoint?",
        429 => "; it is asked too often",
        _ => "",
    };
    let message = format!("the MCP server answered with the status {status}{remedy}");
    match status {
        401 => Failure::Unauthorized(message),
        _ => Failure::Upstream(message),
    }
}
