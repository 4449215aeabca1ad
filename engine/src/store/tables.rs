//! The tables of the journal, as they came to be.

use crate::database::{Migration, Migrations};

/// Every step, in order.
pub(crate) const MIGRATIONS: Migrations = Migrations { part: "engine", steps: &[JOURNAL, SERVICE, RETENTION, STORAGE] };

const JOURNAL: Migration = Migration {
    name: "0001_journal",
    sqlite: include_str!("../../migrations/sqlite/0001_journal.sql"),
    postgres: include_str!("../../migrations/postgres/0001_journal.sql"),
};

const SERVICE: Migration = Migration {
    name: "0002_service",
    sqlite: include_str!("../../migrations/sqlite/0002_service.sql"),
    postgres: include_str!("../../migrations/postgres/0002_service.sql"),
};

const RETENTION: Migration = Migration {
    name: "0003_retention",
    sqlite: include_str!("../../migrations/sqlite/0003_retention.sql"),
    postgres: include_str!("../../migrations/postgres/0003_retention.sql"),
};

const STORAGE: Migration = Migration {
    name: "0004_storage",
    sqlite: include_str!("../../migrations/sqlite/0004_storage.sql"),
    postgres: include_str!("../../migrations/postgres/0004_storage.sql"),
};
