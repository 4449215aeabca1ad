//! Instances: what workflows name when they call a tool, each a server at one version of its tools. Their config profiles say
//! where the credentials are kept.

use super::{MCP_INSTANCES_MAX, MCP_PROFILES_MAX, servers, tools::Tool, versions};
use crate::{
    access::{
        AccessError, May, UserId,
        permission::{ReadConnections, WriteConnections},
        rows::{self, Ceiling, check_room, key},
    },
    app::App,
    integrations::{IntegrationError, McpInstanceId, McpServerId, fields},
};
use agentruntime_engine::{
    database::{Database, Row, StoreError, Tx, Values, document, id, json, maybe_text, number, text, time},
    store::Scope,
};
use agentruntime_host_api::{SecretRef, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The columns that [`instance`] reads, in its order.
macro_rules! columns {
    () => {
        "instance_id, name, server_id, version, active_profile, created_by, created_at, updated_at"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO mcp_instances (tenant_id, project_id, ",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, NULL, $7, $8, $8) ON CONFLICT (tenant_id, project_id, name) DO NOTHING RETURNING ",
    columns!()
);

const COUNT: &str = "SELECT COUNT(*) FROM mcp_instances WHERE tenant_id = $1 AND project_id = $2";

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM mcp_instances WHERE tenant_id = $1 AND project_id = $2 AND (created_at, instance_id) > ($3, $4) \
     ORDER BY created_at, instance_id LIMIT $5"
);

/// An id is no name, since names that look like ids are refused.
const NAMED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM mcp_instances WHERE tenant_id = $1 AND project_id = $2 AND (instance_id = $3 OR name = $3)"
);

const OF_SERVER: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM mcp_instances WHERE tenant_id = $1 AND project_id = $2 AND server_id IN (SELECT server_id FROM mcp_servers \
     WHERE tenant_id = $1 AND project_id = $2 AND canonical_url = $3) ORDER BY created_at, instance_id LIMIT 10"
);

const UPDATE: &str = concat!(
    "UPDATE mcp_instances SET name = $4, version = $5, active_profile = $6, updated_at = $7 \
     WHERE tenant_id = $1 AND project_id = $2 AND instance_id = $3 AND NOT EXISTS (SELECT 1 FROM mcp_instances o \
     WHERE o.tenant_id = $1 AND o.project_id = $2 AND o.name = $4 AND o.instance_id <> $3) RETURNING ",
    columns!()
);

const DELETE: &str =
    "DELETE FROM mcp_instances WHERE tenant_id = $1 AND project_id = $2 AND instance_id = $3 RETURNING instance_id";

const DELETE_PROFILES: &str =
    "DELETE FROM mcp_config_profiles WHERE tenant_id = $1 AND project_id = $2 AND instance_id = $3 RETURNING name";

const PROFILES: &str = "SELECT name, bindings, created_by, created_at FROM mcp_config_profiles \
    WHERE tenant_id = $1 AND project_id = $2 AND instance_id = $3 ORDER BY name";

const PROFILE: &str = "SELECT name, bindings, created_by, created_at FROM mcp_config_profiles \
    WHERE tenant_id = $1 AND project_id = $2 AND instance_id = $3 AND name = $4";

const INSERT_PROFILE: &str = "INSERT INTO mcp_config_profiles (tenant_id, project_id, instance_id, name, bindings, \
    created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING name, bindings, created_by, created_at";

const DELETE_PROFILE: &str = "DELETE FROM mcp_config_profiles \
    WHERE tenant_id = $1 AND project_id = $2 AND instance_id = $3 AND name = $4 RETURNING name";

/// An instance.
#[derive(Clone, Debug)]
pub(crate) struct McpInstance {
    /// Its id.
    pub(crate) id: McpInstanceId,
    /// For people, and for workflows; one of a kind in its project.
    pub(crate) name: String,
    /// Whose tools they are.
    pub(crate) server: McpServerId,
    /// In which version.
    pub(crate) version: u32,
    /// The config profile that calls use.
    pub(crate) active_profile: Option<String>,
    /// Who made it.
    pub(crate) created_by: UserId,
    /// When.
    pub(crate) created_at: Timestamp,
    /// When it was changed last.
    pub(crate) updated_at: Timestamp,
}

/// Where the credentials of an instance are kept.
#[derive(Clone, Debug)]
pub(crate) struct ConfigProfile {
    /// One of a kind at its instance.
    pub(crate) name: String,
    /// By the server's fields.
    pub(crate) bindings: BTreeMap<String, SecretRef>,
    /// Who made it.
    pub(crate) created_by: UserId,
    /// When.
    pub(crate) created_at: Timestamp,
}

