//! The commit: what many runs append, in one transaction.
//!
//! For each run all is written or nothing, and whether it is, its row decides: the update asks for the node's lease and for
//! the journal's position, and only the runs whose row was updated have their events, tasks, children and signals written.
//! A lost run in a batch takes nothing else with it.
//!
//! Letting go of a run and a signal to it may meet. Both update the run's row, and whichever is second sees what the first
//! wrote, also in PostgreSQL at READ COMMITTED, which evaluates an update anew on the row that it waited for. So the release
//! computes `wake_at` from the row's own `inbox`: a signal that came before makes the run due at once, and one that comes
//! after does so itself.
//!
//! If the connection dies while the commit is under way, its result is not known. That is an error to the caller, who
//! drops the runs and claims them again: reading tells what is there, repeating would guess.

use super::{
    Append, Appended, Chunk, NodeId, Scope, Store, inbox,
    runs::{self, Created, RunRow, put_row_update},
    storage::StorageChange,
    tasks,
};
use crate::database::{Bulk, Number, StoreError, Text, Tx, Values, id, maybe_time, text};
use agentruntime_host_api::RunId;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    time::Duration,
};

/// How often a transaction is tried that the database undoes because others are in its way.
pub(crate) const CONFLICT_TRIES_MAX: u32 = 10;

/// The epoch of the lease with which a node creates a run.
const FIRST_EPOCH: u64 = 1;

const UPDATE_RUNS: Bulk = Bulk {
    head: "WITH given (now_us, lease_us, node) AS (VALUES ({now}, ?, ?)) UPDATE runs SET \
        last_seq = COALESCE(v.column4, runs.last_seq), \
        status = v.column5, awaiting = v.column6, finished_at = v.column7, error = v.column8, inbox_read = v.column9, \
        lease_owner = CASE WHEN v.column10 = 1 THEN NULL ELSE runs.lease_owner END, \
        lease_expires_at = CASE WHEN v.column10 = 1 THEN NULL ELSE given.now_us + given.lease_us END, \
        wake_at = CASE WHEN v.column10 = 0 THEN runs.wake_at WHEN runs.inbox > v.column9 THEN given.now_us \
        ELSE v.column11 END FROM given,",
    columns: &[Text, Number, Number, Number, Text, Text, Number, Text, Number, Number, Number],
    tail: "WHERE runs.run_id = v.column1 AND runs.lease_epoch = v.column2 AND runs.lease_owner = given.node \
        AND (v.column3 IS NULL OR runs.last_seq = v.column3) RETURNING run_id, wake_at, tenant_id",
};

const LOCK_RUNS: Bulk = Bulk {
    head: "SELECT run_id FROM runs WHERE run_id IN (SELECT column1 FROM",
    columns: &[Text],
    tail: ") ORDER BY run_id FOR UPDATE",
};

impl Store {
    /// Writes what a node's runs append, in one transaction, and extends their leases. The answers are in the order of
    /// the batch; a run that occurs more than once in it is written in that order.
    pub async fn commit(
        &self,
        node: &NodeId,
        lease_for: Duration,
        batch: &[Append],
    ) -> Result<Vec<Appended>, StoreError> {
        let mut tries = 1;
        loop {
            match self.try_commit(node, lease_for, batch).await {
                Err(error) if error.is_conflict() && tries < CONFLICT_TRIES_MAX => tries += 1,
                answer => return answer,
            }
        }
    }

    async fn try_commit(
        &self,
        node: &NodeId,
        lease_for: Duration,
        batch: &[Append],
    ) -> Result<Vec<Appended>, StoreError> {
        let mut tx = self.shared.database.begin().await?;
        lock_crosswise(&mut tx, batch).await?;
        let answers = vec![Appended::LeaseLost; batch.len()];
        let (now, storage) = (self.shared.database.now(), StorageChange::default());
        let mut commit = Commit { tx, node, lease_for, now, answers, storage, is_news: false };
        for wave in waves(batch) {
            commit.write(&wave).await?;
        }
        commit.storage.write(&mut commit.tx, &node.0).await?;
        commit.tx.commit().await?;
        if commit.is_news {
            self.shared.wake.news();
        }
        Ok(commit.answers)
    }
}

/// Locks all rows that the batch writes in the order of their ids, where it writes the rows of others: the batches of two
/// nodes that tell each other's runs something would else wait for each other. Runs of one's own are nobody else's.
async fn lock_crosswise(tx: &mut Tx<'_>, batch: &[Append]) -> Result<(), StoreError> {
    let targets = || batch.iter().flat_map(|append| append.signals.iter().map(|(target, _)| *target));
    if !tx.texts.dialect.locks_rows() || targets().next().is_none() {
        return Ok(());
    }
    let mut runs: Vec<RunId> = targets().chain(batch.iter().map(|append| append.lease.run)).collect();
    runs.sort();
    runs.dedup();
    let put = |run: &RunId, values: &mut Values| {
        values.id(run);
    };
    tx.bulk(&LOCK_RUNS, |_| {}, &runs, put).await?;
    Ok(())
}

