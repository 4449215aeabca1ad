//! The time that is an attempt's own while it waits for replies.
//!
//! Owns the count that its limit rests on. It stands still while all that the attempt waits for waits for its turn itself:
//! else steps that start together would end together, by timeout, and one tenant's slow servers would end another's steps.

use super::turns::Turn;
use std::{
    future::{Future, pending},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time};

/// Counts.
pub(super) struct OwnTime {
    state: Mutex<State>,
    /// It went on, or stands still.
    changed: Notify,
}

struct State {
    /// Requests that wait for their turn, and those that have it.
    waiting: u32,
    under_way: u32,
    spent: Duration,
    /// Since when time counts; not while it stands still.
    since: Option<Instant>,
}

/// The limit was reached.
pub(super) struct Late;

/// A request under way, for as long as this is held.
pub(super) struct UnderWay {
    counted: Counted,
    turn: Turn,
}

/// A request whose time counts.
struct Counted(Arc<OwnTime>);

impl OwnTime {
    pub(super) fn from(now: Instant) -> Self {
        let state = State { waiting: 0, under_way: 0, spent: Duration::ZERO, since: Some(now) };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Waits for the turn of a request, and counts while it has it.
    pub(super) async fn turn(self: &Arc<Self>, turn: impl Future<Output = Turn>) -> UnderWay {
        self.change(|state| state.waiting += 1);
        let turn = turn.await;
        self.change(|state| {
            state.waiting -= 1;
            state.under_way += 1;
        });
        UnderWay { counted: Counted(self.clone()), turn }
    }

    /// What was counted.
    pub(super) fn spent(&self) -> Duration {
        self.lock().spent(Instant::now())
    }

    /// Waits for something until so much time was counted.
    pub(super) async fn within<T>(&self, limit: Duration, what: impl Future<Output = T>) -> Result<T, Late> {
        tokio::pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return Ok(done),
                () = self.changed.notified() => {}
                () = self.counted(limit) => return Err(Late),
            }
        }
    }

    /// Waits until so much would be counted if nothing changed.
    async fn counted(&self, limit: Duration) {
        let (stands, left) = {
            let state = self.lock();
            (state.since.is_none(), limit.saturating_sub(state.spent(Instant::now())))
        };
        match stands {
            true => pending().await,
            false => time::sleep(left).await,
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let now = Instant::now();
        let stands = state.waiting > 0 && state.under_way == 0;
        if stands == state.since.is_some() {
            state.spent = state.spent(now);
            state.since = (!stands).then_some(now);
            self.changed.notify_one();
        }
    }

    /// No code that holds this lock can panic half-way, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn spent(&self, now: Instant) -> Duration {
        self.spent + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

impl UnderWay {
    /// Gives the turn back and lets time pass, which counts: a step's limit holds for what it puts off, too.
    pub(super) async fn rest(self, duration: Duration) {
        let Self { counted, turn } = self;
        drop(turn);
        time::sleep(duration).await;
        drop(counted);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.change(|state| state.under_way -= 1);
    }
}
