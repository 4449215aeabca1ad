//! How many requests that ask servers elsewhere on somebody's word are under way: authorizations, discoveries and validations
//! of servers of MCP, tests of connections, catalogs of models.
//!
//! Each lasts as long as the servers that it asks, half a minute at most, and holds what they say in memory. So a workspace has
//! few of them, all together not many, and a further one is refused at once. What steps ask is none: those wait for turns of
//! their own.

use agentruntime_host_api::TenantId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Inquiries of one workspace at once: its people's, and those of a pipeline beside them.
pub(crate) const TENANT_INQUIRIES_MAX: usize = 8;
/// Inquiries of all workspaces at once, per process: eight workspaces that have all of theirs.
pub(crate) const INQUIRIES_MAX: usize = 64;

/// The inquiries of this process.
#[derive(Clone, Default)]
pub(crate) struct Inquiries(Arc<Mutex<HashMap<TenantId, usize>>>);

/// One of the inquiries that there may be, until it is dropped.
#[must_use = "dropping it makes room"]
pub(crate) struct Inquiry {
    inquiries: Inquiries,
    tenant: TenantId,
}

/// Why there is no room for one more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TooMany {
    /// The workspace has all of its own.
    #[error(
        "{TENANT_INQUIRIES_MAX} requests of this workspace are asking servers elsewhere already; wait until one is done"
    )]
    OfTenant,
    /// All together have as many as there may be.
    #[error("{INQUIRIES_MAX} requests are asking servers elsewhere already; try again in a moment")]
    OfAll,
}

impl Inquiries {
    /// One more inquiry of a workspace, if it may have it.
    pub(crate) fn admit(&self, tenant: &TenantId) -> Result<Inquiry, TooMany> {
        let mut under_way = self.lock();
        let own = under_way.get(tenant).copied().unwrap_or_default();
        if own >= TENANT_INQUIRIES_MAX {
            return Err(TooMany::OfTenant);
        }
        // Few workspaces have any.
        if under_way.values().sum::<usize>() >= INQUIRIES_MAX {
            return Err(TooMany::OfAll);
        }
        under_way.insert(tenant.clone(), own + 1);
        Ok(Inquiry { inquiries: self.clone(), tenant: tenant.clone() })
    }

    /// No code that holds this lock can panic half-way, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        let mut under_way = self.inquiries.lock();
        if let Some(count) = under_way.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_has_so_many_inquiries_and_all_together_so_many() {
        let inquiries = Inquiries::default();
        let admit = |tenant: usize| inquiries.admit(&TenantId::new(tenant.to_string()));
        let mut own: Vec<Inquiry> = (0..TENANT_INQUIRIES_MAX).map(|_| admit(0).unwrap()).collect();
        assert!(matches!(admit(0), Err(TooMany::OfTenant)));
        let mut others: Vec<Inquiry> =
            (TENANT_INQUIRIES_MAX..INQUIRIES_MAX).map(|number| admit(number).unwrap()).collect();
        assert!(matches!(admit(INQUIRIES_MAX), Err(TooMany::OfAll)));
        own.pop();
        own.push(admit(0).unwrap());
        others.pop();
        others.push(admit(INQUIRIES_MAX).unwrap());
        drop((own, others));
        assert!(inquiries.lock().is_empty());
    }
}
