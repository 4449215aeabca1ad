//! `events`: the journal of a run in its public form.

use super::{Ending, arguments::EventsArguments, context::Context, follow, screen, style};
use crate::operations::{Follower, News};
use agentruntime_engine::run::event::Event;
use agentruntime_host_api::RunId;
use serde_json::Value;
use std::io::{self, IsTerminal};

pub(crate) async fn events(context: &Context, arguments: EventsArguments) -> anyhow::Result<Ending> {
    let project = context.project().await?;
    let run = project.find_run(&arguments.run).await?.run;
    let mut after = arguments.after;
    loop {
        let page = project.events(run, after).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        print(context, run, &page)?;
    }
    if !arguments.follow {
        project.store.close().await;
        return Ok(Ending::Done);
    }
    let mut interrupts = follow::interrupts();
    // Where nobody else can work on the run, there are no further events unless this process does.
    let node = if context.is_alone() { Some(context.node(&project, context.sandbox()?)) } else { None };
    let mut follower = Follower::new(&project, node.as_ref(), run).await?;
    let missed = project.events(run, after).await?;
    let known = follower.timeline.state.seq;
    print(context, run, &missed.into_iter().filter(|event| event.seq <= known).collect::<Vec<_>>())?;
    let ending = loop {
        tokio::select! {
            biased;
            _ = interrupts.changed() => break Ending::Interrupted,
            news = follower.next() => match news? {
                News::Events(events) => print(context, run, &events)?,
                News::Waiting(_) => break Ending::Waiting,
                News::Ended => break Ending::Done,
            },
        }
    };
    if let Some(node) = node {
        node.stop().await?;
    }
    project.store.close().await;
    Ok(ending)
}

fn print(context: &Context, run: RunId, events: &[Event]) -> anyhow::Result<()> {
    let lines: String = events.iter().map(|event| line(context.json, &event.public(run))).collect();
    Ok(screen::print(&lines)?)
}

fn line(json: bool, event: &Value) -> String {
    if json {
        return format!("{event}\n");
    }
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let data = &event["data"];
    let step = match (data["parent_step_id"].as_str(), data["iteration"].as_u64()) {
        (Some(parent), Some(iteration)) => format!("{parent}[{iteration}].{}", text("step_id")),
        _ => text("step_id").to_owned(),
    };
    let time = text("at").get(11..23).unwrap_or_default();
    let head =
        format!("{:>5}  {time}  {:<20}  {step:<20}", event["seq"].as_u64().unwrap_or_default(), text("event_type"));
    // What is piped somewhere is cut by nobody's window.
    let room = if io::stdout().is_terminal() {
        screen::width().saturating_sub(head.chars().count() + 2).max(24)
    } else {
        usize::MAX
    };
    format!("{head}  {}\n", style::faint(&style::short(&data.to_string(), room)))
}
