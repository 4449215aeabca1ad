//! The data folder of an embedded database: private to its owner, and used by one process at a time.

use super::error::StoreError;
use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

/// The name of the database in its folder.
pub(super) const DATABASE: &str = "journal.db";
const LOCK: &str = "lock";

/// The right to use a data folder; it ends when this is dropped, or with the process.
pub(crate) struct FolderLock {
    /// The folder.
    pub(super) path: PathBuf,
    _file: File,
}

/// Whether a database lies in that folder.
pub(crate) fn is_in(folder: &Path) -> bool {
    folder.join(DATABASE).is_file()
}

/// Makes the folder where it is missing, locks it, and gives the path of the database file in it, which then exists.
pub(crate) fn open(folder: &Path) -> Result<(FolderLock, PathBuf), StoreError> {
    create_private(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
    let lock = lock(folder)?;
    let database = folder.join(DATABASE);
    private_file(&database).map_err(|source| StoreError::Folder { path: database.clone(), source })?;
    Ok((lock, database))
}

fn create_private(folder: &Path) -> std::io::Result<()> {
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        // A folder that was there keeps the permissions that somebody gave it.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        created => created,
    }
}

fn lock(folder: &Path) -> Result<FolderLock, StoreError> {
    let path = folder.join(LOCK);
    let failed = |source| StoreError::Folder { path: path.clone(), source };
    let mut file = private_file(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Who holds it is a courtesy: the answer is the same where it cannot be read.
            let named = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if named { format!("process {}", holder.trim()) } else { "another process".into() };
            return Err(StoreError::InUse { folder: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(FolderLock { path: folder.to_owned(), _file: file })
}

fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
