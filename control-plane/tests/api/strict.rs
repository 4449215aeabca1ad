//! What is sent is taken whole or not at all: no key is dropped, and no text that a database could not keep gets near one.

use crate::{
    mails::signed_in,
    server::{Answer, Client, Server, answer, on_both, on_both_with},
    workflow::{Workflow, asking},
};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Every route is asked more often than anybody may.
const UNLIMITED: [&str; 3] =
    ["--requests-per-minute=0", "--anonymous-requests-per-minute=0", "--failed-authentications-per-minute=0"];

/// Answers of others, whose parameters are theirs (RFC 6749: what is not known is ignored).
const SENT_BY_OTHERS: [&str; 2] = ["finish_openid_sign_in", "finish_mcp_authorization"];

/// What is kept as JSON, where U+0000 is an escape: it comes back as it was.
const KEPT_AS_JSON: [&str; 4] = ["changelog", "description", "params", "result"];

/// An operation of the description.
struct Operation {
    id: String,
    method: Method,
    path: String,
    parts: Value,
}

struct Described {
    document: Value,
    operations: Vec<Operation>,
}

impl Described {
    async fn by(server: &Server) -> Self {
        let document = server.anybody().get("/v1/openapi.json").await.expect(200);
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, parts) in item.as_object().unwrap() {
                operations.push(Operation {
                    id: parts["operationId"].as_str().unwrap().to_owned(),
                    method: Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(),
                    path: path.clone(),
                    parts: parts.clone(),
                });
            }
        }
        Self { document, operations }
    }

    /// The schema behind a reference, and behind `null or …`.
    fn followed<'d>(&'d self, schema: &'d Value) -> &'d Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let pointer = reference.trim_start_matches('#');
            return self.followed(self.document.pointer(pointer).unwrap());
        }
        let alternatives = schema["oneOf"].as_array().into_iter().flatten();
        match alternatives.filter(|it| it["type"] != "null").collect::<Vec<_>>().as_slice() {
            [one] => self.followed(one),
            _ => schema,
        }
    }

    /// What a JSON body of the operation has to be, where its form is ours.
    fn body<'d>(&'d self, operation: &'d Operation) -> Option<&'d Value> {
        let schema = &operation.parts["requestBody"]["content"]["application/json"]["schema"];
        let schema = self.followed(schema);
        schema["properties"].is_object().then_some(schema)
    }
}

/// Somebody in a session, and somebody with a token, both of whom may do everything in a place of theirs.
struct Everybody {
    session: Client,
    token: Client,
}

impl Everybody {
    async fn of(server: &Server) -> Self {
        let browser = signed_in(server, "ada@strict.example").await;
        let session = browser.client.with("cookie", &browser.cookie_header()).with("x-csrf-token", &browser.csrf);
        Self { session, token: server.admin().with("x-project-id", "default") }
    }

    fn who<'e>(&'e self, operation: &Operation) -> &'e Client {
        let mut needs = operation.parts["security"].as_array().unwrap().iter();
        if needs.any(|it| it.get("token").is_some()) { &self.token } else { &self.session }
    }

    async fn send(&self, operation: &Operation, query: &str, body: Option<&Value>) -> Answer {
        let mut path = operation.path.replacen("/projects/{id}", "/projects/default", 1);
        while let Some((before, rest)) = path.clone().split_once('{') {
            let (name, after) = rest.split_once('}').unwrap();
            let id = if name == "version" { "1" } else { "01890a5d-ac96-774b-bcce-b302099a8057" };
            path = format!("{before}{id}{after}");
        }
        let request = self.who(operation).request(operation.method.clone(), &format!("{path}{query}"));
        match body {
            Some(body) => answer(request.json(body)).await,
            None => answer(request).await,
        }
    }
}

fn query_names(operation: &Operation) -> Vec<(&str, &Value)> {
    let all = operation.parts["parameters"].as_array().into_iter().flatten();
    all.filter(|it| it["in"] == "query").map(|it| (it["name"].as_str().unwrap(), &it["schema"])).collect()
}

fn is_text(schema: &Value) -> bool {
    let kind = &schema["type"];
    kind == "string" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("string")))
}

