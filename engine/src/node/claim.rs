//! Taking runs up, and keeping their leases.

use super::{Shared, Standing, actor::Actor};
use crate::{
    run::RunState,
    store::{ClaimedRun, KEYS_SWEPT_MAX, Lease, StoreError},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time;

/// Sweeps of expired keys at one beat: with those of all beats, more than a node can start in that time.
const SWEEPS_MAX: u32 = 20;
/// Runs claimed in one statement.
const CLAIM_MAX: usize = 64;

/// Claims runs while the node has room, and waits for more to become due.
pub(super) async fn take_up(shared: Arc<Shared>) {
    let mut news = shared.store.woken();
    loop {
        let want = shared.has_room().min(CLAIM_MAX);
        let claimed = match claim(&shared, want).await {
            Ok(claimed) => claimed,
            Err(error) => {
                told(&error, "cannot claim runs");
                // Nothing can be claimed before; asking again and again would only be refused.
                shared.store.database().in_order().await;
                0
            }
        };
        if claimed > 0 && claimed == want {
            continue;
        }
        hear(&shared).await;
        let pause = pause(&shared, want).await;
        tokio::select! {
            () = shared.work.notified() => {}
            _ = news.changed() => {}
            () = time::sleep(pause) => {}
        }
    }
}

async fn claim(shared: &Arc<Shared>, want: usize) -> Result<usize, StoreError> {
    if want == 0 {
        return Ok(0);
    }
    // At most CLAIM_MAX.
    let rooms = shared.tenants.rooms();
    let claimed = shared.store.claim_within(&shared.id, want as u32, shared.config.lease, &rooms).await?;
    let count = claimed.len();
    for run in claimed {
        let lease = run.lease;
        let shared_for_actor = shared.clone();
        let place = shared.tenants.place_for_claimed(&run.record.scope.tenant);
        shared.spawn(lease, place, Standing::Durable, |news| go_on(shared_for_actor, run, news));
    }
    Ok(count)
}

/// Tells the actors of runs that other processes sent a signal to. What this process sends, it tells them itself.
async fn hear(shared: &Shared) {
    if !shared.store.is_shared() {
        return;
    }
    match shared.store.unread(&shared.id).await {
        Ok(runs) => {
            let active = shared.active();
            runs.iter().filter_map(|run| active.get(run)).for_each(|active| active.news.notify_one());
        }
        Err(error) => told(&error, "cannot ask for signals from other processes"),
    }
}

/// Until the next run is due by its own clock, but never longer than the poll interval.
async fn pause(shared: &Shared, want: usize) -> Duration {
    let poll = shared.config.poll;
    if want == 0 {
        return poll;
    }
    match shared.store.next_wake_within(&shared.tenants.rooms()).await {
        Ok(Some(due)) => due.since(shared.clock.now()).min(poll).max(Duration::from_millis(1)),
        Ok(None) => poll,
        Err(error) => {
            told(&error, "cannot ask when the next run is due");
            poll
        }
    }
}

async fn go_on(shared: Arc<Shared>, claimed: ClaimedRun, news: Arc<tokio::sync::Notify>) {
    let (run, lease) = (claimed.lease.run, claimed.lease);
    match recover(&shared, &claimed).await {
        Ok(state) => Actor::recovered(shared, claimed, state, news).work().await,
        // The lease runs out by itself; by then the database may be well again, or an operator has seen this line.
        Err(error) => {
            if !error.is_outage() {
                tracing::error!(%run, %error, "cannot take up a run");
            }
            shared.forget(lease);
        }
    }
}

/// A run's state from its journal.
async fn recover(shared: &Shared, claimed: &ClaimedRun) -> Result<RunState, StoreError> {
    let record = &claimed.record;
    let graph = shared.graph(&record.scope, &record.workflow, record.version).await?;
    let events = shared.store.journal(claimed.lease.run).await?;
    shared.replayed(&record.scope.tenant, claimed.lease.run, graph, events).await
}

/// Renews the leases of all runs that the node holds, and hears of signals that came by other processes.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut beat = time::interval(shared.config.lease / 3);
    beat.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        sweep_start_keys(&shared).await;
        let held = shared.durable_leases();
        if held.is_empty() {
            continue;
        }
        match shared.store.renew(&shared.id, &held, shared.config.lease).await {
            Ok(renewed) => {
                let renewed: HashMap<Lease, u64> = renewed.into_iter().map(|it| (it.lease, it.inbox)).collect();
                for lease in held {
                    match renewed.get(&lease) {
                        Some(0) => {}
                        Some(_) => shared.tell(lease.run),
                        None => shared.abandon(lease),
                    }
                }
            }
            Err(error) => told(&error, "cannot renew the leases of this node"),
        }
    }
}

/// Deletes expired keys of starts, as many as can have come in since the last time, but not without end.
async fn sweep_start_keys(shared: &Shared) {
    for _ in 0..SWEEPS_MAX {
        match shared.store.sweep_start_keys().await {
            Ok(swept) if swept == KEYS_SWEPT_MAX => {}
            Ok(_) => return,
            Err(error) => return told(&error, "cannot delete expired keys of starts"),
        }
    }
}

/// Tells the log what failed, unless that is an outage, which is told once and not by everybody who meets it.
fn told(error: &StoreError, what: &str) {
    if !error.is_outage() {
        tracing::error!(%error, "{what}");
    }
}

impl Shared {
    /// The leases that the store knows of.
    fn durable_leases(&self) -> Vec<Lease> {
        let active = self.active();
        active.values().filter(|active| active.standing == Standing::Durable).map(|active| active.lease).collect()
    }
}
