//! Versions of workflows: published, listed, read, compared. Nothing changes or deletes one.

use super::{
    State,
    approvals::{self, DecisionBody},
    extract::{Body, Path, Query},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
    validation::IssueBody,
    workflows::named,
};
use crate::{
    access::{
        May,
        permission::{ReadWorkflows, WriteWorkflows},
    },
    operations::{
        Publication,
        approvals::{Approval, ApprovalState},
    },
};
use agentruntime_engine::{
    graph::{self, GraphDiff},
    store::{VersionEntry, VersionRecord},
};
use agentruntime_host_api::Json;
use axum::{extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// The routes of versions.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list, publish)).routes(routes!(compare)).routes(routes!(read))
}

/// A version, without its graph.
#[derive(Serialize, ToSchema)]
struct VersionSummary {
    /// 1, 2, 3 …
    version: u32,
    /// SHA-256 of the graph.
    graph_hash: String,
    /// Why it was published.
    changelog: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    published_at: String,
    /// Whether it may be started and called.
    approval: ApprovalState,
}

/// A version.
#[derive(Serialize, ToSchema)]
struct Version {
    /// 1, 2, 3 …
    version: u32,
    /// Of which workflow.
    #[schema(format = Uuid)]
    workflow_id: String,
    /// When it was published.
    #[schema(format = DateTime)]
    published_at: String,
    /// SHA-256 of the graph.
    graph_hash: String,
    /// The graph in its canonical form, with the versions of the workflows that it calls.
    #[schema(value_type = Object)]
    graph_snapshot: Json,
    /// Why it was published.
    changelog: Option<String>,
    /// Whether it may be started and called.
    approval: ApprovalState,
    /// What needed an approval, decided or not: what it asked for newly when it was published.
    new_grants: Vec<GrantName>,
    /// Who approved or rejected it; null before that, and where nobody had to.
    decision: Option<DecisionBody>,
}

/// A version that was published.
#[derive(Serialize, ToSchema)]
struct Published {
    /// 1, 2, 3 …
    version: u32,
    /// Of which workflow.
    #[schema(format = Uuid)]
    workflow_id: String,
    /// When it was published.
    #[schema(format = DateTime)]
    published_at: String,
    /// SHA-256 of the graph.
    graph_hash: String,
    /// The graph in its canonical form, with the versions of the workflows that it calls.
    #[schema(value_type = Object)]
    graph_snapshot: Json,
    /// Why it was published.
    changelog: Option<String>,
    /// Whether it may be started and called.
    approval: ApprovalState,
    /// What needed an approval, decided or not: what it asked for newly when it was published.
    new_grants: Vec<GrantName>,
    /// Who approved or rejected it; null before that, and where nobody had to.
    decision: Option<DecisionBody>,
    /// Warnings: what the author should look at.
    issues: Vec<IssueBody>,
}

/// What to publish: the draft.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PublishWorkflow {
    /// Why it is published.
    #[schema(max_length = 10_000)]
    changelog: Option<String>,
}

/// Which versions to compare.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DiffQuery {
    /// The version before.
    #[param(minimum = 1)]
    from: u32,
    /// The version after.
    #[param(minimum = 1)]
    to: u32,
}

/// What changed from one version to another. Each change stands in one place: dependencies under `edges`, bounds under `limits`,
/// all other keys of a step under `steps.changed`. What steps may ask for is besides under `grants`.
#[derive(Serialize, ToSchema)]
struct VersionDiff {
    /// The version before.
    from: u32,
    /// The version after.
    to: u32,
    /// Whether the graphs are the same.
    identical: bool,
    /// Steps.
    steps: StepsDiff,
    /// Dependencies.
    edges: EdgesDiff,
    /// What steps may ask for.
    grants: GrantsDiff,
    /// What bounds a step: times, attempts, how many at once.
    limits: Vec<StepKeyDiff>,
    /// The form of the start payload, where it differs.
    input_schema: Option<KeyDiff>,
    /// Other keys of the document; under `steps` the ids in their order.
    document: Vec<KeyDiff>,
}

/// Steps that differ.
#[derive(Serialize, ToSchema)]
struct StepsDiff {
    /// Those that are new.
    added: Vec<StepName>,
    /// Those that are gone.
    removed: Vec<StepName>,
    /// Those in both whose settings differ.
    changed: Vec<StepDiff>,
}

