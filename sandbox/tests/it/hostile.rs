//! Scripts that mean harm: each ends with its code within its limit, and the next step sees nothing of it.

use crate::harness::{Case, script};
use agentruntime_host_api::{ErrorCode, StepError};
use std::time::{Duration, Instant};

const WALL: Duration = Duration::from_millis(300);

/// Runs a hostile script, and afterwards a harmless one of another tenant.
#[track_caller]
fn hostile(case: Case, code: ErrorCode) -> StepError {
    let begun = Instant::now();
    let error = case.limits(|limits| limits.time = WALL).fails(code);
    // Ticks come every few milliseconds; the rest is for a busy machine.
    assert!(begun.elapsed() < WALL + Duration::from_secs(2), "it ended after {:?}", begun.elapsed());
    a_harmless_step_works();
    error
}

#[track_caller]
fn a_harmless_step_works() {
    let source = "return {sum = input.a + 1, up = ('x'):upper(), secret = hidden, t = tostring(getmetatable('').leak), l = leaked,
        p = tostring(pcall == nil), n = next({}) == nil, j = json.encode{1}, len = #'abc', r = math.random(1, 1)}";
    let text = script(source).tenant("globex").input(r#"{"a":1}"#).text();
    assert_eq!(
        text,
        r#"{"j":"[1]","l":null,"len":3,"n":true,"p":"false","r":1,"sum":2,"t":"nil","up":"X"}"#
            .replace(r#""l":null,"#, "")
    );
}

#[test]
fn loops_without_end_are_stopped() {
    for source in [
        "while true do end",
        "repeat until false",
        "goto a ::a:: goto a",
        "local function f() return f() end return f()",
        "while true do pcall(error) end",
        "while true do pcall(function() while true do end end) end",
        "local function f() pcall(f) while true do end end f()",
        "while true do local ok = xpcall(error, function() while true do end end) end",
        "setmetatable({}, {__gc = function() while true do end end}) for i = 1, 1e9 do local t = {} end",
        "do local t <close> = setmetatable({}, {__close = function() while true do end end}) end return {}",
        "pcall(function() local t <close> = setmetatable({}, {__close = function() while true do end end}) error('x') end)",
        "for w in coroutine.wrap(function() while true do coroutine.yield(1) end end) do end",
        "coroutine.wrap(function() while true do end end)()",
        "table.sort({3, 2, 1}, function() while true do end end)",
        "return setmetatable({}, {__index = function() while true do end end}).x",
        "for k in pairs(setmetatable({}, {__pairs = function() return function() return 1 end end})) do end",
        "string.rep('x', 1e9, ''):rep(1) while true do end",
    ] {
        let code =
            if source.starts_with("string.rep") { ErrorCode::SandboxMemoryLimit } else { ErrorCode::StepTimeout };
        hostile(script(source), code);
    }
}

#[test]
fn patterns_that_go_back_for_ever_are_stopped() {
    let error = hostile(script("return {(('a'):rep(40)):find(('a*'):rep(40) .. 'b')}"), ErrorCode::StepTimeout);
    assert!(error.message.contains("0.3 s"), "{}", error.message);
    hostile(script("return {(('a'):rep(5000)):gsub(('.-'):rep(20) .. 'x', '')}"), ErrorCode::StepTimeout);
}

#[test]
fn memory_bombs_end_at_the_memory_limit() {
    for source in [
        "local t = {} while true do t[#t + 1] = {} end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local s = 'x' while true do s = s .. s end",
        "return {('x'):rep(1 << 40)}",
        "return {('x'):rep(1 << 30)}",
        "return {('x'):rep((1 << 31) - 100)}",
        "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(100000) .. i end",
        "local t = {} while true do t = {t} end",
        "return {table.concat(setmetatable({}, {}), '', 1, 0), table.concat({('x'):rep(3e7), ('y'):rep(3e7)})}",
        "local function f(...) f(1, ...) end f()",
        "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
        "local t = {} for i = 1, 1e9 do t['k' .. i] = function() return i end end",
        "local t = {} while true do pcall(function() while true do t[#t + 1] = {} end end) end",
        "return {table.unpack({}, 1, 1e7)}",
        "assert(load(function() return ('x = 1 '):rep(10000) end))",
        "return {string.format('%99.99f', 1):rep(1e7)}",
        "local b = {} for i = 1, 100 do b[i] = 'x' end return {#string.pack('s4', ('x'):rep(5e7))}",
    ] {
        let error =
            script(source).limits(|limits| limits.time = Duration::from_secs(20)).run().map(|output| output.json);
        let error = error.expect_err(source);
        let is_clean = error.code == ErrorCode::SandboxMemoryLimit
            || (error.code == ErrorCode::LuaError
                && ["resulting string too large", "stack overflow", "too many results"]
                    .iter()
                    .any(|m| error.message.contains(m)))
            || (error.code == ErrorCode::StepTimeout && source.contains("while true do pcall"));
        assert!(is_clean, "{source}: {error}");
        a_harmless_step_works();
    }
}

#[test]
fn a_script_can_catch_a_want_of_memory_and_go_on() {
    let text = script(
        "local ok, e = pcall(function() local t = {} while true do t[#t + 1] = {} end end)
         local ok2 = pcall(string.rep, 'x', 1e8)
         return {ok = ok, e = e, ok2 = ok2, s = #('x'):rep(1e6)}",
    );
    assert_eq!(text.text(), r#"{"e":"not enough memory","ok":false,"ok2":false,"s":1000000}"#);
    let thrown_again = "local ok, e = pcall(string.rep, 'x', 1e8) error(e)";
    hostile(script(thrown_again), ErrorCode::SandboxMemoryLimit);
    hostile(script("local ok, e = pcall(string.rep, 'x', 1e8) error('other')"), ErrorCode::LuaError);
}

#[test]
fn recursion_ends_in_an_error_of_the_script() {
    for source in [
        "local function f() return 1 + f() end return {f()}",
        "local function f(x) return f(x) .. 'x' end return {f('')}",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return {t.x}",
        "local t = setmetatable({}, {}) getmetatable(t).__index = t return {t.x}",
        "local function f() return (('x'):gsub('x', f)) end return {f()}",
        "local function f() return coroutine.wrap(f)() end return {f()}",
        "local t = setmetatable({}, {}) getmetatable(t).__tostring = function() return tostring(t) end return {tostring(t)}",
        "local function f() return table.sort({1, 2, 3}, f) end f()",
        "local s = ('('):rep(1000) .. '1' .. (')'):rep(1000) assert(load('return ' .. s))",
        "local s = ('{'):rep(1000) .. ('}'):rep(1000) assert(load('return ' .. s))",
        "assert(load(('a='):rep(5000) .. '1'))",
        "local t = setmetatable({}, {__concat = function(a, b) return a .. b end}) return {t .. 'x'}",
        "local f = function() end for i = 1, 300 do local g = f f = function() return select(2, pcall(g)) end end error(('x'):find(('('):rep(300)))",
        "local function f() local ok, e = pcall(f) error(e, 0) end f()",
        "local function f() return xpcall(f, f) end local ok, e = f() error('end')",
        "return {string.format(('%s'):rep(100), table.unpack({}, 1, 100))} , error('end')",
        "return {(('x'):rep(200000)):match(('(.-)'):rep(31) .. ('x?'):rep(200) .. 'y')}",
    ] {
        let error = script(source).limits(|limits| limits.time = Duration::from_millis(1500)).run().expect_err(source);
        let is_clean =
            matches!(error.code, ErrorCode::LuaError | ErrorCode::SandboxMemoryLimit | ErrorCode::StepTimeout);
        assert!(is_clean, "{source}: {error}");
        a_harmless_step_works();
    }
}

#[test]
fn output_that_is_huge_or_contains_itself_ends_at_the_output_limit() {
    let error = hostile(script("local t = {} t.t = t return t"), ErrorCode::SandboxOutputLimit);
    assert!(error.message.contains("a table contains itself"), "{}", error.message);
    hostile(script("local a, b = {}, {} a.b = b b.a = {a} return {v = a}"), ErrorCode::SandboxOutputLimit);
    let error = hostile(script("return {('x'):rep(1 << 21)}"), ErrorCode::SandboxOutputLimit);
    assert!(error.message.contains("longer than the 1048576 bytes"), "{}", error.message);
    hostile(script("local t = {'x'} for i = 1, 40 do t = {t, t} end return {v = t}"), ErrorCode::SandboxOutputLimit);
    hostile(script("local t = {} for i = 1, 5e5 do t[i] = i end return {v = t}"), ErrorCode::SandboxOutputLimit);
    hostile(script("local t = {1} for i = 1, 200 do t = {t} end return {v = t}"), ErrorCode::SandboxOutputLimit);
}

#[test]
fn what_is_returned_is_read_without_running_anything() {
    let trap =
        "setmetatable(%s, {__pairs = error, __len = error, __index = error, __tostring = error, __call = error})";
    let text = script(&format!("return {}", trap.replace("%s", "{a = {1, 2}}"))).text();
    assert_eq!(text, r#"{"a":[1,2]}"#);
    let text = script(&format!("return {{v = {}}}", trap.replace("%s", "{1, 2}"))).text();
    assert_eq!(text, r#"{"v":[1,2]}"#);
    let error = script(&format!("error({})", trap.replace("%s", "{a = 1}"))).fails(ErrorCode::LuaError);
    assert_eq!(error.message, r#"{"a":1}"#);
    let error =
        script("error(setmetatable({}, {__tostring = function() while true do end end}))").fails(ErrorCode::LuaError);
    assert_eq!(error.message, "{}");
    let gc = "local t = {} setmetatable({}, {__gc = function() for k in pairs(t) do t[k] = nil end error('gc') end})
        for i = 1, 20000 do t['k' .. i] = {i} end return {n = t}";
    assert!(script(gc).run().is_ok());
}

#[test]
fn what_a_script_changes_lasts_no_longer_than_it() {
    for source in [
        "getmetatable('').__index = function() return 'leak' end getmetatable('').leak = 1 return {}",
        "string.upper = nil string.rep = error return {}",
        "hidden, leaked = 'canary', true _G.pcall = nil return {}",
        "for k in pairs(_G) do if k ~= '_G' then _G[k] = nil end end return {}",
        "math.random = function() return 4 end json.encode = error next = nil return {}",
        "setmetatable(_G, {__index = function(_, k) return 'leak' end, __newindex = error}) return {}",
        "coroutine.wrap = nil table.sort = nil select = nil return {}",
        "local mt = getmetatable(input.list) mt.__index = function() return 'leak' end mt.__len = error return {}",
    ] {
        assert!(script(source).input(r#"{"list":[]}"#).run().is_ok(), "{source}");
        a_harmless_step_works();
    }
}

#[test]
fn memory_of_another_step_cannot_be_seen() {
    let canary = "canary-4711-of-acme";
    for _ in 0..8 {
        script("local t = {} for i = 1, 20000 do t[i] = input.secret .. i end return {}")
            .input(&format!(r#"{{"secret":"{canary}"}}"#))
            .run()
            .unwrap();
    }
    // Fresh memory is handed out by these; a buffer that is not cleared would show in what they return.
    let text = script(
        "local out = {} for i = 1, 200 do out[i] = ('%s'):format(('\\0'):rep(1000)) end
         return {found = table.concat(out):find('canary', 1, true) ~= nil, g = canary, s = steps.secret}",
    );
    assert_eq!(text.tenant("globex").text(), r#"{"found":false}"#);
}

#[test]
fn globals_of_another_step_are_not_there() {
    script("shared = {1} steps.mine = {result = 1} input.x = 'changed' return {}").input("{}").run().unwrap();
    let text = script("return {tostring(shared), tostring(steps.mine), tostring(input.x)}").input("{}").text();
    assert_eq!(text, r#"{"1":"nil","2":"nil","3":"nil"}"#);
}

#[test]
fn odd_programs_are_errors_and_nothing_worse() {
    for source in [
        "",
        "\0",
        "return",
        "#!/bin/lua\nreturn 1",
        "return {",
        "\u{feff}return 1",
        "\x1bLua",
        "return {} return",
        "::a:: ::a::",
        "local x <const> = 1 x = 2",
        "goto nowhere",
        "break",
        "return '\\xzz'",
        "return 0x",
        "--[[",
        "return [==[",
    ] {
        script(source).fails(ErrorCode::LuaError);
    }
    let locals = (0..300).map(|i| format!("local a{i} = {i}\n")).collect::<String>();
    script(&locals).fails(ErrorCode::LuaError);
    script(&format!("return {{{}}}", "{".repeat(60_000))).fails(ErrorCode::LuaError);
    script(&"x".repeat(65_000)).fails(ErrorCode::LuaError);
}
