//! Traces: what a receiver of OTLP gets.

use crate::server::{Client, Server};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
};

/// A receiver of OTLP over HTTP that keeps the bytes it is sent.
struct Receiver {
    url: String,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = received.clone();
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let mut length = 0;
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap() > 2 {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                kept.lock().unwrap().extend(body);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                reader.get_mut().write_all(answer).unwrap();
            }
        });
        Self { url, received }
    }

    /// How often these bytes were received.
    fn count(&self, bytes: &[u8]) -> usize {
        self.received.lock().unwrap().windows(bytes.len()).filter(|window| *window == bytes).count()
    }
}

/// Publishes a workflow of one step, and runs it.
async fn run(client: &Client, traced: &Client) -> Value {
    let graph =
        json!({ "name": "traced", "steps": [{ "id": "the-step", "type": "lua_script", "script": "return {}" }] });
    let made = client.post("/v1/workflows", json!({ "name": "traced", "graph": graph })).await.expect(201);
    let path = format!("/v1/workflows/{}", made["id"].as_str().unwrap());
    client.post(&format!("{path}/versions"), json!({})).await.expect(201);
    let start = json!({ "command": "start", "params": {} });
    traced.post(&format!("{path}/command?wait=30s"), start).await.expect(200)
}

#[cfg(unix)]
#[tokio::test]
async fn one_trace_goes_from_the_client_to_the_step() {
    let receiver = Receiver::start();
    let mut server = Server::start_with(None, &["--otlp-endpoint", &receiver.url]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = server.owner().with("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"));
    let answer = run(&server.owner(), &traced).await;
    assert_eq!(answer["status"], "completed", "{answer:#}");
    // What was not sent yet is sent at the end.
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&trace[at * 2..at * 2 + 2], 16).unwrap()).collect();
    // The request, the run and the step; other requests have traces of their own.
    assert_eq!(receiver.count(&id), 3);
    for name in
        ["POST /v1/workflows/{workflow_id}/command", "run", "step", "the-step", answer["run_id"].as_str().unwrap()]
    {
        assert!(receiver.count(name.as_bytes()) > 0, "no span has `{name}`");
    }
    assert_eq!(receiver.count(server.token.as_bytes()), 0);
}

#[tokio::test]
async fn runs_are_counted() {
    let server = Server::start();
    run(&server.owner(), &server.owner()).await;
    let numbers = server.anybody().get("/metrics").await.expect(200);
    let numbers = numbers.as_str().unwrap();
    assert!(numbers.contains("agentruntime_runs_started_total 1"), "{numbers}");
    assert!(numbers.contains(r#"agentruntime_runs_finished_total{status="completed"} 1"#), "{numbers}");
    assert!(numbers.contains("agentruntime_commit_batch_bucket"), "{numbers}");
}
