//! Each request as a line of the log, as numbers, and as the beginning of a trace.
//!
//! Tells method, route and outcome; never paths with their ids, queries, headers or bodies.

use crate::{
    access::{Caller, Credential, PatId, RequestId, UserId, caller::Origin},
    observe::Telling,
};
use agentruntime_host_api::TenantId;
use axum::{
    extract::{MatchedPath, Request, State as Given},
    http::{HeaderMap, Method, StatusCode},
    middleware::Next,
    response::Response,
};
use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tracing::{Instrument, Span};

/// Who sent a request, as far as that comes out while it is served.
#[derive(Clone, Default)]
pub(super) struct Trail(Arc<Found>);

/// A workspace, by both of its names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Workspace {
    /// Its id.
    pub(super) tenant: TenantId,
    /// Its name in URLs and headers.
    pub(super) slug: String,
}

#[derive(Default)]
struct Found {
    workspace: OnceLock<Workspace>,
    place: OnceLock<TenantId>,
    caller: OnceLock<(UserId, Option<PatId>)>,
    verdict: OnceLock<Verdict>,
}

/// What was found about a request's credential, where anybody looked at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is somebody's.
    Genuine,
    /// It is nobody's.
    Wrong,
}

// What was found first holds: neither changes within a request.
impl Trail {
    /// It is them, by this token if it is one: the request's credential is genuine.
    pub(super) fn caller(&self, caller: &Caller) {
        let _ = self.0.caller.set((caller.user, caller.credential.pat()));
        if let Credential::Token { tenant, .. } = &caller.credential {
            let _ = self.0.workspace.set(Workspace { tenant: tenant.tenant.clone(), slug: tenant.slug.clone() });
        }
        self.found(Verdict::Genuine);
    }

    /// The workspace that the request's token belongs to.
    pub(super) fn workspace(&self) -> Option<&Workspace> {
        self.0.workspace.get()
    }

    /// It is about this workspace, which the caller may enter.
    pub(super) fn place(&self, tenant: &TenantId) {
        let _ = self.0.place.set(tenant.clone());
    }

    /// The request's credential was looked at.
    pub(super) fn found(&self, verdict: Verdict) {
        let _ = self.0.verdict.set(verdict);
    }

    /// What was found about the request's credential; nothing where nobody looked.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.0.verdict.get().copied()
    }
}

/// Serves a request and tells of it.
pub(super) async fn tell(Given(telling): Given<Arc<Telling>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let trail = Trail::default();
    request.extensions_mut().insert(trail.clone());
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let origin = request.extensions().get::<Origin>().cloned();
    let id = origin.as_ref().map(|origin| origin.request);
    let span = span(&telling, id, method, route, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    let (status, duration) = (response.status(), begun.elapsed());
    span.record("http.response.status_code", status.as_u16());
    count(method, route, status, duration);
    let served = Served { method, route, status, duration, address: origin.map(|origin| origin.address) };
    span.in_scope(|| line(&served, &trail.0));
    response
}

/// At the highest level, so that the request's id stands in every line about it, whatever is asked for.
fn span(telling: &Telling, id: Option<RequestId>, method: &'static str, route: &str, headers: &HeaderMap) -> Span {
    let span = tracing::error_span!(
        "http.request",
        request_id = id.map(tracing::field::display),
        otel.name = tracing::field::Empty,
        otel.kind = "server",
        http.request.method = tracing::field::Empty,
        http.route = tracing::field::Empty,
        http.response.status_code = tracing::field::Empty,
    );
    telling.trace_request(&span, method, route, headers);
    span
}

/// A request that was answered.
struct Served<'a> {
    method: &'static str,
    route: &'a str,
    status: StatusCode,
    duration: Duration,
    address: Option<IpAddr>,
}

fn line(served: &Served<'_>, found: &Found) {
    let Served { method, route, status, duration, address } = *served;
    let ms = duration.as_micros() as f64 / 1e3;
    let who = found.caller.get();
    let user = who.map(|(user, _)| tracing::field::display(user));
    let pat = who.and_then(|(_, pat)| pat.as_ref()).map(tracing::field::display);
    let workspace = found.place.get().or_else(|| found.workspace.get().map(|workspace| &workspace.tenant));
    let (workspace, address) = (workspace.map(tracing::field::display), address.map(tracing::field::display));
    let status = status.as_u16();
    tracing::info!(target: "agentruntime::request", method, route, status, ms, user, pat, workspace, address, "served");
}

fn count(method: &'static str, route: &str, status: StatusCode, duration: Duration) {
    let route: Arc<str> = route.into();
    let labels = [
        metrics::Label::from_static_parts("method", method),
        metrics::Label::new("route", route.clone()),
        metrics::Label::new("status", status.as_str().to_owned()),
    ];
    metrics::counter!("agentruntime_http_requests_total", labels.to_vec()).increment(1);
    metrics::histogram!("agentruntime_http_request_duration_seconds", "method" => method, "route" => route)
        .record(duration);
}

/// Methods that anybody makes up are one, so that they make no new numbers.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
