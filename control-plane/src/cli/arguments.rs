//! What can be written on the command line. The help texts teach by example: they are the first documentation that is read.

use crate::settings::SettingFlags;
use clap::{Args, Parser, ValueEnum, ValueHint};
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
    /// Where workflows and runs are kept; the platform's data folder if not given
    #[arg(long, global = true, env = "AGENTRUNTIME_DATA", hide_env_values = true, value_name = "DIR|postgres://…")]
    #[arg(help_heading = GLOBAL)]
    pub(crate) data: Option<String>,

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
    /// List the published workflows
    Workflows,
    /// List the versions of a workflow
    Versions {
        /// The workflow's id
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
    /// Print the description of the API, as OpenAPI 3.1
    Openapi,
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

#[derive(clap::Subcommand, Debug)]
pub(crate) enum TaskCommand {
    /// Answer, and follow the run to its end or next wait
    Complete(CompleteArguments),
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

    #[command(flatten)]
    pub(crate) settings: SettingFlags,
}
