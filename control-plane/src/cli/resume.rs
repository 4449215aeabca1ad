//! `resume` and `retry`: going on with a run, and following it.

use super::{
    Ending,
    context::Context,
    follow::{self, Following},
};
use crate::operations::Command;
use agentruntime_engine::run::event::RunStatus;

/// Goes on with an interrupted or paused run. One that has ended is told of as it is.
pub(crate) async fn resume(context: &Context, run: &str) -> anyhow::Result<Ending> {
    let project = context.project().await?;
    let record = project.find_run(run).await?;
    let is_paused = record.status == RunStatus::Paused;
    if is_paused {
        project.command(&record, Command::Resume).await?;
    }
    let following = Following { expects_change: is_paused, ..Following::from(record.run, record.last_seq) };
    follow::follow(context, context.workshop(project)?, following).await
}

/// Tries a failed run again.
pub(crate) async fn retry(context: &Context, run: &str) -> anyhow::Result<Ending> {
    let project = context.project().await?;
    let record = project.find_run(run).await?;
    project.command(&record, Command::Retry).await?;
    let following = Following { expects_change: true, ..Following::from(record.run, record.last_seq) };
    follow::follow(context, context.workshop(project)?, following).await
}
