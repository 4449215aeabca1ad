//! Reading the TOML file: a flat table of the known keys, each with its line.

use super::keys::{self, KEYS};
use std::path::Path;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A file larger than this is not a configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A setting in the file.
pub(super) struct Line {
    /// Which, as it is written.
    pub(super) name: &'static str,
    /// Its values: one, but for lists.
    pub(super) values: Vec<String>,
    /// Where it stands.
    pub(super) line: usize,
}

/// What is wrong with the file, and where.
pub(super) struct Fault {
    /// Where.
    pub(super) line: Option<usize>,
    /// What.
    pub(super) message: String,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<String, Fault> {
    let fault = |message: String| Fault { line: None, message };
    let size = std::fs::metadata(path).map_err(|error| fault(format!("cannot be read: {error}")))?.len();
    if size > FILE_BYTES_MAX {
        return Err(fault(format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| fault(format!("cannot be read: {error}")))
}

/// The settings of a file, and all that is wrong with it.
pub(super) fn parse(text: &str) -> (Vec<Line>, Vec<Fault>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let line_of = |at: usize| text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    let broken = |error: &toml::de::Error| Fault {
        line: error.span().map(|span| line_of(span.start)),
        message: error.message().to_owned(),
    };
    let mut faults: Vec<Fault> = errors.iter().map(broken).collect();
    let mut lines = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_of(key.span().start);
        match setting(key.get_ref(), value) {
            Ok((name, values)) => lines.push(Line { name, values, line }),
            Err(message) => faults.push(Fault { line: Some(line), message }),
        }
    }
    faults.sort_by_key(|fault| fault.line);
    (lines, faults)
}

fn setting(name: &str, value: &Spanned<DeValue<'_>>) -> Result<(&'static str, Vec<String>), String> {
    let Some(key) = KEYS.iter().find(|key| key.written() == name) else { return Err(unknown(name)) };
    let values = match value.get_ref() {
        DeValue::Array(items) => items.iter().map(|item| scalar(item.get_ref())).collect::<Option<Vec<_>>>(),
        other => scalar(other).map(|value| vec![value]),
    };
    values.map(|values| (key.written(), values)).ok_or_else(|| format!("`{name}` is a plain value or a list of such"))
}

fn unknown(name: &str) -> String {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return format!(
            "`{name}` is a secret and does not stand here: put it into a file and name that as `{}`, or into the \
             environment as {}",
            key.written(),
            keys::variable(name)
        );
    }
    match keys::nearest(name, KEYS.iter().map(keys::Key::written)) {
        Some(near) => format!("there is no setting `{name}`; did you mean `{near}`?"),
        None => format!("there is no setting `{name}`; `agentruntime serve --help` lists them"),
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(is) => Some(is.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
