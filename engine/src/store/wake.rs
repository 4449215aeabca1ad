//! News: that something became claimable, or that a run was sent a signal.
//!
//! News carries nothing. Whoever hears it looks into the database, so that news lost, repeated or late does no harm; nodes
//! poll besides. Within the process it is a counter that is watched. Between processes it is PostgreSQL's `NOTIFY`, sent
//! after the commit and at most once in [`NOTIFY_EVERY`]: inside the transaction it would make all commits of the database
//! wait for each other.

use crate::database::StoreError;
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use std::time::Duration;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// The pause after each notification, in which further news gathers.
const NOTIFY_EVERY: Duration = Duration::from_millis(5);
/// The pause before a lost connection is tried again.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// How long one attempt to notify may take.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);
/// One that listens, and one that notifies.
const CONNECTIONS_MAX: u32 = 2;
const CHANNEL: &str = "agentruntime_news";

pub(crate) struct Wake {
    /// News from anywhere.
    heard: watch::Sender<u64>,
    /// News from this process.
    made: watch::Sender<u64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Wake {
    /// News within this process only.
    pub(crate) fn local() -> Self {
        Self { heard: watch::Sender::new(0), made: watch::Sender::new(0), tasks: Vec::new() }
    }

    /// News from all processes on the same PostgreSQL database.
    pub(crate) async fn shared(url: &str) -> Result<Self, StoreError> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).connect(url).await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        listener.listen(CHANNEL).await?;
        let mut wake = Self::local();
        wake.tasks.push(tokio::spawn(listen(listener, wake.heard.clone())));
        wake.tasks.push(tokio::spawn(notify(pool, wake.made.subscribe())));
        Ok(wake)
    }

    pub(crate) fn news(&self) {
        self.heard.send_modify(|count| *count += 1);
        self.made.send_modify(|count| *count += 1);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.heard.subscribe()
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn listen(mut listener: PgListener, heard: watch::Sender<u64>) {
    let mut is_lost = false;
    loop {
        // No notification means that the connection was lost and is there again: what was sent meanwhile is unknown,
        // which is news.
        match listener.try_recv().await {
            Ok(_) => is_lost = false,
            Err(error) => {
                if !std::mem::replace(&mut is_lost, true) {
                    tracing::warn!(%error, "lost the connection that listens for news; nodes poll until it is back");
                }
                sleep(RECONNECT_AFTER).await;
            }
        }
        heard.send_modify(|count| *count += 1);
    }
}

async fn notify(pool: PgPool, mut made: watch::Receiver<u64>) {
    let sql = format!("NOTIFY {CHANNEL}");
    let mut is_lost = false;
    while made.changed().await.is_ok() {
        let sent = timeout(NOTIFY_TIMEOUT, sqlx::raw_sql(sqlx::AssertSqlSafe(sql.as_str())).execute(&pool)).await;
        let fails = !matches!(sent, Ok(Ok(_)));
        if fails && !is_lost {
            tracing::warn!("could not notify other nodes of news; they find it by polling");
        }
        is_lost = fails;
        sleep(NOTIFY_EVERY).await;
    }
}

impl super::Store {
    /// A counter that grows when a run became claimable or was sent a signal, here or (on PostgreSQL) in another process;
    /// now and then also when nothing did.
    pub fn woken(&self) -> watch::Receiver<u64> {
        self.shared.wake.subscribe()
    }
}
