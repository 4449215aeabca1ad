//! The clock behind time limits and turns: a thread that advances the engine's epoch.
//!
//! Owns the thread, which sleeps while nothing runs. Never decides anything: what happens at a tick is up to the step.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, Thread},
    time::Duration,
};
use wasmtime::EngineWeak;

/// The ticking stops after this many ticks without a step: waking the thread costs more than a few idle ticks.
const IDLE_TICKS: u32 = 50;

/// Advances the epoch of an engine for as long as it exists.
#[derive(Clone)]
pub(crate) struct Clock {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    /// Counts the steps that began, so that the thread sees whether any did.
    begun: AtomicU64,
    running: AtomicU64,
    asleep: AtomicBool,
}

/// Held while a step computes.
pub(crate) struct Running(Arc<Shared>);

impl Clock {
    pub(crate) fn start(engine: EngineWeak, tick: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::downgrade(&shared);
        let handle = thread::Builder::new().name("sandbox-clock".into()).spawn(move || run(&engine, &seen, tick))?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Keeps the clock ticking until the guard is dropped.
    pub(crate) fn running(&self) -> Running {
        self.shared.running.fetch_add(1, SeqCst);
        self.shared.begun.fetch_add(1, SeqCst);
        if self.shared.asleep.load(SeqCst) && self.shared.asleep.swap(false, SeqCst) {
            self.thread.unpark();
        }
        Running(Arc::clone(&self.shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

fn run(engine: &EngineWeak, shared: &Weak<Shared>, tick: Duration) {
    let (mut idle, mut begun_before) = (0, 0);
    loop {
        thread::park_timeout(tick);
        let (Some(engine), Some(shared)) = (engine.upgrade(), shared.upgrade()) else { return };
        engine.increment_epoch();
        let begun = shared.begun.load(SeqCst);
        let is_idle = shared.running.load(SeqCst) == 0 && begun == begun_before;
        begun_before = begun;
        idle = if is_idle { idle + 1 } else { 0 };
        if idle < IDLE_TICKS {
            continue;
        }
        shared.asleep.store(true, SeqCst);
        drop(engine);
        // A step that began since the count was read did not see that the thread sleeps.
        while shared.asleep.load(SeqCst) && shared.running.load(SeqCst) == 0 {
            if Arc::strong_count(&shared) == 1 {
                return;
            }
            thread::park_timeout(Duration::from_secs(1));
        }
        shared.asleep.store(false, SeqCst);
        idle = 0;
    }
}
