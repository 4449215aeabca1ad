//! Versions that ask for more than the one in use, where a project wants an admin to approve them.

use crate::{
    hooks::hook,
    server::{Client, Server, answer, on_both},
};
use reqwest::Method;
use serde_json::{Value, json};

/// A step that may send to these hosts, and does not.
fn graph(script: &str, hosts: &[&str]) -> Value {
    let step = json!({ "id": "call", "type": "lua_script", "script": script, "capabilities": { "hosts": hosts } });
    json!({ "steps": [step] })
}

/// Lets wider grants wait in the project, or not.
async fn require(owner: &Client, is_required: bool) {
    let body = json!({ "require_grant_approval": is_required });
    assert_eq!(owner.patch("/v1/projects/default", body).await.expect(200)["require_grant_approval"], is_required);
}

/// Makes a workflow; gives its path.
async fn workflow(owner: &Client, graph: Value) -> String {
    let made = owner.post("/v1/workflows", json!({ "name": "calls", "graph": graph })).await.expect(201);
    format!("/v1/workflows/{}", made["id"].as_str().unwrap())
}

/// Publishes a graph as a new version; gives what is answered.
async fn publish(owner: &Client, path: &str, graph: Value) -> Value {
    owner.patch(path, json!({ "graph": graph })).await.expect(200);
    owner.post(&format!("{path}/versions"), json!({})).await.expect(201)
}

/// Starts a run, of a version or of the one in use; gives its version.
async fn started(owner: &Client, path: &str, version: Value) -> Value {
    let params = json!({ "trigger_payload": {}, "version": version });
    let answer = owner.post(&format!("{path}/command"), json!({ "command": "start", "params": params })).await;
    assert!(answer.status.is_success(), "{answer:?}");
    answer.body["version"].clone()
}

async fn refused_start(owner: &Client, path: &str, version: Value) -> Value {
    let params = json!({ "trigger_payload": {}, "version": version });
    let answer = owner.post(&format!("{path}/command"), json!({ "command": "start", "params": params })).await;
    answer.refused(409, "VERSION_NOT_APPROVED")
}

async fn holder(server: &Server, scopes: &[&str]) -> Client {
    let body = json!({ "name": "ci", "scopes": scopes, "project_id": "default" });
    server.holder(server.admin().post("/v1/pats", body).await.expect(201)["token"].as_str().unwrap())
}

#[tokio::test]
async fn a_version_that_asks_for_more_starts_when_it_is_approved() {
    on_both(|server| async move {
        let owner = server.owner();
        require(&owner, true).await;
        let path = workflow(&owner, json!({})).await;
        let first = publish(&owner, &path, graph("return {}", &[])).await;
        assert_eq!((&first["approval"], &first["new_grants"]), (&json!("approved"), &json!([])));

        let second = publish(&owner, &path, graph("return {}", &["a.example"])).await;
        let asked = json!([{ "parent": null, "id": "call", "grant": "host a.example" }]);
        assert_eq!((&second["version"], &second["approval"]), (&json!(2), &json!("pending")));
        assert_eq!((&second["new_grants"], &second["decision"]), (&asked, &Value::Null));
        let versions = format!("{path}/versions");
        let listed = owner.get(&versions).await.expect(200);
        let states: Vec<&Value> = listed["items"].as_array().unwrap().iter().map(|it| &it["approval"]).collect();
        assert_eq!(states, [&json!("pending"), &json!("approved")]);
        let read = owner.get(&format!("{versions}/2")).await.expect(200);
        assert_eq!((&read["approval"], &read["new_grants"]), (&json!("pending"), &asked));
        // The same draft again is the same version, and waits as before.
        let again = owner.post(&versions, json!({})).await.expect(200);
        assert_eq!(
            (&again["version"], &again["approval"], &again["new_grants"]),
            (&json!(2), &json!("pending"), &asked)
        );

        assert_eq!(owner.get(&path).await.expect(200)["published_version"], 1);
        assert_eq!(started(&owner, &path, Value::Null).await, 1);
        assert_eq!(started(&owner, &path, json!(1)).await, 1);
        let refused = refused_start(&owner, &path, json!(2)).await;
        assert_eq!(refused["details"], json!({ "version": 2, "approval": "pending" }));
        assert!(refused["error"].as_str().unwrap().contains("an admin of the project"), "{refused}");

        let comment = json!({ "comment": "looked at" });
        let approved = owner.post(&format!("{versions}/2/approve"), comment).await.expect(200);
        assert_eq!((&approved["approval"], &approved["new_grants"]), (&json!("approved"), &asked));
        assert_eq!(approved["decision"]["comment"], "looked at");
        assert_eq!(approved["decision"]["by"], owner.get("/v1/auth/me").await.expect(200)["user"]["id"]);
        let read = owner.get(&format!("{versions}/2")).await.expect(200);
        assert_eq!(read["decision"], approved["decision"]);
        for word in ["approve", "reject"] {
            let refused = owner.post(&format!("{versions}/2/{word}"), json!({})).await.refused(409, "VERSION_DECIDED");
            assert_eq!(refused["details"]["approval"], "approved");
            // Neither is there anything to decide about one that needed no approval.
            owner.post(&format!("{versions}/1/{word}"), json!({})).await.refused(409, "VERSION_DECIDED");
        }
        assert_eq!(owner.get(&path).await.expect(200)["published_version"], 2);
        assert_eq!(started(&owner, &path, Value::Null).await, 2);
        assert_eq!(started(&owner, &path, json!(2)).await, 2);
        let log = server.admin().get("/v1/audit").await.expect(200);
        let entries = log["items"].as_array().unwrap();
        let of = |action: &str| entries.iter().filter(|it| it["action"] == action).collect::<Vec<_>>();
        assert_eq!(of("workflow.approve_version")[0]["details"]["comment"], "looked at");
        assert_eq!(of("workflow.publish")[0]["details"]["approval"], "pending");
    })
    .await;
}

