//! Opening, closing, and what differs between the databases.

use crate::{fixture::*, on_both_databases};
use agentruntime_engine::store::{Appended, Location, Store, StoreError, SystemClock};
use sqlx::{AnyConnection, Connection, Executor};
use std::{sync::Arc, time::Duration};

on_both_databases!(
    a_store_is_there_when_it_is_opened_again,
    the_systems_clock_serves_leases_too,
    a_journal_cannot_be_rewritten,
    a_database_of_a_newer_program_is_refused,
);

/// A connection past the store.
async fn connection(location: &Location) -> AnyConnection {
    let url = match location {
        Location::Sqlite(folder) => format!("sqlite://{}/journal.db", folder.display()),
        Location::Postgres(url) => url.clone(),
    };
    AnyConnection::connect(&url).await.unwrap()
}

async fn a_journal_cannot_be_rewritten(fixture: Fixture) {
    let store = fixture.open().await;
    let new = new_run();
    store.create_run(new.clone()).await.unwrap();
    let mut connection = connection(&fixture.location).await;
    let refused = connection.execute("UPDATE run_events SET body = '[]'").await.unwrap_err();
    assert!(refused.to_string().contains("run_events is append only"), "{refused}");
    assert_eq!(store.seqs(new.run).await, [1]);
}

async fn a_database_of_a_newer_program_is_refused(fixture: Fixture) {
    fixture.open().await.close().await;
    let mut connection = connection(&fixture.location).await;
    connection.execute("INSERT INTO engine_migrations (version, name) VALUES (9999, 'later')").await.unwrap();
    let refused = Store::open(&fixture.location, fixture.clock.clone()).await;
    assert!(matches!(refused, Err(StoreError::SchemaTooNew { found: 9999, .. })), "{refused:?}");
}

async fn a_store_is_there_when_it_is_opened_again(fixture: Fixture) {
    let store = fixture.open().await;
    let new = new_run();
    let lease = store.started(&new, &node("a")).await.lease;
    assert_eq!(store.commit_one(&node("a"), append(lease, 2, 3)).await, Appended::Durable);
    drop(store);
    let store = fixture.open().await;
    assert_eq!(store.seqs(new.run).await, [1, 2, 3]);
    store.close().await;
    drop(store);
    let store = fixture.open().await;
    assert_eq!(store.run(&new.scope, new.run).await.unwrap().last_seq, 3);
}

async fn the_systems_clock_serves_leases_too(fixture: Fixture) {
    let store = Store::open(&fixture.location, Arc::new(SystemClock)).await.unwrap();
    let lease = store.started(&new_run(), &node("a")).await.lease;
    assert!(store.claim_all(&node("b")).await.is_empty());
    assert_eq!(store.renew(&node("a"), &[lease], Duration::ZERO).await.unwrap().len(), 1);
    // The lease has run out, so that the next look for such finds it.
    while store.claim_all(&node("b")).await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.commit_one(&node("a"), append(lease, 2, 2)).await, Appended::LeaseLost);
}

#[tokio::test]
async fn a_data_folder_has_one_user() {
    let fixture = Fixture::sqlite();
    let store = fixture.open().await;
    let second = Store::open(&fixture.location, fixture.clock.clone()).await;
    let Err(StoreError::InUse { holder, .. }) = &second else { panic!("a second process was let in: {second:?}") };
    assert_eq!(*holder, format!("process {}", std::process::id()));
    drop(store);
    fixture.open().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_data_folder_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::sqlite();
    let store = fixture.open().await;
    store.create_run(new_run()).await.unwrap();
    let Location::Sqlite(folder) = &fixture.location else { panic!("a folder") };
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    assert!(names.contains(&"journal.db-wal".to_owned()), "{names:?}");
}

#[tokio::test]
async fn who_holds_a_data_folder_need_not_wait_for_the_leases_of_the_dead() {
    let fixture = Fixture::sqlite();
    let store = fixture.open().await;
    let lease = store.started(&new_run(), &node("a")).await.lease;
    drop(store);
    let store = fixture.open().await;
    let [claimed] = store.claim_all(&node("b")).await.try_into().unwrap();
    assert_eq!((claimed.lease.run, claimed.lease.epoch), (lease.run, 2));
    assert_eq!(store.commit_one(&node("a"), append(lease, 2, 2)).await, Appended::LeaseLost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_on_one_postgres_hear_each_others_news() {
    let Some(fixture) = Fixture::postgres() else { return };
    let (here, there) = (fixture.open().await, fixture.open().await);
    let mut news = there.woken();
    news.mark_unchanged();
    let new = new_run();
    here.create_run(new.clone()).await.unwrap();
    news.changed().await.unwrap();
    assert_eq!(there.claim_all(&node("b")).await[0].record.run, new.run);
    assert!(here.claim_all(&node("a")).await.is_empty());
}
