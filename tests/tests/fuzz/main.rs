//! The fuzz targets' functions on seeds and a fixed number of mutations of them, so that they run with the other tests.

#[path = "../../fuzz/drivers/graph.rs"]
mod graph;
#[path = "../../fuzz/drivers/guest_json.rs"]
mod guest_json;
mod mutation;
#[path = "../../fuzz/drivers/template.rs"]
mod template;

use mutation::Mutator;
use std::path::Path;

/// Mutations of each seed, unless the environment says otherwise.
const ROUNDS_DEFAULT: usize = 400;

/// What a mutation puts in: pieces that mean something to the reader.
const JSON_PIECES: &[&str] = &[
    "{{ input.x }}",
    "{{",
    "}}",
    "|",
    "null",
    "[]",
    "{}",
    "\"\"",
    "-1",
    "1e308",
    "steps",
    "\\u0000",
    "\"id\":\"a\"",
    "[[[[[[[[",
    "\"$ref\":\"#\"",
    ",",
    ":",
];
const TEMPLATE_PIECES: &[&str] =
    &["{{", "}}", "|", "omit", "\\{{", ".", "steps.s.result", "input.a.0", "\"x\"", "{\"a\":", "[", "é", "\u{0}", "'"];

fn drive(seeds: &str, pieces: &[&str], driver: fn(&[u8])) {
    let rounds =
        std::env::var("AGENTRUNTIME_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS_DEFAULT);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(seeds);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("the seeds are there").flatten().map(|entry| entry.path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    for (number, file) in files.iter().enumerate() {
        let seed = std::fs::read(file).expect("a seed can be read");
        driver(&seed);
        let mut mutator = Mutator::new(number as u64);
        for _ in 0..rounds {
            driver(&mutator.mutate(&seed, pieces));
        }
    }
}

#[test]
fn any_bytes_are_read_as_a_graph_or_refused() {
    drive("../engine/src/graph/wrong_graphs/bases", JSON_PIECES, graph::drive);
}

#[test]
fn any_text_is_read_as_a_template_or_refused() {
    drive("fuzz/seeds/template", TEMPLATE_PIECES, template::drive);
}

#[test]
fn any_document_goes_through_the_sandbox_unchanged() {
    drive("fuzz/seeds/guest_json", JSON_PIECES, guest_json::drive);
}
