//! The form of the output: JSON lines, colours, help, completions.

use crate::program::Desk;
use serde_json::{Value, json};
use std::process::Command;

const SUBCOMMANDS: [&str; 21] = [
    "run",
    "validate",
    "publish",
    "workflows",
    "versions",
    "version",
    "runs",
    "show",
    "events",
    "tasks",
    "task",
    "pause",
    "resume",
    "stop",
    "retry",
    "trigger",
    "logs",
    "approve",
    "login",
    "logout",
    "whoami",
];

fn two_steps() -> Value {
    json!({ "steps": [
        { "id": "a", "type": "lua_script", "script": "return { n = 1 }" },
        { "id": "b", "type": "lua_script", "depends_on": ["a"], "script": "return { n = steps.a.result.n + 1 }" },
    ] })
}

#[test]
fn a_run_as_json_is_an_event_a_line_and_then_its_summary() {
    let desk = Desk::new();
    let finished = desk.run(&["run", &desk.graph("two", &two_steps()), "--json"]).expect(0);
    assert_eq!(finished.stderr, "");
    let mut lines = finished.lines();
    let summary = lines.pop().unwrap();
    let keys: Vec<&String> = summary.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["outputs", "run_id", "status", "version"]);
    assert_eq!(summary["outputs"], json!({ "b": { "n": 2 } }));
    for (position, event) in lines.iter().enumerate() {
        assert_eq!(event["seq"], position + 1);
        assert_eq!(event["run_id"], summary["run_id"]);
        assert!(event["at"].as_str().unwrap().ends_with('Z') && event["data"].is_object(), "{event}");
    }
    let types: Vec<&str> = lines.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    let expected = ["run_started", "step_started", "step_completed", "step_started", "step_completed", "run_completed"];
    assert_eq!(types, expected);
}

#[test]
fn plain_lines_tell_each_step_with_its_duration() {
    let desk = Desk::new();
    let finished = desk.run(&["run", &desk.graph("two", &two_steps())]).expect(0);
    let line = finished.stderr.lines().find(|line| line.contains("✓ a")).unwrap();
    assert!(line.ends_with(" ms"), "{line}");
    assert!(!finished.stderr.contains('\x1b'), "a pipe gets no colours");
    assert!(finished.stderr.contains("completed in "), "{}", finished.stderr);
}

#[test]
fn colours_can_be_asked_for() {
    let desk = Desk::new();
    let graph = desk.graph("two", &two_steps());
    assert!(desk.run(&["run", &graph, "--color", "always"]).expect(0).stderr.contains("\x1b[32m✓"));
    assert!(desk.run(&["show", "last", "--color=always"]).expect(0).stdout.contains('\x1b'));
    assert!(!desk.run(&["show", "last", "--color=never"]).expect(0).stdout.contains('\x1b'));
}

#[test]
fn every_subcommand_has_help_and_the_first_page_teaches_by_example() {
    let desk = Desk::new();
    let page = desk.run(&["--help"]).expect(0).stdout;
    assert!(page.contains("Examples:") && page.contains("Exit codes:"), "{page}");
    for subcommand in SUBCOMMANDS {
        assert!(page.lines().any(|line| line.trim_start().starts_with(subcommand)), "{subcommand} in {page}");
        assert!(desk.run(&[subcommand, "--help"]).expect(0).stdout.contains("Usage: agentruntime"), "{subcommand}");
    }
    assert!(desk.run(&["--version"]).expect(0).stdout.starts_with("agentruntime "));
}

#[test]
fn completions_know_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Desk::new().run(&["completions", shell]).expect(0).stdout;
        assert!(SUBCOMMANDS.iter().all(|subcommand| script.contains(subcommand)), "{shell}");
    }
}

/// By the shells that are here, which read the script without running anything of it.
#[test]
fn completions_are_scripts_that_their_shells_can_read() {
    let desk = Desk::new();
    let mut read = Vec::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = desk.run(&["completions", shell]).expect(0).stdout;
        let file = desk.graph("completions", &json!({}));
        std::fs::write(&file, script).unwrap();
        match Command::new(shell).arg("-n").arg(&file).output() {
            Ok(output) => {
                assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
                read.push(shell);
            }
            Err(error) => eprintln!("skipped: {shell} is not here: {error}"),
        }
    }
    assert!(read.contains(&"bash"), "bash at least is everywhere");
}

#[test]
fn bash_completes_a_subcommand() {
    let desk = Desk::new();
    let script = desk.run(&["completions", "bash"]).expect(0).stdout;
    let ask = "COMP_WORDS=(agentruntime work); COMP_CWORD=1; _agentruntime agentruntime work agentruntime; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", &format!("{script}\n{ask}")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "workflows\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_dry_run_names_step_path_and_suggestion() {
    let desk = Desk::new();
    let mut graph = two_steps();
    graph["steps"][1]["depends_on"] = json!(["aa"]);
    let path = desk.graph("typo", &graph);
    let report = desk.run(&["validate", &path]).expect(2).stdout;
    for part in ["there is no step `aa`", "$.steps[1].depends_on[0]", "did you mean `a`?", "not valid: 1 error"] {
        assert!(report.contains(part), "{part} in {report}");
    }
    let issue = desk.run(&["validate", &path, "--json"]).expect(2).json()["issues"][0].clone();
    assert_eq!((&issue["code"], &issue["step_id"]), (&json!("dependency_missing"), &json!("b")));
}

#[test]
fn a_dry_run_runs_scripts_on_made_up_results() {
    let desk = Desk::new();
    let path = desk.graph("two", &two_steps());
    let options = |n: &str| format!(r#"{{"mock_step_outputs":{{"a":{{"n":{n}}}}}}}"#);
    desk.run(&["validate", &path, "--options", &options("3")]).expect(0);
    let report = desk.run(&["validate", &path, "--options", &options(r#""x""#)]).expect(2).stdout;
    assert!(report.contains("[lua_fixture_runtime]"), "{report}");
    assert!(desk.run(&["validate", &path, "--options", r#"{"cheks":[]}"#]).expect(2).stderr.contains("cheks"));
}
