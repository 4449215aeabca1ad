//! The call of a program: the state, cut down to what the program can read.

use super::{
    body::{Site, Slot},
    event::StepPath,
    lookup::View,
    requests::Recorded,
    start::leaf_call,
    state::RunState,
};
use crate::{
    adapters::{Adapter, CALL},
    graph::{AgentCall, Leaf, LuaScript, StepKind},
};
use agentruntime_host_api::{
    Caller, Entropy, ErrorCode, Grants, Invocation, Json, Language, Limits, Program, ProjectId, RunId, Scope,
    StepError, TenantId, Timestamp,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// What a node has to carry out for one attempt.
#[derive(Debug)]
pub enum Work {
    /// Run a program.
    Program(Box<Job>),
    /// Nothing: it cannot be carried out.
    Refused(StepError),
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
    /// Which of the engine's own programs it is, where it is no author's: then its answer is in an envelope.
    pub adapter: Option<Adapter>,
}

/// A program and what it is given.
struct Part {
    source: Arc<str>,
    scope: Scope,
    grants: Arc<Grants>,
    adapter: Option<Adapter>,
}

impl RunState {
    /// The work of an attempt that is under way; nothing where the path leads nowhere.
    pub fn work(&self, path: &StepPath, tenant: &TenantId, project: &ProjectId, at: Timestamp) -> Option<Work> {
        let site = self.site(path)?;
        let Part { source, scope, grants, adapter } = match self.part(site)? {
            Ok(part) => part,
            Err(error) => return Some(Work::Refused(error)),
        };
        let name: Arc<str> = match &path.body {
            None => path.step.clone(),
            Some((_, inner)) => inner.clone(),
        };
        let time = self.conduct(site).timeout.unwrap_or(Limits::TIME_DEFAULT);
        let invocation = Invocation {
            tenant: tenant.clone(),
            program: Program { language: Language::Lua, name, source },
            scope,
            started_at: self.attempt_started(site).unwrap_or(at),
            entropy: entropy(self.run, path),
            limits: Limits { time, ..Limits::default() },
        };
        let caller = Caller { tenant: tenant.clone(), project: project.clone(), run: self.run, step: path.to_string() };
        let recorded = self.recorded(path).to_vec();
        Some(Work::Program(Box::new(Job { invocation, caller, grants, recorded, adapter })))
    }

    /// What runs at a place, and what it is given; nothing where nothing runs there.
    fn part(&self, site: Site) -> Option<Result<Part, StepError>> {
        let (leaf, adapter, grants) = match self.leaf(site)? {
            LeafAt::Script(script) | LeafAt::Leaf(Leaf::Lua(script)) => {
                let (source, grants) = (script.source.clone(), script.grants.clone());
                return Some(Ok(Part { source, scope: self.script_scope(site, script), grants, adapter: None }));
            }
            LeafAt::Leaf(leaf @ Leaf::Mcp(call)) => (leaf, Adapter::Tool, &call.grants),
            LeafAt::Leaf(leaf @ Leaf::Llm(call)) => (leaf, Adapter::Model, &call.grants),
            LeafAt::Leaf(Leaf::Agent(AgentCall { agent_id: Some(id), .. })) => {
                let message = format!("there is no registered agent `{id}` here: write it as the step's `agent`");
                return Some(Err(StepError::new(ErrorCode::DependencyUnavailable, message)));
            }
            LeafAt::Leaf(leaf @ Leaf::Agent(call)) => (leaf, Adapter::Agent, &call.grants),
        };
        let call = leaf_call(leaf, &View::of(self, site)).map(|call| call.unwrap_or_default());
        Some(call.map(|call| Part {
            source: adapter.source(),
            scope: Scope { globals: vec![(CALL, call.into())], steps: Vec::new() },
            grants: grants.clone(),
            adapter: Some(adapter),
        }))
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
