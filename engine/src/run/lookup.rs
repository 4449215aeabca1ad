//! What a place in the graph can see: the values behind template paths.

use super::{
    body::Site,
    state::{Iteration, Phase, RunState},
};
use crate::graph::{BodyStep, Lookup, Path, StepIndex, StepKind, walk};
use agentruntime_host_api::Json;
use serde_json::{Map, Value, json};
use std::{borrow::Cow, cell::OnceCell, sync::Arc};

/// How many paths are looked through for one that is near: a message is not worth more.
const OUTLINE_PATHS_MAX: usize = 2_000;
/// The longest path among them: nobody mistypes more than that.
const OUTLINE_PATH_BYTES_MAX: usize = 256;

/// The state as one step, or one body step of one iteration, may see it.
pub(super) struct View<'s> {
    state: &'s RunState,
    step: StepIndex,
    iteration: Option<u32>,
    /// What the start gave this step, laid over the start payload: made once, where somebody asks.
    merged: OnceCell<Value>,
}

impl<'s> View<'s> {
    pub(super) fn top(state: &'s RunState, step: StepIndex) -> Self {
        Self { state, step, iteration: None, merged: OnceCell::new() }
    }

    pub(super) fn of(state: &'s RunState, site: Site) -> Self {
        match site {
            Site::Top(step) => Self::top(state, step),
            Site::Inner { step, iteration, .. } => Self::iteration(state, step, iteration),
        }
    }

    pub(super) fn iteration(state: &'s RunState, step: StepIndex, iteration: u32) -> Self {
        Self { state, step, iteration: Some(iteration), merged: OnceCell::new() }
    }

    /// The start payload, with what the start gave this step in particular over it.
    fn input(&self) -> &Value {
        let shared = self.state.input.value();
        let Some(own) = self.own_input() else { return shared };
        self.merged.get_or_init(|| {
            let mut merged = shared.as_object().cloned().unwrap_or_default();
            if let Value::Object(own) = own.to_value() {
                merged.extend(own);
            }
            Value::Object(merged)
        })
    }

