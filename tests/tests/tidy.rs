//! House rules that a machine can check.
#![expect(clippy::unwrap_used, reason = "a rule that cannot be checked fails")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The names under `[dependencies]` of a crate.
fn dependencies(krate: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap().to_owned();
    lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#')).map(name).collect()
}

fn files_under(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "target" | ".git" | "corpus" | "artifacts") {
            files_under(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files_under(&root(), ending, &mut found);
    assert!(!found.is_empty());
    found
}

#[test]
fn dependencies_point_one_way() {
    let forbidden = [
        (
            "host-api",
            vec!["agentruntime-engine", "agentruntime-sandbox", "agentruntime-egress", "wasmtime", "sqlx", "tokio"],
        ),
        ("sandbox", vec!["agentruntime-engine", "agentruntime-egress", "sqlx"]),
        ("egress", vec!["agentruntime-engine", "agentruntime-sandbox", "wasmtime", "sqlx", "axum"]),
        ("engine", vec!["agentruntime-sandbox", "agentruntime-egress", "wasmtime", "mlua", "axum", "clap", "reqwest"]),
    ];
    for (krate, names) in forbidden {
        let has = dependencies(krate);
        for name in names {
            assert!(!has.contains(name), "{krate} depends on {name}");
        }
    }
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |database: &str| -> BTreeSet<String> {
        let folder = root().join("engine/migrations").join(database);
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));
    assert!(!names("sqlite").is_empty());
}

#[test]
fn every_module_says_what_it_is_for() {
    for path in files(".rs") {
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        assert!(first.starts_with("//!"), "{} does not begin with what it is for", path.display());
    }
}

#[test]
fn nothing_is_put_off_hidden_or_slept_through() {
    // Spelt apart, so that this file does not find itself.
    let words = ["todo", "unimplemented"].map(|word| format!("{word}!("));
    let markers = ["TO", "FIX"].iter().zip(["DO", "ME"]).map(|(one, other)| format!("{one}{other}"));
    let hidden = ["#[ig", "nore"].concat();
    let sleeps = ["thread::sl", "eep("].concat();
    let mut forbidden: Vec<String> = words.into_iter().chain(markers).collect();
    forbidden.extend([hidden, sleeps]);
    let in_tests = ["time::sl", "eep("].concat();
    for path in files(".rs") {
        let text = fs::read_to_string(&path).unwrap();
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        for word in forbidden.iter().chain(is_test.then_some(&in_tests)) {
            assert!(!text.contains(word.as_str()), "{} contains {word}", path.display());
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in files(".md") {
        let text = fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            assert!(path.parent().unwrap().join(file).exists(), "{} links to {target}", path.display());
        }
    }
}
