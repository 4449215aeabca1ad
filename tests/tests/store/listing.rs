//! Which runs are listed.

use crate::{fixture::*, on_both_databases};
use agentruntime_engine::{
    run::event::RunStatus,
    store::{Append, Lineage, NewRun, PROJECTS_MAX, RowUpdate, RunCursor, RunFilter, Scope, Store, StoreError},
};
use agentruntime_host_api::{ErrorCode, ProjectId, RunId, StepError, WorkflowId};
use std::time::Duration;

on_both_databases!(
    a_row_says_who_started_it_and_how,
    runs_are_listed_by_what_started_them_and_when,
    runs_are_found_by_text,
    runs_of_several_projects_are_one_list,
    a_list_of_too_many_projects_is_refused,
);

async fn listed(store: &Store, filter: RunFilter) -> Vec<RunId> {
    store.runs(&scope("acme"), &filter).await.unwrap().iter().map(|record| record.run).collect()
}

async fn a_row_says_who_started_it_and_how(fixture: Fixture) {
    let store = fixture.open().await;
    let new = NewRun {
        trigger_type: "webhook".into(),
        user_id: Some("u-1".into()),
        pat_id: Some("p-1".into()),
        external_user_id: Some("Zoë\0\"".into()),
        ..new_run()
    };
    store.create_run(new.clone()).await.unwrap();
    let plain = new_run();
    store.commit_one(&node("a"), create(&plain)).await;
    let record = store.run(&new.scope, new.run).await.unwrap();
    assert_eq!((record.trigger_type.as_str(), record.user_id.as_deref()), ("webhook", Some("u-1")));
    assert_eq!((record.external_user_id.as_deref(), record.pat_id.as_deref()), (Some("Zoë\0\""), Some("p-1")));
    let with = |pat: &str| RunFilter { pat_id: Some(pat.into()), ..RunFilter::default() };
    assert_eq!(store.runs(&new.scope, &with("p-1")).await.unwrap().len(), 1);
    let of_workflow = RunFilter { workflow: Some(new.workflow.clone()), ..with("p-1") };
    assert_eq!(store.runs(&new.scope, &of_workflow).await.unwrap().len(), 1);
    assert!(store.runs(&new.scope, &with("p-2")).await.unwrap().is_empty());
    let claimed = store.claim_all(&node("b")).await;
    assert_eq!(claimed[0].record, store.run(&new.scope, new.run).await.unwrap());
    let record = store.run(&plain.scope, plain.run).await.unwrap();
    assert_eq!((record.trigger_type.as_str(), record.user_id, record.external_user_id), ("manual", None, None));
}

async fn runs_are_listed_by_what_started_them_and_when(fixture: Fixture) {
    let store = fixture.open().await;
    let at = |seconds| START.plus(Duration::from_secs(seconds));
    let mut runs = Vec::new();
    for second in 0..5 {
        let trigger_type = if second == 3 { "schedule".to_owned() } else { "manual".to_owned() };
        let new = NewRun { started_at: at(second), trigger_type, version: 1 + second as u32 % 2, ..new_run() };
        store.create_run(new.clone()).await.unwrap();
        runs.push(new.run);
    }
    let child = NewRun { parent: Some(runs[0]), trigger_type: "workflow_call".into(), started_at: at(9), ..new_run() };
    store.create_run(child.clone()).await.unwrap();

    let schedule = RunFilter { trigger_type: Some("schedule".into()), ..RunFilter::default() };
    assert_eq!(listed(&store, schedule).await, [runs[3]]);
    let window = RunFilter { started_from: Some(at(1)), started_to: Some(at(3)), ..RunFilter::default() };
    assert_eq!(listed(&store, window.clone()).await, [runs[2], runs[1]], "from the first moment up to the last");
    let before = Some(RunCursor { started_at: at(2), run: runs[2] });
    assert_eq!(listed(&store, RunFilter { before, ..window.clone() }).await, [runs[1]], "a page of the window");
    let before = Some(RunCursor { started_at: at(4), run: runs[4] });
    assert_eq!(listed(&store, RunFilter { before, ..window }).await, [runs[2], runs[1]], "a cursor after the window");
    let version = RunFilter { version: Some(2), ..RunFilter::default() };
    assert_eq!(listed(&store, version).await, [runs[3], runs[1]]);
    assert_eq!(listed(&store, RunFilter::default()).await[0], child.run);
    let parentless = RunFilter { lineage: Lineage::Parentless, limit: Some(1), ..RunFilter::default() };
    assert_eq!(listed(&store, parentless).await, [runs[4]]);
}

