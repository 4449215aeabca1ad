//! What a start can say: input, versions, ids, single steps.

use crate::program::Desk;
use serde_json::{Value, json};
use std::{io::Write, process::Stdio};

fn echo() -> Value {
    json!({ "name": "Echo it", "input_schema": [{ "name": "n", "type": "integer" }, { "name": "more", "type": "string", "optional": true }],
        "steps": [{ "id": "echo", "type": "lua_script", "script": "return { n = input.n }" }] })
}

#[test]
fn input_comes_from_the_argument_a_file_or_stdin() {
    let desk = Desk::new();
    let (graph, file) = (desk.graph("echo", &echo()), desk.graph("input", &json!({ "n": 2 })));
    let expected = |n: u32| json!({ "echo": { "n": n } });
    assert_eq!(desk.run(&["run", &graph, "--input", r#"{"n":1}"#]).expect(0).json(), expected(1));
    assert_eq!(desk.run(&["run", &graph, "--input", &format!("@{file}")]).expect(0).json(), expected(2));
    let mut child = desk
        .command(&["run", &graph, "-i", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(br#"{"n":3}"#).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), expected(3));
}

#[test]
fn input_that_does_not_fit_starts_nothing() {
    let desk = Desk::new();
    let graph = desk.graph("echo", &echo());
    let refused = desk.run(&["run", &graph, "--input", r#"{"n":"one"}"#, "--json"]).expect(2).error();
    assert_eq!(refused["code"], "INVALID_INPUT");
    assert!(refused["details"]["issues"][0]["json_path"].as_str().unwrap().contains('n'), "{refused}");
    assert_eq!(desk.run(&["runs", "--json"]).expect(0).json(), json!([]));
    let report = desk.run(&["validate", &graph, "--input", "{}", "--json"]).expect(2).json();
    assert_eq!(report["valid"], false);
}

#[test]
fn the_same_graph_is_the_same_version_and_another_the_next() {
    let desk = Desk::new();
    let graph = desk.graph("echo", &echo());
    let version = |more: &[&str]| {
        let finished = desk.run(&[&["run", &graph, "--input", r#"{"n":1}"#, "--json"], more].concat()).expect(0);
        finished.summary()["version"].clone()
    };
    assert_eq!((version(&[]), version(&[])), (json!(1), json!(1)));
    let mut changed = echo();
    changed["steps"][0]["script"] = "return { n = input.n + 1 }".into();
    desk.graph("echo", &changed);
    assert_eq!((version(&[]), version(&["--workflow-id", "other"])), (json!(2), json!(1)));
    let versions = desk.run(&["versions", "echo-it", "--json"]).expect(0).json();
    assert_eq!((&versions[0]["version"], &versions[1]["version"]), (&json!(2), &json!(1)));
    let workflows = desk.run(&["workflows", "--json"]).expect(0).json();
    assert_eq!((&workflows[0]["workflow_id"], &workflows[1]["workflow_id"]), (&json!("echo-it"), &json!("other")));
    assert!(desk.run(&["versions", "echo-it"]).expect(0).stdout.starts_with("version 2"));
    assert!(desk.run(&["workflows"]).expect(0).stdout.contains("echo-it"));
    assert_eq!(desk.run(&["versions", "none", "--json"]).expect(2).error()["code"], "WORKFLOW_NOT_FOUND");
}

#[test]
fn publishing_says_whether_the_version_is_new() {
    let desk = Desk::new();
    let graph = desk.graph("echo", &echo());
    let first = desk.run(&["publish", &graph, "--as", "mine", "-m", "first", "--json"]).expect(0).json();
    assert_eq!((&first["workflow_id"], &first["version"], &first["is_new"]), (&json!("mine"), &json!(1), &json!(true)));
    let second = desk.run(&["publish", &graph, "--as", "mine"]).expect(0);
    assert_eq!(second.stdout, "mine version 1 is this graph already\n");
    assert!(desk.run(&["versions", "mine"]).expect(0).stdout.contains("first"));
}

#[test]
fn an_id_can_be_chosen_and_is_used_once() {
    let desk = Desk::new();
    let graph = desk.graph("echo", &echo());
    let id = "11111111-2222-4333-8444-555555555555";
    let start = ["run", &graph, "--input", r#"{"n":1}"#, "--run-id", id, "--json"];
    assert_eq!(desk.run(&start).expect(0).summary()["run_id"], id);
    assert_eq!(desk.run(&start).expect(2).error()["code"], "RUN_EXISTS");
}

#[test]
fn steps_can_be_given_input_of_their_own_or_left_out() {
    let desk = Desk::new();
    let script = "return { n = input.n }";
    let graph = desk.graph(
        "roots",
        &json!({ "steps": [
        { "id": "a", "type": "lua_script", "script": script },
        { "id": "b", "type": "lua_script", "script": script, "no_auto_start": true },
        { "id": "c", "type": "lua_script", "script": script, "depends_on": ["a"] },
    ] }),
    );
    let outputs = |more: &[&str]| desk.run(&[&["run", &graph, "-i", r#"{"n":1}"#], more].concat()).expect(0).json();
    assert_eq!(outputs(&[]), json!({ "c": { "n": 1 } }));
    assert_eq!(outputs(&["--trigger-steps", r#"{"b":{"n":5}}"#]), json!({ "b": { "n": 5 }, "c": { "n": 1 } }));
    assert_eq!(outputs(&["--trigger-steps", r#"{"b":{"n":5}}"#, "--exclude", "a"]), json!({ "b": { "n": 5 } }));
    let unknown = desk.run(&["run", &graph, "--exclude", "z", "--json"]).expect(2).error();
    assert_eq!(unknown["code"], "UNKNOWN_STEP");
}
