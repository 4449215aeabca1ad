//! One run while a node holds it: executes, decides, appends; lets go when there is nothing to execute.
//!
//! The actor runs ahead of the disk: what it decides goes to the writer, and the next script begins at once, since a script
//! can be computed again exactly. Whatever others can see (questions, child runs, the end) is written in the same
//! transaction as the events it follows from.

use super::{
    Commission, Shared, Standing,
    commit::Commit,
    execute::{Ended, Execution, Halt, Report, Surroundings, execute},
    start,
};
use crate::{
    run::{
        Decision, Effect, Executing, Input, RunState, Signal, TaskStatus, decide,
        event::{Event, Parent, Start, StepInputs, StepPath},
    },
    store::{Append, Chunk, ClaimedRun, Lease, NewRun, Release, RowUpdate, Scope, StoreError, TaskRecord},
};
use agentruntime_host_api::{RunId, TaskId, Timestamp};
use futures_util::{StreamExt, future::AbortHandle, stream::FuturesUnordered};
use std::{collections::HashMap, sync::Arc};
use tokio::{
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, unbounded_channel},
        oneshot,
    },
    task, time,
};
use tracing::Instrument;

/// One run in the hands of a node.
pub(super) struct Actor {
    shared: Arc<Shared>,
    of: Arc<Commission>,
    lease: Lease,
    state: RunState,
    standing: Standing,
    inbox_read: u64,
    /// Whether the last decision was left in the middle.
    is_unfinished: bool,
    /// What happened and is not yet with the writer.
    pending: Pending,
    executions: FuturesUnordered<Execution>,
    surroundings: Surroundings,
    /// What executions tell on the way.
    reports: UnboundedReceiver<Report>,
    in_flight: HashMap<StepPath, AbortHandle>,
    news: Arc<Notify>,
}

/// What follows from the decisions since the last append.
#[derive(Default)]
struct Pending {
    events: Vec<Event>,
    tasks_opened: Vec<TaskRecord>,
    tasks_closed: Vec<(TaskId, TaskStatus)>,
    children: Vec<NewRun>,
    signals: Vec<(RunId, Signal)>,
    /// Who waits until all this is durable.
    waiting: Vec<oneshot::Sender<()>>,
}

/// Whether the actor still has the run.
#[derive(PartialEq)]
enum Hold {
    Held,
    Released,
}

impl Actor {
    /// A run that was just started here.
    pub(super) fn fresh(
        shared: Arc<Shared>,
        of: Arc<Commission>,
        lease: Lease,
        standing: Standing,
        state: RunState,
        news: Arc<Notify>,
    ) -> Self {
        let (pending, executions, in_flight) = (Pending::default(), FuturesUnordered::new(), HashMap::new());
        let (told, reports) = unbounded_channel();
        let (guest, host, turns) = (shared.guest.clone(), shared.config.host.clone(), shared.turns.clone());
        let watchers = shared.watchers.clone();
        let compute = shared.compute.clone();
        Self {
            shared,
            of,
            lease,
            state,
            standing,
            inbox_read: 0,
            is_unfinished: false,
            pending,
            executions,
            surroundings: Surroundings { guest, host, turns, compute, watchers, reports: told },
            reports,
            in_flight,
            news,
        }
    }

    /// A run that was claimed, as its journal tells it.
    pub(super) fn recovered(shared: Arc<Shared>, claimed: ClaimedRun, state: RunState, news: Arc<Notify>) -> Self {
        let inbox_read = claimed.inbox_read;
        let of = Arc::new(Commission { scope: claimed.record.scope, workflow: claimed.record.workflow });
        let mut actor = Self::fresh(shared, of, claimed.lease, Standing::Durable, state, news);
        actor.inbox_read = inbox_read;
        actor
    }

    /// Works until the run ends or waits.
    pub(super) async fn work(self) {
        let start = &self.state.start;
        // A root of its own: the request that started the run ends before it does.
        let span =
            tracing::info_span!(parent: None, "run", run_id = %self.lease.run, workflow_id = start.workflow.as_str());
        if let (Some(traces), Some(place)) = (&self.shared.config.traces, &start.trace_parent) {
            (traces.adopt)(&span, place);
        }
        self.work_on().instrument(span).await;
    }

