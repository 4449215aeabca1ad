//! What happened in a run: the journal's entries, and their public form.
//!
//! The journal keeps this compact form, one entry of one kind; [`Event::public`] makes the form of the API from it.

use agentruntime_host_api::{HostReply, HostRequest, Json, RunId, StepError, TaskId, Timestamp, WorkflowId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
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

impl Event {
    /// What its documents take, in bytes of JSON: nearly all that it takes, where it is large.
    pub fn document_bytes(&self) -> usize {
        self.kind.document_bytes()
    }
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

/// Input for single steps, by their ids: objects, kept as the text that they are until a step needs one.
pub type StepInputs = BTreeMap<String, Json>;

/// The text of inputs that were read.
pub fn step_inputs(given: Map<String, Value>) -> StepInputs {
    given.into_iter().map(|(step, inputs)| (step, inputs.into())).collect()
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
    #[serde(default, skip_serializing_if = "StepInputs::is_empty")]
    pub trigger_steps: StepInputs,
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
    /// The token with which they did; nothing without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pat_id: Option<String>,
    /// The time at which it came due, where a schedule started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// The place in a trace that the run began at, as W3C's trace context writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_parent: Option<String>,
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
    /// How many runs may come below this one.
    #[serde(default)]
    pub descendants: u32,
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
    /// An attempt asked for something outside its sandbox. What others could see of it is done only once this is durable.
    RequestMade {
        /// Which step.
        path: StepPath,
        /// The attempt that asks.
        attempt: u32,
        /// What for.
        request: HostRequest,
    },
    /// What it asked for came, or was refused.
    RequestCompleted {
        /// Which step.
        path: StepPath,
        /// The attempt that asked.
        attempt: u32,
        /// Which of its requests.
        number: u32,
        /// What came back.
        reply: HostReply,
        /// How long it took, in microseconds.
        #[serde(rename = "us")]
        duration_us: u64,
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
        /// The request of the step that waits for the answer, where it is not the step itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<u32>,
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

impl EventKind {
    /// The step that the event is about.
    pub fn path(&self) -> Option<&StepPath> {
        match self {
            Self::StepStarted { path, .. }
            | Self::StepCompleted { path, .. }
            | Self::StepSkipped { path, .. }
            | Self::StepFailed { path, .. }
            | Self::StepRetrying { path, .. }
            | Self::RequestMade { path, .. }
            | Self::RequestCompleted { path, .. }
            | Self::StepCancelled { path, .. }
            | Self::HumanTaskCreated { path, .. }
            | Self::HumanTaskCompleted { path, .. } => Some(path),
            Self::RunStarted(_)
            | Self::RunRejected { .. }
            | Self::StateChanged { .. }
            | Self::RunCompleted { .. }
            | Self::RunFailed { .. }
            | Self::RunStopped { .. } => None,
        }
    }

    /// Which attempt of the step it is about.
    pub fn attempt(&self) -> Option<u32> {
        match self {
            Self::StepStarted { attempt, .. }
            | Self::StepCompleted { attempt, .. }
            | Self::StepFailed { attempt, .. }
            | Self::StepRetrying { attempt, .. }
            | Self::RequestMade { attempt, .. }
            | Self::RequestCompleted { attempt, .. }
            | Self::StepCancelled { attempt, .. } => Some(*attempt),
            Self::RunStarted(_)
            | Self::RunRejected { .. }
            | Self::StepSkipped { .. }
            | Self::HumanTaskCreated { .. }
            | Self::HumanTaskCompleted { .. }
            | Self::StateChanged { .. }
            | Self::RunCompleted { .. }
            | Self::RunFailed { .. }
            | Self::RunStopped { .. } => None,
        }
    }

    /// Whether an attempt of a step is over with it.
    pub(super) fn ends_attempt(&self) -> bool {
        matches!(
            self,
            Self::StepCompleted { .. }
                | Self::StepFailed { .. }
                | Self::StepRetrying { .. }
                | Self::StepCancelled { .. }
        )
    }

    /// What it adds to what the run holds, in bytes of JSON.
    pub(crate) fn payload_bytes(&self) -> usize {
        let of = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.as_str().len());
        match self {
            Self::StepStarted { inputs, .. } => of(inputs),
            Self::StepCompleted { result, .. } | Self::HumanTaskCompleted { result, .. } => result.as_str().len(),
            Self::StepFailed { recovered, error, .. } => of(recovered) + error.message.len(),
            Self::HumanTaskCreated { payload, .. } => payload.as_str().len(),
            Self::RequestMade { request, .. } => request.arguments.as_str().len(),
            Self::RequestCompleted { reply: Ok(json), .. } => json.as_str().len(),
            Self::RequestCompleted { reply: Err(error), .. } => error.message.len(),
            _ => 0,
        }
    }

    /// What its documents take, in bytes of JSON: nearly all that it takes, where it is large.
    pub fn document_bytes(&self) -> usize {
        match self {
            Self::RunStarted(start) => {
                start.input.as_str().len() + start.trigger_steps.values().map(|it| it.as_str().len()).sum::<usize>()
            }
            Self::RunCompleted { outputs } => outputs.as_str().len(),
            _ => self.payload_bytes(),
        }
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
        match self {
            Self::RunStarted(_) => "run_started",
            Self::RunRejected { .. } => "run_rejected",
            Self::StepStarted { .. } => "step_started",
            Self::StepCompleted { .. } | Self::StepSkipped { .. } => "step_completed",
            Self::StepFailed { .. } => "step_failed",
            Self::StepRetrying { .. } => "step_retrying",
            Self::RequestMade { .. } => "request_made",
            Self::RequestCompleted { .. } => "request_completed",
            Self::StepCancelled { .. } => "step_cancelled",
            Self::HumanTaskCreated { .. } => "human_task_created",
            Self::HumanTaskCompleted { .. } => "human_task_completed",
            Self::StateChanged { .. } => "state_changed",
            Self::RunCompleted { .. } => "run_completed",
            Self::RunFailed { .. } => "run_failed",
            Self::RunStopped { .. } => "run_stopped",
        }
    }
}
