//! How many connections there are, and how slow a client may be.

use axum_server::{Server, accept::Accept};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// The head of a request arrives within this time, or the client is one that only wants to hold a connection.
const HEAD_READ_MAX: Duration = Duration::from_secs(15);
/// The names of all our headers and many more; hyper answers 431 beyond it.
const HEADERS_MAX: usize = 100;
/// Line and headers of a request: a cookie, a token and a long path are a few kilobytes. hyper answers 431 beyond it.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Requests at once within one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 200;
/// Streams that a client opens and resets before they count as an attack on the server.
const HTTP2_RESETS_MAX: usize = 20;
/// An HTTP/2 connection on which nothing happens is asked whether anybody is there.
const HTTP2_PING: Duration = Duration::from_secs(30);

/// Sets the limits of each connection.
pub(super) fn limit<A>(server: &mut Server<SocketAddr, A>) {
    let builder = server.http_builder();
    builder.http1().header_read_timeout(HEAD_READ_MAX).max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
    let head = u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX);
    builder
        .http2()
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(head)
        .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HEAD_READ_MAX);
}

/// The first request of a connection begins within this time.
pub(super) const FIRST_REQUEST_MAX: Duration = HEAD_READ_MAX;

/// Counts connections.
#[derive(Clone)]
pub(super) struct Counted {
    free: Arc<Semaphore>,
}

impl Counted {
    /// So many at once.
    pub(super) fn new(connections_max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS))) }
    }

    /// An acceptor that accepts no more than these.
    pub(super) fn around<A>(&self, inner: A) -> CountedAcceptor<A> {
        CountedAcceptor { counted: self.clone(), inner }
    }
}

/// Accepts a connection if there is room for it, and closes it at once where there is not: a client that is told nothing
/// tries another server sooner.
#[derive(Clone)]
pub(super) struct CountedAcceptor<A> {
    counted: Counted,
    inner: A,
}

impl<A, S> Accept<TcpStream, S> for CountedAcceptor<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: Send,
    A::Service: Send,
{
    type Stream = Held<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(permit) = self.counted.free.clone().try_acquire_owned() else {
            tracing::warn!("a connection was refused: there are as many as `connections_max` allows");
            return Box::pin(async { Err(io::Error::other("too many connections")) });
        };
        let accepted = self.inner.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            Ok((Held { stream, _permit: permit }, service))
        })
    }
}

/// A connection that counts as long as it is open.
pub(super) struct Held<S> {
    stream: S,
    _permit: OwnedSemaphorePermit,
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
