//! Workflows for tests: published, started, waited for.

use crate::server::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::time::{self, Instant};

/// How long a test waits for what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Greets `input.name`.
pub(crate) fn greeting() -> Value {
    json!({
        "input_schema": [{ "name": "name", "type": "string" }],
        "steps": [{ "id": "greet", "type": "lua_script", "script": "return { text = 'Hello ' .. input.name }" }],
    })
}

/// Asks a person, then repeats the note of the answer.
pub(crate) fn asking() -> Value {
    json!({ "steps": [
        { "id": "ask", "type": "human_task", "task_type": "approval", "task_payload": { "question": "Go on?" } },
        { "id": "after", "type": "lua_script", "depends_on": ["ask"], "script": "return { note = steps.ask.result.note }" },
    ] })
}

/// Asks a person, then makes `input.count` results of `input.bytes` each.
pub(crate) fn asking_then_many() -> Value {
    let each = "return { index = index, text = string.rep('x', input.bytes) }";
    json!({ "steps": [
        { "id": "ask", "type": "human_task", "task_type": "approval" },
        { "id": "list", "type": "lua_script", "depends_on": ["ask"],
          "script": "local items = {}\nfor i = 1, input.count do items[i] = i end\nreturn { items = items }" },
        { "id": "each", "type": "for_each", "depends_on": ["list"], "for_each_items": "{{ steps.list.result.items }}",
          "for_each_body_steps": [{ "id": "one", "type": "lua_script", "script": each }] },
        { "id": "end", "type": "lua_script", "depends_on": ["each"], "terminal": true, "script": "return { done = true }" },
    ] })
}

/// Fails, whatever it is given.
pub(crate) fn failing() -> Value {
    json!({ "steps": [{ "id": "fail", "type": "lua_script", "script": "error('no luck')" }] })
}

/// A published workflow.
pub(crate) struct Workflow {
    pub(crate) client: Client,
    pub(crate) id: String,
}

fn is_final(summary: &Value) -> bool {
    ["completed", "failed", "stopped"].iter().any(|status| summary["status"] == *status)
}

static NAMES: AtomicU32 = AtomicU32::new(0);

impl Workflow {
    /// Makes a workflow and publishes its graph.
    pub(crate) async fn publish(client: Client, mut graph: Value) -> Self {
        let name = format!("workflow {}", NAMES.fetch_add(1, Ordering::Relaxed));
        graph["name"] = name.clone().into();
        let made = client.post("/v1/workflows", json!({ "name": name, "graph": graph })).await.expect(201);
        let id = made["id"].as_str().unwrap().to_owned();
        client.post(&format!("/v1/workflows/{id}/versions"), json!({})).await.expect(201);
        Self { client, id }
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v1/workflows/{}{rest}", self.id)
    }

    pub(crate) fn run_path(&self, run: &str, rest: &str) -> String {
        self.path(&format!("/runs/{run}{rest}"))
    }

    pub(crate) async fn get(&self, rest: &str) -> Answer {
        self.client.get(&self.path(rest)).await
    }

    /// Gives a command.
    pub(crate) async fn command(&self, command: &str, params: Value) -> Answer {
        self.client.post(&self.path("/command"), json!({ "command": command, "params": params })).await
    }

    /// Gives a command and waits for what becomes of it.
    pub(crate) async fn command_and_wait(&self, command: &str, params: Value) -> Answer {
        self.client.post(&self.path("/command?wait=60s"), json!({ "command": command, "params": params })).await
    }

    /// Starts a run; its id.
    pub(crate) async fn start(&self, params: Value) -> String {
        let started = self.command("start", params).await.expect(200);
        started["run_id"].as_str().unwrap().to_owned()
    }

    /// Starts a run that asks a person, and waits until it does; its id and the question's.
    pub(crate) async fn start_asking(&self, params: Value) -> (String, String) {
        let asked = self.command_and_wait("start", params).await.expect(200);
        assert_eq!(asked["awaiting"], "human_task", "{asked:#}");
        let run = asked["run_id"].as_str().unwrap().to_owned();
        let tasks = self.client.get(&self.run_path(&run, "/tasks/pending")).await.expect(200);
        let task = tasks["items"][0]["task_id"].as_str().unwrap().to_owned();
        (run, task)
    }

    pub(crate) async fn complete(&self, run: &str, task: &str, answer: Value) -> Answer {
        self.client.post(&self.run_path(run, &format!("/tasks/{task}/complete")), answer).await
    }

    /// Waits until a run has a status. It is looked at again whenever something of the run is told.
    pub(crate) async fn reaches(&self, run: &str, status: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut told = self.told(run).await;
        loop {
            let summary = self.client.get(&self.run_path(run, "/summary")).await.expect(200);
            if summary["status"] == status {
                return summary;
            }
            match time::timeout_at(deadline, told.chunk()).await {
                Ok(Ok(Some(_))) => {}
                // The stream ends with the run, or with the service.
                Ok(Ok(None) | Err(_)) if !is_final(&summary) => told = self.told(run).await,
                Ok(_) | Err(_) => panic!("{run} is not {status}: {summary:#}"),
            }
        }
    }

    /// Waits until a run waits for a person.
    pub(crate) async fn asks(&self, run: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut told = self.told(run).await;
        loop {
            let summary = self.client.get(&self.run_path(run, "/summary")).await.expect(200);
            let tasks = self.client.get(&self.run_path(run, "/tasks/pending")).await.expect(200);
            if summary["awaiting"] == "human_task" && tasks["items"] != json!([]) {
                return;
            }
            let more = time::timeout_at(deadline, told.chunk()).await;
            assert!(matches!(more, Ok(Ok(Some(_)))), "{run} asks nobody: {summary:#}");
        }
    }

    /// Waits until a run has an event of a type. It is looked at again whenever something of the run is told.
    pub(crate) async fn happens(&self, run: &str, event_type: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut told = self.told(run).await;
        while !self.events(run).await.iter().any(|event| event["event_type"] == event_type) {
            let more = time::timeout_at(deadline, told.chunk()).await;
            assert!(matches!(more, Ok(Ok(Some(_)))), "{run} has no event {event_type}");
        }
    }

    /// The events of a run as they come.
    async fn told(&self, run: &str) -> reqwest::Response {
        let stream = self.client.request(Method::GET, &self.path(&format!("/stream?run_id={run}")));
        stream.header("accept", "text/event-stream").header("last-event-id", "0").send().await.unwrap()
    }

    /// All events of a run.
    pub(crate) async fn events(&self, run: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            let page = self.client.get(&self.run_path(run, &format!("/events?after_seq={after}"))).await.expect(200);
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_after_seq"].as_u64() {
                Some(next) => after = next,
                None => return all,
            }
        }
    }
}
