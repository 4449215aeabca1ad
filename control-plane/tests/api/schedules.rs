//! Schedules over HTTP. When they come due is tested where time can be moved: in `triggers::scheduler`.

use crate::{
    hooks::published,
    server::on_both,
    webhooks::{documents_about_the_limit, send_text},
};
use reqwest::Method;
use serde_json::{Value, json};

const NOBODYS: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[tokio::test]
async fn a_schedule_is_made_listed_changed_and_deleted() {
    on_both(|server| async move {
        let owner = server.owner();
        let path = format!("/v1/workflows/{}/triggers", published(&owner).await);
        let new = json!({ "cron": "30 2 * * *", "timezone": "Europe/Berlin", "trigger_payload": { "n": 1 }, "overlap": "queue" });
        let made = owner.post(&path, new).await.expect(201);
        assert_eq!((&made["overlap"], &made["catch_up"], &made["is_enabled"]), (&json!("queue"), &json!(false), &json!(true)));
        assert_eq!(made["trigger_payload"], json!({ "n": 1 }));
        let times = made["next_due_times"].as_array().unwrap();
        assert_eq!(times.len(), 5);
        assert!(times.is_sorted_by_key(|time| time.as_str().unwrap()));
        let own = format!("{path}/{}", made["id"].as_str().unwrap());
        assert_eq!(owner.get(&own).await.expect(200)["id"], made["id"]);
        assert_eq!(owner.get(&path).await.expect(200)["items"][0]["id"], made["id"]);
        let changed = owner.patch(&own, json!({ "cron": "@hourly", "is_enabled": false })).await.expect(200);
        assert_eq!((&changed["cron"], &changed["timezone"]), (&json!("@hourly"), &json!("Europe/Berlin")));
        assert_eq!((&changed["next_due_times"], &changed["trigger_payload"]), (&json!([]), &json!({ "n": 1 })));
        owner.delete(&own).await.expect(204);
        owner.get(&own).await.refused(404, "NOT_FOUND");
        owner.patch(&own, json!({})).await.refused(404, "NOT_FOUND");
        owner.delete(&own).await.refused(404, "NOT_FOUND");
        assert_eq!(owner.get(&path).await.expect(200)["items"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_schedule_that_makes_no_sense_is_refused_and_says_where() {
    on_both(|server| async move {
        let owner = server.owner();
        let path = format!("/v1/workflows/{}/triggers", published(&owner).await);
        let wrong: [(Value, &str); 6] = [
            (json!({ "cron": "* * * * * *" }), "cron"),
            (json!({ "cron": "0 0 30 2 *" }), "cron"),
            (json!({ "cron": "often" }), "cron"),
            (json!({ "cron": "*\u{7} * * * *" }), "cron"),
            (json!({ "cron": "* * * * *", "timezone": "Mars" }), "timezone"),
            (json!({ "cron": "* * * * *", "trigger_payload": "x".repeat(300_000) }), "trigger_payload"),
        ];
        for (body, field) in wrong {
            let refusal = owner.post(&path, body).await.refused(422, "INVALID_FIELD");
            assert_eq!(refusal["details"]["field"], field);
        }
        owner.post(&path, json!({ "cron": "* * * * *", "overlap": "maybe" })).await.refused(422, "INVALID_BODY");
        owner.post(&path, json!({ "cron": "*\u{0} * * * *" })).await.refused(422, "INVALID_BODY");
        owner.post(&path, json!({})).await.refused(422, "INVALID_BODY");
        let elsewhere = format!("/v1/workflows/{NOBODYS}/triggers");
        owner.post(&elsewhere, json!({ "cron": "* * * * *" })).await.refused(404, "WORKFLOW_NOT_FOUND");
        assert_eq!(owner.get(&path).await.expect(200)["items"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn start_parameters_are_taken_up_to_a_length_of_their_text() {
    on_both(|server| async move {
        let owner = server.owner();
        let path = format!("/v1/workflows/{}/triggers", published(&owner).await);
        let steps = json!({ "ask": { "task_payload": { "n": 1 } } });
        let old = owner.post(&path, json!({ "cron": "@daily", "trigger_steps": steps })).await.expect(201);
        let unchanged = format!("{path}/{}", old["id"].as_str().unwrap());
        for (document, is_taken) in documents_about_the_limit() {
            let made = document.replacen('{', r#"{"cron":"@daily","#, 1);
            let made = send_text(&owner, Method::POST, &path, made).await;
            if is_taken {
                let (made, sent) = (made.expect(201), serde_json::from_str::<Value>(&document).unwrap());
                assert_eq!(made["trigger_payload"], sent["trigger_payload"]);
                let own = format!("{path}/{}", made["id"].as_str().unwrap());
                send_text(&owner, Method::PATCH, &own, document.clone()).await.expect(200);
                // What stays counts, too.
                let steps = owner.patch(&own, json!({ "trigger_steps": steps })).await.refused(422, "INVALID_FIELD");
                assert_eq!(steps["details"]["field"], "trigger_payload");
                continue;
            }
            for refused in [made, send_text(&owner, Method::PATCH, &unchanged, document).await] {
                assert_eq!(refused.refused(422, "INVALID_FIELD")["details"]["field"], "trigger_payload");
            }
        }
        let refused = owner.patch(&unchanged, json!({ "trigger_steps": ["ask"] })).await.refused(422, "INVALID_BODY");
        assert_eq!(refused["error"], "`trigger_steps`: it is a list, and should be an object");
        let shown = owner.get(&unchanged).await.expect(200);
        assert_eq!((&shown["trigger_steps"], &shown["trigger_payload"]), (&steps, &Value::Null));
    })
    .await;
}

#[tokio::test]
async fn a_schedule_whose_input_could_never_fit_is_refused_when_it_is_made() {
    on_both(|server| async move {
        let owner = server.owner();
        let steps = json!([{ "id": "ask", "type": "human_task", "task_type": "approval" }]);
        let graph = json!({ "input_schema": [{ "name": "order", "type": "string" }], "steps": steps });
        let made = owner.post("/v1/workflows", json!({ "name": "strict", "graph": graph })).await.expect(201);
        let workflow = format!("/v1/workflows/{}", made["id"].as_str().unwrap());
        let path = format!("{workflow}/triggers");
        let with = |input: Value| json!({ "cron": "@daily", "trigger_payload": input });
        // Without a version, there is nothing to fit yet.
        let early = owner.post(&path, with(json!({}))).await.expect(201);
        owner.post(&format!("{workflow}/versions"), json!({})).await.expect(201);
        let refused = owner.post(&path, with(json!({ "order": 7 }))).await.refused(422, "INVALID_INPUT");
        assert!(!refused["issues"].as_array().unwrap().is_empty(), "{refused}");
        let unknown = json!({ "cron": "@daily", "trigger_payload": { "order": "x" }, "excluded_step_ids": ["none"] });
        owner.post(&path, unknown).await.refused(422, "UNKNOWN_STEP");
        let own = format!(
            "{path}/{}",
            owner.post(&path, with(json!({ "order": "x" }))).await.expect(201)["id"].as_str().unwrap()
        );
        owner.patch(&own, json!({ "trigger_payload": {} })).await.refused(422, "INVALID_INPUT");
        // What was made before can still be switched off.
        let early = format!("{path}/{}", early["id"].as_str().unwrap());
        owner.patch(&early, json!({ "is_enabled": false })).await.expect(200);
    })
    .await;
}
