//! Runs as the outside sees them: created, looked up, their events read.

use super::{
    Chunk, NewRun, NodeId, Release, Repeated, RowUpdate, RunRecord, Scope, Store, journal::CONFLICT_TRIES_MAX,
    start_keys, storage::StorageChange,
};
use crate::database::{
    Access, Bulk, Number, StoreError, Text, Tx, Values, document, id, json, maybe_id, maybe_text, maybe_time, number,
    text, time,
};
use crate::run::{
    Awaiting,
    event::{Event, RunStatus},
};
use agentruntime_host_api::{ProjectId, RunId, TenantId, WorkflowId};
use futures_util::TryStreamExt;
use sqlx::any::AnyRow;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// Events on one page: a page is held in memory and sent as one answer.
pub const EVENTS_MAX: u32 = 1_000;
/// What the documents of the events on one page take, where they are more than one event.
pub const EVENTS_BYTES_MAX: usize = 1 << 20;

/// The columns that [`run_record`] reads, in its order.
macro_rules! run_columns {
    () => {
        "run_id, tenant_id, project_id, workflow_id, version, status, awaiting, started_at, finished_at, error, last_seq, \
         parent_run_id, trigger_type, user_id, external_user_id, pat_id"
    };
}
pub(crate) use run_columns;

/// How many they are: where a query's own columns begin.
pub(crate) const RUN_COLUMNS: usize = 16;

const SELECT_RUN: &str =
    concat!("SELECT ", run_columns!(), " FROM runs WHERE tenant_id = $1 AND project_id = $2 AND run_id = $3");

/// The lengths stand beside the texts, so that no text is read for them.
const SELECT_RUN_BYTES: &str =
    "SELECT CAST(COALESCE(SUM(octet_length(body)), 0) AS BIGINT) FROM run_events WHERE run_id = $1";

const RUN_EXISTS: &str = "SELECT last_seq FROM runs WHERE tenant_id = $1 AND project_id = $2 AND run_id = $3";

/// The chunk that holds event `$2` + 1 and those after it. The start is looked up first, so that the end of a long
/// journal is read without walking there.
const SELECT_CHUNKS: &str = "SELECT body FROM run_events WHERE run_id = $1 AND first_seq >= COALESCE( \
    (SELECT MAX(first_seq) FROM run_events WHERE run_id = $1 AND first_seq <= $2 + 1), 0) ORDER BY first_seq LIMIT $3";

const SELECT_JOURNAL: &str = "SELECT body FROM run_events WHERE run_id = $1 ORDER BY first_seq";

const INSERT_RUNS: Bulk = Bulk {
    head: "WITH given (now_us, lease_us) AS (VALUES ({now}, ?)) \
        INSERT INTO runs (run_id, tenant_id, project_id, workflow_id, version, parent_run_id, started_at, last_seq, \
        status, awaiting, finished_at, error, lease_owner, lease_epoch, lease_expires_at, wake_at, \
        priority, inbox, inbox_read, trigger_type, user_id, external_user_id, pat_id) \
        SELECT column1, column2, column3, column4, column5, column6, column7, column8, \
        column9, column10, column11, column12, column13, column14, \
        CASE WHEN column13 IS NULL THEN NULL ELSE now_us + lease_us END, \
        CASE WHEN column15 = 1 THEN now_us ELSE column16 END, 0, 0, 0, column17, column18, column19, column20 FROM given,",
    columns: &[
        Text, Text, Text, Text, Number, Text, Number, Number, Text, Text, Number, Text, Text, Number, Number, Number,
        Text, Text, Text, Text,
    ],
    tail: "WHERE column1 IS NOT NULL ON CONFLICT (run_id) DO NOTHING RETURNING run_id",
};

const INSERT_EVENTS: Bulk = Bulk {
    head: "INSERT INTO run_events (run_id, first_seq, last_seq, body) SELECT column1, column2, column3, column4 FROM",
    columns: &[Text, Number, Number, Text],
    tail: "WHERE column1 IS NOT NULL",
};

impl Store {
    /// Accepts a run: pending, and claimable at once. An id that exists is [`StoreError::AlreadyExists`], a key that was
    /// used before [`StoreError::Repeated`].
    pub async fn create_run(&self, new: NewRun) -> Result<(), StoreError> {
        let mut tries = 1;
        loop {
            match self.try_create_run(&new).await {
                // Starts with several keys may take them crosswise.
                Err(error) if error.is_conflict() && tries < CONFLICT_TRIES_MAX => tries += 1,
                answer => return answer,
            }
        }
    }

