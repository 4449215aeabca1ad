//! A server's own data under the command line: which workspace is looked into, and how one learns of the others.

use crate::{
    program::Desk,
    service::{Account, Service},
};
use serde_json::{Value, json};

/// The ids of the workspace and of its project, which are all that the log has.
async fn ids(service: &Service) -> (String, String) {
    // Whoever comes second finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |path: &str| {
        let asked = http.get(format!("{}/v1{path}", service.url)).bearer_auth(&service.admin_token);
        asked.header("x-tenant-id", "dev").send().await.unwrap().json::<Value>().await.unwrap()
    };
    let (tenant, projects) = (ask("/tenants/current").await, ask("/projects").await);
    let text = |id: &Value| id.as_str().unwrap().to_owned();
    (text(&tenant["id"]), text(&projects["items"][0]["id"]))
}

#[tokio::test]
async fn an_empty_list_tells_where_it_looked_and_where_else_there_is_something() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    let graph = me.graph("greet", &json!({ "steps": [{ "id": "a", "type": "lua_script", "script": "return {}" }] }));
    me.run(&["publish", &graph]).expect(0);
    me.run(&["trigger", "greet", "--wait"]).expect(0);
    let (tenant, project) = ids(&service).await;
    let home = service.end();
    let data = home.path().join("data");
    let here = |arguments: &[&str]| me.run(&[arguments, &["--data", data.to_str().unwrap()]].concat());
    for list in ["runs", "workflows", "tasks"] {
        let told = here(&[list]).expect(0).stdout;
        assert!(told.contains("in workspace `local`, project `default`"), "{told}");
        assert!(told.contains("--tenant dev --project default"), "{told}");
    }
    let there = ["--tenant", "dev", "--project", "default"];
    let runs = here(&[&["runs", "--json"], &there[..]].concat()).expect(0).json();
    assert_eq!(runs[0]["status"], "completed");
    // The project of a workspace is `default` unless it is named.
    let shown = here(&["show", "last", "--tenant", "dev", "--json"]).expect(0).json();
    assert_eq!(shown["run_id"], runs[0]["run_id"]);
    // What people call them, as at the server; the log knows ids alone.
    let listed = here(&[&["runs"], &there[..]].concat()).expect(0).stdout;
    assert!(listed.contains("greet v1"), "{listed}");
    let listed = here(&[&["workflows"], &there[..]].concat()).expect(0).stdout;
    assert!(listed.starts_with("greet "), "{listed}");
    assert_eq!(here(&["runs", "--tenant", "dev", "--workflow", "greet", "--json"]).expect(0).json(), runs);
    let by_ids = ["runs", "--json", "--tenant", &tenant, "--project", &project];
    assert_eq!(here(&by_ids).expect(0).json(), runs);
    assert_eq!(here(&["runs", "--json", "--tenant", &tenant]).expect(0).json(), runs);
    let unknown = here(&["runs", "--tenant", "acme", "--json"]).expect(2).error();
    assert_eq!(unknown["code"], "PLACE_NOT_FOUND");
    assert!(unknown["error"].as_str().unwrap().contains("--tenant dev --project default"), "{unknown:#}");
    for command in ["run", "publish"] {
        assert_eq!(here(&[command, &graph, "--tenant", "dev", "--json"]).expect(2).error()["code"], "USAGE");
    }
}

#[test]
fn data_without_a_server_has_one_workspace() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["runs"]).expect(0).stdout, "no runs\n");
    assert_eq!(desk.run(&["runs", "--tenant", "acme", "--json"]).expect(2).error()["code"], "PLACE_NOT_FOUND");
}

/// What a service's runs need is with the service: whoever commands one of them past it starts none of them.
#[tokio::test]
async fn a_command_on_a_server_s_own_data_is_written_down_and_its_runs_are_left_alone() {
    let service = Service::start();
    let me = Account::logged_in(&service);
    let ask =
        json!({ "id": "ask", "type": "llm_call", "model": "direct.nowhere.m", "prompt": "x", "depends_on": ["wait"] });
    let wait = json!({ "id": "wait", "type": "sleep", "duration_s": 1 });
    let graph = me.graph("wait", &json!({ "steps": [wait, ask] }));
    me.run(&["publish", &graph]).expect(0);
    me.run(&["trigger", "wait"]).expect(0);
    me.run(&["trigger", "wait"]).expect(0);
    let home = service.end();
    let data = home.path().join("data");
    let data = data.to_str().unwrap();
    let there = |arguments: &[&str]| {
        me.run(&[arguments, &["--data", data, "--tenant", "dev", "--project", "default"]].concat())
    };
    let unfinished = || {
        let runs = there(&["runs", "--json"]).expect(0).json();
        let of = |run: &Value| run["status"] == "running" || run["status"] == "pending";
        runs.as_array().unwrap().iter().filter(|run| of(run)).count()
    };
    assert_eq!(unfinished(), 2);
    for command in ["resume", "pause", "stop"] {
        let told = there(&[command, "last"]).expect(0).stdout;
        assert!(told.contains("when it starts"), "{told}");
    }
    // A run of one's own is carried out there, and both of the service's wait still, though theirs are due by now.
    let nap = me.graph("nap", &json!({ "steps": [{ "id": "nap", "type": "sleep", "duration_s": 2 }] }));
    me.run(&["run", &nap, "--data", data]).expect(0);
    assert_eq!(unfinished(), 2);
}
