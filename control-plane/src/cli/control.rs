//! `pause` and `stop`: a command, and a node that carries it out.

use super::{
    Ending,
    context::{Context, Workshop},
    follow, screen, style,
};
use crate::operations::{Command, News, RunSource};
use agentruntime_engine::{run::event::RunStatus, store::RunRecord};
use serde_json::json;

pub(crate) async fn pause(context: &Context, run: &str) -> anyhow::Result<Ending> {
    command(context, run, Command::Pause, |status| status != RunStatus::Running && status != RunStatus::Pending).await
}

pub(crate) async fn stop(context: &Context, run: &str, graceful: bool) -> anyhow::Result<Ending> {
    command(context, run, Command::Stop { graceful }, RunStatus::is_final).await
}

/// Gives a command and waits until the run is where it leads.
async fn command(
    context: &Context,
    run: &str,
    command: Command,
    is_there: fn(RunStatus) -> bool,
) -> anyhow::Result<Ending> {
    let desk = context.desk().await?;
    let record = desk.find_run(run).await?;
    desk.command(&record, command).await?;
    let Some(workshop) = context.workshop(desk)? else { return context.tell_written_down(record.run) };
    let reached = reach(&workshop, &record, is_there).await?;
    if let Some(status) = reached {
        tell(context, &record, status)?;
    }
    workshop.close().await?;
    Ok(if reached.is_some() { Ending::Done } else { Ending::Interrupted })
}

async fn reach(
    workshop: &Workshop,
    record: &RunRecord,
    is_there: fn(RunStatus) -> bool,
) -> anyhow::Result<Option<RunStatus>> {
    let mut interrupts = follow::interrupts();
    let mut follower = workshop.follower(record.run).await?;
    follower.expect_change_after(record.last_seq);
    loop {
        let status = follower.timeline.state.status;
        if is_there(status) {
            return Ok(Some(status));
        }
        tokio::select! {
            biased;
            _ = interrupts.changed() => return Ok(None),
            news = follower.next() => match news? {
                News::Events(_) | News::Output(_) | News::Nothing => {}
                News::Waiting(_) | News::Ended => return Ok(Some(follower.timeline.state.status)),
            },
        }
    }
}

fn tell(context: &Context, record: &RunRecord, status: RunStatus) -> anyhow::Result<()> {
    if context.json {
        screen::json_line(&json!({ "run_id": record.run, "status": status, "version": record.version }))?;
        return Ok(());
    }
    let run = record.run.to_string();
    let mut text = format!("run {run} is {}\n", style::status(status));
    if status == RunStatus::Paused {
        text.push_str(&format!("go on with\n  {}\n", context.command(&["resume", &run])));
    }
    screen::print(&text)?;
    Ok(())
}
