//! What one tenant may take of a node and of the store, so that none takes it all.
//!
//! Refuses starts and leaves due runs where they are; never touches a run that goes on.
//!
//! Unfinished runs are counted in the store now and then, and in between every start here is added. So the number known is
//! never too low as far as this node started them; what other nodes start shows at the next count.

use crate::store::{Rooms, Store, StoreError};
use agentruntime_host_api::TenantId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a count is good: what other nodes start meanwhile comes on top of the ceiling.
const COUNT_LASTS: Duration = Duration::from_secs(10);
/// How soon a tenant that is at its ceiling is counted again: each count of many runs costs milliseconds.
const COUNT_PAUSE: Duration = Duration::from_secs(1);
/// Tenants whose counts are kept in memory at once.
const TENANTS_MAX: usize = 10_000;

/// What one tenant may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// Runs that have not ended, waiting ones too. Child runs count, but are never refused: their parent counts on them.
    pub unfinished_runs_max: u32,
    /// Runs that one node works on at once. Further ones are accepted and wait in the store. A run that waits for a person,
    /// a timer or a child is not worked on.
    pub active_runs_max: u32,
    /// The start payload and what a start gives single steps, as JSON text.
    pub input_bytes_max: usize,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self {
            // A table that lists and claims stay quick on, and more than people can look after.
            unfinished_runs_max: 100_000,
            // Half of what a node does by default, so that one tenant alone never fills it.
            active_runs_max: 500,
            // As much as a step may return.
            input_bytes_max: 1 << 20,
        }
    }
}

/// Which ceiling a start met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// [`Ceilings::unfinished_runs_max`].
    UnfinishedRuns,
    /// [`Ceilings::input_bytes_max`].
    InputBytes,
}

impl Ceiling {
    /// A stable name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnfinishedRuns => "unfinished_runs",
            Self::InputBytes => "input_bytes",
        }
    }

    /// After what time it is worth trying the same again: when the tenant's runs are counted anew. Nothing where it never is.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::UnfinishedRuns => Some(COUNT_LASTS),
            Self::InputBytes => None,
        }
    }
}

impl std::fmt::Display for Ceiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UnfinishedRuns => "unfinished runs: wait until some have ended, or stop some",
            Self::InputBytes => "bytes of input: store large data elsewhere, and start with a reference to it",
        })
    }
}

/// What the tenants of a node take, and may.
pub(super) struct Tenants {
    default: Ceilings,
    own: Mutex<HashMap<TenantId, Ceilings>>,
    active: Arc<Mutex<HashMap<TenantId, u32>>>,
    unfinished: Arc<Mutex<HashMap<TenantId, Unfinished>>>,
}

/// How many runs of a tenant have not ended, at most.
#[derive(Default)]
struct Unfinished {
    at_most: u64,
    counted: Option<Instant>,
    /// Starts that were ever let in, and those of them that are in the store or failed.
    begun: u64,
    settled: u64,
}

/// A start that was let in and is not yet in the store.
pub(super) struct Admitted {
    tenant: TenantId,
    unfinished: Arc<Mutex<HashMap<TenantId, Unfinished>>>,
    took_place: bool,
}

/// One of the runs that a node works on at once for a tenant. Dropping it makes room.
pub(super) struct Place {
    tenant: TenantId,
    active: Arc<Mutex<HashMap<TenantId, u32>>>,
}

impl Tenants {
    pub(super) fn new(default: Ceilings) -> Self {
        Self { default, own: Mutex::default(), active: Arc::default(), unfinished: Arc::default() }
    }

    pub(super) fn of(&self, tenant: &TenantId) -> Ceilings {
        locked(&self.own).get(tenant).unwrap_or(&self.default).clone()
    }

    pub(super) fn set(&self, tenant: TenantId, ceilings: Option<Ceilings>) {
        let mut own = locked(&self.own);
        match ceilings {
            Some(ceilings) => own.insert(tenant, ceilings),
            None => own.remove(&tenant),
        };
    }

    /// A place for a run that is started, if there is one.
    pub(super) fn place(&self, tenant: &TenantId) -> Option<Place> {
        let max = self.of(tenant).active_runs_max;
        let mut active = locked(&self.active);
        let taken = active.get(tenant).copied().unwrap_or_default();
        (taken < max).then(|| {
            active.insert(tenant.clone(), taken + 1);
            Place { tenant: tenant.clone(), active: self.active.clone() }
        })
    }

    /// A place for a run that is claimed already.
    pub(super) fn place_for_claimed(&self, tenant: &TenantId) -> Place {
        *locked(&self.active).entry(tenant.clone()).or_default() += 1;
        Place { tenant: tenant.clone(), active: self.active.clone() }
    }

    /// Whether the node works on as many runs of a tenant as it may.
    pub(super) fn is_full(&self, tenant: &TenantId) -> bool {
        let max = self.of(tenant).active_runs_max;
        locked(&self.active).get(tenant).is_some_and(|taken| *taken >= max)
    }

    /// How many runs of each tenant may be claimed.
    pub(super) fn rooms(&self) -> Rooms {
        let (own, active) = (locked(&self.own), locked(&self.active));
        let max = |tenant: &TenantId| own.get(tenant).unwrap_or(&self.default).active_runs_max;
        let room = |tenant: &TenantId| max(tenant).saturating_sub(active.get(tenant).copied().unwrap_or_default());
        let of = active.keys().chain(own.keys()).map(|tenant| (tenant.clone(), room(tenant))).collect();
        Rooms { of, default: self.default.active_runs_max }
    }

    /// Lets a start in, if its tenant has fewer unfinished runs than it may.
    pub(super) async fn admit(&self, store: &Store, tenant: &TenantId) -> Result<Option<Admitted>, StoreError> {
        let max = u64::from(self.of(tenant).unfinished_runs_max);
        loop {
            let settled = {
                let mut all = locked(&self.unfinished);
                let known = all.entry(tenant.clone()).or_default();
                let age = known.counted.map(|at| at.elapsed());
                if known.at_most < max && age.is_some_and(|age| age < COUNT_LASTS) {
                    known.at_most += 1;
                    known.begun += 1;
                    let (tenant, unfinished) = (tenant.clone(), self.unfinished.clone());
                    return Ok(Some(Admitted { tenant, unfinished, took_place: false }));
                }
                if known.at_most >= max && age.is_some_and(|age| age < COUNT_PAUSE) {
                    return Ok(None);
                }
                known.settled
            };
            let counted = store.unfinished_runs(tenant, u32::try_from(max).unwrap_or(u32::MAX)).await?;
            let mut all = locked(&self.unfinished);
            if all.len() >= TENANTS_MAX {
                all.retain(|other, known| other == tenant || known.begun != known.settled);
            }
            let known = all.entry(tenant.clone()).or_default();
            // Those under way when the count began may be in it or not.
            known.at_most = u64::from(counted) + known.begun.saturating_sub(settled);
            known.counted = Some(Instant::now());
        }
    }
}

impl Admitted {
    /// The run is in the store.
    pub(super) fn keep_place(mut self) {
        self.took_place = true;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(known) = locked(&self.unfinished).get_mut(&self.tenant) {
            known.settled += 1;
            known.at_most = known.at_most.saturating_sub(u64::from(!self.took_place));
        }
    }
}

impl Place {
    pub(super) fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut active = locked(&self.active);
        if let Some(taken) = active.get_mut(&self.tenant) {
            *taken -= 1;
            if *taken == 0 {
                active.remove(&self.tenant);
            }
        }
    }
}

/// No code that holds one of these locks can panic half-way, so a poisoned one is as good.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
