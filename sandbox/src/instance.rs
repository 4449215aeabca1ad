//! One instance of the guest: made for one step, called, and thrown away.
//!
//! Owns the calls into WebAssembly and why they stop. Never keeps anything: dropping the instance resets its memory
//! before another step can have it.

use crate::{
    limits::MemoryLimit,
    message::{Malformed, Message},
    runtime::Engine,
    stint::{Stint, Waits},
    tenants::Tenants,
    wasi::Random,
};
use agentruntime_host_api::{ErrorCode, Limits, StepError, TenantId, Timestamp};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use wasmtime::{Extern, Func, Memory, ModuleExport, Store, StoreContextMut, Trap, UpdateDeadline};

/// What the store knows about the step.
pub(crate) struct Step {
    pub(crate) started_at: Timestamp,
    pub(crate) random: Random,
    pub(crate) memory: MemoryLimit,
    /// How much time of its own it may spend.
    pub(crate) time: Duration,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) tenant: TenantId,
    /// The right to compute, taken away and given back while the step runs.
    pub(crate) stint: Stint,
}

/// Why the host ended a call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("the step's time is over")]
    Time,
    #[error("what the step is given does not fit its memory")]
    Message,
    #[error("the guest ended itself")]
    Exited,
}

/// What the guest exports, found once.
#[derive(Clone)]
pub(crate) struct Exports {
    pub(crate) memory: ModuleExport,
    pub(crate) alloc: ModuleExport,
    pub(crate) start: ModuleExport,
    pub(crate) resume: ModuleExport,
    pub(crate) check: ModuleExport,
    /// The address of room for a short message.
    pub(crate) message: u32,
}

/// Messages up to this length fit the room at [`Exports::message`].
const SHORT_MESSAGE_BYTES: usize = 2 << 10;

/// A running guest.
pub(crate) struct Instance {
    store: Store<Step>,
    instance: wasmtime::Instance,
    memory: Memory,
    engine: Arc<Engine>,
    fuel: Option<u64>,
}

impl Instance {
    pub(crate) fn new(engine: &Arc<Engine>, step: Step, fuel: Option<u64>) -> wasmtime::Result<Self> {
        let mut store = Store::new(engine.wasmtime(), step);
        store.limiter(|step| &mut step.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(tick);
        if let Some(fuel) = fuel {
            store.set_fuel(fuel)?;
        }
        let instance = engine.guest.instantiate(&mut store)?;
        let memory = instance
            .get_module_export(&mut store, &engine.exports.memory)
            .and_then(Extern::into_memory)
            .ok_or(Malformed("it has no memory"))?;
        Ok(Self { store, instance, memory, engine: Arc::clone(engine), fuel })
    }

    /// What the step has of the processors.
    pub(crate) fn stint(&self) -> &Stint {
        &self.store.data().stint
    }

    pub(crate) fn exports(&self) -> &Exports {
        &self.engine.exports
    }

    /// Instructions executed so far, where they are counted.
    pub(crate) fn fuel_used(&self) -> Option<u64> {
        self.fuel.map(|fuel| fuel.saturating_sub(self.store.get_fuel().unwrap_or(0)))
    }

    /// Sends a message with a call, and answers what the guest wrote.
    pub(crate) async fn call(&mut self, export: &ModuleExport, message: &Message) -> wasmtime::Result<&[u8]> {
        let bytes = message.as_bytes();
        let at = if bytes.len() <= SHORT_MESSAGE_BYTES {
            self.engine.exports.message
        } else {
            self.room_for(bytes.len()).await?
        };
        self.memory.write(&mut self.store, at as usize, bytes).map_err(|_| Malformed("its room is out of bounds"))?;
        let packed = self.function(export)?.typed::<u32, u64>(&self.store)?.call_async(&mut self.store, at).await?;
        let (start, len) = ((packed >> 32) as usize, packed as u32 as usize);
        let answer = self.memory.data(&self.store).get(start..).and_then(|bytes| bytes.get(..len));
        Ok(answer.ok_or(Malformed("it is out of bounds"))?)
    }

    async fn room_for(&mut self, len: usize) -> wasmtime::Result<u32> {
        let len = u32::try_from(len).map_err(|_| Stop::Message)?;
        let export = self.engine.exports.alloc;
        let alloc = self.function(&export)?.typed::<u32, u32>(&self.store)?;
        match alloc.call_async(&mut self.store, len).await? {
            0 => Err(Stop::Message.into()),
            at => Ok(at),
        }
    }

    fn function(&mut self, export: &ModuleExport) -> wasmtime::Result<Func> {
        let found = self.instance.get_module_export(&mut self.store, export);
        Ok(found.and_then(Extern::into_func).ok_or(Malformed("it lacks a function"))?)
    }

    /// What a call that did not return means for the step.
    pub(crate) fn failure(&self, error: &wasmtime::Error, limits: &Limits) -> StepError {
        let trap = error.downcast_ref::<Trap>();
        match error.downcast_ref::<Stop>() {
            Some(Stop::Time) => StepError::timed_out(limits.time),
            Some(Stop::Message) => memory_limit(limits),
            _ if trap == Some(&Trap::OutOfFuel) => StepError::new(
                ErrorCode::SandboxFuelLimit,
                format!("the step executed all of its {} instructions", self.fuel.unwrap_or_default()),
            ),
            _ if self.store.data().memory.was_reached() => memory_limit(limits),
            _ => trapped(error),
        }
    }
}

pub(crate) fn memory_limit(limits: &Limits) -> StepError {
    let bytes = limits.memory_bytes;
    StepError::new(ErrorCode::SandboxMemoryLimit, format!("the step wanted more memory than its {bytes} bytes"))
        .with_details(serde_json::json!({ "limit_bytes": bytes }))
}

/// A failure of the sandbox itself. Its cause is for the log; an author can do nothing with it.
pub(crate) fn trapped(error: &wasmtime::Error) -> StepError {
    tracing::warn!(error = format!("{error:#}"), "the sandbox stopped a step");
    let cause = error.downcast_ref::<Trap>().map_or_else(|| "an error of the guest".to_owned(), Trap::to_string);
    StepError::new(ErrorCode::SandboxTrap, format!("the sandbox stopped the step: {cause}"))
}

/// At each tick of the clock: the step ends, or goes on after the others.
fn tick(mut store: StoreContextMut<'_, Step>) -> wasmtime::Result<UpdateDeadline> {
    let step = store.data_mut();
    if step.stint.spent(Instant::now()) >= step.time {
        return Err(Stop::Time.into());
    }
    let stint = step.stint.clone();
    if !step.tenants.is_turn_wanted() {
        let others = async move {
            stint.pause(Instant::now());
            tokio::task::yield_now().await;
            stint.go_on(Instant::now());
        };
        return Ok(UpdateDeadline::YieldCustom(1, Box::pin(others)));
    }
    let (tenants, tenant) = (Arc::clone(&step.tenants), step.tenant.clone());
    let others = async move {
        // It stands in line again before the turn goes to somebody else.
        let next = tenants.turn(&tenant, stint.next_place());
        stint.end(Instant::now(), Waits::ForOthers);
        let turn = next.await;
        stint.begin(turn, Instant::now());
    };
    Ok(UpdateDeadline::YieldCustom(1, Box::pin(others)))
}
