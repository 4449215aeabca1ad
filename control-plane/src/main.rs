//! The program `agentruntime`: the command line over the engine.
//!
//! Owns the product as functions (`operations`), where its data lies (`data`), and the command line (`cli`), which adds form
//! to the operations and nothing else. Never decides what a run does next: that is the engine's.

mod cli;
mod data;
mod operations;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
