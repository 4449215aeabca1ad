//! Limits of a run as a whole.

use crate::world::{run_id, start_with};
use agentruntime_engine::{
    graph::Graph,
    run::{
        CHILD_RUNS_MAX, DECISION_STEPS_MAX, Decision, Effect, Input, RUN_BYTES_MAX, RunState, decide,
        event::{Event, EventKind, Parent, RunStatus, Start, StepPath},
    },
};
use agentruntime_host_api::{ErrorCode, RunId, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

fn begun(steps: Value, start: Start) -> (RunState, Decision) {
    let graph = Arc::new(Graph::parse(&json!({ "steps": steps })).unwrap());
    let now = Timestamp::from_micros(0);
    let mut state = RunState::started(run_id(), graph, start, now).unwrap();
    let mut decision = decide(&mut state, Input::Begin, now);
    while decision.is_unfinished {
        let more = decide(&mut state, Input::Tick, now);
        decision.events.extend(more.events);
        decision.effects.extend(more.effects);
        decision.is_unfinished = more.is_unfinished;
    }
    (state, decision)
}

/// The decisions of a run that has nothing to execute, one after the other.
fn decisions(steps: Value, start: Start) -> (RunState, Vec<Decision>) {
    let graph = Arc::new(Graph::parse(&json!({ "steps": steps })).unwrap());
    let now = Timestamp::from_micros(0);
    let mut state = RunState::started(run_id(), graph.clone(), start, now).unwrap();
    let mut decisions = vec![decide(&mut state, Input::Begin, now)];
    while decisions.last().is_some_and(|decision| decision.is_unfinished) {
        // Whoever takes the run over in the middle comes to the same.
        let first = Event { seq: 1, at: now, kind: EventKind::RunStarted(Box::new(state.start.clone())) };
        let events = decisions.iter().flat_map(|decision| decision.events.iter().cloned());
        let journal: Vec<Event> = [first].into_iter().chain(events).collect();
        let mut replayed = RunState::replayed(run_id(), graph.clone(), &journal).unwrap();
        let next = decide(&mut state, Input::Tick, now);
        assert_eq!(decide(&mut replayed, Input::Tick, now), next);
        decisions.push(next);
    }
    (state, decisions)
}

/// A loop that skips its body again and again, by a condition on a large value.
fn idle_loop(iterations: u64) -> Value {
    let body = json!([{ "id": "b", "type": "lua_script", "script": "x", "condition": "{{ input.never.0 }}" }]);
    json!([{
        "id": "w", "type": "while", "while_mode": "until", "while_max_iterations": iterations,
        "while_condition": "{{ input.never }}", "while_body_steps": body,
    }])
}

#[test]
fn a_decision_takes_no_longer_than_its_steps_and_another_goes_on() {
    let (state, decided) = decisions(idle_loop(2_000), start_with(json!({ "never": [] })));
    assert_eq!(state.status, RunStatus::Completed);
    let events: Vec<usize> = decided.iter().map(|decision| decision.events.len()).collect();
    assert!(events.iter().all(|events| (1..=DECISION_STEPS_MAX + 2).contains(events)), "{events:?}");
    // Each turn is a skipped step and a test, and the loop itself begins and ends.
    assert_eq!(events.iter().sum::<usize>(), 2_000 + 3);
    assert!(events.len() > 2_000 / DECISION_STEPS_MAX, "{events:?}");
}

#[test]
fn the_more_a_run_holds_the_less_one_decision_does() {
    let input = |bytes: usize| start_with(json!({ "never": [], "large": "x".repeat(bytes) }));
    let most = |bytes| {
        let (state, decided) = decisions(idle_loop(20), input(bytes));
        assert_eq!(state.status, RunStatus::Completed);
        decided.iter().map(|decision| decision.events.len()).max()
    };
    assert_eq!(most(1), Some(23));
    assert!(most(8 << 20) < Some(10));
    assert!(most(40 << 20) <= Some(2), "a decision that can do nothing more does one thing, and so gets on");
}

fn code(state: &RunState) -> Option<ErrorCode> {
    state.end.clone()?.err().map(|error| error.code)
}

#[test]
fn a_run_ends_before_it_holds_more_than_its_limit() {
    let word = "x".repeat(1 << 20);
    let asks = |count: usize| -> Value {
        let payload = json!("{{ input.x }}");
        (0..count)
            .map(
                |n| json!({ "id": format!("ask{n}"), "type": "human_task", "task_type": "t", "task_payload": payload }),
            )
            .collect()
    };
    // Each question is written twice: as the step's inputs, and as the question. The input itself counts, too.
    let fits = (RUN_BYTES_MAX >> 20) / 2 - 1;
    let (state, _) = begun(asks(fits), start_with(json!({ "x": word })));
    assert_eq!(state.status, RunStatus::Running);
    let (state, decision) = begun(asks(fits * 4), start_with(json!({ "x": word })));
    assert_eq!(code(&state), Some(ErrorCode::RunStalledOrTimedOut));
    let opened = decision.effects.iter().filter(|effect| matches!(effect, Effect::OpenTask { .. })).count();
    assert!(opened <= fits + 1, "{opened} questions were opened");
}

fn calls(count: usize) -> Value {
    (0..count)
        .map(|n| json!({ "id": format!("c{n}"), "type": "workflow_call", "workflow_id": "w", "version": 1 }))
        .collect()
}

fn below(descendants: u32) -> Start {
    let parent = Parent {
        run: RunId::derived(run_id().as_uuid(), "p"),
        step: StepPath::top(&"c".into()),
        depth: 1,
        descendants,
    };
    Start { parent: Some(parent), ..start_with(json!({})) }
}

fn shares(decision: &Decision) -> Vec<u32> {
    let share = |effect: &Effect| match effect {
        Effect::StartChild { descendants, .. } => Some(*descendants),
        _ => None,
    };
    decision.effects.iter().filter_map(share).collect()
}

#[test]
fn runs_below_a_run_are_bounded_whatever_calls_whatever() {
    let (_, decision) = begun(calls(4), start_with(json!({})));
    assert_eq!(shares(&decision), [(CHILD_RUNS_MAX - 4) / 4; 4]);
    let (_, decision) = begun(calls(4), below(4));
    assert_eq!(shares(&decision), [0; 4]);
    let (state, decision) = begun(calls(4), below(3));
    assert_eq!(shares(&decision), [0; 0]);
    assert_eq!(code(&state), Some(ErrorCode::InvalidInput));
}

#[test]
fn a_sleep_that_only_the_run_knows_the_length_of_is_bounded_too() {
    let nap = json!([{ "id": "nap", "type": "sleep", "duration_s": "{{ input.s }}" }]);
    let year = 366 * 86_400;
    let (state, _) = begun(nap.clone(), start_with(json!({ "s": year })));
    assert_eq!(state.status, RunStatus::Running);
    for seconds in [json!(year + 1), json!(1e18)] {
        let (state, _) = begun(nap.clone(), start_with(json!({ "s": seconds })));
        assert_eq!(code(&state), Some(ErrorCode::InvalidInput));
    }
}
