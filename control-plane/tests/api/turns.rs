//! How many requests of steps are under way at once: of a workspace, and of all.

use crate::{server::Server, vendors::chat, workflow::Workflow};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

/// A request that waits for its reply.
struct Asked {
    path: String,
    stream: TcpStream,
}

/// A server that leaves each request to the test.
async fn serve() -> (String, UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The test may be over.
            let _ = sender.send(read(stream).await);
        }
    });
    (origin, asked)
}

/// Reads a request to its end.
async fn read(mut stream: TcpStream) -> Asked {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().filter_map(|line| line.split_once(": "));
            let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            if body.len() >= length.next().map_or(0, |(_, length)| length.parse().unwrap()) {
                let path = head.split(' ').nth(1).unwrap().to_owned();
                return Asked { path, stream };
            }
        }
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
            _ => return Asked { path: String::new(), stream },
        }
    }
}

async fn reply(asked: Asked) {
    say(asked, "204 No Content", "").await;
}

/// Answers with a status, perhaps further headers after it, and a body.
async fn say(mut asked: Asked, head: &str, body: &str) {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let answer = format!("HTTP/1.1 {head}\r\n{length}connection: close\r\n\r\n{body}");
    asked.stream.write_all(answer.as_bytes()).await.unwrap();
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

#[tokio::test]
async fn a_model_that_is_asked_again_later_keeps_nobody_waiting_meanwhile() {
    let limits = ["--egress-allowed-networks=127.0.0.0/8", "--egress-requests-max=1"];
    let (server, (origin, mut asked)) = (Server::start_with(None, &limits), serve().await);
    let provider = json!({ "vendor": "openai", "base_url": format!("{origin}/v1"), "api_key": "sk-x" });
    server.owner().post("/v1/providers", provider).await.expect(201);
    let ask = json!({ "id": "ask", "type": "llm_call", "model_ref": "direct.openai.gpt-x", "prompt": "Hello." });
    let asking = Workflow::publish(server.owner(), json!({ "steps": [ask] })).await;
    let source = "return {status = http.fetch(input.url).status}";
    let fetch = json!({ "id": "fetch", "type": "lua_script", "script": source, "capabilities": { "hosts": [origin] } });
    let fetching = Workflow::publish(server.owner(), json!({ "steps": [fetch] })).await;

    let put_off = asking.start(json!({})).await;
    let first = asked.recv().await.unwrap();
    assert_eq!(first.path, "/v1/chat/completions");
    let other = fetching.start(json!({ "url": format!("{origin}/other") })).await;
    fetching.happens(&other, "request_made").await;
    say(first, "429 Too Many Requests\r\nretry-after-ms: 500", "{}").await;
    // What waits goes out while the model is left alone, and before it is asked again.
    let next = asked.recv().await.unwrap();
    assert_eq!(next.path, "/other");
    reply(next).await;
    fetching.reaches(&other, "completed").await;
    let again = asked.recv().await.unwrap();
    assert_eq!(again.path, "/v1/chat/completions");
    say(again, "200 OK", &chat("Hello").to_string()).await;
    asking.reaches(&put_off, "completed").await;
}
