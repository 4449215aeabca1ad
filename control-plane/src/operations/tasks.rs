//! Questions to people, and their answers.

use super::{OperationError, Project};
use agentruntime_engine::{
    node::Node,
    run::TaskStatus,
    store::{StoreError, TaskCursor, TaskFilter, TaskRecord},
};
use agentruntime_host_api::{Json, RunId, TaskId, WorkflowId};

/// What a person decided.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Yes or no.
    pub(crate) approved: bool,
    /// Fields given with it: an object.
    pub(crate) result: Json,
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
    ) -> Result<Vec<(TaskRecord, WorkflowId)>, OperationError> {
        Ok(self.store.open_tasks(&self.scope, run, after, limit).await?)
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
