//! The events of OpenAI's `responses`. The last of them has the whole answer.

use super::fold::{Fold, Taken, text};
use serde_json::{Value, json};

#[derive(Default)]
pub(super) struct Responses {
    answer: Option<Value>,
}

impl Fold for Responses {
    fn take(&mut self, mut event: Value) -> Result<Taken, Value> {
        match text(&event, "/type") {
            // The event is as long as the answer, and no event is longer than an answer may be.
            "response.completed" | "response.incomplete" => self.answer = event.get_mut("response").map(Value::take),
            "response.output_text.delta" => return Ok(Taken { text: text(&event, "/delta").to_owned(), kept: 0 }),
            "response.failed" => return Err(json!({ "error": event.pointer("/response/error") })),
            // This one has code and message in itself.
            "error" => {
                return Err(json!({ "error": event.get("error").filter(|it| it.is_object()).unwrap_or(&event) }));
            }
            _ => {}
        }
        Ok(Taken::default())
    }

    fn is_over(&self) -> bool {
        self.answer.is_some()
    }

    fn is_whole(&self) -> bool {
        self.answer.is_some()
    }

    fn answer(&mut self) -> Value {
        self.answer.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_is_the_answer() {
        let mut responses = Responses::default();
        let piece = json!({ "type": "response.output_text.delta", "item_id": "m", "delta": "Hel" });
        assert_eq!(responses.take(piece).unwrap().text, "Hel");
        let call = json!({ "type": "response.function_call_arguments.delta", "delta": "{" });
        assert_eq!(responses.take(call), Ok(Taken::default()));
        assert!(!responses.is_whole());
        let answer = json!({ "model": "m", "status": "completed", "output": [] });
        responses.take(json!({ "type": "response.completed", "response": answer })).unwrap();
        assert!(responses.is_over());
        assert_eq!(responses.answer(), answer);
    }

    #[test]
    fn it_fails_in_two_forms() {
        let error = json!({ "code": "server_error", "message": "no" });
        let failed = json!({ "type": "response.failed", "response": { "status": "failed", "error": error } });
        assert_eq!(Responses::default().take(failed), Err(json!({ "error": error })));
        let flat = json!({ "type": "error", "code": "rate_limit", "message": "slow down" });
        assert_eq!(Responses::default().take(flat.clone()), Err(json!({ "error": flat })));
    }
}
