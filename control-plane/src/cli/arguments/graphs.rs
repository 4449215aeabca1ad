//! Commands that take a graph, or start what was published.

use clap::{Args, ValueHint};
use std::path::PathBuf;

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

/// What whoever runs a graph of their own gives its steps. It is kept nowhere: whatever goes on with the run gives it again.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "What steps of this machine's own runs have")]
pub(crate) struct SupplyArguments {
    /// The secrets that scripts use, by what keeps them at a server: {"connection/crm/api_key": "…"}
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub(crate) secrets: Option<String>,
    /// The providers of models: [{"vendor": "openai", "api_key": "…"}], or @FILE, which keeps keys off the command line
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub(crate) providers: Option<String>,

    /// Let scripts reach this network beside the public internet, such as 127.0.0.0/8
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub(crate) allow_network: Vec<ipnet::IpNet>,
}

/// What a run starts with, however it is started.
#[derive(Args, Debug)]
pub(crate) struct StartArguments {
    /// The start payload; {} if not given, or with --resume-from that of the earlier run
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    pub(crate) input: Option<String>,

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
}

/// `run`
#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArguments {
    /// The graph: a JSON file, a folder with a workflow.json, or - for stdin
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) graph: PathBuf,

    #[command(flatten)]
    pub(crate) start: StartArguments,

    /// Answer a human task when it is asked; once for each step
    #[arg(long, value_name = "STEP=JSON")]
    pub(crate) answer: Vec<String>,

    /// The id of the new run; a second start with the same id is refused
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    pub(crate) run_id: Option<uuid::Uuid>,

    #[command(flatten)]
    pub(crate) supply: SupplyArguments,

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

#[derive(clap::Subcommand, Debug)]
pub(crate) enum VersionCommand {
    /// Let it be started and called
    Approve(DecideArguments),
    /// Let it not be used; what is in use stays so
    Reject(DecideArguments),
}

const DECIDE_EXAMPLES: &str = "\
Examples:
  agentruntime versions order-triage                      which versions wait
  agentruntime version approve order-triage 3
  agentruntime version reject order-triage 3 --comment 'not to that host'

It takes a token of an admin of the project, with the scope `admin`.";

/// `version approve`, `version reject`
#[derive(Args, Debug)]
#[command(after_help = DECIDE_EXAMPLES)]
pub(crate) struct DecideArguments {
    /// The workflow's id, or its name where only one has it
    pub(crate) workflow: String,

    /// The version
    #[arg(value_name = "N")]
    pub(crate) number: u32,

    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
}

const TRIGGER_EXAMPLES: &str = "\
Examples:
  agentruntime trigger order-triage --input @order.json
  agentruntime trigger order-triage --input '{\"n\": 1}' --wait
  agentruntime trigger order-triage --resume-from last --from-step price     keep what the last run completed
  agentruntime trigger order-triage --idempotency-key order-4711     once, however often it is sent

With --wait, the run is followed as `run` does: progress goes to stderr, the outputs to stdout.";

/// `trigger`
#[derive(Args, Debug)]
#[command(after_help = TRIGGER_EXAMPLES, disable_version_flag = true)]
pub(crate) struct TriggerArguments {
    /// The workflow: its id; at a server, or its name where only one has it
    pub(crate) workflow: String,

    #[command(flatten)]
    pub(crate) start: StartArguments,

    /// Follow the run to its end or its next wait
    #[arg(long, short)]
    pub(crate) wait: bool,

    /// Another version than the one in use, which is the newest that is approved
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u32>,

    /// At a server: a start with the same key and input happens once; repeats find its run (for 24 h)
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

/// Reads a network.
fn network(text: &str) -> Result<ipnet::IpNet, &'static str> {
    text.parse().map_err(|_| "it should be a network, such as 127.0.0.0/8 or 10.20.0.5/32")
}

/// Reads an id.
fn uuid(text: &str) -> Result<uuid::Uuid, &'static str> {
    text.parse().map_err(|_| "it should be a UUID, such as 0198c5a0-0000-7000-8000-000000000000")
}
