//! How many streams a workspace may have open at once.

use agentruntime_host_api::TenantId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Streams of one workspace on one process: each holds a buffer and a connection. Those of whole
/// workflows share one feed for each workflow; each of a single run asks the store now and then.
pub(super) const STREAMS_PER_TENANT_MAX: usize = 2_000;

/// The streams that are open.
#[derive(Clone, Default)]
pub(crate) struct Seats(Arc<Mutex<HashMap<TenantId, usize>>>);

/// The right to one stream, until it is dropped.
pub(crate) struct Seat {
    seats: Seats,
    tenant: TenantId,
}

impl Seats {
    /// A seat, unless the workspace has all of its own.
    pub(super) fn take(&self, tenant: &TenantId) -> Option<Seat> {
        let mut taken = self.lock();
        let count = taken.entry(tenant.clone()).or_default();
        if *count >= STREAMS_PER_TENANT_MAX {
            return None;
        }
        *count += 1;
        Some(Seat { seats: self.clone(), tenant: tenant.clone() })
    }

    /// No code that holds this lock can panic half-way, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(count) = taken.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_has_so_many_seats_and_gets_them_back() {
        let (seats, one, other) = (Seats::default(), TenantId::new("one"), TenantId::new("other"));
        let mut taken: Vec<Seat> = (0..STREAMS_PER_TENANT_MAX).map(|_| seats.take(&one).unwrap()).collect();
        assert!(seats.take(&one).is_none());
        assert!(seats.take(&other).is_some());
        taken.pop();
        assert!(seats.take(&one).is_some());
        drop(taken);
        assert!(seats.lock().is_empty());
    }
}
