//! Runs that wait for people.

use crate::program::Desk;
use serde_json::{Value, json};

fn asking() -> Value {
    json!({ "steps": [
        { "id": "ask", "type": "human_task", "task_type": "approval", "task_payload": { "n": "{{ input.n | 0 }}" } },
        { "id": "after", "type": "lua_script", "depends_on": ["ask"], "script": "return { note = steps.ask.result.note }" },
    ] })
}

#[test]
fn a_waiting_run_says_so_to_programs() {
    let desk = Desk::new();
    let graph = desk.graph("asking", &asking());
    let waiting = desk.run(&["run", &graph, "--input", r#"{"n":7}"#, "--json"]).expect(3).summary();
    assert_eq!((&waiting["status"], &waiting["awaiting"]), (&json!("running"), &json!("human_task")));
    let task = &waiting["tasks"][0];
    assert_eq!((&task["step_id"], &task["task_payload"]), (&json!("ask"), &json!({ "n": 7 })));
    let listed = desk.run(&["tasks", "last", "--json"]).expect(0).json();
    assert_eq!(listed, waiting["tasks"]);
}

#[test]
fn an_answer_at_hand_is_given_when_the_question_comes() {
    let desk = Desk::new();
    let graph = desk.graph("asking", &asking());
    let answer = r#"ask={"approved":true,"note":"fine"}"#;
    let finished = desk.run(&["run", &graph, "--answer", answer]).expect(0);
    assert_eq!(finished.json(), json!({ "after": { "note": "fine" } }));
    assert!(desk.run(&["tasks"]).expect(0).stdout.contains("nothing waits for a person"));
}

#[test]
fn a_question_is_answered_once() {
    let desk = Desk::new();
    let graph = desk.graph("asking", &asking());
    desk.run(&["run", &graph]).expect(3);
    desk.run(&["task", "complete", "last", "ask", "--approve"]).expect(0);
    let refused = desk.run(&["task", "complete", "last", "ask", "--approve", "--json"]).expect(2).error();
    assert_eq!(refused["code"], "TASK_NOT_FOUND");
}

#[test]
fn a_question_at_another_step_is_refused_with_those_that_are_asked() {
    let desk = Desk::new();
    let graph = desk.graph("asking", &asking());
    desk.run(&["run", &graph]).expect(3);
    let refused = desk.run(&["task", "complete", "last", "aks", "--approve"]).expect(2);
    assert!(refused.stderr.contains("it waits for an answer at: ask"), "{}", refused.stderr);
    desk.run(&["task", "complete", "last", "ask"]).expect(2);
    desk.run(&["task", "complete", "last", "ask", "--approve", "--reject"]).expect(2);
}

#[test]
fn two_questions_are_answered_one_after_the_other() {
    let desk = Desk::new();
    let task = |id: &str| json!({ "id": id, "type": "human_task", "task_type": "approval" });
    let graph = desk.graph("two", &json!({ "steps": [task("one"), task("two")] }));
    let waiting = desk.run(&["run", &graph, "--json"]).expect(3).summary();
    assert_eq!(waiting["tasks"].as_array().unwrap().len(), 2);
    let left = desk.run(&["task", "complete", "last", "one", "--approve", "--json"]).expect(3).summary();
    assert_eq!((left["tasks"].as_array().unwrap().len(), &left["tasks"][0]["step_id"]), (1, &json!("two")));
    desk.run(&["task", "complete", "last", "two", "--reject"]).expect(0);
}

#[test]
fn a_run_goes_on_while_it_asks_and_stops_to_wait_only_then() {
    let desk = Desk::new();
    let graph = desk.graph(
        "both",
        &json!({ "steps": [
        { "id": "ask", "type": "human_task", "task_type": "approval" },
        { "id": "nap", "type": "sleep", "duration_s": 0.4 },
        { "id": "after_nap", "type": "lua_script", "depends_on": ["nap"], "script": "return {}" },
    ] }),
    );
    let waiting = desk.run(&["run", &graph, "--json"]).expect(3);
    let finished: Vec<&str> = waiting.stdout.lines().filter(|line| line.contains(r#""step_completed""#)).collect();
    assert_eq!(finished.len(), 2, "{}", waiting.stdout);
}

#[test]
fn a_loop_asks_about_each_item_that_failed() {
    let desk = Desk::new();
    let graph = desk.graph("review", &json!({ "steps": [
        { "id": "each", "type": "for_each", "for_each_items": [1, 2, 3, 4], "for_each_error_policy": "human_review",
          "for_each_body_steps": [
            { "id": "odd", "type": "lua_script", "script": "if item % 2 == 0 then error('even') end return { n = item }" }
          ] },
        { "id": "end", "type": "lua_script", "depends_on": ["each"],
          "script": "return { n = steps.each.result.succeeded_count }" },
    ] }));
    desk.run(&["run", &graph]).expect(3);
    let both = desk.run(&["task", "complete", "last", "each", "--approve"]).expect(2).stderr;
    assert!(both.contains("each[1].odd") && both.contains("each[3].odd"), "{both}");
    desk.run(&["task", "complete", "last", "each[1].odd", "--approve"]).expect(3);
    let finished = desk.run(&["task", "complete", "last", "each", "--approve"]).expect(0);
    assert_eq!(finished.json(), json!({ "end": { "n": 2 } }));
    let answer = |approved: bool| format!(r#"each={{"approved":{approved}}}"#);
    desk.run(&["run", &graph, "--answer", &answer(true)]).expect(0);
    desk.run(&["run", &graph, "--answer", &answer(false)]).expect(1);
}

#[test]
fn the_question_of_a_child_is_answered_by_the_name_of_its_parent() {
    let desk = Desk::new();
    let child = desk.graph("child", &asking());
    let parent = desk.graph(
        "parent",
        &json!({ "steps": [
        { "id": "call", "type": "workflow_call", "workflow_id": "child", "input": { "n": 1 } },
        { "id": "end", "type": "lua_script", "depends_on": ["call"], "script": "return { got = steps.call.result }" },
    ] }),
    );
    let unpublished = desk.run(&["run", &parent]).expect(2);
    assert!(unpublished.stderr.contains("the workflow `child` has no published version"), "{}", unpublished.stderr);
    desk.run(&["publish", &child]).expect(0);
    let waiting = desk.run(&["run", &parent, "--json"]).expect(3).summary();
    assert_ne!(waiting["tasks"][0]["run_id"], waiting["run_id"]);
    assert!(desk.run(&["show", "last"]).expect(0).stdout.contains("waits for a person: ask"));
    let result = r#"{"note":"yes"}"#;
    let finished = desk.run(&["task", "complete", "last", "ask", "--approve", "--result", result]).expect(0);
    assert_eq!(finished.json(), json!({ "end": { "got": { "after": { "note": "yes" } } } }));
}

/// Wants a tool called twice at once, whose server nobody reaches, and tells what came of it.
fn calling() -> Value {
    let script = "
        local function send(n)
          return { 'mcp.call', { server_url = 'https://127.0.0.1/mcp', tool = 'send', arguments = { n = n } } }
        end
        local got = {}
        for i, it in ipairs(host.settle({ send(1), send(2) })) do got[i] = it.error.code .. ': ' .. it.error.message end
        return { got = got }";
    let tools = json!([{ "server_url": "https://127.0.0.1/mcp", "tools": ["send"], "requires_approval": true }]);
    let step = json!({ "id": "work", "type": "lua_script", "script": script, "capabilities": { "tools": tools } });
    json!({ "steps": [step] })
}

/// The command that is shown for an answer, and its words.
fn shown(stderr: &str, word: &str, number: usize) -> Vec<String> {
    let start = format!("{word} agentruntime ");
    let mut commands = stderr.lines().filter_map(|line| line.trim().strip_prefix(&start));
    commands.nth(number).unwrap().split(' ').map(str::to_owned).collect()
}

#[test]
fn calls_that_wait_for_a_person_are_answered_each_by_its_own_command() {
    let desk = Desk::new();
    let graph = desk.graph("calling", &calling());
    let waiting = desk.run(&["run", &graph]).expect(3);
    assert!(
        waiting.stderr.contains("May the tool `send` of the server https://127.0.0.1/mcp be called"),
        "{}",
        waiting.stderr
    );
    let listed = desk.run(&["tasks", "last", "--json"]).expect(0).json();
    let numbers: Vec<&Value> =
        listed.as_array().unwrap().iter().map(|task| &task["task_payload"]["arguments"]["n"]).collect();
    assert!(numbers.contains(&&json!(1)) && numbers.contains(&&json!(2)) && numbers.len() == 2, "{listed}");
    let drawn = desk.run(&["show", "last"]).expect(0).stdout;
    assert!(drawn.contains("tool_approval"), "{drawn}");
    // The step's name says nothing where it asks about several.
    for command in [&["task", "complete", "last", "work", "--approve"] as &[&str], &["approve", "last"]] {
        let refused = desk.run(&[command, &["--json"]].concat()).expect(2).error();
        assert_eq!(refused["code"], "TASK_AMBIGUOUS", "{refused}");
    }
    let (yes, no) = (shown(&waiting.stderr, "yes:", 0), shown(&waiting.stderr, "no: ", 1));
    let yes: Vec<&str> = yes.iter().map(String::as_str).collect();
    let still = desk.run(&yes).expect(3);
    assert_eq!(still.stderr.matches("waits for a person:").count(), 1, "{}", still.stderr);
    let no: Vec<&str> = no.iter().map(String::as_str).chain(["--result", r#"{"reason": "too dear"}"#]).collect();
    let got = desk.run(&no).expect(0).json()["work"]["got"].clone();
    let mut got: Vec<&str> = got.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    got.sort_unstable();
    let declined = "APPROVAL_REJECTED: a person declined this call of the tool `send` of the server https://127.0.0.1/mcp: too dear";
    assert_eq!(got[0], declined);
    assert!(
        got[1].starts_with("CAPABILITY_DENIED"),
        "what was approved went out, to an address that is not reached: {got:?}"
    );
}

#[test]
fn an_answer_at_hand_is_given_to_whatever_a_step_asks_about_its_calls() {
    let desk = Desk::new();
    let graph = desk.graph("calling", &calling());
    let answer = r#"work={"approved":false}"#;
    let got = desk.run(&["run", &graph, "--answer", answer]).expect(0).json()["work"]["got"].clone();
    assert!(got.as_array().unwrap().iter().all(|it| it.as_str().unwrap().starts_with("APPROVAL_REJECTED")), "{got}");
}
