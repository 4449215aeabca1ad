//! A run as one answer tells it, and waiting until nothing happens to it by itself.

use super::{Follower, News, OperationError, Pace, Project};
use agentruntime_engine::{
    node::{Node, Watcher},
    run::{
        Awaiting,
        event::{Event, EventKind, RunStatus},
    },
    store::RunRecord,
};
use agentruntime_host_api::{Json, RunId, StepError, Timestamp, WorkflowId};
use std::time::Duration;
use tokio::time;

/// A run that takes longer is followed through the store as well, which knows whether it waits for somebody. Most runs are
/// over before, and cost no reading at all.
const WATCHED_ONLY: Duration = Duration::from_millis(250);

/// Where a run stands.
#[derive(Clone, Debug)]
pub(crate) struct RunSnapshot {
    /// The run.
    pub(crate) run: RunId,
    /// Its workflow.
    pub(crate) workflow: WorkflowId,
    /// Its version.
    pub(crate) version: u32,
    /// Where it stands.
    pub(crate) status: RunStatus,
    /// What it waits for.
    pub(crate) awaiting: Option<Awaiting>,
    /// When it was accepted.
    pub(crate) started_at: Timestamp,
    /// When it ended.
    pub(crate) finished_at: Option<Timestamp>,
    /// What it gave.
    pub(crate) outputs: Option<Json>,
    /// Why it failed or was stopped.
    pub(crate) error: Option<StepError>,
}

impl From<RunRecord> for RunSnapshot {
    fn from(record: RunRecord) -> Self {
        Self {
            run: record.run,
            workflow: record.workflow,
            version: record.version,
            status: record.status,
            awaiting: record.awaiting,
            started_at: record.started_at,
            finished_at: record.finished_at,
            outputs: None,
            error: record.error,
        }
    }
}

impl RunSnapshot {
    /// A run as its first events tell it: nothing, where they are not the first.
    pub(crate) fn begin(run: RunId, events: &[Event]) -> Option<Self> {
        let first = events.first()?;
        let EventKind::RunStarted(start) = &first.kind else { return None };
        let mut snapshot = Self {
            run,
            workflow: start.workflow.clone(),
            version: start.version,
            status: RunStatus::Running,
            awaiting: None,
            started_at: first.at,
            finished_at: None,
            outputs: None,
            error: None,
        };
        snapshot.apply(&events[1..]);
        Some(snapshot)
    }

    fn apply(&mut self, events: &[Event]) {
        for event in events {
            match &event.kind {
                EventKind::RunCompleted { outputs } => self.end(event.at, RunStatus::Completed, Ok(outputs)),
                EventKind::RunFailed { error, .. } | EventKind::RunRejected { error } => {
                    self.end(event.at, RunStatus::Failed, Err(error));
                }
                EventKind::RunStopped { error } => self.end(event.at, RunStatus::Stopped, Err(error)),
                EventKind::StateChanged { to, .. } => {
                    (self.status, self.finished_at, self.error) = (*to, None, None);
                }
                _ => {}
            }
        }
    }

    fn end(&mut self, at: Timestamp, status: RunStatus, outcome: Result<&Json, &StepError>) {
        self.status = status;
        self.finished_at = Some(at);
        self.outputs = outcome.ok().cloned();
        self.error = outcome.err().cloned();
    }
}

impl Project {
    /// A run with what it gave.
    pub(crate) async fn snapshot(&self, record: RunRecord) -> Result<RunSnapshot, OperationError> {
        let (run, is_completed) = (record.run, record.status == RunStatus::Completed);
        let last_seq = record.last_seq;
        let mut snapshot = RunSnapshot::from(record);
        if is_completed {
            let last = self.events_page(run, last_seq.saturating_sub(1), 1).await?;
            snapshot.apply(&last);
        }
        Ok(snapshot)
    }

    /// A run that was just started, as it is when it has ended or waits for somebody.
    pub(crate) async fn settled(
        &self,
        node: &Node,
        mut watcher: Watcher,
        mut snapshot: RunSnapshot,
    ) -> Result<RunSnapshot, OperationError> {
        let watched = async {
            while !snapshot.status.is_final() {
                match watcher.next().await {
                    Some(events) => snapshot.apply(&events),
                    None => return None,
                }
            }
            Some(snapshot.clone())
        };
        match time::timeout(WATCHED_ONLY, watched).await {
            Ok(Some(ended)) => Ok(ended),
            Ok(None) | Err(_) => self.settled_after(node, snapshot.run, 0).await,
        }
    }

    /// A run as it is when it has ended or waits for somebody, after something new has happened to it.
    pub(crate) async fn settled_after(&self, node: &Node, run: RunId, seq: u64) -> Result<RunSnapshot, OperationError> {
        let mut follower = Follower::new(self.clone(), Some(Box::new(node.watch(run))), Pace::NEAR, run).await?;
        follower.expect_change_after(seq);
        loop {
            match follower.next().await? {
                News::Events(_) | News::Output(_) | News::Nothing => {}
                News::Waiting(_) | News::Ended => return self.snapshot(self.run(run).await?).await,
            }
        }
    }
}
