//! The description of the API.

use crate::{
    server::{Program, Server},
    workflow::Workflow,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

fn printed() -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Program::command(folder.path()).arg("openapi").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_kept_description_is_current() {
    let kept = fs::read_to_string(Path::new(KEPT)).unwrap_or_default();
    assert!(
        kept == printed(),
        "the API changed: `cargo run -- openapi > docs/openapi.json`, and look at the difference"
    );
}

#[tokio::test]
async fn it_is_served_as_it_is_kept() {
    let server = Server::start();
    let served = server.anybody().get("/v1/openapi.json").await.expect(200);
    assert_eq!(served, serde_json::from_str::<Value>(&printed()).unwrap());
}

#[tokio::test]
async fn the_page_names_every_operation_and_loads_nothing() {
    let server = Server::start();
    let page = server.anybody().get("/v1/docs").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let page = page.expect(200);
    let page = page.as_str().unwrap();
    assert!(!page.contains("<script") && !page.contains("http-equiv") && !page.contains(" style="));
    for (_, _, operation) in operations(&serde_json::from_str(&printed()).unwrap()) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(page.contains(&format!("<article id=\"{id}\">")), "{id}");
    }
}

#[test]
fn every_code_of_a_refusal_is_told_in_the_documents() {
    let document: Value = serde_json::from_str(&printed()).unwrap();
    let codes = document["components"]["schemas"]["Problem"]["x-error-codes"].as_array().unwrap();
    let row = |code: &Value| {
        let statuses = code["statuses"].as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        format!("| `{}` | {statuses} | {} |\n", code["code"].as_str().unwrap(), code["meaning"].as_str().unwrap())
    };
    let table: String = codes.iter().map(row).collect();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md")).unwrap();
    assert!(page.contains(&table), "the table of codes in docs/api.md is another than:\n{table}");
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().iter();
        let methods: Vec<_> = methods.map(|(method, it)| (path.clone(), method.clone(), it.clone())).collect();
        methods
    };
    paths.flat_map(of_path).collect()
}

#[test]
fn every_operation_says_who_may_call_it_and_how_it_refuses() {
    let document: Value = serde_json::from_str(&printed()).unwrap();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let place = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        let verb = match method.as_str() {
            "get" if is_list(&operation) => Some("list_"),
            "get" => None,
            "patch" => Some("update_"),
            _ => None,
        };
        assert!(
            verb.is_none_or(|verb| id.starts_with(verb)),
            "{place}: `{id}` begins with `{}`",
            verb.unwrap_or_default()
        );
        assert!(ids.insert(id.clone()) && !id.is_empty(), "{place}: operation ids are unique: `{id}`");
        assert!(operation["summary"].as_str().is_some_and(|it| it.ends_with('.')), "{place}: a summary is a sentence");
        assert!(!operation["summary"].as_str().unwrap().contains('\n'), "{place}: on one line");
        assert!(operation["tags"][0].is_string(), "{place}: a tag");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let about = parameter["description"].as_str().unwrap_or_default();
            assert!(about.ends_with(['.', '…']), "{place}: {} is told in a sentence: `{about}`", parameter["name"]);
        }
        assert!(operation["security"].is_array(), "{place}: what it needs, or that it needs nothing");
        assert!(operation["responses"]["default"].is_object(), "{place}: how it refuses");
    }
}

fn is_list(operation: &Value) -> bool {
    let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
    schema.as_str().is_some_and(|name| name.contains("/Page_"))
}

/// By a validator of its own; without it the test says so and ends.
#[test]
fn it_is_valid_openapi() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    fs::write(&file, printed()).unwrap();
    let python = std::env::var("AGENTRUNTIME_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python).args(["-c", "import openapi_spec_validator"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: the Python package openapi-spec-validator is not here");
        return;
    }
    let output = Command::new(&python).args(["-m", "openapi_spec_validator"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Each example of a body is one that the service takes.
#[tokio::test]
async fn the_examples_of_bodies_are_taken() {
    let server = Server::start();
    let description: Value = serde_json::from_str(&printed()).unwrap();
    let operations =
        description["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let example = |operation: &Value| operation["requestBody"]["content"]["application/json"].get("example").cloned();
    let mut examples: BTreeMap<String, Value> = operations
        .filter_map(|operation| Some((operation["operationId"].as_str()?.to_owned(), example(operation)?)))
        .collect();
    let mut take = |operation: &str| examples.remove(operation).unwrap_or_else(|| panic!("{operation} has no example"));
    let owner = server.admin().with("x-tenant-id", "dev").with("x-project-id", "default");
    let made = owner.post("/v1/workflows", take("create_workflow")).await.expect(201);
    let workflow = Workflow { client: owner.clone(), id: made["id"].as_str().unwrap().to_owned() };
    owner.patch(&workflow.path(""), take("update_workflow")).await.expect(200);
    let report = owner.post(&workflow.path("/validate"), take("validate_workflow")).await.expect(200);
    assert_eq!((&report["valid"], &report["issues"]), (&true.into(), &Value::Array(Vec::new())));
    owner.post(&workflow.path("/versions"), take("publish_version")).await.expect(201);
    let asked = owner.post(&workflow.path("/command?wait=60s"), take("command_workflow")).await.expect(200);
    let run = asked["run_id"].as_str().unwrap();
    let tasks = owner.get(&workflow.run_path(run, "/tasks/pending")).await.expect(200);
    let task = tasks["items"][0]["task_id"].as_str().unwrap();
    workflow.complete(run, task, take("complete_task")).await.expect(200);
    assert_eq!(workflow.reaches(run, "completed").await["status"], "completed");
    owner.post(&workflow.path("/triggers"), take("create_schedule")).await.expect(201);
    owner.post("/v1/pats", take("create_pat")).await.expect(201);
    owner.post("/v1/projects", take("create_project")).await.expect(201);
    owner.post("/v1/tenants/current/invites", take("create_invite")).await.expect(201);
    assert!(examples.is_empty(), "nobody sends these: {examples:#?}");
}
