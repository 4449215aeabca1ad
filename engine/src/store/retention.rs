//! Retention: runs that ended long ago go to an archive, and then away, with everything that belongs to them.
//!
//! A run goes with all runs below it, when all of them ended long ago. Three steps, each of which may be the last before a
//! crash:
//!
//! 1. The topmost run is leased, so that of several processes one works on it and nobody changes it meanwhile.
//! 2. All runs of the tree are handed to the [`Archive`], one by one, until it has said of each that it is durable.
//! 3. They are removed from the top downwards, a few per transaction. The topmost goes under the lease; a run below it only
//!    if its parent is gone.
//!
//! So a parent never lacks a child, and what a crash leaves of a tree has no parent: it is found again as trees of their
//! own, and archived once more, as the same document under the same name. A run that somebody does something to meanwhile,
//! such as retrying it, stays: a signal sets the time to wake, and whoever finished anew did so too lately.

use super::{
    RunRecord, Store,
    journal::CONFLICT_TRIES_MAX,
    runs::{RUN_COLUMNS, run_columns, run_record},
    storage::StorageChange,
};
use crate::{
    database::{Bulk, StoreError, Text, Tx, Values, id, json, maybe_time, number, text, time},
    run::event::Event,
};
use agentruntime_host_api::{RunId, Timestamp};
use async_trait::async_trait;
use serde::Serialize;
use sqlx::any::AnyRow;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long a tree is kept for the process that archives it; it renews this as long as it works.
const LEASE: Duration = Duration::from_secs(300);
/// How often the lease is renewed: some renewals may fail before it is lost.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// Who holds the lease. Which process it is, the epoch says, as each lease of a run has another.
const OWNER: &str = "retention";
/// Trees looked at together.
const PAGE: u32 = 100;
/// Runs and events removed in one transaction, where a single run has no more: other writers wait meanwhile.
const RUNS_PER_REMOVAL_MAX: usize = 64;
const EVENTS_PER_REMOVAL_MAX: u64 = 5_000;

/// Runs without a parent, those too whose parent was removed before.
const OLD_ROOTS: &str = "SELECT r.run_id, r.finished_at, r.tenant_id FROM runs r WHERE r.finished_at < $1 \
    AND (r.finished_at, r.tenant_id, r.run_id) > ($2, $3, $4) AND r.lease_owner IS NULL AND r.wake_at IS NULL \
    AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.run_id = r.parent_run_id) \
    ORDER BY r.finished_at, r.tenant_id, r.run_id LIMIT $5";

const TREE: &str = concat!(
    "WITH RECURSIVE tree (member, depth) AS (SELECT CAST($1 AS TEXT), CAST(0 AS BIGINT) \
     UNION ALL SELECT c.run_id, t.depth + 1 FROM tree t JOIN runs c ON c.parent_run_id = t.member) SELECT ",
    run_columns!(),
    ", depth FROM tree JOIN runs ON run_id = member ORDER BY depth, run_id"
);

const LEASE_ROOT: &str = "UPDATE runs SET lease_owner = $2, lease_epoch = lease_epoch + 1, \
    lease_expires_at = {now} + $3 WHERE run_id = $4 AND finished_at < $5 AND lease_owner IS NULL AND wake_at IS NULL \
    RETURNING lease_epoch";

const RENEW_ROOT: &str = "UPDATE runs SET lease_expires_at = {now} + $2 \
    WHERE run_id = $3 AND lease_owner = $4 AND lease_epoch = $5 RETURNING run_id";

const RELEASE_ROOT: &str = "UPDATE runs SET lease_owner = NULL, lease_expires_at = NULL \
    WHERE run_id = $1 AND lease_owner = $2 AND lease_epoch = $3 RETURNING wake_at";

const REMOVE_ROOT: &str = "DELETE FROM runs WHERE run_id = $1 AND lease_owner = $2 AND lease_epoch = $3 \
    AND wake_at IS NULL RETURNING run_id, tenant_id";

