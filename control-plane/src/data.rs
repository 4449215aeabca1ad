//! Where data lies: the store's place, and the folder for compiled code. Never opens either.

use agentruntime_engine::store::Location;
use etcetera::{AppStrategy, AppStrategyArgs};
use std::path::PathBuf;

/// This machine's account does not say where its data lies.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell where this account keeps its data ({0}); name a folder with --data DIR")]
pub(crate) struct NoHome(etcetera::HomeDirError);

/// The platform's data folder for this program.
pub(crate) fn default_location() -> Result<Location, NoHome> {
    Ok(Location::Sqlite(folders()?.data_dir()))
}

/// The platform's folder for what this account configured.
pub(crate) fn config_folder() -> Result<PathBuf, NoHome> {
    Ok(folders()?.config_dir())
}

/// Where compiled code is kept: the platform's cache folder, else beside the data. Without either, nothing is kept.
pub(crate) fn cache_folder(location: Option<&Location>) -> Option<PathBuf> {
    if let Ok(folders) = folders() {
        return Some(folders.cache_dir());
    }
    match location {
        Some(Location::Sqlite(folder)) => Some(folder.join("cache")),
        Some(Location::Postgres(_)) | None => None,
    }
}

/// Whether a place may not be repeated on a screen: the URL of a database with a password in it.
pub(crate) fn holds_password(data: &str) -> bool {
    let Some((_, rest)) = data.split_once("://") else { return false };
    let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || rest.contains("password")
}

fn folders() -> Result<impl AppStrategy, NoHome> {
    let name =
        AppStrategyArgs { top_level_domain: String::new(), author: String::new(), app_name: "agentruntime".into() };
    etcetera::choose_app_strategy(name).map_err(NoHome)
}
