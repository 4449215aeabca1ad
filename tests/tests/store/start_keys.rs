//! Keys under which a start happens once.

use crate::{fixture::*, on_both_databases};
use agentruntime_engine::store::{Append, Appended, KEYS_SWEPT_MAX, NewRun, Repeated, StartKey, Store, StoreError};
use std::{sync::Arc, time::Duration};

const KEEP: Duration = Duration::from_secs(60);

on_both_databases!(
    a_key_starts_one_run,
    a_key_belongs_to_its_project,
    a_key_that_expired_is_free_again,
    a_repeat_takes_nothing_else_with_it,
    a_key_in_one_batch_twice_starts_one_run,
    a_start_that_fails_leaves_its_key_free,
    racing_starts_with_one_key_make_one_run,
    a_start_takes_all_of_its_keys_or_none,
    of_several_known_keys_one_speaks,
    racing_starts_with_keys_crosswise_make_one_run,
    expired_keys_are_swept_a_bounded_number_at_a_time,
);

fn keyed(name: &str, digest: &str) -> NewRun {
    keyed_all(&[(name, digest)])
}

/// A start with several keys.
fn keyed_all(keys: &[(&str, &str)]) -> NewRun {
    let key = |(name, digest): &(&str, &str)| StartKey { name: (*name).into(), digest: (*digest).into(), keep: KEEP };
    NewRun { keys: keys.iter().map(key).collect(), ..new_run() }
}

async fn is_there(store: &Store, new: &NewRun) -> bool {
    store.run(&new.scope, new.run).await.is_ok()
}

async fn a_key_starts_one_run(fixture: Fixture) {
    let store = fixture.open().await;
    // A name as a caller may choose it.
    let first = keyed("order 'ü'\0", "a");
    store.create_run(first.clone()).await.unwrap();
    for (again, same) in [(keyed("order 'ü'\0", "a"), true), (keyed("order 'ü'\0", "b"), false)] {
        let refused = store.create_run(again.clone()).await;
        assert!(
            matches!(refused, Err(StoreError::Repeated { run, same: told }) if run == first.run && told == same),
            "{refused:?}"
        );
        let appended = store.commit_one(&node("a"), create(&again)).await;
        assert_eq!(appended, Appended::Repeated(Repeated { run: first.run, same }));
        assert!(!is_there(&store, &again).await);
        assert!(store.journal(again.run).await.unwrap().is_empty());
    }
    store.create_run(keyed("another", "a")).await.unwrap();
}

async fn a_key_belongs_to_its_project(fixture: Fixture) {
    let store = fixture.open().await;
    store.create_run(keyed("k", "a")).await.unwrap();
    let elsewhere = NewRun { scope: scope("other"), ..keyed("k", "a") };
    store.create_run(elsewhere).await.unwrap();
}

async fn a_key_that_expired_is_free_again(fixture: Fixture) {
    let store = fixture.open().await;
    let first = keyed("k", "a");
    assert_eq!(store.commit_one(&node("a"), create(&first)).await, Appended::Durable);
    fixture.clock.advance(KEEP - Duration::from_micros(1));
    assert!(matches!(store.create_run(keyed("k", "a")).await, Err(StoreError::Repeated { .. })));
    fixture.clock.advance(Duration::from_micros(1));
    let second = keyed("k", "b");
    store.create_run(second.clone()).await.unwrap();
    let third = store.create_run(keyed("k", "b")).await;
    assert!(matches!(third, Err(StoreError::Repeated { run, same: true }) if run == second.run), "{third:?}");
}

