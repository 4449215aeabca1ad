//! `cargo fuzz run template`, with the seeds as its last argument.
#![no_main]

#[path = "../drivers/template.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|data: &[u8]| driver::drive(data));
