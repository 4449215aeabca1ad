//! How an error is told: a sentence for people, an object for programs. Every error ends here, and is told once.

use super::{Ending, style};
use crate::operations::OperationError;
use agentruntime_engine::{graph::Issue, store::StoreError};
use clap::error::ErrorKind;
use serde_json::{Value, json};
use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
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
    code: &'static str,
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
            Self { code: "FAILED", message: format!("{error:#}"), details: None, issues: Vec::new(), is_unread };
        if let Some(error) = error.downcast_ref::<OperationError>() {
            failure.code = error.code();
            failure.details = error.details();
            if let OperationError::InvalidGraph { issues } = error {
                failure.issues.clone_from(issues);
            }
        } else if let Some(error) = error.downcast_ref::<StoreError>() {
            failure.code = error.code();
        } else if let Some(error) = error.downcast_ref::<Refusal>() {
            failure.code = error.code;
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
        let _ = anstream::stderr().write_all(text.as_bytes());
        Ending::Refused
    }

    fn object(&self) -> Value {
        let mut object = json!({ "error": self.message, "code": self.code });
        if let Some(details) = &self.details {
            object["details"] = details.clone();
        }
        object
    }

    fn sentence(&self) -> String {
        let mut text = String::new();
        if self.issues.is_empty() {
            let _ = writeln!(text, "{} {}", style::bad("error:"), self.message);
        } else {
            text.push_str(&style::issues(&self.issues));
            let _ = writeln!(text, "{} the graph is not valid; nothing was published or run", style::bad("error:"));
        }
        text
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
