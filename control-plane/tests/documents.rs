//! Every command that the documents tell a reader to type is typed here, in the order of the page.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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
    typed_at(page, &root().join("examples"), &[])
}

/// The same, with other examples and with settings of the service.
fn typed_at(page: &str, examples: &Path, settings: &[&str]) -> String {
    let desk = Desk::new();
    let mut service = Command::new(env!("CARGO_BIN_EXE_agentruntime"))
        .args(["dev", "--json", "--listen", "127.0.0.1:0", "--data"])
        .arg(desk.0.path().join("data"))
        .args(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(service.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let script = filled_in(&blocks(page, "sh").join("\n"), &serde_json::from_str(&line).unwrap());
    std::os::unix::fs::symlink(examples, desk.0.path().join("examples")).unwrap();
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

/// The stand-ins of the examples, and where they are.
struct StandIns(Child, String);

impl StandIns {
    fn start() -> Self {
        let serve = root().join("examples/stand-ins/serve.py");
        let mut child = Command::new("python3").arg(serve).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim().to_owned())
    }

    /// A text with them in the places of what they stand for, and with their keys.
    fn instead(&self, text: &str) -> String {
        let at = &self.1;
        let model = format!(r#"{{"vendor": "openai", "base_url": "{at}/v1", "api_key": "sk-stand-in-1f0c9a72"}}"#);
        [
            ("\"mcp.example.com\"", format!("\"{at}\"")),
            ("https://mcp.example.com", at.clone()),
            ("\"api.hunter.io\"", format!("\"{at}\"")),
            ("https://api.hunter.io", at.clone()),
            (r#"{"vendor": "openai", "api_key": "sk-…"}"#, model),
            (r#""api_key": "…""#, r#""api_key": "directory-stand-in-5b81e6d4""#.to_owned()),
        ]
        .iter()
        .fold(text.to_owned(), |text, (real, ours)| text.replace(real, ours))
    }

    /// Types what the page of an example says of a service.
    fn typed(&self, name: &str) -> String {
        let (from, folder) = (root().join("examples").join(name), tempfile::tempdir().unwrap());
        let to = folder.path().join(name);
        fs::create_dir(&to).unwrap();
        for file in ["workflow.json", "input.json"] {
            fs::write(to.join(file), self.instead(&fs::read_to_string(from.join(file)).unwrap())).unwrap();
        }
        let page = self.instead(&fs::read_to_string(from.join("README.md")).unwrap());
        let page = format!("```sh\nexport AR=\nexport TOKEN=\n```\n{page}");
        typed_at(&page, folder.path(), &["--egress-allowed-networks=127.0.0.0/8"])
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_examples_work_at_a_service_as_printed() {
    if let Some(missing) = missing(&["curl", "jq", "openssl", "python3"]) {
        eprintln!("skipped: the examples need {missing}");
        return;
    }
    let stand_ins = StandIns::start();
    for (name, signs) in [
        ("pr-review", ["\"get_pull_request\"", "\"active_profile\": \"live\"", "issuecomment-1"]),
        ("enrich-leads", ["\"has_key\": true", "\"credential_keys\"", "1. Contoso (90)"]),
    ] {
        let shown = stand_ins.typed(name);
        for sign in signs {
            assert!(shown.contains(sign), "no {sign} in:\n{shown}");
        }
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
