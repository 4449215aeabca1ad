//! Questions to people: opened and closed by runs, answered from outside.

use super::{LIST_MAX, Scope, Store, TaskCursor, TaskFilter, TaskRecord, inbox};
use crate::database::{Access, Bulk, Number, StoreError, Text, Tx, Values, document, id, json, maybe_time, text, time};
use crate::run::{Signal, TaskStatus, event::StepPath};
use agentruntime_host_api::{Json, RunId, TaskId, WorkflowId};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;

/// What the payloads of the tasks on one page take, where they are more than one task.
pub const TASKS_BYTES_MAX: usize = 1 << 20;

const SELECT_TASKS: &str = "SELECT task_id, run_id, status, created_at, due, body FROM tasks \
    WHERE tenant_id = $1 AND project_id = $2 AND ($3 IS NULL OR run_id = $3) AND ($4 IS NULL OR status = $4) \
    ORDER BY created_at, task_id LIMIT $5";

const SELECT_OPEN: &str = "SELECT t.task_id, t.run_id, t.status, t.created_at, t.due, t.body, r.workflow_id \
    FROM tasks t JOIN runs r ON r.run_id = t.run_id \
    WHERE t.tenant_id = $1 AND t.project_id = $2 AND t.status = 'pending' AND ($3 IS NULL OR t.run_id = $3) \
    AND (t.created_at, t.task_id) > ($4, $5) ORDER BY t.created_at, t.task_id LIMIT $6";

const SELECT_STATUS: &str =
    "SELECT status FROM tasks WHERE tenant_id = $1 AND project_id = $2 AND run_id = $3 AND task_id = $4";

const COMPLETE: &str = "UPDATE tasks SET status = 'completed' WHERE tenant_id = $1 AND project_id = $2 AND run_id = $3 \
    AND task_id = $4 AND status = 'pending' RETURNING task_id";

/// A question that is opened again, because its step is tried again, is the same row.
const OPEN: Bulk = Bulk {
    head: "INSERT INTO tasks (run_id, task_id, tenant_id, project_id, status, created_at, due, body) \
        SELECT r.run_id, column2, r.tenant_id, r.project_id, column3, column4, column5, column6 FROM",
    columns: &[Text, Text, Text, Number, Number, Text],
    tail: "JOIN runs r ON r.run_id = v.column1 WHERE column1 IS NOT NULL ON CONFLICT (run_id, task_id) DO UPDATE \
        SET status = excluded.status, created_at = excluded.created_at, due = excluded.due, body = excluded.body",
};

/// A question that a person has answered stays answered, whatever the run closes it with.
const CLOSE: Bulk = Bulk {
    head: "UPDATE tasks SET status = v.column3 FROM",
    columns: &[Text, Text, Text],
    tail: "WHERE tasks.run_id = v.column1 AND tasks.task_id = v.column2 AND tasks.status = 'pending'",
};

/// What a task's row keeps as one document: nothing selects by it, and text from a template may hold what a column of
/// text does not take.
#[derive(Serialize, Deserialize)]
struct Body {
    step: StepPath,
    task_type: String,
    payload: Json,
}

/// Tasks that wait for an answer, each with its workflow: a part of all of them.
#[derive(Debug, Default)]
pub struct OpenTasks {
    /// The oldest first.
    pub tasks: Vec<(TaskRecord, WorkflowId)>,
    /// Whether others follow.
    pub has_more: bool,
}

impl Store {
    /// Tasks, the oldest first.
    pub async fn tasks(&self, scope: &Scope, filter: &TaskFilter) -> Result<Vec<TaskRecord>, StoreError> {
        let mut values = Values::default();
        values.scope(scope).maybe_text(filter.run.map(|run| run.to_string()));
        values.maybe_text(filter.status.map(TaskStatus::as_str));
        values.number(filter.limit.unwrap_or(LIST_MAX).min(LIST_MAX));
        self.shared.database.rows(SELECT_TASKS, values).await?.iter().map(task_record).collect()
    }

