//! Live events over HTTP: both forms, resumed, and read slowly.

use crate::{
    server::{Client, Server, on_both},
    workflow::{PATIENCE, Workflow, asking, asking_then_many, greeting},
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::HashMap;
use tokio::time;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

/// Server-Sent Events as they come in.
pub(crate) struct Events {
    response: reqwest::Response,
    text: String,
}

/// One of them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sent {
    pub(crate) id: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) data: String,
}

impl Events {
    pub(crate) async fn follow(client: &Client, path: &str) -> Self {
        let client = client.with("accept", "text/event-stream");
        let response = client.request(reqwest::Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        Self { response, text: String::new() }
    }

    /// The next one; nothing at the end.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut sent = Sent::default();
                for line in block.lines() {
                    match line.split_once(':').map(|(name, value)| (name, value.trim_start())) {
                        Some(("id", id)) => sent.id = Some(id.into()),
                        Some(("event", kind)) => sent.kind = Some(kind.into()),
                        Some(("data", data)) => sent.data.push_str(data),
                        _ => {}
                    }
                }
                self.text = rest.to_owned();
                if sent != Sent::default() {
                    return Some(sent);
                }
                continue;
            }
            let chunk = time::timeout(PATIENCE, self.response.chunk()).await.unwrap().unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn a_reader_that_comes_again_has_each_event_once() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), asking_then_many()).await;
        let (run, task) = workflow.start_asking(json!({ "count": 100, "bytes": 10 })).await;
        let path = workflow.path(&format!("/stream?run_id={run}"));
        let mut events = Events::follow(&workflow.client, &path).await;
        let mut told: Vec<Value> = Vec::new();
        let mut last = 0;
        let mut next = events.next().await;
        workflow.complete(&run, &task, json!({ "approved": true })).await.expect(200);
        loop {
            let sent = next.unwrap();
            if sent.kind.as_deref() == Some("end") {
                break;
            }
            last = sent.id.unwrap().parse::<u64>().unwrap();
            told.push(serde_json::from_str(&sent.data).unwrap());
            if last % 50 == 0 {
                let client = workflow.client.with("last-event-id", &last.to_string());
                events = Events::follow(&client, &path).await;
            }
            next = events.next().await;
        }
        assert!(events.next().await.is_none());
        assert_eq!(told, workflow.events(&run).await);

        let client = workflow.client.with("last-event-id", &last.to_string());
        client.get(&path).await.expect(204);
    })
    .await;
}

#[tokio::test]
async fn a_socket_tells_what_happens_and_closes_with_the_end() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), asking()).await;
        let (run, task) = workflow.start_asking(json!({})).await;
        let mut socket =
            connect(&server, &workflow.path(&format!("/stream?run_id={run}")), &server.token).await.unwrap();
        let mut told: Vec<Value> = Vec::new();
        let close = loop {
            match time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap() {
                Message::Text(text) => {
                    let event: Value = serde_json::from_str(&text).unwrap();
                    if event["event_type"] == "human_task_created" {
                        let answer = json!({ "approved": true, "result": { "note": "fine" } });
                        workflow.complete(&run, &task, answer).await.expect(200);
                    }
                    told.push(event);
                }
                Message::Close(frame) => break frame.unwrap(),
                _ => {}
            }
        };
        assert_eq!(close.code, CloseCode::Normal);
        assert_eq!(told, workflow.events(&run).await);
    })
    .await;
}

/// Takes events of a whole workflow until so many runs have completed; what was told of each.
async fn told_of_runs(events: &mut Events, runs: usize) -> HashMap<String, Vec<Value>> {
    let mut told: HashMap<String, Vec<Value>> = HashMap::new();
    let mut ended = 0;
    while ended < runs {
        let sent = events.next().await.unwrap();
        let event: Value = serde_json::from_str(&sent.data).unwrap();
        let run = event["run_id"].as_str().unwrap().to_owned();
        assert_eq!(sent.id.unwrap(), format!("{run}:{}", event["seq"]));
        ended += usize::from(event["event_type"] == "run_completed");
        told.entry(run).or_default().push(event);
    }
    told
}

#[tokio::test]
async fn all_runs_of_a_workflow_are_followed_from_now_on() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), asking()).await;
        let other = Workflow::publish(server.owner(), greeting()).await;
        let answer = || json!({ "approved": true, "result": { "note": "fine" } });
        let (before, task) = workflow.start_asking(json!({})).await;
        workflow.complete(&before, &task, answer()).await.expect(200);
        workflow.reaches(&before, "completed").await;
        let (under_way, open) = workflow.start_asking(json!({})).await;
        let known = workflow.events(&under_way).await.len();

        let mut events = Events::follow(&workflow.client, &workflow.path("/stream")).await;
        other.command_and_wait("start", json!({ "name": "Ada" })).await.expect(200);
        let (new, task) = workflow.start_asking(json!({})).await;
        workflow.complete(&new, &task, answer()).await.expect(200);
        workflow.complete(&under_way, &open, answer()).await.expect(200);

        let mut told = told_of_runs(&mut events, 2).await;
        assert_eq!(told.remove(&new).unwrap(), workflow.events(&new).await);
        // Of the one under way, what happened after its question.
        assert_eq!(told.remove(&under_way).unwrap(), workflow.events(&under_way).await[known..]);
        assert!(told.is_empty(), "{told:#?}");
    })
    .await;
}

