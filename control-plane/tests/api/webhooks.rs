//! Inbound webhooks: subscriptions, and what deliveries are taken.

use crate::server::{Answer, Client, Server, answer, on_both};
use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use standardwebhooks::Webhook;
use std::{
    collections::HashSet,
    time::{SystemTime, UNIX_EPOCH},
};

const NOBODYS: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
/// The largest document of start parameters that a trigger keeps.
const PARAMS_BYTES_MAX: usize = 256 * 1024;

/// A published workflow that asks a person and so stays under way; its id.
pub(crate) async fn published(owner: &Client) -> String {
    let graph = json!({ "steps": [{ "id": "ask", "type": "human_task", "task_type": "approval" }] });
    let made = owner.post("/v1/workflows", json!({ "name": "hooked", "graph": graph })).await.expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    owner.post(&format!("/v1/workflows/{id}/versions"), json!({})).await.expect(201);
    id
}

/// A subscription as its sender knows it.
#[derive(Clone)]
pub(crate) struct Hook {
    pub(crate) id: String,
    pub(crate) workflow: String,
    pub(crate) path: String,
    pub(crate) secret: String,
    pub(crate) sender: Client,
}

pub(crate) async fn hook(server: &Server, settings: Value) -> Hook {
    hook_by(server, &server.owner(), settings).await
}

