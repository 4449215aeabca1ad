//! `completions`: a script by which a shell completes this program's arguments.

use super::{Ending, arguments::Arguments, screen};
use clap::CommandFactory;
use clap_complete::Shell;

pub(crate) fn print(shell: Shell) -> anyhow::Result<Ending> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "agentruntime", &mut script);
    screen::print(&String::from_utf8(script)?)?;
    Ok(Ending::Done)
}
