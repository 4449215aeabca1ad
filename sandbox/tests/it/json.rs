//! What JSON becomes in Lua and what Lua becomes as JSON.

use crate::harness::{check, script};
use agentruntime_host_api::{ErrorCode, Limits};

#[track_caller]
fn passes_through(json: &str) {
    let output = script("return {v = input}").input(json).text();
    assert_eq!(output, format!(r#"{{"v":{json}}}"#));
}

#[test]
fn a_document_passes_through_unchanged() {
    for json in [
        "null",
        "true",
        "false",
        "0",
        "-1",
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "1.0",
        "-0.0",
        "0.1",
        "1e16",
        "1e-7",
        "1.7976931348623157e308",
        "5e-324",
        "123456789.125",
        "\"\"",
        "\"a\"",
        r#""\"\\\n\r\t\u0001\u001f""#,
        "\"żółć 日本 🎉\"",
        "[]",
        "{}",
        "[[]]",
        "[{}]",
        "[null]",
        "[1,null,2,null]",
        r#"{"a":null}"#,
        r#"{"a":{"b":[]},"c":[{},[]]}"#,
        r#"{"1":"a","2":"b"}"#,
        r#"{"":1}"#,
        r#"["a",1,1.0,true]"#,
    ] {
        passes_through(json);
    }
}

#[test]
fn large_documents_pass_through_unchanged() {
    let list = (0..5_000).map(|i| format!(r#"{{"id":{i},"name":"item {i}","tags":[]}}"#)).collect::<Vec<_>>().join(",");
    passes_through(&format!("[{list}]"));
    let object = (10_000..13_000).map(|i| format!(r#""k{i}":{i}"#)).collect::<Vec<_>>().join(",");
    passes_through(&format!("{{{object}}}"));
    passes_through(&format!("\"{}\"", "x".repeat(200_000)));
}

#[test]
fn spellings_become_the_usual_ones() {
    for (json, usual) in [
        ("1e2", "100.0"),
        ("-0", "-0.0"),
        ("18446744073709551616", "1.8446744073709552e19"),
        (r#""\u0041\/\ud83c\udf89""#, "\"A/🎉\""),
        (r#""\ud800x""#, "\"\u{fffd}x\""),
        (r#" { "b" : 1 , "a" : [ 1 , 2 ] } "#, r#"{"a":[1,2],"b":1}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
    ] {
        assert_eq!(script("return {v = input}").input(json).text(), format!(r#"{{"v":{usual}}}"#));
    }
}

#[test]
fn keys_are_written_in_order() {
    check("return {b = 1, a = 2, [''] = 3, aa = 4, B = 5}", r#"{"":3,"B":5,"a":2,"aa":4,"b":1}"#);
    check(
        "local t = {} for i = 20, 1, -1 do t['k' .. i % 7 .. i] = {z = i, y = 0} end return {n = #json.encode(t), t = t.k620}",
        r#"{"n":423,"t":{"y":0,"z":20}}"#,
    );
}

#[test]
fn an_outermost_table_is_always_an_object() {
    check("return {}", "{}");
    check("return {'a', 'b'}", r#"{"1":"a","2":"b"}"#);
    check("return {'a', x = 1}", r#"{"1":"a","x":1}"#);
    check("return {[10] = 'a', [2] = 'b'}", r#"{"10":"a","2":"b"}"#);
    check("return json.array{}", "{}");
    assert!(script("return {'a', ['1'] = 'b'}").fails(ErrorCode::LuaError).message.contains("twice"));
    assert!(script("return {[1.5] = 'a'}").fails(ErrorCode::LuaError).message.contains("keys have to be strings"));
}

#[test]
fn inner_tables_are_lists_or_objects() {
    check("return {v = {}}", r#"{"v":{}}"#);
    check("return {v = {1, 2, {3}}}", r#"{"v":[1,2,[3]]}"#);
    check("return {v = json.array{}}", r#"{"v":[]}"#);
    check("return {v = json.array()}", r#"{"v":[]}"#);
    check("local t = {} t[2] = 'b' t[1] = 'a' return {v = t}", r#"{"v":["a","b"]}"#);
    check("return {v = {1, json.null, 3}}", r#"{"v":[1,null,3]}"#);
    for (value, message) in [
        ("{1, x = 2}", "`v`: the table mixes list positions and named keys"),
        ("{x = 2, [1] = 1}", "mixes"),
        ("{1, nil, 3}", "the table has gaps: it has 2 elements and 3 is the last position"),
        ("{[10] = 'a'}", "gaps"),
        ("{[0] = 'a'}", "mixes"),
        ("json.array{x = 1}", "mixes"),
        ("{a = {b = {1, print}}}", "`v.a.b[2]`: a function has no JSON form"),
        ("{a = coroutine.create(print)}", "`v.a`: a thread has no JSON form"),
        ("1/0", "`v`: the number inf (infinite) has no JSON form"),
        ("0/0", "nan"),
        ("'\\xff'", "`v`: the text is not valid UTF-8"),
        ("{['\\xc3'] = 1}", "UTF-8"),
    ] {
        let error = script(&format!("return {{v = {value}}}")).fails(ErrorCode::LuaError);
        assert!(error.message.contains(message), "{value}: {}", error.message);
    }
}

#[test]
fn null_is_a_value_of_its_own() {
    let output = script(
        "return {input.a == json.null, json.is_null(input.a), json.is_null(input.missing), json.is_null(false),
                 json.default(input.a, 'none'), json.default(input.b, 'none'), tostring(json.null), type(json.null)}",
    );
    let text = output.input(r#"{"a":null,"b":0}"#).text();
    assert_eq!(text, r#"{"1":true,"2":true,"3":true,"4":false,"5":"none","6":0,"7":"null","8":"userdata"}"#);
    let error = script("return {input.a.b}").input(r#"{"a":null}"#).fails(ErrorCode::LuaError);
    assert!(error.message.contains("attempt to index a null value (field 'a')"), "{}", error.message);
}

#[test]
fn a_list_that_was_read_stays_a_list() {
    check_input("table.remove(input) return {v = input}", "[1]", r#"{"v":[]}"#);
    check_input("input[#input + 1] = 'x' return {v = input}", "[]", r#"{"v":["x"]}"#);
    check_input("return {n = #input, s = select('#', table.unpack(input))}", "[1,null,3]", r#"{"n":3,"s":3}"#);
}

#[track_caller]
fn check_input(source: &str, input: &str, output: &str) {
    assert_eq!(script(source).input(input).text(), output);
}

#[test]
fn depth_has_a_limit_on_the_way_out_and_a_wider_one_on_the_way_in() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let deepest = nested(Limits::JSON_DEPTH_MAX - 1);
    assert_eq!(script("return {v = input}").input(&deepest).text(), format!(r#"{{"v":{deepest}}}"#));
    let error =
        script("return {v = input}").input(&nested(Limits::JSON_DEPTH_MAX)).fails(ErrorCode::SandboxOutputLimit);
    assert!(error.message.contains("nests deeper than 100 levels"), "{}", error.message);
    assert_eq!(script("return {}").input(&nested(128)).text(), "{}");
    assert!(script("return {}").input(&nested(129)).fails(ErrorCode::LuaError).message.contains("nested too deep"));
}

#[test]
fn the_library_encodes_and_decodes() {
    check(r#"return {json.encode{a = {1, 2}, b = json.null}}"#, r#"{"1":"{\"a\":[1,2],\"b\":null}"}"#);
    check(r#"return {v = json.decode('{"a":[1,2.5,null,"x"]}')}"#, r#"{"v":{"a":[1,2.5,null,"x"]}}"#);
    check(
        "return {json.encode('a'), json.encode(1), json.encode(json.null), json.encode{}}",
        r#"{"1":"\"a\"","2":"1","3":"null","4":"{}"}"#,
    );
    for (text, message) in [
        ("", "the text ends where a value was expected at byte 1"),
        ("{", "a key in quotes was expected at byte 2"),
        ("[1,]", "a value was expected at byte 4"),
        ("[1 2]", "`,` or `]` was expected at byte 4"),
        (r#"{"a" 1}"#, "`:` was expected at byte 6"),
        ("01", "a number was expected"),
        ("1.", "a digit was expected after the point"),
        ("1e", "a digit was expected in the exponent"),
        ("tru", "a value was expected at byte 1"),
        ("1 2", "there is text after the value at byte 3"),
        ("\"a", "the text in quotes does not end"),
        ("\"\\", "the text in quotes does not end"),
        ("\"\\x\"", "the escape"),
        ("\"\\u12\"", "the escape"),
        ("\"\n\"", "the text in quotes does not end"),
        ("nan", "a value was expected"),
        ("-", "a number was expected"),
    ] {
        let source = "local ok, e = pcall(json.decode, input) return {ok = ok, e = tostring(e)}";
        let input = serde_json::to_string(text).unwrap();
        let output = script(source).input(&input).text();
        assert!(output.contains(r#""ok":false"#) && output.contains(message), "{text}: {output}");
    }
    let deep = script("return {pcall(json.decode, ('['):rep(101) .. (']'):rep(101))}").text();
    assert!(deep.contains("nested too deep"), "{deep}");
}
