//! `publish`: a graph becomes a version.

use super::{
    Ending, approvals,
    arguments::PublishArguments,
    context::Context,
    graph_file::{self, GraphFile},
    screen, style,
};
use crate::{
    client::Server,
    operations::{OperationError, approvals::ApprovalState},
};
use agentruntime_engine::graph::{self, GrantRef, Graph, Issue};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

/// What came of it, as it is told.
struct Outcome {
    /// What people call the workflow.
    name: String,
    workflow_id: String,
    version: u32,
    graph_hash: String,
    published_at: String,
    is_new: bool,
    issues: Vec<Issue>,
    approval: ApprovalState,
    new_grants: Vec<GrantRef>,
}

pub(crate) async fn publish(context: &Context, arguments: PublishArguments) -> anyhow::Result<Ending> {
    let outcome = match context.server() {
        None => here(context, arguments).await?,
        Some(server) => at_server(server, arguments).await?,
    };
    if context.json {
        screen::json_line(&json!({
            "workflow_id": outcome.workflow_id,
            "version": outcome.version,
            "graph_hash": outcome.graph_hash,
            "published_at": outcome.published_at,
            "is_new": outcome.is_new,
            "issues": outcome.issues,
            "approval": outcome.approval,
            "new_grants": outcome.new_grants,
        }))?;
        return Ok(Ending::Done);
    }
    screen::show(&style::issues(&outcome.issues))?;
    let what = format!("{} version {}", style::strong(&outcome.name), outcome.version);
    let how = if outcome.is_new { "published" } else { "is this graph already" };
    screen::print(&format!("{what} {how}\n"))?;
    match outcome.approval {
        ApprovalState::Approved => {}
        ApprovalState::Pending => {
            screen::show(&approvals::waiting(context, &outcome.name, outcome.version, &outcome.new_grants))?;
        }
        ApprovalState::Rejected => screen::show("it was rejected, so that nothing starts it\n")?,
    }
    Ok(Ending::Done)
}

async fn here(context: &Context, arguments: PublishArguments) -> anyhow::Result<Outcome> {
    context.check_is_not_a_servers()?;
    let file = GraphFile::read(&arguments.graph)?;
    let workflow = file.workflow_id(arguments.workflow_id.as_deref())?;
    let project = context.project().await?;
    let sandbox = context.sandbox()?;
    let published = project.publish(sandbox.clone(), &workflow, file.document, arguments.message.as_deref()).await?;
    project.store.close().await;
    let version = published.version;
    Ok(Outcome {
        name: version.workflow.to_string(),
        workflow_id: version.workflow.to_string(),
        version: version.version,
        graph_hash: version.graph_hash,
        published_at: version.published_at.to_string(),
        is_new: published.is_new,
        issues: published.warnings,
        approval: published.approval.state,
        new_grants: published.approval.new_grants,
    })
}

/// The graph becomes the draft of the workflow that has its name, and the draft a version. Where no workflow has it, one is
/// made. A graph that is refused replaces no draft, as what others were writing there would be in no version, and makes no
/// workflow.
async fn at_server(server: &Server, arguments: PublishArguments) -> anyhow::Result<Outcome> {
    let mut file = GraphFile::read(&arguments.graph)?;
    Graph::parse(&file.document).map_err(|issues| OperationError::InvalidGraph { issues })?;
    name_calls_by_id(server, &mut file.document).await?;
    let name = match &arguments.workflow_id {
        Some(given) => given.clone(),
        None => file.name(),
    };
    let workflow = match server.find_workflow(&name).await? {
        Some(workflow) => {
            check(server.validate(&workflow.id, &file.document).await?)?;
            server.change_draft(&workflow, &file.document).await?;
            workflow
        }
        None if graph_file::is_id(&name) => return Err(OperationError::UnknownWorkflow(name).into()),
        None => {
            check(server.validate_new(&file.document).await?)?;
            server.create_workflow(&name, &file.document).await?
        }
    };
    let (published, is_new) = server.publish(&workflow.id, arguments.message.as_deref()).await?;
    Ok(Outcome {
        name: workflow.name,
        workflow_id: published.workflow_id,
        version: published.version,
        graph_hash: published.graph_hash,
        published_at: published.published_at,
        is_new,
        issues: published.issues,
        approval: published.approval,
        new_grants: published.new_grants,
    })
}

fn check(issues: Vec<Issue>) -> Result<(), OperationError> {
    match issues.iter().any(Issue::is_error) {
        true => Err(OperationError::InvalidGraph { issues }),
        false => Ok(()),
    }
}

/// Calls of other workflows name ids. Here an id is a name, so that a graph which names workflows as people do serves here and
/// there; one that is not found stays, for the server to refuse.
async fn name_calls_by_id(server: &Server, document: &mut Value) -> anyhow::Result<()> {
    let names: BTreeSet<String> = graph::called(document).map(|(workflow, _)| workflow.to_owned()).collect();
    let mut ids = HashMap::new();
    for name in names.into_iter().filter(|name| !graph_file::is_id(name)) {
        if let Some(found) = server.find_workflow(&name).await? {
            ids.insert(name, found.id);
        }
    }
    for step in document["steps"].as_array_mut().into_iter().flatten() {
        let id =
            step["workflow_id"].as_str().and_then(|name| ids.get(name)).filter(|_| step["type"] == "workflow_call");
        if let Some(id) = id.cloned() {
            step["workflow_id"] = id.into();
        }
    }
    Ok(())
}
