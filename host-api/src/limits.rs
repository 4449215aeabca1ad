//! What one step may use. Each limit has the error code that it ends in.

use std::time::Duration;

/// The limits of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time in which the step computes, or waits for what it asked for: `STEP_TIMEOUT`. Time in which others have the
    /// processors is not its own.
    pub time: Duration,
    /// Linear memory of the instance: `SANDBOX_MEMORY_LIMIT`.
    pub memory_bytes: usize,
    /// Size of the output as JSON text: `SANDBOX_OUTPUT_LIMIT`.
    pub output_bytes: usize,
    /// WebAssembly instructions, metered exactly and the same on every machine, where asked for: `SANDBOX_FUEL_LIMIT`.
    pub fuel: Option<u64>,
    /// How many requests the step may make: `CAPABILITY_DENIED`.
    pub requests: u32,
}

impl Limits {
    /// Memory of a step: room for a few MiB of JSON as Lua tables, small enough that hundreds of steps fit a machine.
    pub const MEMORY_BYTES_DEFAULT: usize = 64 << 20;
    /// Output of a step: results are stored in the journal and handed on, so they stay small.
    pub const OUTPUT_BYTES_DEFAULT: usize = 1 << 20;
    /// Requests of a step: a script that needs more wants a `for_each`.
    pub const REQUESTS_DEFAULT: u32 = 1_000;
    /// Time of a script without a `timeout_s`.
    pub const TIME_DEFAULT: Duration = Duration::from_secs(5);
    /// Nesting of a step's output and of the JSON that it reads.
    pub const JSON_DEPTH_MAX: usize = 100;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Self::TIME_DEFAULT,
            memory_bytes: Self::MEMORY_BYTES_DEFAULT,
            output_bytes: Self::OUTPUT_BYTES_DEFAULT,
            fuel: None,
            requests: Self::REQUESTS_DEFAULT,
        }
    }
}
