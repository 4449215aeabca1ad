//! Credentials that workflows use and nobody reads, and the requests that steps send with them.

use crate::{
    mails::signed_in,
    server::{Client, Server, on_both, on_both_with},
    workflow::Workflow,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Barrier, mpsc, watch},
};

pub(crate) const SECRET: &str = "sk-live-7f3a9c01d2e4";
pub(crate) const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
/// What is served here may be reached.
pub(crate) const LOOPBACK: [&str; 1] = ["--egress-allowed-networks=127.0.0.0/8"];

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A server that answers each request with that request, and keeps what came.
pub(crate) struct Echo {
    pub(crate) origin: String,
    came: Arc<Mutex<Vec<String>>>,
}

/// A server that answers its first request when as many were asked as meet.
async fn met(together: &Arc<Barrier>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (origin, together) = (format!("http://{}", listener.local_addr().unwrap()), together.clone());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // The whole of it, in one piece: what is left unread breaks the connection when it is closed.
        assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
        together.wait().await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
    });
    origin
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let came = Arc::new(Mutex::new(Vec::new()));
        let heard = came.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => break,
                        Ok(read) => request.extend_from_slice(&buffer[..read]),
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", request.len());
                // Who does not listen any more has had enough.
                let _ = stream.write_all(format!("{head}{request}").as_bytes()).await;
                heard.lock().unwrap().push(request);
            }
        });
        Self { origin, came }
    }

    pub(crate) fn came(&self) -> Vec<String> {
        self.came.lock().unwrap().clone()
    }
}

pub(crate) async fn connect(client: &Client, name: &str, hosts: &[&str]) -> Value {
    let body = json!({
        "display_name": name, "provider": "acme", "service": "crm", "credentials": { "api_key": SECRET },
        "allowed_hosts": hosts,
    });
    client.post("/v1/connections", body).await.expect(201)
}

/// A workflow of one script that may ask for some things.
pub(crate) async fn script(client: Client, source: &str, capabilities: Value) -> Workflow {
    let step = json!({ "id": "ask", "type": "lua_script", "script": source, "capabilities": capabilities });
    Workflow::publish(client, json!({ "steps": [step] })).await
}

#[tokio::test]
async fn a_connection_is_written_and_never_read_back() {
    on_both(|server| async move {
        let owner = server.owner();
        let made = connect(&owner, "crm", &["api.example.com", "*.example.org"]).await;
        let path = format!("/v1/connections/{}", text(&made["id"]));
        assert_eq!(
            (&made["display_name"], &made["credential_keys"], &made["allowed_hosts"]),
            (&json!("crm"), &json!(["api_key"]), &json!(["api.example.com", "*.example.org"]))
        );
        assert_eq!(owner.get(&path).await.expect(200), made);
        assert_eq!(owner.get("/v1/connections").await.expect(200)["items"], json!([made]));
        let body = json!({ "display_name": "erp", "credentials": { "token": "another-one", "api_key": null } });
        let changed = owner.patch(&path, body).await.expect(200);
        assert_eq!((&changed["display_name"], &changed["credential_keys"]), (&json!("erp"), &json!(["token"])));
        assert_eq!(changed["allowed_hosts"], made["allowed_hosts"], "what is not said stays");
        assert!(
            ![made, changed].iter().any(|it| it.to_string().contains("another-one") || it.to_string().contains(SECRET))
        );
        owner.delete(&path).await.expect(204);
        for answer in [owner.get(&path).await, owner.delete(&path).await, owner.patch(&path, json!({})).await] {
            answer.refused(404, "NOT_FOUND");
        }
        let audit = server.admin().get("/v1/audit?limit=10").await.expect(200);
        let actions: Vec<&str> =
            audit["items"].as_array().unwrap().iter().map(|it| it["action"].as_str().unwrap()).collect();
        assert_eq!(actions[..3], ["connection.delete", "connection.update", "connection.create"]);
        assert!(!audit.to_string().contains(SECRET));
    })
    .await;
}

