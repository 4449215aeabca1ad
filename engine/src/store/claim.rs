//! Leases: which node may append to a run, and until when.
//!
//! A claim is fair between tenants: they are served in turn, those first that have the fewest runs in hand; within a turn,
//! by priority, then by age. What one claim looks at does not grow with the backlog: of each tenant with due runs, only the
//! oldest are considered, as many as are wanted in all. Priority therefore decides among those.

use super::{
    ClaimedRun, Lease, NodeId, Renewed, Store,
    journal::CONFLICT_TRIES_MAX,
    runs::{RUN_COLUMNS, run_columns, run_record},
};
use crate::database::{Bulk, Number, StoreError, Text, Values, id, json, maybe_time, number};
use agentruntime_host_api::{RunId, TenantId, Timestamp};
use sqlx::any::AnyRow;
use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

/// How often expired leases are looked for. A simulated clock may jump, so that there it is done each time.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// The tenants that have unleased runs with a time to wake, found by leaping from one to the next in the index.
macro_rules! waiting_tenants {
    () => {
        "waiting (tenant_id) AS ( \
         SELECT MIN(tenant_id) FROM runs WHERE wake_at IS NOT NULL AND lease_owner IS NULL \
         UNION ALL SELECT (SELECT MIN(r.tenant_id) FROM runs r WHERE r.tenant_id > w.tenant_id \
         AND r.wake_at IS NOT NULL AND r.lease_owner IS NULL) FROM waiting w WHERE w.tenant_id IS NOT NULL)"
    };
}

/// `{oldest}` and `{lock}` are the dialect's.
const CLAIM: &str = concat!(
    "WITH RECURSIVE ",
    waiting_tenants!(),
    ", share AS MATERIALIZED (SELECT w.tenant_id, (SELECT COUNT(*) FROM runs l WHERE l.tenant_id = w.tenant_id \
     AND l.lease_owner IS NOT NULL) AS held FROM waiting w WHERE w.tenant_id IS NOT NULL), \
     room AS MATERIALIZED ({rooms_5}), \
     candidate AS ({oldest}), \
     turn AS (SELECT run_id, tenant_id, priority, wake_at, held, ROW_NUMBER() OVER ( \
     PARTITION BY tenant_id ORDER BY priority DESC, wake_at, run_id) AS place FROM candidate), \
     chosen AS (SELECT t.run_id FROM turn t LEFT JOIN room ON room.tenant_id = t.tenant_id \
     WHERE t.place <= COALESCE(room.free, $6) ORDER BY t.held + t.place, t.priority DESC, t.wake_at, t.run_id LIMIT $4), \
     free AS (SELECT run_id FROM runs WHERE run_id IN (SELECT run_id FROM chosen) \
     AND lease_owner IS NULL AND wake_at <= {now}{lock}) \
     UPDATE runs SET lease_owner = $2, lease_epoch = lease_epoch + 1, lease_expires_at = {now} + $3 \
     WHERE run_id IN (SELECT run_id FROM free) RETURNING ",
    run_columns!(),
    ", lease_epoch, inbox_read"
);

/// A run whose owner fell silent is due again.
const SWEEP: &str = "UPDATE runs SET lease_owner = NULL, lease_expires_at = NULL, wake_at = {now} WHERE run_id IN ( \
    SELECT run_id FROM runs WHERE lease_owner IS NOT NULL AND lease_expires_at <= {now}{lock}) RETURNING run_id";

const RELEASE_ALL: &str = "UPDATE runs SET lease_owner = NULL, lease_expires_at = NULL, wake_at = {now} \
    WHERE lease_owner IS NOT NULL RETURNING run_id";

const RELEASE_NODE: &str = "UPDATE runs SET lease_owner = NULL, lease_expires_at = NULL, wake_at = {now} \
    WHERE lease_owner = $2";

const RENEW: Bulk = Bulk {
    head: "WITH given (now_us, lease_us, node) AS (VALUES ({now}, ?, ?)) \
        UPDATE runs SET lease_expires_at = given.now_us + given.lease_us FROM given,",
    columns: &[Text, Number],
    tail: "WHERE runs.run_id = v.column1 AND runs.lease_epoch = v.column2 AND runs.lease_owner = given.node \
        RETURNING run_id, lease_epoch, inbox",
};

const SELECT_UNREAD: &str = "SELECT run_id FROM runs WHERE lease_owner = $1 AND inbox > inbox_read";

const NEXT_WAKE: &str = concat!(
    "WITH RECURSIVE ",
    waiting_tenants!(),
    ", room AS MATERIALIZED ({rooms_1}) \
     SELECT MIN(earliest) FROM (SELECT (SELECT MIN(r.wake_at) FROM runs r WHERE r.tenant_id = w.tenant_id \
     AND r.wake_at IS NOT NULL AND r.lease_owner IS NULL) AS earliest FROM waiting w WHERE w.tenant_id IS NOT NULL \
     AND NOT EXISTS (SELECT 1 FROM room WHERE room.tenant_id = w.tenant_id AND room.free <= 0)) t"
);

/// How many more runs of each tenant a node takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rooms {
    /// Of single tenants.
    pub of: HashMap<TenantId, u32>,
    /// Of each tenant that is not named.
    pub default: u32,
}

impl Default for Rooms {
    /// As many as are wanted.
    fn default() -> Self {
        Self { of: HashMap::new(), default: u32::MAX }
    }
}

impl Rooms {
    /// The tenants that have less room than that, or more than those not named, as a JSON object.
    fn below(&self, want: u32) -> String {
        let tight = self.of.iter().filter(|(_, room)| **room < want || **room > self.default);
        json(&tight.collect::<HashMap<_, _>>())
    }
}

