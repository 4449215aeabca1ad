//! Signals: messages to runs, numbered 1, 2, 3 … in the order in which they were sent.
//!
//! The number comes from the run's row, so that senders take turns on it and a node that lets go of the run sees in the
//! same row whether it has read all. A signal makes a run claimable, a finished one too: its owner decides what to do.

use super::{InboxSignal, Scope, Store};
use crate::database::{Bulk, Number, StoreError, Text, Tx, Values, document, id, json, number, text};
use crate::run::Signal;
use agentruntime_host_api::{ProjectId, RunId, TenantId};
use std::collections::HashMap;

const RING: &str = "UPDATE runs SET inbox = inbox + 1, wake_at = {now} \
    WHERE tenant_id = $2 AND project_id = $3 AND run_id = $4 RETURNING inbox";

const RING_MANY: Bulk = Bulk {
    head: "WITH given (now_us) AS (VALUES ({now})) \
        UPDATE runs SET inbox = inbox + v.column4, wake_at = given.now_us FROM given,",
    columns: &[Text, Text, Text, Number],
    tail: "WHERE runs.run_id = v.column1 AND runs.tenant_id = v.column2 AND runs.project_id = v.column3 \
        RETURNING run_id, inbox",
};

const INSERT_SIGNALS: Bulk = Bulk {
    head: "INSERT INTO signals (run_id, number, body) SELECT column1, column2, column3 FROM",
    columns: &[Text, Number, Text],
    tail: "WHERE column1 IS NOT NULL",
};

const DELETE_READ: Bulk = Bulk {
    head: "DELETE FROM signals WHERE (run_id, number) IN (SELECT s.run_id, s.number FROM",
    columns: &[Text, Number],
    tail: "JOIN signals s ON s.run_id = v.column1 AND s.number <= v.column2)",
};

const SCOPES_OF: Bulk = Bulk {
    head: "SELECT r.run_id, r.tenant_id, r.project_id FROM",
    columns: &[Text],
    tail: "JOIN runs r ON r.run_id = v.column1",
};

const SELECT_INBOX: &str =
    "SELECT number, body FROM signals WHERE run_id = $1 AND number > $2 ORDER BY number LIMIT $3";

/// Signals read at once: the rest follows in the next reading.
const INBOX_MAX: u32 = 1_000;

impl Store {
    /// Sends a signal to a run and makes it claimable.
    pub async fn signal(&self, scope: &Scope, run: RunId, signal: Signal) -> Result<(), StoreError> {
        let mut tx = self.shared.database.begin().await?;
        send(&mut tx, self.shared.database.now(), scope, run, &signal).await?;
        tx.commit().await?;
        self.shared.wake.news();
        Ok(())
    }

    /// The signals after number `after`, for the node that owns the run; at most 1,000 at once.
    pub async fn inbox(&self, run: RunId, after: u64) -> Result<Vec<InboxSignal>, StoreError> {
        let mut values = Values::default();
        values.id(run).number(after).number(INBOX_MAX);
        let rows = self.shared.database.rows(SELECT_INBOX, values).await?;
        rows.iter().map(|row| Ok(InboxSignal { number: number(row, 0)?, signal: document(text(row, 1)?)? })).collect()
    }
}

/// Puts one signal into the inbox of a run. Holds the run's row from here on.
pub(crate) async fn send(
    tx: &mut Tx<'_>,
    now: Option<i64>,
    scope: &Scope,
    run: RunId,
    signal: &Signal,
) -> Result<(), StoreError> {
    let mut values = Values::default();
    values.maybe_number(now).scope(scope).id(run);
    let row = tx.row(RING, values).await?.ok_or(StoreError::NotFound)?;
    let entry = (run, number(&row, 0)?, signal);
    insert(tx, &[entry]).await
}

/// Puts the signals of several senders into the inboxes of runs of the senders' own scopes, in their order. What is
/// addressed to a run that is not there is dropped. Tells whether anything was sent.
pub(crate) async fn send_many(
    tx: &mut Tx<'_>,
    now: Option<i64>,
    signals: &[(RunId, RunId, &Signal)],
) -> Result<bool, StoreError> {
    if signals.is_empty() {
        return Ok(false);
    }
    let scopes = scopes_of(tx, signals.iter().map(|(sender, ..)| *sender)).await?;
    let mut by_target: HashMap<(RunId, &Scope), Vec<&Signal>> = HashMap::new();
    for (sender, target, signal) in signals {
        if let Some(scope) = scopes.get(sender) {
            by_target.entry((*target, scope)).or_default().push(signal);
        }
    }
    let mut targets: Vec<_> = by_target.into_iter().collect();
    // In one order everywhere, rows are rarely locked crosswise.
    targets.sort_by_key(|((run, _), _)| *run);
    let put = |((run, scope), signals): &((RunId, &Scope), Vec<&Signal>), values: &mut Values| {
        values.id(run).scope(scope).number(signals.len());
    };
    let head = |values: &mut Values| {
        values.maybe_number(now);
    };
    let mut sent = HashMap::new();
    for row in tx.bulk(&RING_MANY, head, &targets, put).await? {
        sent.insert(id::<RunId>(&row, 0)?, number::<u64>(&row, 1)?);
    }
    let mut entries = Vec::new();
    for ((run, _), signals) in &targets {
        if let Some(last) = sent.get(run) {
            let first = last + 1 - signals.len() as u64;
            entries.extend((first..).zip(signals).map(|(number, signal)| (*run, number, *signal)));
        }
    }
    insert(tx, &entries).await?;
    Ok(!entries.is_empty())
}

async fn scopes_of(tx: &mut Tx<'_>, runs: impl Iterator<Item = RunId>) -> Result<HashMap<RunId, Scope>, StoreError> {
    let mut runs: Vec<RunId> = runs.collect();
    runs.sort();
    runs.dedup();
    let put = |run: &RunId, values: &mut Values| {
        values.id(run);
    };
    let mut scopes = HashMap::new();
    for row in tx.bulk(&SCOPES_OF, |_| {}, &runs, put).await? {
        let scope = Scope { tenant: TenantId::new(text(&row, 1)?), project: ProjectId::new(text(&row, 2)?) };
        scopes.insert(id(&row, 0)?, scope);
    }
    Ok(scopes)
}

async fn insert(tx: &mut Tx<'_>, entries: &[(RunId, u64, &Signal)]) -> Result<(), StoreError> {
    let put = |(run, number, signal): &(RunId, u64, &Signal), values: &mut Values| {
        values.id(run).number(*number).text(json(signal));
    };
    tx.bulk(&INSERT_SIGNALS, |_| {}, entries, put).await?;
    Ok(())
}

/// Deletes the signals that journals cover: run, and number of the last.
pub(crate) async fn delete_read(tx: &mut Tx<'_>, read: &[(RunId, u64)]) -> Result<(), StoreError> {
    let put = |(run, last): &(RunId, u64), values: &mut Values| {
        values.id(run).number(*last);
    };
    tx.bulk(&DELETE_READ, |_| {}, read, put).await?;
    Ok(())
}
