//! What steps that call tools and models cost: against a service of its own, and servers in this process that answer at once.

use crate::{
    figure::{Figure, Scale, micros, percentile},
    service::{Service, sent},
    world,
};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Client;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Turns of an agent, a tool's call in each but the last.
const TURNS: usize = 50;

/// Calls of a tool in one run.
const CALLS_OF_A_SESSION: usize = 10;

/// `mcp-call`: calls of a tool as a step makes them, beside a bare client that says the same to the same server. The first call
/// of a run begins a session, and the others use it.
pub(crate) fn tool(scale: Scale) -> Result<()> {
    world::runtime()?.block_on(async {
        let server = Server::start(Server::tool).await?;
        let service = Service::start_with(&[LOOPBACK])?;
        let url = format!("{}/mcp", server.origin);
        let made = json!({ "name": "bench", "canonical_url": url });
        let made = sent(service.post("/v1/mcp/servers", &made)).await?;
        let path = format!("/v1/mcp/servers/{}", text(&made["id"])?);
        sent(service.post(&format!("{path}/discover"), &json!({}))).await?;
        sent(service.post(&format!("{path}/versions"), &json!({}))).await?;
        let instance = json!({ "name": "bench", "server_id": made["id"], "version": 1 });
        sent(service.post("/v1/mcp/instances", &instance)).await?;
        let source = format!("for _ = 1, {CALLS_OF_A_SESSION} do host.call('mcp.call', input) end return {{}}");
        let granted = json!({ "tools": [{ "instance_id": "bench", "tools": ["echo"] }] });
        let step = json!({ "id": "call", "type": "lua_script", "script": source, "capabilities": granted });
        let workflow = service.publish(&json!({ "steps": [step] })).await?;
        let asked = json!({ "instance_id": "bench", "tool": "echo", "arguments": { "text": "x" } });
        let (mut first, mut further) = (Beside::default(), Beside::default());
        let client = Client::new();
        // In turns, so that what the machine does besides falls on both.
        for _ in 0..scale.of(500, 10) {
            let begun = Instant::now();
            greet(&client, &url).await?;
            call(&client, &url).await?;
            first.bare.push(begun.elapsed());
            for _ in 1..CALLS_OF_A_SESSION {
                let begun = Instant::now();
                call(&client, &url).await?;
                further.bare.push(begun.elapsed());
            }
            let run = ended_with(&service, &workflow, &asked).await?;
            ensure!(run["status"] == "completed", "{run}");
            let events = format!("/v1/workflows/{workflow}/runs/{}/events", text(&run["run_id"])?);
            let events = sent(service.get(&events)).await?;
            let completed = events["items"].as_array().into_iter().flatten();
            let completed = completed.filter(|event| event["event_type"] == "request_completed");
            let took = completed.filter_map(|event| event["data"]["duration_ms"].as_f64());
            let mut took = took.map(|ms| Duration::from_secs_f64(ms / 1e3));
            first.brokered.extend(took.next());
            further.brokered.extend(took);
        }
        first.print("first call of a run", None);
        further.print("further call", Some(150.0));
        Ok(())
    })
}

/// What a bare client takes, and a step for the same.
#[derive(Default)]
struct Beside {
    bare: Vec<Duration>,
    brokered: Vec<Duration>,
}

impl Beside {
    fn print(&mut self, what: &str, aim: Option<f64>) {
        for (part, name) in [(0.5, "p50"), (0.99, "p99")] {
            let (alone, all) = (percentile(&mut self.bare, part), percentile(&mut self.brokered, part));
            Figure::lower("mcp-call", &format!("{what}: bare client, {name}"), micros(alone), "µs").print();
            Figure::lower("mcp-call", &format!("{what}: broker, checks and egress, {name}"), micros(all), "µs").print();
            if name == "p50" {
                let label = format!("{what}: more than the bare client, p50");
                let more = Figure::lower("mcp-call", &label, micros(all.saturating_sub(alone)), "µs");
                match aim {
                    Some(aim) => more.aim(aim).print(),
                    None => more.print(),
                }
            }
        }
    }
}

