//! The ways in which a run is shown while it goes: JSON lines, plain lines, a live table.
//!
//! What a run gives, its outputs, is not the screen's: that goes to stdout, while people watch stderr.

mod harmless;
mod plain;
mod speech;
mod table;

pub(crate) use speech::Speech;

use super::style;
use crate::operations::Timeline;
use agentruntime_engine::{node::OutputDelta, run::event::Event};
use std::io::{self, IsTerminal, Write};
use table::Table;

/// One of the ways.
pub(crate) enum Screen {
    /// Each event as one line of JSON on stdout.
    Json,
    /// A line for each event that matters, after one that names the workflow.
    Plain(String),
    /// A table of the steps, redrawn in place.
    Live(Table),
}

impl Screen {
    /// The way that suits the output, for a run of the workflow that people call so.
    pub(crate) fn new(json: bool, workflow: &str) -> Self {
        let stderr = io::stderr();
        let is_coloured = anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
        let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        if json {
            Self::Json
        } else if stderr.is_terminal() && is_coloured && !is_dumb {
            Self::Live(Table::of(workflow))
        } else {
            Self::Plain(workflow.to_owned())
        }
    }

    /// Whether it changes while nothing happens.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    /// Shows a run from where it is.
    pub(crate) fn begin(&mut self, timeline: &Timeline) -> io::Result<()> {
        match self {
            Self::Json => Ok(()),
            Self::Plain(workflow) => show(&plain::heading(workflow, timeline)),
            Self::Live(table) => table.draw(timeline),
        }
    }

    /// Shows events that just became durable.
    pub(crate) fn events(&mut self, timeline: &Timeline, events: &[Event]) -> io::Result<()> {
        match self {
            Self::Json => events.iter().try_for_each(|event| json_line(&event.public(timeline.state.run))),
            Self::Plain(_) => show(&events.iter().map(|event| plain::line(timeline, event)).collect::<String>()),
            Self::Live(table) => table.draw(timeline),
        }
    }

    /// Shows what a step gives while it is under way: only where that can be drawn over.
    pub(crate) fn output(&mut self, timeline: &Timeline, delta: &OutputDelta) -> io::Result<()> {
        match self {
            Self::Json | Self::Plain(_) => Ok(()),
            Self::Live(table) => {
                table.hear(timeline, delta);
                table.draw(timeline)
            }
        }
    }

    /// Shows that time goes by.
    pub(crate) fn tick(&mut self, timeline: &Timeline) -> io::Result<()> {
        match self {
            Self::Json | Self::Plain(_) => Ok(()),
            Self::Live(table) => table.draw(timeline),
        }
    }

    /// Shows how the run stands for good.
    pub(crate) fn end(&mut self, timeline: &Timeline) -> io::Result<()> {
        match self {
            Self::Json | Self::Plain(_) => Ok(()),
            Self::Live(table) => table.draw_whole(timeline),
        }
    }
}

/// Text for whoever watches.
pub(crate) fn show(text: &str) -> io::Result<()> {
    anstream::stderr().write_all(harmless::text(text).as_bytes()).map_err(unwritten)
}

/// A sentence beside the work, for whoever watches: nothing depends on its being read.
pub(crate) fn notice(sentence: &str) {
    let _ = show(&format!("{} {sentence}\n", style::faint("note:")));
}

/// Text that the command is asked for: to the letter for programs, harmless for a terminal.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let text = if io::stdout().is_terminal() { harmless::text(text) } else { text.into() };
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(unwritten)
}

fn unwritten(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write the output: {error}"))
}

/// One document on one line of stdout.
pub(crate) fn json_line(value: &serde_json::Value) -> io::Result<()> {
    print(&format!("{value}\n"))
}

/// The characters that a line of the terminal takes.
pub(crate) fn width() -> usize {
    terminal_size::terminal_size_of(io::stderr())
        .or_else(terminal_size::terminal_size)
        .map_or(100, |(terminal_size::Width(width), _)| usize::from(width))
        .clamp(40, 160)
}
