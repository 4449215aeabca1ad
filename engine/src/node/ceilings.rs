//! What one tenant may take of a node and of the store, so that none takes it all.
//!
//! Refuses starts and leaves due runs where they are; never touches a run that goes on.
//!
//! Unfinished runs are counted in the store now and then, and in between every start here is added. So the number known is
//! never too low as far as this node started them; what other nodes start shows at the next count. So it is with stored
//! bytes: what this node writes is added as it is written.

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
    /// Bytes that the events of its runs take in the store, ended ones too. A start below it is let in; what that run, others
    /// under way and child runs write is never refused, and comes on top.
    pub stored_bytes_max: u64,
    /// Runs that one node works on at once. Further ones are accepted and wait in the store. A run that waits for a person,
    /// a timer or a child is not worked on.
    pub active_runs_max: u32,
    /// Requests of its steps that one node has under way outside at once. Further ones wait, at no cost of their steps' time.
    pub requests_max: u32,
    /// The start payload and what a start gives single steps, as JSON text.
    pub input_bytes_max: usize,
}

impl Ceilings {
    /// How much a tenant may take of one thing.
    pub fn limit(&self, of: Ceiling) -> u64 {
        match of {
            Ceiling::UnfinishedRuns => self.unfinished_runs_max.into(),
            Ceiling::StoredBytes => self.stored_bytes_max,
            Ceiling::InputBytes => self.input_bytes_max as u64,
        }
    }
}

impl Default for Ceilings {
    fn default() -> Self {
        Self {
            // A table that lists and claims stay quick on, and more than people can look after.
            unfinished_runs_max: 100_000,
            // Without: how large the disk is, and for how many, whoever runs the node knows.
            stored_bytes_max: u64::MAX,
            // Half of what a node does by default, so that one tenant alone never fills it.
            active_runs_max: 500,
            // The same of what a node has under way.
            requests_max: 256,
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
    /// [`Ceilings::stored_bytes_max`].
    StoredBytes,
    /// [`Ceilings::input_bytes_max`].
    InputBytes,
}

impl Ceiling {
    /// A stable name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnfinishedRuns => "unfinished_runs",
            Self::StoredBytes => "stored_bytes",
            Self::InputBytes => "input_bytes",
        }
    }

    /// After what time it is worth trying the same again: when what the tenant has is counted anew. Nothing where it never is.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::UnfinishedRuns | Self::StoredBytes => Some(COUNT_LASTS),
            Self::InputBytes => None,
        }
    }
}

impl std::fmt::Display for Ceiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UnfinishedRuns => "unfinished runs: wait until some have ended, or stop some",
            Self::StoredBytes => "bytes of stored events: runs that ended long ago have to be removed first",
            Self::InputBytes => "bytes of input: store large data elsewhere, and start with a reference to it",
        })
    }
}

/// What the tenants of a node take, and may.
pub(super) struct Tenants {
    default: Ceilings,
    own: Mutex<HashMap<TenantId, Ceilings>>,
    active: Arc<Mutex<HashMap<TenantId, u32>>>,
    known: Arc<Mutex<HashMap<TenantId, Known>>>,
}

/// What a tenant has in the store, at most: runs that have not ended, and bytes.
#[derive(Default)]
struct Known {
    unfinished: u64,
    stored: u64,
    counted: Option<Instant>,
    /// Starts that were ever let in, and those of them that are in the store or failed.
    begun: u64,
    settled: u64,
    /// Bytes that this node ever wrote.
    written: u64,
}

/// A start that was let in and is not yet in the store.
pub(super) struct Admitted {
    tenant: TenantId,
    known: Arc<Mutex<HashMap<TenantId, Known>>>,
    took_place: bool,
}

/// One of the runs that a node works on at once for a tenant. Dropping it makes room.
pub(super) struct Place {
    tenant: TenantId,
    active: Arc<Mutex<HashMap<TenantId, u32>>>,
}

impl Tenants {
    pub(super) fn new(default: Ceilings) -> Self {
        Self { default, own: Mutex::default(), active: Arc::default(), known: Arc::default() }
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

    /// Bytes of events that this node wrote for a tenant, and that are durable.
    pub(super) fn wrote(&self, tenant: &TenantId, bytes: usize) {
        // Of whom nothing is known, what is in the store is asked before the next start.
        if let Some(known) = locked(&self.known).get_mut(tenant) {
            known.stored += bytes as u64;
            known.written += bytes as u64;
        }
    }

    /// Lets a start in, or tells which ceiling its tenant has reached.
    pub(super) async fn admit(
        &self,
        store: &Store,
        tenant: &TenantId,
    ) -> Result<Result<Admitted, Ceiling>, StoreError> {
        let max = self.of(tenant);
        loop {
            let (settled, written) = {
                let mut all = locked(&self.known);
                let known = all.entry(tenant.clone()).or_default();
                let age = known.counted.map(|at| at.elapsed());
                match known.reached(&max) {
                    None if age.is_some_and(|age| age < COUNT_LASTS) => {
                        known.unfinished += 1;
                        known.begun += 1;
                        let (tenant, known) = (tenant.clone(), self.known.clone());
                        return Ok(Ok(Admitted { tenant, known, took_place: false }));
                    }
                    Some(ceiling) if age.is_some_and(|age| age < COUNT_PAUSE) => return Ok(Err(ceiling)),
                    _ => (known.settled, known.written),
                }
            };
            let unfinished = store.unfinished_runs(tenant, max.unfinished_runs_max).await?;
            let stored = store.stored_bytes(tenant).await?;
            let mut all = locked(&self.known);
            if all.len() >= TENANTS_MAX {
                all.retain(|other, known| other == tenant || known.begun != known.settled);
            }
            let known = all.entry(tenant.clone()).or_default();
            // Those under way when the count began may be in it or not, and so with bytes.
            known.unfinished = u64::from(unfinished) + known.begun.saturating_sub(settled);
            known.stored = stored + known.written.saturating_sub(written);
            known.counted = Some(Instant::now());
        }
    }
}

impl Known {
    fn reached(&self, max: &Ceilings) -> Option<Ceiling> {
        let taken = [(Ceiling::UnfinishedRuns, self.unfinished), (Ceiling::StoredBytes, self.stored)];
        taken.into_iter().find(|(of, taken)| *taken >= max.limit(*of)).map(|(of, _)| of)
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
        if let Some(known) = locked(&self.known).get_mut(&self.tenant) {
            known.settled += 1;
            known.unfinished = known.unfinished.saturating_sub(u64::from(!self.took_place));
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
