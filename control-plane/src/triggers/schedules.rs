//! Schedules of workflows: made, listed, changed, deleted.

use super::{
    ScheduleId, TriggerError,
    due::DueTimes,
    params::{GivenParams, StartParams},
};
use crate::{
    access::{
        AccessError, May, PatId, UserId,
        permission::WriteTriggers,
        role::{UnknownWord, words},
        rows::{self, Ceiling, check_room},
        tenants::word,
    },
    operations::Project,
};
use agentruntime_engine::{
    database::{Row, StoreError, Values, document, id, json, maybe_id, maybe_text, maybe_time, number, text, time},
    node::{Node, StartRequest},
    store::Scope,
};
use agentruntime_host_api::{ProjectId, RunId, TenantId, Timestamp, WorkflowId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// Schedules of one workflow: more than people look after.
pub(crate) const SCHEDULES_MAX: u32 = 100;

/// The columns that [`schedule`] reads, in its order.
macro_rules! columns {
    () => {
        "schedule_id, tenant_id, project_id, workflow_id, cron, timezone, start_params, overlap, catch_up, is_enabled, \
         next_due, queued_due, last_due, last_run_id, last_error, created_by, owner_id, created_at, updated_at, by_pat"
    };
}
pub(super) use columns;

const INSERT: &str = concat!(
    "INSERT INTO schedules (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULL, NULL, NULL, NULL, $12, $12, $13, $13, $14) RETURNING ",
    columns!()
);

const COUNT: &str = "SELECT COUNT(*) FROM schedules WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3";

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM schedules WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 \
     AND (created_at, schedule_id) > ($4, $5) ORDER BY created_at, schedule_id LIMIT $6"
);

const SELECT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM schedules WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 AND schedule_id = $4"
);

/// What waits to be started is given up with whatever was changed: it was due under other terms.
const UPDATE: &str = concat!(
    "UPDATE schedules SET cron = $5, timezone = $6, start_params = $7, overlap = $8, catch_up = $9, is_enabled = $10, \
     next_due = $11, queued_due = NULL, last_error = NULL, owner_id = $12, updated_at = $13, by_pat = $14 \
     WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 AND schedule_id = $4 AND updated_at = $15 RETURNING ",
    columns!()
);

const DELETE: &str = "DELETE FROM schedules \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 AND schedule_id = $4 RETURNING schedule_id";

words! {
    /// What happens at a due time while the run of an earlier one has not ended.
    Overlap {
        /// Nothing.
        Skip = "skip",
        /// One run waits for it, and no more than one.
        Queue = "queue",
        /// Another run starts beside it.
        Allow = "allow",
    }
}

/// A schedule.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// Its id.
    pub(crate) id: ScheduleId,
    /// Where it lies.
    pub(crate) scope: Scope,
    /// What it starts.
    pub(crate) workflow: WorkflowId,
    /// What was decided about it.
    pub(crate) terms: Terms,
    /// The due time that is to be worked on next.
    pub(crate) next_due: Timestamp,
    /// A due time that waits for the run before it to end.
    pub(crate) queued_due: Option<Timestamp>,
    /// The last due time that was worked on.
    pub(crate) last_due: Option<Timestamp>,
    /// The last run that it started.
    pub(crate) last_run: Option<RunId>,
    /// Why the last due time started none.
    pub(crate) last_error: Option<String>,
    /// Who made it.
    pub(crate) created_by: UserId,
    /// In whose name runs are started.
    pub(crate) owner: UserId,
    /// The token by which it was made or changed last, without which it starts nothing; none for a session.
    pub(crate) by_pat: Option<PatId>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it was changed last.
    pub(crate) updated_at: Timestamp,
}

/// What is decided about a schedule.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// When it comes due.
    pub(crate) cron: String,
    /// Where.
    pub(crate) timezone: String,
    /// With what.
    pub(crate) params: StartParams,
    /// What happens while an earlier run has not ended.
    pub(crate) overlap: Overlap,
    /// Whether times that were missed are made up for.
    pub(crate) catch_up: bool,
    /// Whether it comes due at all.
    pub(crate) is_enabled: bool,
}

/// What is to be different; what is not said stays.
#[derive(Default)]
pub(crate) struct Change {
    /// When it comes due.
    pub(crate) cron: Option<String>,
    /// Where.
    pub(crate) timezone: Option<String>,
    /// With what.
    pub(crate) params: GivenParams,
    /// What happens while an earlier run has not ended.
    pub(crate) overlap: Option<Overlap>,
    /// Whether times that were missed are made up for.
    pub(crate) catch_up: Option<bool>,
    /// Whether it comes due at all.
    pub(crate) is_enabled: Option<bool>,
}

