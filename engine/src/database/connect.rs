//! Opening a database: where it lies, and the pools of connections.

use super::{
    Clock, Database, Shared,
    dialect::Dialect,
    error::StoreError,
    folder,
    outage::{self, Condition},
    statement::Texts,
};
use sqlx::{
    AnyConnection, AnyPool, ConnectOptions, Connection, Executor,
    any::{AnyConnectOptions, AnyPoolOptions},
    postgres::PgConnectOptions,
};
use std::{
    fmt::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// Readers beside SQLite's one writer; more than a few only wait for each other's processor.
const SQLITE_READERS_MAX: u32 = 4;
/// Connections of one process to PostgreSQL. The group commit needs one at a time; the rest serve readers and callers.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// How long somebody may wait for a connection to PostgreSQL while all are taken; longer than any statement of ours takes.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);
/// A connection that does not answer within this time is not used again.
const PING_MAX: Duration = Duration::from_secs(2);
/// A connection unused for longer is asked whether it is alive before it is used.
const TRUST_IDLE: Duration = Duration::from_secs(5);

/// What a connection that only reads is told first.
pub(super) const SQLITE_READER: &str = "PRAGMA query_only = ON; PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY";

/// Where a database lies.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A data folder, with an embedded SQLite in it.
    Sqlite(PathBuf),
    /// The URL of a PostgreSQL database.
    Postgres(String),
}

impl FromStr for Location {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        match text.split_once("://") {
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            None if !text.is_empty() => Ok(Self::Sqlite(text.into())),
            Some(_) | None => Err(StoreError::Location(text.to_owned())),
        }
    }
}

impl fmt::Display for Location {
    /// The folder, or the URL without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(folder) => folder.display().fmt(f),
            Self::Postgres(url) => {
                let rest = url.split_once("://").map_or("", |(_, rest)| rest);
                let place = rest.split('?').next().unwrap_or_default();
                // A password may stand before an `@` or in the query; where the two cannot be told apart, nothing is shown.
                match (rest.rfind('@'), place.rfind('@')) {
                    (None, None) => write!(f, "postgres://{place}"),
                    (last, Some(at)) if last == Some(at) => write!(f, "postgres://{}", &place[at + 1..]),
                    _ => f.write_str("postgres://…"),
                }
            }
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl Database {
    /// Opens the database, and makes an empty one where a folder has none.
    pub async fn open(location: &Location, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        match location {
            Location::Sqlite(folder) => Self::open_sqlite(folder, clock).await,
            Location::Postgres(url) => Self::open_postgres(url, clock).await,
        }
    }

    async fn open_sqlite(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let folder =
            std::path::absolute(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        let (lock, file) = folder::open(&folder)?;
        let options = connect_options(&sqlite_url(&file)?)?;
        let writer = sqlite_pool(1, Dialect::Sqlite.setup()).connect_with(options.clone()).await?;
        let reader = sqlite_pool(SQLITE_READERS_MAX, SQLITE_READER).connect_with(options).await?;
        let condition = Arc::new(Condition::of(folder.display().to_string()));
        Ok(Self::of(Dialect::Sqlite, clock, [writer, reader], condition, None, Some(lock)))
    }

    pub(super) async fn open_postgres(url: &str, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let options = connect_options(url)?;
        let place = place(url)?;
        outage::greet(&options, &place).await?;
        let condition = Arc::new(Condition::of(place));
        let (before, after) = (condition.clone(), condition.clone());
        let pool = AnyPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_MAX)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(sqlx::raw_sql(Dialect::Postgres.setup())).await.map(drop) })
            })
            .test_before_acquire(false)
            .before_acquire(move |connection, metadata| {
                let is_old = before.outlived(metadata.age);
                Box::pin(async move {
                    let is_trusted = !is_old && metadata.idle_for < TRUST_IDLE;
                    Ok(is_trusted || !is_old && answers(connection).await)
                })
            })
            // What was given up in the middle is not waited for where nobody answers.
            .after_release(move |_, metadata| {
                let is_kept = !after.is_unreachable() && !after.outlived(metadata.age);
                Box::pin(async move { Ok(is_kept) })
            })
            .connect_with(options.clone())
            .await?;
        Ok(Self::of(Dialect::Postgres, clock, [pool.clone(), pool], condition, Some(options), None))
    }

    pub(super) fn of(
        dialect: Dialect,
        clock: Arc<dyn Clock>,
        [writer, reader]: [AnyPool; 2],
        condition: Arc<Condition>,
        server: Option<AnyConnectOptions>,
        folder: Option<folder::FolderLock>,
    ) -> Self {
        let (texts, notes) = (Texts::new(dialect), OnceLock::new());
        Self { shared: Arc::new(Shared { texts, clock, writer, reader, condition, server, notes, folder }) }
    }
}

