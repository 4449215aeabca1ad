//! Durable events for those who follow a run. Nothing is told before it is committed.

use crate::run::event::Event;
use agentruntime_host_api::RunId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;

/// Batches a follower may be behind before it is dropped: it then reads on from the store.
const BATCHES_MAX: usize = 1_024;

type Batch = Arc<[Event]>;
type Listeners = HashMap<RunId, Vec<mpsc::Sender<Batch>>>;

#[derive(Default)]
pub(super) struct Watchers(Arc<Mutex<Listeners>>);

/// Follows the events of one run.
pub struct Watcher {
    run: RunId,
    batches: mpsc::Receiver<Batch>,
    listeners: Arc<Mutex<Listeners>>,
}

impl Drop for Watcher {
    /// A run that nobody follows leaves nothing behind, and neither does one that was never started.
    fn drop(&mut self) {
        self.batches.close();
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(senders) = listeners.get_mut(&self.run) {
            senders.retain(|sender| !sender.is_closed());
            if senders.is_empty() {
                listeners.remove(&self.run);
            }
        }
    }
}

impl Watcher {
    /// The next events, in order; nothing when the follower was too slow, or the node is gone or lost the run: read on from the
    /// store.
    pub async fn next(&mut self) -> Option<Arc<[Event]>> {
        self.batches.recv().await
    }
}

impl Watchers {
    pub(super) fn watch(&self, run: RunId) -> Watcher {
        let (sender, batches) = mpsc::channel(BATCHES_MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(run).or_default().push(sender);
        Watcher { run, batches, listeners: self.0.clone() }
    }

    /// Lets the followers of a run go: what happens to it next is not known here.
    pub(super) fn end(&self, run: RunId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    /// Hands durable events to the followers; those that are gone or too slow are let go.
    pub(super) fn publish(&self, run: RunId, events: Vec<Event>) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(senders) = listeners.get_mut(&run) else { return };
        let batch: Batch = events.into();
        senders.retain(|sender| sender.try_send(batch.clone()).is_ok());
        if senders.is_empty() {
            listeners.remove(&run);
        }
    }
}
