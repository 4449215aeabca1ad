//! How an error is told: a sentence for people, an object for programs. Every error ends here, and is told once.

use super::{Ending, screen, style};
use crate::{
    client::{ClientError, Refused},
    operations::{Instead, OperationError},
};
use agentruntime_engine::{graph::Issue, store::StoreError};
use agentruntime_host_api::RunId;
use clap::error::ErrorKind;
use serde_json::{Value, json};
use std::{
    fmt::{self, Write as _},
    io,
    process::ExitCode,
};

/// What the command line itself refuses, with a stable name.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    /// A refusal with a sentence that says what to do.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// An error as it is told.
pub(crate) struct Failure {
    code: String,
    message: String,
    details: Option<Value>,
    issues: Vec<Issue>,
    is_unread: bool,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let is_unread = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
        let mut failure =
            Self { code: "FAILED".into(), message: format!("{error:#}"), details: None, issues: Vec::new(), is_unread };
        if let Some(error) = error.downcast_ref::<OperationError>() {
            failure.message = with_commands(error);
            failure.code = error.code().into();
            failure.details = error.details();
            if let OperationError::InvalidGraph { issues } = error {
                failure.issues.clone_from(issues);
            }
        } else if let Some(error) = error.downcast_ref::<StoreError>() {
            failure.code = error.code().into();
            if matches!(error, StoreError::InUse { .. }) {
                failure.message.push_str(IN_USE_BY_A_SERVICE);
            }
        } else if let Some(error) = error.downcast_ref::<Refusal>() {
            failure.code = error.code.into();
        } else if let Some(error) = error.downcast_ref::<ClientError>() {
            failure.code = error.code().to_owned();
            if let ClientError::Refused(refused) = error {
                failure.details = details(refused);
                if let Some(message) = by_flags(&refused.code) {
                    failure.message = message.into();
                }
                // The sentence of a refused graph is its first issue: people are shown all of them.
                if refused.code == "INVALID_GRAPH" {
                    failure.issues.clone_from(&refused.issues);
                }
            }
        }
        failure
    }
}

impl Failure {
    /// Tells it to stderr.
    pub(crate) fn tell(self, json: bool) -> Ending {
        if self.is_unread {
            return Ending::Unread;
        }
        let text = if json { format!("{}\n", self.object()) } else { self.sentence() };
        // Where stderr is gone, too, there is nobody left to tell.
        let _ = screen::show(&text);
        Ending::Refused
    }

    fn object(&self) -> Value {
        let mut object = json!({ "error": self.message, "code": self.code });
        if let Some(details) = &self.details {
            object["details"] = details.clone();
        }
        object
    }

    /// Whether the code says more than that the command was mistyped, or that something failed.
    fn is_named(&self) -> bool {
        !matches!(self.code.as_str(), "USAGE" | "FAILED")
    }

    fn sentence(&self) -> String {
        let mut text = String::new();
        if self.issues.is_empty() {
            // A list below the sentence is for people; the name is what they look up.
            let (sentence, rest) = self.message.split_at(self.message.find('\n').unwrap_or(self.message.len()));
            let code = if self.is_named() { style::faint(&format!(" [{}]", self.code)) } else { String::new() };
            let _ = writeln!(text, "{} {sentence}{code}{rest}", style::bad("error:"));
        } else {
            text.push_str(&style::issues(&self.issues));
            let _ = writeln!(text, "{} the graph is not valid; nothing was published or run", style::bad("error:"));
        }
        text
    }
}

/// What a server told besides, in the form that it has here.
fn details(refused: &Refused) -> Option<Value> {
    match refused.issues.is_empty() {
        true => refused.details.clone(),
        false => Some(json!({ "issues": refused.issues })),
    }
}

/// What to do where the process that has the data is a service: it does there what this command would do here.
const IN_USE_BY_A_SERVICE: &str = ". If that is `agentruntime dev` or `serve`, work through it: `agentruntime login URL` with its token, then \
    `agentruntime publish GRAPH` and `agentruntime trigger WORKFLOW --wait` do what `run` does here";

