//! The service, killed with SIGKILL over and over between requests of an agent and their replies: of a model that streams, and of a
//! tool in a kept session. What was answered is not asked again, and what is in doubt is asked again under its key.

use crate::{
    connections::{LOOPBACK, text},
    mcp_server::{echo_tool, instance},
    server::Server,
    streaming::{end, piece},
    workflow::Workflow,
};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing,
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

/// How often the service is killed.
const KILLS: u32 = 100;
/// Calls of the tool in each run, each of which the model asks for.
const CALLS: usize = 3;

/// Something that came, and what becomes of it: nothing, where this is dropped.
struct Asked {
    key: String,
    /// That of the tool.
    session: Option<String>,
    fate: oneshot::Sender<Fate>,
}

/// What is said.
enum Fate {
    /// All of it.
    Whole(String),
    /// Its first piece, and no more.
    Begun(String),
}

/// A vendor and a server of MCP, which hand what they are asked to whoever decides about it.
#[derive(Clone)]
struct Outside {
    asked: mpsc::UnboundedSender<Asked>,
    sessions: Arc<AtomicUsize>,
}

impl Outside {
    async fn start() -> (String, mpsc::UnboundedReceiver<Asked>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (asked, receiver) = mpsc::unbounded_channel();
        let routes =
            Router::new().route("/v1/chat/completions", routing::post(model)).route("/mcp", routing::any(tool));
        let routes = routes.with_state(Self { asked, sessions: Arc::default() });
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (origin, receiver)
    }

    async fn decided(&self, headers: &HeaderMap) -> Option<Fate> {
        let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let (fate, decided) = oneshot::channel();
        let asked = Asked { key: value("idempotency-key").unwrap(), session: value("mcp-session-id"), fate };
        // The test may be over.
        let _ = self.asked.send(asked);
        decided.await.ok()
    }
}

/// Asks for the tool with what it says, until it has been called often enough.
async fn model(State(outside): State<Outside>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    assert_eq!(body["stream"], true);
    let turns = body["messages"].as_array().unwrap().iter().filter(|message| message["role"] == "assistant").count();
    let (text, is_whole) = match outside.decided(&headers).await {
        None => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(Fate::Whole(text)) => (text, true),
        Some(Fate::Begun(text)) => (text, false),
    };
    let mut events = vec![piece(&text)];
    if turns < CALLS {
        let function = json!({ "name": "echo", "arguments": json!({ "text": text }).to_string() });
        let call = json!({ "index": 0, "id": "call", "function": function });
        events.push(json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] }));
    }
    events.extend(end());
    let lines = events.into_iter().map(|event| {
        let event = event.as_str().map_or_else(|| event.to_string(), str::to_owned);
        Ok::<_, Infallible>(Bytes::from(format!("data: {event}\n\n")))
    });
    let body = match is_whole {
        true => Body::from_stream(stream::iter(lines)),
        false => Body::from_stream(stream::iter(lines).take(1).chain(stream::pending())),
    };
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

