//! Retention: runs that ended long ago leave the database, and lie in a folder from then on, if the operator wants that.
//!
//! Owns when this is done and the form of the folder. What goes, and that nothing goes which is not durable elsewhere, is
//! the store's.

use crate::{app::App, settings::Retention};
use agentruntime_engine::store::{Archive, ArchiveError, ArchivedRun, ExpireError, Store};
use agentruntime_host_api::Timestamp;
use async_trait::async_trait;
use std::{
    fmt::Write as _,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often old runs are looked for: with days to go by, nobody notices an hour.
const EVERY: Duration = Duration::from_secs(3600);
/// Runs removed before the end of the service is looked for again.
const BATCH: u32 = 100;

/// Works until the service drains, if anything is to be removed ever.
pub(super) async fn run(app: Arc<App>) {
    let Some(retention) = &app.settings.retention else { return };
    loop {
        let (runs, ended) = pass(&app.store, retention, &app.draining).await;
        if runs > 0 {
            let archive_dir = retention.archive.as_ref().map(|folder| folder.display().to_string());
            tracing::info!(runs, archive_dir, "removed runs that ended long ago");
        }
        match ended {
            Ok(()) => {}
            // The database is closed under its hands: what it did not do, the next start does.
            Err(_) if app.draining.is_cancelled() => return,
            Err(error) => failed(retention, &error),
        }
        tokio::select! {
            () = app.draining.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn failed(retention: &Retention, error: &ExpireError) {
    match (error, &retention.archive) {
        (ExpireError::Archive { run, source }, Some(folder)) => tracing::error!(
            archive_dir = %folder.display(),
            %run,
            error = %source,
            "old runs stay, as the folder of the setting `archive_dir` does not take them: let this process's user write \
             there, and make room; trying again in an hour"
        ),
        _ => tracing::error!(%error, "runs that ended long ago stay for now; trying again in an hour"),
    }
}

/// Removes everything that is old now, or until the service drains; tells how many runs that were, also where it failed
/// then.
async fn pass(store: &Store, retention: &Retention, draining: &CancellationToken) -> (u64, Result<(), ExpireError>) {
    let keep = i64::try_from(retention.keep.as_micros()).unwrap_or(i64::MAX);
    let older_than = Timestamp::from_micros(store.database().time().as_micros().saturating_sub(keep));
    let archive: Box<dyn Archive> = match &retention.archive {
        Some(folder) => Box::new(Folder(folder.clone())),
        None => Box::new(Nowhere),
    };
    let mut all = 0;
    while !draining.is_cancelled() {
        match store.expire_finished(older_than, BATCH, archive.as_ref()).await {
            Ok(0) => break,
            Ok(removed) => all += u64::from(removed),
            Err(error) => return (all, Err(error)),
        }
    }
    (all, Ok(()))
}

/// Old runs are gone for good.
struct Nowhere;

#[async_trait]
impl Archive for Nowhere {
    async fn keep(&self, _: ArchivedRun) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// Each run is a file, `TENANT/PROJECT/DAY/RUN.ndjson`, where the day is that of its start, so that a run has one place
/// however often it is archived.
struct Folder(PathBuf);

#[async_trait]
impl Archive for Folder {
    async fn keep(&self, run: ArchivedRun) -> Result<(), ArchiveError> {
        let root = self.0.clone();
        Ok(tokio::task::spawn_blocking(move || write(&root, &run)).await??)
    }
}

/// Writes a run so that it is there as a whole or not at all, and survives a power cut.
fn write(root: &Path, run: &ArchivedRun) -> io::Result<()> {
    let record = &run.record;
    let started = record.started_at.to_string();
    let day = started.split('T').next().unwrap_or(&started);
    let parts = [record.scope.tenant.as_str(), record.scope.project.as_str(), day];
    let mut folders = vec![root.to_owned()];
    for part in parts {
        folders.push(folders.last().map_or_else(PathBuf::new, |folder| folder.join(file_name(part))));
    }
    let [.., folder] = folders.as_slice() else { return Ok(()) };
    create_private(folder)?;
    let whole = folder.join(format!("{}.ndjson", record.run));
    // Another process that works on the same run after all, as ours was silent for too long, has a file of its own.
    let begun = folder.join(format!("{}.{}.tmp", record.run, Uuid::now_v7()));
    let written = write_durably(&begun, run.lines.as_bytes()).and_then(|()| std::fs::rename(&begun, &whole));
    if written.is_err() {
        // What failed is told; that a piece of it stays, too, is no further harm.
        let _ = std::fs::remove_file(&begun);
    }
    written?;
    // The names are durable when their folders are, down from the one that was there before.
    folders.iter().try_for_each(|folder| sync_folder(folder))
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Elsewhere than on Unix folders are not opened as files.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// An id as the name of a folder: a path may not be led astray by whatever an id holds.
fn file_name(id: &str) -> String {
    let mut name = String::new();
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            // Writing to a string cannot fail.
            other => drop(write!(name, "%{other:02X}")),
        }
    }
    name
}

#[cfg(test)]
mod tests;
