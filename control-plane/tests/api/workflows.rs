//! Workflows and their versions.

use crate::server::{Client, Server, answer, on_both};
use reqwest::Method;
use serde_json::{Value, json};

const SOMEBODY_ELSES: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn graph(script: &str) -> Value {
    json!({ "steps": [{ "id": "hello", "type": "lua_script", "script": script }] })
}

/// Makes a workflow; gives its path.
async fn workflow(owner: &Client, name: &str, graph: Value) -> String {
    let made = owner.post("/v1/workflows", json!({ "name": name, "graph": graph })).await.expect(201);
    format!("/v1/workflows/{}", made["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_draft_is_made_read_changed_and_archived() {
    on_both(|server| async move {
        let owner = server.owner();
        let given = json!({ "zeta": 1.0, "steps": "later", "nodes": [] });
        let body = json!({ "name": "Greet", "graph": given, "description": "Says\u{0} hello" });
        let made = owner.post("/v1/workflows", body).await.expect(201);
        let path = format!("/v1/workflows/{}", made["id"].as_str().unwrap());
        assert_eq!((&made["graph"], &made["published_version"]), (&given, &Value::Null));
        let read = owner.get(&path).await;
        assert_eq!(read.headers["etag"], "\"1\"");
        assert_eq!(read.expect(200), made);

        let setup = json!({ "trigger_payload": { "name": "Ada" }, "excluded_step_ids": ["x"], "editor": "kept" });
        let change = json!({ "graph": graph("return {}"), "run_setup": setup });
        let changed = owner.patch(&path, change).await.expect(200);
        assert_eq!((&changed["name"], &changed["description"]), (&json!("Greet"), &json!("Says\u{0} hello")));
        assert_eq!((&changed["graph"], &changed["run_setup"]), (&graph("return {}"), &setup));
        let kept = owner.patch(&path, json!({ "name": "Hello" })).await.expect(200);
        assert_eq!((&kept["run_setup"], &kept["revision"]), (&setup, &json!(3)));
        let without = owner.patch(&path, json!({ "run_setup": null })).await.expect(200);
        assert_eq!((&without["run_setup"], &without["name"]), (&Value::Null, &json!("Hello")));

        for _ in 0..2 {
            let gone = owner.delete(&path).await;
            assert_eq!(gone.status.as_u16(), 204, "archiving twice is archiving once");
        }
        assert_eq!(owner.get("/v1/workflows").await.expect(200)["items"], json!([]));
        let archived = owner.get("/v1/workflows?archived=true").await.expect(200);
        assert_eq!(archived["items"][0]["name"], "Hello");
        assert!(owner.get(&path).await.expect(200)["archived_at"].is_string());
        owner.patch(&path, json!({ "name": "Again" })).await.refused(409, "WORKFLOW_ARCHIVED");
        owner.post(&format!("{path}/versions"), json!({})).await.refused(409, "WORKFLOW_ARCHIVED");
    })
    .await;
}

#[tokio::test]
async fn a_stale_change_is_refused_and_changes_nothing() {
    on_both(|server| async move {
        let owner = server.owner();
        let path = workflow(&owner, "shared", graph("return {}")).await;
        let first = owner.with("if-match", "\"1\"");
        first.patch(&path, json!({ "name": "mine" })).await.expect(200);
        first.patch(&path, json!({ "name": "theirs" })).await.refused(412, "WORKFLOW_CHANGED");
        first.patch(&path, json!({})).await.refused(412, "WORKFLOW_CHANGED");
        owner
            .with("if-match", "W/\"2\", nonsense")
            .patch(&path, json!({ "name": "x" }))
            .await
            .refused(412, "WORKFLOW_CHANGED");
        let read = owner.get(&path).await.expect(200);
        assert_eq!((&read["name"], &read["revision"]), (&json!("mine"), &json!(2)));
        owner.with("if-match", "\"1\", \"2\"").patch(&path, json!({ "name": "ours" })).await.expect(200);
        owner.with("if-match", "*").patch(&path, json!({ "name": "anyone's" })).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_place() {
    let server = Server::start();
    let owner = server.owner();
    let fine = graph("return {}");
    for (field, body) in [
        ("name", json!({ "name": " ", "graph": fine })),
        ("name", json!({ "name": "two\nlines", "graph": fine })),
        ("name", json!({ "name": "n".repeat(201), "graph": fine })),
        ("description", json!({ "name": "n", "graph": fine, "description": "d".repeat(10_001) })),
        ("graph", json!({ "name": "n", "graph": [] })),
        ("graph", json!({ "name": "n", "graph": "{}" })),
        ("run_setup", json!({ "name": "n", "graph": fine, "run_setup": [1] })),
        ("run_setup", json!({ "name": "n", "graph": fine, "run_setup": { "x": "x".repeat(64 << 10) } })),
        ("run_setup", json!({ "name": "n", "graph": fine, "run_setup": { "excluded_step_ids": "x" } })),
    ] {
        let refused = owner.post("/v1/workflows", body).await.refused(422, "INVALID_FIELD");
        assert_eq!(refused["details"]["field"], field);
    }
    owner.post("/v1/workflows", json!({ "graph": fine })).await.refused(422, "INVALID_BODY");
    owner.post("/v1/workflows", json!({ "name": 1, "graph": fine })).await.refused(422, "INVALID_BODY");
    let deep = format!("{{\"name\":\"n\",\"graph\":{{\"a\":{}{}}}}}", "[".repeat(500), "]".repeat(500));
    let request = owner.request(Method::POST, "/v1/workflows").header("content-type", "application/json").body(deep);
    answer(request).await.refused(422, "INVALID_FIELD");
    owner.post("/v1/workflows", json!({ "name": "n".repeat(200), "graph": {} })).await.expect(201);
}

#[tokio::test]
async fn workflows_are_listed_in_pages_and_found_by_their_names() {
    on_both(|server| async move {
        let owner = server.owner();
        for name in ["Äpfel 100%", "apples", "pears_1", "pearsX1", "Apples"] {
            workflow(&owner, name, json!({})).await;
        }
        let names = |page: &Value| -> Vec<String> {
            page["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
        };
        let first = owner.get("/v1/workflows?limit=2").await.expect(200);
        assert_eq!(names(&first), ["Apples", "pearsX1"]);
        assert!(first["items"][0].get("graph").is_none(), "drafts are large");
        let cursor = first["next_cursor"].as_str().unwrap();
        let second = owner.get(&format!("/v1/workflows?limit=3&cursor={cursor}")).await.expect(200);
        assert_eq!(
            (names(&second), &second["next_cursor"]),
            (vec!["pears_1".into(), "apples".into(), "Äpfel 100%".into()], &Value::Null)
        );
        for (query, found) in [
            ("q=APPLE", vec!["Apples", "apples"]),
            ("q=%C3%A4PF", vec!["Äpfel 100%"]),
            ("q=s_1", vec!["pears_1"]),
            ("q=%25", vec!["Äpfel 100%"]),
            ("q=%5C", vec![]),
        ] {
            assert_eq!(names(&owner.get(&format!("/v1/workflows?{query}")).await.expect(200)), found, "{query}");
        }
        owner.get("/v1/workflows?q=%00").await.refused(400, "INVALID_QUERY");
        owner.get("/v1/workflows?limit=0").await.refused(400, "INVALID_QUERY");
        owner.get("/v1/workflows?cursor=W10").await.refused(400, "INVALID_CURSOR");
    })
    .await;
}

#[tokio::test]
async fn a_draft_becomes_versions_that_stay_as_they_are() {
    on_both(|server| async move {
        let owner = server.owner();
        let path = workflow(&owner, "greet", graph("return { n = 1 }")).await;
        let versions = format!("{path}/versions");
        assert_eq!(owner.get(&versions).await.expect(200)["items"], json!([]));
        let first = owner.post(&versions, json!({ "changelog": "the first\u{0}" })).await.expect(201);
        assert_eq!((&first["version"], &first["changelog"]), (&json!(1), &json!("the first\u{0}")));
        assert_eq!(first["workflow_id"].as_str().unwrap(), path.rsplit('/').next().unwrap());
        assert_eq!(first["graph_snapshot"], graph("return { n = 1 }"));
        assert_eq!(first["graph_hash"].as_str().unwrap().len(), 64);

        // Without a body, and moved about only as an editor does: the same version again.
        let mut moved = graph("return { n = 1 }");
        moved["nodes"] = json!([{ "x": 1 }]);
        owner.patch(&path, json!({ "graph": moved })).await.expect(200);
        let again = answer(owner.request(Method::POST, &versions)).await.expect(200);
        assert_eq!((&again["version"], &again["changelog"]), (&json!(1), &json!("the first\u{0}")));

        let next = json!({ "steps": [
            { "id": "hello", "type": "lua_script", "script": "return { n = 2 }", "timeout_s": 2 },
            { "id": "after", "type": "lua_script", "script": "return {}", "depends_on": ["hello"] },
        ] });
        owner.patch(&path, json!({ "graph": next })).await.expect(200);
        assert_eq!(owner.post(&versions, json!({})).await.expect(201)["version"], 2);
        assert_eq!(owner.get(&path).await.expect(200)["published_version"], 2);
        let listed = owner.get(&format!("{versions}?limit=1")).await.expect(200);
        assert_eq!(listed["items"][0]["version"], 2);
        let cursor = listed["next_cursor"].as_str().unwrap();
        let rest = owner.get(&format!("{versions}?cursor={cursor}")).await.expect(200);
        assert_eq!((rest["items"].as_array().unwrap().len(), &rest["items"][0]["version"]), (1, &json!(1)));
        let kept = owner.get(&format!("{versions}/1")).await.expect(200);
        assert_eq!(kept["graph_snapshot"], first["graph_snapshot"]);

        let diff = owner.get(&format!("{versions}/diff?from=1&to=2")).await.expect(200);
        assert_eq!(diff["steps"]["added"], json!([{ "parent": null, "id": "after", "type": "lua_script" }]));
        assert_eq!(diff["steps"]["changed"][0]["keys"][0]["new"], "return { n = 2 }");
        assert_eq!(diff["edges"]["added"], json!([{ "parent": null, "from": "hello", "to": "after" }]));
        assert_eq!(
            diff["limits"],
            json!([{ "parent": null, "id": "hello", "key": "timeout_s", "old": null, "new": 2 }])
        );
        assert_eq!(owner.get(&format!("{versions}/diff?from=2&to=2")).await.expect(200)["identical"], true);

        owner.get(&format!("{versions}/3")).await.refused(404, "VERSION_NOT_FOUND");
        owner.get(&format!("{versions}/diff?from=1&to=9")).await.refused(404, "VERSION_NOT_FOUND");
        owner.get(&format!("{versions}/diff?from=1")).await.refused(400, "INVALID_QUERY");
        owner.get(&format!("{versions}/last")).await.refused(404, "NOT_FOUND");
        owner.post(&versions, json!({ "changelog": "c".repeat(10_001) })).await.refused(422, "INVALID_FIELD");
        owner.delete(&path).await;
        assert_eq!(owner.get(&format!("{versions}/2")).await.expect(200)["graph_snapshot"], next);
    })
    .await;
}

#[tokio::test]
async fn a_graph_with_errors_is_not_published() {
    on_both(|server| async move {
        let owner = server.owner();
        let path = workflow(&owner, "broken", graph("return {")).await;
        let refused = owner.post(&format!("{path}/versions"), json!({})).await.refused(422, "INVALID_GRAPH");
        assert_eq!(refused["issues"][0]["code"], "lua_syntax_error");
        assert_eq!(refused["issues"][0]["json_path"], "$.steps[0].script");
        assert_eq!(owner.get(&path).await.expect(200)["published_version"], Value::Null);

        let report = answer(owner.request(Method::POST, &format!("{path}/validate"))).await.expect(200);
        assert_eq!((&report["valid"], &report["readiness"]), (&json!(false), &json!("blocked")));
        assert_eq!((&report["issues"], &report["topological_order"]), (&refused["issues"], &json!(["hello"])));
        let other = json!({ "graph": graph("return {}") });
        let report = owner.post(&format!("{path}/validate"), other).await.expect(200);
        assert_eq!((&report["valid"], &report["issues"]), (&json!(true), &json!([])));
        let fixture = json!({
            "graph": graph("return steps.a.result.n + 1"), "checks": ["lua_fixture"],
            "mock_lua_scopes": { "hello": { "steps": { "a": { "result": { "n": 1 } } } } },
        });
        let report = owner.post(&format!("{path}/validate"), fixture).await.expect(200);
        assert_eq!(report["checks_performed"], json!(["lua_fixture"]));
        assert_eq!(report["issues"][0]["code"], "lua_fixture_return_type", "{report:#}");
        owner.post(&format!("{path}/validate"), json!({ "checks": ["luck"] })).await.refused(422, "INVALID_BODY");
        // A graph of which there is no workflow, and no graph.
        let report = owner.post("/v1/workflows/validate", json!({ "graph": { "steps": [] } })).await.expect(200);
        assert_eq!(report["valid"], false, "{report:#}");
        assert_eq!(owner.post("/v1/workflows/validate", json!({})).await.expect(200)["valid"], false);
    })
    .await;
}

#[tokio::test]
async fn a_called_workflow_is_pinned_to_its_version() {
    on_both(|server| async move {
        let owner = server.owner();
        let child = workflow(&owner, "child", graph("return {}")).await;
        let child_id = child.rsplit('/').next().unwrap();
        let call = json!({ "steps": [{ "id": "call", "type": "workflow_call", "workflow_id": child_id }] });
        let parent = workflow(&owner, "parent", call).await;
        let report = owner.post(&format!("{parent}/validate"), json!({})).await.expect(200);
        assert_eq!((&report["valid"], &report["issues"][0]["code"]), (&json!(false), &json!("child_unpublished")));
        // By the name of a workflow, none is called; the answer says which id to write.
        let by_name = json!({ "steps": [{ "id": "call", "type": "workflow_call", "workflow_id": "child" }] });
        let report = owner.post(&format!("{parent}/validate"), json!({ "graph": by_name })).await.expect(200);
        assert_eq!(report["issues"][0]["suggestion"], format!("write `{child_id}`"), "{report:#}");
        let skipped = json!({ "skip_checks": ["step_config"] });
        assert_eq!(owner.post(&format!("{parent}/validate"), skipped).await.expect(200)["valid"], true);
        let refused = owner.post(&format!("{parent}/versions"), json!({})).await.refused(422, "INVALID_GRAPH");
        assert_eq!(refused["issues"][0]["step_id"], "call");

        owner.post(&format!("{child}/versions"), json!({})).await.expect(201);
        let published = owner.post(&format!("{parent}/versions"), json!({})).await.expect(201);
        assert_eq!(published["graph_snapshot"]["steps"][0]["version"], 1);
        let report = owner.post(&format!("{parent}/validate"), json!({})).await.expect(200);
        assert_eq!(report["graph_hash"], published["graph_hash"]);
        owner.patch(&child, json!({ "graph": graph("return { n = 2 }") })).await.expect(200);
        owner.post(&format!("{child}/versions"), json!({})).await.expect(201);
        let kept = owner.get(&format!("{parent}/versions/1")).await.expect(200);
        assert_eq!(kept["graph_snapshot"]["steps"][0]["version"], 1);
        assert_eq!(owner.post(&format!("{parent}/versions"), json!({})).await.expect(201)["version"], 2);

        // An archived workflow is called by those who named its version, and nobody else.
        owner.delete(&child).await;
        owner.post(&format!("{parent}/versions"), json!({})).await.refused(422, "INVALID_GRAPH");
        let call = |version: u32| {
            json!({ "graph": { "steps": [
            { "id": "call", "type": "workflow_call", "workflow_id": child_id, "version": version },
        ] } })
        };
        owner.patch(&parent, call(9)).await.expect(200);
        let refused = owner.post(&format!("{parent}/versions"), json!({})).await.refused(422, "INVALID_GRAPH");
        assert_eq!(refused["issues"][0]["json_path"], "$.steps[0].version");
        owner.patch(&parent, call(1)).await.expect(200);
        assert_eq!(owner.post(&format!("{parent}/versions"), json!({})).await.expect(201)["version"], 3);
    })
    .await;
}

#[tokio::test]
async fn publishing_at_once_makes_each_graph_one_version() {
    on_both(|server| async move {
        let owner = server.owner();
        let path = workflow(&owner, "raced", graph("return {}")).await;
        let versions = format!("{path}/versions");
        let racing = (0..8).map(|_| owner.post(&versions, json!({})));
        let answers = futures_util::future::join_all(racing).await;
        assert_eq!(answers.iter().filter(|it| it.status.as_u16() == 201).count(), 1);
        assert!(answers.iter().all(|it| it.status.is_success() && it.body["version"] == 1));
        assert_eq!(owner.get(&versions).await.expect(200)["items"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = Server::start();
    let owner = server.owner();
    for id in [SOMEBODY_ELSES, "not-an-id", "..%2f", "%00"] {
        let path = format!("/v1/workflows/{id}");
        let code = if id == SOMEBODY_ELSES { "WORKFLOW_NOT_FOUND" } else { "NOT_FOUND" };
        owner.get(&path).await.refused(404, code);
        owner.patch(&path, json!({ "name": "x" })).await.refused(404, code);
        owner.delete(&path).await.refused(404, code);
        owner.post(&format!("{path}/validate"), json!({})).await.refused(404, code);
        owner.get(&format!("{path}/versions")).await.refused(404, code);
        owner.post(&format!("{path}/versions"), json!({})).await.refused(404, code);
        owner.get(&format!("{path}/versions/1")).await.refused(404, code);
        owner.get(&format!("{path}/versions/diff?from=1&to=2")).await.refused(404, code);
        server.anybody().get(&path).await.refused(401, "NOT_AUTHENTICATED");
    }
}

#[tokio::test]
async fn the_schema_is_one_that_accepts_graphs() {
    let server = Server::start();
    let schema = server.owner().get("/v1/workflows/schema").await.expect(200);
    assert_eq!((&schema["type"], &schema["required"]), (&json!("object"), &json!(["steps"])));
}

#[tokio::test]
async fn a_token_changes_only_what_it_was_made_for_and_sees_only_its_project() {
    on_both(|server| async move {
        let (owner, admin) = (server.owner(), server.admin());
        let path = workflow(&owner, "mine", graph("return {}")).await;
        let new = json!({ "name": "reader", "scopes": ["workflow:read"] });
        let token = admin.post("/v1/pats", new).await.expect(201)["token"].as_str().unwrap().to_owned();
        let reader = admin.with("authorization", &format!("Bearer {token}")).with("x-project-id", "default");
        reader.get(&path).await.expect(200);
        reader.get(&format!("{path}/versions")).await.expect(200);
        reader.post(&format!("{path}/validate"), json!({})).await.expect(200);
        let body = json!({ "name": "x", "graph": {} });
        reader.post("/v1/workflows", body).await.refused(403, "SCOPE_MISSING");
        reader.patch(&path, json!({ "name": "x" })).await.refused(403, "SCOPE_MISSING");
        reader.delete(&path).await.refused(403, "SCOPE_MISSING");
        reader.post(&format!("{path}/versions"), json!({})).await.refused(403, "SCOPE_MISSING");

        let project = json!({ "slug": "second", "name": "Second", "visibility": "public" });
        admin.post("/v1/projects", project).await.expect(201);
        let elsewhere = admin.with("x-project-id", "second");
        assert_eq!(elsewhere.get("/v1/workflows").await.expect(200)["items"], json!([]));
        elsewhere.get(&path).await.refused(404, "WORKFLOW_NOT_FOUND");
        elsewhere.patch(&path, json!({ "name": "x" })).await.refused(404, "WORKFLOW_NOT_FOUND");
        elsewhere.delete(&path).await.refused(404, "WORKFLOW_NOT_FOUND");
        elsewhere.post(&format!("{path}/versions"), json!({})).await.refused(404, "WORKFLOW_NOT_FOUND");
        let child = path.rsplit('/').next().unwrap();
        owner.post(&format!("{path}/versions"), json!({})).await.expect(201);
        let call = json!({ "steps": [{ "id": "call", "type": "workflow_call", "workflow_id": child, "version": 1 }] });
        let parent = workflow(&elsewhere, "parent", call).await;
        elsewhere.post(&format!("{parent}/versions"), json!({})).await.refused(422, "INVALID_GRAPH");
    })
    .await;
}
