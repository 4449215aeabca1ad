//! Everything that a script can ask for, asked for without a grant and with what belongs to somebody else: refused, recorded, and
//! heard of by nobody.

use crate::{
    connections::{Echo, LOOPBACK, SECRET, connect, text},
    mails::signed_in,
    mcp_server::{McpServer, instance},
    server::{Client, Server, on_both_with},
    vendors::{Vendor, chat, ok},
    workflow::Workflow,
};
use agentruntime_host_api::{Act, HostRequest};
use serde_json::{Value, json};

/// A step that asks for what it must not have, and how it is refused.
struct Attempt {
    step: Value,
    /// Beside the input of the start.
    replaced: Value,
    code: &'static str,
    part: String,
}

/// How somebody else's things are called.
struct Theirs {
    connection: String,
    provider: String,
    instance: String,
}

/// What there is.
struct World {
    echo: Echo,
    mcp: McpServer,
    vendor: Vendor,
    theirs: Vec<Theirs>,
}

/// The kind of act that comes after another: a new one does not compile without a place here.
fn after(act: Option<&Act>) -> Option<Act> {
    let tool = json!({ "instance_id": "crm", "tool": "echo", "arguments": { "text": "x" } });
    let model = json!({ "model": "direct.own.m" });
    let (capability, arguments) = match act {
        None => ("http.fetch", json!({ "url": "https://api.example.com/" })),
        Some(Act::Fetch(_)) => ("crypto.hmac", json!({ "secret": { "$secret": "key" }, "data": "x" })),
        Some(Act::Sign(_)) => ("llm.resolve", model),
        Some(Act::Resolve(_)) => ("llm.request", json!({ "model": model, "operation": "chat", "body": {} })),
        Some(Act::Ask(_)) => ("schema.check", json!({ "schema": {}, "value": 1 })),
        Some(Act::Check(_)) => ("mcp.describe", tool),
        Some(Act::Describe(_)) => ("mcp.call", tool),
        Some(Act::Call(_)) => return None,
    };
    let request = HostRequest { number: 0, capability: capability.into(), arguments: arguments.into() };
    Some(Act::read(&request).unwrap())
}

