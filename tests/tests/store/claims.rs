//! Claiming, leases and wake-ups.

use crate::{fixture::*, on_both_databases};
use agentruntime_engine::{
    run::{Signal, event::RunStatus},
    store::{Append, Appended, Lease, Rooms, Store},
};
use std::{collections::BTreeSet, time::Duration};

on_both_databases!(
    a_claim_keeps_to_the_room_of_each_tenant,
    a_claimed_run_is_not_claimed_again,
    tenants_are_served_in_turn,
    a_tenant_with_much_in_hand_comes_last,
    one_claim_takes_no_more_than_it_wants,
    racing_nodes_claim_each_run_once,
    an_expired_lease_is_taken_over,
    a_commit_extends_the_lease,
    renewing_keeps_a_lease_and_tells_of_signals,
    a_released_run_wakes_at_its_time,
    a_released_run_without_a_time_waits_for_a_signal,
    a_release_that_missed_a_signal_is_due_at_once,
    a_signal_racing_with_a_release_is_never_lost,
    creations_and_signals_are_news,
);

async fn a_claimed_run_is_not_claimed_again(fixture: Fixture) {
    let store = fixture.open().await;
    let new = new_run();
    let claimed = store.started(&new, &node("a")).await;
    assert_eq!(claimed.lease, Lease { run: new.run, epoch: 1 });
    assert_eq!((claimed.record.status, claimed.record.last_seq, claimed.inbox_read), (RunStatus::Pending, 1, 0));
    assert_eq!(claimed.record.scope, new.scope);
    assert!(store.claim_all(&node("a")).await.is_empty());
    assert!(store.claim_all(&node("b")).await.is_empty());
}

async fn create_runs(store: &Store, tenant: &str, count: usize) {
    for _ in 0..count {
        store.create_run(new_run_of(&scope(tenant))).await.unwrap();
    }
}

async fn tenants_of_claim(store: &Store, want: u32) -> Vec<String> {
    let claimed = store.claim(&node("a"), want, LEASE).await.unwrap();
    let mut tenants: Vec<_> = claimed.iter().map(|run| run.record.scope.tenant.to_string()).collect();
    tenants.sort();
    tenants
}

async fn tenants_are_served_in_turn(fixture: Fixture) {
    let store = fixture.open().await;
    create_runs(&store, "greedy", 20).await;
    fixture.clock.advance(Duration::from_secs(1));
    create_runs(&store, "modest", 2).await;
    create_runs(&store, "small", 1).await;
    assert_eq!(tenants_of_claim(&store, 6).await, ["greedy", "greedy", "greedy", "modest", "modest", "small"]);
}

async fn a_tenant_with_much_in_hand_comes_last(fixture: Fixture) {
    let store = fixture.open().await;
    create_runs(&store, "greedy", 5).await;
    assert_eq!(tenants_of_claim(&store, 1).await, ["greedy"]);
    fixture.clock.advance(Duration::from_secs(1));
    create_runs(&store, "modest", 1).await;
    assert_eq!(tenants_of_claim(&store, 1).await, ["modest"], "though its run is younger");
    assert_eq!(tenants_of_claim(&store, 9).await, ["greedy"; 4]);
}

async fn one_claim_takes_no_more_than_it_wants(fixture: Fixture) {
    let store = fixture.open().await;
    create_runs(&store, "acme", 5).await;
    assert_eq!(store.claim(&node("a"), 0, LEASE).await.unwrap().len(), 0);
    assert_eq!(store.claim(&node("a"), 3, LEASE).await.unwrap().len(), 3);
    assert_eq!(store.claim(&node("a"), 3, LEASE).await.unwrap().len(), 2);
}

async fn racing_nodes_claim_each_run_once(fixture: Fixture) {
    let store = fixture.open().await;
    create_runs(&store, "acme", 60).await;
    let mut claims = tokio::task::JoinSet::new();
    for name in ["a", "b", "c", "d"] {
        let store = store.clone();
        claims.spawn(async move {
            let mut runs = Vec::new();
            // Where all that it chose is being taken by others, a claim gives less than there is.
            while runs.len() < 15 {
                let claimed = store.claim(&node(name), 15 - runs.len() as u32, LEASE).await.unwrap();
                runs.extend(claimed.iter().map(|run| run.lease.run));
            }
            runs
        });
    }
    let runs: Vec<_> = claims.join_all().await.into_iter().flatten().collect();
    assert_eq!(runs.len(), 60);
    assert_eq!(BTreeSet::from_iter(runs).len(), 60);
}