    /// Tasks that wait for an answer, each with its workflow, the oldest first: at most `limit` and at most [`LIST_MAX`], of one
    /// run or of all, after a place in that list, and those whose payloads fit [`TASKS_BYTES_MAX`], but one where there is one.
    pub async fn open_tasks(
        &self,
        scope: &Scope,
        run: Option<RunId>,
        after: Option<TaskCursor>,
        limit: u32,
    ) -> Result<OpenTasks, StoreError> {
        let limit = limit.min(LIST_MAX);
        let mut values = Values::default();
        values.scope(scope).maybe_text(run.map(|run| run.to_string()));
        values.number(after.map_or(i64::MIN, |cursor| cursor.created_at.as_micros()));
        values.text(after.map(|cursor| cursor.task.to_string()).unwrap_or_default()).number(limit + 1);
        let (sql, reader) = self.shared.database.reading(SELECT_OPEN);
        let read = async {
            let mut rows = sqlx::query_with(sql, values.into_arguments()).fetch(reader);
            let (mut page, mut bytes) = (OpenTasks::default(), 0);
            while let Some(row) = rows.try_next().await? {
                let task: TaskRecord = task_record(&row)?;
                bytes += task.payload.as_str().len();
                page.has_more =
                    page.tasks.len() == limit as usize || (bytes > TASKS_BYTES_MAX && !page.tasks.is_empty());
                if page.has_more {
                    break;
                }
                page.tasks.push((task, WorkflowId::new(text(&row, 6)?)));
            }
            Ok(page)
        };
        self.shared.database.guard(Access::Read, read).await
    }

    /// Answers a task. The second answer is [`StoreError::AlreadyClosed`], and so is one that comes too late.
    pub async fn complete_task(
        &self,
        scope: &Scope,
        run: RunId,
        task: TaskId,
        approved: bool,
        result: Json,
    ) -> Result<(), StoreError> {
        let mut tx = self.shared.database.begin().await?;
        // The run's row first, as in every transaction that holds both.
        inbox::send(&mut tx, self.shared.database.now(), scope, run, &Signal::TaskCompleted { task, approved, result })
            .await?;
        if tx.row(COMPLETE, key(scope, run, task)).await?.is_none() {
            let exists = tx.row(SELECT_STATUS, key(scope, run, task)).await?.is_some();
            // Dropping the transaction takes the signal back.
            return Err(if exists { StoreError::AlreadyClosed } else { StoreError::NotFound });
        }
        tx.commit().await?;
        self.shared.wake.news();
        Ok(())
    }
}

/// Writes the questions that runs opened.
pub(crate) async fn open(tx: &mut Tx<'_>, tasks: &[(RunId, &TaskRecord)]) -> Result<(), StoreError> {
    let put = |(run, task): &(RunId, &TaskRecord), values: &mut Values| {
        let TaskRecord { step, task_type, payload, .. } = *task;
        let body = Body { step: step.clone(), task_type: task_type.clone(), payload: payload.clone() };
        values.id(run).id(task.task).text(task.status.as_str()).number(task.created_at.as_micros());
        values.maybe_number(task.due.map(|due| due.as_micros())).text(json(&body));
    };
    tx.bulk(&OPEN, |_| {}, tasks, put).await?;
    Ok(())
}

/// Writes which questions runs closed.
pub(crate) async fn close(tx: &mut Tx<'_>, tasks: &[(RunId, TaskId, TaskStatus)]) -> Result<(), StoreError> {
    let put = |(run, task, status): &(RunId, TaskId, TaskStatus), values: &mut Values| {
        values.id(run).id(task).text(status.as_str());
    };
    tx.bulk(&CLOSE, |_| {}, tasks, put).await?;
    Ok(())
}

fn key(scope: &Scope, run: RunId, task: TaskId) -> Values {
    let mut values = Values::default();
    values.scope(scope).id(run).id(task);
    values
}

fn task_record(row: &AnyRow) -> Result<TaskRecord, StoreError> {
    let status = text(row, 2)?;
    let Body { step, task_type, payload } = document(text(row, 5)?)?;
    Ok(TaskRecord {
        task: id(row, 0)?,
        run: id(row, 1)?,
        step,
        task_type,
        payload,
        status: TaskStatus::parse(status)
            .ok_or_else(|| StoreError::Corrupt(format!("`{status}` is no status of a task")))?,
        created_at: time(row, 3)?,
        due: maybe_time(row, 4)?,
    })
}