async fn a_repeat_takes_nothing_else_with_it(fixture: Fixture) {
    let store = fixture.open().await;
    let (first, repeat, other, plain) = (keyed("k", "a"), keyed("k", "a"), keyed("l", "a"), new_run());
    store.create_run(first.clone()).await.unwrap();
    let lost = Append { events: Some(chunk(2, 2)), ..create(&repeat) };
    let batch = [create(&other), lost, create(&plain)];
    let answers = store.commit(&node("a"), LEASE, &batch).await.unwrap();
    let repeated = Appended::Repeated(Repeated { run: first.run, same: true });
    assert_eq!(answers, [Appended::Durable, repeated, Appended::Durable]);
    assert!(is_there(&store, &other).await && is_there(&store, &plain).await && !is_there(&store, &repeat).await);
}

async fn a_key_in_one_batch_twice_starts_one_run(fixture: Fixture) {
    let store = fixture.open().await;
    let (first, second) = (keyed("k", "a"), keyed("k", "b"));
    let lease = create(&second).lease;
    let batch = [create(&first), create(&second), append(lease, 2, 2)];
    let answers = store.commit(&node("a"), LEASE, &batch).await.unwrap();
    let repeated = Appended::Repeated(Repeated { run: first.run, same: false });
    assert_eq!(answers, [Appended::Durable, repeated, Appended::LeaseLost]);
}

async fn a_start_that_fails_leaves_its_key_free(fixture: Fixture) {
    let store = fixture.open().await;
    let there = new_run();
    store.create_run(there.clone()).await.unwrap();
    let taken = NewRun { run: there.run, ..keyed("k", "a") };
    assert!(matches!(store.create_run(taken.clone()).await, Err(StoreError::AlreadyExists)));
    let free = keyed("k", "b");
    let batch = [create(&taken), create(&free)];
    let answers = store.commit(&node("a"), LEASE, &batch).await.unwrap();
    assert_eq!(answers, [Appended::AlreadyExists, Appended::Durable]);
    let repeat = NewRun { run: free.run, ..keyed("k", "b") };
    let repeated = Appended::Repeated(Repeated { run: free.run, same: true });
    assert_eq!(store.commit_one(&node("a"), create(&repeat)).await, repeated, "the key speaks before the id");
}

async fn racing_starts_with_one_key_make_one_run(fixture: Fixture) {
    let store = Arc::new(fixture.open().await);
    for round in 0..5 {
        let racing = (0..20).map(|index| {
            let store = store.clone();
            let new = keyed(&format!("k{round}"), "a");
            tokio::spawn(async move {
                if index % 2 == 0 {
                    return match store.create_run(new.clone()).await {
                        Ok(()) => (new.run, true),
                        Err(StoreError::Repeated { run, same: true }) => (run, false),
                        Err(other) => panic!("{other}"),
                    };
                }
                match store.commit_one(&node(&format!("n{index}")), create(&new)).await {
                    Appended::Durable => (new.run, true),
                    Appended::Repeated(Repeated { run, same: true }) => (run, false),
                    other => panic!("{other:?}"),
                }
            })
        });
        let mut answers = Vec::new();
        for racing in racing.collect::<Vec<_>>() {
            answers.push(racing.await.unwrap());
        }
        assert_eq!(answers.iter().filter(|(_, started)| *started).count(), 1);
        assert!(answers.iter().all(|(run, _)| *run == answers[0].0), "all are told the same run");
    }
    assert_eq!(store.runs(&scope("acme"), &Default::default()).await.unwrap().len(), 5);
}

async fn a_start_takes_all_of_its_keys_or_none(fixture: Fixture) {
    let store = fixture.open().await;
    let first = keyed_all(&[("k1", "a"), ("body", "a"), ("k1", "a")]);
    store.create_run(first.clone()).await.unwrap();
    let told = |same| Appended::Repeated(Repeated { run: first.run, same });
    for by_node in [false, true] {
        // Its name is new and its content is not, or the other way round.
        for (keys, same) in [([("k2", "a"), ("body", "a")], true), ([("k1", "b"), ("other", "b")], false)] {
            let again = keyed_all(&keys);
            if by_node {
                assert_eq!(store.commit_one(&node("a"), create(&again)).await, told(same));
            } else {
                let refused = store.create_run(again.clone()).await;
                assert!(
                    matches!(refused, Err(StoreError::Repeated { run, same: told }) if run == first.run && told == same)
                );
            }
            assert!(!is_there(&store, &again).await);
        }
    }
    // In one batch, what a repeat gave back is free for who comes behind it.
    let (repeat, next) = (keyed_all(&[("k2", "a"), ("body", "a")]), keyed_all(&[("k2", "b"), ("other", "b")]));
    let answers = store.commit(&node("a"), LEASE, &[create(&repeat), create(&next)]).await.unwrap();
    assert_eq!(answers, [told(true), Appended::Durable]);
}

