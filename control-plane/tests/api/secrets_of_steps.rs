//! What steps use is secret, and stays so: it is in no answer, event, figure, line of a log or page of the database, whatever
//! the servers do that were given it.

use crate::{
    connections::{script, text},
    external_vault,
    mcp::granted,
    mcp_oauth::{self, CODE, access_token, protected, refresh_token, way_back},
    mcp_server::{Answer, Heard, McpServer, echo_tool, register, reply, result},
    openid::parameter,
    real::open_bao,
    secrets::{TELL_ALL, spellings},
    secrets_seen::{Seen, search},
    server::{Client, Server},
    streaming::{piece, whole},
    vendors::{Vendor, calls, chat, no, ok, streamed},
    workflow::Workflow,
};
use agentruntime_tests::postgres;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::{Value, json};
use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::net::TcpListener;

/// One of each kind, so that what is found says whose it is. Some of their characters are written otherwise in URLs, in JSON and
/// in names of hosts.
const CREDENTIAL: &str = "sk-Live-7f3a9c01d2e4";
const IN_VAULT: &str = "vault/+7f3a=9c01&d2e4";
const SIGNING: &str = "signing/+4b1d=aa70&99fe";
const KEY: &str = "key/+55c0ffee=aa51&77";
const TOOLS: &str = "tools/+c0de=f00d&1234";
const CLIENT: &str = "client/+9e9e=beef&4321";

/// Asks for everything that a server can do with a secret, and goes on.
const ASK: &str = "local said = {}
for _, way in ipairs(input.ways) do
  local headers = { authorization = 'Bearer ' .. secret('credential'), ['x-odd'] = secret('vault') }
  local ok, reply = pcall(http.fetch, { url = way, headers = headers, timeout_s = input.timeout_s })
  said[#said + 1] = ok and reply or tostring(reply)
end
return { said = said, signed = hmac(secret('signing'), 'x') }";

/// Calls a tool some times, whatever comes of it.
const CALL: &str = "local said = {}
for number = 1, 6 do
  local ok, reply = pcall(host.call, 'mcp.call', { instance_id = 'crm', tool = 'echo', arguments = { text = 'x' } })
  said[number] = ok and reply or tostring(reply)
end
return { said = said }";

/// What a [`mirror`] was told.
type Told = Arc<Mutex<Vec<String>>>;

/// A server that gives back the secrets that it is told, in every spelling, and in each of its ways.
async fn mirror() -> (String, Told) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let told = Told::default();
    let routes = Router::new().fallback(mirrored).with_state(told.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (origin, told)
}

async fn mirrored(State(told): State<Told>, uri: Uri, headers: HeaderMap) -> Response {
    let secret = |name: &str| Some(headers.get(name)?.to_str().unwrap().replace("Bearer ", ""));
    let secrets: Vec<String> = ["authorization", "x-odd"].into_iter().filter_map(secret).collect();
    told.lock().unwrap().extend(secrets.clone());
    let all = secrets.iter().flat_map(|secret| spellings(secret)).collect::<Vec<_>>().join(" ");
    let to = |place: String| (StatusCode::FOUND, [(header::LOCATION, place)]).into_response();
    match uri.path() {
        "/silence" => std::future::pending().await,
        "/round" => to(format!("/?said={}", secrets[0])),
        "/away" => to(format!("http://{}.example/?said={}", secrets[0], secrets[0])),
        "/broken" => {
            let pieces = [Ok(Bytes::from(all)), Err(io::Error::other("broken off"))];
            Body::from_stream(stream::iter(pieces)).into_response()
        }
        "/large" => all.repeat(10_000).into_response(),
        "/refused" => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, all.clone())], all).into_response(),
        _ => ([("x-said", all.clone()), ("set-cookie", all.clone())], all).into_response(),
    }
}

