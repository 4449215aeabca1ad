//! Turns of requests: how many are under way outside at once, of all tenants together and of each.
//!
//! Owns who is next: the tenant that has the fewest under way, and of its requests the one that came first. So a tenant whose
//! servers are slow keeps itself waiting and not the others. Whoever waits holds neither a thread nor a sandbox. Never knows
//! what a request is about.

use super::ceilings::Tenants;
use agentruntime_host_api::TenantId;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// All turns of a node. Clones are of the same.
#[derive(Clone)]
pub(super) struct Turns(Arc<Line>);

struct Line {
    requests_max: usize,
    tenants: Arc<Tenants>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: usize,
    came: u64,
    /// Of those tenants that have requests under way, or waiting.
    of: HashMap<TenantId, Requests>,
}

#[derive(Default)]
struct Requests {
    under_way: u32,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    /// Its place among all that ever came.
    came: u64,
    told: oneshot::Sender<Turn>,
}

/// The turn of one request. Dropping it gives it to whoever is next.
pub(super) struct Turn {
    tenant: TenantId,
    line: Arc<Line>,
}

impl Turns {
    pub(super) fn new(requests_max: usize, tenants: Arc<Tenants>) -> Self {
        Self(Arc::new(Line { requests_max, tenants, state: Mutex::default() }))
    }

    /// Waits for a turn. Whoever stops waiting loses nothing but its place.
    pub(super) async fn take(&self, tenant: &TenantId) -> Turn {
        let (told, turn) = oneshot::channel();
        self.0.join(tenant, told);
        self.0.serve();
        turn.await.expect("whoever waits is told before it is forgotten")
    }
}

impl Line {
    fn join(&self, tenant: &TenantId, told: oneshot::Sender<Turn>) {
        let mut state = self.lock();
        state.came += 1;
        let came = state.came;
        state.of.entry(tenant.clone()).or_default().waiting.push_back(Waiting { came, told });
    }

    /// Gives out the turns that there are.
    fn serve(self: &Arc<Self>) {
        while let Some((told, turn)) = self.next() {
            // Who stopped waiting at this moment gives the turn back, which takes the lock.
            drop(told.send(turn));
        }
    }

    fn next(self: &Arc<Self>) -> Option<(oneshot::Sender<Turn>, Turn)> {
        let mut state = self.lock();
        if state.under_way >= self.requests_max {
            return None;
        }
        let waiting = state.of.iter_mut().filter_map(|(tenant, requests)| {
            let first = requests.first_waiting()?;
            (requests.under_way < self.tenants.of(tenant).requests_max).then_some((requests.under_way, first, tenant))
        });
        let tenant = waiting.min_by_key(|(under_way, first, _)| (*under_way, *first)).map(|(_, _, tenant)| tenant)?;
        let tenant = tenant.clone();
        let requests = state.of.get_mut(&tenant)?;
        let Waiting { told, .. } = requests.waiting.pop_front()?;
        requests.under_way += 1;
        state.under_way += 1;
        Some((told, Turn { tenant, line: self.clone() }))
    }

    fn leave(&self, tenant: &TenantId) {
        let mut state = self.lock();
        state.under_way -= 1;
        if let Some(requests) = state.of.get_mut(tenant) {
            requests.under_way -= 1;
            if requests.under_way == 0 && requests.first_waiting().is_none() {
                state.of.remove(tenant);
            }
        }
    }

    /// No code that holds this lock can panic half-way, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    /// The place of the first that waits still.
    fn first_waiting(&mut self) -> Option<u64> {
        while self.waiting.front().is_some_and(|waiting| waiting.told.is_closed()) {
            self.waiting.pop_front();
        }
        self.waiting.front().map(|waiting| waiting.came)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.line.leave(&self.tenant);
        self.line.serve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Ceilings;
    use futures_util::future::{BoxFuture, FutureExt};

    fn turns(requests_max: usize, of_each: u32) -> Turns {
        let ceilings = Ceilings { requests_max: of_each, ..Ceilings::default() };
        Turns::new(requests_max, Arc::new(Tenants::new(ceilings)))
    }

    /// Comes for a turn, and has it already or waits.
    fn come<'t>(turns: &'t Turns, tenant: &'t TenantId) -> Result<Turn, BoxFuture<'t, Turn>> {
        let mut turn = turns.take(tenant).boxed();
        (&mut turn).now_or_never().ok_or(turn)
    }

    #[test]
    fn a_tenant_has_as_many_as_it_may_and_those_of_another_do_not_wait_for_it() {
        let (turns, a, b) = (turns(3, 2), TenantId::new("a"), TenantId::new("b"));
        let (Ok(first), Ok(_second)) = (come(&turns, &a), come(&turns, &a)) else { panic!("two are allowed") };
        let Err(mut third) = come(&turns, &a) else { panic!("the third of one tenant waits") };
        let Ok(other) = come(&turns, &b) else { panic!("the other has its own") };
        let Err(mut fourth) = come(&turns, &b) else { panic!("three of all are under way") };
        drop(other);
        let fourth = (&mut fourth).now_or_never().expect("the first tenant has as many as it may");
        drop(fourth);
        assert!((&mut third).now_or_never().is_none(), "room of all is no room of its own");
        drop(first);
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn the_next_turn_is_the_tenants_that_has_the_fewest_under_way() {
        let (turns, a, b) = (turns(2, 2), TenantId::new("a"), TenantId::new("b"));
        let (Ok(first), Ok(_second)) = (come(&turns, &a), come(&turns, &a)) else { panic!("two are allowed") };
        let (Err(mut third), Err(mut other)) = (come(&turns, &a), come(&turns, &b)) else { panic!("they wait") };
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "it came first, and its tenant has one under way");
        drop((&mut other).now_or_never().expect("it is its turn"));
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn a_tenants_requests_go_in_the_order_in_which_they_came() {
        let (turns, a) = (turns(1, 1), TenantId::new("a"));
        let Ok(first) = come(&turns, &a) else { panic!("one is allowed") };
        let (Err(mut second), Err(mut third)) = (come(&turns, &a), come(&turns, &a)) else { panic!("they wait") };
        drop(first);
        assert!((&mut third).now_or_never().is_none());
        drop((&mut second).now_or_never().expect("it is its turn"));
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn who_stops_waiting_keeps_no_turn_and_nothing_is_kept_of_tenants_that_want_none() {
        let (turns, a, b) = (turns(1, 1), TenantId::new("a"), TenantId::new("b"));
        let Ok(first) = come(&turns, &a) else { panic!("one is allowed") };
        let (Err(gone), Err(told)) = (come(&turns, &b), come(&turns, &b)) else { panic!("they wait") };
        drop(gone);
        drop(first);
        // It was given its turn, and never looked.
        drop(told);
        assert!(come(&turns, &a).is_ok());
        assert!(turns.0.lock().of.is_empty() && turns.0.lock().under_way == 0);
    }
}
