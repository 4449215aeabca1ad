//! `publish`: a graph becomes a version.

use super::{Ending, arguments::PublishArguments, context::Context, graph_file::GraphFile, screen, style};
use serde_json::json;

pub(crate) async fn publish(context: &Context, arguments: PublishArguments) -> anyhow::Result<Ending> {
    let file = GraphFile::read(&arguments.graph)?;
    let workflow = file.workflow_id(arguments.workflow_id.as_deref())?;
    let project = context.project().await?;
    let sandbox = context.sandbox()?;
    let published = project.publish(sandbox.clone(), &workflow, file.document, arguments.message.as_deref()).await?;
    project.store.close().await;
    let version = &published.version;
    if context.json {
        screen::json_line(&json!({
            "workflow_id": version.workflow,
            "version": version.version,
            "graph_hash": version.graph_hash,
            "published_at": version.published_at.to_string(),
            "is_new": published.is_new,
            "issues": published.warnings,
        }))?;
        return Ok(Ending::Done);
    }
    screen::show(&style::issues(&published.warnings))?;
    let what = format!("{} version {}", style::strong(version.workflow.as_str()), version.version);
    let how = if published.is_new { "published" } else { "is this graph already" };
    screen::print(&format!("{what} {how}\n"))?;
    Ok(Ending::Done)
}
