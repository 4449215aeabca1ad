//! Runs whose data is large: read in parts, and nobody else waits or goes without memory for it.

use crate::{
    server::{Client, Server},
    workflow::Workflow,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What one step gives.
const STEP_BYTES: usize = 900_000;
/// What is waited for is there long before.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run of so many steps, each of which gives much.
async fn run(client: Client, steps: usize) -> (Workflow, String) {
    let script = format!("return {{ text = string.rep('x', {STEP_BYTES}) }}");
    let steps: Vec<Value> =
        (0..steps).map(|at| json!({ "id": format!("s{at}"), "type": "lua_script", "script": script })).collect();
    let last = json!({ "id": "last", "type": "lua_script", "script": "return { done = true }", "terminal": true });
    let steps = [steps, vec![last]].concat();
    let workflow = Workflow::publish(client, json!({ "steps": steps })).await;
    let ended = workflow.command_and_wait("start", json!({})).await.expect(200);
    assert_eq!(ended["status"], "completed", "{ended}");
    let run = ended["run_id"].as_str().unwrap().to_owned();
    (workflow, run)
}

#[tokio::test]
async fn a_page_of_events_ends_where_it_is_large_and_the_next_goes_on() {
    let server = Server::start();
    let (workflow, run) = run(server.owner(), 3).await;
    let (mut after, mut seqs, mut pages) = (0, Vec::new(), 0);
    loop {
        let page = workflow.get(&format!("/runs/{run}/events?after_seq={after}")).await.expect(200);
        assert!(page.to_string().len() < 2 * STEP_BYTES, "two steps are on a page");
        seqs.extend(page["items"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()));
        pages += 1;
        match page["next_after_seq"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert!(pages >= 3, "{pages} pages");
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "none is left out");
    let context = workflow.get(&format!("/runs/{run}/context")).await.expect(200);
    assert_eq!(context["steps"]["s2"]["result"]["text"].as_str().unwrap().len(), STEP_BYTES);
}

/// Asks for something and takes nothing of the answer.
async fn unread(server: &Server, path: &str, token: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(server.address().parse().unwrap()).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // The answer has begun: what it takes is taken.
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.unwrap();
    stream
}

#[tokio::test]
async fn answers_that_nobody_takes_have_so_much_room_and_so_much_time() {
    let server = Server::start_with(None, &["--read-seconds-max=2", "--workspace-bodies-bytes-max=2000000"]);
    // More than the machine's own buffers of a connection take.
    let (workflow, run) = run(server.owner(), 15).await;
    let path = workflow.path(&format!("/runs/{run}/context"));
    let mut stream = unread(&server, &path, &server.token).await;
    let refused = workflow.get(&format!("/runs/{run}/context")).await.refused(429, "TOO_MANY_BODIES");
    assert!(refused["error"].as_str().unwrap().contains("answers"), "{refused}");
    workflow.get(&format!("/runs/{run}/summary")).await.expect(200);
    let deadline = Instant::now() + PATIENCE;
    while workflow.get(&format!("/runs/{run}/context")).await.status != 200 {
        assert!(Instant::now() < deadline, "a client that takes nothing is let go");
        tokio::task::yield_now().await;
    }
    // What was on the way is still there; then the connection has ended.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 15 * STEP_BYTES, "the answer was not sent whole");
}
