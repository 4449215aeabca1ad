//! How many graphs are checked at once: dry-runs, and publishing.
//!
//! Each check has a thread to itself, also while its scripts wait for a processor, and those threads are everybody's. So a
//! workspace has few of them, all workspaces together not many, and who would have to wait behind too many others is
//! refused at once. Decides nothing about a graph.

use super::OperationError;
use agentruntime_host_api::TenantId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Checks of one workspace at once: an author's, and that of a pipeline beside it.
const TENANT_AT_ONCE: usize = 2;
/// Checks of one workspace that are under way or wait. Each holds its graph in memory.
pub(super) const TENANT_CHECKS_MAX: usize = 8;
/// Checks of all workspaces at once: far fewer than there are threads for work that waits.
const ALL_AT_ONCE: usize = 16;
/// The longest that the scripts and calls of one graph are checked. What they compute is bounded one by one; a graph has many.
pub(super) const CHECK_TIME_MAX: Duration = Duration::from_secs(30);

/// Documents of one check that are more than this together, as JSON text, make it a large one: read into memory they take up to
/// a hundred times as much, and some of that twice.
const LARGE_BYTES: usize = 128 << 10;
/// Large checks of all workspaces at once. One workspace has one: it takes all of its turns.
const ALL_LARGE_AT_ONCE: usize = 4;

/// The checks of this process.
#[derive(Clone)]
pub(crate) struct Checks(Arc<Shared>);

struct Shared {
    all: Arc<Semaphore>,
    large: Arc<Semaphore>,
    tenants: Mutex<HashMap<TenantId, OfTenant>>,
}

/// What one workspace has checked.
struct OfTenant {
    admitted: usize,
    turns: Arc<Semaphore>,
}

/// One of the checks that a workspace may have. Dropping it makes room.
pub(super) struct Admitted {
    checks: Checks,
    tenant: TenantId,
    turns: Arc<Semaphore>,
}

