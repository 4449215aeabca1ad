//! Workflows as authors see them: a name, a draft of the graph, and how runs are set up unless a start says otherwise.
//!
//! Owns the rows of `drafts`. A draft may be half done: it is a JSON object, and no more is asked of it before it is
//! [published](super::publish). Never touches versions or runs.

mod checks;
mod rows;

pub(crate) use checks::{DESCRIPTION_CHARS_MAX, NAME_CHARS_MAX};

use super::{OperationError, Project};
use crate::access::{
    Caller,
    audit::{self, Entry},
};
use agentruntime_engine::{
    database::{StoreError, Tx, Values, json, number, text},
    store::Scope,
};
use agentruntime_host_api::{Json, Timestamp, WorkflowId};
use checks::{check_description, check_graph, check_name, check_run_setup};
use rows::{folded, key, pattern, unknown, with_draft, workflow};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Workflows of one project, archived ones too: they are counted when one is made, and each may hold a large draft.
pub(crate) const WORKFLOWS_PER_PROJECT_MAX: u64 = 10_000;

/// A workflow, without its draft.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workflow {
    /// Its id: a UUID, and the engine's name for it.
    pub(crate) id: WorkflowId,
    /// For people; several workflows may have the same.
    pub(crate) name: String,
    /// What it is for.
    pub(crate) description: String,
    /// What a start is given with `use_run_setup_defaults`, as it was written.
    pub(crate) run_setup: Option<Json>,
    /// Raised by every change of the draft.
    pub(crate) revision: u64,
    /// Its version in use: the newest one that is approved.
    pub(crate) published_version: Option<u32>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When the draft was changed last.
    pub(crate) updated_at: Timestamp,
    /// When it was archived.
    pub(crate) archived_at: Option<Timestamp>,
}

/// A workflow to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewWorkflow {
    /// For people.
    pub(crate) name: String,
    /// What it is for.
    pub(crate) description: String,
    /// The draft.
    pub(crate) graph: Json,
    /// What a start is given with `use_run_setup_defaults`.
    pub(crate) run_setup: Option<Json>,
}

/// What to change of a workflow: all that is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkflowChange {
    /// Another name.
    pub(crate) name: Option<String>,
    /// Another description.
    pub(crate) description: Option<String>,
    /// Another draft.
    pub(crate) graph: Option<Json>,
    /// Another run setup, or none.
    pub(crate) run_setup: Option<Option<Json>>,
}

/// What a start is given where it asks for the workflow's defaults. Other members are kept and mean nothing here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunSetup {
    /// The input.
    pub(crate) trigger_payload: Option<Json>,
    /// Per-step input, which also lets `no_auto_start` roots run.
    pub(crate) trigger_steps: Option<Map<String, Value>>,
    /// Roots left out.
    pub(crate) excluded_step_ids: Option<Vec<String>>,
}

/// Which workflows to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkflowFilter {
    /// Those whose name has this in it, in whatever case.
    pub(crate) text: Option<String>,
    /// The archived ones instead of the others.
    pub(crate) archived: Archived,
    /// Those made before this one.
    pub(crate) before: Option<WorkflowCursor>,
}

/// Whether archived workflows are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Archived {
    /// Those in use.
    #[default]
    No,
    /// Those put away.
    Yes,
}

/// A place in the list of workflows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkflowCursor(i64, Uuid);

/// What a caller believes of a draft that it is about to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nothing: change it as it is.
    Anything,
    /// It has one of these revisions.
    Revisions(Vec<u64>),
}

impl From<&Workflow> for WorkflowCursor {
    fn from(workflow: &Workflow) -> Self {
        // Every id here was made as a UUID.
        Self(workflow.created_at.as_micros(), workflow.id.as_str().parse().unwrap_or_default())
    }
}

impl WorkflowChange {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.description.is_none() && self.graph.is_none() && self.run_setup.is_none()
    }

    /// What is changed, for the audit log.
    fn fields(&self) -> Vec<&'static str> {
        let named = [
            ("name", self.name.is_some()),
            ("description", self.description.is_some()),
            ("graph", self.graph.is_some()),
            ("run_setup", self.run_setup.is_some()),
        ];
        named.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
    }
}

