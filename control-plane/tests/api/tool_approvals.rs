//! Tools that a person approves before they are called, and rules for what they are called with.

use crate::{
    agents::{LOOPBACK, agent},
    connections::script,
    mcp_server::{Answer, McpServer, instance},
    server::{Server, on_both, on_both_with},
    vendors::{Vendor, calls, chat, ok},
    workflow::{PATIENCE, Workflow},
};
use serde_json::{Value, json};
use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::time;

/// The tool `echo` of the instance `crm`, on terms.
fn echo(terms: Value) -> Value {
    let mut entry = json!({ "instance_id": "crm", "tool_name": "echo" });
    entry.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
    entry
}

fn asked() -> Value {
    json!({ "requires_approval": true })
}

/// The questions that a run asks.
async fn questions(workflow: &Workflow, run: &str) -> Vec<Value> {
    let tasks = workflow.client.get(&workflow.run_path(run, "/tasks/pending")).await.expect(200);
    tasks["items"].as_array().unwrap().clone()
}

/// Starts a run that asks whether a tool may be called; its id and the questions.
async fn started(workflow: &Workflow) -> (String, Vec<Value>) {
    let waits = workflow.command_and_wait("start", json!({ "what": "x" })).await.expect(200);
    assert_eq!((&waits["status"], &waits["awaiting"]), (&json!("running"), &json!("human_task")), "{waits:#}");
    let run = waits["run_id"].as_str().unwrap().to_owned();
    let asked = questions(workflow, &run).await;
    (run, asked)
}

fn task_id(task: &Value) -> &str {
    task["task_id"].as_str().unwrap()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    time::timeout(PATIENCE, what).await.unwrap()
}

/// How many events of a type a run has.
async fn count(workflow: &Workflow, run: &str, event_type: &str) -> usize {
    workflow.events(run).await.iter().filter(|event| event["event_type"] == event_type).count()
}

#[tokio::test]
async fn an_agents_call_waits_for_a_yes_and_goes_out_under_one_key_wherever_the_process_is_killed() {
    on_both_with(&LOOPBACK, |mut server| async move {
        let calls_seen = AtomicUsize::new(0);
        // The first call is never answered.
        let mcp = McpServer::twisted(move |heard| {
            (heard.is("tools/call") && calls_seen.fetch_add(1, SeqCst) == 0).then_some(Answer::Silence)
        })
        .await;
        instance(&server.owner(), "crm", &mcp.url()).await;
        let vendor = Vendor::start(vec![ok(calls(&[("echo", "{\"text\":\"one\"}")])), ok(chat("Done."))]).await;
        let workflow = agent(server.owner(), &vendor, json!({ "tools": [echo(asked())] })).await;
        let (run, asked) = started(&workflow).await;
        let [task] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((&task["task_type"], &task["step_id"]), (&json!("tool_approval"), &json!("work")));
        let shown = json!({
            "question": "May the tool `echo` of instance `crm` be called with these arguments?",
            "tool_name": "echo", "instance_id": "crm", "arguments": { "text": "one" },
        });
        assert_eq!(task["task_payload"], shown);

        // Between the question and the answer.
        server.kill();
        let mut server = server.restart_with(&LOOPBACK);
        let workflow = Workflow { client: server.owner(), ..workflow };
        assert_eq!(questions(&workflow, &run).await, std::slice::from_ref(task));
        assert!(mcp.heard_of("tools/call").is_empty());
        let yes = json!({ "approved": true });
        workflow.complete(&run, task_id(task), yes.clone()).await.expect(200);

        // Between the answer and the reply of the tool.
        soon(mcp.hears("tools/call")).await;
        server.kill();
        let server = server.restart_with(&LOOPBACK);
        let workflow = Workflow { client: server.owner(), ..workflow };
        workflow.reaches(&run, "completed").await;
        let keys: Vec<String> =
            mcp.heard_of("tools/call").iter().map(|heard| heard.headers["idempotency-key"].clone()).collect();
        assert_eq!(keys.len(), 2, "what is in doubt is repeated");
        assert_eq!(keys[0], keys[1], "under its key");
        for (event_type, times) in [("human_task_created", 1), ("human_task_completed", 1), ("request_made", 5)] {
            assert_eq!(count(&workflow, &run, event_type).await, times, "{event_type}");
        }
        assert_eq!(vendor.came().len(), 2, "what the model said is not asked for again");
        workflow.complete(&run, task_id(task), yes).await.refused(409, "TASK_CLOSED");
        let events = workflow.events(&run).await;
        let created = events.iter().find(|event| event["event_type"] == "human_task_created").unwrap();
        assert_eq!(created["data"]["request_number"], 3, "{created}");
    })
    .await;
}

