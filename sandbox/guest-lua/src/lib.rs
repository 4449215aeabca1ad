//! The Lua interpreter that runs inside the sandbox.
//!
//! Owns the language as a script sees it: its libraries, its JSON, its requests and its errors. It imports nothing that
//! acts: what a script asks for leaves as data, as the result of [`start`] or [`resume`].
//!
//! A result is the place and length of bytes whose first is 0 (done, then the JSON), 1 (requests) or 2 (failed).

mod guest;
mod heap;
mod json;
mod json_read;
mod json_write;
mod report;
mod requests;
mod setup;
mod wire;

use core::ffi::c_int;
use guest::guest;
use json_write::{Top, push_text};
use mlua_sys::*;

/// The first byte of an outcome that is an output.
const TAG_DONE: u8 = 0;
/// Messages up to this length are written to [`MESSAGE`], which lies beside what a step touches anyway.
const MESSAGE_BYTES: usize = 2 << 10;
/// Memory that is not Lua's: the message, the output, the stack and the interpreter's own data.
const OWN_BYTES: usize = 1 << 20;

/// Where the host writes a short message.
#[unsafe(no_mangle)]
pub static mut MESSAGE: [u8; MESSAGE_BYTES] = [0; MESSAGE_BYTES];

/// Sets the interpreter up, before the snapshot is taken.
#[unsafe(export_name = "wizer-initialize")]
pub extern "C" fn initialize() {
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    // SAFETY: nothing else runs. Calling the constructors by name keeps the linker from wrapping every export into a
    // call of them.
    unsafe {
        __wasm_call_ctors();
        setup::set_up();
    }
}

/// Room for a long message; 0 where there is none.
#[unsafe(no_mangle)]
pub extern "C" fn alloc(len: usize) -> *mut u8 {
    // SAFETY: the host gives the block back as the message of the call that follows.
    unsafe { heap::message(len) }
}

/// Runs a script up to its end or its first requests.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn start(message: *mut u8) -> u64 {
    let guest = guest();
    guest.message = message;
    // SAFETY: the script runs in protected mode.
    unsafe {
        lua_pushcclosure(guest.script, body, 0);
        run()
    }
}

/// Goes on with the replies.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn resume(message: *mut u8) -> u64 {
    guest().message = message;
    // SAFETY: as for `start`.
    unsafe { run() }
}

/// Compiles a script and runs nothing of it.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn check(message: *mut u8) -> u64 {
    let guest = guest();
    guest.message = message;
    // SAFETY: as for `start`.
    unsafe {
        lua_pushcclosure(guest.script, compile, 0);
        run()
    }
}

unsafe fn run() -> u64 {
    unsafe {
        let guest = guest();
        let mut results = 0;
        let status = lua_resume(guest.script, guest.lua, 0, &mut results);
        if guest.message != (&raw const MESSAGE).cast() {
            heap::free_message(guest.message.cast_mut());
        }
        if status == LUA_YIELD && requests::is_request(guest.script, results) {
            lua_settop(guest.script, -2);
        } else if status != LUA_OK {
            report::write(status);
        }
        requests::result_of(guest)
    }
}

