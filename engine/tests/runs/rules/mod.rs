//! The rules of the graph contract, each as a small example: a graph, what happens to its run, and all that follows.

mod approvals;
mod composites;
mod ends;
mod failures;
mod limits;
mod starts;
mod waits;

use crate::{
    program,
    world::{START, World, start_with},
};
use agentruntime_engine::{
    graph::Graph,
    run::{
        Executing, Input, Signal,
        event::{Event, EventKind, Reuse, Start, StepPath, step_inputs},
    },
};
use agentruntime_host_api::{Json, StepError, Timestamp};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// A run to be played.
pub(crate) struct Case {
    graph: Arc<Graph>,
    start: Start,
}

/// A run of a graph with these steps. A step without a type is a script.
pub(crate) fn steps(steps: Value) -> Case {
    graph(json!({ "steps": steps }))
}

pub(crate) fn graph(mut document: Value) -> Case {
    for step in document["steps"].as_array_mut().unwrap() {
        if step.get("type").is_none() {
            step["type"] = "lua_script".into();
        }
        for body in ["for_each_body_steps", "while_body_steps"] {
            for inner in step.get_mut(body).and_then(Value::as_array_mut).into_iter().flatten() {
                if inner.get("type").is_none() {
                    inner["type"] = "lua_script".into();
                }
            }
        }
    }
    let graph = Graph::parse(&document).unwrap_or_else(|issues| panic!("{issues:#?}"));
    Case { graph: Arc::new(graph), start: start_with(json!({})) }
}

impl Case {
    pub(crate) fn input(mut self, input: Value) -> Self {
        self.start.input = input.into();
        self
    }

    pub(crate) fn trigger(mut self, steps: Value) -> Self {
        self.start.trigger_steps = step_inputs(steps.as_object().unwrap().clone());
        self
    }

    pub(crate) fn without(mut self, step: &str) -> Self {
        self.start.excluded_step_ids.push(step.into());
        self
    }

    pub(crate) fn reusing(mut self, results: Value) -> Self {
        let results = results.as_object().unwrap().iter();
        let results = results.map(|(step, result)| (step.clone(), Json::of_value(result))).collect();
        let run = "00000000-0000-4000-8000-000000000002".parse().unwrap();
        self.start.reuse = Some(Reuse { run, results });
        self
    }

    /// Runs it with nobody saying anything.
    pub(crate) fn alone(self) -> String {
        self.plays("")
    }

    /// Runs it, one line of what happens at a time, and lists what follows. Steps end by themselves unless they `hold`.
    pub(crate) fn plays(self, script: &str) -> String {
        let mut play = Play { told: Vec::new(), seen: 0, listed: 1, world: World::start(self.graph, self.start) };
        play.settle();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            play.told.push(format!("> {line}"));
            play.line(line);
            play.settle();
        }
        play.told.join("\n")
    }
}

struct Play {
    world: World,
    told: Vec<String>,
    seen: usize,
    listed: usize,
}

impl Play {
    fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (place, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let signal = match (word, place) {
            ("pause", _) => Signal::Pause,
            ("resume", _) => Signal::Resume,
            ("retry", _) => Signal::Retry,
            ("stop", "gracefully") => Signal::Stop { graceful: true },
            ("stop", _) => Signal::Stop { graceful: false },
            ("approve" | "reject", _) => self.answer(place, word == "approve", rest),
            ("child", _) => self.child(place, rest),
            ("ends", _) => {
                self.world.end(self.executing(place), outcome(rest));
                return;
            }
            ("crash", _) => return self.world.crash(),
            ("asks", _) => {
                let executing = self.executing(place);
                let asks: Vec<bool> = rest.split(' ').map(|word| word == "people").collect();
                let input = self.world.request(&executing, &asks);
                drop(self.world.give(input));
                return;
            }
            ("gets", _) => {
                let executing = self.executing(place);
                let (number, reply) = rest.split_once(' ').unwrap();
                let (number, reply) = (number.parse().unwrap(), outcome(reply));
                assert!(self.world.going_out(&executing).contains(&number), "{place} waits for {number}");
                self.world.give(Input::Replied { executing, number, reply, duration: Duration::from_millis(1) });
                return;
            }
            ("wait", _) => return self.wait(place),
            other => panic!("nobody can {other:?}"),
        };
        self.world.give(Input::Signal(signal));
    }

    fn executing(&self, place: &str) -> Executing {
        self.world.executing.iter().find(|it| it.path.to_string() == place).unwrap().clone()
    }

    fn answer(&self, place: &str, approved: bool, fields: &str) -> Signal {
        let found = self.world.questions.iter().find(|(_, path)| path.to_string() == place);
        let result = Json::parse(if fields.is_empty() { "{}" } else { fields }).unwrap();
        Signal::TaskCompleted { task: found.unwrap().0, approved, result }
    }

