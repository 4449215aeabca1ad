//! Compiled code on disk.

use crate::harness::{script, wait};
use agentruntime_host_api::Json;
use agentruntime_sandbox::{Sandbox, SandboxConfig, SandboxError};
use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

fn start(dir: &Path) -> Sandbox {
    let config = SandboxConfig { cache_dir: Some(dir.to_owned()), max_instances: 4, ..SandboxConfig::default() };
    let sandbox = Sandbox::new(config).unwrap();
    let output = wait(script("return {x = 1}").drive(&sandbox, |_| Ok(Json::null()))).unwrap();
    assert_eq!(output.json.as_str(), r#"{"x":1}"#);
    sandbox
}

fn code(dir: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "cwasm")).unwrap()
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
fn code_is_kept_and_code_that_was_changed_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path());
    let code = code(dir.path());
    let (bytes, made) = (fs::read(&code).unwrap(), modified(&code));
    start(dir.path());
    assert_eq!(modified(&code), made, "the second start mapped what the first had written");

    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fs::write(&code, &changed).unwrap();
    start(dir.path());
    assert_eq!(fs::read(&code).unwrap().len(), bytes.len());
    assert_ne!(fs::read(&code).unwrap(), changed, "changed code is compiled again");

    // Code of another installation: whole, but under another key.
    let made = modified(&code);
    fs::write(dir.path().join("key"), [7; 32]).unwrap();
    start(dir.path());
    assert_ne!(modified(&code), made);

    for damaged in ["key", code.with_extension("mac").file_name().unwrap().to_str().unwrap()] {
        fs::write(dir.path().join(damaged), "short").unwrap();
        start(dir.path());
    }
}

#[cfg(unix)]
#[test]
fn only_this_user_can_read_the_cache() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    start(dir.path());
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", entry.path().display());
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = SandboxConfig { cache_dir: Some(file.path().join("below")), ..SandboxConfig::default() };
    assert!(matches!(Sandbox::new(config), Err(SandboxError::Cache(_))));
}
