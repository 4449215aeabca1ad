//! Statements over many rows at once, and the reading and writing of their columns.
//!
//! A batch of sixty-four runs is a handful of statements, not hundreds: each statement costs a trip to the database's
//! thread or server and back. A list is filled up with empty rows to a power of two, so that there are few texts in all
//! and every one stays prepared.

use super::{Access, Database, dialect::Dialect, error::StoreError};
use crate::store::Scope;
use agentruntime_host_api::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    Any, AssertSqlSafe, Row, Transaction,
    any::{AnyArguments, AnyRow},
    query_with,
};
use std::{
    collections::HashMap,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

/// Rows per statement. What it returns fits the channel (of 50) by which SQLite's thread hands rows over, so that the
/// thread does not stop and wait in the middle: statements of 64 rows take five times as long as two of 32.
pub(crate) const ROWS_MAX: usize = 32;

/// A statement over a list of rows: `head (VALUES …) AS v tail`. The head may have parameters of its own, written `?`,
/// and `{now}`. Rows whose first column is null are padding, which the statement must pass over.
pub(crate) struct Bulk {
    pub(crate) head: &'static str,
    pub(crate) columns: &'static [Kind],
    pub(crate) tail: &'static str,
}

/// What a column holds, for the padding: PostgreSQL wants a null of the right type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
}
pub(crate) use Kind::{Number, Text};

/// Texts of statements, made once each: the database's own cache is keyed by them.
pub(crate) struct Texts {
    pub(crate) dialect: Dialect,
    made: Mutex<HashMap<(usize, usize), Arc<str>>>,
}

impl Texts {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self { dialect, made: Mutex::default() }
    }

    /// The text of a single statement. In it `{now}` is the current time by parameter `$1`; `{lock}`, `{oldest}`
    /// and `{rooms_N}`, of parameter `$N`, are the dialect's.
    pub(crate) fn single(&self, sql: &'static str) -> AssertSqlSafe<Arc<str>> {
        let dialect = self.dialect;
        self.get(sql, 0, || {
            let sql = sql.replace("{oldest}", dialect.oldest_due_per_tenant()).replace("{lock}", dialect.skip_locked());
            let sql = sql.replace("{rooms_1}", &dialect.rooms("$1")).replace("{rooms_5}", &dialect.rooms("$5"));
            sql.replace("{now}", &dialect.now("$1"))
        })
    }

    fn bulk(&self, bulk: &Bulk, rows: usize) -> AssertSqlSafe<Arc<str>> {
        self.get(bulk.head, rows, || render(self.dialect, bulk, rows))
    }

    fn get(&self, constant: &'static str, rows: usize, make: impl FnOnce() -> String) -> AssertSqlSafe<Arc<str>> {
        // Statements are constants, so that an address stands for a text.
        let key = (constant.as_ptr() as usize, rows);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        AssertSqlSafe(made.entry(key).or_insert_with(|| make().into()).clone())
    }
}

fn render(dialect: Dialect, bulk: &Bulk, rows: usize) -> String {
    let mut sql = String::new();
    let mut parameters = 0;
    let mut next = |sql: &mut String| {
        parameters += 1;
        dialect.push_placeholder(sql, parameters);
    };
    for part in bulk.head.replace("{now}", &dialect.now("?")).split_inclusive('?') {
        match part.strip_suffix('?') {
            Some(text) => {
                sql.push_str(text);
                next(&mut sql);
            }
            None => sql.push_str(part),
        }
    }
    sql.push_str(" (VALUES ");
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..bulk.columns.len() {
            if column > 0 {
                sql.push(',');
            }
            next(&mut sql);
        }
        sql.push(')');
    }
    sql.push_str(") AS v ");
    sql.push_str(bulk.tail);
    sql
}

/// The values of one statement, in the order of its text.
#[derive(Default)]
pub struct Values(AnyArguments);

impl Values {
    /// A text.
    pub fn text(&mut self, value: impl Into<String>) -> &mut Self {
        self.maybe_text(Some(value.into()))
    }

    /// A text, or null.
    pub fn maybe_text(&mut self, value: Option<impl Into<String>>) -> &mut Self {
        self.put(value.map(Into::into))
    }

    /// An id, as text.
    pub fn id(&mut self, value: impl ToString) -> &mut Self {
        self.text(value.to_string())
    }

    /// Tenant and project: two values.
    pub fn scope(&mut self, scope: &Scope) -> &mut Self {
        self.text(scope.tenant.as_str()).text(scope.project.as_str())
    }

    /// A number.
    pub fn number(&mut self, value: impl TryInto<i64>) -> &mut Self {
        self.maybe_number(Some(value))
    }

    /// A number, or null.
    pub fn maybe_number(&mut self, value: Option<impl TryInto<i64>>) -> &mut Self {
        // Sequence numbers and versions do not come near the end of the range.
        self.put(value.map(|value| value.try_into().unwrap_or(i64::MAX)))
    }

