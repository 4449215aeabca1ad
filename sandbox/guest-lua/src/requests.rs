//! What a script asks of its host: the library `host`, requests by their own names, and the coroutine library made to let
//! requests through.
//!
//! A request stops the script by a yield that returns to the host, and goes on when the host has replied. A script's own
//! coroutines would catch that yield, so `coroutine.resume` and `coroutine.wrap` pass it on to the outside.
//! Where Lua cannot yield, an error says so at the place of the request.

use crate::guest::{Guest, guest};
use crate::json;
use crate::json_read::{DEPTH_SCOPE_MAX, JsonReader};
use crate::json_write::{Top, push_text};
use crate::wire::Reader;
use core::ffi::{CStr, c_int, c_void};
use mlua_sys::*;

/// What a yield to the host carries; no script can get hold of its address as a value.
static MARK: u8 = 0;
/// The first byte of an outcome that asks for replies.
pub const TAG_REQUESTS: u8 = 1;

/// What becomes of the replies.
const ONE: lua_KContext = 0;
const ALL: lua_KContext = 1;
const SETTLE: lua_KContext = 2;

const CANNOT_WAIT: &str = "a request cannot wait for its reply here: Lua cannot pause inside a string.gsub callback, a \
    table.sort comparator, a metamethod, a finalizer or load; make the requests before, keep their results in a table \
    and use the table here";

pub unsafe fn open(lua: *mut lua_State) {
    unsafe {
        let host: [(&CStr, lua_CFunction); 3] = [(c"call", call), (c"all", all), (c"settle", settle)];
        lua_createtable(lua, 0, 4);
        set_functions(lua, &host);
        lua_setglobal(lua, c"host".as_ptr());
        lua_createtable(lua, 0, 1);
        set_named(lua, c"http.fetch", fetch);
        lua_setfield(lua, -2, c"fetch".as_ptr());
        lua_setglobal(lua, c"http".as_ptr());
        set_named(lua, c"crypto.hmac", hmac);
        lua_setglobal(lua, c"hmac".as_ptr());
        let coroutine: [(&CStr, lua_CFunction); 3] = [(c"resume", resume), (c"wrap", wrap), (c"yield", yield_)];
        lua_getglobal(lua, c"coroutine".as_ptr());
        set_functions(lua, &coroutine);
        lua_settop(lua, 0);
    }
}

unsafe fn set_functions(lua: *mut lua_State, functions: &[(&CStr, lua_CFunction)]) {
    unsafe {
        for &(name, function) in functions {
            lua_pushcclosure(lua, function, 0);
            lua_setfield(lua, -2, name.as_ptr());
        }
    }
}

/// Pushes a function that knows the capability it asks for.
unsafe fn set_named(lua: *mut lua_State, capability: &CStr, function: lua_CFunction) {
    unsafe {
        lua_pushstring(lua, capability.as_ptr());
        lua_pushcclosure(lua, function, 1);
    }
}

fn mark() -> *mut c_void {
    (&raw const MARK).cast_mut().cast()
}

/// `host.call(capability, arguments)`
unsafe extern "C-unwind" fn call(lua: *mut lua_State) -> c_int {
    unsafe {
        luaL_checklstring(lua, 1, core::ptr::null_mut());
        lua_settop(lua, 2);
        begin(lua, 1);
        request(lua, 1, 2);
        pause(lua, ONE)
    }
}

/// `http.fetch{ url = …, … }`, or an address alone
unsafe extern "C-unwind" fn fetch(lua: *mut lua_State) -> c_int {
    unsafe {
        lua_settop(lua, 1);
        if lua_type(lua, 1) == LUA_TSTRING {
            lua_createtable(lua, 0, 1);
            lua_rotate(lua, 1, 1);
            lua_setfield(lua, 1, c"url".as_ptr());
        }
        luaL_checktype(lua, 1, LUA_TTABLE);
        ask(lua)
    }
}

/// `hmac(secret, data)`
unsafe extern "C-unwind" fn hmac(lua: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(lua, 1, LUA_TTABLE);
        luaL_checklstring(lua, 2, core::ptr::null_mut());
        lua_settop(lua, 2);
        lua_createtable(lua, 0, 2);
        lua_rotate(lua, 1, 1);
        lua_setfield(lua, 1, c"data".as_ptr());
        lua_setfield(lua, 1, c"secret".as_ptr());
        ask(lua)
    }
}

