//! The HTTP of authorizations: over the egress, so that addresses, sizes and times are its affair. A request that carries
//! something is not redirected anywhere, and a question only within its origin.

use super::{OAUTH_REPLY_BYTES_MAX, OAUTH_REQUESTS_MAX, OAUTH_TIMEOUT};
use agentruntime_egress::{Egress, EgressError, Reply, Send as Sending};
use agentruntime_host_api::{Fetch, HostPattern, Method, Part, Text};
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use rmcp::transport::auth::{OAuthHttpClient, OAuthHttpClientFuture, OAuthHttpRequest};
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use url::Url;

/// What the libraries send by, for one purpose.
#[derive(Clone)]
pub(super) struct OverEgress {
    egress: Egress,
    sent: Arc<AtomicUsize>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpFailure {
    /// It is no request that we send.
    #[error("it would take a request that is not sent from here")]
    Odd,
    /// There would be no end of it.
    #[error("it takes more than {OAUTH_REQUESTS_MAX} requests")]
    TooMany,
    /// Somebody is to be asked elsewhere.
    #[error("{0} answers with a redirect to another place, which is not followed")]
    Redirected(String),
    /// It takes too long.
    #[error("{0} did not answer in full within {seconds} s", seconds = OAUTH_TIMEOUT.as_secs())]
    Late(String),
    /// It may not be asked, or does not answer.
    #[error(transparent)]
    Egress(EgressError),
}

impl HttpFailure {
    fn of(error: EgressError) -> Self {
        match error {
            EgressError::RedirectNotGranted { from, .. } => Self::Redirected(from),
            other => Self::Egress(other),
        }
    }
}

type Sent = Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, HttpFailure>> + Send>>;

impl OverEgress {
    /// For one purpose.
    pub(super) fn new(egress: &Egress) -> Self {
        Self { egress: egress.clone(), sent: Arc::default() }
    }

    /// Sends requests of a library.
    pub(super) fn sender(&self) -> impl Fn(Request<Vec<u8>>) -> Sent + use<> {
        let http = self.clone();
        move |request| http.send(request)
    }

    fn send(&self, request: Request<Vec<u8>>) -> Sent {
        let http = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let url: Url = parts.uri.to_string().parse().map_err(|_| HttpFailure::Odd)?;
            let method = match parts.method.as_str() {
                "GET" => Method::Get,
                "POST" => Method::Post,
                _ => return Err(HttpFailure::Odd),
            };
            let mut headers = BTreeMap::from([("accept".to_owned(), plain("application/json"))]);
            for (name, value) in &parts.headers {
                let value = value.to_str().map_err(|_| HttpFailure::Odd)?;
                headers.insert(name.as_str().to_owned(), plain(value));
            }
            let body = (!body.is_empty()).then(|| String::from_utf8(body)).transpose().map_err(|_| HttpFailure::Odd)?;
            let reply = http.ask(&Fetch { method, url, headers, body, timeout: Some(OAUTH_TIMEOUT) }).await?;
            answer(reply)
        })
    }

    /// What a server says of how it wants to be asked, where it refuses (401). The answer itself is not read.
    pub(super) async fn challenge(&self, fetch: &Fetch) -> Result<Option<String>, HttpFailure> {
        let own = HostPattern::of(&fetch.url);
        let secrets = BTreeMap::new();
        let sending = Sending { fetch, hosts: own.as_slice(), secrets: &secrets, idempotency_key: None };
        let opened = self.egress.open(sending).await.map_err(HttpFailure::of)?;
        Ok(opened.headers.get("www-authenticate").filter(|_| opened.status == 401).cloned())
    }

    /// Sends one request, and reads the whole answer.
    pub(super) async fn ask(&self, fetch: &Fetch) -> Result<Reply, HttpFailure> {
        if self.sent.fetch_add(1, Relaxed) >= OAUTH_REQUESTS_MAX {
            return Err(HttpFailure::TooMany);
        }
        let own = HostPattern::of(&fetch.url).filter(|_| fetch.method == Method::Get);
        let origin = fetch.url.origin().ascii_serialization();
        let sending = Sending {
            fetch,
            hosts: own.as_slice(),
            // What a server gives is kept, and what it says of failures is cleaned where it is told.
            secrets: &BTreeMap::new(),
            idempotency_key: None,
        };
        let whole = async { self.egress.open(sending).await?.whole(OAUTH_REPLY_BYTES_MAX).await };
        match tokio::time::timeout(OAUTH_TIMEOUT, whole).await {
            Ok(reply) => reply.map_err(HttpFailure::of),
            Err(_) => Err(HttpFailure::Late(origin)),
        }
    }
}

impl OAuthHttpClient for OverEgress {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        // Whatever the library would have followed.
        Box::pin(async move { Ok(self.send(request.request).await?) })
    }
}

fn plain(text: &str) -> Text {
    Text(vec![Part::Plain(text.to_owned())])
}

fn answer(reply: Reply) -> Result<Response<Vec<u8>>, HttpFailure> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = StatusCode::from_u16(reply.status).map_err(|_| HttpFailure::Odd)?;
    for (name, value) in &reply.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    // Where it leads was followed, or is not.
    response.headers_mut().remove(header::LOCATION);
    Ok(response)
}
