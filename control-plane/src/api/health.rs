//! What operators and their machines ask: does the process live, does it work, how much does it do.
//!
//! Outside `/v1`, without limits and credentials. `/metrics` answers only this machine, and not what a proxy passes on,
//! unless it has an address of its own.

use super::{
    State,
    problem::{self, Problem},
};
use crate::app::App;
use agentruntime_engine::database::Values;
use axum::{
    Json, Router,
    extract::{ConnectInfo, State as Given},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// A database that needs longer than this for nothing does not answer.
const DATABASE_MAX: Duration = Duration::from_secs(2);
/// Whoever asks more often hears the same answer, so that asking costs the database nothing.
const FRESH: Duration = Duration::from_secs(1);

/// Whether the database answered lately.
#[derive(Default)]
pub(crate) struct Pulse(Mutex<Option<(Instant, bool)>>);

impl Pulse {
    async fn beats(&self, app: &App) -> bool {
        // Whoever comes meanwhile waits for the same answer.
        let mut last = self.0.lock().await;
        if let Some((at, beats)) = *last
            && at.elapsed() < FRESH
        {
            return beats;
        }
        let asked = tokio::time::timeout(DATABASE_MAX, app.database().rows("SELECT 1", Values::default())).await;
        let beats = matches!(asked, Ok(Ok(_)));
        if !beats {
            tracing::warn!("the database does not answer");
        }
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
    let checks = [
        ("database", app.pulse.beats(&app).await, "the database does not answer"),
        ("node", app.node.is_working(), "the node has stopped working on runs"),
        ("accepting", !app.draining.is_cancelled(), "the service is ending"),
    ];
    let details = || checks.iter().map(|(name, holds, _)| ((*name).to_owned(), (*holds).into())).collect();
    match checks.iter().find(|(_, holds, _)| !holds) {
        None => Ok(Json(json!({ "status": "ready", "checks": serde_json::Value::Object(details()) })).into_response()),
        Some((_, _, wrong)) => {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "NOT_READY", *wrong);
            Err(problem.with_details(Some(json!({ "checks": serde_json::Value::Object(details()) }))))
        }
    }
}

async fn metrics(
    Given(app): Given<State>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let is_passed_on = headers.contains_key("x-forwarded-for") || headers.contains_key(header::FORWARDED);
    let is_near = peer.ip().to_canonical().is_loopback() && !is_passed_on;
    match is_near && app.settings.observe.metrics_listen.is_none() {
        true => Ok(numbers(&app)),
        false => Err(problem::no_such_route().await),
    }
}

fn numbers(app: &App) -> Response {
    metrics::gauge!("agentruntime_active_runs").set(u32::try_from(app.node.active_runs()).unwrap_or(u32::MAX));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], app.telling.numbers()).into_response()
}
