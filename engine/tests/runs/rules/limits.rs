//! Limits of a run as a whole.

use crate::world::{run_id, start_with};
use agentruntime_engine::{
    graph::Graph,
    run::{
        CHILD_RUNS_MAX, Decision, Effect, Input, RUN_BYTES_MAX, RunState, decide,
        event::{Parent, RunStatus, Start, StepPath},
    },
};
use agentruntime_host_api::{ErrorCode, RunId, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

fn begun(steps: Value, start: Start) -> (RunState, Decision) {
    let graph = Arc::new(Graph::parse(&json!({ "steps": steps })).unwrap());
    let now = Timestamp::from_micros(0);
    let mut state = RunState::started(run_id(), graph, start, now).unwrap();
    let decision = decide(&mut state, Input::Begin, now);
    (state, decision)
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
