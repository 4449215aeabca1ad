//! The process that serves: listening, background work, and the orderly end.
//!
//! | file | owns |
//! |---|---|
//! | `certificate` | what clients will say of a certificate |
//! | `check` | trying what a start would do, and changing nothing |
//! | `connections` | how many connections there are, and how slow a client may be |
//! | `database` | waiting for the database at the start |
//! | `keys` | the master key fits the database, or nothing is started |
//! | `tls` | the certificate, and reading it again |
//! | `signals` | being told to end |
//! | `dev` | the first start of a developer's server |
//! | `retention` | removing runs that ended long ago |

mod certificate;
mod check;
mod connections;
mod database;
mod dev;
mod keys;
mod retention;
mod signals;
mod tls;

pub(crate) use check::{CheckError, check, check_files, external_vault, listen};
pub(crate) use database::open_store;
pub(crate) use dev::{FirstStart, PLACE, first_start, new_token};
pub(crate) use keys::open_keys;
pub(crate) use signals::Ending;

use crate::{api, app::App, triggers};
use agentruntime_engine::database::{Database, StoreError};
use axum_server::{Handle, accept::NoDelayAcceptor};
use connections::Counted;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};
use tls::{Certificate, CertificateError};

/// Streams that noticed the end get this long to say farewell when requests have no time at all.
const FAREWELL: Duration = Duration::from_millis(100);

/// The ports that the service has taken.
pub(crate) struct Listeners {
    /// For clients.
    pub(crate) api: TcpListener,
    /// For the metrics, where they have one of their own.
    pub(crate) metrics: Option<TcpListener>,
}

/// Why the service could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Connections cannot be accepted.
    #[error("connections cannot be accepted: {0}")]
    Listen(#[from] io::Error),
    /// The runs that it worked on could not be let go.
    #[error(
        "the service has ended, but what it knew last could not be written at {place}: {cause}. Nothing that was acknowledged is \
         lost, and its runs go on with the next start, or at another process within a minute; mend the cause there first"
    )]
    Unwritten {
        /// Where the database lies.
        place: String,
        /// Why not.
        cause: String,
    },
}

impl ServeError {
    /// A stable name for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "INVALID_SETTINGS",
            Self::Listen(_) => "CANNOT_LISTEN",
            Self::Unwritten { .. } => "NOT_ENDED_IN_ORDER",
        }
    }

    fn unwritten(database: &Database, error: &StoreError) -> Self {
        let cause = match error {
            StoreError::Outage(outage) => outage.cause.to_string(),
            error => error.to_string(),
        };
        Self::Unwritten { place: database.place().to_owned(), cause }
    }
}

/// Serves until the process is told to end, then lets what is under way finish and leaves everything in order.
pub(crate) async fn serve(app: Arc<App>, listeners: Listeners, ending: Ending) -> Result<(), ServeError> {
    let handle = Handle::new();
    let certificate = match &app.settings.tls {
        Some(files) => Some(Certificate::load(files, app.settings.public_url.host_str()).await?),
        None => None,
    };
    tracing::info!(listen = %app.settings.listen, public_url = %app.settings.public_url, "serving");
    tokio::spawn(end_when_told(app.clone(), handle.clone(), ending));
    let writing = app.clone();
    tokio::spawn(async move { writing.last_used.keep_written(writing.database(), &writing.draining).await });
    tokio::spawn(triggers::scheduler::run(app.clone()));
    tokio::spawn(retention::run(app.clone()));
    let metrics = listeners.metrics.map(|listener| tokio::spawn(serve_metrics(app.clone(), listener)));
    let served = accept(&app, listeners.api, handle, certificate.as_ref()).await;
    app.draining.cancel();
    app.last_used.write_or_log(app.database()).await;
    app.mail.finish().await;
    let let_go = app.node.stop().await;
    app.outside.end().await;
    app.store.close().await;
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    app.telling.end().await;
    served?;
    // Everything else has ended by now as it should.
    let_go.map_err(|error| ServeError::unwritten(app.database(), &error))?;
    tracing::info!("ended in order");
    Ok(())
}

async fn serve_metrics(app: Arc<App>, listener: TcpListener) {
    let served =
        async { axum_server::from_tcp(listener)?.serve(api::health::metrics_alone(app).into_make_service()).await };
    if let Err(error) = served.await {
        tracing::error!(%error, "the numbers are not served any more");
    }
}

async fn accept(
    app: &Arc<App>,
    listener: TcpListener,
    handle: Handle<SocketAddr>,
    certificate: Option<&Certificate>,
) -> io::Result<()> {
    let router = api::router(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let server = axum_server::from_tcp(listener)?.handle(handle);
    let mut server = server.first_request_timeout(app.settings.read_max);
    connections::limit(&mut server, app.settings.read_max);
    let counted = Counted::new(&app.settings);
    match certificate {
        Some(certificate) => {
            let server = server.map(|_| certificate.acceptor(NoDelayAcceptor::new()));
            server.map(|inner| counted.around(inner)).serve(router).await
        }
        None => server.map(|_| counted.around(NoDelayAcceptor::new())).serve(router).await,
    }
}

/// Waits until the process is told to end. Those who send requests here hear of it first, if there is time for that; then
/// nothing new is accepted. A second word ends everything at once.
async fn end_when_told(app: Arc<App>, handle: Handle<SocketAddr>, mut signals: Ending) {
    signals.told().await;
    app.ending.cancel();
    if !app.settings.drain_notice.is_zero() {
        tracing::info!(seconds = app.settings.drain_notice.as_secs(), "told to end: not ready any more, serving on");
        if tokio::time::timeout(app.settings.drain_notice, signals.told()).await.is_ok() {
            tracing::warn!("told again: ending at once");
            app.draining.cancel();
            return handle.shutdown();
        }
    }
    tracing::info!(seconds = app.settings.drain.as_secs(), "told to end: what is under way finishes");
    app.draining.cancel();
    handle.graceful_shutdown(Some(app.settings.drain.max(FAREWELL)));
    signals.told().await;
    tracing::warn!("told again: ending at once");
    handle.shutdown();
}
