//! Putting the events of a stream together.

use super::{chat::Chat, generate::Generate, messages::Messages, responses::Responses};
use agentruntime_host_api::Operation;
use serde_json::{Value, json};

/// What OpenAI's chat sends instead of an event when nothing more comes.
pub(super) const DONE: &str = "[DONE]";

/// The events of one answer so far.
pub(super) trait Fold: Send {
    /// Takes the next event.
    ///
    /// # Errors
    /// It says that the vendor failed: what it said, in the form in which vendors refuse requests, `{ error }`.
    fn take(&mut self, event: Value) -> Result<Taken, Value>;
    /// Nothing more comes.
    fn done(&mut self) {}
    /// Whether nothing more can come that matters.
    fn is_over(&self) -> bool;
    /// Whether what came is an answer to its end.
    fn is_whole(&self) -> bool;
    /// The answer in the form in which the vendor gives it at once, as far as it is read by anybody.
    fn answer(&mut self) -> Value;
}

/// What an event brought.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Taken {
    /// Text of the answer.
    pub(super) text: String,
    /// How many bytes of it are kept.
    pub(super) kept: usize,
}

impl Taken {
    /// Something that is kept and not shown.
    pub(super) fn kept(kept: usize) -> Self {
        Self { text: String::new(), kept }
    }

    /// Text that was added to one that is kept.
    pub(super) fn text(text: &str) -> Self {
        Self { text: text.to_owned(), kept: text.len() }
    }
}

/// Begins an answer of that form.
pub(super) fn of(operation: Operation) -> Box<dyn Fold> {
    match operation {
        Operation::Chat => Box::<Chat>::default(),
        Operation::Responses => Box::<Responses>::default(),
        Operation::Messages => Box::<Messages>::default(),
        Operation::Generate => Box::<Generate>::default(),
    }
}

/// What the vendor says went wrong, if the event says that.
pub(super) fn failure(event: &Value) -> Result<(), Value> {
    match event.get("error") {
        None | Some(Value::Null) => Ok(()),
        Some(error) => Err(json!({ "error": error })),
    }
}

/// A text in an event; nothing where there is none, or something else.
pub(super) fn text<'e>(event: &'e Value, pointer: &str) -> &'e str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Takes over what an event says beside its texts, unless it says nothing, or more than that can be: as a value it takes many times
/// the memory that it had as text, for as long as the stream goes on.
pub(super) fn replace(known: &mut Value, said: Option<&Value>) {
    if let Some(said) = said.filter(|said| !said.is_null() && said.to_string().len() <= SAID_BYTES_MAX) {
        known.clone_from(said);
    }
}

/// Counts of tokens, reasons, the name of a model: far more than vendors say of them.
const SAID_BYTES_MAX: usize = 4 << 10;
