//! Bodies under way: how much of them a workspace, an address and all together may have, and when that room comes back.

use crate::{
    mails::signed_in,
    server::{Client, Server, answer},
    workflow::{PATIENCE, Workflow, greeting},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Instant,
};

/// A body has up to 2,000 bytes, a workspace or an address as much, and all together twice that.
const SMALL: [&str; 3] = ["--body-bytes-max=2000", "--workspace-bodies-bytes-max=2000", "--bodies-bytes-max=4000"];

/// A request whose body does not end: what is said about its length, and what came of it.
fn unfinished(server: &Server, path: &str, headers: &[String], length: &str, part: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{length}\r\n");
    headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
    stream.write_all(format!("{head}\r\n{part}").as_bytes()).unwrap();
    stream
}

/// The same, once the service wants the body: then it has its room, which somebody who asks at the same moment does not get.
fn held(server: &Server, path: &str, headers: &[String], length: &str, part: &str) -> TcpStream {
    const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let headers = [headers, &["expect: 100-continue".to_owned()]].concat();
    let mut stream = unfinished(server, path, &headers, length, "");
    let mut answer = [0; GO_ON.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, GO_ON, "{}", String::from_utf8_lossy(&answer));
    stream.write_all(part.as_bytes()).unwrap();
    stream
}

/// A body of the owner's that is there but for its last byte.
fn of_owner(server: &Server) -> TcpStream {
    let token = format!("authorization: Bearer {}", server.token);
    held(server, "/v1/workflows", &[token], "content-length: 2000", "{\"name\":\"")
}

/// Asks until the answer is this one: what another connection sent is noticed soon.
async fn until(client: &Client, path: &str, body: Value, status: u16) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = client.post(path, body.clone()).await;
        if answer.status == status {
            return answer.body;
        }
        assert!(Instant::now() < end, "{} {}", answer.status, answer.body);
    }
}

fn invalid() -> Value {
    json!({ "name": "", "graph": {} })
}

#[tokio::test]
async fn a_workspace_with_too_much_under_way_waits_and_others_do_not() {
    let server = Server::start_with(None, &SMALL);
    let mut browser = signed_in(&server, "eve@other.example").await;
    browser.post("/v1/tenants", json!({ "slug": "eves", "name": "Eve's" })).await.expect(201);
    let eve = browser.client.with("cookie", &browser.cookie_header()).with("x-csrf-token", &browser.csrf);
    let held = of_owner(&server);
    until(&server.owner(), "/v1/workflows", invalid(), 429).await;
    let refused = server.owner().post("/v1/workflows", invalid()).await;
    assert_eq!(refused.headers["retry-after"], "1");
    refused.refused(429, "TOO_MANY_BODIES");
    // What has no body needs no room, nor do others wait: another workspace, and who has none.
    server.owner().get("/v1/workflows").await.expect(200);
    let new = json!({ "slug": "x", "name": "" });
    eve.with("x-tenant-id", "eves").post("/v1/projects", new).await.refused(422, "INVALID_FIELD");
    server.anybody().post("/v1/auth/login", json!({ "surprise": 1 })).await.refused(422, "INVALID_BODY");
    drop(held);
    until(&server.owner(), "/v1/workflows", invalid(), 422).await;
}

#[tokio::test]
async fn a_body_that_does_not_say_how_long_it_is_counts_as_it_comes() {
    let server = Server::start_with(None, &SMALL);
    let token = format!("authorization: Bearer {}", server.token);
    let part = format!("7c0\r\n{}\r\n", " ".repeat(0x7c0));
    let held = held(&server, "/v1/workflows", &[token], "transfer-encoding: chunked", &part);
    until(&server.owner(), "/v1/workflows", invalid_of(100), 429).await;
    drop(held);
    until(&server.owner(), "/v1/workflows", invalid_of(100), 422).await;
}

fn invalid_of(bytes: usize) -> Value {
    json!({ "name": "", "graph": {}, "description": "x".repeat(bytes) })
}

