//! The workspace's vault: secrets by paths, in versions. What is written is never read back.

use super::{IntegrationError, fields::check_value, hosts, secrets::SecretError};
use crate::{
    access::{
        May, UserId,
        permission::ManageVault,
        rows::{Ceiling, check_room},
    },
    app::App,
    vault::{ExternalError, ExternalVault, Place, Sealer, data_keys, is_external},
};
use agentruntime_engine::database::{Database, Row, StoreError, Tx, Values, document, id, json, number, text, time};
use agentruntime_host_api::{HostPattern, SecretRef, TenantId, Timestamp};
use secrecy::SecretString;
use serde_json::{Value, json};

/// Paths of one workspace.
pub(crate) const PATHS_MAX: u32 = 10_000;
/// The longest path, in bytes.
pub(crate) const PATH_BYTES_MAX: usize = 200;
/// Versions of one path that are kept, the newest among them.
pub(crate) const VERSIONS_KEPT: u32 = 10;

/// What sealed values are bound to.
const KIND: &str = "vault";

/// The columns that [`entry`] reads, in its order.
macro_rules! columns {
    () => {
        "path, version, sealed, allowed_hosts, created_by, created_at"
    };
}

const VERSIONS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM vault_entries WHERE tenant_id = $1 AND path = $2 ORDER BY version DESC LIMIT $3"
);

/// The newest version of each path.
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM vault_entries e WHERE tenant_id = $1 AND path > $2 AND version = (SELECT MAX(version) FROM vault_entries n \
     WHERE n.tenant_id = e.tenant_id AND n.path = e.path) ORDER BY path LIMIT $3"
);

const COUNT: &str = "SELECT COUNT(DISTINCT path) FROM vault_entries WHERE tenant_id = $1 AND path <> $2";

const INSERT: &str = concat!(
    "INSERT INTO vault_entries (tenant_id, ",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING ",
    columns!()
);

const FORGET: &str = "DELETE FROM vault_entries WHERE tenant_id = $1 AND path = $2 AND version <= $3 RETURNING version";
const DELETE: &str = "DELETE FROM vault_entries WHERE tenant_id = $1 AND path = $2 RETURNING version";

/// One version of a secret.
#[derive(Debug)]
pub(crate) struct VaultEntry {
    /// Its path.
    pub(crate) path: String,
    /// From 1.
    pub(crate) version: u32,
    /// Where it may be sent.
    pub(crate) allowed_hosts: Vec<HostPattern>,
    /// Who wrote it.
    pub(crate) created_by: UserId,
    /// When.
    pub(crate) created_at: Timestamp,
    /// The value, or where it is kept elsewhere.
    sealed: String,
}

/// Writes a secret: the next version of its path.
pub(crate) async fn put(
    app: &App,
    may: &May<ManageVault>,
    path: &str,
    value: &SecretString,
    allowed_hosts: Option<Vec<String>>,
) -> Result<VaultEntry, IntegrationError> {
    check_path(path)?;
    check_value("value", value)?;
    let given = allowed_hosts.as_deref().map(hosts::read).transpose()?;
    let (database, tenant) = (app.database(), &may.place.tenant);
    let kept = keep(app, tenant, path, value).await?;
    let now = database.time();
    let mut tx = database.begin().await?;
    // The entry first: it makes those who change things of one workspace take turns.
    may.record(&mut tx, "vault.put", format!("vault/{path}"), json!({ "allowed_hosts": given }), now).await?;
    let before = version_before(&mut tx, tenant, path).await?;
    let version = before.as_ref().map_or(0, |before| before.version) + 1;
    let hosts = given.or(before.map(|before| before.allowed_hosts)).unwrap_or_default();
    let sealed = match kept {
        Kept::Elsewhere(place) => place,
        Kept::Here(sealer) => sealer.seal(Place { tenant, kind: KIND, id: &place_id(path, version) }, value)?,
    };
    let mut values = key(tenant, path);
    values.number(version).text(sealed).text(json(&hosts)).id(may.caller.user).number(now.as_micros());
    let row = tx.row(INSERT, values).await?.ok_or(StoreError::AlreadyExists)?;
    let mut values = key(tenant, path);
    values.number(version.saturating_sub(VERSIONS_KEPT));
    tx.rows(FORGET, values).await?;
    tx.commit().await?;
    Ok(entry(&row)?)
}

/// Where the next version of a path is kept.
enum Kept {
    /// In the external vault, written already: what the database has in its place.
    Elsewhere(String),
    /// In the database, sealed by this.
    Here(Sealer),
}

/// The newest version of a path; for a path that has none, there is room.
async fn version_before(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    path: &str,
) -> Result<Option<VaultEntry>, IntegrationError> {
    let mut values = key(tenant, path);
    values.number(1);
    let before = tx.row(VERSIONS, values).await?.as_ref().map(entry).transpose()?;
    if before.is_none() {
        let message = format!("a vault has at most {PATHS_MAX} paths; delete one first");
        let ceiling = Ceiling { count: COUNT, max: PATHS_MAX, code: "TOO_MANY_VAULT_PATHS", message };
        check_room(tx, key(tenant, path), ceiling).await?;
    }
    Ok(before)
}

