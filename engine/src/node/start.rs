//! Starting a run.

use super::{Ceiling, Commission, Node, Shared, Standing, Watcher, commit::Commit};
use crate::{
    database::OutageKind,
    graph::{Graph, Issue},
    run::{
        Admission, Phase, RunState, Signal,
        event::{Event, EventKind, Reuse, Start, StepInputs},
        input_refused,
    },
    store::{Append, Appended, Chunk, Lease, NewRun, Repeated, Scope, StartKey, StoreError},
};
use agentruntime_host_api::{Json, RunId, StepError, Timestamp, WorkflowId};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::oneshot;

/// What a caller wants started.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// The workflow.
    pub workflow: WorkflowId,
    /// A version of it; the newest where none is named.
    pub version: Option<u32>,
    /// The start payload. Without one it is that of the run whose results are taken over, or else an empty object.
    pub input: Option<Json>,
    /// An id chosen by the caller.
    pub run: Option<RunId>,
    /// Per-step input, which also lets `no_auto_start` roots run.
    pub trigger_steps: StepInputs,
    /// Roots left out.
    pub excluded_step_ids: Vec<String>,
    /// What starts it.
    pub trigger_type: String,
    /// Who starts it here.
    pub user: Option<String>,
    /// The token with which they do; nothing without one.
    pub pat: Option<String>,
    /// The time at which it came due, where a schedule starts it.
    pub due_at: Option<Timestamp>,
    /// The caller's own name for its user.
    pub external_user_id: Option<String>,
    /// Under each of these keys it starts once: a repeat under any is [`StartError::Repeated`].
    pub keys: Vec<StartKey>,
    /// A run whose completed results are taken over.
    pub resume_from: Option<RunId>,
    /// The first step that is not taken over, nor what depends on it.
    pub from_step: Option<String>,
}

impl StartRequest {
    /// A start by hand, of the newest version.
    pub fn new(workflow: WorkflowId, input: Json) -> Self {
        Self {
            workflow,
            version: None,
            input: Some(input),
            run: None,
            trigger_steps: StepInputs::new(),
            excluded_step_ids: Vec::new(),
            trigger_type: "manual".into(),
            user: None,
            pat: None,
            due_at: None,
            external_user_id: None,
            keys: Vec::new(),
            resume_from: None,
            from_step: None,
        }
    }
}

/// Why a run was not started. Nothing was recorded, but where it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The start payload does not fit the input schema.
    #[error("{error}")]
    Rejected {
        /// The whole as one failure.
        error: StepError,
        /// Each thing that does not fit.
        issues: Vec<Issue>,
    },
    /// The start names a step that the graph does not have.
    #[error("the workflow has no step `{0}`")]
    UnknownStep(String),
    /// The run whose results are to be taken over is of another workflow.
    #[error("run {0} is of another workflow; results can be taken over between runs of one workflow only")]
    OtherWorkflow(RunId),
    /// The tenant has, or gives, as much as it may.
    #[error("this workspace may have at most {limit} {what}")]
    Ceiling {
        /// Of what.
        what: Ceiling,
        /// How much it may.
        limit: u64,
    },
    /// A run was started under the same key before.
    #[error("run {run} was started under this key already{}", if *same { "" } else { ", from something else" })]
    Repeated {
        /// That run.
        run: RunId,
        /// Whether the same was asked for, as the digests say.
        same: bool,
    },
    /// The store could not do it.
    #[error(transparent)]
    Store(StoreError),
    /// The node was stopped, or its commit failed: the start may have been recorded all the same.
    #[error(
        "the node is stopping, or its database failed (the log says which); look for run {0} before you start it again"
    )]
    Stopping(RunId),
}

impl StartError {
    /// Whether the start was refused for what it asks, or for what there is; another one might not be.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Rejected { .. } | Self::UnknownStep(_) | Self::OtherWorkflow(_) | Self::Ceiling { .. } => true,
            Self::Repeated { .. } | Self::Store(_) | Self::Stopping(_) => false,
        }
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Repeated { run, same } => Self::Repeated { run, same },
            other => Self::Store(other),
        }
    }
}

impl Node {
    /// Starts a run; answers when its start is durable, which is before it has ended.
    pub async fn start_run(&self, scope: &Scope, request: StartRequest) -> Result<RunId, StartError> {
        let run = request.id();
        self.start_as(scope, request, run).await
    }

    /// Starts a run and follows it from its first event.
    pub async fn start_watched(&self, scope: &Scope, request: StartRequest) -> Result<(RunId, Watcher), StartError> {
        let run = request.id();
        let watcher = self.watch(run);
        self.start_as(scope, request, run).await?;
        Ok((run, watcher))
    }

    /// Whether a start would be refused for what it asks. Nothing is recorded.
    pub async fn check_start(&self, scope: &Scope, request: StartRequest) -> Result<(), StartError> {
        let (run, shared) = (request.id(), &self.shared);
        check_size(&request, shared.tenants.of(&scope.tenant).input_bytes_max)?;
        self.prepare(scope, request, run, shared.clock.now()).await.map(drop)
    }

