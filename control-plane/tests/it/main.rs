//! The program as people and scripts use it: each test starts the real binary on a data folder of its own.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod approvals;
mod control;
mod errors;
mod examples;
mod far;
mod interruption;
mod lookup;
mod output;
mod outside;
mod program;
mod remote;
mod service;
mod stand_ins;
mod start;
mod waiting;
mod workspaces;
