//! What scripts of a local run reach, and the secrets that they are given.

use crate::program::Desk;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

const SECRET: &str = "sk-live-7f3a9c01d2e4";
const KEPT: &str = "connection/crm/api_key";

/// A server that answers each request with its head, and tells what came.
fn echo() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (sender, came) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &sender);
        }
    });
    (origin, came)
}

fn answer(mut stream: TcpStream, sender: &Sender<String>) {
    let lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let head: String = lines.take_while(|line| !line.is_empty()).map(|line| line + "\n").collect();
    let length = head.len();
    // The test may have seen enough.
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{head}");
    let _ = sender.send(head);
}

fn graph(origin: &str) -> Value {
    let script = "return { body = http.fetch{ url = input.url, headers = { ['x-key'] = secret('key') } }.body }";
    json!({ "name": "ask", "steps": [{ "id": "ask", "type": "lua_script", "script": script,
        "capabilities": { "hosts": [origin], "secrets": { "key": KEPT } } }] })
}

fn input(origin: &str) -> String {
    json!({ "url": origin }).to_string()
}

#[test]
fn a_secret_that_was_given_reaches_its_server_and_is_in_nothing_that_is_kept_or_shown() {
    let (desk, (origin, came)) = (Desk::new(), echo());
    let (graph, input) = (desk.graph("ask", &graph(&origin)), input(&origin));
    let secrets = format!("@{}", desk.graph("secrets", &json!({ KEPT: SECRET })));
    let given = ["run", &graph, "-i", &input, "--secrets", &secrets, "--allow-network", "127.0.0.0/8"];
    let ended = desk.run(&given).expect(0);
    assert!(came.recv().unwrap().contains(&format!("x-key: {SECRET}\n")));
    let body = ended.json()["ask"]["body"].as_str().unwrap().to_owned();
    assert!(body.contains("x-key: [redacted]"), "{body}");
    let events = desk.run(&["events", "last", "--json"]).expect(0);
    assert!(events.stdout.contains("request_made") && events.stdout.contains("request_completed"), "{}", events.stdout);
    for text in [ended.stdout, ended.stderr, events.stdout] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn whoever_goes_on_with_a_run_gives_it_again_what_its_steps_have() {
    let (desk, (origin, came)) = (Desk::new(), echo());
    let mut asking = graph(&origin);
    asking["steps"][0]["depends_on"] = json!(["allow"]);
    let steps = asking["steps"].as_array_mut().unwrap();
    steps.push(json!({ "id": "allow", "type": "human_task", "task_type": "approval" }));
    let (graph, input) = (desk.graph("ask", &asking), input(&origin));
    let secrets = format!("@{}", desk.graph("secrets", &json!({ KEPT: SECRET })));
    let given = ["--secrets", &secrets, "--allow-network", "127.0.0.0/8"];
    let waiting = desk.run(&[&["run", &graph, "-i", &input], &given[..]].concat()).expect(3);
    let flags = format!("--secrets {secrets} --allow-network 127.0.0.0/8");
    assert!(waiting.stderr.contains(&format!("allow --approve {flags}")), "{}", waiting.stderr);
    // Without them the step fails, and with them it is tried again.
    let failed = desk.run(&["approve", "last"]).expect(1);
    assert!(failed.stderr.contains("--secrets"), "{}", failed.stderr);
    desk.run(&[&["retry", "last"], &given[..]].concat()).expect(0);
    assert!(came.recv().unwrap().contains(SECRET));
    let waiting = desk.run(&[&["run", &graph, "-i", &input], &given[..]].concat()).expect(3);
    assert!(!waiting.stderr.contains(SECRET), "{}", waiting.stderr);
    desk.run(&[&["task", "complete", "last", "allow", "--approve"], &given[..]].concat()).expect(0);
    assert!(came.recv().unwrap().contains(SECRET));
}

#[test]
fn a_secret_that_was_given_signs_too() {
    let desk = Desk::new();
    let script = "return { signed = hmac(secret('key'), 'what do ya want for nothing?') }";
    let capabilities = json!({ "hosts": ["a.example"], "secrets": { "key": KEPT } });
    let step = json!({ "id": "ask", "type": "lua_script", "script": script, "capabilities": capabilities });
    let graph = desk.graph("sign", &json!({ "name": "sign", "steps": [step] }));
    let ended = desk.run(&["run", &graph, "--secrets", &json!({ KEPT: "Jefe" }).to_string()]).expect(0);
    // RFC 4231, test case 2.
    let signature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(ended.json()["ask"]["signed"], signature);
}

#[test]
fn what_was_not_given_or_allowed_is_told_with_what_to_type() {
    let (desk, (origin, came)) = (Desk::new(), echo());
    let (graph, input) = (desk.graph("ask", &graph(&origin)), input(&origin));
    let error = |more: &[&str]| {
        let ended = desk.run(&[&["run", &graph, "-i", &input, "--json"], more].concat()).expect(1).summary();
        (ended["error"]["code"].clone(), ended["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    let (code, message) = error(&["--allow-network", "127.0.0.0/8"]);
    assert_eq!(code, "INVALID_INPUT", "{message}");
    assert!(message.contains(KEPT) && message.contains("--secrets"), "{message}");
    let (code, message) = error(&["--secrets", &json!({ KEPT: SECRET }).to_string()]);
    assert_eq!(code, "CAPABILITY_DENIED", "{message}");
    assert!(message.contains("--allow-network") && !message.contains(SECRET), "{message}");
    assert!(came.try_recv().is_err(), "nothing went out");
}

#[test]
fn a_tool_is_called_by_the_address_of_its_server_and_not_by_an_instance() {
    let (desk, (origin, came)) = (Desk::new(), echo());
    let error = |server: Value| {
        let mut granted = server.clone();
        granted["tools"] = json!(["echo"]);
        let step = json!({ "id": "ask", "type": "lua_script", "script": "return host.call('mcp.call', input)",
            "capabilities": { "tools": [granted] } });
        let graph = desk.graph("tool", &json!({ "name": "tool", "steps": [step] }));
        let mut input = server;
        input["tool"] = json!("echo");
        let given = ["run", &graph, "-i", &input.to_string(), "--allow-network", "127.0.0.0/8", "--json"];
        let ended = desk.run(&given).expect(1).summary();
        (ended["error"]["code"].clone(), ended["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    let (code, message) = error(json!({ "instance_id": "crm" }));
    assert_eq!(code, "INVALID_INPUT", "{message}");
    assert!(message.contains("name the server by `server_url`"), "{message}");
    assert!(came.try_recv().is_err(), "nothing went out");
    // It is no server of MCP, and was asked.
    let (code, message) = error(json!({ "server_url": format!("{origin}/mcp") }));
    assert_eq!(code, "UPSTREAM_ERROR", "{message}");
    assert!(message.contains("neither JSON nor a stream of events"), "{message}");
    assert!(came.recv().unwrap().starts_with("POST /mcp "));
}

#[test]
fn secrets_that_are_none_are_refused_before_anything_starts() {
    let desk = Desk::new();
    let graph = desk.graph("ask", &graph("https://a.example"));
    for (secrets, code, part) in [
        (r#"{"crm":"x"}"#, "INVALID_SECRETS", "connection/<connection>/<credential key>"),
        (r#"{"vault/a":5}"#, "INVALID_SECRETS", "is a text"),
        ("[]", "INVALID_JSON", "--secrets"),
    ] {
        let told = desk.run(&["run", &graph, "--secrets", secrets, "--json"]).expect(2).error();
        assert_eq!(told["code"], code, "{told}");
        assert!(told["error"].as_str().unwrap().contains(part), "{told}");
    }
    let told = desk.run(&["run", &graph, "--allow-network", "here", "--json"]).expect(2).error();
    assert_eq!(told["code"], "USAGE", "{told}");
    assert!(told["error"].as_str().unwrap().contains("such as 127.0.0.0/8"), "{told}");
}
