//! How many bytes a tenant has in the store: exactly what its events take, whatever happens.

use crate::{fixture::*, on_both_databases};
use agentruntime_engine::{
    database::{Location, Values, number, text},
    run::event::RunStatus,
    store::{
        Append, Appended, Archive, ArchiveError, ArchivedRun, Lease, NewRun, Release, RowUpdate, Scope, StartKey, Store,
    },
};
use agentruntime_host_api::{RunId, TenantId};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use std::{collections::BTreeMap, time::Duration};

on_both_databases!(
    what_is_written_counts_and_what_is_refused_does_not,
    whatever_happens_the_sum_is_that_of_the_events,
    tenants_that_nodes_write_for_at_once_are_summed_and_block_nobody,
    what_was_there_before_it_was_counted_counts,
);

const KEEP: Duration = Duration::from_secs(1_000_000);

struct Nowhere;

#[async_trait::async_trait]
impl Archive for Nowhere {
    async fn keep(&self, _: ArchivedRun) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// The bytes of each tenant's events, as they lie there.
async fn lying_there(store: &Store) -> BTreeMap<String, u64> {
    const BYTES: &str = "SELECT r.tenant_id, CAST(SUM(octet_length(e.body)) AS BIGINT) FROM runs r \
        JOIN run_events e ON e.run_id = r.run_id GROUP BY r.tenant_id";
    let rows = store.database().rows(BYTES, Values::default()).await.unwrap();
    rows.iter().map(|row| (text(row, 0).unwrap().to_owned(), number(row, 1).unwrap())).collect()
}

async fn check(store: &Store) {
    let there = lying_there(store).await;
    for tenant in ["acme", "other"] {
        let stored = store.stored_bytes(&TenantId::new(tenant)).await.unwrap();
        assert_eq!(stored, there.get(tenant).copied().unwrap_or_default(), "{tenant}");
    }
    const EVENTS: &str = "SELECT COUNT(*) FROM run_events WHERE run_id NOT IN (SELECT run_id FROM runs)";
    let orphans: u64 = number(&store.database().row(EVENTS, Values::default()).await.unwrap(), 0).unwrap();
    assert_eq!(orphans, 0);
}

async fn stored(store: &Store) -> u64 {
    store.stored_bytes(&TenantId::new("acme")).await.unwrap()
}

fn bytes(first: u64, last: u64) -> u64 {
    chunk(first, last).body.len() as u64
}

fn end(lease: Lease, seq: u64) -> Append {
    let row = RowUpdate { finished_at: Some(START), ..row(RunStatus::Completed) };
    Append { row, release: Some(Release { wake_at: None }), ..append(lease, seq, seq) }
}

fn keyed(name: &str) -> NewRun {
    let key = StartKey { name: name.into(), digest: "d".into(), keep: KEEP };
    NewRun { keys: vec![key], ..new_run() }
}

async fn what_is_written_counts_and_what_is_refused_does_not(fixture: Fixture) {
    let store = fixture.open().await;
    assert_eq!(stored(&store).await, 0);
    let first = keyed("k");
    let lease = store.started(&first, &node("a")).await.lease;
    assert_eq!(stored(&store).await, bytes(1, 1));
    let child = NewRun { parent: Some(first.run), ..new_run() };
    let begins = Append { children: vec![child.clone()], ..append(lease, 2, 4) };
    assert_eq!(store.commit_one(&node("a"), begins).await, Appended::Durable);
    let mut expected = bytes(1, 1) + bytes(2, 4) + bytes(1, 1);
    assert_eq!(stored(&store).await, expected);

    // A lost lease, a gap, an id and a key that are taken, and a child that was begun before.
    let lost = append(Lease { epoch: 7, ..lease }, 5, 9);
    assert_eq!(store.commit_one(&node("a"), lost).await, Appended::LeaseLost);
    assert_eq!(store.commit_one(&node("a"), append(lease, 7, 7)).await, Appended::LeaseLost);
    assert!(store.create_run(NewRun { run: first.run, ..new_run() }).await.is_err());
    assert!(store.create_run(keyed("k")).await.is_err());
    assert!(matches!(store.commit_one(&node("a"), create(&keyed("k"))).await, Appended::Repeated(_)));
    let taken = create(&NewRun { run: first.run, ..new_run() });
    assert_eq!(store.commit_one(&node("a"), taken).await, Appended::AlreadyExists);
    assert_eq!(stored(&store).await, expected);
    let begins_again = Append { children: vec![child], ..append(lease, 5, 5) };
    assert_eq!(store.commit_one(&node("a"), begins_again).await, Appended::Durable);
    expected += bytes(5, 5);
    assert_eq!(stored(&store).await, expected);

    // A run that begins and goes on in one append has its first events in one text with the next.
    let whole = Append { events: Some(chunk(2, 7)), ..create(&new_run()) };
    assert_eq!(whole.event_bytes() as u64, bytes(1, 7), "what a node believes to have written");
    assert_eq!(store.commit_one(&node("a"), whole).await, Appended::Durable);
    assert_eq!(stored(&store).await, expected + bytes(1, 7));
    check(&store).await;
}

/// What may happen to one run among several.
#[derive(Clone, Debug)]
enum Step {
    /// The run is created: by a caller, or by the node in a commit.
    Create { by_node: bool, key: Option<u8> },
    /// A commit over several runs, of which some are lost.
    Commit(Vec<Change>),
    /// All ended runs go.
    Expire,
}

#[derive(Clone, Debug)]
struct Change {
    run: prop::sample::Index,
    events: u64,
    is_lost: bool,
    child: bool,
    ends: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let change =
        (any::<prop::sample::Index>(), 1_u64..5, prop::bool::weighted(0.2), any::<bool>(), prop::bool::weighted(0.3))
            .prop_map(|(run, events, is_lost, child, ends)| Change { run, events, is_lost, child, ends });
    prop_oneof![
        4 => (any::<bool>(), prop::option::of(0_u8..3)).prop_map(|(by_node, key)| Step::Create { by_node, key }),
        4 => prop::collection::vec(change, 1..8).prop_map(Step::Commit),
        1 => Just(Step::Expire),
    ]
}

/// Runs under way, and the number of their last events.
struct World {
    store: Store,
    live: Vec<(NewRun, u64)>,
    /// How many commits wrote nothing, and how many runs went.
    lost: usize,
    removed: u32,
}

impl World {
    async fn take(&mut self, step: Step) {
        match step {
            Step::Create { by_node, key } => self.create(by_node, key).await,
            Step::Commit(changes) => self.commit(&changes).await,
            Step::Expire => {
                self.removed += self.store.expire_finished(START.plus(KEEP), 1_000, &Nowhere).await.unwrap();
            }
        }
    }

