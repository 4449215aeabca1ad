//! `resume` and `retry`: going on with a run, and following it.

use super::{
    Ending,
    context::Context,
    follow::{self, Following},
};
use crate::operations::{Command, RunSource};
use agentruntime_engine::run::event::RunStatus;

/// Goes on with an interrupted or paused run. One that has ended is told of as it is.
pub(crate) async fn resume(context: &Context, run: &str) -> anyhow::Result<Ending> {
    let desk = context.desk().await?;
    let record = desk.find_run(run).await?;
    let is_paused = record.status == RunStatus::Paused;
    if is_paused {
        desk.command(&record, Command::Resume).await?;
    }
    let Some(workshop) = context.workshop(desk)? else { return context.tell_written_down(record.run) };
    let following = Following { expects_change: is_paused, ..Following::from(record.run, record.last_seq) };
    follow::follow(context, workshop, following).await
}

/// Tries a failed run again.
pub(crate) async fn retry(context: &Context, run: &str) -> anyhow::Result<Ending> {
    let desk = context.desk().await?;
    let record = desk.find_run(run).await?;
    desk.command(&record, Command::Retry).await?;
    let Some(workshop) = context.workshop(desk)? else { return context.tell_written_down(record.run) };
    let following = Following { expects_change: true, ..Following::from(record.run, record.last_seq) };
    follow::follow(context, workshop, following).await
}