#[tokio::test]
async fn only_what_is_new_to_the_version_in_use_needs_an_approval() {
    on_both(|server| async move {
        let owner = server.owner();
        require(&owner, true).await;
        let path = workflow(&owner, json!({})).await;
        let approve = |version: u32| {
            let (owner, path) = (owner.clone(), format!("{path}/versions/{version}/approve"));
            async move { owner.post(&path, json!({})).await.expect(200) }
        };
        let publish = |graph: Value| {
            let (owner, path) = (owner.clone(), path.clone());
            async move { publish(&owner, &path, graph).await["approval"].clone() }
        };
        // The first version with any grant asks for more as well.
        assert_eq!(publish(graph("return {}", &["a.example", "b.example"])).await, "pending");
        approve(1).await;
        assert_eq!(publish(graph("return { n = 2 }", &["a.example", "b.example"])).await, "approved");
        assert_eq!(publish(graph("return {}", &["a.example"])).await, "approved");
        // What an earlier version had, the one in use has not.
        assert_eq!(publish(graph("return {}", &["a.example", "b.example"])).await, "pending");
        // What one step has, another has not.
        let mut other = graph("return {}", &["a.example"]);
        other["steps"][0]["id"] = json!("other");
        assert_eq!(publish(other).await, "pending");
        // One that asks for nothing new overtakes those that wait, and is what later ones are compared with.
        assert_eq!(publish(graph("return { n = 6 }", &["a.example"])).await, "approved");
        approve(4).await;
        assert_eq!(owner.get(&path).await.expect(200)["published_version"], 6);
        assert_eq!(started(&owner, &path, Value::Null).await, 6);
        assert_eq!(started(&owner, &path, json!(4)).await, 4);
        assert_eq!(publish(graph("return { n = 7 }", &["a.example", "b.example"])).await, "pending");
    })
    .await;
}

#[tokio::test]
async fn what_was_rejected_starts_nowhere() {
    on_both(|server| async move {
        let owner = server.owner();
        require(&owner, true).await;
        let path = workflow(&owner, json!({})).await;
        publish(&owner, &path, graph("return {}", &["a.example"])).await;
        let version = format!("{path}/versions/1");
        assert_eq!(owner.get(&path).await.expect(200)["published_version"], Value::Null);
        refused_start(&owner, &path, Value::Null).await;
        refused_start(&owner, &path, json!(1)).await;

        let comment = json!({ "comment": "c".repeat(2_001) });
        owner.post(&format!("{version}/reject"), comment).await.refused(422, "INVALID_FIELD");
        owner.post(&format!("{version}/reject"), json!({ "reason": "x" })).await.refused(422, "INVALID_BODY");
        owner.post(&format!("{path}/versions/2/approve"), json!({})).await.refused(404, "VERSION_NOT_FOUND");
        let comment = json!({ "comment": "c".repeat(2_000) });
        let rejected = owner.post(&format!("{version}/reject"), comment).await.expect(200);
        assert_eq!(rejected["approval"], "rejected");
        owner.post(&format!("{version}/reject"), json!({})).await.refused(409, "VERSION_DECIDED");
        let refused = refused_start(&owner, &path, Value::Null).await;
        assert_eq!(refused["details"], json!({ "version": 1, "approval": "rejected" }));
        assert_eq!(owner.post(&format!("{path}/versions"), json!({})).await.expect(200)["approval"], "rejected");

        // Who changes their mind approves it still, here without a body.
        let approved = answer(owner.request(Method::POST, &format!("{version}/approve"))).await.expect(200);
        assert_eq!((&approved["approval"], &approved["decision"]["comment"]), (&json!("approved"), &Value::Null));
        assert_eq!(started(&owner, &path, Value::Null).await, 1);
    })
    .await;
}

