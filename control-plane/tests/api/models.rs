//! Language models: providers, and steps that ask them in each vendor's form.

use crate::{
    server::{Client, Server, on_both, on_both_with},
    vendors::{Said, Vendor, chat, no, ok},
    workflow::Workflow,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const KEY: &str = "sk-live-aa51c0ffee77";
/// What is served here may be reached.
const LOOPBACK: [&str; 1] = ["--egress-allowed-networks=127.0.0.0/8"];

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn provide(client: &Client, vendor: &str, origin: &str) -> Value {
    let body = json!({ "vendor": vendor, "base_url": format!("{origin}/v1"), "api_key": KEY });
    client.post("/v1/providers", body).await.expect(201)
}

/// A workflow that asks a model once.
async fn asking(client: Client, model: &str, more: Value) -> Workflow {
    let mut step =
        json!({ "id": "ask", "type": "llm_call", "model_ref": model, "prompt": "Say hello to {{ input.name }}." });
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Workflow::publish(client, json!({ "steps": [step] })).await
}

async fn started(workflow: &Workflow) -> Value {
    workflow.command_and_wait("start", json!({ "name": "Ada" })).await.expect(200)
}

#[tokio::test]
async fn a_provider_is_written_and_its_key_never_read_back() {
    on_both(|server| async move {
        let owner = server.owner();
        let new = json!({ "vendor": "openai", "api_key": KEY });
        let made = owner.post("/v1/providers", new.clone()).await.expect(201);
        assert_eq!(
            (&made["name"], &made["base_url"], &made["has_key"], &made["is_enabled"]),
            (&json!("openai"), &json!("https://api.openai.com/v1"), &json!(true), &json!(true))
        );
        owner.post("/v1/providers", new).await.refused(409, "PROVIDER_NAME_TAKEN");
        let path = format!("/v1/providers/{}", text(&made["id"]));
        let changed = owner.patch(&path, json!({ "name": "main", "models": ["gpt-x"] })).await.expect(200);
        assert_eq!((&changed["name"], &changed["models"]), (&json!("main"), &json!(["gpt-x"])));
        assert_eq!(owner.get("/v1/providers").await.expect(200)["items"], json!([changed]));
        // A key goes nowhere but where whoever gave it said.
        let elsewhere = json!({ "base_url": "https://evil.example/v1" });
        owner.patch(&path, elsewhere).await.refused(422, "INVALID_FIELD");
        owner.patch(&path, json!({ "base_url": "https://api.openai.com/v2" })).await.refused(422, "INVALID_FIELD");
        let elsewhere = json!({ "base_url": "https://other.example/v1", "api_key": "another-one" });
        let moved = owner.patch(&path, elsewhere).await.expect(200);
        assert!(![&made, &changed, &moved].iter().any(|it| it.to_string().contains(KEY)));
        assert!(!moved.to_string().contains("another-one"));
        owner.delete(&path).await.expect(204);
        owner.delete(&path).await.refused(404, "NOT_FOUND");
        for (field, value) in [
            ("name", json!("a.b")),
            ("base_url", json!("ftp://a.example")),
            ("base_url", json!("https://a.example/?key=1")),
            ("api_key", json!("")),
            ("models", json!(["a b"])),
        ] {
            let mut body = json!({ "vendor": "openai" });
            body[field] = value;
            owner.post("/v1/providers", body).await.refused(422, "INVALID_FIELD");
        }
        let nowhere = owner.post("/v1/providers", json!({ "vendor": "openai_compatible" })).await;
        nowhere.refused(422, "INVALID_FIELD");
        let audit = server.admin().get("/v1/audit?limit=10").await.expect(200).to_string();
        assert!(audit.contains("provider.delete") && !audit.contains(KEY) && !audit.contains("another-one"));
    })
    .await;
}

#[tokio::test]
async fn each_vendor_is_asked_in_its_own_form() {
    on_both_with(&LOOPBACK, |server| async move {
        let owner = server.owner();
        let settings = json!({ "system": "Be brief.", "llm_params": { "temperature": 0, "max_tokens": 50 } });

        let openai = Vendor::start(vec![ok(chat("Hello Ada"))]).await;
        provide(&owner, "openai", &openai.origin).await;
        let workflow = asking(owner.clone(), "direct.openai.gpt-x", settings.clone()).await;
        let ended = started(&workflow).await;
        let result = &ended["outputs"]["ask"];
        assert_eq!((&result["text"], &result["model"]), (&json!("Hello Ada"), &json!("gpt-x-2026")), "{ended}");
        assert_eq!((&result["tokens_in"], &result["tokens_out"]), (&json!(11), &json!(3)));
        assert!(result["latency_ms"].is_u64(), "{result}");
        let came = &openai.came()[0];
        assert_eq!(came.path, "/v1/chat/completions");
        assert_eq!(came.headers["authorization"], format!("Bearer {KEY}"));
        let run = text(&ended["run_id"]);
        assert_eq!(came.headers["idempotency-key"], format!("{run}/ask/1"));
        assert_eq!(
            came.body,
            json!({
                "model": "gpt-x", "temperature": 0, "max_tokens": 50,
                "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Say hello to Ada." }],
            })
        );

        let anthropic = Vendor::start(vec![ok(json!({
            "model": "claude-x", "content": [{ "type": "text", "text": "Hi" }], "stop_reason": "end_turn",
            "usage": { "input_tokens": 7, "output_tokens": 2 },
        }))])
        .await;
        provide(&owner, "anthropic", &anthropic.origin).await;
        let workflow = asking(owner.clone(), "claude-x", settings.clone()).await;
        let ended = started(&workflow).await;
        assert_eq!(ended["outputs"]["ask"]["text"], "Hi", "{ended}");
        assert_eq!(ended["outputs"]["ask"]["tokens_in"], 7);
        let came = &anthropic.came()[0];
        assert_eq!((came.path.as_str(), &came.headers["x-api-key"]), ("/v1/messages", &KEY.parse().unwrap()));
        assert_eq!(came.headers["anthropic-version"], "2023-06-01");
        assert_eq!(
            came.body,
            json!({
                "model": "claude-x", "temperature": 0, "max_tokens": 50, "system": "Be brief.",
                "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Say hello to Ada." }] }],
            })
        );

        let google = Vendor::start(vec![ok(json!({
            "candidates": [{ "content": { "role": "model", "parts": [{ "text": "Hallo" }] }, "finishReason": "STOP" }],
            "usageMetadata": { "promptTokenCount": 5, "candidatesTokenCount": 1 },
        }))])
        .await;
        provide(&owner, "google", &google.origin).await;
        let workflow = asking(owner.clone(), "direct.google.gemini-x", settings).await;
        let ended = started(&workflow).await;
        assert_eq!(ended["outputs"]["ask"]["text"], "Hallo", "{ended}");
        let came = &google.came()[0];
        assert_eq!(came.path, "/v1/models/gemini-x:generateContent");
        assert_eq!(came.headers["x-goog-api-key"], KEY);
        assert_eq!(
            came.body,
            json!({
                "systemInstruction": { "parts": [{ "text": "Be brief." }] },
                "contents": [{ "role": "user", "parts": [{ "text": "Say hello to Ada." }] }],
                "generationConfig": { "temperature": 0, "maxOutputTokens": 50 },
            })
        );

        let responses = Vendor::start(vec![ok(json!({
            "model": "gpt-x", "status": "completed", "usage": { "input_tokens": 4, "output_tokens": 1 },
            "output": [{ "type": "reasoning" }, { "type": "message", "content": [{ "type": "output_text", "text": "Hey" }] }],
        }))])
        .await;
        let body = json!({ "vendor": "openai_compatible", "name": "own", "base_url": format!("{}/v1", responses.origin) });
        owner.post("/v1/providers", body).await.expect(201);
        let workflow = asking(owner.clone(), "direct.own.gpt-x", json!({ "llm_params": { "api": "responses" } })).await;
        let ended = started(&workflow).await;
        assert_eq!(ended["outputs"]["ask"]["text"], "Hey", "{ended}");
        let came = &responses.came()[0];
        assert_eq!(came.path, "/v1/responses");
        assert!(!came.headers.contains_key("authorization"), "it has no key");
        assert_eq!(came.body["input"][0]["content"][0]["text"], "Say hello to Ada.");

        let events = workflow.events(&text(&ended["run_id"])).await;
        assert!(!json!(events).to_string().contains(KEY));
        for (path, bytes) in server.kept().await {
            assert!(!bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()), "the key is in {path}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_in_json_is_checked_and_asked_for_once_more() {
    let server = Server::start_with(None, &LOOPBACK);
    let owner = server.owner();
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    let format =
        json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "count", "schema": schema } } });
    let vendor = Vendor::start(vec![ok(chat("It is {\"n\": \"three\"}")), ok(chat("```json\n{\"n\": 3}\n```"))]).await;
    provide(&owner, "openai", &vendor.origin).await;
    let workflow = asking(owner.clone(), "direct.openai.gpt-x", format.clone()).await;
    let ended = started(&workflow).await;
    let result = &ended["outputs"]["ask"];
    assert_eq!(
        (&result["json"], &result["tokens_in"], &result["tokens_out"]),
        (&json!({ "n": 3 }), &json!(22), &json!(6)),
        "{ended}"
    );
    let came = vendor.came();
    assert_eq!(came.len(), 2);
    assert_eq!(came[0].body["response_format"]["json_schema"], json!({ "name": "count", "schema": schema }));
    let repair = text(&came[1].body["messages"][2]["content"]);
    assert!(repair.contains("$.n"), "{repair}");

    // What would take a pattern for ever, and an account that nobody can have.
    let mut spaces = chat(&format!("```{}", " ".repeat(200_000)));
    spaces["usage"] = json!({ "prompt_tokens": -5, "completion_tokens": i64::MAX });
    let vendor = Vendor::start(vec![ok(spaces), ok(chat("So: [1, {\"a\": 2}] it is."))]).await;
    let body = json!({ "vendor": "openai_compatible", "name": "odd", "base_url": vendor.origin });
    owner.post("/v1/providers", body).await.expect(201);
    let workflow = asking(owner.clone(), "direct.odd.m", json!({ "response_format": "json" })).await;
    let ended = started(&workflow).await;
    let result = &ended["outputs"]["ask"];
    assert_eq!((&result["json"], &result["tokens_in"]), (&json!([1, { "a": 2 }]), &json!(11)), "{ended}");

    let stubborn = Vendor::start(vec![ok(chat("I would rather not."))]).await;
    let body = json!({ "vendor": "openai_compatible", "name": "stubborn", "base_url": stubborn.origin });
    owner.post("/v1/providers", body).await.expect(201);
    let workflow = asking(owner, "direct.stubborn.m", format).await;
    let ended = started(&workflow).await;
    assert_eq!(ended["error"]["code"], "LLM_REQUEST_FAILED", "{ended}");
    let details = &ended["error"]["details"];
    assert_eq!((&details["tokens_in"], &details["text"]), (&json!(22), &json!("I would rather not.")), "{ended}");
    assert_eq!(stubborn.came().len(), 2, "once more, and no more");
}

