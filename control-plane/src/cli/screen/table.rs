//! The steps as a table that is redrawn in place.
//!
//! Each drawing is one write: back to the first line, every line overwritten and cleared to its end. A table that is higher
//! than the terminal shows the part where something happens.

use super::{harmless, speech::Tail};
use crate::{
    cli::style::{self, faint},
    operations::{
        Timeline,
        timeline::{Standing, type_of},
    },
};
use agentruntime_engine::{
    graph::StepIndex,
    node::OutputDelta,
    store::{Clock, SystemClock},
};
use agentruntime_host_api::Timestamp;
use std::{
    collections::HashMap,
    io::{self, Write},
};

/// The terminal shows what follows at once, when it is complete, if it knows how; and cuts lines that are longer than it is
/// wide, so that each stays one line.
const BEGIN: &str = "\x1b[?2026h\x1b[?7l";
const END: &str = "\x1b[?7h\x1b[?2026l";
/// What a name may take of the line.
const NAME_CHARS_MAX: usize = 32;

/// What is on the terminal.
pub(crate) struct Table {
    workflow: String,
    lines: usize,
    frame: usize,
    said: Said,
}

/// What steps said last.
type Said = HashMap<StepIndex, Tail>;

impl Table {
    /// A table for a run of the workflow that people call so.
    pub(super) fn of(workflow: &str) -> Self {
        Self { workflow: workflow.to_owned(), lines: 0, frame: 0, said: Said::new() }
    }

    /// Takes in what a step says.
    pub(super) fn hear(&mut self, timeline: &Timeline, delta: &OutputDelta) {
        if let Some(step) = timeline.state.graph.step(&delta.path.step) {
            self.said.entry(step).or_default().hear(delta);
        }
    }

    /// Draws the table over the one before.
    pub(super) fn draw(&mut self, timeline: &Timeline) -> io::Result<()> {
        let height = terminal_size::terminal_size_of(io::stderr()).map_or(24, |(_, height)| usize::from(height.0));
        self.put(&rows(&self.workflow, timeline, &self.said, self.frame, height.saturating_sub(1).max(3)))
    }

    /// Draws all of the table, as it is to stay on the terminal.
    pub(super) fn draw_whole(&mut self, timeline: &Timeline) -> io::Result<()> {
        self.put(&rows(&self.workflow, timeline, &self.said, self.frame, usize::MAX))?;
        self.lines = 0;
        Ok(())
    }

