//! The sandbox as its users see it: real scripts in the real guest.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cache;
mod determinism;
mod errors;
mod guest_build;
mod harness;
mod hostile;
mod json;
mod language;
mod limits;
mod requests;
mod tenants;
