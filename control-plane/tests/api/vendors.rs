//! Stand-ins for vendors of language models.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::mpsc};

/// A request as it came to a vendor.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// A stand-in for a vendor: gives the answers that it was told, in turn, the last for ever, and keeps what came.
#[derive(Clone)]
pub(crate) struct Vendor {
    pub(crate) origin: String,
    state: Arc<Mutex<(VecDeque<Said>, Vec<Came>)>>,
}

/// An answer.
#[derive(Clone)]
pub(crate) struct Said {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    paced: Option<Arc<Mutex<Pieces>>>,
}

type Pieces = mpsc::UnboundedReceiver<io::Result<Bytes>>;

/// An answer that comes as it is told to; it ends when this is dropped.
pub(crate) struct Pace(mpsc::UnboundedSender<io::Result<Bytes>>);

impl Pace {
    /// Sends the next event.
    pub(crate) fn event(&self, event: &Value) {
        self.0.send(Ok(line(event).into())).unwrap();
    }

    /// Breaks the connection off.
    pub(crate) fn break_off(self) {
        self.0.send(Err(io::Error::other("broken off"))).unwrap();
    }
}

fn line(event: &Value) -> String {
    // OpenAI's `[DONE]` is no JSON.
    format!("data: {}\n\n", event.as_str().map_or_else(|| event.to_string(), str::to_owned))
}

/// An answer that is one.
pub(crate) fn ok(body: Value) -> Said {
    Said { status: 200, headers: Vec::new(), body: body.to_string(), paced: None }
}

/// An answer that comes as events, all at once.
pub(crate) fn streamed(events: &[Value]) -> Said {
    Said { headers: EVENTS.to_vec(), ..ok(json!({})) }.written(&events.iter().map(line).collect::<String>())
}

/// An answer that comes as events, each when it is told to.
pub(crate) fn paced() -> (Pace, Said) {
    let (sender, pieces) = mpsc::unbounded_channel();
    (Pace(sender), Said { headers: EVENTS.to_vec(), paced: Some(Arc::new(Mutex::new(pieces))), ..ok(json!({})) })
}

const EVENTS: [(&str, &str); 1] = [("content-type", "text/event-stream; charset=utf-8")];

/// An answer that is none.
pub(crate) fn no(status: u16, headers: &[(&'static str, &'static str)], body: Value) -> Said {
    Said { status, headers: headers.to_vec(), ..ok(body) }
}

impl Said {
    /// With a body that is written as it is here.
    pub(crate) fn written(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }
}

impl Vendor {
    pub(crate) async fn start(said: Vec<Said>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let vendor = Self { origin, state: Arc::new(Mutex::new((said.into(), Vec::new()))) };
        let routes = Router::new().fallback(answer).with_state(vendor.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        vendor
    }

    pub(crate) fn came(&self) -> Vec<Came> {
        self.state.lock().unwrap().1.clone()
    }
}

async fn answer(State(vendor): State<Vendor>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let (said, came) = &mut *vendor.state.lock().unwrap();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let query = uri.query().map(str::to_owned);
    came.push(Came { path: uri.path().to_owned(), query, headers, body });
    let next = if said.len() > 1 { said.pop_front().unwrap() } else { said.front().unwrap().clone() };
    let mut response = match next.paced {
        Some(pieces) => {
            let poll = move |context: &mut std::task::Context<'_>| pieces.lock().unwrap().poll_recv(context);
            Body::from_stream(futures_util::stream::poll_fn(poll)).into_response()
        }
        None => next.body.into_response(),
    };
    *response.status_mut() = StatusCode::from_u16(next.status).unwrap();
    response.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    for (name, value) in next.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// What a model says, in the form of OpenAI's chat.
pub(crate) fn chat(text: &str) -> Value {
    json!({
        "model": "gpt-x-2026", "usage": { "prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14 },
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
    })
}

/// A model that wants tools called: names and arguments.
pub(crate) fn calls(wanted: &[(&str, &str)]) -> Value {
    let calls: Vec<Value> = wanted
        .iter()
        .enumerate()
        .map(|(number, (name, arguments))| {
            json!({ "id": format!("call_{number}"), "type": "function", "function": { "name": name, "arguments": arguments } })
        })
        .collect();
    let mut said = chat("");
    said["choices"][0]["message"]["tool_calls"] = calls.into();
    said
}
