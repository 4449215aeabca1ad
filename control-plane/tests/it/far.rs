//! Servers that are slow to serve, tokens that may do little, and places that contradict each other: what the command line says.

use crate::{
    program::Desk,
    service::{Account, Service},
};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::Stdio,
    thread,
};

fn greeting() -> Value {
    json!({ "name": "greet", "steps": [
        { "id": "first", "type": "lua_script", "script": "return { n = (input.n or 0) + 1 }" },
        { "id": "second", "type": "lua_script", "depends_on": ["first"],
          "script": "if input.n == 1 then error('no luck') end return { n = steps.first.result.n }" },
    ] })
}

/// A server that answers some requests with 503, and the next with an empty list.
fn busy_server(refusals: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
            let (status, body) = match number < refusals {
                true => ("503 Service Unavailable", json!({ "error": "the database does not answer", "code": "X" })),
                false => ("200 OK", json!({ "items": [], "next_cursor": null })),
            };
            let body = body.to_string();
            let head =
                format!("HTTP/1.1 {status}\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: {}", body.len());
            write!(reader.get_mut(), "{head}\r\n\r\n{body}").unwrap();
        }
    });
    format!("http://{address}")
}

#[test]
fn a_server_that_is_waited_for_is_told_once_to_people_and_not_to_programs() {
    let me = Account::new();
    let ask = |arguments: &[&str]| {
        let url = busy_server(3);
        let mut command = me.command(&[&["workflows", "--server", &url], arguments].concat());
        let output = command.env("AGENTRUNTIME_TOKEN", "pat_x").stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    let told = ask(&[]);
    assert!(told.contains("answers 503: the database does not answer; waiting 1 s"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!(ask(&["--json"]), "");
}

/// A token of the whole workspace's owner that may do only these things, in the project.
async fn token(service: &Service, scopes: &[&str]) -> String {
    // Whoever comes second finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = reqwest::Client::builder().no_proxy().build().unwrap().post(format!("{}/v1/pats", service.url));
    let made = made.bearer_auth(&service.admin_token).header("x-tenant-id", "dev");
    let made = made.json(&json!({ "name": "ci", "scopes": scopes, "project_id": "default" })).send().await.unwrap();
    assert_eq!(made.status(), 201);
    made.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_that_only_starts_runs_starts_them_by_the_workflow_s_id() {
    let service = Service::start();
    let owner = Account::logged_in(&service);
    let published = owner.run(&["publish", &owner.graph("greet", &greeting()), "--json"]).expect(0).json();
    let id = published["workflow_id"].as_str().unwrap();
    let me = Account::new();
    let token = token(&service, &["workflow:run"]).await;
    let told = me.type_in(&["login", &service.url, "--token-stdin"], &token).expect(0);
    assert!(told.stderr.contains("agentruntime trigger WORKFLOW_ID"), "{}", told.stderr);
    assert!(me.run(&["whoami"]).expect(0).stdout.contains("may not read"));
    let started = me.run(&["trigger", id, "--json"]).expect(0).json();
    assert_eq!(started["workflow_id"], id);
    let by_name = me.run(&["trigger", "greet", "--json"]).expect(2).error();
    assert_eq!(by_name["code"], "SCOPE_MISSING");
    let sentence = by_name["error"].as_str().unwrap();
    assert!(sentence.contains("workflow:read") && sentence.contains("by its id"), "{sentence}");
    // What was started is told, though it cannot be followed: whoever believed that it was not would start another.
    let unseen = me.run(&["trigger", id, "--wait", "--json"]).expect(2).error();
    assert!(unseen["error"].as_str().unwrap().contains("was started and goes on"), "{unseen:#}");
    assert_eq!(owner.run(&["runs", "--json"]).expect(0).json().as_array().unwrap().len(), 2);
    let nowhere = me.run(&["trigger", "0198c5a0-0000-7000-8000-000000000000", "--json"]).expect(2).error();
    assert_eq!(nowhere["code"], "WORKFLOW_NOT_FOUND");
}

#[test]
fn a_start_takes_over_what_an_earlier_run_completed() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    me.run(&["publish", &me.graph("greet", &greeting())]).expect(0);
    me.run(&["trigger", "greet", "--input", r#"{"n":1}"#, "--wait"]).expect(1);
    // Without an input, that of the earlier run counts, and with it what fails.
    me.run(&["trigger", "greet", "--resume-from", "last", "--wait"]).expect(1);
    let reused = me.run(&["events", "last", "--json"]).expect(0).lines();
    let first = |events: &[Value]| {
        let is_begun = |it: &&Value| it["event_type"] == "step_started" && it["step_id"] == "first";
        events.iter().filter(is_begun).count()
    };
    assert_eq!(first(&reused), 0, "{reused:#?}");
    me.run(&["trigger", "greet", "--resume-from", "last", "--from-step", "first", "--wait"]).expect(1);
    assert_eq!(first(&me.run(&["events", "last", "--json"]).expect(0).lines()), 1);
    assert_eq!(me.run(&["trigger", "greet", "--from-step", "first", "--json"]).expect(2).error()["code"], "USAGE");
}

#[test]
fn here_a_start_takes_over_what_an_earlier_run_completed_too() {
    let desk = Desk::new();
    desk.run(&["run", &desk.graph("greet", &greeting()), "--input", r#"{"n":1}"#]).expect(1);
    let outputs = desk.run(&["trigger", "greet", "--resume-from", "last", "--input", r#"{"n":7}"#]).expect(0).json();
    // The first step was not done again: it would have made 8 of it.
    assert_eq!(outputs["second"]["n"], 2);
}

#[test]
fn a_run_on_the_data_of_a_service_is_sent_to_the_service() {
    let service = Service::start();
    let me = Account::new();
    let graph = me.graph("greet", &greeting());
    let refused = me.run(&["run", &graph, "--data", &service.data(), "--json"]).expect(2).error();
    assert_eq!(refused["code"], "DATA_IN_USE");
    let told = refused["error"].as_str().unwrap();
    assert!(told.contains(&service.data()) && told.contains("agentruntime trigger WORKFLOW"), "{told}");
}

#[test]
fn a_login_beside_a_data_folder_of_the_environment_is_told() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    let here = me.folder().join("data");
    let ask = |arguments: &[&str]| {
        let mut command = me.command(arguments);
        let output = command.env("AGENTRUNTIME_DATA", &here).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    let told = ask(&["workflows"]);
    assert!(told.contains(here.to_str().unwrap()) && told.contains(&format!("--server {}", service.url)), "{told}");
    // Whoever says what is meant, or is a program, is told nothing.
    assert_eq!(ask(&["workflows", "--server", &service.url]), "");
    assert_eq!(ask(&["workflows", "--json"]), "");
    let mut command = me.command(&["workflows"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    child.wait().unwrap();
    assert_eq!(told, "", "the login alone");
}

#[test]
fn who_commands_work_as_is_told_to_people_in_lines() {
    let service = Service::start();
    let me = Account::new();
    let login = ["login", &service.url, "--token-stdin", "--tenant", "dev", "--project", "default"];
    me.type_in(&login, &service.admin_token).expect(0);
    let told = me.run(&["whoami"]).expect(0).stdout;
    assert!(!told.contains('{') && told.contains("workspace  dev") && told.contains("project    default"), "{told}");
    assert!(told.contains("account    ") && told.contains('@'), "{told}");
    let json = me.run(&["whoami", "--json"]).expect(0).json();
    assert_eq!((&json["tenant"], &json["server"]), (&json!("dev"), &json!(service.url)));
    // A token of one project says itself which that is.
    let me = Account::logged_in(&service);
    let told = me.run(&["whoami"]).expect(0).stdout;
    assert!(told.contains("workspace  dev") && told.contains("project    default"), "{told}");
    let json = me.run(&["whoami", "--json"]).expect(0).json();
    assert_eq!((&json["tenant"], &json["project"]), (&json!("dev"), &json!("default")));
}

#[tokio::test]
async fn a_graph_that_is_refused_leaves_the_draft_as_it_is() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    // Of a name that nobody has, nothing is left behind.
    let new = json!({ "name": "new", "steps": [{ "id": "a", "type": "lua_script", "script": "return {" }] });
    let refused = me.run(&["publish", &me.graph("new", &new), "--json"]).expect(2).error();
    assert_eq!(refused["code"], "INVALID_GRAPH", "{refused:#}");
    assert_eq!(me.run(&["workflows", "--json"]).expect(0).json(), json!([]));
    let published = me.run(&["publish", &me.graph("greet", &greeting()), "--json"]).expect(0).json();
    let id = published["workflow_id"].as_str().unwrap();
    let before = service.get(&format!("/workflows/{id}")).await;
    let wrong = json!({ "name": "greet", "steps": [{ "id": "a", "type": "lua_script", "script": "return {" }] });
    let refused = me.run(&["publish", &me.graph("wrong", &wrong), "--json"]).expect(2).error();
    assert_eq!(refused["code"], "INVALID_GRAPH", "{refused:#}");
    assert_eq!(service.get(&format!("/workflows/{id}")).await, before);
    // One that is right replaces it.
    let right = json!({ "name": "greet", "steps": [{ "id": "a", "type": "lua_script", "script": "return {}" }] });
    assert_eq!(me.run(&["publish", &me.graph("right", &right), "--json"]).expect(0).json()["version"], 2);
    assert_eq!(service.get(&format!("/workflows/{id}")).await["graph"], right);
}

#[test]
fn a_workflow_is_called_by_its_name_here_and_at_a_server() {
    let child =
        json!({ "name": "child", "steps": [{ "id": "a", "type": "lua_script", "script": "return { n = 4 }" }] });
    let parent =
        json!({ "name": "parent", "steps": [{ "id": "call", "type": "workflow_call", "workflow_id": "child" }] });
    let desk = Desk::new();
    desk.run(&["publish", &desk.graph("child", &child)]).expect(0);
    let here = desk.run(&["run", &desk.graph("parent", &parent)]).expect(0).json();
    let service = Service::start();
    let me = Account::logged_in(&service);
    // Before there is one, the refusal says what is not there.
    let refused = me.run(&["publish", &me.graph("parent", &parent)]).expect(2).stderr;
    assert!(refused.contains("there is no workflow with the id `child` here"), "{refused}");
    me.run(&["publish", &me.graph("child", &child)]).expect(0);
    me.run(&["publish", &me.graph("parent", &parent)]).expect(0);
    let there = me.run(&["trigger", "parent", "--wait"]).expect(0).json();
    assert_eq!(here["call"], there["call"]);
    assert!(me.run(&["publish", &me.graph("parent", &parent)]).expect(0).stdout.contains("is this graph already"));
}