/// The turn of a check, shared by all that is done for it: it is over when the last of that has ended.
#[derive(Clone)]
pub(super) struct Turn(#[expect(dead_code, reason = "holding it is all")] Arc<Held>);

/// What is let go from the first to the last, so that who may be next finds room everywhere.
struct Held {
    _all: OwnedSemaphorePermit,
    _large: Option<OwnedSemaphorePermit>,
    _own: OwnedSemaphorePermit,
    _admitted: Admitted,
}

impl Default for Checks {
    fn default() -> Self {
        let (all, large) = (Arc::new(Semaphore::new(ALL_AT_ONCE)), Arc::new(Semaphore::new(ALL_LARGE_AT_ONCE)));
        Self(Arc::new(Shared { all, large, tenants: Mutex::default() }))
    }
}

impl Checks {
    /// One more check of a workspace, if it may have it. It holds documents as text, and waits for its turn.
    pub(super) fn admit(&self, tenant: &TenantId) -> Result<Admitted, OperationError> {
        let mut tenants = self.tenants();
        let new = || OfTenant { admitted: 0, turns: Arc::new(Semaphore::new(TENANT_AT_ONCE)) };
        let known = tenants.entry(tenant.clone()).or_insert_with(new);
        if known.admitted >= TENANT_CHECKS_MAX {
            return Err(OperationError::TooManyChecks);
        }
        known.admitted += 1;
        Ok(Admitted { checks: self.clone(), tenant: tenant.clone(), turns: known.turns.clone() })
    }

    /// No code that holds this lock can panic half-way, so a poisoned one is as good.
    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, OfTenant>> {
        self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted {
    /// Waits until so many bytes of documents may be read and checked.
    pub(super) async fn turn(self, bytes: usize) -> Turn {
        let is_large = bytes > LARGE_BYTES;
        let own = if is_large { TENANT_AT_ONCE as u32 } else { 1 };
        let own = self.turns.clone().acquire_many_owned(own).await.expect("turns are never closed");
        // Who waits for others that are large keeps no turn from those that are not.
        let large = match is_large {
            true => Some(self.checks.0.large.clone().acquire_owned().await.expect("turns are never closed")),
            false => None,
        };
        let all = self.checks.0.all.clone().acquire_owned().await.expect("turns are never closed");
        Turn(Arc::new(Held { _all: all, _large: large, _own: own, _admitted: self }))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut tenants = self.checks.tenants();
        if let Some(known) = tenants.get_mut(&self.tenant) {
            known.admitted -= 1;
            if known.admitted == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, future::BoxFuture};

    fn check(checks: &Checks, tenant: &str, bytes: usize) -> Option<BoxFuture<'static, Turn>> {
        checks.admit(&TenantId::new(tenant)).ok().map(|admitted| admitted.turn(bytes).boxed())
    }

    /// A check that has its turn at once.
    fn begun(checks: &Checks, tenant: &str, bytes: usize) -> Option<Turn> {
        check(checks, tenant, bytes).and_then(FutureExt::now_or_never)
    }

    #[tokio::test]
    async fn a_workspace_has_so_many_checks_and_others_have_theirs() {
        let checks = Checks::default();
        let under_way = [begun(&checks, "one", 0).unwrap(), begun(&checks, "one", 0).unwrap()];
        let mut waiting: Vec<_> =
            (TENANT_AT_ONCE..TENANT_CHECKS_MAX).map(|_| check(&checks, "one", 0).unwrap()).collect();
        for check in &mut waiting {
            assert!(check.now_or_never().is_none());
        }
        assert!(matches!(checks.admit(&TenantId::new("one")), Err(OperationError::TooManyChecks)));
        assert!(begun(&checks, "other", 0).is_some());
        // Who leaves makes room for one, and for one to begin.
        drop(under_way);
        assert!(waiting.remove(0).now_or_never().is_some());
        assert!(check(&checks, "one", 0).is_some());
        drop(waiting);
        assert!(checks.tenants().is_empty());
    }

    #[tokio::test]
    async fn all_workspaces_together_have_so_many() {
        let checks = Checks::default();
        let mut turns: Vec<_> =
            (0..ALL_AT_ONCE).map(|tenant| begun(&checks, &tenant.to_string(), 0).unwrap()).collect();
        let mut late = check(&checks, "late", 0).unwrap();
        assert!((&mut late).now_or_never().is_none());
        turns.pop();
        late.await;
    }

    #[tokio::test]
    async fn a_turn_lasts_until_all_that_is_done_in_it_has_ended() {
        let checks = Checks::default();
        let turn = begun(&checks, "one", LARGE_BYTES + 1).unwrap();
        let on_a_thread = turn.clone();
        drop(turn);
        assert!(begun(&checks, "one", 0).is_none());
        drop(on_a_thread);
        assert!(begun(&checks, "one", 0).is_some());
    }

    #[tokio::test]
    async fn large_checks_are_few_and_keep_no_turn_from_small_ones() {
        let checks = Checks::default();
        let just = begun(&checks, "one", LARGE_BYTES).unwrap();
        assert!(begun(&checks, "one", LARGE_BYTES + 1).is_none(), "it takes all turns of its workspace");
        drop(just);
        let large: Vec<_> = (0..ALL_LARGE_AT_ONCE)
            .map(|tenant| begun(&checks, &tenant.to_string(), LARGE_BYTES + 1).unwrap())
            .collect();
        let mut waiting: Vec<_> =
            (0..ALL_AT_ONCE).map(|tenant| check(&checks, &format!("w{tenant}"), LARGE_BYTES + 1).unwrap()).collect();
        for check in &mut waiting {
            assert!(check.now_or_never().is_none());
        }
        assert!(begun(&checks, "small", LARGE_BYTES).is_some());
        drop(large);
        assert!(waiting.remove(0).now_or_never().is_some());
    }
}