/// A subscription that somebody makes.
async fn hook_by(server: &Server, maker: &Client, settings: Value) -> Hook {
    let workflow = published(&server.owner()).await;
    let mut body = json!({ "workflow_id": workflow, "name": "orders" });
    body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let made = maker.post("/v1/inbound-webhooks", body).await.expect(201);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let token = text(&made["automation_bearer"]);
    Hook {
        id: text(&made["subscription"]["id"]),
        workflow,
        path: text(&made["ingress_path"]),
        secret: text(&made["signing_secret"]),
        sender: server.anybody().with("authorization", &format!("Bearer {token}")),
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn hmac(secret: &str, text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

async fn send(client: &Client, path: &str, body: &[u8]) -> Answer {
    answer(client.request(Method::POST, path).body(body.to_vec())).await
}

impl Hook {
    /// Signed without a time.
    pub(crate) fn signed(&self, body: &[u8]) -> Client {
        self.sender.with("x-agentruntime-signature", &hmac(&self.secret, body))
    }

    /// Signed at a time.
    fn signed_at(&self, at: i64, body: &[u8]) -> Client {
        let text = [format!("{at}.").as_bytes(), body].concat();
        let signed = self.sender.with("x-agentruntime-signature", &hmac(&self.secret, &text));
        signed.with("x-agentruntime-timestamp", &at.to_string())
    }

    /// Signed by the library of Standard Webhooks.
    fn standard(&self, id: &str, at: i64, body: &[u8]) -> Client {
        let signature = Webhook::new(&self.secret).unwrap().sign(id, at, body).unwrap();
        let headers = self.sender.with("webhook-id", id).with("webhook-timestamp", &at.to_string());
        headers.with("webhook-signature", &signature)
    }

    pub(crate) async fn deliver(&self, client: &Client, body: &[u8]) -> Answer {
        send(client, &self.path, body).await
    }
}

/// Makes a subscription, delivers to it in both ways and rotates its secret; gives all of it that nobody else may see.
pub(crate) async fn secrets_of_deliveries(server: &Server) -> Vec<String> {
    let (hook, body) = (hook(server, json!({})).await, br#"{"note": "a-delivered-secret"}"#);
    let signed = hook.signed(body);
    hook.deliver(&signed, body).await.expect(202);
    hook.deliver(&hook.standard("a-secret-id", now(), body), body).await.expect(202);
    hook.deliver(&signed.with("authorization", "Bearer pat_somebody-elses"), body)
        .await
        .refused(401, "NOT_AUTHENTICATED");
    hook.deliver(&hook.signed(b"no-json-but-secret"), b"no-json-but-secret").await.refused(400, "MALFORMED_JSON");
    let rotated = server.owner().post(&format!("{}/rotate-secret", hook.path), json!({})).await.expect(200);
    let mut secrets = vec![hook.secret.clone(), rotated["signing_secret"].as_str().unwrap().to_owned()];
    secrets.extend(hook.secret.strip_prefix("whsec_").map(str::to_owned));
    secrets.extend(signed.header("authorization").map(|value| value.replace("Bearer ", "")));
    secrets.extend(signed.header("x-agentruntime-signature").map(|value| value.replace("sha256=", "")));
    secrets.extend(["a-delivered-secret", "pat_somebody-elses", "no-json-but-secret"].map(str::to_owned));
    secrets
}

async fn input(owner: &Client, run: &Value) -> Value {
    let path = format!(
        "/v1/workflows/{}/runs/{}/context",
        run["workflow_id"].as_str().unwrap(),
        run["run_id"].as_str().unwrap()
    );
    owner.get(&path).await.expect(200)["input"].clone()
}

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
async fn a_genuine_delivery_starts_a_run_with_its_body_over_the_extras() {
    on_both(|server| async move {
        let owner = server.owner();
        let hook = hook(&server, json!({ "extras": { "trigger_payload": { "a": 1, "b": { "c": 2 } } } })).await;
        let body = br#"{"b": {"d": 3}}"#;
        let first = hook.deliver(&hook.signed(body), body).await.expect(202);
        assert_eq!((&first["workflow_id"], &first["replayed"]), (&json!(hook.workflow), &json!(false)));
        assert_eq!(input(&owner, &first).await, json!({ "a": 1, "b": { "d": 3 } }));
        // Cookies, and headers that nobody signed, say nothing.
        let body = b"[1, 2]";
        let odd = hook.signed_at(now(), body).with("cookie", "session=x").with("x-tenant-id", "other");
        let second = hook.deliver(&odd, body).await.expect(202);
        assert_eq!(input(&owner, &second).await, json!([1, 2]));
        let third = hook.deliver(&hook.standard("msg_1", now(), b"{}"), b"{}").await.expect(202);
        let runs: HashSet<&str> = [&first, &second, &third].iter().map(|run| run["run_id"].as_str().unwrap()).collect();
        assert_eq!(runs.len(), 3);
        let path = format!("/v1/workflows/{}/runs/{}", hook.workflow, first["run_id"].as_str().unwrap());
        assert_eq!(owner.get(&path).await.expect(200)["trigger_type"], "webhook");
    })
    .await;
}

#[tokio::test]
async fn a_delivery_may_hold_any_character() {
    on_both(|server| async move {
        let hook = hook(&server, json!({})).await;
        let body = br#"{"text":"a\u0000b","\u0000":"\ufffd"}"#;
        let made = hook.deliver(&hook.signed(body), body).await.expect(202);
        let read = input(&server.owner(), &made).await;
        assert_eq!(read, json!({ "text": "a\0b", "\0": "\u{fffd}" }));
    })
    .await;
}

#[tokio::test]
async fn whatever_is_not_genuine_is_refused_alike_and_starts_nothing() {
    on_both(|server| async move {
        let owner = server.owner();
        let (hook, other) = (hook(&server, json!({})).await, hook(&server, json!({ "is_enabled": false })).await);
        let strict = self::hook(&server, json!({ "require_timestamp": true })).await;
        let body = br#"{"order": 7}"#;
        let good = hook.signed(body);
        let by_owner = good.with("authorization", &format!("Bearer {}", server.token));
        let stale = now() - 310;
        let refusals = [
            send(&good, &format!("/v1/inbound-webhooks/{NOBODYS}"), body).await,
            send(&good, "/v1/inbound-webhooks/no-id", body).await,
            other.deliver(&other.signed(body), body).await,
            other.deliver(&good, body).await,
            // A right signature with no token, a wrong one, or another good one.
            hook.deliver(&good.with("authorization", "Basic x"), body).await,
            hook.deliver(&good.with("authorization", "Bearer pat_wrong"), body).await,
            hook.deliver(&by_owner, body).await,
            // A right token with no signature, or a wrong one.
            hook.deliver(&hook.sender, body).await,
            hook.deliver(&good, br#"{"order": 8}"#).await,
            hook.deliver(&strict.signed(body).with("authorization", "Bearer pat_x"), body).await,
            hook.deliver(&hook.signed_at(stale, body), body).await,
            hook.deliver(&hook.signed_at(now() + 310, body), body).await,
            hook.deliver(&hook.standard("m", stale, body), body).await,
            hook.deliver(&good.with("x-agentruntime-timestamp", &now().to_string()), body).await,
            strict.deliver(&strict.signed(body), body).await,
            strict.deliver(&strict.signed(body).with("webhook-timestamp", &now().to_string()), body).await,
            // What cannot be parsed is not even looked at.
            hook.deliver(&hook.sender, b"no json").await,
        ];
        let mut bodies = HashSet::new();
        for (number, refusal) in refusals.into_iter().enumerate() {
            assert_eq!(refusal.status.as_u16(), 401, "refusal {number}: {:#}", refusal.body);
            let mut body = refusal.refused(401, "NOT_AUTHENTICATED");
            body.as_object_mut().unwrap().remove("request_id");
            bodies.insert(body.to_string());
        }
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        for hook in [&hook, &other, &strict] {
            let runs = owner.get(&format!("/v1/workflows/{}/runs", hook.workflow)).await.expect(200);
            assert_eq!(runs["items"], json!([]));
        }
        hook.deliver(&hook.signed(b"no json"), b"no json").await.refused(400, "MALFORMED_JSON");
        strict.deliver(&strict.signed_at(now(), body), body).await.expect(202);
    })
    .await;
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_taken_and_one_byte_more_is_not() {
    let server = Server::start();
    let hook = hook(&server, json!({})).await;
    let body = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2)).into_bytes();
    let too_large = body(1024 * 1024 + 1);
    hook.deliver(&hook.signed(&too_large), &too_large).await.refused(413, "BODY_TOO_LARGE");
    let largest = body(1024 * 1024);
    let taken = hook.deliver(&hook.signed(&largest), &largest).await;
    // Whether a run takes so large an input is its own matter; the delivery arrived.
    assert!([202, 422].contains(&taken.status.as_u16()), "{}", taken.status);
}

#[tokio::test]
async fn a_repeated_delivery_answers_with_the_first_run() {
    on_both(|server| async move {
        let hook = hook(&server, json!({})).await;
        let body = b"{\"n\": 1}";
        let run = |answer: Value| answer["run_id"].as_str().unwrap().to_owned();
        // The same body, unsigned time.
        let first = run(hook.deliver(&hook.signed(body), body).await.expect(202));
        let again = hook.deliver(&hook.signed(body), body).await.expect(200);
        assert_eq!((&again["run_id"], &again["replayed"]), (&json!(first), &json!(true)));
        // A key of the sender's, signed at one time and at another.
        let (key, at) = ("idempotency-key", now());
        let first = run(hook.deliver(&hook.signed_at(at, body).with(key, "k1"), body).await.expect(202));
        assert_eq!(run(hook.deliver(&hook.signed_at(at + 1, body).with(key, "k1"), body).await.expect(200)), first);
        assert_ne!(run(hook.deliver(&hook.signed_at(at + 1, body).with(key, "k2"), body).await.expect(202)), first);
        let other = b"{\"n\": 2}";
        let reused = hook.signed_at(at, other).with(key, "k1");
        hook.deliver(&reused, other).await.refused(409, "IDEMPOTENCY_KEY_REUSED");
        hook.deliver(&hook.signed(body).with(key, &"k".repeat(256)), body).await.refused(422, "INVALID_FIELD");
        // What was refused took nothing.
        hook.deliver(&hook.signed_at(at, other), other).await.expect(202);
        // A signed id, whatever time it is signed at and whatever stands beside it.
        let first = run(hook.deliver(&hook.standard("m1", now(), body), body).await.expect(202));
        let later = hook.standard("m1", now() + 1, body).with("idempotency-key", "k3");
        assert_eq!(run(hook.deliver(&later, body).await.expect(200)), first);
        hook.deliver(&hook.standard("m1", now(), other), other).await.refused(409, "IDEMPOTENCY_KEY_REUSED");
        // A signed time.
        let at = now() + 2;
        let first = run(hook.deliver(&hook.signed_at(at, body), body).await.expect(202));
        assert_eq!(run(hook.deliver(&hook.signed_at(at, body), body).await.expect(200)), first);
        assert_ne!(run(hook.deliver(&hook.signed_at(at + 1, body), body).await.expect(202)), first);
    })
    .await;
}

#[tokio::test]
async fn what_nobody_signed_makes_no_new_event_of_a_captured_one() {
    on_both(|server| async move {
        let hook = hook(&server, json!({})).await;
        let run = |answer: Value| answer["run_id"].as_str().unwrap().to_owned();
        let (plain, timed, at) = (b"{\"n\": 1}", b"{\"n\": 2}", now());
        let captured: [(&[u8], Client); 3] = [
            (plain, hook.signed(plain).with("idempotency-key", "k1")),
            (timed, hook.signed_at(at, timed).with("webhook-id", "m1")),
            // Signed twice: by us without a time, and by Standard Webhooks.
            (
                b"{\"n\": 3}",
                hook.standard("m2", at, b"{\"n\": 3}")
                    .with("x-agentruntime-signature", &hmac(&hook.secret, b"{\"n\": 3}")),
            ),
        ];
        for (body, client) in captured {
            let first = run(hook.deliver(&client, body).await.expect(202));
            let stripped = client.without("webhook-signature").without("webhook-id").without("webhook-timestamp");
            for replay in [
                client.clone(),
                client.with("idempotency-key", "k2"),
                stripped.with("webhook-id", "m3"),
                stripped.without("idempotency-key"),
            ] {
                assert_eq!(run(hook.deliver(&replay, body).await.expect(200)), first);
            }
        }
        // The keys that the replays brought are nobody's.
        let other = b"{\"n\": 4}";
        hook.deliver(&hook.signed_at(at, other).with("idempotency-key", "k2"), other).await.expect(202);
    })
    .await;
}

#[tokio::test]
async fn one_captured_delivery_under_twenty_keys_at_once_starts_one_run() {
    on_both(|server| async move {
        let (hook, body) = (hook(&server, json!({})).await, b"{\"n\": 1}");
        let signed = hook.signed(body);
        let clients: Vec<Client> = (0..20).map(|key| signed.with("idempotency-key", &format!("k{key}"))).collect();
        let answers = futures_util::future::join_all(clients.iter().map(|client| hook.deliver(client, body))).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 202).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 19, "{statuses:?}");
        let runs: HashSet<String> = answers.iter().map(|answer| answer.body["run_id"].to_string()).collect();
        assert_eq!(runs.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_signed_time_and_body_are_not_taken_for_another_body() {
    on_both(|server| async move {
        let (hook, at) = (hook(&server, json!({})).await, now());
        // `{time}.5` is signed. Without its header, that is a number; and a number that was signed is time and body.
        let number = format!("{at}.5");
        let timed = hook.signed_at(at, b"5");
        hook.deliver(&timed.without("x-agentruntime-timestamp"), number.as_bytes()).await.refused(422, "INVALID_BODY");
        hook.deliver(&timed, b"5").await.refused(422, "INVALID_BODY");
        hook.deliver(&hook.signed(b" -1"), b" -1").await.refused(422, "INVALID_BODY");
        // Standard Webhooks parts what it signs, so that its numbers are numbers.
        hook.deliver(&hook.standard("m1", at, b"5"), b"5").await.expect(202);
    })
    .await;
}

#[tokio::test]
async fn without_replay_each_body_starts_a_run() {
    let server = Server::start();
    let hook = hook(&server, json!({ "replay": "none" })).await;
    let body = b"{}";
    let first = hook.deliver(&hook.signed(body), body).await.expect(202);
    let second = hook.deliver(&hook.signed(body), body).await.expect(202);
    assert_ne!(first["run_id"], second["run_id"]);
}

#[tokio::test]
async fn twenty_deliveries_of_one_event_at_once_start_one_run() {
    on_both(|server| async move {
        let (hook, body) = (hook(&server, json!({})).await, b"{\"n\": 1}");
        let client = hook.signed(body).with("idempotency-key", "once");
        let all = (0..20).map(|_| hook.deliver(&client, body));
        let answers = futures_util::future::join_all(all).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 202).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 19, "{statuses:?}");
        let runs: HashSet<String> = answers.iter().map(|answer| answer.body["run_id"].to_string()).collect();
        assert_eq!(runs.len(), 1);
        let listed = server.owner().get(&format!("/v1/workflows/{}/runs", hook.workflow)).await.expect(200);
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
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
        // Another one stays when the maker's is revoked, and does not help.
        let sender = admin.post("/v1/pats", json!({ "name": "sender", "scopes": ["workflow:run"] })).await.expect(201);
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
