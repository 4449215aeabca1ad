//! What is too much: requests, bodies, heads; and who else may ask.

use crate::{
    hooks::published,
    mails::signed_in,
    retention::{PATIENCE, ended_long_ago},
    server::{Server, answer, on_both},
    workflow::{Workflow, greeting},
};
use agentruntime_engine::{
    database::{Database, SystemClock, Values, text},
    store::Scope,
};
use agentruntime_host_api::{ProjectId, TenantId};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

#[tokio::test]
async fn a_token_has_a_limit_and_learns_how_it_stands() {
    let server = Server::start_with(None, &["--requests-per-minute", "3"]);
    // The first shows that the token is good, and counts under the address, which has no limit here.
    server.owner().get("/v1/workflows").await.expect(200);
    for remaining in ["2", "1", "0"] {
        let answer = server.owner().get("/v1/workflows").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["x-ratelimit-limit"], "3");
        assert_eq!(answer.headers["x-ratelimit-remaining"], remaining);
        assert!(answer.headers.contains_key("x-ratelimit-reset"));
    }
    let refused = server.owner().get("/v1/workflows").await;
    assert_eq!(refused.headers["x-ratelimit-remaining"], "0");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    refused.refused(429, "RATE_LIMITED");
    // Health is asked by machines that must not be turned away.
    server.owner().get("/healthz").await.expect(200);
}