    /// A start that is a repeat is told so, also where it would be refused by now: the first one was not.
    async fn start_as(&self, scope: &Scope, request: StartRequest, run: RunId) -> Result<RunId, StartError> {
        let keys = request.keys.clone();
        let started = self.begin(scope, request, run).await;
        if keys.is_empty() || !started.as_ref().is_err_and(StartError::is_refusal) {
            return started;
        }
        match self.shared.store.repeated(scope, &keys).await? {
            Some(Repeated { run, same }) => Err(StartError::Repeated { run, same }),
            None => started,
        }
    }

    async fn begin(&self, scope: &Scope, mut request: StartRequest, run: RunId) -> Result<RunId, StartError> {
        let shared = &self.shared;
        let now = shared.clock.now();
        let keys = std::mem::take(&mut request.keys);
        check_size(&request, shared.tenants.of(&scope.tenant).input_bytes_max)?;
        // The id or a key may be taken, and then nothing of this start may have happened.
        let waits = request.run.is_some() || !keys.is_empty();
        let state = self.prepare(scope, request, run, now).await?;
        let new = NewRun { keys, ..new_run(run, scope, &state.start, now) };
        let of = Arc::new(Commission { scope: scope.clone(), workflow: new.workflow.clone() });
        let admitted = shared.tenants.admit(&shared.store, &scope.tenant).await?.map_err(|what| {
            let limit = shared.tenants.of(&scope.tenant).limit(what);
            StartError::Ceiling { what, limit }
        })?;
        let Some(place) = shared.tenants.place(&scope.tenant).filter(|_| shared.has_room() > 0) else {
            shared.store.create_run(new.clone()).await?;
            shared.tenants.wrote(&scope.tenant, new.events.body.len());
            admitted.keep_place();
            metrics::counter!("agentruntime_runs_started_total").increment(1);
            shared.publish_accepted(&new);
            return Ok(run);
        };
        let lease = Lease { run, epoch: 1 };
        let (done, accepted) = oneshot::channel();
        let first = Event { seq: 1, at: now, kind: EventKind::RunStarted(Box::new(state.start.clone())) };
        let commit = Commit {
            of: of.clone(),
            append: Append::create(lease, new),
            events: vec![first],
            ended: None,
            done: Some(done),
            waiting: Vec::new(),
        };
        shared.commits.send(commit).await.map_err(|_| StartError::Stopping(run))?;
        if waits {
            is_accepted(run, accepted.await).map_err(|error| shared.explained(error))?;
            shared.spawn_fresh(&of, place, lease, state, Standing::Durable);
        } else {
            shared.spawn_fresh(&of, place, lease, state, Standing::Ahead);
            is_accepted(run, accepted.await)
                .inspect_err(|_| shared.abandon(lease))
                .map_err(|error| shared.explained(error))?;
            // The writer may have been done before the actor was known.
            shared.is_durable(lease);
        }
        admitted.keep_place();
        metrics::counter!("agentruntime_runs_started_total").increment(1);
        Ok(run)
    }

    async fn prepare(
        &self,
        scope: &Scope,
        request: StartRequest,
        run: RunId,
        now: Timestamp,
    ) -> Result<RunState, StartError> {
        let shared = &self.shared;
        let version = match request.version {
            Some(version) => version,
            None => shared.store.version(scope, &request.workflow, None).await?.version,
        };
        let graph = shared.graph(scope, &request.workflow, version).await?;
        check_steps(&graph, &request)?;
        let earlier = shared.reuse(scope, &graph, &request).await?;
        let trace_parent = shared.config.traces.as_ref().and_then(|traces| (traces.place)());
        let start = request.into_start(version, earlier, trace_parent);
        let state = shared.started(&scope.tenant, run, graph, start, now).await.map_err(rejected)?;
        match state.admission {
            Admission::Refused(issues) => Err(rejected(issues)),
            Admission::Fits | Admission::Unchecked => Ok(state),
        }
    }
}

fn is_accepted(new: RunId, answer: Result<Appended, oneshot::error::RecvError>) -> Result<(), StartError> {
    match answer {
        Ok(Appended::Durable) => Ok(()),
        Ok(Appended::AlreadyExists) => Err(StoreError::AlreadyExists.into()),
        Ok(Appended::Repeated(Repeated { run, same })) => Err(StartError::Repeated { run, same }),
        Ok(Appended::LeaseLost) | Err(_) => Err(StartError::Stopping(new)),
    }
}

impl StartRequest {
    fn id(&self) -> RunId {
        self.run.unwrap_or_else(RunId::new_v7)
    }

