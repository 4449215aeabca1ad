//! Steps in which a language model works on its own.

use crate::{
    server::{Client, Server},
    vendors::{Vendor, calls, chat, ok},
    workflow::Workflow,
};
use serde_json::{Value, json};

/// What is served here may be reached.
const LOOPBACK: [&str; 1] = ["--egress-allowed-networks=127.0.0.0/8"];

/// A workflow of one agent at a vendor.
async fn agent(client: Client, vendor: &Vendor, more: Value) -> Workflow {
    let body = json!({ "vendor": "openai_compatible", "name": "v", "base_url": vendor.origin });
    client.post("/v1/providers", body).await.expect(201);
    let mut agent = json!({ "model": "direct.v.m", "system": "Work." });
    agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let step = json!({ "id": "work", "type": "agent_call", "agent": agent, "prompt": "Count {{ input.what }}." });
    Workflow::publish(client, json!({ "steps": [step] })).await
}

#[tokio::test]
async fn a_model_that_asks_for_no_tool_is_done() {
    let server = Server::start_with(None, &LOOPBACK);
    let vendor = Vendor::start(vec![ok(chat("Three."))]).await;
    let workflow = agent(server.owner(), &vendor, json!({})).await;
    let ended = workflow.command_and_wait("start", json!({ "what": "sheep" })).await.expect(200);
    let result = &ended["outputs"]["work"];
    assert_eq!(
        (&result["text"], &result["turns"], &result["tool_calls"], &result["tokens_in"]),
        (&json!("Three."), &json!(1), &json!([]), &json!(11)),
        "{ended}"
    );
    let body = &vendor.came()[0].body;
    assert!(body.get("tools").is_none(), "{body}");
    assert_eq!(body["messages"][1], json!({ "role": "user", "content": "Count sheep." }));
}

#[tokio::test]
async fn a_model_that_asks_for_what_it_does_not_have_is_told_so_and_not_for_ever() {
    let server = Server::start_with(None, &LOOPBACK);
    let vendor = Vendor::start(vec![ok(calls(&[("rm_rf", "{}"), ("other", "not json")])), ok(chat("Then not."))]).await;
    let workflow = agent(server.owner(), &vendor, json!({})).await;
    let ended = workflow.command_and_wait("start", json!({ "what": "x" })).await.expect(200);
    let result = &ended["outputs"]["work"];
    assert_eq!(
        (&result["text"], &result["turns"], &result["tokens_in"]),
        (&json!("Then not."), &json!(2), &json!(22)),
        "{ended}"
    );
    assert_eq!(result["tool_calls"][0], json!({ "turn": 1, "name": "rm_rf", "arguments": {}, "ok": false }));
    let told = &vendor.came()[1].body["messages"];
    assert_eq!(told[3]["role"], "tool", "{told}");
    assert_eq!((&told[3]["tool_call_id"], &told[3]["content"]), (&json!("call_0"), &json!("there is no tool `rm_rf`")));

    let server = Server::start_with(None, &LOOPBACK);
    let endless = Vendor::start(vec![ok(calls(&[("again", "{}")]))]).await;
    let workflow = agent(server.owner(), &endless, json!({ "max_turns": 3 })).await;
    let ended = workflow.command_and_wait("start", json!({ "what": "x" })).await.expect(200);
    assert_eq!(ended["error"]["code"], "LLM_REQUEST_FAILED", "{ended}");
    assert!(ended["error"]["message"].as_str().unwrap().contains("`max_turns` of 3"), "{ended}");
    assert_eq!((&ended["error"]["details"]["tokens_in"], endless.came().len()), (&json!(33), 3), "{ended}");

    let server = Server::start_with(None, &LOOPBACK);
    let workflow = agent(server.owner(), &endless, json!({ "token_budget": 20 })).await;
    let ended = workflow.command_and_wait("start", json!({ "what": "x" })).await.expect(200);
    assert!(ended["error"]["message"].as_str().unwrap().contains("`token_budget` of 20"), "{ended}");
    assert_eq!(ended["error"]["details"]["turns"], 2, "{ended}");
}
