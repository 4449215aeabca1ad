//! The body of a composite: which steps an iteration consists of, by position.

use super::{
    event::{EVAL_STEP, StepPath},
    payload::Payload,
    state::{Inner, Iteration, RunState},
};
use crate::graph::{BodyStep, Conduct, LuaScript, OnError, Retry, StepIndex, StepKind, WhileTest};
use serde_json::{Map, Value};
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

static EVAL_ID: LazyLock<Arc<str>> = LazyLock::new(|| EVAL_STEP.into());

/// An evaluation script behaves like a script step whose author gave nothing but the source.
static EVAL_CONDUCT: LazyLock<Conduct> = LazyLock::new(|| Conduct {
    timeout: Some(Duration::from_secs(5)),
    retry: Retry {
        max_attempts: 1,
        initial: Duration::from_secs(1),
        factor: 2.0,
        max: Duration::from_secs(60),
        on: Vec::new(),
    },
    on_error: OnError::Fail,
});

/// What stands at one position of an iteration.
pub(super) enum Slot<'g> {
    /// A body step.
    Step(&'g BodyStep),
    /// The script that ends a `while`.
    Eval(&'g LuaScript),
}

impl StepKind {
    /// The body steps of a composite; nothing for other steps.
    pub(super) fn body(&self) -> &[BodyStep] {
        match self {
            Self::ForEach(step) => &step.body,
            Self::While(step) => &step.body,
            Self::Leaf(_) | Self::HumanTask(_) | Self::WorkflowCall(_) | Self::Sleep(_) => &[],
        }
    }

    fn eval(&self) -> Option<&LuaScript> {
        match self {
            Self::While(step) => match &step.test {
                WhileTest::Script(script) => Some(script),
                WhileTest::Condition(_) => None,
            },
            Self::Leaf(_) | Self::ForEach(_) | Self::HumanTask(_) | Self::WorkflowCall(_) | Self::Sleep(_) => None,
        }
    }

    /// How many positions an iteration has.
    pub(super) fn slots(&self) -> usize {
        self.body().len() + usize::from(self.eval().is_some())
    }

    pub(super) fn slot(&self, position: usize) -> Option<Slot<'_>> {
        let body = self.body();
        match body.get(position) {
            Some(step) => Some(Slot::Step(step)),
            None if position == body.len() => self.eval().map(Slot::Eval),
            None => None,
        }
    }

    fn position(&self, id: &str) -> Option<usize> {
        let body = self.body();
        body.iter()
            .position(|step| &*step.id == id)
            .or_else(|| (id == EVAL_STEP && self.eval().is_some()).then_some(body.len()))
    }
}

/// A path, resolved against the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    Top(StepIndex),
    Inner { step: StepIndex, iteration: u32, position: usize },
}

impl Site {
    pub(super) fn step(self) -> StepIndex {
        match self {
            Self::Top(step) | Self::Inner { step, .. } => step,
        }
    }
}

impl RunState {
    /// Where a path leads, if the graph has such a place.
    pub(super) fn site(&self, path: &StepPath) -> Option<Site> {
        let step = self.graph.step(&path.step)?;
        match &path.body {
            None => Some(Site::Top(step)),
            Some((iteration, inner)) => {
                let position = self.graph.steps[step].kind.position(inner)?;
                Some(Site::Inner { step, iteration: *iteration, position })
            }
        }
    }

    pub(super) fn inner_path(&self, step: StepIndex, iteration: u32, position: usize) -> StepPath {
        let spec = &self.graph.steps[step];
        let id = spec.kind.body().get(position).map_or(&*EVAL_ID, |body| &body.id);
        StepPath::inner(&spec.id, iteration, id)
    }

    /// Whether the script that ends a `while` stands there.
    pub(super) fn is_loop_test(&self, site: Site) -> bool {
        match site {
            Site::Top(_) => false,
            Site::Inner { step, position, .. } => position == self.graph.steps[step].kind.body().len(),
        }
    }

    pub(super) fn conduct(&self, site: Site) -> &Conduct {
        match site {
            Site::Top(step) => &self.graph.steps[step].conduct,
            Site::Inner { step, position, .. } => match self.graph.steps[step].kind.slot(position) {
                Some(Slot::Step(body)) => &body.conduct,
                Some(Slot::Eval(_)) | None => &EVAL_CONDUCT,
            },
        }
    }
}

impl Iteration {
    /// The output of a body step, if it has one.
    pub(super) fn output(&self, position: usize) -> Option<&Payload> {
        match self.inner.get(position)? {
            Inner::Completed(output) => Some(output),
            Inner::Waiting { .. }
            | Inner::Executing { .. }
            | Inner::BackingOff { .. }
            | Inner::Skipped
            | Inner::Failed { .. } => None,
        }
    }

    /// The outputs so far, by body step.
    pub(super) fn outputs(&self, body: &[BodyStep]) -> Map<String, Value> {
        let named = body.iter().enumerate();
        named.filter_map(|(at, step)| Some((step.id.to_string(), self.output(at)?.value().clone()))).collect()
    }
}
