//! Following a run to its end or its next wait, and what is then said.

use super::{
    Ending,
    context::{Context, Workshop},
    desk::Desk,
    names::Names,
    screen::{self, Screen},
    style,
};
use crate::operations::{Answer, Follower, News, RunSource, Timeline, Waiting};
use agentruntime_engine::{
    run::{
        TOOL_APPROVAL, TaskStatus,
        event::{Event, EventKind, RunStatus},
    },
    store::TaskRecord,
};
use agentruntime_host_api::RunId;
use serde_json::{Value, json};
use std::{collections::HashMap, fmt::Write, io, time::Duration};
use tokio::{signal, sync::watch};

/// How often a live table shows that time goes by.
const TICK: Duration = Duration::from_millis(100);
/// How often what does not show time is looked at.
const IDLE: Duration = Duration::from_secs(3_600);

/// What to follow, and how.
pub(crate) struct Following {
    /// The run.
    pub(crate) run: RunId,
    /// Events up to this number were there before the command; they are not shown one by one.
    pub(crate) known: u64,
    /// Whether a command is on its way, so that what the run is at those events says nothing.
    pub(crate) expects_change: bool,
    /// Answers at hand, by step.
    pub(crate) answers: HashMap<String, Answer>,
}

impl Following {
    /// A run that goes on by itself.
    pub(crate) fn from(run: RunId, known: u64) -> Self {
        Self { run, known, expects_change: false, answers: HashMap::new() }
    }
}

/// Why following ended.
enum Stop {
    Ended,
    Waiting(Waiting),
    Interrupted,
}

/// Follows a run and shows it; says at the end what it gave or what it waits for.
pub(crate) async fn follow(context: &Context, workshop: Workshop, following: Following) -> anyhow::Result<Ending> {
    let mut interrupts = interrupts();
    let mut follower = workshop.follower(following.run).await?;
    if following.expects_change {
        follower.expect_change_after(following.known);
    }
    let workflow = &follower.timeline.state.start.workflow;
    let names = if context.json { Names::default() } else { workshop.desk.names([workflow]).await? };
    let mut screen = Screen::new(context.json, names.of(workflow));
    let stop = watch_run(&workshop, &mut follower, &mut screen, &following, &mut interrupts).await?;
    screen.end(&follower.timeline)?;
    let ending = conclude(context, &follower.timeline, &stop)?;
    workshop.close().await?;
    Ok(ending)
}

async fn watch_run(
    workshop: &Workshop,
    follower: &mut Follower<Desk>,
    screen: &mut Screen,
    following: &Following,
    interrupts: &mut watch::Receiver<u32>,
) -> anyhow::Result<Stop> {
    screen.begin(&follower.timeline)?;
    let missed = workshop.desk.events(following.run, following.known).await?;
    let missed: Vec<Event> = missed.into_iter().filter(|event| event.seq <= follower.timeline.state.seq).collect();
    take(workshop, follower, screen, following, &missed).await?;
    let tick = if screen.is_live() { TICK } else { IDLE };
    loop {
        tokio::select! {
            biased;
            _ = interrupts.changed() => return Ok(Stop::Interrupted),
            news = follower.next_within(tick) => match news? {
                News::Events(events) => take(workshop, follower, screen, following, &events).await?,
                News::Output(delta) => screen.output(&follower.timeline, &delta)?,
                News::Waiting(waiting) => return Ok(Stop::Waiting(waiting)),
                News::Ended => return Ok(Stop::Ended),
                News::Nothing => screen.tick(&follower.timeline)?,
            },
        }
    }
}

async fn take(
    workshop: &Workshop,
    follower: &mut Follower<Desk>,
    screen: &mut Screen,
    following: &Following,
    events: &[Event],
) -> anyhow::Result<()> {
    screen.events(&follower.timeline, events)?;
    for event in events {
        let EventKind::HumanTaskCreated { path, task, task_type, payload, due, .. } = &event.kind else { continue };
        let answer = following.answers.get(&path.to_string()).or_else(|| following.answers.get(&*path.step));
        if let (Some(answer), true) = (answer, follower.timeline.tasks.contains_key(task)) {
            let task = TaskRecord {
                task: *task,
                run: following.run,
                step: path.clone(),
                task_type: task_type.clone(),
                payload: payload.clone(),
                status: TaskStatus::Pending,
                created_at: event.at,
                due: *due,
            };
            workshop.answer(&task, answer.clone()).await?;
        }
    }
    Ok(())
}

/// Counts Ctrl-C. The first lets go of the run in an orderly way, the second ends the process at once.
pub(crate) fn interrupts() -> watch::Receiver<u32> {
    let (sender, receiver) = watch::channel(0);
    tokio::spawn(async move {
        while signal::ctrl_c().await.is_ok() {
            if *sender.borrow() > 0 {
                std::process::exit(Ending::Interrupted as i32);
            }
            sender.send_modify(|count| *count += 1);
        }
        // Where signals cannot be heard, nobody is told that they came.
        std::future::pending::<()>().await;
    });
    receiver
}

