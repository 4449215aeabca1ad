//! What statements over many tables have in common: which row is meant, where a list goes on, and whether there is room for
//! one more.

use super::AccessError;
use agentruntime_engine::{
    database::{StoreError, Tx, Values, number},
    store::Scope,
};
use uuid::Uuid;

/// The rows of a project: two values.
pub(crate) fn of(scope: &Scope) -> Values {
    let mut values = Values::default();
    values.scope(scope);
    values
}

/// A row of a project by its id: three values.
pub(crate) fn key(scope: &Scope, id: impl ToString) -> Values {
    let mut values = of(scope);
    values.id(id);
    values
}

/// The part of a list, ordered by when rows were made and their ids, that comes after a place: three values more.
pub(crate) fn page(mut values: Values, after: Option<(i64, Uuid)>, limit: u32) -> Values {
    let (created_at, id) = after.unwrap_or((i64::MIN, Uuid::nil()));
    values.number(created_at).id(id).number(limit);
    values
}

/// How many of a thing there may be.
pub(crate) struct Ceiling {
    /// The statement that counts them.
    pub(crate) count: &'static str,
    /// So many.
    pub(crate) max: u32,
    /// What is answered where there are as many.
    pub(crate) code: &'static str,
    /// The sentence for it.
    pub(crate) message: String,
}

/// Refuses one more than there may be. Comes after the entry in the log, which makes writers of one workspace take turns.
pub(crate) async fn check_room(tx: &mut Tx<'_>, values: Values, ceiling: Ceiling) -> Result<(), AccessError> {
    let row = tx.row(ceiling.count, values).await?.ok_or(StoreError::NotFound)?;
    match number::<u32>(&row, 0)? < ceiling.max {
        true => Ok(()),
        false => Err(AccessError::Conflict { code: ceiling.code, message: ceiling.message }),
    }
}
