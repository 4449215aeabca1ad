//! Steps in which a language model works on its own.

use crate::{
    mcp_server::{McpServer, echo_tool, instance, reply, result},
    server::{Client, Server, on_both_with},
    vendors::{Vendor, calls, chat, ok},
    workflow::Workflow,
};
use serde_json::{Value, json};

/// What is served here may be reached.
pub(crate) const LOOPBACK: [&str; 1] = ["--egress-allowed-networks=127.0.0.0/8"];

/// A workflow of one agent at a vendor.
pub(crate) async fn agent(client: Client, vendor: &Vendor, more: Value) -> Workflow {
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

#[tokio::test]
async fn a_model_works_with_the_tools_that_its_step_was_granted() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        instance(&owner, "crm", &mcp.url()).await;
        let wanted = calls(&[("echo", "{\"text\":\"one\"}"), ("echo", "{\"text\":2}"), ("delete", "{}")]);
        let vendor = Vendor::start(vec![ok(wanted), ok(chat("Done."))]).await;
        let tools = json!([{ "instance_id": "crm", "tool_name": "echo" }]);
        let workflow = agent(owner, &vendor, json!({ "tools": tools })).await;
        let ended = workflow.command_and_wait("start", json!({ "what": "x" })).await.expect(200);
        let result = &ended["outputs"]["work"];
        assert_eq!((&result["text"], &result["turns"]), (&json!("Done."), &json!(2)), "{ended}");
        let oks: Vec<&Value> = result["tool_calls"].as_array().unwrap().iter().map(|it| &it["ok"]).collect();
        assert_eq!(oks, [true, false, false], "{result}");
        assert_eq!(mcp.heard_of("tools/call").len(), 1, "what does not fit, or is none of its tools, does not go out");

        let came = vendor.came();
        let function = &came[0].body["tools"][0]["function"];
        assert_eq!((&function["name"], &function["parameters"]), (&json!("echo"), &echo_tool()["inputSchema"]));
        let told: Vec<&str> = came[1].body["messages"].as_array().unwrap()[3..]
            .iter()
            .map(|it| it["content"].as_str().unwrap())
            .collect();
        assert_eq!(told[0], "{\"text\":\"one\"}");
        assert!(told[1].contains("$.text"), "{}", told[1]);
        assert_eq!(told[2], "there is no tool `delete`");
        // Every turn and every call is in the journal.
        let events = workflow.events(ended["run_id"].as_str().unwrap()).await;
        let asked: Vec<&str> = events
            .iter()
            .filter(|event| event["event_type"] == "request_made")
            .map(|event| event["data"]["capability"].as_str().unwrap())
            .collect();
        assert_eq!(asked, ["mcp.describe", "llm.resolve", "llm.request", "mcp.call", "mcp.call", "llm.request"]);
    })
    .await;
}

#[tokio::test]
async fn a_model_is_told_that_a_tool_failed_and_not_where_it_is() {
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    let mcp = McpServer::twisted(|heard| heard.is("tools/call").then(|| reply(500, "", &json!({})))).await;
    instance(&owner, "crm", &mcp.url()).await;
    let vendor = Vendor::start(vec![ok(calls(&[("echo", "{\"text\":\"one\"}")])), ok(chat("Done."))]).await;
    let tools = json!([{ "instance_id": "crm", "tool_name": "echo" }]);
    let workflow = agent(owner, &vendor, json!({ "tools": tools })).await;
    let ended = workflow.command_and_wait("start", json!({ "what": "x" })).await.expect(200);
    assert_eq!(ended["outputs"]["work"]["tool_calls"][0]["ok"], false, "{ended}");
    let told = vendor.came()[1].body["messages"].as_array().unwrap().last().unwrap()["content"].clone();
    assert_eq!(told, "the tool did not answer as it should; it may work later");
    // Whoever looks after the workflow finds what happened.
    let events = workflow.events(ended["run_id"].as_str().unwrap()).await;
    let message = events.iter().find_map(|event| event["data"]["error"]["message"].as_str()).unwrap();
    assert!(message.contains("status 500") && message.contains("tool `echo` of instance `crm`"), "{message}");
}

#[tokio::test]
async fn a_step_calls_a_tool_and_gives_what_it_says_as_data() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        instance(&owner, "crm", &mcp.url()).await;
        let call = |more: Value| {
            let mut step = json!({ "id": "call", "type": "mcp_call", "tool_name": "echo", "tool_args": { "text": "{{ input.text }}" } });
            step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Workflow::publish(owner.clone(), json!({ "steps": [step] }))
        };
        let by_name = call(json!({ "instance_id": "crm" })).await;
        let ended = by_name.command_and_wait("start", json!({ "text": "hello" })).await.expect(200);
        assert_eq!(ended["outputs"]["call"], json!({ "text": "hello" }), "{ended}");
        let run = ended["run_id"].as_str().unwrap();
        assert_eq!(mcp.heard_of("tools/call")[0].headers["idempotency-key"], format!("{run}/call/0"));
        let by_url = call(json!({ "server_url": mcp.url() })).await;
        let ended = by_url.command_and_wait("start", json!({ "text": "again" })).await.expect(200);
        assert_eq!(ended["outputs"]["call"]["text"], "again", "{ended}");

        let wrong = by_name.command_and_wait("start", json!({ "text": 3 })).await.expect(200);
        assert_eq!(wrong["error"]["code"], "INVALID_INPUT", "{wrong}");
        let elsewhere = json!({ "trigger_payload": { "text": "x" }, "trigger_steps": { "call": { "tool_name": "delete" } } });
        let denied = by_name.command_and_wait("start", elsewhere).await.expect(200);
        assert_eq!(denied["error"]["code"], "CAPABILITY_DENIED", "{denied}");
    })
    .await;
}

/// What a tool says, in the forms that it may have.
#[tokio::test]
async fn a_tool_s_text_is_read_where_it_is_json_and_left_where_it_is_none() {
    let said = |text: &'static str, is_error: bool| async move {
        let server = Server::start_with(None, &LOOPBACK);
        let mcp = McpServer::twisted(move |heard| {
            heard.is("tools/call").then(|| {
                let content = json!([{ "type": "text", "text": text }]);
                result(heard, json!({ "content": content, "isError": is_error }))
            })
        })
        .await;
        let tool = json!({ "name": "say", "inputSchema": { "type": "object" } });
        mcp.shows(json!([tool]));
        instance(&server.owner(), "crm", &mcp.url()).await;
        let step = json!({ "id": "say", "type": "mcp_call", "tool_name": "say", "instance_id": "crm" });
        let workflow = Workflow::publish(server.owner(), json!({ "steps": [step] })).await;
        workflow.command_and_wait("start", json!({})).await.expect(200)
    };
    assert_eq!(said("[1, {\"a\": null}]", false).await["outputs"]["say"], json!([1, { "a": null }]));
    let plain = said("not json", false).await;
    assert_eq!(plain["outputs"]["say"]["text"], "not json", "{plain}");
    assert_eq!(plain["outputs"]["say"]["content"][0]["type"], "text");
    let failed = said("no such customer", true).await;
    assert_eq!(failed["error"]["code"], "MCP_TOOL_FAILED", "{failed}");
    assert!(failed["error"]["message"].as_str().unwrap().contains("no such customer"), "{failed}");
}