async fn an_expired_lease_is_taken_over(fixture: Fixture) {
    let store = fixture.open().await;
    let first = store.started(&new_run(), &node("a")).await;
    fixture.clock.advance(LEASE - Duration::from_micros(1));
    assert!(store.claim_all(&node("b")).await.is_empty(), "the lease still runs");
    fixture.clock.advance(Duration::from_micros(1));
    let [second] = store.claim_all(&node("b")).await.try_into().unwrap();
    assert_eq!(second.lease, Lease { run: first.lease.run, epoch: 2 });

    assert_eq!(store.commit_one(&node("a"), append(first.lease, 2, 2)).await, Appended::LeaseLost);
    assert_eq!(store.commit_one(&node("a"), append(second.lease, 2, 2)).await, Appended::LeaseLost, "not its lease");
    assert!(store.renew(&node("a"), &[first.lease], LEASE).await.unwrap().is_empty());
    assert_eq!(store.seqs(first.lease.run).await, [1]);
    assert_eq!(store.commit_one(&node("b"), append(second.lease, 2, 2)).await, Appended::Durable);
}

async fn a_commit_extends_the_lease(fixture: Fixture) {
    let store = fixture.open().await;
    let claimed = store.started(&new_run(), &node("a")).await;
    fixture.clock.advance(LEASE / 2);
    assert_eq!(store.commit_one(&node("a"), append(claimed.lease, 2, 2)).await, Appended::Durable);
    fixture.clock.advance(LEASE / 2);
    assert!(store.claim_all(&node("b")).await.is_empty());
    fixture.clock.advance(LEASE / 2);
    assert_eq!(store.claim_all(&node("b")).await.len(), 1);
}

async fn renewing_keeps_a_lease_and_tells_of_signals(fixture: Fixture) {
    let store = fixture.open().await;
    let held = store.started(&new_run(), &node("a")).await.lease;
    let lost = Lease { epoch: 7, ..store.started(&new_run(), &node("a")).await.lease };
    store.signal(&scope("acme"), held.run, Signal::Pause).await.unwrap();
    fixture.clock.advance(LEASE / 2);
    let renewed = store.renew(&node("a"), &[held, lost], LEASE).await.unwrap();
    assert_eq!(renewed.iter().map(|it| (it.lease, it.inbox)).collect::<Vec<_>>(), [(held, 1)]);
    fixture.clock.advance(LEASE / 2);
    let claimed: Vec<_> = store.claim_all(&node("b")).await.iter().map(|run| run.lease.run).collect();
    assert_eq!(claimed, [lost.run]);
}

async fn a_released_run_wakes_at_its_time(fixture: Fixture) {
    let store = fixture.open().await;
    assert_eq!(store.next_wake().await.unwrap(), None);
    let due = START.plus(Duration::from_secs(60));
    let lease = store.started(&new_run(), &node("a")).await.lease;
    assert_eq!(store.next_wake().await.unwrap(), None, "a run in hand is woken by its owner");
    assert_eq!(store.commit_one(&node("a"), release_until(lease, 0, Some(due))).await, Appended::Durable);
    assert_eq!(store.next_wake().await.unwrap(), Some(due));
    store.started(&new_run_of(&scope("zeta")), &node("a")).await;
    assert!(store.claim_all(&node("b")).await.is_empty());
    assert_eq!(store.commit_one(&node("a"), append(lease, 2, 2)).await, Appended::LeaseLost, "it let go");
    fixture.clock.advance(Duration::from_secs(60));
    let claimed = store.claim_all(&node("b")).await;
    assert!(claimed.iter().any(|run| run.lease == Lease { run: lease.run, epoch: 2 }));
}

