//! The command line as a client: the same commands, at a server.

use crate::{
    program::Desk,
    service::{Account, Service},
};
use serde_json::{Value, json};
use std::process::Stdio;

fn asking() -> Value {
    json!({ "name": "Ask first", "steps": [
        { "id": "count", "type": "lua_script", "script": "return { n = (input.n or 0) + 1 }" },
        { "id": "ask", "type": "human_task", "task_type": "approval", "depends_on": ["count"], "task_payload": { "n": "{{ steps.count.result.n }}" } },
        { "id": "after", "type": "lua_script", "depends_on": ["ask"], "script": "return { note = steps.ask.result.note }" },
    ] })
}

fn counting() -> Value {
    json!({ "name": "counting", "steps": [
        { "id": "a", "type": "lua_script", "script": "return { n = (input.n or 0) + 1, is_large = false }" },
        { "id": "each", "type": "for_each", "depends_on": ["a"], "for_each_items": [1, 2, 3],
          "for_each_body_steps": [{ "id": "double", "type": "lua_script", "script": "return { n = item * 2 }" }] },
        { "id": "never", "type": "lua_script", "depends_on": ["a"], "condition": "{{ steps.a.result.is_large }}", "script": "return {}" },
    ] })
}

#[test]
fn a_workflow_is_published_triggered_and_looked_at() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    let graph = me.graph("counting", &counting());
    let published = me.run(&["publish", &graph, "--json"]).expect(0).json();
    assert_eq!((&published["version"], &published["is_new"]), (&json!(1), &json!(true)));
    assert!(me.run(&["publish", &graph]).expect(0).stdout.contains("counting version 1 is this graph already"));
    let outputs = me.run(&["trigger", "counting", "--input", r#"{"n":4}"#, "--wait"]).expect(0).json();
    assert_eq!(outputs["each"]["count"], 3);
    let runs = me.run(&["runs", "--workflow", "counting", "--json"]).expect(0).json();
    assert_eq!((runs.as_array().unwrap().len(), &runs[0]["status"]), (1, &json!("completed")));
    let listed = me.run(&["workflows", "--json"]).expect(0).json();
    assert_eq!((&listed[0]["name"], &listed[0]["version"]), (&json!("counting"), &json!(1)));
    assert_eq!(me.run(&["versions", "counting", "--json"]).expect(0).json()[0]["version"], 1);
    // Part of an id, as here.
    let run = runs[0]["run_id"].as_str().unwrap();
    let events = me.run(&["events", &run[28..], "--json"]).expect(0).lines();
    assert_eq!(events.last().unwrap()["event_type"], "run_completed");
    assert_eq!(me.run(&["logs", "last", "-f", "--json"]).expect(0).lines(), events);
}

/// What differs from run to run and from place to place.
fn normal(text: &str) -> String {
    let mut words = Vec::new();
    for line in text.lines() {
        let line = line.split_whitespace().map(|word| {
            let is_id = word.trim_end_matches([',', ')']).parse::<uuid::Uuid>().is_ok();
            let is_time = word.contains(':') || word.starts_with("20");
            let is_measured = word.parse::<f64>().is_ok() || word.contains(['█', '·']) || word == "ms" || word == "s";
            match () {
                () if is_id => "ID",
                () if is_time => "TIME",
                () if is_measured => "N",
                () => word,
            }
        });
        words.push(line.collect::<Vec<_>>().join(" "));
    }
    words.join("\n")
}

#[test]
fn a_run_is_shown_as_it_is_shown_here() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    let graph = me.graph("counting", &counting());
    me.run(&["publish", &graph]).expect(0);
    let followed = me.run(&["trigger", "counting", "--wait"]).expect(0).stderr;
    assert!(followed.starts_with("counting version 1, run "), "{followed}");
    let there = me.run(&["show", "last"]).expect(0).stdout;
    let desk = Desk::new();
    desk.run(&["run", &desk.graph("counting", &counting())]).expect(0);
    let here = desk.run(&["show", "last"]).expect(0).stdout;
    assert_eq!(normal(&there), normal(&here));
    let listed = |runs: String| normal(&runs).replace("  ", " ");
    assert_eq!(listed(me.run(&["runs"]).expect(0).stdout), listed(desk.run(&["runs"]).expect(0).stdout));
    let keys = |show: Value| {
        show["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["step_id"].clone(), it["state"].clone(), it["result"].clone()))
            .collect::<Vec<_>>()
    };
    let json = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    assert_eq!(
        keys(json(me.run(&["show", "last", "--json"]).expect(0).stdout)),
        keys(json(desk.run(&["show", "last", "--json"]).expect(0).stdout))
    );
}

#[test]
fn what_a_run_asks_is_answered() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    me.run(&["publish", &me.graph("ask", &asking())]).expect(0);
    let waiting = me.run(&["trigger", "Ask first", "--input", r#"{"n":6}"#, "--wait", "--json"]).expect(3).summary();
    assert_eq!(
        (&waiting["awaiting"], &waiting["tasks"][0]["task_payload"]),
        (&json!("human_task"), &json!({ "n": 7 }))
    );
    assert_eq!(me.run(&["tasks", "last", "--json"]).expect(0).json(), waiting["tasks"]);
    let answered = me.run(&["approve", "last", "--result", r#"{"note":"fine"}"#]).expect(0);
    assert_eq!(answered.json(), json!({ "after": { "note": "fine" } }));
    // A run was named, and not the question: which one was answered, and how, is on the screen.
    let shown = &answered.stderr;
    assert!(shown.contains("ask (approval)") && shown.contains("\"n\": 7") && shown.contains("answer: yes"), "{shown}");
    assert!(me.run(&["approve", "last"]).expect(2).stderr.contains("asks nothing"));
    // The task itself, and no.
    let waiting = me.run(&["trigger", "Ask first", "--wait", "--json"]).expect(3).summary();
    let task = waiting["tasks"][0]["task_id"].as_str().unwrap();
    let shown = me.run(&["approve", task, "--reject", "--result", r#"{"reason":"too dear"}"#]).expect(0).stderr;
    assert!(!shown.contains("answer: "), "{shown}");
    assert!(shown.contains("rejected: too dear"), "{shown}");
}

#[test]
fn commands_reach_a_run() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    me.run(&["publish", &me.graph("ask", &asking())]).expect(0);
    me.run(&["trigger", "Ask first", "--wait"]).expect(3);
    assert!(me.run(&["pause", "last"]).expect(0).stdout.contains("is paused"));
    let refused = me.run(&["pause", "last", "--json"]).expect(2).error();
    assert_eq!(refused["code"], "WRONG_STATUS");
    me.run(&["resume", "last"]).expect(3);
    assert!(me.run(&["stop", "last"]).expect(0).stdout.contains("is stopped"));
}

#[test]
fn a_start_with_a_key_happens_once() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    me.run(&["publish", &me.graph("counting", &counting())]).expect(0);
    let start = || me.run(&["trigger", "counting", "--idempotency-key", "one", "--json"]).expect(0).json();
    let (first, second) = (start(), start());
    assert_eq!(first["run_id"], second["run_id"]);
    assert_eq!((&first["is_repeated"], &second["is_repeated"]), (&json!(false), &json!(true)));
}

#[test]
fn logs_go_on_after_the_server_was_restarted() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    me.run(&["publish", &me.graph("ask", &asking())]).expect(0);
    let run = me.run(&["trigger", "Ask first", "--wait", "--json"]).expect(3).summary()["run_id"].clone();
    let mut logs = me.begin(&["logs", run.as_str().unwrap(), "-f"]);
    logs.wait_for("human_task_created", "ask");
    let service = service.restart();
    me.run(&["approve", run.as_str().unwrap(), "ask"]).expect(0);
    let finished = logs.finish();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let seqs: Vec<u64> = finished.lines().iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    let events = me.run(&["events", "last", "--json"]).expect(0).lines();
    let known = events.iter().position(|event| event["event_type"] == "human_task_created").unwrap() as u64 + 1;
    assert_eq!(seqs, (known + 1..=events.len() as u64).collect::<Vec<_>>());
    drop(service);
}

#[test]
fn a_login_is_checked_kept_private_and_forgotten() {
    let service = Service::start();
    let me = Account::new();
    let refused = me.type_in(&["login", &service.url, "--token-stdin", "--json"], "pat_wrong").expect(2).error();
    assert_eq!(refused["code"], "NOT_AUTHENTICATED");
    assert_eq!(
        me.type_in(&["login", &service.url, "--json"], &service.token).expect(2).error()["code"],
        "TOKEN_MISSING"
    );
    let told = me.type_in(&["login", &service.url, "--token-stdin"], &service.token).expect(0);
    assert!(told.stdout.contains("logged in to http://127.0.0.1"), "{}", told.stdout);
    assert!(me.run(&["whoami"]).expect(0).stdout.contains(&service.url));
    assert_eq!(me.run(&["workflows"]).expect(0).stdout, "no workflows\n");
    // Without a login of its own, another profile is nobody.
    assert_eq!(me.run(&["workflows", "--profile", "other", "--json"]).expect(2).error()["code"], "NOT_LOGGED_IN");
    // What is typed counts before the login.
    let data = me.folder().join("data");
    me.run(&["run", &me.graph("counting", &counting()), "--data", data.to_str().unwrap()]).expect(0);
    assert!(me.run(&["workflows", "--data", data.to_str().unwrap()]).expect(0).stdout.contains("counting"));
    me.run(&["logout"]).expect(0);
    assert_eq!(me.run(&["whoami", "--json"]).expect(2).error()["code"], "NOT_LOGGED_IN");
}

#[test]
fn a_server_is_named_for_one_command() {
    let service = Service::start();
    let me = Account::new();
    let at = ["--server", service.url.as_str()];
    let none = me.run(&["workflows", at[0], at[1], "--json"]).expect(2).error();
    assert_eq!(none["code"], "NOT_LOGGED_IN");
    let mut command = me.command(&["workflows", at[0], at[1]]);
    let told = command.env("AGENTRUNTIME_TOKEN", &service.token).stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), "no workflows\n", "{}", String::from_utf8_lossy(&told.stderr));
    let here_only = me.run(&["run", "graph.json", at[0], at[1], "--json"]).expect(2).error();
    assert_eq!(here_only["code"], "HERE_ONLY");
    assert_eq!(me.run(&["runs", at[0], at[1], "--data", "x", "--json"]).expect(2).error()["code"], "USAGE");
}

#[test]
fn what_goes_wrong_is_told_with_a_remedy() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    let code = |arguments: &[&str]| {
        let error = me.run(&[arguments, &["--json"]].concat()).expect(2).error();
        assert!(error["error"].as_str().is_some_and(|sentence| sentence.len() > 20), "{error}");
        error["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(&["trigger", "nothing"]), "WORKFLOW_NOT_FOUND");
    assert_eq!(code(&["show", "0198c5a0-0000-7000-8000-000000000000"]), "RUN_NOT_FOUND");
    assert_eq!(code(&["show", "last"]), "RUN_NOT_FOUND");
    assert_eq!(code(&["workflows", "--tenant", "other"]), "PLACE_NOT_FOUND");
    assert_eq!(code(&["login", "http://example.com", "--token-stdin"]), "PLAINTEXT_REFUSED");
    assert_eq!(
        code(&["publish", &me.graph("wrong", &json!({ "steps": [{ "id": "a", "type": "dream" }] }))]),
        "INVALID_GRAPH"
    );
    let lua = json!({ "name": "lua", "steps": [{ "id": "a", "type": "lua_script", "script": "return {" }] });
    let refused = me.run(&["publish", &me.graph("lua", &lua)]).expect(2);
    assert!(refused.stderr.contains("nothing was published or run"), "{}", refused.stderr);
    drop(service);
    assert_eq!(code(&["workflows"]), "SERVER_UNREACHABLE");
}

#[tokio::test]
async fn a_token_of_the_whole_workspace_works_in_the_project_that_is_named() {
    let service = Service::start();
    // Whoever comes second finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = reqwest::Client::builder().no_proxy().build().unwrap().post(format!("{}/v1/projects", service.url));
    let made = made.bearer_auth(&service.admin_token).header("x-tenant-id", "dev");
    let made = made.json(&json!({ "slug": "other", "name": "Other" })).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let me = Account::new();
    let login = |project: &[&str]| {
        me.type_in(&[&["login", &service.url, "--token-stdin"], project].concat(), &service.admin_token)
    };
    assert!(login(&[]).expect(2).stderr.contains("--tenant SLUG"));
    // Every command speaks of what can be typed, not of what is sent.
    let unbound = |place: &[&str]| {
        let mut command = me.command(&[&["workflows", "--server", &service.url, "--json"], place].concat());
        let output = command.env("AGENTRUNTIME_TOKEN", &service.admin_token).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        serde_json::from_slice::<Value>(&output.stderr).unwrap()
    };
    for (place, code) in [(&[][..], "PLACE_MISSING"), (&["--tenant", "nowhere"], "PLACE_NOT_FOUND")] {
        let refused = unbound(place);
        let told = refused["error"].as_str().unwrap();
        assert_eq!(refused["code"], code);
        assert!(told.contains("--tenant") && told.contains("--project") && !told.contains("X-"), "{told}");
    }
    login(&["--tenant", "dev", "--project", "default"]).expect(0);
    let graph = me.graph("counting", &counting());
    let mut runs = Vec::new();
    for project in ["default", "other"] {
        let at = |arguments: &[&str]| me.run(&[arguments, &["--project", project]].concat()).expect(0);
        at(&["publish", &graph]);
        at(&["trigger", "counting", "--wait"]);
        let listed = at(&["runs", "--json"]).json();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
        runs.push(listed[0]["run_id"].clone());
    }
    assert_ne!(runs[0], runs[1]);
    let last = me.run(&["show", "last", "--json"]).expect(0).json();
    assert_eq!(last["run_id"], runs[0]);
}
