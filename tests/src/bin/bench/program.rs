//! The programs that are measured from outside: they lie beside this one, and are built where they are missing.

use anyhow::{Result, ensure};
use std::{path::PathBuf, process::Command};

/// The path of a program of this workspace.
pub(crate) fn program(package: &str, name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    if !program.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo).args(["build", "--release", "--quiet", "-p", package]).status()?;
        ensure!(status.success() && program.exists(), "build it first: cargo build --release -p {package}");
    }
    Ok(program)
}