#[tokio::test]
async fn a_credential_goes_nowhere_that_whoever_sends_it_there_did_not_know_it_for() {
    on_both(|server| async move {
        let owner = server.owner();
        let made = connect(&owner, "crm", &["api.example.com", "eu.example.com"]).await;
        let path = format!("/v1/connections/{}", text(&made["id"]));
        for hosts in [json!(["evil.example"]), json!(["api.example.com", "*.example.com"]), json!([])] {
            let problem = owner.patch(&path, json!({ "allowed_hosts": hosts })).await.refused(422, "INVALID_FIELD");
            assert!(text(&problem["error"]).contains("`api_key` is missing"), "{problem}");
        }
        let narrower = owner.patch(&path, json!({ "allowed_hosts": ["eu.example.com"] })).await.expect(200);
        assert_eq!(narrower["allowed_hosts"], json!(["eu.example.com"]));
        let anew = json!({ "allowed_hosts": ["new.example.com"], "credentials": { "api_key": "another-one" } });
        owner.patch(&path, anew).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_cannot_be_is_refused_by_the_field_that_is_wrong() {
    on_both(|server| async move {
        let owner = server.owner();
        connect(&owner, "crm", &[]).await;
        let good = json!({ "display_name": "x", "provider": "p", "service": "s", "credentials": { "k": "v" } });
        let refused = |field: &'static str, value: Value| {
            let mut body = good.clone();
            body[field] = value;
            let owner = owner.clone();
            async move { owner.post("/v1/connections", body).await.refused(422, "INVALID_FIELD") }
        };
        refused("display_name", json!(NOBODY)).await;
        refused("display_name", json!("a/b")).await;
        refused("provider", json!("")).await;
        refused("service", json!("a b")).await;
        refused("credentials", json!({})).await;
        refused("credentials", json!({ "k": "" })).await;
        refused("credentials", json!({ "k k": "v" })).await;
        refused("credentials", json!({ "k": "v".repeat((16 << 10) + 1) })).await;
        let many: serde_json::Map<String, Value> = (0..33).map(|at| (format!("k{at}"), json!("v"))).collect();
        refused("credentials", Value::Object(many)).await;
        let problem = refused("allowed_hosts", json!(["ftp://x.example"])).await;
        assert!(text(&problem["error"]).contains("api.example.com:8443"), "{problem}");
        refused("allowed_hosts", json!(vec!["a.example"; 33])).await;
        let mut taken = good.clone();
        taken["display_name"] = json!("crm");
        owner.post("/v1/connections", taken).await.refused(409, "CONNECTION_NAME_TAKEN");
        let made = owner.post("/v1/connections", good).await.expect(201);
        let path = format!("/v1/connections/{}", text(&made["id"]));
        owner.patch(&path, json!({ "display_name": "crm" })).await.refused(409, "CONNECTION_NAME_TAKEN");
        owner.patch(&path, json!({ "credentials": { "k": null } })).await.refused(422, "INVALID_FIELD");
    })
    .await;
}

#[tokio::test]
async fn a_secret_of_the_vault_is_written_in_versions_and_never_read_back() {
    on_both(|server| async move {
        let admin = server.admin();
        let path = "/v1/vault/crm/api_key";
        let body = json!({ "value": SECRET, "allowed_hosts": ["api.example.com"] });
        let first = admin.put(path, body).await.expect(200);
        assert_eq!((&first["version"], &first["allowed_hosts"]), (&json!(1), &json!(["api.example.com"])));
        let second = admin.put(path, json!({ "value": "the-next-one" })).await.expect(200);
        assert_eq!((&second["version"], &second["allowed_hosts"]), (&json!(2), &json!(["api.example.com"])));
        let read = admin.get(path).await.expect(200);
        assert_eq!(read, json!({ "path": "crm/api_key", "versions": [second, first] }));
        admin.put("/v1/vault/crm/other", json!({ "value": "x" })).await.expect(200);
        let page = admin.get("/v1/vault?limit=1").await.expect(200);
        assert_eq!(page["items"][0]["path"], "crm/api_key");
        let next = admin.get(&format!("/v1/vault?cursor={}", text(&page["next_cursor"]))).await.expect(200);
        assert_eq!((&next["items"][0]["path"], &next["next_cursor"]), (&json!("crm/other"), &Value::Null));
        for _ in 0..10 {
            admin.put(path, json!({ "value": "again" })).await.expect(200);
        }
        let versions = admin.get(path).await.expect(200)["versions"].as_array().unwrap().len();
        assert_eq!(versions, 10, "the newest are kept");
        admin.delete(path).await.expect(204);
        admin.get(path).await.refused(404, "NOT_FOUND");
        admin.delete(path).await.refused(404, "NOT_FOUND");
        for wrong in ["/v1/vault/a//b", "/v1/vault/a%20b", &format!("/v1/vault/{}", "a".repeat(201))] {
            admin.put(wrong, json!({ "value": "x" })).await.refused(422, "INVALID_FIELD");
        }
        server.owner().get(path).await.refused(403, "FORBIDDEN");
    })
    .await;
}

pub(crate) const FETCH: &str = "local reply = http.fetch{ url = input.url, headers = { authorization = 'Bearer ' .. secret('key') } } \
    return { status = reply.status, body = reply.body }";

#[tokio::test]
async fn a_script_sends_a_secret_that_it_never_sees() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, echo) = (server.owner(), Echo::start().await);
        connect(&owner, "crm", &[&echo.origin]).await;
        let capabilities = json!({ "hosts": [echo.origin], "secrets": { "key": "connection/crm/api_key" } });
        let workflow = script(owner.clone(), FETCH, capabilities).await;
        let ended = workflow.command_and_wait("start", json!({ "url": echo.origin })).await.expect(200);
        let result = &ended["outputs"]["ask"];
        assert_eq!(result["status"], 200, "{ended}");
        let body = text(&result["body"]);
        assert!(body.contains("authorization: Bearer [redacted]"), "{body}");
        let run = text(&ended["run_id"]);
        assert!(body.contains(&format!("idempotency-key: {run}/ask/0")), "{body}");
        assert!(echo.came()[0].contains(&format!("authorization: Bearer {SECRET}")));
        let events = workflow.events(&run).await;
        let kinds: Vec<&str> = events.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
        let asked = ["request_made", "request_completed"];
        let wanted = [&["run_started", "step_started"][..], &asked, &["step_completed", "run_completed"]].concat();
        assert_eq!(kinds, wanted);
        assert_eq!(
            events[2]["data"]["arguments"]["headers"]["authorization"],
            json!({ "$text": ["Bearer ", { "$secret": "key" }] })
        );
        assert!(!json!(events).to_string().contains(SECRET));
        for (path, bytes) in server.kept().await {
            assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "the secret is in {path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_secret_signs_only_where_its_keeper_lets_it_go_nowhere() {
    on_both(|server| async move {
        let owner = server.owner();
        // RFC 4231, test case 2.
        let (key, signature) = ("Jefe", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let vault = |hosts: Value| {
            let admin = server.admin();
            let body = json!({ "value": key, "allowed_hosts": hosts });
            async move { admin.put("/v1/vault/desk/signing_key", body).await.expect(200) }
        };
        let source = "return { signed = hmac(secret('key'), 'what do ya want for nothing?') }";
        let capabilities = json!({ "hosts": ["api.example.com"], "secrets": { "key": "vault/desk/signing_key" } });
        let workflow = script(owner.clone(), source, capabilities).await;
        vault(json!([])).await;
        let ended = workflow.command_and_wait("start", json!({})).await.expect(200);
        assert_eq!(ended["outputs"]["ask"]["signed"], signature, "{ended}");
        // The step may send to that host alone. What it returns, others send where they like.
        vault(json!(["api.example.com"])).await;
        let ended = workflow.command_and_wait("start", json!({})).await.expect(200);
        assert_eq!(ended["error"]["code"], "CAPABILITY_DENIED", "{ended}");
        let message = text(&ended["error"]["message"]);
        assert!(
            message.contains("`key` may be sent to api.example.com") && message.contains("allowed_hosts"),
            "{message}"
        );
        connect(&owner, "crm", &["api.example.com"]).await;
        let by_connection = json!({ "secrets": { "key": "connection/crm/api_key" } });
        let ended = script(owner, source, by_connection).await.command_and_wait("start", json!({})).await.expect(200);
        assert_eq!(ended["error"]["code"], "CAPABILITY_DENIED", "{ended}");
    })
    .await;
}

#[tokio::test]
async fn what_was_not_granted_or_belongs_to_somebody_else_is_refused_and_recorded() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, echo) = (server.owner(), Echo::start().await);
        connect(&owner, "bound", &["https://api.example.com"]).await;
        // The same workspace, another project.
        let admin = server.admin();
        admin.post("/v1/projects", json!({ "slug": "other", "name": "Other" })).await.expect(201);
        let other = admin.with("x-project-id", "other");
        let foreign = connect(&other, "foreign", &[&echo.origin]).await;
        // Another workspace.
        let mut browser = signed_in(&server, "eve@other.example").await;
        browser.post("/v1/tenants", json!({ "slug": "eves", "name": "Eve's" })).await.expect(201);
        let eve = browser.client.with("cookie", &browser.cookie_header()).with("x-csrf-token", &browser.csrf);
        let eve = eve.with("x-tenant-id", "eves");
        eve.post("/v1/projects", json!({ "slug": "main", "name": "Main" })).await.expect(201);
        let eve = eve.with("x-project-id", "main");
        let eves = connect(&eve, "eves", &[&echo.origin]).await;
        let kept = json!({ "value": SECRET, "allowed_hosts": [echo.origin] });
        eve.put("/v1/vault/eves/key", kept).await.expect(200);
        let refused = |capabilities: Value, code: &'static str, part: String| {
            let (owner, url) = (owner.clone(), echo.origin.clone());
            async move {
                let workflow = script(owner, FETCH, capabilities).await;
                let ended = workflow.command_and_wait("start", json!({ "url": url })).await.expect(200);
                assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!(code)), "{ended}");
                let message = text(&ended["error"]["message"]);
                assert!(message.contains(&part), "{message}");
                let events = workflow.events(&text(&ended["run_id"])).await;
                let completed = events.iter().find(|event| event["event_type"] == "request_completed").unwrap();
                assert_eq!(completed["data"]["error"]["code"], code);
            }
        };
        let hosts = json!([echo.origin]);
        refused(json!({}), "CAPABILITY_DENIED", "granted none".into()).await;
        refused(json!({ "hosts": ["api.example.com"] }), "CAPABILITY_DENIED", "host http://127.0.0.1".into()).await;
        refused(json!({ "hosts": hosts }), "CAPABILITY_DENIED", "secret `key`".into()).await;
        let with = |kept: &str| json!({ "hosts": hosts, "secrets": { "key": kept } });
        let bound = with("connection/bound/api_key");
        refused(bound, "CAPABILITY_DENIED", "allows api.example.com".into()).await;
        refused(with("connection/foreign/api_key"), "INVALID_INPUT", "no connection `foreign`".into()).await;
        for id in [text(&foreign["id"]), text(&eves["id"])] {
            refused(with(&format!("connection/{id}/api_key")), "INVALID_INPUT", format!("no connection `{id}`")).await;
        }
        refused(with("connection/eves/api_key"), "INVALID_INPUT", "no connection `eves`".into()).await;
        refused(with("vault/eves/key"), "INVALID_INPUT", "no `eves/key`".into()).await;
        refused(with("connection/bound/password"), "INVALID_INPUT", "no credential `password`".into()).await;
        refused(with("vault/nothing/here"), "INVALID_INPUT", "no `nothing/here`".into()).await;
        assert!(echo.came().is_empty(), "nothing went out");
    })
    .await;
}

