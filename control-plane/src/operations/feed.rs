//! The events of a run as a stream: from a number on, each once, in order, none before it is durable, to the run's end.
//!
//! What is past is read from the store page by page, as fast as it is taken; then the node tells. Who takes slowly holds a
//! page, and nothing in the run waits for it.

use super::{OperationError, Project};
use agentruntime_engine::{
    node::{Node, Watcher},
    run::event::Event,
};
use agentruntime_host_api::RunId;
use std::{sync::Arc, time::Duration};
use tokio::time;

/// Events read at once: what a stream holds of the past.
const PAGE_EVENTS_MAX: u32 = 100;
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
    ask_after: Duration,
}

impl RunFeed {
    /// Follows a run from after an event on.
    pub(crate) fn after(project: Project, node: &Node, run: RunId, seq: u64) -> Self {
        // First the watcher, then the store: what is committed in between comes twice, and is told once.
        let watcher = Some(node.watch(run));
        Self { project, run, watcher, seq, is_live: false, ask_after: ASK_FIRST }
    }

    /// The next events; nothing when the run has ended and all is told.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Event>>, OperationError> {
        loop {
            if !self.is_live {
                let page = self.project.events_page(self.run, self.seq, PAGE_EVENTS_MAX).await?;
                if let Some(events) = self.told(page) {
                    return Ok(Some(events));
                }
                let record = self.project.run(self.run).await?;
                let is_current = record.last_seq <= self.seq;
                if is_current && record.status.is_final() {
                    return Ok(None);
                }
                self.is_live = is_current;
                continue;
            }
            let Some(batch) = self.news().await else {
                self.is_live = false;
                continue;
            };
            let new: Vec<Event> = batch.iter().filter(|event| event.seq > self.seq).cloned().collect();
            // Where something is missing, or the run may be over, the store knows.
            let follows = new.first().is_none_or(|first| first.seq == self.seq + 1);
            self.is_live = follows && !new.iter().any(|event| event.kind.ends_run());
            if follows && let Some(events) = self.told(new) {
                return Ok(Some(events));
            }
        }
    }

    fn told(&mut self, events: Vec<Event>) -> Option<Vec<Event>> {
        self.seq = events.last()?.seq;
        self.ask_after = ASK_FIRST;
        Some(events)
    }

    /// What the node tells next; nothing after a while, or where it cannot tell any more.
    async fn news(&mut self) -> Option<Arc<[Event]>> {
        let wait = self.ask_after;
        let last = if self.project.store.is_shared() { ASK_LAST_SHARED } else { ASK_LAST_OWN };
        self.ask_after = (wait * 2).min(last);
        let Some(watcher) = &mut self.watcher else {
            time::sleep(wait.min(ASK_LAST_SHARED)).await;
            return None;
        };
        match time::timeout(wait, watcher.next()).await {
            Ok(Some(batch)) => Some(batch),
            Ok(None) => {
                self.watcher = None;
                None
            }
            Err(_) => None,
        }
    }
}
