//! The registry of MCP servers, and calling their tools.

use crate::{
    connections::{LOOPBACK, NOBODY, SECRET, connect, script, text},
    mails::signed_in,
    mcp_server::{Answer, McpServer, bytes, echo_tool, instance, register, reply, result},
    server::{Client, on_both, on_both_with},
};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Calls a tool as the input says.
pub(crate) const CALL: &str = "return host.call('mcp.call', input)";

/// What a script may call.
pub(crate) fn granted(instance: &str, tools: &[&str]) -> Value {
    json!({ "tools": [{ "instance_id": instance, "tools": tools }] })
}

/// Calls the tool `echo` of an instance, as a step that was granted it; the run.
pub(crate) async fn call_echo(owner: &Client, instance: &str) -> Value {
    let workflow = script(owner.clone(), CALL, granted(instance, &["echo"])).await;
    let input = json!({ "instance_id": instance, "tool": "echo", "arguments": { "text": "hello" } });
    workflow.command_and_wait("start", input).await.expect(200)
}

#[tokio::test]
async fn a_server_is_registered_once_with_what_it_wants_to_be_told() {
    on_both(|server| async move {
        let owner = server.owner();
        let path = register(&owner, "crm", "HTTPS://CRM.example.com:443/mcp#x").await;
        let made = owner.get(&path).await.expect(200);
        assert_eq!(made["canonical_url"], "https://crm.example.com/mcp", "in one spelling");
        let field = json!({ "name": "token", "header": "authorization", "format": "Bearer {value}" });
        assert_eq!((&made["credential_fields"], &made["tools_hash"]), (&json!([field]), &Value::Null));
        assert_eq!(owner.get("/v1/mcp/servers").await.expect(200)["items"], json!([made]));
        for (name, url) in [("crm", "https://a.example"), ("other", "https://crm.example.com/mcp")] {
            let body = json!({ "name": name, "canonical_url": url });
            owner.post("/v1/mcp/servers", body).await.refused(409, "MCP_SERVER_EXISTS");
        }
        let refused = |field: &'static str, value: Value, part: &'static str| {
            let mut body = json!({ "name": "x", "canonical_url": "https://x.example" });
            body[field] = value;
            let owner = owner.clone();
            async move {
                let problem = owner.post("/v1/mcp/servers", body).await.refused(422, "INVALID_FIELD");
                assert!(text(&problem["error"]).contains(part), "{problem}");
            }
        };
        refused("name", json!(""), "1 to 100").await;
        refused("canonical_url", json!("stdio:server"), "stdio").await;
        refused("canonical_url", json!("https://u:p@x.example"), "config profile").await;
        refused("canonical_url", json!("nowhere"), "no address").await;
        refused("credential_fields", json!([{ "name": "a", "header": "Host" }]), "not for credentials").await;
        let twice = json!([{ "name": "a", "header": "x-a" }, { "name": "a", "header": "x-b" }]);
        refused("credential_fields", twice, "two fields").await;
        owner.post(&format!("{path}/versions"), json!({})).await.refused(409, "MCP_NOT_DISCOVERED");
        owner.delete(&path).await.expect(204);
        owner.get(&path).await.refused(404, "NOT_FOUND");
        let audit = server.admin().get("/v1/audit?limit=10").await.expect(200);
        assert_eq!(audit["items"][0]["action"], "mcp_server.delete");
    })
    .await;
}

