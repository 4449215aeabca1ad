//! The call of a script: the state, cut down to what the script can read.

use super::{
    body::{Site, Slot},
    event::StepPath,
    lookup::View,
    requests::Recorded,
    state::RunState,
};
use crate::graph::{Leaf, LuaScript, StepKind};
use agentruntime_host_api::{
    Caller, Entropy, Grants, Invocation, Json, Language, Limits, Program, ProjectId, RunId, Scope, TenantId, Timestamp,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// What a node has to carry out for one attempt.
#[derive(Debug)]
pub enum Work {
    /// Run a program.
    Program(Box<Job>),
    /// Call something that this installation does not have; the name says what.
    Unavailable(&'static str),
}

/// A program to run, and what is known about what it asks for.
#[derive(Debug)]
pub struct Job {
    /// The call.
    pub invocation: Invocation,
    /// Who asks, where it asks for something.
    pub caller: Caller,
    /// What it may ask for.
    pub grants: Arc<Grants>,
    /// What it has asked for already, where it was begun before.
    pub recorded: Vec<Recorded>,
}

impl RunState {
    /// The work of an attempt that is under way; nothing where the path leads nowhere.
    pub fn work(&self, path: &StepPath, tenant: &TenantId, project: &ProjectId, at: Timestamp) -> Option<Work> {
        let site = self.site(path)?;
        let script = match self.leaf(site)? {
            LeafAt::Script(script) => script,
            LeafAt::Leaf(Leaf::Lua(script)) => script,
            LeafAt::Leaf(Leaf::Mcp(_)) => return Some(Work::Unavailable("MCP servers")),
            LeafAt::Leaf(Leaf::Llm(_)) => return Some(Work::Unavailable("language models")),
            LeafAt::Leaf(Leaf::Agent(_)) => return Some(Work::Unavailable("agents")),
        };
        let name: Arc<str> = match &path.body {
            None => path.step.clone(),
            Some((_, inner)) => inner.clone(),
        };
        let time = self.conduct(site).timeout.unwrap_or(Limits::TIME_DEFAULT);
        let invocation = Invocation {
            tenant: tenant.clone(),
            program: Program { language: Language::Lua, name, source: script.source.clone() },
            scope: self.script_scope(site, script),
            started_at: self.attempt_started(site).unwrap_or(at),
            entropy: entropy(self.run, path),
            limits: Limits { time, ..Limits::default() },
        };
        let caller = Caller { tenant: tenant.clone(), project: project.clone(), run: self.run, step: path.to_string() };
        let (grants, recorded) = (script.grants.clone(), self.recorded(path).to_vec());
        Some(Work::Program(Box::new(Job { invocation, caller, grants, recorded })))
    }

    fn leaf(&self, site: Site) -> Option<LeafAt<'_>> {
        match site {
            Site::Top(step) => match &self.graph.steps[step].kind {
                StepKind::Leaf(leaf) => Some(LeafAt::Leaf(leaf)),
                _ => None,
            },
            Site::Inner { step, position, .. } => Some(match self.graph.steps[step].kind.slot(position)? {
                Slot::Step(body) => LeafAt::Leaf(&body.leaf),
                Slot::Eval(script) => LeafAt::Script(script),
            }),
        }
    }

    fn script_scope(&self, site: Site, script: &LuaScript) -> Scope {
        let view = View::of(self, site);
        let reads = &script.reads;
        let mut globals = Vec::new();
        let mut offer = |name: &'static str, json: &dyn Fn() -> Json| {
            if reads.global(name) {
                globals.push((name, json()));
            }
        };
        offer("input", &|| view.input_json());
        offer("run", &|| self.run_json.clone());
        offer("connection", &Json::empty_object);
        if let Site::Inner { step, iteration, .. } = site {
            if let Some(item) = view.item() {
                offer("item", &|| Json::of_value(item));
                offer("index", &|| Json::from(Value::from(iteration)));
                offer("foreach", &|| json!({ "item": item, "index": iteration }).into());
            }
            offer("body", &|| Value::Object(view.outputs()).into());
            if matches!(self.graph.steps[step].kind, StepKind::While(_)) {
                offer("loop", &|| json!({ "iteration": iteration, "prev": view.previous() }).into());
            }
        }
        let readable = self.graph.steps[site.step()].readable.iter();
        let steps = readable.filter(|&&index| reads.step(&self.graph.steps[index].id)).filter_map(|&index| {
            let entry = self.steps[index].result()?.entry().clone();
            Some((self.graph.steps[index].id.clone(), entry))
        });
        Scope { steps: steps.collect(), globals }
    }
}

enum LeafAt<'g> {
    Leaf(&'g Leaf),
    Script(&'g LuaScript),
}

/// The same for every attempt of the step, on every node.
fn entropy(run: RunId, path: &StepPath) -> Entropy {
    let (high, low) = RunId::derived(run.as_uuid(), &format!("entropy/{path}")).as_uuid().as_u64_pair();
    Entropy(high ^ low)
}