    fn put(&mut self, rows: &[String]) -> io::Result<()> {
        let mut text = String::from(BEGIN);
        if self.lines > 0 {
            // What was typed meanwhile, as the ^C of an interruption, may have moved the cursor along its line.
            text.push_str(&format!("\r\x1b[{}A", self.lines));
        }
        for row in rows {
            text.push_str(&harmless::text(row));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        text.push_str(END);
        self.lines = rows.len();
        self.frame += 1;
        let mut stderr = anstream::stderr().lock();
        stderr.write_all(text.as_bytes())?;
        stderr.flush()
    }
}

fn rows(workflow: &str, timeline: &Timeline, said: &Said, frame: usize, height: usize) -> Vec<String> {
    let now = SystemClock.now();
    let names = timeline.state.graph.steps.iter().map(|step| step.id.chars().count());
    let name_width = names.max().unwrap_or(0).min(NAME_CHARS_MAX);
    let mut steps = Vec::with_capacity(timeline.times.len());
    let mut busiest = 0;
    for (index, _) in timeline.order() {
        let standing = timeline.standing(index);
        if !matches!(standing, Standing::Waiting | Standing::Skipped(_)) {
            busiest = steps.len();
        }
        steps.push(row(timeline, index, standing, said.get(&index), name_width, frame, now));
    }
    let mut rows = vec![heading(workflow, timeline, now)];
    let room = height.saturating_sub(1);
    if steps.len() <= room {
        rows.extend(steps);
        return rows;
    }
    let shown = room.saturating_sub(1);
    let first = busiest.saturating_sub(shown / 2).min(steps.len() - shown);
    rows.extend(steps.drain(first..first + shown));
    rows.push(faint(&format!("  … {} steps in all", timeline.times.len())));
    rows
}

fn heading(workflow: &str, timeline: &Timeline, now: Timestamp) -> String {
    let state = &timeline.state;
    let end = if state.status.is_final() { timeline.last_at } else { now };
    let elapsed = u64::try_from(end.since(state.started_at).as_micros()).unwrap_or(u64::MAX);
    let what = format!("{} version {}", style::strong(workflow), state.start.version);
    format!("{what}  {}  {}  {}", style::status(state.status), style::duration(elapsed), faint(&state.run.to_string()))
}

fn row(
    timeline: &Timeline,
    index: StepIndex,
    standing: Standing,
    said: Option<&Tail>,
    name_width: usize,
    frame: usize,
    now: Timestamp,
) -> String {
    let sign = match standing {
        Standing::Running => style::busy(["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"][frame % 10]),
        other => style::sign(other),
    };
    let elapsed = timeline.elapsed_us(index, now).filter(|_| timeline.times[index].reused_from.is_none());
    let elapsed = elapsed.map(style::duration).unwrap_or_default();
    let mut notes = Vec::new();
    if let Some(progress) = timeline.progress(index) {
        notes.push(style::progress(progress));
    }
    let attempt = timeline.state.steps[index].attempt;
    if attempt > 1 {
        notes.push(format!("attempt {attempt}"));
    }
    notes.extend(note(timeline, index, standing, now));
    let room = super::width().saturating_sub(2 + 2 + name_width + 2 + 13 + 2 + 11 + 2);
    let mut notes = style::short(&notes.join(", "), room.max(8));
    if let (Some(said), Standing::Running) = (said, standing) {
        let between = if notes.is_empty() { "" } else { "  " };
        notes = format!(
            "{notes}{between}{}",
            said.shown(room.max(8).saturating_sub(notes.chars().count() + between.len()))
        );
    }
    let notes = if matches!(standing, Standing::Failed) { style::bad(&notes) } else { faint(&notes) };
    let step = &timeline.state.graph.steps[index];
    let name = style::fit(&step.id, name_width);
    let kind = faint(&style::fit(type_of(step), 13));
    format!("  {sign} {name}  {kind}  {elapsed:>11}  {notes}")
}

fn note(timeline: &Timeline, index: usize, standing: Standing, now: Timestamp) -> Option<String> {
    let until = |due: Timestamp| style::duration(u64::try_from(due.since(now).as_micros()).unwrap_or(u64::MAX));
    match standing {
        Standing::Waiting | Standing::Running | Standing::Completed | Standing::Cancelled => {
            timeline.times[index].reused_from.map(|run| format!("taken over from run {run}"))
        }
        Standing::Retrying(due) => Some(format!("again in {}", until(due))),
        Standing::Asking => Some("waits for a person".into()),
        Standing::Calling(child) => Some(format!("run {child}")),
        Standing::Sleeping(due) => Some(format!("sleeps another {}", until(due))),
        Standing::Rejected => Some(style::rejected(timeline.rejection(index).as_deref())),
        Standing::Skipped(reason) => Some(format!("skipped: {}", style::skip_reason(reason))),
        Standing::Recovered | Standing::Failed => timeline.error(index).map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentruntime_engine::{
        graph::Graph,
        run::event::{Event, EventKind, Start, StepPath},
    };
    use agentruntime_host_api::{Json, RunId, WorkflowId};
    use serde_json::{Value, json};
    use std::sync::Arc;

    /// A run of 20 steps, one after the other, of which the first `completed` are through and the next is under way.
    fn timeline(completed: usize) -> Timeline {
        let after = |position: usize| match position {
            0 => json!([]),
            position => json!([format!("s{}", position - 1)]),
        };
        let steps: Vec<Value> = (0..20)
            .map(|it| json!({ "id": format!("s{it}"), "type": "lua_script", "script": "return {}", "depends_on": after(it) }))
            .collect();
        let graph = Arc::new(Graph::parse(&json!({ "steps": steps })).unwrap());
        let start = Start {
            workflow: WorkflowId::new("long"),
            version: 1,
            input: Json::empty_object(),
            trigger_steps: Default::default(),
            excluded_step_ids: Vec::new(),
            trigger_type: "manual".into(),
            external_user_id: None,
            user_id: None,
            pat_id: None,
            due_at: None,
            trace_parent: None,
            parent: None,
            reuse: None,
        };
        let mut seq = 0;
        let mut event = |kind: EventKind| {
            seq += 1;
            Event { seq, at: Timestamp::from_micros(0), kind }
        };
        let first = event(EventKind::RunStarted(Box::new(start)));
        let mut timeline = Timeline::begin(RunId::new_v7(), graph, &first).unwrap();
        for position in 0..=completed {
            let path = StepPath::top(&format!("s{position}").into());
            timeline.apply(&event(EventKind::StepStarted { path: path.clone(), attempt: 1, inputs: None })).unwrap();
            if position < completed {
                let (result, duration_us) = (Json::empty_object(), 1_500);
                let done =
                    EventKind::StepCompleted { path, attempt: 1, result, duration_us, fuel: None, reused_from: None };
                timeline.apply(&event(done)).unwrap();
            }
        }
        timeline
    }

    #[test]
    fn a_table_that_is_higher_than_the_terminal_shows_where_something_happens() {
        for completed in [0, 9, 19] {
            let rows = rows("long", &timeline(completed), &Said::new(), 0, 10);
            assert_eq!(rows.len(), 10);
            assert!(rows.iter().any(|row| row.contains('⠋') && row.contains(&format!("s{completed} "))), "{rows:#?}");
            assert!(rows[9].contains("20 steps in all"), "{rows:#?}");
        }
    }

    #[test]
    fn a_step_that_is_under_way_has_the_end_of_what_it_says() {
        let (mut table, timeline) = (Table::of("long"), timeline(2));
        for (step, text) in [("s1", "past"), ("s2", "Hello\n\u{1b}[31mAda"), ("gone", "?")] {
            let path = StepPath::top(&step.into());
            table.hear(&timeline, &OutputDelta { path, attempt: 1, number: 1, part: 0, text: text.into() });
        }
        let rows = rows("long", &timeline, &table.said, 0, 21);
        assert!(rows[3].contains("Hello \u{fffd}[31mAda"), "{rows:#?}");
        assert!(!rows.concat().contains("past") && !rows.concat().contains('?'), "{rows:#?}");
    }

    #[test]
    fn a_table_that_fits_has_every_step_with_its_duration() {
        let rows = rows("long", &timeline(2), &Said::new(), 0, 21);
        assert_eq!(rows.len(), 21);
        assert!(rows[1].contains('✓') && rows[1].contains("1.5 ms"), "{rows:#?}");
        assert!(rows[4].contains('·'), "{rows:#?}");
    }
}
