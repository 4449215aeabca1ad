//! The engine, its settings, and the guest that it runs.
//!
//! Owns every setting of WebAssembly. Never chooses a compiler but Cranelift, and never allows a feature that the guest
//! does not need.

use crate::{
    SandboxConfig,
    cache::Cache,
    clock::Clock,
    execution::{self, Surroundings},
    instance::{Exports, Step},
    tenants::Tenants,
    wasi,
};
use agentruntime_host_api::{Guest, Invocation, Outcome, Program, StepError, TenantId};
use futures_util::{FutureExt, future::BoxFuture};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock, OnceLock},
};
use wasmtime::{
    Collector, Config, Enabled, InstanceAllocationStrategy, InstancePre, Module, ModuleExport, OptLevel,
    PoolingAllocationConfig, Store, Strategy,
};

/// The guest: Lua, set up and ready.
static GUEST: &[u8] = include_bytes!("../guest-lua/lua.wasm");

static GUEST_DIGEST: LazyLock<String> = LazyLock::new(|| {
    Sha256::digest(GUEST).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        _ = write!(text, "{byte:02x}");
        text
    })
});

/// Stack of the compiled guest: Lua refuses to nest C calls deeper than 200, which takes a quarter of this.
const WASM_STACK_BYTES: usize = 512 << 10;
/// Beyond the guest's own stack, room for the functions of the host.
const FIBRE_STACK_BYTES: usize = WASM_STACK_BYTES + (256 << 10);
/// What a short step touches of these; it is cleaned by writing and stays mapped, where the rest is given back.
const STACK_BYTES_RESIDENT: usize = 16 << 10;
const MEMORY_BYTES_RESIDENT: usize = 1 << 20;
const TABLE_BYTES_RESIDENT: usize = 16 << 10;
/// The guest has one table, made in its size.
const TABLE_ELEMENTS: usize = 2_000;

/// The sandbox cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// WebAssembly cannot be run here.
    #[error("the sandbox cannot be set up: {0:#}")]
    Engine(#[from] wasmtime::Error),
    /// The folder for compiled code cannot be used.
    #[error("the folder for compiled code cannot be used: {0}")]
    Cache(std::io::Error),
    /// The clock cannot be started.
    #[error("the clock of the sandbox cannot be started: {0}")]
    Clock(std::io::Error),
}

/// Runs Lua programs, each in an instance of its own. Cloning shares everything.
#[derive(Clone)]
pub struct Sandbox(Arc<Shared>);

struct Shared {
    config: SandboxConfig,
    plain: OnceLock<(Arc<Engine>, Clock)>,
    metered: OnceLock<(Arc<Engine>, Clock)>,
    tenants: Arc<Tenants>,
}

impl Sandbox {
    /// Loads the guest, or compiles it where it is not yet in the cache.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let tenants = Tenants::new(config.max_instances, config.cpus, config.tenant.clone());
        let shared = Shared { config, plain: OnceLock::new(), metered: OnceLock::new(), tenants };
        shared.engine(if shared.config.meter_fuel { Metering::Exact } else { Metering::None })?;
        Ok(Self(Arc::new(shared)))
    }

    /// The SHA-256 of the guest: the same digest runs the same program in the same way.
    pub fn guest_digest(&self) -> &str {
        &GUEST_DIGEST
    }

    fn surroundings(&self, metering: Metering) -> Result<Surroundings, StepError> {
        let shared = &self.0;
        let (engine, clock) = shared.engine(metering).map_err(|error| match error {
            SandboxError::Engine(error) => crate::instance::trapped(&error),
            SandboxError::Cache(error) | SandboxError::Clock(error) => crate::instance::trapped(&error.into()),
        })?;
        Ok(Surroundings {
            engine: Arc::clone(engine),
            clock: clock.clone(),
            tenants: Arc::clone(&shared.tenants),
            memory_bytes_max: shared.config.max_memory_bytes,
            is_metered: metering == Metering::Exact,
        })
    }
}

impl Guest for Sandbox {
    fn start(&self, invocation: Invocation) -> BoxFuture<'_, Outcome> {
        let is_metered = self.0.config.meter_fuel || invocation.limits.fuel.is_some();
        async move {
            match self.surroundings(if is_metered { Metering::Exact } else { Metering::None }) {
                Ok(surroundings) => execution::start(surroundings, invocation).await,
                Err(error) => Outcome::Failed(error),
            }
        }
        .boxed()
    }

    fn check(&self, tenant: TenantId, program: Program) -> BoxFuture<'_, Result<(), StepError>> {
        let metering = if self.0.config.meter_fuel { Metering::Exact } else { Metering::None };
        async move { execution::check(self.surroundings(metering)?, tenant, program).await }.boxed()
    }
}

