//! What happened in a run: the journal's entries, and their public form.
//!
//! The journal keeps the compact form, one entry of one kind; [`Event::public`] makes the form of the API from it.

use agentruntime_host_api::{Json, RunId, StepError, TaskId, Timestamp, WorkflowId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// One entry of a run's journal. Never changed, never deleted while the run is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its place: 1, 2, 3 … without gaps within the run.
    pub seq: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// What happened.
    #[serde(rename = "e")]
    pub kind: EventKind,
}

/// Which step, or which step of which iteration of a composite's body.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepPath {
    /// The top-level step.
    #[serde(rename = "s")]
    pub step: Arc<str>,
    /// Inside a composite: the iteration, from 0, and the body step.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub body: Option<(u32, Arc<str>)>,
}

/// The body step name under which a `while_eval_script` runs.
pub const EVAL_STEP: &str = "while_eval_script";

impl StepPath {
    /// A top-level step.
    pub fn top(step: &Arc<str>) -> Self {
        Self { step: step.clone(), body: None }
    }

    /// A body step in one iteration of a composite.
    pub fn inner(step: &Arc<str>, iteration: u32, inner: &Arc<str>) -> Self {
        Self { step: step.clone(), body: Some((iteration, inner.clone())) }
    }
}

impl fmt::Display for StepPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            None => f.write_str(&self.step),
            Some((iteration, inner)) => write!(f, "{}[{iteration}].{inner}", self.step),
        }
    }
}

/// Why a step did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// `enabled: false`.
    StepDisabled,
    /// Its condition was false, or its `skip_when` true.
    ConditionFalse,
    /// Everything it depends on was skipped.
    UpstreamSkipped,
    /// A person rejected the task it depends on.
    UpstreamRejected,
    /// The start did not ask for it.
    OutOfScope,
    /// The run failed before its turn came.
    Blocked,
}

/// The status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Accepted, and no node has taken it up.
    Pending,
    /// Under way, or waiting for a person, a timer or a child.
    Running,
    /// Nothing new starts.
    Paused,
    /// What is in flight finishes, then the run stops.
    Draining,
    /// Ended well.
    Completed,
    /// Ended by a failure.
    Failed,
    /// Ended by a command.
    Stopped,
}

impl RunStatus {
    /// Whether nothing more happens, short of a retry.
    pub fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Stopped => true,
            Self::Pending | Self::Running | Self::Paused | Self::Draining => false,
        }
    }

    /// The word used in answers and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Reads [`RunStatus::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Paused, Self::Draining, Self::Completed, Self::Failed, Self::Stopped]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How and with what a run was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The published version, which the run keeps to.
    pub version: u32,
    /// The start payload, defaults filled in.
    pub input: Json,
    /// Per-step input, which also lets `no_auto_start` roots run.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub trigger_steps: Map<String, Value>,
    /// Roots left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_step_ids: Vec<String>,
    /// What started it: `manual`, `workflow_call`, …
    pub trigger_type: String,
    /// The caller's own name for its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_user_id: Option<String>,
    /// Who started it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The run and step that wait for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Results of another run that this one takes over, by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse: Option<Reuse>,
}

/// Who waits for a child run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent run.
    pub run: RunId,
    /// Its `workflow_call` step.
    pub step: StepPath,
    /// How many parents are above, to bound recursion.
    pub depth: u32,
}

/// Completed results that a new run takes over from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reuse {
    /// The other run.
    pub run: RunId,
    /// Results by step id.
    pub results: BTreeMap<String, Json>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// The run was accepted: always the first.
    RunStarted(Box<Start>),
    /// The start payload did not fit; nothing ran.
    RunRejected {
        /// Why.
        error: StepError,
    },
    /// An attempt began.
    StepStarted {
        /// Which.
        path: StepPath,
        /// From 1.
        attempt: u32,
        /// The resolved configuration, where the step has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inputs: Option<Json>,
    },
    /// A step ended well.
    StepCompleted {
        /// Which.
        path: StepPath,
        /// The attempt that did.
        attempt: u32,
        /// Its output.
        result: Json,
        /// How long the attempt took, in microseconds.
        #[serde(rename = "us")]
        duration_us: u64,
        /// Metered instructions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fuel: Option<u64>,
        /// The run that the result was taken over from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reused_from: Option<RunId>,
    },
    /// A step did not run.
    StepSkipped {
        /// Which.
        path: StepPath,
        /// Why.
        reason: SkipReason,
    },
    /// A step failed for good.
    StepFailed {
        /// Which.
        path: StepPath,
        /// The last attempt.
        attempt: u32,
        /// Why.
        error: StepError,
        /// How long the attempt took, in microseconds.
        #[serde(rename = "us")]
        duration_us: u64,
        /// What dependents go on with, where the step's `on_error` says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovered: Option<Json>,
    },
    /// An attempt failed and another follows.
    StepRetrying {
        /// Which.
        path: StepPath,
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        error: StepError,
        /// When the next begins.
        due: Timestamp,
    },
    /// A step in flight was stopped because the run ended.
    StepCancelled {
        /// Which.
        path: StepPath,
        /// The attempt that was under way.
        attempt: u32,
    },
    /// A person is asked.
    HumanTaskCreated {
        /// Which step asks.
        path: StepPath,
        /// The question.
        task: TaskId,
        /// What kind of answer is wanted.
        task_type: String,
        /// What the person is shown.
        payload: Json,
        /// When it expires.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<Timestamp>,
    },
    /// A person answered.
    HumanTaskCompleted {
        /// Which step asked.
        path: StepPath,
        /// The question.
        task: TaskId,
        /// Yes or no.
        approved: bool,
        /// Fields given with the answer: an object.
        result: Json,
    },
    /// The status changed, other than by an end.
    StateChanged {
        /// From.
        from: RunStatus,
        /// To.
        to: RunStatus,
        /// What caused it: `pause`, `resume`, `stop`, `retry`, …
        reason: String,
    },
    /// The run ended well.
    RunCompleted {
        /// Its outputs.
        outputs: Json,
    },
    /// The run ended by a failure.
    RunFailed {
        /// The step whose failure it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<StepPath>,
        /// Why.
        error: StepError,
    },
    /// The run ended by a command.
    RunStopped {
        /// Why.
        error: StepError,
    },
}

