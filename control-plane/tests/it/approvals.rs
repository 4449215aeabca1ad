//! Versions that wait for an approval, as the command line tells of them and lets them go on.

use crate::{
    program::Desk,
    service::{Account, Service},
};
use serde_json::{Value, json};

fn sending(hosts: &[&str]) -> Value {
    json!({ "name": "send", "steps": [
        { "id": "call", "type": "lua_script", "script": "return {}", "capabilities": { "hosts": hosts } },
    ] })
}

/// Lets wider grants wait in the project.
async fn require(service: &Service) {
    // Whoever comes second finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let change = client.patch(format!("{}/v1/projects/default", service.url)).bearer_auth(&service.admin_token);
    let change = change.header("x-tenant-id", "dev").json(&json!({ "require_grant_approval": true }));
    assert_eq!(change.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_version_that_waits_is_told_and_approved() {
    let service = Service::start();
    require(&service).await;
    let me = Account::logged_in(&service);
    me.run(&["publish", &me.graph("send", &sending(&[]))]).expect(0);
    let graph = me.graph("send", &sending(&["a.example"]));
    let published = me.run(&["publish", &graph]).expect(0);
    assert_eq!(published.stdout, "send version 2 published\n");
    assert!(published.stderr.contains("  host a.example  step call\n"), "{}", published.stderr);
    assert!(published.stderr.contains("agentruntime version approve send 2"), "{}", published.stderr);
    let again = me.run(&["publish", &graph, "--json"]).expect(0).json();
    assert_eq!((&again["approval"], &again["new_grants"][0]["grant"]), (&json!("pending"), &json!("host a.example")));

    let listed = me.run(&["versions", "send"]).expect(0).stdout;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].contains("waits for an approval") && !lines[1].contains("approval"), "{listed}");
    assert_eq!(me.run(&["versions", "send", "--json"]).expect(0).json()[0]["approval"], "pending");
    let refused = me.run(&["trigger", "send", "--version", "2", "--json"]).expect(2).error();
    assert_eq!(refused["code"], "VERSION_NOT_APPROVED");
    assert_eq!(me.run(&["trigger", "send", "--json"]).expect(0).json()["version"], 1);

    let rejected = me.run(&["version", "reject", "send", "2", "--comment", "not there"]).expect(0).stdout;
    assert_eq!(rejected, "send version 2 rejected\n  host a.example  step call\n");
    assert!(me.run(&["versions", "send"]).expect(0).stdout.contains("rejected"));
    assert!(me.run(&["publish", &graph]).expect(0).stderr.contains("was rejected"));
    let approved = me.run(&["version", "approve", "send", "2", "--json"]).expect(0).json();
    assert_eq!((&approved["version"], &approved["approval"]), (&json!(2), &json!("approved")));
    let refused = me.run(&["version", "approve", "send", "2", "--json"]).expect(2).error();
    assert_eq!(refused["code"], "VERSION_DECIDED");
    assert_eq!(me.run(&["trigger", "send", "--json"]).expect(0).json()["version"], 2);
}

#[tokio::test]
async fn a_service_s_data_tells_what_waits_and_starts_nothing_past_the_service() {
    let service = Service::start();
    require(&service).await;
    let me = Account::logged_in(&service);
    let first = me.run(&["publish", &me.graph("send", &sending(&[])), "--json"]).expect(0).json();
    me.run(&["publish", &me.graph("send", &sending(&["a.example"]))]).expect(0);
    let folder = service.end();
    let data = folder.path().join("data");
    let place = ["--data", data.to_str().unwrap(), "--tenant", "dev", "--project", "default", "--json"];
    let id = first["workflow_id"].as_str().unwrap();
    let here = |words: &[&str]| Account::new().run(&[words, &place[..]].concat());
    assert_eq!(here(&["versions", id]).expect(0).json()[0]["approval"], "pending");
    for start in [&["trigger", id][..], &["trigger", id, "--version", "2"]] {
        assert_eq!(here(start).expect(2).error()["code"], "USAGE");
    }
    assert_eq!(here(&["runs"]).expect(0).json(), json!([]));
}

#[test]
fn here_nothing_waits_for_an_approval() {
    let desk = Desk::new();
    let graph = desk.graph("send", &sending(&["a.example"]));
    assert_eq!(desk.run(&["publish", &graph, "--json"]).expect(0).json()["approval"], "approved");
    assert_eq!(desk.run(&["versions", "send", "--json"]).expect(0).json()[0]["approval"], "approved");
    let refused = desk.run(&["version", "approve", "send", "1", "--json"]).expect(2).error();
    assert_eq!(refused["code"], "SERVER_ONLY");
}
