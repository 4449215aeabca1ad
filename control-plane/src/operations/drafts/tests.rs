//! Drafts over a store: which workflows are found, alive, published.

use super::*;
use crate::access::{AccessError, Credential, RequestId, SessionId, caller::Origin, projects, tables, tenants, users};
use agentruntime_engine::{
    graph::Graph,
    store::{Location, ManualClock, Store},
};
use std::{net::Ipv4Addr, sync::Arc, time::Duration};
use tempfile::TempDir;

/// A project of a workspace, and one of another.
struct World {
    clock: Arc<ManualClock>,
    caller: Caller,
    own: Project,
    other: Project,
    _folder: TempDir,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_000_000)));
    let store = Store::open(&Location::Sqlite(folder.path().to_owned()), clock.clone()).await.unwrap();
    store.database().migrate(&tables::MIGRATIONS).await.unwrap();
    let (caller, own) = settle(&store, "own").await.unwrap();
    let (_, other) = settle(&store, "other").await.unwrap();
    World { clock, caller, own, other, _folder: folder }
}

async fn settle(store: &Store, slug: &str) -> Result<(Caller, Project), AccessError> {
    use crate::access::Visibility::Public;
    let mut tx = store.database().begin().await?;
    let email = format!("{slug}@example.org");
    let user = users::create_verified(&mut tx, &email, "Ada", 0).await?;
    let origin = Origin { address: Ipv4Addr::LOCALHOST.into(), request: RequestId::new_v7() };
    let caller = Caller { user, email, credential: Credential::Session(SessionId::new_v7()), origin };
    let tenant = tenants::create(&mut tx, &caller, slug, slug, 0).await?;
    let project = projects::create(&mut tx, &caller, &tenant, "default", "Default", Public, 0).await?;
    tx.commit().await?;
    Ok((caller, Project::of(store.clone(), project.tenant.tenant, project.project)))
}

fn new(name: &str) -> NewWorkflow {
    NewWorkflow { name: name.into(), description: String::new(), graph: Json::empty_object(), run_setup: None }
}

#[tokio::test]
async fn a_name_shows_all_that_it_holds() {
    let World { caller, own, .. } = &world().await;
    let longest = "ä".repeat(NAME_CHARS_MAX);
    for fine in
        ["Rechnungen prüfen (v2)", "請求書の確認", "می\u{200c}خواهم", "👩\u{200d}💻 triage", " spaced ", &longest]
    {
        assert_eq!(own.create_workflow(caller, new(fine)).await.unwrap().name, fine);
    }
    let made = own.create_workflow(caller, new("a")).await.unwrap();
    for wrong in
        ["", " ", "a\nb", "pay\u{202e}lla", "pay\u{200b}all", "\u{feff}pay", "pay\u{2066}", &format!("{longest}ä")]
    {
        let refused = own.create_workflow(caller, new(wrong)).await.unwrap_err();
        assert_eq!((refused.code(), refused.details().unwrap()["field"].as_str()), ("INVALID_FIELD", Some("name")));
        let change = WorkflowChange { name: Some(wrong.into()), ..WorkflowChange::default() };
        let refused = own.change_workflow(caller, &made.id, change, &Expected::Anything).await.unwrap_err();
        assert_eq!(refused.code(), "INVALID_FIELD", "{wrong:?}");
    }
}

#[tokio::test]
async fn a_publication_that_was_compared_with_what_is_in_use_no_more_comes_to_nothing() {
    let World { caller, own, .. } = &world().await;
    let made = own.create_workflow(caller, new("a")).await.unwrap();
    let steps = serde_json::json!([{ "id": "a", "type": "human_task", "task_type": "approval" }]);
    let graph = Graph::parse(&serde_json::json!({ "steps": steps })).unwrap();
    let seen = own.review(&made.id, &graph, ()).await.unwrap();
    let mut tx = own.store.database().begin().await.unwrap();
    set_version(&mut tx, &own.scope, &made.id, 1).await.unwrap();
    tx.commit().await.unwrap();
    assert!(own.write_version(caller, &made.id, &graph, None, &seen).await.unwrap().is_none());
    // Nothing of it was written.
    let seen = own.review(&made.id, &graph, ()).await.unwrap();
    let (version, is_new) = own.write_version(caller, &made.id, &graph, None, &seen).await.unwrap().unwrap();
    assert_eq!((version.version, is_new), (1, true));
}

