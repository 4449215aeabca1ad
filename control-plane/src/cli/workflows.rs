//! `workflows` and `versions`: what was published.

use super::{Ending, approvals, context::Context, desk::Desk, screen, style, workspace};
use crate::{client::ServerWorkflow, operations::approvals::ApprovalState};
use agentruntime_engine::store::{VersionEntry, WorkflowRecord};
use agentruntime_host_api::Timestamp;
use serde_json::{Value, json};

/// A workflow in the list.
struct Line {
    name: String,
    version: Option<u32>,
    at: Option<Timestamp>,
    /// Its id, where that is not its name.
    id: Option<String>,
    public: Value,
}

pub(crate) async fn workflows(context: &Context) -> anyhow::Result<Ending> {
    let desk = context.desk().await?;
    let lines: Vec<Line> = match &desk {
        Desk::Here(project) => {
            let workflows = project.workflows().await?;
            let names = desk.names(workflows.iter().map(|it| &it.workflow)).await?;
            workflows.iter().map(|it| here(it, names.of(&it.workflow))).collect()
        }
        Desk::Server(server) => server.workflows().await?.into_iter().map(at_server).collect(),
    };
    let nothing =
        if lines.is_empty() { workspace::nothing(context, &desk, "no workflows").await? } else { String::new() };
    desk.close().await;
    if context.json {
        screen::json_line(&lines.into_iter().map(|line| line.public).collect())?;
        return Ok(Ending::Done);
    }
    let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let text: String = lines.iter().map(|line| shown(line, width)).collect();
    screen::print(if text.is_empty() { &nothing } else { &text })?;
    Ok(Ending::Done)
}

pub(crate) async fn versions(context: &Context, workflow: &str) -> anyhow::Result<Ending> {
    let desk = context.desk().await?;
    let versions = desk.versions(workflow).await?;
    desk.close().await;
    if context.json {
        screen::json_line(&versions.iter().map(version).collect())?;
        return Ok(Ending::Done);
    }
    let line = |(it, approval): &(VersionEntry, ApprovalState)| {
        let hash = it.graph_hash.get(..12).unwrap_or(&it.graph_hash);
        let about = format!("{}  {hash}", style::time(it.published_at));
        format!(
            "version {:<5}  {}  {}{}\n",
            it.version,
            style::faint(&about),
            approvals::state(*approval),
            it.changelog.as_deref().unwrap_or_default()
        )
    };
    screen::print(&versions.iter().map(line).collect::<String>())?;
    Ok(Ending::Done)
}

fn here(it: &WorkflowRecord, name: &str) -> Line {
    Line {
        name: name.to_owned(),
        version: Some(it.version),
        at: Some(it.published_at),
        id: Some(it.workflow.to_string()).filter(|id| id != name),
        public: json!({ "workflow_id": it.workflow, "version": it.version, "published_at": it.published_at.to_string() }),
    }
}

fn at_server(it: ServerWorkflow) -> Line {
    Line {
        version: it.published_version,
        at: it.updated_at.parse().ok(),
        public: json!({
            "workflow_id": it.id,
            "name": it.name,
            "version": it.published_version,
            "updated_at": it.updated_at,
        }),
        name: it.name,
        id: Some(it.id),
    }
}

fn shown(line: &Line, width: usize) -> String {
    let version = line.version.map_or_else(|| "draft".to_owned(), |version| format!("version {version}"));
    let at = line.at.map(style::time).unwrap_or_default();
    let id = line.id.as_deref().map(|id| format!("  {id}")).unwrap_or_default();
    format!("{:<width$}  {version:<12}  {}\n", line.name, style::faint(&format!("{at}{id}")))
}

fn version((it, approval): &(VersionEntry, ApprovalState)) -> Value {
    json!({
        "version": it.version,
        "graph_hash": it.graph_hash,
        "changelog": it.changelog,
        "published_at": it.published_at.to_string(),
        "approval": approval,
    })
}
