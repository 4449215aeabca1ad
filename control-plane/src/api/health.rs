//! What operators and their machines ask: does the process live, does it work, how much does it do.
//!
//! Outside `/v1`, without limits and credentials. `/metrics` has an address of its own, or is not there: who a request comes
//! from cannot be told where a proxy stands before the service. Only a developer's server answers it beside the API, to this
//! machine.

use super::{
    State, cookies,
    problem::{self, Problem},
};
use crate::app::App;
use agentruntime_engine::database::{OutageKind, Values};
use axum::{
    Json, Router,
    extract::{ConnectInfo, State as Given},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use url::Url;

/// A database that needs longer than this for nothing does not answer.
const DATABASE_MAX: Duration = Duration::from_secs(2);
/// Whoever asks more often hears the same answer, so that asking costs the database nothing.
const FRESH: Duration = Duration::from_secs(1);

/// Whether the database answered lately.
#[derive(Default)]
pub(crate) struct Pulse(Mutex<Option<(Instant, bool)>>);

impl Pulse {
    async fn beats(&self, app: &App) -> bool {
        // What is known already is told at once.
        if app.database().outage().is_some_and(|outage| outage.kind == OutageKind::Unreachable) {
            return false;
        }
        // Whoever comes meanwhile waits for the same answer.
        let mut last = self.0.lock().await;
        if let Some((at, beats)) = *last
            && at.elapsed() < FRESH
        {
            return beats;
        }
        let asked = tokio::time::timeout(DATABASE_MAX, app.database().rows("SELECT 1", Values::default())).await;
        let beats = matches!(asked, Ok(Ok(_)));
        *last = Some((Instant::now(), beats));
        beats
    }
}

/// The routes.
pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/healthz", get(|| async { Json(json!({ "status": "alive" })) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// The numbers alone, for an address of their own.
pub(crate) fn metrics_alone(app: State) -> Router {
    Router::new().route("/metrics", get(|Given(app): Given<State>| async move { numbers(&app) })).with_state(app)
}

async fn ready(Given(app): Given<State>) -> Result<Response, Problem> {
    let is_answered = app.pulse.beats(&app).await;
    let outage = app.database().outage();
    let is_written = outage.as_ref().is_none_or(|outage| outage.kind != OutageKind::ReadOnly);
    let checks = [
        ("database", is_answered, "the database does not answer"),
        ("storage", is_written, "the storage of the database takes no writes"),
        ("node", app.node.is_working(), "the node has stopped working on runs"),
        ("accepting", !app.ending.is_cancelled(), "the service is ending"),
    ];
    let details = || checks.iter().map(|(name, holds, _)| ((*name).to_owned(), (*holds).into())).collect();
    match checks.iter().find(|(_, holds, _)| !holds) {
        None => Ok(Json(json!({ "status": "ready", "checks": serde_json::Value::Object(details()) })).into_response()),
        Some((_, _, wrong)) => {
            let cause = outage.map(|outage| outage.cause.to_string());
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "NOT_READY", *wrong);
            let details = json!({ "checks": serde_json::Value::Object(details()), "cause": cause });
            Err(problem.with_details(Some(details)))
        }
    }
}

async fn metrics(
    Given(app): Given<State>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let is_for_this_machine = app.settings.is_dev && app.settings.observe.metrics_listen.is_none();
    match is_for_this_machine && is_from_this_machine(peer.ip(), &headers) {
        true => Ok(numbers(&app)),
        false => Err(problem::no_such_route().await),
    }
}

/// Whether a request comes from a program here, which asks for this machine: not by a proxy, and not by a browser that was
/// made to take another name for this machine's.
fn is_from_this_machine(peer: IpAddr, headers: &HeaderMap) -> bool {
    let is_passed_on = headers.contains_key("x-forwarded-for") || headers.contains_key(header::FORWARDED);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let asked_for = host.and_then(|host| Url::parse(&format!("http://{host}")).ok());
    peer.to_canonical().is_loopback() && !is_passed_on && asked_for.is_some_and(|url| cookies::is_loopback(&url))
}

fn numbers(app: &App) -> Response {
    metrics::gauge!("agentruntime_active_runs").set(u32::try_from(app.node.active_runs()).unwrap_or(u32::MAX));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], app.telling.numbers()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    #[test]
    fn this_machine_is_who_asks_for_it_without_a_proxy() {
        let is_near = |peer: &str, headers: &[(&'static str, &'static str)]| {
            let headers =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_from_this_machine(peer.parse().unwrap(), &headers.collect())
        };
        for host in ["127.0.0.1:8600", "localhost:8600", "[::1]:8600"] {
            assert!(
                is_near("127.0.0.1", &[("host", host)]) && is_near("::ffff:127.0.0.1", &[("host", host)]),
                "{host}"
            );
        }
        assert!(!is_near("127.0.0.1", &[]) && !is_near("9.9.9.9", &[("host", "localhost")]));
        assert!(!is_near("127.0.0.1", &[("host", "agents.example.com")]), "a proxy, or a name that was rebound");
        for passed_on in ["x-forwarded-for", "forwarded"] {
            assert!(!is_near("127.0.0.1", &[("host", "localhost"), (passed_on, "9.9.9.9")]), "{passed_on}");
        }
    }
}
