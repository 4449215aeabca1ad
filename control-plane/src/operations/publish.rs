//! Publishing a graph as an immutable version, checking whether it could be, and what changed between two versions.

use super::{
    Checks, OperationError, Project,
    approvals::{self, Approval, ApprovalState, Review},
    checks::{Admitted, Turn},
    drafts,
    dry_run::{DryRunQuestion, on_its_own_thread, timed_dry_run},
};
use crate::access::Caller;
use agentruntime_engine::{
    graph::{
        self, DryRun, DryRunOptions, Graph, GraphDiff, Issue, NoVersion, Readiness, diff,
        limits::{ID_CHARS_MAX, STEPS_MAX},
        pin_children,
    },
    store::{StoreError, VersionEntry, VersionRecord},
};
use agentruntime_host_api::{Guest, Json, WorkflowId};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Why a version was published: what is longer is a document of its own.
pub(crate) const CHANGELOG_CHARS_MAX: usize = 10_000;

/// What a service checks graphs with.
pub(crate) struct Checking<'c> {
    /// How many at once.
    pub(crate) checks: &'c Checks,
    /// What runs scripts.
    pub(crate) guest: Arc<dyn Guest>,
}

/// Calls that name no workflow's id and are looked up as names, to say what to write: each is a search among the project's
/// workflows, and nobody reads more of them at once.
const CALLS_BY_NAME_TOLD_MAX: usize = 10;

/// What came of publishing.
pub(crate) struct Publication {
    /// The version that has the graph now.
    pub(crate) version: VersionRecord,
    /// The graph.
    pub(crate) graph: Graph,
    /// Whether the version was made by this; a graph that is published already is not published again.
    pub(crate) is_new: bool,
    /// What the author should look at.
    pub(crate) warnings: Vec<Issue>,
    /// Whether the version may be used.
    pub(crate) approval: Approval,
}

async fn read(document: Json, turn: Turn) -> Value {
    on_its_own_thread(turn, move || document.to_value()).await
}

async fn parse(document: &Arc<Value>, held: impl Send + 'static) -> Result<Graph, Vec<Issue>> {
    let document = document.clone();
    on_its_own_thread(held, move || Graph::parse(&document)).await
}

impl Project {
    /// Publishes a graph as the next version of a workflow, or finds that the newest version is this graph.
    pub(crate) async fn publish(
        &self,
        guest: Arc<dyn Guest>,
        workflow: &WorkflowId,
        mut document: Value,
        changelog: Option<&str>,
    ) -> Result<Publication, OperationError> {
        let newest: HashMap<String, u32> =
            self.workflows().await?.into_iter().map(|it| (it.workflow.to_string(), it.version)).collect();
        let version_of = |child: &str, named: Option<u32>| {
            named.or_else(|| newest.get(child).copied()).ok_or(NoVersion::Unpublished)
        };
        let unpinned = pin_children(&mut document, version_of);
        let unpinned = unpinned.err().unwrap_or_default();
        match self.prepare(guest, workflow, document, unpinned, ()).await? {
            Prepared::Published(publication) => Ok(publication),
            Prepared::Fit { graph, warnings } => {
                let version =
                    self.store.publish(&self.scope, workflow, &graph.canonical, &graph.hash, changelog).await?;
                Ok(Publication { version, graph, is_new: true, warnings, approval: Approval::by_publishing() })
            }
        }
    }

    /// Publishes a workflow's draft as its next version, or finds that the newest version is this graph.
    pub(crate) async fn publish_draft(
        &self,
        caller: &Caller,
        checking: Checking<'_>,
        id: &WorkflowId,
        changelog: Option<&str>,
    ) -> Result<Publication, OperationError> {
        let admitted = checking.checks.admit(&self.scope.tenant)?;
        if changelog.is_some_and(|text| text.chars().count() > CHANGELOG_CHARS_MAX) {
            let message = format!("write at most {CHANGELOG_CHARS_MAX} characters");
            return Err(OperationError::InvalidField { field: "changelog", message });
        }
        let (workflow, draft) = self.draft(id).await?;
        workflow.not_archived()?;
        let turn = admitted.turn(draft.as_str().len()).await;
        let mut document = read(draft, turn.clone()).await;
        let unpinned = self.pin_live_children(&mut document).await?;
        let (graph, warnings) = match self.prepare(checking.guest, id, document, unpinned, turn.clone()).await? {
            Prepared::Published(publication) => {
                let approval = self.approval(id, publication.version.version).await?;
                return Ok(Publication { approval, ..publication });
            }
            Prepared::Fit { graph, warnings } => (graph, warnings),
        };
        loop {
            let review = self.review(id, &graph, turn.clone()).await?;
            // Where it comes to nothing, somebody else published, approved or changed the project meanwhile.
            if let Some((version, is_new)) = self.write_version(caller, id, &graph, changelog, &review).await? {
                let approval = self.approval(id, version.version).await?;
                return Ok(Publication { version, graph, is_new, warnings, approval });
            }
        }
    }

