//! The tables of the journal, as they came to be.

use crate::database::{Migration, Migrations};

/// Every step, in order.
pub(crate) const MIGRATIONS: Migrations = Migrations { part: "engine", steps: &[JOURNAL] };

const JOURNAL: Migration = Migration {
    name: "0001_journal",
    sqlite: include_str!("../../migrations/sqlite/0001_journal.sql"),
    postgres: include_str!("../../migrations/postgres/0001_journal.sql"),
};