impl Shared {
    /// The engine of a kind. That which counts instructions is made when it is first wanted: it costs speed, and most
    /// nodes never need it.
    fn engine(&self, metering: Metering) -> Result<&(Arc<Engine>, Clock), SandboxError> {
        let slot = match metering {
            Metering::None => &self.plain,
            Metering::Exact => &self.metered,
        };
        if let Some(made) = slot.get() {
            return Ok(made);
        }
        let engine = Engine::new(&self.config, metering)?;
        let clock = Clock::start(engine.wasmtime().weak(), self.config.turn).map_err(SandboxError::Clock)?;
        Ok(slot.get_or_init(|| (Arc::new(engine), clock)))
    }
}

/// Whether instructions are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Metering {
    None,
    Exact,
}

/// An engine with the guest loaded.
pub(crate) struct Engine {
    pub(crate) guest: InstancePre<Step>,
    pub(crate) exports: Exports,
    /// What the guest's memory has from the beginning.
    pub(crate) memory_bytes_min: usize,
}

impl Engine {
    fn new(config: &SandboxConfig, metering: Metering) -> Result<Self, SandboxError> {
        let engine = match wasmtime::Engine::new(&settings(metering, Some(pool(config)))) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "instances cannot be pooled here; steps start slower");
                wasmtime::Engine::new(&settings(metering, None))?
            }
        };
        let module = load(&engine, config, metering)?;
        let guest = wasi::linker(&module)?.instantiate_pre(&module)?;
        let (message, memory_bytes_min) = measure(&engine, &module)?;
        let exports = Exports {
            memory: export(&module, "memory")?,
            alloc: export(&module, "alloc")?,
            start: export(&module, "start")?,
            resume: export(&module, "resume")?,
            check: export(&module, "check")?,
            message,
        };
        Ok(Self { guest, exports, memory_bytes_min })
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        self.guest.module().engine()
    }
}

/// The settings of an engine. Those that differ from the defaults each have their reason.
fn settings(metering: Metering, pool: Option<PoolingAllocationConfig>) -> Config {
    let mut config = Config::new();
    config
        // The other compilers had escapes.
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // Lua's errors are WebAssembly exceptions, and those need a collector.
        .wasm_exceptions(true)
        .collector(Collector::DeferredReferenceCounting)
        // Nothing else beyond the first version of WebAssembly is needed.
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_function_references(false)
        .wasm_gc(false)
        .wasm_relaxed_simd(false)
        // A step can be stopped, and made to wait, wherever it is.
        .epoch_interruption(true)
        .consume_fuel(metering == Metering::Exact)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBRE_STACK_BYTES)
        .async_stack_zeroing(true)
        // The snapshot is mapped, not copied.
        .memory_init_cow(true)
        // Addresses in code serve only backtraces of WebAssembly, which no author sees.
        .wasm_backtrace_max_frames(None);
    if let Some(pool) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

fn pool(config: &SandboxConfig) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    let instances = config.max_instances.max(1);
    pool.total_core_instances(instances)
        // The heap in which exceptions live takes the place of a memory, in every instance that throws one.
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances)
        .total_stacks(instances)
        .total_gc_heaps(instances)
        .max_unused_warm_slots(instances)
        .max_memory_size(config.max_memory_bytes)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(MEMORY_BYTES_RESIDENT)
        .table_keep_resident(TABLE_BYTES_RESIDENT)
        .async_stack_keep_resident(STACK_BYTES_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    pool
}

fn load(engine: &wasmtime::Engine, config: &SandboxConfig, metering: Metering) -> Result<Module, SandboxError> {
    let Some(dir) = &config.cache_dir else { return Ok(Module::new(engine, GUEST)?) };
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let name = format!("{}-{:016x}-{metering:?}", &*GUEST_DIGEST, hasher.finish()).to_lowercase();
    let cache = Cache::open(dir).map_err(SandboxError::Cache)?;
    Ok(cache.load(engine, &name, GUEST)?)
}

/// The place of short messages, and the size of the memory at the start: both are the same in every instance.
fn measure(engine: &wasmtime::Engine, module: &Module) -> wasmtime::Result<(u32, usize)> {
    let mut store = Store::new(engine, ());
    let mut linker = wasmtime::Linker::new(engine);
    linker.define_unknown_imports_as_traps(module)?;
    let instance = linker.instantiate(&mut store, module)?;
    let message = instance.get_global(&mut store, "MESSAGE").map(|global| global.get(&mut store));
    let memory = instance.get_memory(&mut store, "memory").map(|memory| memory.data_size(&store));
    match (message.and_then(|value| value.i32()), memory) {
        (Some(message), Some(memory)) => Ok((message as u32, memory)),
        _ => Err(crate::message::Malformed("it lacks its memory").into()),
    }
}

fn export(module: &Module, name: &'static str) -> wasmtime::Result<ModuleExport> {
    module.get_export_index(name).ok_or_else(|| crate::message::Malformed("it lacks a function").into())
}
