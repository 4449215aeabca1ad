//! Which steps may start, and what starting one means.

use super::{
    apply::{child_run, sleep_inputs, task_id},
    body::Site,
    decide::{Effect, Machine},
    event::{EventKind, SkipReason, StepPath},
    lookup::View,
    state::{Executing, Phase, RunState},
};
use crate::graph::{
    AgentCall, Condition, HumanTask, Leaf, LlmCall, Lookup, McpCall, Sleep, Step, StepIndex, StepKind, WorkflowCall,
    limits::WAIT_S_MAX,
};
use agentruntime_host_api::{ErrorCode, Json, StepError, TaskId, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

/// How many parents a child run may have above it: a workflow that calls itself ends here.
pub const CHILD_DEPTH_MAX: u32 = 16;

/// How many runs may come below a run that nobody called, whatever calls whatever: each call gets an even share.
pub const CHILD_RUNS_MAX: u32 = 10_000;

/// A question to a person.
pub(super) struct Asked {
    pub(super) task: TaskId,
    pub(super) path: StepPath,
    pub(super) task_type: String,
    pub(super) payload: Json,
    pub(super) due: Option<Timestamp>,
    /// The request of the step that waits for the answer, where it is not the step itself.
    pub(super) request: Option<u32>,
}

/// What a step that has not begun may do.
#[derive(Debug, PartialEq)]
enum Readiness {
    Wait,
    Skip(SkipReason),
    Start,
}

impl Machine<'_> {
    pub(super) fn start_what_is_ready(&mut self) {
        let graph = self.state.graph.clone();
        for &index in &graph.topological_order {
            if self.is_over() || self.is_spent() {
                return;
            }
            match &self.state.steps[index].phase {
                Phase::Waiting => match readiness(self.state, index) {
                    Readiness::Wait => {}
                    Readiness::Skip(reason) => {
                        self.spend();
                        let path = self.state.path(index);
                        self.emit(EventKind::StepSkipped { path, reason });
                    }
                    Readiness::Start => self.start_step(index),
                },
                Phase::BackingOff(due) if *due <= self.now => self.start_step(index),
                Phase::Looping(_) => self.advance_loop(index),
                Phase::BackingOff(_)
                | Phase::Executing
                | Phase::AwaitingTask(_)
                | Phase::AwaitingChild(_)
                | Phase::Sleeping(_)
                | Phase::Completed { .. }
                | Phase::Skipped(_)
                | Phase::Failed { .. }
                | Phase::Cancelled => {}
            }
        }
    }

    fn start_step(&mut self, index: StepIndex) {
        self.spend();
        let graph = self.state.graph.clone();
        let step = &graph.steps[index];
        let path = self.state.path(index);
        let attempt = self.state.steps[index].attempt + 1;
        match prepare(self.state, index, step, self.now) {
            Ok(inputs) => {
                self.emit(EventKind::StepStarted { path: path.clone(), attempt, inputs: inputs.clone() });
                self.set_going(index, step, path, attempt, inputs);
            }
            Err(error) => {
                self.emit(EventKind::StepStarted { path, attempt, inputs: None });
                self.fail(Site::Top(index), attempt, error, Duration::ZERO);
            }
        }
    }

    fn set_going(&mut self, index: StepIndex, step: &Step, path: StepPath, attempt: u32, inputs: Option<Json>) {
        let inputs = inputs.unwrap_or_else(Json::empty_object);
        match &step.kind {
            StepKind::Leaf(_) => self.effect(Effect::Execute(Executing { path, attempt })),
            StepKind::HumanTask(spec) => self.ask(spec, step, path, attempt, inputs),
            StepKind::WorkflowCall(spec) => self.call(spec, path, attempt, inputs),
            StepKind::Sleep(_) => {}
            StepKind::ForEach(_) | StepKind::While(_) => self.advance_loop(index),
        }
    }

    fn ask(&mut self, spec: &HumanTask, step: &Step, path: StepPath, attempt: u32, payload: Json) {
        let task = task_id(self.state.run, &path, attempt);
        let due = step.conduct.timeout.map(|timeout| self.now.plus(timeout));
        self.open_task(Asked { task, path, task_type: spec.task_type.clone(), payload, due, request: None });
    }

    pub(super) fn open_task(&mut self, asked: Asked) {
        let Asked { task, path, task_type, payload, due, request } = asked;
        let created = EventKind::HumanTaskCreated {
            path: path.clone(),
            task,
            task_type: task_type.clone(),
            payload: payload.clone(),
            due,
            request,
        };
        self.emit(created);
        self.effect(Effect::OpenTask { task, path, task_type, payload, due });
    }

    fn call(&mut self, spec: &WorkflowCall, path: StepPath, attempt: u32, input: Json) {
        self.effect(Effect::StartChild {
            run: child_run(self.state.run, &path, attempt),
            step: path,
            workflow: spec.workflow.clone(),
            version: spec.version.unwrap_or_default(),
            input,
            depth: self.state.depth() + 1,
            descendants: self.state.share_of_descendants().unwrap_or(0),
        });
    }
}

