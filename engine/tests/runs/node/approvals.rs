//! Tools that a person approves before they are called, and rules for their arguments: asked once, answered once, called once.

use super::{
    Place, Scripted,
    requests::{Outside, config},
};
use agentruntime_engine::{
    node::Node,
    run::{Awaiting, Signal, TaskStatus},
    store::TaskRecord,
};
use agentruntime_host_api::RunId;
use serde_json::{Value, json};
use std::sync::Arc;

/// A place whose step may call a tool on terms, and the outside, which lets so many calls end.
struct Stage {
    place: Place,
    guest: Arc<Scripted>,
    outside: Arc<Outside>,
}

impl Stage {
    async fn new(calls: usize) -> Self {
        let (place, guest) = (Place::new().await, Scripted::new());
        let outside = Outside::of(&place);
        outside.gate.add_permits(calls);
        Self { place, guest, outside }
    }

    fn node(&self) -> Node {
        self.place.node_with(&self.guest, config(&self.outside))
    }

    /// Starts a run that asks for calls of a tool that was granted by these entries.
    async fn start(&self, node: &Node, asks: &str, entries: Value) -> RunId {
        let mut entries = entries;
        for entry in entries.as_array_mut().unwrap() {
            entry["instance_id"] = "i".into();
            entry["tools"] = json!(["t"]);
        }
        let step =
            json!({ "id": "a", "script": format!("ask {asks} of a tool"), "capabilities": { "tools": entries } });
        self.place.start(node, &self.place.publish("w", json!([step])).await).await
    }

    /// Waits until the run has been let go with so many questions open.
    async fn asks(&self, run: RunId, questions: usize) -> Vec<TaskRecord> {
        let (place, guest) = (&self.place, &self.guest);
        // Whoever waits for a person waits in no sandbox.
        let waits = || async { place.row(run).await.awaiting == Some(Awaiting::HumanTask) && guest.waiting() == 0 };
        place.until(waits).await;
        let open = self.open().await;
        assert_eq!(open.len(), questions, "{open:?}");
        open
    }

    async fn open(&self) -> Vec<TaskRecord> {
        let tasks = self.place.tasks().await;
        tasks.into_iter().filter(|task| task.status == TaskStatus::Pending).collect()
    }

    async fn answer(&self, task: &TaskRecord, approved: bool, result: Value) {
        let store = &self.place.store;
        store.complete_task(&self.place.scope, task.run, task.task, approved, result.into()).await.unwrap();
    }
}