#[tokio::test]
async fn a_process_that_is_killed_with_the_answer_in_its_hands_calls_once() {
    on_both_with(&LOOPBACK, |mut server| async move {
        let mcp = McpServer::start().await;
        instance(&server.owner(), "crm", &mcp.url()).await;
        let vendor = Vendor::start(vec![ok(calls(&[("echo", "{\"text\":\"one\"}")])), ok(chat("Done."))]).await;
        let workflow = agent(server.owner(), &vendor, json!({ "tools": [echo(asked())] })).await;
        let (run, asked) = started(&workflow).await;
        workflow.complete(&run, task_id(&asked[0]), json!({ "approved": true })).await.expect(200);
        server.kill();
        let server = server.restart_with(&LOOPBACK);
        let workflow = Workflow { client: server.owner(), ..workflow };
        workflow.reaches(&run, "completed").await;
        let mut keys: Vec<String> =
            mcp.heard_of("tools/call").iter().map(|heard| heard.headers["idempotency-key"].clone()).collect();
        keys.dedup();
        assert_eq!(keys, [[&run, "work", "3"].join("/")]);
        assert_eq!(count(&workflow, &run, "human_task_created").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_model_is_told_that_a_person_declined_and_why() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        instance(&owner, "crm", &mcp.url()).await;
        let wanted = calls(&[("echo", "{\"text\":\"one\"}"), ("echo", "{\"text\":\"two\"}")]);
        let vendor = Vendor::start(vec![ok(wanted), ok(chat("Then not."))]).await;
        let workflow = agent(owner, &vendor, json!({ "tools": [echo(asked())] })).await;
        let (run, asked) = started(&workflow).await;
        let about = |text: &str| asked.iter().find(|task| task["task_payload"]["arguments"]["text"] == text).unwrap();
        assert_eq!(asked.len(), 2, "each call has its question");
        let no = json!({ "approved": false, "result": { "reason": "too dear" } });
        workflow.complete(&run, task_id(about("one")), no).await.expect(200);
        workflow.complete(&run, task_id(about("two")), json!({ "approved": true })).await.expect(200);
        workflow.reaches(&run, "completed").await;
        let context = workflow.get(&format!("/runs/{run}/context")).await.expect(200);
        let result = &context["outputs"]["work"];
        let oks: Vec<&Value> = result["tool_calls"].as_array().unwrap().iter().map(|call| &call["ok"]).collect();
        assert_eq!((&result["text"], oks), (&json!("Then not."), vec![&json!(false), &json!(true)]), "{context}");
        let sent: Vec<Value> =
            mcp.heard_of("tools/call").iter().map(|heard| heard.message["params"]["arguments"].clone()).collect();
        assert_eq!(sent, [json!({ "text": "two" })]);
        let came = vendor.came();
        let description = came[0].body["tools"][0]["function"]["description"].as_str().unwrap();
        assert_eq!(description, "Gives back what it gets.\n\nA person is asked before each call.");
        let told = &came[1].body["messages"][3]["content"];
        assert_eq!(told, "a person declined this call of the tool `echo` of instance `crm`: too dear");
        let events = workflow.events(&run).await;
        let codes: Vec<&Value> = events.iter().map(|event| &event["data"]["error"]["code"]).collect();
        assert!(codes.contains(&&json!("APPROVAL_REJECTED")), "{events:#?}");
    })
    .await;
}

#[tokio::test]
async fn arguments_that_break_the_rule_do_not_go_out_and_the_model_is_told_what_is_wrong() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        instance(&owner, "crm", &mcp.url()).await;
        let wanted = calls(&[("echo", "{\"text\":\"long enough\"}"), ("echo", "{\"text\":\"ok\"}")]);
        let again = calls(&[("echo", "{\"text\":\"long enough\"}")]);
        let vendor = Vendor::start(vec![ok(wanted), ok(chat("Done.")), ok(again), ok(chat("Done."))]).await;
        let rule = json!({ "properties": { "text": { "maxLength": 5 } }, "additionalProperties": false });
        let tools = json!({ "tools": [echo(json!({ "arguments": rule }))] });
        let workflow = agent(owner, &vendor, tools).await;
        let ended = workflow.command_and_wait("start", json!({ "what": "x" })).await.expect(200);
        assert_eq!(ended["status"], "completed", "{ended:#}");
        assert_eq!(mcp.heard_of("tools/call").len(), 1);
        let came = vendor.came();
        let description = came[0].body["tools"][0]["function"]["description"].as_str().unwrap();
        assert!(description.contains("Arguments must also satisfy: {") && description.contains("\"maxLength\":5"));
        let told = came[1].body["messages"][3]["content"].as_str().unwrap();
        assert!(told.contains("they break the rule") && told.contains("$.text: "), "{told}");
        let events = workflow.events(ended["run_id"].as_str().unwrap()).await;
        let refused = events.iter().find(|event| event["data"]["error"].is_object()).unwrap();
        let error = &refused["data"]["error"];
        assert_eq!(
            (&refused["event_type"], &error["code"]),
            (&json!("request_completed"), &json!("CAPABILITY_DENIED"))
        );
        assert_eq!(error["details"]["missing"], "tool `echo` of instance `crm` with these arguments");

        // A start that brings an agent of its own brings no terms of its own.
        let lax = json!({ "model": "direct.v.m", "tools": [echo(json!({}))] });
        let given = json!({ "trigger_payload": { "what": "x" }, "trigger_steps": { "work": { "agent": lax } } });
        let ended = workflow.command_and_wait("start", given).await.expect(200);
        let oks: Vec<&Value> =
            ended["outputs"]["work"]["tool_calls"].as_array().unwrap().iter().map(|call| &call["ok"]).collect();
        assert_eq!(oks, [&json!(false)], "{ended:#}");
        assert_eq!(mcp.heard_of("tools/call").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_script_cannot_have_one_call_approved_and_make_another() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        instance(&owner, "crm", &mcp.url()).await;
        let source = "
            local function try(more)
              local call = { instance_id = 'crm', tool = 'echo', arguments = { text = 'harmless' } }
              for name, value in pairs(more) do call[name] = value end
              if more.server_url then call.instance_id = nil end
              local ok, reply = pcall(host.call, 'mcp.call', call)
              return ok and reply.structured_content.text or reply.code
            end
            return { got = {
              try{ requires_approval = false }, try{ approved = true },
              try{ server_url = input.url },
              try{}, try{ arguments = { text = 'harmful' } }, try{},
            } }";
        let grants = json!({ "tools": [{ "instance_id": "crm", "tools": ["echo"], "requires_approval": true }] });
        let workflow = script(owner, source, grants).await;
        let waits = workflow.command_and_wait("start", json!({ "url": mcp.url() })).await.expect(200);
        let run = waits["run_id"].as_str().unwrap();
        for (text, approved) in [("harmless", true), ("harmful", false), ("harmless", false)] {
            workflow.asks(run).await;
            let asked = questions(&workflow, run).await;
            assert_eq!((asked.len(), &asked[0]["task_payload"]["arguments"]["text"]), (1, &json!(text)), "{asked:#?}");
            workflow.complete(run, task_id(&asked[0]), json!({ "approved": approved })).await.expect(200);
        }
        workflow.reaches(run, "completed").await;
        let context = workflow.get(&format!("/runs/{run}/context")).await.expect(200);
        let (no, denied, invalid) = ("APPROVAL_REJECTED", "CAPABILITY_DENIED", "INVALID_INPUT");
        assert_eq!(context["outputs"]["ask"]["got"], json!([invalid, invalid, denied, "harmless", no, no]));
        assert_eq!(mcp.heard_of("tools/call").len(), 1, "a yes is for one call");
    })
    .await;
}

