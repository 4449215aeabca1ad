//! `cargo fuzz run guest_json`, with the seeds as its last argument.
#![no_main]

#[path = "../drivers/guest_json.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|data: &[u8]| driver::drive(data));
