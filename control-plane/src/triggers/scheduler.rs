//! The scheduler: starts what is due, once for each due time, whatever number of processes does this.
//!
//! A due time is worked on in two steps: its run is started under a key that names schedule and due time, then the schedule
//! is moved on to its next due time, if it still stands where it was read. Whoever dies between the two leaves the due time
//! as it was; whoever comes second starts nothing, as the key is there. So no process has to know of another.

use super::{
    schedules::{self, Overlap, Schedule},
    system,
};
use crate::{
    access::{
        AccessError, ProjectRole,
        audit::{self, Entry},
        entry::Reach,
        projects, tenants, tokens,
    },
    app::App,
    operations::{OperationError, Project},
};
use agentruntime_engine::{
    database::{Database, Values, maybe_time},
    node::{Node, StartError, StartKey},
    store::{Store, StoreError},
};
use agentruntime_host_api::{RunId, Timestamp};
use futures_util::StreamExt;
use std::{collections::VecDeque, iter, sync::Arc, time::Duration};

/// How often schedules are looked at that others made or changed, and those that wait for a run to end.
const POLL: Duration = Duration::from_secs(2);
/// How late a due time may be started although missed ones are not made up for: a restart, or a busy minute.
const GRACE: Duration = Duration::from_secs(60);
/// Missed due times that are made up for; older ones are given up. An outage should not end in a flood.
const CATCH_UP_MAX: usize = 100;
/// How long a due time's key is known: far longer than any process that read it before works on it.
const KEY_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Schedules read together.
const BATCH: u32 = 100;
/// Schedules worked on at once: each waits for its start to be durable, and those share commits.
const AT_ONCE: usize = 16;
/// The least between two due times.
const MINUTE: Duration = Duration::from_secs(60);

const DUE: &str = concat!(
    "SELECT ",
    schedules::columns!(),
    " FROM schedules WHERE is_enabled = 1 AND (next_due <= $1 OR queued_due IS NOT NULL) AND schedule_id > $2 \
     ORDER BY schedule_id LIMIT $3"
);

const NEXT: &str = "SELECT MIN(next_due) FROM schedules WHERE is_enabled = 1 AND next_due > $1";

const MOVE_ON: &str = "UPDATE schedules SET next_due = $5, queued_due = $6, last_due = $7, last_run_id = $8, last_error = $9 \
    WHERE schedule_id = $1 AND updated_at = $2 AND next_due = $3 AND COALESCE(queued_due, 0) = $4 RETURNING schedule_id";

/// For a run that was started although the schedule was moved on by somebody who saw it otherwise.
const NOTE_RUN: &str = "UPDATE schedules SET last_due = $2, last_run_id = $3 \
    WHERE schedule_id = $1 AND (last_due IS NULL OR last_due < $2)";

/// Starts what is due, on one node.
pub(crate) struct Scheduler<'a> {
    store: &'a Store,
    node: &'a Node,
}

/// What became of a due time.
enum Outcome {
    Started(RunId),
    Failed(String),
}

