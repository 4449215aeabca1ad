//! The workspace's vault: secrets by paths, which are written and never read back.

use super::{
    State,
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
    secret_body::SecretText,
};
use crate::{
    access::{May, permission::ManageVault},
    integrations::vault_entries::{self, VaultEntry},
};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of the vault.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, delete))
}

/// One version of a secret, without its value.
#[derive(Serialize, ToSchema)]
struct VaultVersion {
    /// From 1.
    version: u32,
    /// The hosts that it may be sent to; none: it is sent nowhere, and only signs.
    allowed_hosts: Vec<String>,
    /// Who wrote it.
    created_by: Uuid,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
}

/// A path of the vault.
#[derive(Serialize, ToSchema)]
struct VaultPath {
    /// Its name, without `vault/`.
    #[schema(example = "crm/api_key")]
    path: String,
    /// The newest version.
    current: VaultVersion,
}

/// A path of the vault and its versions.
#[derive(Serialize, ToSchema)]
struct VaultVersions {
    /// Its name, without `vault/`.
    path: String,
    /// The versions that are kept, the newest first.
    versions: Vec<VaultVersion>,
}

/// A secret to be kept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewVaultVersion {
    /// The secret.
    #[schema(value_type = String, format = Password)]
    value: SecretText,
    /// The hosts that it may be sent to; where it is missing, those of the version before, and of the first none.
    allowed_hosts: Option<Vec<String>>,
}

/// Lists the paths of the vault, in the order of their names.
#[utoipa::path(
    get,
    path = "/vault",
    operation_id = "list_vault",
    tag = "integrations",
    params(PageQuery),
    responses((status = 200, body = Page<VaultPath>), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn list(
    may: May<ManageVault>,
    Given(app): Given<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<VaultPath>>, Problem> {
    let (limit, after) = (page.limit()?, page.after::<String>()?);
    let found = vault_entries::list(app.database(), &may, after.as_deref(), limit + 1).await?;
    let item = |it: VaultEntry| VaultPath { current: shown(&it), path: it.path };
    Ok(Json(Page::of(found, limit, |it| it.path.clone(), item)))
}

/// Shows which versions a path of the vault has.
#[utoipa::path(
    get,
    path = "/vault/{*path}",
    operation_id = "get_vault_path",
    tag = "integrations",
    params(("path" = String, Path, description = "The path; it may have several parts")),
    responses((status = 200, body = VaultVersions), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn get(
    may: May<ManageVault>,
    Given(app): Given<State>,
    Path(path): Path<String>,
) -> Result<Json<VaultVersions>, Problem> {
    let versions = vault_entries::versions(app.database(), &may, &path).await?;
    Ok(Json(VaultVersions { path, versions: versions.iter().map(shown).collect() }))
}

/// Writes a secret: the next version of its path. The ten newest are kept, and steps use the newest.
#[utoipa::path(
    put,
    path = "/vault/{*path}",
    operation_id = "put_vault_path",
    tag = "integrations",
    params(("path" = String, Path, description = "The path; it may have several parts")),
    request_body = NewVaultVersion,
    responses((status = 200, body = VaultVersion), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn put(
    may: May<ManageVault>,
    Given(app): Given<State>,
    Path(path): Path<String>,
    Body(new, _): Body<NewVaultVersion>,
) -> Result<Json<VaultVersion>, Problem> {
    Ok(Json(shown(&vault_entries::put(&app, &may, &path, &new.value.0, new.allowed_hosts).await?)))
}

/// Deletes a path of the vault with all its versions. Steps that use it fail from then on.
#[utoipa::path(
    delete,
    path = "/vault/{*path}",
    operation_id = "delete_vault_path",
    tag = "integrations",
    params(("path" = String, Path, description = "The path; it may have several parts")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["admin"]), ("session" = []))
)]
async fn delete(
    may: May<ManageVault>,
    Given(app): Given<State>,
    Path(path): Path<String>,
) -> Result<StatusCode, Problem> {
    vault_entries::delete(&app, &may, &path).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(it: &VaultEntry) -> VaultVersion {
    VaultVersion {
        version: it.version,
        allowed_hosts: it.allowed_hosts.iter().map(ToString::to_string).collect(),
        created_by: it.created_by.as_uuid(),
        created_at: it.created_at.to_string(),
    }
}
