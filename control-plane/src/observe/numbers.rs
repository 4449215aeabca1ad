//! What is counted, for Prometheus. Names of routes and statuses are all that tells one number from another: nothing that
//! grows with users or runs.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::Duration;
use tokio::task::AbortHandle;

/// From a request that only looks to one that waits for a run.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 60.0];
/// Runs that are written at once.
const BATCH: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 500.0];
/// Values wait in memory for this long at most before they are summed up.
const UPKEEP: Duration = Duration::from_secs(5);

/// The numbers of the process.
pub(super) struct Numbers {
    handle: PrometheusHandle,
    upkeep: AbortHandle,
}

impl Numbers {
    /// Begins to gather.
    pub(super) fn gather() -> Result<Self, BuildError> {
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS)?;
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_batch".into()), &BATCH)?;
        let handle = builder.install_recorder()?;
        describe();
        let kept = handle.clone();
        let upkeep = async move {
            let mut beat = tokio::time::interval(UPKEEP);
            loop {
                beat.tick().await;
                kept.run_upkeep();
            }
        };
        Ok(Self { handle, upkeep: tokio::spawn(upkeep).abort_handle() })
    }

    /// Numbers that nothing counts for, beside those of the process.
    #[cfg(test)]
    pub(super) fn apart() -> Self {
        let handle = PrometheusBuilder::new().build_recorder().handle();
        Self { handle, upkeep: tokio::spawn(std::future::ready(())).abort_handle() }
    }

    /// As Prometheus reads it.
    pub(super) fn render(&self) -> String {
        self.handle.render()
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("agentruntime_http_requests_total", "Requests that were answered");
    describe_histogram!("agentruntime_http_request_duration_seconds", "How long they took");
    describe_gauge!("agentruntime_tls_certificate_expires_timestamp_seconds", "When the certificate in use expires");
    describe_gauge!("agentruntime_active_runs", "Runs that this process works on");
    describe_counter!("agentruntime_runs_started_total", "Runs that were started here");
    describe_counter!("agentruntime_runs_finished_total", "Runs that ended here, by status");
    describe_counter!(
        "agentruntime_step_requests_total",
        "Requests of steps that were answered, by capability and outcome"
    );
    describe_histogram!("agentruntime_step_request_duration_seconds", "How long they took, without waiting for a turn");
    describe_gauge!("agentruntime_step_requests_under_way", "Requests of steps that are being carried out");
    describe_gauge!("agentruntime_step_requests_waiting", "Requests of steps that wait for their turn");
    describe_histogram!("agentruntime_commit_batch", "Runs whose events were written in one transaction");
    describe_histogram!("agentruntime_commit_duration_seconds", "How long such a transaction took");
}
