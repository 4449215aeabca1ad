//! The master key at the start: it opens what this database has sealed, or nothing is started.

use crate::{
    access::tables,
    settings::Settings,
    triggers::{TriggerError, sealed},
    vault::{self, DataKeyError, GivenKeys, Keys, Sealer, VaultError, data_keys},
};
use agentruntime_engine::{database::Database, store::Location};

/// Why the keys do not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// They do not fit the database.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A secret cannot be sealed anew.
    #[error("a signing secret cannot be sealed under the current master key: {0}")]
    Reseal(#[from] TriggerError),
    /// A workspace's key cannot be sealed anew.
    #[error("a workspace's key cannot be sealed under the current master key: {0}")]
    ResealKeys(#[from] DataKeyError),
}

/// Checks the keys against the database, and seals under the current one what others sealed.
pub(crate) async fn open_keys(
    database: &Database,
    location: &Location,
    settings: &Settings,
    given_up: Option<&str>,
) -> Result<Sealer, KeyError> {
    database.migrate(&tables::MIGRATIONS).await.map_err(VaultError::from)?;
    let sealer = check_keys(database, location, settings, given_up).await?.open(database).await?;
    let resealed = sealed::reseal(database, &sealer, given_up).await?;
    let workspaces = data_keys::reseal(database, &sealer, given_up).await?;
    vault::note_current(database, &sealer).await?;
    let key = sealer.own_id();
    match given_up {
        Some(lost) if resealed + workspaces > 0 => tracing::warn!(
            lost,
            key,
            subscriptions = resealed,
            workspaces,
            "a master key was given up; inbound webhooks whose secrets it sealed take nothing until theirs are made anew, and \
             the credentials of these workspaces have to be entered anew"
        ),
        _ if resealed + workspaces > 0 => {
            tracing::info!(
                key,
                subscriptions = resealed,
                workspaces,
                "secrets were sealed under the current master key"
            )
        }
        _ => {}
    }
    if sealer.is_keyless() {
        tracing::warn!("no master key is given (`master_key_file`): whatever has to keep a secret is refused");
    }
    Ok(sealer)
}

/// Checks the keys against the database, and changes nothing.
pub(crate) async fn check_keys(
    database: &Database,
    location: &Location,
    settings: &Settings,
    given_up: Option<&str>,
) -> Result<Keys, VaultError> {
    let mut in_use = sealed::keys_in_use(database).await?;
    in_use.extend(data_keys::keys_in_use(database).await?);
    let given = GivenKeys { current: settings.master_key.as_ref(), previous: &settings.previous_master_keys, given_up };
    Keys::check(database, location, given, in_use).await
}
