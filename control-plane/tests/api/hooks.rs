//! Inbound webhooks as their senders have them: made, signed, delivered to.

use crate::server::{Answer, Client, Server, answer};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use standardwebhooks::Webhook;
use std::time::{SystemTime, UNIX_EPOCH};

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
pub(crate) async fn hook_by(server: &Server, maker: &Client, settings: Value) -> Hook {
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

pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

pub(crate) fn hmac(secret: &str, text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

pub(crate) async fn send(client: &Client, path: &str, body: &[u8]) -> Answer {
    answer(client.request(Method::POST, path).body(body.to_vec())).await
}

impl Hook {
    /// Signed without a time.
    pub(crate) fn signed(&self, body: &[u8]) -> Client {
        self.sender.with("x-agentruntime-signature", &hmac(&self.secret, body))
    }

    /// Signed at a time.
    pub(crate) fn signed_at(&self, at: i64, body: &[u8]) -> Client {
        let text = [format!("{at}.").as_bytes(), body].concat();
        let signed = self.sender.with("x-agentruntime-signature", &hmac(&self.secret, &text));
        signed.with("x-agentruntime-timestamp", &at.to_string())
    }

    /// Signed by the library of Standard Webhooks.
    pub(crate) fn standard(&self, id: &str, at: i64, body: &[u8]) -> Client {
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

pub(crate) async fn input(owner: &Client, run: &Value) -> Value {
    let path = format!(
        "/v1/workflows/{}/runs/{}/context",
        run["workflow_id"].as_str().unwrap(),
        run["run_id"].as_str().unwrap()
    );
    owner.get(&path).await.expect(200)["input"].clone()
}
