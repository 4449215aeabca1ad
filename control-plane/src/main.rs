//! The program `agentruntime`: the service, and the command line.
//!
//! Owns the product as functions (`operations`), who may call them (`access`), and the skins that add form and nothing else:
//! the REST API (`api`) and the command line (`cli`). Never decides what a run does next: that is the engine's.

mod access;
mod api;
mod app;
mod cli;
mod client;
mod data;
mod integrations;
mod mail;
mod observe;
mod operations;
mod server;
mod settings;
mod triggers;
mod vault;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Every TLS connection of this process; nothing else has installed one before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::main()
}