/// What is tried with one kind of act.
fn attempts(act: &Act, world: &World) -> Vec<Attempt> {
    let name = act.capability();
    let echo = &world.echo.origin;
    // Each is tried by a step that was granted nothing, and by one that was granted everything of another kind.
    let without = |asks: &str, others: Value, part: &str| {
        [json!({}), others].map(|granted| denied(script(asks, granted), part)).into_iter().collect::<Vec<_>>()
    };
    let theirs = |tried: &dyn Fn(&Theirs) -> Attempt| world.theirs.iter().map(tried).collect::<Vec<_>>();
    let keeper = |their: &Theirs| match their.connection.strip_prefix("vault/") {
        Some(path) => (their.connection.clone(), format!("this workspace's vault has no `{path}`")),
        None => {
            let part = format!("this project has no connection `{}`", their.connection);
            (format!("connection/{}/api_key", their.connection), part)
        }
    };
    let mut all;
    match act {
        Act::Fetch(_) => {
            let url = json!(format!("{echo}/")).to_string();
            let fetch = format!("return http.fetch({{ url = {url}, headers = {{ x = secret('key') }} }})");
            all = without(&fetch, json!({ "hosts": ["api.example.com"] }), "host http://127.0.0.1");
            all.push(denied(script(&fetch, json!({ "hosts": [echo] })), "secret `key`"));
            all.extend(theirs(&|their| {
                let (kept, part) = keeper(their);
                invalid(script(&fetch, json!({ "hosts": [echo], "secrets": { "key": kept } })), part)
            }));
        }
        Act::Sign(_) => {
            let sign = "return { signed = hmac(secret('key'), 'x') }";
            all = without(sign, json!({ "secrets": { "other": "vault/other" } }), "secret `key`");
            all.extend(theirs(&|their| {
                let (kept, part) = keeper(their);
                invalid(script(sign, json!({ "secrets": { "key": kept } })), part)
            }));
        }
        Act::Resolve(_) => {
            let resolve = format!("return host.call('{name}', {{ model = 'direct.own.m' }})");
            all = without(&resolve, json!({ "hosts": [world.vendor.origin] }), "model direct.own.m");
            // A start makes no other model of what was published.
            let replaced = json!({ "ask": { "model_ref": "direct.own.other" } });
            let part = "model direct.own.other".to_owned();
            let step = asking(json!({ "model_ref": "direct.own.m" }));
            all.push(Attempt { step, replaced, code: "CAPABILITY_DENIED", part });
            all.extend(theirs(&|their| {
                let model = format!("direct.{}.m", their.provider);
                invalid(asking(json!({ "model_ref": model })), String::new())
            }));
            all.extend(theirs(&|their| {
                let more = json!({ "model_ref": "direct.own.m", "llm_credential_id": their.provider });
                invalid(asking(more), String::new())
            }));
        }
        Act::Ask(_) => {
            // A step that may ask a model resolves it first, so that somebody else's is refused there.
            let body = "{ model = { model = 'direct.own.m' }, operation = 'chat', body = {}, stream = true }";
            let ask = format!("return host.call('{name}', {body})");
            all = without(&ask, json!({ "hosts": [world.vendor.origin] }), "model direct.own.m");
        }
        Act::Check(_) => {
            // What is checked is the step's own: there is nothing that could be somebody else's.
            let check = format!("return host.call('{name}', {{ schema = {{}}, value = 1 }})");
            all = without(&check, json!({ "hosts": [echo] }), "schema.check");
        }
        Act::Describe(_) | Act::Call(_) => {
            let more = if matches!(act, Act::Call(_)) { ", arguments = { text = 'x' }" } else { "" };
            let at = |server: String| format!("return host.call('{name}', {{ {server}, tool = 'echo'{more} }})");
            let granted =
                |instance: &str, tool: &str| json!({ "tools": [{ "instance_id": instance, "tools": [tool] }] });
            let own = at("instance_id = 'crm'".into());
            all = without(&own, json!({ "hosts": [world.mcp.origin] }), "tool `echo` of instance `crm`");
            all.push(denied(script(&own, granted("crm", "more")), "tool `echo` of instance `crm`"));
            let by_url = at(format!("server_url = '{}'", world.mcp.url()));
            all.push(denied(script(&by_url, granted("crm", "echo")), "tool `echo` of the server"));
            all.extend(theirs(&|their| {
                let named = at(format!("instance_id = '{}'", their.instance));
                invalid(script(&named, granted(&their.instance, "echo")), "this project has no instance".into())
            }));
        }
    }
    all
}

fn script(source: &str, granted: Value) -> Value {
    json!({ "id": "ask", "type": "lua_script", "script": source, "capabilities": granted })
}

fn asking(more: Value) -> Value {
    let mut step = json!({ "id": "ask", "type": "llm_call", "prompt": "Say hello." });
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    step
}

fn denied(step: Value, part: &str) -> Attempt {
    Attempt { step, replaced: json!({}), code: "CAPABILITY_DENIED", part: part.to_owned() }
}

fn invalid(step: Value, part: String) -> Attempt {
    Attempt { step, replaced: json!({}), code: "INVALID_INPUT", part }
}

impl Attempt {
    async fn fails(self, owner: &Client, capability: &str) {
        let Self { step, replaced, code, part } = self;
        let shown = step.to_string();
        let workflow = Workflow::publish(owner.clone(), json!({ "steps": [step] })).await;
        let started = json!({ "trigger_payload": {}, "trigger_steps": replaced });
        let ended = workflow.command_and_wait("start", started).await.expect(200);
        assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!(code)), "{shown}: {ended}");
        let message = text(&ended["error"]["message"]);
        assert!(message.contains(&part) && !message.contains(SECRET), "{shown}: {message}");
        let events = workflow.events(&text(&ended["run_id"])).await;
        let last = |kind: &str| events.iter().rfind(|event| event["event_type"] == kind).unwrap()["data"].clone();
        assert_eq!(last("request_made")["capability"], capability, "{shown}");
        assert_eq!(last("request_completed")["error"]["code"], code, "{shown}");
    }
}

