//! What comes out: the results of composites and the outputs of a run.

use super::state::{Inner, Iteration, IterationOutcome, Loop, Phase, RunState};
use crate::graph::{BodyStep, ForEach, While};
use agentruntime_host_api::{Json, StepError};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

/// Why a `while` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoppedReason {
    ConditionMet,
    MaxIterations,
}

#[derive(Serialize)]
struct ForEachResult<'l> {
    count: usize,
    max_parallel: usize,
    succeeded_count: usize,
    failed_count: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial_success: bool,
    results: Vec<Entry<'l>>,
}

#[derive(Serialize)]
struct Entry<'l> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Outputs<'l>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'l Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'l StepError>,
}

#[derive(Serialize)]
struct WhileResult<'l> {
    iteration_count: usize,
    max_iterations: u32,
    stopped_reason: StoppedReason,
    last: Outputs<'l>,
    iterations: Vec<Entry<'l>>,
}

/// The outputs of one iteration: an object from body step to output.
struct Outputs<'l> {
    body: &'l [BodyStep],
    iteration: &'l Iteration,
}

impl Serialize for Outputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (position, step) in self.body.iter().enumerate() {
            if let Some(output) = self.iteration.output(position) {
                map.serialize_entry(&*step.id, output.json())?;
            }
        }
        map.end()
    }
}

/// What a `while_eval_script` said, if it said anything.
pub(super) fn verdict(answer: &Value) -> Option<&Value> {
    answer.get("pass").or_else(|| answer.get("result"))
}

/// The result of a `for_each` that is through.
pub(super) fn for_each(looped: &Loop, spec: &ForEach) -> Json {
    let results: Vec<Entry<'_>> = looped
        .iterations
        .iter()
        .enumerate()
        .map(|(index, iteration)| match &iteration.outcome {
            IterationOutcome::Failed(error) => Entry { index, body: None, result: None, error: Some(error) },
            _ => {
                let last = (0..spec.body.len()).rev().find_map(|position| iteration.output(position));
                let result = last.map(super::payload::Payload::json);
                Entry { index, body: Some(Outputs { body: &spec.body, iteration }), result, error: None }
            }
        })
        .collect();
    let failed_count = results.iter().filter(|entry| entry.error.is_some()).count();
    json_of(&ForEachResult {
        count: results.len(),
        max_parallel: spec.max_parallel,
        succeeded_count: results.len() - failed_count,
        failed_count,
        partial_success: failed_count > 0,
        results,
    })
}

/// The result of a `while` that is through.
pub(super) fn while_loop(looped: &Loop, spec: &While, stopped_reason: StoppedReason) -> Json {
    let empty = Iteration::new(0);
    let outputs = |iteration| Outputs { body: &spec.body, iteration };
    let entry = |(index, iteration)| Entry { index, body: Some(outputs(iteration)), result: None, error: None };
    json_of(&WhileResult {
        iteration_count: looped.iterations.len(),
        max_iterations: spec.max_iterations,
        stopped_reason,
        last: outputs(looped.iterations.last().unwrap_or(&empty)),
        iterations: looped.iterations.iter().enumerate().map(entry).collect(),
    })
}

impl RunState {
    /// The outputs of a run whose steps are through: the `terminal` step's result, else those of the steps that nothing
    /// depends on.
    pub(super) fn outputs(&self) -> Json {
        let ended = |index: &usize| matches!(self.steps[*index].phase, Phase::Completed { .. } | Phase::Failed { .. });
        let steps = self.graph.topological_order.iter().copied().filter(ended);
        let with_result =
            steps.filter_map(|index| Some((&self.graph.steps[index], self.steps[index].result()?.json())));
        let all: Vec<_> = with_result.collect();
        if let Some((_, result)) = all.iter().find(|(step, _)| step.terminal) {
            return (*result).clone();
        }
        let sinks = all.into_iter().filter(|(step, _)| step.dependents.is_empty());
        json_of(&sinks.map(|(step, result)| (&*step.id, result)).collect::<std::collections::BTreeMap<_, _>>())
    }
}

impl Inner {
    /// Whether the body step has come to its end.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::Completed(_) | Self::Skipped => true,
            Self::Waiting { .. } | Self::Executing { .. } | Self::BackingOff { .. } | Self::Failed { .. } => false,
        }
    }
}

fn json_of<T: Serialize>(value: &T) -> Json {
    Json::of(value).expect("results are JSON and their keys are strings")
}