impl RunState {
    fn depth(&self) -> u32 {
        self.start.parent.as_ref().map_or(0, |parent| parent.depth)
    }

    /// How many runs may come below each child: what is left after the children themselves, divided among all that the
    /// graph can start. Nothing where not even the children fit.
    fn share_of_descendants(&self) -> Option<u32> {
        let all = self.start.parent.as_ref().map_or(CHILD_RUNS_MAX, |parent| parent.descendants);
        let calls = self.graph.steps.iter().filter(|step| matches!(step.kind, StepKind::WorkflowCall(_)));
        let children = calls.map(|step| step.conduct.retry.max_attempts).fold(0, u32::saturating_add).max(1);
        Some(all.checked_sub(children)? / children)
    }
}

fn readiness(state: &RunState, index: StepIndex) -> Readiness {
    let step = &state.graph.steps[index];
    if state.out_of_scope[index] {
        return Readiness::Skip(SkipReason::OutOfScope);
    }
    let phases = || step.depends_on.iter().map(|&dependency| &state.steps[dependency].phase);
    if phases().any(|phase| !phase.is_settled() || matches!(phase, Phase::Failed { recovered: None, .. })) {
        return Readiness::Wait;
    }
    if step.depends_on.iter().any(|&dependency| stops_at_rejection(state, step, dependency)) {
        return Readiness::Skip(SkipReason::UpstreamRejected);
    }
    if !step.depends_on.is_empty() && !phases().any(counts_as_completed) {
        let rejected = phases().any(|phase| matches!(phase, Phase::Skipped(SkipReason::UpstreamRejected)));
        let reason = if rejected { SkipReason::UpstreamRejected } else { SkipReason::UpstreamSkipped };
        return Readiness::Skip(reason);
    }
    // Only a step that would have had its turn counts as completed: what is disabled lets no rejection through.
    if !step.enabled {
        return Readiness::Skip(SkipReason::StepDisabled);
    }
    let view = View::top(state, index);
    match applies(step.condition.as_ref(), step.skip_when.as_ref(), &view) {
        true => Readiness::Start,
        false => Readiness::Skip(SkipReason::ConditionFalse),
    }
}

/// Whether the conditions of a step let it run.
pub(super) fn applies(condition: Option<&Condition>, skip_when: Option<&Condition>, view: &dyn Lookup) -> bool {
    condition.is_none_or(|condition| condition.holds(view)) && !skip_when.is_some_and(|skip| skip.holds(view))
}

fn counts_as_completed(phase: &Phase) -> bool {
    match phase {
        Phase::Completed { .. } | Phase::Skipped(SkipReason::StepDisabled) => true,
        Phase::Failed { recovered, .. } => recovered.is_some(),
        _ => false,
    }
}

/// A rejected task stops its branch, unless the task says otherwise or the step decides for itself by reading the answer.
fn stops_at_rejection(state: &RunState, step: &Step, dependency: StepIndex) -> bool {
    if !matches!(state.steps[dependency].phase, Phase::Completed { rejected: true, .. }) {
        return false;
    }
    let task = &state.graph.steps[dependency];
    let goes_on = matches!(&task.kind, StepKind::HumanTask(spec) if spec.continue_on_reject);
    let reads = |condition: &Option<Condition>| condition.as_ref().is_some_and(|it| it.reads_step(&task.id));
    !goes_on && !reads(&step.condition) && !reads(&step.skip_when)
}