/// Makes a connection, a provider and an instance of this name.
async fn furnish(client: &Client, name: &str, world: &World) -> [String; 3] {
    let connection = connect(client, name, &[&world.echo.origin]).await;
    let body =
        json!({ "vendor": "openai_compatible", "name": name, "base_url": world.vendor.origin, "api_key": SECRET });
    let provider = client.post("/v1/providers", body).await.expect(201);
    let (_, instance) = instance(client, name, &world.mcp.url()).await;
    [text(&connection["id"]), text(&provider["id"]), instance.rsplit('/').next().unwrap().to_owned()]
}

/// What is the caller's own, another project's, and another workspace's.
async fn world(server: &Server) -> World {
    let (echo, mcp, vendor) = (Echo::start().await, McpServer::start().await, Vendor::start(vec![ok(chat("x"))]).await);
    let mut world = World { echo, mcp, vendor, theirs: Vec::new() };
    let body = json!({ "vendor": "openai_compatible", "name": "own", "base_url": world.vendor.origin });
    server.owner().post("/v1/providers", body).await.expect(201);
    instance(&server.owner(), "crm", &world.mcp.url()).await;

    let admin = server.admin();
    admin.post("/v1/projects", json!({ "slug": "other", "name": "Other" })).await.expect(201);
    let mut eve = signed_in(server, "eve@refusals.example").await;
    eve.post("/v1/tenants", json!({ "slug": "eves", "name": "Eve's" })).await.expect(201);
    let eves = eve.client.with("cookie", &eve.cookie_header()).with("x-csrf-token", &eve.csrf);
    let eves = eves.with("x-tenant-id", "eves").with("x-project-id", "main");
    eves.post("/v1/projects", json!({ "slug": "main", "name": "Main" })).await.expect(201);
    let kept = json!({ "value": SECRET, "allowed_hosts": [] });
    eves.put("/v1/vault/eves/key", kept).await.expect(200);
    for (client, name) in [(admin.with("x-project-id", "other"), "foreign"), (eves, "eves")] {
        let by_id = furnish(&client, name, &world).await;
        for [connection, provider, instance] in [by_id, [name; 3].map(str::to_owned)] {
            world.theirs.push(Theirs { connection, provider, instance });
        }
    }
    let [.., last] = &world.theirs[..] else { panic!("there are some") };
    let Theirs { provider, instance, .. } = last;
    let in_vault = Theirs {
        connection: "vault/eves/key".into(),
        provider: provider.to_uppercase(),
        instance: instance.to_uppercase(),
    };
    world.theirs.push(in_vault);
    world
}

#[tokio::test]
async fn whatever_is_asked_for_without_a_grant_or_of_somebody_else_is_refused_and_recorded() {
    on_both_with(&[LOOPBACK[0], "--requests-per-minute=0"], |server| async move {
        let world = world(&server).await;
        let (owner, heard) = (server.owner(), world.mcp.messages());
        let mut last = None;
        while let Some(act) = after(last.as_ref()) {
            for attempt in attempts(&act, &world) {
                attempt.fails(&owner, act.capability()).await;
            }
            last = Some(act);
        }
        for unknown in ["os.execute", "HTTP.FETCH", "http.fetch.x", "secret.read"] {
            let asks = format!("return host.call('{unknown}', {{}})");
            let granted = json!({ "hosts": [world.echo.origin] });
            denied(script(&asks, granted), "there is no capability").fails(&owner, unknown).await;
        }
        assert!(world.echo.came().is_empty() && world.vendor.came().is_empty(), "nothing went out");
        assert_eq!(world.mcp.messages(), heard, "nothing went out");
    })
    .await;
}