#[tokio::test]
async fn a_run_that_is_stopped_while_a_person_is_asked_closes_the_question() {
    on_both_with(&LOOPBACK, |server| async move {
        let (owner, mcp) = (server.owner(), McpServer::start().await);
        instance(&owner, "crm", &mcp.url()).await;
        let vendor = Vendor::start(vec![ok(calls(&[("echo", "{\"text\":\"one\"}")]))]).await;
        let workflow = agent(owner, &vendor, json!({ "tools": [echo(asked())] })).await;
        let (run, asked) = started(&workflow).await;
        workflow.command("stop", json!({ "run_id": run })).await.expect(200);
        workflow.reaches(&run, "stopped").await;
        assert!(questions(&workflow, &run).await.is_empty());
        let yes = json!({ "approved": true });
        workflow.complete(&run, task_id(&asked[0]), yes).await.refused(409, "TASK_CLOSED");
        assert!(mcp.heard_of("tools/call").is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_version_that_asks_no_person_any_more_waits_for_an_admin_and_one_that_newly_asks_does_not() {
    on_both(|server: Server| async move {
        let owner = server.owner();
        owner.patch("/v1/projects/default", json!({ "require_grant_approval": true })).await.expect(200);
        let graph = |terms: Value| {
            let agent = json!({ "model": "m", "tools": [echo(terms)] });
            json!({ "steps": [{ "id": "work", "type": "agent_call", "agent": agent, "prompt": "" }] })
        };
        let made = owner.post("/v1/workflows", json!({ "name": "calls", "graph": graph(json!({})) })).await.expect(201);
        let path = format!("/v1/workflows/{}", made["id"].as_str().unwrap());
        let versions = format!("{path}/versions");
        let publish = |terms: Value| {
            let (owner, path, versions, graph) = (&owner, &path, &versions, graph(terms));
            async move {
                owner.patch(path, json!({ "graph": graph })).await.expect(200);
                owner.post(versions, json!({})).await.expect(201)
            }
        };
        assert_eq!(publish(json!({})).await["approval"], "pending", "the first asks for all that it has");
        owner.post(&format!("{versions}/1/approve"), json!({})).await.expect(200);
        let rule = json!({ "requires_approval": true, "arguments": { "maxProperties": 1 } });
        let narrowed = publish(rule).await;
        assert_eq!((&narrowed["approval"], &narrowed["new_grants"]), (&json!("approved"), &json!([])), "{narrowed}");
        let widened = publish(json!({ "arguments": { "maxProperties": 1 } })).await;
        let grant = "tool `echo` of instance `crm`, with arguments that satisfy {\"maxProperties\":1}";
        let new = json!([{ "parent": null, "id": "work", "grant": grant }]);
        assert_eq!((&widened["approval"], &widened["new_grants"]), (&json!("pending"), &new), "{widened}");
        let refused = json!({ "graph": graph(json!({ "arguments": { "type": "strnig" } })) });
        owner.patch(&path, refused).await.expect(200);
        let refused = owner.post(&versions, json!({})).await.refused(422, "INVALID_GRAPH");
        assert!(refused.to_string().contains("argument_rule_invalid"), "{refused}");
    })
    .await;
}
