//! What can be written on the command line. The help texts teach by example: they are the first documentation that is read.

mod graphs;
mod runs;
mod service;

pub(crate) use graphs::{
    DecideArguments, PublishArguments, RunArguments, SupplyArguments, TriggerArguments, ValidateArguments,
    VersionCommand,
};
pub(crate) use runs::{
    ApproveArguments, CompleteArguments, EventsArguments, LogsArguments, RunsArguments, TaskCommand,
};
pub(crate) use service::{AdminCommand, CreateOwnerArguments, DevArguments, LoginArguments, ServeArguments};

use clap::{Args, CommandFactory, FromArgMatches, Parser, ValueEnum, ValueHint, parser::ValueSource};
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  agentruntime validate workflow.json                     check a graph without running it
  agentruntime run workflow.json --input '{\"n\": 1}'       run it and see its outputs
  agentruntime run workflow.json --input @input.json --answer approve='{\"approved\": true}'
  agentruntime runs                                       what was run
  agentruntime show last                                  when each step worked, and how it ended
  agentruntime task complete last approve --approve       answer what a run asks
  agentruntime resume last                                go on with a run that was interrupted

At a server:
  agentruntime login https://agents.example.com           ask for a token, check it and keep it
  agentruntime publish workflow.json                      the same commands work there from then on
  agentruntime trigger order-triage --input @order.json --wait
  agentruntime logs last -f                               the run's events as they come
  agentruntime approve last                               say yes to what it asks
  agentruntime logout

What is typed counts first (--server, --profile, --data), then the environment (AGENTRUNTIME_SERVER,
AGENTRUNTIME_PROFILE, AGENTRUNTIME_DATA), then the login, then the platform's data folder.

A RUN is named by its id, the beginning or the end of it (4 characters or more), or `last`.

Exit codes:
  0    completed
  1    the run failed or was stopped
  2    the command could not be carried out: usage, graph, start payload, data folder
  3    the run waits for a person
  130  interrupted by Ctrl-C; the run is kept";

/// The heading of what every command takes.
const GLOBAL: &str = "Everywhere";

/// Runs AI-agent workflows: every step in its own WebAssembly sandbox, every run a journal that survives a crash.
#[derive(Parser, Debug)]
#[command(name = "agentruntime", version, after_help = EXAMPLES, propagate_version = true, max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,

    /// Print JSON for programs; errors too, to stderr
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,

    /// When to use colours and the live table: auto (on a terminal, unless NO_COLOR is set), always, never
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN", help_heading = GLOBAL)]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub(crate) color: Color,

    #[command(subcommand)]
    pub(crate) command: Subcommand,
}

/// Which data a command works on.
#[derive(Args, Debug, Default)]
pub(crate) struct PlaceArguments {
    /// Work on this machine's data in a folder or database; without it (and without a login) the platform's data folder
    #[arg(long, global = true, env = "AGENTRUNTIME_DATA", hide_env_values = true, value_name = "DIR|postgres://…")]
    #[arg(help_heading = GLOBAL)]
    pub(crate) data: Option<String>,

    /// Work at a server; with AGENTRUNTIME_TOKEN, or the token of a login there
    #[arg(long, global = true, env = "AGENTRUNTIME_SERVER", hide_env_values = true, value_name = "URL")]
    #[arg(help_heading = GLOBAL, value_hint = ValueHint::Url)]
    pub(crate) server: Option<String>,

    /// Work at the server of this login [default: default]
    #[arg(long, global = true, env = "AGENTRUNTIME_PROFILE", hide_env_values = true, value_name = "NAME")]
    #[arg(help_heading = GLOBAL)]
    pub(crate) profile: Option<String>,

    /// The workspace at the server, where the token does not tell; or of a server's data that --data names
    #[arg(long, global = true, env = "AGENTRUNTIME_TENANT", hide_env_values = true, value_name = "SLUG|ID")]
    #[arg(help_heading = GLOBAL)]
    pub(crate) tenant: Option<String>,

