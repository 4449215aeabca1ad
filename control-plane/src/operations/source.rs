//! Where runs are read from: this machine's store, or a server's API. What is found in them is found in the same way.
//!
//! Owns how a run is named by people, whose questions belong to a run, and what a run waits for; over a few reads that
//! every source answers. Never changes anything.

use super::{OperationError, Project, Timeline, Waiting};
use agentruntime_engine::{
    graph::Graph,
    run::{Awaiting, TOOL_APPROVAL, event::Event},
    store::{Clock, LIST_MAX, Lineage, RunCursor, RunFilter, RunRecord, SystemClock, TaskRecord},
};
use agentruntime_host_api::{RunId, TaskId};
use async_trait::async_trait;
use std::sync::Arc;

/// The word that names the run started last.
const LAST: &str = "last";
/// A part of an id that is shorter says nothing.
const PART_CHARS_MIN: usize = 4;

/// Runs that can be read.
#[async_trait]
pub(crate) trait RunSource: Send + Sync {
    /// How reading fails.
    type Error: From<OperationError> + Send;

    /// One run.
    async fn run(&self, run: RunId) -> Result<RunRecord, Self::Error>;

    /// Runs, the newest first: as many as the filter says, else [`LIST_MAX`] or a few more; fewer only where there are no more.
    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, Self::Error>;

    /// Some of the events after a number; none only where there are no more.
    async fn events(&self, run: RunId, after: u64) -> Result<Vec<Event>, Self::Error>;

    /// The graph that a run follows.
    async fn graph(&self, record: &RunRecord) -> Result<Arc<Graph>, Self::Error>;

    /// The questions that wait for an answer: those of one run, or all. The oldest first.
    async fn pending_tasks(&self, run: Option<RunId>) -> Result<Vec<TaskRecord>, Self::Error>;

    /// The events of a run so far, as a picture of its steps.
    async fn timeline(&self, record: &RunRecord) -> Result<Timeline, Self::Error> {
        let graph = self.graph(record).await?;
        let mut page = self.events(record.run, 0).await?;
        let empty = || OperationError::Unreadable { run: record.run, reason: "it is empty".into() };
        let first = page.first().ok_or_else(empty)?;
        let mut timeline = Timeline::begin(record.run, graph, first)?;
        page.remove(0);
        loop {
            for event in &page {
                timeline.apply(event)?;
            }
            page = self.events(record.run, timeline.state.seq).await?;
            if page.is_empty() {
                return Ok(timeline);
            }
        }
    }

    /// The run that a person means: an id, its beginning or its end, or `last`.
    ///
    /// The beginning of an id is the time of its start, so that runs of one minute differ only at the end.
    async fn find_run(&self, text: &str) -> Result<RunRecord, Self::Error> {
        if text == LAST {
            return self.last_run().await;
        }
        if let Ok(run) = text.parse::<RunId>() {
            return self.run(run).await;
        }
        if text.len() < PART_CHARS_MIN {
            return Err(OperationError::ShortRun(text.to_owned()).into());
        }
        let part = text.to_ascii_lowercase();
        let mut found: Vec<RunRecord> = Vec::new();
        let mut filter = RunFilter { text: Some(part.clone()), ..RunFilter::default() };
        loop {
            let page = self.runs(&filter).await?;
            let next = page.last().filter(|_| page.len() >= LIST_MAX as usize).map(RunCursor::from);
            found.extend(page.into_iter().filter(|record| fits(&record.run.to_string(), &part)));
            match next {
                Some(cursor) => filter.before = Some(cursor),
                None => break,
            }
        }
        match <[RunRecord; 1]>::try_from(found) {
            Ok([record]) => Ok(record),
            Err(found) if found.is_empty() => Err(OperationError::UnknownRun(text.to_owned()).into()),
            Err(found) => {
                let runs = found.iter().map(|record| record.run).collect();
                Err(OperationError::AmbiguousRun { text: text.to_owned(), runs }.into())
            }
        }
    }

