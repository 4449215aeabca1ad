//! Settings on the command line, made from the table.

use super::keys::{self, Flag, KEYS};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::Error};
use std::collections::BTreeMap;

const HEADING: &str = "Settings";

/// The settings that flags gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingFlags(pub(super) BTreeMap<&'static str, Vec<String>>);

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for key in KEYS.iter().filter(|key| key.flag == Flag::Own) {
            if let Some(values) = matches.get_many::<String>(key.written()) {
                self.0.insert(key.written(), values.cloned().collect());
            }
        }
        Ok(())
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        KEYS.iter().filter(|key| key.flag == Flag::Own).fold(command, |command, key| {
            let argument = Arg::new(key.written()).long(keys::flag(key.written())).value_name(key.value);
            command.arg(argument.help(key.about).help_heading(HEADING).action(ArgAction::Append))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
