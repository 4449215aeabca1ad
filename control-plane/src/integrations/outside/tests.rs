//! What is in the memory of a step that used secrets: all that the guest holds while it waits, read from outside of it.

use super::*;
use crate::integrations::llm::{Tier, given};
use agentruntime_host_api::{
    Caller, Entropy, Grants, Guest, HostRequest, Invocation, Language, Limits, Live, Outcome, Program, ProjectId, Room,
    Scope, TenantId, Timestamp,
    broker::{self, Ruling},
};
use agentruntime_sandbox::{Sandbox, SandboxConfig};
use axum::{
    Router,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;
use std::{fs, os::unix::fs::FileExt};
use tokio::net::TcpListener;

/// Some of their characters are written otherwise in URLs, JSON and names of headers.
const SENT: &str = "sent/+Live7f3a=9c01&d2e4";
const SIGNING: &str = "signing/+4b1daa70=99fe";
const KEY: &str = "key/+Live55c0ffee=aa51";

/// Uses secrets, keeps what came of it, and makes a text that stands in no source. Then it waits.
const USE: &str = "kept = {
  http.fetch{ url = input.origin .. '/', headers = { authorization = 'Bearer ' .. secret('sent') } },
  http.fetch{ url = input.origin .. '/again', headers = { ['x-key'] = secret('sent') } },
  hmac(secret('signing'), 'x'), 'a mark of ' .. input.name,
}
http.fetch(input.origin .. '/last')
return {}";

/// The program of an `llm_call`.
const LLM_CALL: &str = concat!(
    include_str!("../../../../engine/src/adapters/models.lua"),
    "\n",
    include_str!("../../../../engine/src/adapters/llm.lua")
);

#[derive(Debug)]
struct Alone;