    fn into_start(self, version: u32, earlier: Option<(Reuse, Json)>, trace_parent: Option<String>) -> Start {
        let (reuse, earlier_input) = earlier.unzip();
        let input = self.input.or(earlier_input).unwrap_or_else(Json::empty_object);
        Start {
            workflow: self.workflow,
            version,
            input,
            trigger_steps: self.trigger_steps,
            excluded_step_ids: self.excluded_step_ids,
            trigger_type: self.trigger_type,
            external_user_id: self.external_user_id,
            user_id: self.user,
            pat_id: self.pat,
            due_at: self.due_at,
            trace_parent,
            parent: None,
            reuse,
        }
    }
}

impl Shared {
    /// Why a commit came to nothing, where that is known: the database takes no writes, and has recorded nothing.
    fn explained(&self, error: StartError) -> StartError {
        match (error, self.store.database().outage()) {
            (StartError::Stopping(_), Some(outage)) if outage.kind == OutageKind::ReadOnly => {
                StartError::Store(StoreError::Outage(outage))
            }
            (error, _) => error,
        }
    }

    /// What a new run can take over from another: results, and the start payload.
    async fn reuse(
        &self,
        scope: &Scope,
        graph: &Arc<Graph>,
        request: &StartRequest,
    ) -> Result<Option<(Reuse, Json)>, StartError> {
        let Some(earlier) = request.resume_from else { return Ok(None) };
        let record = self.store.run(scope, earlier).await?;
        if record.workflow != request.workflow {
            return Err(StartError::OtherWorkflow(earlier));
        }
        let old_graph = self.graph(scope, &record.workflow, record.version).await?;
        let events = self.store.journal(earlier).await?;
        let old = self.replayed(&scope.tenant, earlier, old_graph, events).await?;
        let mut left_out = request.from_step.as_deref().map(|id| with_descendants(graph, id)).unwrap_or_default();
        for (step, state) in old.graph.steps.iter().zip(&old.steps) {
            // What failed is tried again, and what went on without it rests on what may now come out differently.
            if matches!(state.phase, Phase::Failed { .. }) {
                left_out.extend(with_descendants(graph, &step.id));
            }
        }
        let mut results = BTreeMap::new();
        for (step, state) in old.graph.steps.iter().zip(&old.steps) {
            let kept = graph.step(&step.id).is_some_and(|index| !left_out.contains(&index));
            if let (Phase::Completed { result, .. }, true) = (&state.phase, kept) {
                results.insert(step.id.to_string(), result.json().clone());
            }
        }
        Ok(Some((Reuse { run: earlier, results }, old.start.input.clone())))
    }
}

fn with_descendants(graph: &Graph, id: &str) -> Vec<usize> {
    let mut found: Vec<usize> = graph.step(id).into_iter().collect();
    for &index in &graph.topological_order {
        if graph.steps[index].depends_on.iter().any(|dependency| found.contains(dependency)) && !found.contains(&index)
        {
            found.push(index);
        }
    }
    found
}

fn check_steps(graph: &Graph, request: &StartRequest) -> Result<(), StartError> {
    let named = request.trigger_steps.keys().chain(&request.excluded_step_ids).chain(&request.from_step);
    match named.into_iter().find(|id| graph.step(id).is_none()) {
        Some(id) => Err(StartError::UnknownStep(id.clone())),
        None => Ok(()),
    }
}

/// A request that brings none takes over what was checked when the earlier run was started.
fn check_size(request: &StartRequest, bytes_max: usize) -> Result<(), StartError> {
    let input = request.input.as_ref().map_or(0, |input| input.as_str().len());
    let steps: usize = request.trigger_steps.iter().map(|(step, given)| step.len() + given.as_str().len()).sum();
    match input + steps > bytes_max {
        true => Err(StartError::Ceiling { what: Ceiling::InputBytes, limit: bytes_max as u64 }),
        false => Ok(()),
    }
}

fn rejected(issues: Vec<Issue>) -> StartError {
    StartError::Rejected { error: input_refused(&issues), issues }
}

/// A run's row and first event.
pub(super) fn new_run(run: RunId, scope: &Scope, start: &Start, now: Timestamp) -> NewRun {
    let first = Event { seq: 1, at: now, kind: EventKind::RunStarted(Box::new(start.clone())) };
    NewRun {
        run,
        scope: scope.clone(),
        workflow: start.workflow.clone(),
        version: start.version,
        started_at: now,
        parent: start.parent.as_ref().map(|parent| parent.run),
        trigger_type: start.trigger_type.clone(),
        user_id: start.user_id.clone(),
        pat_id: start.pat_id.clone(),
        external_user_id: start.external_user_id.clone(),
        keys: Vec::new(),
        events: Chunk::of(std::slice::from_ref(&first)),
    }
}

/// The message by which a finished child tells its parent.
pub(super) fn child_finished(state: &RunState) -> Option<(RunId, Signal)> {
    let parent = state.start.parent.as_ref()?;
    let outcome = state.end.clone()?;
    Some((parent.run, Signal::ChildFinished { child: state.run, step: parent.step.clone(), outcome }))
}
