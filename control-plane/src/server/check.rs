//! `serve --check`: everything that a start would try, without changing anything.
//!
//! What only another process is in the way of is a note and no error, as that may be the very service which the settings are
//! checked for.

use super::{
    keys::check_keys,
    tls::{Certificate, CertificateError},
};
use crate::{
    access::{openid, tables},
    mail::{MailError, Mailer},
    settings::Settings,
    vault::{ExternalError, ExternalVault, VaultError},
};
use agentruntime_engine::store::{Location, Store, StoreError, SystemClock};
use std::{
    fs::OpenOptions,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
};
use uuid::Uuid;

/// What a start would fail at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// The certificate, or its key.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// An address.
    #[error(
        "`{setting}`: cannot listen on {address}: {source}; give an address of this machine, or 0.0.0.0 for all of them, \
         and a port that this process's user may take"
    )]
    Address {
        /// Which setting has it.
        setting: &'static str,
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// An address that another process has.
    #[error("`{setting}`: {address} is taken by another program; stop that one, or {}", elsewhere(setting, *address))]
    Taken {
        /// Which setting has it.
        setting: &'static str,
        /// Which.
        address: SocketAddr,
    },
    /// A folder.
    #[error(
        "`{setting}`: cannot write into {path}: {source}; let this process's user write there, make room, or name another \
         folder",
        path = path.display()
    )]
    Folder {
        /// Which setting names it.
        setting: &'static str,
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
    /// Where the values of vaults are.
    #[error(transparent)]
    ExternalVault(#[from] ExternalError),
}

impl CheckError {
    /// A stable name for programs: the one that the start would be refused with.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } | Self::Taken { .. } => "CANNOT_LISTEN",
            Self::Store(error) | Self::Vault(VaultError::Store(error)) => error.code(),
            Self::Vault(_) => "MASTER_KEY_REFUSED",
            Self::Certificate(_) | Self::Folder { .. } | Self::Mail(_) | Self::OpenId(_) | Self::ExternalVault(_) => {
                "INVALID_SETTINGS"
            }
        }
    }
}

/// Tries everything; tells what is worth knowing besides.
pub(crate) async fn check(
    settings: &Settings,
    location: &Location,
    given_up: Option<&str>,
) -> Result<Vec<String>, CheckError> {
    let mut notes = check_files(settings, location).await?;
    let metrics = settings.observe.metrics_listen.map(|address| ("metrics_listen", address));
    for (setting, address) in [Some(("listen", settings.listen)), metrics].into_iter().flatten() {
        match listen(setting, address) {
            Ok(_) => {}
            Err(CheckError::Taken { .. }) => notes.push(format!(
                "`{setting}`: {address} is in use; a service can start there when that process has ended"
            )),
            Err(error) => return Err(error),
        }
    }
    notes.extend(database(settings, location, given_up).await?);
    notes.extend(external_vault(settings).await?);
    Ok(notes)
}

/// Tries what asks neither a port nor the database. A start does the same before it takes either, so that it is refused what
/// would fail only hours later, such as writing an archive. Tells what clients will say of the certificate.
pub(crate) async fn check_files(settings: &Settings, location: &Location) -> Result<Vec<String>, CheckError> {
    let notes = match &settings.tls {
        Some(files) => Certificate::check(files, settings.public_url.host_str()).await?,
        None => Vec::new(),
    };
    Mailer::new(&settings.mail)?;
    openid::check(settings)?;
    let archive = settings.retention.as_ref().and_then(|it| it.archive.as_deref());
    let folders = [("data", data_folder(location)), ("archive_dir", archive)];
    for (setting, folder) in folders.into_iter().filter_map(|(setting, folder)| Some((setting, folder?))) {
        writable(setting, folder)?;
    }
    Ok(notes)
}

/// What is wrong with the external vault now. It keeps no service from starting, which may do a great deal without it.
pub(crate) async fn external_vault(settings: &Settings) -> Result<Option<String>, CheckError> {
    let Some(external) = settings.external_vault.clone() else { return Ok(None) };
    let external = ExternalVault::new(external)?;
    Ok(external.check().await.err().map(|error| format!("`vault_address`: {error}")))
}

/// What to type to listen elsewhere. Only of the API's own address it is told which port the system chose.
fn elsewhere(setting: &str, address: SocketAddr) -> String {
    match setting {
        "listen" => format!("listen elsewhere: --listen {}:0 takes any free port", address.ip()),
        other => format!("name another port: --{} {}:PORT", other.replace('_', "-"), address.ip()),
    }
}

/// Takes a port.
pub(crate) fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, CheckError> {
    TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => CheckError::Taken { setting, address },
        _ => CheckError::Address { setting, address, source },
    })
}

fn data_folder(location: &Location) -> Option<&Path> {
    match location {
        Location::Sqlite(folder) => Some(folder),
        Location::Postgres(_) => None,
    }
}

/// What a trial writes: more than a file system keeps beside a file's name.
const TRIAL_BYTES: usize = 64 * 1024;

/// Writes a file into the folder, or into the nearest one in which it would be made, and removes it.
fn writable(setting: &'static str, folder: &Path) -> Result<(), CheckError> {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(&absolute);
    let trial = there.join(format!(".agentruntime-check-{}", Uuid::now_v7()));
    let written = OpenOptions::new().write(true).create_new(true).open(&trial).and_then(|mut file| {
        // On a full disk a file can be made, and nothing be written into it.
        file.write_all(&[0; TRIAL_BYTES]).and_then(|()| file.sync_all())
    });
    let removed = std::fs::remove_file(&trial);
    written.and(removed).map_err(|source| CheckError::Folder { setting, path: there.to_owned(), source })
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