/// Asks for the function's own capability; the arguments are the only value on the stack.
unsafe fn ask(lua: *mut lua_State) -> c_int {
    unsafe {
        lua_pushvalue(lua, lua_upvalueindex(1));
        lua_rotate(lua, 1, 1);
        begin(lua, 1);
        request(lua, 1, 2);
        pause(lua, ONE)
    }
}

/// `host.all{ {capability, arguments}, … }`
unsafe extern "C-unwind" fn all(lua: *mut lua_State) -> c_int {
    unsafe { several(lua, ALL) }
}

/// `host.settle{ {capability, arguments}, … }`
unsafe extern "C-unwind" fn settle(lua: *mut lua_State) -> c_int {
    unsafe { several(lua, SETTLE) }
}

unsafe fn several(lua: *mut lua_State, what: lua_KContext) -> c_int {
    unsafe {
        luaL_checktype(lua, 1, LUA_TTABLE);
        lua_settop(lua, 1);
        let count = lua_rawlen(lua, 1) as i64;
        if count == 0 {
            lua_createtable(lua, 0, 0);
            lua_rawgeti(lua, LUA_REGISTRYINDEX, guest().array_ref);
            lua_setmetatable(lua, -2);
            return 1;
        }
        begin(lua, count as u32);
        for i in 1..=count {
            lua_rawgeti(lua, 1, i);
            if lua_type(lua, 2) != LUA_TTABLE {
                return json::raise(lua, format!("request {i} is not a table of the form {{capability, arguments}}"));
            }
            lua_rawgeti(lua, 2, 1);
            lua_rawgeti(lua, 2, 2);
            if lua_type(lua, 3) != LUA_TSTRING {
                return json::raise(lua, format!("request {i} does not begin with the name of a capability"));
            }
            request(lua, 3, 4);
            lua_settop(lua, 1);
        }
        pause(lua, what)
    }
}

unsafe fn begin(lua: *mut lua_State, count: u32) {
    unsafe {
        if lua_isyieldable(lua) == 0 {
            json::raise(lua, CANNOT_WAIT.into());
        }
        let guest = guest();
        guest.out.clear();
        guest.out.limit = guest.output_limit;
        or_raise(lua, guest.out.push(&[TAG_REQUESTS]).and_then(|()| guest.out.u32(count)));
    }
}

/// Writes one request; its arguments are the last value on the stack.
unsafe fn request(lua: *mut lua_State, capability: c_int, arguments: c_int) {
    unsafe {
        let guest = guest();
        let mut len = 0;
        let name = lua_tolstring(lua, capability, &mut len);
        let name = core::slice::from_raw_parts(name.cast::<u8>(), len);
        check_secrets(lua, name, arguments);
        or_raise(lua, guest.out.text(name));
        let hole = match guest.out.hole() {
            Ok(hole) => hole,
            Err(_) => return or_raise(lua, guest.out.push(&[0; 4])),
        };
        if lua_type(lua, arguments) == LUA_TNIL {
            or_raise(lua, guest.out.push(b"{}"));
        } else if let Err((_, message)) = json::write(lua, Top::Value, "the arguments of a request") {
            json::raise(lua, message);
        }
        guest.out.fill(hole);
    }
}

/// Refuses what looks like a secret and was not made by `secret()`. A value of the step's data that is put where a secret can
/// stand would else let whoever gave the data choose one of the step's secrets.
unsafe fn check_secrets(lua: *mut lua_State, capability: &[u8], arguments: c_int) {
    unsafe {
        if lua_type(lua, arguments) != LUA_TTABLE {
            return;
        }
        match capability {
            b"http.fetch" => {
                lua_pushstring(lua, c"headers".as_ptr());
                if lua_rawget(lua, arguments) == LUA_TTABLE {
                    lua_pushnil(lua);
                    while lua_next(lua, -2) != 0 {
                        check_secret(lua, "a header");
                        lua_settop(lua, -2);
                    }
                }
                lua_settop(lua, -2);
            }
            b"crypto.hmac" => {
                lua_pushstring(lua, c"secret".as_ptr());
                lua_rawget(lua, arguments);
                check_secret(lua, "what signs");
                lua_settop(lua, -2);
            }
            _ => {}
        }
    }
}

/// The last value on the stack may be a table only where `secret()` made it.
unsafe fn check_secret(lua: *mut lua_State, what: &str) {
    unsafe {
        if lua_type(lua, -1) != LUA_TTABLE {
            return;
        }
        let is_made = lua_getmetatable(lua, -1) != 0 && {
            let metatable = lua_topointer(lua, -1);
            lua_settop(lua, -2);
            metatable == guest().secret_metatable
        };
        if !is_made {
            let message = "is a table that `secret` did not make; make a text of data: tostring(value)";
            json::raise(lua, format!("{what} {message}"));
        }
    }
}