/// What is to be different; what is not said stays.
#[derive(Default)]
pub(crate) struct Change {
    /// The name.
    pub(crate) name: Option<String>,
    /// The version of the server's tools.
    pub(crate) version: Option<u32>,
}

/// Which instance is meant.
pub(crate) enum Wanted<'w> {
    /// The one of this id or name.
    Named(&'w str),
    /// The one of the server at this address.
    At(&'w str),
}

/// Makes an instance of a server.
pub(crate) async fn create(
    app: &App,
    may: &May<WriteConnections>,
    given_name: &str,
    server: McpServerId,
    version: u32,
) -> Result<McpInstance, IntegrationError> {
    let name = fields::name("name", given_name)?;
    let (database, scope) = (app.database(), may.place.scope());
    servers::get(database, &scope, server).await?;
    versions::get(database, &scope, server, version).await?;
    let (id, now) = (McpInstanceId::new_v7(), database.time());
    let mut tx = database.begin().await?;
    // The entry first: it makes those who change things of one workspace take turns.
    let details = json!({ "name": name, "server_id": server, "version": version });
    may.record(&mut tx, "mcp_instance.create", id, details, now).await?;
    // It may have been deleted since it was looked for.
    tx.row(servers::EXISTS, key(&scope, server)).await?.ok_or_else(|| servers::unknown(server))?;
    let message = format!("a project has at most {MCP_INSTANCES_MAX} instances of MCP servers; delete one first");
    let ceiling = Ceiling { count: COUNT, max: MCP_INSTANCES_MAX, code: "TOO_MANY_MCP_INSTANCES", message };
    check_room(&mut tx, rows::of(&scope), ceiling).await?;
    let mut values = key(&scope, id);
    values.text(&name).id(server).number(version).id(may.caller.user).number(now.as_micros());
    let row = tx.row(INSERT, values).await?.ok_or_else(|| taken(&name))?;
    tx.commit().await?;
    Ok(instance(&row)?)
}

/// Instances of a project, in the order in which they were made.
pub(crate) async fn list(
    database: &Database,
    may: &May<ReadConnections>,
    after: Option<(i64, Uuid)>,
    limit: u32,
) -> Result<Vec<McpInstance>, IntegrationError> {
    let values = rows::page(rows::of(&may.place.scope()), after, limit);
    Ok(database.rows(LIST, values).await?.iter().map(instance).collect::<Result<_, _>>()?)
}

/// One instance, by its id.
pub(crate) async fn get(
    database: &Database,
    scope: &Scope,
    id: McpInstanceId,
) -> Result<McpInstance, IntegrationError> {
    let found = named(database, scope, &id.to_string()).await?;
    found.ok_or_else(|| unknown(&id.to_string()))
}

/// The instance that a workflow names, by its id or its name.
pub(super) async fn named(database: &Database, scope: &Scope, name: &str) -> Result<Option<McpInstance>, StoreError> {
    database.rows(NAMED, key(scope, name)).await?.first().map(instance).transpose()
}

/// The first few instances of the server at an address.
pub(super) async fn of_server_at(
    database: &Database,
    scope: &Scope,
    url: &str,
) -> Result<Vec<McpInstance>, StoreError> {
    database.rows(OF_SERVER, key(scope, url)).await?.iter().map(instance).collect()
}

/// The instance that is meant, and one of its tools where that is asked for.
pub(crate) async fn resolve(
    database: &Database,
    may: &May<ReadConnections>,
    wanted: Wanted<'_>,
    tool: Option<&str>,
) -> Result<(McpInstance, Option<Tool>), IntegrationError> {
    let scope = may.place.scope();
    let found = match wanted {
        Wanted::Named(name) => named(database, &scope, name).await?.ok_or_else(|| unknown(name))?,
        Wanted::At(url) => {
            let url = servers::canonical(url)?;
            let mut found = of_server_at(database, &scope, &url).await?;
            match found.len() {
                0 => return Err(unknown(&url)),
                1 => found.remove(0),
                _ => {
                    return Err(
                        AccessError::Conflict { code: "MCP_INSTANCE_AMBIGUOUS", message: several(&found) }.into()
                    );
                }
            }
        }
    };
    let Some(tool) = tool else { return Ok((found, None)) };
    let version = versions::get(database, &scope, found.server, found.version).await?;
    let missing = || AccessError::NotFound { kind: "tool of this instance", id: tool.to_owned() };
    let tool = version.tools.named(tool).ok_or_else(missing)?.clone();
    Ok((found, Some(tool)))
}

/// Why an address is not enough.
pub(super) fn several(found: &[McpInstance]) -> String {
    let names: Vec<&str> = found.iter().map(|it| it.name.as_str()).collect();
    format!(
        "this project has several instances of the server at this address ({}); say which by `instance_id`",
        names.join(", ")
    )
}

/// Changes an instance. Steps use the new version from then on, those of runs under way too.
pub(crate) async fn change(
    app: &App,
    may: &May<WriteConnections>,
    id: McpInstanceId,
    change: Change,
) -> Result<McpInstance, IntegrationError> {
    let given_name = change.name.as_deref().map(|name| fields::name("name", name)).transpose()?;
    let (database, scope) = (app.database(), may.place.scope());
    if let Some(version) = change.version {
        let found = get(database, &scope, id).await?;
        versions::get(database, &scope, found.server, version).await?;
    }
    let now = database.time();
    let mut tx = database.begin().await?;
    let details = json!({ "name": given_name, "version": change.version });
    may.record(&mut tx, "mcp_instance.update", id, details, now).await?;
    let before = within(&mut tx, &scope, id).await?;
    let (name, version) = (given_name.unwrap_or(before.name), change.version.unwrap_or(before.version));
    let changed = keep(&mut tx, &scope, &McpInstance { name, version, ..before }, now).await?;
    tx.commit().await?;
    Ok(changed)
}

/// Decides which config profile calls use; nothing: none, and no credentials.
pub(crate) async fn set_active(
    app: &App,
    may: &May<WriteConnections>,
    id: McpInstanceId,
    profile: Option<String>,
) -> Result<McpInstance, IntegrationError> {
    let (database, scope) = (app.database(), may.place.scope());
    let now = database.time();
    let mut tx = database.begin().await?;
    may.record(&mut tx, "mcp_instance.set_active", id, json!({ "profile": profile }), now).await?;
    let found = within(&mut tx, &scope, id).await?;
    if let Some(name) = &profile {
        tx.row(PROFILE, profile_key(&scope, id, name)).await?.ok_or_else(|| unknown_profile(name))?;
    }
    let changed = keep(&mut tx, &scope, &McpInstance { active_profile: profile, ..found }, now).await?;
    tx.commit().await?;
    Ok(changed)
}

async fn keep(
    tx: &mut Tx<'_>,
    scope: &Scope,
    changed: &McpInstance,
    now: Timestamp,
) -> Result<McpInstance, IntegrationError> {
    let mut values = key(scope, changed.id);
    values.text(&changed.name).number(changed.version).maybe_text(changed.active_profile.as_deref());
    values.number(now.as_micros());
    let row = tx.row(UPDATE, values).await?.ok_or_else(|| taken(&changed.name))?;
    Ok(instance(&row)?)
}

/// Deletes an instance with its config profiles. Steps that name it fail from then on.
pub(crate) async fn delete(app: &App, may: &May<WriteConnections>, id: McpInstanceId) -> Result<(), IntegrationError> {
    let (now, scope) = (app.database().time(), may.place.scope());
    let mut tx = app.database().begin().await?;
    may.record(&mut tx, "mcp_instance.delete", id, Value::Null, now).await?;
    tx.row(DELETE, key(&scope, id)).await?.ok_or_else(|| unknown(&id.to_string()))?;
    tx.rows(DELETE_PROFILES, key(&scope, id)).await?;
    Ok(tx.commit().await?)
}

/// An instance and its config profiles, by name.
pub(crate) async fn profiles(
    database: &Database,
    scope: &Scope,
    id: McpInstanceId,
) -> Result<(McpInstance, Vec<ConfigProfile>), IntegrationError> {
    let found = get(database, scope, id).await?;
    let profiles = database.rows(PROFILES, key(scope, id)).await?.iter().map(profile).collect::<Result<_, _>>()?;
    Ok((found, profiles))
}

/// Makes a config profile. It is not active before it is made so.
pub(crate) async fn create_profile(
    app: &App,
    may: &May<WriteConnections>,
    id: McpInstanceId,
    given_name: &str,
    given: BTreeMap<String, String>,
) -> Result<ConfigProfile, IntegrationError> {
    let profile_name = fields::name("name", given_name)?;
    let (database, scope) = (app.database(), may.place.scope());
    let found = get(database, &scope, id).await?;
    let server = servers::get(database, &scope, found.server).await?;
    let fields = server.fields();
    let fields: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    let bindings = bindings(&fields, given)?;
    let now = database.time();
    let mut tx = database.begin().await?;
    let details = json!({ "profile": profile_name, "bindings": bindings });
    may.record(&mut tx, "mcp_instance.add_profile", id, details, now).await?;
    within(&mut tx, &scope, id).await?;
    let before = tx.rows(PROFILES, key(&scope, id)).await?;
    let before: Vec<ConfigProfile> = before.iter().map(profile).collect::<Result<_, _>>()?;
    if before.iter().any(|it| it.name == profile_name) {
        let message = format!(
            "this instance has a config profile `{profile_name}` already; delete it first, or choose another name"
        );
        return Err(AccessError::Conflict { code: "MCP_PROFILE_NAME_TAKEN", message }.into());
    }
    if before.len() >= MCP_PROFILES_MAX as usize {
        let message = format!("an instance has at most {MCP_PROFILES_MAX} config profiles; delete one first");
        return Err(AccessError::Conflict { code: "TOO_MANY_MCP_PROFILES", message }.into());
    }
    let mut values = key(&scope, id);
    values.text(profile_name).text(json(&bindings)).id(may.caller.user).number(now.as_micros());
    let row = tx.row(INSERT_PROFILE, values).await?.ok_or(StoreError::AlreadyExists)?;
    tx.commit().await?;
    Ok(profile(&row)?)
}

/// Deletes a config profile. Where it was the active one, calls have no credentials from then on.
pub(crate) async fn delete_profile(
    app: &App,
    may: &May<WriteConnections>,
    id: McpInstanceId,
    name: &str,
) -> Result<(), IntegrationError> {
    let (now, scope) = (app.database().time(), may.place.scope());
    let mut tx = app.database().begin().await?;
    may.record(&mut tx, "mcp_instance.delete_profile", id, json!({ "profile": name }), now).await?;
    let found = within(&mut tx, &scope, id).await?;
    tx.row(DELETE_PROFILE, profile_key(&scope, id, name)).await?.ok_or_else(|| unknown_profile(name))?;
    // Another one of its name is not active before somebody says so.
    if found.active_profile.as_deref() == Some(name) {
        keep(&mut tx, &scope, &McpInstance { active_profile: None, ..found }, now).await?;
    }
    Ok(tx.commit().await?)
}

/// Bindings as somebody gave them: of fields that the server has, to credentials of connections.
fn bindings(fields: &[&str], given: BTreeMap<String, String>) -> Result<BTreeMap<String, SecretRef>, IntegrationError> {
    let invalid = |message: String| IntegrationError::invalid("bindings", message);
    let mut bindings = BTreeMap::new();
    for (field, kept) in given {
        if !fields.contains(&field.as_str()) {
            let known = if fields.is_empty() { "none".to_owned() } else { fields.join(", ") };
            return Err(invalid(format!("the server wants no credential `{field}`; its fields are: {known}")));
        }
        match kept.parse() {
            Ok(kept @ SecretRef::Connection { .. }) => bindings.insert(field, kept),
            Ok(SecretRef::Vault(_)) | Err(_) => {
                return Err(invalid(format!("`{field}`: write `connection/<connection>/<credential key>`")));
            }
        };
    }
    Ok(bindings)
}

async fn within(tx: &mut Tx<'_>, scope: &Scope, id: McpInstanceId) -> Result<McpInstance, IntegrationError> {
    let row = tx.row(NAMED, key(scope, id)).await?.ok_or_else(|| unknown(&id.to_string()))?;
    Ok(instance(&row)?)
}

fn taken(name: &str) -> IntegrationError {
    let message = format!("this project has an instance `{name}` already; choose another name");
    AccessError::Conflict { code: "MCP_INSTANCE_NAME_TAKEN", message }.into()
}

fn unknown(name: &str) -> IntegrationError {
    AccessError::NotFound { kind: "instance of an MCP server", id: name.to_owned() }.into()
}

fn unknown_profile(name: &str) -> IntegrationError {
    AccessError::NotFound { kind: "config profile", id: name.to_owned() }.into()
}

fn profile_key(scope: &Scope, id: McpInstanceId, name: &str) -> Values {
    let mut values = key(scope, id);
    values.text(name);
    values
}

fn instance(row: &Row) -> Result<McpInstance, StoreError> {
    Ok(McpInstance {
        id: id(row, 0)?,
        name: text(row, 1)?.to_owned(),
        server: id(row, 2)?,
        version: number(row, 3)?,
        active_profile: maybe_text(row, 4)?.map(str::to_owned),
        created_by: id(row, 5)?,
        created_at: time(row, 6)?,
        updated_at: time(row, 7)?,
    })
}

fn profile(row: &Row) -> Result<ConfigProfile, StoreError> {
    Ok(ConfigProfile {
        name: text(row, 0)?.to_owned(),
        bindings: document(text(row, 1)?)?,
        created_by: id(row, 2)?,
        created_at: time(row, 3)?,
    })
}