async fn runs_are_found_by_text(fixture: Fixture) {
    let store = fixture.open().await;
    let named = NewRun { external_user_id: Some("Alice\\100%_x".into()), ..new_run() };
    let other = NewRun { workflow: WorkflowId::new("Nightly"), external_user_id: Some("bob".into()), ..new_run() };
    let failed = new_run();
    let error = StepError::new(ErrorCode::LuaError, "line 3: \"Boom\"\nat night");
    let row = RowUpdate { status: RunStatus::Failed, awaiting: None, finished_at: Some(START), error: Some(error) };
    let batch = [create(&named), create(&other), Append { row, ..create(&failed) }];
    store.commit(&node("a"), LEASE, &batch).await.unwrap();
    let found = |text: &str| {
        let (store, text) = (store.clone(), Some(text.to_owned()));
        async move {
            let mut found = listed(&store, RunFilter { text, ..RunFilter::default() }).await;
            found.sort();
            found
        }
    };
    let id = other.run.to_string();
    for (text, expected) in [
        ("alice", vec![named.run]),
        ("E\\100%_X", vec![named.run]),
        ("100_", vec![]),
        ("al%e", vec![]),
        ("NIGHT", vec![other.run, failed.run]),
        ("\"boom\"\nat", vec![failed.run]),
        ("LUA_ERROR", vec![]),
        (&id[20..], vec![other.run]),
        (&id.to_uppercase(), vec![other.run]),
        ("nothing like it", vec![]),
    ] {
        let mut expected = expected;
        expected.sort();
        assert_eq!(found(text).await, expected, "{text}");
    }
    let of_workflow =
        RunFilter { text: Some("bob".into()), workflow: Some(WorkflowId::new("triage")), ..RunFilter::default() };
    assert!(listed(&store, of_workflow).await.is_empty());
}

async fn runs_of_several_projects_are_one_list(fixture: Fixture) {
    let store = fixture.open().await;
    let projects = ["a", "b", "c"].map(ProjectId::new);
    let mut all = Vec::new();
    for second in 0..12 {
        let scope = Scope { project: projects[second % 3].clone(), ..scope("acme") };
        let new = NewRun { started_at: START.plus(Duration::from_secs(second as u64 / 2)), ..new_run_of(&scope) };
        store.create_run(new.clone()).await.unwrap();
        all.push((new.started_at, new.run.to_string(), second % 3));
    }
    store.create_run(new_run_of(&Scope { project: projects[0].clone(), ..scope("other") })).await.unwrap();
    all.sort();
    all.reverse();
    let expected: Vec<_> = all.iter().filter(|(.., project)| *project != 2).map(|(_, run, _)| run.clone()).collect();
    for limit in [1, 3, 5, 100] {
        let mut listed = Vec::new();
        let mut before = None;
        loop {
            let filter = RunFilter { before, limit: Some(limit), ..RunFilter::default() };
            let twice = [projects[1].clone(), projects[0].clone(), projects[1].clone()];
            let page = store.runs_in(&scope("acme").tenant, &twice, &filter).await.unwrap();
            assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else { break };
            before = Some(RunCursor::from(last));
            listed.extend(page.iter().map(|record| record.run.to_string()));
        }
        assert_eq!(listed, expected, "in pages of {limit}");
    }
    assert!(store.runs_in(&scope("acme").tenant, &[], &RunFilter::default()).await.unwrap().is_empty());
}

async fn a_list_of_too_many_projects_is_refused(fixture: Fixture) {
    let store = fixture.open().await;
    let projects: Vec<_> = (0..=PROJECTS_MAX).map(|index| ProjectId::new(format!("p{index}"))).collect();
    let tenant = scope("acme").tenant;
    assert!(store.runs_in(&tenant, &projects[..PROJECTS_MAX], &RunFilter::default()).await.unwrap().is_empty());
    let refused = store.runs_in(&tenant, &projects, &RunFilter::default()).await;
    assert!(matches!(refused, Err(StoreError::TooManyProjects { given: 101, max: 100 })), "{refused:?}");
}