#[tokio::test]
async fn the_tools_of_a_server_are_discovered_frozen_and_compared() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        let path = register(&owner, "crm", &mcp.url()).await;
        let shown = owner.post(&format!("{path}/discover"), json!({})).await.expect(200);
        assert_eq!((&shown["protocol_version"], &shown["tools"][0]["name"]), (&json!("2025-11-25"), &json!("echo")));
        assert_eq!(shown["tools"][0]["input_schema"], echo_tool()["inputSchema"]);
        let first = owner.post(&format!("{path}/versions"), json!({})).await.expect(201);
        assert_eq!((&first["version"], &first["tools_hash"]), (&json!(1), &shown["tools_hash"]));
        let again = owner.post(&format!("{path}/versions"), json!({})).await.expect(201);
        assert_eq!(again, first, "the same tools are no new version");
        let validate = format!("{path}/validate");
        let same = owner.post(&validate, json!({ "version": 1 })).await.expect(200);
        assert_eq!((&same["unchanged"], &same["changed"]), (&json!(true), &json!([])));
        let mut changed = echo_tool();
        changed["description"] = json!("Gives back what it gets, and tells others.");
        mcp.shows(json!([changed, { "name": "more", "inputSchema": { "type": "object" } }]));
        let other = owner.post(&validate, json!({ "version": 1 })).await.expect(200);
        assert_eq!((&other["unchanged"], &other["added"]), (&json!(false), &json!(["more"])));
        assert_eq!((&other["changed"], &other["removed"]), (&json!(["echo"]), &json!([])));
        let frozen = owner.post(&format!("{path}/versions"), json!({})).await.expect(201);
        assert_eq!(frozen["version"], 1, "a validation is no discovery");
        owner.post(&format!("{path}/discover"), json!({})).await.expect(200);
        owner.post(&format!("{path}/versions"), json!({})).await.expect(201);
        let versions = owner.get(&format!("{path}/versions")).await.expect(200);
        let numbers: Vec<&Value> = versions["items"].as_array().unwrap().iter().map(|it| &it["version"]).collect();
        assert_eq!((numbers, &versions["items"][0]["tools"]), (vec![&json!(2), &json!(1)], &Value::Null));
        assert_eq!(owner.get(&format!("{path}/versions/1")).await.expect(200), first);
        owner.get(&format!("{path}/versions/3")).await.refused(404, "NOT_FOUND");
        owner.post(&validate, json!({ "version": 3 })).await.refused(404, "NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_server_is_asked_with_the_credentials_of_a_connection() {
    on_both_with(&LOOPBACK, |server| async move {
        let wanted = format!("Bearer {SECRET}");
        let mcp = McpServer::twisted(move |heard| {
            let is_known = heard.headers.get("authorization") == Some(&wanted);
            (!is_known).then(|| Answer::Bytes(bytes(401, "", "")))
        })
        .await;
        let owner = server.owner();
        let path = register(&owner, "crm", &mcp.url()).await;
        let discover = format!("{path}/discover");
        let ask = |connection: &Value| owner.post(&discover, json!({ "connection_id": connection["id"] }));
        let problem = owner.post(&discover, json!({})).await.refused(422, "MCP_SERVER_FAILED");
        assert!(text(&problem["error"]).contains("the status 401"), "{problem}");
        let connection = |name: &str, key: &str, host: &str| {
            owner.post(
                "/v1/connections",
                json!({ "display_name": name, "provider": "x", "service": "x", "credentials": { key: SECRET }, "allowed_hosts": [host] }),
            )
        };
        let good = connection("good", "token", &mcp.origin).await.expect(201);
        ask(&good).await.expect(200);
        let validated = json!({ "version": 1, "connection_id": good["id"] });
        owner.post(&format!("{path}/versions"), json!({})).await.expect(201);
        owner.post(&format!("{path}/validate"), validated).await.expect(200);
        let before = mcp.messages();
        let other_name = connection("other name", "key", &mcp.origin).await.expect(201);
        let problem = ask(&other_name).await.refused(422, "INVALID_FIELD");
        assert!(text(&problem["error"]).contains("no credential `token`"), "{problem}");
        let elsewhere = connection("elsewhere", "token", "https://api.example.com").await.expect(201);
        let problem = ask(&elsewhere).await.refused(422, "MCP_SERVER_FAILED");
        assert!(text(&problem["error"]).contains("allows api.example.com"), "{problem}");
        ask(&json!({ "id": NOBODY })).await.refused(422, "INVALID_FIELD");
        let audit = server.admin().get("/v1/audit?limit=1").await.expect(200);
        let (action, details) = (&audit["items"][0]["action"], &audit["items"][0]["details"]);
        assert_eq!((action, details), (&json!("mcp_server.discover"), &json!({ "connection_id": NOBODY })));
        assert_eq!(mcp.messages(), before, "nothing went out");
    })
    .await;
}