async fn of_several_known_keys_one_speaks(fixture: Fixture) {
    let store = fixture.open().await;
    let (one, other) = (keyed("one", "a"), keyed("other", "b"));
    store.create_run(one.clone()).await.unwrap();
    store.create_run(other.clone()).await.unwrap();
    for (keys, run, same) in [
        ([("one", "a"), ("other", "b")], one.run, true),
        ([("other", "b"), ("one", "a")], other.run, true),
        ([("one", "a"), ("other", "a")], other.run, false),
        ([("one", "b"), ("other", "a")], one.run, false),
    ] {
        let appended = store.commit_one(&node("a"), create(&keyed_all(&keys))).await;
        assert_eq!(appended, Appended::Repeated(Repeated { run, same }), "{keys:?}");
    }
}

async fn racing_starts_with_keys_crosswise_make_one_run(fixture: Fixture) {
    let store = Arc::new(fixture.open().await);
    for round in 0..5 {
        let racing = (0..20).map(|index| {
            let (store, content) = (store.clone(), format!("m{round}"));
            // Names on both sides of the content in the order in which keys are taken.
            let name = format!("{}{round}-{index}", if index % 4 < 2 { "a" } else { "z" });
            let new = keyed_all(&[(&name, "a"), (&content, "a")]);
            tokio::spawn(async move {
                if index % 2 == 0 {
                    return store.create_run(new.clone()).await.map_or_else(
                        |error| match error {
                            StoreError::Repeated { run, same: true } => (run, false),
                            other => panic!("{other}"),
                        },
                        |()| (new.run, true),
                    );
                }
                match store.commit_one(&node(&format!("n{index}")), create(&new)).await {
                    Appended::Durable => (new.run, true),
                    Appended::Repeated(Repeated { run, same: true }) => (run, false),
                    other => panic!("{other:?}"),
                }
            })
        });
        let mut answers = Vec::new();
        for racing in racing.collect::<Vec<_>>() {
            answers.push(racing.await.unwrap());
        }
        assert_eq!(answers.iter().filter(|(_, started)| *started).count(), 1);
        assert!(answers.iter().all(|(run, _)| *run == answers[0].0), "all are told the same run");
    }
    assert_eq!(store.runs(&scope("acme"), &Default::default()).await.unwrap().len(), 5);
}

async fn expired_keys_are_swept_a_bounded_number_at_a_time(fixture: Fixture) {
    let store = fixture.open().await;
    let batch: Vec<_> = (0..=KEYS_SWEPT_MAX).map(|index| create(&keyed(&format!("k{index}"), "a"))).collect();
    let answers = store.commit(&node("a"), LEASE, &batch).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Appended::Durable));
    assert_eq!(store.sweep_start_keys().await.unwrap(), 0);
    fixture.clock.advance(KEEP);
    store.create_run(keyed("kept", "a")).await.unwrap();
    assert_eq!(store.sweep_start_keys().await.unwrap(), KEYS_SWEPT_MAX);
    assert_eq!(store.sweep_start_keys().await.unwrap(), 1);
    assert_eq!(store.sweep_start_keys().await.unwrap(), 0);
    assert!(matches!(store.create_run(keyed("kept", "a")).await, Err(StoreError::Repeated { .. })));
}
