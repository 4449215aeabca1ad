//! Connections that were authorized at a server of MCP: what is kept, and how tokens are renewed, whatever happens meanwhile.

use crate::{
    connections::{LOOPBACK, connect, text},
    mcp_server::{Answer, Heard, McpServer, bytes, reply},
    openid::parameter,
    server::{Client, Server, certificate, on_both_with},
};
use serde_json::{Value, json};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

/// What a browser comes back with.
pub(crate) const CODE: &str = "a-code-of-this-server";

/// What the authorization server says of itself.
pub(crate) fn metadata(origin: &str) -> Value {
    json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
        "registration_endpoint": format!("{origin}/register"),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    })
}

/// The tokens that are given, by their number.
pub(crate) fn access_token(number: u32) -> String {
    format!("an-access-token-of-number-{number}")
}

pub(crate) fn refresh_token(number: u32) -> String {
    format!("a-refresh-token-of-number-{number}")
}

/// A server of MCP that is its own authorization server. Each token lasts as long as `lasts` says by its number, from 1, and
/// each is given for the one before it alone. `other` answers first.
pub(crate) async fn protected(
    lasts: impl Fn(u32) -> u32 + Send + Sync + 'static,
    other: impl Fn(&Heard, &str) -> Option<Answer> + Send + Sync + 'static,
) -> McpServer {
    let current = Mutex::new(0);
    McpServer::twisted(move |heard| {
        let origin = format!("http://{}", heard.headers["host"]);
        if let Some(answer) = other(heard, &origin) {
            return Some(answer);
        }
        let description = format!("{origin}/.well-known/oauth-protected-resource/mcp");
        match heard.path.as_str() {
            "/.well-known/oauth-protected-resource/mcp" => {
                let body = json!({ "resource": format!("{origin}/mcp"), "authorization_servers": [origin] });
                Some(reply(200, "", &body))
            }
            "/.well-known/oauth-authorization-server" => Some(reply(200, "", &metadata(&origin))),
            "/register" => {
                let uris = &heard.message["redirect_uris"];
                Some(reply(201, "", &json!({ "client_id": "a-client", "redirect_uris": uris })))
            }
            "/token" => Some(token(&heard.body, &mut current.lock().unwrap(), &lasts)),
            "/mcp" => {
                let wanted = format!("Bearer {}", access_token(*current.lock().unwrap()));
                let challenge = format!("www-authenticate: Bearer resource_metadata=\"{description}\"\r\n");
                (heard.headers.get("authorization") != Some(&wanted)).then(|| reply(401, &challenge, &json!({})))
            }
            _ => Some(Answer::Bytes(bytes(404, "", ""))),
        }
    })
    .await
}

fn token(form: &str, current: &mut u32, lasts: impl Fn(u32) -> u32) -> Answer {
    let is_current = form.contains(&format!("refresh_token={}", refresh_token(*current)));
    if !form.contains("grant_type=authorization_code") && !is_current {
        return reply(400, "", &json!({ "error": "invalid_grant" }));
    }
    *current += 1;
    let body = json!({
        "access_token": access_token(*current), "refresh_token": refresh_token(*current), "token_type": "Bearer",
        "expires_in": lasts(*current),
    });
    reply(200, "", &body)
}

/// Whether it is a request for a token for one that renews.
fn is_renewal(heard: &Heard) -> bool {
    heard.body.contains("grant_type=refresh_token")
}

fn renewals(mcp: &McpServer) -> usize {
    mcp.heard().iter().filter(|heard| is_renewal(heard)).count()
}

/// Registers the server under a name; its path.
pub(crate) async fn register(owner: &Client, name: &str, url: &str) -> String {
    let made = owner.post("/v1/mcp/servers", json!({ "name": name, "canonical_url": url })).await.expect(201);
    format!("/v1/mcp/servers/{}", text(&made["id"]))
}

/// Begins; the way back from there, with a code.
pub(crate) async fn begin(owner: &Client, path: &str, name: &str) -> String {
    let begun = owner.post(&format!("{path}/authorize"), json!({ "display_name": name })).await.expect(200);
    way_back(&begun)
}

pub(crate) fn way_back(begun: &Value) -> String {
    let page: url::Url = text(&begun["authorization_url"]).parse().unwrap();
    let (state, issuer) = (parameter(&page, "state"), page.origin().ascii_serialization());
    format!("/v1/mcp/oauth/callback?state={state}&code={CODE}&iss={issuer}")
}

