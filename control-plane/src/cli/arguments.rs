//! What can be written on the command line. The help texts teach by example: they are the first documentation that is read.

use crate::settings::SettingFlags;
use clap::{Args, CommandFactory, FromArgMatches, Parser, ValueEnum, ValueHint, parser::ValueSource};
use clap_complete::Shell;
use std::path::PathBuf;

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
    #[arg(long, global = true, env = "AGENTRUNTIME_TENANT", hide_env_values = true, value_name = "SLUG")]
    #[arg(help_heading = GLOBAL)]
    pub(crate) tenant: Option<String>,

    /// The project at the server, where the token does not tell; or of a server's data that --data names
    #[arg(long, global = true, env = "AGENTRUNTIME_PROJECT", hide_env_values = true, value_name = "SLUG")]
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

const RUN_EXAMPLES: &str = "\
Examples:
  agentruntime run workflow.json --input '{\"customer\": \"ada\"}'
  agentruntime run workflow.json --input @order.json --answer approve='{\"approved\": true}'
  cat order.json | agentruntime run workflow.json --input - --json
  agentruntime run workflow.json --resume-from last --from-step price

Progress goes to stderr and the outputs to stdout, so that `agentruntime run … | jq` works.
With --json, stdout has one event a line and last
  {\"run_id\", \"status\", \"version\", \"outputs\", \"error\"?}

Any command that works on a run also goes on with other runs of the same data folder that were
interrupted, as long as it stays.";

/// `run`
#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArguments {
    /// The graph: a JSON file, a folder with a workflow.json, or - for stdin
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) graph: PathBuf,

    /// The start payload; {} if not given, or with --resume-from that of the earlier run
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    pub(crate) input: Option<String>,

    /// Answer a human task when it is asked; once for each step
    #[arg(long, value_name = "STEP=JSON")]
    pub(crate) answer: Vec<String>,

    /// Input for single steps, which also lets `no_auto_start` steps run: {"step": {…}}
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) trigger_steps: Option<String>,

    /// Leave a step without dependencies out, and what depends only on it
    #[arg(long, value_name = "STEP")]
    pub(crate) exclude: Vec<String>,

    /// Take over the completed results of an earlier run of the same workflow
    #[arg(long, value_name = "RUN")]
    pub(crate) resume_from: Option<String>,

    /// With --resume-from: run this step again, and what depends on it
    #[arg(long, value_name = "STEP", requires = "resume_from")]
    pub(crate) from_step: Option<String>,

    /// The id of the new run; a second start with the same id is refused
    #[arg(long, value_name = "UUID")]
    pub(crate) run_id: Option<uuid::Uuid>,

    /// The workflow that the graph is published as; its `name`, or that of its file or folder, if not given
    #[arg(long, value_name = "ID")]
    pub(crate) workflow_id: Option<String>,
}

const VALIDATE_EXAMPLES: &str = "\
Examples:
  agentruntime validate workflow.json --input @input.json
  agentruntime validate workflow.json --options '{\"mock_step_outputs\": {\"fetch\": {\"n\": 12}}}'";

/// `validate`
#[derive(Args, Debug)]
#[command(after_help = VALIDATE_EXAMPLES)]
pub(crate) struct ValidateArguments {
    /// The graph: a JSON file, a folder with a workflow.json, or - for stdin
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) graph: PathBuf,

    /// Also check that this start payload fits
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    pub(crate) input: Option<String>,

    /// What to check, and on which made-up values: checks, skip_checks, step_ids, mock_step_outputs, mock_lua_scopes
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) options: Option<String>,
}

/// `publish`
#[derive(Args, Debug)]
pub(crate) struct PublishArguments {
    /// The graph: a JSON file, a folder with a workflow.json, or - for stdin
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) graph: PathBuf,

    /// The workflow's id; the graph's `name`, or that of its file or folder, if not given
    #[arg(long = "as", value_name = "ID")]
    pub(crate) workflow_id: Option<String>,

    /// Why it is published
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) message: Option<String>,
}

const TRIGGER_EXAMPLES: &str = "\
Examples:
  agentruntime trigger order-triage --input @order.json
  agentruntime trigger order-triage --input '{\"n\": 1}' --wait
  agentruntime trigger order-triage --idempotency-key order-4711     once, however often it is sent

