//! The dry-run: where and for how long a graph is checked, and what somebody asks of it.
//!
//! What is asked stays text until the check has its turn: read into memory it takes many times as much. Never decides how many
//! checks there are at once.

use super::{OperationError, checks::CHECK_TIME_MAX};
use agentruntime_engine::graph::{Check, DryRun, DryRunOptions, DryRunParams, validate};
use agentruntime_host_api::{Guest, Json, TenantId};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, sync::Arc};
use tokio::{runtime::Handle, task, time};
use tokio_util::sync::CancellationToken;

/// What somebody wants to know of a graph, and on which made-up values.
#[derive(Clone, Debug, Default)]
pub(crate) struct DryRunQuestion {
    /// Another graph than the draft.
    pub(crate) graph: Option<Json>,
    /// Only these checks.
    pub(crate) checks: Option<Vec<Check>>,
    /// Not these checks.
    pub(crate) skip_checks: Vec<Check>,
    /// Only issues of these steps and of the graph as a whole.
    pub(crate) step_ids: Option<Vec<String>>,
    /// What a run would be started with.
    pub(crate) trigger_payload: Option<Json>,
    /// Made-up results, by step id.
    pub(crate) mock_step_outputs: BTreeMap<String, Json>,
    /// Made-up global variables, by step id.
    pub(crate) mock_lua_scopes: BTreeMap<String, Json>,
}

impl DryRunQuestion {
    /// How much text of values it has, beside the graph.
    pub(super) fn value_bytes(&self) -> usize {
        let values = self.mock_step_outputs.values().chain(self.mock_lua_scopes.values()).chain(&self.trigger_payload);
        values.map(|value| value.as_str().len()).sum()
    }

    /// Reads the values.
    pub(super) fn options(self, tenant: TenantId) -> DryRunOptions {
        let read = |values: BTreeMap<String, Json>| -> Map<String, Value> {
            values.into_iter().map(|(step, value)| (step, value.to_value())).collect()
        };
        DryRunOptions {
            checks: self.checks,
            skip_checks: self.skip_checks,
            step_ids: self.step_ids,
            params: DryRunParams { trigger_payload: self.trigger_payload.map(|payload| payload.to_value()) },
            mock_step_outputs: read(self.mock_step_outputs),
            mock_lua_scopes: read(self.mock_lua_scopes),
            tenant,
            ..DryRunOptions::default()
        }
    }
}

/// Checks a graph without running it. Large graphs and many scripts take long: this has a thread of its own, and ends when
/// nobody waits for it any more. What is held for it is let go when it has ended.
pub(crate) async fn dry_run(
    document: Arc<Value>,
    options: impl FnOnce() -> DryRunOptions + Send + 'static,
    guest: Arc<dyn Guest>,
    held: impl Send + 'static,
) -> DryRun {
    let wanted = CancellationToken::new();
    let _asked = wanted.clone().drop_guard();
    let runtime = Handle::current();
    let report = on_its_own_thread(held, move || {
        let checking = validate(&document, options(), Some(&*guest));
        runtime.block_on(wanted.run_until_cancelled(checking))
    });
    report.await.expect("it is cancelled only after this function was left")
}

/// The same for a service, where nobody's check lasts for ever.
pub(super) async fn timed_dry_run(
    document: Arc<Value>,
    options: impl FnOnce() -> DryRunOptions + Send + 'static,
    guest: Arc<dyn Guest>,
    held: impl Send + 'static,
) -> Result<DryRun, OperationError> {
    let report = time::timeout(CHECK_TIME_MAX, dry_run(document, options, guest, held)).await;
    report.map_err(|_| OperationError::CheckTooLong)
}

/// Work that takes a processor for longer than others should wait. It goes on to its end when nobody waits any more, and what is
/// held for it lasts as long.
pub(super) async fn on_its_own_thread<T: Send + 'static>(
    held: impl Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let done = task::spawn_blocking(move || {
        let result = work();
        drop(held);
        result
    });
    match done.await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentruntime_host_api::{Invocation, Outcome, Program, StepError};
    use futures_util::future::{BoxFuture, FutureExt, pending};
    use serde_json::json;
    use std::sync::Mutex;
    use tokio::sync::oneshot;

    /// Compiles for ever; tells when it begins, and drops what it holds when it is left.
    struct Endless {
        begun: Mutex<Option<oneshot::Sender<()>>>,
        held: Mutex<Option<oneshot::Sender<()>>>,
    }

    impl Guest for Endless {
        fn start(&self, _: Invocation) -> BoxFuture<'_, Outcome> {
            pending().boxed()
        }

        fn check(&self, _: TenantId, _: Program) -> BoxFuture<'_, Result<(), StepError>> {
            let held = self.held.lock().unwrap().take();
            self.begun.lock().unwrap().take().unwrap().send(()).unwrap();
            async move {
                let _held = held;
                pending().await
            }
            .boxed()
        }
    }

    #[tokio::test]
    async fn a_dry_run_that_nobody_waits_for_ends() {
        let (begins, begun) = oneshot::channel();
        let (held, left) = oneshot::channel::<()>();
        let guest = Endless { begun: Mutex::new(Some(begins)), held: Mutex::new(Some(held)) };
        let document = json!({ "steps": [{ "id": "a", "type": "lua_script", "script": "return {}" }] });
        let asking = tokio::spawn(dry_run(Arc::new(document), DryRunOptions::default, Arc::new(guest), ()));
        begun.await.unwrap();
        asking.abort();
        assert!(left.await.is_err(), "what was held is dropped");
    }
}
