//! The events of a run as they become durable, and the moment when it waits for somebody.
//!
//! Never moves a run on: a node does. A feed, such as a node of this process, tells of news at once; of a run that another
//! process works on, the source is asked now and then.

use super::{OperationError, RunSource, Timeline};
use agentruntime_engine::{
    node::{OutputDelta, Told, Watcher},
    run::event::Event,
    store::TaskRecord,
};
use agentruntime_host_api::RunId;
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use tokio::time::{self, Instant};

/// How long a follower listens before it looks up.
const IDLE: Duration = Duration::from_secs(3_600);

/// How often a source is asked, beside what a feed tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    after_news: Duration,
    first: Duration,
    last: Duration,
}

impl Pace {
    /// A store that this process has open: asking costs little.
    pub(crate) const NEAR: Self =
        Self { after_news: Duration::ZERO, first: Duration::from_millis(200), last: Duration::from_secs(1) };
    /// A server: asked where its feed is silent, and less and less often while nothing happens.
    pub(crate) const FAR: Self = Self {
        after_news: Duration::from_millis(150),
        first: Duration::from_millis(300),
        last: Duration::from_secs(3),
    };
}

/// Tells of the events of one run as they come.
#[async_trait]
pub(crate) trait Feed: Send {
    /// What is told next; nothing when it tells nothing any more. Can be dropped without losing any.
    async fn next(&mut self) -> Option<Told>;
}

#[async_trait]
impl Feed for Watcher {
    async fn next(&mut self) -> Option<Told> {
        self.next_told().await
    }
}

/// Follows one run.
pub(crate) struct Follower<S> {
    source: S,
    feed: Option<Box<dyn Feed>>,
    pace: Pace,
    /// When the source is asked next.
    ask_at: Instant,
    /// How long after that again, if nothing comes.
    ask_again: Duration,
    /// The run so far.
    pub(crate) timeline: Timeline,
    /// Up to here, events are old: what the run is at them says nothing, since a command is on its way.
    stale_until: u64,
}

/// What a follower tells.
pub(crate) enum News {
    /// The next events; they are in the timeline already.
    Events(Vec<Event>),
    /// A piece of what a step under way gives.
    Output(Arc<OutputDelta>),
    /// Nothing happens any more unless somebody does something.
    Waiting(Waiting),
    /// The run is over.
    Ended,
    /// Nothing came in the time that was given.
    Nothing,
}

/// What a run, or its children, wait for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Questions that wait for an answer.
    pub(crate) tasks: Vec<TaskRecord>,
    /// Runs that wait to be resumed.
    pub(crate) paused: Vec<RunId>,
}

impl<S: RunSource> Follower<S> {
    /// Follows a run from where it is; with a feed, news come at once.
    pub(crate) async fn new(source: S, feed: Option<Box<dyn Feed>>, pace: Pace, run: RunId) -> Result<Self, S::Error> {
        let record = source.run(run).await?;
        let timeline = source.timeline(&record).await?;
        Ok(Self { source, feed, pace, ask_at: Instant::now(), ask_again: pace.first, timeline, stale_until: 0 })
    }

    /// Waits for something new before it says that the run has ended or waits: a command that changes that is under way.
    pub(crate) fn expect_change_after(&mut self, seq: u64) {
        self.stale_until = self.stale_until.max(seq);
    }

    /// The same for what is known now: that the run waits was told, and it goes on only if somebody does something.
    pub(crate) fn expect_change(&mut self) {
        self.expect_change_after(self.timeline.state.seq);
        self.ask_at = Instant::now() + self.ask_again;
    }

    /// The next news, however long they take.
    pub(crate) async fn next(&mut self) -> Result<News, S::Error> {
        loop {
            match self.next_within(IDLE).await? {
                News::Nothing => {}
                news => return Ok(news),
            }
        }
    }

    /// The next news. Asking the source is not cut short when the time is over, since its answer would be lost; dropped
    /// at any time, this loses none.
    pub(crate) async fn next_within(&mut self, time: Duration) -> Result<News, S::Error> {
        let end = Instant::now() + time;
        loop {
            if self.ask_at <= Instant::now()
                && let Some(news) = self.ask().await?
            {
                return Ok(news);
            }
            let told = self.hear(self.ask_at.min(end)).await;
            if let Some(Told::Output(delta)) = told {
                // What comes late says nothing of a step that has ended.
                if self.timeline.is_under_way(&delta.path, delta.attempt) {
                    return Ok(News::Output(delta));
                }
            } else if let Some(Told::Events(batch)) = told {
                let known = self.timeline.state.seq;
                let new: Vec<Event> = batch.iter().filter(|event| event.seq > known).cloned().collect();
                if new.first().is_some_and(|first| first.seq == known + 1) {
                    let next = Instant::now() + self.pace.after_news;
                    return Ok(self.take(new, next)?);
                }
                self.ask_at = Instant::now();
            } else if end <= Instant::now() && Instant::now() < self.ask_at {
                return Ok(News::Nothing);
            }
        }
    }

    /// Asks the source what there is to tell.
    async fn ask(&mut self) -> Result<Option<News>, S::Error> {
        let run = self.timeline.state.run;
        if !self.is_over() {
            let events = self.source.events(run, self.timeline.state.seq).await?;
            if !events.is_empty() {
                return Ok(Some(self.take(events, Instant::now())?));
            }
        }
        if self.is_over() {
            return Ok(Some(News::Ended));
        }
        if self.timeline.state.seq > self.stale_until {
            let record = self.source.run(run).await?;
            let is_current = record.last_seq == self.timeline.state.seq;
            if is_current && let Some(waiting) = self.source.waiting(&record, &self.timeline).await? {
                return Ok(Some(News::Waiting(waiting)));
            }
        }
        self.ask_at = Instant::now() + self.ask_again;
        self.ask_again = (self.ask_again * 2).min(self.pace.last);
        Ok(None)
    }

    fn is_over(&self) -> bool {
        self.timeline.state.seq > self.stale_until && self.timeline.state.status.is_final()
    }

    fn take(&mut self, events: Vec<Event>, ask_at: Instant) -> Result<News, OperationError> {
        for event in &events {
            self.timeline.apply(event)?;
        }
        // What ends a run is the last to be told of it.
        self.ask_at = if self.is_over() { Instant::now() } else { ask_at };
        self.ask_again = self.pace.first;
        Ok(News::Events(events))
    }

    /// What the feed tells until then.
    async fn hear(&mut self, until: Instant) -> Option<Told> {
        let Some(feed) = &mut self.feed else {
            time::sleep_until(until).await;
            return None;
        };
        match time::timeout_at(until, feed.next()).await {
            Ok(Some(told)) => Some(told),
            // It tells nothing any more: from here on the source is asked.
            Ok(None) => {
                self.feed = None;
                None
            }
            Err(_) => None,
        }
    }
}
