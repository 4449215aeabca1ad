//! Questions to people, and their answers.

use super::{OperationError, Project};
use agentruntime_engine::{
    node::Node,
    run::TaskStatus,
    store::{LIST_MAX, OpenTasks, StoreError, TaskCursor, TaskFilter, TaskRecord},
};
use agentruntime_host_api::{Json, RunId, TaskId};
use serde_json::{Map, Value};

/// What a person decided.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Yes or no.
    pub(crate) approved: bool,
    /// Fields given with it: an object.
    pub(crate) result: Json,
}

impl Answer {
    /// An answer with its fields.
    ///
    /// # Errors
    /// The fields say yes or no themselves: one of the two would be lost, and nobody knows which was meant.
    pub(crate) fn new(approved: bool, fields: Map<String, Value>) -> Result<Self, OperationError> {
        match fields.contains_key("approved") {
            true => Err(OperationError::InvalidField {
                field: "result",
                message: "yes or no is said by `approved` beside `result`, and not within it".into(),
            }),
            false => Ok(Self { approved, result: Json::from(Value::Object(fields)) }),
        }
    }
}

impl Project {
    /// The questions that wait for an answer: those of one run, or all. The oldest first.
    pub(crate) async fn pending_tasks(&self, run: Option<RunId>) -> Result<Vec<TaskRecord>, OperationError> {
        let filter = TaskFilter { run, status: Some(TaskStatus::Pending), limit: None };
        Ok(self.store.tasks(&self.scope, &filter).await?)
    }

    /// A page of the questions that wait for an answer, each with its workflow: those of one run, or all. The oldest first.
    pub(crate) async fn pending_page(
        &self,
        run: Option<RunId>,
        after: Option<TaskCursor>,
        limit: u32,
    ) -> Result<OpenTasks, OperationError> {
        Ok(self.store.open_tasks(&self.scope, run, after, limit).await?)
    }

    /// Refuses an answer to a question that the run does not ask, or not any more; nothing is done.
    pub(crate) async fn check_pending(&self, run: RunId, task: TaskId) -> Result<(), OperationError> {
        let filter = TaskFilter { run: Some(run), status: None, limit: None };
        let tasks = self.store.tasks(&self.scope, &filter).await?;
        match tasks.iter().find(|known| known.task == task) {
            Some(known) if known.status == TaskStatus::Pending => Ok(()),
            Some(_) => Err(OperationError::TaskClosed { run, step: task.to_string() }),
            // It may be among those that did not fit; the answer itself finds out.
            None if tasks.len() >= LIST_MAX as usize => Ok(()),
            None => Err(OperationError::UnknownTask { run, step: task.to_string(), pending: Vec::new() }),
        }
    }

    /// Answers a question. A node takes the answer in.
    pub(crate) async fn complete_task(&self, task: &TaskRecord, answer: Answer) -> Result<(), OperationError> {
        let Answer { approved, result } = answer;
        self.store.complete_task(&self.scope, task.run, task.task, approved, result).await.map_err(
            |error| match error {
                StoreError::AlreadyClosed => OperationError::TaskClosed { run: task.run, step: task.step.to_string() },
                other => other.into(),
            },
        )
    }

    /// Answers a question of a run by the question's id, through a node, which hears of it at once.
    pub(crate) async fn complete_task_at(
        &self,
        node: &Node,
        run: RunId,
        task: TaskId,
        answer: Answer,
    ) -> Result<(), OperationError> {
        let Answer { approved, result } = answer;
        node.complete_task(&self.scope, run, task, approved, result).await.map_err(|error| match error {
            StoreError::AlreadyClosed => OperationError::TaskClosed { run, step: task.to_string() },
            StoreError::NotFound => OperationError::UnknownTask { run, step: task.to_string(), pending: Vec::new() },
            other => other.into(),
        })
    }
}
