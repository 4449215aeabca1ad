//! Starting the program.

use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// A data folder, and the program on it.
pub(crate) struct Desk {
    folder: TempDir,
}

/// What a finished command left.
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command that is still at work with `--json`.
pub(crate) struct AtWork {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null());
        Finished::of(command)
    }

    /// Starts a command with `--json` and leaves it at work.
    pub(crate) fn begin(&self, arguments: &[&str]) -> AtWork {
        AtWork::of(self.command(arguments))
    }

    /// A graph in a file of its own.
    pub(crate) fn graph(&self, name: &str, graph: &Value) -> String {
        let path = self.folder.path().join(format!("{name}.json"));
        std::fs::write(&path, graph.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Where its runs are kept.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_agentruntime").as_ref(), arguments)
    }

    /// Another program than the program itself, which finds all as that does.
    pub(crate) fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments);
        command.env("AGENTRUNTIME_DATA", self.data());
        command.env("HOME", self.folder.path());
        command.env_remove("XDG_CONFIG_HOME");
        // One cache for all tests: the guest is compiled once.
        command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
        for name in ["AGENTRUNTIME_LOG", "NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"] {
            command.env_remove(name);
        }
        command
    }
}

impl Finished {
    /// Runs a command to its end.
    pub(crate) fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The same, if it ended with that exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Stdout as one document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// Stdout as one document a line.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The last line of `--json`.
    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        self.lines().pop().unwrap()
    }

    /// Stderr as the object by which an error is told.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {}", self.stderr))
    }
}

impl AtWork {
    /// Starts a command with `--json`.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads events up to the first that fits.
    pub(crate) fn wait_for(&mut self, event_type: &str, step: &str) -> Value {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event_type"] == event_type && event["step_id"] == step {
                return event;
            }
            line.clear();
        }
        panic!("it ended without {event_type} of {step}");
    }

    /// What Ctrl-C does; then waits for the end.
    pub(crate) fn interrupt(mut self) -> Finished {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.finish()
    }

    /// Waits for the end.
    pub(crate) fn finish(&mut self) -> Finished {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.lines.read_to_string(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Finished { code, stdout, stderr }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file of an example.
pub(crate) fn example(name: &str, file: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "examples", name, file].iter().collect();
    path.to_str().unwrap().to_owned()
}
