//! The journal store: versions, runs, their events, inboxes and tasks, on SQLite or PostgreSQL.
//!
//! Owns every row of the engine and what is written together. Never decides what a run does next, and never starts work of
//! its own: nodes claim, renew and commit; the outside publishes, starts, signals and reads.
//!
//! # How it is built
//!
//! - **One SQL text for both databases**, beside the aggregate it belongs to; how is the [database](crate::database)'s.
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
//! | `tables` | the tables |
//! | `versions` | published versions |
//! | `runs` | runs as the outside sees them, and their events |
//! | `listing` | which runs there are |
//! | `journal` | the commit of a batch of appends |
//! | `start_keys` | keys under which a start happens once |
//! | `inbox` | signals |
//! | `tasks` | questions to people |
//! | `claim` | claiming and renewing leases |
//! | `retention` | runs that ended long ago go to an archive, and then away |
//! | `storage` | how many bytes each tenant has |
//! | `wake` | news for those who wait |

mod claim;
mod inbox;
mod journal;
mod listing;
mod record;
mod retention;
mod runs;
mod start_keys;
mod storage;
mod tables;
mod tasks;
mod versions;
mod wake;

pub use crate::database::{Clock, Location, ManualClock, StoreError, SystemClock};
pub use claim::Rooms;
pub use listing::PROJECTS_MAX;
pub use record::*;
pub use retention::{Archive, ArchiveError, ArchivedRun, ExpireError};
pub use runs::{EVENTS_BYTES_MAX, EVENTS_MAX};
pub use start_keys::KEYS_SWEPT_MAX;
pub use tasks::{OpenTasks, TASKS_BYTES_MAX};

use crate::database::Database;
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
    database: Database,
    wake: wake::Wake,
    /// When expired leases were last looked for, in microseconds of the clock.
    swept_at: AtomicI64,
}

impl Store {
    /// Opens the store, makes it where there is none, and brings its tables up to date. What a process left behind that
    /// worked on the same folder before is due again.
    pub async fn open(location: &Location, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let database = Database::open(location, clock).await?;
        database.migrate(&tables::MIGRATIONS).await?;
        let wake = match location {
            Location::Sqlite(_) => wake::Wake::local(),
            Location::Postgres(url) => wake::Wake::shared(url).await?,
        };
        let store = Self { shared: Arc::new(Shared { database, wake, swept_at: AtomicI64::new(i64::MIN) }) };
        if !store.is_shared() {
            store.release_all().await?;
        }
        Ok(store)
    }

    /// Whether a store lies in that folder. Opens nothing.
    pub fn is_in(folder: &std::path::Path) -> bool {
        crate::database::is_in(folder)
    }

    /// Looks at what [`Self::open`] would open, and changes nothing. Nothing where it would make a new store.
    pub async fn look(location: &Location, clock: Arc<dyn Clock>) -> Result<Option<Database>, StoreError> {
        let Some(database) = Database::look(location, clock).await? else { return Ok(None) };
        database.check_writable().await?;
        database.check_tables(&tables::MIGRATIONS).await?;
        Ok(Some(database))
    }

    /// The database that the store lies in, for those who keep tables of their own beside it.
    pub fn database(&self) -> &Database {
        &self.shared.database
    }

    /// Closes the database in an orderly way; dropping the store loses nothing either.
    pub async fn close(&self) {
        self.shared.database.close().await;
    }

    /// Whether other processes may work on the same database.
    pub fn is_shared(&self) -> bool {
        self.shared.database.is_shared()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("database", &self.shared.database).finish_non_exhaustive()
    }
}
