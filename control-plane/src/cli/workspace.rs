//! Which workspace of this machine's data a command looks into. Data without a server has one, `local`; where a server keeps
//! its data, there are its workspaces besides.

use super::{context::Context, desk::Desk, failure::Refusal};
use crate::operations::{Project, approvals::ApprovalState};
use agentruntime_engine::{
    database::{Database, Row, StoreError, Values, text},
    store::{Store, VersionEntry},
};
use agentruntime_host_api::{ProjectId, TenantId, WorkflowId};
use std::collections::HashMap;

/// Places of a server's data that are told; more would be a list of their own.
const TOLD_MAX: u32 = 20;

/// By their slugs, or by their ids, as the log tells them. An id is one place's alone; a slug that looks like another's id comes
/// after it.
const FIND: &str = "SELECT t.tenant_id, p.project_id FROM tenants t JOIN projects p ON p.tenant_id = t.tenant_id \
    WHERE (t.slug = $1 OR t.tenant_id = $1) AND (p.slug = $2 OR p.project_id = $2) \
    ORDER BY CASE WHEN t.tenant_id = $1 THEN 0 ELSE 1 END, CASE WHEN p.project_id = $2 THEN 0 ELSE 1 END LIMIT 1";
const NAME: &str = "SELECT name FROM drafts WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3";
const NAMED: &str = "SELECT workflow_id FROM drafts WHERE tenant_id = $1 AND project_id = $2 AND name = $3 \
    AND archived_at IS NULL LIMIT 2";
const LIST: &str = "SELECT t.slug, p.slug FROM tenants t JOIN projects p ON p.tenant_id = t.tenant_id \
    ORDER BY t.slug, p.slug LIMIT $1";

/// The slugs, or the ids, of a workspace and a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Workspace {
    /// The workspace.
    pub(crate) tenant: String,
    /// The project in it.
    pub(crate) project: String,
}

impl Workspace {
    /// The one of a machine's own.
    pub(crate) fn local() -> Self {
        Self { tenant: "local".into(), project: "default".into() }
    }

    /// The one that is named; nothing where neither word was said. A workspace's project is `default` unless it is named.
    pub(crate) fn named(tenant: Option<&str>, project: Option<&str>) -> Option<Self> {
        let local = Self::local();
        let named = Self {
            tenant: tenant.map_or(local.tenant, str::to_owned),
            project: project.map_or(local.project, str::to_owned),
        };
        (tenant.is_some() || project.is_some()).then_some(named)
    }

    /// The workflows and runs in it.
    pub(crate) async fn enter(&self, store: Store) -> anyhow::Result<Project> {
        if *self == Self::local() {
            return Ok(Project::local(store));
        }
        let mut values = Values::default();
        values.text(&self.tenant).text(&self.project);
        let found = read(store.database(), FIND, values).await?;
        let Some(row) = found.first() else {
            let others = others(store.database()).await?;
            let message =
                format!("this data has no workspace `{}` with a project `{}`{others}", self.tenant, self.project);
            return Err(Refusal::new("PLACE_NOT_FOUND", message).into());
        };
        let (tenant, project) = (TenantId::new(text(row, 0)?), ProjectId::new(text(row, 1)?));
        Ok(Project::of(store, tenant, project))
    }
}

/// What people call workflows of a server's workspace.
pub(crate) async fn names(
    project: &Project,
    workflows: impl IntoIterator<Item = &WorkflowId>,
) -> anyhow::Result<HashMap<WorkflowId, String>> {
    let mut names = HashMap::new();
    for workflow in workflows {
        if names.contains_key(workflow) {
            continue;
        }
        if let Some(row) = read(project.store.database(), NAME, of(project, workflow.as_str())).await?.first() {
            names.insert(workflow.clone(), text(row, 0)?.to_owned());
        }
    }
    Ok(names)
}

/// The workflow of a server's workspace that alone has this name; else the one with this id.
pub(crate) async fn workflow(project: &Project, named: &str) -> anyhow::Result<WorkflowId> {
    let rows = read(project.store.database(), NAMED, of(project, named)).await?;
    Ok(match rows.as_slice() {
        [only] => WorkflowId::new(text(only, 0)?),
        _ => WorkflowId::new(named),
    })
}

/// All versions of a workflow, the newest first, and whether each may be used: all where no server has worked on this data.
pub(crate) async fn versions(
    project: &Project,
    workflow: &WorkflowId,
) -> anyhow::Result<Vec<(VersionEntry, ApprovalState)>> {
    let versions = project.versions(workflow).await?;
    match project.store.database().has_table("version_approvals").await? {
        true => Ok(project.approval_states(workflow, versions).await?),
        false => Ok(versions.into_iter().map(|version| (version, ApprovalState::Approved)).collect()),
    }
}

fn of(project: &Project, what: &str) -> Values {
    let mut values = Values::default();
    values.text(project.scope.tenant.as_str()).text(project.scope.project.as_str()).text(what);
    values
}

/// Says that a list is empty, and of what; on this machine's data also where else there may be something.
pub(crate) async fn nothing(context: &Context, desk: &Desk, what: &str) -> anyhow::Result<String> {
    let Desk::Here(project) = desk else { return Ok(format!("{what}\n")) };
    let others = others(project.store.database()).await?;
    if others.is_empty() {
        return Ok(format!("{what}\n"));
    }
    let Workspace { tenant, project } = context.workspace();
    Ok(format!("{what} in workspace `{tenant}`, project `{project}`{others}\n"))
}

/// The places that a server keeps in this data.
async fn others(database: &Database) -> anyhow::Result<String> {
    let mut values = Values::default();
    values.number(TOLD_MAX);
    let rows = read(database, LIST, values).await?;
    let mut told = String::new();
    for row in &rows {
        told.push_str(&format!("\n  --tenant {} --project {}", text(row, 0)?, text(row, 1)?));
    }
    Ok(match rows.len() {
        0 => String::new(),
        count if count == TOLD_MAX as usize => format!("; a server keeps these here, and maybe more:{told}"),
        _ => format!("; a server keeps these here:{told}"),
    })
}

/// Rows of a server's tables; none where no server has worked on this data.
async fn read(database: &Database, sql: &'static str, values: Values) -> Result<Vec<Row>, StoreError> {
    match database.has_table("tenants").await? {
        true => database.rows(sql, values).await,
        false => Ok(Vec::new()),
    }
}