fn asked() -> Value {
    json!([{ "requires_approval": true }])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_a_yes_as_a_row_and_goes_out_once() {
    let stage = Stage::new(1).await;
    let node = stage.node();
    let run = stage.start(&node, "1", asked()).await;
    let task = stage.asks(run, 1).await.pop().unwrap();
    let shown = json!({
        "question": "May the tool `t` of instance `i` be called with these arguments?",
        "tool_name": "t", "instance_id": "i", "arguments": { "n": 0 },
    });
    assert_eq!((task.step.to_string(), &*task.task_type), ("a".into(), "tool_approval"));
    assert_eq!(task.payload.to_value(), shown);
    assert!(stage.outside.keys().is_empty());
    stage.answer(&task, true, json!({ "note": "fine" })).await;
    assert_eq!(stage.place.end(run).await, Ok(json!({ "a": { "got": [{ "page": 0 }] } })));
    assert_eq!(stage.outside.keys(), [format!("{run}/a/0")]);
    let told = stage.place.told(run).await;
    let wanted = format!(
        "run started\nstarted a\na asks 0: mcp.call\nasked a: tool_approval {}, about 0\nanswered a: yes {{\"note\":\"fine\"}}\n\
         a got 0: {{\"page\":0}}\ncompleted a: {{\"got\":[{{\"page\":0}}]}}\nrun completed: {{\"a\":{{\"got\":[{{\"page\":0}}]}}}}",
        task.payload
    );
    assert_eq!(told, wanted);
    stage.answer_is_refused(&task).await;
}

impl Stage {
    async fn answer_is_refused(&self, task: &TaskRecord) {
        let store = &self.place.store;
        let again = store.complete_task(&self.place.scope, task.run, task.task, true, json!({}).into()).await;
        assert!(again.is_err(), "an approval is used once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_is_told_and_nothing_goes_out() {
    let stage = Stage::new(0).await;
    let node = stage.node();
    let run = stage.start(&node, "1", asked()).await;
    let task = stage.asks(run, 1).await.pop().unwrap();
    stage.answer(&task, false, json!({ "reason": " too dear " })).await;
    assert_eq!(stage.place.end(run).await, Ok(json!({ "a": { "got": ["APPROVAL_REJECTED"] } })));
    assert!(stage.outside.keys().is_empty());
    let events = stage.place.journal(run).await;
    let replies: Vec<Value> =
        events.iter().map(|event| event.public(run)["data"]["error"]["message"].clone()).collect();
    let message = json!("a person declined this call of the tool `t` of instance `i`: too dear");
    assert!(replies.contains(&message), "{replies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_asks_nothing_twice_and_uses_an_answer_once() {
    let stage = Stage::new(0).await;
    let node = stage.node();
    let run = stage.start(&node, "1", asked()).await;
    let task = stage.asks(run, 1).await.pop().unwrap();
    drop(node);
    // Answered while no node is there: what the next one finds is the question and the answer.
    stage.answer(&task, true, json!({})).await;
    let node = stage.node();
    stage.place.until(|| async { stage.outside.keys().len() == 1 }).await;
    node.stop().await.unwrap();
    drop(node);
    // It dies while the call is under way, which is in doubt: called again under the same key, and nobody is asked.
    let node = stage.node();
    stage.place.until(|| async { stage.outside.keys().len() == 2 }).await;
    stage.outside.gate.add_permits(1);
    assert_eq!(stage.place.end(run).await, Ok(json!({ "a": { "got": [{ "page": 0 }] } })));
    assert_eq!(stage.outside.keys(), [format!("{run}/a/0"), format!("{run}/a/0")]);
    assert_eq!(stage.place.tasks().await.len(), 1);
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_calls_at_once_each_has_its_own_question() {
    let stage = Stage::new(3).await;
    let node = stage.node();
    let entries = json!([
        { "arguments": { "properties": { "n": { "maximum": 0 } } } },
        { "arguments": { "properties": { "n": { "maximum": 2 } } }, "requires_approval": true },
    ]);
    let run = stage.start(&node, "4 at once", entries).await;
    let tasks = stage.asks(run, 2).await;
    assert_eq!(stage.outside.keys(), [format!("{run}/a/0")], "what needs nobody goes out");
    let about = |task: &TaskRecord| task.payload.to_value()["arguments"]["n"].as_u64().unwrap();
    let (one, two) = match about(&tasks[0]) {
        1 => (&tasks[0], &tasks[1]),
        _ => (&tasks[1], &tasks[0]),
    };
    stage.answer(two, true, json!({})).await;
    stage.place.until(|| async { stage.outside.keys().len() == 2 }).await;
    stage.asks(run, 1).await;
    stage.answer(one, false, json!({})).await;
    let got = json!([{ "page": 0 }, "APPROVAL_REJECTED", { "page": 2 }, "CAPABILITY_DENIED"]);
    assert_eq!(stage.place.end(run).await, Ok(json!({ "a": { "got": got } })));
    assert_eq!(stage.outside.keys(), [format!("{run}/a/0"), format!("{run}/a/2")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_asked_about_so_many_calls_at_once_and_no_more() {
    let stage = Stage::new(0).await;
    let node = stage.node();
    let run = stage.start(&node, "33 at once", asked()).await;
    for task in stage.asks(run, 32).await {
        stage.answer(&task, false, json!({})).await;
    }
    let mut got = vec![json!("APPROVAL_REJECTED"); 32];
    got.push(json!("CAPABILITY_DENIED"));
    assert_eq!(stage.place.end(run).await, Ok(json!({ "a": { "got": got } })));
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_break_the_rule_are_refused_with_what_is_wrong_and_nobody_is_asked() {
    let stage = Stage::new(1).await;
    let node = stage.node();
    let entries = json!([{ "arguments": { "properties": { "n": { "maximum": 0 } } } }]);
    let run = stage.start(&node, "2", entries).await;
    let got = json!([{ "page": 0 }, "CAPABILITY_DENIED"]);
    assert_eq!(stage.place.end(run).await, Ok(json!({ "a": { "got": got } })));
    let events = stage.place.journal(run).await;
    let errors = events.iter().map(|event| event.public(run)["data"]["error"].clone());
    let error = errors.into_iter().find(|error| !error.is_null()).unwrap();
    assert_eq!(error["details"]["missing"], "tool `t` of instance `i` with these arguments");
    let broken = error["details"]["broken"][0].as_str().unwrap();
    assert!(broken.starts_with("$.n: ") && broken.contains("maximum of 0"), "{broken}");
    assert!(stage.place.tasks().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_closes_its_question() {
    let stage = Stage::new(0).await;
    let node = stage.node();
    let run = stage.start(&node, "1", asked()).await;
    let task = stage.asks(run, 1).await.pop().unwrap();
    node.signal(&stage.place.scope, run, Signal::Stop { graceful: false }).await.unwrap();
    assert_eq!(stage.place.end(run).await.unwrap_err().code.to_string(), "RUN_STOPPED");
    assert_eq!(stage.place.tasks().await[0].status, TaskStatus::Cancelled);
    stage.answer_is_refused(&task).await;
    assert!(stage.outside.keys().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_person_is_not_the_steps_own_time() {
    let stage = Stage::new(0).await;
    let node = stage.node();
    let limited = |seconds: f64, entry: Value| {
        let mut entry = entry;
        entry["instance_id"] = "i".into();
        entry["tools"] = json!(["t"]);
        json!([{ "id": "a", "script": "ask 1 of a tool", "timeout_s": seconds, "capabilities": { "tools": [entry] } }])
    };
    let patient = limited(0.2, json!({ "requires_approval": true }));
    let patient = stage.place.start(&node, &stage.place.publish("patient", patient).await).await;
    let task = stage.asks(patient, 1).await.pop().unwrap();
    let slow = stage.place.publish("slow", limited(0.6, json!({}))).await;
    let slow = stage.place.start(&node, &slow).await;
    // When that one's time is over, the first one's has long been.
    assert_eq!(stage.place.end(slow).await.unwrap_err().code.to_string(), "STEP_TIMEOUT");
    stage.outside.gate.add_permits(1);
    stage.answer(&task, true, json!({})).await;
    assert_eq!(stage.place.end(patient).await, Ok(json!({ "a": { "got": [{ "page": 0 }] } })));
}
