//! Runs each step in a fresh WebAssembly instance.
//!
//! Owns the engine and its settings, the compiled code on disk, the pooled instances, the limits of a step, the shares
//! of tenants, and the Lua guest. Never knows workflows, runs or a database: it is given a program, what that program
//! may read and use, and answers with an output, a failure, or requests that somebody else carries out.

mod cache;
mod clock;
mod config;
mod execution;
mod instance;
mod limits;
mod message;
mod outcome;
mod runtime;
mod stint;
mod tenants;
mod wasi;

pub use config::{SandboxConfig, TenantBudget};
pub use runtime::{Sandbox, SandboxError};
