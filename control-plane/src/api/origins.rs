//! Pages of other origins that use the API from a browser: none, but those that the operator names, and these with tokens
//! only: no answer says that cookies may be sent along.

use super::State;
use axum::{
    extract::{Request, State as Given},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, if-match, last-event-id, traceparent, x-project-id, x-tenant-id",
);
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "etag, idempotency-replayed, retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, x-request-id",
);
/// A browser asks again after this many seconds.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// Lets the pages of named origins read answers.
pub(super) async fn allow(Given(app): Given<State>, request: Request, next: Next) -> Response {
    if app.settings.allowed_origins.is_empty() {
        return next.run(request).await;
    }
    let given = request.headers().get(header::ORIGIN).cloned();
    let allowed = given.filter(|origin| app.settings.allowed_origins.iter().any(|it| it.as_str() == origin));
    let asks_first =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match (&allowed, asks_first) {
        (Some(_), true) => may_send(),
        _ => next.run(request).await,
    };
    // Caches keep the answers to different origins apart.
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = allowed {
        may_read(response.headers_mut(), origin);
    }
    response
}

fn may_send() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    response
}

fn may_read(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}
