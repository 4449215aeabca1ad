//! `events`: the journal of a run in its public form.

use super::{
    Ending,
    arguments::{EventsArguments, LogsArguments},
    context::{Context, Workshop},
    follow,
    screen::{self, Speech},
    style,
};
use crate::operations::{News, RunSource};
use agentruntime_engine::run::event::Event;
use agentruntime_host_api::RunId;
use serde_json::Value;
use std::io::{self, IsTerminal};

/// How far events are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Those that are there.
    Now,
    /// Until the run ends or waits for a person.
    Wait,
    /// Until the run ends, whoever it waits for meanwhile.
    End,
}

/// `events`
pub(crate) async fn events(context: &Context, arguments: EventsArguments) -> anyhow::Result<Ending> {
    let EventsArguments { run, follow, after } = arguments;
    print_events(context, &run, after, if follow { Until::Wait } else { Until::Now }).await
}

/// `logs`
pub(crate) async fn logs(context: &Context, arguments: LogsArguments) -> anyhow::Result<Ending> {
    let LogsArguments { run, follow, after } = arguments;
    // Nobody else can answer what a run of this process asks.
    let end = if context.is_alone() { Until::Wait } else { Until::End };
    print_events(context, &run, after, if follow { end } else { Until::Now }).await
}

async fn print_events(context: &Context, run: &str, mut after: u64, until: Until) -> anyhow::Result<Ending> {
    let desk = context.desk().await?;
    let run = desk.find_run(run).await?.run;
    let desk = if until == Until::Now { desk } else { desk.patient() };
    loop {
        let page = desk.events(run, after).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        print(context, run, &page)?;
    }
    if until == Until::Now {
        desk.close().await;
        return Ok(Ending::Done);
    }
    let mut interrupts = follow::interrupts();
    // Where nobody else can work on the run, there are no further events unless this process does.
    let workshop = match context.is_alone() {
        true => {
            let Some(workshop) = context.workshop(desk)? else { return Ok(Ending::Done) };
            workshop
        }
        false => Workshop { desk, node: None },
    };
    let mut follower = workshop.follower(run).await?;
    let missed = workshop.desk.events(run, after).await?;
    let known = follower.timeline.state.seq;
    print(context, run, &missed.into_iter().filter(|event| event.seq <= known).collect::<Vec<_>>())?;
    // What models say is for people; programs read events, and find all of it there.
    let is_watched = !context.json && io::stdout().is_terminal();
    let mut speech = Speech::default();
    let ending = loop {
        tokio::select! {
            biased;
            _ = interrupts.changed() => break Ending::Interrupted,
            news = follower.next() => match news? {
                News::Events(events) => {
                    screen::print(speech.end())?;
                    print(context, run, &events)?;
                }
                News::Output(delta) if is_watched => screen::print(&speech.text(&delta))?,
                News::Output(_) => {}
                News::Waiting(_) if until == Until::Wait => break Ending::Waiting,
                // Somebody will answer; until then there is nothing to print.
                News::Waiting(_) => follower.expect_change(),
                News::Ended => break Ending::Done,
                News::Nothing => {}
            },
        }
    };
    screen::print(speech.end())?;
    workshop.close().await?;
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
