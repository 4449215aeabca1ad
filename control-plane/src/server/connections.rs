//! How many connections there are, and how slow a client may be.

use crate::{access::attempts::network, api::request::is_trusted, settings::Settings};
use axum_server::{Server, accept::Accept};
use ipnet::IpNet;
use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Sleep},
};

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
/// Whoever is there answers that within this time.
const HTTP2_PONG_MAX: Duration = Duration::from_secs(15);

/// Sets the limits of each connection. A head that takes longer than `read_max` is not waited for.
pub(super) fn limit<A>(server: &mut Server<SocketAddr, A>, read_max: Duration) {
    let builder = server.http_builder();
    builder.http1().header_read_timeout(read_max).max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
    let head = u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX);
    builder
        .http2()
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(head)
        .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PONG_MAX);
}

/// Counts connections.
#[derive(Clone)]
pub(super) struct Counted {
    free: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    /// How long a client may take nothing of what is sent to it.
    write_max: Duration,
}

/// The connections of each address.
struct Addresses {
    /// So many at once; any number where there is none.
    max: Option<NonZeroUsize>,
    /// All clients come from their addresses, so that these are not limited.
    proxies: Vec<IpNet>,
    open: Mutex<HashMap<IpAddr, Open>>,
}

/// The connections of one address: there is no entry where there are none.
#[derive(Default)]
struct Open {
    connections: usize,
    /// The log tells once that an address is at its limit, and again when it had no connections in between.
    is_told: bool,
}

impl Counted {
    /// As many as the settings say.
    pub(super) fn new(settings: &Settings) -> Self {
        let addresses = Addresses {
            max: settings.connections_per_address_max,
            proxies: settings.trusted_proxies.clone(),
            open: Mutex::default(),
        };
        let free = Semaphore::new(settings.connections_max.min(Semaphore::MAX_PERMITS));
        Self { free: Arc::new(free), addresses: Arc::new(addresses), write_max: settings.read_max }
    }

    /// An acceptor that accepts no more than these.
    pub(super) fn around<A>(&self, inner: A) -> CountedAcceptor<A> {
        CountedAcceptor { counted: self.clone(), inner }
    }

    fn admit(&self, peer: IpAddr) -> Option<Place> {
        // An address at its limit takes no place of the others, not even for a moment.
        let of_address = Addresses::admit(&self.addresses, peer)?;
        let Ok(of_all) = self.free.clone().try_acquire_owned() else {
            tracing::warn!("a connection was refused: there are as many as `connections_max` allows");
            return None;
        };
        Some(Place { _of_address: of_address, _of_all: of_all })
    }
}

impl Addresses {
    fn admit(this: &Arc<Self>, peer: IpAddr) -> Option<OfAddress> {
        let Some(max) = this.max.filter(|_| !is_trusted(peer, &this.proxies)) else {
            return Some(OfAddress { counted: None });
        };
        let address = network(peer);
        let mut all = this.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = all.entry(address).or_default();
        if open.connections < max.get() {
            open.connections += 1;
            return Some(OfAddress { counted: Some((this.clone(), address)) });
        }
        if !open.is_told {
            tracing::warn!(%address, "connections are refused: this address has as many as `connections_per_address_max` allows");
            open.is_told = true;
        }
        None
    }

    fn leave(&self, address: IpAddr) {
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = all.entry(address) {
            entry.get_mut().connections -= 1;
            if entry.get().connections == 0 {
                entry.remove();
            }
        }
    }
}

/// The place of one connection, which is free again when this is dropped.
struct Place {
    _of_address: OfAddress,
    _of_all: OwnedSemaphorePermit,
}

/// What a connection takes of its address's share, where that has a limit.
struct OfAddress {
    counted: Option<(Arc<Addresses>, IpAddr)>,
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        if let Some((addresses, address)) = &self.counted {
            addresses.leave(*address);
        }
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
        // Who is gone already has no address any more.
        let place = stream.peer_addr().ok().and_then(|peer| self.counted.admit(peer.ip()));
        let Some(place) = place else {
            return Box::pin(async { Err(io::Error::other("too many connections")) });
        };
        let (accepted, write_max) = (self.inner.accept(stream, service), self.counted.write_max);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            Ok((Held { stream, write_max, stalled: None, _place: place }, service))
        })
    }
}

/// A connection that counts as long as it is open, and ends where its client takes nothing for too long: what is to be sent
/// lies in memory meanwhile.
pub(super) struct Held<S> {
    stream: S,
    write_max: Duration,
    /// Runs while something is to be sent that the client does not take.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl<S> Held<S> {
    /// What came of a try to send, unless the client has taken nothing for too long.
    fn sent<T>(&mut self, cx: &mut Context<'_>, tried: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            self.stalled = None;
            return tried;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(time::sleep(self.write_max)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.sent(cx, tried)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.sent(cx, tried)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.stream).poll_flush(cx);
        self.sent(cx, tried)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(max: usize) -> Arc<Addresses> {
        let proxies = vec!["10.0.0.0/8".parse().unwrap()];
        Arc::new(Addresses { max: NonZeroUsize::new(max), proxies, open: Mutex::default() })
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_for_too_long_is_let_go() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (near, mut far) = tokio::io::duplex(8);
        let write_max = Duration::from_millis(50);
        let counted = Counted { free: Arc::new(Semaphore::new(1)), addresses: addresses(1), write_max };
        let place = counted.admit("127.0.0.1".parse().unwrap()).unwrap();
        let mut held = Held { stream: near, write_max, stalled: None, _place: place };
        let sent = tokio::spawn(async move { held.write_all(&[0; 24]).await });
        // It takes a part, and then nothing more.
        far.read_exact(&mut [0; 8]).await.unwrap();
        assert_eq!(sent.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    fn admit(addresses: &Arc<Addresses>, peer: &str) -> Option<OfAddress> {
        Addresses::admit(addresses, peer.parse().unwrap())
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let addresses = addresses(2);
        let (first, _second) = (admit(&addresses, "9.9.9.9").unwrap(), admit(&addresses, "::ffff:9.9.9.9").unwrap());
        assert!(admit(&addresses, "9.9.9.9").is_none());
        assert!(admit(&addresses, "9.9.9.8").is_some(), "another address");
        drop(first);
        assert!(admit(&addresses, "9.9.9.9").is_some());
        let _one = (admit(&addresses, "2001:db8::1").unwrap(), admit(&addresses, "2001:db8::2").unwrap());
        assert!(admit(&addresses, "2001:db8::3").is_none(), "the same subscriber");
        assert!(admit(&addresses, "2001:db8:0:1::3").is_some(), "another subscriber");
    }

    #[test]
    fn nothing_is_kept_of_an_address_without_connections() {
        let addresses = addresses(1);
        let only = admit(&addresses, "9.9.9.9");
        assert!(admit(&addresses, "9.9.9.9").is_none());
        drop(only);
        assert!(addresses.open.lock().unwrap().is_empty());
    }

    #[test]
    fn proxies_are_exempt_and_so_is_everybody_where_there_is_no_limit() {
        let (some, none) = (addresses(1), addresses(0));
        let through_a_proxy: Vec<_> = (0..3).map(|_| admit(&some, "::ffff:10.1.2.3")).collect();
        let unlimited: Vec<_> = (0..3).map(|_| admit(&none, "9.9.9.9")).collect();
        assert!(through_a_proxy.iter().chain(&unlimited).all(Option::is_some));
    }
}
