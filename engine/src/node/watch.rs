//! Durable events for those who follow a run, or all runs of a workflow. No event is told before it is committed.
//!
//! Those who follow one run are told what its steps give meanwhile, too, as far as they keep up.

use super::{Commission, Shared, output::OutputDelta};
use crate::{
    run::event::Event,
    store::{Append, NewRun},
};
use agentruntime_host_api::RunId;
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::mpsc;

/// Batches a follower may be behind before it is dropped: it then reads on from the store.
const BATCHES_MAX: usize = 1_024;
/// What a follower may be behind and still be told pieces of output: the rest of its room is for events.
const BEHIND_FOR_OUTPUT_MAX: usize = 64;

type Batch = Arc<[Event]>;

/// What those who follow a run are told.
#[derive(Clone, Debug)]
pub enum Told {
    /// Events that are durable.
    Events(Arc<[Event]>),
    /// What a step gives meanwhile. It comes after the events that it follows from, and before those that follow from it.
    Output(Arc<OutputDelta>),
}

/// Who follows.
#[derive(Clone, Default)]
pub(super) struct Watchers {
    runs: Listeners<RunId, Told>,
    workflows: Listeners<Commission, (RunId, Batch)>,
}

/// Follows the events of one run.
pub struct Watcher(Listener<RunId, Told>);

impl Watcher {
    /// The next events, in order; nothing when the follower was too slow, or the node is gone or lost the run: read on from the
    /// store.
    pub async fn next(&mut self) -> Option<Arc<[Event]>> {
        loop {
            if let Told::Events(events) = self.next_told().await? {
                return Some(events);
            }
        }
    }

    /// The same with what steps give meanwhile.
    pub async fn next_told(&mut self) -> Option<Told> {
        self.0.news.recv().await
    }

    /// How much was told that is not taken yet.
    pub fn waiting(&self) -> usize {
        self.0.news.len()
    }
}

/// Follows the events of all runs of one workflow that this node works on or accepts.
pub struct WorkflowWatcher(Listener<Commission, (RunId, Batch)>);

impl WorkflowWatcher {
    /// The next events of one run, in that run's order; nothing when the follower was too slow, or the node is gone. A run
    /// that another node takes over falls silent.
    pub async fn next(&mut self) -> Option<(RunId, Arc<[Event]>)> {
        self.0.news.recv().await
    }
}

impl Watchers {
    pub(super) fn watch(&self, run: RunId) -> Watcher {
        Watcher(self.runs.listen(run))
    }

    pub(super) fn watch_workflow(&self, workflow: Commission) -> WorkflowWatcher {
        WorkflowWatcher(self.workflows.listen(workflow))
    }

    /// Lets the followers of a run go: what happens to it next is not known here.
    pub(super) fn end(&self, run: RunId) {
        self.runs.lock().remove(&run);
    }

    fn has_any(&self, run: RunId, commission: &Commission) -> bool {
        self.runs.has(&run) || self.workflows.has(commission)
    }

    /// Hands durable events to the followers; those that are gone or too slow are let go.
    pub(super) fn publish(&self, run: RunId, commission: &Commission, events: Vec<Event>) {
        if !self.has_any(run, commission) {
            return;
        }
        let batch: Batch = events.into();
        self.runs.tell(&run, &Told::Events(batch.clone()));
        self.workflows.tell(commission, &(run, batch));
    }

    /// Hands a piece of output to those followers of its run that keep up. Nobody is let go for one.
    pub(super) fn publish_output(&self, run: RunId, delta: impl FnOnce() -> OutputDelta) {
        if self.runs.has(&run) {
            self.runs.mention(&run, &Told::Output(delta().into()));
        }
    }
}

impl Shared {
    /// Tells of the runs that another run began: they are claimed later, and their first event is never appended.
    pub(super) fn publish_children(&self, append: &Append) {
        for child in &append.children {
            self.publish_accepted(child);
        }
    }

    /// Tells of a run that was accepted and not begun.
    pub(super) fn publish_accepted(&self, new: &NewRun) {
        let commission = Commission { scope: new.scope.clone(), workflow: new.workflow.clone() };
        if self.watchers.has_any(new.run, &commission)
            && let Ok(events) = new.events.events()
        {
            self.watchers.publish(new.run, &commission, events);
        }
    }
}

type Senders<K, T> = HashMap<K, Vec<mpsc::Sender<T>>>;

/// Those who listen, by what they listen to.
struct Listeners<K, T>(Arc<Mutex<Senders<K, T>>>);

impl<K, T> Clone for Listeners<K, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, T> Default for Listeners<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Listeners<K, T> {
    fn listen(&self, to: K) -> Listener<K, T> {
        let (sender, news) = mpsc::channel(BATCHES_MAX);
        self.lock().entry(to.clone()).or_default().push(sender);
        Listener { to, news, listeners: self.0.clone() }
    }

    fn has(&self, key: &K) -> bool {
        self.lock().contains_key(key)
    }

    fn tell(&self, key: &K, news: &T) {
        let mut listeners = self.lock();
        let Some(senders) = listeners.get_mut(key) else { return };
        senders.retain(|sender| sender.try_send(news.clone()).is_ok());
        if senders.is_empty() {
            listeners.remove(key);
        }
    }

    /// Tells those who are not far behind.
    fn mention(&self, key: &K, news: &T) {
        for sender in self.lock().get(key).into_iter().flatten() {
            if sender.max_capacity() - sender.capacity() < BEHIND_FOR_OUTPUT_MAX {
                // Whoever is gone is let go when the next event comes.
                let _ = sender.try_send(news.clone());
            }
        }
    }

    /// No code that holds this lock can panic half-way, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Senders<K, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Listener<K: Eq + Hash, T> {
    to: K,
    news: mpsc::Receiver<T>,
    listeners: Arc<Mutex<Senders<K, T>>>,
}

impl<K: Eq + Hash, T> Drop for Listener<K, T> {
    /// What nobody follows leaves nothing behind, and neither does a run that was never started.
    fn drop(&mut self) {
        self.news.close();
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(senders) = listeners.get_mut(&self.to) {
            senders.retain(|sender| !sender.is_closed());
            if senders.is_empty() {
                listeners.remove(&self.to);
            }
        }
    }
}
