//! The library `json`: `encode` and `decode`. The rest of it is in the prelude.

use crate::guest::{Failure, guest};
use crate::json_read::JsonReader;
use crate::json_write::{DEPTH_MAX, JsonWriter, Refusal, Top, push_text};
use core::ffi::c_int;
use mlua_sys::*;

pub unsafe fn open(lua: *mut lua_State) {
    unsafe {
        lua_createtable(lua, 0, 8);
        lua_pushcclosure(lua, encode, 0);
        lua_setfield(lua, -2, c"encode".as_ptr());
        lua_pushcclosure(lua, decode, 0);
        lua_setfield(lua, -2, c"decode".as_ptr());
        lua_setglobal(lua, c"json".as_ptr());
    }
}

unsafe extern "C-unwind" fn encode(lua: *mut lua_State) -> c_int {
    unsafe {
        luaL_checkany(lua, 1);
        lua_settop(lua, 1);
        let guest = guest();
        guest.out.clear();
        guest.out.limit = usize::MAX;
        if let Err((_, message)) = write(lua, Top::Value, "the value given to json.encode") {
            return raise(lua, message);
        }
        let text = guest.out.since(0);
        lua_pushlstring(lua, text.as_ptr().cast(), text.len());
        1
    }
}

unsafe extern "C-unwind" fn decode(lua: *mut lua_State) -> c_int {
    unsafe {
        let mut len = 0;
        let start = luaL_checklstring(lua, 1, &mut len);
        let text = core::slice::from_raw_parts(start.cast(), len);
        let mut reader = JsonReader::new(guest(), text, DEPTH_MAX);
        match reader.push(lua) {
            Ok(()) => 1,
            Err(wrong) => raise(lua, format!("json.decode: {} at byte {}", wrong.what, wrong.at + 1)),
        }
    }
}

/// Writes the value at the top of the stack to the output; an error is its kind and the sentence for the author.
pub unsafe fn write(lua: *mut lua_State, top: Top, what: &str) -> Result<(), (Failure, String)> {
    unsafe {
        let mut writer = JsonWriter::new(guest());
        let refusal = match writer.write(lua, top) {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        let place = writer.place();
        let at = if place.is_empty() { String::new() } else { format!(" at `{place}`") };
        Err(match refusal {
            Refusal::Memory => (Failure::Memory, "not enough memory".into()),
            Refusal::TooLong => {
                (Failure::Output, format!("{what} is longer than the {} bytes that it may have", guest().output_limit))
            }
            Refusal::TooDeep { cyclic } => {
                let why = if cyclic { "a table contains itself" } else { "tables nest too deep" };
                (Failure::Output, format!("{what} nests deeper than {DEPTH_MAX} levels{at}: {why}"))
            }
            Refusal::Value(why) => (Failure::Script, format!("{what} cannot be written as JSON{at}: {why}")),
        })
    }
}

/// Raises an error with the place of the caller before it.
pub unsafe fn raise(lua: *mut lua_State, message: String) -> c_int {
    unsafe {
        luaL_where(lua, 1);
        push_text(lua, &message);
        drop(message);
        lua_concat(lua, 2);
        lua_error(lua)
    }
}
