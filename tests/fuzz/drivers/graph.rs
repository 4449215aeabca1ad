//! Any bytes as a graph: reading it never panics, and what is read is what is stored.

use agentruntime_engine::graph::{Graph, Issue, LuaReads};
use serde_json::Value;

/// Reads bytes as a graph and checks what must hold for every input.
pub(crate) fn drive(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        // The script lexer takes any text.
        let _ = LuaReads::of(text).step("a");
    }
    let Ok(document) = serde_json::from_slice::<Value>(data) else { return };
    match Graph::parse(&document) {
        Ok(graph) => is_what_is_stored(&graph),
        Err(issues) => {
            assert!(!issues.is_empty() && issues.iter().all(Issue::is_error), "a refusal without a reason");
            assert!(issues.iter().all(|issue| issue.json_path.starts_with('$')), "an issue without a place");
        }
    }
}

fn is_what_is_stored(graph: &Graph) {
    let again = match Graph::parse(&graph.canonical.to_value()) {
        Ok(again) => again,
        Err(issues) => panic!("the canonical form is refused: {issues:?}"),
    };
    assert_eq!(again.hash, graph.hash);
    assert_eq!(again.canonical.as_str(), graph.canonical.as_str());
    let mut seen = vec![false; graph.steps.len()];
    for index in &graph.topological_order {
        assert!(
            graph.steps[*index].depends_on.iter().all(|dependency| seen[*dependency]),
            "a step before its dependency"
        );
        seen[*index] = true;
    }
    assert!(seen.iter().all(|seen| *seen), "a step outside the order");
}
