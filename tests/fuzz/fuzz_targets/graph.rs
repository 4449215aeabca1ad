//! `cargo fuzz run graph`, with the seeds as its last argument.
#![no_main]

#[path = "../drivers/graph.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|data: &[u8]| driver::drive(data));
