//! What tenants share: instances, memory and the processors.
//!
//! Owns who is next. A step beyond its tenant's budget waits and does not fail; among tenants that wait, instances go to
//! the one that has fewest, and turns on a processor to the one that has computed least. Among the steps of one tenant, those
//! that have begun come first. Never looks at what a step does.

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
    /// Turns that its steps hold.
    computing: usize,
    /// Steps that wait for a turn: first those that have begun and keep their place.
    begun: VecDeque<oneshot::Sender<Turn>>,
    turns: VecDeque<oneshot::Sender<Turn>>,
}

/// Where a step waits among those of its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before those that have not begun.
    First,
    /// Behind all others.
    Last,
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

    /// Stands in line for a turn to compute, and waits until it comes.
    pub(crate) fn turn(self: &Arc<Self>, tenant: &TenantId, place: Place) -> impl Future<Output = Turn> + use<> {
        let (sender, waiting) = oneshot::channel();
        let mut state = self.lock();
        let may_compute = state.tenant(tenant).may_compute(&self.budget);
        let unwanted = if state.turns_free > 0 && may_compute {
            let turn = self.grant_turn(&mut state, tenant);
            sender.send(turn).err()
        } else {
            state.turns_wanted += 1;
            let entry = state.tenant(tenant);
            match place {
                Place::First => entry.begun.push_back(sender),
                Place::Last => entry.turns.push_back(sender),
            }
            None
        };
        drop(state);
        drop(unwanted);
        async {
            match waiting.await {
                Ok(turn) => turn,
                Err(_) => unreachable!("a waiting step is only forgotten when it no longer waits"),
            }
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
        let entry = state.tenant(tenant);
        entry.computing += 1;
        let computed = entry.computed;
        state.served = state.served.max(computed);
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
        let entry = state.tenant(&turn.tenant);
        entry.computed += turn.since.elapsed();
        entry.computing -= 1;
        state.forget_if_idle(&turn.tenant);
        let mut unwanted = Vec::new();
        while state.turns_free > 0 && state.turns_wanted > 0 {
            let Some(tenant) = state.next_for_turn(&self.budget) else { break };
            let entry = state.tenant(&tenant);
            let Some(sender) = entry.begun.pop_front().or_else(|| entry.turns.pop_front()) else { break };
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
        let is_idle = |entry: &Tenant| {
            entry.instances == 0 && entry.computing == 0 && entry.rooms.is_empty() && !entry.wants_turn()
        };
        if self.tenants.get(tenant).is_some_and(is_idle) {
            self.tenants.remove(tenant);
        }
    }

    fn next_for_room(&self, budget: &TenantBudget) -> Option<TenantId> {
        let fits = |entry: &Tenant| entry.rooms.front().is_some_and(|(bytes, _)| entry.has_room(budget, *bytes));
        let waiting = self.tenants.iter().filter(|(_, entry)| fits(entry));
        waiting.min_by_key(|(_, entry)| (entry.instances, entry.computed)).map(|(tenant, _)| tenant.clone())
    }

    fn next_for_turn(&self, budget: &TenantBudget) -> Option<TenantId> {
        let waiting = self.tenants.iter().filter(|(_, entry)| entry.wants_turn() && entry.may_compute(budget));
        waiting.min_by_key(|(_, entry)| entry.computed).map(|(tenant, _)| tenant.clone())
    }
}

impl Tenant {
    fn wants_turn(&self) -> bool {
        !self.begun.is_empty() || !self.turns.is_empty()
    }

    fn may_compute(&self, budget: &TenantBudget) -> bool {
        self.computing < budget.computing
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    /// Those of the waiting whose turn has come.
    fn come(waiting: &mut [(&'static str, futures_util::future::BoxFuture<'static, Turn>)]) -> Vec<(usize, Turn)> {
        let polled = waiting.iter_mut().enumerate();
        polled.filter_map(|(at, (_, turn))| Some((at, turn.now_or_never()?))).collect()
    }

    #[test]
    fn steps_that_have_begun_come_before_others_of_their_tenant() {
        let tenants = Tenants::new(10, 1, TenantBudget::default());
        let tenant = TenantId::new("t");
        let held = tenants.turn(&tenant, Place::Last).now_or_never().unwrap();
        let wait = |name, place| (name, tenants.turn(&tenant, place).boxed());
        let mut waiting = vec![wait("new", Place::Last), wait("newer", Place::Last), wait("begun", Place::First)];
        assert!(come(&mut waiting).is_empty());
        let mut order = Vec::new();
        drop(held);
        while let Some((at, turn)) = come(&mut waiting).pop() {
            order.push(waiting.remove(at).0);
            drop(turn);
        }
        assert_eq!(order, ["begun", "new", "newer"]);
    }

    #[test]
    fn a_tenant_at_its_ceiling_leaves_processors_to_others() {
        let tenants = Tenants::new(10, 2, TenantBudget { computing: 1, ..TenantBudget::default() });
        let (one, other) = (TenantId::new("one"), TenantId::new("other"));
        let held = tenants.turn(&one, Place::Last).now_or_never().unwrap();
        let mut second = tenants.turn(&one, Place::Last).boxed();
        assert!((&mut second).now_or_never().is_none());
        let others = tenants.turn(&other, Place::Last).now_or_never().expect("a processor is idle");
        drop(others);
        assert!((&mut second).now_or_never().is_none());
        drop(held);
        assert!(second.now_or_never().is_some());
    }
}
