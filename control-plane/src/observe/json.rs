//! The log as one JSON object a line: time, level, target, the fields of the request around it, its own fields.

use agentruntime_engine::database::{Clock, SystemClock};
use serde_json::Value;
use std::fmt;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

/// The form of a line, and of the fields in it.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let (time, level, target) = (SystemClock.now(), metadata.level(), metadata.target());
        write!(writer, r#"{{"time":"{time}","level":"{level}","target":"{target}""#)?;
        for span in ctx.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.fields.is_empty()) {
                write!(writer, ",{}", fields.fields)?;
            }
        }
        writer.write_char(',')?;
        ctx.format_fields(writer.by_ref(), event)?;
        writeln!(writer, "}}")
    }
}

impl<'writer> FormatFields<'writer> for JsonLines {
    /// The members of an object, without its braces.
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut members = Members { writer, is_first: true, result: Ok(()) };
        fields.record(&mut members);
        members.result
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        if !current.fields.is_empty() {
            current.fields.push(',');
        }
        self.format_fields(current.as_writer(), fields)
    }
}

struct Members<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl Members<'_> {
    fn member(&mut self, field: &Field, value: Value) {
        let comma = if self.is_first { "" } else { "," };
        self.is_first = false;
        if self.result.is_ok() {
            self.result = write!(self.writer, "{comma}{}:{value}", Value::from(field.name()));
        }
    }
}

impl Visit for Members<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, value.into());
    }
}
