//! What an operator can set.

use agentruntime_host_api::Limits;
use std::{path::PathBuf, time::Duration};

/// Settings of a [`Sandbox`](crate::Sandbox).
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Where compiled code is kept between starts. Without it the guest is compiled at every start, which takes about a
    /// second.
    pub cache_dir: Option<PathBuf>,
    /// How many instances may exist at once, parked ones included. Each takes address space from the beginning and
    /// memory when it is used.
    pub max_instances: u32,
    /// The most memory that any step may be given.
    pub max_memory_bytes: usize,
    /// How many steps compute at the same time; more take turns.
    pub cpus: usize,
    /// How long a step computes before others get their turn.
    pub turn: Duration,
    /// What each tenant may use at once.
    pub tenant: TenantBudget,
    /// Whether instructions are counted for every step, and not only for those that have a limit of them. Counting costs
    /// about a third of the speed.
    pub meter_fuel: bool,
}

/// What one tenant may use at once. Steps beyond it wait; they do not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantBudget {
    /// Instances, parked ones included.
    pub instances: u32,
    /// Memory: the sum of the limits of the tenant's instances.
    pub memory_bytes: usize,
    /// Steps that compute at the same time, even where processors are idle.
    pub computing: usize,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            max_instances: 256,
            max_memory_bytes: 4 * Limits::MEMORY_BYTES_DEFAULT,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            turn: Duration::from_millis(2),
            tenant: TenantBudget::default(),
            meter_fuel: false,
        }
    }
}

impl Default for TenantBudget {
    fn default() -> Self {
        Self { instances: 128, memory_bytes: 128 * Limits::MEMORY_BYTES_DEFAULT, computing: usize::MAX }
    }
}
