//! Commands that look at runs and answer what they ask.

use super::SupplyArguments;
use clap::Args;

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
  agentruntime approve last                                  where it asks one thing; shows it first
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

    #[command(flatten)]
    pub(crate) supply: SupplyArguments,
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

    /// The step that asks, or the question's id
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

    #[command(flatten)]
    pub(crate) supply: SupplyArguments,
}
