//! The limits at their edges.

use crate::harness::{sandbox, script, wait};
use agentruntime_host_api::{ErrorCode, Guest, Json, Outcome};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn output_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    let of = |limit: usize| script("return {a = ('x'):rep(90)}").limits(|limits| limits.output_bytes = limit);
    let exact = r#"{"a":""}"#.len() + 90;
    assert_eq!(of(exact).text().len(), exact);
    of(exact - 1).fails(ErrorCode::SandboxOutputLimit);
    script("return {}").limits(|limits| limits.output_bytes = 2).text();
    script("return {}").limits(|limits| limits.output_bytes = 1).fails(ErrorCode::SandboxOutputLimit);
    script("return {}").limits(|limits| limits.output_bytes = 0).fails(ErrorCode::SandboxOutputLimit);
}

#[test]
fn more_memory_lets_more_through() {
    let of = |mib: usize| script("return {#('x'):rep(20 << 20)}").limits(|limits| limits.memory_bytes = mib << 20);
    of(16).fails(ErrorCode::SandboxMemoryLimit);
    assert_eq!(of(64).text(), r#"{"1":20971520}"#);
    of(0).fails(ErrorCode::SandboxMemoryLimit);
    assert!(script("return {}").limits(|limits| limits.memory_bytes = usize::MAX).run().is_ok());
    assert!(script("return {}").limits(|limits| limits.memory_bytes = 3 << 20).run().is_ok());
}

#[test]
fn input_that_does_not_fit_the_memory_is_a_memory_limit() {
    let big = format!("\"{}\"", "x".repeat(12 << 20));
    let of = |mib: usize| script("return {#input}").input(&big).limits(|limits| limits.memory_bytes = mib << 20);
    of(8).fails(ErrorCode::SandboxMemoryLimit);
    of(16).fails(ErrorCode::SandboxMemoryLimit);
    assert_eq!(of(64).text(), r#"{"1":12582912}"#);
}

#[test]
fn fuel_is_counted_where_a_limit_asks_for_it() {
    let of =
        |fuel: Option<u64>| script("local x = 0 for i = 1, 1000 do x = x + i end return {x}").limits(|l| l.fuel = fuel);
    assert_eq!(of(None).run().unwrap().fuel, None);
    let used = of(Some(u64::MAX)).run().unwrap().fuel.unwrap();
    assert!((10_000..10_000_000).contains(&used), "{used}");
    assert_eq!(of(Some(used + 1)).run().unwrap().fuel, Some(used));
    // It is looked at where functions and loops begin, so a step may end a little beyond.
    of(Some(used / 10 * 9)).fails(ErrorCode::SandboxFuelLimit);
    of(Some(0)).fails(ErrorCode::SandboxFuelLimit);
    script("while true do pcall(error) end").limits(|l| l.fuel = Some(10_000_000)).fails(ErrorCode::SandboxFuelLimit);
}

#[test]
fn the_time_limit_counts_the_time_of_requests_too() {
    let invocation =
        script("host.call('a') return {}").limits(|limits| limits.time = Duration::from_millis(1)).invocation;
    let Outcome::Requests { execution, .. } = wait(sandbox().start(invocation)) else { panic!("it asks") };
    let over = Instant::now() + Duration::from_millis(2);
    while Instant::now() < over {
        std::hint::spin_loop();
    }
    let Outcome::Failed(error) = wait(execution.resume(vec![Ok(Json::null())])) else { panic!("it is over") };
    assert_eq!(error.code, ErrorCode::StepTimeout);
    assert_eq!(error.details, Some(json!({"limit_s": 0.001}).into()));
}

#[test]
fn a_limit_beyond_all_time_is_no_limit() {
    assert_eq!(script("return {}").limits(|limits| limits.time = Duration::MAX).text(), "{}");
    script("for i = 1, 1e9 do end return {}")
        .limits(|limits| limits.time = Duration::ZERO)
        .fails(ErrorCode::StepTimeout);
}
