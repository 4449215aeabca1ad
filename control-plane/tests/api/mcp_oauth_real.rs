//! Authorizing at a server of MCP by OAuth, with an authorization server that others wrote.

use crate::{
    connections::{LOOPBACK, script, text},
    mails::{Browser, signed_in},
    mcp::{CALL, granted},
    openid::AtIssuer,
    real::{self, Real},
    server::{Client, Server, on_both_with},
    workflow::Workflow,
};
use serde_json::{Value, json};

/// Registers the server; its path.
async fn register(owner: &Client, mcp: &Real) -> String {
    let body = json!({ "name": "crm", "canonical_url": mcp.hello["url"] });
    let made = owner.post("/v1/mcp/servers", body).await.expect(201);
    format!("/v1/mcp/servers/{}", text(&made["id"]))
}

/// Has a person grant access, whom the browser brings back to us; the connection.
async fn authorize(server: &Server, owner: &Client, path: &str, wanted: Value) -> Value {
    let begun = owner.post(&format!("{path}/authorize"), wanted).await.expect(200);
    assert_eq!(begun["connection"], Value::Null, "not before the browser is back");
    let page = text(&begun["authorization_url"]);
    assert!(page.contains("code_challenge_method=S256") && page.contains("resource="), "{page}");
    let back = AtIssuer::new(server).sign_in(&page, "ada").await;
    let done = owner.get(&back).await;
    let policy = done.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(done.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(text(&done.expect(200)).contains("Authorized"));
    let all = owner.get("/v1/connections").await.expect(200);
    all["items"].as_array().unwrap().last().unwrap().clone()
}

/// An instance of the server whose active profile binds the connection; a workflow that calls its tool.
async fn caller(owner: &Client, path: &str, connection: &Value) -> Workflow {
    let with = json!({ "connection_id": connection["id"] });
    owner.post(&format!("{path}/discover"), with.clone()).await.expect(200);
    owner.post(&format!("{path}/versions"), json!({})).await.expect(201);
    let id = path.rsplit('/').next().unwrap();
    let body = json!({ "name": "crm", "server_id": id, "version": 1 });
    let made = owner.post("/v1/mcp/instances", body).await.expect(201);
    let instance = format!("/v1/mcp/instances/{}/config-profiles", text(&made["id"]));
    let bound = json!({ "access_token": format!("connection/{}/access_token", text(&connection["display_name"])) });
    owner.post(&instance, json!({ "name": "live", "bindings": bound })).await.expect(201);
    owner.post(&format!("{instance}/set-active"), json!({ "name": "live" })).await.expect(200);
    script(owner.clone(), CALL, granted("crm", &["echo"])).await
}

async fn echo(workflow: &Workflow, arguments: Value) -> Value {
    let input = json!({ "instance_id": "crm", "tool": "echo", "arguments": arguments });
    workflow.command_and_wait("start", input).await.expect(200)
}

#[tokio::test]
async fn a_person_grants_access_and_the_token_is_renewed() {
    let Some(mcp) = real::mcp_oauth() else { return };
    on_both_with(&LOOPBACK, |server| {
        let mcp = &mcp;
        async move {
            let owner = server.owner();
            let path = register(&owner, mcp).await;
            // Without it there is no way in.
            owner.post(&format!("{path}/discover"), json!({})).await.refused(422, "MCP_SERVER_FAILED");
            let made = authorize(&server, &owner, &path, json!({ "display_name": "crm" })).await;
            assert_eq!((&made["display_name"], &made["credential_keys"]), (&json!("crm"), &json!(["access_token"])));
            assert_eq!(made["allowed_hosts"], json!([mcp.hello["origin"]]));
            let granted = &made["authorization"];
            assert_eq!((&granted["issuer"], &granted["status"]), (&mcp.hello["issuer"], &json!("authorized")));
            assert!(granted["expires_at"].is_string() && granted["authorized_at"].is_string(), "{granted}");
            assert!(granted["scopes"].as_array().unwrap().contains(&json!("echo")), "{granted}");
            let workflow = caller(&owner, &path, &made).await;
            let run = echo(&workflow, json!({ "text": "hello" })).await;
            let said = text(&run["outputs"]["ask"]["content"][0]["text"]);
            assert_eq!(said, "hello as ada by [redacted]", "the token comes back to nobody");
            // Its server takes the token no more before its time: a new one is fetched.
            let forget = format!("{}/forget", text(&mcp.hello["origin"]));
            for _ in 0..2 {
                owner.at(reqwest::Method::POST, &forget).send().await.unwrap();
                let run = echo(&workflow, json!({ "text": "again" })).await;
                assert_eq!(run["outputs"]["ask"]["content"][0]["text"], "again as ada by [redacted]", "{run:#}");
            }
            // Asking for the tools renews it as well.
            owner.at(reqwest::Method::POST, &forget).send().await.unwrap();
            let with = json!({ "version": 1, "connection_id": made["id"] });
            assert_eq!(owner.post(&format!("{path}/validate"), with).await.expect(200)["unchanged"], true);
            // What reaches further is told by name, and granted on top.
            let run = echo(&workflow, json!({ "text": "x", "needs": "write" })).await;
            assert_eq!(run["error"]["code"], "MCP_AUTHORIZATION_REQUIRED", "{run:#}");
            assert!(text(&run["error"]["message"]).contains("echo write"), "{run:#}");
            assert_eq!(run["error"]["details"]["value"]["details"]["scopes"], json!(["echo", "write"]), "{run:#}");
            let wanted = json!({ "display_name": "crm", "scopes": ["echo", "write", "offline_access"] });
            let again = authorize(&server, &owner, &path, wanted).await;
            assert_eq!(again["id"], made["id"], "the same connection");
            let run = echo(&workflow, json!({ "text": "more", "needs": "write" })).await;
            assert_eq!(run["outputs"]["ask"]["content"][0]["text"], "more as ada by [redacted]", "{run:#}");
            let audit = server.admin().get("/v1/audit?limit=100").await.expect(200);
            let actions: Vec<String> =
                audit["items"].as_array().unwrap().iter().map(|it| text(&it["action"])).collect();
            for action in ["mcp_server.authorize", "mcp_server.authorized"] {
                assert_eq!(actions.iter().filter(|it| *it == action).count(), 2, "{action}: {actions:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_somebody_registered_has_access_with_and_without_a_person() {
    let Some(mcp) = real::mcp_oauth() else { return };
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    let path = register(&owner, &mcp).await;
    let client = |name: &str| json!({ "display_name": name, "client_id": mcp.hello["client_id"], "client_secret": mcp.hello["client_secret"], "issuer": mcp.hello["issuer"] });
    let made = authorize(&server, &owner, &path, client("by ada")).await;
    let workflow = caller(&owner, &path, &made).await;
    let run = echo(&workflow, json!({ "text": "hello" })).await;
    assert_eq!(run["outputs"]["ask"]["content"][0]["text"], "hello as ada by [redacted]", "{run:#}");
    // By itself: nobody opens a page, and the token is fetched anew when it is over.
    let mut wanted = client("by itself");
    wanted["grant_type"] = json!("client_credentials");
    let done = owner.post(&format!("{path}/authorize"), wanted).await.expect(200);
    assert_eq!(
        (&done["issuer"], &done["connection"]["authorization"]["issuer"]),
        (&mcp.hello["issuer"], &mcp.hello["issuer"])
    );
    assert_eq!(done["authorization_url"], Value::Null);
    let with = json!({ "version": 1, "connection_id": done["connection"]["id"] });
    owner.post(&format!("{path}/validate"), with.clone()).await.expect(200);
    let forget = format!("{}/forget", text(&mcp.hello["origin"]));
    owner.at(reqwest::Method::POST, &forget).send().await.unwrap();
    owner.post(&format!("{path}/validate"), with).await.expect(200);
    // A wrong secret is refused, and is in no answer.
    let mut wrong = client("wrong");
    wrong["client_secret"] = json!("a-secret-that-is-wrong");
    wrong["grant_type"] = json!("client_credentials");
    let problem = owner.post(&format!("{path}/authorize"), wrong).await.refused(422, "MCP_SERVER_FAILED");
    assert!(!problem.to_string().contains("a-secret-that-is-wrong"), "{problem}");
}

#[tokio::test]
async fn somebody_who_is_signed_in_comes_back_in_the_browser() {
    let Some(mcp) = real::mcp_oauth() else { return };
    let server = Server::start_with(None, &LOOPBACK);
    let mut ada = signed_in(&server, "ada@example.com").await;
    ada.post("/v1/tenants", json!({ "slug": "one", "name": "One" })).await.expect(201);
    ada.client = ada.client.with("x-tenant-id", "one");
    let project = ada.post("/v1/projects", json!({ "slug": "crm", "name": "CRM" })).await.expect(201);
    ada.client = ada.client.with("x-project-id", &text(&project["slug"]));
    let body = json!({ "name": "crm", "canonical_url": mcp.hello["url"] });
    let made = ada.post("/v1/mcp/servers", body).await.expect(201);
    let path = format!("/v1/mcp/servers/{}/authorize", text(&made["id"]));
    let begun = ada.post(&path, json!({ "display_name": "crm" })).await.expect(200);
    let back = AtIssuer::new(&server).sign_in(&text(&begun["authorization_url"]), "ada").await;
    // The authorization server sends a browser, with cookies and without any header of ours.
    let mut eve = signed_in(&server, "eve@example.com").await;
    eve.get(&back).await.refused(422, "INVALID_FIELD");
    Browser::new(&server).get(&back).await.refused(401, "NOT_AUTHENTICATED");
    let headers = ada.client.clone();
    ada.client = server.anybody();
    assert!(text(&ada.get(&back).await.expect(200)).contains("Authorized"));
    // Once.
    ada.get(&back).await.refused(422, "INVALID_FIELD");
    ada.client = headers;
    assert_eq!(ada.get("/v1/connections").await.expect(200)["items"][0]["authorization"]["status"], "authorized");
}

#[test]
fn the_conformance_suite_is_content_with_how_we_are_authorized() {
    let server = Server::start_with(None, &["--egress-allowed-networks=127.0.0.0/8,::1/128"]);
    for scenario in [
        "metadata-default",
        "metadata-var1",
        "metadata-var2",
        "metadata-var3",
        "scope-from-www-authenticate",
        "scope-from-scopes-supported",
        "scope-omitted-when-undefined",
        "scope-step-up",
        "scope-retry-limit",
        "token-endpoint-auth-basic",
        "token-endpoint-auth-post",
        "token-endpoint-auth-none",
        "pre-registration",
        "resource-mismatch",
        "authorization-server-migration",
        "offline-access-scope",
        "offline-access-not-supported",
        "iss-supported",
        "iss-not-advertised",
        "iss-supported-missing",
        "iss-wrong-issuer",
        "iss-unexpected",
        "iss-normalized",
        "metadata-issuer-mismatch",
        "client-credentials-basic",
    ] {
        let by_itself = (scenario == "client-credentials-basic").then_some("client_credentials");
        let scenario = format!("auth/{scenario}");
        let Some(ended) = real::mcp_conformance_authorized(&scenario, &server, by_itself) else { return };
        let told = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success(), "{scenario}: {told}{}", String::from_utf8_lossy(&ended.stderr));
    }
}
