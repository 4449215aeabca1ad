//! Finding runs again: names, lists, pictures, events.

use crate::program::Desk;
use serde_json::{Value, json};

fn desk_with_runs(count: usize) -> (Desk, Vec<String>) {
    let desk = Desk::new();
    let graph = desk.graph(
        "loops",
        &json!({ "steps": [
        { "id": "each", "type": "for_each", "for_each_items": [1, 2, 3],
          "for_each_body_steps": [{ "id": "double", "type": "lua_script", "script": "return { n = item * 2 }" }] },
        { "id": "never", "type": "lua_script", "condition": "{{ input.never }}", "script": "return {}" },
    ] }),
    );
    let run = |_| desk.run(&["run", &graph, "--json"]).expect(0).summary()["run_id"].as_str().unwrap().to_owned();
    let runs = (0..count).map(run).collect();
    (desk, runs)
}

#[test]
fn a_run_is_named_by_the_beginning_or_the_end_of_its_id() {
    let (desk, runs) = desk_with_runs(2);
    let shown = |name: &str| desk.run(&["show", name, "--json"]).expect(0).json()["run_id"].clone();
    for run in &runs {
        assert_eq!(shown(run), **run);
        assert_eq!(shown(&run[24..]), **run);
        assert_eq!(shown(&run[..35]), **run, "all but the last character");
    }
    assert_eq!(shown("last"), *runs[1]);
    let ambiguous = desk.run(&["show", &runs[0][..4], "--json"]).expect(2).error();
    assert_eq!(
        (&ambiguous["code"], ambiguous["details"]["runs"].as_array().unwrap().len()),
        (&json!("RUN_AMBIGUOUS"), 2)
    );
    assert_eq!(desk.run(&["show", "abc", "--json"]).expect(2).error()["code"], "INVALID_RUN_ID");
    assert_eq!(desk.run(&["show", "not-there", "--json"]).expect(2).error()["code"], "RUN_NOT_FOUND");
    assert!(Desk::new().run(&["show", "last"]).expect(2).stderr.contains("there are no runs yet"));
}

#[test]
fn runs_are_listed_from_the_newest_and_chosen_by_status_and_workflow() {
    let (desk, runs) = desk_with_runs(3);
    let listed = |more: &[&str]| -> Vec<Value> {
        let list = desk.run(&[&["runs", "--json"], more].concat()).expect(0).json();
        list.as_array().unwrap().iter().map(|run| run["run_id"].clone()).collect()
    };
    let newest_first: Vec<Value> = runs.iter().rev().map(|run| json!(run)).collect();
    assert_eq!(listed(&[]), newest_first);
    assert_eq!(listed(&["--limit", "1"]), newest_first[..1]);
    assert_eq!(listed(&["--status", "completed", "--workflow", "loops"]), newest_first);
    assert!(listed(&["--status", "failed"]).is_empty());
    assert!(listed(&["--workflow", "other"]).is_empty());
    let table = desk.run(&["runs"]).expect(0).stdout;
    assert_eq!(table.lines().count(), 4, "{table}");
    desk.run(&["runs", "--status", "asleep"]).expect(2);
}

#[test]
fn a_picture_of_a_run_sums_up_loops_and_says_why_a_step_was_skipped() {
    let (desk, _) = desk_with_runs(1);
    let picture = desk.run(&["show", "last"]).expect(0).stdout;
    let line = |step: &str| picture.lines().find(|line| line.contains(step)).unwrap().to_owned();
    assert!(line("each").contains('█') && line("each").ends_with("3/3"), "{picture}");
    assert!(line("never").ends_with("skipped: its condition is false"), "{picture}");
    let public = desk.run(&["show", "last", "--json"]).expect(0).json();
    assert_eq!(public["steps"][0]["iterations"], json!({ "done": 3, "total": 3, "failed": 0 }));
    assert_eq!(public["steps"][1]["state"], "skipped");
}

#[test]
fn events_are_read_from_any_number_on() {
    let (desk, _) = desk_with_runs(1);
    let seqs = |more: &[&str]| -> Vec<u64> {
        let events = desk.run(&[&["events", "last", "--json"], more].concat()).expect(0).lines();
        events.iter().map(|event| event["seq"].as_u64().unwrap()).collect()
    };
    let all = seqs(&[]);
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(seqs(&["--after", "3"]), all[3..]);
    assert_eq!(seqs(&["--follow"]), all, "a finished run has no further events");
    let plain = desk.run(&["events", "last"]).expect(0).stdout;
    assert!(plain.lines().any(|line| line.contains("each[1].double")), "{plain}");
}
