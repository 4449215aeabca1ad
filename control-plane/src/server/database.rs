//! The database at the start: a service waits for one that is not there yet, and says what it waits for.

use agentruntime_engine::store::{Location, Store, StoreError, SystemClock};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a service waits for its database at the start: machines that are started together take a minute or so, and who
/// supervises the process should learn of an error that stays.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// How often it is tried, and told.
const TRY_EVERY: Duration = Duration::from_secs(3);

/// Opens the store of a service.
pub(crate) async fn open_store(location: &Location) -> Result<Store, StoreError> {
    patiently(WAIT_MAX, TRY_EVERY, async || Store::open(location, Arc::new(SystemClock)).await).await
}

/// Tries until it succeeds, fails for good, or the time is over.
async fn patiently<T>(
    wait: Duration,
    every: Duration,
    open: impl AsyncFn() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let begun = Instant::now();
    loop {
        let error = match open().await {
            Err(error @ StoreError::Connect { is_passing: true, .. }) => error,
            opened => return opened,
        };
        let left = wait.saturating_sub(begun.elapsed());
        if left < every {
            return Err(error);
        }
        tracing::warn!(seconds_left = left.as_secs(), "{error}; trying again");
        tokio::time::sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn refused(is_passing: bool) -> StoreError {
        StoreError::Connect { place: "host db".into(), cause: "refused".into(), is_passing }
    }

    async fn tries(wait: Duration, succeeds_at: u32, is_passing: bool) -> (bool, u32) {
        let tries = AtomicU32::new(0);
        let open = async || match tries.fetch_add(1, Ordering::Relaxed) + 1 >= succeeds_at {
            true => Ok(()),
            false => Err(refused(is_passing)),
        };
        let opened = patiently(wait, Duration::from_millis(1), open).await;
        (opened.is_ok(), tries.into_inner())
    }

    #[tokio::test]
    async fn a_database_is_waited_for_until_it_is_there_or_the_time_is_over() {
        let long = Duration::from_secs(3_600);
        assert_eq!(tries(long, 1, true).await, (true, 1));
        assert_eq!(tries(long, 4, true).await, (true, 4));
        assert_eq!(tries(Duration::ZERO, 2, true).await, (false, 1));
        let (opened, tried) = tries(Duration::from_millis(20), u32::MAX, true).await;
        assert!(!opened && tried > 1, "{tried}");
    }

    #[tokio::test]
    async fn what_does_not_pass_is_not_waited_for() {
        assert_eq!(tries(Duration::from_secs(3_600), 2, false).await, (false, 1));
    }
}