#[tokio::test]
async fn only_what_is_published_and_in_use_is_live() {
    let World { caller, own, .. } = &world().await;
    let made = own.create_workflow(caller, new("a")).await.unwrap();
    let refused = |error: OperationError| error.code();
    assert_eq!(own.live_workflow(&made.id).await.map_err(refused), Err("WORKFLOW_NOT_PUBLISHED"));
    let mut tx = own.store.database().begin().await.unwrap();
    set_version(&mut tx, &own.scope, &made.id, 3).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(own.live_workflow(&made.id).await.unwrap().published_version, Some(3));
    own.archive_workflow(caller, &made.id).await.unwrap();
    assert_eq!(own.live_workflow(&made.id).await.map_err(refused), Err("WORKFLOW_ARCHIVED"));
    assert_eq!(own.live_workflow(&WorkflowId::new("x")).await.map_err(refused), Err("WORKFLOW_NOT_FOUND"));
}

#[tokio::test]
async fn another_tenant_finds_nothing() {
    let World { caller, own, other, .. } = &world().await;
    let made = own.create_workflow(caller, new("secret")).await.unwrap();
    let unknown = OperationError::UnknownWorkflow(made.id.to_string()).to_string();
    let told = |error: OperationError| error.to_string();
    assert_eq!(other.draft(&made.id).await.map_err(told), Err(unknown.clone()));
    let change = WorkflowChange { name: Some("mine".into()), ..WorkflowChange::default() };
    let changed = other.change_workflow(caller, &made.id, change, &Expected::Anything).await;
    assert_eq!(changed.map_err(told), Err(unknown.clone()));
    assert_eq!(other.archive_workflow(caller, &made.id).await.map_err(told), Err(unknown));
    assert_eq!(other.list_workflows(&WorkflowFilter::default(), 9).await.unwrap(), []);
    assert_eq!(own.workflow(&made.id).await.unwrap(), made);
}

#[tokio::test]
async fn a_change_moves_the_time_of_the_draft_and_not_that_of_its_making() {
    let World { clock, caller, own, .. } = &world().await;
    let made = own.create_workflow(caller, new("a")).await.unwrap();
    clock.advance(Duration::from_secs(5));
    let change = WorkflowChange { name: Some("b".into()), ..WorkflowChange::default() };
    let (changed, _) = own.change_workflow(caller, &made.id, change, &Expected::Anything).await.unwrap();
    assert_eq!(changed.created_at, made.created_at);
    assert_eq!(changed.updated_at.since(made.updated_at), Duration::from_secs(5));
}

#[tokio::test]
async fn what_was_done_is_in_the_log_and_what_was_refused_is_not() {
    let World { caller, own, .. } = &world().await;
    let made = own.create_workflow(caller, new("a")).await.unwrap();
    let change = || WorkflowChange { graph: Some(Json::empty_object()), ..WorkflowChange::default() };
    own.change_workflow(caller, &made.id, change(), &Expected::Anything).await.unwrap();
    own.change_workflow(caller, &made.id, change(), &Expected::Revisions(vec![1])).await.unwrap_err();
    own.archive_workflow(caller, &made.id).await.unwrap();
    own.archive_workflow(caller, &made.id).await.unwrap();
    own.change_workflow(caller, &made.id, change(), &Expected::Anything).await.unwrap_err();
    let mut values = Values::default();
    values.text(made.id.as_str());
    let rows = own.store.database().rows("SELECT action FROM audit_log WHERE target = $1 ORDER BY seq", values).await;
    let actions: Vec<String> =
        rows.unwrap().iter().map(|row| agentruntime_engine::database::text(row, 0).unwrap().to_owned()).collect();
    assert_eq!(actions, ["workflow.create", "workflow.update", "workflow.archive"]);
}

#[tokio::test]
async fn a_run_setup_is_read_as_far_as_it_means_something() {
    let World { caller, own, .. } = &world().await;
    let setup = r#"{ "trigger_payload": {"n":1.0}, "trigger_steps": { "a": {} }, "color": "red" }"#;
    let with_setup = NewWorkflow { run_setup: Some(Json::parse(setup).unwrap()), ..new("a") };
    let made = own.create_workflow(caller, with_setup).await.unwrap();
    assert_eq!(made.run_setup.as_ref().unwrap().as_str(), setup);
    let read = made.run_setup().unwrap();
    assert_eq!(read.trigger_payload.unwrap().as_str(), r#"{"n":1.0}"#);
    assert_eq!((read.trigger_steps.unwrap().len(), read.excluded_step_ids), (1, None));
    let without = own.create_workflow(caller, new("b")).await.unwrap();
    assert_eq!(without.run_setup().unwrap(), RunSetup::default());
}

#[test]
fn a_search_means_its_characters() {
    assert_eq!(rows::pattern(r"50%_Ö\"), r"%50\%\_ö\\%");
}
