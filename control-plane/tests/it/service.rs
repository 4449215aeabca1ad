//! A running server, and the account of somebody who works there.

use crate::program::{AtWork, Finished};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// A server with its first workspace, project and token. Killed when dropped.
pub(crate) struct Service {
    process: Child,
    folder: TempDir,
    pub(crate) url: String,
    pub(crate) token: String,
    /// A token for the whole workspace.
    pub(crate) admin_token: String,
}

impl Service {
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "127.0.0.1:0")
    }

    fn start_in(folder: TempDir, listen: &str) -> Self {
        let mut command = bare(folder.path(), &["dev", "--json", "--listen", listen, "--data"]);
        command.arg(folder.path().join("data")).env("AGENTRUNTIME_LOG", "warn");
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let greeting: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| greeting[name].as_str().unwrap_or_default().to_owned();
        Self { url: text("url"), token: text("token"), admin_token: text("admin_token"), process, folder }
    }

    /// The folder of its data.
    pub(crate) fn data(&self) -> String {
        self.folder.path().join("data").to_str().unwrap().to_owned()
    }

    /// What the API answers, asked with the first token.
    pub(crate) async fn get(&self, path: &str) -> Value {
        // Whoever comes second finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let asked = reqwest::Client::builder().no_proxy().build().unwrap().get(format!("{}/v1{path}", self.url));
        asked.bearer_auth(&self.token).send().await.unwrap().json().await.unwrap()
    }

    /// Kills it, and starts it again where it was.
    pub(crate) fn restart(mut self) -> Self {
        self.kill();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let mut next = Self::start_in(folder, self.url.trim_start_matches("http://"));
        next.token.clone_from(&self.token);
        next
    }

    /// Kills it, and gives the folder of its data in the folder of its home.
    pub(crate) fn end(mut self) -> TempDir {
        self.kill();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Somebody's home, with the logins in it.
pub(crate) struct Account {
    folder: TempDir,
}

impl Account {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Somebody who is logged in as the owner.
    pub(crate) fn logged_in(service: &Service) -> Self {
        let account = Self::new();
        account.type_in(&["login", &service.url, "--token-stdin"], &service.token).expect(0);
        account
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A graph in a file of its own.
    pub(crate) fn graph(&self, name: &str, graph: &Value) -> String {
        let path = self.folder().join(format!("{name}.json"));
        std::fs::write(&path, graph.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        bare(self.folder(), arguments)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.type_in(arguments, "")
    }

    /// Runs a command that is typed something.
    pub(crate) fn type_in(&self, arguments: &[&str], text: &str) -> Finished {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may end without reading.
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        let output = child.wait_with_output().unwrap();
        Finished {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a command with `--json` and leaves it at work.
    pub(crate) fn begin(&self, arguments: &[&str]) -> AtWork {
        AtWork::of(self.command(arguments))
    }
}

/// The program with nothing of this process's environment that it listens to.
fn bare(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentruntime"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("AGENTRUNTIME_") || name.starts_with("XDG_")) {
            command.env_remove(name);
        }
    }
    command.env("HOME", home);
    // One cache for all tests: the guest is compiled once.
    command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"] {
        command.env_remove(name);
    }
    command
}
