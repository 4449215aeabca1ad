//! How the store fails.

use super::Outage;
use agentruntime_host_api::RunId;
use std::path::PathBuf;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing, or it belongs to somebody else; which of the two is not told.
    #[error("not found")]
    NotFound,
    /// A run with this id exists.
    #[error("a run with this id exists already")]
    AlreadyExists,
    /// A run was to be started under a key that was used before.
    #[error("run {run} was started under this key already")]
    Repeated {
        /// The run that the key started.
        run: RunId,
        /// Whether the same was asked for.
        same: bool,
    },
    /// The task was answered, expired or was cancelled before.
    #[error("the task is closed already")]
    AlreadyClosed,
    /// A list was to go over more projects than one list can.
    #[error("a list goes over at most {max} projects, not {given}: name those that are wanted")]
    TooManyProjects {
        /// How many were given.
        given: usize,
        /// How many may be.
        max: usize,
    },
    /// Another process works on the data folder.
    #[error("{folder} is in use by {holder}; stop it, or give another folder with --data", folder = folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// The text names no place where data can lie.
    #[error("`{0}` is neither a folder nor a postgres:// URL")]
    Location(String),
    /// The database was written by a newer version.
    #[error("the database has schema version {found}, this program knows {known}: use a newer version of the program")]
    SchemaTooNew {
        /// The version in the database.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// A row does not say what it should.
    #[error("the database holds something unreadable: {0}")]
    Corrupt(String),
    /// The data folder cannot be used.
    #[error("cannot use {path}: {source}", path = path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no way to the database yet.
    #[error("cannot connect to the database at {place}: {cause}")]
    Connect {
        /// Where it should be, and as whom it was asked; never the password.
        place: String,
        /// Why not.
        cause: String,
        /// Whether it may be there in a moment: nobody answers, or it is starting.
        is_passing: bool,
    },
    /// The database cannot be used for the time being. Whether a commit under way took effect is not known, unless it is
    /// [read-only](super::OutageKind::ReadOnly).
    #[error("{0}")]
    Outage(Outage),
    /// The database failed. Whether a commit under way took effect is not known.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl StoreError {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::Repeated { .. } => "START_KEY_USED",
            Self::AlreadyClosed => "ALREADY_CLOSED",
            Self::TooManyProjects { .. } => "TOO_MANY_PROJECTS",
            Self::InUse { .. } => "DATA_IN_USE",
            Self::Location(_) => "DATA_LOCATION_INVALID",
            Self::SchemaTooNew { .. } => "SCHEMA_TOO_NEW",
            Self::Corrupt(_) => "STORE_CORRUPT",
            Self::Folder { .. } | Self::Connect { .. } | Self::Outage(_) | Self::Database(_) => "STORE_UNAVAILABLE",
        }
    }

    /// Whether an outage is the cause, which the database tells the log of itself.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Outage(_))
    }

    /// Whether the database itself undid the transaction, because another one was in its way, and wants it tried again.
    pub(crate) fn is_conflict(&self) -> bool {
        const SERIALIZATION_FAILURE: &str = "40001";
        const DEADLOCK: &str = "40P01";
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| code == SERIALIZATION_FAILURE || code == DEADLOCK)
    }
}
