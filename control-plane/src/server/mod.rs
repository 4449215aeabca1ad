//! The process that serves: listening, background work, and the orderly end.

mod dev;

pub(crate) use dev::{PLACE, first_start};

use crate::{api, app::App};
use axum_server::Handle;
use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

/// How long requests under way may take after the service was told to end.
const DRAIN: Duration = Duration::from_secs(30);

/// Takes the address, before anything that rests on it: links and the origin of browsers name its port.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the process is told to end, then lets what is under way finish. `listening` is told the address once
/// connections are accepted.
pub(crate) async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    listening: impl FnOnce(SocketAddr) + Send + 'static,
) -> std::io::Result<()> {
    let handle = Handle::new();
    let router = api::router(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let server = axum_server::from_tcp(listener)?.handle(handle.clone()).serve(router);
    let (draining, mail) = (app.draining.clone(), app.mail.clone());
    let watched = handle.clone();
    tokio::spawn(async move {
        if let Some(address) = watched.listening().await {
            listening(address);
        }
        told_to_end().await;
        draining.cancel();
        watched.graceful_shutdown(Some(DRAIN));
    });
    server.await?;
    mail.finish().await;
    Ok(())
}

/// Waits for SIGTERM or SIGINT.
async fn told_to_end() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    // Where signals cannot be heard, the process ends without a farewell.
    let _ = interrupted.await;
}