/// A step.
#[derive(Serialize, ToSchema)]
struct StepName {
    /// The step whose body it is in.
    parent: Option<String>,
    /// Its id.
    id: String,
    /// Its type.
    #[serde(rename = "type")]
    kind: String,
}

/// A step whose settings differ.
#[derive(Serialize, ToSchema)]
struct StepDiff {
    /// The step whose body it is in.
    parent: Option<String>,
    /// Its id.
    id: String,
    /// What differs; under a body's key the ids in their order.
    keys: Vec<KeyDiff>,
}

/// A key whose value differs. What is not there is null.
#[derive(Serialize, ToSchema)]
struct KeyDiff {
    /// The key.
    key: String,
    /// Its value before.
    old: Value,
    /// Its value after.
    new: Value,
}

/// A bound of a step that differs.
#[derive(Serialize, ToSchema)]
struct StepKeyDiff {
    /// The step whose body it is in.
    parent: Option<String>,
    /// The step.
    id: String,
    /// The key.
    key: String,
    /// Its value before.
    old: Value,
    /// Its value after.
    new: Value,
}

/// What steps may ask for, where it differs.
#[derive(Serialize, ToSchema)]
struct GrantsDiff {
    /// What they may newly ask for.
    added: Vec<GrantName>,
    /// What they may not ask for any more.
    removed: Vec<GrantName>,
}

/// Something that a step may ask for.
#[derive(Serialize, ToSchema)]
pub(super) struct GrantName {
    /// The step whose body it is in.
    parent: Option<String>,
    /// The step.
    id: String,
    /// What it may ask for.
    #[schema(example = "host api.example.com")]
    grant: String,
}

/// Dependencies that differ.
#[derive(Serialize, ToSchema)]
struct EdgesDiff {
    /// Those that are new.
    added: Vec<EdgeName>,
    /// Those that are gone.
    removed: Vec<EdgeName>,
}

/// A dependency: `to` waits for `from`.
#[derive(Serialize, ToSchema)]
struct EdgeName {
    /// The step whose body both are in.
    parent: Option<String>,
    /// The step that is waited for.
    from: String,
    /// The step that waits.
    to: String,
}

/// Lists the versions of a workflow, the newest first.
#[utoipa::path(
    get,
    path = "/workflows/{id}/versions",
    operation_id = "list_versions",
    tag = "versions",
    params(("id" = Uuid, Path, description = "The workflow"), PageQuery),
    responses((status = 200, body = Page<VersionSummary>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<VersionSummary>>, Problem> {
    let limit = page.limit()?;
    let (project, id) = (app.project(&may.place), named(id));
    let versions = project.versions_before(&id, page.after()?, limit + 1).await?;
    let versions = project.approval_states(&id, versions).await?;
    Ok(axum::Json(Page::of(versions, limit, |(version, _)| version.version, VersionSummary::from)))
}

/// Publishes the draft as the next version. A draft that is the newest version already answers 200 with it; one with errors,
/// 422 with its `issues`. Where the project wants it (`require_grant_approval`), a version that asks for more than the one in use
/// is `pending`: it starts when an admin of the project has approved it, and the one in use stays so until then.
#[utoipa::path(
    post,
    path = "/workflows/{id}/versions",
    operation_id = "publish_version",
    tag = "versions",
    params(("id" = Uuid, Path, description = "The workflow")),
    request_body = Option<PublishWorkflow>,
    responses(
        (status = 201, body = Published, description = "A new version"),
        (status = 200, body = Published, description = "The newest version is this graph already"),
        (status = "default", body = ProblemBody)
    ),
    security(("token" = ["workflow:write"]), ("session" = []))
)]
async fn publish(
    may: May<WriteWorkflows>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    body: Option<Body<PublishWorkflow>>,
) -> Result<(StatusCode, axum::Json<Published>), Problem> {
    let PublishWorkflow { changelog } = body.map(|Body(body, _)| body).unwrap_or_default();
    let project = app.project(&may.place);
    let published = project.publish_draft(&may.caller, app.checking(), &named(id), changelog.as_deref()).await?;
    let status = if published.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(published.into())))
}