/// Secrets of connections and of the vault, sent to servers that give them back, and used to sign.
async fn fetching(server: &Server, seen: &mut Seen) -> Vec<String> {
    let (owner, admin) = (server.owner(), server.admin());
    let (origin, told) = mirror().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let encrypted = origin.replace("http://", "https://");
    let hosts = json!([origin, encrypted, format!("http://{closed}")]);
    let connection = json!({
        "display_name": "crm", "provider": "x", "service": "x", "credentials": { "api_key": CREDENTIAL }, "allowed_hosts": hosts,
    });
    let made = owner.post("/v1/connections", connection).await.expect(201);
    seen.add("a new connection", made.to_string());
    for (path, value, hosts) in [("odd", IN_VAULT, hosts.clone()), ("signing", SIGNING, json!([]))] {
        let put = admin.put(&format!("/v1/vault/{path}"), json!({ "value": value, "allowed_hosts": hosts })).await;
        seen.add("a new secret", put.expect(200).to_string());
    }
    let tested = owner.post(&format!("/v1/connections/{}/test", text(&made["id"])), json!({})).await.expect(200);
    seen.add("a test of the connection", tested.to_string());

    let secrets = json!({ "credential": "connection/crm/api_key", "vault": "vault/odd", "signing": "vault/signing" });
    let workflow = script(owner, ASK, json!({ "hosts": hosts, "secrets": secrets })).await;
    let ways = ["/", "/refused", "/round", "/away", "/broken", "/large"].map(|path| format!("{origin}{path}"));
    let ways = [&ways[..], &[format!("{encrypted}/"), format!("http://{closed}/")]].concat();
    let data = seen.run("requests", &workflow, json!({ "ways": ways, "timeout_s": 30 })).await;
    let said = &data["outputs"]["ask"]["said"];
    assert_eq!((&said[0]["status"], &said[1]["status"], &said[2]["status"]), (&json!(200), &json!(401), &json!(200)));
    assert!(text(&said[3]).contains("redirects to [redacted].example"), "{said}");
    assert!(said.as_array().unwrap()[3..].iter().all(Value::is_string), "{said}");
    let data = seen.run("waiting", &workflow, json!({ "ways": [format!("{origin}/silence")], "timeout_s": 0.2 })).await;
    assert!(text(&data["outputs"]["ask"]["said"][0]).contains("did not answer"), "{data}");
    let told = told.lock().unwrap();
    assert!([CREDENTIAL, IN_VAULT].iter().all(|secret| told.iter().any(|it| it == secret)), "both went out");
    [CREDENTIAL, IN_VAULT, SIGNING].map(str::to_owned).into()
}

/// A provider with a key.
async fn provider(client: &Client, name: &str, vendor: &Vendor, seen: &mut Seen) -> String {
    let body = json!({ "vendor": "openai_compatible", "name": name, "base_url": vendor.origin, "api_key": KEY });
    seen.add("a new provider", client.post("/v1/providers", body).await.expect(201).to_string());
    format!("direct.{name}.m")
}

/// A key of a provider, which vendors repeat in answers and errors, whole and in pieces.
async fn asking(server: &Server, seen: &mut Seen) -> Vec<String> {
    let owner = server.owner();
    let error = json!({ "error": { "message": format!("Incorrect API key: {KEY}"), "code": KEY } });
    let pieces: Vec<String> = KEY.chars().map(String::from).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let models = ok(json!({ "data": [{ "id": KEY }] }));
    for (name, said, stream, is_said) in [
        ("told", ok(chat(KEY)), false, true),
        ("refused", no(401, &[], error.clone()), false, false),
        ("streamed", whole(&pieces), true, true),
        ("unstreamed", no(401, &[], error.clone()), true, false),
        ("broken", streamed(&[piece(&KEY[..9]), piece(&KEY[9..]), error.clone()]), true, false),
        ("listing", models, false, false),
    ] {
        let vendor = Vendor::start(vec![said]).await;
        let model = provider(&owner, name, &vendor, seen).await;
        let step = json!({
            "id": "ask", "type": "llm_call", "model_ref": model, "prompt": "Say it.", "llm_params": { "stream": stream },
        });
        let workflow = Workflow::publish(owner.clone(), json!({ "steps": [step] })).await;
        let data = seen.run(name, &workflow, json!({})).await;
        match is_said {
            true => assert_eq!(data["outputs"]["ask"]["text"], "[redacted]", "{data}"),
            false => assert_eq!(data["error"]["code"], "LLM_REQUEST_FAILED", "{data}"),
        }
        assert_eq!(vendor.came()[0].headers["authorization"], format!("Bearer {KEY}"));
    }
    vec![KEY.to_owned()]
}

/// A server of MCP that says its credential wherever it says something, and forgets a session between two calls.
async fn telling() -> McpServer {
    let called = AtomicUsize::new(0);
    McpServer::twisted(move |heard: &Heard| {
        let told = heard.headers.get("authorization").cloned().unwrap_or_default();
        if heard.is("tools/list") {
            let mut tool = echo_tool();
            tool["description"] = json!(format!("Knows {told}."));
            return Some(result(heard, json!({ "tools": [tool] })));
        }
        heard.is("tools/call").then(|| call(heard, &told, called.fetch_add(1, SeqCst)))
    })
    .await
}

