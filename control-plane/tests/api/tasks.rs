//! Questions to people over HTTP.

use crate::{
    server::{Server, on_both},
    workflow::{Workflow, asking},
};
use serde_json::json;

#[tokio::test]
async fn a_question_is_found_and_answered_once() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), asking()).await;
        let (run, task) = workflow.start_asking(json!({})).await;
        let inbox = workflow.client.get("/v1/tasks/pending").await.expect(200);
        let asked = &inbox["items"][0];
        assert_eq!((&asked["task_id"], &asked["run_id"]), (&json!(task), &json!(run)));
        assert_eq!((&asked["workflow_id"], &asked["step_id"]), (&json!(workflow.id), &json!("ask")));
        assert_eq!(asked["task_payload"], json!({ "question": "Go on?" }));

        let answer = json!({ "approved": true, "result": { "note": "fine" } });
        workflow.complete(&run, &task, answer.clone()).await.expect(200);
        let ended = workflow.reaches(&run, "completed").await;
        assert!(ended["finished_at"].is_string());
        let context = workflow.get(&format!("/runs/{run}/context")).await.expect(200);
        assert_eq!(context["outputs"], json!({ "after": { "note": "fine" } }));
        workflow.complete(&run, &task, answer).await.refused(409, "TASK_CLOSED");
        let inbox = workflow.client.get("/v1/tasks/pending").await.expect(200);
        assert_eq!(inbox["items"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn of_two_answers_at_once_one_counts() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), asking()).await;
        let (run, task) = workflow.start_asking(json!({})).await;
        let answer =
            |note: u32| workflow.complete(&run, &task, json!({ "approved": true, "result": { "note": note } }));
        let answers = futures_util::future::join_all((0..8).map(answer)).await;
        let accepted = answers.iter().filter(|answer| answer.status == 200).count();
        let refused = answers.iter().filter(|answer| answer.body["code"] == "TASK_CLOSED").count();
        assert_eq!((accepted, refused), (1, 7));
    })
    .await;
}

#[tokio::test]
async fn the_inbox_has_pages() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), asking()).await;
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.push(json!(workflow.start_asking(json!({})).await.1));
        }
        let first = workflow.client.get("/v1/tasks/pending?limit=2").await.expect(200);
        let cursor = first["next_cursor"].as_str().unwrap();
        let second = workflow.client.get(&format!("/v1/tasks/pending?limit=2&cursor={cursor}")).await.expect(200);
        let ids = |page: &serde_json::Value| -> Vec<_> {
            page["items"].as_array().unwrap().iter().map(|task| task["task_id"].clone()).collect()
        };
        assert_eq!([ids(&first), ids(&second)].concat(), asked);
        assert!(second["next_cursor"].is_null());
    })
    .await;
}

#[tokio::test]
async fn what_is_no_answer_is_refused() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), asking()).await;
        let other = Workflow::publish(server.owner(), asking()).await;
        let (run, task) = workflow.start_asking(json!({})).await;
        let approved = json!({ "approved": true });
        workflow.complete(&run, &task, json!({})).await.refused(422, "INVALID_BODY");
        workflow.complete(&run, &task, json!({ "approved": true, "result": [1] })).await.refused(422, "INVALID_BODY");
        // What the person says beside yes or no goes under `result`, and is not dropped elsewhere.
        let said = json!({ "approved": false, "reason": "too dear" });
        let refused = workflow.complete(&run, &task, said).await.refused(422, "INVALID_BODY");
        assert_eq!(refused["error"], "`reason`: it is not known; what can stand here is `approved`, `result`");
        let nobody = "00000000-0000-4000-8000-000000000000";
        workflow.complete(&run, nobody, approved.clone()).await.refused(404, "TASK_NOT_FOUND");
        other.complete(&run, &task, approved.clone()).await.refused(404, "RUN_NOT_FOUND");
        workflow.complete(&run, &task, approved).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn an_answer_says_yes_or_no_in_one_place() {
    let server = Server::start();
    let workflow = Workflow::publish(server.owner(), asking()).await;
    let (run, task) = workflow.start_asking(json!({})).await;
    let twice = json!({ "approved": true, "result": { "approved": false } });
    let refused = workflow.complete(&run, &task, twice).await.refused(422, "INVALID_FIELD");
    assert_eq!(refused["details"]["field"], "result");
    workflow.complete(&run, &task, json!({ "approved": false, "result": { "reason": "no" } })).await.expect(200);
}