unsafe fn or_raise(lua: *mut lua_State, written: Result<(), crate::wire::Full>) {
    if written.is_err() {
        let limit = guest().output_limit;
        unsafe { json::raise(lua, format!("the requests are longer than the {limit} bytes that they may have")) };
    }
}

unsafe fn pause(lua: *mut lua_State, what: lua_KContext) -> c_int {
    unsafe {
        lua_settop(lua, 0);
        lua_pushlightuserdata(lua, mark());
        lua_yieldk(lua, 1, what, Some(replied))
    }
}

/// Goes on where the request was made.
unsafe extern "C-unwind" fn replied(lua: *mut lua_State, _status: c_int, what: lua_KContext) -> c_int {
    unsafe {
        lua_settop(lua, 0);
        if core::mem::take(&mut guest().cannot_wait) {
            return json::raise(lua, CANNOT_WAIT.into());
        }
        let mut replies = Reader::new(guest().message);
        let count = replies.u32();
        if what == ONE {
            return if push_reply(lua, &mut replies) { 1 } else { lua_error(lua) };
        }
        luaL_checkstack(lua, 8, core::ptr::null());
        lua_createtable(lua, count as c_int, 0);
        lua_rawgeti(lua, LUA_REGISTRYINDEX, guest().array_ref);
        lua_setmetatable(lua, -2);
        for i in 1..=i64::from(count) {
            let good = push_reply(lua, &mut replies);
            if what == SETTLE {
                lua_createtable(lua, 0, 2);
                lua_rotate(lua, -2, 1);
                lua_setfield(lua, -2, if good { c"value".as_ptr() } else { c"error".as_ptr() });
                lua_pushboolean(lua, c_int::from(good));
                lua_setfield(lua, -2, c"ok".as_ptr());
            } else if !good {
                lua_pushinteger(lua, i);
                lua_setfield(lua, -2, c"index".as_ptr());
                lua_error(lua);
            }
            lua_rawseti(lua, 1, i);
        }
        1
    }
}

/// Pushes a value, or an error object and answers false.
unsafe fn push_reply(lua: *mut lua_State, replies: &mut Reader) -> bool {
    unsafe {
        if replies.u32() == 1 {
            push_json(lua, replies.text());
            return true;
        }
        lua_createtable(lua, 0, 4);
        for name in [c"code", c"message"] {
            let text = replies.text();
            lua_pushlstring(lua, text.as_ptr().cast(), text.len());
            lua_setfield(lua, -2, name.as_ptr());
        }
        let details = replies.text();
        if !details.is_empty() {
            push_json(lua, details);
            lua_setfield(lua, -2, c"details".as_ptr());
        }
        lua_rawgeti(lua, LUA_REGISTRYINDEX, guest().error_ref);
        lua_setmetatable(lua, -2);
        false
    }
}

/// Pushes a document of the host.
pub unsafe fn push_json(lua: *mut lua_State, text: &[u8]) {
    unsafe {
        if let Err(wrong) = JsonReader::new(guest(), text, DEPTH_SCOPE_MAX).push(lua) {
            push_text(
                lua,
                &format!("a value given to this step cannot be read: {} at byte {}", wrong.what, wrong.at + 1),
            );
            lua_error(lua);
        }
    }
}

/// `coroutine.yield`, but for the script itself, which has nobody to yield to.
unsafe extern "C-unwind" fn yield_(lua: *mut lua_State) -> c_int {
    unsafe {
        if lua == guest().script {
            return json::raise(lua, "attempt to yield from outside a coroutine".into());
        }
        lua_yieldk(lua, lua_gettop(lua), 0, None)
    }
}

/// `coroutine.resume`
unsafe extern "C-unwind" fn resume(lua: *mut lua_State) -> c_int {
    unsafe {
        let inner = lua_tothread(lua, 1);
        if inner.is_null() {
            return luaL_argerror(lua, 1, c"coroutine expected".as_ptr());
        }
        let arguments = lua_gettop(lua) - 1;
        let step = advance(lua, inner, arguments, resume_continues);
        resumed(lua, step)
    }
}

unsafe extern "C-unwind" fn resume_continues(lua: *mut lua_State, _status: c_int, _: lua_KContext) -> c_int {
    unsafe {
        let step = advance(lua, lua_tothread(lua, 1), 0, resume_continues);
        resumed(lua, step)
    }
}

