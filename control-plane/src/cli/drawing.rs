//! A run as a picture: a bar for each step over the run's time, and below what failed, what is waited for, what came out.

use super::{context::Context, follow, screen, style};
use crate::operations::{
    Timeline, Waiting,
    timeline::{Span, Standing, type_of},
};
use agentruntime_engine::{
    run::{Awaiting, event::RunStatus},
    store::{Clock, RunRecord, SystemClock, TaskRecord},
};
use agentruntime_host_api::Timestamp;
use std::fmt::Write;

/// What a name may take of the line.
const NAME_CHARS_MAX: usize = 28;
/// What a loop's progress or a reason may take beside the bar.
const BAR_CHARS_MIN: usize = 16;

/// The whole picture. `workflow` is what people call the workflow.
pub(crate) fn draw(
    context: &Context,
    record: &RunRecord,
    workflow: &str,
    timeline: &Timeline,
    tasks: Vec<TaskRecord>,
) -> String {
    let state = &timeline.state;
    let now = if state.status.is_final() { timeline.last_at } else { SystemClock.now() };
    let mut text = heading(record, workflow, timeline, now);
    let _ =
        writeln!(text, "{}", style::faint(&format!("input    {}", style::short(state.input.json().as_str(), room(9)))));
    text.push('\n');
    bars(&mut text, timeline, now);
    errors(&mut text, timeline);
    if let Some(Ok(outputs)) = &state.end {
        let _ = writeln!(text, "\noutputs  {}", style::short(outputs.as_str(), room(9)));
    }
    next(&mut text, context, record, timeline, tasks);
    text
}

fn heading(record: &RunRecord, workflow: &str, timeline: &Timeline, now: Timestamp) -> String {
    let state = &timeline.state;
    let elapsed = style::duration(micros(state.started_at, now));
    let elapsed = if state.status.is_final() { format!("in {elapsed}") } else { format!("for {elapsed}") };
    let workflow = format!("{} version {}", style::strong(workflow), record.version);
    let mut text = format!("{workflow}  {} {elapsed}\n", style::status(record.status));
    let mut about =
        format!("run      {}, started {} ({})", record.run, style::time(state.started_at), state.start.trigger_type);
    if let Some(parent) = record.parent {
        let _ = write!(about, "\nparent   {parent}");
    }
    if let Some(reuse) = &state.start.reuse {
        let _ = write!(about, "\nbegun    from the results of run {}", reuse.run);
    }
    for line in about.lines() {
        let _ = writeln!(text, "{}", style::faint(line));
    }
    text
}

fn bars(text: &mut String, timeline: &Timeline, now: Timestamp) {
    let names = timeline.state.graph.steps.iter().map(|step| step.id.chars().count());
    let name_width = names.max().unwrap_or(0).min(NAME_CHARS_MAX);
    let bar_width = (room(2 + 2 + name_width + 2 + 13 + 2 + 11 + 2) * 3 / 5).max(BAR_CHARS_MIN);
    let scale = Scale {
        from: timeline.state.started_at,
        micros: micros(timeline.state.started_at, now).max(1),
        width: bar_width,
    };
    for (index, step) in timeline.order() {
        let standing = timeline.standing(index);
        let elapsed = timeline.elapsed_us(index, now).map(style::duration).unwrap_or_default();
        let bar = scale.bar(&timeline.times[index].spans, now);
        let paint = match standing {
            Standing::Failed | Standing::Cancelled => style::bad,
            Standing::Asking | Standing::Rejected | Standing::Recovered | Standing::Retrying(_) => style::attention,
            Standing::Running | Standing::Calling(_) | Standing::Sleeping(_) => style::busy,
            Standing::Completed | Standing::Waiting | Standing::Skipped(_) => style::good,
        };
        let name = style::fit(&step.id, name_width);
        let kind = style::faint(&style::fit(type_of(step), 13));
        let line = format!(
            "{} {name}  {kind}  {elapsed:>11}  {}  {}",
            style::sign(standing),
            paint(&bar),
            notes(timeline, index, standing)
        );
        let _ = writeln!(text, "  {}", line.trim_end());
    }
}