    fn child(&self, place: &str, rest: &str) -> Signal {
        let (child, step) = self.world.children.iter().find(|(_, path)| path.to_string() == place).unwrap().clone();
        Signal::ChildFinished { child, step, outcome: outcome(rest) }
    }

    /// Lets seconds go by, waking the run whenever it wants to be woken on the way.
    fn wait(&mut self, seconds: &str) {
        let until = self.world.now.plus(Duration::from_secs_f64(seconds.parse().unwrap()));
        while let Some(due) = self.world.state.next_due().filter(|due| *due <= until) {
            self.world.tick_at(due);
            self.settle();
        }
        self.world.tick_at(until);
    }

    /// Ends all that ends by itself, then lists what happened.
    fn settle(&mut self) {
        while let Some(next) = self.world.executing.iter().find(|it| self.world.outcome(it).is_some()).cloned() {
            self.world.answer(&next);
        }
        let new = &self.world.journal[self.listed..];
        self.told.extend(new.iter().map(listed));
        self.listed = self.world.journal.len();
        self.told.extend(self.world.seen[self.seen..].iter().map(|seen| format!("  ~ {seen}")));
        self.seen = self.world.seen.len();
    }
}

fn outcome(words: &str) -> Result<Json, StepError> {
    match words.strip_prefix("in ") {
        Some(code) => Err(StepError::new(program::code(code), "as told")),
        None => Ok(Json::parse(words).unwrap()),
    }
}

/// An event in one line.
pub(crate) fn listed(event: &Event) -> String {
    let at = |path: &StepPath, attempt: &u32| match attempt {
        0 | 1 => path.to_string(),
        more => format!("{path} #{more}"),
    };
    match &event.kind {
        EventKind::RunStarted(_) => "run started".into(),
        EventKind::RunRejected { error } => format!("run rejected: {error}"),
        EventKind::StepStarted { path, attempt, inputs } => {
            let inputs = inputs.as_ref().map(|inputs| format!(" with {inputs}")).unwrap_or_default();
            format!("started {}{inputs}", at(path, attempt))
        }
        EventKind::StepCompleted { path, attempt, result, reused_from, .. } => {
            let reused = if reused_from.is_some() { " (reused)" } else { "" };
            format!("completed {}: {result}{reused}", at(path, attempt))
        }
        EventKind::StepSkipped { path, reason } => {
            format!("skipped {path}: {}", serde_json::to_value(reason).unwrap().as_str().unwrap())
        }
        EventKind::StepFailed { path, attempt, error, recovered, .. } => {
            let recovered = recovered.as_ref().map(|it| format!(", goes on with {it}")).unwrap_or_default();
            format!("failed {}: {}{recovered}", at(path, attempt), error.code)
        }
        EventKind::StepRetrying { path, attempt, error, due } => {
            assert!(*due >= event.at && *due <= event.at.plus(Duration::from_secs(60)), "a wait within its bounds");
            format!("retrying {}: {}", at(path, attempt), error.code)
        }
        EventKind::RequestMade { path, attempt, request } => {
            format!("{} asks {}: {}", at(path, attempt), request.number, request.capability)
        }
        EventKind::RequestCompleted { path, attempt, number, reply, .. } => {
            let reply = reply.as_ref().map_or_else(|error| error.code.to_string(), ToString::to_string);
            format!("{} got {number}: {reply}", at(path, attempt))
        }
        EventKind::StepCancelled { path, attempt } => format!("cancelled {}", at(path, attempt)),
        EventKind::HumanTaskCreated { path, task_type, payload, due, request, .. } => {
            let due = due.map(|due| format!(", until {}", clock(due))).unwrap_or_default();
            let request = request.map(|number| format!(", about {number}")).unwrap_or_default();
            format!("asked {path}: {task_type} {payload}{due}{request}")
        }
        EventKind::HumanTaskCompleted { path, approved, result, .. } => {
            format!("answered {path}: {} {result}", if *approved { "yes" } else { "no" })
        }
        EventKind::StateChanged { from, to, reason } => format!("{from} → {to} ({reason})"),
        EventKind::RunCompleted { outputs } => format!("run completed: {outputs}"),
        EventKind::RunFailed { path, error } => {
            let path = path.as_ref().map(|path| format!(" in {path}")).unwrap_or_default();
            format!("run failed{path}: {}", error.code)
        }
        EventKind::RunStopped { error } => format!("run stopped: {}", error.code),
    }
}

fn clock(at: Timestamp) -> String {
    format!("+{}s", at.since(START).as_secs_f64())
}