/// A server that is registered, authorized as `crm` and asked, and its path and the connection.
async fn authorized(owner: &Client, mcp: &McpServer) -> (String, Value) {
    let path = register(owner, "crm", &mcp.url()).await;
    let back = begin(owner, &path, "crm").await;
    owner.get(&back).await.expect(200);
    let made = owner.get("/v1/connections").await.expect(200)["items"][0].clone();
    (path, made)
}

/// Has access granted and renewed; gives all of it that nobody else may see.
pub(crate) async fn secrets_of_authorizing(server: &Server) -> Vec<String> {
    let mcp = protected(|number| if number == 1 { 0 } else { 3600 }, |_, _| None).await;
    let owner = server.owner();
    let path = register(&owner, "crm", &mcp.url()).await;
    let secret = "a-secret-of-the-client-there";
    let wanted =
        json!({ "display_name": "crm", "client_id": "a-client", "client_secret": secret, "issuer": mcp.origin });
    let begun = owner.post(&format!("{path}/authorize"), wanted).await.expect(200);
    owner.get(&way_back(&begun)).await.expect(200);
    let made = owner.get("/v1/connections").await.expect(200)["items"][0].clone();
    discover(&owner, &path, &made).await.expect(200);
    assert_eq!(renewals(&mcp), 1);
    let page: url::Url = text(&begun["authorization_url"]).parse().unwrap();
    let asked = mcp.hears_what(|heard| heard.body.contains("code_verifier=")).await;
    let (_, verifier) = asked.body.split_once("code_verifier=").unwrap();
    let verifier = verifier.split('&').next().unwrap().to_owned();
    let mut secrets = vec![secret.to_owned(), parameter(&page, "state"), verifier, CODE.to_owned()];
    secrets.extend([1, 2].into_iter().flat_map(|number| [access_token(number), refresh_token(number)]));
    secrets
}

/// Asks the server for its tools with the connection.
async fn discover(owner: &Client, path: &str, connection: &Value) -> crate::server::Answer {
    owner.post(&format!("{path}/discover"), json!({ "connection_id": connection["id"] })).await
}

fn connection(made: &Value) -> String {
    format!("/v1/connections/{}", text(&made["id"]))
}

