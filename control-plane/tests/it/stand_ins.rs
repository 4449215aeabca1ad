//! The examples that use models, tools and hosts: each by its own one command, with the stand-ins that it starts.

use crate::program::{Desk, Finished, example};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const NAMES: [&str; 3] = ["pr-review", "research-agent", "enrich-leads"];
/// The keys of the stand-ins, as `serve.py` and `secrets.json` have them.
const KEYS: [&str; 2] = ["sk-stand-in-1f0c9a72", "directory-stand-in-5b81e6d4"];

/// Whether the stand-ins cannot be started on this machine.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn lacks_python() -> bool {
    let lacks = Command::new("python3").arg("--version").output().is_err();
    if lacks {
        eprintln!("skipped: the stand-ins need python3");
    }
    lacks
}

/// Types the example's command, with `agentruntime` on the path.
fn types(desk: &Desk, name: &str, input: Option<&str>, more: &[&str]) -> Finished {
    let program = Path::new(env!("CARGO_BIN_EXE_agentruntime")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([program].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut command = desk.command_of(example(name, "run.sh").as_ref(), more);
    command.env("PATH", path).env_remove("INPUT").stdin(Stdio::null());
    if let Some(input) = input {
        command.env("INPUT", input);
    }
    Finished::of(command)
}

fn expected(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(example(name, "expected.json")).unwrap()).unwrap()
}

/// What the stand-ins say at the end that they were asked.
fn counts(ended: &Finished) -> Vec<u64> {
    let line = ended.stderr.lines().find_map(|line| line.strip_prefix("stand-ins: ")).unwrap();
    let numbers = line.split(|it: char| !it.is_ascii_digit()).filter(|it| !it.is_empty());
    numbers.map(|it| it.parse().unwrap()).collect()
}

/// All files under a folder that hold one of the keys.
fn with_a_key(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(with_a_key(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let holds = |key: &str| bytes.windows(key.len()).any(|part| part == key.as_bytes());
            found.extend(KEYS.iter().any(|key| holds(key)).then_some(path));
        }
    }
    found
}

#[test]
fn each_example_ends_by_its_own_command_with_its_expected_output_and_keeps_no_key() {
    if lacks_python() {
        return;
    }
    for name in NAMES {
        let desk = Desk::new();
        let ended = types(&desk, name, None, &[]).expect(0);
        assert_eq!(ended.json(), expected(name), "{name}");
        let events = desk.run(&["events", "last", "--json"]).expect(0);
        assert!(events.stdout.contains("request_completed"), "{name}: {}", events.stdout);
        for text in [&ended.stdout, &ended.stderr, &events.stdout] {
            assert!(!KEYS.iter().any(|key| text.contains(key)), "{name}: {text}");
        }
        assert_eq!(with_a_key(&desk.data()), Vec::<PathBuf>::new(), "{name}");
    }
}

#[test]
fn each_graph_can_be_published_and_what_is_warned_of_is_said_once() {
    for name in NAMES {
        let (graph, input) = (example(name, ""), format!("@{}", example(name, "input.json")));
        let report = Desk::new().run(&["validate", &graph, "--input", &input, "--json"]).expect(0).json();
        assert_eq!((&report["valid"], &report["readiness"]), (&json!(true), &json!("ready")), "{name}: {report}");
    }
    let shown = Desk::new().run(&["validate", &example("pr-review", "")]).expect(0).stdout;
    assert_eq!(shown.matches("which instance of this server is meant").count(), 1, "{shown}");
    assert_eq!(shown.matches("[mcp_instance_unresolved]").count(), 3, "{shown}");
}

#[test]
fn a_review_that_is_rejected_is_not_posted_and_one_that_is_rewritten_is_posted_so() {
    if lacks_python() {
        return;
    }
    let answer = |text: &str| format!("approve={text}");
    let (desk, no) = (Desk::new(), answer(r#"{"approved": false, "reason": "too harsh"}"#));
    let ended = types(&desk, "pr-review", None, &["--answer", &no]).expect(0);
    assert_eq!(ended.json(), json!({ "posted": false, "reason": "too harsh" }));
    assert_eq!(counts(&ended)[1], 2, "two reads and no comment: {}", ended.stderr);

    let (desk, other) = (Desk::new(), answer(r#"{"approved": true, "body": "I wrote a mail."}"#));
    types(&desk, "pr-review", None, &["--answer", &other]).expect(0);
    let events = desk.run(&["events", "last", "--json"]).expect(0).lines();
    let posted = events.iter().find(|it| it["event_type"] == "step_completed" && it["step_id"] == "post").unwrap();
    assert_eq!(posted["data"]["result"]["body"], "I wrote a mail.", "{posted}");
}

#[test]
fn an_answer_that_cites_what_was_not_read_is_none() {
    if lacks_python() {
        return;
    }
    let hasty = example("research-agent", "hasty.json");
    let failed = types(&Desk::new(), "research-agent", Some(&hasty), &["--json"]).expect(1).summary();
    let message = failed["error"]["message"].as_str().unwrap();
    assert_eq!(failed["error"]["code"], "LUA_ERROR", "{failed}");
    for page in ["metre-1960", "metre-1983"] {
        assert!(message.contains(page), "{message}");
    }
    assert!(message.contains("never read") && !message.contains("metre-1889"), "{message}");
}

#[test]
fn leads_of_one_company_are_one_look_up_and_two_at_most_are_under_way() {
    if lacks_python() {
        return;
    }
    let desk = Desk::new();
    let ended = types(&desk, "enrich-leads", None, &[]).expect(0);
    let [questions, _, look_ups, at_once] = counts(&ended)[..] else { panic!("{}", ended.stderr) };
    assert_eq!((questions, look_ups), (1, 5), "{}", ended.stderr);
    assert!((1..=2).contains(&at_once), "{}", ended.stderr);
    // The directory repeats its key; what is kept of it says so.
    let events = desk.run(&["events", "last", "--json"]).expect(0).stdout;
    assert!(events.contains(r#"asked_with\": \"[redacted]"#), "{events}");

    // Nobody is asked to rank nothing.
    let unknown = json!({ "leads": [{ "email": "tony@adventure-works.example" }] });
    let input = desk.graph("unknown", &unknown);
    let ended = types(&desk, "enrich-leads", Some(&input), &[]).expect(0);
    assert_eq!(ended.json()["unknown"], json!(["adventure-works.example"]));
    assert_eq!(counts(&ended)[0], 0, "{}", ended.stderr);
}