/// Reads one version with its graph.
#[utoipa::path(
    get,
    path = "/workflows/{id}/versions/{version}",
    operation_id = "get_version",
    tag = "versions",
    params(("id" = Uuid, Path, description = "The workflow"), ("version" = u32, Path, description = "1, 2, 3 …")),
    responses((status = 200, body = Version), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn read(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path((id, version)): Path<(Uuid, u32)>,
) -> Result<axum::Json<Version>, Problem> {
    let (project, id) = (app.project(&may.place), named(id));
    let record = project.version(&id, version).await?;
    Ok(axum::Json(Version::of(record, project.approval(&id, version).await?)))
}

/// Tells what changed between two versions of a workflow.
#[utoipa::path(
    get,
    path = "/workflows/{id}/versions/diff",
    operation_id = "compare_versions",
    tag = "versions",
    params(("id" = Uuid, Path, description = "The workflow"), DiffQuery),
    responses((status = 200, body = VersionDiff), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn compare(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path(id): Path<Uuid>,
    Query(DiffQuery { from, to }): Query<DiffQuery>,
) -> Result<axum::Json<VersionDiff>, Problem> {
    let diff = app.project(&may.place).diff(&named(id), from, to).await?;
    Ok(axum::Json(VersionDiff::of(from, to, diff)))
}

impl From<(VersionEntry, ApprovalState)> for VersionSummary {
    fn from((entry, approval): (VersionEntry, ApprovalState)) -> Self {
        let VersionEntry { version, graph_hash, changelog, published_at } = entry;
        Self { version, graph_hash, changelog, published_at: published_at.to_string(), approval }
    }
}

impl From<graph::GrantRef> for GrantName {
    fn from(graph::GrantRef { parent, id, grant }: graph::GrantRef) -> Self {
        Self { parent, id, grant }
    }
}

impl Version {
    fn of(record: VersionRecord, approval: Approval) -> Self {
        let VersionRecord { workflow, version, graph_hash, graph, changelog, published_at } = record;
        let (approval, new_grants, decision) = approvals::told(approval);
        Self {
            version,
            workflow_id: workflow.to_string(),
            published_at: published_at.to_string(),
            graph_hash,
            graph_snapshot: graph,
            changelog,
            approval,
            new_grants,
            decision,
        }
    }
}

impl From<Publication> for Published {
    fn from(publication: Publication) -> Self {
        let version = Version::of(publication.version, publication.approval);
        Self {
            version: version.version,
            workflow_id: version.workflow_id,
            published_at: version.published_at,
            graph_hash: version.graph_hash,
            graph_snapshot: version.graph_snapshot,
            changelog: version.changelog,
            approval: version.approval,
            new_grants: version.new_grants,
            decision: version.decision,
            issues: publication.warnings.into_iter().map(IssueBody::from).collect(),
        }
    }
}

impl VersionDiff {
    fn of(from: u32, to: u32, diff: GraphDiff) -> Self {
        let identical = diff.is_empty();
        let step = |it: graph::StepRef| StepName { parent: it.parent, id: it.id, kind: it.kind };
        let edge = |it: graph::Edge| EdgeName { parent: it.parent, from: it.from, to: it.to };
        let limit = |graph::LimitChange { parent, id, change }: graph::LimitChange| {
            let graph::KeyChange { key, old, new } = change;
            StepKeyDiff { parent, id, key, old, new }
        };
        let changed = |it: graph::StepChange| {
            let keys = it.keys.into_iter().map(KeyDiff::from).collect();
            StepDiff { parent: it.parent, id: it.id, keys }
        };
        Self {
            from,
            to,
            identical,
            steps: StepsDiff {
                added: diff.steps_added.into_iter().map(step).collect(),
                removed: diff.steps_removed.into_iter().map(step).collect(),
                changed: diff.steps_changed.into_iter().map(changed).collect(),
            },
            edges: EdgesDiff {
                added: diff.edges_added.into_iter().map(edge).collect(),
                removed: diff.edges_removed.into_iter().map(edge).collect(),
            },
            grants: GrantsDiff {
                added: diff.grants_added.into_iter().map(GrantName::from).collect(),
                removed: diff.grants_removed.into_iter().map(GrantName::from).collect(),
            },
            limits: diff.limits.into_iter().map(limit).collect(),
            input_schema: diff.input_schema.map(KeyDiff::from),
            document: diff.document.into_iter().map(KeyDiff::from).collect(),
        }
    }
}

impl From<graph::KeyChange> for KeyDiff {
    fn from(graph::KeyChange { key, old, new }: graph::KeyChange) -> Self {
        Self { key, old, new }
    }
}
