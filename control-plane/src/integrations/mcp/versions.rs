//! Lists of tools that were frozen. Nobody changes one afterwards.

use super::{MCP_VERSIONS_MAX, servers, tools::ToolList};
use crate::{
    access::{AccessError, May, UserId, permission::WriteConnections, rows::key, tenants},
    app::App,
    integrations::{IntegrationError, McpServerId},
};
use agentruntime_engine::{
    database::{Database, Row, StoreError, document, id, number, text, time},
    store::Scope,
};
use agentruntime_host_api::Timestamp;
use serde_json::json;

/// The columns that [`version`] reads, in its order.
macro_rules! columns {
    () => {
        "version, tools, tools_hash, created_by, created_at"
    };
}

const NEWEST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM mcp_server_versions WHERE tenant_id = $1 AND project_id = $2 AND server_id = $3 ORDER BY version DESC LIMIT 1"
);

const SELECT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM mcp_server_versions WHERE tenant_id = $1 AND project_id = $2 AND server_id = $3 AND version = $4"
);

/// Without the tools, which may be long.
const LIST: &str = "SELECT version, '[]', tools_hash, created_by, created_at FROM mcp_server_versions \
    WHERE tenant_id = $1 AND project_id = $2 AND server_id = $3 ORDER BY version DESC LIMIT $4";

const INSERT: &str = concat!(
    "INSERT INTO mcp_server_versions (tenant_id, project_id, server_id, ",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING ",
    columns!()
);

/// A frozen list of tools.
#[derive(Debug)]
pub(crate) struct McpVersion {
    /// From 1.
    pub(crate) version: u32,
    /// The tools; none in a list of versions.
    pub(crate) tools: ToolList,
    /// SHA-256 over their canonical JSON.
    pub(crate) tools_hash: String,
    /// Who froze it.
    pub(crate) created_by: UserId,
    /// When.
    pub(crate) created_at: Timestamp,
}

/// Freezes what the server showed when it was asked last. Where that is the newest version already, it stays the newest.
pub(crate) async fn freeze(
    app: &App,
    may: &May<WriteConnections>,
    server: McpServerId,
) -> Result<McpVersion, IntegrationError> {
    let (database, scope) = (app.database(), may.place.scope());
    let now = database.time();
    let mut tx = database.begin().await?;
    // Before anything is read: what somebody discovers meanwhile is then frozen, too, or waits.
    tenants::lock(&mut tx, &scope.tenant).await?;
    let Some(tools) = servers::shown(&mut tx, &scope, server).await? else {
        let message = "nobody has asked this server for its tools yet; discover them first".to_owned();
        return Err(AccessError::Conflict { code: "MCP_NOT_DISCOVERED", message }.into());
    };
    let tools_hash = tools.hash();
    may.record(&mut tx, "mcp_server.freeze", server, json!({ "tools_hash": tools_hash }), now).await?;
    let newest = tx.row(NEWEST, key(&scope, server)).await?.as_ref().map(version).transpose()?;
    let next = match newest {
        Some(newest) if newest.tools_hash == tools_hash => return Ok(newest),
        newest => newest.map_or(0, |newest| newest.version) + 1,
    };
    if next > MCP_VERSIONS_MAX {
        let message =
            format!("a server has at most {MCP_VERSIONS_MAX} versions; register it anew, or ask why its tools change");
        return Err(AccessError::Conflict { code: "TOO_MANY_MCP_VERSIONS", message }.into());
    }
    let mut values = key(&scope, server);
    values.number(next).text(tools.text()).text(tools_hash).id(may.caller.user).number(now.as_micros());
    let row = tx.row(INSERT, values).await?.ok_or(StoreError::AlreadyExists)?;
    tx.commit().await?;
    Ok(version(&row)?)
}

/// The versions of a server, the newest first, without their tools.
pub(crate) async fn list(
    database: &Database,
    scope: &Scope,
    server: McpServerId,
) -> Result<Vec<McpVersion>, IntegrationError> {
    servers::get(database, scope, server).await?;
    let mut values = key(scope, server);
    values.number(MCP_VERSIONS_MAX);
    Ok(database.rows(LIST, values).await?.iter().map(version).collect::<Result<_, _>>()?)
}

/// One version.
pub(crate) async fn get(
    database: &Database,
    scope: &Scope,
    server: McpServerId,
    number: u32,
) -> Result<McpVersion, IntegrationError> {
    let unknown = || AccessError::NotFound { kind: "version of this MCP server", id: number.to_string() };
    Ok(find(database, scope, server, number).await?.ok_or_else(unknown)?)
}

/// One version, for a call.
pub(super) async fn find(
    database: &Database,
    scope: &Scope,
    server: McpServerId,
    number: u32,
) -> Result<Option<McpVersion>, StoreError> {
    let mut values = key(scope, server);
    values.number(number);
    database.rows(SELECT, values).await?.first().map(version).transpose()
}

fn version(row: &Row) -> Result<McpVersion, StoreError> {
    Ok(McpVersion {
        version: number(row, 0)?,
        tools: document(text(row, 1)?)?,
        tools_hash: text(row, 2)?.to_owned(),
        created_by: id(row, 3)?,
        created_at: time(row, 4)?,
    })
}
