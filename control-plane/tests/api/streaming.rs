//! Answers of models that come piece by piece: told to those who watch, recorded as any other.

use crate::{
    mcp_server::{McpServer, instance},
    server::{Client, Server, on_both_with},
    stream::{Events, Sent, Socket, connect},
    vendors::{Pace, Said, Vendor, chat, ok, paced, streamed},
    workflow::{PATIENCE, Workflow},
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time;
use tokio_tungstenite::tungstenite::Message;

const KEY: &str = "sk-live-aa51c0ffee77";
/// What is served here may be reached.
pub(crate) const LOOPBACK: [&str; 1] = ["--egress-allowed-networks=127.0.0.0/8"];

pub(crate) async fn provide(client: &Client, vendor: &str, origin: &str) -> String {
    let name = format!("p{}", origin.rsplit(':').next().unwrap());
    let body = json!({ "vendor": vendor, "name": name, "base_url": format!("{origin}/v1"), "api_key": KEY });
    client.post("/v1/providers", body).await.expect(201);
    format!("direct.{name}.m")
}

/// A workflow of a step that asks a model and wants its answer in pieces.
pub(crate) async fn asking(client: Client, model: &str, mut params: Value) -> Workflow {
    params["stream"] = true.into();
    let step =
        json!({ "id": "ask", "type": "llm_call", "model_ref": model, "prompt": "Say hello.", "llm_params": params });
    Workflow::publish(client, json!({ "steps": [step] })).await
}

async fn ended(workflow: &Workflow) -> Value {
    workflow.command_and_wait("start", json!({})).await.expect(200)
}

/// A piece of an answer in the form of OpenAI's chat.
pub(crate) fn piece(text: &str) -> Value {
    json!({ "model": "m-1", "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] })
}

/// How it ends.
pub(crate) fn end() -> [Value; 3] {
    [
        json!({ "model": "m-1", "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }),
        json!({ "model": "m-1", "choices": [], "usage": { "prompt_tokens": 11, "completion_tokens": 3 } }),
        json!("[DONE]"),
    ]
}

pub(crate) fn whole(texts: &[&str]) -> Said {
    streamed(&texts.iter().map(|text| piece(text)).chain(end()).collect::<Vec<_>>())
}

/// What a step of a run gave.
pub(crate) async fn given(workflow: &Workflow, run: &str, step: &str) -> Value {
    workflow.reaches(run, "completed").await;
    workflow.events(run).await.pop().unwrap()["data"]["outputs"][step].take()
}

/// The next piece that is told, which has no id.
fn delta(sent: &Sent) -> Option<Value> {
    let is_delta = sent.kind.as_deref() == Some("step_output_delta");
    assert_eq!(is_delta, sent.id.is_none(), "{sent:?}");
    is_delta.then(|| serde_json::from_str(&sent.data).unwrap())
}

pub(crate) async fn next_delta(events: &mut Events) -> Value {
    loop {
        if let Some(delta) = delta(&events.next().await.unwrap()) {
            return delta;
        }
    }
}

/// What is told to the end of the run: the texts of the pieces, and the events.
pub(crate) async fn rest(events: &mut Events) -> (String, Vec<Value>) {
    let (mut text, mut told) = (String::new(), Vec::new());
    loop {
        let sent = events.next().await.unwrap();
        if sent.kind.as_deref() == Some("end") {
            return (text, told);
        }
        match delta(&sent) {
            Some(delta) => text += delta["data"]["text"].as_str().unwrap(),
            None => told.push(serde_json::from_str(&sent.data).unwrap()),
        }
    }
}

/// The next message of a socket; nothing at the end.
async fn next_message(socket: &mut Socket) -> Option<Value> {
    loop {
        match time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

pub(crate) async fn follow(workflow: &Workflow, run: &str) -> Events {
    Events::follow(&workflow.client, &workflow.path(&format!("/stream?run_id={run}"))).await
}

/// Sends pieces, then the end.
pub(crate) fn finish(pace: Pace, texts: &[&str]) {
    texts.iter().for_each(|text| pace.event(&piece(text)));
    end().iter().for_each(|event| pace.event(event));
}

#[tokio::test]
async fn what_a_model_says_is_told_while_it_says_it_and_recorded_once() {
    on_both_with(&LOOPBACK, |server| async move {
        let (pace, said) = paced();
        let vendor = Vendor::start(vec![said]).await;
        let model = provide(&server.owner(), "openai_compatible", &vendor.origin).await;
        let workflow = asking(server.owner(), &model, json!({})).await;
        let run = workflow.start(json!({})).await;
        let mut events = follow(&workflow, &run).await;
        let path = workflow.path(&format!("/stream?run_id={run}"));
        let mut socket = connect(&server, &path, &server.token).await.unwrap();
        workflow.happens(&run, "request_made").await;
        pace.event(&piece("Hello"));
        let first = next_delta(&mut events).await;
        assert_eq!(
            first,
            json!({
                "event_type": "step_output_delta", "run_id": run, "step_id": "ask", "attempt": 1,
                "data": { "number": 1, "part": 0, "text": "Hello" },
            })
        );
        // The vendor has not said more yet: this came before the end, on both ways.
        let mut told = Vec::new();
        let first = loop {
            match next_message(&mut socket).await.unwrap() {
                event if event["event_type"] == "step_output_delta" => break event,
                event => told.push(event),
            }
        };
        assert_eq!(
            (&first["data"]["text"], &told.last().unwrap()["event_type"]),
            (&json!("Hello"), &json!("request_made"))
        );
        finish(pace, &[" A", "da"]);
        assert_eq!(rest(&mut events).await.0, " Ada");

        let journal = workflow.events(&run).await;
        let result = given(&workflow, &run, "ask").await;
        assert_eq!(
            (&result["text"], &result["tokens_in"], &result["tokens_out"], &result["finish_reason"], &result["model"]),
            (&json!("Hello Ada"), &json!(11), &json!(3), &json!("stop"), &json!("m-1")),
            "{result}"
        );
        assert!(!json!(journal).to_string().contains("delta"), "{journal:#?}");
        let body = &vendor.came()[0].body;
        assert_eq!((&body["stream"], &body["stream_options"]["include_usage"]), (&json!(true), &json!(true)));

        let mut said = String::new();
        while let Some(event) = next_message(&mut socket).await {
            match event["event_type"] == "step_output_delta" {
                true => said += event["data"]["text"].as_str().unwrap(),
                false => told.push(event),
            }
        }
        assert_eq!((said.as_str(), told), (" Ada", journal));
    })
    .await;
}

#[tokio::test]
async fn each_vendor_streams_in_its_own_form_and_the_answer_is_the_same() {
    let server = Server::start_with(None, &LOOPBACK);
    let text = |text: &str| json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } });
    let messages = vec![
        json!({ "type": "message_start", "message": { "model": "m-1", "usage": { "input_tokens": 11, "output_tokens": 1 } } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        text("Hel"),
        text("lo"),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 3 } }),
        json!({ "type": "message_stop" }),
    ];
    let generated = |text: &str| json!({ "candidates": [{ "content": { "role": "model", "parts": [{ "text": text }] } }], "usageMetadata": { "promptTokenCount": 11, "candidatesTokenCount": 3 } });
    let mut last = generated("lo");
    last["candidates"][0]["finishReason"] = "STOP".into();
    let answer = json!({
        "model": "m-1", "status": "completed", "usage": { "input_tokens": 11, "output_tokens": 3 },
        "output": [{ "type": "message", "content": [{ "type": "output_text", "text": "Hello" }] }],
    });
    let responses = vec![
        json!({ "type": "response.created" }),
        json!({ "type": "response.output_text.delta", "delta": "Hello" }),
        json!({ "type": "response.completed", "response": answer }),
    ];
    for (vendor, params, events, path, query) in [
        ("openai", json!({}), [vec![piece("Hel"), piece("lo")], end().to_vec()].concat(), "/v1/chat/completions", None),
        ("openai", json!({ "api": "responses" }), responses, "/v1/responses", None),
        ("anthropic", json!({}), messages, "/v1/messages", None),
        ("google", json!({}), vec![generated("Hel"), last], "/v1/models/m:streamGenerateContent", Some("alt=sse")),
    ] {
        let stand_in = Vendor::start(vec![streamed(&events)]).await;
        let model = provide(&server.owner(), vendor, &stand_in.origin).await;
        let workflow = asking(server.owner(), &model, params).await;
        let ended = ended(&workflow).await;
        let result = &ended["outputs"]["ask"];
        assert_eq!(
            (&result["text"], &result["tokens_in"], &result["tokens_out"]),
            (&json!("Hello"), &json!(11), &json!(3)),
            "{vendor}: {ended}"
        );
        let came = &stand_in.came()[0];
        assert_eq!((came.path.as_str(), came.query.as_deref()), (path, query));
        assert_eq!(came.body.get("stream"), (vendor != "google").then_some(&json!(true)), "{}", came.body);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let server = Server::start_with(None, &LOOPBACK);
    let (cut, said) = paced();
    // The connection breaks; then the stream ends well, and the answer does not; then it comes.
    let vendor = Vendor::start(vec![said, streamed(&[piece("Hello")]), whole(&["Hello", " Ada"])]).await;
    let model = provide(&server.owner(), "openai_compatible", &vendor.origin).await;
    let workflow = asking(server.owner(), &model, json!({})).await;
    let run = workflow.start(json!({})).await;
    let mut events = follow(&workflow, &run).await;
    cut.event(&piece("Hell"));
    assert_eq!(next_delta(&mut events).await["data"], json!({ "number": 1, "part": 0, "text": "Hell" }));
    cut.break_off();
    // It begins anew, each time.
    for _ in 0..2 {
        assert_eq!(next_delta(&mut events).await["data"], json!({ "number": 1, "part": 0, "text": "Hello" }));
    }
    rest(&mut events).await;
    assert_eq!(given(&workflow, &run, "ask").await["text"], "Hello Ada");
    let keys: Vec<_> = vendor.came().iter().map(|came| came.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys, vec![keys[0].clone(); 3], "a repetition is known as one");
}

#[tokio::test]
async fn a_vendor_that_fails_in_the_middle_is_told_with_its_code() {
    let server = Server::start_with(None, &LOOPBACK);
    let openai = json!({ "error": { "message": "The server had an error", "code": "server_error" } });
    let anthropic = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
    let google = json!({ "error": { "code": 503, "message": "busy", "status": "UNAVAILABLE" } });
    let failed = json!({ "type": "response.failed", "response": { "error": { "code": "rate_limit_exceeded", "message": "slow" } } });
    let flat = json!({ "type": "error", "code": "invalid_prompt", "message": "no" });
    for (vendor, params, event, code) in [
        ("openai", json!({}), openai, json!("server_error")),
        ("anthropic", json!({}), anthropic, json!("overloaded_error")),
        ("google", json!({}), google, json!(503)),
        ("openai", json!({ "api": "responses" }), failed, json!("rate_limit_exceeded")),
        ("openai", json!({ "api": "responses" }), flat, json!("invalid_prompt")),
    ] {
        let stand_in = Vendor::start(vec![streamed(&[piece("Hel"), event])]).await;
        let model = provide(&server.owner(), vendor, &stand_in.origin).await;
        let workflow = asking(server.owner(), &model, params).await;
        let error = ended(&workflow).await["error"].take();
        assert_eq!(
            (&error["code"], &error["details"]["vendor_code"]),
            (&json!("LLM_REQUEST_FAILED"), &code),
            "{error}"
        );
        assert!(error["message"].as_str().unwrap().contains("in the middle of its answer"), "{error}");
        assert_eq!(stand_in.came().len(), 1, "{vendor}");
    }
}

#[tokio::test]
async fn what_is_no_stream_is_read_as_it_is_or_refused() {
    let server = Server::start_with(None, &LOOPBACK);
    let long = "x".repeat(400_000);
    for (said, params, part) in [
        // A server that does not know how to answers at once.
        (ok(chat("Hello")), json!({}), None),
        (streamed(&[json!("not json")]), json!({}), Some("no stream of events")),
        (whole(&[&long, &long, &long]), json!({}), Some("longer than the 1048576 bytes")),
        (whole(&[&long, &long]), json!({ "stream_options": null }), None),
    ] {
        let vendor = Vendor::start(vec![said]).await;
        let model = provide(&server.owner(), "openai_compatible", &vendor.origin).await;
        let workflow = asking(server.owner(), &model, params).await;
        let ended = ended(&workflow).await;
        match part {
            None => assert_eq!(ended["status"], "completed", "{ended:.200}"),
            Some(part) => {
                assert_eq!(ended["error"]["code"], "LLM_REQUEST_FAILED", "{ended}");
                assert!(ended["error"]["message"].as_str().unwrap().contains(part), "{ended}");
            }
        }
        assert_eq!(vendor.came().len(), 1);
    }
    let vendor = Vendor::start(vec![ok(chat("Hello"))]).await;
    let model = provide(&server.owner(), "openai_compatible", &vendor.origin).await;
    let step = json!({ "id": "ask", "type": "llm_call", "model_ref": model, "prompt": "x", "llm_params": { "stream": "yes" } });
    let workflow = Workflow::publish(server.owner(), json!({ "steps": [step] })).await;
    let ended = ended(&workflow).await;
    assert_eq!(ended["error"]["code"], "INVALID_INPUT", "{ended}");
    assert!(vendor.came().is_empty());
}

#[tokio::test]
async fn a_key_that_a_vendor_says_in_pieces_is_told_to_nobody_and_recorded_nowhere() {
    let server = Server::start_with(None, &LOOPBACK);
    let (pace, said) = paced();
    let vendor = Vendor::start(vec![said]).await;
    let model = provide(&server.owner(), "openai_compatible", &vendor.origin).await;
    let workflow = asking(server.owner(), &model, json!({})).await;
    let run = workflow.start(json!({})).await;
    let mut events = follow(&workflow, &run).await;
    pace.event(&piece("Your key is "));
    assert_eq!(next_delta(&mut events).await["data"]["text"], "Your key is ");
    let texts: Vec<String> = KEY.chars().map(String::from).collect();
    let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    texts.push(".");
    finish(pace, &texts);
    let (text, told) = rest(&mut events).await;
    assert_eq!(text, "[redacted].");
    assert!(!json!(told).to_string().contains(KEY));
    assert_eq!(given(&workflow, &run, "ask").await["text"], "Your key is [redacted].");
    for (path, bytes) in server.kept().await {
        assert!(!bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()), "the key is in {path}");
    }
}

#[tokio::test]
async fn an_agent_is_heard_in_each_of_its_turns_and_calls_tools_that_come_in_pieces() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        instance(&owner, "crm", &mcp.url()).await;
        let call = |index: u32, id: Value, name: Value, arguments: &str| {
            let call = json!({ "index": index, "id": id, "function": { "name": name, "arguments": arguments } });
            json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] })
        };
        let turn: Vec<Value> = [
            piece("I look."),
            call(0, json!("a"), json!("echo"), "{\"text\":"),
            call(1, json!("b"), json!("echo"), "{\"text\":\"two\"}"),
            call(0, Value::Null, Value::Null, "\"one\"}"),
        ]
        .into_iter()
        .chain(end())
        .collect();
        let (pace, last) = paced();
        let vendor = Vendor::start(vec![streamed(&turn), last]).await;
        let model = provide(&owner, "openai_compatible", &vendor.origin).await;
        let agent = json!({
            "model": model, "llm_params": { "stream": true }, "tools": [{ "instance_id": "crm", "tool_name": "echo" }],
        });
        let step = json!({ "id": "work", "type": "agent_call", "agent": agent, "prompt": "Work." });
        let workflow = Workflow::publish(owner, json!({ "steps": [step] })).await;
        let run = workflow.start(json!({})).await;
        let mut events = follow(&workflow, &run).await;
        pace.event(&piece("Done"));
        let mut numbers = Vec::new();
        let told = loop {
            let delta = next_delta(&mut events).await;
            numbers.push(delta["data"]["number"].as_u64().unwrap());
            if delta["data"]["text"] == "Done" {
                break delta;
            }
        };
        assert_eq!((&told["step_id"], &told["data"]["part"]), (&json!("work"), &json!(0)), "{told}");
        finish(pace, &["."]);
        rest(&mut events).await;
        let result = given(&workflow, &run, "work").await;
        assert_eq!(
            (&result["text"], &result["turns"], &result["tokens_in"], &result["tokens_out"]),
            (&json!("Done."), &json!(2), &json!(22), &json!(6)),
            "{result}"
        );
        assert_eq!(result["tool_calls"][0]["arguments"], json!({ "text": "one" }), "{result}");
        assert_eq!(mcp.heard_of("tools/call").len(), 2);
        assert!(numbers.windows(2).all(|pair| pair[0] <= pair[1]), "{numbers:?}");
    })
    .await;
}
