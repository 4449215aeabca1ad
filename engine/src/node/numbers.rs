//! What is counted about requests of steps. Names of capabilities and codes tell them apart: nothing that grows with users.

use agentruntime_host_api::HostReply;
use std::time::Duration;

/// One more of something, for as long as this lives.
pub(super) struct One(metrics::Gauge);

pub(super) fn one(name: &'static str) -> One {
    let gauge = metrics::gauge!(name);
    gauge.increment(1.0);
    One(gauge)
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// A request was answered.
pub(super) fn replied(capability: &'static str, reply: &HostReply, took: Duration) {
    let outcome = reply.as_ref().err().map_or_else(|| "ok".to_owned(), |error| error.code.to_string());
    metrics::counter!("agentruntime_step_requests_total", "capability" => capability, "outcome" => outcome)
        .increment(1);
    metrics::histogram!("agentruntime_step_request_duration_seconds", "capability" => capability).record(took);
}
