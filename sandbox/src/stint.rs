//! A step's turn to compute, and the time that is its own.
//!
//! Owns the count that a step's time limit rests on: the time in which it holds a turn and runs, and the time until what it
//! asked for has come. Never counts the time in which it waits behind other steps, or the machine does something else.

use crate::tenants::{Place, Turn};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Turns that a step takes before it goes behind the others of its tenant. Steps that are short end in the order in which they
/// began, rather than all at once at last; long ones share.
const TURNS_IN_A_ROW_MAX: u32 = 50;

/// What a step has of the processors. Clones are of the same step.
#[derive(Clone, Default)]
pub(crate) struct Stint(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    turn: Option<Turn>,
    turns_in_a_row: u32,
    spent: Duration,
    /// Since when time counts; not while others have the processor.
    since: Option<Instant>,
}

impl Stint {
    /// Computes with a turn from now on.
    pub(crate) fn begin(&self, turn: Turn, now: Instant) {
        let before = {
            let mut state = self.lock();
            state.count(now);
            state.since = Some(now);
            state.turn.replace(turn)
        };
        drop(before);
    }

    /// Computes no longer. What comes now is waited for at the step's own expense, or not.
    pub(crate) fn end(&self, now: Instant, waits: Waits) {
        let turn = {
            let mut state = self.lock();
            state.count(now);
            state.since = match waits {
                Waits::ForReplies => Some(now),
                Waits::ForOthers => None,
            };
            state.turn.take()
        };
        // Gives the turn to somebody else, which takes a lock of its own.
        drop(turn);
    }

    /// Leaves the thread to others for a moment and keeps the turn.
    pub(crate) fn pause(&self, now: Instant) {
        let mut state = self.lock();
        state.count(now);
        state.since = None;
    }

    /// Has the thread again.
    pub(crate) fn go_on(&self, now: Instant) {
        self.lock().since = Some(now);
    }

    /// The time that was the step's own.
    pub(crate) fn spent(&self, now: Instant) -> Duration {
        let state = self.lock();
        state.spent + state.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Where the step waits for its next turn.
    pub(crate) fn next_place(&self) -> Place {
        let mut state = self.lock();
        state.turns_in_a_row = (state.turns_in_a_row + 1) % TURNS_IN_A_ROW_MAX;
        if state.turns_in_a_row == 0 { Place::Last } else { Place::First }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock panics, and counts that are whole are better than none.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a step waits for that does not compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// What it asked for.
    ForReplies,
    /// Its next turn.
    ForOthers,
}

impl State {
    fn count(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.spent += now.saturating_duration_since(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TenantBudget, tenants::Tenants};
    use agentruntime_host_api::TenantId;
    use futures_util::FutureExt;

    #[test]
    fn what_counts_is_computing_and_waiting_for_replies() {
        let tenants = Tenants::new(1, 1, TenantBudget::default());
        let turn = || tenants.turn(&TenantId::new("t"), Place::Last).now_or_never().expect("nobody else wants one");
        let (stint, begun) = (Stint::default(), Instant::now());
        let at = |millis| begun + Duration::from_millis(millis);
        let spent = |now| stint.spent(at(now)).as_millis();
        assert_eq!(spent(5), 0, "waiting for the first turn is nobody's time");
        stint.begin(turn(), at(10));
        assert_eq!(spent(12), 2);
        stint.end(at(13), Waits::ForOthers);
        assert_eq!(spent(1_000), 3);
        stint.begin(turn(), at(1_000));
        stint.pause(at(1_001));
        assert_eq!(spent(2_000), 4);
        stint.go_on(at(2_000));
        stint.end(at(2_001), Waits::ForReplies);
        assert_eq!(spent(2_101), 105);
        stint.pause(at(2_101));
        stint.begin(turn(), at(3_000));
        assert_eq!(spent(3_001), 106);
    }

    #[test]
    fn a_step_keeps_its_place_for_some_turns_and_then_goes_behind_the_others() {
        let stint = Stint::default();
        let places: Vec<Place> = (0..2 * TURNS_IN_A_ROW_MAX).map(|_| stint.next_place()).collect();
        assert_eq!(places.iter().filter(|place| **place == Place::Last).count(), 2);
        assert_eq!(places.last(), Some(&Place::Last));
    }
}