With --wait, the run is followed as `run` does: progress goes to stderr, the outputs to stdout.";

/// `trigger`
#[derive(Args, Debug)]
#[command(after_help = TRIGGER_EXAMPLES, disable_version_flag = true)]
pub(crate) struct TriggerArguments {
    /// The workflow: its id; at a server, or its name where only one has it
    pub(crate) workflow: String,

    /// The start payload; {} if not given
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    pub(crate) input: Option<String>,

    /// Follow the run to its end or its next wait
    #[arg(long, short)]
    pub(crate) wait: bool,

    /// Another version than the newest
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u32>,

    /// Input for single steps, which also lets `no_auto_start` steps run: {"step": {…}}
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) trigger_steps: Option<String>,

    /// Leave a step without dependencies out, and what depends only on it
    #[arg(long, value_name = "STEP")]
    pub(crate) exclude: Vec<String>,

    /// At a server: a start with the same key and input happens once; repeats find its run (for 24 h)
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

/// `runs`
#[derive(Args, Debug)]
pub(crate) struct RunsArguments {
    /// Only runs that stand there
    #[arg(long, value_parser = ["pending", "running", "paused", "draining", "completed", "failed", "stopped"])]
    pub(crate) status: Option<String>,

    /// Only runs of this workflow
    #[arg(long, value_name = "ID")]
    pub(crate) workflow: Option<String>,

    /// How many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

/// `events`
#[derive(Args, Debug)]
pub(crate) struct EventsArguments {
    /// Which run
    pub(crate) run: String,

    /// Wait for further events until the run ends or waits for a person
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// Only events after this number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(crate) after: u64,
}

const LOGS_EXAMPLES: &str = "\
Examples:
  agentruntime logs last
  agentruntime logs last -f            until the run ends; a server that restarts is waited for
  agentruntime logs last -f --json | jq -r .event_type";

/// `logs`
#[derive(Args, Debug)]
#[command(after_help = LOGS_EXAMPLES)]
pub(crate) struct LogsArguments {
    /// Which run
    pub(crate) run: String,

    /// Wait for further events until the run ends
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// Only events after this number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(crate) after: u64,
}

const APPROVE_EXAMPLES: &str = "\
Examples:
  agentruntime approve last                                  where it asks one thing
  agentruntime approve last review --result '{\"note\": \"fine\"}'
  agentruntime approve 4f2a9c1b --reject                     a run or a task, by part of its id";

/// `approve`
#[derive(Args, Debug)]
#[command(after_help = APPROVE_EXAMPLES)]
pub(crate) struct ApproveArguments {
    /// The question, or the run that asks
    #[arg(value_name = "TASK|RUN")]
    pub(crate) subject: String,

    /// The step that asks, where the run asks at several
    pub(crate) step: Option<String>,

    /// Say no
    #[arg(long)]
    pub(crate) reject: bool,

    /// Fields of the answer, which later steps can read: an object
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub(crate) result: Option<String>,
}

const LOGIN_EXAMPLES: &str = "\
Examples:
  agentruntime login https://agents.example.com
  agentruntime login http://127.0.0.1:8600 --profile dev
  agentruntime login https://agents.example.com --token-stdin < token
  agentruntime login https://agents.example.com --tenant acme --project default

The token is asked for without showing it, checked, and kept in a file that only you can read. It is never an
argument: those are seen by everybody on the machine, and kept by the shell.";

/// `login`
#[derive(Args, Debug)]
#[command(after_help = LOGIN_EXAMPLES)]
pub(crate) struct LoginArguments {
    /// The server, such as `https://agents.example.com`; the one of the login before if not given
    #[arg(value_hint = ValueHint::Url)]
    pub(crate) url: Option<String>,