    async fn try_create_run(&self, new: &NewRun) -> Result<(), StoreError> {
        let mut tx = self.shared.database.begin().await?;
        let created = create(&mut tx, vec![RunRow::pending(new)], self.shared.database.now(), Duration::ZERO).await?;
        // Dropping the transaction takes the keys back.
        if let Some(&Repeated { run, same }) = created.repeated.get(&new.run) {
            return Err(StoreError::Repeated { run, same });
        }
        if created.inserted.is_empty() {
            return Err(StoreError::AlreadyExists);
        }
        insert_events(&mut tx, &[(new.run, &new.events)]).await?;
        let mut storage = StorageChange::default();
        storage.add(new.scope.tenant.as_str(), &new.events);
        storage.write(&mut tx, new.run.to_string()).await?;
        tx.commit().await?;
        self.shared.wake.news();
        Ok(())
    }

    /// One run.
    pub async fn run(&self, scope: &Scope, run: RunId) -> Result<RunRecord, StoreError> {
        run_record(&self.shared.database.row(SELECT_RUN, key(scope, run)).await?)
    }

    /// Events after number `after_seq`: at most `limit`, at most [`EVENTS_MAX`], and those whose documents fit
    /// [`EVENTS_BYTES_MAX`], but one where there is one. Only an empty page is the last.
    pub async fn events(
        &self,
        scope: &Scope,
        run: RunId,
        after_seq: u64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        self.shared.database.row(RUN_EXISTS, key(scope, run)).await?;
        let limit = limit.min(EVENTS_MAX);
        let mut values = Values::default();
        // One chunk more than events are wanted: the first may end just where the page begins.
        values.id(run).number(after_seq).number(limit + 1);
        let (sql, reader) = self.shared.database.reading(SELECT_CHUNKS);
        let read = async {
            let mut chunks = sqlx::query_with(sql, values.into_arguments()).fetch(reader);
            let mut page = Vec::new();
            let mut bytes = 0;
            while page.len() < limit as usize
                && bytes < EVENTS_BYTES_MAX
                && let Some(row) = chunks.try_next().await?
            {
                let events: Vec<Event> = document(text(&row, 0)?)?;
                for event in events.into_iter().filter(|event| event.seq > after_seq) {
                    let of_event = event.kind.document_bytes();
                    // The first comes whatever its size, or nobody could read on.
                    if page.len() < limit as usize && (page.is_empty() || bytes + of_event <= EVENTS_BYTES_MAX) {
                        bytes += of_event;
                        page.push(event);
                    } else {
                        return Ok(page);
                    }
                }
            }
            Ok(page)
        };
        self.shared.database.guard(Access::Read, read).await
    }

    /// How many bytes the events of a run take.
    pub async fn run_bytes(&self, run: RunId) -> Result<u64, StoreError> {
        let mut values = Values::default();
        values.id(run);
        number(&self.shared.database.row(SELECT_RUN_BYTES, values).await?, 0)
    }

    /// The whole journal of a run, for the node that owns it.
    pub async fn journal(&self, run: RunId) -> Result<Vec<Event>, StoreError> {
        let mut values = Values::default();
        values.id(run);
        let mut journal = Vec::new();
        for row in self.shared.database.rows(SELECT_JOURNAL, values).await? {
            let mut events: Vec<Event> = document(text(&row, 0)?)?;
            journal.append(&mut events);
        }
        Ok(journal)
    }
}

/// A row to be inserted.
pub(crate) struct RunRow<'n> {
    pub(crate) new: &'n NewRun,
    pub(crate) last_seq: u64,
    pub(crate) update: Option<&'n RowUpdate>,
    /// The node that creates the run, and whether it lets go of it in the same breath.
    pub(crate) node: Option<(&'n NodeId, Option<Release>)>,
}

impl<'n> RunRow<'n> {
    /// A run for any node to claim.
    pub(crate) fn pending(new: &'n NewRun) -> Self {
        Self { new, last_seq: new.events.last_seq, update: None, node: None }
    }