#[tokio::test]
async fn the_inside_is_out_of_reach_unless_the_operator_allows_it() {
    let (server, echo) = (Server::start(), Echo::start().await);
    let source = "return http.fetch(input.url)";
    let workflow = script(server.owner(), source, json!({ "hosts": [echo.origin, "http://169.254.169.254"] })).await;
    for url in [echo.origin.as_str(), "http://169.254.169.254/latest/meta-data"] {
        let ended = workflow.command_and_wait("start", json!({ "url": url })).await.expect(200);
        assert_eq!(ended["error"]["code"], "CAPABILITY_DENIED", "{ended}");
        assert!(text(&ended["error"]["message"]).contains("egress_allowed_networks"), "{ended}");
    }
    assert!(echo.came().is_empty());
}

/// A server that says when it was asked, and answers when it is released.
async fn held() -> (String, mpsc::UnboundedReceiver<()>, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let ((asked, came), (release, released)) = (mpsc::unbounded_channel(), watch::channel(false));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (asked, mut released) = (asked.clone(), released.clone());
            tokio::spawn(async move {
                assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
                let _ = asked.send(());
                released.wait_for(|it| *it).await.unwrap();
                // Whoever asked may have gone.
                let _ = stream.write_all(b"HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            });
        }
    });
    (origin, came, release)
}

