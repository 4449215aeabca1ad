//! Whether the database can be used: noticed once, known to everybody, and looked after until it is over.
//!
//! While an outage lasts, nobody waits for what cannot come: a statement is refused at once, with the outage as its error. One
//! task tries the database every second and ends the outage by itself; it also tells the log, once and then rarely. Nothing is
//! believed to be out of reach because one connection broke or one statement is slow: that only makes the task look.

use super::{Database, Shared, dialect::Dialect, error::StoreError};
use sqlx::{AnyConnection, AssertSqlSafe, ConnectOptions, Connection, Executor};
use std::{
    fmt,
    fs::OpenOptions,
    future::Future,
    io::Write,
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// A statement that takes longer makes somebody look whether the database is there. It goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a database that is out of order is tried.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long one try may take: a database that needs longer to greet somebody serves nobody.
const PROBE_MAX: Duration = Duration::from_secs(2);
/// How often the log is told of an outage that lasts.
const REMIND_EVERY: Duration = Duration::from_secs(60);
/// The room that a folder has to have before writing goes on: where a single page fits, the next commit would fail again.
const ROOM_BYTES_MIN: usize = 1024 * 1024;
const ROOM: &str = "room.tmp";

/// A database cannot be used, or not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// What is not possible.
    pub kind: OutageKind,
    /// Why, as the database or the operating system says it.
    pub cause: Arc<str>,
    /// Where the database lies: for its operator, who has to make room there or to look after it, and for nobody outside.
    pub place: Arc<str>,
}

/// What an outage makes impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageKind {
    /// Everything: nobody answers.
    Unreachable,
    /// Writing: the disk is full or broken, or the server takes no writes.
    ReadOnly,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            OutageKind::Unreachable => write!(f, "the database at {} cannot be reached: {}", self.place, self.cause),
            OutageKind::ReadOnly => write!(f, "the database at {} takes no writes: {}", self.place, self.cause),
        }
    }
}

/// What a statement wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// What is known about the database, for everybody who has it open.
pub(super) struct Condition {
    /// Where the database lies, without a password.
    place: Arc<str>,
    outage: watch::Sender<Option<Outage>>,
    /// Whether the task that tries it is at work.
    probing: AtomicBool,
    /// Statements that were refused since the outage began.
    refused: AtomicU64,
    /// When the last time out of reach was over: connections from before are not used again.
    back_since: Mutex<Option<Instant>>,
}

impl Condition {
    pub(super) fn of(place: impl Into<Arc<str>>) -> Self {
        let (outage, _) = watch::channel(None);
        Self {
            place: place.into(),
            outage,
            probing: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            back_since: Mutex::new(None),
        }
    }

    fn outage(&self, kind: OutageKind, cause: impl Into<Arc<str>>) -> Outage {
        Outage { kind, cause: cause.into(), place: self.place.clone() }
    }

    fn refusal(&self, access: Access) -> Option<Outage> {
        let outage = self.outage.borrow();
        outage.as_ref().filter(|outage| access == Access::Write || outage.kind == OutageKind::Unreachable).cloned()
    }

    pub(super) fn is_unreachable(&self) -> bool {
        self.refusal(Access::Read).is_some()
    }

    /// Whether a connection of this age was made before the database was away the last time.
    pub(super) fn outlived(&self, age: Duration) -> bool {
        let back_since = *self.back_since.lock().unwrap_or_else(PoisonError::into_inner);
        back_since.is_some_and(|back| age > back.elapsed())
    }

    fn begins(&self, outage: &Outage) {
        let known = self.outage.send_replace(Some(outage.clone()));
        if known.is_none_or(|known| known.kind != outage.kind) {
            tracing::error!(place = %outage.place, cause = %outage.cause, "{}", told(outage.kind));
        }
    }

    fn ends(&self, since: Instant) {
        let Some(outage) = self.outage.send_replace(None) else { return };
        if outage.kind == OutageKind::Unreachable {
            *self.back_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        let refused = self.refused.swap(0, Ordering::Relaxed);
        let again = match outage.kind {
            OutageKind::Unreachable => "the database answers again",
            OutageKind::ReadOnly => "the database takes writes again",
        };
        tracing::info!(seconds = since.elapsed().as_secs(), refused, "{again}");
    }
}

fn told(kind: OutageKind) -> &'static str {
    match kind {
        OutageKind::Unreachable => {
            "the database cannot be reached; everything is refused until it can, and it is tried every second"
        }
        OutageKind::ReadOnly => {
            "the database takes no writes; what has to write is refused until it does, and it is tried every second"
        }
    }
}

impl Database {
    /// Why the database cannot be used now, or not be written.
    pub fn outage(&self) -> Option<Outage> {
        self.shared.condition.outage.borrow().clone()
    }

