//! `runs`: what was run, the newest first.

use super::{Ending, arguments::RunsArguments, context::Context, names::Names, screen, style, workspace};
use crate::operations::RunSource;
use agentruntime_engine::{
    run::event::RunStatus,
    store::{Clock, RunFilter, RunRecord, SystemClock},
};
use serde_json::{Value, json};
use std::fmt::Write;

pub(crate) async fn runs(context: &Context, arguments: RunsArguments) -> anyhow::Result<Ending> {
    let desk = context.desk().await?;
    let workflow = match &arguments.workflow {
        Some(text) => Some(desk.workflow(text).await?),
        None => None,
    };
    let filter = RunFilter {
        status: arguments.status.as_deref().and_then(RunStatus::parse),
        workflow,
        limit: Some(arguments.limit),
        ..RunFilter::default()
    };
    let runs = desk.runs(&filter).await?;
    let nothing = if runs.is_empty() { workspace::nothing(context, &desk, "no runs").await? } else { String::new() };
    let names = desk.names(runs.iter().map(|record| &record.workflow)).await?;
    desk.close().await;
    if context.json {
        screen::json_line(&runs.iter().map(public).collect())?;
    } else if runs.is_empty() {
        screen::print(&nothing)?;
    } else {
        screen::print(&table(&runs, &names))?;
    }
    Ok(Ending::Done)
}

/// A run as programs read it.
pub(crate) fn public(record: &RunRecord) -> Value {
    json!({
        "run_id": record.run,
        "workflow_id": record.workflow,
        "version": record.version,
        "status": record.status,
        "awaiting": record.awaiting,
        "started_at": record.started_at.to_string(),
        "finished_at": record.finished_at.map(|at| at.to_string()),
        "error": record.error,
        "last_seq": record.last_seq,
        "parent_run_id": record.parent,
    })
}

fn table(runs: &[RunRecord], names: &Names) -> String {
    let workflow = |record: &RunRecord| format!("{} v{}", names.of(&record.workflow), record.version);
    let width = runs.iter().map(|record| workflow(record).chars().count()).max().unwrap_or(0).clamp(8, 32);
    let heading = format!("{:<36}  {:<width$}  {:<9}  {:>11}  {:<23}", "RUN", "WORKFLOW", "STATUS", "TIME", "STARTED");
    let mut text = format!("{}\n", style::faint(heading.trim_end()));
    for record in runs {
        let end = record.finished_at.unwrap_or_else(|| SystemClock.now());
        let elapsed = u64::try_from(end.since(record.started_at).as_micros()).unwrap_or(u64::MAX);
        let padding = " ".repeat(9 - record.status.as_str().len());
        let _ = write!(text, "{}  {}  ", record.run, style::fit(&workflow(record), width));
        let _ = write!(text, "{}{padding}  {:>11}  ", style::status(record.status), style::duration(elapsed));
        text.push_str(format!("{}  {}", style::time(record.started_at), note(record)).trim_end());
        text.push('\n');
    }
    text
}

fn note(record: &RunRecord) -> String {
    let room = screen::width().saturating_sub(100).max(24);
    match (&record.error, record.awaiting, record.parent) {
        (Some(error), _, _) => style::bad(&style::short(&error.to_string(), room)),
        (None, Some(awaiting), _) => style::attention(&format!("waits for {}", awaiting.as_str().replace('_', " "))),
        (None, None, Some(parent)) => style::faint(&format!("child of {parent}")),
        (None, None, None) => String::new(),
    }
}