    async fn work_on(mut self) {
        let lease = self.lease;
        if let Err(error) = self.try_work().await {
            if !error.is_outage() {
                tracing::error!(run = %lease.run, %error, "lets go of a run; it is taken up again from the journal");
            }
            self.shared.abandon(lease);
        }
        self.shared.config.host.let_go(lease.run);
    }

    async fn try_work(&mut self) -> Result<(), StoreError> {
        self.begin(self.state.executing());
        self.take(if self.state.seq == 1 { Input::Begin } else { Input::Tick });
        // Nobody can have sent anything to a run that the store does not know yet.
        if self.standing == Standing::Durable {
            self.read_inbox().await?;
        }
        while self.flush().await? == Hold::Held {
            self.wait().await?;
        }
        Ok(())
    }

    /// Waits for one thing to happen and takes it in.
    async fn wait(&mut self) -> Result<(), StoreError> {
        let due = self.state.next_due().map(|due| due.since(self.shared.clock.now()));
        let timer = async {
            match due {
                Some(due) => time::sleep(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.news.notified() => self.read_inbox().await?,
            Some(report) = self.reports.recv() => self.reported(report),
            // Aborted executions end without an outcome: the decision that aborted them has gone on without them.
            ended = self.executions.next(), if !self.executions.is_empty() => if let Some(Ok(ended)) = ended {
                self.ended(ended);
            },
            // Others get the thread in between.
            () = task::yield_now(), if self.is_unfinished => self.take(Input::Tick),
            () = timer => self.take(Input::Tick),
        }
        Ok(())
    }

    fn reported(&mut self, report: Report) {
        match report {
            Report::Requested { executing, requests, questions, durable } => {
                self.take(Input::Requested { executing, requests, questions });
                self.pending.waiting.extend(durable);
            }
            Report::Replied { executing, number, reply, duration } => {
                self.take(Input::Replied { executing, number, reply, duration });
            }
        }
    }

    fn ended(&mut self, ended: Ended) {
        // What it told before comes first.
        while let Ok(report) = self.reports.try_recv() {
            self.reported(report);
        }
        let Ended { executing, outcome, duration } = ended;
        self.in_flight.remove(&executing.path);
        self.take(match outcome {
            Ok(output) => Input::StepDone { executing, output },
            Err(Halt::Failed(error)) => Input::StepFailed { executing, error, duration },
            Err(Halt::Waits) => return self.goes_on(executing),
        });
    }

    /// Begins an attempt anew that waited for people, where one has answered before it was known to wait.
    fn goes_on(&mut self, executing: Executing) {
        if self.state.executing().contains(&executing) {
            self.begin(vec![executing]);
        }
    }

    async fn read_inbox(&mut self) -> Result<(), StoreError> {
        for arrived in self.shared.store.inbox(self.lease.run, self.inbox_read).await? {
            self.inbox_read = arrived.number;
            self.take(Input::Signal(arrived.signal));
        }
        Ok(())
    }

    /// Decides on an input and begins what follows from it.
    fn take(&mut self, input: Input) {
        let now = self.shared.clock.now();
        let Decision { events, effects, is_unfinished } = decide(&mut self.state, input, now);
        self.is_unfinished = is_unfinished;
        self.pending.events.extend(events);
        let mut to_execute = Vec::new();
        for effect in effects {
            match effect {
                Effect::Execute(executing) => to_execute.push(executing),
                Effect::Abort(path) => {
                    to_execute.retain(|executing| executing.path != path);
                    if let Some(handle) = self.in_flight.remove(&path) {
                        handle.abort();
                    }
                }
                other => self.note(other, now),
            }
        }
        self.begin(to_execute);
    }

    /// Notes an effect that becomes rows of the next append.
    fn note(&mut self, effect: Effect, now: Timestamp) {
        match effect {
            Effect::OpenTask { task, path, task_type, payload, due } => self.pending.tasks_opened.push(TaskRecord {
                task,
                run: self.lease.run,
                step: path,
                task_type,
                payload,
                status: TaskStatus::Pending,
                created_at: now,
                due,
            }),
            Effect::CloseTask(task, status) => self.pending.tasks_closed.push((task, status)),
            Effect::StopChild { run, graceful } => {
                self.pending.signals.push((run, Signal::Stop { graceful }));
            }
            Effect::StartChild { run, step, workflow, version, input, depth, descendants } => {
                let start = Start {
                    workflow,
                    version,
                    input,
                    trigger_steps: StepInputs::new(),
                    excluded_step_ids: Vec::new(),
                    trigger_type: "workflow_call".into(),
                    external_user_id: self.state.start.external_user_id.clone(),
                    user_id: self.state.start.user_id.clone(),
                    pat_id: self.state.start.pat_id.clone(),
                    due_at: self.state.start.due_at,
                    trace_parent: self.state.start.trace_parent.clone(),
                    parent: Some(Parent { run: self.lease.run, step, depth, descendants }),
                    reuse: None,
                };
                self.pending.children.push(start::new_run(run, &self.of.scope, &start, now));
            }
            Effect::Execute(_) | Effect::Abort(_) => {}
        }
    }

    /// Begins executions: one alone runs within this task, several run side by side.
    fn begin(&mut self, executing: Vec<Executing>) {
        let alone = self.in_flight.is_empty() && executing.len() == 1;
        for executing in executing {
            // One that is about to wait for people looks for their answers when it does.
            if self.in_flight.contains_key(&executing.path) {
                continue;
            }
            let Scope { tenant, project } = &self.of.scope;
            let Some(work) = self.state.work(&executing.path, tenant, project, self.shared.clock.now()) else {
                continue;
            };
            let path = executing.path.clone();
            let (execution, handle) = execute(self.surroundings.clone(), executing, work, alone);
            self.executions.push(execution);
            self.in_flight.insert(path, handle);
        }
    }

    /// Hands to the writer what happened, and lets go of the run if there is nothing to wait for here.
    async fn flush(&mut self) -> Result<Hold, StoreError> {
        if self.is_idle() && self.state.next_due().is_some_and(|due| due <= self.shared.clock.now()) {
            self.take(Input::Tick);
        }
        // What a timer leads to may need no execution either.
        let idle = self.is_idle();
        let pending = std::mem::take(&mut self.pending);
        if pending.events.is_empty() && pending.waiting.is_empty() && !idle {
            return Ok(Hold::Held);
        }
        let commit = self.commit(pending, idle);
        if self.shared.commits.send(commit).await.is_err() {
            return Ok(Hold::Released);
        }
        Ok(if idle { Hold::Released } else { Hold::Held })
    }

    /// Whether nothing is under way here that the run would go on by.
    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && !self.is_unfinished
    }

    fn commit(&self, pending: Pending, idle: bool) -> Commit {
        let is_final = self.state.status.is_final();
        let Pending { events, tasks_opened, tasks_closed, children, mut signals, waiting } = pending;
        let ended_now = is_final && events.iter().any(|event| event.kind.ends_run());
        signals.extend(ended_now.then(|| start::child_finished(&self.state)).flatten());
        let append = Append {
            lease: self.lease,
            create: None,
            events: (!events.is_empty()).then(|| Chunk::of(&events)),
            row: RowUpdate {
                status: self.state.status,
                awaiting: if idle && !is_final { self.state.awaiting() } else { None },
                finished_at: self.state.finished_at,
                error: self.state.end.clone().and_then(Result::err),
            },
            inbox_read: self.inbox_read,
            release: idle.then(|| Release { wake_at: self.state.next_due() }),
            tasks_opened,
            tasks_closed,
            children,
            signals,
        };
        Commit {
            of: self.of.clone(),
            append,
            events,
            ended: ended_now.then_some(self.state.started_at),
            done: None,
            waiting,
        }
    }
}

impl Drop for Actor {
    /// An actor that panicked would otherwise keep its lease for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.forget(self.lease);
        }
    }
}