/// Parts of the batch in which no run and no key of a start occurs twice: an update that finds a row twice would do it
/// once, and whether a key is free shows when what came before is written.
fn waves(batch: &[Append]) -> Vec<Vec<(usize, &Append)>> {
    let mut runs: HashMap<RunId, usize> = HashMap::with_capacity(batch.len());
    let mut keys: HashMap<(&Scope, &str), usize> = HashMap::new();
    let mut waves: Vec<Vec<(usize, &Append)>> = Vec::new();
    for (index, append) in batch.iter().enumerate() {
        let next = runs.entry(append.lease.run).or_default();
        let mut turn = *next;
        let own = append.create.iter().flat_map(|new| new.keys.iter().map(move |key| (&new.scope, key.name.as_str())));
        turn = own.clone().filter_map(|key| keys.get(&key)).fold(turn, |turn, free| turn.max(*free));
        keys.extend(own.map(|key| (key, turn + 1)));
        *next = turn + 1;
        match waves.get_mut(turn) {
            Some(wave) => wave.push((index, append)),
            None => waves.push(vec![(index, append)]),
        }
    }
    waves
}

struct Commit<'c> {
    tx: Tx<'c>,
    node: &'c NodeId,
    lease_for: Duration,
    now: Option<i64>,
    answers: Vec<Appended>,
    storage: StorageChange,
    /// Whether a run became claimable or was sent a signal.
    is_news: bool,
}

/// An append whose row was written.
struct Written<'a> {
    index: usize,
    append: &'a Append,
    /// Whose run it is, as the row says.
    tenant: Cow<'a, str>,
}

