//! Bringing a database to the schema that this program knows.
//!
//! The texts are in the binary. Each is applied once, in order, in one transaction with the note that it was; a database
//! from a newer program is refused.

use super::{dialect::Dialect, error::StoreError};
use sqlx::{AnyPool, AssertSqlSafe, Row, query, query_scalar, raw_sql};

const NOTES: &str =
    "CREATE TABLE IF NOT EXISTS engine_migrations (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL)";

/// Applies what is missing.
pub(crate) async fn migrate(pool: &AnyPool, dialect: Dialect) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with(dialect.begin()).await?;
    if let Some(lock) = dialect.migration_lock() {
        raw_sql(lock).execute(&mut *transaction).await?;
    }
    raw_sql(NOTES).execute(&mut *transaction).await?;
    let newest = query("SELECT COALESCE(MAX(version), 0) FROM engine_migrations").fetch_one(&mut *transaction).await?;
    let found: i64 = newest.try_get(0)?;
    let mut known = 0;
    for (version, (name, text)) in (1_i64..).zip(dialect.migrations()) {
        known = version;
        if version > found {
            raw_sql(AssertSqlSafe(*text)).execute(&mut *transaction).await?;
            let note = "INSERT INTO engine_migrations (version, name) VALUES ($1, $2) RETURNING version";
            query_scalar::<_, i64>(note).bind(version).bind(*name).fetch_one(&mut *transaction).await?;
        }
    }
    if found > known {
        return Err(StoreError::SchemaTooNew { found, known });
    }
    Ok(transaction.commit().await?)
}
