//! What the fields of a workflow may hold.

use super::RunSetup;
use crate::{access::field, operations::OperationError};
use agentruntime_host_api::Json;
use serde_json::{Map, Value};

/// A name: it stands in lists and titles.
pub(crate) const NAME_CHARS_MAX: usize = 200;
/// A description: what is longer is a document of its own.
pub(crate) const DESCRIPTION_CHARS_MAX: usize = 10_000;
/// A run setup: it stands in lists of workflows, whose pages are held in memory.
const RUN_SETUP_BYTES_MAX: usize = 64 << 10;

fn invalid(field: &'static str, message: impl Into<String>) -> OperationError {
    OperationError::InvalidField { field, message: message.into() }
}

pub(super) fn check_name(name: &str) -> Result<(), OperationError> {
    field::check_name(name, NAME_CHARS_MAX).map_err(|message| invalid("name", message))
}

pub(super) fn check_description(description: &str) -> Result<(), OperationError> {
    match description.chars().count() {
        0..=DESCRIPTION_CHARS_MAX => Ok(()),
        _ => Err(invalid("description", format!("write at most {DESCRIPTION_CHARS_MAX} characters"))),
    }
}

/// A draft need not be a graph yet, but has to be something that can become one.
pub(super) fn check_graph(graph: &Json) -> Result<(), OperationError> {
    graph.read::<Map<String, Value>>().map(drop).map_err(|_| {
        let found = match graph.as_str().trim_start().bytes().next() {
            Some(b'{') => "one that cannot be read",
            Some(b'[') => "a list",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        };
        invalid("graph", format!("a graph is a JSON object such as {{ \"steps\": [ … ] }}, and this is {found}"))
    })
}

pub(super) fn check_run_setup(setup: Option<&Json>) -> Result<(), OperationError> {
    let Some(setup) = setup else { return Ok(()) };
    if setup.as_str().len() > RUN_SETUP_BYTES_MAX {
        return Err(invalid("run_setup", format!("write at most {RUN_SETUP_BYTES_MAX} bytes")));
    }
    let read = setup.read::<RunSetup>().map(drop);
    // A list would be read as the members in their order.
    let is_object = setup.as_str().trim_start().starts_with('{');
    match (read, is_object) {
        (Ok(()), true) => Ok(()),
        (Err(_), _) | (Ok(()), false) => {
            let message = "write an object with `trigger_payload`, `trigger_steps` (an object: inputs by step) and \
                           `excluded_step_ids` (a list of steps' ids), or some of them";
            Err(invalid("run_setup", message))
        }
    }
}
