//! What the end-to-end tests and the benchmarks share.
//!
//! Owns the harness only: servers and processes that tests start, and end. Never holds what is being tested.

pub mod postgres;
