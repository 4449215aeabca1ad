//! What tenants share: instances, memory and the processors.
//!
//! Owns who is next. A step beyond its tenant's budget waits and does not fail; among tenants that wait, instances go to
//! the one that has fewest, and turns on a processor to the one that has computed least. Never looks at what a step does.

use crate::TenantBudget;
use agentruntime_host_api::TenantId;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The shares of all tenants.
pub(crate) struct Tenants {
    budget: TenantBudget,
    state: Mutex<State>,
}

struct State {
    instances_free: u32,
    turns_free: usize,
    /// How many steps wait for a turn.
    turns_wanted: usize,
    /// What the tenant that last got a turn had computed: where a newcomer starts, so that it neither waits for others to
    /// catch up nor catches up itself.
    served: Duration,
    tenants: HashMap<TenantId, Tenant>,
}

#[derive(Default)]
struct Tenant {
    instances: u32,
    memory_bytes: usize,
    computed: Duration,
    rooms: VecDeque<(usize, oneshot::Sender<Room>)>,
    turns: VecDeque<oneshot::Sender<Turn>>,
}

/// The right to an instance and its memory.
pub(crate) struct Room {
    tenants: Arc<Tenants>,
    tenant: TenantId,
    memory_bytes: usize,
}

/// The right to compute.
pub(crate) struct Turn {
    tenants: Arc<Tenants>,
    tenant: TenantId,
    since: Instant,
}

impl Tenants {
    pub(crate) fn new(instances: u32, cpus: usize, budget: TenantBudget) -> Arc<Self> {
        let state = State {
            instances_free: instances,
            turns_free: cpus.max(1),
            turns_wanted: 0,
            served: Duration::ZERO,
            tenants: HashMap::new(),
        };
        Arc::new(Self { budget, state: Mutex::new(state) })
    }

    /// Waits until the tenant may have another instance. What no budget could ever hold is cut to the budget.
    pub(crate) async fn room(self: &Arc<Self>, tenant: &TenantId, memory_bytes: usize) -> Room {
        let memory_bytes = memory_bytes.min(self.budget.memory_bytes);
        let waiting = {
            let mut state = self.lock();
            let free = state.instances_free > 0;
            let entry = state.tenant(tenant);
            if free && entry.rooms.is_empty() && entry.has_room(&self.budget, memory_bytes) {
                return self.grant_room(&mut state, tenant, memory_bytes);
            }
            let (sender, receiver) = oneshot::channel();
            entry.rooms.push_back((memory_bytes, sender));
            receiver
        };
        match waiting.await {
            Ok(room) => room,
            Err(_) => unreachable!("a waiting step is only forgotten when it no longer waits"),
        }
    }

    /// Waits until it is the tenant's turn to compute.
    pub(crate) async fn turn(self: &Arc<Self>, tenant: &TenantId) -> Turn {
        let waiting = {
            let mut state = self.lock();
            if state.turns_free > 0 {
                return self.grant_turn(&mut state, tenant);
            }
            let (sender, receiver) = oneshot::channel();
            state.turns_wanted += 1;
            state.tenant(tenant).turns.push_back(sender);
            receiver
        };
        match waiting.await {
            Ok(turn) => turn,
            Err(_) => unreachable!("a waiting step is only forgotten when it no longer waits"),
        }
    }

    /// Whether somebody waits for a turn.
    pub(crate) fn is_turn_wanted(&self) -> bool {
        self.lock().turns_wanted > 0
    }

    fn grant_room(self: &Arc<Self>, state: &mut State, tenant: &TenantId, memory_bytes: usize) -> Room {
        state.instances_free -= 1;
        let entry = state.tenant(tenant);
        entry.instances += 1;
        entry.memory_bytes += memory_bytes;
        Room { tenants: Arc::clone(self), tenant: tenant.clone(), memory_bytes }
    }

    fn grant_turn(self: &Arc<Self>, state: &mut State, tenant: &TenantId) -> Turn {
        state.turns_free -= 1;
        state.served = state.served.max(state.tenant(tenant).computed);
        Turn { tenants: Arc::clone(self), tenant: tenant.clone(), since: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock panics, and counts that are whole are better than none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave_room(self: &Arc<Self>, room: &Room) {
        let mut state = self.lock();
        state.instances_free += 1;
        let entry = state.tenant(&room.tenant);
        entry.instances -= 1;
        entry.memory_bytes -= room.memory_bytes;
        state.forget_if_idle(&room.tenant);
        let mut unwanted = Vec::new();
        while state.instances_free > 0 {
            let Some(tenant) = state.next_for_room(&self.budget) else { break };
            let Some((memory_bytes, sender)) = state.tenant(&tenant).rooms.pop_front() else { break };
            if sender.is_closed() {
                state.forget_if_idle(&tenant);
                continue;
            }
            let room = self.grant_room(&mut state, &tenant, memory_bytes);
            unwanted.extend(sender.send(room).err());
        }
        // These give their room back when they are dropped, which needs the lock.
        drop(state);
        drop(unwanted);
    }

    fn leave_turn(self: &Arc<Self>, turn: &Turn) {
        let mut state = self.lock();
        state.turns_free += 1;
        state.tenant(&turn.tenant).computed += turn.since.elapsed();
        state.forget_if_idle(&turn.tenant);
        let mut unwanted = Vec::new();
        while state.turns_free > 0 && state.turns_wanted > 0 {
            let Some(tenant) = state.next_for_turn() else { break };
            let Some(sender) = state.tenant(&tenant).turns.pop_front() else { break };
            state.turns_wanted -= 1;
            if sender.is_closed() {
                state.forget_if_idle(&tenant);
                continue;
            }
            let turn = self.grant_turn(&mut state, &tenant);
            unwanted.extend(sender.send(turn).err());
        }
        drop(state);
        drop(unwanted);
    }
}

impl State {
    fn tenant(&mut self, tenant: &TenantId) -> &mut Tenant {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.clone(), Tenant { computed: self.served, ..Tenant::default() });
        }
        self.tenants.get_mut(tenant).expect("it was inserted above")
    }

    /// Tenants come and go; only those with something under way are kept.
    fn forget_if_idle(&mut self, tenant: &TenantId) {
        let is_idle = |entry: &Tenant| entry.instances == 0 && entry.rooms.is_empty() && entry.turns.is_empty();
        if self.tenants.get(tenant).is_some_and(is_idle) {
            self.tenants.remove(tenant);
        }
    }

    fn next_for_room(&self, budget: &TenantBudget) -> Option<TenantId> {
        let fits = |entry: &Tenant| entry.rooms.front().is_some_and(|(bytes, _)| entry.has_room(budget, *bytes));
        let waiting = self.tenants.iter().filter(|(_, entry)| fits(entry));
        waiting.min_by_key(|(_, entry)| (entry.instances, entry.computed)).map(|(tenant, _)| tenant.clone())
    }

    fn next_for_turn(&self) -> Option<TenantId> {
        let waiting = self.tenants.iter().filter(|(_, entry)| !entry.turns.is_empty());
        waiting.min_by_key(|(_, entry)| entry.computed).map(|(tenant, _)| tenant.clone())
    }
}

impl Tenant {
    fn has_room(&self, budget: &TenantBudget, memory_bytes: usize) -> bool {
        self.instances < budget.instances && self.memory_bytes + memory_bytes <= budget.memory_bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        Arc::clone(&self.tenants).leave_room(self);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        Arc::clone(&self.tenants).leave_turn(self);
    }
}