async fn a_released_run_without_a_time_waits_for_a_signal(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    assert_eq!(store.commit_one(&node("a"), release(lease, 0)).await, Appended::Durable);
    fixture.clock.advance(LEASE * 1_000);
    assert_eq!(store.next_wake().await.unwrap(), None);
    assert!(store.claim_all(&node("a")).await.is_empty());
    store.signal(&scope("acme"), lease.run, Signal::Resume).await.unwrap();
    assert!(store.next_wake().await.unwrap().is_some());
    assert_eq!(store.claim_all(&node("a")).await.len(), 1);
}

async fn a_release_that_missed_a_signal_is_due_at_once(fixture: Fixture) {
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    store.signal(&scope("acme"), lease.run, Signal::Pause).await.unwrap();
    let later = START.plus(Duration::from_secs(60));
    assert_eq!(store.commit_one(&node("a"), release_until(lease, 0, Some(later))).await, Appended::Durable);
    let [claimed] = store.claim_all(&node("a")).await.try_into().unwrap();
    assert_eq!(store.commit_one(&node("a"), release(claimed.lease, 1)).await, Appended::Durable);
    assert!(store.claim_all(&node("a")).await.is_empty(), "it has read the signal");
}

async fn a_signal_racing_with_a_release_is_never_lost(fixture: Fixture) {
    let store = fixture.open().await;
    for _ in 0..30 {
        let lease = store.started(&new_run(), &node("a")).await.lease;
        let (signalling, releasing) = (store.clone(), store.clone());
        let signal = tokio::spawn(async move { signalling.signal(&scope("acme"), lease.run, Signal::Pause).await });
        let released = tokio::spawn(async move { releasing.commit_one(&node("a"), release(lease, 0)).await });
        signal.await.unwrap().unwrap();
        assert_eq!(released.await.unwrap(), Appended::Durable);
        let [claimed] = store.claim_all(&node("a")).await.try_into().expect("the run is due");
        assert_eq!(store.inbox(lease.run, 0).await.unwrap().len(), 1);
        assert_eq!(store.commit_one(&node("a"), release(claimed.lease, 1)).await, Appended::Durable);
    }
}

async fn creations_and_signals_are_news(fixture: Fixture) {
    let store = fixture.open().await;
    let mut news = store.woken();
    news.mark_unchanged();
    let new = new_run();
    store.create_run(new.clone()).await.unwrap();
    news.changed().await.unwrap();
    news.mark_unchanged();
    store.signal(&scope("acme"), new.run, Signal::Pause).await.unwrap();
    news.changed().await.unwrap();
    let lease = store.claim_all(&node("a")).await[0].lease;
    news.mark_unchanged();
    let child = Append { children: vec![new_run()], ..append(lease, 2, 2) };
    assert_eq!(store.commit_one(&node("a"), child).await, Appended::Durable);
    news.changed().await.unwrap();
}

async fn a_claim_keeps_to_the_room_of_each_tenant(fixture: Fixture) {
    let store = fixture.open().await;
    for tenant in ["acme", "other", "third"] {
        for _ in 0..5 {
            store.create_run(new_run_of(&scope(tenant))).await.unwrap();
        }
    }
    let rooms = |rooms: &[(&str, u32)], default| Rooms {
        of: rooms.iter().map(|(tenant, room)| (scope(tenant).tenant, *room)).collect(),
        default,
    };
    let claimed = |rooms: Rooms| {
        let store = store.clone();
        async move {
            let mut claimed = store.claim_within(&node("a"), 100, LEASE, &rooms).await.unwrap();
            claimed.sort_by_key(|run| run.record.scope.tenant.clone());
            claimed.iter().map(|run| run.record.scope.tenant.to_string()).collect::<Vec<_>>()
        }
    };
    assert_eq!(claimed(rooms(&[("acme", 0), ("other", 3)], 1)).await, ["other", "other", "other", "third"]);
    assert!(store.next_wake().await.unwrap().is_some());
    let full = rooms(&[("acme", 0), ("other", 0), ("third", 0)], 9);
    assert!(claimed(full.clone()).await.is_empty());
    assert_eq!(store.next_wake_within(&full).await.unwrap(), None, "nobody wakes for those that have no room");
    assert!(store.next_wake_within(&rooms(&[("acme", 0)], 9)).await.unwrap().is_some());
    assert_eq!(claimed(Rooms::default()).await.len(), 11);
}
