//! The events of a run as they become durable, and the moment when it waits for somebody.
//!
//! Never moves a run on: a node does. A node of this process tells of news at once; of a run that another process works
//! on, the store is asked now and then.

use super::{OperationError, Project, Timeline};
use agentruntime_engine::{
    node::{Node, Watcher},
    run::{Awaiting, event::Event},
    store::{Clock, RunRecord, SystemClock, TaskRecord},
};
use agentruntime_host_api::RunId;
use futures_util::{FutureExt, future::BoxFuture};
use std::time::Duration;
use tokio::time;

/// How soon the store is asked where no node of this process tells.
const ASK_FIRST: Duration = Duration::from_millis(200);
/// How seldom it is asked at last, where a run is silent for long.
const ASK_LAST: Duration = Duration::from_secs(1);

/// Follows one run.
pub(crate) struct Follower {
    project: Project,
    watcher: Option<Watcher>,
    /// The run so far.
    pub(crate) timeline: Timeline,
    /// Up to here, events are old: what the run is at them says nothing, since a command is on its way.
    stale_until: u64,
    ask_after: Duration,
}

/// What a follower tells.
pub(crate) enum News {
    /// The next events; they are in the timeline already.
    Events(Vec<Event>),
    /// Nothing happens any more unless somebody does something.
    Waiting(Waiting),
    /// The run is over.
    Ended,
}

/// What a run, or its children, wait for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Questions that wait for an answer.
    pub(crate) tasks: Vec<TaskRecord>,
    /// Runs that wait to be resumed.
    pub(crate) paused: Vec<RunId>,
}

impl Follower {
    /// Follows a run from where it is; with a node of this process, news come at once.
    pub(crate) async fn new(project: &Project, node: Option<&Node>, run: RunId) -> Result<Self, OperationError> {
        let watcher = node.map(|node| node.watch(run));
        let record = project.run(run).await?;
        let timeline = project.timeline(&record).await?;
        Ok(Self { project: project.clone(), watcher, timeline, stale_until: 0, ask_after: ASK_FIRST })
    }

    /// Waits for something new before it says that the run has ended or waits: a command that changes that is under way.
    pub(crate) fn expect_change_after(&mut self, seq: u64) {
        self.stale_until = self.stale_until.max(seq);
    }

    /// The next news. Can be dropped at any time without losing any.
    pub(crate) async fn next(&mut self) -> Result<News, OperationError> {
        let run = self.timeline.state.run;
        loop {
            let events = self.project.events(run, self.timeline.state.seq).await?;
            if !events.is_empty() {
                return self.take(events);
            }
            if self.timeline.state.seq > self.stale_until {
                if self.timeline.state.status.is_final() {
                    return Ok(News::Ended);
                }
                let record = self.project.run(run).await?;
                let is_current = record.last_seq == self.timeline.state.seq;
                if is_current && let Some(waiting) = self.project.waiting(&record, &self.timeline).await? {
                    return Ok(News::Waiting(waiting));
                }
            }
            if let Some(batch) = self.wait().await {
                let known = self.timeline.state.seq;
                let new: Vec<Event> = batch.iter().filter(|event| event.seq > known).cloned().collect();
                if new.first().is_some_and(|first| first.seq == known + 1) {
                    return self.take(new);
                }
            }
        }
    }

    fn take(&mut self, events: Vec<Event>) -> Result<News, OperationError> {
        self.ask_after = ASK_FIRST;
        for event in &events {
            self.timeline.apply(event)?;
        }
        Ok(News::Events(events))
    }

    /// Until there may be news.
    async fn wait(&mut self) -> Option<std::sync::Arc<[Event]>> {
        let wait = self.ask_after;
        self.ask_after = (wait * 2).min(ASK_LAST);
        let Some(watcher) = &mut self.watcher else {
            time::sleep(wait).await;
            return None;
        };
        match time::timeout(wait, watcher.next()).await {
            Ok(Some(batch)) => Some(batch),
            // Too slow for the watcher: from here on the store is asked.
            Ok(None) => {
                self.watcher = None;
                None
            }
            Err(_) => None,
        }
    }
}

impl Project {
    /// What a run waits for, if nothing but a person can move it on.
    fn waiting<'w>(
        &'w self,
        record: &'w RunRecord,
        timeline: &'w Timeline,
    ) -> BoxFuture<'w, Result<Option<Waiting>, OperationError>> {
        async move {
            match record.awaiting {
                None | Some(Awaiting::Timer) => return Ok(None),
                Some(Awaiting::Resume) => return Ok(Some(Waiting { tasks: Vec::new(), paused: vec![record.run] })),
                Some(Awaiting::HumanTask | Awaiting::Child) => {}
            }
            if timeline.goes_on_by_itself() {
                return Ok(None);
            }
            let tasks = self.pending_tasks(Some(record.run)).await?;
            let now = SystemClock.now();
            if tasks.iter().any(|task| task.due.is_some_and(|due| due <= now)) {
                return Ok(None);
            }
            let is_answered = |task: &agentruntime_host_api::TaskId| tasks.iter().all(|pending| pending.task != *task);
            if timeline.tasks.keys().any(is_answered) {
                return Ok(None);
            }
            let mut waiting = Waiting { tasks, paused: Vec::new() };
            for child in timeline.children() {
                let record = self.run(child).await?;
                if record.awaiting.is_none() {
                    return Ok(None);
                }
                let timeline = self.timeline(&record).await?;
                match self.waiting(&record, &timeline).await? {
                    Some(further) => {
                        waiting.tasks.extend(further.tasks);
                        waiting.paused.extend(further.paused);
                    }
                    None => return Ok(None),
                }
            }
            Ok(Some(waiting).filter(|waiting| !waiting.tasks.is_empty() || !waiting.paused.is_empty()))
        }
        .boxed()
    }
}
