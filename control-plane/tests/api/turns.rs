//! How many requests of steps are under way at once: of a workspace, and of all.

use crate::{server::Server, workflow::Workflow};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

/// A server that leaves each request to the test.
async fn serve() -> (String, UnboundedReceiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = unbounded_channel();
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
            // The test may be over.
            let _ = sender.send(stream);
        }
    });
    (origin, asked)
}

async fn reply(mut stream: TcpStream) {
    stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
}

#[tokio::test]
async fn a_request_beyond_those_of_its_workspace_waits_for_its_turn_and_goes_out_then() {
    two_of_three_are_under_way("--workspace-egress-requests-max=2").await;
}

#[tokio::test]
async fn a_request_beyond_those_of_its_process_waits_for_its_turn_and_goes_out_then() {
    two_of_three_are_under_way("--egress-requests-max=2").await;
}

async fn two_of_three_are_under_way(limit: &str) {
    let limits = ["--egress-allowed-networks=127.0.0.0/8", limit];
    let (server, (origin, mut asked)) = (Server::start_with(None, &limits), serve().await);
    let source = "local ask = {'http.fetch', {url = input.url}} local replies = host.all{ask, ask, ask} return {count = #replies}";
    let step = json!({ "id": "ask", "type": "lua_script", "script": source, "timeout_s": 30, "capabilities": { "hosts": [origin] } });
    let workflow = Workflow::publish(server.owner(), json!({ "steps": [step] })).await;
    let run = workflow.start(json!({ "url": origin })).await;
    let (first, second) = (asked.recv().await.unwrap(), asked.recv().await.unwrap());
    // It is written down that the third is asked for; it does not go out before it is its turn.
    let events = workflow.events(&run).await;
    assert_eq!(events.iter().filter(|event| event["event_type"] == "request_made").count(), 3);
    assert!(asked.try_recv().is_err());
    reply(first).await;
    let third = asked.recv().await.unwrap();
    reply(second).await;
    reply(third).await;
    workflow.reaches(&run, "completed").await;
}