#[tokio::test]
async fn a_socket_tells_of_all_runs_too() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), greeting()).await;
        let mut socket = connect(&server, &workflow.path("/stream"), &server.token).await.unwrap();
        let run = workflow.start(json!({ "name": "Ada" })).await;
        let mut told: Vec<Value> = Vec::new();
        while told.last().is_none_or(|event| event["event_type"] != "run_completed") {
            if let Message::Text(text) = time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap() {
                told.push(serde_json::from_str(&text).unwrap());
            }
        }
        assert_eq!(told, workflow.events(&run).await);
    })
    .await;
}

#[tokio::test]
async fn runs_of_another_node_of_the_same_database_are_told_as_well() {
    let Some(postgres) = agentruntime_tests::postgres::server() else { return };
    let database = postgres.database();
    let (here, there) = (Server::start_with(Some(&database), &[]), Server::start_with(Some(&database), &[]));
    let workflow = Workflow::publish(here.owner(), greeting()).await;
    let mut events = Events::follow(&workflow.client, &workflow.path("/stream")).await;
    let elsewhere = Workflow { client: there.holder(&here.token), id: workflow.id.clone() };
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(elsewhere.start(json!({ "name": "Ada" })).await);
        runs.push(workflow.start(json!({ "name": "Eve" })).await);
    }
    let told = told_of_runs(&mut events, runs.len()).await;
    for run in &runs {
        assert_eq!(told[run], workflow.events(run).await);
    }
    assert_eq!(told.len(), runs.len());
}

#[tokio::test]
async fn a_reader_that_reads_nothing_holds_no_run_up() {
    let server = Server::start();
    let workflow = Workflow::publish(server.owner(), asking_then_many()).await;
    let (run, task) = workflow.start_asking(json!({ "count": 400, "bytes": 20_000 })).await;
    let path = workflow.path(&format!("/stream?run_id={run}"));
    // More than the buffers of both ends hold is under way to this one.
    let mut socket = connect(&server, &path, &server.token).await.unwrap();
    workflow.complete(&run, &task, json!({ "approved": true })).await.expect(200);
    workflow.reaches(&run, "completed").await;
    // Then it reads: all of it in order, up to the end or to where it was let go.
    let mut last = 0;
    loop {
        match time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) => {
                let event: Value = serde_json::from_str(&text).unwrap();
                if event["event_type"] == "lagged" {
                    assert_eq!(event["resume_from"], last.to_string());
                    continue;
                }
                last += 1;
                assert_eq!(event["seq"], last);
            }
            Message::Close(_) => break,
            _ => {}
        }
    }
    assert!(last > 1);
}

#[tokio::test]
async fn who_may_not_read_may_not_follow() {
    let server = Server::start();
    let workflow = Workflow::publish(server.owner(), greeting()).await;
    let other = Workflow::publish(server.owner(), greeting()).await;
    let ended = workflow.command_and_wait("start", json!({ "name": "Ada" })).await.expect(200);
    let run = ended["run_id"].as_str().unwrap();
    let path = workflow.path(&format!("/stream?run_id={run}"));
    server.anybody().get(&path).await.refused(401, "NOT_AUTHENTICATED");
    server.owner().get(&other.path(&format!("/stream?run_id={run}"))).await.refused(404, "RUN_NOT_FOUND");
    server.anybody().get(&workflow.path("/stream")).await.refused(401, "NOT_AUTHENTICATED");
    let unknown = format!("/v1/workflows/{run}/stream");
    server.owner().get(&unknown).await.refused(404, "WORKFLOW_NOT_FOUND");
    server.owner().get(&format!("{path}&tenant=elsewhere")).await.refused(404, "PLACE_NOT_FOUND");
    server.owner().with("last-event-id", "x").get(&path).await.refused(400, "INVALID_EVENT_ID");
    match connect(&server, &path, "pat_wrong").await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 401),
        other => panic!("{other:?}"),
    }
}

pub(crate) type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

pub(crate) async fn connect(server: &Server, path: &str, token: &str) -> Result<Socket, Error> {
    let url = format!("{}{path}", server.url.replacen("http", "ws", 1));
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    Ok(connect_async(request).await?.0)
}