    /// The project at the server, where the token does not tell; or of a server's data that --data names
    #[arg(long, global = true, env = "AGENTRUNTIME_PROJECT", hide_env_values = true, value_name = "SLUG|ID")]
    #[arg(help_heading = GLOBAL)]
    pub(crate) project: Option<String>,

    /// Let the token travel unencrypted to a server that is not this machine
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) insecure_http: bool,
}

/// Which of [`PlaceArguments`] were typed; the others may come from the environment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Typed {
    pub(crate) data: bool,
    pub(crate) server: bool,
    pub(crate) profile: bool,
    pub(crate) tenant: bool,
    pub(crate) project: bool,
}

impl Arguments {
    /// Reads the command line, and what of it was typed.
    pub(crate) fn read() -> Result<(Self, Typed), clap::Error> {
        let matches = Self::command().try_get_matches()?;
        let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let typed = Typed {
            data: typed("data"),
            server: typed("server"),
            profile: typed("profile"),
            tenant: typed("tenant"),
            project: typed("project"),
        };
        Self::from_arg_matches(&matches).map(|arguments| (arguments, typed))
    }
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum Subcommand {
    /// Serve the API for a developer: one process, with a workspace, a project and a token to begin with
    Dev(DevArguments),
    /// Serve the API, as flags, environment and a configuration file say
    Serve(ServeArguments),
    /// Run a workflow: publish the graph, start a run and follow it
    Run(Box<RunArguments>),
    /// Check a graph without running it
    Validate(ValidateArguments),
    /// Publish a graph as a version that others can call (`workflow_call`)
    Publish(PublishArguments),
    /// Start a run of a published workflow
    Trigger(Box<TriggerArguments>),
    /// List the published workflows; at a server, drafts too
    Workflows,
    /// List the versions of a workflow
    Versions {
        /// The workflow's id; at a server, or its name where only one has it
        workflow: String,
    },
    /// Say whether a version that asks for more than the one in use may be used
    Version {
        #[command(subcommand)]
        command: VersionCommand,
    },
    /// List runs, the newest first
    Runs(RunsArguments),
    /// Show a run: a bar per step over the run's time, errors, and what it waits for
    Show {
        /// Which run
        run: String,
    },
    /// Print the events of a run
    Events(EventsArguments),
    /// Print the events of a run, and with -f what follows until it ends
    Logs(LogsArguments),
    /// List the questions that wait for an answer
    Tasks {
        /// Only those of this run
        run: Option<String>,
    },
    /// Answer a question that a run asks
    Task {
        #[command(subcommand)]
        command: TaskCommand,
    },
    /// Say yes, or with --reject no, to what a run asks
    Approve(ApproveArguments),
    /// Let a run start nothing new; what is in flight finishes
    Pause {
        /// Which run
        run: String,
    },
    /// Go on with a run that was interrupted or paused, and follow it
    Resume {
        /// Which run
        run: String,
        #[command(flatten)]
        supply: SupplyArguments,
    },
    /// End a run
    Stop {
        /// Which run
        run: String,
        /// Let what is in flight finish first
        #[arg(long)]
        graceful: bool,
    },
    /// Try a failed run again from the failed step, and follow it
    Retry {
        /// Which run
        run: String,
        #[command(flatten)]
        supply: SupplyArguments,
    },
    /// Work on the data of a service itself, as its operator
    Admin {
        #[command(subcommand)]
        command: AdminCommand,
    },
    /// Print the description of the API, as OpenAPI 3.1
    Openapi,
    /// Log in to a server: ask for a token, check it, and keep it for later commands
    Login(LoginArguments),
    /// Forget the token of a login
    Logout,
    /// Tell where commands work, and as whom
    Whoami,
    /// Print a completion script, such as `agentruntime completions bash > /etc/bash_completion.d/agentruntime`
    Completions {
        /// For which shell
        shell: Shell,
    },
}
