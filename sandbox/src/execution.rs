//! One step from its start to its end.
//!
//! Owns the order of things: a place among the tenants, an instance, calls and their replies. Everything that a step
//! holds is given back when its execution is dropped, wherever it stands.

use crate::{
    clock::Clock,
    instance::{Exports, Instance, Step, memory_limit, trapped},
    limits::MemoryLimit,
    message::Message,
    outcome::{self, Asked, Reading},
    runtime::Engine,
    stint::{Stint, Waits},
    tenants::{Place, Room, Tenants},
    wasi::Random,
};
use agentruntime_host_api::{
    Execution, HostReply, Invocation, Limits, Outcome, Program, StepError, StepOutput, TenantId, Timestamp,
};
use futures_util::{FutureExt, future::BoxFuture};
use std::{sync::Arc, time::Instant};
use wasmtime::ModuleExport;

/// What every step needs.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Clock,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) memory_bytes_max: usize,
    pub(crate) is_metered: bool,
}

/// Starts a step.
pub(crate) async fn start(surroundings: Surroundings, invocation: Invocation) -> Outcome {
    let memory_bytes = invocation.limits.memory_bytes.min(surroundings.memory_bytes_max);
    let message = Message::of_invocation(&invocation, memory_bytes);
    let Invocation { tenant, started_at, entropy, limits, .. } = invocation;
    match Running::new(surroundings, tenant, started_at, Random(entropy.0), limits).await {
        Ok(running) => running.advance(|exports| exports.start, message).await,
        Err(error) => Outcome::Failed(error),
    }
}

/// Compiles a program and runs nothing of it.
pub(crate) async fn check(surroundings: Surroundings, tenant: TenantId, program: Program) -> Result<(), StepError> {
    let limits = Limits::default();
    let message = Message::of_program(&program, limits.memory_bytes.min(surroundings.memory_bytes_max));
    let running = Running::new(surroundings, tenant, Timestamp::from_micros(0), Random(0), limits).await?;
    match running.advance(|exports| exports.check, message).await {
        Outcome::Failed(error) => Err(error),
        Outcome::Done(_) | Outcome::Requests { .. } => Ok(()),
    }
}

/// A step that has an instance. Its room is given back after the instance is gone.
struct Running {
    instance: Instance,
    asked: Asked,
    limits: Limits,
    begun: Instant,
    surroundings: Surroundings,
    tenant: TenantId,
    _room: Room,
}

impl Running {
    async fn new(
        surroundings: Surroundings,
        tenant: TenantId,
        started_at: Timestamp,
        random: Random,
        limits: Limits,
    ) -> Result<Self, StepError> {
        let memory_bytes = limits.memory_bytes.min(surroundings.memory_bytes_max);
        let room = surroundings.tenants.room(&tenant, memory_bytes).await;
        let stint = Stint::default();
        let turn = surroundings.tenants.turn(&tenant, Place::Last).await;
        let begun = Instant::now();
        stint.begin(turn, begun);
        let fuel = surroundings.is_metered.then_some(limits.fuel.unwrap_or(u64::MAX));
        let step = Step {
            started_at,
            random,
            memory: MemoryLimit::new(memory_bytes),
            time: limits.time,
            tenants: Arc::clone(&surroundings.tenants),
            tenant: tenant.clone(),
            stint,
        };
        if memory_bytes < surroundings.engine.memory_bytes_min {
            return Err(memory_limit(&limits));
        }
        let instance = Instance::new(&surroundings.engine, step, fuel).map_err(|error| trapped(&error))?;
        Ok(Self { instance, asked: Asked::default(), limits, begun, surroundings, tenant, _room: room })
    }

    async fn advance(mut self, export: impl FnOnce(&Exports) -> ModuleExport, message: Message) -> Outcome {
        let _ticking = self.surroundings.clock.running();
        let export = export(self.instance.exports());
        let reading = match self.instance.call(&export, &message).await {
            Ok(answer) => {
                outcome::read(answer, &self.limits, &mut self.asked).map_err(|broken| trapped(&broken.into()))
            }
            Err(error) => Err(self.instance.failure(&error, &self.limits)),
        };
        match reading {
            Ok(Reading::Done(json)) => {
                let fuel = self.instance.fuel_used();
                Outcome::Done(StepOutput { json, fuel, duration: self.begun.elapsed() })
            }
            Ok(Reading::Requests(requests)) => {
                self.instance.stint().end(Instant::now(), Waits::ForReplies);
                Outcome::Requests { requests, execution: Box::new(self) }
            }
            Ok(Reading::Failed(error)) | Err(error) => Outcome::Failed(error),
        }
    }

    async fn go_on(mut self, replies: Vec<HostReply>) -> Outcome {
        let answered = Instant::now();
        if self.instance.stint().spent(answered) >= self.limits.time {
            return Outcome::Failed(StepError::timed_out(self.limits.time));
        }
        self.instance.stint().pause(answered);
        self.asked.note(&replies);
        let place = self.instance.stint().next_place();
        let turn = self.surroundings.tenants.turn(&self.tenant, place).await;
        self.instance.stint().begin(turn, Instant::now());
        self.advance(|exports| exports.resume, Message::of_replies(&replies)).await
    }
}

impl Execution for Running {
    fn resume(self: Box<Self>, replies: Vec<HostReply>) -> BoxFuture<'static, Outcome> {
        self.go_on(replies).boxed()
    }
}
