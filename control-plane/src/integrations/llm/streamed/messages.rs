//! The events of Anthropic's `messages`.

use super::fold::{Fold, Taken, failure, replace, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Messages {
    model: Value,
    usage: Value,
    reason: Value,
    blocks: Vec<Kind>,
    /// Where the block of an index is among them.
    places: BTreeMap<u64, usize>,
    is_over: bool,
}

/// A part of the answer, as far as it came. What a model thinks is not kept.
enum Kind {
    Text(String),
    /// A call of a tool. The input is JSON as text, which takes a fraction of the memory.
    Call {
        id: String,
        name: String,
        input: String,
        written: String,
    },
}

impl Fold for Messages {
    fn take(&mut self, event: Value) -> Result<Taken, Value> {
        Ok(match text(&event, "/type") {
            "message_start" => {
                replace(&mut self.model, event.pointer("/message/model"));
                self.count(event.pointer("/message/usage"));
                Taken::default()
            }
            "content_block_start" => self.begin(&event),
            "content_block_delta" => self.add(&event),
            "message_delta" => {
                replace(&mut self.reason, event.pointer("/delta/stop_reason"));
                self.count(event.get("usage"));
                Taken::default()
            }
            "message_stop" => {
                self.is_over = true;
                Taken::default()
            }
            _ => return failure(&event).map(|()| Taken::default()),
        })
    }

    fn is_over(&self) -> bool {
        self.is_over
    }

    fn is_whole(&self) -> bool {
        self.is_over
    }

    fn answer(&mut self) -> Value {
        let content: Vec<Value> = self.blocks.iter().map(Kind::whole).collect();
        json!({
            "type": "message", "role": "assistant", "model": self.model, "content": content, "stop_reason": self.reason,
            "usage": self.usage,
        })
    }
}

impl Messages {
    /// Later counts replace earlier ones: they are of the whole answer so far.
    fn count(&mut self, said: Option<&Value>) {
        let Some(said) = said.and_then(Value::as_object) else { return };
        if !self.usage.is_object() {
            self.usage = json!({});
        }
        for name in ["input_tokens", "output_tokens"] {
            if let Some(count) = said.get(name).filter(|count| count.is_number()) {
                self.usage[name] = count.clone();
            }
        }
    }

    fn begin(&mut self, event: &Value) -> Taken {
        let Some(block) = event.get("content_block") else { return Taken::default() };
        let (kind, taken) = match text(block, "/type") {
            "text" => (Kind::Text(text(block, "/text").to_owned()), Taken::text(text(block, "/text"))),
            "tool_use" => {
                let own = |pointer: &str| text(block, pointer).to_owned();
                let input = block.get("input").map_or_else(|| "{}".to_owned(), Value::to_string);
                let (id, name) = (own("/id"), own("/name"));
                let kept = id.len() + name.len() + input.len();
                (Kind::Call { id, name, input, written: String::new() }, Taken::kept(kept))
            }
            _ => return Taken::default(),
        };
        self.places.extend(index(event).map(|index| (index, self.blocks.len())));
        self.blocks.push(kind);
        // A block is something in itself, so that a stream of empty ones ends, too.
        Taken { kept: taken.kept + BLOCK_BYTES, ..taken }
    }

    fn add(&mut self, event: &Value) -> Taken {
        let place = index(event).and_then(|index| self.places.get(&index));
        let Some(block) = place.and_then(|place| self.blocks.get_mut(*place)) else { return Taken::default() };
        match block {
            Kind::Text(known) => {
                let piece = text(event, "/delta/text");
                *known += piece;
                Taken::text(piece)
            }
            Kind::Call { written, .. } => {
                let piece = text(event, "/delta/partial_json");
                *written += piece;
                Taken::kept(piece.len())
            }
        }
    }
}

fn index(event: &Value) -> Option<u64> {
    event.get("index").and_then(Value::as_u64)
}

/// What a block is taken to be kept with, beside its texts.
const BLOCK_BYTES: usize = 100;

impl Kind {
    fn whole(&self) -> Value {
        match self {
            Self::Text(text) => json!({ "type": "text", "text": text }),
            Self::Call { id, name, input, written } => {
                // Arguments that are no JSON are left as they came: the program of the step says so to the model.
                let written = if written.is_empty() { input } else { written };
                let input: Value = serde_json::from_str(written).unwrap_or_else(|_| written.as_str().into());
                json!({ "type": "tool_use", "id": id, "name": name, "input": input })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(events: &[Value]) -> (String, Messages) {
        let mut messages = Messages::default();
        let texts: Vec<String> = events.iter().map(|event| messages.take(event.clone()).unwrap().text).collect();
        (texts.concat(), messages)
    }

    #[test]
    fn blocks_calls_and_usage_are_put_together() {
        let begin =
            |index: u32, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
        let add = |index: u32, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
        let (text, mut messages) = folded(&[
            json!({ "type": "message_start", "message": { "model": "m", "usage": { "input_tokens": 7, "output_tokens": 1 } } }),
            begin(0, json!({ "type": "thinking", "thinking": "" })),
            add(0, json!({ "type": "thinking_delta", "thinking": "hm" })),
            begin(1, json!({ "type": "text", "text": "" })),
            json!({ "type": "ping" }),
            add(1, json!({ "type": "text_delta", "text": "Hel" })),
            add(1, json!({ "type": "text_delta", "text": "lo" })),
            begin(2, json!({ "type": "tool_use", "id": "t", "name": "f", "input": {} })),
            add(2, json!({ "type": "input_json_delta", "partial_json": "" })),
            add(2, json!({ "type": "input_json_delta", "partial_json": "{\"n\":" })),
            add(2, json!({ "type": "input_json_delta", "partial_json": "1}" })),
            begin(3, json!({ "type": "tool_use", "id": "u", "name": "g", "input": {} })),
            json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" }, "usage": { "output_tokens": 9 } }),
            json!({ "type": "message_stop" }),
        ]);
        assert_eq!(text, "Hello");
        assert!(messages.is_over());
        assert_eq!(
            messages.answer(),
            json!({
                "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
                "usage": { "input_tokens": 7, "output_tokens": 9 },
                "content": [
                    { "type": "text", "text": "Hello" }, { "type": "tool_use", "id": "t", "name": "f", "input": { "n": 1 } },
                    { "type": "tool_use", "id": "u", "name": "g", "input": {} },
                ],
            })
        );
    }

    #[test]
    fn what_is_kept_of_an_event_is_counted() {
        let long = json!(vec![0; 100_000]);
        let mut messages = Messages::default();
        let call = json!({ "type": "tool_use", "id": long, "name": "f", "input": long });
        let taken =
            messages.take(json!({ "type": "content_block_start", "index": long, "content_block": call })).unwrap();
        assert!(taken.kept > 200_000, "{taken:?}");
        let usage = json!({ "input_tokens": 1, "output_tokens": 2, "more": long });
        messages.take(json!({ "type": "message_start", "message": { "model": long, "usage": usage } })).unwrap();
        messages.take(json!({ "type": "message_delta", "delta": { "stop_reason": long } })).unwrap();
        let answer = messages.answer();
        assert_eq!(answer["usage"], json!({ "input_tokens": 1, "output_tokens": 2 }));
        assert!(answer["model"].is_null() && answer["stop_reason"].is_null());
    }

    #[test]
    fn a_failure_in_the_middle_is_one_and_other_shapes_say_nothing() {
        let error = json!({ "type": "overloaded_error", "message": "Overloaded" });
        let event = json!({ "type": "error", "error": error });
        assert_eq!(Messages::default().take(event), Err(json!({ "error": error })));
        for odd in [
            json!(null),
            json!({ "type": "content_block_delta" }),
            json!({ "type": "content_block_start", "content_block": 5 }),
        ] {
            assert_eq!(Messages::default().take(odd), Ok(Taken::default()));
        }
    }
}
