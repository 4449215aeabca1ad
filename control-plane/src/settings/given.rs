//! What was given where, and which of it counts: flags before environment before file before defaults.
//!
//! Whoever reads a setting gets a value in any case; what is wrong is gathered, so that an operator learns of all of it at
//! once.

use super::{
    file,
    flags::SettingFlags,
    keys::{self, KEYS, PREFIX},
};
use crate::data::holds_password;
use agentruntime_engine::store::Location;
use secrecy::SecretString;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display, Write},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A secret is a line of text; a larger file is another one.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: BTreeMap<&'static str, Value>,
    wrong: Vec<Wrong>,
    effective: Vec<Effective>,
    asked: BTreeSet<&'static str>,
}

#[derive(Clone)]
struct Value {
    texts: Vec<String>,
    source: Source,
}

impl fmt::Debug for Value {
    /// It may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nowhere.
    Default,
    /// In the file.
    File {
        /// Which.
        path: PathBuf,
        /// Where in it.
        line: usize,
    },
    /// In the environment.
    Environment(String),
    /// On the command line.
    Flag(String),
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// A setting that counts, as it is shown to people.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    /// Which.
    pub(crate) name: &'static str,
    /// Its value in TOML; a secret's is not shown.
    pub(crate) value: Option<String>,
    /// Where it was given.
    pub(crate) source: Source,
}

#[derive(Debug)]
struct Wrong {
    place: String,
    message: String,
}

/// All that is wrong with the settings.
#[derive(Debug)]
pub(crate) struct SettingsError(Vec<Wrong>);

