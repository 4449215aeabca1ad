//! The room of one request among those that are under way outside.
//!
//! Owns when the request has a turn: while it is carried out, and not while it rests. Never decides whose turn it is.

use super::{
    numbers,
    own_time::{OwnTime, UnderWay},
    turns::Turns,
};
use agentruntime_host_api::{Room, TenantId};
use futures_util::future::{BoxFuture, FutureExt};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time;

/// A request, and its turn while it has one.
pub(super) struct RequestRoom {
    turns: Turns,
    own: Arc<OwnTime>,
    tenant: TenantId,
    under_way: Mutex<Option<UnderWay>>,
}

impl RequestRoom {
    /// Of a request that has no turn yet, and may never need one.
    pub(super) fn new(turns: &Turns, own: &Arc<OwnTime>, tenant: &TenantId) -> Self {
        Self { turns: turns.clone(), own: own.clone(), tenant: tenant.clone(), under_way: Mutex::default() }
    }

    /// Waits for a turn.
    pub(super) async fn enter(&self) {
        let _waiting = numbers::one("agentruntime_step_requests_waiting");
        let under_way = self.own.turn(self.turns.take(&self.tenant)).await;
        *self.lock() = Some(under_way);
    }

    /// Gives the turn back, whoever still knows of this room.
    pub(super) fn leave(&self) {
        let under_way = self.lock().take();
        drop(under_way);
    }

    /// No code that holds this lock can panic half-way, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Option<UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room for RequestRoom {
    fn rest(&self, duration: Duration) -> BoxFuture<'_, ()> {
        let under_way = self.lock().take();
        async move {
            match under_way {
                Some(under_way) => {
                    under_way.rest(duration).await;
                    self.enter().await;
                }
                // It is nobody's turn that it takes.
                None => time::sleep(duration).await,
            }
        }
        .boxed()
    }
}

impl fmt::Debug for RequestRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestRoom").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Ceilings, ceilings::Tenants};
    use std::time::Instant;

    fn rooms() -> (RequestRoom, RequestRoom) {
        let turns = Turns::new(1, Arc::new(Tenants::new(Ceilings::default())));
        let room = |tenant| RequestRoom::new(&turns, &Arc::new(OwnTime::from(Instant::now())), &TenantId::new(tenant));
        (room("a"), room("b"))
    }

    #[tokio::test]
    async fn who_rests_has_no_turn_and_goes_on_with_the_next() {
        let (rests, other) = rooms();
        rests.enter().await;
        let mut waits = other.enter().boxed();
        assert!((&mut waits).now_or_never().is_none(), "there is one turn");
        let mut rest = rests.rest(Duration::ZERO);
        assert!((&mut rest).now_or_never().is_none());
        waits.await;
        assert!(rests.lock().is_none());
        other.leave();
        rest.await;
        assert!(other.enter().now_or_never().is_none(), "it has the turn again");
        rests.leave();
        assert!(other.enter().now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_is_stopped_while_it_rests_keeps_no_turn() {
        let (stopped, other) = rooms();
        stopped.enter().await;
        drop(stopped.rest(Duration::MAX));
        assert!(other.enter().now_or_never().is_some());
    }
}