#[tokio::test]
async fn every_route_refuses_a_key_of_a_body_that_it_does_not_know() {
    let server = Server::start_with(None, &UNLIMITED);
    let (described, everybody) = (Described::by(&server).await, Everybody::of(&server).await);
    let mut asked = 0;
    for operation in &described.operations {
        let Some(schema) = described.body(operation) else { continue };
        let place = format!("{} {}", operation.method, operation.path);
        assert_eq!(schema["additionalProperties"], false, "{place}: the description says so, too");
        let answer = everybody.send(operation, "", Some(&json!({ "surprise": true }))).await;
        let (status, code) = (answer.status, &answer.body["code"]);
        assert!(status == 422 && code == "INVALID_BODY", "{place}: {status} {:#}", answer.body);
        assert_eq!(answer.body["details"]["field"], "surprise", "{place}");
        // Inside of it as well, wherever the form is ours.
        for (name, property) in schema["properties"].as_object().unwrap() {
            if described.followed(property)["properties"].is_object() {
                let answer = everybody.send(operation, "", Some(&json!({ name: { "surprise": true } }))).await;
                let is_free = described.followed(property)["additionalProperties"] != false;
                assert!(is_free && name == "run_setup" || answer.body["code"] == "INVALID_BODY", "{place}: {name}");
            }
        }
        asked += 1;
    }
    assert!(asked > 20, "{asked} bodies");
}

#[tokio::test]
async fn every_route_refuses_a_parameter_that_it_does_not_know() {
    let server = Server::start_with(None, &UNLIMITED);
    let (described, everybody) = (Described::by(&server).await, Everybody::of(&server).await);
    let mut asked = 0;
    for operation in &described.operations {
        if SENT_BY_OTHERS.contains(&operation.id.as_str()) {
            continue;
        }
        let answer = everybody.send(operation, "?surprise=1", None).await;
        let (status, code) = (answer.status, &answer.body["code"]);
        assert!(status == 400 && code == "INVALID_QUERY", "{}: {status} {:#}", operation.id, answer.body);
        assert_eq!(answer.body["details"]["field"], "surprise", "{}", operation.id);
        asked += 1;
    }
    assert!(asked > 60, "{asked} routes");
}

#[tokio::test]
async fn what_is_refused_is_named_and_nothing_is_made() {
    let server = Server::start();
    let admin = server.admin();
    let sent = json!({ "slug": "secret", "name": "Secret", "private": true });
    let refused = admin.post("/v1/projects", sent).await.refused(422, "INVALID_BODY");
    let sentence = "`private`: it is not known; what can stand here is `slug`, `name`, `visibility`";
    assert_eq!(refused["error"], sentence);
    let sent = json!({ "name": "x", "scopes": ["workflow:read"], "project": "default" });
    let refused = admin.post("/v1/pats", sent).await.refused(422, "INVALID_BODY");
    assert_eq!(refused["error"], "`project`: it is not known; did you mean `project_id`?");
    let projects = admin.get("/v1/projects").await.expect(200);
    assert_eq!(projects["items"].as_array().unwrap().len(), 1);
    let refused = admin.get("/v1/projects?archive=true").await.refused(400, "INVALID_QUERY");
    assert_eq!(refused["error"], "`archive`: it is not known; did you mean `archived`?");
}

