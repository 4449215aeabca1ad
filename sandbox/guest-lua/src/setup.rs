//! The interpreter as the snapshot holds it: which libraries are open and what was taken out of them.
//!
//! Runs once, while the guest is built, and never in a step.

use crate::guest::guest;
use crate::{heap, json, requests};
use core::ffi::{CStr, c_int};
use mlua_sys::*;

/// Room for short outputs.
const OUT_BYTES: usize = 2 << 10;
/// What may be allocated before the collector starts for the first time, in parts of 100 of what the snapshot holds: a
/// short script never pays for a collection.
const FIRST_PAUSE: c_int = 1_000;
const PAUSE: c_int = 200;

/// Opens the interpreter.
pub unsafe fn set_up() {
    unsafe {
        let guest = guest();
        guest.out.reserve_in_snapshot(OUT_BYTES);
        let lua = lua_newstate(heap::serve, (&raw mut guest.heap).cast());
        guest.lua = lua;
        lua_pushcclosure(lua, open, 0);
        if lua_pcall(lua, 0, 0, 0) != LUA_OK {
            let message = CStr::from_ptr(lua_tostring(lua, -1)).to_string_lossy();
            panic!("the interpreter cannot be set up: {message}");
        }
        lua_gc(lua, LUA_GCINC, FIRST_PAUSE, 0, 0);
        lua_gc(lua, LUA_GCCOLLECT);
        lua_gc(lua, LUA_GCINC, PAUSE, 0, 0);
    }
}

unsafe extern "C-unwind" fn open(lua: *mut lua_State) -> c_int {
    unsafe {
        let libraries: [(&CStr, lua_CFunction); 7] = [
            (c"_G", luaopen_base),
            (c"string", luaopen_string),
            (c"table", luaopen_table),
            (c"math", luaopen_math),
            (c"utf8", luaopen_utf8),
            (c"coroutine", luaopen_coroutine),
            (c"os", luaopen_os),
        ];
        for (name, library) in libraries {
            luaL_requiref(lua, name.as_ptr(), library, 1);
            lua_settop(lua, 0);
        }
        find_random(lua);
        make_values(lua);
        json::open(lua);
        requests::open(lua);
        run_prelude(lua);
        let script = lua_newthread(lua);
        guest().script = script;
        luaL_ref(lua, LUA_REGISTRYINDEX);
        lua_checkstack(script, 64);
        intern(lua);
        0
    }
}

/// Finds the state behind `math.random`, so that a step can be given its seed without a call.
unsafe fn find_random(lua: *mut lua_State) {
    unsafe {
        lua_getglobal(lua, c"math".as_ptr());
        lua_getfield(lua, -1, c"random".as_ptr());
        lua_getupvalue(lua, -1, 1);
        guest().random = lua_touserdata(lua, -1).cast();
        lua_settop(lua, 0);
    }
}

/// Makes the values that Rust and Lua both know: null, the mark of lists, the forms of errors and secrets.
unsafe fn make_values(lua: *mut lua_State) {
    unsafe {
        let guest = guest();
        lua_newuserdatauv(lua, 0, 0);
        lua_createtable(lua, 0, 2);
        lua_pushstring(lua, c"null".as_ptr());
        lua_setfield(lua, -2, c"__name".as_ptr());
        lua_pushcclosure(lua, null_text, 0);
        lua_setfield(lua, -2, c"__tostring".as_ptr());
        lua_pushboolean(lua, 0);
        lua_setfield(lua, -2, c"__metatable".as_ptr());
        lua_setmetatable(lua, -2);
        guest.null = lua_topointer(lua, -1);
        guest.null_ref = i64::from(luaL_ref(lua, LUA_REGISTRYINDEX));
        lua_createtable(lua, 0, 0);
        guest.array_metatable = lua_topointer(lua, -1);
        guest.array_ref = i64::from(luaL_ref(lua, LUA_REGISTRYINDEX));
        lua_createtable(lua, 0, 4);
        guest.error_metatable = lua_topointer(lua, -1);
        guest.error_ref = i64::from(luaL_ref(lua, LUA_REGISTRYINDEX));
        lua_createtable(lua, 0, 3);
        guest.secret_metatable = lua_topointer(lua, -1);
        guest.secret_ref = i64::from(luaL_ref(lua, LUA_REGISTRYINDEX));
    }
}

unsafe extern "C-unwind" fn null_text(lua: *mut lua_State) -> c_int {
    unsafe {
        lua_pushstring(lua, c"null".as_ptr());
        1
    }
}

unsafe fn run_prelude(lua: *mut lua_State) {
    unsafe {
        let guest = guest();
        let source = include_bytes!("prelude.lua");
        if luaL_loadbufferx(lua, source.as_ptr().cast(), source.len(), c"=prelude".as_ptr(), c"t".as_ptr()) != LUA_OK {
            lua_error(lua);
        }
        lua_rawgeti(lua, LUA_REGISTRYINDEX, guest.null_ref);
        lua_rawgeti(lua, LUA_REGISTRYINDEX, guest.array_ref);
        lua_rawgeti(lua, LUA_REGISTRYINDEX, guest.error_ref);
        lua_rawgeti(lua, LUA_REGISTRYINDEX, guest.secret_ref);
        lua_pushcclosure(lua, count, 0);
        lua_callk(lua, 5, 0, 0, None);
    }
}

unsafe extern "C-unwind" fn count(lua: *mut lua_State) -> c_int {
    unsafe {
        let kib = lua_gc(lua, LUA_GCCOUNT);
        let rest = lua_gc(lua, LUA_GCCOUNTB);
        lua_pushnumber(lua, f64::from(kib) + f64::from(rest) / 1024.0);
        1
    }
}

/// Names that most steps use: interned here, they cost a step no page.
unsafe fn intern(lua: *mut lua_State) {
    unsafe {
        let names = [
            c"input",
            c"steps",
            c"run",
            c"connection",
            c"item",
            c"index",
            c"foreach",
            c"body",
            c"loop",
            c"result",
            c"iteration",
            c"prev",
            c"run_id",
            c"started_at",
            c"trigger_type",
            c"external_user_id",
            c"user_id",
            c"connection_id",
            c"by_instance",
            c"id",
            c"name",
            c"items",
            c"value",
            c"count",
            c"total",
            c"i",
            c"n",
        ];
        lua_createtable(lua, names.len() as c_int, 0);
        for (i, name) in names.iter().enumerate() {
            lua_pushstring(lua, name.as_ptr());
            lua_rawseti(lua, -2, i as i64 + 1);
        }
        luaL_ref(lua, LUA_REGISTRYINDEX);
    }
}