const REMOVE_RUNS: Bulk = Bulk {
    head: "WITH given (older_than) AS (VALUES (?)) DELETE FROM runs \
        WHERE finished_at < (SELECT older_than FROM given) AND lease_owner IS NULL AND wake_at IS NULL \
        AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.run_id = runs.parent_run_id) \
        AND run_id IN (SELECT column1 FROM",
    columns: &[Text],
    tail: ") RETURNING run_id, tenant_id",
};

/// How long a text is, both databases know without reading it.
const EVENT_BYTES: Bulk = Bulk {
    head: "SELECT run_id, CAST(SUM(octet_length(body)) AS BIGINT) FROM run_events \
        WHERE run_id IN (SELECT column1 FROM",
    columns: &[Text],
    tail: ") GROUP BY run_id",
};

const REMOVE_EVENTS: Bulk =
    Bulk { head: "DELETE FROM run_events WHERE run_id IN (SELECT column1 FROM", columns: &[Text], tail: ")" };

const REMOVE_TASKS: Bulk =
    Bulk { head: "DELETE FROM tasks WHERE run_id IN (SELECT column1 FROM", columns: &[Text], tail: ")" };

const REMOVE_SIGNALS: Bulk =
    Bulk { head: "DELETE FROM signals WHERE run_id IN (SELECT column1 FROM", columns: &[Text], tail: ")" };

const REMOVE_KEYS: Bulk =
    Bulk { head: "DELETE FROM start_keys WHERE run_id IN (SELECT column1 FROM", columns: &[Text], tail: ")" };

/// Where runs go before they are removed.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Keeps a run. Returning says that it is durable: the run is removed then. One that it has already it may be given
    /// again, and replaces.
    async fn keep(&self, run: ArchivedRun) -> Result<(), ArchiveError>;
}

/// Why an archive did not keep a run.
pub type ArchiveError = Box<dyn std::error::Error + Send + Sync>;

/// A run as it is archived.
#[derive(Clone, Debug)]
pub struct ArchivedRun {
    /// Its row.
    pub record: RunRecord,
    /// Row and journal as lines of JSON: the row, and then each event in its public form.
    pub lines: String,
}

/// Why runs were not expired.
#[derive(Debug, thiserror::Error)]
pub enum ExpireError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive did not keep a run, so that it is not removed.
    #[error("run {run} could not be archived: {source}")]
    Archive {
        /// The run.
        run: RunId,
        /// Why not.
        source: ArchiveError,
    },
}

/// The first line of an archived run.
#[derive(Serialize)]
struct Line<'r> {
    run_id: RunId,
    tenant_id: &'r str,
    project_id: &'r str,
    workflow_id: &'r str,
    version: u32,
    status: &'r str,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
    error: Option<&'r agentruntime_host_api::StepError>,
    last_seq: u64,
    parent_run_id: Option<RunId>,
    trigger_type: &'r str,
    user_id: Option<&'r str>,
    pat_id: Option<&'r str>,
    external_user_id: Option<&'r str>,
}

/// A run and those below it, the topmost first; each with its depth.
type Tree = Vec<(RunRecord, u64)>;

/// A run whose row was removed, and its tenant.
type Removed = (RunId, String);

/// The topmost run of a tree, and the right to remove it.
struct Held {
    root: RunId,
    epoch: u64,
}

impl Store {
    /// Archives and removes trees of runs that all ended before `older_than`, until at least `limit` runs are removed or
    /// there are no more; tells how many were. What cannot be read is logged and stays.
    pub async fn expire_finished(
        &self,
        older_than: Timestamp,
        limit: u32,
        archive: &dyn Archive,
    ) -> Result<u32, ExpireError> {
        let mut removed = 0;
        let mut after = (i64::MIN, String::new(), String::new());
        loop {
            let mut values = Values::default();
            values.number(older_than.as_micros()).number(after.0).text(&after.1).text(&after.2).number(PAGE);
            let page = self.shared.database.rows(OLD_ROOTS, values).await?;
            let Some(last) = page.last() else { return Ok(removed) };
            after = (time(last, 1)?.as_micros(), text(last, 2)?.to_owned(), text(last, 0)?.to_owned());
            for row in &page {
                if removed >= limit {
                    return Ok(removed);
                }
                let root = id(row, 0)?;
                removed += match self.expire_tree(root, older_than, archive).await {
                    Err(ExpireError::Store(error @ StoreError::Corrupt(_))) => {
                        tracing::error!(run = %root, %error, "a run that ended long ago stays, because it is unreadable");
                        0
                    }
                    answer => answer?,
                };
            }
        }
    }

