//! Events in the form of the API.

use super::event::{Event, EventKind, Start};
use agentruntime_host_api::RunId;
use serde::Serialize;
use serde_json::{Map, Value, json};

impl Event {
    /// The form of the API: `event_type`, `run_id`, `seq`, `step_id`, `attempt`, `at`, `data`.
    pub fn public(&self, run: RunId) -> Value {
        let mut event = Map::new();
        event.insert("event_type".into(), self.kind.event_type().into());
        event.insert("run_id".into(), run.to_string().into());
        event.insert("seq".into(), self.seq.into());
        let mut data = self.kind.data();
        if let Some(path) = self.kind.path() {
            let step_id = match &path.body {
                None => &path.step,
                Some((iteration, inner)) => {
                    data["parent_step_id"] = (&*path.step).into();
                    data["iteration"] = (*iteration).into();
                    inner
                }
            };
            event.insert("step_id".into(), (&**step_id).into());
        }
        if let Some(attempt) = self.kind.attempt() {
            event.insert("attempt".into(), attempt.into());
        }
        event.insert("at".into(), self.at.to_string().into());
        event.insert("data".into(), data);
        Value::Object(event)
    }
}

impl EventKind {
    /// What the event tells beyond its step and attempt.
    fn data(&self) -> Value {
        match self {
            Self::RunStarted(start) => start_data(start),
            Self::RunRejected { error } | Self::RunStopped { error } => json!({ "error": error }),
            Self::StepStarted { inputs, .. } => with(json!({}), "inputs", inputs),
            Self::StepCompleted { result, duration_us, fuel, reused_from, .. } => {
                let data = json!({ "result": result.to_value(), "duration_ms": milliseconds(*duration_us) });
                with(with(data, "fuel", fuel), "reused_from", reused_from)
            }
            Self::StepSkipped { reason, .. } => json!({ "skipped": true, "reason": reason }),
            Self::StepFailed { error, duration_us, recovered, .. } => {
                let data = json!({ "error": error, "duration_ms": milliseconds(*duration_us) });
                with(data, "recovered", recovered)
            }
            Self::StepRetrying { error, due, .. } => json!({ "error": error, "retry_at": due.to_string() }),
            Self::RequestMade { request, .. } => json!({
                "number": request.number,
                "capability": request.capability,
                "arguments": request.arguments.to_value(),
            }),
            Self::RequestCompleted { number, reply, duration_us, .. } => {
                let data = json!({ "number": number, "duration_ms": milliseconds(*duration_us) });
                match reply {
                    Ok(result) => with(data, "result", &Some(result.to_value())),
                    Err(error) => with(data, "error", &Some(error)),
                }
            }
            Self::StepCancelled { .. } => json!({}),
            Self::HumanTaskCreated { task, task_type, payload, due, request, .. } => {
                let data = json!({ "task_id": task, "task_type": task_type, "task_payload": payload.to_value() });
                with(with(data, "expires_at", &due.map(|due| due.to_string())), "request_number", request)
            }
            Self::HumanTaskCompleted { task, approved, result, .. } => {
                json!({ "task_id": task, "approved": approved, "result": result.to_value() })
            }
            Self::StateChanged { from, to, reason } => json!({ "from": from, "to": to, "reason": reason }),
            Self::RunCompleted { outputs } => json!({ "outputs": outputs.to_value() }),
            Self::RunFailed { path, error } => {
                with(json!({ "error": error }), "failed_step", &path.as_ref().map(ToString::to_string))
            }
        }
    }
}

fn start_data(start: &Start) -> Value {
    let mut data = json!({
        "workflow_id": start.workflow,
        "version": start.version,
        "input": start.input.to_value(),
        "trigger_type": start.trigger_type,
    });
    if !start.trigger_steps.is_empty() {
        let steps = start.trigger_steps.iter().map(|(step, given)| (step.clone(), given.to_value()));
        data["trigger_steps"] = Value::Object(steps.collect());
    }
    if !start.excluded_step_ids.is_empty() {
        data["excluded_step_ids"] = json!(start.excluded_step_ids);
    }
    let parent_run = start.parent.as_ref().map(|parent| parent.run);
    let reused = start.reuse.as_ref().map(|reuse| reuse.run);
    let data = with(with(data, "parent_run_id", &parent_run), "resume_from_run_id", &reused);
    let data = with(data, "due_at", &start.due_at.map(|due| due.to_string()));
    let data = with(with(data, "external_user_id", &start.external_user_id), "user_id", &start.user_id);
    with(data, "pat_id", &start.pat_id)
}

fn with<T: Serialize>(mut data: Value, key: &str, value: &Option<T>) -> Value {
    if let Some(value) = value {
        data[key] = json!(value);
    }
    data
}

fn milliseconds(micros: u64) -> f64 {
    // Durations stay far below 2^51 µs, up to which the nearest whole microsecond is read back.
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::event::StepPath;
    use agentruntime_host_api::Timestamp;

    fn check(kind: EventKind, expected: &str) {
        let run: RunId = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        let event = Event { seq: 7, at: Timestamp::from_micros(1_767_225_600_000_001), kind };
        let mut public = event.public(run);
        assert_eq!(public["run_id"], "00000000-0000-4000-8000-000000000001");
        assert_eq!((&public["seq"], &public["at"]), (&json!(7), &json!("2026-01-01T00:00:00.000001Z")));
        for known in ["run_id", "seq", "at"] {
            public.as_object_mut().unwrap().remove(known);
        }
        assert_eq!(public, serde_json::from_str::<Value>(expected).unwrap());
    }

    #[test]
    fn an_event_names_its_step_and_attempt_and_carries_the_rest_as_data() {
        let (path, result) = (StepPath::top(&"a".into()), json!({ "n": 1 }).into());
        check(
            EventKind::StepCompleted { path, attempt: 2, result, duration_us: 1_500, fuel: None, reused_from: None },
            r#"{ "event_type": "step_completed", "step_id": "a", "attempt": 2, "data": { "result": { "n": 1 }, "duration_ms": 1.5 } }"#,
        );
    }

    #[test]
    fn an_event_of_a_body_step_names_its_composite_and_the_iteration() {
        check(
            EventKind::StepCancelled { path: StepPath::inner(&"each".into(), 4, &"a".into()), attempt: 1 },
            r#"{ "event_type": "step_cancelled", "step_id": "a", "attempt": 1, "data": { "parent_step_id": "each", "iteration": 4 } }"#,
        );
    }

    #[test]
    fn a_skipped_step_is_a_completed_one_with_a_reason() {
        let reason = crate::run::event::SkipReason::UpstreamRejected;
        check(
            EventKind::StepSkipped { path: StepPath::top(&"a".into()), reason },
            r#"{ "event_type": "step_completed", "step_id": "a", "data": { "skipped": true, "reason": "upstream_rejected" } }"#,
        );
    }
}
