//! Every command that the documents tell a reader to type is typed here, in the order of the page.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The contents of the fenced blocks of one language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// A reader's desk: a folder to work in, and a data folder.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Types a line and expects it to succeed.
    fn types(&self, line: &str) {
        let program = env!("CARGO_BIN_EXE_agentruntime");
        let (line, folder) = match line.strip_prefix("cargo run --release --") {
            Some(rest) => (format!("agentruntime{rest}"), root()),
            None => (line.to_owned(), self.0.path().to_owned()),
        };
        let script = format!("agentruntime() {{ '{program}' \"$@\"; }}\n{line}");
        let output = Command::new("sh")
            .args(["-c", &script])
            .current_dir(folder)
            .env("AGENTRUNTIME_DATA", self.0.path().join("data"))
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{line}` ended with {}:\n{shown}", output.status);
    }

    fn types_all(&self, page: &str) {
        let mut typed = 0;
        for block in blocks(page, "sh") {
            // The suite would start itself.
            for line in block.lines().filter(|line| !line.is_empty() && *line != "cargo test --workspace") {
                self.types(line);
                typed += 1;
            }
        }
        assert!(typed > 0, "the page has no commands");
    }
}

#[test]
fn the_readme_and_the_operating_guide_work_as_printed() {
    let desk = Desk::new();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    fs::write(desk.0.path().join("greet.json"), &blocks(&readme, "json")[0]).unwrap();
    desk.types_all(&readme);
    desk.types_all(&fs::read_to_string(root().join("docs/operating.md")).unwrap());
}

#[test]
fn the_workflows_that_ask_for_something_outside_are_some() {
    let desk = Desk::new();
    let page = fs::read_to_string(root().join("docs/workflows.md")).unwrap();
    let asking: Vec<String> =
        blocks(&page, "json").into_iter().filter(|block| block.contains("capabilities")).collect();
    let inputs = [r#"{"title": "x"}"#, r#"{"query": "x"}"#];
    assert_eq!(asking.len(), inputs.len());
    for (graph, input) in asking.iter().zip(inputs) {
        fs::write(desk.0.path().join("asking.json"), graph).unwrap();
        desk.types(&format!("agentruntime validate asking.json --input '{input}'"));
    }
}

/// The lines that a reader fills in with what the service printed.
fn filled_in(script: &str, greeting: &serde_json::Value) -> String {
    let given = [("AR", "url"), ("TOKEN", "token"), ("ADMIN", "admin_token"), ("MAILS", "mail")];
    let line = |line: &str| {
        let name = line.strip_prefix("export ").and_then(|rest| rest.split_once('=')).map(|(name, _)| name);
        match given.iter().find(|(variable, _)| Some(*variable) == name) {
            Some((variable, member)) => format!("export {variable}={}", greeting[*member].as_str().unwrap()),
            None => line.to_owned(),
        }
    };
    script.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The tool that a page needs and this machine lacks.
fn missing(tools: &[&'static str]) -> Option<&'static str> {
    tools.iter().copied().find(|tool| Command::new(tool).arg("--version").output().is_err())
}

/// Types all commands of a page at a service of its own, and gives what they printed.
fn typed_at_a_service(page: &str) -> String {
    let desk = Desk::new();
    let mut service = Command::new(env!("CARGO_BIN_EXE_agentruntime"))
        .args(["dev", "--json", "--listen", "127.0.0.1:0", "--data"])
        .arg(desk.0.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(service.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let script = filled_in(&blocks(page, "sh").join("\n"), &serde_json::from_str(&line).unwrap());
    std::os::unix::fs::symlink(root().join("examples"), desk.0.path().join("examples")).unwrap();
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", &script]).current_dir(desk.0.path()).output().unwrap();
    // Whether it worked is said below.
    let _ = service.kill();
    let _ = service.wait();
    let (shown, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}\n{told}");
    shown.into_owned()
}

#[test]
fn the_quickstart_works_as_printed() {
    if let Some(missing) = missing(&["curl", "jq", "openssl"]) {
        eprintln!("skipped: the quickstart needs {missing}");
        return;
    }
    let page = fs::read_to_string(root().join("docs/quickstart.md")).unwrap();
    assert_eq!(blocks(&page, "console"), ["cargo run --release -- dev\n"]);
    let shown = typed_at_a_service(&page);
    // The run that was approved ended, its events came by, and the webhook and the schedule were answered.
    for sign in ["\"status\": \"completed\"", "run_completed", "\"run_id\"", "next_due_times"] {
        assert!(shown.contains(sign), "no {sign} in:\n{shown}");
    }
    assert!(!shown.contains("\"error\""), "{shown}");
}

#[test]
fn the_page_on_access_works_as_printed() {
    if let Some(missing) = missing(&["curl", "jq"]) {
        eprintln!("skipped: the page on access needs {missing}");
        return;
    }
    let shown = typed_at_a_service(&fs::read_to_string(root().join("docs/access.md")).unwrap());
    // Ada joined and saw the project, her token could not write, and all of it is in the audit log.
    for sign in
        ["\"slug\": \"billing\"", "\"role\": \"project_viewer\"", "\"SCOPE_MISSING\"", "member.update", "pat.revoke"]
    {
        assert!(shown.contains(sign), "no {sign} in:\n{shown}");
    }
}

#[test]
fn the_readme_names_the_two_commands_of_a_fresh_machine() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let fresh: Vec<String> = blocks(&readme, "sh").into_iter().filter(|block| block.starts_with("cargo ")).collect();
    assert_eq!(
        fresh,
        [
            "cargo run --release -- run examples/order-triage/workflow.json --input @examples/order-triage/input.json \
             --answer approve='{\"approved\":true}'\n",
            "cargo test --workspace\n",
        ]
    );
}
