//! The first owner of a service that sends no mails.

use crate::{
    mails::{Browser, PASSWORD},
    server::{Client, Program},
};
use agentruntime_tests::postgres;
use reqwest::Method;
use serde_json::{Value, json};
use std::{io::Write, path::Path, process::Stdio};

/// Says to the program who is to own what, and gives its exit code and what it said.
fn create_owner(home: &Path, data: &str, email: &str, workspace: &str, password: &str) -> (Option<i32>, Value) {
    let mut command = Program::command(home);
    command.args(["admin", "create-owner", "--email", email, "--workspace", workspace, "--token", "--json"]);
    let piped = command.args(["--password-stdin", "--data", data]).stdin(Stdio::piped());
    let mut process = piped.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(process.stdin.take().unwrap(), "{password}").unwrap();
    let output = process.wait_with_output().unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), serde_json::from_slice(&said).unwrap())
}

#[tokio::test]
async fn an_owner_is_made_without_a_mail() {
    let folder = tempfile::tempdir().unwrap();
    check(folder.path(), folder.path().join("data").to_str().unwrap()).await;
    if let Some(postgres) = postgres::server() {
        check(folder.path(), &postgres.database()).await;
    }
}

async fn check(home: &Path, data: &str) {
    let refused = |email: &str, workspace: &str, password: &str, code: &str| {
        let (ending, said) = create_owner(home, data, email, workspace, password);
        assert_eq!((ending, &said["code"]), (Some(2), &json!(code)), "{said}");
    };
    refused("ada@example.com", "acme", "short", "INVALID_FIELD");
    refused("ada@example.com", "acme", "ada@example.com", "INVALID_FIELD");
    refused("ada@example.com", "current", PASSWORD, "INVALID_FIELD");
    refused("\"a b\"@example.com", "acme", PASSWORD, "INVALID_FIELD");
    let (ending, made) = create_owner(home, data, "Ada@Example.com", "acme", PASSWORD);
    assert_eq!(
        (ending, &made["email"], &made["tenant"]),
        (Some(0), &json!("ada@example.com"), &json!("acme")),
        "{made}"
    );
    refused("ada@example.com", "other", PASSWORD, "EMAIL_TAKEN");
    refused("bob@example.com", "acme", PASSWORD, "SLUG_TAKEN");

    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut service = Program::command(home);
    let mut service = Running(service.args(["serve", "--listen", &listen, "--data", data]).spawn().unwrap());
    let here = Client::of(&format!("http://{listen}"));
    while here.request(Method::GET, "/healthz").send().await.is_err() {
        assert!(service.0.try_wait().unwrap().is_none(), "the service ended");
    }
    let mut ada = Browser { client: here.clone(), cookies: Vec::new(), csrf: String::new() };
    ada.sign_in("ada@example.com", PASSWORD).await.expect(200);
    let tenants = ada.get("/v1/tenants").await.expect(200);
    assert_eq!(tenants["items"].as_array().unwrap().len(), 1, "{tenants}");
    assert_eq!((&tenants["items"][0]["slug"], &tenants["items"][0]["role"]), (&json!("acme"), &json!("owner")));
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let token = here.with("authorization", &bearer);
    token.get("/v1/tenants/current/members").await.expect(200);
    token.with("x-project-id", "default").get("/v1/workflows").await.expect(200);
    // What nobody could accept is not promised.
    let invite = json!({ "email": "bob@example.com" });
    token.post("/v1/tenants/current/invites", invite).await.refused(404, "NOT_CONFIGURED");
    // Where the workspace was taken, no account was made either.
    let mut bob = Browser { client: here, cookies: Vec::new(), csrf: String::new() };
    bob.sign_in("bob@example.com", PASSWORD).await.refused(401, "NOT_AUTHENTICATED");
}

#[test]
fn whoever_gets_a_token_is_told_that_it_wants_a_project() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Program::command(folder.path());
    command.args(["admin", "create-owner", "--email", "ada@example.com", "--workspace", "acme", "--token"]);
    let piped = command.args(["--password-stdin", "--data", folder.path().join("data").to_str().unwrap()]);
    let mut process = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(process.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("agentruntime login URL --tenant acme --project default"), "{said}");
}

/// A service. Killed when dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
