//! What is told of an answer when: a few pieces in a second, however many tokens come, without secrets.

use agentruntime_egress::Pieces;
use agentruntime_host_api::Live;
use std::time::Duration;
use tokio::time::Instant;

/// What comes within this time is one piece. Eyes see no difference, and followers get a tenth of the events.
const TELL_EVERY: Duration = Duration::from_millis(80);

/// Tells what a model says.
pub(super) struct Teller<'l> {
    live: &'l dyn Live,
    clean: Pieces,
    pending: String,
    part: u32,
    told_at: Option<Instant>,
}

impl<'l> Teller<'l> {
    pub(super) fn new(live: &'l dyn Live, clean: Pieces) -> Self {
        Self { live, clean, pending: String::new(), part: 0, told_at: None }
    }

    /// Takes what came; tells it if it is time, the first piece at once.
    pub(super) fn take(&mut self, text: &str, now: Instant) {
        self.pending += text;
        let is_time = self.told_at.is_none_or(|told_at| told_at + TELL_EVERY <= now);
        if is_time && !self.pending.is_empty() {
            self.tell(now);
        }
    }

    /// When there is something to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        self.told_at.filter(|_| !self.pending.is_empty()).map(|told_at| told_at + TELL_EVERY)
    }

    /// Tells what is there, but for what may be the beginning of a secret.
    pub(super) fn tell(&mut self, now: Instant) {
        let text = self.clean.push(&std::mem::take(&mut self.pending));
        self.told_at = Some(now);
        self.give(text);
    }

    /// Tells the rest: nothing more comes.
    pub(super) fn end(&mut self) {
        let text = self.clean.push(&std::mem::take(&mut self.pending)) + &self.clean.rest();
        self.give(text);
    }

    fn give(&mut self, text: String) {
        if !text.is_empty() {
            self.live.said(self.part, text);
            self.part += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Heard(Mutex<Vec<(u32, String)>>);

    impl Live for Heard {
        fn said(&self, part: u32, text: String) {
            self.0.lock().unwrap().push((part, text));
        }
    }

    fn heard(heard: &Heard) -> Vec<(u32, String)> {
        std::mem::take(&mut heard.0.lock().unwrap())
    }

    #[test]
    fn two_hundred_tokens_a_second_are_a_few_pieces() {
        let live = Heard::default();
        let mut teller = Teller::new(&live, Pieces::of([]));
        let mut now = Instant::now();
        for _ in 0..200 {
            teller.take("ab ", now);
            now += Duration::from_millis(5);
        }
        teller.end();
        let told = heard(&live);
        assert_eq!(told[0], (0, "ab ".into()), "the first at once");
        assert!((13..=14).contains(&told.len()), "{}", told.len());
        assert!(told.iter().zip(0..).all(|((part, _), number)| *part == number));
        assert_eq!(told.iter().map(|(_, text)| text.as_str()).collect::<String>(), "ab ".repeat(200));
    }

    #[test]
    fn what_came_is_told_in_time_although_nothing_follows() {
        let live = Heard::default();
        let mut teller = Teller::new(&live, Pieces::of([]));
        assert_eq!(teller.due(), None);
        let now = Instant::now();
        teller.take("a", now);
        teller.take("b", now);
        let due = teller.due().unwrap();
        assert_eq!(due, now + TELL_EVERY);
        teller.tell(due);
        assert_eq!(heard(&live), [(0, "a".into()), (1, "b".into())]);
        assert_eq!(teller.due(), None);
    }

    #[test]
    fn a_secret_that_comes_in_pieces_is_not_told() {
        let live = Heard::default();
        let mut teller = Teller::new(&live, Pieces::of([&SecretString::from("sk-live-c0ffee")]));
        let mut now = Instant::now();
        for piece in ["key: sk-", "live", "-c0", "ffee."] {
            teller.take(piece, now);
            now += TELL_EVERY;
        }
        teller.end();
        assert_eq!(heard(&live), [(0, "key: ".into()), (1, "[redacted].".into())]);
    }
}
