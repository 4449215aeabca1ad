//! What a script can use: the globals it is given and the libraries.

use crate::harness::{check, sandbox, script, wait};
use agentruntime_host_api::{ErrorCode, Guest, Language, Program, TenantId};

#[test]
fn a_script_reads_what_its_step_is_given() {
    let case = script(
        "return {a = input.a + 1, s = steps.fetch.result.title, h = steps['load-all'].result, u = steps.load_all.result,
                 r = run.run_id, i = item, n = index, f = foreach.index, l = loop.prev.x.y, b = body.inner, c = connection}",
    );
    let text = case
        .input(r#"{"a":41}"#)
        .step("fetch", r#"{"result":{"title":"x"}}"#)
        .step("load-all", r#"{"result":[1,2]}"#)
        .global("run", r#"{"run_id":"r1"}"#)
        .global("item", "\"i\"")
        .global("index", "0")
        .global("foreach", r#"{"index":0}"#)
        .global("loop", r#"{"iteration":2,"prev":{"x":{"y":1.5}}}"#)
        .global("body", r#"{"inner":{}}"#)
        .global("connection", r#"{"connection_id":null}"#)
        .text();
    assert_eq!(
        text,
        r#"{"a":42,"b":{},"c":{"connection_id":null},"f":0,"h":[1,2],"i":"i","l":1.5,"n":0,"r":"r1","s":"x","u":[1,2]}"#
    );
}

#[test]
fn an_id_with_underscores_is_itself_before_it_is_another() {
    let case = script("return {steps.a_b.result, steps['a-b'].result}");
    let text = case.step("a-b", r#"{"result":"hyphen"}"#).step("a_b", r#"{"result":"underscore"}"#).text();
    assert_eq!(text, r#"{"1":"underscore","2":"hyphen"}"#);
}

#[test]
fn what_a_step_is_not_given_is_nil() {
    check(
        "return {steps = type(steps), input = type(input), item = type(item)}",
        r#"{"input":"nil","item":"nil","steps":"table"}"#,
    );
}

#[test]
fn nothing_that_acts_is_there() {
    check(
        "local missing = {}
         for _, name in ipairs{'io', 'require', 'package', 'debug', 'dofile', 'loadfile', 'module', 'warn', 'agent'} do
           missing[#missing + 1] = tostring(_G[name])
         end
         for _, name in ipairs{'execute', 'getenv', 'exit', 'remove', 'rename', 'tmpname', 'setlocale'} do
           missing[#missing + 1] = tostring(os[name])
         end
         return {table.concat(missing, ' '), tostring(string.dump)}",
        r#"{"1":"nil nil nil nil nil nil nil nil nil nil nil nil nil nil nil nil","2":"nil"}"#,
    );
}

#[test]
fn the_libraries_of_lua_are_there() {
    check(
        "return {('x'):rep(3, '-'), #utf8.char(8364), math.type(3), math.maxinteger // 1}",
        r#"{"1":"x-x-x","2":3,"3":"integer","4":9223372036854775807}"#,
    );
    check("return {string.format('%5.2f|%d|%s|%q', 3.14159, 42, 'a', 'b\\n')}", r#"{"1":" 3.14|42|a|\"b\\\n\""}"#);
    check("return {v = {('a=1, b=2'):gsub('(%w)=(%w)', '%2=%1')}}", r#"{"v":["1=a, 2=b",2]}"#);
    check(
        "return {v = table.pack(table.unpack({1, 2, 3}, 2)).n, c = table.concat({1, 2}, '-')}",
        r#"{"c":"1-2","v":2}"#,
    );
    check("local t = {3, 1, 2} table.sort(t, function(a, b) return a > b end) return {v = t}", r#"{"v":[3,2,1]}"#);
    check("return {v = {string.unpack('<i4', string.pack('<i4', 7))}}", r#"{"v":[7,5]}"#);
    check(
        "local t <const> = 1 goto done do end ::done:: return {t, 7 // 2, 1 << 4, #'日本'}",
        r#"{"1":1,"2":3,"3":16,"4":6}"#,
    );
}

#[test]
fn scripts_for_lua_5_1_mostly_run() {
    check("return {unpack({1, 2})}", r#"{"1":1,"2":2}"#);
    check(
        "return {loadstring('return 1 + 1')(), table.getn{1, 2}, table.maxn{[7] = 1}, math.pow(2, 3)}",
        r#"{"1":2,"2":2,"3":7,"4":8.0}"#,
    );
    check("local t = setmetatable({}, {__index = function(_, k) return k .. '!' end}) return {t.x}", r#"{"1":"x!"}"#);
}

#[test]
fn source_can_be_loaded_and_bytecode_cannot() {
    check(
        "return {load('return ...')(5), load('x = 1; return x', 'c', 't', {})(), x == nil}",
        r#"{"1":5,"2":1,"3":true}"#,
    );
    check(
        "local f, e = load('\\27Lua\\x54') return {f == nil, e}",
        r#"{"1":true,"2":"attempt to load a binary chunk (mode is 't')"}"#,
    );
    check("local f, e = load('return 1', 'c', 'b') return {f == nil, #e > 0}", r#"{"1":true,"2":true}"#);
    let parts = "local parts, i = {'return ', '4', '2'}, 0 return {load(function() i = i + 1 return parts[i] end)()}";
    check(parts, r#"{"1":42}"#);
}

#[test]
fn the_clock_is_the_start_of_the_step() {
    check(
        "return {os.time(), os.date('!%Y-%m-%dT%H:%M:%S'), os.date('*t').year, os.clock(), os.difftime(os.time(), 0),
                 os.time{year = 2026, month = 3, day = 1, hour = 0}}",
        r#"{"1":1772368215,"2":"2026-03-01T12:30:15","3":2026,"4":0.0,"5":1772368215.0,"6":1772323200}"#,
    );
    let early = script("return {os.time()}").started_at("1970-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(early.text(), r#"{"1":0}"#);
}

#[test]
fn random_numbers_follow_from_the_seed() {
    let numbers = || script("return {math.random(1000000), math.random(1000000), math.random()}");
    let first = numbers().entropy(1).text();
    assert_eq!(first, numbers().entropy(1).text());
    assert_ne!(first, numbers().entropy(2).text());
    check(
        "math.randomseed(5) local a = math.random(1000) math.randomseed(5) return {a == math.random(1000)}",
        r#"{"1":true}"#,
    );
}

#[test]
fn print_goes_nowhere_and_the_collector_is_left_alone() {
    check(
        "print('x') return {collectgarbage('count') > 10, collectgarbage(), collectgarbage('step')}",
        r#"{"1":true,"2":0,"3":0}"#,
    );
}

#[test]
fn a_program_is_checked_without_running_it() {
    let checked = |source: &str| {
        let program = Program { language: Language::Lua, name: "price".into(), source: source.into() };
        wait(sandbox().check(TenantId::new("acme"), program))
    };
    assert_eq!(checked("while true do end return {}"), Ok(()));
    assert_eq!(checked(&format!("return {{'{}'}}", "x".repeat(60_000))), Ok(()));
    let error = checked("local x =\nreturn {x}").unwrap_err();
    assert_eq!(error.code, ErrorCode::LuaError);
    assert_eq!(error.message, "price:2: unexpected symbol near 'return'");
    assert_eq!(error.details.unwrap().to_value()["line"], 2);
}