    /// Writes a version, or finds it written, if what it was compared with is still so. Who publishes approves nothing by it,
    /// an admin neither: a draft is everybody's, and what it asks for by now may be another's wish.
    pub(super) async fn write_version(
        &self,
        caller: &Caller,
        id: &WorkflowId,
        graph: &Graph,
        changelog: Option<&str>,
        review: &Review,
    ) -> Result<Option<(VersionRecord, bool)>, OperationError> {
        let mut tx = self.store.database().begin().await?;
        drafts::hold(&mut tx, &self.scope, id).await?;
        if !review.holds(&mut tx, &self.scope, id).await? {
            return Ok(None);
        }
        let (canonical, hash) = (&graph.canonical, &graph.hash);
        let (version, is_new) = self.store.publish_within(&mut tx, &self.scope, id, canonical, hash, changelog).await?;
        if !is_new {
            return Ok(Some((version, is_new)));
        }
        let mut details = json!({ "version": version.version, "graph_hash": version.graph_hash });
        if review.new_grants.is_empty() {
            drafts::set_version(&mut tx, &self.scope, id, version.version).await?;
        } else {
            approvals::ask(&mut tx, &self.scope, id, version.version, &review.new_grants).await?;
            details["approval"] = ApprovalState::Pending.as_str().into();
        }
        self.audit(&mut tx, caller, "workflow.publish", id, details).await?;
        tx.commit().await?;
        Ok(Some((version, is_new)))
    }

    /// Checks a workflow's draft, or another graph in its place, as publishing would. What the request holds is let go when that
    /// is done, also where nobody waits for it any more.
    pub(crate) async fn validate_draft(
        &self,
        checking: Checking<'_>,
        id: &WorkflowId,
        mut question: DryRunQuestion,
        held: impl Send + 'static,
    ) -> Result<DryRun, OperationError> {
        let admitted = checking.checks.admit(&self.scope.tenant)?;
        let draft = self.draft(id).await?.1;
        let graph = question.graph.take().unwrap_or(draft);
        self.validate(admitted, checking.guest, graph, question, held).await
    }

    /// Checks a graph of which there is no workflow yet, as publishing would. Without one, what is checked is none.
    pub(crate) async fn validate_graph(
        &self,
        checking: Checking<'_>,
        mut question: DryRunQuestion,
        held: impl Send + 'static,
    ) -> Result<DryRun, OperationError> {
        let admitted = checking.checks.admit(&self.scope.tenant)?;
        let graph = question.graph.take().unwrap_or_else(Json::null);
        self.validate(admitted, checking.guest, graph, question, held).await
    }

    async fn validate(
        &self,
        admitted: Admitted,
        guest: Arc<dyn Guest>,
        graph: Json,
        question: DryRunQuestion,
        held: impl Send + 'static,
    ) -> Result<DryRun, OperationError> {
        let turn = admitted.turn(graph.as_str().len() + question.value_bytes()).await;
        let mut document = read(graph, turn.clone()).await;
        let unpinned = self.pin_live_children(&mut document).await?;
        let (step_ids, tenant) = (question.step_ids.clone(), self.scope.tenant.clone());
        let options = move || question.options(tenant);
        let mut report = timed_dry_run(Arc::new(document), options, guest, (turn, held)).await?;
        let is_asked = |issue: &Issue| {
            let is_about = |ids: &Vec<String>| ids.iter().any(|id| Some(id.as_str()) == issue.step_id.as_deref());
            report.checks_performed.contains(&issue.code.check()) && step_ids.as_ref().is_none_or(is_about)
        };
        let unpinned: Vec<Issue> = unpinned.into_iter().filter(is_asked).collect();
        if !unpinned.is_empty() {
            report.valid = false;
            report.readiness = Readiness::Blocked;
            report.issues.splice(0..0, unpinned);
        }
        Ok(report)
    }

