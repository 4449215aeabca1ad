//! What is told about the service's work: the log, numbers, traces.
//!
//! Owns where they go and in which form. Never tells a secret: a test runs a session with everything switched on and
//! looks for each secret it used.
//!
//! | file | owns |
//! |---|---|
//! | `log` | which lines are written |
//! | `json` | lines as JSON |
//! | `numbers` | what is counted, for Prometheus |
//! | `traces` | spans, for a receiver of OTLP |

mod json;
mod log;
mod numbers;
mod traces;

use crate::settings::Observe;
use agentruntime_engine::node;
use axum::http::HeaderMap;
use numbers::Numbers;
use traces::Traces;
use tracing::Span;
use tracing_subscriber::{Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

/// A layer of what is told.
type Told = Box<dyn Layer<Registry> + Send + Sync>;

/// What was set up for a service, once for the process.
pub(crate) struct Telling {
    numbers: Numbers,
    traces: Option<Traces>,
}

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserveError {
    /// The numbers.
    #[error("numbers cannot be gathered: {0}")]
    Numbers(#[from] metrics_exporter_prometheus::BuildError),
    /// The traces.
    #[error("traces cannot be sent to `otlp_endpoint`: {0}")]
    Traces(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// The log of a command: quiet unless asked for.
pub(crate) fn command() {
    tracing_subscriber::registry().with(log::of_command()).init();
}

/// Everything that is told about a service. Has to be called within a Tokio runtime.
pub(crate) fn service(settings: &Observe) -> Result<Telling, ObserveError> {
    let traces = settings.otlp_endpoint.as_ref().map(Traces::to).transpose()?;
    let mut layers = vec![log::of_service(settings)];
    layers.extend(traces.as_ref().map(Traces::layer));
    tracing_subscriber::registry().with(layers).init();
    Ok(Telling { numbers: Numbers::gather()?, traces })
}

impl Telling {
    /// What nobody is told, for tests.
    #[cfg(test)]
    pub(crate) fn to_nobody() -> Self {
        Self { numbers: Numbers::apart(), traces: None }
    }

    /// The numbers, in the form of Prometheus.
    pub(crate) fn numbers(&self) -> String {
        self.numbers.render()
    }

    /// Makes a request's span part of a trace, of the client's where it names one.
    pub(crate) fn trace_request(&self, span: &Span, method: &'static str, route: &str, headers: &HeaderMap) {
        if self.traces.is_some() {
            traces::request(span, method, route, headers);
        }
    }

    /// How runs become parts of traces; nothing where nobody traces.
    pub(crate) fn of_runs(&self) -> Option<node::Traces> {
        self.traces.as_ref().map(|_| traces::OF_RUNS)
    }

    /// Sends what was not sent yet.
    pub(crate) async fn end(&self) {
        if let Some(traces) = &self.traces {
            traces.end().await;
        }
    }
}
