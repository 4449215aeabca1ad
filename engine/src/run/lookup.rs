//! What a place in the graph can see: the values behind template paths.

use super::{
    body::Site,
    state::{Iteration, Phase, RunState},
};
use crate::graph::{BodyStep, Lookup, Path, StepIndex, StepKind, walk};
use agentruntime_host_api::Json;
use serde_json::{Map, Value, json};
use std::{borrow::Cow, sync::Arc};

/// The state as one step, or one body step of one iteration, may see it.
pub(super) struct View<'s> {
    state: &'s RunState,
    step: StepIndex,
    iteration: Option<u32>,
}

impl<'s> View<'s> {
    pub(super) fn top(state: &'s RunState, step: StepIndex) -> Self {
        Self { state, step, iteration: None }
    }

    pub(super) fn of(state: &'s RunState, site: Site) -> Self {
        match site {
            Site::Top(step) => Self::top(state, step),
            Site::Inner { step, iteration, .. } => Self::iteration(state, step, iteration),
        }
    }

    pub(super) fn iteration(state: &'s RunState, step: StepIndex, iteration: u32) -> Self {
        Self { state, step, iteration: Some(iteration) }
    }

    /// The start payload, with what the start gave this step in particular over it.
    pub(super) fn input(&self) -> Cow<'s, Value> {
        let shared = self.state.input.value();
        let id = &*self.state.graph.steps[self.step].id;
        let Some(Value::Object(own)) = self.state.start.trigger_steps.get(id) else { return Cow::Borrowed(shared) };
        let mut merged = shared.as_object().cloned().unwrap_or_default();
        merged.extend(own.clone());
        Cow::Owned(Value::Object(merged))
    }

    /// The same as JSON text, without parsing where nothing is laid over the shared payload.
    pub(super) fn input_json(&self) -> Json {
        match self.input() {
            Cow::Borrowed(_) => self.state.input.json().clone(),
            Cow::Owned(merged) => Json::of_value(&merged),
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

    fn step_value(&self, rest: &[Arc<str>]) -> Option<Value> {
        let (id, rest) = rest.split_first()?;
        let index = self.state.graph.step(id)?;
        let (field, rest) = rest.split_first()?;
        if index == self.step {
            return (&**field == "item").then(|| self.item())?.and_then(|item| walk(item, rest)).cloned();
        }
        if !self.state.graph.steps[self.step].readable.contains(&index) {
            return None;
        }
        match &**field {
            "result" => walk(self.state.steps[index].result()?.value(), rest).cloned(),
            "input" => walk(&self.step_input(index)?, rest).cloned(),
            _ => None,
        }
    }

    /// The inputs a step was called with: its resolved configuration, or the start payload where it has none.
    fn step_input(&self, index: StepIndex) -> Option<Value> {
        let step = &self.state.steps[index];
        let was_called = step.attempt > 0 || matches!(step.phase, Phase::Completed { .. });
        if !was_called {
            return None;
        }
        Some(match &step.inputs {
            Some(inputs) => inputs.to_value(),
            None => View::top(self.state, index).input().into_owned(),
        })
    }

    fn foreach(&self, rest: &[Arc<str>]) -> Option<Value> {
        let (field, rest) = rest.split_first()?;
        match &**field {
            "item" => walk(self.item()?, rest).cloned(),
            "index" if rest.is_empty() => self.item().and(self.iteration).map(Value::from),
            _ => None,
        }
    }

    fn body_value(&self, rest: &[Arc<str>]) -> Option<Value> {
        let (id, rest) = rest.split_first()?;
        let output = self.inner_output(0, id)?;
        if let Some(found) = walk(output, rest) {
            return Some(found.clone());
        }
        match rest.split_first() {
            Some((field, rest)) if &**field == "result" => walk(output, rest).cloned(),
            _ => None,
        }
    }

    fn while_value(&self, rest: &[Arc<str>]) -> Option<Value> {
        if !matches!(self.state.graph.steps[self.step].kind, StepKind::While(_)) {
            return None;
        }
        let (field, rest) = rest.split_first()?;
        match &**field {
            "iteration" if rest.is_empty() => self.iteration.map(Value::from),
            "prev" => {
                let (id, rest) = rest.split_first()?;
                walk(self.inner_output(1, id)?, rest).cloned()
            }
            _ => None,
        }
    }

    /// What is there to be seen, in short: for the nearest path in a message.
    fn outline(&self) -> Vec<String> {
        let mut paths = Vec::new();
        grow(&mut paths, "input", &self.input(), 2);
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
    fn lookup(&self, path: &Path) -> Option<Value> {
        let (root, rest) = path.segments.split_first()?;
        match &**root {
            "input" => walk(&self.input(), rest).cloned(),
            "steps" => self.step_value(rest),
            "item" => walk(self.item()?, rest).cloned(),
            "foreach" => self.foreach(rest),
            "index" if rest.is_empty() => self.item().and(self.iteration).map(Value::from),
            "body" => self.body_value(rest),
            "while" => self.while_value(rest),
            "run" => walk(&self.state.run_json.to_value(), rest).filter(|value| !value.is_null()).cloned(),
            "connection" => walk(&json!({}), rest).cloned(),
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
        for (name, field) in fields {
            grow(paths, &format!("{prefix}.{name}"), field, depth - 1);
        }
    }
}
