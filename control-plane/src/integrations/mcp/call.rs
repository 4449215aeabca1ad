//! Carries out `mcp.call` and `mcp.describe`: finds the server, checks what goes and what comes, and hands the reply on as data.

use super::{
    again,
    failure::Failure,
    fields, schemas,
    session::{Bounds, Session},
    sessions::{Sessions, Wanted},
    shelf::Key,
    target::{Pinned, Target},
    tools::{Tool, ToolList},
    wire::Ends,
};
use crate::integrations::{
    outside::Secrets,
    schemas::Checks,
    secrets::{Keeper, scope},
};
use agentruntime_egress::{Egress, Scrubber, Secret, TIMEOUT_DEFAULT};
use agentruntime_host_api::{Errand, ErrorCode, HostReply, Json, StepError, ToolCall};
use futures_util::FutureExt;
use rmcp::model::CallToolResult;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// What calls go through.
#[derive(Clone, Copy)]
pub(in crate::integrations) struct Ways<'w> {
    /// Where instances and credentials are.
    pub(in crate::integrations) kept: &'w Secrets,
    /// The way out.
    pub(in crate::integrations) egress: &'w Egress,
    /// Sessions with servers.
    pub(in crate::integrations) sessions: &'w Sessions,
}

/// Calls a tool.
pub(in crate::integrations) async fn call(
    ways: Ways<'_>,
    checks: Checks,
    errand: &Errand,
    call: &ToolCall,
) -> HostReply {
    let target = target(ways.kept, errand, call).await?;
    if let Some(pinned) = &target.pinned {
        schemas::check_arguments(&checks, &pinned.tool, Value::Object(call.arguments.clone())).await?;
    }
    let key = errand.idempotency_key().to_string();
    let pinned = target.pinned.clone();
    let asked = Arc::new(Asked { call: call.clone(), pinned, key, checks: checks.clone() });
    let asking = Asking { ways, errand, target: &target, call };
    let (tool, result, scrubber) = asking
        .converse(|wanted| {
            let (asked, ends) = (asked.clone(), wanted.ends.clone());
            let conversation = ways.sessions.converse(wanted, move |session, bounds| {
                let asked = asked.clone();
                async move { ask(session, bounds, &asked).await }.boxed()
            });
            async move { conversation.await.map(|(tool, result)| (tool, result, ends.scrubber())) }
        })
        .await?;
    // What failed has no result that a schema could be about.
    if result.is_error != Some(true) {
        schemas::check_result(&checks, &tool, result.structured_content.as_ref()).await?;
    }
    reply(result, &scrubber)
}

/// Says what a tool is for and what it is called with: as it was frozen, or as a server without an instance shows it now.
pub(in crate::integrations) async fn describe(ways: Ways<'_>, errand: &Errand, call: &ToolCall) -> HostReply {
    let target = target(ways.kept, errand, call).await?;
    let tool = match &target.pinned {
        Some(pinned) => pinned.tool.clone(),
        None => {
            let asking = Asking { ways, errand, target: &target, call };
            asking
                .converse(|wanted| {
                    let name = call.tool.clone();
                    ways.sessions.converse(wanted, move |session, bounds| look(session, bounds, name.clone()).boxed())
                })
                .await?
        }
    };
    let Tool { name, description, input_schema, .. } = tool;
    Ok(json!({ "name": name, "description": description, "input_schema": input_schema }).into())
}

async fn target(kept: &Secrets, errand: &Errand, call: &ToolCall) -> Result<Target, StepError> {
    match kept {
        Secrets::Kept { database, .. } => Target::find(database, &scope(&errand.caller), call).await,
        Secrets::Given(_) => Target::unregistered(call),
    }
}

/// One call, and where it goes.
struct Asking<'a> {
    ways: Ways<'a>,
    errand: &'a Errand,
    target: &'a Target,
    call: &'a ToolCall,
}