/// Works until the service drains.
pub(crate) async fn run(app: Arc<App>) {
    let scheduler = Scheduler::new(&app.store, &app.node);
    loop {
        let wait = match scheduler.work().await {
            Ok(next) => next.map_or(POLL, |next| next.since(app.database().time()).min(POLL)),
            Err(error) => {
                if !error.is_outage() {
                    tracing::error!(%error, "schedules could not be read; trying again");
                }
                POLL
            }
        };
        tokio::select! {
            () = app.draining.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl<'a> Scheduler<'a> {
    /// A scheduler that starts runs on this node.
    pub(crate) fn new(store: &'a Store, node: &'a Node) -> Self {
        Self { store, node }
    }

    /// Works on everything that is due now. Tells when the next is.
    pub(crate) async fn work(&self) -> Result<Option<Timestamp>, StoreError> {
        let now = self.database().time();
        let mut after = String::new();
        loop {
            let batch = self.due(now, &after).await?;
            let Some(last) = batch.last() else { break };
            after = last.id.to_string();
            futures_util::stream::iter(batch).for_each_concurrent(AT_ONCE, |schedule| self.tend(schedule, now)).await;
        }
        let mut values = Values::default();
        values.number(now.as_micros());
        maybe_time(&self.database().row(NEXT, values).await?, 0)
    }

    async fn due(&self, now: Timestamp, after: &str) -> Result<Vec<Schedule>, StoreError> {
        let mut values = Values::default();
        values.number(now.as_micros()).text(after).number(BATCH);
        self.database().rows(DUE, values).await?.iter().map(schedules::schedule).collect()
    }

    /// Works on one schedule. What fails here is tried again: the schedule still stands where it was.
    async fn tend(&self, schedule: Schedule, now: Timestamp) {
        let id = schedule.id;
        if let Err(error) = self.work_on(schedule, now).await {
            tracing::error!(schedule = %id, %error, "a schedule could not be worked on; trying again");
        }
    }

    async fn work_on(&self, mut schedule: Schedule, now: Timestamp) -> Result<(), OperationError> {
        if let Some(queued) = schedule.queued_due
            && !self.is_under_way(&schedule).await?
        {
            let mut next = schedule.clone();
            next.queued_due = None;
            if !self.start_and_move_on(&schedule, &mut next, queued).await? {
                return Ok(());
            }
            schedule = next;
        }
        if schedule.next_due > now {
            return Ok(());
        }
        let (times, then) = to_be_done(&schedule, now);
        let mut following = times.iter().skip(1).copied().chain(iter::once(then));
        for due in &times {
            let mut next = schedule.clone();
            next.next_due = following.next().unwrap_or(then);
            let has_moved = match self.may_start(&schedule).await? {
                true => self.start_and_move_on(&schedule, &mut next, *due).await?,
                false => {
                    match schedule.terms.overlap {
                        Overlap::Queue => next.queued_due = schedule.queued_due.or(Some(*due)),
                        Overlap::Skip | Overlap::Allow => {
                            (next.last_due, next.last_error) = (Some(*due), Some(still_under_way(schedule.last_run)));
                        }
                    }
                    self.move_on(&schedule, &next).await?
                }
            };
            if !has_moved {
                return Ok(());
            }
            schedule = next;
        }
        if times.is_empty() {
            let mut next = schedule.clone();
            next.next_due = then;
            self.move_on(&schedule, &next).await?;
        }
        Ok(())
    }

    /// Whether a due time starts a run now, and is neither left out nor made to wait.
    async fn may_start(&self, schedule: &Schedule) -> Result<bool, OperationError> {
        match schedule.terms.overlap {
            Overlap::Allow => Ok(true),
            Overlap::Skip | Overlap::Queue => Ok(schedule.queued_due.is_none() && !self.is_under_way(schedule).await?),
        }
    }

    /// Whether the last run has not ended.
    async fn is_under_way(&self, schedule: &Schedule) -> Result<bool, OperationError> {
        let Some(run) = schedule.last_run else { return Ok(false) };
        match self.project(schedule).run(run).await {
            Ok(record) => Ok(!record.status.is_final()),
            Err(OperationError::UnknownRun(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Starts the run of a due time and moves the schedule on; tells whether it was this that moved it.
    async fn start_and_move_on(
        &self,
        schedule: &Schedule,
        next: &mut Schedule,
        due: Timestamp,
    ) -> Result<bool, OperationError> {
        match self.start(schedule, due).await? {
            Outcome::Started(run) => {
                (next.last_due, next.last_run, next.last_error) = (Some(due), Some(run), None);
                let has_moved = self.move_on(schedule, next).await?;
                if !has_moved {
                    let mut values = Values::default();
                    values.id(schedule.id).number(due.as_micros()).id(run);
                    self.database().write(NOTE_RUN, values).await?;
                }
                Ok(has_moved)
            }
            Outcome::Failed(reason) => {
                if schedule.last_error.as_ref() != Some(&reason) {
                    tracing::warn!(schedule = %schedule.id, %due, %reason, "a schedule started no run");
                }
                (next.last_due, next.last_error) = (Some(due), Some(reason));
                self.move_on(schedule, next).await
            }
        }
    }

    /// Starts the run of a due time, or finds it started. What fails for a reason that stays is an outcome.
    async fn start(&self, schedule: &Schedule, due: Timestamp) -> Result<Outcome, OperationError> {
        if !self.owner_may_start(schedule).await? {
            return Ok(Outcome::Failed(OWNER_GONE.to_owned()));
        }
        if let Some(pat) = schedule.by_pat
            && !tokens::is_live(self.database(), pat).await?
        {
            return Ok(Outcome::Failed(TOKEN_GONE.to_owned()));
        }
        let project = self.project(schedule);
        let started = match project.live_workflow(&schedule.workflow).await {
            Ok(live) => {
                let mut request = schedule.terms.params.clone().request(schedule.workflow.clone(), "schedule");
                let name = format!("schedule:{}:{}", schedule.id, due.as_micros());
                request.keys.push(StartKey { name, digest: String::new(), keep: KEY_KEPT });
                request.user = Some(schedule.owner.to_string());
                request.pat = schedule.by_pat.map(|pat| pat.to_string());
                request.due_at = Some(due);
                request.version = project.version_to_start(&live, request.version).await?;
                project.start(self.node, request).await
            }
            Err(error) => Err(error),
        };
        match started {
            Ok(run) | Err(OperationError::Start(StartError::Repeated { run, .. })) => Ok(Outcome::Started(run)),
            // The database, or this node, may do it in a moment.
            Err(error @ (OperationError::Store(_) | OperationError::Start(StartError::Stopping(_)))) => Err(error),
            Err(error) => Ok(Outcome::Failed(error.to_string())),
        }
    }

    /// Whether the schedule's owner could start a run there by hand.
    async fn owner_may_start(&self, schedule: &Schedule) -> Result<bool, OperationError> {
        let (owner, scope) = (schedule.owner, &schedule.scope);
        let found = async {
            let Some(tenant) = tenants::entered(self.database(), owner, scope.tenant.as_str()).await? else {
                return Ok(None);
            };
            projects::entered(self.database(), owner, tenant, scope.project.as_str(), Reach::InUse).await
        };
        match found.await {
            Ok(place) => Ok(place.is_some_and(|place| place.role >= ProjectRole::Contributor)),
            Err(AccessError::Store(error)) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    /// Writes where the schedule stands now, if it still stands where it was read. A failure that is not the one before is
    /// written to the audit log with it.
    async fn move_on(&self, seen: &Schedule, next: &Schedule) -> Result<bool, OperationError> {
        let mut values = Values::default();
        values.id(seen.id).number(seen.updated_at.as_micros()).number(seen.next_due.as_micros());
        values.number(seen.queued_due.map_or(0, Timestamp::as_micros)).number(next.next_due.as_micros());
        values.maybe_number(next.queued_due.map(Timestamp::as_micros));
        values.maybe_number(next.last_due.map(Timestamp::as_micros));
        values.maybe_text(next.last_run.map(|run| run.to_string())).maybe_text(next.last_error.clone());
        let mut tx = self.database().begin().await?;
        if tx.row(MOVE_ON, values).await?.is_none() {
            return Ok(false);
        }
        if let Some(reason) = next.last_error.as_ref().filter(|_| next.last_error != seen.last_error) {
            let details = serde_json::json!({ "reason": reason, "due": next.last_due.map(|due| due.to_string()) });
            let entry = Entry { action: "schedule.failed", target: seen.id.to_string(), details };
            let now = self.database().time().as_micros();
            let recorded = audit::record(&mut tx, &seen.scope.tenant, &system(seen.owner), entry, now).await;
            recorded.map_err(|error| match error {
                AccessError::Store(error) => error,
                other => StoreError::Corrupt(other.to_string()),
            })?;
        }
        tx.commit().await?;
        Ok(true)
    }

    fn project(&self, schedule: &Schedule) -> Project {
        Project { store: self.store.clone(), scope: schedule.scope.clone() }
    }

    fn database(&self) -> &Database {
        self.store.database()
    }
}

/// The same for each due time that one run keeps from starting, so that it is written to the audit log once.
fn still_under_way(run: Option<RunId>) -> String {
    let run = run.map_or_else(|| "before".to_owned(), |run| run.to_string());
    format!("left out, as `overlap` is `skip`: the run {run} has not ended")
}

const OWNER_GONE: &str = "who made or changed this schedule last may not start runs in this project any more; change it, and it runs in your name";

const TOKEN_GONE: &str = "the token by which this schedule was made or changed last was revoked or has expired; change the schedule by another one, or in a session";

/// The due times up to now that are to be started, and the one after now.
fn to_be_done(schedule: &Schedule, now: Timestamp) -> (Vec<Timestamp>, Timestamp) {
    // What was accepted is read again; if a newer program cannot, nothing comes due until somebody changes it.
    let never = Timestamp::from_micros(i64::MAX);
    let Ok(due) = schedule.terms.due_times() else { return (Vec::new(), never) };
    let then = due.after(now).unwrap_or(never);
    let wanted = if schedule.terms.catch_up { CATCH_UP_MAX } else { 1 };
    let mut times = newest(schedule.next_due, now, wanted, |moment| due.all_after(moment));
    if !schedule.terms.catch_up {
        times.retain(|time| now.since(*time) <= GRACE);
    }
    (times.into(), then)
}

/// The newest due times from `first` up to now. Walks over so much of the past only as holds them: after a year's outage,
/// not over the year.
fn newest<I: Iterator<Item = Timestamp>>(
    first: Timestamp,
    now: Timestamp,
    wanted: usize,
    all_after: impl Fn(Timestamp) -> I,
) -> VecDeque<Timestamp> {
    let mut span = MINUTE * u32::try_from(wanted).unwrap_or(u32::MAX);
    loop {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let from = Timestamp::from_micros(now.as_micros().saturating_sub(micros));
        let is_all = from < first;
        let start = if is_all { first } else { from };
        let whole = is_all.then_some(first).into_iter().chain(all_after(start)).take_while(|time| *time <= now);
        let mut found = VecDeque::with_capacity(wanted);
        for time in whole {
            if found.len() == wanted {
                found.pop_front();
            }
            found.push_back(time);
        }
        if is_all || found.len() == wanted {
            return found;
        }
        span = span.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests;
