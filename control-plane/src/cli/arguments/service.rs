//! Commands that serve, that work on a service's data, and that log in where somebody serves.

use crate::settings::SettingFlags;
use clap::{Args, ValueHint};
use std::path::PathBuf;

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
