//! The journal store: versions, runs, their events, inboxes and tasks, on SQLite or PostgreSQL.
//!
//! Owns every row of the engine and what is written together. Never decides what a run does next, and never starts work of
//! its own: nodes claim, renew and commit; the outside publishes, starts, signals and reads.
//!
//! # How it is built
//!
//! - **One SQL text for both databases**, on `sqlx::Any`, beside the aggregate it belongs to. Columns are BIGINT (numbers,
//!   microseconds) and TEXT (ids, documents), which both databases take alike. What differs stands in `dialect`.
//! - **A run's row is its lock.** Everything that changes a run begins with an update of its row: an append under a lease
//!   (`WHERE lease_epoch = …`), a signal, a claim. So a lost lease writes nothing, and a signal and a release that meet
//!   are put in order by the database.
//! - **No table of timers.** A run's state knows its timers; what the store must know is only when to wake the run next.
//!   That is one column of the row that is written anyway, and a fired timer needs no deletion.
//! - **No function without a [`Scope`]**, but for those of a node, which holds a lease. What lies outside is not found.
//! - **Time** for leases and wake-ups is the database's where it has a clock (PostgreSQL), else the injected [`Clock`].
//!
//! | file | owns |
//! |---|---|
//! | `record` | the rows as types |
//! | `connect` | opening: location, folder lock, pools, migrations |
//! | `versions` | published versions |
//! | `runs` | runs as the outside sees them, and their events |
//! | `journal` | the commit of a batch of appends |
//! | `inbox` | signals |
//! | `tasks` | questions to people |
//! | `claim` | claiming and renewing leases |
//! | `wake` | news for those who wait |
//! | `statement`, `dialect` | statements over many rows; what differs between the databases |

mod claim;
mod clock;
mod connect;
mod dialect;
mod error;
mod folder;
mod inbox;
mod journal;
mod migrate;
mod record;
mod runs;
mod statement;
mod tasks;
mod versions;
mod wake;

pub use clock::{Clock, ManualClock, SystemClock};
pub use connect::Location;
pub use error::StoreError;
pub use record::*;
pub use runs::EVENTS_MAX;

use sqlx::{AnyPool, any::AnyRow, query_with};
use statement::{Texts, Tx, Values};
use std::{
    fmt,
    sync::{Arc, atomic::AtomicI64},
};

/// The journal store. Cloning shares it; the last clone to go closes it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    texts: Texts,
    clock: Arc<dyn Clock>,
    writer: AnyPool,
    reader: AnyPool,
    wake: wake::Wake,
    /// When expired leases were last looked for, in microseconds of the clock.
    swept_at: AtomicI64,
    /// Held as long as the store is open, and released last: fields drop in order.
    _folder: Option<folder::FolderLock>,
}

impl Store {
    /// Closes the database in an orderly way: what is under way ends, and SQLite folds its log into the file. Dropping the
    /// store loses nothing either.
    pub async fn close(&self) {
        self.shared.writer.close().await;
        self.shared.reader.close().await;
    }

    /// Whether other processes may work on the same database.
    pub fn is_shared(&self) -> bool {
        self.shared.texts.dialect == dialect::Dialect::Postgres
    }

    /// A transaction that writes.
    async fn begin(&self) -> Result<Tx<'_>, StoreError> {
        let texts = &self.shared.texts;
        Ok(Tx { texts, transaction: self.shared.writer.begin_with(texts.dialect.begin()).await? })
    }

    /// Rows outside a transaction.
    async fn rows(&self, sql: &'static str, values: Values) -> Result<Vec<AnyRow>, StoreError> {
        let query = query_with(self.shared.texts.single(sql), values.into_arguments());
        Ok(query.fetch_all(&self.shared.reader).await?)
    }

    /// One row outside a transaction; none is [`StoreError::NotFound`].
    async fn row(&self, sql: &'static str, values: Values) -> Result<AnyRow, StoreError> {
        self.rows(sql, values).await?.into_iter().next().ok_or(StoreError::NotFound)
    }

    /// What statements are told as the current time: nothing where the database knows better.
    fn now(&self) -> Option<i64> {
        use dialect::Dialect;
        let clock = &self.shared.clock;
        match self.shared.texts.dialect {
            Dialect::Postgres if clock.is_system() => None,
            Dialect::Postgres | Dialect::Sqlite => Some(clock.now().as_micros()),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("dialect", &self.shared.texts.dialect).finish_non_exhaustive()
    }
}