/// The resolved configuration of a step, where it has one.
fn prepare(state: &RunState, index: StepIndex, step: &Step, now: Timestamp) -> Result<Option<Json>, StepError> {
    let view = View::top(state, index);
    match &step.kind {
        StepKind::Leaf(leaf) => leaf_inputs(leaf, &view),
        StepKind::HumanTask(spec) => Ok(Some(spec.payload.resolve(&view)?.into())),
        StepKind::WorkflowCall(spec) => {
            if state.depth() >= CHILD_DEPTH_MAX {
                let message = format!("workflow_call is nested {CHILD_DEPTH_MAX} deep; does the workflow call itself?");
                return Err(StepError::new(ErrorCode::InvalidInput, message));
            }
            if state.share_of_descendants().is_none() {
                let message = format!(
                    "the calls below one run could become more than {CHILD_RUNS_MAX} runs; call less, or start further runs from outside"
                );
                return Err(StepError::new(ErrorCode::InvalidInput, message));
            }
            if spec.version.is_none() {
                let message = format!("no version of `{}` was published when this workflow was", spec.workflow);
                return Err(StepError::new(ErrorCode::DependencyUnavailable, message));
            }
            Ok(Some(spec.input.resolve(&view)?.into()))
        }
        StepKind::Sleep(spec) => Ok(Some(sleep_inputs(sleep_until(spec, &view, now)?))),
        StepKind::ForEach(spec) => check_items(spec.items.resolve(&view)?),
        StepKind::While(_) => Ok(None),
    }
}

/// The resolved configuration of a leaf: nothing for scripts, which read their surroundings themselves.
pub(super) fn leaf_inputs(leaf: &Leaf, view: &dyn Lookup) -> Result<Option<Json>, StepError> {
    let Some(mut call) = leaf_call(leaf, view)? else { return Ok(None) };
    let inputs = match leaf {
        // Of a tool's call, its arguments are what later steps ask for.
        Leaf::Mcp(_) => call.get_mut("arguments").map(Value::take).unwrap_or_else(|| json!({})),
        Leaf::Lua(_) | Leaf::Llm(_) | Leaf::Agent(_) => call,
    };
    Ok(Some(inputs.into()))
}

/// What the program of a leaf is given to do; nothing for scripts.
pub(super) fn leaf_call(leaf: &Leaf, view: &dyn Lookup) -> Result<Option<Value>, StepError> {
    match leaf {
        Leaf::Lua(_) => Ok(None),
        Leaf::Mcp(McpCall { settings, .. })
        | Leaf::Llm(LlmCall { settings, .. })
        | Leaf::Agent(AgentCall { settings, .. }) => settings.resolve(view).map(Some),
    }
}

/// An empty table of Lua is `{}` and counts as an empty list, and so does null.
fn check_items(items: Value) -> Result<Option<Json>, StepError> {
    let kind = match &items {
        Value::Array(_) | Value::Null => return Ok(None),
        Value::Object(fields) if fields.is_empty() => return Ok(None),
        Value::Object(_) => "an object",
        Value::String(_) => "a string",
        Value::Number(_) => "a number",
        Value::Bool(_) => "a boolean",
    };
    let message = format!("for_each_items is {kind}; it must be a list (or null, for no items)");
    Err(StepError::new(ErrorCode::InvalidInput, message))
}

fn sleep_until(spec: &Sleep, view: &dyn Lookup, now: Timestamp) -> Result<Timestamp, StepError> {
    let invalid = |message: String| StepError::new(ErrorCode::InvalidInput, message);
    match spec {
        Sleep::Duration(template) => {
            let value = template.resolve(view)?;
            let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
            let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let duration = duration
                .ok_or_else(|| invalid(format!("duration_s is {value}; it must be a number of seconds, 0 or more")))?;
            at_most(now.plus(duration), now)
        }
        Sleep::Until(template) => {
            let value = template.resolve(view)?;
            let point = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
            let point = point.ok_or_else(|| {
                invalid(format!("until is {value}; it must be an RFC 3339 time such as 2026-01-31T08:00:00Z"))
            })?;
            at_most(point.max(now), now)
        }
    }
}

/// A run that sleeps for longer than that has most likely been told the wrong unit.
fn at_most(point: Timestamp, now: Timestamp) -> Result<Timestamp, StepError> {
    if point.since(now) <= Duration::from_secs(WAIT_S_MAX) {
        return Ok(point);
    }
    let message = format!("a sleep may take {WAIT_S_MAX} s at most; it would go on until {point}");
    Err(StepError::new(ErrorCode::InvalidInput, message))
}