fn call(heard: &Heard, told: &str, number: usize) -> Answer {
    let id = &heard.message["id"];
    match number {
        1 => reply(404, &format!("x-said: {told}\r\n"), &json!(told)),
        3 => {
            let error = json!({ "code": -32000, "message": told, "data": { "said": told } });
            reply(200, "", &json!({ "jsonrpc": "2.0", "id": id, "error": error }))
        }
        4 => reply(401, &format!("www-authenticate: {told}\r\n"), &json!(told)),
        _ => {
            let said = json!({ "content": [{ "type": "text", "text": told }], "structuredContent": { "text": told } });
            reply(200, &format!("x-said: {told}\r\n"), &json!({ "jsonrpc": "2.0", "id": id, "result": said }))
        }
    }
}

/// Credentials for a server of MCP, in calls of a script and of an agent.
async fn calling(server: &Server, seen: &mut Seen) -> Vec<String> {
    let (owner, mcp) = (server.owner(), telling().await);
    let connection = json!({
        "display_name": "tools", "provider": "x", "service": "x", "credentials": { "token": TOOLS },
        "allowed_hosts": [mcp.origin],
    });
    let connection = owner.post("/v1/connections", connection).await.expect(201);
    let registered = register(&owner, "crm", &mcp.url()).await;
    let shown = owner.post(&format!("{registered}/discover"), json!({ "connection_id": connection["id"] })).await;
    let shown = shown.expect(200);
    assert_eq!(shown["tools"][0]["description"], "Knows Bearer [redacted].", "{shown}");
    seen.add("what a server shows", shown.to_string());
    seen.add("a version", owner.post(&format!("{registered}/versions"), json!({})).await.expect(201).to_string());
    let body = json!({ "name": "crm", "server_id": registered.rsplit('/').next().unwrap(), "version": 1 });
    let made = owner.post("/v1/mcp/instances", body).await.expect(201);
    let profiles = format!("/v1/mcp/instances/{}/config-profiles", text(&made["id"]));
    let profile = json!({ "name": "live", "bindings": { "token": "connection/tools/token" } });
    owner.post(&profiles, profile).await.expect(201);
    owner.post(&format!("{profiles}/set-active"), json!({ "name": "live" })).await.expect(200);

    let workflow = script(owner.clone(), CALL, granted("crm", &["echo"])).await;
    let data = seen.run("calls", &workflow, json!({})).await;
    let said = &data["outputs"]["ask"]["said"];
    assert_eq!(said[0]["structured_content"]["text"], "Bearer [redacted]", "{said}");
    // The one that was forgotten came again; then one failed, and one was not let in.
    assert!(text(&said[2]).contains("[redacted]") && said[3].is_string(), "{said}");
    seen.get(&owner, &format!("{registered}/versions/1")).await;
    seen.get(&owner, &profiles).await;

    let wanted = ok(calls(&[("echo", &json!({ "text": KEY }).to_string())]));
    let vendor = Vendor::start(vec![wanted, ok(chat(KEY))]).await;
    let model = provider(&owner, "agent", &vendor, seen).await;
    let agent = json!({ "model": model, "tools": [{ "instance_id": "crm", "tool_name": "echo" }] });
    let step = json!({ "id": "work", "type": "agent_call", "agent": agent, "prompt": "Work." });
    let workflow = Workflow::publish(owner, json!({ "steps": [step] })).await;
    let data = seen.run("an agent", &workflow, json!({})).await;
    assert_eq!(data["outputs"]["work"]["turns"], 2, "{data}");
    // What one server was told is no other's either.
    seen.add("what the tool was told", format!("{:?}", mcp.heard()).replace(TOOLS, "its own"));
    seen.add("what the model was told", format!("{:?}", vendor.came()).replace(KEY, "its own"));
    assert!(mcp.heard_of("tools/call").iter().all(|call| call.headers["authorization"] == format!("Bearer {TOOLS}")));
    vec![TOOLS.to_owned()]
}

/// A server that grants access by OAuth, and says what it is told: in results of a tool, and where it neither takes nor renews
/// a token.
async fn granting(refuses: Arc<AtomicBool>) -> McpServer {
    protected(
        |number| if number < 3 { 0 } else { 3600 },
        move |heard, _| {
            let told = format!("{} {:?}", heard.body, heard.headers.get("authorization"));
            if heard.is("tools/call") {
                return Some(call(heard, &told, if refuses.load(SeqCst) { 4 } else { 0 }));
            }
            let is_renewal = heard.body.contains("grant_type=refresh_token");
            let error = json!({ "error": "invalid_request", "error_description": told, "error_uri": told });
            (is_renewal && refuses.load(SeqCst)).then(|| reply(400, "", &error))
        },
    )
    .await
}