    /// Where it lies, as its operator is told: the folder, or the server, never the password.
    pub fn place(&self) -> &str {
        &self.shared.condition.place
    }

    /// Waits until nothing is known to be wrong.
    pub async fn in_order(&self) {
        let mut outage = self.shared.condition.outage.subscribe();
        // The sender lives as long as this database does.
        let _ = outage.wait_for(Option::is_none).await;
    }

    /// Does something with the database, unless it is known to be of no use; ends it early when that shows meanwhile.
    pub(crate) async fn guard<T>(
        &self,
        access: Access,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let condition = &self.shared.condition;
        if let Some(outage) = condition.refusal(access) {
            condition.refused.fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::Outage(outage));
        }
        // A file does not go out of reach.
        if !self.is_shared() {
            return work.await.map_err(|error| self.noted(error));
        }
        let mut changes = condition.outage.subscribe();
        let mut work = pin!(work);
        loop {
            let unreachable = async {
                let found = changes.wait_for(|outage| is_unreachable(outage.as_ref())).await;
                found.ok().and_then(|outage| outage.clone())
            };
            tokio::select! {
                biased;
                done = &mut work => return done.map_err(|error| self.noted(error)),
                Some(outage) = unreachable => {
                    condition.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(StoreError::Outage(outage));
                }
                () = sleep(PATIENCE) => self.shared.look(),
            }
        }
    }

    /// Learns from an error what is wrong with the database.
    fn noted(&self, error: StoreError) -> StoreError {
        let StoreError::Database(cause) = &error else { return error };
        match sign(self.dialect(), cause) {
            Some(OutageKind::ReadOnly) => {
                let outage = self.shared.condition.outage(OutageKind::ReadOnly, words(cause));
                self.shared.condition.begins(&outage);
                self.shared.look();
                StoreError::Outage(outage)
            }
            Some(OutageKind::Unreachable) => {
                self.shared.look();
                error
            }
            None => error,
        }
    }
}

fn is_unreachable(outage: Option<&Outage>) -> bool {
    outage.is_some_and(|outage| outage.kind == OutageKind::Unreachable)
}

impl Shared {
    /// Lets somebody find out how the database is, unless that is under way.
    fn look(self: &Arc<Self>) {
        if !self.condition.probing.swap(true, Ordering::SeqCst) {
            tokio::spawn(look_after(Arc::downgrade(self)));
        }
    }

    /// Tries what an outage made impossible; without one, whether anybody answers.
    async fn try_out(&self) -> Result<(), Outage> {
        if let Some(options) = &self.server {
            let reached = reach(options).await;
            reached.map_err(|cause| self.condition.outage(OutageKind::Unreachable, cause))?;
        }
        let is_written = self.condition.outage.borrow().as_ref().is_some_and(|it| it.kind == OutageKind::ReadOnly);
        if is_written {
            let written = timeout(PROBE_MAX, self.try_writing()).await;
            let failed = match written {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(cause)) => cause,
                Err(_) => "a write does not come to an end".into(),
            };
            return Err(self.condition.outage(OutageKind::ReadOnly, failed));
        }
        Ok(())
    }

    /// Writes something that changes nothing.
    async fn try_writing(&self) -> Result<(), String> {
        if let Some(folder) = self.folder.as_ref().map(|folder| folder.path.clone()) {
            let room = tokio::task::spawn_blocking(move || has_room(&folder)).await;
            room.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        }
        let Some(notes) = self.notes.get() else { return Ok(()) };
        let write = async {
            let mut transaction = self.writer.begin_with(self.texts.dialect.begin()).await?;
            let same = AssertSqlSafe(format!("UPDATE {notes} SET name = name WHERE version = 1"));
            transaction.execute(sqlx::raw_sql(same)).await?;
            transaction.commit().await
        };
        write.await.map_err(|error| words(&error))
    }
}

