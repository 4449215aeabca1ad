//! One database, SQLite or PostgreSQL, and the few ways in which anybody speaks to it.
//!
//! Owns the connections, what a statement is made of and where the two databases part. Knows no table: the journal's are
//! the [store](crate::store)'s, and whoever builds on the engine brings tables of its own, as [`Migrations`].
//!
//! One SQL text serves both databases, on `sqlx::Any`: columns are BIGINT (numbers, microseconds) and TEXT (ids, documents),
//! which both take alike, and parameters are `$1`, `$2` …
//!
//! | file | owns |
//! |---|---|
//! | `connect` | opening: location, folder lock, pools |
//! | `look` | looking at a database without changing it |
//! | `migrate` | bringing tables to the form that this program knows |
//! | `statement` | statements over one row and many, their values and columns |
//! | `outage` | whether the database can be used, and who is told when not |
//! | `dialect` | what differs between the databases |
//! | `clock` | what time it is |

mod clock;
mod connect;
pub(crate) mod dialect;
mod error;
mod folder;
mod look;
mod migrate;
mod outage;
mod statement;

pub use clock::{Clock, ManualClock, SystemClock};
pub use connect::Location;
pub use error::StoreError;
pub(crate) use folder::is_in;
pub use migrate::{Migration, Migrations};
pub(crate) use outage::Access;
pub use outage::{Outage, OutageKind};
pub use sqlx::any::AnyRow as Row;
pub(crate) use statement::{Bulk, Number, Text};
pub use statement::{
    Tx, Values, document, id, json, maybe_id, maybe_number, maybe_text, maybe_time, number, text, time,
};

use agentruntime_host_api::Timestamp;
use sqlx::{AnyPool, any::AnyConnectOptions, query_with};
use statement::Texts;
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// An open database. Cloning shares it; the last clone to go closes it.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    texts: Texts,
    clock: Arc<dyn Clock>,
    writer: AnyPool,
    reader: AnyPool,
    condition: Arc<outage::Condition>,
    /// The server that is connected to, where there is one.
    server: Option<AnyConnectOptions>,
    /// The table that notes the first migrations: it has a row that can be written without changing anything.
    notes: OnceLock<String>,
    /// Held as long as the database is open, and released last: fields drop in order.
    folder: Option<folder::FolderLock>,
}

impl Database {
    /// Closes the database in an orderly way: what is under way ends, and SQLite folds its log into the file. Dropping the
    /// database loses nothing either.
    pub async fn close(&self) {
        self.shared.writer.close().await;
        self.shared.reader.close().await;
    }

    /// Whether other processes may work on the same database.
    pub fn is_shared(&self) -> bool {
        self.shared.texts.dialect == dialect::Dialect::Postgres
    }

    /// A transaction that writes.
    pub async fn begin(&self) -> Result<Tx<'_>, StoreError> {
        let texts = &self.shared.texts;
        let begun = async { Ok(self.shared.writer.begin_with(texts.dialect.begin()).await?) };
        let transaction = self.guard(Access::Write, begun).await?;
        Ok(Tx { database: self, texts, transaction })
    }

    /// Rows outside a transaction. Reads only: SQLite's readers cannot write.
    pub async fn rows(&self, sql: &'static str, values: Values) -> Result<Vec<Row>, StoreError> {
        let query = query_with(self.shared.texts.single(sql), values.into_arguments());
        self.guard(Access::Read, async { Ok(query.fetch_all(&self.shared.reader).await?) }).await
    }

    /// One row outside a transaction; none is [`StoreError::NotFound`].
    pub async fn row(&self, sql: &'static str, values: Values) -> Result<Row, StoreError> {
        self.rows(sql, values).await?.into_iter().next().ok_or(StoreError::NotFound)
    }

    /// One statement that writes, in a transaction of its own; gives the rows that it returns.
    pub async fn write(&self, sql: &'static str, values: Values) -> Result<Vec<Row>, StoreError> {
        let mut tx = self.begin().await?;
        let rows = tx.rows(sql, values).await?;
        tx.commit().await?;
        Ok(rows)
    }

    /// The clock that the database was opened with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// The current time of the clock that the database was opened with.
    pub fn time(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// What statements are told as the current time: nothing where the database knows better.
    pub(crate) fn now(&self) -> Option<i64> {
        use dialect::Dialect;
        let clock = &self.shared.clock;
        match self.shared.texts.dialect {
            Dialect::Postgres if clock.is_system() => None,
            Dialect::Postgres | Dialect::Sqlite => Some(clock.now().as_micros()),
        }
    }

    /// A statement and the readers' pool, for rows that are taken one by one, within [`Self::guard`].
    pub(crate) fn reading(&self, sql: &'static str) -> (sqlx::AssertSqlSafe<Arc<str>>, &AnyPool) {
        (self.shared.texts.single(sql), &self.shared.reader)
    }

    pub(crate) fn dialect(&self) -> dialect::Dialect {
        self.shared.texts.dialect
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("dialect", &self.dialect()).finish_non_exhaustive()
    }
}
