//! The one interpreter of an instance, and all that is known about the step it runs.
//!
//! Owns the state that the snapshot holds. There is one thread and one step, so there is one [`Guest`], reached through
//! [`guest`]; a reference to it is never kept across a call into Lua that may come back here.

use crate::heap::Heap;
use crate::wire::Writer;
use core::ffi::c_void;
use mlua_sys::*;

/// Everything about the running step.
pub struct Guest {
    pub heap: Heap,
    /// The main state: it runs nothing of the script.
    pub lua: *mut lua_State,
    /// The coroutine that is the script.
    pub script: *mut lua_State,
    /// What the host reads after a call.
    pub out: Writer,
    /// How many bytes of output the step may write.
    pub output_limit: usize,
    /// The message of the host that is being read.
    pub message: *const u8,
    /// A request cannot be made where the script stands.
    pub cannot_wait: bool,
    /// Set where a failure has a code of its own, which no `pcall` can change.
    pub failure: Failure,
    /// The state of `math.random`.
    pub random: *mut u64,
    /// References in Lua's registry, and addresses of what they hold.
    pub null_ref: i64,
    pub null: *const c_void,
    pub array_ref: i64,
    pub array_metatable: *const c_void,
    pub error_ref: i64,
    pub error_metatable: *const c_void,
    pub secret_ref: i64,
    pub secret_metatable: *const c_void,
}

/// Why the step fails, where it is not an error of the script.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub enum Failure {
    /// The script's own error.
    Script = 0,
    /// Not enough memory.
    Memory = 1,
    /// Output too long or too deep.
    Output = 2,
    /// A request failed and the script did not catch it: the code is the one of the reply.
    Request = 3,
}

struct Instance(core::cell::UnsafeCell<Guest>);

// SAFETY: the module is built without threads.
unsafe impl Sync for Instance {}

static INSTANCE: Instance = Instance(core::cell::UnsafeCell::new(Guest {
    heap: Heap::new(),
    lua: core::ptr::null_mut(),
    script: core::ptr::null_mut(),
    out: Writer::new(),
    output_limit: usize::MAX,
    message: core::ptr::null(),
    cannot_wait: false,
    failure: Failure::Script,
    random: core::ptr::null_mut(),
    null_ref: 0,
    null: core::ptr::null(),
    array_ref: 0,
    array_metatable: core::ptr::null(),
    error_ref: 0,
    error_metatable: core::ptr::null(),
    secret_ref: 0,
    secret_metatable: core::ptr::null(),
}));

/// The state of this instance.
pub fn guest() -> &'static mut Guest {
    // SAFETY: there is one thread, and the module's text says how references are kept apart.
    unsafe { &mut *INSTANCE.0.get() }
}

/// The address of `json.null`.
pub fn null_pointer() -> *const c_void {
    guest().null
}
