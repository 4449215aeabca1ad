//! The rows of `drafts`: their statements, and how columns become a workflow.

use super::Workflow;
use crate::operations::OperationError;
use agentruntime_engine::{
    database::{Row, StoreError, Values, document, maybe_text, maybe_time, number, text, time},
    store::Scope,
};
use agentruntime_host_api::{Json, WorkflowId};

macro_rules! columns {
    () => {
        "workflow_id, name, description, run_setup, revision, published_version, created_at, updated_at, archived_at"
    };
}

pub(super) const COUNT: &str = "SELECT COUNT(*) FROM drafts WHERE tenant_id = $1 AND project_id = $2";

pub(super) const INSERT: &str = concat!(
    "INSERT INTO drafts (tenant_id, project_id, workflow_id, name, name_folded, description, graph, run_setup, \
     revision, published_version, created_by, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, 0, $9, $10, $10) RETURNING ",
    columns!()
);

pub(super) const SELECT: &str =
    concat!("SELECT ", columns!(), " FROM drafts WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3");

pub(super) const SELECT_WITH_GRAPH: &str =
    concat!("SELECT ", columns!(), ", graph FROM drafts WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3");

/// `$3` is 1 for archived workflows and 0 for the others.
pub(super) const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM drafts WHERE tenant_id = $1 AND project_id = $2 \
     AND (CASE WHEN archived_at IS NULL THEN 0 ELSE 1 END) = $3 \
     AND ($4 IS NULL OR name_folded LIKE $4 ESCAPE '\\') \
     AND ($5 IS NULL OR (created_at, workflow_id) < ($5, $6)) ORDER BY created_at DESC, workflow_id DESC LIMIT $7"
);

/// Workflows in use that people call so: the names of more would help nobody.
pub(super) const LIVE_IDS_OF: &str = "SELECT workflow_id FROM drafts WHERE tenant_id = $1 AND project_id = $2 \
    AND name = $3 AND archived_at IS NULL ORDER BY created_at, workflow_id LIMIT 5";

pub(super) const CHANGE: &str = concat!(
    "UPDATE drafts SET name = COALESCE($4, name), name_folded = COALESCE($5, name_folded), \
     description = COALESCE($6, description), graph = COALESCE($7, graph), \
     run_setup = CASE WHEN $8 = 1 THEN $9 ELSE run_setup END, revision = revision + 1, updated_at = $10 \
     WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 RETURNING ",
    columns!(),
    ", graph"
);

pub(super) const ARCHIVE: &str = "UPDATE drafts SET archived_at = $4, updated_at = $4, revision = revision + 1 \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 AND archived_at IS NULL RETURNING workflow_id";

/// Changes nothing, but holds the row until the transaction ends, so that nobody archives it meanwhile.
pub(super) const HOLD: &str = concat!(
    "UPDATE drafts SET revision = revision \
     WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 RETURNING ",
    columns!()
);

pub(super) const SET_VERSION: &str = "UPDATE drafts SET published_version = $4 \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 AND published_version < $4";

pub(super) fn key(scope: &Scope, id: &str) -> Values {
    let mut values = Values::default();
    values.scope(scope).text(id);
    values
}

pub(super) fn unknown(error: StoreError, id: &WorkflowId) -> OperationError {
    match error {
        StoreError::NotFound => OperationError::UnknownWorkflow(id.to_string()),
        other => other.into(),
    }
}

pub(super) fn workflow(row: &Row) -> Result<Workflow, StoreError> {
    let version: u32 = number(row, 5)?;
    Ok(Workflow {
        id: WorkflowId::new(text(row, 0)?),
        name: text(row, 1)?.to_owned(),
        description: document(text(row, 2)?)?,
        run_setup: maybe_text(row, 3)?.map(document).transpose()?,
        revision: number(row, 4)?,
        published_version: Some(version).filter(|version| *version > 0),
        created_at: time(row, 6)?,
        updated_at: time(row, 7)?,
        archived_at: maybe_time(row, 8)?,
    })
}

/// A workflow and its draft, from all columns and `graph`.
pub(super) fn with_draft(row: &Row) -> Result<(Workflow, Json), StoreError> {
    Ok((workflow(row)?, document(text(row, 9)?)?))
}

pub(super) fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// A pattern for `LIKE` that finds the text as it is, anywhere.
pub(super) fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for char in folded(text).chars() {
        if matches!(char, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern.push('%');
    pattern
}