    /// Read the token from stdin
    #[arg(long)]
    pub(crate) token_stdin: bool,
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum TaskCommand {
    /// Answer, and follow the run to its end or next wait
    Complete(CompleteArguments),
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum AdminCommand {
    /// Make an account without a mail, and a workspace that it owns
    CreateOwner(CreateOwnerArguments),
}

const CREATE_OWNER_EXAMPLES: &str = "\
Examples:
  agentruntime admin create-owner --config agentruntime.toml --email ada@example.com --workspace acme
  agentruntime admin create-owner --email ada@example.com --workspace acme --token --password-stdin < password

The password is asked for without showing it. It works on the data that the configuration names: a folder while no service
works on it, a database at any time.";

/// `admin create-owner`
#[derive(Args, Debug)]
#[command(after_help = CREATE_OWNER_EXAMPLES)]
pub(crate) struct CreateOwnerArguments {
    /// The owner's address; it is taken as it is, and gets no mail
    #[arg(long, value_name = "ADDRESS", value_hint = ValueHint::EmailAddress)]
    pub(crate) email: String,

    /// The slug of the workspace, which is made with a project `default`
    #[arg(long, value_name = "SLUG")]
    pub(crate) workspace: String,

    /// The name of the workspace; its slug if not given
    #[arg(long)]
    pub(crate) workspace_name: Option<String>,

    /// What others see of the owner; the address before the @ if not given
    #[arg(long, value_name = "NAME")]
    pub(crate) display_name: Option<String>,

    /// Make a token for the whole workspace, too, and show it this once
    #[arg(long)]
    pub(crate) token: bool,

    /// Read the password from stdin
    #[arg(long)]
    pub(crate) password_stdin: bool,

    /// The configuration file of the service, in TOML
    #[arg(long, value_name = "FILE", env = "AGENTRUNTIME_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
}

const COMPLETE_EXAMPLES: &str = "\
Examples:
  agentruntime task complete last approve --approve
  agentruntime task complete 4f2a9c1b approve --reject --result '{\"reason\": \"too expensive\"}'";

/// `task complete`
#[derive(Args, Debug)]
#[command(after_help = COMPLETE_EXAMPLES)]
#[command(group = clap::ArgGroup::new("decision").required(true).args(["approve", "reject"]))]
pub(crate) struct CompleteArguments {
    /// Which run
    pub(crate) run: String,

    /// The step that asks
    pub(crate) step: String,

    /// Say yes
    #[arg(long)]
    pub(crate) approve: bool,

    /// Say no
    #[arg(long)]
    pub(crate) reject: bool,

    /// Fields of the answer, which later steps can read: an object
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub(crate) result: Option<String>,
}

const DEV_EXAMPLES: &str = "\
Examples:
  agentruntime dev                            listen on 127.0.0.1:8600; the first start shows a token
  agentruntime dev --new-token                make another token, where the first is lost
  agentruntime dev --listen 127.0.0.1:0 --json";

/// `dev`
#[derive(Args, Debug)]
#[command(after_help = DEV_EXAMPLES)]
pub(crate) struct DevArguments {
    /// A configuration file, in TOML
    #[arg(long, value_name = "FILE", env = "AGENTRUNTIME_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,

    /// Make a token for the owner and show it
    #[arg(long)]
    pub(crate) new_token: bool,

    /// Go on without a master key that is lost, and without the secrets that it sealed
    #[arg(long, value_name = "KEY")]
    pub(crate) give_up_master_key: Option<String>,

    #[command(flatten)]
    pub(crate) settings: SettingFlags,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  agentruntime serve --config agentruntime.toml
  agentruntime serve --config agentruntime.toml --check      is it valid, and what holds?
  AGENTRUNTIME_DATA=postgres://db/agents agentruntime serve --listen 0.0.0.0:8600 --public-url https://agents.example.com

Flags count before the environment (AGENTRUNTIME_PUBLIC_URL), the environment before the file (public_url), the
file before defaults. Secrets are read from files that are named for them, or from the environment.

SIGTERM lets requests under way finish, then ends; a second one ends at once. SIGHUP reads the certificate again.";

/// `serve`
#[derive(Args, Debug)]
#[command(after_help = SERVE_EXAMPLES)]
pub(crate) struct ServeArguments {
    /// A configuration file, in TOML
    #[arg(long, value_name = "FILE", env = "AGENTRUNTIME_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,

    /// Check the settings, print those that hold, and serve nothing
    #[arg(long)]
    pub(crate) check: bool,

    /// Go on without a master key that is lost, and without the secrets that it sealed
    #[arg(long, value_name = "KEY")]
    pub(crate) give_up_master_key: Option<String>,

    #[command(flatten)]
    pub(crate) settings: SettingFlags,
}
