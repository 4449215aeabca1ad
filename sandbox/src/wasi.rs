//! The few system functions that the guest's C library expects, all of them virtual.
//!
//! Owns the clock and the randomness that a step sees: both are given with the step, so that its result depends on
//! nothing else. Never touches a file, the environment or a socket: there is none, and every other function traps.

use crate::instance::{Step, Stop};
use wasmtime::{Caller, Extern, Linker, Memory, Module};

/// WASI's numbers for `success`, `bad descriptor` and `bad address`.
const SUCCESS: i32 = 0;
const BADF: i32 = 8;
const FAULT: i32 = 21;
const REALTIME: i32 = 0;

const MODULE: &str = "wasi_snapshot_preview1";

/// Everything that the guest can import.
pub(crate) fn linker(module: &Module) -> wasmtime::Result<Linker<Step>> {
    let mut linker = Linker::new(module.engine());
    linker.func_wrap(MODULE, "environ_sizes_get", |mut caller: Caller<'_, Step>, count: u32, size: u32| {
        write(&mut caller, count, &[0; 4]).max(write(&mut caller, size, &[0; 4]))
    })?;
    linker.func_wrap(MODULE, "environ_get", |_: u32, _: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "fd_prestat_get", |_: u32, _: u32| BADF)?;
    linker.func_wrap(MODULE, "clock_time_get", clock_time_get)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "proc_exit", |_: i32| -> wasmtime::Result<()> { Err(Stop::Exited.into()) })?;
    linker.define_unknown_imports_as_traps(module)?;
    Ok(linker)
}

/// Real time is the recorded start of the step; every other clock stands at zero.
fn clock_time_get(mut caller: Caller<'_, Step>, clock: i32, _: i64, result: u32) -> i32 {
    let nanos = if clock == REALTIME { caller.data().started_at.as_micros().saturating_mul(1_000) } else { 0 };
    write(&mut caller, result, &nanos.to_le_bytes())
}

fn random_get(mut caller: Caller<'_, Step>, start: u32, len: u32) -> i32 {
    let Some(memory) = memory(&mut caller) else { return FAULT };
    let (bytes, step) = memory.data_and_store_mut(&mut caller);
    let Some(range) = bytes.get_mut(start as usize..).and_then(|bytes| bytes.get_mut(..len as usize)) else {
        return FAULT;
    };
    for word in range.chunks_mut(8) {
        let random = step.random.next().to_le_bytes();
        word.copy_from_slice(&random[..word.len()]);
    }
    SUCCESS
}

/// What the guest writes goes nowhere.
fn fd_write(mut caller: Caller<'_, Step>, _: i32, list: u32, count: u32, written: u32) -> i32 {
    let Some(memory) = memory(&mut caller) else { return FAULT };
    let bytes = memory.data(&caller);
    let entries = bytes.get(list as usize..).unwrap_or_default().chunks_exact(8).take(count as usize);
    let total = entries
        .fold(0u32, |total, entry| total.saturating_add(u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]])));
    write(&mut caller, written, &total.to_le_bytes())
}

fn memory(caller: &mut Caller<'_, Step>) -> Option<Memory> {
    caller.get_export("memory").and_then(Extern::into_memory)
}

fn write(caller: &mut Caller<'_, Step>, at: u32, bytes: &[u8]) -> i32 {
    match memory(caller).map(|memory| memory.write(caller, at as usize, bytes)) {
        Some(Ok(())) => SUCCESS,
        _ => FAULT,
    }
}

/// Random numbers from a seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
