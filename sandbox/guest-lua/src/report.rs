//! How a failed script is described: its message, the author's line, and a traceback.
//!
//! Never calls a metamethod of the error object, which may be hostile.

use crate::guest::{Failure, guest};
use crate::json;
use crate::json_write::{Top, push_text};
use core::ffi::c_int;
use mlua_sys::*;

/// The first byte of an outcome that is a failure.
pub const TAG_FAILED: u8 = 2;
/// Memory beyond its limit that the description of a failure may use.
pub const RESERVE_BYTES: usize = 256 << 10;
const MESSAGE_BYTES_MAX: usize = 4 << 10;
const TRACEBACK_BYTES_MAX: usize = 8 << 10;
const VALUE_BYTES_MAX: usize = 16 << 10;
const NO_MEMORY: &[u8] = b"not enough memory";

/// Writes the failure of the script, whose error object is the last value on its stack.
pub unsafe fn write(status: c_int) {
    unsafe {
        let guest = guest();
        guest.heap.limit = guest.heap.limit.saturating_add(RESERVE_BYTES);
        guest.out.limit = usize::MAX;
        if status == LUA_ERRMEM {
            guest.failure = Failure::Memory;
        }
        lua_settop(guest.lua, 0);
        lua_gc(guest.lua, LUA_GCSTOP);
        lua_pushcclosure(guest.lua, describe, 0);
        if lua_pcallk(guest.lua, 0, 0, 0, 0, None) != LUA_OK {
            guest.out.clear();
            _ = put(guest.failure, 0, b"", NO_MEMORY, b"");
        }
    }
}

fn put(failure: Failure, line: u32, code: &[u8], message: &[u8], traceback: &[u8]) -> Result<(), crate::wire::Full> {
    let out = &mut guest().out;
    out.push(&[TAG_FAILED, failure as u8])?;
    out.u32(line)?;
    out.text(code)?;
    out.text(clipped(message, MESSAGE_BYTES_MAX))?;
    out.text(clipped(traceback, TRACEBACK_BYTES_MAX))
}

fn clipped(text: &[u8], max: usize) -> &[u8] {
    &text[..text.len().min(max)]
}

/// The value of the error as JSON goes first into the output, then the whole description.
unsafe extern "C-unwind" fn describe(lua: *mut lua_State) -> c_int {
    unsafe {
        let script = guest().script;
        lua_pushvalue(script, -1);
        lua_xmove(script, lua, 1);
        let value = if lua_type(lua, 1) == LUA_TTABLE { value_as_json(lua) } else { String::new() };
        let code = if is_reply(lua) { field(lua, "code") } else { None };
        let message = match lua_type(lua, 1) {
            LUA_TSTRING => string(lua, 1).to_vec(),
            LUA_TTABLE => field(lua, "message").unwrap_or_else(|| value.clone().into_bytes()),
            LUA_TNUMBER => {
                lua_pushvalue(lua, 1);
                string(lua, -1).to_vec()
            }
            LUA_TBOOLEAN if lua_toboolean(lua, 1) != 0 => b"true".to_vec(),
            LUA_TBOOLEAN => b"false".to_vec(),
            LUA_TNIL => b"the script raised an error without a value (nil)".to_vec(),
            _ => b"the script raised an error with a value that cannot be shown".to_vec(),
        };
        let mut line = current_line(script);
        if line == 0 {
            line = line_of(&message);
        }
        lua_settop(lua, 1);
        luaL_traceback(lua, script, core::ptr::null(), 0);
        let traceback = if current_line(script) == 0 { &[] } else { string(lua, -1) };
        let guest = guest();
        let mut failure = guest.failure;
        if failure == Failure::Script {
            if code.is_some() {
                failure = Failure::Request;
            } else if guest.heap.refused && message.ends_with(NO_MEMORY) {
                failure = Failure::Memory;
            }
        }
        guest.out.clear();
        let written = put(failure, line, &code.unwrap_or_default(), &message, traceback);
        if written.and_then(|()| guest.out.text(value.as_bytes())).is_err() {
            guest.out.clear();
            _ = put(Failure::Memory, 0, b"", NO_MEMORY, b"").and_then(|()| guest.out.text(b""));
        }
        0
    }
}

/// An error object as JSON, or nothing where it has no such form.
unsafe fn value_as_json(lua: *mut lua_State) -> String {
    unsafe {
        let guest = guest();
        guest.out.clear();
        guest.out.limit = VALUE_BYTES_MAX;
        lua_pushvalue(lua, 1);
        let written = json::write(lua, Top::Value, "the error");
        lua_settop(lua, 1);
        guest.out.limit = usize::MAX;
        match written {
            Ok(()) => String::from_utf8_lossy(guest.out.since(0)).into_owned(),
            Err(_) => String::new(),
        }
    }
}

unsafe fn is_reply(lua: *mut lua_State) -> bool {
    unsafe {
        if lua_type(lua, 1) != LUA_TTABLE || lua_getmetatable(lua, 1) == 0 {
            return false;
        }
        let is_reply = lua_topointer(lua, -1) == guest().error_metatable;
        lua_settop(lua, 1);
        is_reply
    }
}

unsafe fn field(lua: *mut lua_State, name: &str) -> Option<Vec<u8>> {
    unsafe {
        push_text(lua, name);
        let kind = lua_rawget(lua, 1);
        let text = if kind == LUA_TSTRING { Some(string(lua, -1).to_vec()) } else { None };
        lua_settop(lua, 1);
        text
    }
}

unsafe fn string(lua: *mut lua_State, index: c_int) -> &'static [u8] {
    unsafe {
        let mut len = 0;
        let start = lua_tolstring(lua, index, &mut len);
        core::slice::from_raw_parts(start.cast(), len)
    }
}

/// The line at which the script stood.
unsafe fn current_line(script: *mut lua_State) -> u32 {
    unsafe {
        let mut frame: lua_Debug = core::mem::zeroed();
        let mut level = 0;
        while level < 50 && lua_getstack(script, level, &mut frame) != 0 {
            lua_getinfo(script, c"l".as_ptr(), &mut frame);
            if let Ok(line @ 1..) = u32::try_from(frame.currentline) {
                return line;
            }
            level += 1;
        }
        0
    }
}

/// The line that a message such as `price:3: unexpected symbol` names.
fn line_of(message: &[u8]) -> u32 {
    let mut parts = message.split(|&byte| byte == b':').skip(1);
    let digits = parts.next().and_then(|part| core::str::from_utf8(part).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
