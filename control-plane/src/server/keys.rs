//! The master key at the start: it opens what this database has sealed, or nothing is started.

use crate::{
    access::tables,
    settings::Settings,
    triggers::{TriggerError, sealed},
    vault::{self, GivenKeys, Keys, Sealer, VaultError},
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
    vault::note_current(database, &sealer).await?;
    let key = sealer.own_id();
    match given_up {
        Some(lost) if resealed > 0 => tracing::warn!(
            lost,
            key,
            subscriptions = resealed,
            "a master key was given up; inbound webhooks whose secrets it sealed take nothing until theirs are made anew"
        ),
        _ if resealed > 0 => {
            tracing::info!(key, subscriptions = resealed, "secrets were sealed under the current master key")
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
    let in_use = sealed::keys_in_use(database).await?;
    let given = GivenKeys { current: settings.master_key.as_ref(), previous: &settings.previous_master_keys, given_up };
    Keys::check(database, location, given, in_use).await
}