/// Makes a schedule.
pub(crate) async fn create(
    project: &Project,
    node: &Node,
    may: &May<WriteTriggers>,
    workflow: &WorkflowId,
    terms: Terms,
) -> Result<Schedule, TriggerError> {
    let (database, scope) = (project.store.database(), &project.scope);
    let live = project.workflow(workflow).await?.not_archived()?;
    terms.check_start(project, node, workflow, live.published_version).await?;
    let now = database.time();
    let next_due = terms.next_due(now)?;
    let id = ScheduleId::new_v7();
    let mut tx = database.begin().await?;
    may.record(&mut tx, "schedule.create", id, terms.details(), now).await?;
    check_room(&mut tx, of(scope, workflow), ceiling()).await?;
    let mut values = Values::default();
    values.id(id).scope(scope).text(workflow.as_str());
    terms.put(&mut values);
    values.number(next_due.as_micros()).id(may.caller.user).number(now.as_micros()).maybe_text(may.pat());
    let row = tx.row(INSERT, values).await?.ok_or(StoreError::AlreadyExists)?;
    tx.commit().await?;
    Ok(schedule(&row)?)
}

/// Schedules of a workflow, in the order in which they were made.
pub(crate) async fn list(
    project: &Project,
    workflow: &WorkflowId,
    after: Option<(i64, Uuid)>,
    limit: u32,
) -> Result<Vec<Schedule>, TriggerError> {
    let values = rows::page(of(&project.scope, workflow), after, limit);
    Ok(project.store.database().rows(LIST, values).await?.iter().map(schedule).collect::<Result<_, _>>()?)
}

/// One schedule.
pub(crate) async fn get(project: &Project, workflow: &WorkflowId, id: ScheduleId) -> Result<Schedule, TriggerError> {
    let rows = project.store.database().rows(SELECT, key(&project.scope, workflow, id)).await?;
    Ok(schedule(rows.first().ok_or_else(|| unknown(id))?)?)
}

/// Changes a schedule, which from then on runs in the caller's name.
pub(crate) async fn change(
    project: &Project,
    node: &Node,
    may: &May<WriteTriggers>,
    workflow: &WorkflowId,
    id: ScheduleId,
    change: Change,
) -> Result<Schedule, TriggerError> {
    let (database, scope) = (project.store.database(), &project.scope);
    let old = get(project, workflow, id).await?;
    let now = database.time();
    // Whether what is started changes, and not only when.
    let is_of_start = change.params.is_any();
    let terms = change.over(old.terms.clone(), node, &scope.tenant).await?;
    if is_of_start {
        let live = project.workflow(workflow).await?;
        terms.check_start(project, node, workflow, live.published_version).await?;
    }
    // A due time that nobody has worked on yet stays, where it is still one.
    let next_due = match terms.comes_due_like(&old.terms) {
        true => terms.next_due(now).map(|_| old.next_due)?,
        false => terms.next_due(now)?,
    };
    let mut tx = database.begin().await?;
    may.record(&mut tx, "schedule.update", id, terms.details(), now).await?;
    let mut values = key(scope, workflow, id);
    terms.put(&mut values);
    values.number(next_due.as_micros()).id(may.caller.user).number(now.as_micros()).maybe_text(may.pat());
    values.number(old.updated_at.as_micros());
    let row = tx.row(UPDATE, values).await?.ok_or_else(overtaken)?;
    tx.commit().await?;
    Ok(schedule(&row)?)
}

/// Deletes a schedule. Its runs stay.
pub(crate) async fn delete(
    project: &Project,
    may: &May<WriteTriggers>,
    workflow: &WorkflowId,
    id: ScheduleId,
) -> Result<(), TriggerError> {
    let (database, scope, now) = (project.store.database(), &project.scope, project.store.database().time());
    let old = get(project, workflow, id).await?;
    let mut tx = database.begin().await?;
    may.record(&mut tx, "schedule.delete", id, old.terms.details(), now).await?;
    tx.row(DELETE, key(scope, workflow, id)).await?.ok_or_else(|| unknown(id))?;
    Ok(tx.commit().await?)
}

