//! How things look: colours, durations, times, short forms of values. Whether colours get through is the stream's affair.

use crate::operations::timeline::{Progress, Standing};
use agentruntime_engine::{
    graph::{Issue, Severity},
    run::event::{RunStatus, SkipReason},
};
use agentruntime_host_api::{StepError, Timestamp};
use clap::builder::styling::{AnsiColor, Style};
use serde_json::Value;
use std::fmt::Write;

const BAD: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BUSY: Style = AnsiColor::Cyan.on_default();
const ATTENTION: Style = AnsiColor::Yellow.on_default();
const FAINT: Style = Style::new().dimmed();
const STRONG: Style = Style::new().bold();

/// Failure.
pub(crate) fn bad(text: &str) -> String {
    painted(BAD, text)
}

/// Success.
pub(crate) fn good(text: &str) -> String {
    painted(GOOD, text)
}

/// Work under way.
pub(crate) fn busy(text: &str) -> String {
    painted(BUSY, text)
}

/// Something that a person should look at.
pub(crate) fn attention(text: &str) -> String {
    painted(ATTENTION, text)
}

/// What matters less.
pub(crate) fn faint(text: &str) -> String {
    painted(FAINT, text)
}

/// What matters more.
pub(crate) fn strong(text: &str) -> String {
    painted(STRONG, text)
}

fn painted(style: Style, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{style}{text}{style:#}") }
}

/// The sign before a step.
pub(crate) fn sign(standing: Standing) -> String {
    match standing {
        Standing::Waiting => faint("·"),
        Standing::Running | Standing::Calling(_) | Standing::Sleeping(_) => busy("▸"),
        Standing::Retrying(_) => attention("↻"),
        Standing::Asking => attention("?"),
        Standing::Completed => good("✓"),
        Standing::Rejected => attention("✗"),
        Standing::Skipped(_) => faint("–"),
        Standing::Recovered => attention("!"),
        Standing::Failed => bad("✗"),
        Standing::Cancelled => bad("■"),
    }
}

/// A run's status in its colour.
pub(crate) fn status(status: RunStatus) -> String {
    let paint = match status {
        RunStatus::Completed => good,
        RunStatus::Failed | RunStatus::Stopped => bad,
        RunStatus::Paused | RunStatus::Draining => attention,
        RunStatus::Pending | RunStatus::Running => busy,
    };
    paint(status.as_str())
}

/// Why a step did not run, in words.
pub(crate) fn skip_reason(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::StepDisabled => "it is disabled",
        SkipReason::ConditionFalse => "its condition is false",
        SkipReason::UpstreamSkipped => "what it depends on was skipped",
        SkipReason::UpstreamRejected => "a person said no",
        SkipReason::OutOfScope => "the start left it out",
        SkipReason::Blocked => "the run failed before its turn",
    }
}

/// How far a loop is.
pub(crate) fn progress(progress: Progress) -> String {
    let Progress { done, total, failed, is_open_ended } = progress;
    let of = if is_open_ended { " of at most " } else { "/" };
    match failed {
        0 => format!("{done}{of}{total}"),
        failed => format!("{done}{of}{total}, {failed} failed"),
    }
}

/// A duration in the unit that suits it: 1 to 5 characters and the unit.
pub(crate) fn duration(micros: u64) -> String {
    // Exact enough for people: below 2^53 µs lie 285 years.
    let (millis, seconds) = (micros as f64 / 1e3, micros as f64 / 1e6);
    match micros {
        0..10_000 => format!("{millis:.1} ms"),
        10_000..1_000_000 => format!("{millis:.0} ms"),
        1_000_000..60_000_000 => format!("{seconds:.1} s"),
        60_000_000..3_600_000_000 => format!("{} min {:02} s", micros / 60_000_000, micros / 1_000_000 % 60),
        3_600_000_000..86_400_000_000 => format!("{} h {:02} min", micros / 3_600_000_000, micros / 60_000_000 % 60),
        _ => format!("{} d {:02} h", micros / 86_400_000_000, micros / 3_600_000_000 % 24),
    }
}

/// A time as people read it, in UTC to the second.
pub(crate) fn time(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..19).unwrap_or(&text).replace('T', " ") + " UTC"
}

