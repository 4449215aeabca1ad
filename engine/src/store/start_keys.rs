//! Keys under which a start happens once.
//!
//! A key is a row that is written in the transaction that creates its run, so that there is either both or neither. Two
//! starts with one key meet at that row: whichever is second finds it, also where it had to wait for the first to commit.

use super::{NewRun, Repeated, StartKey, Store};
use crate::database::{Bulk, Number, StoreError, Text, Tx, Values, id, json, text};
use agentruntime_host_api::RunId;
use std::collections::HashMap;

/// Expired keys that one sweep deletes, so that it stays short.
pub const KEYS_SWEPT_MAX: u32 = 1_000;

/// A key that expired is as good as none. One that did not is locked nevertheless (in PostgreSQL), so that nobody sweeps
/// it before it is read.
const TAKE: Bulk = Bulk {
    head: "WITH given (now_us) AS (VALUES ({now})) INSERT INTO start_keys \
        (tenant_id, project_id, name, run_id, digest, taken_at, expires_at) \
        SELECT column1, column2, column3, column4, column5, now_us, now_us + column6 FROM given,",
    columns: &[Text, Text, Text, Text, Text, Number],
    tail: "WHERE column1 IS NOT NULL ON CONFLICT (tenant_id, project_id, name) DO UPDATE \
        SET run_id = excluded.run_id, digest = excluded.digest, taken_at = excluded.taken_at, \
        expires_at = excluded.expires_at WHERE start_keys.expires_at <= excluded.taken_at RETURNING run_id",
};

const HOLDERS: Bulk = Bulk {
    head: "SELECT v.column4, k.run_id, k.digest FROM",
    columns: &[Text, Text, Text, Text],
    tail: "JOIN start_keys k ON k.tenant_id = v.column1 AND k.project_id = v.column2 AND k.name = v.column3",
};

const GIVE_BACK: Bulk = Bulk {
    head: "DELETE FROM start_keys WHERE (tenant_id, project_id, name) IN (SELECT column1, column2, column3 FROM",
    columns: &[Text, Text, Text],
    tail: ")",
};

const SWEEP: &str = "DELETE FROM start_keys WHERE (tenant_id, project_id, name) IN ( \
    SELECT tenant_id, project_id, name FROM start_keys WHERE expires_at <= {now} ORDER BY expires_at LIMIT $2{lock}) \
    RETURNING run_id";

impl Store {
    /// Deletes keys that expired, at most [`KEYS_SWEPT_MAX`], and tells how many.
    pub async fn sweep_start_keys(&self) -> Result<u32, StoreError> {
        let mut values = Values::default();
        values.maybe_number(self.shared.database.now()).number(KEYS_SWEPT_MAX);
        let swept = self.shared.database.write(SWEEP, values).await?;
        Ok(u32::try_from(swept.len()).unwrap_or(u32::MAX))
    }
}

/// Takes the keys of new runs, and tells for which runs another has the key. No key occurs twice.
pub(crate) async fn take<'n>(
    tx: &mut Tx<'_>,
    new: impl Iterator<Item = &'n NewRun>,
    now: Option<i64>,
) -> Result<HashMap<RunId, Repeated>, StoreError> {
    let mut keyed = keyed(new);
    if keyed.is_empty() {
        return Ok(HashMap::new());
    }
    // In one order everywhere, rows are rarely locked crosswise.
    keyed.sort_by_key(|(new, key)| (&new.scope.tenant, &new.scope.project, &key.name));
    let head = |values: &mut Values| {
        values.maybe_number(now);
    };
    let put = |(new, key): &(&NewRun, &StartKey), values: &mut Values| {
        values.scope(&new.scope).text(json(&key.name)).id(new.run).text(&key.digest).number(key.keep.as_micros());
    };
    let taken: Vec<RunId> =
        tx.bulk(&TAKE, head, &keyed, put).await?.iter().map(|row| id(row, 0)).collect::<Result<_, _>>()?;
    keyed.retain(|(new, _)| !taken.contains(&new.run));
    let put = |(new, key): &(&NewRun, &StartKey), values: &mut Values| {
        values.scope(&new.scope).text(json(&key.name)).id(new.run);
    };
    let digests: HashMap<RunId, &str> = keyed.iter().map(|(new, key)| (new.run, key.digest.as_str())).collect();
    let mut repeated = HashMap::new();
    for row in tx.bulk(&HOLDERS, |_| {}, &keyed, put).await? {
        let asked: RunId = id(&row, 0)?;
        let same = digests.get(&asked) == Some(&text(&row, 2)?);
        repeated.insert(asked, Repeated { run: id(&row, 1)?, same });
    }
    Ok(repeated)
}

/// Gives back the keys that were taken for runs which could not be created.
pub(crate) async fn give_back<'n>(
    tx: &mut Tx<'_>,
    refused: impl Iterator<Item = &'n NewRun>,
) -> Result<(), StoreError> {
    let put = |(new, key): &(&NewRun, &StartKey), values: &mut Values| {
        values.scope(&new.scope).text(json(&key.name));
    };
    tx.bulk(&GIVE_BACK, |_| {}, &keyed(refused), put).await?;
    Ok(())
}

fn keyed<'n>(new: impl Iterator<Item = &'n NewRun>) -> Vec<(&'n NewRun, &'n StartKey)> {
    new.filter_map(|new| Some((new, new.key.as_ref()?))).collect()
}