#[tokio::test]
async fn an_instance_is_found_by_id_name_and_address_with_its_tools() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        let (server_path, path) = instance(&owner, "crm", &mcp.url()).await;
        let made = owner.get(&path).await.expect(200);
        assert_eq!(
            (&made["name"], &made["version"], &made["active_profile"]),
            (&json!("crm"), &json!(1), &Value::Null)
        );
        for wanted in [
            json!({ "instance_id": "crm" }),
            json!({ "instance_id": made["id"] }),
            json!({ "server_url": mcp.url().to_uppercase().replace("/MCP", "/mcp") }),
        ] {
            let found = owner.post("/v1/mcp/instances/resolve", wanted).await.expect(200);
            assert_eq!((&found["instance"], &found["tool"]), (&made, &Value::Null));
        }
        let wanted = json!({ "instance_id": "crm", "tool_name": "echo" });
        let found = owner.post("/v1/mcp/instances/resolve", wanted).await.expect(200);
        assert_eq!(found["tool"]["output_schema"], echo_tool()["outputSchema"]);
        let resolve = |wanted: Value| owner.post("/v1/mcp/instances/resolve", wanted);
        resolve(json!({ "instance_id": "crm", "tool_name": "more" })).await.refused(404, "NOT_FOUND");
        resolve(json!({ "instance_id": "erp" })).await.refused(404, "NOT_FOUND");
        resolve(json!({ "server_url": "https://elsewhere.example" })).await.refused(404, "NOT_FOUND");
        resolve(json!({})).await.refused(422, "INVALID_FIELD");
        let id = server_path.rsplit('/').next().unwrap();
        let second = json!({ "name": "crm 2", "server_id": id, "version": 1 });
        owner.post("/v1/mcp/instances", second.clone()).await.expect(201);
        owner.post("/v1/mcp/instances", second).await.refused(409, "MCP_INSTANCE_NAME_TAKEN");
        let problem = resolve(json!({ "server_url": mcp.url() })).await.refused(409, "MCP_INSTANCE_AMBIGUOUS");
        assert!(text(&problem["error"]).contains("crm, crm 2"), "{problem}");
        let wrong = json!({ "name": "x", "server_id": id, "version": 2 });
        owner.post("/v1/mcp/instances", wrong).await.refused(404, "NOT_FOUND");
        let page = owner.get("/v1/mcp/tools?limit=1").await.expect(200);
        let item = &page["items"][0];
        assert_eq!(
            (&item["instance_name"], &item["name"], &item["title"]),
            (&json!("crm"), &json!("echo"), &json!("Echo"))
        );
        let next = owner.get(&format!("/v1/mcp/tools?cursor={}", text(&page["next_cursor"]))).await.expect(200);
        assert_eq!((&next["items"][0]["instance_name"], next["items"].as_array().unwrap().len()), (&json!("crm 2"), 1));
        owner.patch(&path, json!({ "name": "crm 2" })).await.refused(409, "MCP_INSTANCE_NAME_TAKEN");
        owner.patch(&path, json!({ "version": 2 })).await.refused(404, "NOT_FOUND");
        let renamed = owner.patch(&path, json!({ "name": "sales" })).await.expect(200);
        assert_eq!((&renamed["name"], &renamed["version"]), (&json!("sales"), &json!(1)));
        owner.delete(&server_path).await.refused(409, "MCP_SERVER_IN_USE");
        owner.delete(&path).await.expect(204);
        owner.get(&path).await.refused(404, "NOT_FOUND");
        assert_eq!(owner.get("/v1/mcp/platform-catalog").await.expect(200), json!({ "items": [] }));
    })
    .await;
}

