//! The events of Google's `streamGenerateContent`: each is an answer with a part of the content.

use super::fold::{Fold, Taken, failure, replace, text};
use serde_json::{Value, json};

#[derive(Default)]
pub(super) struct Generate {
    model: Value,
    usage: Value,
    reason: Value,
    feedback: Value,
    parts: Vec<Part>,
}

/// A part of the content. What a model thinks is not kept.
enum Part {
    Text(String),
    /// JSON as text, which takes a fraction of the memory.
    Call(String),
}

impl Fold for Generate {
    fn take(&mut self, event: Value) -> Result<Taken, Value> {
        failure(&event)?;
        replace(&mut self.model, event.get("modelVersion"));
        replace(&mut self.usage, event.get("usageMetadata"));
        replace(&mut self.feedback, event.get("promptFeedback"));
        let Some(candidate) = event.pointer("/candidates/0") else { return Ok(Taken::default()) };
        replace(&mut self.reason, candidate.get("finishReason"));
        let mut all = Taken::default();
        for part in candidate.pointer("/content/parts").and_then(Value::as_array).into_iter().flatten() {
            let taken = self.add(part);
            all.text += &taken.text;
            all.kept += taken.kept;
        }
        Ok(all)
    }

    fn is_over(&self) -> bool {
        false
    }

    fn is_whole(&self) -> bool {
        !self.reason.is_null() || self.feedback.get("blockReason").is_some()
    }

    fn answer(&mut self) -> Value {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => json!({ "text": text }),
            Part::Call(call) => json!({ "functionCall": serde_json::from_str::<Value>(call).unwrap_or_default() }),
        });
        let content = json!({ "role": "model", "parts": parts.collect::<Vec<Value>>() });
        let mut answer = json!({ "modelVersion": self.model, "usageMetadata": self.usage });
        // Where the prompt was refused there is no candidate.
        match self.feedback.get("blockReason") {
            Some(_) => answer["promptFeedback"] = self.feedback.take(),
            None => answer["candidates"] = json!([{ "index": 0, "content": content, "finishReason": self.reason }]),
        }
        answer
    }
}

impl Generate {
    fn add(&mut self, part: &Value) -> Taken {
        if let Some(call) = part.get("functionCall") {
            let call = call.to_string();
            let kept = call.len();
            self.parts.push(Part::Call(call));
            return Taken::kept(kept);
        }
        let piece = text(part, "/text");
        if piece.is_empty() || part.get("thought").and_then(Value::as_bool) == Some(true) {
            return Taken::default();
        }
        match self.parts.last_mut() {
            Some(Part::Text(known)) => *known += piece,
            _ => self.parts.push(Part::Text(piece.to_owned())),
        }
        Taken::text(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(parts: Value) -> Value {
        json!({ "candidates": [{ "content": { "role": "model", "parts": parts } }], "modelVersion": "m" })
    }

    #[test]
    fn parts_calls_and_usage_are_put_together() {
        let mut generate = Generate::default();
        let call = json!({ "name": "f", "args": { "n": 1 } });
        let mut last = said(json!([{ "text": "lo" }, { "functionCall": call }]));
        last["candidates"][0]["finishReason"] = "STOP".into();
        last["usageMetadata"] = json!({ "promptTokenCount": 4, "candidatesTokenCount": 2 });
        let first = said(json!([{ "text": "hm", "thought": true }, { "text": "Hel" }]));
        assert_eq!(generate.take(first).unwrap().text, "Hel");
        assert!(!generate.is_whole());
        assert_eq!(generate.take(last).unwrap().text, "lo");
        assert!(generate.is_whole());
        let answer = generate.answer();
        assert_eq!(answer["candidates"][0]["content"]["parts"], json!([{ "text": "Hello" }, { "functionCall": call }]));
        assert_eq!((&answer["usageMetadata"]["promptTokenCount"], &answer["modelVersion"]), (&json!(4), &json!("m")));
    }

    #[test]
    fn a_prompt_that_is_refused_has_no_candidate_and_a_failure_is_one() {
        let mut generate = Generate::default();
        generate.take(json!({ "promptFeedback": { "blockReason": "SAFETY" } })).unwrap();
        assert!(generate.is_whole());
        assert_eq!(generate.answer()["promptFeedback"]["blockReason"], "SAFETY");
        let error = json!({ "error": { "code": 503, "status": "UNAVAILABLE", "message": "busy" } });
        assert_eq!(Generate::default().take(error.clone()), Err(error));
        for odd in [json!(null), json!({ "candidates": 5 }), said(json!([5, { "text": 7 }]))] {
            assert_eq!(Generate::default().take(odd), Ok(Taken::default()));
        }
    }
}
