//! Subscriptions of inbound webhooks, their secrets and their tokens.

use crate::{
    hooks::{Hook, hmac, hook, hook_by, now, published, send},
    server::{Answer, Client, Server, answer, on_both},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

const NOBODYS: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
/// The largest document of start parameters that a trigger keeps.
const PARAMS_BYTES_MAX: usize = 256 * 1024;

#[tokio::test]
async fn a_subscription_is_made_listed_changed_and_deleted() {
    on_both(|server| async move {
        let owner = server.owner();
        let hook = hook(&server, json!({ "extras": { "trigger_payload": { "from": "shop" }, "note": "kept" } })).await;
        let path = format!("/v1/inbound-webhooks/{}", hook.id);
        assert_eq!(hook.path, path);
        assert!(BASE64_STANDARD.decode(hook.secret.strip_prefix("whsec_").unwrap()).unwrap().len() == 32);
        let shown = owner.get(&path).await.expect(200);
        assert_eq!(
            (&shown["name"], &shown["replay"], &shown["is_enabled"]),
            (&json!("orders"), &json!("digest"), &json!(true))
        );
        assert_eq!(shown["extras"]["note"], "kept");
        assert!(!shown.to_string().contains("whsec_"), "the secret is shown once");
        let list = owner.get("/v1/inbound-webhooks").await.expect(200);
        assert_eq!(list["items"], json!([shown]));
        let others = owner.get(&format!("/v1/inbound-webhooks?workflow_id={NOBODYS}")).await.expect(200);
        assert_eq!(others["items"], json!([]));
        let changed = owner.patch(&path, json!({ "name": "other", "require_timestamp": true })).await.expect(200);
        assert_eq!((&changed["name"], &changed["require_timestamp"]), (&json!("other"), &json!(true)));
        assert_eq!(changed["extras"], shown["extras"]);
        owner.delete(&path).await.expect(204);
        owner.get(&path).await.refused(404, "NOT_FOUND");
        owner.delete(&path).await.refused(404, "NOT_FOUND");
        owner.patch(&path, json!({ "name": "x" })).await.refused(404, "NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_subscription_that_makes_no_sense_is_refused() {
    on_both(|server| async move {
        let owner = server.owner();
        let workflow = published(&owner).await;
        let new = |change: Value| {
            let mut body = json!({ "workflow_id": workflow, "name": "orders" });
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let owner = owner.clone();
            async move { owner.post("/v1/inbound-webhooks", body).await }
        };
        new(json!({ "workflow_id": NOBODYS })).await.refused(404, "WORKFLOW_NOT_FOUND");
        new(json!({ "workflow_id": "x" })).await.refused(404, "WORKFLOW_NOT_FOUND");
        new(json!({ "workflow_id": "x\u{0}" })).await.refused(422, "INVALID_BODY");
        new(json!({ "name": "a\u{0}b" })).await.refused(422, "INVALID_BODY");
        for wrong in [
            json!({ "name": "" }),
            json!({ "name": "a\u{7}b" }),
            json!({ "name": "a".repeat(201) }),
            json!({ "extras": { "trigger_steps": [] } }),
            json!({ "extras": { "trigger_payload": "x".repeat(300_000) } }),
            json!({ "automation_pat_id": NOBODYS }),
            json!({ "automation_bearer": "pat_wrong" }),
        ] {
            new(wrong).await.refused(422, "INVALID_FIELD");
        }
        new(json!({ "replay": "always" })).await.refused(422, "INVALID_BODY");
        assert_eq!(owner.get("/v1/inbound-webhooks").await.expect(200)["items"], json!([]));
        let own = new(json!({ "automation_bearer": server.token })).await.expect(201);
        assert_eq!(own.get("automation_bearer"), None);
        let pat = own["subscription"]["automation_pat_id"].clone();
        new(json!({ "automation_pat_id": pat })).await.expect(201);
        server.anybody().get("/v1/inbound-webhooks").await.refused(401, "NOT_AUTHENTICATED");
    })
    .await;
}

/// Documents of start parameters, as text, and whether they are small enough to be kept: of just the largest length, of one
/// byte more, and with a payload of one byte more that is white space but for its brackets.
pub(crate) fn documents_about_the_limit() -> [(String, bool); 3] {
    let document = |payload: String| format!(r#"{{"trigger_payload":{payload}}}"#);
    let filled = |bytes: usize| document(format!(r#""{}""#, "x".repeat(bytes - document(String::new()).len() - 2)));
    let spaced = |bytes: usize| document(format!("{{{}}}", " ".repeat(bytes - 2)));
    let over = PARAMS_BYTES_MAX + 1;
    [(filled(PARAMS_BYTES_MAX), true), (filled(over), false), (spaced(over), false)]
}

/// Sends a body that is written already.
pub(crate) async fn send_text(client: &Client, method: Method, path: &str, body: String) -> Answer {
    answer(client.request(method, path).header("content-type", "application/json").body(body)).await
}

#[tokio::test]
async fn extras_are_taken_up_to_a_length_of_their_text() {
    on_both(|server| async move {
        let (owner, workflow) = (server.owner(), published(&server.owner()).await);
        for (extras, is_taken) in documents_about_the_limit() {
            let new = format!(r#"{{"workflow_id":"{workflow}","name":"orders","extras":{extras}}}"#);
            let made = send_text(&owner, Method::POST, "/v1/inbound-webhooks", new).await;
            let own = format!("/v1/inbound-webhooks/{}", hook(&server, json!({})).await.id);
            let changed = send_text(&owner, Method::PATCH, &own, format!(r#"{{"extras":{extras}}}"#)).await;
            let sent: Value = serde_json::from_str(&extras).unwrap();
            match is_taken {
                true => {
                    assert_eq!(made.expect(201)["subscription"]["extras"], sent);
                    assert_eq!(changed.expect(200)["extras"], sent);
                }
                false => {
                    for refused in [made, changed] {
                        assert_eq!(refused.refused(422, "INVALID_FIELD")["details"]["field"], "extras");
                    }
                    assert_eq!(owner.get(&own).await.expect(200)["extras"], json!({}));
                }
            }
        }
        for wrong in ["[]", "7", "\"x\"", "true"] {
            let new = format!(r#"{{"workflow_id":"{workflow}","name":"orders","extras": {wrong}}}"#);
            let refused =
                send_text(&owner, Method::POST, "/v1/inbound-webhooks", new).await.refused(422, "INVALID_BODY");
            assert_eq!(refused["details"]["field"], "extras");
            assert!(refused["error"].as_str().unwrap().ends_with("and should be an object"), "{refused}");
        }
        // As it is written by us, whatever way it was sent.
        let odd = r#"{"extras": { "note": 1, "note": 2, "trigger_payload": null }}"#.to_owned();
        let own = format!("/v1/inbound-webhooks/{}", hook(&server, json!({})).await.id);
        let kept = send_text(&owner, Method::PATCH, &own, odd).await.expect(200)["extras"].clone();
        assert_eq!(kept, json!({ "note": 2, "trigger_payload": null }));
        let nothing = owner.patch(&own, json!({ "extras": null })).await.expect(200);
        assert_eq!(nothing["extras"], kept);
    })
    .await;
}

#[tokio::test]
async fn after_a_rotation_both_secrets_are_taken_until_the_grace_is_over() {
    on_both(|server| async move {
        let owner = server.owner();
        let mut hook = hook(&server, json!({ "replay": "none" })).await;
        let (before, rotate, body) = (hook.clone(), format!("{}/rotate-secret", hook.path), b"{}");
        let rotated = answer(owner.request(Method::POST, &rotate)).await.expect(200);
        hook.secret = rotated["signing_secret"].as_str().unwrap().to_owned();
        assert_ne!(hook.secret, before.secret);
        assert!(rotated["subscription"]["previous_secret_valid_until"].is_string());
        hook.deliver(&before.signed(body), body).await.expect(202);
        hook.deliver(&hook.signed(body), body).await.expect(202);
        let replaced = hook.clone();
        hook.secret = owner.post(&rotate, json!({ "grace_seconds": 0 })).await.expect(200)["signing_secret"]
            .as_str()
            .unwrap()
            .to_owned();
        hook.deliver(&replaced.signed(body), body).await.refused(401, "NOT_AUTHENTICATED");
        hook.deliver(&before.signed(body), body).await.refused(401, "NOT_AUTHENTICATED");
        hook.deliver(&hook.standard("m", now(), body), body).await.expect(202);
        owner.post(&rotate, json!({ "grace_seconds": 9_999_999 })).await.refused(422, "INVALID_FIELD");
    })
    .await;
}

#[tokio::test]
async fn secrets_open_again_after_a_restart() {
    let server = Server::start();
    let hook = hook(&server, json!({})).await;
    let server = server.restart();
    let sender = server.anybody();
    let body = b"{}";
    let signed = sender.with("x-agentruntime-signature", &hmac(&hook.secret, body));
    // The token of the first start is not the subscription's; the signature alone is not enough.
    send(&signed, &hook.path, body).await.refused(401, "NOT_AUTHENTICATED");
    let own = json!({ "automation_bearer": server.token, "workflow_id": hook.workflow, "name": "second" });
    let made = server.owner().post("/v1/inbound-webhooks", own).await.expect(201);
    let (path, secret) =
        (made["ingress_path"].as_str().unwrap().to_owned(), made["signing_secret"].as_str().unwrap().to_owned());
    let server = server.restart();
    let signed = server.owner().with("x-agentruntime-signature", &hmac(&secret, body));
    send(&signed, &path, body).await.expect(202);
}

#[tokio::test]
async fn a_token_that_ends_ends_its_deliveries() {
    on_both(|server| async move {
        let (owner, admin) = (server.owner(), server.admin());
        let (hook, body) = (hook(&server, json!({ "replay": "none" })).await, b"{}");
        hook.deliver(&hook.signed(body), body).await.expect(202);
        let own = format!("/v1/inbound-webhooks/{}", hook.id);
        let pat = owner.get(&own).await.expect(200)["automation_pat_id"].as_str().unwrap().to_owned();
        // It was made for one thing.
        hook.sender.get("/v1/workflows").await.refused(403, "SCOPE_MISSING");
        admin.delete(&format!("/v1/pats/{pat}")).await.expect(204);
        hook.deliver(&hook.signed(body), body).await.refused(401, "NOT_AUTHENTICATED");
        owner.patch(&own, json!({ "automation_pat_id": pat })).await.refused(422, "INVALID_FIELD");
        // Another token takes over, and what carries the one before is refused.
        let new = json!({ "name": "hooks", "scopes": ["workflow:run"], "project_id": "default" });
        let made = admin.post("/v1/pats", new).await.expect(201);
        owner.patch(&own, json!({ "automation_pat_id": made["pat"]["id"] })).await.expect(200);
        let taken = hook.signed(body).with("authorization", &format!("Bearer {}", made["token"].as_str().unwrap()));
        hook.deliver(&taken, body).await.expect(202);
        owner.delete(&own).await.expect(204);
        // It was not made for the subscription, and stays.
        server.holder(made["token"].as_str().unwrap()).get("/v1/workflows").await.refused(403, "SCOPE_MISSING");
    })
    .await;
}

#[tokio::test]
async fn a_token_that_was_made_for_a_subscription_ends_with_it() {
    on_both(|server| async move {
        let (hook, owner) = (hook(&server, json!({})).await, server.owner());
        owner.delete(&format!("/v1/inbound-webhooks/{}", hook.id)).await.expect(204);
        hook.sender.get("/v1/workflows").await.refused(401, "NOT_AUTHENTICATED");
        for action in ["webhook.create", "webhook.delete", "pat.create", "pat.revoke"] {
            let log = server.admin().get(&format!("/v1/audit?action={action}")).await.expect(200);
            assert!(!log["items"].as_array().unwrap().is_empty(), "{action}");
            assert!(!log.to_string().contains("whsec_"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_that_may_start_no_runs_makes_no_subscription_that_does() {
    on_both(|server| async move {
        let workflow = published(&server.owner()).await;
        let new = json!({ "name": "writer", "scopes": ["workflow:write"], "project_id": "default" });
        let made = server.admin().post("/v1/pats", new).await.expect(201);
        let writer = server.holder(made["token"].as_str().unwrap());
        let body = |pat: &Value| json!({ "workflow_id": workflow, "name": "x", "automation_pat_id": pat });
        writer.post("/v1/inbound-webhooks", body(&Value::Null)).await.refused(403, "SCOPE_MISSING");
        // Not with a token that it does not hold itself, either.
        writer.post("/v1/inbound-webhooks", body(&made["pat"]["id"])).await.refused(403, "SCOPE_MISSING");
        let new = json!({ "name": "runner", "scopes": ["workflow:run"], "project_id": "default" });
        let runner = server.admin().post("/v1/pats", new).await.expect(201);
        writer.post("/v1/inbound-webhooks", body(&runner["pat"]["id"])).await.refused(403, "SCOPE_MISSING");
        let list = server.owner().get("/v1/inbound-webhooks").await.expect(200);
        assert_eq!(list["items"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_subscription_lasts_no_longer_than_the_token_by_which_it_was_made() {
    on_both(|server| async move {
        let (owner, admin) = (server.owner(), server.admin());
        let scopes = json!(["workflow:write", "workflow:run"]);
        let new =
            json!({ "name": "maker", "scopes": scopes, "project_id": "default", "expires_at": "2999-01-01T00:00:00Z" });
        let maker = admin.post("/v1/pats", new).await.expect(201);
        let by_maker = server.holder(maker["token"].as_str().unwrap());
        let hook = hook_by(&server, &by_maker, json!({ "replay": "none" })).await;
        let own = format!("/v1/inbound-webhooks/{}", hook.id);
        let shown = owner.get(&own).await.expect(200);
        assert_eq!(shown["by_pat_id"], maker["pat"]["id"]);
        // The token that was made for it ends with the one by which it was made.
        let pats = admin.get("/v1/pats?limit=200").await.expect(200);
        let made =
            pats["items"].as_array().unwrap().iter().find(|pat| pat["id"] == shown["automation_pat_id"]).unwrap();
        assert_eq!(made["expires_at"], maker["pat"]["expires_at"]);
        // One that reaches further than the maker's is not the maker's to hand on.
        let wide = admin.post("/v1/pats", json!({ "name": "wide", "scopes": ["workflow:run"] })).await.expect(201);
        let named = json!({ "automation_pat_id": wide["pat"]["id"] });
        by_maker.patch(&own, named).await.refused(422, "INVALID_FIELD");
        // Another one stays when the maker's is revoked, and does not help.
        let new = json!({ "name": "sender", "scopes": ["workflow:run"], "project_id": "default" });
        let sender = admin.post("/v1/pats", new).await.expect(201);
        by_maker.patch(&own, json!({ "automation_pat_id": sender["pat"]["id"] })).await.expect(200);
        let bearer = format!("Bearer {}", sender["token"].as_str().unwrap());
        let hook = Hook { sender: server.anybody().with("authorization", &bearer), ..hook };
        let body = b"{}";
        hook.deliver(&hook.signed(body), body).await.expect(202);
        admin.delete(&format!("/v1/pats/{}", maker["pat"]["id"].as_str().unwrap())).await.expect(204);
        hook.deliver(&hook.signed(body), body).await.refused(401, "NOT_AUTHENTICATED");
        // Whoever changes it answers for it from then on.
        let changed = owner.patch(&own, json!({ "name": "taken over" })).await.expect(200);
        assert_ne!(changed["by_pat_id"], maker["pat"]["id"]);
        hook.deliver(&hook.signed(body), body).await.expect(202);
    })
    .await;
}

#[tokio::test]
async fn a_token_that_was_made_for_a_subscription_ends_with_the_token_of_its_maker() {
    on_both(|server| async move {
        let admin = server.admin();
        let new = json!({ "name": "leaked", "scopes": ["workflow:write", "workflow:run"], "project_id": "default" });
        let made = admin.post("/v1/pats", new).await.expect(201);
        let leaked = server.holder(made["token"].as_str().unwrap());
        let (hook, other) = (hook_by(&server, &leaked, json!({})).await, hook(&server, json!({})).await);
        hook.sender.get("/v1/workflows").await.refused(403, "SCOPE_MISSING");
        admin.delete(&format!("/v1/pats/{}", made["pat"]["id"].as_str().unwrap())).await.expect(204);
        hook.sender.get("/v1/workflows").await.refused(401, "NOT_AUTHENTICATED");
        hook.deliver(&hook.signed(b"{}"), b"{}").await.refused(401, "NOT_AUTHENTICATED");
        // One that was made with another token goes on.
        other.deliver(&other.signed(b"{}"), b"{}").await.expect(202);
    })
    .await;
}

#[tokio::test]
async fn without_a_master_key_a_database_server_keeps_no_secrets() {
    let Some(postgres) = agentruntime_tests::postgres::server() else { return };
    let server = Server::start_without_key(&postgres.database());
    let workflow = published(&server.owner()).await;
    let body = json!({ "workflow_id": workflow, "name": "x" });
    server.owner().post("/v1/inbound-webhooks", body).await.refused(503, "MASTER_KEY_MISSING");
}