impl Asking<'_> {
    /// Has a conversation with the server, with the credentials that are bound.
    async fn converse<T, F>(&self, conversation: impl Fn(Wanted) -> F) -> Result<T, StepError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let attempt = |secrets| conversation(self.wanted(secrets));
        match self.ways.kept {
            Secrets::Kept { database, keys } => {
                let keeper = Keeper {
                    database: database.clone(),
                    keys: keys.clone(),
                    egress: self.ways.egress.clone(),
                    scope: scope(&self.errand.caller),
                };
                again::ask(&keeper, &self.target.bindings, attempt).await.map_err(|error| self.of_tool(error.into()))
            }
            Secrets::Given(_) => attempt(BTreeMap::new()).await.map_err(|failure| self.of_tool(failure.into())),
        }
    }

    /// What went wrong on the way, with whose tool it was asked for.
    fn of_tool(&self, error: StepError) -> StepError {
        match error.code {
            ErrorCode::UpstreamError => {
                let message = format!("{} (tool `{}` of {})", error.message, self.call.tool, self.call.server);
                StepError { message, ..error }
            }
            _ => error,
        }
    }

    /// The session that the call is made in.
    fn wanted(&self, secrets: BTreeMap<String, Secret>) -> Wanted {
        let Self { ways, errand, target, call } = self;
        let ends = Ends {
            egress: ways.egress.clone(),
            url: target.url.clone(),
            headers: fields::headers(&target.fields, &target.bindings),
            secrets,
        };
        Wanted {
            key: Some(Key::new(&errand.caller, target.place.clone())),
            ends,
            version: target.pinned.as_ref().map(|pinned| pinned.version),
            handshake: target.handshake,
            limit: call.timeout.unwrap_or(TIMEOUT_DEFAULT),
        }
    }
}

/// The tool as the server shows it now.
async fn look(session: &Session, bounds: &Bounds, name: String) -> Result<Tool, Failure> {
    let shown = session.shown(bounds).await?;
    let found = shown.named(&name).cloned().ok_or_else(|| {
        let names = shown.some_names();
        let message = format!("the MCP server has no tool `{name}`; its tools are: {names}");
        StepError::new(ErrorCode::McpToolFailed, message)
    })?;
    Ok(found)
}

/// What a call asks for.
struct Asked {
    call: ToolCall,
    pinned: Option<Pinned>,
    key: String,
    checks: Checks,
}

async fn ask(session: &Session, bounds: &Bounds, asked: &Asked) -> Result<(Tool, CallToolResult), Failure> {
    let Asked { call, pinned, key, checks } = asked;
    let tool = match pinned {
        Some(pinned) => unchanged(pinned, &*session.shown(bounds).await?)?,
        None => {
            let tool = look(session, bounds, call.tool.clone()).await?;
            schemas::check_arguments(checks, &tool, Value::Object(call.arguments.clone())).await?;
            tool
        }
    };
    let result = session.call(bounds, &call.tool, call.arguments.clone(), key).await?;
    Ok((tool, result))
}

/// The frozen tool, if the server still shows the same.
fn unchanged(pinned: &Pinned, shown: &ToolList) -> Result<Tool, StepError> {
    let Pinned { tool, instance, version } = pinned;
    let what = match shown.named(&tool.name) {
        // What is equal has the same hash, which takes longer.
        Some(now) if now == tool || now.hash() == tool.hash() => return Ok(tool.clone()),
        Some(_) => "shows it differently now",
        None => "does not show it any more",
    };
    let message = format!(
        "the tool `{}` was frozen in version {version} of the instance `{instance}`, and its server {what}: nothing was \
         called. Look at what changed (POST /v1/mcp/servers/{{id}}/validate); if it is right, discover the tools, make a \
         new version and have the instance use it",
        tool.name
    );
    Err(StepError::new(ErrorCode::McpToolFailed, message)
        .with_details(json!({ "tool": tool.name, "version": version })))
}

/// The reply as a step gets it.
fn reply(result: CallToolResult, scrubber: &Scrubber) -> HostReply {
    let mut members = Map::new();
    if let Some(structured) = result.structured_content {
        members.insert("structured_content".into(), structured);
    }
    members.insert("content".into(), serde_json::to_value(result.content).unwrap_or_default());
    members.insert("is_error".into(), result.is_error.unwrap_or(false).into());
    // Once more, now that texts are as they are meant: a server may have spelled a secret with escapes.
    Json::parse(scrubber.clean(Value::Object(members).to_string())).map_err(|error| {
        let message = format!("what the MCP server answered cannot be handed on: {error}");
        StepError::new(ErrorCode::UpstreamError, message)
    })
}
