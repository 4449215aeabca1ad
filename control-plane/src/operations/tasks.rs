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
    /// The questions of a run and of the runs that it called, in the order asked.
    pub(crate) async fn tasks_below(&self, run: RunId) -> Result<Vec<TaskRecord>, OperationError> {
        let mut below = Vec::new();
        for task in self.pending_tasks(None).await? {
            if task.run == run || self.ancestors(task.run).await?.contains(&run) {
                below.push(task);
            }
        }
        Ok(below)
    }

    /// The runs that wait for a run, from its parent to the one that somebody started.
    pub(crate) async fn ancestors(&self, run: RunId) -> Result<Vec<RunId>, OperationError> {
        let mut ancestors = Vec::new();
        let mut next = self.run(run).await?.parent;
        while let Some(parent) = next {
            ancestors.push(parent);
            next = self.run(parent).await?.parent;
        }
        Ok(ancestors)
    }

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

    /// The question that a run, or one that it called, asks at a step: named by the step, by its place in a loop, or by the
    /// task's own id.
    pub(crate) async fn find_task(&self, run: RunId, step: &str) -> Result<TaskRecord, OperationError> {
        let mut pending = self.tasks_below(run).await?;
        // Its own questions come before those of runs that it called.
        pending.sort_by_key(|task| task.run != run);
        let exact = |task: &TaskRecord| task.step.to_string() == step || task.task.to_string() == step;
        if let Some(position) = pending.iter().position(exact) {
            return Ok(pending.swap_remove(position));
        }
        let asked = pending.iter().map(|task| task.step.to_string()).collect();
        // A loop asks once for each item that failed: its name alone is enough while there is one.
        let in_loop: Vec<TaskRecord> = pending.into_iter().filter(|task| &*task.step.step == step).collect();
        match <[TaskRecord; 1]>::try_from(in_loop) {
            Ok([task]) => Ok(task),
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
