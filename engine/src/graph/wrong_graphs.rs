//! Graphs that are wrong in one way each: from valid ones, by every rule at every place where it applies.
//!
//! The dry-run must name the place, publishing must refuse, and nothing may panic.

mod mutations;

use super::{DryRunOptions, Graph, Issue, validate};
use serde_json::Value;
use std::collections::BTreeSet;

/// How many there are at least.
const WRONG_GRAPHS_MIN: usize = 1_000;

const BASES: [(&str, &str); 3] = [
    ("orders", include_str!("wrong_graphs/bases/orders.json")),
    ("digest", include_str!("wrong_graphs/bases/digest.json")),
    ("refine", include_str!("wrong_graphs/bases/refine.json")),
];

/// A graph with one mistake.
struct Wrong {
    /// What was done to it.
    how: String,
    document: Value,
    /// Where an error is expected: at one of these paths, or inside.
    paths: Vec<String>,
    /// The step that an error there is expected to name.
    step: Option<String>,
}

fn bases() -> impl Iterator<Item = (&'static str, Value)> {
    BASES.into_iter().map(|(name, text)| (name, serde_json::from_str(text).unwrap()))
}

async fn errors(document: &Value) -> Vec<Issue> {
    let answer = validate(document, DryRunOptions::default(), None).await;
    let errors: Vec<Issue> = answer.issues.into_iter().filter(Issue::is_error).collect();
    assert_eq!(answer.valid, errors.is_empty());
    errors
}

/// Whether a path is another, or leads into it.
fn is_inside(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[tokio::test]
async fn the_graphs_that_mistakes_are_made_in_are_valid() {
    for (name, base) in bases() {
        assert_eq!(errors(&base).await, [], "{name}");
        Graph::parse(&base).unwrap();
    }
}

#[tokio::test]
async fn each_of_a_thousand_wrong_graphs_is_refused_at_its_place() {
    let mut distinct = BTreeSet::new();
    for (name, base) in bases() {
        for wrong in mutations::all(&base) {
            let context = format!("{name}: {}\n{}", wrong.how, wrong.document);
            let errors = errors(&wrong.document).await;
            let is_at_place = |issue: &&Issue| wrong.paths.iter().any(|path| is_inside(&issue.json_path, path));
            let named: Vec<&Issue> = errors.iter().filter(is_at_place).collect();
            assert!(!named.is_empty(), "expected an error at {:?}, found {errors:#?}\n{context}", wrong.paths);
            if let Some(step) = &wrong.step {
                assert!(
                    named.iter().any(|issue| issue.step_id.as_deref() == Some(step)),
                    "expected `{step}` in {named:#?}\n{context}"
                );
            }
            assert!(
                errors.iter().all(|issue| !issue.message.is_empty() && issue.json_path.starts_with('$')),
                "{context}"
            );
            assert_eq!(Graph::parse(&wrong.document).unwrap_err(), errors, "{context}");
            distinct.insert(wrong.document.to_string());
        }
    }
    assert!(distinct.len() >= WRONG_GRAPHS_MIN, "only {} graphs", distinct.len());
}

/// Anything at all in the place of anything: the dry-run and publishing agree, and neither panics.
#[tokio::test]
async fn arbitrary_values_anywhere_are_judged_alike_by_dry_run_and_publishing() {
    for (_, base) in bases() {
        for document in mutations::arbitrary(&base) {
            assert_eq!(errors(&document).await.is_empty(), Graph::parse(&document).is_ok(), "{document}");
        }
    }
}

/// The published schema and the parser agree: it takes what is valid, and what it refuses the parser refuses.
#[test]
fn the_published_schema_never_refuses_what_is_valid() {
    let schema = jsonschema::validator_for(&super::schema()).unwrap();
    let mut refused = 0;
    for (name, base) in bases() {
        assert!(
            schema.is_valid(&base),
            "{name}: {:?}",
            schema.iter_errors(&base).map(|error| error.to_string()).collect::<Vec<_>>()
        );
        for document in mutations::all(&base).into_iter().map(|wrong| wrong.document).chain(mutations::arbitrary(&base))
        {
            let is_refused = !schema.is_valid(&document);
            assert!(!is_refused || Graph::parse(&document).is_err(), "valid, and refused by the schema: {document}");
            refused += usize::from(is_refused);
        }
    }
    assert!(refused > WRONG_GRAPHS_MIN, "the schema refuses only {refused}");
}
