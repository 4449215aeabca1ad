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
use tokio::sync::Semaphore;

/// Checks of one workspace at once: an author's, and that of a pipeline beside it.
const TENANT_AT_ONCE: usize = 2;
/// Checks of one workspace that are under way or wait. Each holds its graph in memory.
pub(super) const TENANT_CHECKS_MAX: usize = 8;
/// Checks of all workspaces at once: far fewer than there are threads for work that waits.
const ALL_AT_ONCE: usize = 16;
/// The longest that the scripts and calls of one graph are checked. What they compute is bounded one by one; a graph has many.
pub(super) const CHECK_TIME_MAX: Duration = Duration::from_secs(30);

/// The checks of this process.
pub(crate) struct Checks {
    all: Semaphore,
    tenants: Mutex<HashMap<TenantId, OfTenant>>,
}

/// What one workspace has checked.
struct OfTenant {
    admitted: usize,
    turns: Arc<Semaphore>,
}

/// One of the checks that a workspace may have. Dropping it makes room.
struct Admitted<'c> {
    checks: &'c Checks,
    tenant: TenantId,
    turns: Arc<Semaphore>,
}

impl Default for Checks {
    fn default() -> Self {
        Self { all: Semaphore::new(ALL_AT_ONCE), tenants: Mutex::default() }
    }
}

impl Checks {
    /// Waits for a turn of the workspace, and does the check.
    pub(crate) async fn within<T>(
        &self,
        tenant: &TenantId,
        check: impl Future<Output = Result<T, OperationError>>,
    ) -> Result<T, OperationError> {
        let admitted = self.admit(tenant)?;
        let _own = admitted.turns.acquire().await.expect("turns are never closed");
        let _any = self.all.acquire().await.expect("turns are never closed");
        check.await
    }

    fn admit(&self, tenant: &TenantId) -> Result<Admitted<'_>, OperationError> {
        let mut tenants = self.tenants();
        let new = || OfTenant { admitted: 0, turns: Arc::new(Semaphore::new(TENANT_AT_ONCE)) };
        let known = tenants.entry(tenant.clone()).or_insert_with(new);
        if known.admitted >= TENANT_CHECKS_MAX {
            return Err(OperationError::TooManyChecks);
        }
        known.admitted += 1;
        Ok(Admitted { checks: self, tenant: tenant.clone(), turns: known.turns.clone() })
    }

    /// No code that holds this lock can panic half-way, so a poisoned one is as good.
    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, OfTenant>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted<'_> {
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
    use futures_util::{FutureExt, future::pending};

    #[tokio::test]
    async fn a_workspace_has_so_many_checks_and_others_have_theirs() {
        let checks = Checks::default();
        let (one, other) = (TenantId::new("one"), TenantId::new("other"));
        let endless = || checks.within(&one, pending::<Result<(), _>>()).boxed();
        let mut under_way: Vec<_> = (0..TENANT_CHECKS_MAX).map(|_| endless()).collect();
        for check in &mut under_way {
            assert!(check.now_or_never().is_none());
        }
        assert!(matches!(endless().await, Err(OperationError::TooManyChecks)));
        assert!(checks.within(&other, async { Ok(()) }).await.is_ok());
        // Two are under way and the others wait; who leaves makes room for one.
        assert_eq!(checks.all.available_permits(), ALL_AT_ONCE - TENANT_AT_ONCE);
        under_way.pop();
        let mut next = endless();
        assert!((&mut next).now_or_never().is_none());
        assert!(matches!(endless().await, Err(OperationError::TooManyChecks)));
        drop((under_way, next));
        assert!(checks.tenants().is_empty());
        assert!(checks.within(&one, async { Ok(()) }).await.is_ok());
    }

    #[tokio::test]
    async fn all_workspaces_together_have_so_many() {
        let checks = Checks::default();
        let tenants: Vec<_> = (0..ALL_AT_ONCE).map(|number| TenantId::new(number.to_string())).collect();
        let mut endless: Vec<_> =
            tenants.iter().map(|it| checks.within(it, pending::<Result<(), _>>()).boxed()).collect();
        for check in &mut endless {
            assert!(check.now_or_never().is_none());
        }
        let late = TenantId::new("late");
        let mut late = checks.within(&late, async { Ok(()) }).boxed();
        assert!((&mut late).now_or_never().is_none());
        endless.pop();
        assert!(late.await.is_ok());
    }
}