/// The body of the script's coroutine: reads what the step is given, runs the source, writes its output.
unsafe extern "C-unwind" fn body(lua: *mut lua_State) -> c_int {
    unsafe {
        let guest = guest();
        let mut message = wire::Reader::new(guest.message);
        limit(message.u32() as usize);
        guest.output_limit = message.u32() as usize;
        seed(message.u64());
        let (name, source) = (message.text(), message.text());
        lua_rawgeti(lua, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
        for _ in 0..message.u32() {
            let name = message.text();
            requests::set_global(lua, name, message.text());
        }
        steps(lua, &mut message);
        lua_settop(lua, 0);
        load(lua, name, source);
        lua_callk(lua, 0, 1, 0, Some(finish));
        finish(lua, LUA_OK, 0)
    }
}

fn limit(memory: usize) {
    let heap = &mut guest().heap;
    heap.limit = memory.saturating_sub(OWN_BYTES + report::RESERVE_BYTES).max(OWN_BYTES);
}

/// Seeds `math.random`: four numbers from one by the generator that is customary for it (SplitMix64).
fn seed(mut entropy: u64) {
    for i in 0..4 {
        entropy = entropy.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = entropy;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // SAFETY: the state has four words.
        unsafe { guest().random.add(i).write(mixed ^ (mixed >> 31)) };
    }
}

/// Makes the table `steps`: each entry under its id, and under the id with underscores where that name is free.
unsafe fn steps(lua: *mut lua_State, message: &mut wire::Reader) {
    unsafe {
        let count = message.u32();
        lua_pushstring(lua, c"steps".as_ptr());
        lua_createtable(lua, 0, count as c_int);
        let mut again = *message;
        for _ in 0..count {
            let id = message.text();
            lua_pushlstring(lua, id.as_ptr().cast(), id.len());
            requests::push_json(lua, message.text());
            lua_rawset(lua, 3);
        }
        for _ in 0..count {
            let id = again.text();
            again.text();
            if id.contains(&b'-') {
                alias(lua, id);
            }
        }
        lua_rawset(lua, 1);
    }
}

unsafe fn alias(lua: *mut lua_State, id: &[u8]) {
    unsafe {
        let copy = lua_newuserdatauv(lua, id.len(), 0).cast::<u8>();
        for (i, &byte) in id.iter().enumerate() {
            copy.add(i).write(if byte == b'-' { b'_' } else { byte });
        }
        lua_pushlstring(lua, copy.cast(), id.len());
        lua_pushvalue(lua, -1);
        if lua_rawget(lua, 3) == LUA_TNIL {
            lua_settop(lua, -2);
            lua_pushlstring(lua, id.as_ptr().cast(), id.len());
            lua_rawget(lua, 3);
            lua_rawset(lua, 3);
        }
        lua_settop(lua, 3);
    }
}

unsafe extern "C-unwind" fn compile(lua: *mut lua_State) -> c_int {
    unsafe {
        let mut message = wire::Reader::new(guest().message);
        limit(message.u32() as usize);
        let (name, source) = (message.text(), message.text());
        load(lua, name, source);
        guest().out.clear();
        guest().out.limit = usize::MAX;
        _ = guest().out.push(&[TAG_DONE, b'{', b'}']);
        0
    }
}

/// Pushes the source as a function; errors in it are raised.
unsafe fn load(lua: *mut lua_State, name: &[u8], source: &[u8]) {
    unsafe {
        // Lua shows a name after `=` as it is, in its messages and tracebacks.
        lua_pushstring(lua, c"=".as_ptr());
        lua_pushlstring(lua, name.as_ptr().cast(), name.len());
        lua_concat(lua, 2);
        let name = lua_tolstring(lua, 1, core::ptr::null_mut());
        if luaL_loadbufferx(lua, source.as_ptr().cast(), source.len(), name, c"t".as_ptr()) != LUA_OK {
            lua_error(lua);
        }
    }
}

/// Writes what the script returned.
unsafe extern "C-unwind" fn finish(lua: *mut lua_State, _status: c_int, _: lua_KContext) -> c_int {
    unsafe {
        let guest = guest();
        if lua_type(lua, -1) != LUA_TTABLE {
            let kind = core::ffi::CStr::from_ptr(lua_typename(lua, lua_type(lua, -1))).to_string_lossy();
            push_text(
                lua,
                &format!("a script must return a table, such as `return {{ total = 1 }}`; this one returned {kind}"),
            );
            lua_error(lua);
        }
        // From here on nothing of the script runs any more, not even a finalizer.
        lua_gc(lua, LUA_GCSTOP);
        guest.out.clear();
        guest.out.limit = guest.output_limit.saturating_add(1);
        let written = guest.out.push(&[TAG_DONE]);
        debug_assert!(written.is_ok());
        if let Err((failure, message)) = json::write(lua, Top::Output, "the output") {
            guest.failure = failure;
            push_text(lua, &message);
            lua_error(lua);
        }
        0
    }
}