/// Tries the database until it is in order.
async fn look_after(database: Weak<Shared>) {
    let begun = Instant::now();
    let mut told_at = begun;
    loop {
        let Some(shared) = database.upgrade().filter(|shared| !shared.writer.is_closed()) else { return };
        let condition = &shared.condition;
        match shared.try_out().await {
            Ok(()) => {
                condition.ends(begun);
                condition.probing.store(false, Ordering::SeqCst);
                // What began at this moment found somebody looking, and rests on it.
                let is_more = condition.outage.borrow().is_some();
                if !is_more || condition.probing.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
            Err(outage) => {
                condition.begins(&outage);
                if told_at.elapsed() >= REMIND_EVERY {
                    told_at = Instant::now();
                    let (seconds, refused) = (begun.elapsed().as_secs(), condition.refused.load(Ordering::Relaxed));
                    let (place, cause) = (&outage.place, &outage.cause);
                    tracing::error!(%place, %cause, seconds, refused, "still: {}", told(outage.kind));
                }
            }
        }
        drop(shared);
        sleep(PROBE_EVERY).await;
    }
}

/// Whether a server greets somebody; who is told that he may not come in was greeted.
async fn reach(server: &sqlx::any::AnyConnectOptions) -> Result<(), Arc<str>> {
    let greeted = async {
        let mut connection: AnyConnection = server.connect().await?;
        connection.ping().await?;
        connection.close().await
    };
    match timeout(PROBE_MAX, greeted).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if sign(Dialect::Postgres, &error) == Some(OutageKind::Unreachable) => Err(words(&error).into()),
        Ok(Err(_)) => Ok(()),
        Err(_) => Err(format!("no answer within {} s", PROBE_MAX.as_secs()).into()),
    }
}

/// Connects once, to know the cause where that fails: a pool would try for long, and then say only that it did.
pub(super) async fn greet(server: &sqlx::any::AnyConnectOptions, place: &str) -> Result<(), StoreError> {
    let greeted = async { server.connect().await?.close().await };
    let failed = |cause: String, is_passing: bool| StoreError::Connect { place: place.to_owned(), cause, is_passing };
    match timeout(PROBE_MAX, greeted).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(words(&error), sign(Dialect::Postgres, &error) == Some(OutageKind::Unreachable))),
        Err(_) => Err(failed(format!("no answer within {} s", PROBE_MAX.as_secs()), true)),
    }
}

fn has_room(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(ROOM);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .and_then(|mut file| file.write_all(&vec![0; ROOM_BYTES_MIN]).and_then(|()| file.sync_all()));
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// What an error is a sign of.
pub(super) fn sign(dialect: Dialect, error: &sqlx::Error) -> Option<OutageKind> {
    match error {
        sqlx::Error::Database(error) => sign_of_code(dialect, &error.code()?),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => {
            (dialect == Dialect::Postgres).then_some(OutageKind::Unreachable)
        }
        _ => None,
    }
}

fn sign_of_code(dialect: Dialect, code: &str) -> Option<OutageKind> {
    /// READONLY, IOERR, FULL and CANTOPEN, whatever stands in the higher bits.
    const SQLITE: [u32; 4] = [8, 10, 13, 14];
    match dialect {
        Dialect::Sqlite => {
            let primary = code.parse::<u32>().ok()? & 0xff;
            SQLITE.contains(&primary).then_some(OutageKind::ReadOnly)
        }
        Dialect::Postgres => match code {
            // Shutting down, crashed, starting up.
            "57P01" | "57P02" | "57P03" => Some(OutageKind::Unreachable),
            // The disk is full or broken; the server or the session takes no writes, as a standby.
            "53100" | "58030" | "25006" => Some(OutageKind::ReadOnly),
            connection if connection.starts_with("08") => Some(OutageKind::Unreachable),
            _ => None,
        },
    }
}

/// What the database or the operating system says, without sqlx's words around it.
fn words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_database_says_is_a_sign_or_none() {
        use OutageKind::{ReadOnly, Unreachable};
        let sqlite = |code| sign_of_code(Dialect::Sqlite, code);
        // Full, a failed write (an extended code), busy, a constraint.
        assert_eq!(
            [sqlite("13"), sqlite("778"), sqlite("5"), sqlite("19")],
            [Some(ReadOnly), Some(ReadOnly), None, None]
        );
        let postgres = |code| sign_of_code(Dialect::Postgres, code);
        assert_eq!([postgres("53100"), postgres("25006")], [Some(ReadOnly); 2]);
        assert_eq!([postgres("57P01"), postgres("08006")], [Some(Unreachable); 2]);
        // Too many connections, a wrong password, a deadlock: it is there.
        assert_eq!([postgres("53300"), postgres("28P01"), postgres("40P01")], [None; 3]);
        let timed_out = sqlx::Error::PoolTimedOut;
        assert_eq!(sign(Dialect::Postgres, &timed_out), Some(Unreachable));
        assert_eq!(sign(Dialect::Sqlite, &timed_out), None);
    }

    #[test]
    fn only_connections_from_before_an_outage_are_too_old() {
        let condition = Condition::of("host db");
        assert!(!condition.outlived(Duration::from_secs(3_600)));
        condition.begins(&condition.outage(OutageKind::Unreachable, "gone"));
        condition.ends(Instant::now());
        assert!(condition.outlived(Duration::from_secs(3_600)));
        assert!(!condition.outlived(Duration::ZERO));
    }
}