    /// Archives and removes one tree, if it is old as a whole; tells how many runs were removed.
    async fn expire_tree(&self, root: RunId, older_than: Timestamp, archive: &dyn Archive) -> Result<u32, ExpireError> {
        let tree = self.tree(root).await?;
        if !tree.iter().all(|(run, _)| run.finished_at.is_some_and(|at| at < older_than)) {
            return Ok(0);
        }
        let Some(held) = self.hold(root, older_than).await? else { return Ok(0) };
        let answer = self.expire_held(&held, &tree, older_than, archive).await;
        if !matches!(answer, Ok(removed) if removed > 0) {
            self.let_go(&held).await?;
        }
        answer
    }

    async fn expire_held(
        &self,
        held: &Held,
        tree: &Tree,
        older_than: Timestamp,
        archive: &dyn Archive,
    ) -> Result<u32, ExpireError> {
        let mut renewed = Instant::now();
        for (run, _) in tree {
            if renewed.elapsed() > RENEW_EVERY {
                if !self.renew_held(held).await? {
                    return Ok(0);
                }
                renewed = Instant::now();
            }
            let document = ArchivedRun { record: run.clone(), lines: lines(run, &self.journal(run.run).await?) };
            archive.keep(document).await.map_err(|source| ExpireError::Archive { run: run.run, source })?;
        }
        if !self.remove_root(held).await? {
            return Ok(0);
        }
        let mut removed = 1;
        for part in parts(tree.get(1..).unwrap_or_default()) {
            removed += self.remove(&part, older_than).await?;
        }
        Ok(removed)
    }

    async fn tree(&self, root: RunId) -> Result<Tree, StoreError> {
        let mut values = Values::default();
        values.id(root);
        let member = |row: &AnyRow| Ok((run_record(row)?, number(row, RUN_COLUMNS)?));
        self.shared.database.rows(TREE, values).await?.iter().map(member).collect()
    }

    async fn hold(&self, root: RunId, older_than: Timestamp) -> Result<Option<Held>, StoreError> {
        let mut values = Values::default();
        values.maybe_number(self.shared.database.now()).text(OWNER).number(LEASE.as_micros()).id(root);
        values.number(older_than.as_micros());
        let row = self.shared.database.write(LEASE_ROOT, values).await?;
        row.first().map(|row| Ok(Held { root, epoch: number(row, 0)? })).transpose()
    }

    async fn renew_held(&self, held: &Held) -> Result<bool, StoreError> {
        let mut values = Values::default();
        values.maybe_number(self.shared.database.now()).number(LEASE.as_micros());
        values.id(held.root).text(OWNER).number(held.epoch);
        Ok(!self.shared.database.write(RENEW_ROOT, values).await?.is_empty())
    }

    /// Gives the lease back. A signal that came meanwhile has set the time to wake: nodes are to look.
    async fn let_go(&self, held: &Held) -> Result<(), StoreError> {
        let row = self.shared.database.write(RELEASE_ROOT, held.values()).await?;
        if row.first().map(|row| maybe_time(row, 0)).transpose()?.flatten().is_some() {
            self.shared.wake.news();
        }
        Ok(())
    }