    fn put(&self, values: &mut Values) {
        let Self { new, last_seq, update, node } = self;
        values.id(new.run).scope(&new.scope).text(new.workflow.as_str()).number(new.version);
        values.maybe_text(new.parent.map(|parent| parent.to_string()));
        values.number(new.started_at.as_micros()).number(*last_seq);
        put_row_update(*update, values);
        let (owner, epoch, wake_now, wake_at) = match node {
            None => (None, 0, 1, None),
            Some((node, None)) => (Some(node.0.as_str()), 1, 1, None),
            Some((_, Some(release))) => (None, 1, 0, release.wake_at),
        };
        values.maybe_text(owner).number(epoch).number(wake_now);
        values.maybe_number(wake_at.map(|at| at.as_micros()));
        values.text(&new.trigger_type).maybe_text(new.user_id.as_deref());
        values.maybe_text(new.external_user_id.as_ref().map(json)).maybe_text(new.pat_id.as_deref());
    }
}

/// Status, awaiting, finished at, error.
pub(crate) fn put_row_update(update: Option<&RowUpdate>, values: &mut Values) {
    values.text(update.map_or(RunStatus::Pending, |update| update.status).as_str());
    values.maybe_text(update.and_then(|update| update.awaiting).map(Awaiting::as_str));
    values.maybe_number(update.and_then(|update| update.finished_at).map(|at| at.as_micros()));
    values.maybe_text(update.and_then(|update| update.error.as_ref()).map(json));
}

/// What became of rows that were to be created. Those in neither set have an id that exists.
pub(crate) struct Created {
    pub(crate) inserted: HashSet<RunId>,
    pub(crate) repeated: HashMap<RunId, Repeated>,
}

/// Inserts the rows whose ids are new and whose keys, if they have any, are free; takes those keys. No key occurs twice
/// among the rows.
pub(crate) async fn create(
    tx: &mut Tx<'_>,
    mut rows: Vec<RunRow<'_>>,
    now: Option<i64>,
    lease_for: Duration,
) -> Result<Created, StoreError> {
    let repeated = start_keys::take(tx, rows.iter().map(|row| row.new), now).await?;
    rows.retain(|row| !repeated.contains_key(&row.new.run));
    let inserted = insert_runs(tx, &rows, now, lease_for).await?;
    let refused = rows.iter().map(|row| row.new).filter(|new| !inserted.contains(&new.run));
    start_keys::give_back(tx, refused).await?;
    Ok(Created { inserted, repeated })
}

/// Inserts the rows whose ids are new, and tells which.
pub(crate) async fn insert_runs(
    tx: &mut Tx<'_>,
    rows: &[RunRow<'_>],
    now: Option<i64>,
    lease_for: Duration,
) -> Result<HashSet<RunId>, StoreError> {
    let head = |values: &mut Values| {
        values.maybe_number(now).number(lease_for.as_micros());
    };
    let inserted = tx.bulk(&INSERT_RUNS, head, rows, RunRow::put).await?;
    inserted.iter().map(|row| id(row, 0)).collect()
}

/// Appends chunks to journals.
pub(crate) async fn insert_events(tx: &mut Tx<'_>, chunks: &[(RunId, &Chunk)]) -> Result<(), StoreError> {
    let put = |(run, chunk): &(RunId, &Chunk), values: &mut Values| {
        values.id(run).number(chunk.first_seq).number(chunk.last_seq).text(&chunk.body);
    };
    tx.bulk(&INSERT_EVENTS, |_| {}, chunks, put).await?;
    Ok(())
}

pub(crate) fn key(scope: &Scope, run: RunId) -> Values {
    let mut values = Values::default();
    values.scope(scope).id(run);
    values
}

pub(crate) fn run_record(row: &AnyRow) -> Result<RunRecord, StoreError> {
    let status = text(row, 5)?;
    let awaiting = maybe_text(row, 6)?;
    let unknown = |word: &str| StoreError::Corrupt(format!("`{word}` is no status"));
    Ok(RunRecord {
        run: id(row, 0)?,
        scope: Scope { tenant: TenantId::new(text(row, 1)?), project: ProjectId::new(text(row, 2)?) },
        workflow: WorkflowId::new(text(row, 3)?),
        version: number(row, 4)?,
        status: RunStatus::parse(status).ok_or_else(|| unknown(status))?,
        awaiting: awaiting.map(|word| Awaiting::parse(word).ok_or_else(|| unknown(word))).transpose()?,
        started_at: time(row, 7)?,
        finished_at: maybe_time(row, 8)?,
        error: maybe_text(row, 9)?.map(document).transpose()?,
        last_seq: number(row, 10)?,
        parent: maybe_id(row, 11)?,
        trigger_type: text(row, 12)?.to_owned(),
        user_id: maybe_text(row, 13)?.map(str::to_owned),
        external_user_id: maybe_text(row, 14)?.map(document).transpose()?,
        pat_id: maybe_text(row, 15)?.map(str::to_owned),
    })
}
