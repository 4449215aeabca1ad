//! Clients that nobody here wrote: one that is generated from our description, and one that looks for what we got wrong.

use crate::{
    real::{script, strangers},
    server::Server,
};
use std::{path::Path, process::Command};

#[tokio::test]
async fn a_generated_client_drives_the_whole_life_of_a_workflow() {
    let Some(programs) = strangers() else { return };
    let server = Server::start();
    let client = server.folder.path().join("client");
    let description = format!("{}/v1/openapi.json", server.url);
    let mut generate = Command::new(programs.join("openapi-python-client"));
    generate.args(["generate", "--meta", "none", "--overwrite", "--url", &description, "--output-path"]).arg(&client);
    run(generate.env("PATH", path_with(&programs)));
    let mut life = Command::new(programs.join("python"));
    life.arg(script("whole_life.py")).arg(&client).args([&server.url, &server.token]);
    let said = run(&mut life);
    assert!(said.contains("completed"), "{said}");
}

#[tokio::test]
async fn a_fuzzer_that_reads_the_description_finds_no_failure_of_ours() {
    let Some(programs) = strangers() else { return };
    let server = Server::unlimited();
    let mut fuzz = Command::new(programs.join("schemathesis"));
    fuzz.arg("run").arg(format!("{}/v1/openapi.json", server.url));
    fuzz.args(["--header", &format!("Authorization: Bearer {}", server.token)]);
    fuzz.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    // Streams do not end, signing in and out has its own limits, and a token that revokes itself ends the test.
    fuzz.args(["--exclude-path-regex", "/stream$|^/v1/auth/|^/v1/pats/"]);
    // One worker: in CPython 3.11, parsers of two threads count each other's depth, and give up.
    fuzz.args(["--phases", "examples,coverage,fuzzing", "--max-examples", examples(), "--seed", "1", "--workers", "1"]);
    fuzz.args(["--suppress-health-check", "all", "--no-color", "--warnings", "off", "--continue-on-failure"]);
    run(fuzz.current_dir(server.folder.path()));
    // It is as well as before.
    server.owner().get("/v1/workflows").await.expect(200);
}

/// Cases for each route: a few each time, many where time is given.
fn examples() -> &'static str {
    if std::env::var_os("AGENTRUNTIME_TEST_LONG").is_some() { "500" } else { "10" }
}

fn path_with(programs: &Path) -> std::ffi::OsString {
    let mut path = programs.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

/// Runs a command to its end and gives what it printed; fails the test with all of it if the command failed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}:\n{said}", output.status);
    said
}