/// Access that was granted by OAuth, used, renewed, and renewed no more.
async fn authorizing(server: &Server, seen: &mut Seen) -> Vec<String> {
    let (owner, refuses) = (server.owner(), Arc::new(AtomicBool::new(false)));
    let mcp = granting(refuses.clone()).await;
    let path = mcp_oauth::register(&owner, "grants", &mcp.url()).await;
    let wanted =
        json!({ "display_name": "granted", "client_id": "a-client", "client_secret": CLIENT, "issuer": mcp.origin });
    let begun = owner.post(&format!("{path}/authorize"), wanted).await.expect(200);
    seen.add("what a browser is shown", owner.get(&way_back(&begun)).await.expect(200).to_string());
    let listed = owner.get("/v1/connections").await.expect(200);
    let listed = listed["items"].as_array().unwrap();
    let connection = listed.iter().find(|it| it["display_name"] == "granted").unwrap();
    let shown = owner.post(&format!("{path}/discover"), json!({ "connection_id": connection["id"] })).await;
    seen.add("what a server shows", shown.expect(200).to_string());
    owner.post(&format!("{path}/versions"), json!({})).await.expect(201);
    let body = json!({ "name": "grants", "server_id": path.rsplit('/').next().unwrap(), "version": 1 });
    let made = owner.post("/v1/mcp/instances", body).await.expect(201);
    let profiles = format!("/v1/mcp/instances/{}/config-profiles", text(&made["id"]));
    let profile = json!({ "name": "live", "bindings": { "access_token": "connection/granted/access_token" } });
    owner.post(&profiles, profile).await.expect(201);
    owner.post(&format!("{profiles}/set-active"), json!({ "name": "live" })).await.expect(200);

    let source = CALL.replace("'crm'", "'grants'");
    let workflow = script(owner, &source, granted("grants", &["echo"])).await;
    let data = seen.run("calls with a token", &workflow, json!({})).await;
    let said = &data["outputs"]["ask"]["said"];
    assert!(text(&said[0]["structured_content"]["text"]).contains("Bearer [redacted]"), "{said}");
    refuses.store(true, SeqCst);
    let data = seen.run("calls with a token that is over", &workflow, json!({})).await;
    assert!(data["outputs"]["ask"]["said"].as_array().unwrap().iter().all(Value::is_string), "{data}");
    let renewed = mcp.heard().iter().filter(|heard| heard.body.contains(&refresh_token(3))).count();
    assert!(renewed > 0, "it was asked for a new one");

    let page: url::Url = text(&begun["authorization_url"]).parse().unwrap();
    let mut secrets = vec![CLIENT.to_owned(), CODE.to_owned(), parameter(&page, "state")];
    secrets.extend((1..=3).flat_map(|number| [access_token(number), refresh_token(number)]));
    secrets
}

async fn session(data: Option<&str>, folder: &Path) {
    let log = folder.join("log");
    let server = Server::logging_on(data, &log, &TELL_ALL);
    let mut seen = Seen::default();
    let mut secrets = fetching(&server, &mut seen).await;
    secrets.extend(asking(&server, &mut seen).await);
    secrets.extend(calling(&server, &mut seen).await);
    secrets.extend(authorizing(&server, &mut seen).await);
    search(server, &log, seen, &secrets).await;
}

#[tokio::test]
async fn what_steps_use_is_nowhere_to_be_read() {
    let folder = tempfile::tempdir().unwrap();
    session(None, folder.path()).await;
    if let Some(postgres) = postgres::server() {
        session(Some(&postgres.database()), folder.path()).await;
    }
}

#[tokio::test]
async fn what_an_external_vault_has_and_wants_to_be_shown_is_nowhere_to_be_read() {
    let Some(bao) = open_bao() else { return };
    let folder = tempfile::tempdir().unwrap();
    let arguments = external_vault::arguments(&bao, folder.path());
    // The first says what may be reached, as those before do.
    let arguments: Vec<&str> = TELL_ALL.into_iter().chain(arguments[1..].iter().map(String::as_str)).collect();
    let log = folder.path().join("log");
    let server = Server::logging_on(None, &log, &arguments);
    let mut seen = Seen::default();
    let mut secrets = fetching(&server, &mut seen).await;
    secrets.push(text(&bao.hello["token"]));
    search(server, &log, seen, &secrets).await;
}