#[tokio::test]
async fn requests_that_ask_servers_elsewhere_are_few_at_once() {
    let server = Server::start_with(None, &LOOPBACK);
    let (owner, (origin, mut came, release)) = (server.owner(), held().await);
    let made = connect(&owner, "crm", &[&origin]).await;
    let test = format!("/v1/connections/{}/test", text(&made["id"]));
    let body = json!({ "name": "crm", "canonical_url": format!("{origin}/mcp") });
    let registered = owner.post("/v1/mcp/servers", body).await.expect(201);
    let path = format!("/v1/mcp/servers/{}", text(&registered["id"]));
    let (discover, authorize) = (format!("{path}/discover"), format!("{path}/authorize"));
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let (owner, discover) = (owner.clone(), discover.clone());
            tokio::spawn(async move { owner.post(&discover, json!({})).await.refused(422, "MCP_SERVER_FAILED") })
        })
        .collect();
    for _ in 0..8 {
        came.recv().await.unwrap();
    }
    for answer in [
        owner.post(&discover, json!({})).await,
        owner.post(&authorize, json!({ "display_name": "granted" })).await,
        owner.post(&test, json!({})).await,
        owner.get("/v1/llm/catalog").await,
    ] {
        assert_eq!(answer.headers["retry-after"], "1");
        answer.refused(429, "TOO_MANY_INQUIRIES");
    }
    release.send(true).unwrap();
    for asked in waiting {
        asked.await.unwrap();
    }
    assert_eq!(owner.post(&test, json!({})).await.expect(200)["ok"], true);
    owner.get("/v1/llm/catalog").await.expect(200);
}