    async fn create(&mut self, by_node: bool, key: Option<u8>) {
        let tenant = scope(if self.live.len().is_multiple_of(2) { "acme" } else { "other" });
        let new = NewRun { scope: tenant, ..key.map_or_else(new_run, |key| keyed(&key.to_string())) };
        let is_new = match by_node {
            true => self.store.commit_one(&node("a"), create(&new)).await == Appended::Durable,
            false => match self.store.create_run(new.clone()).await {
                Ok(()) => self.store.claim_all(&node("a")).await.iter().any(|claimed| claimed.lease.run == new.run),
                Err(_) => false,
            },
        };
        if is_new {
            self.live.push((new, 1));
        }
    }

    async fn commit(&mut self, changes: &[Change]) {
        let mut batch = Vec::new();
        for change in changes {
            if self.live.is_empty() {
                break;
            }
            let index = change.run.index(self.live.len());
            let (new, last) = &mut self.live[index];
            let epoch = if change.is_lost { 9 } else { 1 };
            let lease = Lease { run: new.run, epoch };
            let children = change.child.then(|| NewRun {
                parent: Some(new.run),
                scope: new.scope.clone(),
                run: RunId::new_v7(),
                ..new_run()
            });
            let events = append(lease, *last + 1, *last + change.events);
            batch.push(Append { children: children.into_iter().collect(), ..events });
            if change.is_lost {
                continue;
            }
            *last += change.events;
            if change.ends {
                batch.push(end(lease, *last + 1));
                self.live.remove(index);
            }
        }
        let answers = self.store.commit(&node("a"), LEASE, &batch).await.unwrap();
        self.lost += answers.iter().filter(|answer| **answer == Appended::LeaseLost).count();
        // Children end at once, so that trees can go.
        let ends: Vec<_> = self.store.claim_all(&node("a")).await.iter().map(|claimed| end(claimed.lease, 2)).collect();
        self.store.commit(&node("a"), LEASE, &ends).await.unwrap();
    }
}

async fn whatever_happens_the_sum_is_that_of_the_events(fixture: Fixture) {
    let mut world = World { store: fixture.open().await, live: Vec::new(), lost: 0, removed: 0 };
    // The same steps each time: what fails can be seen again.
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let mut most = 0;
    for _ in 0..120 {
        let step = step().new_tree(&mut runner).unwrap().current();
        world.take(step).await;
        check(&world.store).await;
        most = most.max(stored(&world.store).await);
    }
    assert!(most > 1_000 && world.lost > 10 && world.removed > 10, "{most} {} {}", world.lost, world.removed);
    // In the end everything goes.
    let ends: Vec<_> = world.live.iter().map(|(new, last)| end(Lease { run: new.run, epoch: 1 }, last + 1)).collect();
    world.store.commit(&node("a"), LEASE, &ends).await.unwrap();
    world.take(Step::Expire).await;
    check(&world.store).await;
    assert_eq!(lying_there(&world.store).await, BTreeMap::new());
}

async fn tenants_that_nodes_write_for_at_once_are_summed_and_block_nobody(fixture: Fixture) {
    let store = fixture.open().await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..24 {
        let store = store.clone();
        writers.spawn(async move {
            for round in 0..6 {
                let mut runs: Vec<_> = ["acme", "other"].map(|tenant| new_run_of(&scope(tenant))).into();
                if (writer + round) % 2 == 0 {
                    runs.reverse();
                }
                let name = node(&format!("n{writer}"));
                let batch: Vec<_> = runs.iter().map(create).collect();
                assert_eq!(store.commit(&name, LEASE, &batch).await.unwrap(), [Appended::Durable; 2]);
                let ends: Vec<_> = batch.iter().map(|append| end(append.lease, 2)).collect();
                assert_eq!(store.commit(&name, LEASE, &ends).await.unwrap(), [Appended::Durable; 2]);
                store.create_run(new_run()).await.unwrap();
                store.expire_finished(START.plus(KEEP), 1, &Nowhere).await.unwrap();
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    check(&store).await;
    let rows = "SELECT COUNT(*) FROM tenant_storage WHERE tenant_id = 'acme'";
    let rows: u64 = number(&store.database().row(rows, Values::default()).await.unwrap(), 0).unwrap();
    let expected = if matches!(fixture.location, Location::Sqlite(_)) { 1..=1 } else { 2..=16 };
    assert!(expected.contains(&rows), "{rows}");
}

/// A database from before has events and no sums.
async fn what_was_there_before_it_was_counted_counts(fixture: Fixture) {
    let store = fixture.open().await;
    let runs = [new_run(), new_run(), new_run_of(&Scope { ..scope("other") })];
    for new in &runs {
        store.create_run(new.clone()).await.unwrap();
    }
    for undo in ["DROP TABLE tenant_storage", "DELETE FROM engine_migrations WHERE version = 4"] {
        store.database().write(undo, Values::default()).await.unwrap();
    }
    store.close().await;
    drop(store);
    let store = fixture.open().await;
    assert_eq!(stored(&store).await, 2 * bytes(1, 1));
    check(&store).await;
}