#[tokio::test]
async fn who_publishes_does_not_approve_by_it() {
    on_both(|server| async move {
        let owner = server.owner();
        require(&owner, true).await;
        // An owner's token, which writes and runs, and is no admin's.
        let author = holder(&server, &["workflow:read", "workflow:write", "workflow:run"]).await;
        let path = workflow(&author, json!({})).await;
        for (by, hosts) in [(&author, ["a.example"]), (&owner, ["b.example"])] {
            assert_eq!(publish(by, &path, graph("return {}", &hosts)).await["approval"], "pending");
        }
        for word in ["approve", "reject"] {
            let refused = author.post(&format!("{path}/versions/1/{word}"), json!({})).await;
            assert_eq!(refused.refused(403, "SCOPE_MISSING")["details"]["scope"], "admin");
        }
        let body = json!({ "require_grant_approval": false });
        author.patch("/v1/projects/default", body).await.refused(403, "SCOPE_MISSING");
        refused_start(&author, &path, Value::Null).await;
    })
    .await;
}

#[tokio::test]
async fn the_setting_counts_for_what_is_published_from_then_on() {
    on_both(|server| async move {
        let owner = server.owner();
        let listed = owner.get("/v1/projects").await.expect(200);
        assert_eq!(listed["items"][0]["require_grant_approval"], false);
        let path = workflow(&owner, json!({})).await;
        assert_eq!(publish(&owner, &path, graph("return {}", &["a.example"])).await["approval"], "approved");
        require(&owner, true).await;
        assert_eq!(started(&owner, &path, json!(1)).await, 1);
        assert_eq!(publish(&owner, &path, graph("return {}", &["b.example"])).await["approval"], "pending");
        // Another change of the project leaves it.
        let renamed = owner.patch("/v1/projects/default", json!({ "name": "Ours" })).await.expect(200);
        assert_eq!(renamed["require_grant_approval"], true);
        require(&owner, false).await;
        refused_start(&owner, &path, json!(2)).await;
        assert_eq!(publish(&owner, &path, graph("return {}", &["c.example"])).await["approval"], "approved");
        assert_eq!(started(&owner, &path, Value::Null).await, 3);
    })
    .await;
}

#[tokio::test]
async fn deliveries_and_calls_take_the_version_that_is_approved() {
    on_both(|server| async move {
        let owner = server.owner();
        require(&owner, true).await;
        let hook = hook(&server, json!({})).await;
        let path = format!("/v1/workflows/{}", hook.workflow);
        assert_eq!(publish(&owner, &path, graph("return {}", &["a.example"])).await["approval"], "pending");
        let deliver = |body: &'static [u8]| {
            let (hook, owner, path) = (hook.clone(), owner.clone(), path.clone());
            async move {
                let run = hook.deliver(&hook.signed(body), body).await.expect(202)["run_id"].clone();
                let summary = format!("{path}/runs/{}/summary", run.as_str().unwrap());
                owner.get(&summary).await.expect(200)["version"].clone()
            }
        };
        assert_eq!(deliver(br#"{"n":1}"#).await, 1);

        let call = |version: Value| {
            json!({ "steps": [
                { "id": "sub", "type": "workflow_call", "workflow_id": hook.workflow, "version": version },
            ] })
        };
        let parent = workflow(&owner, call(Value::Null)).await;
        let pinned = publish(&owner, &parent, call(Value::Null)).await;
        assert_eq!(pinned["graph_snapshot"]["steps"][0]["version"], 1);
        owner.patch(&parent, json!({ "graph": call(json!(2)) })).await.expect(200);
        let refused = owner.post(&format!("{parent}/versions"), json!({})).await.refused(422, "INVALID_GRAPH");
        assert_eq!(refused["issues"][0]["code"], "child_unpublished");
        assert!(refused["issues"][0]["message"].as_str().unwrap().contains("is not approved"), "{refused}");

        owner.post(&format!("{path}/versions/2/approve"), json!({})).await.expect(200);
        assert_eq!(deliver(br#"{"n":2}"#).await, 2);
        let named = owner.post(&format!("{parent}/versions"), json!({})).await.expect(201);
        assert_eq!(named["graph_snapshot"]["steps"][0]["version"], 2);
    })
    .await;
}

#[tokio::test]
async fn a_workflow_of_which_nothing_is_approved_is_not_called_or_delivered_to() {
    on_both(|server| async move {
        let owner = server.owner();
        require(&owner, true).await;
        let child = workflow(&owner, json!({})).await;
        publish(&owner, &child, graph("return {}", &["a.example"])).await;
        let child_id = child.rsplit('/').next().unwrap();
        let call = json!({ "steps": [{ "id": "sub", "type": "workflow_call", "workflow_id": child_id }] });
        let parent = workflow(&owner, call).await;
        let refused = owner.post(&format!("{parent}/versions"), json!({})).await.refused(422, "INVALID_GRAPH");
        assert_eq!(refused["issues"][0]["json_path"], "$.steps[0].workflow_id");
        assert!(refused["issues"][0]["message"].as_str().unwrap().contains("version 1"), "{refused}");

        let hook = hook(&server, json!({ "workflow_id": child_id })).await;
        hook.deliver(&hook.signed(b"{}"), b"{}").await.refused(409, "VERSION_NOT_APPROVED");
    })
    .await;
}