async fn answers(connection: &mut AnyConnection) -> bool {
    matches!(tokio::time::timeout(PING_MAX, AnyConnection::ping(connection)).await, Ok(Ok(())))
}

/// Where a server is, and as whom it is asked; never the password.
fn place(url: &str) -> Result<String, StoreError> {
    let options = url.parse::<PgConnectOptions>()?;
    let server = match options.get_socket() {
        Some(socket) => format!("socket {}", socket.display()),
        None => format!("host {}", options.get_host()),
    };
    let (port, user) = (options.get_port(), options.get_username());
    let database = options.get_database().unwrap_or(user);
    Ok(format!("{server}, port {port}, database {database}, user {user}"))
}

pub(super) fn connect_options(url: &str) -> Result<AnyConnectOptions, StoreError> {
    // Logging each statement costs more than some of them do; slow ones show in the commit's own timing.
    Ok(url.parse::<AnyConnectOptions>()?.disable_statement_logging())
}

pub(super) fn sqlite_pool(connections: u32, setup: &'static str) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .min_connections(1)
        .max_connections(connections)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
        // A transaction that SQLite ended by itself, as on a full disk, the connection still takes for open. A fresh
        // connection does not.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(sqlx::raw_sql(setup)).await.map(drop) })
        })
}

/// The path as a URL: whatever a path may hold, a URL may not, so that all but the plainest bytes are encoded.
pub(super) fn sqlite_url(file: &Path) -> Result<String, StoreError> {
    let path = file.to_str().ok_or_else(|| StoreError::Location(file.display().to_string()))?;
    let mut url = String::from("sqlite://");
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => url.push(char::from(byte)),
            // Writing to a string cannot fail.
            other => drop(write!(url, "%{other:02X}")),
        }
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_folder_or_a_postgres_url() {
        assert_eq!("data/x".parse::<Location>().unwrap(), Location::Sqlite("data/x".into()));
        let url = "postgresql://me:secret@db:5432/runs?password=secret";
        assert_eq!(url.parse::<Location>().unwrap(), Location::Postgres(url.into()));
        assert!(matches!("mysql://db/x".parse::<Location>(), Err(StoreError::Location(_))));
        assert!(matches!("".parse::<Location>(), Err(StoreError::Location(_))));
    }

    #[test]
    fn a_printed_location_keeps_its_password() {
        let shown = |url: &str| format!("{:?}", url.parse::<Location>().unwrap());
        assert_eq!(shown("postgres://me:secret@db:5432/runs?password=secret"), "Location(postgres://db:5432/runs)");
        assert_eq!(shown("postgres://me:s/cr@et@db/runs"), "Location(postgres://db/runs)");
        assert_eq!(shown("postgres://me:s?cret@db/runs"), "Location(postgres://…)");
        assert_eq!(shown("postgres://db/runs?password=s@cret"), "Location(postgres://…)");
    }

    #[test]
    fn the_place_of_a_server_is_told_without_its_password() {
        let url = "postgres://me:secret@db.example.com:5433/runs?sslmode=require";
        assert_eq!(place(url).unwrap(), "host db.example.com, port 5433, database runs, user me");
        assert_eq!(
            place("postgres://me@%2Frun%2Fpg/runs").unwrap(),
            "socket /run/pg, port 5432, database runs, user me"
        );
    }

    #[test]
    fn any_path_makes_a_url() {
        assert_eq!(sqlite_url(Path::new("/a b/ü?#%.db")).unwrap(), "sqlite:///a%20b/%C3%BC%3F%23%25.db");
    }
}
