//! Keys under which a start happens once.
//!
//! A key is a row that is written in the transaction that creates its run, so that there is either both or neither. Two
//! starts with one key meet at that row: whichever is second finds it, also where it had to wait for the first to commit.
//! A start that has several keys takes all of them; if one is not to be had, it gives the others back.

use super::{NewRun, Repeated, Scope, StartKey, Store};
use crate::database::{Bulk, Number, StoreError, Text, Tx, Values, id, json, text};
use agentruntime_host_api::{ProjectId, RunId, TenantId};
use std::{
    cmp::min_by_key,
    collections::{HashMap, HashSet},
};

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
        expires_at = excluded.expires_at WHERE start_keys.expires_at <= excluded.taken_at RETURNING run_id, name",
};

const HOLDERS: Bulk = Bulk {
    head: "SELECT v.column4, k.name, k.run_id, k.digest FROM",
    columns: &[Text, Text, Text, Text],
    tail: "JOIN start_keys k ON k.tenant_id = v.column1 AND k.project_id = v.column2 AND k.name = v.column3",
};

const KNOWN: &str = "SELECT run_id, digest FROM start_keys \
    WHERE tenant_id = $1 AND project_id = $2 AND name = $3 AND expires_at > $4";

const GIVE_BACK: Bulk = Bulk {
    head: "DELETE FROM start_keys WHERE (tenant_id, project_id, name) IN (SELECT column1, column2, column3 FROM",
    columns: &[Text, Text, Text],
    tail: ")",
};

const SWEEP: &str = "DELETE FROM start_keys WHERE (tenant_id, project_id, name) IN ( \
    SELECT tenant_id, project_id, name FROM start_keys WHERE expires_at <= {now} ORDER BY expires_at LIMIT $2{lock}) \
    RETURNING run_id";

impl Store {
    /// What a start with these keys would repeat, as far as is known now. Takes nothing.
    pub async fn repeated(&self, scope: &Scope, keys: &[StartKey]) -> Result<Option<Repeated>, StoreError> {
        let mut told: Option<(Rank, Repeated)> = None;
        for (place, key) in keys.iter().enumerate() {
            let mut values = Values::default();
            values.scope(scope).text(json(&key.name)).number(self.shared.database.time().as_micros());
            for row in self.shared.database.rows(KNOWN, values).await? {
                let same = key.digest == text(&row, 1)?;
                let next = ((same, place), Repeated { run: id(&row, 0)?, same });
                told = Some(told.map_or(next, |known| min_by_key(known, next, |(rank, _)| *rank)));
            }
        }
        Ok(told.map(|(_, told)| told))
    }

    /// Deletes keys that expired, at most [`KEYS_SWEPT_MAX`], and tells how many.
    pub async fn sweep_start_keys(&self) -> Result<u32, StoreError> {
        let mut values = Values::default();
        values.maybe_number(self.shared.database.now()).number(KEYS_SWEPT_MAX);
        let swept = self.shared.database.write(SWEEP, values).await?;
        Ok(u32::try_from(swept.len()).unwrap_or(u32::MAX))
    }
}

/// Takes the keys of new runs, and tells for which runs another has one of them. No two runs have a key in common.
pub(crate) async fn take<'n>(
    tx: &mut Tx<'_>,
    new: impl Iterator<Item = &'n NewRun>,
    now: Option<i64>,
) -> Result<HashMap<RunId, Repeated>, StoreError> {
    let asked = keyed(new);
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    let head = |values: &mut Values| {
        values.maybe_number(now);
    };
    let put = |asked: &Asked<'_>, values: &mut Values| {
        asked.put(values);
        values.id(asked.new.run).text(&asked.key.digest).number(asked.key.keep.as_micros());
    };
    let mut taken: HashSet<(RunId, String)> = HashSet::new();
    for row in tx.bulk(&TAKE, head, &asked, put).await? {
        taken.insert((id(&row, 0)?, text(&row, 1)?.to_owned()));
    }
    let (had, missed): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|asked| taken.contains(&(asked.new.run, asked.name.clone())));
    let repeated = holders(tx, &missed).await?;
    let back: Vec<_> = had.into_iter().filter(|asked| repeated.contains_key(&asked.new.run)).collect();
    tx.bulk(&GIVE_BACK, |_| {}, &back, Asked::put).await?;
    Ok(repeated)
}

/// Who has the keys that could not be taken.
async fn holders(tx: &mut Tx<'_>, missed: &[Asked<'_>]) -> Result<HashMap<RunId, Repeated>, StoreError> {
    let put = |asked: &Asked<'_>, values: &mut Values| {
        asked.put(values);
        values.id(asked.new.run);
    };
    let asked: HashMap<(RunId, &str), &Asked<'_>> =
        missed.iter().map(|asked| ((asked.new.run, asked.name.as_str()), asked)).collect();
    let mut repeated: HashMap<RunId, (Rank, Repeated)> = HashMap::new();
    for row in tx.bulk(&HOLDERS, |_| {}, missed, put).await? {
        let run: RunId = id(&row, 0)?;
        let Some(asked) = asked.get(&(run, text(&row, 1)?)) else { continue };
        let same = asked.key.digest == text(&row, 3)?;
        let told = ((same, asked.place), Repeated { run: id(&row, 2)?, same });
        repeated.entry(run).and_modify(|known| *known = min_by_key(*known, told, |(rank, _)| *rank)).or_insert(told);
    }
    Ok(repeated.into_iter().map(|(run, (_, told))| (run, told)).collect())
}

/// Whether the digests are equal, and the key's place among those of its start: the least speaks for the start.
type Rank = (bool, usize);

/// Gives back the keys that were taken for runs which could not be created.
pub(crate) async fn give_back<'n>(
    tx: &mut Tx<'_>,
    refused: impl Iterator<Item = &'n NewRun>,
) -> Result<(), StoreError> {
    tx.bulk(&GIVE_BACK, |_| {}, &keyed(refused), Asked::put).await?;
    Ok(())
}

/// A key of a start, as it is asked for.
struct Asked<'n> {
    new: &'n NewRun,
    key: &'n StartKey,
    /// The key's place among those of its start.
    place: usize,
    /// Its name as it is stored.
    name: String,
}

impl Asked<'_> {
    /// What tells its row from others.
    fn row(&self) -> (&TenantId, &ProjectId, &str) {
        (&self.new.scope.tenant, &self.new.scope.project, &self.name)
    }

    fn put(&self, values: &mut Values) {
        values.scope(&self.new.scope).text(&self.name);
    }
}

/// All keys, each once, in one order everywhere, so that rows are rarely locked crosswise.
fn keyed<'n>(new: impl Iterator<Item = &'n NewRun>) -> Vec<Asked<'n>> {
    let of = |new: &'n NewRun| {
        let ask = move |(place, key): (usize, &'n StartKey)| Asked { new, key, place, name: json(&key.name) };
        new.keys.iter().enumerate().map(ask)
    };
    let mut keyed: Vec<Asked<'n>> = new.flat_map(of).collect();
    keyed.sort_by(|one, other| one.row().cmp(&other.row()));
    keyed.dedup_by(|later, earlier| later.row() == earlier.row());
    keyed
}