#[tokio::test]
async fn a_connection_is_tested_without_sending_what_it_holds() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, echo) = (server.owner(), Echo::start().await);
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let made = connect(&owner, "crm", &[&echo.origin, &format!("http://{closed}")]).await;
        let path = format!("/v1/connections/{}/test", text(&made["id"]));
        let tested = owner.post(&path, json!({})).await.expect(200);
        let checks = tested["checks"].as_array().unwrap();
        let passed: Vec<bool> = checks.iter().map(|check| check["ok"].as_bool().unwrap()).collect();
        assert_eq!((passed, &tested["ok"]), (vec![true, true, false], &json!(false)), "{tested}");
        assert!(text(&checks[2]["error"]).contains("cannot be reached"), "{tested}");
        assert!(!echo.came()[0].contains(SECRET));

        // All are asked at once: each of these answers only when the others were asked, too.
        let together = Arc::new(Barrier::new(3));
        let origins = [met(&together).await, met(&together).await, met(&together).await];
        let made = connect(&owner, "three", &origins.each_ref().map(String::as_str)).await;
        let tested = owner.post(&format!("/v1/connections/{}/test", text(&made["id"])), json!({})).await.expect(200);
        assert_eq!(tested["ok"], true, "{tested}");
        owner.post(&format!("/v1/connections/{NOBODY}/test"), json!({})).await.refused(404, "NOT_FOUND");
    })
    .await;
}
