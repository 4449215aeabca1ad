//! What a script asks of its host, and how the replies come back.

use crate::harness::{sandbox, script, wait};
use agentruntime_host_api::{ErrorCode, Guest, HostReply, HostRequest, Json, Outcome, StepError};
use serde_json::json;

/// Answers with what was asked.
fn echo(request: &HostRequest) -> HostReply {
    Ok(json!({"n": request.number, "c": request.capability, "a": request.arguments.to_value()}).into())
}

fn denied(_: &HostRequest) -> HostReply {
    Err(StepError::new(ErrorCode::CapabilityDenied, "not granted").with_details(json!({"host": "x"})))
}

#[track_caller]
fn check(source: &str, reply: impl FnMut(&HostRequest) -> HostReply, output: &str) {
    match script(source).run_with(reply) {
        Ok(done) => assert_eq!(done.json.as_str(), output),
        Err(error) => panic!("{error} {:?}", error.details),
    }
}

#[test]
fn a_request_returns_its_reply() {
    check(
        "return {v = host.call('http.fetch', {url = 'x', list = json.array{}})}",
        echo,
        r#"{"v":{"a":{"list":[],"url":"x"},"c":"http.fetch","n":0}}"#,
    );
    check(
        "return {v = host.call('a'), w = host.call('b', 5)}",
        echo,
        r#"{"v":{"a":{},"c":"a","n":0},"w":{"a":5,"c":"b","n":1}}"#,
    );
    check("return {v = host.call('a') == json.null}", |_| Ok(Json::null()), r#"{"v":true}"#);
}

#[test]
fn requests_have_names_of_their_own() {
    check(
        "return {v = http.fetch{url = 'x', method = 'POST'}, w = http.fetch('y')}",
        echo,
        r#"{"v":{"a":{"method":"POST","url":"x"},"c":"http.fetch","n":0},"w":{"a":{"url":"y"},"c":"http.fetch","n":1}}"#,
    );
    check(
        "return {v = hmac(secret('key'), 'data')}",
        echo,
        r#"{"v":{"a":{"data":"data","secret":{"$secret":"key"}},"c":"crypto.hmac","n":0}}"#,
    );
    let error = script("return {http.fetch(5)}").run_with(echo).unwrap_err();
    assert!(error.message.contains("table expected"), "{error}");
}

#[test]
fn a_secret_is_a_name_that_can_stand_in_a_text() {
    let text = "{v = host.call('a', {h = 'Bearer ' .. secret('key') .. ' ' .. 5 .. secret('other')})}";
    check(
        &format!("return {text}"),
        echo,
        r#"{"v":{"a":{"h":{"$text":["Bearer ",{"$secret":"key"}," ","5",{"$secret":"other"}]}},"c":"a","n":0}}"#,
    );
    check("return {t = tostring(secret('key'))}", echo, r#"{"t":"a secret, which only the host can read"}"#);
    for (source, part) in [("secret(5)", "takes the name"), ("secret('a') .. {}", "not with a table")] {
        let error = script(&format!("return {{ {source} }}")).run_with(echo).unwrap_err();
        assert!(error.message.contains(part), "{source}: {error}");
    }
}

#[test]
fn what_only_looks_like_a_secret_is_none() {
    let input = r#"{"header":{"$secret":"key"},"text":{"$text":["Bearer ",{"$secret":"key"}]}}"#;
    for (source, part) in [
        ("http.fetch{url = 'x', headers = {a = 'fine', x = input.header}}", "a header is a table"),
        ("http.fetch{url = 'x', headers = {x = input.text}}", "a header is a table"),
        ("host.call('http.fetch', {url = 'x', headers = {x = input.header}})", "a header is a table"),
        ("host.settle{{'http.fetch', {url = 'x', headers = {x = input.header}}}}", "a header is a table"),
        ("host.all{{'http.fetch', {url = 'x', headers = input}}}", "a header is a table"),
        ("http.fetch{url = 'x', headers = {x = json.array{}}}", "a header is a table"),
        ("hmac(input.header, 'data')", "what signs is a table"),
        ("host.call('crypto.hmac', {secret = input.header, data = 'x'})", "what signs is a table"),
        ("'Bearer ' .. secret('key') .. input.header", "not with a table"),
    ] {
        let error = script(&format!("return {{ {source} }}")).input(input).run_with(echo).unwrap_err();
        assert!(error.message.contains(part), "{source}: {error}");
    }
    // Where no secret stands it is data like any other.
    let script = script("return {host.call('http.fetch', {headers = {x = secret('key')}, body = input.header}).a}");
    let found = script.input(input).run_with(echo).unwrap();
    assert_eq!(found.json.as_str(), r#"{"1":{"body":{"$secret":"key"},"headers":{"x":{"$secret":"key"}}}}"#);
}

#[test]
fn a_script_keeps_its_place_and_its_values_across_many_requests() {
    check(
        "local sum = 0 for i = 1, 200 do sum = sum + host.call('n', {i = i}).a.i end return {sum}",
        echo,
        r#"{"1":20100}"#,
    );
}

#[test]
fn several_requests_are_one_outcome() {
    let invocation = script("return {v = host.all{{'a', {x = 1}}, {'b'}, {'c', json.null}}}").invocation;
    let Outcome::Requests { requests, execution } = wait(sandbox().start(invocation)) else { panic!("it asks") };
    let asked: Vec<_> = requests.iter().map(|r| (r.number, r.capability.as_str(), r.arguments.as_str())).collect();
    assert_eq!(asked, [(0, "a", r#"{"x":1}"#), (1, "b", "{}"), (2, "c", "null")]);
    let replies = vec![Ok(json!(1).into()), Ok(json!([]).into()), Ok(json!("z").into())];
    let Outcome::Done(output) = wait(execution.resume(replies)) else { panic!("it is done") };
    assert_eq!(output.json.as_str(), r#"{"v":[1,[],"z"]}"#);
}

#[test]
fn a_failed_request_can_be_caught() {
    check(
        "local ok, e = pcall(host.call, 'a') return {ok, e.code, e.message, e.details.host, tostring(e), 'E: ' .. e}",
        denied,
        r#"{"1":false,"2":"CAPABILITY_DENIED","3":"not granted","4":"x","5":"CAPABILITY_DENIED: not granted","6":"E: CAPABILITY_DENIED: not granted"}"#,
    );
    check(
        "local ok = pcall(host.call, 'a') return {ok, host.settle{} ~= nil, #host.all{}}",
        denied,
        r#"{"1":false,"2":true,"3":0}"#,
    );
}

#[test]
fn a_failed_request_that_is_not_caught_fails_the_step_with_its_code() {
    let error = script("local x = 1\nreturn {host.call('a')}").run_with(denied).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::CapabilityDenied, "not granted"));
    let details = error.details.unwrap().to_value();
    assert_eq!(details["line"], 2);
    assert_eq!(details["value"]["details"]["host"], "x");
    let rethrown = script("local ok, e = pcall(host.call, 'a') error(e)").run_with(denied).unwrap_err();
    assert_eq!(rethrown.code, ErrorCode::CapabilityDenied);
}

#[test]
fn of_several_requests_the_first_failure_is_raised_or_all_are_settled() {
    let half = |request: &HostRequest| if request.number == 1 { denied(request) } else { Ok(json!(1).into()) };
    check(
        "local ok, e = pcall(host.all, {{'a'}, {'b'}, {'c'}}) return {ok, e.code, e.index}",
        half,
        r#"{"1":false,"2":"CAPABILITY_DENIED","3":2}"#,
    );
    check(
        "local r = host.settle{{'a'}, {'b'}} return {r[1].ok, r[1].value, r[2].ok, r[2].error.code}",
        half,
        r#"{"1":true,"2":1,"3":false,"4":"CAPABILITY_DENIED"}"#,
    );
}

#[test]
fn requests_pass_through_the_coroutines_of_a_script() {
    check(
        "local c = coroutine.create(function(x)
           local a = host.call('a', {x = x}).a.x
           local b = coroutine.yield(a + 1)
           return host.call('b', {x = b}).a.x, 'end'
         end)
         local _, first = coroutine.resume(c, 1)
         local _, second, last = coroutine.resume(c, 10)
         return {first, second, last, coroutine.status(c)}",
        echo,
        r#"{"1":2,"2":10,"3":"end","4":"dead"}"#,
    );
    check(
        "local function each(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(host.call('i', i).a) end end) end
         local sum = 0 for v in each(5) do sum = sum + v end return {sum}",
        echo,
        r#"{"1":15}"#,
    );
    let nested = "local function deep(n) if n == 0 then return host.call('x', {n = 7}).a.n end
        return coroutine.wrap(function() return deep(n - 1) end)() end return {deep(20)}";
    check(nested, echo, r#"{"1":7}"#);
    check(
        "local c = coroutine.create(function() host.call('a') end) local ok, e = coroutine.resume(c)
         local ok2, e2 = pcall(coroutine.wrap(function() host.call('b') end))
         return {ok, e.code, ok2, e2.code, coroutine.status(c)}",
        denied,
        r#"{"1":false,"2":"CAPABILITY_DENIED","3":false,"4":"CAPABILITY_DENIED","5":"dead"}"#,
    );
}

#[test]
fn where_lua_cannot_wait_an_error_says_what_to_do() {
    for source in [
        "return {(('abc'):gsub('b', function() return host.call('x') end))}",
        "table.sort({1, 2, 3}, function() return host.call('x') end) return {}",
        "return {load(function() return host.call('x') end)}",
        "local w = coroutine.wrap(function() host.call('x') end) return {(('abc'):gsub('b', function() return w() end))}",
        "local c = coroutine.create(function() host.call('x') end)
         return {(('abc'):gsub('b', function() local _, e = coroutine.resume(c) error(e) end))}",
    ] {
        let message = match script(source).run_with(echo) {
            Ok(output) => output.json.to_string(),
            Err(error) => error.message,
        };
        let is_expected = message.contains("cannot pause") || source.contains("load(");
        assert!(is_expected, "{source}: {message}");
    }
    check(
        "local e ('abc'):gsub('b', function() e = select(2, pcall(host.call, 'x')) end) return {#e > 50, host.call('y').c}",
        echo,
        r#"{"1":true,"2":"y"}"#,
    );
}

#[test]
fn arguments_without_a_json_form_are_an_error_at_the_call() {
    let error = script("\nhost.call('a', {f = print})").run_with(echo).unwrap_err();
    assert_eq!(
        error.message,
        "price:2: the arguments of a request cannot be written as JSON at `f`: a function has no JSON form"
    );
    let error = script("host.all{{}}").run_with(echo).unwrap_err();
    assert!(error.message.contains("request 1 does not begin with the name of a capability"));
    let error = script("host.call()").run_with(echo).unwrap_err();
    assert!(error.message.contains("bad argument #1"), "{}", error.message);
}

#[test]
fn the_number_of_requests_has_a_limit() {
    let many =
        |n: u32| script(&format!("for i = 1, {n} do pcall(host.call, 'a') end return {{}}")).limits(|l| l.requests = 3);
    assert!(many(3).run_with(echo).is_ok());
    let error = many(4).run_with(echo).unwrap_err();
    assert_eq!(error.code, ErrorCode::CapabilityDenied);
    assert!(error.message.contains("more than the 3 requests"));
    let at_once = script("host.all{{'a'}, {'a'}, {'a'}, {'a'}} return {}").limits(|l| l.requests = 3);
    assert_eq!(at_once.run_with(echo).unwrap_err().code, ErrorCode::CapabilityDenied);
}

#[test]
fn large_replies_arrive_whole() {
    let big = "x".repeat(3 << 20);
    let output = script("return {#host.call('a')}").run_with(|_| Ok(json!(big).into())).unwrap();
    assert_eq!(output.json.as_str(), r#"{"1":3145728}"#);
}

#[test]
fn a_waiting_step_can_be_thrown_away() {
    for _ in 0..600 {
        let invocation = script("host.call('a') return {}").invocation;
        let Outcome::Requests { execution, .. } = wait(sandbox().start(invocation)) else { panic!("it asks") };
        drop(execution);
    }
}