fn notes(timeline: &Timeline, index: usize, standing: Standing) -> String {
    let mut notes = Vec::new();
    if let Some(progress) = timeline.progress(index) {
        notes.push(style::progress(progress));
    }
    let attempt = timeline.state.steps[index].attempt;
    if attempt > 1 {
        notes.push(format!("{attempt} attempts"));
    }
    if let Some(run) = timeline.times[index].reused_from {
        notes.push(format!("from run {run}"));
    }
    match standing {
        Standing::Skipped(reason) => notes.push(format!("skipped: {}", style::skip_reason(reason))),
        Standing::Rejected => notes.push(style::rejected(timeline.rejection(index).as_deref())),
        Standing::Asking => notes.push("waits for a person".into()),
        Standing::Calling(child) => notes.push(format!("run {child}")),
        Standing::Sleeping(until) => notes.push(format!("until {}", style::time(until))),
        Standing::Retrying(due) => notes.push(format!("again at {}", style::time(due))),
        Standing::Recovered => notes.push("failed, and the run went on".into()),
        Standing::Cancelled => notes.push("cancelled".into()),
        Standing::Waiting | Standing::Running | Standing::Completed | Standing::Failed => {}
    }
    style::faint(&notes.join(", "))
}

fn errors(text: &mut String, timeline: &Timeline) {
    for (index, step) in timeline.order() {
        if let Some(error) = timeline.error(index) {
            let _ = writeln!(text, "\n{}", style::strong(&step.id));
            text.push_str(&style::step_error(error, "  "));
        }
    }
    let is_told = timeline.state.graph.steps.iter().enumerate().any(|(index, _)| timeline.error(index).is_some());
    if let (Some(Err(error)), false) = (&timeline.state.end, is_told) {
        text.push('\n');
        text.push_str(&style::step_error(error, ""));
    }
}

/// What can be done about the run now.
fn next(text: &mut String, context: &Context, record: &RunRecord, timeline: &Timeline, tasks: Vec<TaskRecord>) {
    let run = record.run.to_string();
    let paused = if record.awaiting == Some(Awaiting::Resume) { vec![record.run] } else { Vec::new() };
    let waits = follow::waiting_text(context, &Waiting { tasks, paused });
    if !waits.is_empty() {
        let _ = write!(text, "\n{waits}");
        return;
    }
    let (what, command) = match timeline.state.status {
        RunStatus::Failed if !timeline.state.is_refused() => ("try it again from the failed step:", "retry"),
        RunStatus::Pending | RunStatus::Running | RunStatus::Draining if context.server().is_some() => {
            let _ = writeln!(text, "\n{} {}", style::faint("follow it:"), context.command(&["logs", &run, "-f"]));
            return;
        }
        RunStatus::Pending | RunStatus::Running | RunStatus::Draining => ("go on with it:", "resume"),
        RunStatus::Paused | RunStatus::Completed | RunStatus::Failed | RunStatus::Stopped => return,
    };
    let _ = writeln!(text, "\n{} {}", style::faint(what), context.command(&[command, &run]));
}

/// The run's time as characters of a line.
struct Scale {
    from: Timestamp,
    micros: u64,
    width: usize,
}

impl Scale {
    fn bar(&self, spans: &[Span], now: Timestamp) -> String {
        let mut cells = vec!['·'; self.width];
        for span in spans {
            let first = self.cell(span.from).min(self.width - 1);
            let last = self.cell(span.to.unwrap_or(now)).clamp(first + 1, self.width);
            cells[first..last].fill('█');
        }
        cells.into_iter().collect()
    }

    /// The cell that a time falls into.
    fn cell(&self, at: Timestamp) -> usize {
        let part = u128::from(micros(self.from, at)) * self.width as u128 / u128::from(self.micros);
        usize::try_from(part).unwrap_or(usize::MAX)
    }
}

fn room(taken: usize) -> usize {
    screen::width().saturating_sub(taken)
}

fn micros(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.since(from).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_lies_where_the_step_worked_and_is_never_empty() {
        let at = Timestamp::from_micros;
        let scale = Scale { from: at(0), micros: 100, width: 10 };
        let bar = |from: i64, to: Option<i64>| scale.bar(&[Span { from: at(from), to: to.map(at) }], at(100));
        assert_eq!(bar(0, Some(50)), "█████·····");
        assert_eq!(bar(95, None), "·········█");
        assert_eq!(bar(100, Some(100)), "·········█");
        assert_eq!(bar(30, Some(30)), "···█······");
        assert_eq!(scale.bar(&[], at(100)), "··········");
    }
}