#[tokio::test]
async fn two_nodes_that_need_a_token_at_once_have_it_renewed_once() {
    on_both_with(&LOOPBACK, |server| async move {
        // The first is over at once.
        let mcp = protected(|number| if number == 1 { 0 } else { 3600 }, |_, _| None).await;
        let owner = server.owner();
        let (path, made) = authorized(&owner, &mcp).await;
        let second = server.data.starts_with("postgres:").then(|| Server::start_with(Some(&server.data), &LOOPBACK));
        let elsewhere = second.as_ref().map_or_else(|| owner.clone(), |node| owner.elsewhere(&node.url));
        let asked = (0..8).map(|at| if at % 2 == 0 { &owner } else { &elsewhere });
        let asked = futures_util::future::join_all(asked.map(|client| discover(client, &path, &made)));
        for answer in asked.await {
            assert_eq!(answer.expect(200)["tools"][0]["name"], "echo");
        }
        assert_eq!(renewals(&mcp), 1);
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_killed_while_it_renews_loses_no_access() {
    on_both_with(&LOOPBACK, |server| async move {
        let (says_nothing, hangs) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let (nothing, hang) = (says_nothing.clone(), hangs.clone());
        let third = format!("Bearer {}", access_token(3));
        let mcp = protected(
            |number| if number < 3 { 0 } else { 3600 },
            move |heard, _| {
                let is_third = heard.headers.get("authorization") == Some(&third);
                let is_left = (is_renewal(heard) && nothing.load(SeqCst)) || (is_third && hang.load(SeqCst));
                is_left.then_some(Answer::Silence)
            },
        )
        .await;
        let owner = server.owner();
        let (path, made) = authorized(&owner, &mcp).await;
        // Killed after it asked, and before there was an answer.
        let asking = tokio::spawn({
            let (owner, path, made) = (owner.clone(), path.clone(), made.clone());
            async move {
                let body = json!({ "connection_id": made["id"] });
                let request = owner.request(reqwest::Method::POST, &format!("{path}/discover"));
                assert!(request.json(&body).send().await.is_err());
            }
        });
        mcp.hears_what(is_renewal).await;
        let server = server.restart_with(&LOOPBACK);
        asking.await.unwrap();
        says_nothing.store(false, SeqCst);
        // Its lease ends by itself.
        server.change("UPDATE connections SET renewing_until = 0 WHERE display_name = $1", "crm").await;
        let owner = server.owner();
        let asking = tokio::spawn({
            let (owner, path, made) = (owner.clone(), path.clone(), made.clone());
            async move {
                discover(&owner, &path, &made).await.expect(200);
                let body = json!({ "connection_id": made["id"] });
                let request = owner.request(reqwest::Method::POST, &format!("{path}/discover"));
                assert!(request.json(&body).send().await.is_err());
            }
        });
        // The second is over as it comes, and the third is used: it is written before.
        mcp.hears_what(|heard| heard.headers.get("authorization") == Some(&format!("Bearer {}", access_token(3))))
            .await;
        let before = renewals(&mcp);
        let server = server.restart_with(&LOOPBACK);
        asking.await.unwrap();
        hangs.store(false, SeqCst);
        discover(&server.owner(), &path, &made).await.expect(200);
        assert_eq!((before, renewals(&mcp)), (3, 3), "one that was lost, and two");
    })
    .await;
}

#[tokio::test]
async fn an_access_that_is_over_is_told_shown_and_granted_again() {
    on_both_with(&LOOPBACK, |server| async move {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let mcp = protected(
            |_| 0,
            move |heard, _| {
                let status = if over.load(SeqCst) { (400, "invalid_grant") } else { (503, "temporarily_unavailable") };
                is_renewal(heard).then(|| reply(status.0, "", &json!({ "error": status.1 })))
            },
        )
        .await;
        let owner = server.owner();
        let (path, made) = authorized(&owner, &mcp).await;
        // What passes by changes nothing.
        let problem = discover(&owner, &path, &made).await.refused(422, "MCP_SERVER_FAILED");
        assert!(text(&problem["error"]).contains("was not renewed"), "{problem}");
        let status = |owner: &Client| {
            let (owner, path) = (owner.clone(), connection(&made));
            async move { owner.get(&path).await.expect(200)["authorization"]["status"].clone() }
        };
        assert_eq!(status(&owner).await, "authorized");
        is_over.store(true, SeqCst);
        let problem = discover(&owner, &path, &made).await.refused(409, "MCP_AUTHORIZATION_REQUIRED");
        assert!(text(&problem["error"]).contains(&format!("{path}/authorize")), "{problem}");
        assert_eq!(status(&owner).await, "authorization_required");
        let asked = renewals(&mcp);
        discover(&owner, &path, &made).await.refused(409, "MCP_AUTHORIZATION_REQUIRED");
        assert_eq!(renewals(&mcp), asked, "nobody asks again for what is over");
        let test = owner.post(&format!("{}/test", connection(&made)), json!({})).await.expect(200);
        assert_eq!((&test["ok"], &test["checks"][0]["ok"]), (&json!(false), &json!(false)), "{test}");
        let back = begin(&owner, &path, "crm").await;
        owner.get(&back).await.expect(200);
        assert_eq!(status(&owner).await, "authorized");
    })
    .await;
}

#[tokio::test]
async fn a_token_goes_to_its_server_alone_and_nobody_widens_that() {
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    let (mcp, other) = (protected(|_| 3600, |_, _| None).await, McpServer::start().await);
    let (path, made) = authorized(&owner, &mcp).await;
    discover(&owner, &path, &made).await.expect(200);
    let elsewhere = register(&owner, "other", &other.url()).await;
    let problem = discover(&owner, &elsewhere, &made).await.refused(422, "MCP_SERVER_FAILED");
    assert!(text(&problem["error"]).contains("may not be sent to"), "{problem}");
    assert!(other.heard().iter().all(|heard| !heard.headers.contains_key("authorization")));
    for change in [json!({ "allowed_hosts": [other.origin] }), json!({ "credentials": { "access_token": "mine" } })] {
        owner.patch(&connection(&made), change).await.refused(422, "INVALID_FIELD");
    }
    let renamed = owner.patch(&connection(&made), json!({ "display_name": "other name" })).await.expect(200);
    assert_eq!(renamed["authorization"], made["authorization"]);
    discover(&owner, &path, &made).await.expect(200);
    // A name that stands for something else is not taken over, from the beginning to the end.
    connect(&owner, "mine", &["api.example.com"]).await;
    let wanted = json!({ "display_name": "mine" });
    owner.post(&format!("{path}/authorize"), wanted).await.refused(409, "CONNECTION_NAME_TAKEN");
    let back = begin(&owner, &path, "later").await;
    connect(&owner, "later", &["api.example.com"]).await;
    owner.get(&back).await.refused(409, "CONNECTION_NAME_TAKEN");
    // Neither token is anywhere as it is.
    for (name, bytes) in server.kept().await {
        for secret in [access_token(1), refresh_token(1)] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "a token is in {name}");
        }
    }
}

#[tokio::test]
async fn what_is_wanted_is_checked_before_anybody_is_asked() {
    let server = Server::start_with(None, &LOOPBACK);
    let (owner, mcp) = (server.owner(), protected(|_| 3600, |_, _| None).await);
    let path = format!("{}/authorize", register(&owner, "crm", &mcp.url()).await);
    let scopes = |count: usize, bytes: usize| vec!["x".repeat(bytes); count];
    for (field, wanted) in [
        ("display_name", json!({ "display_name": "a/b" })),
        ("client_id", json!({ "display_name": "a", "client_secret": "a secret" })),
        ("client_id", json!({ "display_name": "a", "client_id": "a b" })),
        ("client_id", json!({ "display_name": "a", "client_id": "x".repeat(2049) })),
        ("client_secret", json!({ "display_name": "a", "client_id": "a", "client_secret": "" })),
        ("issuer", json!({ "display_name": "a", "client_id": "a", "client_secret": "a" })),
        ("issuer", json!({ "display_name": "a", "issuer": "login.example.com" })),
        ("issuer", json!({ "display_name": "a", "issuer": format!("https://{}", "x".repeat(2041)) })),
        ("client_secret", json!({ "display_name": "a", "client_id": "a", "grant_type": "client_credentials" })),
        ("scopes", json!({ "display_name": "a", "scopes": ["a b"] })),
        ("scopes", json!({ "display_name": "a", "scopes": ["a\"b"] })),
        ("scopes", json!({ "display_name": "a", "scopes": scopes(65, 1) })),
        ("scopes", json!({ "display_name": "a", "scopes": scopes(1, 257) })),
    ] {
        let problem = owner.post(&path, wanted).await.refused(422, "INVALID_FIELD");
        assert_eq!(problem["details"]["field"], field, "{problem}");
    }
    assert!(mcp.heard().is_empty());
    let edge = json!({ "display_name": "a", "client_id": "x".repeat(2048), "scopes": scopes(64, 256) });
    let begun = owner.post(&path, edge).await.expect(200);
    assert!(text(&begun["authorization_url"]).contains(&"x".repeat(256)));
}

#[tokio::test]
async fn where_nobody_registers_the_address_of_our_description_is_our_name() {
    let folder = tempfile::tempdir().unwrap();
    let Some((crt, key)) = certificate(folder.path(), "one") else { return };
    let arguments = [LOOPBACK.as_slice(), &["--tls-certificate", &crt, "--tls-key", &key]].concat();
    let (server, here) = (Server::start_with(None, &arguments), Server::start_with(None, &LOOPBACK));
    let (owner, anybody) = (server.owner(), server.anybody());
    let trusted = reqwest::Certificate::from_pem(&std::fs::read(&crt).unwrap()).unwrap();
    let trusting = reqwest::Client::builder().tls_certs_only([trusted]).build().unwrap();
    let mcp = protected(
        |_| 3600,
        |heard, origin| {
            let mut described = metadata(origin);
            described.as_object_mut().unwrap().remove("registration_endpoint");
            described["client_id_metadata_document_supported"] = json!(true);
            (heard.path == "/.well-known/oauth-authorization-server").then(|| reply(200, "", &described))
        },
    )
    .await;
    let owner = owner.through(trusting.clone());
    let path = register(&owner, "crm", &mcp.url()).await;
    let begun = owner.post(&format!("{path}/authorize"), json!({ "display_name": "crm" })).await.expect(200);
    let page: url::Url = text(&begun["authorization_url"]).parse().unwrap();
    let own = anybody.through(trusting).get("/v1/mcp/oauth/client.json").await.expect(200);
    assert_eq!(own["client_id"], format!("{}/v1/mcp/oauth/client.json", server.url));
    assert_eq!(own["client_id"], parameter(&page, "client_id"));
    assert_eq!(own["redirect_uris"], json!([parameter(&page, "redirect_uri")]));
    assert_eq!((&own["application_type"], &own["token_endpoint_auth_method"]), (&json!("web"), &json!("none")));
    owner.get(&way_back(&begun)).await.expect(200);
    let asked = mcp.hears_what(|heard| heard.path == "/token").await;
    assert!(asked.body.contains("client_id=https%3A%2F%2F"), "{}", asked.body);
    assert!(mcp.heard().iter().all(|heard| heard.path != "/register"));
    // Nobody elsewhere reaches what is on its own machine alone.
    let owner = here.owner();
    let path = register(&owner, "crm", &mcp.url()).await;
    let wanted = json!({ "display_name": "crm" });
    let problem = owner.post(&format!("{path}/authorize"), wanted).await.refused(422, "MCP_SERVER_FAILED");
    assert!(text(&problem["error"]).contains("register a client"), "{problem}");
}
