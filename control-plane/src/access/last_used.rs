//! When tokens were used last. Noted in memory with each request, and written once in a while and at the end: a request that
//! reads costs no write. What was noted since the last writing is lost when the process is killed, and nothing else.

use super::PatId;
use agentruntime_engine::database::{Database, StoreError, Values};
use agentruntime_host_api::Timestamp;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const WRITE: &str =
    "UPDATE pats SET last_used_at = $2 WHERE pat_id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";

/// How often what was noted is written: people who look for forgotten tokens ask for days, not for seconds.
const WRITTEN_EVERY: Duration = Duration::from_secs(60);
/// Tokens in one transaction, so that it stays short.
const WRITTEN_AT_ONCE_MAX: usize = 256;

/// What was noted and is not written yet. No larger than the number of valid tokens.
#[derive(Debug, Default)]
pub(crate) struct LastUsed(Mutex<HashMap<PatId, Timestamp>>);

impl LastUsed {
    /// Notes that a token was used.
    pub(crate) fn note(&self, pat: PatId, now: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pat, now);
    }

    /// When the token was used last, as far as that is not written yet.
    pub(crate) fn of(&self, pat: PatId) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&pat).copied()
    }

    /// Writes what was noted.
    pub(crate) async fn write(&self, database: &Database) -> Result<(), StoreError> {
        let noted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let noted: Vec<_> = noted.into_iter().collect();
        for part in noted.chunks(WRITTEN_AT_ONCE_MAX) {
            let mut tx = database.begin().await?;
            for (pat, at) in part {
                let mut values = Values::default();
                values.id(pat).number(at.as_micros());
                tx.rows(WRITE, values).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// Writes once in a while, until `end`.
    pub(crate) async fn keep_written(&self, database: &Database, end: &CancellationToken) {
        while end.run_until_cancelled(tokio::time::sleep(WRITTEN_EVERY)).await.is_some() {
            self.write_or_log(database).await;
        }
    }

    /// Writes what was noted. Where that fails the times are lost; whoever is using a token uses it again.
    pub(crate) async fn write_or_log(&self, database: &Database) {
        if let Err(error) = self.write(database).await {
            tracing::warn!(%error, "when tokens were used last could not be written");
        }
    }
}
