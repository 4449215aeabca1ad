//! The events of a run as a stream: from a number on, each once, in order, none before it is durable, to the run's end.
//!
//! What is past is read from the store page by page, as fast as it is taken; then the node tells. Who takes slowly holds a
//! page, and nothing in the run waits for it.
//!
//! Where the run is worked on in this process, what its steps give meanwhile is told, too, as far as the reader keeps up.

use super::{OperationError, Project};
use agentruntime_engine::{
    node::{Node, OutputDelta, Told, Watcher},
    run::event::{Event, EventKind, StepPath},
};
use agentruntime_host_api::RunId;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::time;

/// Events read at once: what a stream holds of the past.
const PAGE_EVENTS_MAX: u32 = 100;
/// Attempts and requests that ended while a stream read the past, of which it is remembered that they did.
const OVER_MAX: usize = 1_000;
/// How soon the store is asked where the node tells nothing: another process may have the run.
const ASK_FIRST: Duration = Duration::from_millis(200);
/// How seldom the store is asked at last, where other processes may write to it.
const ASK_LAST_SHARED: Duration = Duration::from_secs(2);
/// The same where none can: all news come from this process.
const ASK_LAST_OWN: Duration = Duration::from_secs(15);

/// Follows the events of one run.
pub(crate) struct RunFeed {
    project: Project,
    run: RunId,
    watcher: Option<Watcher>,
    /// The number of the last event that was told.
    seq: u64,
    /// Whether all that the store had was told, so that the node's news continue it.
    is_live: bool,
    /// Whether the store is asked only because nothing came for a while.
    is_silent: bool,
    /// What the store told to be over, of which pieces may still lie among the node's news.
    over: Over,
    /// How many of the node's news are older than what the store told.
    stale: usize,
    ask_after: Duration,
}

/// Attempts and requests that have ended.
#[derive(Default)]
struct Over {
    ended: HashSet<(StepPath, u32, Option<u32>)>,
    /// There are more than are remembered: everything counts as one of them.
    is_full: bool,
}

impl Over {
    fn take(&mut self, events: &[Event]) {
        for event in events {
            let number = match &event.kind {
                EventKind::RequestCompleted { number, .. } => Some(*number),
                EventKind::StepCompleted { .. } | EventKind::StepFailed { .. } | EventKind::StepRetrying { .. } => None,
                _ => continue,
            };
            self.is_full |= self.ended.len() >= OVER_MAX;
            if let (Some(path), Some(attempt), false) = (event.kind.path(), event.kind.attempt(), self.is_full) {
                self.ended.insert((path.clone(), attempt, number));
            }
        }
    }

    fn has(&self, delta: &OutputDelta) -> bool {
        let ended = |number| self.ended.contains(&(delta.path.clone(), delta.attempt, number));
        self.is_full || ended(None) || ended(Some(delta.number))
    }

    fn clear(&mut self) {
        self.ended.clear();
        self.is_full = false;
    }
}

/// What comes next.
pub(crate) enum RunNews {
    /// Events.
    Events(Vec<Event>),
    /// A piece of what a step gives.
    Output(Arc<OutputDelta>),
}

impl RunFeed {
    /// Follows a run from after an event on.
    pub(crate) fn after(project: Project, node: &Node, run: RunId, seq: u64) -> Self {
        // First the watcher, then the store: what is committed in between comes twice, and is told once.
        let watcher = Some(node.watch(run));
        Self {
            project,
            run,
            watcher,
            seq,
            is_live: false,
            is_silent: false,
            over: Over::default(),
            stale: 0,
            ask_after: ASK_FIRST,
        }
    }

    /// The next events, or a piece of output; nothing when the run has ended and all is told.
    pub(crate) async fn next(&mut self) -> Result<Option<RunNews>, OperationError> {
        loop {
            if !self.is_live {
                let page = self.project.events_page(self.run, self.seq, PAGE_EVENTS_MAX).await?;
                // What came while the store was asked has those events as well, and in front of them what was said before.
                if std::mem::take(&mut self.is_silent) && !page.is_empty() && self.waiting() > 0 {
                    self.is_live = true;
                    continue;
                }
                if let Some(events) = self.told(page) {
                    self.over.take(&events);
                    return Ok(Some(RunNews::Events(events)));
                }
                let record = self.project.run(self.run).await?;
                let is_current = record.last_seq <= self.seq;
                if is_current && record.status.is_final() {
                    return Ok(None);
                }
                self.is_live = is_current;
                if is_current {
                    self.stale = self.waiting();
                }
                continue;
            }
            let batch = match self.news().await {
                Some(Told::Events(batch)) => batch,
                Some(Told::Output(delta)) => return Ok(Some(RunNews::Output(delta))),
                None => {
                    (self.is_live, self.is_silent) = (false, true);
                    continue;
                }
            };
            let new: Vec<Event> = batch.iter().filter(|event| event.seq > self.seq).cloned().collect();
            // Where something is missing, or the run may be over, the store knows.
            let follows = new.first().is_none_or(|first| first.seq == self.seq + 1);
            self.is_live = follows && !new.iter().any(|event| event.kind.ends_run());
            if follows && let Some(events) = self.told(new) {
                return Ok(Some(RunNews::Events(events)));
            }
        }
    }

    fn told(&mut self, events: Vec<Event>) -> Option<Vec<Event>> {
        self.seq = events.last()?.seq;
        self.ask_after = ASK_FIRST;
        Some(events)
    }

    /// How much the node told that was not taken yet.
    fn waiting(&self) -> usize {
        self.watcher.as_ref().map_or(0, Watcher::waiting)
    }

    /// What the node tells next; nothing after a while, or where it cannot tell any more.
    async fn news(&mut self) -> Option<Told> {
        let wait = self.ask_after;
        let last = if self.project.store.is_shared() { ASK_LAST_SHARED } else { ASK_LAST_OWN };
        let Some(watcher) = &mut self.watcher else {
            self.ask_after = (wait * 2).min(last);
            time::sleep(wait.min(ASK_LAST_SHARED)).await;
            return None;
        };
        let next = async {
            loop {
                if self.stale == 0 {
                    self.over.clear();
                }
                let told = watcher.next_told().await;
                self.stale = self.stale.saturating_sub(1);
                // A piece of what the reader knows to be over is no news.
                if !matches!(&told, Some(Told::Output(delta)) if self.over.has(delta)) {
                    return told;
                }
            }
        };
        let told = match time::timeout(wait, next).await {
            Ok(Some(told)) => Some(told),
            Ok(None) => {
                self.watcher = None;
                None
            }
            Err(_) => None,
        };
        // While a step gives something, the store has nothing else to say.
        if !matches!(told, Some(Told::Output(_))) {
            self.ask_after = (wait * 2).min(last);
        }
        told
    }
}
