//! Random graphs under random schedules: inputs in any order, twice, too late; commands at any time; nodes that die at any
//! point and take with them what was not yet durable. Whatever happens, the [`ledger`](crate::ledger) balances and every run ends.

use crate::{
    graphs::{GraphPlan, graph_plans},
    ledger::{Ledger, digest},
    world::{Children, Questions, World, input_of, start_with},
};
use agentruntime_engine::{
    graph::Graph,
    run::{
        Executing, Input, RunState, Signal,
        event::{Event, EventKind, RunStatus, StepPath},
    },
};
use agentruntime_host_api::{ErrorCode, Json, StepError};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// How many graphs and schedules are tried: the same ones within a second each time, or with `AGENTRUNTIME_TEST_LONG` set a
/// hundred times as many, which are new each time.
fn config(cases: u32) -> Config {
    let (cases, rng_seed) = match std::env::var_os("AGENTRUNTIME_TEST_LONG") {
        Some(_) => (cases * 100, RngSeed::Random),
        None => (cases, RngSeed::Fixed(0x5eed)),
    };
    Config { cases, rng_seed, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn any_schedule_keeps_the_books_and_every_run_ends(plan in graph_plans(), schedule in vec(any::<u16>(), 0..80)) {
        let mut fate = Fate::of(&plan);
        for choice in schedule {
            fate.step(choice);
        }
        fate.bring_to_an_end();
    }
}

proptest! {
    #![proptest_config(config(300))]

    /// Like the test before, with commands at every second turn: start, pause, resume, stop, retry and answers in any order.
    #[test]
    fn any_interleaving_of_commands_leaves_a_legal_run(
        plan in graph_plans(),
        turns in vec((any::<u16>(), 0..6_usize, any::<bool>()), 0..60),
    ) {
        let mut fate = Fate::of(&plan);
        for (choice, command, is_read) in turns {
            fate.step(choice);
            fate.command(command, usize::from(choice));
            if is_read {
                fate.read_one();
            }
        }
        fate.bring_to_an_end();
    }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn a_crash_after_any_commit_changes_nothing_about_the_outcome(plan in graph_plans()) {
        let mut whole = Fate::of(&plan);
        let mut prefixes = vec![whole.world.journal.len()];
        while whole.go_on() {
            prefixes.push(whole.world.journal.len());
        }
        let outcome = |world: &World| (world.state.status, world.state.end.clone().map(without_times));
        for length in prefixes {
            let mut again = Fate::recovered(&whole.world.graph, &whole.world.journal[..length]);
            again.bring_to_an_end();
            prop_assert_eq!(outcome(&again.world), outcome(&whole.world), "after {} events", length);
        }
    }
}

/// What a run is told from outside, durable as soon as it is sent.
struct Fate {
    world: World,
    inbox: Vec<Signal>,
    /// What the store holds: everything after is lost with the node.
    durable: Durable,
    /// Signals that the state has taken in.
    read: usize,
    /// Inputs of the past, to be repeated.
    past: Vec<Input>,
}

#[derive(Clone)]
struct Durable {
    events: usize,
    read: usize,
    questions: Questions,
    children: Children,
}

impl Fate {
    fn of(plan: &GraphPlan) -> Self {
        let graph = Graph::parse(&plan.document()).unwrap_or_else(|issues| panic!("{issues:#?}"));
        Self::begin(World::start(Arc::new(graph), start_with(json!({ "yes": true, "no": false }))))
    }

    fn recovered(graph: &Arc<Graph>, journal: &[Event]) -> Self {
        Self::begin(World::recovered(graph.clone(), journal))
    }

    fn begin(world: World) -> Self {
        let durable = Durable { events: 1, read: 0, questions: Vec::new(), children: Vec::new() };
        let mut fate = Self { world, inbox: Vec::new(), durable, read: 0, past: Vec::new() };
        fate.commit();
        fate
    }

    fn commit(&mut self) {
        let (questions, children) = (self.world.questions.clone(), self.world.children.clone());
        self.durable = Durable { events: self.world.journal.len(), read: self.read, questions, children };
    }

    fn give(&mut self, input: Input) {
        self.past.push(input.clone());
        self.world.give(input);
    }

    fn send(&mut self, signal: Signal) {
        self.inbox.push(signal);
    }

    fn read_one(&mut self) -> bool {
        let Some(signal) = self.inbox.get(self.read).cloned() else { return false };
        self.read += 1;
        self.give(Input::Signal(signal));
        true
    }

    /// One thing happens, as a number says.
    fn step(&mut self, choice: u16) {
        let pick = usize::from(choice / 32);
        match choice % 32 {
            0..=8 => self.end_one(pick, None),
            9 | 10 => self.end_one(pick, Some(Err(StepError::new(ErrorCode::LuaError, "by fate")))),
            11 | 12 => self.end_one(pick, Some(Ok(json!({ "ok": pick % 2 == 0, "by": "fate" }).into()))),
            13..=15 => self.answer(pick),
            16 | 17 => self.child_ends(pick),
            18 | 19 => self.repeat(pick),
            20 | 21 => self.let_time_go_by(pick),
            22 => self.send([Signal::Pause, Signal::Resume, Signal::Retry][pick % 3].clone()),
            23 if pick % 4 == 0 => self.send(Signal::Stop { graceful: pick % 8 == 0 }),
            23 | 24 => self.send(Signal::Resume),
            25 | 26 => drop(self.read_one()),
            27 => self.commit(),
            28 | 29 => self.crash(),
            30 => self.request(pick),
            31 if pick.is_multiple_of(2) => self.reply(pick / 2),
            _ => drop(self.world.tick_at(self.world.now)),
        }
    }

    fn command(&mut self, command: usize, pick: usize) {
        match command {
            0 => self.send(Signal::Pause),
            1 => self.send(Signal::Resume),
            2 => self.send(Signal::Retry),
            3 => self.answer(pick),
            // Rarely, or few runs would live to see anything else.
            4 if pick.is_multiple_of(8) => self.send(Signal::Stop { graceful: pick.is_multiple_of(16) }),
            _ => self.world.give_stale(Input::Begin).clear(),
        }
    }

    fn end_one(&mut self, pick: usize, outcome: Option<Result<Json, StepError>>) {
        let Some(executing) = chosen(&self.world.executing, pick).cloned() else { return };
        if let Some(outcome) = outcome.or_else(|| self.world.outcome(&executing)) {
            self.give(input_of(executing, outcome));
        }
    }

    /// An execution asks for something, and perhaps people about it.
    fn request(&mut self, pick: usize) {
        let Some(executing) = chosen(&self.world.executing, pick / 4).cloned() else { return };
        // It asks for more when it has all that it asked for.
        if self.world.state.recorded(&executing.path).iter().all(|recorded| recorded.reply.is_some()) {
            let asks: &[bool] = [&[true] as &[bool], &[false], &[true, false], &[true, true]][pick % 4];
            let input = self.world.request(&executing, asks);
            self.give(input);
        }
    }

    fn reply(&mut self, pick: usize) {
        let Some(executing) = chosen(&self.world.executing, pick).cloned() else { return };
        if let Some(number) = chosen(&self.world.going_out(&executing), pick).copied() {
            let (reply, duration) = (Ok(json!({}).into()), Duration::from_millis(1));
            self.give(Input::Replied { executing, number, reply, duration });
        }
    }

    /// People see durable questions only, and may answer one that was closed a moment ago.
    fn answer(&mut self, pick: usize) {
        let Some((task, _)) = chosen(&self.durable.questions, pick).cloned() else { return };
        let result = if pick.is_multiple_of(3) { json!({ "item": "given" }) } else { json!({}) };
        self.send(Signal::TaskCompleted { task, approved: !pick.is_multiple_of(4), result: result.into() });
    }

    fn child_ends(&mut self, pick: usize) {
        let Some((child, step)) = chosen(&self.durable.children, pick).cloned() else { return };
        let failed = Err(StepError::new(ErrorCode::LuaError, "by fate"));
        let outcome = if pick.is_multiple_of(4) { failed } else { Ok(json!({ "ok": true }).into()) };
        self.send(Signal::ChildFinished { child, step, outcome });
    }

    fn repeat(&mut self, pick: usize) {
        if let Some(input) = chosen(&self.past, pick).cloned()
            && !matches!(input, Input::Signal(Signal::Stop { .. } | Signal::Pause | Signal::Resume | Signal::Retry))
        {
            self.world.give_stale(input);
        }
    }

    fn let_time_go_by(&mut self, pick: usize) {
        let due = self.world.state.next_due().filter(|_| pick.is_multiple_of(2));
        let now = due.unwrap_or(self.world.now.plus(Duration::from_secs(pick as u64 % 400)));
        self.world.tick_at(now);
    }

    /// The node dies: what was not durable is gone, and the rest is folded by the next one, which reads signals again.
    fn crash(&mut self) {
        let Durable { events, read, questions, children } = self.durable.clone();
        self.read = read;
        self.world.lose_after(events, questions, children);
        // A finished execution of lost events may still report.
        self.commit();
    }

    /// The world answers everything until the run is over.
    fn bring_to_an_end(&mut self) {
        let mut steps = 0;
        while self.go_on() {
            steps += 1;
            assert!(steps < 5_000, "the run does not end: {}", digest(&self.world.state));
        }
        let state = &self.world.state;
        assert!(state.status.is_final(), "the run is over: {}", digest(state));
        assert!(self.world.executing.is_empty() && self.world.questions.is_empty() && self.world.children.is_empty());
        assert_eq!((state.next_due(), state.awaiting()), (None, None), "a finished run waits for nothing");
        Ledger::of(&self.world.graph, &self.world.journal);
        let replayed = RunState::replayed(state.run, self.world.graph.clone(), &self.world.journal).unwrap();
        assert_eq!(digest(&replayed), digest(state));
        self.assert_stays_finished();
    }

    /// A run that ended takes nothing in any more, but a retry of one that failed.
    fn assert_stays_finished(&mut self) {
        let before = digest(&self.world.state);
        self.world.now = self.world.now.plus(Duration::from_secs(3_600));
        for input in self.past.clone() {
            if input != Input::Signal(Signal::Retry) {
                assert!(self.world.give_stale(input).is_empty());
            }
        }
        for signal in [Signal::Pause, Signal::Resume, Signal::Stop { graceful: true }, Signal::Stop { graceful: false }]
        {
            assert!(self.world.give(Input::Signal(signal)).is_empty());
        }
        assert!(self.world.give(Input::Tick).is_empty());
        assert_eq!(digest(&self.world.state), before);
    }

    /// The next thing that a helpful world does; nothing where the run is over.
    fn go_on(&mut self) -> bool {
        self.commit();
        if self.read_one() {
            return true;
        }
        if self.world.state.status.is_final() {
            return false;
        }
        // What is due comes first, as it does when a node takes the run over.
        if self.world.state.next_due().is_some_and(|due| due <= self.world.now) {
            self.world.tick_at(self.world.now);
            return true;
        }
        // In the order of their names: which of two failures comes first must not depend on a crash.
        if let Some(executing) = self.world.executing.iter().min_by_key(|it| it.path.clone()).cloned() {
            let outcome = self.world.outcome(&executing).unwrap_or_else(|| Ok(json!({}).into()));
            self.give(input_of(executing, outcome));
        } else if self.world.state.status == RunStatus::Paused {
            // An item that always fails pauses its run each time.
            let resumes = self.world.journal.iter().filter(|event| is_resume(event)).count();
            self.send(if resumes < 3 { Signal::Resume } else { Signal::Stop { graceful: false } });
        } else if let Some((task, _)) = self.world.questions.iter().min().cloned() {
            self.send(Signal::TaskCompleted { task, approved: true, result: json!({}).into() });
        } else if let Some((child, step)) = self.world.children.iter().min().cloned() {
            self.send(Signal::ChildFinished { child, step, outcome: Ok(json!({ "ok": true }).into()) });
        } else {
            let due = self.world.state.next_due().expect("something will happen");
            self.world.tick_at(due);
        }
        true
    }
}

fn is_resume(event: &Event) -> bool {
    matches!(&event.kind, EventKind::StateChanged { to: RunStatus::Running, reason, .. } if reason == "resume")
}

fn chosen<T>(from: &[T], pick: usize) -> Option<&T> {
    from.get(pick % from.len().max(1))
}

/// A recovered run sleeps and backs off at other times, which some results tell.
fn without_times(end: Result<Json, StepError>) -> Result<String, ErrorCode> {
    end.map(|json| json.to_string()).map_err(|error| error.code)
}

/// An execution that a node had under way when it died, and whose end nobody waits for any more.
#[test]
fn the_end_of_an_execution_that_was_begun_again_counts_once() {
    let plan = json!({ "steps": [{ "id": "a", "type": "lua_script", "script": "hold" }] });
    let graph = Arc::new(Graph::parse(&plan).unwrap());
    let mut world = World::start(graph, start_with(json!({})));
    let executing = Executing { path: StepPath::top(&"a".into()), attempt: 1 };
    world.crash();
    world.end(executing.clone(), Ok(json!({ "n": 1 }).into()));
    assert!(world.give_stale(input_of(executing, Ok(json!({ "n": 2 }).into()))).is_empty());
    assert_eq!(world.state.end, Some(Ok(json!({ "a": { "n": 1 } }).into())));
}
