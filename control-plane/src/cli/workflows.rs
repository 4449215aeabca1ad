//! `workflows` and `versions`: what was published.

use super::{Ending, context::Context, screen, style};
use agentruntime_engine::store::{VersionEntry, WorkflowRecord};
use agentruntime_host_api::WorkflowId;
use serde_json::{Value, json};

pub(crate) async fn workflows(context: &Context) -> anyhow::Result<Ending> {
    let project = context.project().await?;
    let workflows = project.workflows().await?;
    project.store.close().await;
    if context.json {
        screen::json_line(&workflows.iter().map(workflow).collect())?;
        return Ok(Ending::Done);
    }
    let width = workflows.iter().map(|it| it.workflow.as_str().chars().count()).max().unwrap_or(0);
    let line = |it: &WorkflowRecord| {
        let (workflow, version) = (it.workflow.as_str(), format!("version {}", it.version));
        format!("{workflow:<width$}  {version:<12}  {}\n", style::faint(&style::time(it.published_at)))
    };
    let text: String = workflows.iter().map(line).collect();
    screen::print(if text.is_empty() { "no workflows\n" } else { &text })?;
    Ok(Ending::Done)
}

pub(crate) async fn versions(context: &Context, workflow: String) -> anyhow::Result<Ending> {
    let project = context.project().await?;
    let versions = project.versions(&WorkflowId::new(workflow)).await?;
    project.store.close().await;
    if context.json {
        screen::json_line(&versions.iter().map(version).collect())?;
        return Ok(Ending::Done);
    }
    let line = |it: &VersionEntry| {
        let hash = it.graph_hash.get(..12).unwrap_or(&it.graph_hash);
        let about = format!("{}  {hash}", style::time(it.published_at));
        format!(
            "version {:<5}  {}  {}\n",
            it.version,
            style::faint(&about),
            it.changelog.as_deref().unwrap_or_default()
        )
    };
    screen::print(&versions.iter().map(line).collect::<String>())?;
    Ok(Ending::Done)
}

fn workflow(it: &WorkflowRecord) -> Value {
    json!({ "workflow_id": it.workflow, "version": it.version, "published_at": it.published_at.to_string() })
}

fn version(it: &VersionEntry) -> Value {
    json!({
        "version": it.version,
        "graph_hash": it.graph_hash,
        "changelog": it.changelog,
        "published_at": it.published_at.to_string(),
    })
}
