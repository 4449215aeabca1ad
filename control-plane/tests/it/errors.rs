//! Errors: a sentence with a remedy for people, an object for programs, always exit code 2.

use crate::program::{Desk, example};
use serde_json::json;

#[track_caller]
fn check(arguments: &[&str], code: &str, part: &str) {
    let desk = Desk::new();
    let refused = desk.run(arguments).expect(2);
    assert!(refused.stderr.starts_with("error: ") && refused.stderr.contains(part), "{part} in {}", refused.stderr);
    assert_eq!(refused.stdout, "");
    let told = desk.run(&[arguments, &["--json"]].concat()).expect(2).error();
    assert_eq!(told["code"], code, "{told}");
    assert!(told["error"].as_str().unwrap().contains(part), "{part} in {told}");
}

#[test]
fn bad_arguments_are_refused() {
    check(&["run"], "USAGE", "required arguments");
    let told = Desk::new().run(&["run", "--json"]).expect(2).error();
    assert_eq!(told["error"], "the following required arguments were not provided: <GRAPH>");
    check(&["fly"], "USAGE", "unrecognized subcommand 'fly'");
    check(&["runs", "--limit", "0"], "USAGE", "--limit");
    check(&["runs", "--data", "mysql://somewhere"], "DATA_LOCATION_INVALID", "neither a folder nor a postgres:// URL");
}

#[test]
fn a_folder_without_data_is_not_made_by_looking_into_it() {
    let desk = Desk::new();
    let wrong = desk.graph("wrong", &json!({ "steps": [] })).replace("wrong.json", "dta");
    for command in [&["runs"][..], &["show", "last"], &["tasks"], &["approve", "last"], &["trigger", "greet"]] {
        let refused = desk.run(&[command, &["--data", &wrong, "--json"]].concat()).expect(2).error();
        assert_eq!(refused["code"], "DATA_NOT_FOUND", "{refused}");
        let told = refused["error"].as_str().unwrap();
        assert!(told.contains(&wrong) && told.contains("--data"), "{told}");
        assert!(!std::path::Path::new(&wrong).exists());
    }
}

#[test]
fn a_graph_that_cannot_be_read_is_refused() {
    check(&["validate", "nowhere.json"], "INVALID_GRAPH", "cannot read the graph `nowhere.json`");
    let desk = Desk::new();
    let folder = desk.graph("x", &json!({}));
    let folder = folder.strip_suffix("x.json").unwrap();
    std::fs::write(format!("{folder}broken.json"), "{ \"steps\": [ }").unwrap();
    check(
        &["run", &format!("{folder}broken.json")],
        "INVALID_GRAPH",
        "is not JSON: expected value at line 1 column 14",
    );
}

#[test]
fn a_wrong_graph_is_not_run() {
    let desk = Desk::new();
    let graph = desk.graph("wrong", &json!({ "steps": [{ "id": "a", "type": "lua_scirpt", "script": "return {}" }] }));
    let refused = desk.run(&["run", &graph]).expect(2);
    assert!(refused.stderr.contains("did you mean `lua_script`?"), "{}", refused.stderr);
    let told = desk.run(&["publish", &graph, "--json"]).expect(2).error();
    assert_eq!(
        (&told["code"], &told["details"]["issues"][0]["json_path"]),
        (&json!("INVALID_GRAPH"), &json!("$.steps[0].type"))
    );
    assert_eq!(desk.run(&["workflows", "--json"]).expect(0).json(), json!([]));
}

#[test]
fn a_script_that_does_not_compile_is_not_run() {
    let desk = Desk::new();
    let graph = desk
        .graph("syntax", &json!({ "steps": [{ "id": "a", "type": "lua_script", "script": "return {\n x = = 1 }" }] }));
    let refused = desk.run(&["run", &graph]).expect(2);
    assert!(refused.stderr.contains("a:2:") && refused.stderr.contains("[lua_syntax_error]"), "{}", refused.stderr);
}

#[test]
fn wrong_input_is_refused() {
    let order = example("order-triage", "workflow.json");
    check(&["run", &order, "--input", "{"], "INVALID_JSON", "the input is not JSON");
    check(&["run", &order, "--input", "@nowhere.json"], "INVALID_JSON", "cannot read the input from `nowhere.json`");
    check(&["run", &order, "--input", &order], "INVALID_JSON", "to read the file, write @");
    check(&["run", &order, "--input", "{}"], "INVALID_INPUT", "order_id");
    check(&["run", &order, "--trigger-steps", "[]"], "INVALID_JSON", "must be a JSON object");
    check(&["run", &order, "--workflow-id", "a b"], "INVALID_WORKFLOW_ID", "cannot be a workflow's id");
}

#[test]
fn wrong_answers_are_refused_before_anything_starts() {
    let order = example("order-triage", "workflow.json");
    let yes = r#"={"approved":true}"#;
    check(&["run", &order, "--answer", "approve"], "INVALID_ANSWER", "STEP=JSON");
    check(&["run", &order, "--answer", "approve={}"], "INVALID_ANSWER", "\"approved\": true or false");
    check(&["run", &order, "--answer", &format!("aprove{yes}")], "UNKNOWN_STEP", "these do: approve");
    let refine = example("refine", "workflow.json");
    check(&["run", &refine, "--answer", &format!("x{yes}")], "UNKNOWN_STEP", "no step of this workflow asks a person");
}

#[test]
fn a_url_or_an_id_that_is_none_is_told_in_our_words() {
    check(&["login", "no url", "--token-stdin"], "INVALID_URL", "it begins with https:// and a host, such as");
    check(&["login", "https://", "--token-stdin"], "INVALID_URL", "its host is missing");
    check(&["login", "https://a:99999", "--token-stdin"], "INVALID_URL", "its port is no number");
    check(&["run", "x.json", "--run-id", "abc"], "USAGE", "it should be a UUID, such as");
}
