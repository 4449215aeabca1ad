//! What scripted steps do, in a few words where a script would stand:
//!
//! | source | meaning |
//! |---|---|
//! | `give {"a":1}` | returns it |
//! | `echo input item` | returns these variables as it sees them |
//! | `pass loop 3` | returns `{"pass": true}` from that iteration on, else `{"pass": false}` |
//! | `fail LUA_ERROR` | fails |
//! | `fail LUA_ERROR until 3` | fails before its third attempt, then returns `{"attempt": 3}` |
//! | `fail LUA_ERROR if item "b"` | fails where the item is that, else returns it |
//! | `ask 2` | asks for that many pages of `https://a.example/`, one after the other, and returns what came |
//! | `hold` | goes on until it is told what to do |
//! | `panic` | takes the host's task down |

use agentruntime_host_api::{ErrorCode, Invocation, Json, StepError};
use serde_json::{Map, Value, json};

/// How a program ends, or nothing where it goes on until it is told.
pub(crate) fn outcome(invocation: &Invocation, attempt: u32) -> Option<Result<Json, StepError>> {
    let source = &*invocation.program.source;
    let (word, rest) = source.split_once(' ').unwrap_or((source, ""));
    Some(match word {
        "give" => Ok(Json::parse(rest).unwrap()),
        "echo" => Ok(echo(invocation, rest).into()),
        "pass" => {
            let from: u64 = rest.trim_start_matches("loop ").parse().unwrap();
            let iteration = global(invocation, "loop")["iteration"].as_u64().unwrap();
            Ok(json!({ "pass": iteration >= from }).into())
        }
        "fail" => fail(invocation, rest, attempt),
        "hold" | "ask" => return None,
        "panic" => panic!("a step that takes its host's task down"),
        other => panic!("a scripted step cannot `{other}`"),
    })
}

fn fail(invocation: &Invocation, rest: &str, attempt: u32) -> Result<Json, StepError> {
    let mut words = rest.splitn(3, ' ');
    let code = code(words.next().unwrap());
    let error = StepError::new(code, "as scripted");
    match (words.next(), words.next()) {
        (None, _) => Err(error),
        (Some("until"), Some(last)) if attempt < last.parse().unwrap() => Err(error),
        (Some("until"), _) => Ok(json!({ "attempt": attempt }).into()),
        (Some("if"), Some(condition)) => {
            let bad: Value = serde_json::from_str(condition.trim_start_matches("item ")).unwrap();
            let item = global(invocation, "item");
            if item == bad { Err(error) } else { Ok(json!({ "item": item }).into()) }
        }
        (Some(other), _) => panic!("a scripted step cannot fail `{other}`"),
    }
}

fn echo(invocation: &Invocation, names: &str) -> Value {
    let mut seen = Map::new();
    for name in names.split(' ').filter(|name| !name.is_empty()) {
        seen.insert(name.into(), global(invocation, name));
    }
    Value::Object(seen)
}

fn global(invocation: &Invocation, name: &str) -> Value {
    if name == "steps" {
        let entries = invocation.scope.steps.iter();
        return Value::Object(entries.map(|(id, entry)| (id.to_string(), entry.to_value())).collect());
    }
    let found = invocation.scope.globals.iter().find(|(global, _)| *global == name);
    found.map_or(Value::Null, |(_, json)| json.to_value())
}

/// A code by its published name.
pub(crate) fn code(name: &str) -> ErrorCode {
    serde_json::from_value(name.into()).unwrap()
}
