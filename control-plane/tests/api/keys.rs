//! Master keys: one that is missing or another is told at the start; going over to a new one; giving up a lost one.

use crate::{
    hooks::{Hook, hook},
    server::{Answer, Server, answer, on_both},
    workflow::Workflow,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// 32 bytes each, in base64. The first is the one that test services on a database server have.
const FIRST: &str = "dGhlIG1hc3RlciBrZXkgb2YgdGVzdHMsIDMyIGJ5dGU=";
const SECOND: &str = "YW5vdGhlciBtYXN0ZXIga2V5IG9mIHRlc3RzLCAzMiE=";

fn file(folder: &Path, name: &str, key: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("{key}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A delivery of an earlier service's subscription to this one.
async fn deliver(server: &Server, hook: &Hook, body: &[u8]) -> Answer {
    answer(hook.signed(body).elsewhere(&server.url).request(Method::POST, &hook.path).body(body.to_vec())).await
}

fn sentence(refused: &Value) -> &str {
    assert_eq!(refused["code"], "MASTER_KEY_REFUSED", "{refused:#}");
    refused["error"].as_str().unwrap()
}

#[tokio::test]
async fn a_lost_key_file_is_not_made_anew_over_secrets() {
    let mut server = Server::start();
    let hook = hook(&server, json!({})).await;
    server.kill();
    let key = Path::new(&server.data).join("master.key");
    let kept = server.folder.path().join("kept.key");
    fs::rename(&key, &kept).unwrap();
    let refused = server.refused_start(&[]);
    assert!(sentence(&refused).contains("master.key is missing"), "{refused:#}");
    assert!(sentence(&refused).contains("--give-up-master-key"), "{refused:#}");
    assert!(!key.exists(), "a new key was made");
    fs::rename(&kept, &key).unwrap();
    let server = server.restart();
    deliver(&server, &hook, b"{}").await.expect(202);
}

#[tokio::test]
async fn a_lost_key_can_be_given_up() {
    let mut server = Server::start();
    let hook = hook(&server, json!({})).await;
    server.kill();
    fs::remove_file(Path::new(&server.data).join("master.key")).unwrap();
    let refused = server.refused_start(&[]);
    let lost = sentence(&refused).split("--give-up-master-key ").nth(1).unwrap().split('`').next().unwrap();
    // Another key than the one that is needed gives nothing up.
    assert!(sentence(&server.refused_start(&["--give-up-master-key", "00000000"])).contains(lost));
    let server = server.restart_with(&["--give-up-master-key", lost]);
    deliver(&server, &hook, b"{}").await.refused(401, "NOT_AUTHENTICATED");
    let server = server.restart();
    let path = format!("/v1/inbound-webhooks/{}/rotate-secret", hook.id);
    let rotated = server.owner().post(&path, json!({})).await.expect(200);
    let secret = rotated["signing_secret"].as_str().unwrap().to_owned();
    let hook = Hook { secret, ..hook };
    deliver(&server, &hook, b"{}").await.expect(202);
}

#[tokio::test]
async fn another_key_than_the_databases_is_refused_at_the_start() {
    on_both(|server| async move {
        let hook = hook(&server, json!({})).await;
        let (on_a_server, key) = (server.data.starts_with("postgres:"), Path::new(&server.data).join("master.key"));
        let first = if on_a_server { FIRST.to_owned() } else { fs::read_to_string(&key).unwrap().trim().to_owned() };
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (file(folder.path(), "first", &first), file(folder.path(), "second", SECOND));
        let mut server = server;
        server.kill();
        let refused = server.refused_start(&["--master-key-file", &second]);
        assert!(sentence(&refused).contains("previous_master_key_files"), "{refused:#}");
        // With the one of before beside it, everything goes over to the new one …
        let rotating = ["--master-key-file", &second, "--previous-master-key-files", &first];
        let mut server = server.restart_keyless_with(&rotating);
        deliver(&server, &hook, b"{\"n\":1}").await.expect(202);
        server.kill();
        // … and that of before is of no use any more.
        let refused = server.refused_start(&["--master-key-file", &first]);
        assert!(sentence(&refused).contains("sealed under the key"), "{refused:#}");
        let server = server.restart_keyless_with(&["--master-key-file", &second]);
        deliver(&server, &hook, b"{\"n\":2}").await.expect(202);
    })
    .await;
}

#[tokio::test]
async fn a_database_server_belongs_to_its_first_key_even_before_anything_is_sealed() {
    let Some(postgres) = agentruntime_tests::postgres::server() else { return };
    let mut server = Server::start_with(Some(&postgres.database()), &[]);
    server.kill();
    let folder = tempfile::tempdir().unwrap();
    let second = file(folder.path(), "second", SECOND);
    sentence(&server.refused_start(&["--master-key-file", &second]));
    assert!(sentence(&server.refused_start(&[])).contains("no master key is given"));
    server.restart();
}

/// A credential of a connection and a secret of the vault, the workspace's only ones. The id of the connection.
async fn keep_secrets(server: &Server) -> String {
    let body = json!({ "display_name": "crm", "provider": "acme", "service": "crm", "credentials": { "key": "Jefe" } });
    let made = server.owner().post("/v1/connections", body).await.expect(201);
    server.admin().put("/v1/vault/desk/key", json!({ "value": "Jefe" })).await.expect(200);
    made["id"].as_str().unwrap().to_owned()
}

/// What a step gets that signs with what is kept at a place.
async fn sign_with(server: &Server, kept: &str) -> Value {
    let script = "return { signed = hmac(secret('key'), 'what do ya want for nothing?') }";
    let capabilities = json!({ "secrets": { "key": kept } });
    let step = json!({ "id": "sign", "type": "lua_script", "script": script, "capabilities": capabilities });
    let workflow = Workflow::publish(server.owner(), json!({ "steps": [step] })).await;
    let ended = workflow.command_and_wait("start", json!({})).await.expect(200);
    match ended["error"]["code"].is_null() {
        true => ended["outputs"]["sign"]["signed"].clone(),
        false => ended["error"]["code"].clone(),
    }
}

/// That both secrets are what they were: RFC 4231, test case 2.
async fn open_both(server: &Server) {
    for kept in ["connection/crm/key", "vault/desk/key"] {
        let signature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(sign_with(server, kept).await, signature, "{kept}");
    }
}

#[tokio::test]
async fn credentials_and_the_vault_go_over_to_a_new_key_and_need_the_old_one_no_more() {
    on_both(|mut server| async move {
        keep_secrets(&server).await;
        let (on_a_server, key) = (server.data.starts_with("postgres:"), Path::new(&server.data).join("master.key"));
        let first = if on_a_server { FIRST.to_owned() } else { fs::read_to_string(&key).unwrap().trim().to_owned() };
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (file(folder.path(), "first", &first), file(folder.path(), "second", SECOND));
        server.kill();
        let refused = server.refused_start(&["--master-key-file", &second]);
        assert!(sentence(&refused).contains("previous_master_key_files"), "{refused:#}");
        let mut server =
            server.restart_keyless_with(&["--master-key-file", &second, "--previous-master-key-files", &first]);
        open_both(&server).await;
        server.kill();
        let refused = server.refused_start(&["--master-key-file", &first]);
        assert!(sentence(&refused).contains("sealed under the key"), "{refused:#}");
        let server = server.restart_keyless_with(&["--master-key-file", &second]);
        open_both(&server).await;
        // What is written now is opened as what was there before.
        server.admin().put("/v1/vault/desk/key", json!({ "value": "Jefe" })).await.expect(200);
        open_both(&server).await;
    })
    .await;
}

#[tokio::test]
async fn what_a_lost_key_sealed_is_entered_anew() {
    let mut server = Server::start();
    let connection = keep_secrets(&server).await;
    server.kill();
    fs::remove_file(Path::new(&server.data).join("master.key")).unwrap();
    let refused = server.refused_start(&[]);
    let sentence = sentence(&refused);
    assert!(sentence.contains("credentials") && sentence.contains("entered anew"), "{sentence}");
    let lost = sentence.split("--give-up-master-key ").nth(1).unwrap().split('`').next().unwrap();
    let server = server.restart_with(&["--give-up-master-key", lost]);
    for kept in ["connection/crm/key", "vault/desk/key"] {
        assert_eq!(sign_with(&server, kept).await, "DEPENDENCY_UNAVAILABLE", "{kept}");
    }
    let path = format!("/v1/connections/{connection}");
    let tested = server.owner().post(&format!("{path}/test"), json!({})).await.expect(200);
    assert!(tested["checks"][0]["error"].as_str().unwrap().contains("enter it anew"), "{tested}");
    server.owner().patch(&path, json!({ "credentials": { "key": "Jefe" } })).await.expect(200);
    server.admin().put("/v1/vault/desk/key", json!({ "value": "Jefe" })).await.expect(200);
    open_both(&server).await;
    let server = server.restart();
    open_both(&server).await;
}
