//! A line for each event that matters, with its time since the start: for pipes, logs and terminals that cannot do more.

use crate::{
    cli::style::{self, faint},
    operations::{
        Timeline,
        timeline::{self, Standing, type_of},
    },
};
use agentruntime_engine::run::event::{Event, EventKind, StepPath};
use agentruntime_host_api::StepError;

/// Which run it is.
pub(super) fn heading(workflow: &str, timeline: &Timeline) -> String {
    let start = &timeline.state.start;
    format!("{} version {}, run {}\n", style::strong(workflow), start.version, timeline.state.run)
}

/// The line of an event; nothing for one that is told by another.
pub(super) fn line(timeline: &Timeline, event: &Event) -> String {
    let step = |path: &StepPath, standing: Standing, rest: String| {
        let width = timeline.state.graph.steps.iter().map(|step| step.id.chars().count()).max().unwrap_or(0).min(32);
        let name = path.to_string();
        format!("{} {} {name:<width$}  {rest}\n", offset(timeline, event), style::sign(standing))
    };
    let about_run = |text: String| format!("{} {text}\n", offset(timeline, event));
    match &event.kind {
        EventKind::StepCompleted { path, duration_us, reused_from, .. } if path.body.is_none() => {
            let standing = standing(timeline, path);
            let rest = match reused_from {
                Some(run) => faint(&format!("taken over from run {run}")),
                None => format!("{}{}", style::duration(*duration_us), loop_note(timeline, path)),
            };
            step(path, standing, rest)
        }
        EventKind::StepSkipped { path, reason } if path.body.is_none() => {
            step(path, Standing::Skipped(*reason), faint(&format!("skipped: {}", style::skip_reason(*reason))))
        }
        EventKind::StepStarted { path, .. } if path.body.is_none() => {
            let standing = standing(timeline, path);
            match standing {
                Standing::Sleeping(until) => step(path, standing, format!("sleeps until {}", style::time(until))),
                Standing::Calling(child) => step(path, standing, format!("calls run {child}")),
                _ => String::new(),
            }
        }
        EventKind::StepFailed { path, error, recovered, .. } => {
            let standing = if recovered.is_some() { Standing::Recovered } else { Standing::Failed };
            step(path, standing, first_line(error))
        }
        EventKind::StepRetrying { path, attempt, error, due } => {
            let wait = style::duration(u64::try_from(due.since(event.at).as_micros()).unwrap_or(u64::MAX));
            let rest = format!("attempt {attempt} failed, the next in {wait}: {}", first_line(error));
            step(path, Standing::Retrying(*due), rest)
        }
        EventKind::RequestCompleted { path, number, reply: Err(error), .. } => {
            step(path, standing(timeline, path), format!("request {number}: {}", first_line(error)))
        }
        EventKind::StepCancelled { path, .. } if path.body.is_none() => {
            step(path, Standing::Cancelled, "cancelled".into())
        }
        EventKind::HumanTaskCreated { path, task_type, .. } => {
            step(path, Standing::Asking, format!("waits for a person ({task_type})"))
        }
        EventKind::HumanTaskCompleted { path, approved: true, .. } => {
            step(path, Standing::Completed, "approved".into())
        }
        EventKind::HumanTaskCompleted { path, approved: false, result, .. } => {
            step(path, Standing::Rejected, style::rejected(timeline::reason(&result.to_value()).as_deref()))
        }
        EventKind::StateChanged { to, reason, .. } => about_run(format!("{} ({reason})", style::status(*to))),
        EventKind::RunStarted(_)
        | EventKind::RunRejected { .. }
        | EventKind::RunCompleted { .. }
        | EventKind::RunFailed { .. }
        | EventKind::RunStopped { .. }
        | EventKind::StepStarted { .. }
        | EventKind::StepCompleted { .. }
        | EventKind::StepSkipped { .. }
        | EventKind::RequestMade { .. }
        | EventKind::RequestCompleted { .. }
        | EventKind::StepCancelled { .. } => String::new(),
    }
}

fn offset(timeline: &Timeline, event: &Event) -> String {
    let since = event.at.since(timeline.state.started_at).as_secs_f64();
    faint(&format!("{since:>9.3} s"))
}

fn standing(timeline: &Timeline, path: &StepPath) -> Standing {
    timeline.state.graph.step(&path.step).map_or(Standing::Waiting, |index| timeline.standing(index))
}

fn loop_note(timeline: &Timeline, path: &StepPath) -> String {
    let Some(index) = timeline.state.graph.step(&path.step) else { return String::new() };
    match timeline.progress(index) {
        Some(progress) => {
            let kind = type_of(&timeline.state.graph.steps[index]);
            format!("  {}", faint(&format!("{kind} {}", style::progress(progress))))
        }
        None => String::new(),
    }
}

fn first_line(error: &StepError) -> String {
    format!("{}: {}", style::bad(&error.code.to_string()), error.message.lines().next().unwrap_or_default())
}
