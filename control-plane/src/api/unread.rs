//! Bodies that nobody read: a request that is refused by its head alone leaves its body on the connection, in front of the next
//! request. HTTP/1 knows two ways on: to take the rest off, or to close. A connection that closes says so in its answer, or a
//! client that keeps it for the next request meets the end of it there.

use axum::{
    body::{BodyDataStream, Bytes, HttpBody},
    extract::Request,
    http::{HeaderValue, Version, header},
    middleware::Next,
    response::Response,
};
use futures_util::{Stream, StreamExt};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::timeout;

/// What is taken off a connection that it may go on: the usual body, which came with its head or right behind it. Of more it is
/// cheaper to connect anew.
const TAKEN_OFF_BYTES_MAX: usize = 64 * 1024;
/// How long that is waited for: the answer waits meanwhile.
const TAKEN_OFF: Duration = Duration::from_millis(100);

/// Takes what is left of a body off the connection, or says that the connection closes.
pub(super) async fn take_off(request: Request, next: Next) -> Response {
    // Streams of HTTP/2 are ended one by one. Who asks before sending a body has not sent it.
    if request.body().is_end_stream() || request.version() >= Version::HTTP_2 {
        return next.run(request).await;
    }
    let is_asked_for = request.headers().contains_key(header::EXPECT);
    let left = Left::default();
    let kept = |body: axum::body::Body| {
        axum::body::Body::from_stream(Kept { chunks: Some(body.into_data_stream()), left: left.clone() })
    };
    let mut response = next.run(request.map(kept)).await;
    let is_clear = match left.take() {
        None => true,
        Some(_) if is_asked_for => false,
        Some(chunks) => matches!(timeout(TAKEN_OFF, ends(chunks)).await, Ok(true)),
    };
    if !is_clear {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads to the end, where that is near.
async fn ends(mut chunks: BodyDataStream) -> bool {
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else { return false };
        bytes += chunk.len();
        if bytes > TAKEN_OFF_BYTES_MAX {
            return false;
        }
    }
    true
}

/// What a request left of its body.
#[derive(Clone, Default)]
struct Left(Arc<Mutex<Option<BodyDataStream>>>);

impl Left {
    fn take(&self) -> Option<BodyDataStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body that is given back where it was not read to its end.
struct Kept {
    chunks: Option<BodyDataStream>,
    left: Left,
}

impl Stream for Kept {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(chunks) = self.chunks.as_mut() else { return Poll::Ready(None) };
        let chunk = ready!(chunks.poll_next_unpin(cx));
        // Whoever knows the length does not ask for the end.
        let is_over = chunk.is_none() || matches!(&chunk, Some(Ok(_)) if chunks.is_end_stream());
        if is_over {
            self.chunks = None;
        }
        Poll::Ready(chunk)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(chunks) = self.chunks.take() {
            *self.left.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(chunks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use futures_util::stream;

    async fn ends_with(chunks: Vec<Result<Vec<u8>, std::io::Error>>) -> bool {
        ends(Body::from_stream(stream::iter(chunks)).into_data_stream()).await
    }

    #[tokio::test]
    async fn what_is_short_and_whole_is_taken_off() {
        assert!(ends_with(vec![Ok(vec![0; TAKEN_OFF_BYTES_MAX - 1]), Ok(vec![0])]).await);
        assert!(!ends_with(vec![Ok(vec![0; TAKEN_OFF_BYTES_MAX]), Ok(vec![0])]).await);
        let broken = || Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(!ends_with(vec![Ok(vec![0]), broken()]).await, "a body that breaks off has no end");
    }
}