#[tokio::test]
async fn who_has_no_credential_uses_up_the_room_of_nobody_who_has() {
    let server = Server::start_with(None, &SMALL);
    let login = json!({ "surprise": 1 });
    // A wrong token is no way into a workspace's room: its body is not read.
    let made_up = [format!("authorization: Bearer {}x", server.token)];
    let _unread = unfinished(&server, "/v1/workflows", &made_up, "content-length: 2000", "{");
    let held = held(&server, "/v1/auth/login", &[], "content-length: 2000", "{");
    until(&server.anybody(), "/v1/auth/login", login.clone(), 429).await;
    server.owner().post("/v1/workflows", invalid()).await.refused(422, "INVALID_FIELD");
    drop(held);
    until(&server.anybody(), "/v1/auth/login", login, 422).await;
}

#[tokio::test]
async fn all_together_have_so_much() {
    let server = Server::start_with(None, &SMALL);
    let mut browser = signed_in(&server, "eve@other.example").await;
    browser.post("/v1/tenants", json!({ "slug": "eves", "name": "Eve's" })).await.expect(201);
    let eve = browser.client.with("cookie", &browser.cookie_header()).with("x-csrf-token", &browser.csrf);
    let eve = eve.with("x-tenant-id", "eves");
    let stranger = held(&server, "/v1/auth/login", &[], "content-length: 2000", "{");
    let owner = of_owner(&server);
    let new = json!({ "slug": "x", "name": "" });
    until(&eve, "/v1/projects", new.clone(), 503).await;
    let refused = eve.post("/v1/projects", new.clone()).await;
    assert_eq!(refused.headers["retry-after"], "1");
    refused.refused(503, "TOO_MANY_BODIES");
    drop((stranger, owner));
    until(&eve, "/v1/projects", new, 422).await;
}

#[tokio::test]
async fn room_comes_back_when_a_start_is_done_though_its_answer_waits_for_the_run() {
    let server = Server::start_with(None, &SMALL);
    let rest = json!({ "steps": [{ "id": "rest", "type": "sleep", "duration_s": 3600 }] });
    let workflow = Workflow::publish(server.owner(), rest).await;
    let path = format!("/v1/workflows/{}/command", workflow.id);
    let body = json!({ "command": "start", "params": { "text": "x".repeat(1_500) } });
    let (owner, waiting, first) = (server.owner(), format!("{path}?wait=60s"), body.clone());
    let first = tokio::spawn(async move { owner.post(&waiting, first).await });
    while workflow.get("/runs").await.expect(200)["items"] == json!([]) {}
    until(&server.owner(), &path, body, 200).await;
    assert!(!first.is_finished());
    first.abort();
}

#[tokio::test]
async fn what_cannot_be_read_later_is_refused_when_it_comes() {
    let server = Server::start();
    let workflow = Workflow::publish(server.owner(), greeting()).await;
    let send = async |path: &str, body: String| {
        let request = server.owner().request(Method::POST, path).header("content-type", "application/json");
        answer(request.body(body)).await.refused(422, "INVALID_BODY")["details"].clone()
    };
    let start = format!("/v1/workflows/{}/command", workflow.id);
    let validate = format!("/v1/workflows/{}/validate", workflow.id);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (payload, reason) in [("1e999", "too large"), (r#""\ud800""#, "surrogate"), (&deep, "127 deep")] {
        let command = format!(r#"{{"command":"start","params":{{"trigger_payload":{{"a":[{payload}]}}}}}}"#);
        let details = send(&start, command).await;
        assert!(details["field"].as_str().unwrap().starts_with("params.trigger_payload.a[0]"), "{details}");
        assert!(details["reason"].as_str().unwrap().contains(reason), "{details}");
        let details = send(&validate, format!(r#"{{"params":{{"trigger_payload":{payload}}}}}"#)).await;
        assert!(details["field"].as_str().unwrap().starts_with("params.trigger_payload"), "{details}");
        let details = send(&validate, format!(r#"{{"mock_lua_scopes":{{"greet":{{"x":{payload}}}}}}}"#)).await;
        assert!(details["field"].as_str().unwrap().starts_with("mock_lua_scopes.greet.x"), "{details}");
    }
}