/// What a vendor says in turn, how often it is asked, and what of a failure is told: a part of the message, and the status.
type Fault = (Vec<Said>, usize, Option<(&'static str, u64)>);

#[tokio::test]
async fn what_a_vendor_refuses_is_told_and_what_it_puts_off_is_repeated() {
    let server = Server::start_with(None, &LOOPBACK);
    let soon = [("retry-after-ms", "5")];
    let busy = || no(429, &soon, json!({ "error": { "message": "slow down", "type": "rate_limit_error" } }));
    let table: Vec<Fault> = vec![
        (vec![busy(), no(503, &soon, json!({})), ok(chat("at last"))], 3, None),
        (vec![busy()], 3, Some(("slow down", 429))),
        (vec![no(529, &soon, json!({ "error": { "message": "overloaded" } })), ok(chat("x"))], 2, None),
        (
            vec![no(401, &[], json!({ "error": { "message": "bad key", "code": "invalid_api_key" } }))],
            1,
            Some(("bad key", 401)),
        ),
        (
            vec![no(400, &[], json!({ "error": { "message": "too long", "status": "INVALID_ARGUMENT" } }))],
            1,
            Some(("too long", 400)),
        ),
        (vec![no(500, &[("x-should-retry", "false")], json!("oops"))], 1, Some(("oops", 500))),
        (vec![no(429, &[("retry-after", "3600")], json!({ "error": "in an hour" }))], 1, Some(("in an hour", 429))),
        (vec![no(200, &[], json!("not what was promised"))], 1, Some(("not what was promised", 0))),
        (vec![ok(json!({ "choices": "none" }))], 1, Some(("promises", 0))),
        (vec![ok(json!({ "choices": [{ "message": { "content": [{ "text": {} }] } }] }))], 1, Some(("promises", 0))),
        (vec![no(400, &[], json!({ "error": true }))], 1, Some(("{\"error\":true}", 400))),
        (vec![no(400, &[], json!([5]))], 1, Some(("[5]", 400))),
        (vec![no(400, &[], json!({ "error": { "message": {}, "code": {} } }))], 1, Some(("message", 400))),
    ];
    for (number, (said, asked, failure)) in table.into_iter().enumerate() {
        let vendor = Vendor::start(said).await;
        let name = format!("vendor-{number}");
        let body = json!({ "vendor": "openai_compatible", "name": name, "base_url": vendor.origin, "api_key": KEY });
        server.owner().post("/v1/providers", body).await.expect(201);
        let workflow = asking(server.owner(), &format!("direct.{name}.m"), json!({})).await;
        let ended = started(&workflow).await;
        assert_eq!(vendor.came().len(), asked, "{number}: {ended}");
        let keys: Vec<_> = vendor.came().iter().map(|came| came.headers["idempotency-key"].clone()).collect();
        assert!(keys.iter().all(|key| *key == keys[0]), "a repetition is known as one");
        match failure {
            None => assert_eq!(ended["status"], "completed", "{number}: {ended}"),
            Some((part, status)) => {
                assert_eq!(ended["error"]["code"], "LLM_REQUEST_FAILED", "{number}: {ended}");
                assert!(text(&ended["error"]["message"]).contains(part), "{number}: {ended}");
                assert_eq!(ended["error"]["details"]["status"].as_u64().unwrap_or(0), status, "{number}: {ended}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_a_vendor_repeats_is_in_no_error_however_its_json_escapes_it() {
    let server = Server::start_with(None, &LOOPBACK);
    let key = "sk-live/aa51+c0ffee77";
    let escapes = [r"sk-live\/aa51\u002bc0ffee77", r"sk-live\\\/aa51\\u002Bc0ffee77"];
    for (number, written) in escapes.into_iter().enumerate() {
        let body = format!(r#"{{ "error": {{ "message": "Incorrect API key: {written}", "type": "auth" }} }}"#);
        let vendor = Vendor::start(vec![no(401, &[], json!({})).written(&body)]).await;
        let name = format!("vendor-{number}");
        let body = json!({ "vendor": "openai_compatible", "name": name, "base_url": vendor.origin, "api_key": key });
        server.owner().post("/v1/providers", body).await.expect(201);
        let workflow = asking(server.owner(), &format!("direct.{name}.m"), json!({})).await;
        let ended = started(&workflow).await;
        assert_eq!(vendor.came()[0].headers["authorization"], format!("Bearer {key}"));
        assert!(text(&ended["error"]["message"]).contains("Incorrect API key: [redacted]"), "{ended}");
        assert!(!ended.to_string().contains("c0ffee77"), "{ended}");
    }
}

#[tokio::test]
async fn a_model_that_nobody_provides_or_granted_is_not_asked() {
    on_both_with(&LOOPBACK, |server| async move {
        let vendor = Vendor::start(vec![ok(chat("x"))]).await;
        // Another project's.
        let admin = server.admin();
        admin.post("/v1/projects", json!({ "slug": "other", "name": "Other" })).await.expect(201);
        let foreign = provide(&admin.with("x-project-id", "other"), "openai", &vendor.origin).await;
        let owner = server.owner();
        for more in [json!({}), json!({ "llm_credential_id": foreign["id"] }), json!({ "llm_credential_scope": "galaxy" })] {
            let workflow = asking(owner.clone(), "direct.openai.gpt-x", more).await;
            let ended = started(&workflow).await;
            assert_eq!(ended["error"]["code"], "INVALID_INPUT", "{ended}");
        }
        let path = format!("/v1/providers/{}", text(&foreign["id"]));
        owner.patch(&path, json!({ "name": "mine" })).await.refused(404, "NOT_FOUND");
        owner.delete(&path).await.refused(404, "NOT_FOUND");
        assert_eq!(owner.get("/v1/providers").await.expect(200)["items"], json!([]));

        provide(&owner, "openai", &vendor.origin).await;
        // A script has nothing checked on the host's processors.
        let source = "return host.call('schema.check', { schema = {}, value = 1 })";
        let step = json!({ "id": "check", "type": "lua_script", "script": source });
        let workflow = Workflow::publish(owner.clone(), json!({ "steps": [step] })).await;
        assert_eq!(started(&workflow).await["error"]["code"], "CAPABILITY_DENIED");
        // A script is granted no model, and a start cannot make another of what was published.
        let source = "return host.call('llm.request', { model = { model = 'direct.openai.gpt-x' }, operation = 'chat', body = {} })";
        let step = json!({ "id": "ask", "type": "lua_script", "script": source, "capabilities": { "hosts": [vendor.origin] } });
        let workflow = Workflow::publish(owner.clone(), json!({ "steps": [step] })).await;
        assert_eq!(started(&workflow).await["error"]["code"], "CAPABILITY_DENIED");
        let workflow = asking(owner.clone(), "direct.openai.gpt-x", json!({})).await;
        let params = json!({ "trigger_payload": { "name": "Ada" }, "trigger_steps": { "ask": { "model_ref": "direct.openai.gpt-dear" } } });
        let ended = workflow.command_and_wait("start", params).await.expect(200);
        assert_eq!(ended["error"]["code"], "CAPABILITY_DENIED", "{ended}");
        assert!(text(&ended["error"]["message"]).contains("model direct.openai.gpt-x"), "{ended}");
        assert!(vendor.came().is_empty(), "nothing went out");
        // A model that comes from the input was granted as any, and the input alone says which.
        let named = asking(owner.clone(), "direct.openai.{{ input.model }}", json!({})).await;
        let other = json!({ "model_ref": "direct.other.gpt-dear" });
        let params = json!({ "trigger_payload": { "name": "Ada", "model": "gpt-other" }, "trigger_steps": { "ask": other } });
        assert_eq!(named.command_and_wait("start", params).await.expect(200)["status"], "completed");
        assert_eq!(vendor.came()[0].body["model"], "gpt-other");
    })
    .await;
}

#[tokio::test]
async fn the_models_of_all_providers_are_listed_and_found() {
    let folder = tempfile::tempdir().unwrap();
    let shared = Vendor::start(vec![ok(json!({ "data": [{ "id": "shared-1" }, { "id": "shared-2" }] }))]).await;
    let file = folder.path().join("providers.json");
    let platform =
        json!([{ "vendor": "openai_compatible", "name": "house", "base_url": shared.origin, "api_key": KEY }]);
    std::fs::write(&file, platform.to_string()).unwrap();
    let setting = format!("--platform-providers-file={}", file.display());
    let server = Server::start_with(None, &[LOOPBACK[0], &setting]);
    let owner = server.owner();
    let listed = json!({ "vendor": "openai", "models": ["gpt-x"] });
    owner.post("/v1/providers", listed).await.expect(201);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let away = json!({ "vendor": "openai_compatible", "name": "away", "base_url": format!("http://{closed}") });
    owner.post("/v1/providers", away).await.expect(201);
    let catalog = owner.get("/v1/llm/catalog").await.expect(200);
    let refs: Vec<&str> =
        catalog["items"].as_array().unwrap().iter().map(|it| it["model_ref"].as_str().unwrap()).collect();
    assert_eq!(refs, ["direct.openai.gpt-x", "direct.house.shared-1", "direct.house.shared-2"], "{catalog}");
    assert_eq!(catalog["items"][1]["tier"], "platform");
    assert_eq!(catalog["problems"][0]["provider"], "away", "{catalog}");
    let resolved = owner.post("/v1/llm/resolve", json!({ "model_ref": "direct.house.shared-2" })).await.expect(200);
    assert_eq!((&resolved["provider_id"], &resolved["tier"]), (&Value::Null, &json!("platform")), "{resolved}");
    owner.post("/v1/llm/resolve", json!({ "model": "direct.nowhere.x" })).await.refused(404, "MODEL_NOT_AVAILABLE");
    owner.post("/v1/llm/resolve", json!({})).await.refused(422, "INVALID_FIELD");
    assert!(!catalog.to_string().contains(KEY) && !resolved.to_string().contains(KEY));
}

#[tokio::test]
async fn what_steps_ask_for_is_counted() {
    let server = Server::start_with(None, &LOOPBACK);
    let vendor = Vendor::start(vec![ok(chat("x")), no(400, &[], json!({}))]).await;
    provide(&server.owner(), "openai", &vendor.origin).await;
    let workflow = asking(server.owner(), "direct.openai.gpt-x", json!({})).await;
    for _ in 0..2 {
        started(&workflow).await;
    }
    let numbers = server.anybody().get("/metrics").await.expect(200);
    let numbers = numbers.as_str().unwrap();
    for line in [
        r#"agentruntime_step_requests_total{capability="llm.request",outcome="ok"} 1"#,
        r#"agentruntime_step_requests_total{capability="llm.request",outcome="LLM_REQUEST_FAILED"} 1"#,
        r#"agentruntime_step_requests_total{capability="llm.resolve",outcome="ok"} 2"#,
        r#"agentruntime_step_request_duration_seconds_count{capability="llm.request"} 2"#,
        "agentruntime_step_requests_under_way 0",
        "agentruntime_step_requests_waiting 0",
    ] {
        assert!(numbers.contains(line), "{line} in {numbers}");
    }
}
