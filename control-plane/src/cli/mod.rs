//! The command line: reads arguments, calls one operation, shows what came of it.
//!
//! | file | owns |
//! |---|---|
//! | `arguments` | what can be written on the command line, and its help |
//! | `place` | which data is meant: this machine's, or a server's |
//! | `desk` | one face for both |
//! | `workspace` | which workspace of this machine's data is meant |
//! | `context` | opening what a command needs: store, sandbox, node, server |
//! | `graph_file`, `json_argument` | what is read from files and arguments |
//! | `follow` | following a run to its end or its next wait |
//! | `screen` | the ways in which a run is shown: JSON lines, plain lines, a live table |
//! | `drawing`, `style` | a finished picture of a run; colours, durations, short forms of values |
//! | `admin` | what operators do to the data of a service |
//! | `failure` | how an error is told |
//! | the rest | one command each |

mod admin;
mod approvals;
mod arguments;
mod completions;
mod context;
mod control;
mod desk;
mod drawing;
mod events;
mod failure;
mod follow;
mod graph_file;
mod json_argument;
mod login;
mod names;
mod place;
mod publish;
mod resume;
mod run;
mod runs;
mod screen;
mod serve;
mod show;
mod style;
mod tasks;
mod trigger;
mod validate;
mod workflows;
mod workspace;

use crate::{observe, operations::approvals::Verdict};
use arguments::{AdminCommand, Arguments, Color, Subcommand, SupplyArguments, TaskCommand, Typed, VersionCommand};
use context::Context;
use failure::Failure;
use place::Reach;
use std::process::ExitCode;

/// How a command ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Done; a run that was followed completed.
    Done = 0,
    /// The run failed or was stopped.
    RunFailed = 1,
    /// The command could not be carried out: usage, graph, start payload, data.
    Refused = 2,
    /// The run waits for a person.
    Waiting = 3,
    /// Ended by Ctrl-C; the run is left as it is.
    Interrupted = 130,
    /// Nobody reads the output any more, as after the signal SIGPIPE.
    Unread = 141,
}

/// Runs the command that the arguments name.
pub(crate) fn main() -> ExitCode {
    let (arguments, typed) = match Arguments::read() {
        Ok(read) => read,
        Err(error) => return failure::usage(&error),
    };
    arguments.color.apply();
    // A service says itself what it tells.
    if !matches!(arguments.command, Subcommand::Serve(_) | Subcommand::Dev(_)) {
        observe::command();
    }
    let json = arguments.json;
    let ending = match execute(arguments, typed) {
        Ok(ending) => ending,
        Err(error) => Failure::from(error).tell(json),
    };
    ExitCode::from(ending as u8)
}

fn execute(arguments: Arguments, typed: Typed) -> anyhow::Result<Ending> {
    let Arguments { command, place, json, .. } = arguments;
    if let Subcommand::Completions { shell } = command {
        return completions::print(shell);
    }
    if let Subcommand::Openapi = command {
        screen::print(&crate::api::description::text())?;
        return Ok(Ending::Done);
    }
    // One thread more than scripts can keep busy: whatever they compute, somebody hears the database and the clients.
    let threads = std::thread::available_parallelism().map_or(1, usize::from) + 1;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let command = match command {
        Subcommand::Serve(arguments) => return runtime.block_on(serve::serve(place.data, json, arguments)),
        Subcommand::Dev(arguments) => return runtime.block_on(serve::dev(place.data, json, arguments)),
        Subcommand::Admin { command: AdminCommand::CreateOwner(arguments) } => {
            return runtime.block_on(admin::create_owner(place.data, json, arguments));
        }
        Subcommand::Login(arguments) => return runtime.block_on(login::login(&place, json, arguments)),
        Subcommand::Logout => return login::logout(&place, json),
        command => command,
    };
    let reach = match &command {
        Subcommand::Run(_) | Subcommand::Validate(_) => Reach::HereOnly,
        _ => Reach::Anywhere,
    };
    let context = Context::choose(&place, typed, reach, json)?;
    let context = match supply(&command) {
        Some(supply) => context.with(supply)?,
        None => context,
    };
    runtime.block_on(async move {
        match command {
            Subcommand::Run(arguments) => run::run(&context, *arguments).await,
            Subcommand::Validate(arguments) => validate::validate(&context, arguments).await,
            Subcommand::Publish(arguments) => publish::publish(&context, arguments).await,
            Subcommand::Trigger(arguments) => trigger::trigger(&context, *arguments).await,
            Subcommand::Workflows => workflows::workflows(&context).await,
            Subcommand::Versions { workflow } => workflows::versions(&context, &workflow).await,
            Subcommand::Version { command: VersionCommand::Approve(arguments) } => {
                approvals::decide(&context, Verdict::Approve, arguments).await
            }
            Subcommand::Version { command: VersionCommand::Reject(arguments) } => {
                approvals::decide(&context, Verdict::Reject, arguments).await
            }
            Subcommand::Runs(arguments) => runs::runs(&context, arguments).await,
            Subcommand::Show { run } => show::show(&context, &run).await,
            Subcommand::Events(arguments) => events::events(&context, arguments).await,
            Subcommand::Logs(arguments) => events::logs(&context, arguments).await,
            Subcommand::Approve(arguments) => tasks::approve(&context, arguments).await,
            Subcommand::Whoami => login::whoami(&context).await,
            Subcommand::Tasks { run } => tasks::tasks(&context, run.as_deref()).await,
            Subcommand::Task { command: TaskCommand::Complete(arguments) } => {
                tasks::complete(&context, arguments).await
            }
            Subcommand::Pause { run } => control::pause(&context, &run).await,
            Subcommand::Stop { run, graceful } => control::stop(&context, &run, graceful).await,
            Subcommand::Resume { run, .. } => resume::resume(&context, &run).await,
            Subcommand::Retry { run, .. } => resume::retry(&context, &run).await,
            Subcommand::Completions { .. }
            | Subcommand::Openapi
            | Subcommand::Serve(_)
            | Subcommand::Dev(_)
            | Subcommand::Admin { .. }
            | Subcommand::Login(_)
            | Subcommand::Logout => Ok(Ending::Done),
        }
    })
}

/// What is given to the steps of the run that a command goes on with.
fn supply(command: &Subcommand) -> Option<&SupplyArguments> {
    match command {
        Subcommand::Run(arguments) => Some(&arguments.supply),
        Subcommand::Approve(arguments) => Some(&arguments.supply),
        Subcommand::Task { command: TaskCommand::Complete(arguments) } => Some(&arguments.supply),
        Subcommand::Resume { supply, .. } | Subcommand::Retry { supply, .. } => Some(supply),
        _ => None,
    }
}

impl Color {
    fn apply(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}
