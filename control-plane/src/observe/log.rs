//! The log: one line for each thing that happened, to stderr, for whoever looks for a cause.

use super::{Told, json::JsonLines};
use crate::settings::{LogFormat, Observe};
use std::io;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, filter_fn},
    layer::Filter,
};

/// The log of a command.
pub(super) fn of_command() -> Told {
    lines(LogFormat::Text, &std::env::var("AGENTRUNTIME_LOG").unwrap_or_else(|_| "warn".into()))
}

/// The log of a service.
pub(super) fn of_service(settings: &Observe) -> Told {
    lines(settings.log_format, &settings.log)
}

fn lines(format: LogFormat, wanted: &str) -> Told {
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            let is_coloured = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
            layer.with_ansi(is_coloured).with_filter(filter(wanted)).boxed()
        }
        LogFormat::Json => {
            let layer = layer.with_ansi(false).fmt_fields(JsonLines).event_format(JsonLines);
            layer.with_filter(filter(wanted)).boxed()
        }
    }
}

/// What is asked for, of what may be told.
fn filter(wanted: &str) -> impl Filter<Registry> + Send + Sync + 'static {
    EnvFilter::builder().parse_lossy(wanted).and(filter_fn(may_be_told))
}

/// Libraries tell at debug and trace what they send and receive: headers, statements, conversations with mail servers.
/// Secrets are in there, so nobody can ask for it. What the client of MCP tells is what somebody's server says, and callers
/// are told of it. The engine's spans are for traces; a line does without.
fn may_be_told(metadata: &Metadata<'_>) -> bool {
    let is_ours = metadata.target().starts_with("agentruntime");
    match metadata.is_span() {
        true => metadata.target().starts_with("agentruntime::"),
        false => is_ours || (*metadata.level() <= Level::INFO && !metadata.target().starts_with("rmcp")),
    }
}
