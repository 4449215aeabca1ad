//! Whether a version may be used: where a project wants it, one that asks for more than the version in use waits for an
//! approval.
//!
//! Owns the rows of `version_approvals`, and with them which version may be started or called. The version in use, which
//! starts unless another one is named, is the newest one that is approved; it stands with the draft. What a version asks for
//! is read from its graph by the engine, and who may approve is access's to say.

use super::{
    OperationError, Project,
    drafts::{self, Workflow},
    dry_run::on_its_own_thread,
};
use crate::access::{
    Caller,
    role::{UnknownWord, words},
    tenants::word,
};
use agentruntime_engine::{
    database::{Row, StoreError, Tx, Values, document, json, maybe_text, maybe_time, number, text},
    graph::{GrantRef, Graph, grants_added},
    store::{Scope, VersionEntry},
};
use agentruntime_host_api::{Json, Timestamp, WorkflowId};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fmt, str::FromStr};

/// Why a version was approved or rejected: a remark; what is longer belongs where the version is discussed.
pub(crate) const COMMENT_CHARS_MAX: usize = 2_000;

/// What a publication is compared with.
const BASIS: &str = "SELECT p.require_grant_approval, d.published_version FROM drafts d \
    JOIN projects p ON p.tenant_id = d.tenant_id AND p.project_id = d.project_id \
    WHERE d.tenant_id = $1 AND d.project_id = $2 AND d.workflow_id = $3";

const ASK: &str = "INSERT INTO version_approvals (tenant_id, project_id, workflow_id, version, state, new_grants) \
    VALUES ($1, $2, $3, $4, 'pending', $5)";

/// What was rejected may still be approved; what is approved may have been started and called, and stays so.
const DECIDE: &str = "UPDATE version_approvals SET state = $5, decided_by = $6, decided_at = $7, comment = $8 \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 AND version = $4 \
    AND (state = 'pending' OR (state = 'rejected' AND $5 = 'approved')) RETURNING version";

const SELECT: &str = "SELECT state, new_grants, decided_by, decided_at, comment FROM version_approvals \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 AND version = $4";

const STATE: &str = "SELECT state FROM version_approvals \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 AND version = $4";

const STATES: &str = "SELECT version, state FROM version_approvals \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 AND version >= $4 AND version <= $5";

const NEWEST: &str = "SELECT version, state FROM version_approvals \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 ORDER BY version DESC LIMIT 1";

words! {
    /// Whether a version may be started and called.
    ApprovalState {
        /// Not yet: it asks for more than the version in use.
        Pending = "pending",
        /// No; an admin may still approve it.
        Rejected = "rejected",
        /// Yes.
        Approved = "approved",
    }
}

/// Whether a version may be used, and how that came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Approval {
    /// Whether it may.
    pub(crate) state: ApprovalState,
    /// What needed an approval: what it asked for newly when it was published.
    pub(crate) new_grants: Vec<GrantRef>,
    /// Who decided; nothing before that, and where nothing needed it.
    pub(crate) decision: Option<Decision>,
}

/// Who approved or rejected a version.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    /// Who.
    pub(crate) by: String,
    /// When.
    pub(crate) at: Timestamp,
    /// Why, if they said so.
    pub(crate) comment: Option<String>,
}

/// What is decided about a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may be used.
    Approve,
    /// It may not.
    Reject,
}

/// What a version that is about to be published newly asks for, where that needs an approval.
pub(super) struct Review {
    basis: Basis,
    /// What needs an approval; nothing where none is needed.
    pub(super) new_grants: Vec<GrantRef>,
}

/// What a publication is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Basis {
    is_required: bool,
    in_use: Option<u32>,
}

impl Approval {
    /// Of a version that nobody had to approve.
    pub(crate) fn by_publishing() -> Self {
        Self { state: ApprovalState::Approved, new_grants: Vec::new(), decision: None }
    }
}

impl Verdict {
    fn state(self) -> ApprovalState {
        match self {
            Self::Approve => ApprovalState::Approved,
            Self::Reject => ApprovalState::Rejected,
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Approve => "workflow.approve_version",
            Self::Reject => "workflow.reject_version",
        }
    }
}

impl Review {
    /// Whether what it was compared with is still so. The transaction holds the draft, so that it stays so.
    pub(super) async fn holds(&self, tx: &mut Tx<'_>, scope: &Scope, id: &WorkflowId) -> Result<bool, OperationError> {
        let row = tx.row(BASIS, key(scope, id)).await?.ok_or(StoreError::NotFound)?;
        Ok(basis(&row)? == self.basis)
    }
}

/// Notes that a version waits for an approval.
pub(super) async fn ask(
    tx: &mut Tx<'_>,
    scope: &Scope,
    id: &WorkflowId,
    version: u32,
    new_grants: &[GrantRef],
) -> Result<(), StoreError> {
    let mut values = key(scope, id);
    values.number(version).text(json(&new_grants));
    tx.rows(ASK, values).await.map(drop)
}

impl Project {
    /// Compares a graph that is about to be published with the version in use. Lets go of what is held when that is done.
    pub(super) async fn review(
        &self,
        id: &WorkflowId,
        graph: &Graph,
        held: impl Send + 'static,
    ) -> Result<Review, OperationError> {
        let basis = basis(&self.store.database().row(BASIS, key(&self.scope, id)).await?)?;
        if !basis.is_required {
            return Ok(Review { basis, new_grants: Vec::new() });
        }
        let old = match basis.in_use {
            Some(version) => self.store.version(&self.scope, id, Some(version)).await?.graph,
            None => Json::empty_object(),
        };
        let new = graph.canonical.clone();
        let new_grants = on_its_own_thread(held, move || grants_added(&old.to_value(), &new.to_value())).await;
        Ok(Review { basis, new_grants })
    }

