//! `serve --check`: everything that a start would try, without changing anything.
//!
//! What only another process is in the way of is a note and no error, as that may be the very service which the settings are
//! checked for.

use super::{keys::check_keys, tls::Certificate};
use crate::{
    access::{openid, tables},
    mail::{MailError, Mailer},
    settings::Settings,
    vault::VaultError,
};
use agentruntime_engine::store::{Location, Store, StoreError, SystemClock};
use std::{
    fs::OpenOptions,
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
};
use uuid::Uuid;

/// What a start would fail at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// The certificate, or its key.
    #[error("the certificate cannot be used: {0}")]
    Certificate(io::Error),
    /// An address.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A folder.
    #[error("cannot write into {path}: {source}", path = path.display())]
    Folder {
        /// Which, or the one in which it would be made.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The master keys.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// How mails are sent.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// Signing in elsewhere.
    #[error(transparent)]
    OpenId(#[from] openid::OpenIdSetupError),
}

impl CheckError {
    /// A stable name for programs: the one that the start would be refused with.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "CANNOT_LISTEN",
            Self::Store(error) | Self::Vault(VaultError::Store(error)) => error.code(),
            Self::Vault(_) => "MASTER_KEY_REFUSED",
            Self::Certificate(_) | Self::Folder { .. } | Self::Mail(_) | Self::OpenId(_) => "INVALID_SETTINGS",
        }
    }
}

/// Tries everything; tells what is worth knowing besides.
pub(crate) async fn check(
    settings: &Settings,
    location: &Location,
    given_up: Option<&str>,
) -> Result<Vec<String>, CheckError> {
    if let Some(files) = &settings.tls {
        Certificate::load(files).await.map_err(CheckError::Certificate)?;
    }
    Mailer::new(&settings.mail)?;
    openid::check(settings)?;
    let mut notes = Vec::new();
    for address in [Some(settings.listen), settings.observe.metrics_listen].into_iter().flatten() {
        notes.extend(bindable(address)?);
    }
    let folders = [data_folder(location), settings.retention.as_ref().and_then(|it| it.archive.as_deref())];
    for folder in folders.into_iter().flatten() {
        writable(folder)?;
    }
    notes.extend(database(settings, location, given_up).await?);
    Ok(notes)
}

fn data_folder(location: &Location) -> Option<&Path> {
    match location {
        Location::Sqlite(folder) => Some(folder),
        Location::Postgres(_) => None,
    }
}

/// Takes the port and gives it back.
fn bindable(address: SocketAddr) -> Result<Option<String>, CheckError> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Ok(Some(format!("{address} is in use; a service can start there when that process has ended")))
        }
        Err(source) => Err(CheckError::Address { address, source }),
    }
}

/// Writes a file into the folder, or into the nearest one in which it would be made, and removes it.
fn writable(folder: &Path) -> Result<(), CheckError> {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(&absolute);
    let trial = there.join(format!(".agentruntime-check-{}", Uuid::now_v7()));
    let tried = OpenOptions::new().write(true).create_new(true).open(&trial).and_then(|_| std::fs::remove_file(&trial));
    tried.map_err(|source| CheckError::Folder { path: there.to_owned(), source })
}

async fn database(
    settings: &Settings,
    location: &Location,
    given_up: Option<&str>,
) -> Result<Option<String>, CheckError> {
    let Some(database) = Store::look(location, Arc::new(SystemClock)).await? else {
        return Ok(Some(format!("{location} has no data yet; the first start makes it")));
    };
    let note = match database.check_tables(&tables::MIGRATIONS).await? {
        true => Some("the first start brings the tables of the database up to date".to_owned()),
        false => {
            check_keys(&database, location, settings, given_up).await?;
            None
        }
    };
    database.close().await;
    Ok(note)
}
