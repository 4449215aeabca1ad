//! The guest that is checked in is the one that its source builds.

use crate::harness::sandbox;
use sha2::{Digest, Sha256};
use std::{env, fs, path::Path, process::Command};

fn guest(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-lua").join(file)
}

#[test]
fn the_digest_beside_the_guest_is_its_own() {
    let digest: String =
        Sha256::digest(fs::read(guest("lua.wasm")).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(fs::read_to_string(guest("lua.wasm.sha256")).unwrap(), format!("{digest}  lua.wasm\n"));
    assert_eq!(sandbox().guest_digest(), digest);
}

/// Building takes minutes and tools that most machines lack, so it is asked for by `GUEST_TOOLCHAIN`, the folder that
/// `build.sh` keeps its tools in.
#[test]
fn building_the_guest_again_gives_the_same_bytes() {
    let Some(toolchain) = env::var_os("GUEST_TOOLCHAIN") else {
        eprintln!("skipped: GUEST_TOOLCHAIN names no folder with the tools that build the guest");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let built = dir.path().join("lua.wasm");
    let mut build = Command::new(guest("build.sh"));
    let output =
        build.arg(&built).env("GUEST_TOOLCHAIN", toolchain).env("GUEST_TARGET", dir.path().join("target")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        fs::read(built).unwrap() == fs::read(guest("lua.wasm")).unwrap(),
        "the guest built now differs from the one that is checked in"
    );
}
