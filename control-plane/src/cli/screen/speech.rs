//! What models say, on a terminal, between lines about events.

use super::harmless;
use agentruntime_engine::{node::OutputDelta, run::event::StepPath};

/// Who speaks: a step, its attempt, and the request that is answered.
#[derive(Clone, PartialEq)]
struct Speaker(StepPath, u32, u32);

impl Speaker {
    fn of(delta: &OutputDelta) -> Self {
        Self(delta.path.clone(), delta.attempt, delta.number)
    }
}

/// Text that goes on until somebody else speaks or something happens.
#[derive(Default)]
pub(crate) struct Speech(Option<Speaker>);

impl Speech {
    /// What is to be written for a piece: it follows the piece before, or begins a line with the step's name.
    pub(crate) fn text(&mut self, delta: &OutputDelta) -> String {
        let (speaker, text) = (Speaker::of(delta), harmless::said(&delta.text));
        if delta.part > 0 && self.0.as_ref() == Some(&speaker) {
            return text;
        }
        let begun = format!("{}{:>5}  {}: {text}", self.end(), "", delta.path);
        self.0 = Some(speaker);
        begun
    }

    /// What is to be written before anything else.
    pub(crate) fn end(&mut self) -> &'static str {
        if self.0.take().is_some() { "\n" } else { "" }
    }
}

/// The end of what was said last, for one line.
#[derive(Default)]
pub(super) struct Tail {
    speaker: Option<Speaker>,
    text: String,
}

/// What is remembered of it: more than a line.
const TAIL_CHARS_MAX: usize = 200;

impl Tail {
    /// Takes a piece.
    pub(super) fn hear(&mut self, delta: &OutputDelta) {
        let speaker = Some(Speaker::of(delta));
        if delta.part == 0 || self.speaker != speaker {
            self.text.clear();
        }
        self.speaker = speaker;
        self.text += &harmless::said(&delta.text).replace(['\n', '\t'], " ");
        self.text = last(&self.text, TAIL_CHARS_MAX).to_owned();
    }

    /// So many of the last characters.
    pub(super) fn shown(&self, chars: usize) -> String {
        match last(&self.text, chars) {
            all if all.len() == self.text.len() => all.to_owned(),
            _ => format!("…{}", last(&self.text, chars.saturating_sub(1))),
        }
    }
}

fn last(text: &str, chars: usize) -> &str {
    match chars.checked_sub(1) {
        Some(before) => text.char_indices().nth_back(before).map_or(text, |(at, _)| &text[at..]),
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(step: &str, part: u32, text: &str) -> OutputDelta {
        OutputDelta { path: StepPath::top(&step.into()), attempt: 1, number: 1, part, text: text.into() }
    }

    #[test]
    fn speakers_take_turns_on_lines_of_their_own() {
        let mut speech = Speech::default();
        assert_eq!(speech.end(), "");
        assert_eq!(speech.text(&delta("a", 0, "Hel")), "       a: Hel");
        assert_eq!(speech.text(&delta("a", 1, "lo\u{1b}[2J")), "lo\u{fffd}[2J");
        assert_eq!(speech.text(&delta("b", 4, "x")), "\n       b: x");
        assert_eq!(speech.text(&delta("b", 0, "anew")), "\n       b: anew");
        assert_eq!((speech.end(), speech.end()), ("\n", ""));
    }

    #[test]
    fn a_line_has_the_end_of_what_was_said() {
        let mut tail = Tail::default();
        tail.hear(&delta("a", 0, "one\ntwo "));
        tail.hear(&delta("a", 1, "thr\u{e9}e"));
        assert_eq!((tail.shown(20).as_str(), tail.shown(6).as_str()), ("one two thr\u{e9}e", "…thr\u{e9}e"));
        tail.hear(&delta("a", 2, &"x".repeat(1_000)));
        assert_eq!(tail.shown(1_000).len(), TAIL_CHARS_MAX);
        tail.hear(&delta("b", 3, "b"));
        assert_eq!(tail.shown(5), "b");
        assert_eq!(tail.shown(0), "…");
    }
}