unsafe fn resumed(lua: *mut lua_State, step: Step) -> c_int {
    unsafe {
        let (good, values) = match step {
            Step::Values(count) => (1, count),
            Step::Error => (0, 1),
        };
        lua_pushboolean(lua, good);
        lua_rotate(lua, -(values + 1), 1);
        values + 1
    }
}

/// `coroutine.wrap`
unsafe extern "C-unwind" fn wrap(lua: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(lua, 1, LUA_TFUNCTION);
        let inner = lua_newthread(lua);
        lua_pushvalue(lua, 1);
        lua_xmove(lua, inner, 1);
        lua_pushcclosure(lua, wrapped, 1);
        1
    }
}

unsafe extern "C-unwind" fn wrapped(lua: *mut lua_State) -> c_int {
    unsafe {
        let inner = lua_tothread(lua, lua_upvalueindex(1));
        let step = advance(lua, inner, lua_gettop(lua), wrapped_continues);
        unwrapped(lua, inner, step)
    }
}

unsafe extern "C-unwind" fn wrapped_continues(lua: *mut lua_State, _status: c_int, _: lua_KContext) -> c_int {
    unsafe {
        let inner = lua_tothread(lua, lua_upvalueindex(1));
        let step = advance(lua, inner, 0, wrapped_continues);
        unwrapped(lua, inner, step)
    }
}

unsafe fn unwrapped(lua: *mut lua_State, inner: *mut lua_State, step: Step) -> c_int {
    unsafe {
        if let Step::Values(count) = step {
            return count;
        }
        let mut status = lua_status(inner);
        if status != LUA_OK && status != LUA_YIELD {
            status = lua_closethread(inner, lua);
            lua_xmove(inner, lua, 1);
        }
        if status != LUA_ERRMEM && lua_type(lua, -1) == LUA_TSTRING {
            luaL_where(lua, 1);
            lua_rotate(lua, -2, 1);
            lua_concat(lua, 2);
        }
        lua_error(lua)
    }
}

/// How an inner coroutine stopped: with values or an error, on the stack of the outer one.
enum Step {
    Values(c_int),
    Error,
}

/// Lets an inner coroutine run. A request that it makes is passed on, and `continues` is where the reply arrives.
unsafe fn advance(lua: *mut lua_State, inner: *mut lua_State, arguments: c_int, continues: lua_KFunction) -> Step {
    unsafe {
        if lua_checkstack(inner, arguments) == 0 {
            lua_pushstring(lua, c"too many arguments to resume".as_ptr());
            return Step::Error;
        }
        lua_xmove(lua, inner, arguments);
        let (mut arguments, mut results) = (arguments, 0);
        loop {
            let status = lua_resume(inner, lua, arguments, &mut results);
            if status != LUA_OK && status != LUA_YIELD {
                lua_xmove(inner, lua, 1);
                return Step::Error;
            }
            if status == LUA_YIELD && is_request(inner, results) {
                lua_settop(inner, -2);
                if lua_isyieldable(lua) != 0 {
                    lua_pushlightuserdata(lua, mark());
                    lua_yieldk(lua, 1, 0, Some(continues));
                }
                // Nobody outside can wait, so the request fails where it was made.
                guest().cannot_wait = true;
                arguments = 0;
                continue;
            }
            if lua_checkstack(lua, results + 1) == 0 {
                lua_settop(inner, -results - 1);
                lua_pushstring(lua, c"too many results to resume".as_ptr());
                return Step::Error;
            }
            lua_xmove(inner, lua, results);
            return Step::Values(results);
        }
    }
}

/// Whether a coroutine stopped for a request.
pub unsafe fn is_request(lua: *mut lua_State, results: c_int) -> bool {
    unsafe { results == 1 && lua_type(lua, -1) == LUA_TLIGHTUSERDATA && lua_touserdata(lua, -1) == mark() }
}

/// Sets a global variable from the host's JSON.
pub unsafe fn set_global(lua: *mut lua_State, name: &[u8], text: &[u8]) {
    unsafe {
        lua_pushlstring(lua, name.as_ptr().cast(), name.len());
        push_json(lua, text);
        lua_rawset(lua, 1);
    }
}

/// The bytes of a result wait in the output until the host has read them.
pub fn result_of(guest: &Guest) -> u64 {
    (guest.out.as_ptr() as u64) << 32 | guest.out.len() as u64
}
