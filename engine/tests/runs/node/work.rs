//! What a node does with runs.

use super::{Place, Scripted, doc};
use agentruntime_engine::{
    node::{StartError, StartRequest},
    run::{
        Awaiting, Signal,
        event::{Event, EventKind, RunStatus},
    },
    store::StoreError,
};
use agentruntime_host_api::{ErrorCode, RunId};
use insta::assert_snapshot;
use serde_json::json;
use sqlx::{Connection, Executor};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_from_its_start_to_its_end_and_followers_hear_every_event_in_order() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let steps = json!([
        { "id": "a", "script": "give {\"n\":1}" },
        { "id": "b", "depends_on": ["a"], "script": "echo steps" },
    ]);
    let workflow = place.publish("two", steps).await;
    let request = StartRequest::new(workflow, doc(json!({})));
    let (run, mut watcher) = node.start_watched(&place.scope, request).await.unwrap();
    let mut heard: Vec<Event> = Vec::new();
    while !heard.last().is_some_and(|event| event.kind.ends_run()) {
        heard.extend(watcher.next().await.unwrap().iter().cloned());
        let stored = place.journal(run).await;
        assert!(stored.starts_with(&heard), "what is heard is durable");
    }
    assert_eq!(heard, place.journal(run).await);
    assert_snapshot!(place.told(run).await, @r#"
    run started
    started a
    completed a: {"n":1}
    started b
    completed b: {"steps":{"a":{"result":{"n":1}}}}
    run completed: {"b":{"steps":{"a":{"result":{"n":1}}}}}
    "#);
    let row = place.row(run).await;
    assert_eq!((row.status, row.awaiting, row.last_seq), (RunStatus::Completed, None, 6));
    assert_eq!(row.finished_at, heard.last().map(|event| event.at));
    place.until(|| async { node.active_runs() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_runs_at_once_all_complete() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let each = json!([{ "id": "w", "type": "lua_script", "script": "echo item" }]);
    let steps = json!([
        { "id": "a", "script": "fail LUA_ERROR until 2", "retry": { "max_attempts": 2, "initial_s": 0.001 } },
        { "id": "e", "type": "for_each", "depends_on": ["a"], "for_each_items": [1, 2, 3], "for_each_body_steps": each },
        { "id": "b", "depends_on": ["e"], "script": "give {\"ok\":true}" },
    ]);
    let workflow = place.publish("many", steps).await;
    let starts = (0..200).map(|_| place.start(&node, &workflow));
    let runs = futures_util::future::join_all(starts).await;
    for run in &runs {
        assert_eq!(place.end(*run).await, Ok(json!({ "b": { "ok": true } })));
        assert_eq!(place.told(*run).await.matches("completed ").count(), 6, "every step completes once");
    }
    assert_eq!((guest.begun("a"), guest.begun("w"), guest.begun("b")), (400, 600, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_ahead_of_the_disk_and_nothing_is_told_before_it_is_durable() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let steps = json!([
        { "id": "a", "script": "give {}" },
        { "id": "b", "depends_on": ["a"], "script": "give {}" },
        { "id": "c", "depends_on": ["b"], "script": "give {}" },
    ]);
    let workflow = place.publish("ahead", steps).await;
    // Parsed and cached: what follows needs no read of the version's graph.
    let earlier = place.start(&node, &workflow).await;
    place.end(earlier).await.unwrap();

    let file = place.folder.path().join("data/journal.db");
    let mut other = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let request = StartRequest::new(workflow, doc(json!({})));
    let starting = node.start_watched(&place.scope, request);
    tokio::pin!(starting);
    let ahead = place.until(|| async { guest.begun("c") == 2 });
    tokio::select! {
        _ = &mut starting => panic!("a start is answered while nothing can be written"),
        () = ahead => {}
    }
    assert_eq!(place.store.runs(&place.scope, &Default::default()).await.unwrap().len(), 1, "the run is not there yet");
    other.execute("ROLLBACK").await.unwrap();
    let (run, mut watcher) = starting.await.unwrap();
    assert_eq!(place.end(run).await, Ok(json!({ "c": {} })));
    assert_eq!(watcher.next().await.unwrap()[0].seq, 1);
    assert_eq!(guest.begun("c"), 2, "no script ran again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_a_person_holds_nothing_but_its_row() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let steps = json!([
        { "id": "before", "script": "give {\"sum\":3}" },
        { "id": "ok", "type": "human_task", "task_type": "approval", "depends_on": ["before"], "task_payload": { "sum": "{{ steps.before.result.sum }}" } },
        { "id": "after", "depends_on": ["ok"], "script": "echo steps" },
    ]);
    let workflow = place.publish("ask", steps).await;
    let run = place.start(&node, &workflow).await;
    place.until(|| async { node.active_runs() == 0 }).await;
    let row = place.row(run).await;
    assert_eq!((row.status, row.awaiting), (RunStatus::Running, Some(Awaiting::HumanTask)));
    let tasks = place.tasks().await;
    assert_eq!((tasks.len(), tasks[0].payload.clone()), (1, doc(json!({ "sum": 3 }))));

    let answer = |fields| node.complete_task(&place.scope, run, tasks[0].task, true, doc(fields));
    answer(json!({ "note": "fine" })).await.unwrap();
    assert!(matches!(answer(json!({})).await, Err(StoreError::AlreadyClosed)), "a question is answered once");
    let outputs = place.end(run).await.unwrap();
    assert_eq!(outputs["after"]["steps"]["ok"]["result"], json!({ "approved": true, "note": "fine" }));
    assert_eq!(guest.begun("before"), 1, "what was done before the wait is not done again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_wakes_a_run_that_no_node_holds() {
    let ((place, clock), guest) = (Place::with_manual_clock().await, Scripted::new());
    let node = place.node(&guest);
    let workflow = place.publish("nap", json!([{ "id": "nap", "type": "sleep", "duration_s": 3600 }])).await;
    let run = place.start(&node, &workflow).await;
    place.until(|| async { node.active_runs() == 0 }).await;
    assert_eq!(place.row(run).await.awaiting, Some(Awaiting::Timer));
    clock.advance(std::time::Duration::from_secs(3_599));
    // A node that has just looked at the store and found this run's end has not taken up the other before.
    let other = place.publish("other", json!([{ "id": "x", "script": "give {}" }])).await;
    let other = place.start(&node, &other).await;
    place.end(other).await.unwrap();
    assert_eq!(place.row(run).await.status, RunStatus::Running);
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(place.end(run).await, Ok(json!({ "nap": { "slept_s": 3600.0 } })));
}

/// What the timer leads to needs no execution either, so nothing would ever come back to tell what was decided.
#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_is_due_when_the_last_script_ends_leads_on_to_a_question() {
    let ((place, clock), guest) = (Place::with_manual_clock().await, Scripted::new());
    let node = place.node(&guest);
    let steps = json!([
        { "id": "work", "script": "hold" },
        { "id": "nap", "type": "sleep", "duration_s": 20 },
        { "id": "ok", "type": "human_task", "task_type": "approval", "depends_on": ["nap"] },
    ]);
    let workflow = place.publish("nap", steps).await;
    let run = place.start(&node, &workflow).await;
    place.until(|| async { guest.held() == 1 }).await;
    clock.advance(std::time::Duration::from_secs(20));
    guest.release(1);
    place.until(|| async { place.row(run).await.awaiting == Some(Awaiting::HumanTask) }).await;
    assert_eq!(place.tasks().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_a_run_at_work_and_one_that_is_parked() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let steps = json!([{ "id": "a", "script": "hold" }, { "id": "b", "depends_on": ["a"], "script": "give {}" }]);
    let workflow = place.publish("held", steps).await;
    let run = place.start(&node, &workflow).await;
    place.until(|| async { guest.held() == 1 }).await;
    node.signal(&place.scope, run, Signal::Pause).await.unwrap();
    place.until(|| async { place.row(run).await.status == RunStatus::Paused }).await;
    guest.release(1);
    place.until(|| async { node.active_runs() == 0 }).await;
    assert_eq!(place.row(run).await.awaiting, Some(Awaiting::Resume));
    node.signal(&place.scope, run, Signal::Resume).await.unwrap();
    assert_eq!(place.end(run).await, Ok(json!({ "b": {} })));

    let stopped = place.start(&node, &workflow).await;
    place.until(|| async { guest.held() == 2 }).await;
    node.signal(&place.scope, stopped, Signal::Stop { graceful: false }).await.unwrap();
    assert_eq!(place.end(stopped).await.unwrap_err().code, ErrorCode::RunStopped);
    let finished_at = place.row(stopped).await.finished_at;
    node.signal(&place.scope, stopped, Signal::Pause).await.unwrap();
    place.until(|| async { place.store.inbox(stopped, 0).await.unwrap().is_empty() }).await;
    let row = place.row(stopped).await;
    assert_eq!((row.status, row.finished_at), (RunStatus::Stopped, finished_at), "a finished run stays as it ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_runs_while_its_parent_is_parked() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let child = place.publish("child", json!([{ "id": "c", "script": "hold" }])).await;
    let call = json!([{ "id": "call", "type": "workflow_call", "workflow_id": child, "version": 1 }]);
    let workflow = place.publish("parent", call).await;
    let run = place.start(&node, &workflow).await;
    place.until(|| async { guest.held() == 1 }).await;
    place.until(|| async { node.active_runs() == 1 }).await;
    assert_eq!(place.row(run).await.awaiting, Some(Awaiting::Child));
    guest.release(1);
    assert_eq!(place.end(run).await, Ok(json!({ "call": { "c": { "held": true } } })));

    let run = place.start(&node, &workflow).await;
    place.until(|| async { guest.held() == 2 }).await;
    node.signal(&place.scope, run, Signal::Stop { graceful: false }).await.unwrap();
    assert_eq!(place.end(run).await.unwrap_err().code, ErrorCode::RunStopped);
    let runs = place.store.runs(&place.scope, &Default::default()).await.unwrap();
    let child = runs.iter().find(|row| row.parent == Some(run)).unwrap();
    assert_eq!(place.end(child.run).await.unwrap_err().code, ErrorCode::RunStopped, "the child is stopped with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_an_id_that_is_taken_changes_nothing() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let workflow = place.publish("once", json!([{ "id": "a", "script": "give {}" }])).await;
    let run = RunId::new_v7();
    let request = StartRequest { run: Some(run), ..StartRequest::new(workflow, doc(json!({}))) };
    node.start_run(&place.scope, request.clone()).await.unwrap();
    place.end(run).await.unwrap();
    let before = (place.row(run).await, place.journal(run).await);
    let again = node.start_run(&place.scope, request).await;
    assert!(matches!(again, Err(StartError::Store(StoreError::AlreadyExists))), "{again:?}");
    assert_eq!((place.row(run).await, place.journal(run).await), before);
    assert_eq!(guest.begun("a"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_beneath_a_step_fails_it_and_the_node_goes_on() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let steps = json!([{ "id": "one", "script": "panic" }]);
    let alone = place.publish("alone", steps).await;
    let steps = json!([{ "id": "one", "script": "panic", "on_error": "continue" }, { "id": "two", "script": "hold" }]);
    let beside = place.publish("beside", steps).await;
    let well = place.publish("well", json!([{ "id": "a", "script": "give {}" }])).await;
    let run = place.start(&node, &alone).await;
    assert_eq!(place.end(run).await.unwrap_err().code, ErrorCode::SandboxTrap);
    let run = place.start(&node, &beside).await;
    guest.release(1);
    assert_eq!(place.end(run).await.unwrap()["two"], json!({ "held": true }));
    let run = place.start(&node, &well).await;
    assert_eq!(place.end(run).await, Ok(json!({ "a": {} })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_is_retried_and_another_takes_its_results_over() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let steps = json!([
        { "id": "a", "script": "give {\"n\":1}" },
        { "id": "b", "depends_on": ["a"], "script": "fail LUA_ERROR until 2" },
        { "id": "c", "depends_on": ["b"], "script": "give {\"n\":3}" },
    ]);
    let workflow = place.publish("retry", steps).await;
    let run = place.start(&node, &workflow).await;
    assert_eq!(place.end(run).await.unwrap_err().code, ErrorCode::LuaError);
    node.signal(&place.scope, run, Signal::Retry).await.unwrap();
    place.until(|| async { place.row(run).await.status == RunStatus::Completed }).await;
    assert_eq!((guest.begun("a"), guest.begun("b"), guest.begun("c")), (1, 2, 1));
    assert_eq!(place.row(run).await.error, None);

    let resume = |from_step: Option<&str>| StartRequest {
        resume_from: Some(run),
        from_step: from_step.map(Into::into),
        ..StartRequest::new(workflow.clone(), doc(json!({})))
    };
    let all = node.start_run(&place.scope, resume(None)).await.unwrap();
    assert_eq!(place.end(all).await, Ok(json!({ "c": { "n": 3 } })));
    assert_eq!(guest.begun("c"), 1);
    let from_c = node.start_run(&place.scope, resume(Some("c"))).await.unwrap();
    assert_eq!(place.end(from_c).await, Ok(json!({ "c": { "n": 3 } })));
    assert_eq!((guest.begun("a"), guest.begun("c")), (1, 2));
    let unknown = node.start_run(&place.scope, resume(Some("d"))).await;
    assert!(matches!(unknown, Err(StartError::UnknownStep(step)) if step == "d"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_results_over_takes_the_input_over_unless_it_has_its_own() {
    let (place, guest) = (Place::new().await, Scripted::new());
    let node = place.node(&guest);
    let workflow = place.publish("retry", json!([{ "id": "a", "script": "give {}" }])).await;
    let started = |input: Option<serde_json::Value>, resume_from| StartRequest {
        input: input.map(doc),
        resume_from,
        ..StartRequest::new(workflow.clone(), doc(json!({})))
    };
    let input_of = async |request| {
        let run = node.start_run(&place.scope, request).await.unwrap();
        place.end(run).await.unwrap();
        match place.journal(run).await.remove(0).kind {
            EventKind::RunStarted(start) => (run, start.input.to_value()),
            other => panic!("{other:?}"),
        }
    };
    let (first, _) = input_of(started(Some(json!({ "n": 1 })), None)).await;
    assert_eq!(input_of(started(None, Some(first))).await.1, json!({ "n": 1 }));
    assert_eq!(input_of(started(Some(json!({ "n": 2 })), Some(first))).await.1, json!({ "n": 2 }));
    assert_eq!(input_of(started(None, None)).await.1, json!({}));
}