impl Room for Alone {
    fn rest(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl Live for Alone {
    fn said(&self, _: u32, _: String) {}
}

/// A program and what it is given.
struct Step {
    source: &'static str,
    globals: Vec<(&'static str, Json)>,
    grants: Grants,
}

/// The memory of all guests of this process: where the guest's snapshot is mapped, and what it took beyond.
fn memories() -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let memory = fs::File::open("/proc/self/mem").unwrap();
    let (mut all, mut end_of_last) = (String::new(), 0);
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (place, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let (start, end) = place.split_once('-').unwrap();
        let [start, end] = [start, end].map(|digits| u64::from_str_radix(digits, 16).unwrap());
        let is_snapshot = line.contains("wasm-memory-image");
        if rights.starts_with("rw") && (is_snapshot || start == end_of_last) {
            let mut bytes = vec![0; (end - start) as usize];
            memory.read_exact_at(&mut bytes, start).unwrap();
            all.push_str(&String::from_utf8_lossy(&bytes));
            end_of_last = end;
        }
    }
    all
}

/// Whether a text is there, in some spelling.
fn holds(memory: &str, text: &str) -> bool {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let url: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let inner = |shift: usize| {
        let digits = BASE64_STANDARD.encode([&vec![0; shift], text.as_bytes()].concat());
        digits[4..digits.len() - 4].to_owned()
    };
    let spellings = [text.to_owned(), text.to_ascii_lowercase(), hex, url, inner(0), inner(1), inner(2)];
    spellings.iter().any(|written| memory.contains(written))
}

/// Runs a step until it makes a request of this number; its memory then. What others say comes by the host, or is made up.
async fn memory_at(last: u32, step: Step, outside: &Outside, made_up: Option<&Json>) -> String {
    let guest = Sandbox::new(SandboxConfig { max_instances: 4, ..SandboxConfig::default() }).unwrap();
    let tenant = TenantId::new("t");
    let caller = Caller {
        tenant: tenant.clone(),
        project: ProjectId::new("p"),
        run: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        step: "ask".to_owned(),
    };
    let caller = Arc::new(caller);
    let invocation = Invocation {
        tenant,
        program: Program { language: Language::Lua, name: "ask".into(), source: step.source.into() },
        scope: Scope { globals: step.globals, steps: Vec::new() },
        started_at: Timestamp::from_micros(0),
        entropy: Entropy(0),
        limits: Limits { time: Duration::from_secs(60), ..Limits::default() },
    };
    let mut outcome = guest.start(invocation).await;
    loop {
        let (requests, execution) = match outcome {
            Outcome::Requests { requests, execution } => (requests, execution),
            Outcome::Done(output) => panic!("it ended: {output:?}"),
            Outcome::Failed(error) => panic!("it failed: {error}"),
        };
        if requests.iter().any(|request| request.number == last) {
            let memory = memories();
            drop(execution);
            return memory;
        }
        let mut replies = Vec::new();
        for request in &requests {
            replies.push(match made_up {
                Some(reply) => Ok(reply.clone()),
                None => Ok(carried_out(outside, &caller, &step.grants, request).await),
            });
        }
        outcome = execution.resume(replies).await;
    }
}

async fn carried_out(outside: &Outside, caller: &Arc<Caller>, grants: &Grants, request: &HostRequest) -> Json {
    let Ok(Ruling::Permitted(permit)) = broker::rule(grants, request) else { panic!("not granted: {request:?}") };
    let (room, live) = (Arc::new(Alone), Arc::new(Alone));
    outside.carry_out(Errand { caller: caller.clone(), number: request.number, permit, room, live }).await.unwrap()
}

/// A server that gives back the headers of each request, as they are and in base64 and hex: in a header and as a chat, piece by
/// piece where that is wanted.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(echoed)).await });
    origin
}

async fn echoed(headers: HeaderMap, body: String) -> Response {
    let all: Vec<&str> = headers.values().map(|value| value.to_str().unwrap()).collect();
    let all = all.join(" ");
    let hex: String = all.bytes().map(|byte| format!("{byte:02x}")).collect();
    let said = format!("Here it is: {all} {} {hex}", BASE64_STANDARD.encode(&all));
    let chat = |key: &str, said: &str| json!({ "choices": [{ "index": 0, key: { "content": said } }] });
    if !body.contains("\"stream\":true") {
        return ([("x-told", all)], chat("message", &said).to_string()).into_response();
    }
    let pieces = said.as_bytes().chunks(7).map(|piece| chat("delta", std::str::from_utf8(piece).unwrap()));
    let mut end = chat("delta", "");
    end["choices"][0]["finish_reason"] = "stop".into();
    let events = pieces.chain([end]).map(|event| format!("data: {event}\n\n"));
    ([("content-type", "text/event-stream")], events.collect::<String>() + "data: [DONE]\n\n").into_response()
}

#[tokio::test]
async fn no_secret_is_in_the_memory_of_a_step_that_used_it() {
    // Whoever comes second finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let origin = echo().await;
    let secrets = [("vault/sent", SENT), ("vault/signing", SIGNING)];
    let given = secrets.map(|(kept, value)| (kept.parse().unwrap(), SecretString::from(value)));
    let provider =
        json!([{ "vendor": "openai_compatible", "name": "v", "base_url": origin, "api_key": KEY }]).to_string();
    let providers = given::read(&provider.into(), Tier::Tenant).unwrap();
    let settings = EgressSettings { allowed_networks: vec!["127.0.0.0/8".parse().unwrap()], proxy: None };
    let outside = Outside::new(Secrets::Given(given.into()), providers, &settings).unwrap();
    let using = || Step {
        source: USE,
        globals: vec![("input", json!({ "origin": origin, "name": "its own" }).into())],
        grants: serde_json::from_value(
            json!({ "hosts": [origin], "secrets": { "sent": "vault/sent", "signing": "vault/signing" } }),
        )
        .unwrap(),
    };
    let memory = memory_at(3, using(), &outside, None).await;
    assert!(holds(&memory, "a mark of its own"), "what the script holds is found");
    assert!(holds(&memory, "Bearer [redacted]"), "and so is what the server said");
    assert!(!holds(&memory, SENT) && !holds(&memory, SIGNING));
    // What is not taken out is found.
    let unclean = json!({ "status": 200, "headers": {}, "body": format!("Here it is: {SENT}") }).into();
    assert!(holds(&memory_at(3, using(), &outside, Some(&unclean)).await, SENT));

    for stream in [false, true] {
        let call =
            json!({ "model": "direct.v.m", "prompt": "x", "response_format": "json", "params": { "stream": stream } });
        let grants = json!({ "models": [{ "model": "direct.v.m" }] });
        let grants = serde_json::from_value(grants).unwrap();
        // It is asked again, since what it said is no JSON.
        let asking = Step { source: LLM_CALL, globals: vec![("call", call.into())], grants };
        let memory = memory_at(2, asking, &outside, None).await;
        assert!(holds(&memory, "Here it is: ") && holds(&memory, "[redacted]"), "what the model said is found");
        assert!(!holds(&memory, KEY));
    }
}