/// `agent-loop`: turns per second of agents whose model answers at once.
pub(crate) fn agent(scale: Scale) -> Result<()> {
    world::runtime()?.block_on(async {
        let server = Server::start(Server::model).await?;
        let service = Service::start_with(&[LOOPBACK])?;
        provide(&service, &server.origin).await?;
        let agent = json!({ "model": "direct.bench.m", "max_turns": TURNS });
        let step = json!({ "id": "work", "type": "agent_call", "agent": agent, "prompt": "go" });
        let workflow = service.publish(&json!({ "steps": [step] })).await?;
        ended(&service, &workflow).await?;
        for (agents, count) in [(1, scale.of(20, 1)), (16, scale.of(160, 16))] {
            let begun = Instant::now();
            for _ in 0..count / agents {
                let runs = try_join_all((0..agents).map(|_| ended(&service, &workflow))).await?;
                ensure!(runs.iter().all(|run| run["outputs"]["work"]["turns"] == TURNS), "{runs:?}");
            }
            let rate = (count * TURNS) as f64 / begun.elapsed().as_secs_f64();
            Figure::higher("agent-loop", &format!("turns per second, {agents} agents"), rate, "1/s").print();
        }
        Ok(())
    })
}

/// Calls of one run, all under way at once.
const CALLS_OF_A_RUN: usize = 100;

/// `parked-llm`: what a call that waits for its model holds.
pub(crate) fn parked(scale: Scale) -> Result<()> {
    let calls = scale.of(9_000, 2 * CALLS_OF_A_RUN);
    world::runtime()?.block_on(async {
        let server = Server::start(Server::silence).await?;
        let settings = ["egress-requests-max", "workspace-egress-requests-max"];
        let settings: Vec<String> = settings.iter().map(|name| format!("--{name}={calls}")).collect();
        let arguments: Vec<&str> = [LOOPBACK].into_iter().chain(settings.iter().map(String::as_str)).collect();
        let service = Service::start_with(&arguments)?;
        provide(&service, &server.origin).await?;
        let items: Vec<usize> = (0..CALLS_OF_A_RUN).collect();
        let ask =
            json!({ "id": "ask", "type": "llm_call", "model": "direct.bench.m", "prompt": "go", "timeout_s": 3600 });
        let each = json!({
            "id": "each", "type": "for_each", "for_each_items": items, "for_each_max_parallel": CALLS_OF_A_RUN,
            "for_each_body_steps": [ask],
        });
        let workflow = service.publish(&json!({ "steps": [each] })).await?;
        // What the first ones make the process hold, it holds in any case.
        start_until_heard(&service, &workflow, &server, CALLS_OF_A_RUN).await?;
        let before = service.resident()?;
        start_until_heard(&service, &workflow, &server, calls).await?;
        let each = (service.resident()? - before) * 1024.0 / (calls - CALLS_OF_A_RUN) as f64;
        let label = format!("memory of a call in flight, of {calls}");
        Figure::lower("parked-llm", &label, each, "KiB").aim(32.0).print();
        Ok(())
    })
}

/// Starts runs until so many calls in all have come to the server.
async fn start_until_heard(service: &Service, workflow: &str, server: &Server, calls: usize) -> Result<()> {
    let path = format!("/v1/workflows/{workflow}/command");
    let start = json!({ "command": "start", "params": {} });
    let heard = || server.heard.load(Ordering::SeqCst);
    for _ in 0..(calls - heard()) / CALLS_OF_A_RUN {
        sent(service.post(&path, &start)).await?;
    }
    while heard() < calls {
        server.came.notified().await;
    }
    Ok(())
}

/// Servers here may be reached.
const LOOPBACK: &str = "--egress-allowed-networks=127.0.0.0/8";

async fn provide(service: &Service, origin: &str) -> Result<()> {
    let body =
        json!({ "vendor": "openai_compatible", "name": "bench", "base_url": origin, "api_key": "sk-0123456789abcdef" });
    sent(service.post("/v1/providers", &body)).await.map(drop)
}

/// Starts a run and waits for its end.
async fn ended(service: &Service, workflow: &str) -> Result<Value> {
    ended_with(service, workflow, &json!({})).await
}