impl Terms {
    /// The first due time from now on.
    fn next_due(&self, now: Timestamp) -> Result<Timestamp, TriggerError> {
        let due = self.due_times().map_err(|error| {
            let field = if matches!(error, super::due::DueError::Zone(_)) { "timezone" } else { "cron" };
            TriggerError::invalid(field, error.to_string())
        })?;
        due.after(now).ok_or_else(|| TriggerError::invalid("cron", super::due::DueError::Never.to_string()))
    }

    /// Refuses a start that could never be, as far as the version in use tells: it would fail at each due time, when nobody
    /// looks. A workflow without a version is not known yet.
    async fn check_start(
        &self,
        project: &Project,
        node: &Node,
        workflow: &WorkflowId,
        version: Option<u32>,
    ) -> Result<(), TriggerError> {
        let Some(version) = version else { return Ok(()) };
        let request =
            StartRequest { version: Some(version), ..self.params.clone().request(workflow.clone(), "schedule") };
        Ok(node.check_start(&project.scope, request).await?)
    }

    /// When it comes due.
    pub(crate) fn due_times(&self) -> Result<DueTimes, super::due::DueError> {
        DueTimes::parse(&self.cron, &self.timezone)
    }

    fn comes_due_like(&self, old: &Self) -> bool {
        (&self.cron, &self.timezone) == (&old.cron, &old.timezone) && self.is_enabled && old.is_enabled
    }

    /// For the log, without what runs are started with: that may be large.
    fn details(&self) -> Value {
        serde_json::json!({
            "cron": self.cron,
            "timezone": self.timezone,
            "overlap": self.overlap,
            "catch_up": self.catch_up,
            "is_enabled": self.is_enabled,
        })
    }

    fn put(&self, values: &mut Values) {
        values.text(&self.cron).text(&self.timezone).text(json(&self.params)).text(self.overlap.as_str());
        values.number(self.catch_up).number(self.is_enabled);
    }
}

impl Change {
    async fn over(self, old: Terms, node: &Node, tenant: &TenantId) -> Result<Terms, TriggerError> {
        Ok(Terms {
            cron: self.cron.unwrap_or(old.cron),
            timezone: self.timezone.unwrap_or(old.timezone),
            params: self.params.over(old.params, node, tenant).await?,
            overlap: self.overlap.unwrap_or(old.overlap),
            catch_up: self.catch_up.unwrap_or(old.catch_up),
            is_enabled: self.is_enabled.unwrap_or(old.is_enabled),
        })
    }
}

fn ceiling() -> Ceiling {
    let message = format!("a workflow has at most {SCHEDULES_MAX} schedules; delete one first");
    Ceiling { count: COUNT, max: SCHEDULES_MAX, code: "TOO_MANY_SCHEDULES", message }
}

/// The schedules of a workflow: three values.
fn of(scope: &Scope, workflow: &WorkflowId) -> Values {
    let mut values = rows::of(scope);
    values.text(workflow.as_str());
    values
}

fn unknown(id: ScheduleId) -> AccessError {
    AccessError::NotFound { kind: "schedule", id: id.to_string() }
}

fn overtaken() -> AccessError {
    let message = "somebody else changed this schedule just now; read it and try again".to_owned();
    AccessError::Conflict { code: "CHANGED_MEANWHILE", message }
}

fn key(scope: &Scope, workflow: &WorkflowId, id: ScheduleId) -> Values {
    let mut values = Values::default();
    values.scope(scope).text(workflow.as_str()).id(id);
    values
}

/// Reads a row.
pub(super) fn schedule(row: &Row) -> Result<Schedule, StoreError> {
    Ok(Schedule {
        id: id(row, 0)?,
        scope: Scope { tenant: TenantId::new(text(row, 1)?), project: ProjectId::new(text(row, 2)?) },
        workflow: WorkflowId::new(text(row, 3)?),
        terms: Terms {
            cron: text(row, 4)?.to_owned(),
            timezone: text(row, 5)?.to_owned(),
            params: document(text(row, 6)?)?,
            overlap: word(row, 7)?,
            catch_up: number::<u8>(row, 8)? == 1,
            is_enabled: number::<u8>(row, 9)? == 1,
        },
        next_due: time(row, 10)?,
        queued_due: maybe_time(row, 11)?,
        last_due: maybe_time(row, 12)?,
        last_run: maybe_id(row, 13)?,
        last_error: maybe_text(row, 14)?.map(str::to_owned),
        created_by: id(row, 15)?,
        owner: id(row, 16)?,
        created_at: time(row, 17)?,
        updated_at: time(row, 18)?,
        by_pat: maybe_id(row, 19)?,
    })
}