#[tokio::test]
async fn a_config_profile_says_where_credentials_are_kept() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        let (_, path) = instance(&owner, "crm", &mcp.url()).await;
        let profiles = format!("{path}/config-profiles");
        let live = json!({ "name": "live", "bindings": { "token": "connection/crm/api_key" } });
        let made = owner.post(&profiles, live.clone()).await.expect(201);
        assert_eq!((&made["bindings"], &made["is_active"]), (&live["bindings"], &json!(false)));
        owner.post(&profiles, live).await.refused(409, "MCP_PROFILE_NAME_TAKEN");
        owner.post(&profiles, json!({ "name": "none", "bindings": {} })).await.expect(201);
        for (bindings, part) in [
            (json!({ "password": "connection/crm/api_key" }), "its fields are: token"),
            (json!({ "token": "vault/crm" }), "connection/<connection>"),
            (json!({ "token": SECRET }), "connection/<connection>"),
        ] {
            let body = json!({ "name": "x", "bindings": bindings });
            let problem = owner.post(&profiles, body).await.refused(422, "INVALID_FIELD");
            assert!(text(&problem["error"]).contains(part), "{problem}");
        }
        let active = format!("{profiles}/set-active");
        let set = |name: Value| owner.post(&active, json!({ "name": name }));
        assert_eq!(set(json!("live")).await.expect(200)["active_profile"], "live");
        set(json!("dead")).await.refused(404, "NOT_FOUND");
        let listed = owner.get(&profiles).await.expect(200);
        let active: Vec<bool> =
            listed["items"].as_array().unwrap().iter().map(|it| it["is_active"].as_bool().unwrap()).collect();
        assert_eq!(active, [true, false], "{listed}");
        owner.delete(&format!("{profiles}/live")).await.expect(204);
        owner.delete(&format!("{profiles}/live")).await.refused(404, "NOT_FOUND");
        assert_eq!(owner.get(&path).await.expect(200)["active_profile"], Value::Null);
        set(json!("none")).await.expect(200);
        assert_eq!(set(Value::Null).await.expect(200)["active_profile"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn a_tool_is_called_with_credentials_that_nobody_sees() {
    on_both_with(&LOOPBACK, |server| async move {
        // It gives back what it was told, in all ways that it has.
        let mcp = McpServer::twisted(|heard| {
            let said = heard.headers.get("authorization")?.clone();
            heard.is("tools/call").then(|| {
                let escaped: String = said.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
                let body = json!({ "jsonrpc": "2.0", "id": heard.message["id"], "result": {
                    "content": [{ "type": "text", "text": said }], "structuredContent": { "text": "ESCAPED" },
                } });
                let body = body.to_string().replace("ESCAPED", &escaped);
                let headers = format!("content-type: application/json\r\nx-said: {said}\r\n");
                Answer::Bytes(bytes(200, &headers, &body))
            })
        })
        .await;
        let owner = server.owner();
        connect(&owner, "crm", &[&mcp.origin]).await;
        let (_, path) = instance(&owner, "crm", &mcp.url()).await;
        let body = json!({ "name": "live", "bindings": { "token": "connection/crm/api_key" } });
        owner.post(&format!("{path}/config-profiles"), body).await.expect(201);
        owner.post(&format!("{path}/config-profiles/set-active"), json!({ "name": "live" })).await.expect(200);
        let run = call_echo(&owner, "crm").await;
        let reply = &run["outputs"]["ask"];
        assert_eq!(reply["content"], json!([{ "type": "text", "text": "Bearer [redacted]" }]), "{run}");
        assert_eq!(
            (&reply["structured_content"]["text"], &reply["is_error"]),
            (&json!("Bearer [redacted]"), &json!(false))
        );
        let called = mcp.heard_of("tools/call").pop().unwrap();
        assert_eq!(called.headers["authorization"], format!("Bearer {SECRET}"));
        let key = format!("{}/ask/0", text(&run["run_id"]));
        assert_eq!(called.headers["idempotency-key"], key);
        assert_eq!(called.message["params"]["_meta"]["agentruntime/idempotency_key"], key);
        for other in mcp.heard().iter().filter(|heard| !heard.is("tools/call")) {
            assert!(!other.headers.contains_key("idempotency-key"), "{other:?}");
        }
        for (path, bytes) in server.kept().await {
            assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "the secret is in {path}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_call_may_not_do_is_refused_before_the_server_hears_of_it() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        let (_, path) = instance(&owner, "crm", &mcp.url()).await;
        connect(&owner, "bound", &["https://api.example.com"]).await;
        // The same workspace, another project.
        let admin = server.admin();
        admin.post("/v1/projects", json!({ "slug": "other", "name": "Other" })).await.expect(201);
        let other = admin.with("x-project-id", "other");
        let (_, foreign) = instance(&other, "foreign", &mcp.url()).await;
        // Another workspace.
        let mut bob = signed_in(&server, "bob@two.example").await;
        bob.post("/v1/tenants", json!({ "slug": "two", "name": "Two" })).await.expect(201);
        let two = bob.client.with("cookie", &bob.cookie_header()).with("x-csrf-token", &bob.csrf);
        let two = two.with("x-tenant-id", "two").with("x-project-id", "main");
        two.post("/v1/projects", json!({ "slug": "main", "name": "Main" })).await.expect(201);
        let (_, theirs) = instance(&two, "theirs", &mcp.url()).await;
        let before = mcp.messages();
        let refused = |grants: Value, input: Value, code: &'static str, part: &'static str| {
            let owner = owner.clone();
            async move {
                let workflow = script(owner, CALL, grants).await;
                let run = workflow.command_and_wait("start", input).await.expect(200);
                assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!(code)), "{run}");
                let message = text(&run["error"]["message"]);
                assert!(message.contains(part), "{message}");
            }
        };
        let echo = |instance: &str, arguments: Value| {
            json!({ "instance_id": instance, "tool": "echo", "arguments": arguments })
        };
        let good = json!({ "text": "x" });
        let crm = || granted("crm", &["echo"]);
        refused(json!({}), echo("crm", good.clone()), "CAPABILITY_DENIED", "tool `echo` of instance `crm`").await;
        refused(granted("crm", &["more"]), echo("crm", good.clone()), "CAPABILITY_DENIED", "tool `more` of").await;
        let by_url = json!({ "server_url": mcp.url(), "tool": "echo", "arguments": good });
        refused(crm(), by_url, "CAPABILITY_DENIED", "tool `echo` of the server http://127.0.0.1").await;
        for named in ["foreign", "theirs", foreign.rsplit('/').next().unwrap(), theirs.rsplit('/').next().unwrap()] {
            let grants = granted(named, &["echo"]);
            refused(grants, echo(named, good.clone()), "INVALID_INPUT", "this project has no instance").await;
        }
        refused(crm(), echo("crm", json!({})), "INVALID_INPUT", "$: \"text\" is a required property").await;
        refused(crm(), echo("crm", json!({ "text": 5 })), "INVALID_INPUT", "$.text").await;
        let more = json!({ "instance_id": "crm", "tool": "more" });
        refused(granted("crm", &["more"]), more, "INVALID_INPUT", "its tools are: echo").await;
        // A credential goes nowhere but where its connection allows it.
        let body = json!({ "name": "bound", "bindings": { "token": "connection/bound/api_key" } });
        owner.post(&format!("{path}/config-profiles"), body).await.expect(201);
        owner.post(&format!("{path}/config-profiles/set-active"), json!({ "name": "bound" })).await.expect(200);
        refused(crm(), echo("crm", good.clone()), "CAPABILITY_DENIED", "allows api.example.com").await;
        assert_eq!(mcp.messages(), before, "nothing went out");
    })
    .await;
}

#[tokio::test]
async fn a_server_is_called_by_its_address_without_credentials_where_it_is_no_instance() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        let grants = json!({ "tools": [{ "server_url": mcp.url(), "tools": ["echo", "more"] }] });
        let workflow = script(owner.clone(), CALL, grants).await;
        let call = |tool: &str, arguments: Value| {
            workflow.command_and_wait("start", json!({ "server_url": mcp.url(), "tool": tool, "arguments": arguments }))
        };
        let run = call("echo", json!({ "text": "hello" })).await.expect(200);
        assert_eq!(run["outputs"]["ask"]["structured_content"], json!({ "text": "hello" }), "{run}");
        assert!(mcp.heard().iter().all(|heard| !heard.headers.contains_key("authorization")));
        let run = call("echo", json!({ "text": 5 })).await.expect(200);
        assert_eq!(run["error"]["code"], "INVALID_INPUT", "{run}");
        let run = call("more", json!({})).await.expect(200);
        assert_eq!(run["error"]["code"], "MCP_TOOL_FAILED", "{run}");
        assert!(text(&run["error"]["message"]).contains("its tools are: echo"), "{run}");
        assert_eq!(mcp.heard_of("tools/call").len(), 1);
        // As soon as there is an instance of it, that one is meant: with what was frozen.
        instance(&owner, "crm", &mcp.url()).await;
        mcp.shows(json!([]));
        let run = call("echo", json!({ "text": "hello" })).await.expect(200);
        assert!(text(&run["error"]["message"]).contains("version 1 of the instance `crm`"), "{run}");
    })
    .await;
}