/// A value for the external vault is written there first, if by then there is room for it here. Where nothing comes of the
/// version all the same, because the database fails or others take the last room meanwhile, a value lies there that nobody
/// uses, until the path is deleted.
async fn keep(app: &App, tenant: &TenantId, path: &str, value: &SecretString) -> Result<Kept, IntegrationError> {
    match &app.external_vault {
        Some(external) => {
            let mut tx = app.database().begin().await?;
            version_before(&mut tx, tenant, path).await?;
            // Nothing was changed, and nobody waits for what the vault takes.
            tx.commit().await?;
            Ok(Kept::Elsewhere(external.put(tenant, path, value).await?))
        }
        None => Ok(Kept::Here(data_keys::sealer(app.database(), &app.sealer, tenant).await?)),
    }
}

/// The newest version of each path, in the order of paths.
pub(crate) async fn list(
    database: &Database,
    may: &May<ManageVault>,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<VaultEntry>, IntegrationError> {
    let mut values = key(&may.place.tenant, after.unwrap_or_default());
    values.number(limit);
    Ok(database.rows(LIST, values).await?.iter().map(entry).collect::<Result<_, _>>()?)
}

/// The versions of a path, the newest first.
pub(crate) async fn versions(
    database: &Database,
    may: &May<ManageVault>,
    path: &str,
) -> Result<Vec<VaultEntry>, IntegrationError> {
    let mut values = key(&may.place.tenant, path);
    values.number(VERSIONS_KEPT);
    let found: Vec<VaultEntry> = database.rows(VERSIONS, values).await?.iter().map(entry).collect::<Result<_, _>>()?;
    if found.is_empty() { Err(unknown(path)) } else { Ok(found) }
}

/// Deletes a path with all its versions. Steps that use it fail from then on.
pub(crate) async fn delete(app: &App, may: &May<ManageVault>, path: &str) -> Result<(), IntegrationError> {
    // What the external vault has goes first, so that nothing lies there of which nobody knows any more.
    if versions(app.database(), may, path).await?.iter().any(|it| is_external(&it.sealed)) {
        let external = app.external_vault.as_ref().ok_or(ExternalError::NotSetUp)?;
        external.delete(&may.place.tenant, path).await?;
    }
    let now = app.database().time();
    let mut tx = app.database().begin().await?;
    may.record(&mut tx, "vault.delete", format!("vault/{path}"), Value::Null, now).await?;
    if tx.rows(DELETE, key(&may.place.tenant, path)).await?.is_empty() {
        return Err(unknown(path));
    }
    Ok(tx.commit().await?)
}

/// The newest version of the path that a workflow names.
pub(super) async fn newest(
    database: &Database,
    tenant: &TenantId,
    path: &str,
) -> Result<Option<VaultEntry>, StoreError> {
    let mut values = key(tenant, path);
    values.number(1);
    database.rows(VERSIONS, values).await?.first().map(entry).transpose()
}

impl VaultEntry {
    /// The value.
    pub(super) async fn open(
        &self,
        sealer: &Sealer,
        external: Option<&ExternalVault>,
        tenant: &TenantId,
    ) -> Result<SecretString, SecretError> {
        if is_external(&self.sealed) {
            let value = match external {
                Some(external) => external.get(tenant, &self.path, &self.sealed).await,
                None => Err(ExternalError::NotSetUp),
            };
            return value.map_err(|error| SecretError::External { path: self.path.clone(), error });
        }
        let place = place_id(&self.path, self.version);
        Ok(sealer.open_sealed(Place { tenant, kind: KIND, id: &place }, &self.sealed)?)
    }
}

fn place_id(path: &str, version: u32) -> String {
    format!("{path}#{version}")
}

/// A path is what a workflow can name.
fn check_path(path: &str) -> Result<(), IntegrationError> {
    let named = format!("vault/{path}").parse::<SecretRef>();
    match named.is_ok() && path.len() <= PATH_BYTES_MAX {
        true => Ok(()),
        false => {
            let message = format!(
                "write up to {PATH_BYTES_MAX} letters, digits and _ - . in ASCII, in parts divided by `/`, none of them empty"
            );
            Err(IntegrationError::invalid("path", message))
        }
    }
}

fn unknown(path: &str) -> IntegrationError {
    crate::access::AccessError::NotFound { kind: "vault entry", id: path.to_owned() }.into()
}

fn key(tenant: &TenantId, path: &str) -> Values {
    let mut values = Values::default();
    values.text(tenant.as_str()).text(path);
    values
}

fn entry(row: &Row) -> Result<VaultEntry, StoreError> {
    Ok(VaultEntry {
        path: text(row, 0)?.to_owned(),
        version: number(row, 1)?,
        sealed: text(row, 2)?.to_owned(),
        allowed_hosts: document(text(row, 3)?)?,
        created_by: id(row, 4)?,
        created_at: time(row, 5)?,
    })
}
