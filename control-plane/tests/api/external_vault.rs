//! Vaults whose values a server elsewhere keeps: OpenBao, which nobody here wrote.

use crate::{
    connections::{Echo, FETCH, LOOPBACK, SECRET, script, text},
    mcp_server::{Answer, McpServer, bytes},
    real::{Real, open_bao},
    server::{Server, on_both_with},
};
use serde_json::{Value, json};
use std::path::Path;

/// As many paths as a vault may have, made of one of them.
const FILL: &str = "INSERT INTO vault_entries (tenant_id, path, version, sealed, allowed_hosts, created_by, created_at) \
    WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 9999) \
    SELECT tenant_id, path || CAST(number AS TEXT), version, sealed, allowed_hosts, created_by, created_at \
    FROM vault_entries, numbers WHERE path = $1";

/// The arguments of a service that keeps values there, with a token in a file of this folder.
pub(crate) fn arguments(bao: &Real, folder: &Path) -> Vec<String> {
    let file = folder.join("token");
    std::fs::write(&file, text(&bao.hello["token"]) + "\n").unwrap();
    let address = text(&bao.hello["address"]);
    vec![LOOPBACK[0].into(), format!("--vault-address={address}"), format!("--vault-token-file={}", file.display())]
}

/// What the server has at an address of its own.
async fn there(bao: &Real, path: &str) -> (u16, Value) {
    let url = format!("{}/v1/{path}", text(&bao.hello["address"]));
    let request = reqwest::Client::new().get(url).header("x-vault-token", text(&bao.hello["token"]));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

#[tokio::test]
async fn an_external_vault_has_the_values_and_the_database_none() {
    let Some(bao) = open_bao() else { return };
    let folder = tempfile::tempdir().unwrap();
    let arguments = arguments(&bao, folder.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    on_both_with(&arguments, async |server| {
        let (admin, echo) = (server.admin(), Echo::start().await);
        let put = async |value: &str| {
            let body = json!({ "value": value, "allowed_hosts": [echo.origin] });
            admin.put("/v1/vault/crm/api_key", body).await.expect(200)
        };
        assert_eq!(put("first").await["version"], 1);
        assert_eq!(put(SECRET).await["version"], 2);
        let (_, folders) = there(&bao, "secret/metadata/agentruntime?list=true").await;
        let folders = folders["data"]["keys"].as_array().unwrap().clone();
        let ours = text(folders.last().unwrap());
        let path = format!("secret/data/agentruntime/{ours}crm/api_key");
        let (_, kept) = there(&bao, &path).await;
        assert_eq!(kept["data"]["data"], json!({ "value": SECRET }), "{kept}");
        for (path, bytes) in server.kept().await {
            assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "the secret is in {path}");
        }

        let capabilities = json!({ "hosts": [echo.origin], "secrets": { "key": "vault/crm/api_key" } });
        let workflow = script(server.owner(), FETCH, capabilities).await;
        let ended = workflow.command_and_wait("start", json!({ "url": echo.origin })).await.expect(200);
        assert_eq!(ended["status"], "completed", "{ended}");
        assert!(echo.came()[0].contains(SECRET), "the newest version is used");
        assert!(!ended.to_string().contains(SECRET), "{ended}");

        admin.delete("/v1/vault/crm/api_key").await.expect(204);
        assert_eq!(there(&bao, &path).await.0, 404, "nothing stays behind");
        let ended = workflow.command_and_wait("start", json!({ "url": echo.origin })).await.expect(200);
        assert_eq!(ended["error"]["code"], "INVALID_INPUT", "{ended}");
    })
    .await;
}

#[tokio::test]
async fn an_external_vault_that_refuses_is_told_of_and_a_new_token_counts_at_once() {
    let Some(bao) = open_bao() else { return };
    let folder = tempfile::tempdir().unwrap();
    let arguments = arguments(&bao, folder.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (server, echo) = (Server::start_with(None, &arguments), Echo::start().await);
    let (admin, body) = (server.admin(), json!({ "value": SECRET, "allowed_hosts": [echo.origin] }));
    admin.put("/v1/vault/key", body.clone()).await.expect(200);
    let capabilities = json!({ "hosts": [echo.origin], "secrets": { "key": "vault/key" } });
    let workflow = script(server.owner(), FETCH, capabilities).await;

    std::fs::write(folder.path().join("token"), "another").unwrap();
    admin.put("/v1/vault/key", body.clone()).await.refused(503, "DEPENDENCY_UNAVAILABLE");
    admin.delete("/v1/vault/key").await.refused(503, "DEPENDENCY_UNAVAILABLE");
    let ended = workflow.command_and_wait("start", json!({ "url": echo.origin })).await.expect(200);
    assert_eq!(ended["error"]["code"], "DEPENDENCY_UNAVAILABLE", "{ended}");
    assert!(echo.came().is_empty(), "nothing went out");

    std::fs::write(folder.path().join("token"), text(&bao.hello["token"])).unwrap();
    let ended = workflow.command_and_wait("start", json!({ "url": echo.origin })).await.expect(200);
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(admin.get("/v1/vault/key").await.expect(200)["versions"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_not_written_into_an_external_vault() {
    on_both_with(&LOOPBACK, async |server| {
        let body = json!({ "value": SECRET });
        server.admin().put("/v1/vault/full", body.clone()).await.expect(200);
        assert_eq!(server.change_all(FILL, "full").await, 9_999);
        let folder = tempfile::tempdir().unwrap();
        let vault = McpServer::twisted(|_| Some(Answer::Bytes(bytes(404, "", "")))).await;
        let token = folder.path().join("token");
        std::fs::write(&token, "a-token-of-the-vault").unwrap();
        let (address, token) =
            (format!("--vault-address={}", vault.origin), format!("--vault-token-file={}", token.display()));
        let server = server.restart_with(&[LOOPBACK[0], &address, &token]);
        let admin = server.admin();
        admin.put("/v1/vault/one-more", body.clone()).await.refused(409, "TOO_MANY_VAULT_PATHS");
        for body in [json!({ "value": "" }), json!({ "value": SECRET, "allowed_hosts": ["no host"] })] {
            admin.put("/v1/vault/full", body).await.refused(422, "INVALID_FIELD");
        }
        assert!(
            vault.heard().iter().all(|heard| heard.body.is_empty()),
            "it was asked whether it is there, and no more"
        );
        // A path that is there already needs no room. This is no vault.
        admin.put("/v1/vault/full", body).await.refused(503, "DEPENDENCY_UNAVAILABLE");
        vault.hears_what(|heard| heard.body.contains(SECRET)).await;
    })
    .await;
}