    fn own_input(&self) -> Option<&'s Json> {
        self.state.start.trigger_steps.get(&*self.state.graph.steps[self.step].id)
    }

    /// The same as JSON text, without parsing where nothing is laid over the shared payload.
    pub(super) fn input_json(&self) -> Json {
        match self.own_input() {
            None => self.state.input.json().clone(),
            Some(_) => Json::of_value(self.input()),
        }
    }

    pub(super) fn item(&self) -> Option<&'s Value> {
        match &self.state.steps[self.step].phase {
            Phase::Looping(looped) => looped.items.get(self.iteration? as usize),
            _ => None,
        }
    }

    fn turn(&self, back: u32) -> Option<&'s Iteration> {
        match &self.state.steps[self.step].phase {
            Phase::Looping(looped) => looped.iterations.get(self.iteration?.checked_sub(back)? as usize),
            _ => None,
        }
    }

    fn body(&self) -> &'s [BodyStep] {
        self.state.graph.steps[self.step].kind.body()
    }

    /// The outputs of this iteration so far.
    pub(super) fn outputs(&self) -> Map<String, Value> {
        self.turn(0).map(|turn| turn.outputs(self.body())).unwrap_or_default()
    }

    /// The outputs of the iteration before.
    pub(super) fn previous(&self) -> Map<String, Value> {
        self.turn(1).map(|turn| turn.outputs(self.body())).unwrap_or_default()
    }

    fn inner_output(&self, back: u32, id: &str) -> Option<&'s Value> {
        let position = self.body().iter().position(|step| &*step.id == id)?;
        Some(self.turn(back)?.output(position)?.value())
    }

    fn step_value(&self, rest: &[Arc<str>]) -> Option<Cow<'_, Value>> {
        let (id, rest) = rest.split_first()?;
        let index = self.state.graph.step(id)?;
        let (field, rest) = rest.split_first()?;
        if index == self.step {
            return (&**field == "item").then(|| self.item())?.and_then(|item| walk(item, rest)).map(Cow::Borrowed);
        }
        if !self.state.graph.steps[self.step].readable.contains(&index) {
            return None;
        }
        match &**field {
            "result" => walk(self.state.steps[index].result()?.value(), rest).map(Cow::Borrowed),
            "input" => self.step_input(index, rest),
            _ => None,
        }
    }

    /// The inputs a step was called with: its resolved configuration, or the start payload where it has none.
    fn step_input(&self, index: StepIndex, rest: &[Arc<str>]) -> Option<Cow<'_, Value>> {
        let step = &self.state.steps[index];
        let was_called = step.attempt > 0 || matches!(step.phase, Phase::Completed { .. });
        if !was_called {
            return None;
        }
        match &step.inputs {
            Some(inputs) => walk(inputs.value(), rest).map(Cow::Borrowed),
            None => walk(View::top(self.state, index).input(), rest).cloned().map(Cow::Owned),
        }
    }

    fn foreach(&self, rest: &[Arc<str>]) -> Option<Cow<'s, Value>> {
        let (field, rest) = rest.split_first()?;
        match &**field {
            "item" => walk(self.item()?, rest).map(Cow::Borrowed),
            "index" if rest.is_empty() => self.index(),
            _ => None,
        }
    }

    fn index(&self) -> Option<Cow<'s, Value>> {
        self.item().and(self.iteration).map(Value::from).map(Cow::Owned)
    }

    fn body_value(&self, rest: &[Arc<str>]) -> Option<&'s Value> {
        let (id, rest) = rest.split_first()?;
        let output = self.inner_output(0, id)?;
        walk(output, rest).or_else(|| match rest.split_first() {
            Some((field, rest)) if &**field == "result" => walk(output, rest),
            _ => None,
        })
    }

    fn while_value(&self, rest: &[Arc<str>]) -> Option<Cow<'s, Value>> {
        if !matches!(self.state.graph.steps[self.step].kind, StepKind::While(_)) {
            return None;
        }
        let (field, rest) = rest.split_first()?;
        match &**field {
            "iteration" if rest.is_empty() => self.iteration.map(Value::from).map(Cow::Owned),
            "prev" => {
                let (id, rest) = rest.split_first()?;
                walk(self.inner_output(1, id)?, rest).map(Cow::Borrowed)
            }
            _ => None,
        }
    }

    /// What is there to be seen, in short: for the nearest path in a message.
    fn outline(&self) -> Vec<String> {
        let mut paths = Vec::new();
        grow(&mut paths, "input", self.input(), 2);
        for &index in &self.state.graph.steps[self.step].readable {
            if let Some(result) = self.state.steps[index].result() {
                let prefix = format!("steps.{}.result", self.state.graph.steps[index].id);
                grow(&mut paths, &prefix, result.value(), 2);
            }
        }
        if let Some(item) = self.item() {
            grow(&mut paths, "item", item, 2);
        }
        for (id, output) in self.outputs() {
            grow(&mut paths, &format!("body.{id}"), &output, 2);
        }
        paths
    }
}

impl Lookup for View<'_> {
    fn lookup(&self, path: &Path) -> Option<Cow<'_, Value>> {
        let (root, rest) = path.segments.split_first()?;
        match &**root {
            "input" => walk(self.input(), rest).map(Cow::Borrowed),
            "steps" => self.step_value(rest),
            "item" => walk(self.item()?, rest).map(Cow::Borrowed),
            "foreach" => self.foreach(rest),
            "index" if rest.is_empty() => self.index(),
            "body" => self.body_value(rest).map(Cow::Borrowed),
            "while" => self.while_value(rest),
            "run" => {
                let run = self.state.run_json.to_value();
                walk(&run, rest).filter(|value| !value.is_null()).cloned().map(Cow::Owned)
            }
            "connection" => walk(&json!({}), rest).cloned().map(Cow::Owned),
            _ => None,
        }
    }

    fn nearest(&self, path: &Path) -> Option<String> {
        let wanted = path.segments.join(".");
        let outline = self.outline();
        let scored = outline.into_iter().map(|known| (strsim::jaro_winkler(&wanted, &known), known));
        scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
    }
}

fn grow(paths: &mut Vec<String>, prefix: &str, value: &Value, depth: u32) {
    paths.push(prefix.to_owned());
    if let (Value::Object(fields), true) = (value, depth > 0) {
        for (name, field) in fields.iter().filter(|(name, _)| prefix.len() + name.len() < OUTLINE_PATH_BYTES_MAX) {
            if paths.len() >= OUTLINE_PATHS_MAX {
                return;
            }
            grow(paths, &format!("{prefix}.{name}"), field, depth - 1);
        }
    }
}
