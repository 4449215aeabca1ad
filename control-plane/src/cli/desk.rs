//! Where a command works: on this machine's data, or at a server. Commands do not ask which; what they show is the same.

use super::{context::Workshop, names::Names, workspace};
use crate::{
    client::{ClientError, Server},
    operations::{Answer, Command, Feed, Follower, OperationError, Pace, Project, RunSource, approvals::ApprovalState},
};
use agentruntime_engine::{
    graph::Graph,
    run::event::Event,
    store::{RunFilter, RunRecord, StoreError, TaskRecord, VersionEntry},
};
use agentruntime_host_api::{RunId, WorkflowId};
use async_trait::async_trait;
use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

/// Workflows and runs, wherever they are.
#[derive(Clone)]
pub(crate) enum Desk {
    /// In a store that this process has open.
    Here(Project),
    /// At a server.
    Server(Box<Server>),
}

impl Desk {
    /// Gives a command to a run.
    pub(crate) async fn command(&self, record: &RunRecord, command: Command) -> anyhow::Result<()> {
        match self {
            Self::Here(project) => Ok(project.command(record, command).await?),
            Self::Server(server) => Ok(server.command(record, command).await?),
        }
    }

    /// Answers a question.
    pub(crate) async fn complete_task(&self, task: &TaskRecord, answer: Answer) -> anyhow::Result<()> {
        match self {
            Self::Here(project) => Ok(project.complete_task(task, answer).await?),
            Self::Server(server) => Ok(server.complete_task(task, answer).await?),
        }
    }

    /// The workflow that a person means: by its id, or in a server's workspace by its name.
    pub(crate) async fn workflow(&self, text: &str) -> anyhow::Result<WorkflowId> {
        match self {
            Self::Here(project) => workspace::workflow(project, text).await,
            Self::Server(server) => match server.find_workflow(text).await? {
                Some(workflow) => Ok(WorkflowId::new(workflow.id)),
                None => Err(OperationError::UnknownWorkflow(text.to_owned()).into()),
            },
        }
    }

    /// What people call these workflows.
    pub(crate) async fn names(&self, workflows: impl IntoIterator<Item = &WorkflowId>) -> anyhow::Result<Names> {
        match self {
            Self::Here(project) => Ok(workspace::names(project, workflows).await?.into()),
            Self::Server(server) => Ok(server.names(workflows.into_iter().cloned().collect()).await?.into()),
        }
    }

    /// All versions of a workflow, the newest first, and whether each may be used.
    pub(crate) async fn versions(&self, text: &str) -> anyhow::Result<Vec<(VersionEntry, ApprovalState)>> {
        let workflow = self.workflow(text).await?;
        match self {
            Self::Here(project) => workspace::versions(project, &workflow).await,
            Self::Server(server) => Ok(server.versions(workflow.as_str()).await?),
        }
    }

    /// The same for a command that follows: it waits for a server that restarts.
    pub(crate) fn patient(self) -> Self {
        match self {
            Self::Here(_) => self,
            // A table that is redrawn in place would be drawn over by a line beside it.
            Self::Server(server) if io::stderr().is_terminal() => Self::Server(Box::new(server.patient().quiet())),
            Self::Server(server) => Self::Server(Box::new(server.patient())),
        }
    }

    /// Lets go of it.
    pub(crate) async fn close(self) {
        match self {
            Self::Here(project) => project.store.close().await,
            Self::Server(_) => {}
        }
    }
}

#[async_trait]
impl RunSource for Desk {
    type Error = anyhow::Error;

    async fn run(&self, run: RunId) -> anyhow::Result<RunRecord> {
        match self {
            Self::Here(project) => Ok(project.run(run).await?),
            Self::Server(server) => match server.run(run).await {
                Ok(Some(record)) => Ok(record),
                Ok(None) => Err(OperationError::UnknownRun(run.to_string()).into()),
                Err(error) if error.is_refused_as("RUN_NOT_FOUND") => {
                    Err(OperationError::UnknownRun(run.to_string()).into())
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    async fn runs(&self, filter: &RunFilter) -> anyhow::Result<Vec<RunRecord>> {
        match self {
            Self::Here(project) => Ok(project.runs(filter).await?),
            Self::Server(server) => Ok(server.runs(filter).await?),
        }
    }

    async fn events(&self, run: RunId, after: u64) -> anyhow::Result<Vec<Event>> {
        match self {
            Self::Here(project) => Ok(project.events(run, after).await?),
            Self::Server(server) => Ok(server.events(run, after).await?),
        }
    }

    async fn graph(&self, record: &RunRecord) -> anyhow::Result<Arc<Graph>> {
        match self {
            Self::Here(project) => Ok(project.graph(record).await?),
            Self::Server(server) => Ok(server.graph(record).await?),
        }
    }

    async fn pending_tasks(&self, run: Option<RunId>) -> anyhow::Result<Vec<TaskRecord>> {
        match self {
            Self::Here(project) => Ok(project.pending_tasks(run).await?),
            Self::Server(server) => Ok(server.pending_tasks(run).await?),
        }
    }
}

impl Workshop {
    /// Follows a run from where it is.
    pub(crate) async fn follower(&self, run: RunId) -> anyhow::Result<Follower<Desk>> {
        match &self.desk {
            Desk::Here(_) => {
                let feed = self.node.as_ref().map(|node| Box::new(node.watch(run)) as Box<dyn Feed>);
                Follower::new(self.desk.clone(), feed, Pace::NEAR, run).await
            }
            Desk::Server(server) => {
                let after = self.desk.run(run).await?.last_seq;
                let feed = server.feed(run, after).await?;
                Follower::new(self.desk.clone(), Some(feed), Pace::FAR, run).await
            }
        }
    }

    /// Gives an answer that was at hand when the question came. Somebody else may have been faster, or the run at its end.
    pub(crate) async fn answer(&self, task: &TaskRecord, answer: Answer) -> anyhow::Result<()> {
        let done = match (&self.desk, &self.node) {
            (Desk::Here(project), Some(node)) => {
                let Answer { approved, result } = answer;
                node.complete_task(&project.scope, task.run, task.task, approved, result).await.map_err(Into::into)
            }
            (desk, _) => desk.complete_task(task, answer).await,
        };
        done.or_else(|error: anyhow::Error| if is_closed(&error) { Ok(()) } else { Err(error) })
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::AlreadyClosed))
        || matches!(error.downcast_ref(), Some(OperationError::TaskClosed { .. }))
        || error.downcast_ref::<ClientError>().is_some_and(|error| error.is_refused_as("TASK_CLOSED"))
}