impl Project {
    /// Makes a workflow.
    pub(crate) async fn create_workflow(&self, caller: &Caller, new: NewWorkflow) -> Result<Workflow, OperationError> {
        check_name(&new.name)?;
        check_description(&new.description)?;
        check_graph(&new.graph)?;
        check_run_setup(new.run_setup.as_ref())?;
        let now = self.store.database().time().as_micros();
        let id = Uuid::now_v7().to_string();
        let mut tx = self.store.database().begin().await?;
        let mut values = Values::default();
        values.scope(&self.scope);
        let count: u64 = tx.row(rows::COUNT, values).await?.map_or(Ok(0), |row| number(&row, 0))?;
        if count >= WORKFLOWS_PER_PROJECT_MAX {
            return Err(OperationError::TooManyWorkflows);
        }
        let mut values = key(&self.scope, &id);
        values.text(&new.name).text(folded(&new.name)).text(json(&new.description)).text(new.graph.as_str());
        values.maybe_text(new.run_setup.as_ref().map(Json::as_str)).id(caller.user).number(now);
        let row = tx.row(rows::INSERT, values).await?.ok_or(StoreError::NotFound)?;
        let workflow = workflow(&row)?;
        let details = serde_json::json!({ "name": workflow.name });
        self.audit(&mut tx, caller, "workflow.create", &workflow.id, details).await?;
        tx.commit().await?;
        Ok(workflow)
    }

    /// Workflows, the newest first: at most `limit`.
    pub(crate) async fn list_workflows(
        &self,
        filter: &WorkflowFilter,
        limit: u32,
    ) -> Result<Vec<Workflow>, OperationError> {
        let mut values = Values::default();
        values.scope(&self.scope).number(i64::from(filter.archived == Archived::Yes));
        values.maybe_text(filter.text.as_deref().map(pattern));
        values.maybe_number(filter.before.as_ref().map(|before| before.0));
        values.maybe_text(filter.before.as_ref().map(|before| before.1.to_string())).number(limit);
        let rows = self.store.database().rows(rows::LIST, values).await?;
        Ok(rows.iter().map(workflow).collect::<Result<_, _>>()?)
    }

    /// A workflow, archived or not.
    pub(crate) async fn workflow(&self, id: &WorkflowId) -> Result<Workflow, OperationError> {
        let row = self.store.database().row(rows::SELECT, key(&self.scope, id.as_str())).await;
        Ok(workflow(&row.map_err(|error| unknown(error, id))?)?)
    }

    /// A workflow with its draft.
    pub(crate) async fn draft(&self, id: &WorkflowId) -> Result<(Workflow, Json), OperationError> {
        let row = self.store.database().row(rows::SELECT_WITH_GRAPH, key(&self.scope, id.as_str())).await;
        let row = row.map_err(|error| unknown(error, id))?;
        Ok(with_draft(&row)?)
    }

    /// The ids of the workflows in use that have this name: several may.
    pub(crate) async fn live_ids_of(&self, name: &str) -> Result<Vec<String>, OperationError> {
        let rows = self.store.database().rows(rows::LIVE_IDS_OF, key(&self.scope, name)).await?;
        Ok(rows.iter().map(|row| Ok(text(row, 0)?.to_owned())).collect::<Result<_, StoreError>>()?)
    }

    /// A workflow that can be started: it is not archived, and a version of it is in use.
    pub(crate) async fn live_workflow(&self, id: &WorkflowId) -> Result<Workflow, OperationError> {
        let workflow = self.workflow(id).await?.not_archived()?;
        match workflow.published_version {
            Some(_) => Ok(workflow),
            None => Err(self.none_in_use(id).await),
        }
    }

