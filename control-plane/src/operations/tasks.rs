//! Questions to people, and their answers.

use super::{OperationError, Project};
use agentruntime_engine::{
    run::TaskStatus,
    store::{StoreError, TaskFilter, TaskRecord},
};
use agentruntime_host_api::{Json, RunId};

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

    /// The question that a run asks at a step: named by the step, by its place in a loop, or by the task's own id.
    pub(crate) async fn find_task(&self, run: RunId, step: &str) -> Result<TaskRecord, OperationError> {
        let mut pending = self.pending_tasks(Some(run)).await?;
        let exact = |task: &TaskRecord| task.step.to_string() == step || task.task.to_string() == step;
        if let Some(position) = pending.iter().position(exact) {
            return Ok(pending.swap_remove(position));
        }
        let asked = pending.iter().map(|task| task.step.to_string()).collect();
        // A loop asks once for each item that failed: its name alone is enough while there is one.
        match <[TaskRecord; 1]>::try_from(pending) {
            Ok([task]) if &*task.step.step == step => Ok(task),
            _ => Err(OperationError::UnknownTask { run, step: step.to_owned(), pending: asked }),
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
}