/// A value on one line, cut where it is longer than that.
pub(crate) fn short(value: &str, chars_max: usize) -> String {
    let line = value.replace(['\n', '\r', '\t'], " ");
    match line.char_indices().nth(chars_max) {
        None => line,
        Some(_) => line.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A text padded or cut to a width.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let text = short(text, width);
    format!("{text:<width$}")
}

/// The longest part of a reason that a line shows: `show --json` and the events have all of it.
const REASON_CHARS_MAX: usize = 120;

/// That a person said no, and why, where they told: its first line.
pub(crate) fn rejected(reason: Option<&str>) -> String {
    match reason.and_then(|reason| reason.lines().next()) {
        Some(reason) => format!("rejected: {}", short(reason, REASON_CHARS_MAX)),
        None => "rejected".into(),
    }
}

/// A value over several lines, each indented.
pub(crate) fn pretty(value: &Value, indent: &str) -> String {
    let text = format!("{value:#}");
    text.lines().map(|line| format!("{indent}{line}\n")).collect()
}

/// A failure with all that is known: code, message, the traceback of a script.
pub(crate) fn step_error(error: &StepError, indent: &str) -> String {
    let mut text = String::new();
    let mut lines = error.message.lines();
    let _ = writeln!(text, "{indent}{}: {}", bad(&error.code.to_string()), lines.next().unwrap_or_default());
    let traceback = error.details.as_ref().map(|details| details.to_value());
    let traceback = traceback.as_ref().and_then(|details| details["traceback"].as_str()).unwrap_or_default();
    for line in lines.chain(traceback.lines()) {
        let _ = writeln!(text, "{indent}  {}", faint(line.trim_end()));
    }
    text
}

/// What a dry-run found, one paragraph each. What holds at several places is said once, with all of them.
pub(crate) fn issues(issues: &[Issue]) -> String {
    let mut text = String::new();
    for (first, issue) in issues.iter().enumerate() {
        if issues[..first].iter().any(|earlier| says_the_same(earlier, issue)) {
            continue;
        }
        let severity = match issue.severity {
            Severity::Error => bad("error"),
            Severity::Warning => attention("warning"),
        };
        let _ = writeln!(text, "{severity}: {}", issue.message);
        for at in issues[first..].iter().filter(|other| says_the_same(issue, other)) {
            let step = at.step_id.as_ref().map(|id| format!("step {} ", strong(id))).unwrap_or_default();
            let _ = writeln!(text, "  {} {step}{} {}", faint("at"), at.json_path, faint(&format!("[{}]", at.code)));
        }
        if let Some(suggestion) = &issue.suggestion {
            let _ = writeln!(text, "  {} {suggestion}", good("help:"));
        }
    }
    text
}

fn says_the_same(one: &Issue, other: &Issue) -> bool {
    (one.severity, one.code, &one.message, &one.suggestion)
        == (other.severity, other.code, &other.message, &other.suggestion)
}

/// A word for a POSIX shell.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=@%+,".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_takes_the_unit_that_suits_it() {
        let shown: Vec<String> =
            [0, 449, 10_400, 999_000, 1_240_000, 61_000_000, 7_260_000_000, 90_000_000_000].map(duration).into();
        assert_eq!(shown, ["0.0 ms", "0.4 ms", "10 ms", "999 ms", "1.2 s", "1 min 01 s", "2 h 01 min", "1 d 01 h"]);
    }

    #[test]
    fn a_time_is_shown_to_the_second() {
        assert_eq!(time(Timestamp::from_micros(1_767_225_600_000_001)), "2026-01-01 00:00:00 UTC");
    }

    #[test]
    fn values_are_cut_by_characters_and_on_one_line() {
        assert_eq!(short("äöü\nß", 5), "äöü ß");
        assert_eq!(short("äöü\nß", 4), "äöü…");
        assert_eq!(fit("ab", 4), "ab  ");
        assert_eq!(fit("abcdef", 4), "abc…");
    }

    #[test]
    fn a_copied_command_survives_the_shell() {
        assert_eq!(quoted("/var/lib/data"), "/var/lib/data");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }
}
