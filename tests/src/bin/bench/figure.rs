//! A figure, and how it is written.

use serde::Serialize;
use std::time::Duration;

/// How much work a benchmark does.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    /// Enough for figures that can be quoted.
    Full,
    /// Enough to see that it works.
    Quick,
}

impl Scale {
    /// The number of repetitions.
    pub(crate) fn of(self, full: usize, quick: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// One measured figure.
#[derive(Serialize)]
pub(crate) struct Figure<'a> {
    bench: &'a str,
    figure: &'a str,
    value: f64,
    unit: &'a str,
    better: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aim: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<f64>,
}

impl<'a> Figure<'a> {
    /// A figure of which less is better.
    pub(crate) fn lower(bench: &'a str, figure: &'a str, value: f64, unit: &'a str) -> Self {
        Self { bench, figure, value, unit, better: "lower", aim: None, baseline: None }
    }

    /// A figure of which more is better.
    pub(crate) fn higher(bench: &'a str, figure: &'a str, value: f64, unit: &'a str) -> Self {
        Self { better: "higher", ..Self::lower(bench, figure, value, unit) }
    }

    /// What it should reach.
    pub(crate) fn aim(self, aim: f64) -> Self {
        Self { aim: Some(rounded(aim)), ..self }
    }

    /// What it is measured beside, in the same unit.
    pub(crate) fn baseline(self, baseline: f64) -> Self {
        Self { baseline: Some(rounded(baseline)), ..self }
    }

    /// Prints the line.
    #[expect(clippy::print_stdout, reason = "the line is what the program is for")]
    pub(crate) fn print(mut self) {
        self.value = rounded(self.value);
        println!("{}", serde_json::to_string(&self).expect("a figure is JSON"));
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The value below which the given part of the samples lies.
pub(crate) fn percentile(samples: &mut [Duration], part: f64) -> Duration {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    samples.get((part * last as f64).round() as usize).copied().unwrap_or_default()
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
