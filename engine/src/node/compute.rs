//! What takes the host's own processor for long: reading graphs, checking start payloads, folding journals.
//!
//! Owns where that happens: what is small at once, the rest on threads that may be kept busy, few at a time, and one at a
//! time for a tenant, so that others wait for one piece of its work at most. A host does what takes long for its steps in the
//! same turns. Decides nothing about a run.

use super::Shared;
use crate::{
    graph::{Graph, Issue},
    run::{
        RunState,
        event::{Event, EventKind, Start},
    },
    store::StoreError,
};
use agentruntime_host_api::{RunId, TenantId, Timestamp};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{sync::Semaphore, task};

/// Parsing so much JSON takes a fraction of a millisecond.
pub(super) const LIGHT_BYTES_MAX: usize = 32 << 10;
/// Folding so many events takes a fraction of a millisecond, where none of them is large.
const LIGHT_EVENTS_MAX: usize = 500;
/// Tenants whose turns are kept in memory before those who want none are forgotten.
const TENANTS_KEPT: usize = 1_000;

/// How many pieces of such work are done at once: half of the processors, so that scripts and answers have the rest.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2)
}

/// The turns of all tenants on the host's own processors.
#[derive(Debug)]
pub struct Compute {
    threads: Arc<Semaphore>,
    tenants: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
}

impl Compute {
    /// So many pieces of work are done at once.
    pub fn new(threads: usize) -> Self {
        Self { threads: Arc::new(Semaphore::new(threads)), tenants: Mutex::default() }
    }

    /// Does work on a thread of its own when it is the tenant's turn. Who no longer waits keeps the turn to its end.
    pub async fn apart<T: Send + 'static>(&self, tenant: &TenantId, work: impl FnOnce() -> T + Send + 'static) -> T {
        let own = self.turns_of(tenant).acquire_owned().await.expect("turns are never closed");
        let thread = self.threads.clone().acquire_owned().await.expect("threads are never closed");
        let done = task::spawn_blocking(move || {
            let result = work();
            drop((own, thread));
            result
        });
        match done.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime shuts down, and whoever waits here with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn turns_of(&self, tenant: &TenantId) -> Arc<Semaphore> {
        // No code that holds this lock can panic half-way, so a poisoned one is as good.
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= TENANTS_KEPT {
            // Whoever has a turn or waits for one holds the semaphore as well.
            tenants.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        tenants.entry(tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
    }
}

impl Default for Compute {
    fn default() -> Self {
        Self::new(threads())
    }
}

impl Shared {
    /// The state of a run that begins, its payload checked.
    pub(super) async fn started(
        &self,
        tenant: &TenantId,
        run: RunId,
        graph: Arc<Graph>,
        start: Start,
        now: Timestamp,
    ) -> Result<RunState, Vec<Issue>> {
        if !is_light(&start) {
            return self.compute.apart(tenant, move || RunState::started(run, graph, start, now).map(checked)).await;
        }
        let state = RunState::started(run, graph, start, now)?;
        Ok(match is_lightly_checked(&state) {
            true => checked(state),
            false => self.compute.apart(tenant, move || checked(state)).await,
        })
    }

    /// A run's state from its journal; of one that has not begun, with its payload checked.
    pub(super) async fn replayed(
        &self,
        tenant: &TenantId,
        run: RunId,
        graph: Arc<Graph>,
        events: Vec<Event>,
    ) -> Result<RunState, StoreError> {
        let is_light = is_light_journal(&events);
        let fold = move || RunState::replayed(run, graph, &events);
        let folded = if is_light { fold() } else { self.compute.apart(tenant, fold).await };
        let state = folded.map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(match state.seq > 1 || is_lightly_checked(&state) {
            // What followed the start says whether its payload fits; where nothing did, it is checked when the run begins.
            true => state,
            false => self.compute.apart(tenant, move || checked(state)).await,
        })
    }
}

fn checked(mut state: RunState) -> RunState {
    state.check_input();
    state
}

fn is_lightly_checked(state: &RunState) -> bool {
    let schema = state.graph.input_schema.as_ref();
    schema.is_none_or(|schema| schema.is_light_for(state.input.value()))
}

/// Settings for single steps make the whole graph be read anew.
fn is_light(start: &Start) -> bool {
    start.trigger_steps.is_empty() && start.input.as_str().len() <= LIGHT_BYTES_MAX
}

fn is_light_journal(events: &[Event]) -> bool {
    let bytes = events.iter().map(|event| event.kind.payload_bytes()).fold(0, usize::saturating_add);
    let start = events.first().and_then(|event| match &event.kind {
        EventKind::RunStarted(start) => Some(start),
        _ => None,
    });
    events.len() <= LIGHT_EVENTS_MAX && bytes <= LIGHT_BYTES_MAX && start.is_none_or(|start| is_light(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[tokio::test]
    async fn a_tenant_has_one_piece_of_work_done_at_a_time_and_others_get_the_next_thread() {
        let compute = Arc::new(Compute::new(2));
        let (one, two) = (TenantId::new("one"), TenantId::new("two"));
        let at_once = Arc::new(AtomicUsize::new(0));
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let pieces: Vec<_> = (0..3)
            .map(|_| {
                let (compute, tenant, at_once, gate) = (compute.clone(), one.clone(), at_once.clone(), gate.clone());
                task::spawn(async move {
                    let work = move || {
                        let others = at_once.fetch_add(1, SeqCst);
                        gate.lock().unwrap().recv().unwrap();
                        at_once.fetch_sub(1, SeqCst);
                        others
                    };
                    compute.apart(&tenant, work).await
                })
            })
            .collect();
        // The other tenant is done while all of the first one's work stands still.
        assert_eq!(compute.apart(&two, || 7).await, 7);
        for piece in pieces {
            go.send(()).unwrap();
            assert_eq!(piece.await.unwrap(), 0);
        }
    }
}
