//! Bringing a database to the tables that this program knows.
//!
//! The texts are in the binary. Each is applied once, in order, in one transaction with the note that it was; a database
//! from a newer program is refused. Each part of the program that has tables keeps a list of its own.

use super::{Database, dialect::Dialect, error::StoreError};
use sqlx::{AssertSqlSafe, Row, query, query_scalar, raw_sql};

/// The tables of one part of the program: what it is called, and how they came to be.
#[derive(Clone, Copy, Debug)]
pub struct Migrations {
    /// A plain word. The table `<word>_migrations` notes what was applied.
    pub part: &'static str,
    /// Every step, in order. What was released is never changed.
    pub steps: &'static [Migration],
}

/// One step: its name and its text for each database.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// For people.
    pub name: &'static str,
    /// For SQLite.
    pub sqlite: &'static str,
    /// For PostgreSQL.
    pub postgres: &'static str,
}

impl Migration {
    /// A step whose text both databases take.
    pub const fn common(name: &'static str, text: &'static str) -> Self {
        Self { name, sqlite: text, postgres: text }
    }

    fn text(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
        }
    }
}

impl Database {
    /// Applies what is missing.
    pub async fn migrate(&self, migrations: &Migrations) -> Result<(), StoreError> {
        let dialect = self.dialect();
        let mut transaction = self.shared.writer.begin_with(dialect.begin()).await?;
        if let Some(lock) = dialect.migration_lock() {
            raw_sql(lock).execute(&mut *transaction).await?;
        }
        let notes = format!("{}_migrations", migrations.part);
        let create =
            format!("CREATE TABLE IF NOT EXISTS {notes} (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL)");
        raw_sql(AssertSqlSafe(create)).execute(&mut *transaction).await?;
        let newest = format!("SELECT COALESCE(MAX(version), 0) FROM {notes}");
        let found: i64 = query(AssertSqlSafe(newest)).fetch_one(&mut *transaction).await?.try_get(0)?;
        let mut known = 0;
        for (version, step) in (1_i64..).zip(migrations.steps) {
            known = version;
            if version > found {
                raw_sql(AssertSqlSafe(step.text(dialect))).execute(&mut *transaction).await?;
                let note = format!("INSERT INTO {notes} (version, name) VALUES ($1, $2) RETURNING version");
                let note = query_scalar::<_, i64>(AssertSqlSafe(note)).bind(version).bind(step.name);
                note.fetch_one(&mut *transaction).await?;
            }
        }
        if found > known {
            return Err(StoreError::SchemaTooNew { found, known });
        }
        transaction.commit().await?;
        // That of the part which came first stays.
        let _ = self.shared.notes.set(notes);
        Ok(())
    }
}