/// A refusal of the place, with the flags that name it: the server's sentence is about headers.
fn by_flags(code: &str) -> Option<&'static str> {
    match code {
        "PLACE_MISSING" => Some(
            "the token is not bound to one project: say which with --tenant SLUG and --project SLUG; `agentruntime login URL` with \
             both keeps them for later commands",
        ),
        "PLACE_NOT_FOUND" => Some(
            "there is no such workspace or project that you could see: check --tenant and --project, AGENTRUNTIME_TENANT and \
             AGENTRUNTIME_PROJECT, and those of the login (`agentruntime whoami`)",
        ),
        _ => None,
    }
}

/// What an operation says, with the commands that help: operations know of no command line.
fn with_commands(error: &OperationError) -> String {
    use OperationError as E;
    let hint = match error {
        E::UnknownRun(_) => "; `agentruntime runs` lists them".to_owned(),
        E::NoRuns => "; `agentruntime run GRAPH` starts one, and `agentruntime runs` tells where it looked".to_owned(),
        E::UnknownWorkflow(_) => {
            "; `agentruntime workflows` lists them, `agentruntime publish GRAPH` adds one".to_owned()
        }
        E::TaskClosed { run, .. } => format!("; `agentruntime show {run}` tells how"),
        E::RunExists(run) => format!("; `agentruntime show {run}` shows it"),
        E::WrongStatus { command, run, status, instead } => {
            return format!("cannot {command} run {run}: it is {status}{}", as_command(*instead, *run));
        }
        _ => String::new(),
    };
    format!("{error}{hint}")
}

/// What to do instead, as something to type where there is such a thing.
fn as_command(instead: Instead, run: RunId) -> String {
    match instead {
        Instead::Retry => format!("; `agentruntime retry {run}` tries it again from the failed step"),
        Instead::Resume => format!("; `agentruntime resume {run}` lets it go on"),
        Instead::StartFromItsResults => format!(
            "; only a failed run is retried, `agentruntime run` and `agentruntime trigger` with `--resume-from {run}` begin a new one \
             from its results"
        ),
        Instead::ResumeLater => format!(" already; `agentruntime resume {run}` lets it go on"),
        Instead::StartAnother => {
            "; that is its end, and `agentruntime run` or `agentruntime trigger` starts another run".to_owned()
        }
        Instead::Nothing | Instead::WaitForEnd | Instead::WaitForFailure | Instead::StartAnew => instead.to_string(),
    }
}

/// Tells what is wrong with the arguments, or the help that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !is_help && std::env::args_os().any(|argument| argument == "--json") {
        let rendered = error.render().to_string();
        // What is wrong comes first, perhaps over several lines; then how the command is used.
        let lines = rendered.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
        let message = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let message = message.trim_start_matches("error: ");
        let failure = anyhow::Error::new(Refusal::new("USAGE", message));
        return ExitCode::from(Failure::from(failure).tell(true) as u8);
    }
    // Where nobody reads it, there is nothing more to say.
    let _ = error.print();
    ExitCode::from(if is_help { Ending::Done } else { Ending::Refused } as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentruntime_engine::run::event::RunStatus;

    #[test]
    fn the_command_line_names_its_commands() {
        let run = RunId::from(uuid::Uuid::nil());
        let error =
            |instead| OperationError::WrongStatus { command: "resume", run, status: RunStatus::Failed, instead };
        assert_eq!(
            with_commands(&error(Instead::Retry)),
            format!(
                "cannot resume run {run}: it is failed; `agentruntime retry {run}` tries it again from the failed step"
            )
        );
        assert_eq!(
            with_commands(&error(Instead::StartAnother)),
            format!(
                "cannot resume run {run}: it is failed; that is its end, and `agentruntime run` or `agentruntime trigger` starts \
                 another run"
            )
        );
        assert_eq!(
            with_commands(&OperationError::UnknownRun("abc".into())),
            "there is no run `abc`; `agentruntime runs` lists them"
        );
    }

    #[test]
    fn operations_know_of_no_command_line() {
        let run = RunId::from(uuid::Uuid::nil());
        let closed = OperationError::TaskClosed { run, step: "approve".into() };
        for error in [OperationError::NoRuns, OperationError::RunExists(run), closed] {
            assert!(!error.to_string().contains("agentruntime"), "{error}");
            assert!(with_commands(&error).contains("`agentruntime "), "{error}");
        }
    }
}
