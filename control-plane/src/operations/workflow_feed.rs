//! The events of all runs of a workflow as a stream, from now on: of each run in order, each once, none before it is durable.
//!
//! The node tells of the runs that it works on or accepts. Where other nodes work on the same database, the store is asked for
//! the newest runs of the workflow now and then, and what nobody told of them is read there. Never goes back: what happened
//! before it began is not its business.

use super::{OperationError, Project};
use agentruntime_engine::{
    node::{Node, WorkflowWatcher},
    run::event::Event,
    store::{RunCursor, RunFilter, RunRecord, StoreError},
};
use agentruntime_host_api::{RunId, Timestamp, WorkflowId};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::time::{self, Instant, MissedTickBehavior};

/// Events read at once.
const PAGE_EVENTS_MAX: u32 = 100;
/// How often the store is asked for what other nodes did.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Runs that it is asked for: of those that other nodes work on, the newest are followed.
const NEWEST_RUNS: u32 = 100;
/// Runs whose place is remembered. What is forgotten is older than the newest, and the node tells of it without gaps.
const REMEMBERED_RUNS_MAX: usize = 1_000;

/// Follows all runs of a workflow.
pub(crate) struct WorkflowFeed {
    watcher: WorkflowWatcher,
    /// What other nodes do; nothing where there can be none.
    others: Option<Others>,
}

/// What comes next.
pub(crate) enum WorkflowNews {
    /// Events of one run.
    Events(RunId, Vec<Event>),
    /// The reader was too slow, and something is lost to this feed.
    Lost,
}

impl WorkflowFeed {
    /// Follows from now on: what is committed after this returned is told.
    pub(crate) async fn begin(project: Project, node: &Node, workflow: WorkflowId) -> Result<Self, OperationError> {
        // First the watcher, then the store: what is committed in between comes twice, and is told once at most.
        let watcher = node.watch_workflow(&project.scope, &workflow);
        let others = match project.store.is_shared() {
            true => Some(Others::begin(project, workflow).await?),
            false => None,
        };
        Ok(Self { watcher, others })
    }

    /// The next events.
    pub(crate) async fn next(&mut self) -> Result<WorkflowNews, OperationError> {
        let Some(others) = &mut self.others else {
            return Ok(match self.watcher.next().await {
                Some((run, events)) => WorkflowNews::Events(run, events.to_vec()),
                None => WorkflowNews::Lost,
            });
        };
        loop {
            if let Some((run, events)) = others.read_on().await? {
                return Ok(WorkflowNews::Events(run, events));
            }
            tokio::select! {
                batch = self.watcher.next() => {
                    let Some((run, events)) = batch else { return Ok(WorkflowNews::Lost) };
                    let events = others.merged(run, events).await?;
                    if !events.is_empty() {
                        return Ok(WorkflowNews::Events(run, events));
                    }
                }
                _ = others.ask.tick() => others.look().await?,
            }
        }
    }
}

/// A place in the list of runs, in its order.
type Place = (Timestamp, RunId);

/// The runs that another node may work on.
struct Others {
    project: Project,
    filter: RunFilter,
    ask: time::Interval,
    /// The number of the last event that was told of a run, or that came before the feed began.
    told: HashMap<RunId, u64>,
    /// A run after this place that is not remembered is new: all of it is told.
    old_until: Option<Place>,
    /// Runs of which the store has more than was told.
    behind: VecDeque<RunId>,
}

impl Others {
    async fn begin(project: Project, workflow: WorkflowId) -> Result<Self, OperationError> {
        let mut ask = time::interval_at(Instant::now() + ASK_EVERY, ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let filter = RunFilter { workflow: Some(workflow), limit: Some(NEWEST_RUNS), ..RunFilter::default() };
        let newest = project.runs(&filter).await?;
        let told = newest.iter().map(|record| (record.run, record.last_seq)).collect();
        let old_until = end_of_full(&newest);
        Ok(Self { project, filter, ask, told, old_until, behind: VecDeque::new() })
    }

    /// The next events of a run that is behind.
    async fn read_on(&mut self) -> Result<Option<(RunId, Vec<Event>)>, OperationError> {
        while let Some(&run) = self.behind.front() {
            let told = self.told.entry(run).or_default();
            let page = match self.project.events_page(run, *told, PAGE_EVENTS_MAX).await {
                Ok(page) => page,
                // Old runs are deleted one day.
                Err(OperationError::Store(StoreError::NotFound)) => Vec::new(),
                Err(error) => return Err(error),
            };
            match page.last() {
                Some(last) => {
                    *told = last.seq;
                    return Ok(Some((run, page)));
                }
                None => self.behind.pop_front(),
            };
        }
        Ok(None)
    }

    /// What is new of what the node tells. Where something is missing before it, the store is read.
    async fn merged(&mut self, run: RunId, batch: Arc<[Event]>) -> Result<Vec<Event>, OperationError> {
        let Some(first) = batch.first().map(|event| event.seq) else { return Ok(Vec::new()) };
        let told = match self.told.get(&run) {
            Some(told) => *told,
            None if first == 1 => 0,
            None => match self.is_new(&self.project.run(run).await?) {
                true => 0,
                false => first - 1,
            },
        };
        self.told.insert(run, told);
        let new: Vec<Event> = batch.iter().filter(|event| event.seq > told).cloned().collect();
        match (new.first(), new.last()) {
            (Some(first), Some(last)) if first.seq == told + 1 => {
                self.told.insert(run, last.seq);
                Ok(new)
            }
            (Some(_), _) => {
                self.behind.push_back(run);
                Ok(Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Looks for runs of which nobody told.
    async fn look(&mut self) -> Result<(), OperationError> {
        let newest = self.project.runs(&self.filter).await?;
        // The oldest first, as they came.
        for record in newest.iter().rev() {
            let told = self.told.get(&record.run).copied().or_else(|| self.is_new(record).then_some(0));
            if let Some(told) = told {
                self.told.insert(record.run, told);
                if told < record.last_seq {
                    self.behind.push_back(record.run);
                }
            }
        }
        self.old_until = self.old_until.max(end_of_full(&newest));
        if self.told.len() > REMEMBERED_RUNS_MAX {
            let is_kept = |run: &RunId| newest.iter().any(|record| record.run == *run) || self.behind.contains(run);
            self.told.retain(|run, _| is_kept(run));
        }
        Ok(())
    }

    fn is_new(&self, record: &RunRecord) -> bool {
        self.old_until.is_none_or(|old| (record.started_at, record.run) > old)
    }
}

/// The last of a full page: what comes after it in the list was not seen.
fn end_of_full(newest: &[RunRecord]) -> Option<Place> {
    let last = newest.last().filter(|_| newest.len() == NEWEST_RUNS as usize)?;
    let RunCursor { started_at, run } = RunCursor::from(last);
    Some((started_at, run))
}
