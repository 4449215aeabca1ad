//! Where a call goes, what was frozen of the tool, and which credentials go along.

use super::{
    fields::CredentialField,
    instances::{self, McpInstance},
    servers,
    session::Handshake,
    shelf::Place,
    tools::Tool,
    versions,
};
use crate::integrations::secrets::unavailable;
use agentruntime_engine::{database::Database, store::Scope};
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
        let found = match &call.server {
            ToolServer::Instance(name) => {
                let found = instances::named(database, scope, name).await.map_err(|error| unavailable(&error))?;
                found.ok_or_else(|| missing(format!("this project has no instance `{name}` of an MCP server")))?
            }
            ToolServer::Url(url) => {
                let found = instances::of_server_at(database, scope, url).await;
                let mut found = found.map_err(|error| unavailable(&error))?;
                match found.len() {
                    0 => return Self::unregistered(call),
                    1 => found.remove(0),
                    _ => return Err(missing(instances::several(&found))),
                }
            }
        };
        Self::of_instance(database, scope, &found, &call.tool).await
    }

    async fn of_instance(
        database: &Database,
        scope: &Scope,
        instance: &McpInstance,
        tool: &str,
    ) -> Result<Self, StepError> {
        let (name, version) = (&instance.name, instance.version);
        let gone = || missing(format!("the server of the instance `{name}`, or version {version} of it, is gone"));
        let server = servers::find(database, scope, instance.server).await.map_err(|error| unavailable(&error))?;
        let server = server.ok_or_else(gone)?;
        let frozen = versions::find(database, scope, instance.server, version).await;
        let frozen = frozen.map_err(|error| unavailable(&error))?.ok_or_else(gone)?;
        let bindings = instances::active_bindings(database, scope, instance).await;
        let bindings = bindings.map_err(|error| unavailable(&error))?;
        let tool = frozen.tools.named(tool).cloned().ok_or_else(|| {
            let names = frozen.tools.some_names();
            missing(format!("version {version} of the instance `{name}` has no tool `{tool}`; its tools are: {names}"))
        })?;
        Ok(Self {
            place: Place::Instance(instance.id),
            url: server.url().map_err(|error| unavailable(&error))?,
            handshake: server.handshake(),
            pinned: Some(Pinned { tool, instance: name.clone(), version }),
            fields: server.fields(),
            bindings,
        })
    }
}

fn missing(message: String) -> StepError {
    StepError::new(ErrorCode::InvalidInput, message)
}
