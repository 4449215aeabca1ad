//! Looking at a database without changing it: whether it could be opened, and what opening it would do.

use super::{
    Clock, Database, Location, Migrations, Outage, OutageKind,
    connect::{self, SQLITE_READER},
    dialect::Dialect,
    error::StoreError,
    folder,
};
use sqlx::{AssertSqlSafe, Row, query};
use std::{path::Path, sync::Arc};

impl Database {
    /// Opens a database to read it; nothing is made or written. Nothing where a folder has no database yet.
    pub async fn look(location: &Location, clock: Arc<dyn Clock>) -> Result<Option<Self>, StoreError> {
        sqlx::any::install_default_drivers();
        match location {
            Location::Sqlite(folder) => look_into(folder, clock).await,
            Location::Postgres(url) => Self::open_postgres(url, clock).await.map(Some),
        }
    }

    /// Whether a migration would have something to do. A database of a newer program is refused, and so is one in which
    /// nothing can be made where something has to be.
    pub async fn check_tables(&self, migrations: &Migrations) -> Result<bool, StoreError> {
        let notes = format!("{}_migrations", migrations.part);
        let pool = &self.shared.reader;
        let mut found = 0;
        if self.has_table(&notes).await? {
            let newest = format!("SELECT COALESCE(MAX(version), 0) FROM {notes}");
            found = query(AssertSqlSafe(newest)).fetch_one(pool).await?.try_get(0)?;
        }
        let known = i64::try_from(migrations.steps.len()).unwrap_or(i64::MAX);
        match found.cmp(&known) {
            std::cmp::Ordering::Greater => Err(StoreError::SchemaTooNew { found, known }),
            std::cmp::Ordering::Equal => Ok(false),
            std::cmp::Ordering::Less => Ok(true),
        }
    }

    /// Whether there is a table of this name.
    pub async fn has_table(&self, name: &str) -> Result<bool, StoreError> {
        let row = query(self.dialect().has_table()).bind(name).fetch_one(&self.shared.reader).await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    }

    /// Whether a server lets this user write, and make tables. What a folder allows is seen in the folder.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Sqlite {
            return Ok(());
        }
        let row = query(WRITABLE).fetch_one(&self.shared.reader).await?;
        let cause = match (row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?) {
            (0, _) => "it is read-only, as a standby is",
            (_, 0) => "this user may make no tables in its schema",
            _ => return Ok(()),
        };
        Err(StoreError::Outage(Outage { kind: OutageKind::ReadOnly, cause: cause.into(), place: self.place().into() }))
    }
}

const WRITABLE: &str = "SELECT CAST(CASE WHEN current_setting('transaction_read_only') = 'off' THEN 1 ELSE 0 END AS BIGINT), \
    CAST(CASE WHEN has_schema_privilege(current_schema(), 'CREATE') THEN 1 ELSE 0 END AS BIGINT)";

/// Without the lock of the folder: whoever works on it may go on. A log that was not folded in is read by its index, which
/// another process keeps or left; without one the file says everything, and is read as something that does not change, as
/// SQLite would else make an index.
async fn look_into(folder: &Path, clock: Arc<dyn Clock>) -> Result<Option<Database>, StoreError> {
    let folder =
        std::path::absolute(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
    let file = folder.join(folder::DATABASE);
    if !file.exists() {
        return Ok(None);
    }
    let is_logged = folder.join(format!("{}-wal", folder::DATABASE)).exists();
    let how = if is_logged { "mode=ro" } else { "immutable=1" };
    let options = connect::connect_options(&format!("{}?{how}", connect::sqlite_url(&file)?))?;
    let reader = connect::sqlite_pool(1, SQLITE_READER).connect_with(options).await?;
    let pools = [reader.clone(), reader];
    let condition = Arc::new(super::outage::Condition::of(folder.display().to_string()));
    Ok(Some(Database::of(Dialect::Sqlite, clock, pools, condition, None, None)))
}