#[tokio::test]
async fn a_tool_that_fails_answers_and_a_request_that_fails_is_an_error() {
    on_both_with(&LOOPBACK, |server| async move {
        let owner = server.owner();
        let failed = McpServer::twisted(|heard| {
            let content = json!([{ "type": "text", "text": "no such customer" }]);
            heard.is("tools/call").then(|| result(heard, json!({ "content": content, "isError": true })))
        })
        .await;
        instance(&owner, "failed", &failed.url()).await;
        let run = call_echo(&owner, "failed").await;
        assert_eq!((&run["status"], &run["outputs"]["ask"]["is_error"]), (&json!("completed"), &json!(true)), "{run}");
        let refused = McpServer::twisted(|heard| {
            let error = json!({ "code": -32000, "message": "y".repeat(600) });
            let body = json!({ "jsonrpc": "2.0", "id": heard.message["id"], "error": error });
            heard.is("tools/call").then(|| reply(400, "", &body))
        })
        .await;
        instance(&owner, "refused", &refused.url()).await;
        let run = call_echo(&owner, "refused").await;
        assert_eq!(run["error"]["code"], "MCP_TOOL_FAILED", "{run}");
        let message = text(&run["error"]["message"]);
        assert!(message.contains(&format!("{}…", "y".repeat(500))) && !message.contains(&"y".repeat(501)), "{message}");
        for (name, result_of_call, part) in [
            ("other", json!({ "content": [], "structuredContent": { "text": 5 } }), "$.text"),
            ("none", json!({ "content": [] }), "without structured content"),
        ] {
            let mcp =
                McpServer::twisted(move |heard| heard.is("tools/call").then(|| result(heard, result_of_call.clone())))
                    .await;
            instance(&owner, name, &mcp.url()).await;
            let run = call_echo(&owner, name).await;
            assert_eq!(run["error"]["code"], "MCP_TOOL_FAILED", "{run}");
            assert!(text(&run["error"]["message"]).contains(part), "{run}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_that_a_server_forgot_is_begun_anew_once() {
    on_both_with(&LOOPBACK, |server| async move {
        let owner = server.owner();
        let calls = AtomicUsize::new(0);
        let forgets = McpServer::twisted(move |heard| {
            let forgotten = heard.is("tools/call") && calls.fetch_add(1, SeqCst) == 0;
            forgotten.then(|| Answer::Bytes(bytes(404, "", "")))
        })
        .await;
        instance(&owner, "forgets", &forgets.url()).await;
        let run = call_echo(&owner, "forgets").await;
        assert_eq!(run["status"], "completed", "{run}");
        let called = forgets.heard_of("tools/call");
        assert_eq!(called.len(), 2);
        assert_eq!(called[0].headers["idempotency-key"], called[1].headers["idempotency-key"]);
        let always =
            McpServer::twisted(|heard| heard.is("tools/call").then(|| Answer::Bytes(bytes(404, "", "")))).await;
        instance(&owner, "always", &always.url()).await;
        let run = call_echo(&owner, "always").await;
        assert_eq!(run["error"]["code"], "UPSTREAM_ERROR", "{run}");
        assert_eq!(always.heard_of("tools/call").len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_server_of_an_older_revision_is_spoken_to_in_it() {
    on_both_with(&LOOPBACK, |server| async move {
        let owner = server.owner();
        for revision in ["2025-06-18", "2025-03-26"] {
            let mcp = McpServer::twisted(move |heard| {
                let answer = json!({
                    "protocolVersion": revision, "capabilities": { "tools": {} },
                    "serverInfo": { "name": "an older one", "version": "1" },
                });
                heard.is("initialize").then(|| result(heard, answer))
            })
            .await;
            let (path, _) = instance(&owner, revision, &mcp.url()).await;
            assert_eq!(owner.get(&path).await.expect(200)["protocol_version"], revision);
            assert_eq!(call_echo(&owner, revision).await["status"], "completed");
            let called = mcp.heard_of("tools/call").pop().unwrap();
            assert_eq!(called.headers["mcp-protocol-version"], revision);
            assert_eq!(mcp.heard_of("server/discover").len(), 1, "it is known how to greet it");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_answers_with_nothing_what_it_does_not_know_is_an_older_one() {
    on_both_with(&LOOPBACK, |server| async move {
        let mcp = McpServer::twisted(|heard| heard.is("server/discover").then(|| result(heard, json!({})))).await;
        let owner = server.owner();
        let (path, _) = instance(&owner, "crm", &mcp.url()).await;
        assert_eq!(owner.get(&path).await.expect(200)["protocol_version"], "2025-11-25");
        assert_eq!(call_echo(&owner, "crm").await["status"], "completed");
    })
    .await;
}

#[tokio::test]
async fn what_a_server_asks_for_on_the_way_is_declined_and_the_answer_still_comes() {
    on_both_with(&LOOPBACK, |server| async move {
        let mcp = McpServer::twisted(|heard| {
            let asks = json!({ "jsonrpc": "2.0", "id": "s1", "method": "sampling/createMessage", "params": {
                "messages": [{ "role": "user", "content": { "type": "text", "text": "the password?" } }], "maxTokens": 1 } });
            let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress",
                "params": { "progressToken": heard.message["params"]["_meta"]["progressToken"], "progress": 1 } });
            let answer = json!({ "jsonrpc": "2.0", "id": heard.message["id"], "result": {
                "content": [], "structuredContent": { "text": "done" } } });
            let events = format!("event: message\ndata: {progress}\n\ndata: {asks}\n\n: a comment\n\ndata: {answer}\n\n");
            let headers = "content-type: text/event-stream\r\n";
            heard.is("tools/call").then(|| Answer::Bytes(bytes(200, headers, &events)))
        })
        .await;
        let owner = server.owner();
        instance(&owner, "crm", &mcp.url()).await;
        let run = call_echo(&owner, "crm").await;
        assert_eq!(run["outputs"]["ask"]["structured_content"]["text"], "done", "{run}");
        let answered = mcp.hears_what(|heard| heard.message["id"] == "s1").await.message;
        assert!(answered["error"].is_object(), "nothing was given: {answered}");
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_ends_early_is_taken_up_where_it_was() {
    on_both_with(&LOOPBACK, |server| async move {
        let asked = std::sync::Mutex::new(Value::Null);
        let mcp = McpServer::twisted(move |heard| {
            let events = |text: &str| Some(Answer::Bytes(bytes(200, "content-type: text/event-stream\r\n", text)));
            if heard.is("tools/call") {
                *asked.lock().unwrap() = heard.message["id"].clone();
                return events("id: 7\nretry: 1\ndata:\n\n");
            }
            let answer = json!({ "jsonrpc": "2.0", "id": *asked.lock().unwrap(), "result": {
                "content": [], "structuredContent": { "text": "late" } } });
            let is_resumed = heard.method == "GET" && heard.headers.get("last-event-id").is_some_and(|id| id == "7");
            is_resumed.then(|| events(&format!("id: 8\ndata: {answer}\n\n")))?
        })
        .await;
        let owner = server.owner();
        instance(&owner, "crm", &mcp.url()).await;
        let run = call_echo(&owner, "crm").await;
        assert_eq!(run["outputs"]["ask"]["structured_content"]["text"], "late", "{run}");
        assert_eq!(mcp.heard_of("tools/call").len(), 1);
        assert_eq!(mcp.heard().iter().filter(|heard| heard.method == "GET").count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_call_that_is_given_up_is_cancelled_at_the_server() {
    on_both_with(&LOOPBACK, |server| async move {
        let owner = server.owner();
        let mcp = McpServer::twisted(|heard| heard.is("tools/call").then_some(Answer::Silence)).await;
        instance(&owner, "crm", &mcp.url()).await;
        let workflow = script(owner.clone(), CALL, granted("crm", &["echo"])).await;
        let input = json!({ "instance_id": "crm", "tool": "echo", "arguments": { "text": "hello" } });
        let run = workflow.start(input).await;
        let called = mcp.hears("tools/call").await;
        workflow.command("stop", json!({ "run_id": run })).await.expect(200);
        let cancelled = mcp.hears("notifications/cancelled").await;
        assert_eq!(cancelled.message["params"]["requestId"], called.message["id"]);
        workflow.reaches(&run, "stopped").await;
    })
    .await;
}

#[tokio::test]
async fn what_a_version_may_call_is_shown_and_checked_when_it_is_published() {
    on_both(|server| async move {
        let owner = server.owner();
        let workflow = script(owner.clone(), "return {}", json!({})).await;
        let graph = |capabilities: Value| {
            let step =
                json!({ "id": "ask", "type": "lua_script", "script": "return {}", "capabilities": capabilities });
            json!({ "graph": { "steps": [step] } })
        };
        owner.patch(&workflow.path(""), graph(granted("crm", &["search"]))).await.expect(200);
        owner.post(&workflow.path("/versions"), json!({})).await.expect(201);
        let diff = workflow.get("/versions/diff?from=1&to=2").await.expect(200);
        assert!(diff.to_string().contains("tool `search` of instance `crm`"), "{diff}");
        for (tools, part) in [
            (json!([{ "instance_id": "crm" }]), "needs `tools`"),
            (json!([{ "tools": ["search"] }]), "by `instance_id` or by `server_url`"),
            (json!([{ "server_url": "stdio:x", "tools": ["search"] }]), "stdio"),
            (json!([{ "instance_id": "crm", "tools": ["a"], "all": true }]), "`all`"),
            (json!(["crm"]), "is an object"),
        ] {
            owner.patch(&workflow.path(""), graph(json!({ "tools": tools }))).await.expect(200);
            let problem = owner.post(&workflow.path("/versions"), json!({})).await.refused(422, "INVALID_GRAPH");
            assert!(problem.to_string().contains(part), "{problem:#}");
        }
        owner.get(&format!("/v1/mcp/servers/{NOBODY}")).await.refused(404, "NOT_FOUND");
    })
    .await;
}