impl Event {
    /// The form of the API: `event_type`, `run_id`, `seq`, `step_id`, `attempt`, `at`, `data`.
    pub fn public(&self, run: RunId) -> Value {
        let (event_type, path, attempt, data) = self.kind.parts();
        let mut event = Map::new();
        event.insert("event_type".into(), event_type.into());
        event.insert("run_id".into(), run.to_string().into());
        event.insert("seq".into(), self.seq.into());
        let mut data = data;
        if let Some(path) = path {
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
        if let Some(attempt) = attempt {
            event.insert("attempt".into(), attempt.into());
        }
        event.insert("at".into(), self.at.to_string().into());
        event.insert("data".into(), data);
        Value::Object(event)
    }
}

type Parts<'e> = (&'static str, Option<&'e StepPath>, Option<u32>, Value);

impl EventKind {
    /// The step that the event is about.
    pub fn path(&self) -> Option<&StepPath> {
        self.parts().1
    }

    /// Whether the run is over with it.
    pub fn ends_run(&self) -> bool {
        matches!(
            self,
            Self::RunRejected { .. } | Self::RunCompleted { .. } | Self::RunFailed { .. } | Self::RunStopped { .. }
        )
    }

    /// The published name of the kind of event.
    pub fn event_type(&self) -> &'static str {
        self.parts().0
    }

    fn parts(&self) -> Parts<'_> {
        match self {
            Self::RunStarted(start) => ("run_started", None, None, start_data(start)),
            Self::RunRejected { error } => ("run_rejected", None, None, json!({ "error": error })),
            Self::StepStarted { path, attempt, inputs } => {
                ("step_started", Some(path), Some(*attempt), with(json!({}), "inputs", inputs))
            }
            Self::StepCompleted { path, attempt, result, duration_us, fuel, reused_from } => {
                let data = json!({ "result": result.to_value(), "duration_ms": milliseconds(*duration_us) });
                let data = with(with(data, "fuel", fuel), "reused_from", reused_from);
                ("step_completed", Some(path), Some(*attempt), data)
            }
            Self::StepSkipped { path, reason } => {
                ("step_completed", Some(path), None, json!({ "skipped": true, "reason": reason }))
            }
            Self::StepFailed { path, attempt, error, duration_us, recovered } => {
                let data = json!({ "error": error, "duration_ms": milliseconds(*duration_us) });
                ("step_failed", Some(path), Some(*attempt), with(data, "recovered", recovered))
            }
            Self::StepRetrying { path, attempt, error, due } => {
                let data = json!({ "error": error, "retry_at": due.to_string() });
                ("step_retrying", Some(path), Some(*attempt), data)
            }
            Self::StepCancelled { path, attempt } => ("step_cancelled", Some(path), Some(*attempt), json!({})),
            Self::HumanTaskCreated { path, task, task_type, payload, due } => {
                let data = json!({ "task_id": task, "task_type": task_type, "task_payload": payload.to_value() });
                let due = due.map(|due| due.to_string());
                ("human_task_created", Some(path), None, with(data, "expires_at", &due))
            }
            Self::HumanTaskCompleted { path, task, approved, result } => {
                let data = json!({ "task_id": task, "approved": approved, "result": result.to_value() });
                ("human_task_completed", Some(path), None, data)
            }
            Self::StateChanged { from, to, reason } => {
                ("state_changed", None, None, json!({ "from": from, "to": to, "reason": reason }))
            }
            Self::RunCompleted { outputs } => ("run_completed", None, None, json!({ "outputs": outputs.to_value() })),
            Self::RunFailed { path, error } => {
                let step_id = path.as_ref().map(ToString::to_string);
                ("run_failed", None, None, with(json!({ "error": error }), "failed_step", &step_id))
            }
            Self::RunStopped { error } => ("run_stopped", None, None, json!({ "error": error })),
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
        data["trigger_steps"] = Value::Object(start.trigger_steps.clone());
    }
    if !start.excluded_step_ids.is_empty() {
        data["excluded_step_ids"] = json!(start.excluded_step_ids);
    }
    let parent_run = start.parent.as_ref().map(|parent| parent.run);
    let reused = start.reuse.as_ref().map(|reuse| reuse.run);
    let data = with(with(data, "parent_run_id", &parent_run), "resume_from_run_id", &reused);
    with(with(data, "external_user_id", &start.external_user_id), "user_id", &start.user_id)
}

fn with<T: Serialize>(mut data: Value, key: &str, value: &Option<T>) -> Value {
    if let Some(value) = value {
        data[key] = json!(value);
    }
    data
}

fn milliseconds(micros: u64) -> f64 {
    // Durations stay far below 2^53 µs, so that the division is exact to the microsecond.
    micros as f64 / 1000.0
}