#[tokio::test]
async fn wrong_credentials_are_limited_more_tightly_and_stop_nobody_else() {
    let server = Server::start_with(None, &["--failed-authentications-per-minute", "2"]);
    server.owner().get("/v1/workflows").await.expect(200);
    let guess = |number: u32| server.anybody().with("authorization", &format!("Bearer pat_{number}"));
    for number in 0..3 {
        guess(number).get("/v1/workflows").await.refused(401, "NOT_AUTHENTICATED");
    }
    guess(3).get("/v1/workflows").await.refused(429, "RATE_LIMITED");
    server.owner().get("/v1/workflows").await.expect(200);
    // Nor somebody whose token was never seen before.
    let new = server.admin().post("/v1/pats", json!({ "name": "new", "scopes": ["workflow:read"] })).await.expect(201);
    let new = server.holder(new["token"].as_str().unwrap()).with("x-project-id", "default");
    new.get("/v1/workflows").await.expect(200);
    guess(4).get("/v1/workflows").await.refused(429, "RATE_LIMITED");
    server.anybody().get("/v1/openapi.json").await.expect(200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_whatever_it_says_about_its_length() {
    let server = Server::start_with(None, &["--body-bytes-max", "2048"]);
    let body = |bytes: usize| {
        let mut text = json!({ "name": "x", "graph": {}, "description": "" }).to_string();
        let padding = "y".repeat(bytes - text.len());
        text = text.replace(r#""description":"""#, &format!(r#""description":"{padding}""#));
        text
    };
    let post = |body: reqwest::Body| {
        server.owner().request(Method::POST, "/v1/workflows").header("content-type", "application/json").body(body)
    };
    answer(post(body(2_048).into())).await.expect(201);
    answer(post(body(2_049).into())).await.refused(413, "BODY_TOO_LARGE");
    let pieces: Vec<Result<String, std::io::Error>> = (0..3).map(|_| Ok(" ".repeat(1_000))).collect();
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    answer(post(chunked)).await.refused(413, "BODY_TOO_LARGE");
}

#[tokio::test]
async fn json_that_is_too_deep_is_malformed() {
    let server = Server::start();
    let deep = format!(r#"{{"name":"x","graph":{}{}}}"#, r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let request = server.owner().request(Method::POST, "/v1/workflows").header("content-type", "application/json");
    answer(request.body(deep)).await.refused(400, "MALFORMED_JSON");
}

/// What a server answers to a head that no HTTP library sends.
fn raw(server: &Server, head: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    // It may hang up in the middle.
    let _ = stream.write_all(head.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start();
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    assert!(raw(&server, &format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n")).contains("431"));
    let long = "y".repeat(100_000);
    assert!(raw(&server, &format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n")).contains("431"));
    server.anybody().get("/healthz").await.expect(200);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let server = Server::start_with(None, &["--connections-max", "2"]);
    let held: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 12]).unwrap();
            stream
        })
        .collect();
    assert_eq!(raw(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), "");
    drop(held);
    // The places come free when the server notices, which is soon.
    while raw(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").is_empty() {}
}

#[tokio::test]
async fn connections_of_one_address_beyond_its_limit_are_closed_and_those_of_a_proxy_are_not() {
    let connect = |server: &Server| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        // It may hang up at once.
        let is_answered = stream.read_exact(&mut [0; 12]).is_ok();
        (stream, is_answered)
    };
    let server = Server::start_with(None, &["--connections-per-address-max", "2"]);
    let held = [connect(&server), connect(&server), connect(&server)];
    assert_eq!(held.each_ref().map(|(_, is_answered)| *is_answered), [true, true, false]);
    drop(held);
    // The places come free when the server notices, which is soon.
    while !connect(&server).1 {}
    let server = server.restart_with(&["--connections-per-address-max", "2", "--trusted-proxies", "127.0.0.0/8"]);
    let held = [connect(&server), connect(&server), connect(&server)];
    assert_eq!(held.each_ref().map(|(_, is_answered)| *is_answered), [true, true, true]);
}

/// Sends the beginning of a request, and then a byte each time that the server has said nothing for a while: gives what it
/// says in the end.
fn dribble(server: &Server, beginning: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    stream.write_all(beginning.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // It may have hung up, which the next reading shows.
                let _ = stream.write_all(b"a");
            }
            Err(_) => break,
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_client_that_sends_its_head_too_slowly_is_let_go() {
    let server = Server::start_with(None, &["--read-seconds-max", "1"]);
    let begun = Instant::now();
    let answer = dribble(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\nx-never-ends: ");
    assert!(!answer.contains("200"), "{answer}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    server.anybody().get("/healthz").await.expect(200);
}

#[tokio::test]
async fn a_client_that_sends_its_body_too_slowly_is_told_and_let_go() {
    let server = Server::start_with(None, &["--read-seconds-max", "1"]);
    let begun = Instant::now();
    let head = format!(
        "POST /v1/workflows HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 1000\r\n\r\n{{\"name\":\"",
        server.token
    );
    let answer = dribble(&server, &head);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("BODY_TOO_SLOW"), "{answer}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let kept = server.owner().get("/v1/workflows").await.expect(200);
    assert_eq!(kept["items"], json!([]));
}

#[tokio::test]
async fn only_named_origins_may_use_it_from_a_browser() {
    let server = Server::start_with(None, &["--allowed-origins", "https://app.example.com"]);
    let from = |origin: &str| server.owner().with("origin", origin);
    let ours = from("https://app.example.com").get("/v1/workflows").await;
    assert_eq!(ours.headers["access-control-allow-origin"], "https://app.example.com");
    assert!(!ours.headers.contains_key("access-control-allow-credentials"));
    let other = from("https://evil.example.com").get("/v1/workflows").await;
    assert!(!other.headers.contains_key("access-control-allow-origin"));
    let preflight = from("https://app.example.com").with("access-control-request-method", "POST");
    let preflight = answer(preflight.request(Method::OPTIONS, "/v1/workflows")).await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.headers["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    let server = Server::start();
    let none = server.owner().with("origin", "https://app.example.com").get("/v1/workflows").await;
    assert!(!none.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = Server::start();
    let head = answer(server.owner().request(Method::HEAD, "/v1/workflows")).await;
    assert_eq!((head.status.as_u16(), head.body.as_str()), (200, Some("")));
    let options = answer(server.owner().request(Method::OPTIONS, "/v1/workflows")).await;
    assert!(options.headers["allow"].to_str().unwrap().contains("GET"));
    options.refused(405, "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn only_who_was_recognised_has_a_limit_of_their_own() {
    // A route for everybody, none at all, and one that refuses before it asks who it is: nobody recognised anybody.
    let too_large = format!(r#"{{"email":"{}"}}"#, "a".repeat(2_000));
    let unasked = [
        (Method::GET, "/v1/openapi.json", String::new(), 200),
        (Method::GET, "/v1/nothing", String::new(), 404),
        (Method::POST, "/v1/auth/login", too_large, 413),
    ];
    for (method, path, body, status) in unasked {
        let server = Server::start_with(None, &["--anonymous-requests-per-minute", "2", "--body-bytes-max", "1024"]);
        let made_up = [
            server.anybody().with("authorization", "Bearer pat_1"),
            server.anybody().with("cookie", "session=made-up"),
        ];
        let ask = |somebody: &crate::server::Client| {
            let request = somebody.request(method.clone(), path).header("content-type", "application/json");
            answer(request.body(body.clone()))
        };
        for somebody in &made_up {
            assert_eq!(ask(somebody).await.status, status, "{path}");
        }
        for somebody in &made_up {
            ask(somebody).await.refused(429, "RATE_LIMITED");
        }
    }
}

#[tokio::test]
async fn one_session_with_other_things_beside_it_is_one() {
    let server = Server::start_with(None, &["--requests-per-minute", "2"]);
    let browser = signed_in(&server, "ada@example.com").await;
    let beside = |what: &str| server.anybody().with("cookie", &format!("{}; x={what}", browser.cookie_header()));
    for number in 0..3 {
        // The first counts under the address, as nobody knew before that it is somebody.
        beside(&number.to_string()).get("/v1/auth/me").await.expect(200);
    }
    beside("3").get("/v1/auth/me").await.refused(429, "RATE_LIMITED");
}

#[tokio::test]
async fn a_workspace_at_its_ceiling_learns_which_and_who_can_raise_it() {
    let server = Server::start_with(None, &["--workspace-unfinished-runs-max", "1"]);
    let workflow = published(&server.owner()).await;
    let (path, start) = (format!("/v1/workflows/{workflow}/command"), json!({ "command": "start" }));
    let keyed = server.owner().with("idempotency-key", "once");
    let first = keyed.post(&path, start.clone()).await.expect(200);
    let refused = server.owner().post(&path, start.clone()).await;
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let body = refused.refused(429, "CEILING_REACHED");
    assert_eq!(body["details"], json!({ "ceiling": "unfinished_runs", "limit": 1 }));
    assert!(body["error"].as_str().unwrap().contains("`workspace_unfinished_runs_max`"), "{body}");
    // A repeat starts nothing, and so meets no ceiling.
    assert_eq!(keyed.post(&path, start).await.expect(200)["run_id"], first["run_id"]);
}

#[tokio::test]
async fn a_workspace_that_has_stored_as_much_as_it_may_starts_again_once_old_runs_are_gone() {
    on_both(|mut server| async move {
        let workflow = published(&server.owner()).await;
        let (path, start) = (format!("/v1/workflows/{workflow}/command"), json!({ "command": "start" }));
        let keyed = |server: &Server| server.owner().with("idempotency-key", "once");
        let first = keyed(&server).post(&path, start.clone()).await.expect(200);
        server.kill();
        let outputs = json!({ "x": "y".repeat(100_000) });
        ended_long_ago(&server.data, scope_of_runs(&server.data).await, outputs.into()).await;
        let server = server.restart_with(&["--workspace-stored-bytes-max", "100000"]);
        let refused = server.owner().post(&path, start.clone()).await;
        assert!(refused.headers.contains_key("retry-after"));
        let body = refused.refused(429, "CEILING_REACHED");
        assert_eq!(body["details"], json!({ "ceiling": "stored_bytes", "limit": 100_000 }));
        for named in ["`workspace_stored_bytes_max`", "`retention_days`"] {
            assert!(body["error"].as_str().unwrap().contains(named), "{body}");
        }
        assert_eq!(keyed(&server).post(&path, start.clone()).await.expect(200)["run_id"], first["run_id"]);

        let server = server.restart_with(&["--workspace-stored-bytes-max", "100000", "--retention-days", "1"]);
        let deadline = Instant::now() + PATIENCE;
        while server.owner().post(&path, start.clone()).await.status == 429 {
            assert!(Instant::now() < deadline, "old runs stay");
        }
        server.owner().post(&path, start).await.expect(200);
    })
    .await;
}

/// Where the runs of a service that does not work lie.
async fn scope_of_runs(data: &str) -> Scope {
    let database = Database::open(&data.parse().unwrap(), Arc::new(SystemClock)).await.unwrap();
    let row = database.row("SELECT tenant_id, project_id FROM runs", Values::default()).await.unwrap();
    let name = |column| text(&row, column).unwrap().to_owned();
    let scope = Scope { tenant: TenantId::new(name(0)), project: ProjectId::new(name(1)) };
    database.close().await;
    scope
}

/// Scripts that a check runs take long; a workspace that has many graphs checked at once is told to wait.
#[tokio::test]
async fn a_workspace_has_so_many_graphs_checked_at_once() {
    let server = Server::start();
    let workflow = Workflow::publish(server.owner(), greeting()).await;
    let path = format!("/v1/workflows/{}/validate", workflow.id);
    let endless = json!({
        "graph": { "steps": [{ "id": "a", "type": "lua_script", "script": "while true do end", "timeout_s": 1 }] },
        "mock_lua_scopes": { "a": {} },
    });
    let owner = server.owner();
    let checks = (0..30).map(|_| owner.post(&path, endless.clone()));
    let (checked, refused): (Vec<_>, Vec<_>) = join_all(checks).await.into_iter().partition(|it| it.status == 200);
    assert!(checked.len() >= 8 && !refused.is_empty(), "{} were checked", checked.len());
    for answer in refused {
        assert!(answer.headers.contains_key("retry-after"));
        answer.refused(429, "TOO_MANY_CHECKS");
    }
    owner.post(&path, json!({})).await.expect(200);
}
