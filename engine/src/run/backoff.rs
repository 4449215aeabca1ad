//! When a failed attempt is followed by another: exponential back-off with full jitter.
//!
//! The wait is drawn evenly between nothing and a bound that grows with each attempt (“full jitter”, Marc Brooker,
//! "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). The draw is a hash of run, step and attempt, so that a
//! decision taken again is the same decision.

use super::event::StepPath;
use crate::graph::Retry;
use agentruntime_host_api::{RunId, StepError};
use std::time::Duration;

/// How long to wait before the next attempt; nothing where there is none.
///
/// `attempt` is the one that failed, `used` how many count against the policy, that one included.
pub(super) fn wait(
    retry: &Retry,
    run: RunId,
    path: &StepPath,
    attempt: u32,
    used: u32,
    error: &StepError,
) -> Option<Duration> {
    let wanted = retry.on.is_empty() || retry.on.contains(&error.code);
    if used >= retry.max_attempts || error.code.is_final() || !wanted {
        return None;
    }
    Some(bound(retry, used).mul_f64(draw(run, path, attempt)))
}

fn bound(retry: &Retry, used: u32) -> Duration {
    let growth = retry.factor.powi(i32::try_from(used.saturating_sub(1)).unwrap_or(i32::MAX));
    let seconds = (retry.initial.as_secs_f64() * growth).min(retry.max.as_secs_f64());
    Duration::try_from_secs_f64(seconds).unwrap_or(retry.max)
}

/// A number from 0 up to 1.
fn draw(run: RunId, path: &StepPath, attempt: u32) -> f64 {
    let (bits, _) = RunId::derived(run.as_uuid(), &format!("backoff/{path}/{attempt}")).as_uuid().as_u64_pair();
    // 32 bits are exact in a double, and a UUID's first 32 bits are all hash.
    (bits >> 32) as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentruntime_host_api::ErrorCode;

    fn retry() -> Retry {
        let (initial, max) = (Duration::from_secs(1), Duration::from_secs(60));
        Retry { max_attempts: 10, initial, factor: 2.0, max, on: Vec::new() }
    }

    #[test]
    fn the_bound_doubles_up_to_its_maximum() {
        let bounds: Vec<u64> = (1..=8).map(|used| bound(&retry(), used).as_secs()).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn the_wait_lies_within_the_bound_and_is_the_same_again() {
        let (run, path) = (RunId::new_v7(), StepPath::top(&"a".into()));
        let error = StepError::new(ErrorCode::LuaError, "no");
        for attempt in 1..9 {
            let first = wait(&retry(), run, &path, attempt, attempt, &error).unwrap();
            assert!(first <= bound(&retry(), attempt));
            assert_eq!(wait(&retry(), run, &path, attempt, attempt, &error), Some(first));
        }
        assert_eq!(wait(&retry(), run, &path, 10, 10, &error), None);
    }

    #[test]
    fn failures_that_cannot_pass_and_codes_not_named_are_final() {
        let (run, path) = (RunId::new_v7(), StepPath::top(&"a".into()));
        let denied = StepError::new(ErrorCode::CapabilityDenied, "no");
        assert_eq!(wait(&retry(), run, &path, 1, 1, &denied), None);
        let only_timeouts = Retry { on: vec![ErrorCode::StepTimeout], ..retry() };
        assert_eq!(wait(&only_timeouts, run, &path, 1, 1, &StepError::new(ErrorCode::LuaError, "no")), None);
        assert!(wait(&only_timeouts, run, &path, 1, 1, &StepError::new(ErrorCode::StepTimeout, "late")).is_some());
    }
}
