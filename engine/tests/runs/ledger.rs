//! What must be true of every run, checked at every decision by books that are kept apart from the state machine's own.

use agentruntime_engine::{
    graph::Graph,
    run::{
        Phase, RunState,
        event::{Event, EventKind, RunStatus, StepPath},
    },
};
use agentruntime_host_api::TaskId;
use std::collections::{BTreeMap, BTreeSet};

/// What the journal tells somebody who knows nothing of states: which steps began, and how they ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    seq: u64,
    ended: bool,
    /// Where the last event that tells it left the run.
    status: Option<RunStatus>,
    under_way: BTreeMap<StepPath, u32>,
    completed: BTreeSet<StepPath>,
    /// Top-level steps that dependents need not wait for.
    passed: BTreeSet<String>,
    /// Questions about requests of attempts under way.
    asked: BTreeMap<TaskId, StepPath>,
    /// Those that were ever asked.
    asked_ever: BTreeSet<TaskId>,
}

impl Ledger {
    pub(crate) fn of(graph: &Graph, journal: &[Event]) -> Self {
        let mut ledger = Self::default();
        journal.iter().for_each(|event| ledger.enter(graph, event));
        ledger
    }

    pub(crate) fn enter(&mut self, graph: &Graph, event: &Event) {
        assert_eq!(event.seq, self.seq + 1, "numbers have no gaps");
        self.seq = event.seq;
        if self.ended {
            let is_retry = matches!(&event.kind, EventKind::StateChanged { from: RunStatus::Failed, reason, .. } if reason == "retry");
            assert!(is_retry, "a finished run stays finished, but {event:?} follows");
            self.ended = false;
        }
        self.stands(&event.kind);
        self.asks(&event.kind);
        match &event.kind {
            EventKind::StepStarted { path, attempt, .. } => self.began(graph, path, *attempt),
            EventKind::StepCompleted { path, attempt, reused_from, .. } => {
                if reused_from.is_none() {
                    assert_eq!(self.under_way.remove(path), Some(*attempt), "{path} completes what began");
                }
                self.completed(path);
            }
            EventKind::HumanTaskCompleted { task, .. } if self.asked_ever.contains(task) => {}
            EventKind::HumanTaskCompleted { path, .. } if path.body.is_none() => {
                assert!(self.under_way.remove(path).is_some(), "{path} was asked");
                self.completed(path);
            }
            EventKind::StepFailed { path, attempt, recovered, .. } => {
                assert_eq!(self.under_way.remove(path), Some(*attempt), "{path} fails in what began");
                if recovered.is_some() {
                    self.passed(path);
                }
            }
            EventKind::StepRetrying { path, attempt, .. } => {
                assert_eq!(self.under_way.remove(path), Some(*attempt), "{path} fails in what began");
            }
            EventKind::StepCancelled { path, .. } => {
                self.under_way.remove(path);
            }
            EventKind::StepSkipped { path, .. } => {
                assert!(!self.completed.contains(path) && !self.under_way.contains_key(path), "{path} never began");
                self.passed(path);
            }
            kind if kind.ends_run() => {
                assert!(self.under_way.is_empty(), "at the end nothing is under way, but {:?}", self.under_way);
                self.ended = true;
            }
            _ => {}
        }
    }

    /// Checks that a question about a request is asked once, of an attempt under way, and answered once while that is.
    fn asks(&mut self, kind: &EventKind) {
        match kind {
            EventKind::HumanTaskCreated { path, task, request: Some(_), .. } => {
                assert!(self.under_way.contains_key(path), "{path} asks while it is under way");
                assert!(self.asked_ever.insert(*task), "{task} is asked twice");
                self.asked.insert(*task, path.clone());
            }
            EventKind::HumanTaskCompleted { task, .. } if self.asked_ever.contains(task) => {
                assert!(self.asked.remove(task).is_some(), "{task} is answered while it is open, and once");
            }
            EventKind::StepCompleted { path, .. }
            | EventKind::StepFailed { path, .. }
            | EventKind::StepRetrying { path, .. }
            | EventKind::StepCancelled { path, .. } => self.asked.retain(|_, asking| asking != path),
            _ => {}
        }
    }

    /// Checks that the run's status goes only where it may, and that what it forbids does not happen.
    fn stands(&mut self, kind: &EventKind) {
        use RunStatus::{Completed, Draining, Failed, Paused, Pending, Running, Stopped};
        let now = self.status.unwrap_or(Running);
        self.status = Some(match kind {
            EventKind::StateChanged { from, to, .. } => {
                assert!(self.status.is_none_or(|status| status == *from), "{now} is told as {from}");
                let is_legal = matches!(
                    (from, to),
                    (Pending, Running) | (Pending | Running, Paused) | (Paused, Running) | (Failed, Running)
                ) || matches!((from, to), (Pending | Running | Paused, Draining));
                assert!(is_legal, "a run that is {from} becomes {to}");
                *to
            }
            EventKind::RunCompleted { .. } => Completed,
            EventKind::RunFailed { .. } | EventKind::RunRejected { .. } => Failed,
            EventKind::RunStopped { .. } => Stopped,
            EventKind::StepStarted { path, .. } => {
                assert!(
                    path.body.is_some() || !matches!(now, Paused | Draining),
                    "{path} begins in a run that is {now}"
                );
                now
            }
            _ => now,
        });
    }

    fn began(&mut self, graph: &Graph, path: &StepPath, attempt: u32) {
        assert!(!self.completed.contains(path), "{path} is complete and begins again");
        assert_eq!(self.under_way.insert(path.clone(), attempt), None, "one attempt of {path} at a time");
        let step = &graph.steps[graph.step(&path.step).unwrap()];
        for &dependency in &step.depends_on {
            let dependency = &*graph.steps[dependency].id;
            assert!(self.passed.contains(dependency), "{path} begins before {dependency} is through");
        }
    }

    fn completed(&mut self, path: &StepPath) {
        assert!(self.completed.insert(path.clone()), "{path} completes twice");
        self.passed(path);
    }

    fn passed(&mut self, path: &StepPath) {
        if path.body.is_none() {
            self.passed.insert(path.step.to_string());
        }
    }
}

/// Everything of a state that must be the same after a replay.
pub(crate) fn digest(state: &RunState) -> String {
    let RunState { run, start, input, admission, started_at, seq, status, steps, failure, end, .. } = state;
    let RunState { finished_at, drain_due, out_of_scope, .. } = state;
    let head = (run, start, input, admission, started_at, seq, status);
    let mut questions = state.questions();
    questions.sort();
    format!("{head:?} {steps:#?} {:?} {questions:?}", (failure, end, finished_at, drain_due, out_of_scope))
}

/// A run that is not over waits for something that will come.
pub(crate) fn assert_not_stalled(state: &RunState) {
    let waits = |phase: &Phase| matches!(phase, Phase::AwaitingTask(_) | Phase::AwaitingChild(_));
    let lives = state.status.is_final()
        || state.status == RunStatus::Paused
        || !state.executing().is_empty()
        || state.next_due().is_some()
        || state.awaiting().is_some()
        || state.steps.iter().any(|step| waits(&step.phase));
    assert!(lives, "nothing will ever happen to this run: {}", digest(state));
}
