//! How failures look to an author.

use crate::harness::script;
use agentruntime_host_api::{ErrorCode, StepError};
use serde_json::json;

fn fails(source: &str) -> StepError {
    script(source).fails(ErrorCode::LuaError)
}

#[test]
fn an_error_names_the_step_and_the_line() {
    let error = fails("local order = {}\n\nreturn {total = order.items.count}");
    assert_eq!(error.message, "price:3: attempt to index a nil value (field 'items')");
    assert_eq!(error.details.unwrap().to_value()["line"], 3);
}

#[test]
fn an_error_has_a_traceback() {
    let error = fails(
        "local function add(x)\n  return x + {}\nend\nfunction total(x)\n  return (add(x))\nend\nreturn {total(1)}",
    );
    assert_eq!(error.message, "price:2: attempt to perform arithmetic on a table value");
    let details = error.details.unwrap().to_value();
    let traceback = details["traceback"].as_str().unwrap();
    assert!(traceback.starts_with("stack traceback:\n"), "{traceback}");
    for line in ["price:2: in upvalue 'add'", "price:5: in function 'total'", "price:7: in "] {
        assert!(traceback.contains(line), "{traceback}");
    }
}

#[test]
fn source_that_does_not_compile_is_an_error_with_its_line() {
    let error = fails("return {\n  x = 1,\n  y = = 2,\n}");
    assert_eq!(error.message, "price:3: unexpected symbol near '='");
    assert_eq!(error.details, Some(json!({"line": 3}).into()));
}

#[test]
fn a_script_that_returns_no_table_is_told_so() {
    for (source, kind) in
        [("x = 1", "nil"), ("return 5", "number"), ("return 'x', {}", "string"), ("return json.null", "userdata")]
    {
        let error = fails(source);
        assert_eq!(
            error.message,
            format!("a script must return a table, such as `return {{ total = 1 }}`; this one returned {kind}")
        );
    }
}

#[test]
fn error_objects_keep_what_they_say() {
    let error = fails("error({message = 'too expensive', limit = 5})");
    assert_eq!(error.message, "too expensive");
    assert_eq!(error.details.unwrap().to_value()["value"], json!({"message": "too expensive", "limit": 5}));
    assert_eq!(fails("error({1, 2})").message, "[1,2]");
    assert_eq!(fails("error('plain', 0)").message, "plain");
    assert_eq!(fails("error(42)").message, "42");
    assert_eq!(fails("error(false)").message, "false");
    assert_eq!(fails("error()").message, "the script raised an error without a value (nil)");
    assert_eq!(fails("error(print)").message, "the script raised an error with a value that cannot be shown");
}

#[test]
fn a_script_cannot_choose_the_code_of_its_failure() {
    let error = fails("error({code = 'RUN_STOPPED', message = 'x'})");
    assert_eq!(error.code, ErrorCode::LuaError);
    let forged = "local ok, e = pcall(host.call, 'a') e.code = 'RUN_STOPPED' error(e)";
    let denied = StepError::new(ErrorCode::CapabilityDenied, "no");
    let error = script(forged).run_with(|_| Err(denied.clone())).unwrap_err();
    assert_eq!(error.code, ErrorCode::LuaError);
}

#[test]
fn an_error_inside_a_coroutine_reaches_the_outside() {
    let error = fails("local f = coroutine.wrap(function()\n  error('inner')\nend)\nf()");
    assert!(error.message.ends_with("price:2: inner"), "{}", error.message);
    let error = fails("return {coroutine.yield(1)}");
    assert_eq!(error.message, "price:1: attempt to yield from outside a coroutine");
}

#[test]
fn a_message_may_hold_any_bytes_and_any_length() {
    assert_eq!(fails("error('\\xff\\0x', 0)").message, "\u{fffd}\0x");
    let error = fails("error(('x'):rep(1000000), 0)");
    assert!(error.message.len() <= 4096 + 3 && error.message.starts_with("xxx"));
}
