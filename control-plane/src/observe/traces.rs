//! Traces: from a request to the steps of the run that it started, for a receiver of OTLP over HTTP.

use super::Told;
use agentruntime_engine::node;
use async_trait::async_trait;
use axum::{
    body::Bytes,
    http::{HeaderMap, Request, Response},
};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TracerProvider,
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use std::{collections::HashMap, time::Duration};
use tokio::runtime::Handle;
use tracing::{Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn};
use url::Url;

/// A receiver that needs longer is not worth waiting for: spans are dropped, never the work.
const SEND_MAX: Duration = Duration::from_secs(10);
/// The header of W3C's trace context.
const TRACE_PARENT: &str = "traceparent";

/// Where spans go.
pub(super) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// To the receiver at a URL.
    pub(super) fn to(endpoint: &Url) -> Result<Self, ExporterBuildError> {
        let client = Sender { client: reqwest::Client::new(), runtime: Handle::current() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint.as_str())
            .with_timeout(SEND_MAX)
            .build()?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("agentruntime").with_attribute(version).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Self { provider })
    }

    /// Makes spans of ours into spans of a trace.
    pub(super) fn layer(&self) -> Told {
        let layer = tracing_opentelemetry::layer().with_tracer(self.provider.tracer("agentruntime"));
        layer.with_location(false).with_threads(false).with_filter(filter_fn(is_ours)).boxed()
    }

    /// Sends what was not sent yet.
    pub(super) async fn end(&self) {
        let provider = self.provider.clone();
        // It waits for a thread of its own, which in turn waits for the runtime.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the last spans could not be sent to `otlp_endpoint`");
        }
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("agentruntime")
}

/// Names a request's span, and sets it into the client's trace.
pub(super) fn request(span: &Span, method: &'static str, route: &str, headers: &HeaderMap) {
    span.record("otel.name", format!("{method} {route}"));
    span.record("http.request.method", method);
    span.record("http.route", route);
    if headers.contains_key(TRACE_PARENT) {
        // It was made just now, so that it has not begun for the trace.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
    }
}

/// How runs become parts of traces.
pub(super) const OF_RUNS: node::Traces = node::Traces { place, adopt };

/// Names the current span as W3C's trace context does.
fn place() -> Option<String> {
    let mut fields = Fields::default();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut fields);
    fields.0.remove(TRACE_PARENT)
}

/// Sets a span into the trace that an earlier one named.
fn adopt(span: &Span, trace_parent: &str) {
    let fields = Fields([(TRACE_PARENT.to_owned(), trace_parent.to_owned())].into());
    // Where nobody traces, there is nothing to be set.
    let _ = span.set_parent(TraceContextPropagator::new().extract_with_context(&Context::new(), &fields));
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

#[derive(Default)]
struct Fields(HashMap<String, String>);

impl Extractor for Fields {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

impl Injector for Fields {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}

/// Sends within the runtime: spans are gathered by a thread outside of it.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { client.send_bytes(request).await });
        sent.await?
    }
}
