//! The events of OpenAI's `chat/completions`, and of the many servers that imitate it.

use super::fold::{Fold, Taken, failure, replace, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Chat {
    model: Value,
    usage: Value,
    reason: Value,
    content: String,
    refusal: String,
    calls: Vec<Call>,
    /// Where the call of an index is among them.
    places: BTreeMap<u64, usize>,
    is_done: bool,
}

/// A call of a tool, as far as it came.
#[derive(Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

impl Fold for Chat {
    fn take(&mut self, event: Value) -> Result<Taken, Value> {
        failure(&event)?;
        replace(&mut self.model, event.get("model"));
        replace(&mut self.usage, event.get("usage"));
        // Only the first of several answers is read, here as elsewhere.
        let choices = event.get("choices").and_then(Value::as_array);
        let choice = choices.into_iter().flatten().find(|it| it.get("index").and_then(Value::as_u64).unwrap_or(0) == 0);
        let Some(choice) = choice else { return Ok(Taken::default()) };
        replace(&mut self.reason, choice.get("finish_reason"));
        let mut taken = Taken::text(text(choice, "/delta/content"));
        self.content += &taken.text;
        let refusal = text(choice, "/delta/refusal");
        self.refusal += refusal;
        taken.kept += refusal.len();
        for call in choice.pointer("/delta/tool_calls").and_then(Value::as_array).into_iter().flatten() {
            taken.kept += self.call(call);
        }
        Ok(taken)
    }

    fn done(&mut self) {
        self.is_done = true;
    }

    fn is_over(&self) -> bool {
        self.is_done
    }

    fn is_whole(&self) -> bool {
        self.is_done || !self.reason.is_null()
    }

    fn answer(&mut self) -> Value {
        let calls: Vec<Value> = self
            .calls
            .iter()
            .map(|Call { id, name, arguments, .. }| {
                let id = if id.is_empty() { Value::Null } else { id.as_str().into() };
                json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
            })
            .collect();
        let mut message = json!({ "role": "assistant", "content": self.content });
        if !self.refusal.is_empty() {
            message["refusal"] = self.refusal.as_str().into();
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        let choices = json!([{ "index": 0, "message": message, "finish_reason": self.reason }]);
        json!({ "object": "chat.completion", "model": self.model, "choices": choices, "usage": self.usage })
    }
}

impl Chat {
    /// Adds a piece of a call. Its index says which; where a server leaves it out, each id begins another.
    fn call(&mut self, piece: &Value) -> usize {
        let (index, id) = (piece.get("index").and_then(Value::as_u64), text(piece, "/id"));
        let known = match index {
            None => self.calls.last_mut().filter(|call| id.is_empty() || call.id == id),
            Some(index) => self.places.get(&index).and_then(|place| self.calls.get_mut(*place)),
        };
        let begins = known.is_none();
        let mut new = Call::default();
        let call = known.unwrap_or(&mut new);
        if call.id.is_empty() {
            call.id = id.to_owned();
        }
        let (name, arguments) = (text(piece, "/function/name"), text(piece, "/function/arguments"));
        // Some servers repeat the name with each piece.
        if call.name != name {
            call.name += name;
        }
        call.arguments += arguments;
        if begins {
            self.places.extend(index.map(|index| (index, self.calls.len())));
            self.calls.push(new);
        }
        CALL_BYTES + id.len() + name.len() + arguments.len()
    }
}

/// What a piece of a call is taken to be kept with, beside its texts: more than it is.
const CALL_BYTES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(events: &[Value]) -> (String, Chat) {
        let mut chat = Chat::default();
        let texts: Vec<String> = events.iter().map(|event| chat.take(event.clone()).unwrap().text).collect();
        (texts.concat(), chat)
    }

    fn delta(delta: Value) -> Value {
        json!({ "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
    }

    #[test]
    fn texts_and_usage_are_put_together() {
        let end = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
        let usage = json!({ "choices": [], "usage": { "prompt_tokens": 4, "completion_tokens": 2 } });
        let other = json!({ "choices": [{ "index": 1, "delta": { "content": "another answer" } }] });
        let (text, mut chat) = folded(&[
            delta(json!({ "role": "assistant", "content": "" })),
            delta(json!({ "content": "Hel" })),
            other,
            delta(json!({ "content": "lo" })),
            end,
            usage,
        ]);
        assert_eq!(text, "Hello");
        assert!(chat.is_whole() && !chat.is_over(), "the end of the stream may still come");
        let answer = chat.answer();
        assert_eq!(answer["choices"][0]["message"], json!({ "role": "assistant", "content": "Hello" }));
        assert_eq!((&answer["model"], &answer["usage"]["prompt_tokens"]), (&json!("m"), &json!(4)));
        let (_, broken) = folded(&[delta(json!({ "content": "Hel" }))]);
        assert!(!broken.is_whole());
    }

    #[test]
    fn calls_come_in_pieces_side_by_side() {
        let call = |index: Value, id: Value, name: Value, arguments: &str| {
            delta(
                json!({ "tool_calls": [{ "index": index, "id": id, "function": { "name": name, "arguments": arguments } }] }),
            )
        };
        let (null, zero, one) = (Value::Null, json!(0), json!(1));
        let (_, mut chat) = folded(&[
            call(zero.clone(), json!("a"), json!("f"), ""),
            call(one.clone(), json!("b"), json!("g"), "{"),
            call(zero, null.clone(), null.clone(), "{\"n\":"),
            call(one, null.clone(), null.clone(), "}"),
            call(json!(0), null.clone(), json!("f"), "1}"),
        ]);
        let said = |id: &str, name: &str, arguments: &str| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
        assert_eq!(
            chat.answer()["choices"][0]["message"]["tool_calls"],
            json!([said("a", "f", "{\"n\":1}"), said("b", "g", "{}")])
        );
        // Without an index.
        let (_, mut chat) = folded(&[
            call(null.clone(), json!("a"), json!("f"), "{}"),
            call(null.clone(), json!("b"), json!("f"), "{"),
            call(null.clone(), null.clone(), null, "}"),
        ]);
        assert_eq!(
            chat.answer()["choices"][0]["message"]["tool_calls"],
            json!([said("a", "f", "{}"), said("b", "f", "{}")])
        );
    }

    #[test]
    fn a_failure_in_the_middle_is_one_and_other_shapes_say_nothing() {
        let error = json!({ "error": { "message": "slow down", "code": "rate_limit" } });
        assert_eq!(Chat::default().take(error.clone()), Err(error));
        for odd in [
            json!(null),
            json!([1]),
            json!({ "choices": 5 }),
            json!({ "choices": [7] }),
            delta(json!({ "content": 1, "tool_calls": {} })),
            delta(json!({ "tool_calls": [5] })),
        ] {
            assert_eq!(Chat::default().take(odd).unwrap().text, "");
        }
    }
}