#[tokio::test]
async fn no_refusal_speaks_of_the_programs_inside() {
    let server = Server::start();
    let admin = server.admin();
    let told = async |body: &'static str| {
        let request = admin.request(Method::POST, "/v1/projects").header("content-type", "application/json");
        answer(request.body(body)).await.body["error"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        told("{\"slug\": \"x\",\n  name: 1}").await,
        "the body is not JSON: key must be a string at line 2, column 3"
    );
    assert_eq!(told(r#"{"slug":"x"}"#).await, "`name`: it is missing");
    assert_eq!(told(r#"{"slug":7,"name":"x"}"#).await, "`slug`: it is a number, and should be a string");
    assert_eq!(told("[]").await, "the body: it is a list, and should be an object");
    let refused = admin.delete("/v1/pats/x").await.refused(404, "NOT_FOUND");
    assert!(refused["error"].as_str().unwrap().contains("`{id}`"), "{refused}");
}

#[tokio::test]
async fn a_command_takes_its_own_parameters_alone() {
    let server = Server::start();
    let workflow = Workflow::publish(server.owner(), asking()).await;
    let (run, _) = workflow.start_asking(json!({})).await;
    let refused = workflow.command("stop", json!({ "run_id": run, "gracefull": true })).await;
    let refused = refused.refused(422, "INVALID_PARAMS");
    assert_eq!(refused["error"], "`params.gracefull`: it is not known; did you mean `graceful`?");
    workflow.command("pause", json!({ "run_id": run, "graceful": true })).await.refused(422, "INVALID_PARAMS");
    let refused = workflow.command("pause", json!([run])).await.refused(422, "INVALID_PARAMS");
    assert_eq!(refused["error"], "`params`: it is a list, and should be an object");
    let refused = workflow.command("pause", json!({ "run_id": "last" })).await.refused(422, "INVALID_PARAMS");
    assert_eq!(refused["details"]["field"], "params.run_id");
    workflow.command("stop", json!({ "run_id": run, "mode": "graceful" })).await.expect(200);
}

/// A body in which the property holds U+0000, and which is right otherwise as far as that is looked at before.
fn with_nul(name: &str) -> Value {
    let mut body = Map::new();
    body.insert(name.to_owned(), json!("a\0b"));
    Value::Object(body)
}

fn other_than(code: &str, operation: &Operation, answer: &Answer) -> Option<String> {
    (answer.body["code"] != code).then(|| format!("{}: {} {}", operation.id, answer.status, answer.body))
}

#[tokio::test]
async fn no_text_with_a_nul_reaches_a_database() {
    on_both_with(&UNLIMITED, |server| async move {
        let (described, everybody) = (Described::by(&server).await, Everybody::of(&server).await);
        let mut wrong = Vec::new();
        for operation in &described.operations {
            let names: BTreeSet<&String> = match described.body(operation) {
                Some(schema) => schema["properties"].as_object().unwrap().keys().collect(),
                None => BTreeSet::new(),
            };
            for name in names.into_iter().filter(|name| !KEPT_AS_JSON.contains(&name.as_str())) {
                let answer = everybody.send(operation, "", Some(&with_nul(name))).await;
                wrong.extend(other_than("INVALID_BODY", operation, &answer));
            }
            for (name, _) in query_names(operation).into_iter().filter(|(_, schema)| is_text(schema)) {
                let answer = everybody.send(operation, &format!("?{name}=a%00b"), None).await;
                wrong.extend(other_than("INVALID_QUERY", operation, &answer));
            }
            if operation.path.contains('{') {
                let path = operation.path.replace('{', "%00").replace('}', "");
                let request = everybody.who(operation).request(operation.method.clone(), &path);
                let answer = answer(request.json(&json!({}))).await;
                let is_refused = answer.status.is_client_error();
                wrong.extend((!is_refused).then(|| format!("{}: {} {}", operation.id, answer.status, answer.body)));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let cursor = "WyJcdTAwMDAiXQ";
        let list = format!("/v1/projects?cursor={cursor}");
        everybody.token.get(&list).await.refused(400, "INVALID_CURSOR");
    })
    .await;
}

#[tokio::test]
async fn what_runs_read_and_people_answer_may_hold_any_character() {
    on_both(|server| async move {
        let workflow = Workflow::publish(server.owner(), asking()).await;
        let (run, task) = workflow.start_asking(json!({ "text": "a\0b", "\0": "\u{7}" })).await;
        let answer = json!({ "approved": true, "result": { "note": "c\0d" } });
        workflow.complete(&run, &task, answer).await.expect(200);
        workflow.reaches(&run, "completed").await;
        let context = workflow.get(&format!("/runs/{run}/context")).await.expect(200);
        assert_eq!(context["input"], json!({ "text": "a\0b", "\0": "\u{7}" }));
        assert_eq!(context["outputs"], json!({ "after": { "note": "c\0d" } }));
    })
    .await;
}
