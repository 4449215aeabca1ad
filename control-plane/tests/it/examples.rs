//! The examples do what their READMEs say.

use crate::program::{Desk, Finished, example};
use serde_json::{Value, json};

fn run(desk: &Desk, name: &str, more: &[&str]) -> Finished {
    let (graph, input) = (example(name, "workflow.json"), format!("@{}", example(name, "input.json")));
    desk.run(&[&["run", &graph, "--input", &input], more].concat())
}

fn read(name: &str, file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(example(name, file)).unwrap()).unwrap()
}

fn run_with(desk: &Desk, name: &str, input: &Value, more: &[&str]) -> Finished {
    let graph = example(name, "workflow.json");
    let input = format!("@{}", desk.graph("changed-input", input));
    desk.run(&[&["run", &graph, "--input", &input], more].concat())
}

#[test]
fn every_example_ends_with_its_expected_output() {
    let yes = r#"approve={"approved":true}"#;
    for (name, more) in [("order-triage", &["--answer", yes] as &[&str]), ("log-digest", &[]), ("refine", &[])] {
        let finished = run(&Desk::new(), name, more).expect(0);
        assert_eq!(finished.json(), read(name, "expected.json"), "{name}");
    }
}

#[test]
fn every_example_is_valid_without_a_warning() {
    for name in ["order-triage", "log-digest", "refine"] {
        let (graph, input) = (example(name, ""), format!("@{}", example(name, "input.json")));
        let report = Desk::new().run(&["validate", &graph, "--input", &input, "--json"]).expect(0).json();
        assert_eq!(
            (&report["valid"], &report["readiness"], &report["issues"]),
            (&json!(true), &json!("ready"), &json!([]))
        );
    }
}

#[test]
fn an_order_waits_for_its_approval_and_goes_on_with_the_printed_command() {
    let desk = Desk::new();
    let waiting = run(&desk, "order-triage", &[]).expect(3);
    assert_eq!(waiting.stdout, "");
    assert!(waiting.stderr.contains("Send order A-1042 for 169689 cents?"), "{}", waiting.stderr);
    let command = waiting.stderr.lines().find_map(|line| line.trim().strip_prefix("yes: agentruntime ")).unwrap();
    let finished = desk.run(&command.split(' ').collect::<Vec<_>>()).expect(0);
    assert_eq!(finished.json(), read("order-triage", "expected.json"));
}

#[test]
fn a_rejected_order_is_declined_with_its_reason() {
    let desk = Desk::new();
    run(&desk, "order-triage", &[]).expect(3);
    let reason = r#"{"reason": "the address is a mailbox"}"#;
    let finished = desk.run(&["task", "complete", "last", "approve", "--reject", "--result", reason]).expect(0);
    let declined = json!({ "order_id": "A-1042", "decision": "declined", "reason": "the address is a mailbox" });
    assert_eq!(finished.json(), declined);
    let shown = desk.run(&["show", "last"]).expect(0);
    assert!(shown.stdout.contains("skipped: a person said no"), "{}", shown.stdout);
}

#[test]
fn a_small_order_asks_nobody() {
    let mut input = read("order-triage", "input.json");
    input["country"] = "DE".into();
    input["approval_from_cents"] = 10_000_000.into();
    let outputs = run_with(&Desk::new(), "order-triage", &input, &[]).expect(0).json();
    assert_eq!(outputs["approved_by_hand"], false);
    assert_eq!((&outputs["decision"], &outputs["carrier"]), (&json!("confirmed"), &json!("parcel")));
}

#[test]
fn an_order_that_repeats_an_item_fails_with_the_line_that_says_so() {
    let mut input = read("order-triage", "input.json");
    input["items"][1]["sku"] = input["items"][0]["sku"].clone();
    let failed = run_with(&Desk::new(), "order-triage", &input, &["--json"]).expect(1).summary();
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("LUA_ERROR")));
    assert_eq!(failed["error"]["message"], "check:4: item 2 repeats lamp-brass; add it to the quantity instead");
}

#[test]
fn a_log_is_digested_alike_whatever_the_size_of_its_chunks() {
    let mut input = read("log-digest", "input.json");
    input["chunk_lines"] = 331.into();
    let outputs = run_with(&Desk::new(), "log-digest", &input, &[]).expect(0).json();
    assert_eq!(outputs, read("log-digest", "expected.json"));
}

#[test]
fn a_broken_line_of_a_log_is_named_and_the_rest_digested() {
    let mut input = read("log-digest", "input.json");
    input["lines"][1_499] = "Segmentation fault".into();
    let outputs = run_with(&Desk::new(), "log-digest", &input, &[]).expect(0).json();
    assert_eq!((&outputs["lines_not_understood"], &outputs["lines"]), (&json!([1_500]), &json!(2_683)));
}

#[test]
fn a_loan_that_costs_nothing_has_no_rate() {
    let input = json!({ "paid_out": 10_000, "payments": [5_000] });
    let failed = run_with(&Desk::new(), "refine", &input, &[]).expect(1);
    assert!(failed.stderr.contains("there is no positive rate"), "{}", failed.stderr);
    assert!(failed.stderr.contains("stack traceback:"), "{}", failed.stderr);
}