impl Commit<'_> {
    async fn write(&mut self, wave: &[(usize, &Append)]) -> Result<(), StoreError> {
        let rows = self.rows(wave).await?;
        for Written { index, .. } in &rows {
            self.answers[*index] = Appended::Durable;
        }
        let written: Vec<&Append> = rows.iter().map(|row| row.append).collect();
        self.children(&written).await?;
        self.events(&rows).await?;
        self.tasks(&written).await?;
        self.signals(&written).await
    }

    /// Writes the rows of the runs, and tells which were.
    async fn rows<'a>(&mut self, wave: &[(usize, &'a Append)]) -> Result<Vec<Written<'a>>, StoreError> {
        let (creates, updates): (Vec<_>, Vec<_>) =
            wave.iter().copied().partition(|(_, append)| append.create.is_some());
        let mut written = self.create(&creates).await?;
        written.extend(self.update(&updates).await?);
        // A run that another node may claim now, or that wants to wake at a time that is to be known.
        let wakes = |append: &Append| append.release.is_some_and(|release| release.wake_at.is_some());
        self.is_news |= written.iter().any(|row| wakes(row.append));
        Ok(written)
    }

    async fn create<'a>(&mut self, creates: &[(usize, &'a Append)]) -> Result<Vec<Written<'a>>, StoreError> {
        let mut rows = Vec::with_capacity(creates.len());
        for (_, append) in creates {
            let Some(new) = &append.create else { continue };
            let continues = append.events.as_ref().is_none_or(|chunk| chunk.first_seq == new.events.last_seq + 1);
            if append.lease.epoch == FIRST_EPOCH && append.lease.run == new.run && continues {
                let last_seq = append.events.as_ref().map_or(new.events.last_seq, |chunk| chunk.last_seq);
                rows.push(RunRow { new, last_seq, update: Some(&append.row), node: Some((self.node, append.release)) });
            }
        }
        let tried: HashSet<RunId> = rows.iter().map(|row| row.new.run).collect();
        let Created { inserted, repeated } = runs::create(&mut self.tx, rows, self.now, self.lease_for).await?;
        for (index, append) in creates {
            if let Some(repeated) = repeated.get(&append.lease.run) {
                self.answers[*index] = Appended::Repeated(*repeated);
            } else if tried.contains(&append.lease.run) {
                self.answers[*index] = Appended::AlreadyExists;
            }
        }
        let written = |&(index, append): &(usize, &'a Append)| {
            let new = append.create.as_ref().filter(|_| inserted.contains(&append.lease.run))?;
            Some(Written { index, append, tenant: new.scope.tenant.as_str().into() })
        };
        Ok(creates.iter().filter_map(written).collect())
    }

    async fn update<'a>(&mut self, updates: &[(usize, &'a Append)]) -> Result<Vec<Written<'a>>, StoreError> {
        let head = |values: &mut Values| {
            values.maybe_number(self.now).number(self.lease_for.as_micros()).text(&self.node.0);
        };
        let put = |(_, append): &(usize, &Append), values: &mut Values| {
            values.id(append.lease.run).number(append.lease.epoch);
            values.maybe_number(append.events.as_ref().map(|chunk| chunk.first_seq - 1));
            values.maybe_number(append.events.as_ref().map(|chunk| chunk.last_seq));
            put_row_update(Some(&append.row), values);
            values.number(append.inbox_read).number(u8::from(append.release.is_some()));
            values.maybe_number(append.release.and_then(|release| release.wake_at).map(|at| at.as_micros()));
        };
        // In one order everywhere, as in renewing, rows are rarely locked crosswise.
        let mut ordered = updates.to_vec();
        ordered.sort_unstable_by_key(|(_, append)| append.lease.run);
        let mut updated = HashMap::with_capacity(updates.len());
        for row in self.tx.bulk(&UPDATE_RUNS, head, &ordered, put).await? {
            updated.insert(id::<RunId>(&row, 0)?, (maybe_time(&row, 1)?, text(&row, 2)?.to_owned()));
        }
        let mut written = Vec::with_capacity(updated.len());
        for &(index, append) in updates {
            if let Some((wake_at, tenant)) = updated.remove(&append.lease.run) {
                self.is_news |= append.release.is_some() && wake_at.is_some();
                written.push(Written { index, append, tenant: tenant.into() });
            }
        }
        Ok(written)
    }

    async fn events(&mut self, written: &[Written<'_>]) -> Result<(), StoreError> {
        let mut appended = Vec::with_capacity(written.len());
        for Written { append, tenant, .. } in written {
            if let Some(chunk) = chunk_of(append) {
                self.storage.add(tenant, &chunk);
                appended.push((append.lease.run, chunk));
            }
        }
        let chunks: Vec<(RunId, &Chunk)> = appended.iter().map(|(run, chunk)| (*run, chunk.as_ref())).collect();
        runs::insert_events(&mut self.tx, &chunks).await
    }

    /// Child runs have ids that follow from their parent's, so that one which is there was begun before.
    async fn children(&mut self, written: &[&Append]) -> Result<(), StoreError> {
        let children: Vec<_> = written.iter().flat_map(|append| &append.children).collect();
        let rows: Vec<_> = children.iter().map(|child| RunRow::pending(child)).collect();
        let inserted = runs::insert_runs(&mut self.tx, &rows, self.now, self.lease_for).await?;
        let begun = || children.iter().filter(|child| inserted.contains(&child.run));
        begun().for_each(|child| self.storage.add(child.scope.tenant.as_str(), &child.events));
        let chunks: Vec<_> = begun().map(|child| (child.run, &child.events)).collect();
        self.is_news |= !chunks.is_empty();
        runs::insert_events(&mut self.tx, &chunks).await
    }

    async fn tasks(&mut self, written: &[&Append]) -> Result<(), StoreError> {
        let opened = |append: &&'_ Append| -> Vec<_> {
            append.tasks_opened.iter().map(|task| (append.lease.run, task.clone())).collect()
        };
        let opened: Vec<_> = written.iter().flat_map(opened).collect();
        let opened: Vec<_> = opened.iter().map(|(run, task)| (*run, task)).collect();
        tasks::open(&mut self.tx, &opened).await?;
        let mut closed = Vec::new();
        for append in written {
            closed.extend(append.tasks_closed.iter().map(|(task, status)| (append.lease.run, *task, *status)));
        }
        tasks::close(&mut self.tx, &closed).await
    }

    async fn signals(&mut self, written: &[&Append]) -> Result<(), StoreError> {
        let read: Vec<_> = written.iter().filter(|append| append.inbox_read > 0).collect();
        let read: Vec<_> = read.iter().map(|append| (append.lease.run, append.inbox_read)).collect();
        inbox::delete_read(&mut self.tx, &read).await?;
        let mut signals = Vec::new();
        for append in written {
            signals.extend(append.signals.iter().map(|(target, signal)| (append.lease.run, *target, signal)));
        }
        self.is_news |= inbox::send_many(&mut self.tx, self.now, &signals).await?;
        Ok(())
    }
}

/// The events that an append writes to its run's journal.
fn chunk_of(append: &Append) -> Option<Cow<'_, Chunk>> {
    match (&append.create, &append.events) {
        (Some(_), Some(_)) => joined(append).map(Cow::Owned),
        (Some(new), None) => Some(Cow::Borrowed(&new.events)),
        (None, events) => events.as_ref().map(Cow::Borrowed),
    }
}

/// The first events of a created run and those that continue them, as one chunk.
fn joined(append: &Append) -> Option<Chunk> {
    let (first, next) = (&append.create.as_ref()?.events, append.events.as_ref()?);
    let (head, tail) = (first.body.trim_end().strip_suffix(']')?, next.body.trim_start().strip_prefix('[')?);
    Some(Chunk { first_seq: first.first_seq, last_seq: next.last_seq, body: format!("{head},{tail}") })
}
