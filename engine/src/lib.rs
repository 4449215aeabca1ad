//! Graphs, runs as journals, and the nodes that execute them.
//!
//! Owns what a workflow means: [`graph`] reads and checks it, [`run`] decides what happens next, [`store`] keeps the journal
//! in a [`database`], [`node`] carries out what was decided, [`adapters`] are the programs of steps that
//! call tools and models. Never knows users, roles or HTTP, and sees the sandbox only as a
//! [`Guest`](agentruntime_host_api::Guest).

pub mod adapters;
pub mod database;
pub mod graph;
pub mod node;
pub mod run;
pub mod store;
