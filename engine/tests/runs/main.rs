//! How runs behave: rule by rule, under random schedules and crashes, and on nodes with a real store. No WebAssembly: steps are
//! [`program`]s of a few words.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod graphs;
mod ledger;
mod node;
mod program;
mod rules;
mod simulation;
mod world;
