//! A server of MCP that does what a test wants: as the protocol has it, or otherwise.

use crate::server::Client;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) method: String,
    pub(crate) path: String,
    /// In lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// The message, if there is one.
    pub(crate) message: Value,
    /// The body as it came.
    pub(crate) body: String,
}

/// How a request is answered.
pub(crate) enum Answer {
    /// With these bytes.
    Bytes(Vec<u8>),
    /// With these, and then with the others again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// With these, and then nothing more.
    Held(Vec<u8>),
    /// Not at all.
    Silence,
}

/// What the server does otherwise than the protocol has it; nothing: what the protocol has.
type Twist = dyn Fn(&Heard) -> Option<Answer> + Send + Sync;

/// The server.
pub(crate) struct McpServer {
    pub(crate) origin: String,
    state: Arc<State>,
}

struct State {
    tools: Mutex<Value>,
    heard: Mutex<Vec<Heard>>,
    came: Notify,
    /// Sessions that were begun.
    sessions: AtomicUsize,
    twist: Box<Twist>,
}

/// A tool that takes a text and gives it back.
pub(crate) fn echo_tool() -> Value {
    json!({
        "name": "echo", "title": "Echo", "description": "Gives back what it gets.",
        "inputSchema": { "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] },
        "outputSchema": { "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] },
        "annotations": { "readOnlyHint": true },
    })
}

/// A reply with a status, in JSON.
pub(crate) fn reply(status: u16, headers: &str, body: &Value) -> Answer {
    Answer::Bytes(bytes(status, &format!("content-type: application/json\r\n{headers}"), &body.to_string()))
}

/// Bytes of a reply.
pub(crate) fn bytes(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// The reply to a request, as a result.
pub(crate) fn result(heard: &Heard, result: Value) -> Answer {
    reply(200, "", &json!({ "jsonrpc": "2.0", "id": heard.message["id"], "result": result }))
}

impl Heard {
    /// Which request it is.
    pub(crate) fn is(&self, method: &str) -> bool {
        self.message["method"] == method
    }

    /// In which session it is.
    pub(crate) fn session(&self) -> Option<&str> {
        self.headers.get("mcp-session-id").map(String::as_str)
    }
}

impl McpServer {
    /// One that is as the protocol has it, with the tool `echo`.
    pub(crate) async fn start() -> Self {
        Self::twisted(|_| None).await
    }

    pub(crate) async fn twisted(twist: impl Fn(&Heard) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            tools: Mutex::new(json!([echo_tool()])),
            heard: Mutex::default(),
            came: Notify::new(),
            sessions: AtomicUsize::new(0),
            twist: Box::new(twist),
        });
        let serving = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Self { origin, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/mcp", self.origin)
    }

    /// Shows other tools from now on.
    pub(crate) fn shows(&self, tools: Value) {
        *self.state.tools.lock().unwrap() = tools;
    }

    /// What came.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.state.heard.lock().unwrap().clone()
    }

    /// How many messages came. The end of a session is none: nobody waits for it.
    pub(crate) fn messages(&self) -> usize {
        self.heard().iter().filter(|heard| heard.method == "POST").count()
    }

    /// The requests of one method that came.
    pub(crate) fn heard_of(&self, method: &str) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.is(method)).collect()
    }

    /// Waits until a request of this method has come.
    pub(crate) async fn hears(&self, method: &str) -> Heard {
        self.hears_what(|heard| heard.is(method)).await
    }

    /// Waits until a session has been ended.
    pub(crate) async fn hears_end_of(&self, session: &str) -> Heard {
        self.hears_what(|heard| heard.method == "DELETE" && heard.session() == Some(session)).await
    }

    /// Waits until something has come that is so.
    pub(crate) async fn hears_what(&self, is_so: impl Fn(&Heard) -> bool) -> Heard {
        loop {
            let came = self.state.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            if let Some(heard) = self.heard().into_iter().rfind(&is_so) {
                return heard;
            }
            came.await;
        }
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let Some(heard) = read(&mut stream).await else { return };
    let answer = (state.twist)(&heard).unwrap_or_else(|| ordinary(&heard, &state));
    state.heard.lock().unwrap().push(heard);
    state.came.notify_waiters();
    // A client that has had enough closes.
    match answer {
        Answer::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
        }
        Answer::Endless(first, again) => {
            let mut next = &first;
            while stream.write_all(next).await.is_ok() {
                next = &again;
            }
        }
        Answer::Held(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.read(&mut [0]).await;
        }
        Answer::Silence => {
            let _ = stream.read(&mut [0]).await;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Heard> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(end) = head {
            let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut lines = text.lines();
            let mut first = lines.next()?.split(' ');
            let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
            let headers: BTreeMap<String, String> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            if let Some(body) = bytes[end + 4..].get(..length) {
                let message = serde_json::from_slice(body).unwrap_or_default();
                let body = String::from_utf8_lossy(body).into_owned();
                return Some(Heard { method, path, headers, message, body });
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

/// What a server of the revision 2025-11-25 answers.
fn ordinary(heard: &Heard, state: &State) -> Answer {
    let message = &heard.message;
    let tools = &*state.tools.lock().unwrap();
    match (heard.method.as_str(), message["method"].as_str()) {
        ("POST", Some("initialize")) => {
            let answer = json!({
                "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
                "serverInfo": { "name": "a test", "version": "1" },
            });
            let body = json!({ "jsonrpc": "2.0", "id": message["id"], "result": answer });
            let session = state.sessions.fetch_add(1, SeqCst) + 1;
            reply(200, &format!("mcp-session-id: session-{session}\r\n"), &body)
        }
        ("POST", Some("tools/list")) => result(heard, json!({ "tools": tools })),
        ("POST", Some("tools/call")) => {
            let text = &message["params"]["arguments"]["text"];
            let content = json!([{ "type": "text", "text": text.as_str().unwrap_or_default() }]);
            result(heard, json!({ "content": content, "structuredContent": { "text": text } }))
        }
        ("POST", Some(method)) if method.starts_with("notifications/") => Answer::Bytes(bytes(202, "", "")),
        // An answer of the client to what the server asked.
        ("POST", None) => Answer::Bytes(bytes(202, "", "")),
        ("POST", Some(_)) => {
            let error = json!({ "code": -32601, "message": "Method not found" });
            reply(200, "", &json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }))
        }
        ("DELETE", _) => Answer::Bytes(bytes(200, "", "")),
        _ => Answer::Bytes(bytes(405, "", "")),
    }
}

/// Registers a server; its path.
pub(crate) async fn register(owner: &Client, name: &str, url: &str) -> String {
    let field = json!({ "name": "token", "header": "Authorization", "format": "Bearer {value}" });
    let body = json!({ "name": name, "canonical_url": url, "credential_fields": [field] });
    let made = owner.post("/v1/mcp/servers", body).await.expect(201);
    format!("/v1/mcp/servers/{}", made["id"].as_str().unwrap())
}

/// Registers a server, freezes what it shows, and makes an instance of it of the same name; the paths of both.
pub(crate) async fn instance(owner: &Client, name: &str, url: &str) -> (String, String) {
    let server = register(owner, name, url).await;
    owner.post(&format!("{server}/discover"), json!({})).await.expect(200);
    owner.post(&format!("{server}/versions"), json!({})).await.expect(201);
    let id = server.rsplit('/').next().unwrap();
    let body = json!({ "name": name, "server_id": id, "version": 1 });
    let made = owner.post("/v1/mcp/instances", body).await.expect(201);
    (server, format!("/v1/mcp/instances/{}", made["id"].as_str().unwrap()))
}
