//! Keys of workspaces: what a workspace keeps is sealed under its own key, and that under the master key.
//!
//! A new master key then seals a handful of keys anew and not every secret, and nothing of one workspace opens under the key of
//! another.

use super::{
    Place, SealError, Sealer,
    master_key::{self, KEY_BYTES, Key},
    seal::{beginning, key_of},
};
use agentruntime_engine::database::{Database, StoreError, Values, text};
use agentruntime_host_api::TenantId;
use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretBox, SecretString, zeroize::Zeroizing};
use std::collections::BTreeSet;

/// The newest first: that one seals.
const OF_TENANT: &str = "SELECT sealed FROM data_keys WHERE tenant_id = $1 ORDER BY created_at DESC, key_id";
const INSERT: &str = "INSERT INTO data_keys (tenant_id, key_id, sealed, created_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant_id, key_id) DO NOTHING RETURNING key_id";
/// `substr(…, 1, 12)` is what [`beginning`] writes.
const BEGINNINGS: &str = "SELECT DISTINCT substr(sealed, 1, 12) FROM data_keys";
const OTHERS: &str = "SELECT tenant_id, key_id, sealed FROM data_keys WHERE substr(sealed, 1, 12) <> $1 \
    ORDER BY tenant_id, key_id LIMIT $2";
const RESEAL: &str =
    "UPDATE data_keys SET sealed = $4 WHERE tenant_id = $1 AND key_id = $2 AND sealed = $3 RETURNING key_id";
const DELETE: &str = "DELETE FROM data_keys WHERE tenant_id = $1 AND key_id = $2 AND sealed = $3 RETURNING key_id";

/// What sealed keys are bound to.
const KIND: &str = "data-key";
/// Keys in one transaction.
const BATCH: u32 = 100;

/// A workspace's keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataKeyError {
    /// The master key does not open them, or there is none.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What opens all that a workspace keeps.
pub(crate) async fn opener(database: &Database, master: &Sealer, tenant: &TenantId) -> Result<Sealer, DataKeyError> {
    let mut values = Values::default();
    values.text(tenant.as_str());
    let rows = database.rows(OF_TENANT, values).await?;
    let keys: Result<Vec<Key>, DataKeyError> = rows.iter().map(|row| opened(master, tenant, text(row, 0)?)).collect();
    let mut keys = keys?.into_iter();
    Ok(Sealer::of(keys.next(), keys.collect()))
}

/// The same, with a new key where the workspace has none yet.
pub(crate) async fn sealer(database: &Database, master: &Sealer, tenant: &TenantId) -> Result<Sealer, DataKeyError> {
    let found = opener(database, master, tenant).await?;
    if !found.is_keyless() {
        return Ok(found);
    }
    let key = master_key::random();
    let digits = SecretString::from(BASE64_STANDARD.encode(key.expose_secret()));
    let sealed = master.seal(place(tenant), &digits)?;
    let of_key = Sealer::of(Some(key), Vec::new());
    let mut values = Values::default();
    values.text(tenant.as_str()).text(of_key.own_id().unwrap_or_default()).text(sealed);
    values.number(database.time().as_micros());
    database.write(INSERT, values).await?;
    // Of two that were made at once, both open, and the later seals.
    opener(database, master, tenant).await
}

/// The master keys under which keys of workspaces are sealed.
pub(crate) async fn keys_in_use(database: &Database) -> Result<BTreeSet<String>, StoreError> {
    super::keys_in_use(database, BEGINNINGS).await
}

/// Seals all keys of workspaces under the current master key, and tells how many. Those sealed under one that is given up are
/// deleted, since nobody can open what they sealed any more.
pub(crate) async fn reseal(database: &Database, master: &Sealer, given_up: Option<&str>) -> Result<u32, DataKeyError> {
    let Some(own) = master.own_id() else { return Ok(0) };
    let mut all = 0;
    loop {
        let mut values = Values::default();
        values.text(beginning(own)).number(BATCH);
        let rows = database.rows(OTHERS, values).await?;
        if rows.is_empty() {
            return Ok(all);
        }
        let mut tx = database.begin().await?;
        for row in &rows {
            let (tenant, before) = (TenantId::new(text(row, 0)?), text(row, 2)?);
            let mut values = Values::default();
            values.text(tenant.as_str()).text(text(row, 1)?).text(before);
            let is_lost = given_up.is_some() && key_of(before) == given_up;
            let statement = match is_lost {
                true => DELETE,
                false => {
                    values.text(master.seal(place(&tenant), &master.open_sealed(place(&tenant), before)?)?);
                    RESEAL
                }
            };
            all += u32::from(!tx.rows(statement, values).await?.is_empty());
        }
        tx.commit().await?;
    }
}

fn opened(master: &Sealer, tenant: &TenantId, sealed: &str) -> Result<Key, DataKeyError> {
    let digits = master.open_sealed(place(tenant), sealed)?;
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(digits.expose_secret()).map_err(|_| SealError::Damaged)?);
    let bytes: &[u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| SealError::Damaged)?;
    Ok(SecretBox::init_with_mut(|key: &mut [u8; KEY_BYTES]| key.copy_from_slice(bytes)))
}

fn place(tenant: &TenantId) -> Place<'_> {
    Place { tenant, kind: KIND, id: tenant.as_str() }
}