async fn ended_with(service: &Service, workflow: &str, input: &Value) -> Result<Value> {
    let path = format!("/v1/workflows/{workflow}/command?wait=60s");
    sent(service.post(&path, &json!({ "command": "start", "params": input }))).await
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("it is a text")
}

/// What a client says to a server that it knows before it calls: the same as a step's.
async fn greet(client: &Client, url: &str) -> Result<()> {
    let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "bench", "version": "1" } });
    say(client, url, Some(0), "initialize", hello).await?;
    say(client, url, None, "notifications/initialized", json!({})).await?;
    say(client, url, Some(1), "tools/list", json!({})).await
}

/// A call of the tool.
async fn call(client: &Client, url: &str) -> Result<()> {
    say(client, url, Some(2), "tools/call", json!({ "name": "echo", "arguments": { "text": "x" } })).await
}

async fn say(client: &Client, url: &str, id: Option<u32>, method: &str, params: Value) -> Result<()> {
    let mut message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
    if let Some(id) = id {
        message["id"] = json!(id);
    }
    let request = client.post(url).header("accept", "application/json, text/event-stream").json(&message);
    request.send().await?.error_for_status()?.bytes().await?;
    Ok(())
}

/// A server that answers at once, or never.
struct Server {
    origin: String,
    heard: Arc<AtomicUsize>,
    came: Arc<Notify>,
}

/// The body of an answer, if there is one.
type Reply = fn(&Value, &str) -> Option<String>;

impl Server {
    async fn start(reply: Reply) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let (heard, came) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (hearing, coming) = (heard.clone(), came.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, reply, hearing.clone(), coming.clone()));
            }
        });
        Ok(Self { origin, heard, came })
    }

    fn silence(_: &Value, _: &str) -> Option<String> {
        None
    }

    /// Wants a tool called until it was told often enough.
    fn model(_: &Value, body: &str) -> Option<String> {
        let message = match body.matches("\"role\":\"tool\"").count() + 1 < TURNS {
            false => json!({ "role": "assistant", "content": "done" }),
            true => {
                let call = json!({ "id": "c", "type": "function", "function": { "name": "again", "arguments": "{}" } });
                json!({ "role": "assistant", "content": null, "tool_calls": [call] })
            }
        };
        let usage = json!({ "prompt_tokens": 1, "completion_tokens": 1 });
        Some(json!({ "model": "m", "choices": [{ "message": message }], "usage": usage }).to_string())
    }

    /// A server of MCP with one tool.
    fn tool(message: &Value, _: &str) -> Option<String> {
        let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": "2025-11-25", "capabilities": { "tools": {} }, "serverInfo": { "name": "b", "version": "1" },
            }),
            Some("tools/list") => json!({ "tools": [{ "name": "echo", "inputSchema": schema }] }),
            Some("tools/call") => json!({ "content": [{ "type": "text", "text": "x" }] }),
            Some(method) if method.starts_with("notifications/") => return Some(String::new()),
            Some(_) => {
                let error = json!({ "code": -32601, "message": "Method not found" });
                return Some(json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }).to_string());
            }
            None => return Some(String::new()),
        };
        Some(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string())
    }
}

/// Answers each request of a connection.
async fn serve(mut stream: TcpStream, reply: Reply, heard: Arc<AtomicUsize>, came: Arc<Notify>) {
    let mut bytes = Vec::new();
    loop {
        let whole = bytes.windows(4).position(|end| end == b"\r\n\r\n").and_then(|end| {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.and_then(|length| length.parse::<usize>().ok()).unwrap_or_default();
            bytes
                .get(end + 4..end + 4 + length)
                .map(|body| (String::from_utf8_lossy(body).into_owned(), end + 4 + length))
        });
        let Some((body, length)) = whole else {
            let mut buffer = [0; 1024];
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            }
            continue;
        };
        bytes.drain(..length);
        heard.fetch_add(1, Ordering::SeqCst);
        came.notify_one();
        let message = serde_json::from_str(&body).unwrap_or_default();
        let Some(answer) = reply(&message, &body) else { continue };
        let status = if answer.is_empty() { "202 Accepted" } else { "200 OK" };
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all(format!("{head}{answer}").as_bytes()).await.is_err() {
            return;
        }
    }
}