impl Store {
    /// Takes up to `want` due runs for a node, in fair order. Runs whose lease expired count as due.
    pub async fn claim(&self, node: &NodeId, want: u32, lease_for: Duration) -> Result<Vec<ClaimedRun>, StoreError> {
        self.claim_within(node, want, lease_for, &Rooms::default()).await
    }

    /// The same, with at most so many runs of each tenant as it has room for.
    pub async fn claim_within(
        &self,
        node: &NodeId,
        want: u32,
        lease_for: Duration,
        rooms: &Rooms,
    ) -> Result<Vec<ClaimedRun>, StoreError> {
        let mut tx = self.shared.database.begin().await?;
        if self.sweep_is_due() {
            let mut values = Values::default();
            values.maybe_number(self.shared.database.now());
            let swept = tx.rows(SWEEP, values).await?.len();
            if swept > 0 {
                tracing::warn!(runs = swept, "runs of processes that fell silent go on: they are taken up now");
            }
        }
        let mut values = Values::default();
        values.maybe_number(self.shared.database.now()).text(&node.0).number(lease_for.as_micros()).number(want);
        values.text(rooms.below(want)).number(rooms.default);
        let rows = tx.rows(CLAIM, values).await?;
        tx.commit().await?;
        rows.iter().map(claimed_run).collect()
    }

    /// The runs that the node holds and that were sent a signal which their journal does not cover yet.
    pub async fn unread(&self, node: &NodeId) -> Result<Vec<RunId>, StoreError> {
        let mut values = Values::default();
        values.text(&node.0);
        self.shared.database.rows(SELECT_UNREAD, values).await?.iter().map(|row| id(row, 0)).collect()
    }

    /// Extends leases. Those missing from the answer are lost.
    pub async fn renew(
        &self,
        node: &NodeId,
        leases: &[Lease],
        lease_for: Duration,
    ) -> Result<Vec<Renewed>, StoreError> {
        let mut tries = 1;
        loop {
            match self.try_renew(node, leases, lease_for).await {
                Err(error) if error.is_conflict() && tries < CONFLICT_TRIES_MAX => tries += 1,
                answer => return answer,
            }
        }
    }

    async fn try_renew(
        &self,
        node: &NodeId,
        leases: &[Lease],
        lease_for: Duration,
    ) -> Result<Vec<Renewed>, StoreError> {
        let now = self.shared.database.now();
        let head = |values: &mut Values| {
            values.maybe_number(now).number(lease_for.as_micros()).text(&node.0);
        };
        let put = |lease: &Lease, values: &mut Values| {
            values.id(lease.run).number(lease.epoch);
        };
        let mut ordered = leases.to_vec();
        ordered.sort_unstable_by_key(|lease| lease.run);
        let mut tx = self.shared.database.begin().await?;
        let rows = tx.bulk(&RENEW, head, &ordered, put).await?;
        tx.commit().await?;
        let renewed = |row: &AnyRow| {
            let lease = Lease { run: id(row, 0)?, epoch: number(row, 1)? };
            Ok(Renewed { lease, inbox: number(row, 2)? })
        };
        rows.iter().map(renewed).collect()
    }

    /// When the next run that no node holds wants to wake; a time that has passed means that one is due.
    pub async fn next_wake(&self) -> Result<Option<Timestamp>, StoreError> {
        self.next_wake_within(&Rooms::default()).await
    }

    /// The same, passing over the tenants that have no room.
    pub async fn next_wake_within(&self, rooms: &Rooms) -> Result<Option<Timestamp>, StoreError> {
        let mut values = Values::default();
        values.text(rooms.below(1));
        maybe_time(&self.shared.database.row(NEXT_WAKE, values).await?, 0)
    }

    /// Takes all leases back: for the one process that holds a data folder, which thereby knows that all others ended.
    pub(crate) async fn release_all(&self) -> Result<(), StoreError> {
        let mut tx = self.shared.database.begin().await?;
        let mut values = Values::default();
        values.maybe_number(self.shared.database.now());
        let released = tx.rows(RELEASE_ALL, values).await?.len();
        tx.commit().await?;
        if released > 0 {
            tracing::info!(runs = released, "runs that the process before left under way go on");
        }
        Ok(())
    }

    /// Gives the leases of a node back that does nothing any more: its runs are due at once.
    pub async fn release(&self, node: &NodeId) -> Result<(), StoreError> {
        let mut tx = self.shared.database.begin().await?;
        let mut values = Values::default();
        values.maybe_number(self.shared.database.now()).text(&node.0);
        tx.rows(RELEASE_NODE, values).await?;
        tx.commit().await?;
        self.shared.wake.news();
        Ok(())
    }

    fn sweep_is_due(&self) -> bool {
        let (clock, swept_at) = (self.shared.database.clock(), &self.shared.swept_at);
        let now = clock.now().as_micros();
        let last = swept_at.load(Ordering::Relaxed);
        let every = i64::try_from(SWEEP_EVERY.as_micros()).unwrap_or(i64::MAX);
        // A clock that was set back must not put it off.
        let is_due = !clock.is_system() || !(last..last.saturating_add(every)).contains(&now);
        if is_due {
            swept_at.store(now, Ordering::Relaxed);
        }
        is_due
    }
}

fn claimed_run(row: &AnyRow) -> Result<ClaimedRun, StoreError> {
    let record = run_record(row)?;
    let lease = Lease { run: record.run, epoch: number(row, RUN_COLUMNS)? };
    Ok(ClaimedRun { lease, record, inbox_read: number(row, RUN_COLUMNS + 1)? })
}
