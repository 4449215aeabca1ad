//! How slowly a body may come: a client that sends a byte now and then would hold a connection, and what a request takes,
//! for as long as it likes.

use super::{State, problem::Problem};
use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody},
    extract::{Request, State as Given},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// What came earns time for the rest: a second for each so many bytes. Slower lines are not worked at, and a body of the
/// largest size may still take two minutes more than an empty one.
const BODY_BYTES_PER_SECOND_MIN: u64 = 8 * 1024;

/// Lets a body come as long as it comes fast enough. Where it does not, whatever was made of what came is not the answer.
pub(super) async fn limit(Given(app): Given<State>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let is_too_slow = Arc::new(AtomicBool::new(false));
    let base = app.settings.read_max;
    let timed = |body: Body| Reading::of(body, base, is_too_slow.clone()).into_body();
    let response = next.run(request.map(timed)).await;
    if is_too_slow.load(Ordering::Relaxed) { too_slow() } else { response }
}

fn too_slow() -> Response {
    let error = "the body came too slowly, and was not waited for any longer; send it again, at once";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "BODY_TOO_SLOW", error).into_response()
}

/// A body that is being read.
struct Reading {
    chunks: BodyDataStream,
    begun: Instant,
    /// How long it may take beyond what its size earns.
    base: Duration,
    bytes: u64,
    is_too_slow: Arc<AtomicBool>,
}

/// What a body ends with that did not come in time. Nobody sees it: the answer is another.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
struct TooSlow;

impl Reading {
    fn of(body: Body, base: Duration, is_too_slow: Arc<AtomicBool>) -> Self {
        Self { chunks: body.into_data_stream(), begun: Instant::now(), base, bytes: 0, is_too_slow }
    }

    fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, |mut reading| async {
            reading.next().await.map(|chunk| (chunk, reading))
        }))
    }

    async fn next(&mut self) -> Option<Result<Bytes, axum::BoxError>> {
        match timeout_at(self.begun + may_take(self.base, self.bytes), self.chunks.next()).await {
            Ok(Some(Ok(chunk))) => {
                self.bytes += chunk.len() as u64;
                Some(Ok(chunk))
            }
            Ok(Some(Err(error))) => Some(Err(error.into())),
            Ok(None) => None,
            Err(_elapsed) => {
                self.is_too_slow.store(true, Ordering::Relaxed);
                Some(Err(TooSlow.into()))
            }
        }
    }
}

/// How long a body may take of which so much has come.
fn may_take(base: Duration, bytes: u64) -> Duration {
    base + Duration::from_secs(bytes / BODY_BYTES_PER_SECOND_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_earns_time_for_the_rest() {
        let seconds = |bytes| may_take(Duration::from_secs(20), bytes).as_secs();
        assert_eq!([0, 8_191, 8_192, 16_383, 16_384].map(seconds), [20, 20, 21, 21, 22]);
        assert_eq!(seconds(1_024 * 1_024), 148);
    }

    #[tokio::test]
    async fn a_body_is_read_until_its_time_is_over() {
        let is_too_slow = Arc::new(AtomicBool::new(false));
        let begun = stream::iter([Ok::<_, std::io::Error>("be"), Ok("gun")]).chain(stream::pending());
        // The time is over as soon as nothing is there to be read.
        let body = Reading::of(Body::from_stream(begun), Duration::ZERO, is_too_slow.clone()).into_body();
        let chunks: Vec<_> = body.into_data_stream().map(|chunk| chunk.ok()).take(3).collect().await;
        assert_eq!(chunks, [Some("be".into()), Some("gun".into()), None]);
        assert!(is_too_slow.load(Ordering::Relaxed));
    }
}