fn conclude(context: &Context, timeline: &Timeline, stop: &Stop) -> anyhow::Result<Ending> {
    let ending = match (stop, timeline.state.status) {
        (Stop::Interrupted, _) => Ending::Interrupted,
        (Stop::Waiting(_), _) => Ending::Waiting,
        (Stop::Ended, RunStatus::Completed) => Ending::Done,
        (Stop::Ended, _) => Ending::RunFailed,
    };
    if context.json {
        screen::json_line(&summary(timeline, stop))?;
        return Ok(ending);
    }
    match stop {
        Stop::Ended => say_end(context, timeline)?,
        Stop::Waiting(waiting) => screen::show(&waiting_text(context, waiting))?,
        Stop::Interrupted => {
            let run = timeline.state.run.to_string();
            let (what, command) = match context.server() {
                None => ("the run is kept as it is; go on with", context.command(&["resume", &run])),
                Some(_) => ("the run goes on at the server; follow it with", context.command(&["logs", &run, "-f"])),
            };
            screen::show(&format!("\n{} {what}\n  {command}\n", style::attention("interrupted:")))?;
        }
    }
    Ok(ending)
}

/// The last line of `--json`.
fn summary(timeline: &Timeline, stop: &Stop) -> Value {
    let state = &timeline.state;
    let mut summary = json!({
        "run_id": state.run,
        "status": state.status,
        "version": state.start.version,
        "outputs": null,
    });
    match &state.end {
        Some(Ok(outputs)) => summary["outputs"] = outputs.to_value(),
        Some(Err(error)) => summary["error"] = json!(error),
        None => {}
    }
    if let Stop::Waiting(waiting) = stop {
        summary["awaiting"] = if waiting.tasks.is_empty() { "resume" } else { "human_task" }.into();
        summary["tasks"] = waiting.tasks.iter().map(super::tasks::public).collect();
    }
    summary
}

fn say_end(context: &Context, timeline: &Timeline) -> io::Result<()> {
    let state = &timeline.state;
    let elapsed = u64::try_from(timeline.last_at.since(state.started_at).as_micros()).unwrap_or(u64::MAX);
    let run = state.run.to_string();
    match &state.end {
        Some(Ok(outputs)) => {
            screen::show(&format!("{} in {}\n", style::status(state.status), style::duration(elapsed)))?;
            screen::print(&style::pretty(&outputs.to_value(), ""))
        }
        Some(Err(error)) => {
            let mut text = format!("{} after {}\n", style::status(state.status), style::duration(elapsed));
            text.push_str(&style::step_error(error, "  "));
            if state.status == RunStatus::Failed && !state.is_refused() {
                let again = context.command_on(&["retry", &run]);
                let _ = writeln!(text, "{} {}", style::faint("see it:   "), context.command(&["show", &run]));
                let _ = writeln!(text, "{} {again}", style::faint("try again:"));
                if context.server().is_none() {
                    let anew = context.command_on(&["run", "GRAPH", "--resume-from", &run]);
                    let _ = writeln!(text, "{} {anew}", style::faint("or mend the graph, and keep what is done:"));
                }
            }
            screen::show(&text)
        }
        None => Ok(()),
    }
}

/// What is asked.
pub(super) fn question(task: &TaskRecord) -> String {
    let due = task.due.map(|due| format!(", until {}", style::time(due))).unwrap_or_default();
    let step = style::strong(&task.step.to_string());
    let heading = format!("{} {step} ({}{due})\n", style::attention("waits for a person:"), task.task_type);
    heading + &style::pretty(&task.payload.to_value(), "    ")
}

/// What is asked, and the exact commands to answer.
pub(crate) fn waiting_text(context: &Context, waiting: &Waiting) -> String {
    let mut text = String::new();
    for task in &waiting.tasks {
        // A step may ask about several calls, one after the other or at once: the answer is to the one that was read.
        let names_step = task.task_type != TOOL_APPROVAL;
        let (run, name) =
            (task.run.to_string(), if names_step { task.step.to_string() } else { task.task.to_string() });
        text.push_str(&question(task));
        for (word, flag) in [("yes:", "--approve"), ("no: ", "--reject")] {
            let command = context.command_on(&["task", "complete", &run, &name, flag]);
            let _ = writeln!(text, "  {} {command}", style::faint(word));
        }
    }
    for run in &waiting.paused {
        let command = context.command_on(&["resume", &run.to_string()]);
        let _ = writeln!(text, "{} go on with\n  {command}", style::attention("the run is paused:"));
    }
    text
}