    /// The version that a start of a live workflow means: the one in use, unless another is named that may be used. The engine,
    /// which knows nothing of approvals, would take the newest.
    pub(crate) async fn version_to_start(
        &self,
        live: &Workflow,
        named: Option<u32>,
    ) -> Result<Option<u32>, OperationError> {
        if let Some(other) = named.filter(|named| Some(*named) != live.published_version) {
            self.check_approved(&live.id, other).await?;
        }
        Ok(named.or(live.published_version))
    }

    /// Refuses a version that may not be used. One that is not there is not refused: whoever looks for it says so.
    pub(crate) async fn check_approved(&self, id: &WorkflowId, version: u32) -> Result<(), OperationError> {
        let mut values = key(&self.scope, id);
        values.number(version);
        let rows = self.store.database().rows(STATE, values).await?;
        match rows.first().map_or(Ok(ApprovalState::Approved), |row| word(row, 0))? {
            ApprovalState::Approved => Ok(()),
            state => Err(OperationError::VersionNotApproved { workflow: id.to_string(), version, state }),
        }
    }

    /// Why a workflow without a version in use has none.
    pub(super) async fn none_in_use(&self, id: &WorkflowId) -> OperationError {
        let newest = async {
            let rows = self.store.database().rows(NEWEST, key(&self.scope, id)).await?;
            rows.first().map(|row| Ok((number(row, 0)?, word(row, 1)?))).transpose()
        };
        match newest.await {
            Ok(Some((version, state))) => {
                OperationError::VersionNotApproved { workflow: id.to_string(), version, state }
            }
            Ok(None) => OperationError::NeverPublished(id.to_string()),
            Err(error) => OperationError::Store(error),
        }
    }

    /// Whether a version may be used, and how that came.
    pub(crate) async fn approval(&self, id: &WorkflowId, version: u32) -> Result<Approval, OperationError> {
        let mut values = key(&self.scope, id);
        values.number(version);
        let rows = self.store.database().rows(SELECT, values).await?;
        Ok(rows.first().map_or_else(|| Ok(Approval::by_publishing()), approval)?)
    }

    /// Whether each of these versions may be used: versions in a row, in the order of their list.
    pub(crate) async fn approval_states(
        &self,
        id: &WorkflowId,
        versions: Vec<VersionEntry>,
    ) -> Result<Vec<(VersionEntry, ApprovalState)>, OperationError> {
        let numbers = || versions.iter().map(|entry| entry.version);
        let mut values = key(&self.scope, id);
        values.number(numbers().min().unwrap_or_default()).number(numbers().max().unwrap_or_default());
        let rows = self.store.database().rows(STATES, values).await?;
        let states = rows.iter().map(|row| Ok((number(row, 0)?, word(row, 1)?)));
        let states = states.collect::<Result<HashMap<u32, ApprovalState>, StoreError>>()?;
        let state = |entry: &VersionEntry| states.get(&entry.version).copied().unwrap_or(ApprovalState::Approved);
        let told = |entry: VersionEntry| {
            let state = state(&entry);
            (entry, state)
        };
        Ok(versions.into_iter().map(told).collect())
    }

    /// Approves or rejects a version. One that is approved and newer than the version in use is that from then on.
    pub(crate) async fn decide_version(
        &self,
        caller: &Caller,
        id: &WorkflowId,
        version: u32,
        verdict: Verdict,
        comment: Option<&str>,
    ) -> Result<Approval, OperationError> {
        if comment.is_some_and(|text| text.chars().count() > COMMENT_CHARS_MAX) {
            let message = format!("write at most {COMMENT_CHARS_MAX} characters");
            return Err(OperationError::InvalidField { field: "comment", message });
        }
        let graph_hash = self.version(id, version).await?.graph_hash;
        let mut tx = self.store.database().begin().await?;
        // Publications look at the version in use; this one waits for them, and they for this.
        drafts::hold(&mut tx, &self.scope, id).await?;
        let mut values = key(&self.scope, id);
        values.number(version).text(verdict.state().as_str()).id(caller.user);
        values.number(self.store.database().time().as_micros()).maybe_text(comment);
        if tx.row(DECIDE, values).await?.is_none() {
            drop(tx);
            let state = self.approval(id, version).await?.state;
            return Err(OperationError::VersionDecided { version, state });
        }
        if verdict == Verdict::Approve {
            drafts::set_version(&mut tx, &self.scope, id, version).await?;
        }
        let details = serde_json::json!({ "version": version, "graph_hash": graph_hash, "comment": comment });
        self.audit(&mut tx, caller, verdict.action(), id, details).await?;
        tx.commit().await?;
        self.approval(id, version).await
    }
}

fn key(scope: &Scope, id: &WorkflowId) -> Values {
    let mut values = Values::default();
    values.scope(scope).text(id.as_str());
    values
}

fn basis(row: &Row) -> Result<Basis, StoreError> {
    let in_use: u32 = number(row, 1)?;
    Ok(Basis { is_required: number::<i64>(row, 0)? != 0, in_use: Some(in_use).filter(|version| *version > 0) })
}

fn approval(row: &Row) -> Result<Approval, StoreError> {
    let comment = maybe_text(row, 4)?.map(str::to_owned);
    let by = maybe_text(row, 2)?.map(str::to_owned).zip(maybe_time(row, 3)?);
    Ok(Approval {
        state: word(row, 0)?,
        new_grants: document(text(row, 1)?)?,
        decision: by.map(|(by, at)| Decision { by, at, comment }),
    })
}