impl Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings are not valid; nothing was started")?;
        for Wrong { place, message } in &self.0 {
            write!(f, "\n  {place}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

impl Given {
    /// Gathers what flags, environment and file give.
    pub(crate) fn gather(
        flags: &SettingFlags,
        data: Option<String>,
        environment: impl Iterator<Item = (String, String)>,
        file: Option<&Path>,
    ) -> Self {
        let mut given = Self::default();
        if let Some(path) = file {
            given.take_file(path);
        }
        for (name, value) in environment {
            given.take_variable(&name, value);
        }
        for (name, texts) in &flags.0 {
            given
                .values
                .insert(name, Value { texts: texts.clone(), source: Source::Flag(keys::flag(name).to_owned()) });
        }
        let from_environment = given.values.get("data").filter(|it| matches!(it.source, Source::Environment(_)));
        if let Some(data) = data
            && from_environment.is_none_or(|it| it.texts != [data.as_str()])
        {
            given.values.insert("data", Value { texts: vec![data], source: Source::Flag("data".into()) });
        }
        given
    }

    fn take_file(&mut self, path: &Path) {
        let mut refuse = |fault: file::Fault| {
            let line = fault.line.map(|line| format!(", line {line}")).unwrap_or_default();
            self.wrong.push(Wrong { place: format!("{}{line}", path.display()), message: fault.message });
        };
        let text = match file::read(path) {
            Ok(text) => text,
            Err(fault) => return refuse(fault),
        };
        let (lines, faults) = file::parse(&text);
        faults.into_iter().for_each(&mut refuse);
        for file::Line { name, values, line } in lines {
            let source = Source::File { path: path.to_owned(), line };
            self.values.insert(name, Value { texts: values, source });
        }
    }

    fn take_variable(&mut self, variable: &str, value: String) {
        let Some(rest) = variable.strip_prefix(PREFIX) else { return };
        let name = rest.to_ascii_lowercase();
        // An orchestrator sets what is not given to nothing.
        if value.is_empty() || name == "config" {
            return;
        }
        let names = || KEYS.iter().flat_map(|key| [Some(key.name), key.file]).flatten();
        if let Some(name) = names().find(|known| *known == name) {
            let source = Source::Environment(variable.to_owned());
            self.values.insert(name, Value { texts: vec![value], source });
        } else if let Some(near) = keys::nearest(&name, names()) {
            // Others may use the prefix, such as Kubernetes for a service of that name: only what looks meant is refused.
            let message = format!("there is no such setting; did you mean {}?", keys::variable(near));
            self.wrong.push(Wrong { place: variable.to_owned(), message });
        }
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        let text = self.one(name);
        self.note(name, text.as_deref().map(quoted));
        text
    }

    /// A text, or what holds without one.
    pub(crate) fn text_or(&mut self, name: &'static str, default: &str) -> String {
        let text = self.one(name).unwrap_or_else(|| default.to_owned());
        self.note(name, Some(quoted(&text)));
        text
    }

    /// Where data lies: a folder, or the URL of a database, whose password is not shown.
    pub(crate) fn location(&mut self, name: &'static str) -> Option<String> {
        let text = self.one(name)?;
        match text.parse::<Location>() {
            Ok(location) => self.note(name, Some(quoted(&location.to_string()))),
            Err(error) => self.refuse(name, &error.to_string()),
        }
        if matches!(self.source(name), Source::File { .. }) && holds_password(&text) {
            self.refuse(name, "holds a password; put it into a file of its own and name that as `data_url_file`");
        }
        Some(text)
    }

    /// A path.
    pub(crate) fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// Something that is written as a text.
    pub(crate) fn parsed<T: FromStr + Display>(&mut self, name: &'static str, what: &str) -> Option<T> {
        let text = self.one(name)?;
        let value = text.parse::<T>().ok();
        match &value {
            Some(value) => self.note(name, Some(quoted(&value.to_string()))),
            None => self.refuse(name, &format!("`{text}` is not {what}")),
        }
        value
    }

    /// Something that is written as a text, or what holds without one.
    pub(crate) fn parsed_or<T: FromStr + Display>(&mut self, name: &'static str, what: &str, default: T) -> T {
        if let Some(value) = self.parsed(name, what) {
            return value;
        }
        self.note(name, Some(quoted(&default.to_string())));
        default
    }

    /// A number.
    pub(crate) fn number(&mut self, name: &'static str, range: RangeInclusive<u64>, default: u64) -> u64 {
        let mut number = default;
        if let Some(text) = self.one(name) {
            match text.replace('_', "").parse::<u64>() {
                Ok(value) if range.contains(&value) => number = value,
                _ => {
                    let (least, most) = range.into_inner();
                    self.refuse(name, &format!("`{text}` is not a number from {least} to {most}"));
                }
            }
        }
        self.note(name, Some(number.to_string()));
        number
    }

    /// Several, separated by commas or as an array.
    pub(crate) fn list<T: FromStr + Display>(&mut self, name: &'static str, what: &str) -> Vec<T> {
        self.asked.insert(name);
        let texts = self.values.get(name).map(|value| value.texts.clone()).unwrap_or_default();
        let mut items = Vec::new();
        for text in texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()) {
            match text.parse() {
                Ok(item) => items.push(item),
                Err(_) => self.refuse(name, &format!("`{text}` is not {what}")),
            }
        }
        let shown: Vec<String> = items.iter().map(|item: &T| quoted(&item.to_string())).collect();
        self.note(name, Some(format!("[{}]", shown.join(", "))));
        items
    }

    /// A secret, from the environment or from the file that is named for it.
    pub(crate) fn secret(&mut self, name: &'static str) -> Option<SecretString> {
        self.secret_that(name, |_| Ok(()))
    }

    /// A secret of a form. What is wrong with one is told without it, and with the file that it stands in.
    pub(crate) fn secret_that(
        &mut self,
        name: &'static str,
        fits: impl Fn(&SecretString) -> Result<(), String>,
    ) -> Option<SecretString> {
        let key = KEYS.iter().find(|key| key.name == name);
        let file = key.and_then(|key| key.file).expect("a secret stands in the table with its file");
        let own = self.one(name);
        let path = self.one(file);
        match (own, path) {
            (Some(_), Some(_)) => {
                self.refuse(name, &format!("is given beside `{file}`; give one of the two"));
                None
            }
            (Some(secret), None) => {
                self.effective.push(Effective { name, value: None, source: self.source(name) });
                let secret = SecretString::from(secret);
                fits(&secret).map_err(|message| self.refuse(name, &message)).ok()?;
                Some(secret)
            }
            (None, Some(path)) => {
                self.note(file, Some(quoted(&path)));
                read_secret_that(Path::new(&path), &fits).map_err(|message| self.refuse(file, &message)).ok()
            }
            (None, None) => None,
        }
    }

    /// Secrets of a form, each in a file of its own.
    pub(crate) fn secrets_in_files(
        &mut self,
        name: &'static str,
        fits: impl Fn(&SecretString) -> Result<(), String>,
    ) -> Vec<SecretString> {
        let paths: Vec<String> = self.list(name, "the path of a file");
        let read = |path: &String| {
            read_secret_that(Path::new(path), &fits).map_err(|message| self.refuse(name, &message)).ok()
        };
        paths.iter().filter_map(read).collect()
    }

    /// Notes that a setting cannot be what it is.
    pub(crate) fn refuse(&mut self, name: &'static str, message: &str) {
        let place = match self.source(name) {
            Source::Default => format!("`{name}`"),
            source => format!("{source}: `{name}`"),
        };
        self.wrong.push(Wrong { place, message: message.to_owned() });
    }

    /// What counts, unless something is wrong.
    pub(crate) fn finish(self) -> Result<Vec<Effective>, SettingsError> {
        if self.wrong.is_empty() { Ok(self.effective) } else { Err(SettingsError(self.wrong)) }
    }

    /// Which settings somebody read.
    #[cfg(test)]
    pub(super) fn asked(&self) -> &BTreeSet<&'static str> {
        &self.asked
    }

    fn one(&mut self, name: &'static str) -> Option<String> {
        self.asked.insert(name);
        let value = self.values.get(name)?.clone();
        match <[String; 1]>::try_from(value.texts) {
            Ok([text]) => Some(text),
            Err(_) => {
                self.refuse(name, "takes one value");
                None
            }
        }
    }

    fn source(&self, name: &str) -> Source {
        self.values.get(name).map_or(Source::Default, |value| value.source.clone())
    }

    fn note(&mut self, name: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.effective.push(Effective { name, value: Some(value), source: self.source(name) });
        }
    }
}

fn read_secret_that(path: &Path, fits: impl Fn(&SecretString) -> Result<(), String>) -> Result<SecretString, String> {
    let secret = SecretString::from(read_secret(path)?);
    fits(&secret).map_err(|message| format!("{} {message}", path.display()))?;
    Ok(secret)
}

fn read_secret(path: &Path) -> Result<String, String> {
    let broken = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    if std::fs::metadata(path).map_err(broken)?.len() > SECRET_BYTES_MAX {
        return Err(format!("{} is larger than {SECRET_BYTES_MAX} bytes", path.display()));
    }
    let text = std::fs::read_to_string(path).map_err(broken)?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(format!("{} is empty", path.display())),
        secret => Ok(secret.to_owned()),
    }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            control if control.is_control() => {
                // Writing to a string does not fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted + "\""
}