    /// Changes a workflow, if its draft is what the caller believes.
    pub(crate) async fn change_workflow(
        &self,
        caller: &Caller,
        id: &WorkflowId,
        change: WorkflowChange,
        expected: &Expected,
    ) -> Result<(Workflow, Json), OperationError> {
        change.name.as_deref().map_or(Ok(()), check_name)?;
        change.description.as_deref().map_or(Ok(()), check_description)?;
        change.graph.as_ref().map_or(Ok(()), check_graph)?;
        check_run_setup(change.run_setup.as_ref().and_then(Option::as_ref))?;
        if change.is_empty() {
            let (workflow, graph) = self.draft(id).await?;
            let workflow = workflow.not_archived()?;
            expected.check(workflow.revision)?;
            return Ok((workflow, graph));
        }
        let mut tx = self.store.database().begin().await?;
        let mut values = key(&self.scope, id.as_str());
        values.maybe_text(change.name.as_deref()).maybe_text(change.name.as_deref().map(folded));
        values.maybe_text(change.description.as_ref().map(json));
        values.maybe_text(change.graph.as_ref().map(Json::as_str)).number(i64::from(change.run_setup.is_some()));
        values.maybe_text(change.run_setup.as_ref().and_then(Option::as_ref).map(Json::as_str));
        values.number(self.store.database().time().as_micros());
        let row = tx.row(rows::CHANGE, values).await?.ok_or_else(|| OperationError::UnknownWorkflow(id.to_string()))?;
        // Where either refuses, dropping the transaction takes the change back.
        let (changed, graph) = with_draft(&row)?;
        let changed = changed.not_archived()?;
        expected.check(changed.revision - 1)?;
        let details = serde_json::json!({ "changed": change.fields() });
        self.audit(&mut tx, caller, "workflow.update", id, details).await?;
        tx.commit().await?;
        Ok((changed, graph))
    }

    /// Puts a workflow away: nothing of it starts any more; its versions and runs stay readable. Twice is once.
    pub(crate) async fn archive_workflow(&self, caller: &Caller, id: &WorkflowId) -> Result<(), OperationError> {
        let mut tx = self.store.database().begin().await?;
        let mut values = key(&self.scope, id.as_str());
        values.number(self.store.database().time().as_micros());
        if tx.row(rows::ARCHIVE, values).await?.is_none() {
            drop(tx);
            return self.workflow(id).await.map(drop);
        }
        self.audit(&mut tx, caller, "workflow.archive", id, serde_json::json!({})).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Writes what was done to a workflow into the log, within the transaction that does it.
    pub(super) async fn audit(
        &self,
        tx: &mut Tx<'_>,
        caller: &Caller,
        action: &'static str,
        workflow: &WorkflowId,
        mut details: Value,
    ) -> Result<(), OperationError> {
        details["project_id"] = self.scope.project.as_str().into();
        let entry = Entry { action, target: workflow.to_string(), details };
        let now = self.store.database().time().as_micros();
        Ok(audit::record(tx, &self.scope.tenant, caller, entry, now).await?)
    }
}

/// Holds a workflow's row until the transaction ends.
pub(super) async fn hold(tx: &mut Tx<'_>, scope: &Scope, id: &WorkflowId) -> Result<Workflow, OperationError> {
    let row = tx.row(rows::HOLD, key(scope, id.as_str())).await?;
    workflow(&row.ok_or_else(|| OperationError::UnknownWorkflow(id.to_string()))?)?.not_archived()
}

/// Notes which version of a workflow is in use, unless a newer one is.
pub(super) async fn set_version(
    tx: &mut Tx<'_>,
    scope: &Scope,
    id: &WorkflowId,
    version: u32,
) -> Result<(), StoreError> {
    let mut values = key(scope, id.as_str());
    values.number(version);
    tx.rows(rows::SET_VERSION, values).await.map(drop)
}

impl Workflow {
    /// The workflow, unless it is archived.
    pub(crate) fn not_archived(self) -> Result<Self, OperationError> {
        match self.archived_at {
            None => Ok(self),
            Some(_) => Err(OperationError::WorkflowArchived(self.id.to_string())),
        }
    }

    /// What a start is given with `use_run_setup_defaults`: nothing where nothing is set up.
    pub(crate) fn run_setup(&self) -> Result<RunSetup, OperationError> {
        let Some(setup) = &self.run_setup else { return Ok(RunSetup::default()) };
        Ok(setup.read().map_err(|error| StoreError::Corrupt(error.to_string()))?)
    }
}

impl Expected {
    fn check(&self, revision: u64) -> Result<(), OperationError> {
        match self {
            Self::Revisions(revisions) if !revisions.contains(&revision) => Err(OperationError::StaleDraft),
            Self::Revisions(_) | Self::Anything => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
