//! The conformance suite of the journal store: each test runs on SQLite and on a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "in a test, an unexpected error is a failure")]

mod claims;
mod commits;
mod fixture;
mod inbox;
mod listing;
mod reading;
mod retention;
mod settings;
mod start_keys;
mod storage;
mod versions;

/// Makes each listed function a test on both databases.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::fixture::Fixture::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(fixture) = $crate::fixture::Fixture::postgres() {
                    super::$name(fixture).await;
                }
            })+
        }
    };
}
pub(crate) use on_both_databases;
