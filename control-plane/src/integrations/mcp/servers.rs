//! Servers that a project knows, and asking them what tools they have.

use super::{
    MCP_DISCOVERY_TIMEOUT, MCP_SERVERS_MAX, again,
    failure::Failure,
    fields::{self, CredentialField},
    session::{Bounds, Handshake, Session},
    sessions::Wanted,
    tools::{ToolChanges, ToolList},
    versions,
    wire::Ends,
};
use crate::{
    access::{
        AccessError, May, UserId, field,
        permission::{ReadConnections, WriteConnections},
        rows::{self, Ceiling, check_room, key},
    },
    app::App,
    integrations::{ConnectionId, IntegrationError, McpServerId, connections, oauth::ACCESS_TOKEN, secrets::Keeper},
};
use agentruntime_engine::{
    database::{Database, Row, StoreError, Tx, document, id, json, maybe_text, maybe_time, text, time},
    store::Scope,
};
use agentruntime_host_api::{SecretRef, Timestamp, ToolServer};
use futures_util::FutureExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use url::Url;
use uuid::Uuid;

/// The columns that [`server`] reads, in its order.
macro_rules! columns {
    () => {
        "server_id, name, canonical_url, credential_fields, discovered_hash, protocol_version, discovered_at, created_by, \
         created_at"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO mcp_servers (tenant_id, project_id, ",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, NULL, NULL, NULL, $7, $8) RETURNING ",
    columns!()
);

const COUNT: &str = "SELECT COUNT(*) FROM mcp_servers WHERE tenant_id = $1 AND project_id = $2";

const TAKEN: &str = "SELECT name FROM mcp_servers \
    WHERE tenant_id = $1 AND project_id = $2 AND (name = $3 OR canonical_url = $4) ORDER BY created_at LIMIT 1";

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM mcp_servers WHERE tenant_id = $1 AND project_id = $2 AND (created_at, server_id) > ($3, $4) \
     ORDER BY created_at, server_id LIMIT $5"
);

const SELECT: &str =
    concat!("SELECT ", columns!(), " FROM mcp_servers WHERE tenant_id = $1 AND project_id = $2 AND server_id = $3");

const SHOWN: &str = "SELECT discovered FROM mcp_servers WHERE tenant_id = $1 AND project_id = $2 AND server_id = $3";

const DISCOVERED: &str = concat!(
    "UPDATE mcp_servers SET discovered = $4, discovered_hash = $5, protocol_version = $6, discovered_at = $7 \
     WHERE tenant_id = $1 AND project_id = $2 AND server_id = $3 RETURNING ",
    columns!()
);

/// Whether a server is there.
pub(super) const EXISTS: &str =
    "SELECT server_id FROM mcp_servers WHERE tenant_id = $1 AND project_id = $2 AND server_id = $3";

const USED: &str = "SELECT name FROM mcp_instances WHERE tenant_id = $1 AND project_id = $2 AND server_id = $3 LIMIT 1";

const DELETE: &str =
    "DELETE FROM mcp_servers WHERE tenant_id = $1 AND project_id = $2 AND server_id = $3 RETURNING server_id";

const DELETE_VERSIONS: &str =
    "DELETE FROM mcp_server_versions WHERE tenant_id = $1 AND project_id = $2 AND server_id = $3 RETURNING version";

/// A server.
#[derive(Debug)]
pub(crate) struct McpServer {
    /// Its id.
    pub(crate) id: McpServerId,
    /// For people; one of a kind in its project.
    pub(crate) name: String,
    /// Where it is; one of a kind in its project.
    pub(crate) canonical_url: String,
    /// What it wants to be told of who asks.
    pub(crate) credential_fields: Vec<CredentialField>,
    /// The hash of the tools that it showed when it was asked last.
    pub(crate) discovered_hash: Option<String>,
    /// The revision of MCP that it spoke then.
    pub(crate) protocol_version: Option<String>,
    /// When that was.
    pub(crate) discovered_at: Option<Timestamp>,
    /// Who registered it.
    pub(crate) created_by: UserId,
    /// When.
    pub(crate) created_at: Timestamp,
}

/// What a server shows now, compared to a version.
pub(crate) struct Validated {
    /// The version's number.
    pub(crate) version: u32,
    /// The hash of the version.
    pub(crate) version_hash: String,
    /// The hash of what it shows now.
    pub(crate) shown_hash: String,
    /// What differs.
    pub(crate) changes: ToolChanges,
}

/// Registers a server. It is not asked anything.
pub(crate) async fn create(
    app: &App,
    may: &May<WriteConnections>,
    name: &str,
    url: &str,
    credential_fields: Vec<CredentialField>,
) -> Result<McpServer, IntegrationError> {
    let name = field::name("name", name)?;
    let url = canonical(url)?;
    fields::check(&credential_fields)?;
    let (database, scope) = (app.database(), may.place.scope());
    let (id, now) = (McpServerId::new_v7(), database.time());
    let mut tx = database.begin().await?;
    // The entry first: it makes those who change things of one workspace take turns.
    may.record(&mut tx, "mcp_server.create", id, json!({ "name": name, "canonical_url": url }), now).await?;
    let mut values = rows::of(&scope);
    values.text(&name).text(&url);
    if let Some(row) = tx.row(TAKEN, values).await? {
        let other = text(&row, 0)?;
        let message = format!("this project has a server `{other}` of this name or at this address already");
        return Err(AccessError::Conflict { code: "MCP_SERVER_EXISTS", message }.into());
    }
    let message = format!("a project has at most {MCP_SERVERS_MAX} MCP servers; delete one first");
    let ceiling = Ceiling { count: COUNT, max: MCP_SERVERS_MAX, code: "TOO_MANY_MCP_SERVERS", message };
    check_room(&mut tx, rows::of(&scope), ceiling).await?;
    let mut values = key(&scope, id);
    values.text(name).text(url).text(json(&credential_fields));
    values.id(may.caller.user).number(now.as_micros());
    let row = tx.row(INSERT, values).await?.ok_or(StoreError::AlreadyExists)?;
    tx.commit().await?;
    Ok(server(&row)?)
}

/// Servers of a project, in the order in which they were registered.
pub(crate) async fn list(
    database: &Database,
    may: &May<ReadConnections>,
    after: Option<(i64, Uuid)>,
    limit: u32,
) -> Result<Vec<McpServer>, IntegrationError> {
    let values = rows::page(rows::of(&may.place.scope()), after, limit);
    Ok(database.rows(LIST, values).await?.iter().map(server).collect::<Result<_, _>>()?)
}

/// One server.
pub(crate) async fn get(database: &Database, scope: &Scope, id: McpServerId) -> Result<McpServer, IntegrationError> {
    let rows = database.rows(SELECT, key(scope, id)).await?;
    Ok(server(rows.first().ok_or_else(|| unknown(id))?)?)
}

/// The tools that a server showed when it was asked last.
pub(super) async fn shown(
    tx: &mut Tx<'_>,
    scope: &Scope,
    id: McpServerId,
) -> Result<Option<ToolList>, IntegrationError> {
    let row = tx.row(SHOWN, key(scope, id)).await?.ok_or_else(|| unknown(id))?;
    Ok(maybe_text(&row, 0)?.map(document).transpose()?)
}

/// Deletes a server and its versions. One that instances are of is kept.
pub(crate) async fn delete(app: &App, may: &May<WriteConnections>, id: McpServerId) -> Result<(), IntegrationError> {
    let (now, scope) = (app.database().time(), may.place.scope());
    let mut tx = app.database().begin().await?;
    may.record(&mut tx, "mcp_server.delete", id, Value::Null, now).await?;
    if let Some(row) = tx.row(USED, key(&scope, id)).await? {
        let message = format!("the instance `{}` is of this server; delete it first", text(&row, 0)?);
        return Err(AccessError::Conflict { code: "MCP_SERVER_IN_USE", message }.into());
    }
    tx.row(DELETE, key(&scope, id)).await?.ok_or_else(|| unknown(id))?;
    tx.rows(DELETE_VERSIONS, key(&scope, id)).await?;
    Ok(tx.commit().await?)
}

/// Asks a server for its tools, and keeps what it shows as the newest discovery.
pub(crate) async fn discover(
    app: &App,
    may: &May<WriteConnections>,
    id: McpServerId,
    connection: Option<ConnectionId>,
) -> Result<(McpServer, ToolList), IntegrationError> {
    let scope = may.place.scope();
    let found = get(app.database(), &scope, id).await?;
    let _inquiry = app.inquiries.admit(&scope.tenant)?;
    asking(app, may, "mcp_server.discover", id, connection).await?;
    let (tools, protocol_version) = ask(app, &scope, &found, connection).await?;
    let mut values = key(&scope, id);
    let now = app.database().time();
    values.text(tools.text()).text(tools.hash()).maybe_text(protocol_version).number(now.as_micros());
    let mut tx = app.database().begin().await?;
    let row = tx.row(DISCOVERED, values).await?.ok_or_else(|| unknown(id))?;
    tx.commit().await?;
    Ok((server(&row)?, tools))
}

/// Asks a server for its tools, and compares them to a version.
pub(crate) async fn validate(
    app: &App,
    may: &May<WriteConnections>,
    id: McpServerId,
    version: u32,
    connection: Option<ConnectionId>,
) -> Result<Validated, IntegrationError> {
    let scope = may.place.scope();
    let found = get(app.database(), &scope, id).await?;
    let frozen = versions::get(app.database(), &scope, id, version).await?;
    let _inquiry = app.inquiries.admit(&scope.tenant)?;
    asking(app, may, "mcp_server.validate", id, connection).await?;
    let (shown, _) = ask(app, &scope, &found, connection).await?;
    let changes = frozen.tools.changes_to(&shown);
    Ok(Validated { version, version_hash: frozen.tools_hash, shown_hash: shown.hash(), changes })
}

/// Writes into the log that a server is asked, before a credential is used for that.
async fn asking(
    app: &App,
    may: &May<WriteConnections>,
    action: &'static str,
    id: McpServerId,
    connection: Option<ConnectionId>,
) -> Result<(), IntegrationError> {
    let now = app.database().time();
    let mut tx = app.database().begin().await?;
    may.record(&mut tx, action, id, json!({ "connection_id": connection }), now).await?;
    Ok(tx.commit().await?)
}

/// What a server shows, asked with the credentials of a connection: each field gets the one of its name, or where the
/// connection was authorized, the one field for tokens gets its token.
async fn ask(
    app: &App,
    scope: &Scope,
    server: &McpServer,
    connection: Option<ConnectionId>,
) -> Result<(ToolList, Option<String>), IntegrationError> {
    let fields = server.fields();
    let bindings = match connection {
        Some(connection) => bindings(app.database(), scope, server, connection).await?,
        None => BTreeMap::new(),
    };
    let (url, headers) = (server.url()?, fields::headers(&fields, &bindings));
    let keeper = Keeper {
        database: app.database().clone(),
        keys: app.keys(),
        egress: app.outside.egress().clone(),
        scope: scope.clone(),
    };
    let asked = again::ask(&keeper, &bindings, |secrets| {
        let ends = Ends { egress: keeper.egress.clone(), url: url.clone(), headers: headers.clone(), secrets };
        // What it spoke before does not count: it is asked anew, in a session that nobody else uses.
        let (handshake, limit) = (Handshake::Unknown, MCP_DISCOVERY_TIMEOUT);
        let wanted = Wanted { key: None, ends, version: None, handshake, limit };
        app.outside.sessions().converse(wanted, |session, bounds| shown_in(session, bounds).boxed())
    });
    asked.await.map_err(|unanswered| unanswered.of_field("connection_id"))
}

/// Which field gets what of a connection.
async fn bindings(
    database: &Database,
    scope: &Scope,
    server: &McpServer,
    id: ConnectionId,
) -> Result<BTreeMap<String, SecretRef>, IntegrationError> {
    let found = connections::named(database, scope, &id.to_string()).await?;
    let kept = |key: &str| SecretRef::Connection { connection: id.to_string(), key: key.to_owned() };
    if found.is_some_and(|found| found.grant.is_some()) {
        let fields = server.fields();
        let token = fields::token_field(&fields).map(|field| (field.name.clone(), kept(ACCESS_TOKEN)));
        return Ok(token.into_iter().collect());
    }
    Ok(server.credential_fields.iter().map(|field| (field.name.clone(), kept(&field.name))).collect())
}

async fn shown_in(session: &Session, bounds: &Bounds) -> Result<(ToolList, Option<String>), Failure> {
    Ok((session.tools(bounds).await?, session.protocol_version()))
}

impl McpServer {
    /// Its address.
    pub(super) fn url(&self) -> Result<Url, StoreError> {
        address(&self.canonical_url)
    }

    /// What it takes: what it was registered with, and a token that was granted.
    pub(super) fn fields(&self) -> Vec<CredentialField> {
        fields::with_token(&self.credential_fields)
    }
}

/// The address of a server, as it is kept.
pub(in crate::integrations) fn address(kept: &str) -> Result<Url, StoreError> {
    Url::parse(kept).map_err(|_| StoreError::Corrupt("the address of an MCP server".into()))
}

/// An address in the one spelling that is compared.
pub(crate) fn canonical(text: &str) -> Result<String, IntegrationError> {
    match ToolServer::at(text) {
        Ok(ToolServer::Url(url)) => Ok(url),
        Ok(server @ ToolServer::Instance(_)) => Ok(server.to_string()),
        Err(error) => Err(IntegrationError::invalid("canonical_url", error.to_string())),
    }
}

pub(super) fn unknown(id: McpServerId) -> IntegrationError {
    AccessError::NotFound { kind: "MCP server", id: id.to_string() }.into()
}

fn server(row: &Row) -> Result<McpServer, StoreError> {
    Ok(McpServer {
        id: id(row, 0)?,
        name: text(row, 1)?.to_owned(),
        canonical_url: text(row, 2)?.to_owned(),
        credential_fields: document(text(row, 3)?)?,
        discovered_hash: maybe_text(row, 4)?.map(str::to_owned),
        protocol_version: maybe_text(row, 5)?.map(str::to_owned),
        discovered_at: maybe_time(row, 6)?,
        created_by: id(row, 7)?,
        created_at: time(row, 8)?,
    })
}