async fn tool(State(outside): State<Outside>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer =
        |result: Value| Json(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })).into_response();
    match message["method"].as_str() {
        Some("initialize") => {
            let mut begun = answer(json!({
                "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
                "serverInfo": { "name": "a test", "version": "1" },
            }));
            let session = format!("session-{}", outside.sessions.fetch_add(1, SeqCst));
            begun.headers_mut().insert("mcp-session-id", session.parse().unwrap());
            begun
        }
        Some("tools/list") => answer(json!({ "tools": [echo_tool()] })),
        Some("tools/call") => {
            let key = &message["params"]["_meta"]["agentruntime/idempotency_key"];
            assert_eq!(key, headers["idempotency-key"].to_str().unwrap());
            match outside.decided(&headers).await {
                Some(Fate::Whole(text) | Fate::Begun(text)) => {
                    answer(json!({ "content": [], "structuredContent": { "text": text } }))
                }
                None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
        Some(method) if method.starts_with("notifications/") => StatusCode::ACCEPTED.into_response(),
        Some(_) => {
            let error = json!({ "code": -32601, "message": "Method not found" });
            Json(json!({ "jsonrpc": "2.0", "id": message["id"], "error": error })).into_response()
        }
        None if method == Method::DELETE => StatusCode::OK.into_response(),
        None => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

/// An agent at both.
async fn agent(server: &Server, origin: &str) -> Workflow {
    let owner = server.owner();
    instance(&owner, "crm", &format!("{origin}/mcp")).await;
    let provider = json!({ "vendor": "openai_compatible", "name": "v", "base_url": format!("{origin}/v1") });
    owner.post("/v1/providers", provider).await.expect(201);
    let tools = json!([{ "instance_id": "crm", "tool_name": "echo" }]);
    let agent = json!({ "model": "direct.v.m", "llm_params": { "stream": true }, "tools": tools });
    let step = json!({ "id": "serve", "type": "agent_call", "agent": agent, "prompt": "Work." });
    Workflow::publish(owner, json!({ "steps": [step] })).await
}

/// What was asked so far.
#[derive(Default)]
struct Counted {
    /// By key: what was answered last.
    answers: BTreeMap<String, Option<String>>,
    /// How often a request came again.
    repeated: u32,
    /// The one that came last.
    last: Option<String>,
    /// How many calls each session had.
    sessions: BTreeMap<String, u32>,
}

impl Counted {
    /// Notes what came: the same as before, or what comes after it where that was answered.
    fn note(&mut self, asked: &Asked) {
        let (run, number) = parts(&asked.key);
        if let Some((before, last)) = self.last.as_deref().map(parts).filter(|(before, _)| *before == run) {
            assert!(number >= last, "{} was asked for after number {last} of {before}", asked.key);
            let is_answered = self.answers[self.last.as_ref().unwrap()].is_some();
            assert!(number == last || is_answered, "{} was asked for, and number {last} is in doubt", asked.key);
            self.repeated += u32::from(number == last);
        }
        self.answers.entry(asked.key.clone()).or_default();
        self.last = Some(asked.key.clone());
        if let Some(session) = &asked.session {
            *self.sessions.entry(session.clone()).or_default() += 1;
        }
    }

    /// A run has in its journal what was answered, each once.
    async fn check(&self, workflow: &Workflow, run: &str) {
        let events = workflow.events(run).await;
        let of = |kind: &str| -> Vec<&Value> {
            events.iter().filter(|event| event["event_type"] == kind).map(|event| &event["data"]).collect()
        };
        let (made, completed) = (of("request_made"), of("request_completed"));
        assert_eq!(completed.len(), made.len());
        let outside = |data: &&&Value| data["capability"] == "llm.request" || data["capability"] == "mcp.call";
        let asked: Vec<u64> = made.iter().filter(outside).map(|data| data["number"].as_u64().unwrap()).collect();
        assert_eq!(asked.len(), 2 * CALLS + 1);
        for number in asked {
            let answer = self.answers[&format!("{run}/serve/{number}")].clone().unwrap();
            let completed = completed.iter().find(|data| data["number"] == number).unwrap();
            assert!(completed.to_string().contains(&answer), "{answer} of number {number}: {completed}");
        }
        let turns = &events.last().unwrap()["data"]["outputs"]["serve"]["turns"];
        assert_eq!(*turns, CALLS + 1);
    }
}

fn parts(key: &str) -> (&str, u32) {
    let (run, number) = key.split_once("/serve/").unwrap();
    (run, number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_service_is_killed_again_and_again_repeats_what_is_in_doubt_and_nothing_else() {
    let (origin, mut asked) = Outside::start().await;
    let mut server = Server::start_with(None, &LOOPBACK);
    let mut workflow = agent(&server, &origin).await;
    let mut random = Random(0x5ca1_ab1e);
    let (mut counted, mut runs) = (Counted::default(), vec![workflow.start(json!({})).await]);
    let (mut kills, mut answers) = (0, 0);
    while kills < KILLS {
        let run = runs.last().unwrap();
        let asked = tokio::select! {
            biased;
            asked = asked.recv() => asked.unwrap(),
            ended = workflow.reaches(run, "completed") => {
                assert_eq!(text(&ended["run_id"]), *run);
                runs.push(workflow.start(json!({})).await);
                continue;
            }
        };
        counted.note(&asked);
        answers += 1;
        let answer = format!("answer {answers}.");
        let chance = random.below(6);
        let is_tool = asked.session.is_some();
        let fate = match chance {
            0 => None,
            1 => Some(Fate::Begun(answer.clone())),
            _ => Some(Fate::Whole(answer.clone())),
        };
        // Who gets no answer waits for it until it is killed. Whoever asked may be gone by now.
        let held = match fate {
            Some(fate) => asked.fate.send(fate).err().and(None),
            None => Some(asked.fate),
        };
        // An answer of a model that has only begun is none.
        if chance > 1 || (chance == 1 && is_tool) {
            counted.answers.insert(asked.key, Some(answer));
        }
        if chance < 3 {
            kills += 1;
            server.kill();
            server = server.restart_with(&LOOPBACK);
            workflow.client = server.owner();
        }
        drop(held);
    }
    runs.pop();
    assert!(runs.len() > 3, "enough runs come to their end in between: {}", runs.len());
    assert!(counted.repeated > KILLS / 4, "enough was in doubt: {}", counted.repeated);
    assert!(counted.sessions.values().any(|calls| *calls > 1), "calls shared a session: {:?}", counted.sessions);
    for run in runs {
        counted.check(&workflow, &run).await;
    }
}

/// Numbers that are the same in every run of the test.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