    /// Versions of a workflow before a number, the newest first: at most `limit`.
    pub(crate) async fn versions_before(
        &self,
        id: &WorkflowId,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<VersionEntry>, OperationError> {
        self.workflow(id).await?;
        Ok(self.store.versions_before(&self.scope, id, before, limit).await?)
    }

    /// One version of a workflow.
    pub(crate) async fn version(&self, id: &WorkflowId, version: u32) -> Result<VersionRecord, OperationError> {
        self.workflow(id).await?;
        self.store.version(&self.scope, id, Some(version)).await.map_err(|error| match error {
            StoreError::NotFound => OperationError::UnknownVersion { workflow: id.to_string(), version },
            other => other.into(),
        })
    }

    /// What changed from one version of a workflow to another.
    pub(crate) async fn diff(&self, id: &WorkflowId, from: u32, to: u32) -> Result<GraphDiff, OperationError> {
        let (from, to) = (self.version(id, from).await?.graph, self.version(id, to).await?.graph);
        Ok(on_its_own_thread((), move || diff(&from.to_value(), &to.to_value())).await)
    }

    /// The same graph, if it is the newest version already; else the graph as it can be published.
    async fn prepare(
        &self,
        guest: Arc<dyn Guest>,
        workflow: &WorkflowId,
        document: Value,
        unpinned: Vec<Issue>,
        held: impl Clone + Send + 'static,
    ) -> Result<Prepared, OperationError> {
        let document = Arc::new(document);
        let parsed = parse(&document, held.clone()).await;
        let published = match &parsed {
            Ok(graph) if unpinned.is_empty() => self.newest_if(workflow, &graph.hash).await?,
            Ok(_) | Err(_) => None,
        };
        let parsed = match (published, parsed) {
            (Some(version), Ok(graph)) => {
                let (warnings, approval) = (Vec::new(), Approval::by_publishing());
                return Ok(Prepared::Published(Publication { version, graph, is_new: false, warnings, approval }));
            }
            (_, parsed) => parsed,
        };
        let tenant = self.scope.tenant.clone();
        let options = move || DryRunOptions { tenant, ..DryRunOptions::default() };
        let report = timed_dry_run(document, options, guest, held).await?;
        let issues: Vec<Issue> = unpinned.into_iter().chain(report.issues).collect();
        if issues.iter().any(Issue::is_error) {
            return Err(OperationError::InvalidGraph { issues });
        }
        let graph = parsed.map_err(|issues| OperationError::InvalidGraph { issues })?;
        Ok(Prepared::Fit { graph, warnings: issues })
    }

    /// Writes the version of each called workflow that is in use here; gives what is wrong with the other calls.
    async fn pin_live_children(&self, document: &mut Value) -> Result<Vec<Issue>, OperationError> {
        let mut versions = HashMap::new();
        let mut names_left = CALLS_BY_NAME_TOLD_MAX;
        for (child, named) in calls(document) {
            let mut version = self.child_version(&WorkflowId::new(child.as_str()), named).await?;
            if version == Err(NoVersion::Unknown) && names_left > 0 {
                names_left -= 1;
                let ids = self.live_ids_of(&child).await?;
                version = Err(if ids.is_empty() { NoVersion::Unknown } else { NoVersion::NameOf(ids) });
            }
            versions.insert((child, named), version);
        }
        let version_of =
            |child: &str, named| versions.get(&(child.to_owned(), named)).cloned().unwrap_or(Err(NoVersion::Unknown));
        Ok(pin_children(document, version_of).err().unwrap_or_default())
    }

    /// The version that a call means, if there is such a one that may be used: of an archived workflow only a version that is
    /// named.
    async fn child_version(
        &self,
        child: &WorkflowId,
        named: Option<u32>,
    ) -> Result<Result<u32, NoVersion>, OperationError> {
        let found = match named {
            Some(named) => match self.version(child, named).await {
                Ok(record) => self.check_approved(child, named).await.map(|()| Some(record.version)),
                Err(error) => Err(error),
            },
            None => self.live_workflow(child).await.map(|workflow| workflow.published_version),
        };
        match found {
            Err(OperationError::Store(error)) => Err(error.into()),
            // The graph may name whatever it likes: what is no workflow here has no version.
            Err(OperationError::UnknownWorkflow(_)) => Ok(Err(NoVersion::Unknown)),
            Err(OperationError::WorkflowArchived(_)) => Ok(Err(NoVersion::Archived)),
            Err(OperationError::VersionNotApproved { version, .. }) => Ok(Err(NoVersion::NotApproved(version))),
            Err(_) => Ok(Err(NoVersion::Unpublished)),
            Ok(version) => Ok(version.ok_or(NoVersion::Unpublished)),
        }
    }

    /// The newest version of a workflow, if it has this graph.
    async fn newest_if(&self, workflow: &WorkflowId, hash: &str) -> Result<Option<VersionRecord>, OperationError> {
        match self.store.version(&self.scope, workflow, None).await {
            Ok(newest) => Ok(Some(newest).filter(|newest| newest.graph_hash == hash)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A graph on its way to become a version.
enum Prepared {
    /// It is one.
    Published(Publication),
    /// It can become one.
    Fit { graph: Graph, warnings: Vec<Issue> },
}

/// The workflows and versions that a document calls, each once: as many as a graph has steps at most, so that looking them up
/// is bounded whatever the document holds. None of a longer one, which is refused anyway.
fn calls(document: &Value) -> BTreeSet<(String, Option<u32>)> {
    let steps = document["steps"].as_array().map_or(0, Vec::len);
    let calls = graph::called(document).filter(|_| steps <= STEPS_MAX);
    // PostgreSQL takes no NUL in a text, and no id has one.
    let ids = calls.filter(|(id, _)| id.len() <= ID_CHARS_MAX && !id.contains('\0'));
    ids.map(|(id, version)| (id.to_owned(), version)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn only_so_many_children_are_looked_up() {
        let call = |id: &str| json!({ "type": "workflow_call", "workflow_id": id });
        let few = json!({ "steps": [call("b"), call("a"), call("b"), call("n\0"), call(&"l".repeat(129)), {}] });
        assert_eq!(calls(&few), [("a".to_owned(), None), ("b".to_owned(), None)].into());
        let many: Vec<Value> = (0..=STEPS_MAX).map(|index| call(&index.to_string())).collect();
        assert!(calls(&json!({ "steps": many })).is_empty());
    }
}