    async fn remove_root(&self, held: &Held) -> Result<bool, StoreError> {
        let mut tx = self.shared.database.begin().await?;
        let Some(row) = tx.row(REMOVE_ROOT, held.values()).await? else { return Ok(false) };
        let mut storage = StorageChange::default();
        remove_belongings(&mut tx, &[removed(&row)?], &mut storage).await?;
        storage.write(&mut tx, held.root.to_string()).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Removes runs of one depth, as far as they are still old and their parents gone; tells how many were.
    async fn remove(&self, runs: &[RunId], older_than: Timestamp) -> Result<u32, StoreError> {
        let mut tries = 1;
        loop {
            match self.try_remove(runs, older_than).await {
                Err(error) if error.is_conflict() && tries < CONFLICT_TRIES_MAX => tries += 1,
                answer => return answer,
            }
        }
    }

    async fn try_remove(&self, runs: &[RunId], older_than: Timestamp) -> Result<u32, StoreError> {
        let mut tx = self.shared.database.begin().await?;
        let head = |values: &mut Values| {
            values.number(older_than.as_micros());
        };
        let put = |run: &RunId, values: &mut Values| {
            values.id(run);
        };
        let rows = tx.bulk(&REMOVE_RUNS, head, runs, put).await?;
        let gone: Vec<Removed> = rows.iter().map(removed).collect::<Result<_, _>>()?;
        let Some((first, _)) = gone.first() else { return Ok(0) };
        let mut storage = StorageChange::default();
        remove_belongings(&mut tx, &gone, &mut storage).await?;
        storage.write(&mut tx, first.to_string()).await?;
        tx.commit().await?;
        Ok(u32::try_from(gone.len()).unwrap_or(u32::MAX))
    }
}

impl Held {
    /// The run, and by what it is held.
    fn values(&self) -> Values {
        let mut values = Values::default();
        values.id(self.root).text(OWNER).number(self.epoch);
        values
    }
}

fn removed(row: &AnyRow) -> Result<Removed, StoreError> {
    Ok((id(row, 0)?, text(row, 1)?.to_owned()))
}

/// Nobody writes to the journals meanwhile: whoever does begins with the run's row, and that is gone.
async fn remove_belongings(tx: &mut Tx<'_>, runs: &[Removed], storage: &mut StorageChange) -> Result<(), StoreError> {
    let put = |(run, _): &Removed, values: &mut Values| {
        values.id(run);
    };
    let tenants: HashMap<RunId, &str> = runs.iter().map(|(run, tenant)| (*run, tenant.as_str())).collect();
    for row in tx.bulk(&EVENT_BYTES, |_| {}, runs, put).await? {
        if let Some(tenant) = tenants.get(&id(&row, 0)?) {
            storage.subtract(tenant, number(&row, 1)?);
        }
    }
    for belongings in [&REMOVE_EVENTS, &REMOVE_TASKS, &REMOVE_SIGNALS, &REMOVE_KEYS] {
        tx.bulk(belongings, |_| {}, runs, put).await?;
    }
    Ok(())
}

/// Parts of one depth each, of which none is too much for a transaction unless it is a single run.
fn parts(tree: &[(RunRecord, u64)]) -> Vec<Vec<RunId>> {
    let mut parts: Vec<Vec<RunId>> = Vec::new();
    let (mut events, mut last_depth) = (0, None);
    for (run, depth) in tree {
        events += run.last_seq;
        let fits = |part: &Vec<RunId>| part.len() < RUNS_PER_REMOVAL_MAX && events <= EVENTS_PER_REMOVAL_MAX;
        match parts.last_mut().filter(|part| last_depth == Some(*depth) && fits(part)) {
            Some(part) => part.push(run.run),
            None => {
                parts.push(vec![run.run]);
                events = run.last_seq;
            }
        }
        last_depth = Some(*depth);
    }
    parts
}

fn lines(run: &RunRecord, journal: &[Event]) -> String {
    let mut lines = json(&Line {
        run_id: run.run,
        tenant_id: run.scope.tenant.as_str(),
        project_id: run.scope.project.as_str(),
        workflow_id: run.workflow.as_str(),
        version: run.version,
        status: run.status.as_str(),
        started_at: run.started_at,
        finished_at: run.finished_at,
        error: run.error.as_ref(),
        last_seq: run.last_seq,
        parent_run_id: run.parent,
        trigger_type: &run.trigger_type,
        user_id: run.user_id.as_deref(),
        pat_id: run.pat_id.as_deref(),
        external_user_id: run.external_user_id.as_deref(),
    });
    lines.push('\n');
    for event in journal {
        lines.push_str(&json(&event.public(run.run)));
        lines.push('\n');
    }
    lines
}
