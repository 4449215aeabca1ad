//! One run in a scripted world, without node or disk: executions, people, children and the clock do what they are told.
//!
//! The world keeps what a node keeps, and checks the [`Ledger`] at every decision.

use crate::{
    ledger::{Ledger, assert_not_stalled, digest},
    program,
};
use agentruntime_engine::{
    adapters::Adapter,
    graph::Graph,
    run::{
        Decision, Effect, Executing, Input, IterationOutcome, Phase, Question, Recorded, RunState, Signal, TaskStatus,
        Work, decide,
        event::{Event, EventKind, Start, StepInputs, StepPath},
    },
    store::Chunk,
};
use agentruntime_host_api::{
    HostRequest, Json, ProjectId, RunId, StepError, StepOutput, TaskId, TenantId, Timestamp, WorkflowId,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// When every run of these tests starts: 2026-01-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// Open questions, each with the step that asks.
pub(crate) type Questions = Vec<(TaskId, StepPath)>;
/// Children under way, each with the step that waits.
pub(crate) type Children = Vec<(RunId, StepPath)>;

/// A run and what is under way for it.
pub(crate) struct World {
    pub(crate) graph: Arc<Graph>,
    pub(crate) state: RunState,
    pub(crate) journal: Vec<Event>,
    pub(crate) now: Timestamp,
    /// Executions that began and have not ended.
    pub(crate) executing: Vec<Executing>,
    /// Questions that are open.
    pub(crate) questions: Questions,
    /// Children that were started and not stopped.
    pub(crate) children: Children,
    /// Effects that the outside sees, as they came.
    pub(crate) seen: Vec<String>,
    ledger: Ledger,
    shadow: RunState,
}

/// A start of version 1 with that input.
pub(crate) fn start_with(input: Value) -> Start {
    Start {
        workflow: WorkflowId::new("tested"),
        version: 1,
        input: input.into(),
        trigger_steps: StepInputs::new(),
        excluded_step_ids: Vec::new(),
        trigger_type: "manual".into(),
        external_user_id: None,
        user_id: None,
        pat_id: None,
        due_at: None,
        trace_parent: None,
        parent: None,
        reuse: None,
    }
}

/// The id of the run in every world, so that what is derived from it is the same each time.
pub(crate) fn run_id() -> RunId {
    "00000000-0000-4000-8000-000000000001".parse().unwrap()
}

impl World {
    pub(crate) fn start(graph: Arc<Graph>, start: Start) -> Self {
        let first = Event { seq: 1, at: START, kind: EventKind::RunStarted(Box::new(start.clone())) };
        let state = || RunState::started(run_id(), graph.clone(), start.clone(), START).unwrap();
        let mut world = Self {
            state: state(),
            shadow: state(),
            ledger: Ledger::of(&graph, std::slice::from_ref(&first)),
            graph,
            journal: vec![first],
            now: START,
            executing: Vec::new(),
            questions: Vec::new(),
            children: Vec::new(),
            seen: Vec::new(),
        };
        world.give(Input::Begin);
        world
    }

    /// The run as another node finds it in a journal: what it has under way is what the events opened and did not close.
    pub(crate) fn recovered(graph: Arc<Graph>, journal: &[Event]) -> Self {
        let state = || RunState::replayed(run_id(), graph.clone(), journal).unwrap();
        let mut world = Self {
            state: state(),
            shadow: state(),
            ledger: Ledger::of(&graph, journal),
            now: journal.last().unwrap().at,
            journal: journal.to_vec(),
            executing: Vec::new(),
            questions: Vec::new(),
            children: Vec::new(),
            seen: Vec::new(),
            graph,
        };
        world.executing = world.state.executing();
        (world.questions, world.children) = world.waiting_for();
        world.give(Input::Tick);
        world
    }

    /// The journal ends earlier: a node died before the rest was durable, and with it the rows that belong to the rest.
    pub(crate) fn lose_after(&mut self, events: usize, questions: Questions, children: Children) {
        self.journal.truncate(events);
        let journal = Chunk::of(&self.journal).events().unwrap();
        self.state = RunState::replayed(run_id(), self.graph.clone(), &journal).unwrap();
        self.shadow = RunState::replayed(run_id(), self.graph.clone(), &journal).unwrap();
        self.ledger = Ledger::of(&self.graph, &journal);
        self.executing = self.state.executing();
        (self.questions, self.children) = (questions, children);
        self.check_books();
        self.give(Input::Tick);
    }

    /// Tells the run something that it was told before, or that nobody waits for.
    pub(crate) fn give_stale(&mut self, input: Input) -> Vec<Event> {
        self.give(input)
    }

    /// Tells the run something, takes in what follows, and checks what must always be true.
    pub(crate) fn give(&mut self, input: Input) -> Vec<Event> {
        if let Input::StepDone { executing, .. } | Input::StepFailed { executing, .. } = &input {
            self.executing.retain(|other| other != executing);
        }
        if let Input::Signal(Signal::TaskCompleted { task, .. }) = &input {
            self.questions.retain(|(open, _)| open != task);
        }
        if let Input::Signal(Signal::ChildFinished { child, .. }) = &input {
            self.children.retain(|(begun, _)| begun != child);
        }
        let was_tick = input == Input::Tick;
        let mut events = Vec::new();
        let mut next = Some(input);
        while let Some(input) = next {
            let decision = decide(&mut self.state, input, self.now);
            next = decision.is_unfinished.then_some(Input::Tick);
            events.extend(decision.events.iter().cloned());
            self.take_in(decision);
        }
        let overdue = self.state.next_due().is_some_and(|due| due <= self.now);
        assert!(
            !(was_tick && overdue && events.is_empty()),
            "a tick that is due does something: {}",
            digest(&self.state)
        );
        events
    }

    fn take_in(&mut self, decision: Decision) {
        let Decision { events, effects, .. } = decision;
        for event in &events {
            self.ledger.enter(&self.graph, event);
            self.shadow.apply(event).unwrap();
        }
        effects.into_iter().for_each(|effect| self.carry_out(effect));
        // What waits for people alone is let go.
        let state = &self.state;
        self.executing.retain(|executing| !state.waits_for_people(&executing.path));
        self.journal.extend(events);
        assert_eq!(
            digest(&self.shadow),
            digest(&self.state),
            "applying the events gives the state that was decided on"
        );
        self.check_books();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Execute(executing) => self.executing.push(executing),
            Effect::Abort(path) => self.executing.retain(|executing| executing.path != path),
            Effect::OpenTask { task, path, .. } => self.questions.push((task, path)),
            Effect::CloseTask(task, status) => {
                let at = self.questions.iter().position(|(open, _)| *open == task).expect("an open question is closed");
                let (_, path) = self.questions.remove(at);
                let status = if status == TaskStatus::Expired { "expired" } else { "cancelled" };
                self.seen.push(format!("question of {path} {status}"));
            }
            Effect::StartChild { run, step, workflow, version, input, depth, .. } => {
                self.seen.push(format!("child of {step}: {workflow} version {version}, depth {depth}, with {input}"));
                self.children.push((run, step));
            }
            Effect::StopChild { run, graceful } => {
                let (_, step) =
                    self.children.iter().find(|(child, _)| *child == run).expect("a child under way is stopped");
                self.seen.push(format!("child of {step} told to stop{}", if graceful { " gracefully" } else { "" }));
                // One that drains still tells how it ended.
                self.children.retain(|(child, _)| graceful || *child != run);
            }
        }
    }

    /// What the world has under way is what the state says is under way: so a node that folds the journal knows it.
    pub(crate) fn check_books(&self) {
        let sorted = |mut all: Vec<String>| {
            all.sort();
            all
        };
        let shown = |all: &[Executing]| sorted(all.iter().map(|it| format!("{} #{}", it.path, it.attempt)).collect());
        assert_eq!(shown(&self.executing), shown(&self.state.executing()), "executions under way");
        let (asked, begun) = self.waiting_for();
        let asked = asked.iter().map(|(task, _)| task.to_string()).collect();
        let begun = begun.iter().map(|(run, _)| run.to_string()).collect();
        let open = self.questions.iter().map(|(task, _)| task.to_string()).collect();
        let running = self.children.iter().map(|(run, _)| run.to_string()).collect();
        assert_eq!(sorted(open), sorted(asked), "open questions");
        assert_eq!(sorted(running), sorted(begun), "children under way");
        assert_not_stalled(&self.state);
    }

    /// The questions and children that the state waits for.
    fn waiting_for(&self) -> (Questions, Children) {
        let (mut asked, mut begun) = (Vec::new(), Vec::new());
        for (step, spec) in self.state.steps.iter().zip(&self.graph.steps) {
            let path = StepPath::top(&spec.id);
            match &step.phase {
                Phase::AwaitingTask(task) => asked.push((*task, path)),
                Phase::AwaitingChild(run) => begun.push((*run, path)),
                Phase::Looping(looped) => {
                    asked.extend(looped.iterations.iter().filter_map(|turn| match turn.outcome {
                        IterationOutcome::InReview(_, task) => Some((task, path.clone())),
                        _ => None,
                    }))
                }
                _ => {}
            }
        }
        asked.extend(self.state.questions());
        (asked, begun)
    }

    /// An execution asks for the next things, and people about those that say so.
    pub(crate) fn request(&mut self, executing: &Executing, asks: &[bool]) -> Input {
        let next = self.state.recorded(&executing.path).len() as u32;
        let numbered = || (next..).zip(asks);
        let request = |(number, _)| {
            let arguments = json!({ "n": number }).into();
            HostRequest { number, capability: "mcp.call".into(), arguments }
        };
        let question = |(number, _)| Question { number, payload: json!({ "n": number }).into() };
        Input::Requested {
            executing: executing.clone(),
            requests: numbered().map(request).collect(),
            questions: numbered().filter(|(_, asks)| **asks).map(question).collect(),
        }
    }

    /// The requests of an execution that may go out and have no reply.
    pub(crate) fn going_out(&self, executing: &Executing) -> Vec<u32> {
        let may = |recorded: &Recorded| {
            recorded.reply.is_none() && recorded.approval.as_ref().is_none_or(|approval| approval.decision.is_some())
        };
        (0..).zip(self.state.recorded(&executing.path)).filter(|(_, it)| may(it)).map(|(number, _)| number).collect()
    }

    /// The node dies, and another folds what is in the journal: what it then has to begin is what was under way.
    pub(crate) fn crash(&mut self) {
        let chunk = Chunk::of(&self.journal);
        let read = chunk.events().unwrap();
        assert_eq!(read, self.journal, "the journal is read as it was written");
        let recovered = RunState::replayed(self.state.run, self.graph.clone(), &read).unwrap();
        assert_eq!(digest(&recovered), digest(&self.state), "a replay gives the same state");
        self.executing = recovered.executing();
        self.state = recovered;
        self.check_books();
        self.give(Input::Tick);
    }

    /// Ends an execution as its program says, if it does.
    pub(crate) fn answer(&mut self, executing: &Executing) -> Option<Vec<Event>> {
        let outcome = self.outcome(executing)?;
        Some(self.end(executing.clone(), outcome))
    }

    /// How the program of an execution ends, unless it waits to be told.
    pub(crate) fn outcome(&self, executing: &Executing) -> Option<Result<Json, StepError>> {
        let (tenant, project) = (TenantId::new("t"), ProjectId::new("p"));
        let work = self.state.work(&executing.path, &tenant, &project, self.now).expect("an execution has work");
        match work {
            Work::Program(job) => match job.adapter {
                None => program::outcome(&job.invocation, executing.attempt),
                Some(adapter) => {
                    let what = match adapter {
                        Adapter::Tool => "MCP servers",
                        Adapter::Model => "language models",
                        Adapter::Agent => "agents",
                    };
                    Some(Err(StepError::new(program::code("DEPENDENCY_UNAVAILABLE"), format!("no {what}"))))
                }
            },
            Work::Refused(error) => Some(Err(error)),
        }
    }

    pub(crate) fn end(&mut self, executing: Executing, outcome: Result<Json, StepError>) -> Vec<Event> {
        self.give(input_of(executing, outcome))
    }

    /// Lets time go by up to a point, waking the run whenever it wants to be woken on the way.
    pub(crate) fn tick_at(&mut self, now: Timestamp) -> Vec<Event> {
        self.now = self.now.max(now);
        self.give(Input::Tick)
    }
}

/// The end of an execution as an input.
pub(crate) fn input_of(executing: Executing, outcome: Result<Json, StepError>) -> Input {
    let duration = Duration::from_millis(1);
    match outcome {
        Ok(json) => Input::StepDone { executing, output: StepOutput { json, fuel: None, duration } },
        Err(error) => Input::StepFailed { executing, error, duration },
    }
}
