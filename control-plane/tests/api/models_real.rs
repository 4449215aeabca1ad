//! Vendors of language models as somebody else imitates them, who checks what clients send and judges how they bear faults.

use crate::{connections::LOOPBACK, real, server::Server, workflow::Workflow};
use serde_json::{Value, json};

/// Each vendor's part of the stand-in, and a model of it.
const VENDORS: [(&str, &str, &str, &str); 4] = [
    ("openai", "openai", "/v1", "gpt-4o-mini"),
    ("responses", "openai_compatible", "/v1", "gpt-4o-mini"),
    ("anthropic", "anthropic", "/anthropic/v1", "claude-3-5-sonnet-20241022"),
    ("google", "google", "/gemini/v1beta", "gemini-1.5-flash"),
];

async fn post(url: &str, path: &str, body: Value) {
    let sent = reqwest::Client::new().post(format!("{url}{path}")).json(&body).send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
}

#[tokio::test]
async fn all_vendors_take_what_they_are_sent_and_their_faults_are_borne() {
    let Some(models) = real::models() else { return };
    let url = models.hello["url"].as_str().unwrap();
    let server = Server::start_with(None, &LOOPBACK);
    for (name, vendor, path, model) in VENDORS {
        let body = json!({ "vendor": vendor, "name": name, "base_url": format!("{url}{path}"), "api_key": "sk-test" });
        server.owner().post("/v1/providers", body).await.expect(201);
        let params = if name == "responses" { json!({ "api": "responses" }) } else { json!({ "max_tokens": 64 }) };
        let messages = json!([
            { "role": "user", "content": "Hello" }, { "role": "assistant", "content": "Yes?" },
            { "role": "user", "content": [{ "type": "text", "text": "What is it?" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw0KGgo=" } }] },
        ]);
        let step = json!({
            "id": "ask", "type": "llm_call", "model_ref": format!("direct.{name}.{model}"), "system": "Be brief.",
            "prompt": messages, "llm_params": params,
        });
        let workflow = Workflow::publish(server.owner(), json!({ "steps": [step.clone()] })).await;
        let run = || workflow.command_and_wait("start", json!({}));
        let ended = run().await.expect(200);
        let result = &ended["outputs"]["ask"];
        assert!(!result["text"].as_str().unwrap_or_default().is_empty(), "{name}: {ended:#}");
        assert!(result["tokens_in"].as_u64() > Some(0) && result["tokens_out"].as_u64() > Some(0), "{name}: {ended:#}");
        // The same piece by piece, of which the first breaks off.
        let mut streamed = step.clone();
        streamed["llm_params"]["stream"] = true.into();
        let streaming = Workflow::publish(server.owner(), json!({ "steps": [streamed] })).await;
        let cut =
            json!({ "behaviors": [{ "type": "stream_fault", "kind": "truncate", "after_chunks": 2, "times": 1 }] });
        post(url, "/_llmock/scenario", cut).await;
        let ended = streaming.command_and_wait("start", json!({})).await.expect(200);
        for name in ["text", "tokens_in", "tokens_out"] {
            assert_eq!(ended["outputs"]["ask"][name], result[name], "{name}: {ended:#}");
        }
        // Twice too busy, with how long to wait; then it answers.
        let busy = json!({ "behaviors": [{ "type": "fail", "status": 429, "times": 2, "retry_after": 0.01 }] });
        post(url, "/_llmock/scenario", busy).await;
        let borne = run().await.expect(200);
        assert_eq!(borne["status"], "completed", "{name}: {borne:#}");
        let bad = json!({ "behaviors": [{ "type": "fail", "status": 401, "times": 1 }] });
        post(url, "/_llmock/scenario", bad).await;
        let refused = run().await.expect(200);
        assert_eq!(
            (
                &refused["error"]["code"],
                &refused["error"]["details"]["status"],
                &refused["error"]["details"]["attempts"]
            ),
            (&json!("LLM_REQUEST_FAILED"), &json!(401), &json!(1)),
            "{name}: {refused:#}"
        );
    }
}

#[tokio::test]
async fn an_agent_calls_the_tools_that_another_s_model_asks_for() {
    let Some(models) = real::models() else { return };
    let url = models.hello["url"].as_str().unwrap();
    let server = Server::start_with(None, &LOOPBACK);
    let mcp = crate::mcp_server::McpServer::start().await;
    crate::mcp_server::instance(&server.owner(), "crm", &mcp.url()).await;
    for (name, vendor, path, model) in VENDORS {
        let body = json!({ "vendor": vendor, "name": name, "base_url": format!("{url}{path}"), "api_key": "sk-test" });
        server.owner().post("/v1/providers", body).await.expect(201);
        let params = if name == "responses" { json!({ "api": "responses" }) } else { json!({}) };
        let agent = json!({
            "model_ref": format!("direct.{name}.{model}"), "llm_params": params,
            "tools": [{ "instance_id": "crm", "tool_name": "echo" }],
        });
        let step = json!({ "id": "work", "type": "agent_call", "agent": agent, "prompt": "Use the tool." });
        let workflow = Workflow::publish(server.owner(), json!({ "steps": [step] })).await;
        let ended = workflow.command_and_wait("start", json!({})).await.expect(200);
        let result = &ended["outputs"]["work"];
        assert_eq!(
            (&result["turns"], &result["tool_calls"][0]["name"]),
            (&json!(2), &json!("echo")),
            "{name}: {ended:#}"
        );
        assert!(!result["text"].as_str().unwrap_or_default().is_empty(), "{name}: {ended:#}");
    }
    assert_eq!(mcp.heard_of("tools/call").len(), VENDORS.len(), "each asked once, and its arguments fitted");
}
