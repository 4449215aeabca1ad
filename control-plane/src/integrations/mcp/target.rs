//! Where a call goes, what was frozen of the tool, and which credentials go along.

use super::{
    fields::{self, CredentialField},
    instances, servers,
    session::Handshake,
    shelf::Place,
    tools::{Tool, ToolList},
};
use crate::{
    access::rows::key,
    integrations::{McpInstanceId, secrets::unavailable},
};
use agentruntime_engine::{
    database::{Database, StoreError, document, id, maybe_text, number, text},
    store::Scope,
};
use agentruntime_host_api::{ErrorCode, SecretRef, StepError, ToolCall, ToolServer};
use std::collections::BTreeMap;
use url::Url;

/// Where a call goes.
pub(super) struct Target {
    /// What the run has a session with.
    pub(super) place: Place,
    /// The server.
    pub(super) url: Url,
    /// How it wants to be greeted.
    pub(super) handshake: Handshake,
    /// The tool as it was frozen; nothing where the server is no instance.
    pub(super) pinned: Option<Pinned>,
    /// Which credentials it wants.
    pub(super) fields: Vec<CredentialField>,
    /// Where those are kept that it gets.
    pub(super) bindings: BTreeMap<String, SecretRef>,
}

/// A tool as it was frozen.
#[derive(Clone)]
pub(super) struct Pinned {
    /// The tool.
    pub(super) tool: Tool,
    /// The instance that it is of.
    pub(super) instance: String,
    /// In which version.
    pub(super) version: u32,
}

impl Target {
    /// A server that nobody registered: it gets no credentials.
    pub(super) fn unregistered(call: &ToolCall) -> Result<Self, StepError> {
        let url = match &call.server {
            ToolServer::Url(url) => url,
            ToolServer::Instance(instance) => {
                let message = format!(
                    "there is no instance `{instance}` here: a graph that is run by itself has no project with \
                     instances; name the server by `server_url`"
                );
                return Err(missing(message));
            }
        };
        let url = Url::parse(url).map_err(|error| missing(format!("`{url}` is no address: {error}")))?;
        let (fields, bindings) = (Vec::new(), BTreeMap::new());
        let place = Place::Address(url.to_string());
        Ok(Self { place, url, handshake: Handshake::Unknown, pinned: None, fields, bindings })
    }

    /// The server of a project's instance, or one that is no instance.
    pub(super) async fn find(database: &Database, scope: &Scope, call: &ToolCall) -> Result<Self, StepError> {
        let named = match &call.server {
            ToolServer::Instance(name) => name.clone(),
            ToolServer::Url(url) => {
                let found = instances::of_server_at(database, scope, url).await;
                match &*found.map_err(|error| unavailable(&error))? {
                    [] => return Self::unregistered(call),
                    [one] => one.id.to_string(),
                    several => return Err(missing(instances::several(several))),
                }
            }
        };
        let found = found(database, scope, &named).await.map_err(|error| unavailable(&error))?;
        let found = found.ok_or_else(|| missing(format!("this project has no instance `{named}` of an MCP server")))?;
        Self::of(found, &call.tool)
    }

    fn of(found: Found, tool: &str) -> Result<Self, StepError> {
        let Found { id, name, version, frozen, bindings } = found;
        let Some(Frozen { url, credential_fields, protocol_version, tools }) = frozen else {
            return Err(missing(format!("the server of the instance `{name}`, or version {version} of it, is gone")));
        };
        let tool = tools.named(tool).cloned().ok_or_else(|| {
            let names = tools.some_names();
            missing(format!("version {version} of the instance `{name}` has no tool `{tool}`; its tools are: {names}"))
        })?;
        Ok(Self {
            place: Place::Instance(id),
            url,
            handshake: Handshake::of(protocol_version.as_deref()),
            pinned: Some(Pinned { tool, instance: name, version }),
            fields: fields::with_token(&credential_fields),
            bindings,
        })
    }
}

/// All that a call needs of an instance, in one question: calls are many, and each asks anew, so that what somebody changes counts
/// at once.
const FOUND: &str = "SELECT i.instance_id, i.name, i.version, s.canonical_url, s.credential_fields, s.protocol_version, v.tools, \
    p.bindings FROM mcp_instances i \
    LEFT JOIN mcp_servers s ON s.tenant_id = i.tenant_id AND s.project_id = i.project_id AND s.server_id = i.server_id \
    LEFT JOIN mcp_server_versions v ON v.tenant_id = i.tenant_id AND v.project_id = i.project_id \
        AND v.server_id = i.server_id AND v.version = i.version \
    LEFT JOIN mcp_config_profiles p ON p.tenant_id = i.tenant_id AND p.project_id = i.project_id \
        AND p.instance_id = i.instance_id AND p.name = i.active_profile \
    WHERE i.tenant_id = $1 AND i.project_id = $2 AND (i.instance_id = $3 OR i.name = $3)";

/// An instance, and what its calls need.
struct Found {
    id: McpInstanceId,
    name: String,
    version: u32,
    /// Nothing where its server, or that version, is not there.
    frozen: Option<Frozen>,
    /// What the active config profile binds.
    bindings: BTreeMap<String, SecretRef>,
}

/// A server, and its tools in one version.
struct Frozen {
    url: Url,
    credential_fields: Vec<CredentialField>,
    protocol_version: Option<String>,
    tools: ToolList,
}

async fn found(database: &Database, scope: &Scope, name: &str) -> Result<Option<Found>, StoreError> {
    let rows = database.rows(FOUND, key(scope, name)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let frozen = match (maybe_text(row, 3)?, maybe_text(row, 4)?, maybe_text(row, 6)?) {
        (Some(url), Some(fields), Some(tools)) => Some(Frozen {
            url: servers::address(url)?,
            credential_fields: document(fields)?,
            protocol_version: maybe_text(row, 5)?.map(str::to_owned),
            tools: document(tools)?,
        }),
        _ => None,
    };
    let bindings = maybe_text(row, 7)?.map(document).transpose()?.unwrap_or_default();
    Ok(Some(Found { id: id(row, 0)?, name: text(row, 1)?.to_owned(), version: number(row, 2)?, frozen, bindings }))
}

fn missing(message: String) -> StepError {
    StepError::new(ErrorCode::InvalidInput, message)
}