    /// The run that was started last by somebody: children, which runs start, do not count.
    async fn last_run(&self) -> Result<RunRecord, Self::Error> {
        let filter = RunFilter { limit: Some(1), lineage: Lineage::Parentless, ..RunFilter::default() };
        Ok(self.runs(&filter).await?.pop().ok_or(OperationError::NoRuns)?)
    }

    /// The questions of a run and of the runs that it called, in the order asked.
    async fn tasks_below(&self, run: RunId) -> Result<Vec<TaskRecord>, Self::Error> {
        let mut below = Vec::new();
        for task in self.pending_tasks(None).await? {
            if task.run == run || self.ancestors(task.run).await?.contains(&run) {
                below.push(task);
            }
        }
        Ok(below)
    }

    /// The runs that wait for a run, from its parent to the one that somebody started.
    async fn ancestors(&self, run: RunId) -> Result<Vec<RunId>, Self::Error> {
        let mut ancestors = Vec::new();
        let mut next = self.run(run).await?.parent;
        while let Some(parent) = next {
            ancestors.push(parent);
            next = self.run(parent).await?.parent;
        }
        Ok(ancestors)
    }

    /// The question that a run, or one that it called, asks at a step: named by the step, by its place in a loop, or by the
    /// task's own id.
    async fn find_task(&self, run: RunId, step: &str) -> Result<TaskRecord, Self::Error> {
        let mut pending = self.tasks_below(run).await?;
        // Its own questions come before those of runs that it called.
        pending.sort_by_key(|task| task.run != run);
        if let Some(position) = pending.iter().position(|task| task.task.to_string() == step) {
            return Ok(pending.swap_remove(position));
        }
        let asked = pending.iter().map(named).collect();
        let exact = |task: &&TaskRecord| task.step.to_string() == step;
        // Of several that one step of one run asks, none is meant by the step's name.
        let first_run = pending.iter().find(exact).map(|task| task.run);
        let at_step: Vec<&TaskRecord> =
            pending.iter().filter(exact).filter(|task| Some(task.run) == first_run).collect();
        match at_step.as_slice() {
            [] => {}
            [task] => return Ok((*task).clone()),
            several => {
                let pending = several.iter().map(|task| named(task)).collect();
                return Err(OperationError::AmbiguousTask { run, step: step.to_owned(), pending }.into());
            }
        }
        // A loop asks once for each item that failed: its name alone is enough while there is one.
        let in_loop: Vec<TaskRecord> = pending.into_iter().filter(|task| &*task.step.step == step).collect();
        match <[TaskRecord; 1]>::try_from(in_loop) {
            Ok([task]) => Ok(task),
            _ => Err(OperationError::UnknownTask { run, step: step.to_owned(), pending: asked }.into()),
        }
    }

    /// What a run waits for, if nothing but a person can move it on.
    async fn waiting(&self, record: &RunRecord, timeline: &Timeline) -> Result<Option<Waiting>, Self::Error> {
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
        let is_answered = |task: &TaskId| tasks.iter().all(|pending| pending.task != *task);
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
}

/// Whether a part, in lower case, is the beginning or the end of an id.
pub(crate) fn fits(id: &str, part: &str) -> bool {
    id.starts_with(part) || id.ends_with(part)
}

/// A question by the step that asks it, and by its own id where the step may ask others.
pub(crate) fn named(task: &TaskRecord) -> String {
    match &*task.task_type {
        TOOL_APPROVAL => format!("{} (task {})", task.step, task.task),
        _ => task.step.to_string(),
    }
}

/// This machine's store.
#[async_trait]
impl RunSource for Project {
    type Error = OperationError;

    async fn run(&self, run: RunId) -> Result<RunRecord, OperationError> {
        self.run(run).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, OperationError> {
        self.runs(filter).await
    }

    async fn events(&self, run: RunId, after: u64) -> Result<Vec<Event>, OperationError> {
        self.events(run, after).await
    }

    async fn graph(&self, record: &RunRecord) -> Result<Arc<Graph>, OperationError> {
        self.graph(record).await
    }

    async fn pending_tasks(&self, run: Option<RunId>) -> Result<Vec<TaskRecord>, OperationError> {
        self.pending_tasks(run).await
    }
}
