//! Every command that the documents tell a reader to type is typed here, in the order of the page.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
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
