//! Servers of MCP that others wrote, registered and called as a user would.

use crate::{
    connections::{LOOPBACK, script, text},
    mcp::{CALL, granted},
    mcp_server::instance,
    real,
    server::Server,
};
use serde_json::{Value, json};

#[tokio::test]
async fn the_server_with_everything_is_discovered_and_called() {
    let Some(everything) = real::mcp_everything() else { return };
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    let (server_path, _) = instance(&owner, "everything", everything.hello["url"].as_str().unwrap()).await;
    let version = owner.get(&format!("{server_path}/versions/1")).await.expect(200);
    let names: Vec<&str> = version["tools"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"echo") && names.contains(&"get-structured-content"), "{names:?}");
    let tools = [
        "echo",
        "get-sum",
        "get-structured-content",
        "get-tiny-image",
        "trigger-long-running-operation",
        "get-resource-links",
    ];
    let workflow = script(owner.clone(), CALL, granted("everything", &tools)).await;
    let call = |tool: &str, arguments: Value| {
        workflow.command_and_wait("start", json!({ "instance_id": "everything", "tool": tool, "arguments": arguments }))
    };
    let run = call("echo", json!({ "message": "hello" })).await.expect(200);
    let reply = json!({ "content": [{ "type": "text", "text": "Echo: hello" }], "is_error": false });
    assert_eq!(run["outputs"]["ask"], reply, "{run:#}");
    let run = call("get-structured-content", json!({ "location": "Chicago" })).await.expect(200);
    assert!(run["outputs"]["ask"]["structured_content"]["temperature"].is_number(), "{run:#}");
    let run = call("get-tiny-image", json!({})).await.expect(200);
    let kinds: Vec<&Value> =
        run["outputs"]["ask"]["content"].as_array().unwrap().iter().map(|it| &it["type"]).collect();
    assert!(kinds.contains(&&json!("image")), "{kinds:?}");
    let run = call("get-resource-links", json!({ "count": 2 })).await.expect(200);
    assert!(run["outputs"]["ask"]["content"].to_string().contains("resource_link"), "{run:#}");
    // It tells of its progress on the way.
    let run = call("trigger-long-running-operation", json!({ "duration": 1, "steps": 5 })).await.expect(200);
    assert_eq!(run["status"], "completed", "{run:#}");
    let run = call("get-sum", json!({ "a": "one" })).await.expect(200);
    assert_eq!(run["error"]["code"], "INVALID_INPUT", "{run:#}");
    assert!(text(&run["error"]["message"]).contains("$.a"), "{run:#}");
}

#[tokio::test]
async fn a_server_of_the_newest_revision_is_spoken_to_in_it() {
    let Some(tools) = real::mcp_python() else { return };
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    let (server_path, _) = instance(&owner, "tools", tools.hello["url"].as_str().unwrap()).await;
    assert_eq!(owner.get(&server_path).await.expect(200)["protocol_version"], "2026-07-28");
    let workflow = script(owner.clone(), CALL, granted("tools", &["add_up", "fails"])).await;
    let call = |tool: &str, arguments: Value| {
        workflow.command_and_wait("start", json!({ "instance_id": "tools", "tool": tool, "arguments": arguments }))
    };
    let run = call("add_up", json!({ "prices": [1, 2] })).await.expect(200);
    let total = json!({ "total": 3, "lines": ["1 EUR", "2 EUR"] });
    assert_eq!(run["outputs"]["ask"]["structured_content"], total, "{run:#}");
    let run = call("add_up", json!({ "prices": "1" })).await.expect(200);
    assert_eq!(run["error"]["code"], "INVALID_INPUT", "{run:#}");
    let run = call("fails", json!({ "reason": "no luck" })).await.expect(200);
    assert_eq!(run["outputs"]["ask"]["is_error"], true, "{run:#}");
    assert!(run["outputs"]["ask"]["content"].to_string().contains("no luck"), "{run:#}");
}

#[test]
fn the_conformance_suite_is_content_with_our_client() {
    for (scenario, tool, arguments) in [
        ("initialize", "any", json!({})),
        ("tools_call", "add_numbers", json!({ "a": 2, "b": 3 })),
        ("sse-retry", "test_reconnection", json!({})),
        ("request-metadata", "any", json!({})),
        ("http-standard-headers", "test_headers", json!({})),
        ("http-invalid-tool-headers", "valid_tool", json!({ "region": "x" })),
        ("json-schema-ref-no-deref", "lookup_user", json!({})),
    ] {
        let Some(ended) = real::mcp_conformance(scenario, tool, &arguments) else { return };
        let told = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success(), "{scenario}: {told}{}", String::from_utf8_lossy(&ended.stderr));
    }
}