    fn put<'t, T>(&mut self, value: T) -> &mut Self
    where
        T: sqlx::Encode<'t, sqlx::Any> + sqlx::Type<sqlx::Any>,
    {
        use sqlx::Arguments;
        self.0.add(value).expect("numbers and texts are encoded without failing");
        self
    }

    fn padding(&mut self, columns: &[Kind]) {
        for kind in columns {
            match kind {
                Kind::Text => self.maybe_text(None::<String>),
                Kind::Number => self.maybe_number(None::<i64>),
            };
        }
    }

    pub(crate) fn into_arguments(self) -> AnyArguments {
        self.0
    }
}

/// A transaction that writes.
pub struct Tx<'s> {
    pub(super) database: &'s Database,
    pub(crate) texts: &'s Texts,
    pub(crate) transaction: Transaction<'static, Any>,
}

impl Tx<'_> {
    /// Runs a single statement and gives what it returns.
    pub async fn rows(&mut self, sql: &'static str, values: Values) -> Result<Vec<AnyRow>, StoreError> {
        let query = query_with(self.texts.single(sql), values.0);
        let transaction = &mut self.transaction;
        self.database.guard(Access::Write, async { Ok(query.fetch_all(&mut **transaction).await?) }).await
    }

    /// Runs a single statement that returns one row or none.
    pub async fn row(&mut self, sql: &'static str, values: Values) -> Result<Option<AnyRow>, StoreError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Runs a statement over all rows, in as many parts as needed, and gathers what it returns.
    pub(crate) async fn bulk<T>(
        &mut self,
        bulk: &Bulk,
        head: impl Fn(&mut Values),
        rows: &[T],
        row_values: impl Fn(&T, &mut Values),
    ) -> Result<Vec<AnyRow>, StoreError> {
        let mut returned = Vec::new();
        for part in rows.chunks(ROWS_MAX) {
            let size = part.len().next_power_of_two();
            let mut values = Values::default();
            head(&mut values);
            for row in part {
                row_values(row, &mut values);
            }
            for _ in part.len()..size {
                values.padding(bulk.columns);
            }
            let query = query_with(self.texts.bulk(bulk, size), values.0);
            let transaction = &mut self.transaction;
            let rows = async { Ok(query.fetch_all(&mut **transaction).await?) };
            returned.append(&mut self.database.guard(Access::Write, rows).await?);
        }
        Ok(returned)
    }

    /// Ends the transaction; what it wrote is durable. Dropping it instead takes everything back.
    pub async fn commit(self) -> Result<(), StoreError> {
        let Self { database, transaction, .. } = self;
        database.guard(Access::Write, async { Ok(transaction.commit().await?) }).await
    }
}

/// Reads column `index` as text.
pub fn text(row: &AnyRow, index: usize) -> Result<&str, StoreError> {
    Ok(row.try_get(index)?)
}

/// Reads column `index` as text that may be null.
pub fn maybe_text(row: &AnyRow, index: usize) -> Result<Option<&str>, StoreError> {
    Ok(row.try_get(index)?)
}

/// Reads column `index` as a number.
pub fn number<N: TryFrom<i64>>(row: &AnyRow, index: usize) -> Result<N, StoreError> {
    let value: i64 = row.try_get(index)?;
    N::try_from(value).map_err(|_| StoreError::Corrupt(format!("the number {value} is out of range")))
}

/// Reads column `index` as a number that may be null.
pub fn maybe_number<N: TryFrom<i64>>(row: &AnyRow, index: usize) -> Result<Option<N>, StoreError> {
    let value: Option<i64> = row.try_get(index)?;
    let narrow =
        |value| N::try_from(value).map_err(|_| StoreError::Corrupt(format!("the number {value} is out of range")));
    value.map(narrow).transpose()
}

/// Reads column `index` as an id that may be null.
pub fn maybe_id<I: FromStr>(row: &AnyRow, index: usize) -> Result<Option<I>, StoreError> {
    maybe_text(row, index)?.map(|_| id(row, index)).transpose()
}

/// Reads column `index` as a point in time that may be null.
pub fn maybe_time(row: &AnyRow, index: usize) -> Result<Option<Timestamp>, StoreError> {
    let micros: Option<i64> = row.try_get(index)?;
    Ok(micros.map(Timestamp::from_micros))
}

/// Reads column `index` as a point in time.
pub fn time(row: &AnyRow, index: usize) -> Result<Timestamp, StoreError> {
    number(row, index).map(Timestamp::from_micros)
}

/// Reads column `index` as an id.
pub fn id<I: FromStr>(row: &AnyRow, index: usize) -> Result<I, StoreError> {
    let text = text(row, index)?;
    text.parse().map_err(|_| StoreError::Corrupt(format!("`{text}` is no id")))
}

/// Reads JSON text into a type.
pub fn document<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// The JSON text of a value.
pub fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("records have string keys and no failing parts")
}
