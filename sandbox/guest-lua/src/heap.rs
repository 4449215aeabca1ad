//! Memory for Lua: small blocks from free lists by size, large ones from the C library.
//!
//! Owns how many bytes a script may use. Never aborts: when there is no more memory Lua hears of it and raises an error
//! that the script may catch.
//!
//! Lua says how large a block was when it gives it back, so small blocks need no header and lie close together: a short
//! script touches few pages, and pages are what a fresh instance costs.

use core::ffi::c_void;
use core::ptr;

/// Blocks up to here come from the free lists.
const SMALL_BYTES_MAX: usize = 512;
/// Sizes are rounded up to this, which is also the alignment that Lua needs.
const GRAIN: usize = 8;
/// Small blocks are cut from pieces of this size.
const CHUNK_BYTES: usize = 16 << 10;

unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn free(block: *mut c_void);
}

/// The state of the allocator.
pub struct Heap {
    free: [*mut c_void; SMALL_BYTES_MAX / GRAIN + 1],
    next: *mut u8,
    end: *mut u8,
    used: usize,
    /// How many bytes Lua may hold.
    pub limit: usize,
    /// Whether a request was refused.
    pub refused: bool,
}

impl Heap {
    pub const fn new() -> Self {
        Self {
            free: [ptr::null_mut(); SMALL_BYTES_MAX / GRAIN + 1],
            next: ptr::null_mut(),
            end: ptr::null_mut(),
            used: 0,
            limit: usize::MAX,
            refused: false,
        }
    }

    unsafe fn take(&mut self, size: usize) -> *mut c_void {
        unsafe {
            if size > SMALL_BYTES_MAX {
                return malloc(size);
            }
            let class = size.div_ceil(GRAIN);
            let block = self.free[class];
            if !block.is_null() {
                self.free[class] = *block.cast::<*mut c_void>();
                return block;
            }
            let bytes = class * GRAIN;
            if (self.end as usize) - (self.next as usize) < bytes {
                let chunk = malloc(CHUNK_BYTES).cast::<u8>();
                if chunk.is_null() {
                    return ptr::null_mut();
                }
                self.next = chunk;
                self.end = chunk.add(CHUNK_BYTES);
            }
            let block = self.next;
            self.next = block.add(bytes);
            block.cast()
        }
    }

    unsafe fn give(&mut self, block: *mut c_void, size: usize) {
        unsafe {
            if size > SMALL_BYTES_MAX {
                return free(block);
            }
            let class = size.div_ceil(GRAIN);
            *block.cast::<*mut c_void>() = self.free[class];
            self.free[class] = block;
        }
    }

    unsafe fn resize(&mut self, block: *mut c_void, old: usize, new: usize) -> *mut c_void {
        unsafe {
            if old > SMALL_BYTES_MAX && new > SMALL_BYTES_MAX {
                return realloc(block, new);
            }
            if old <= SMALL_BYTES_MAX && new <= SMALL_BYTES_MAX && old.div_ceil(GRAIN) == new.div_ceil(GRAIN) {
                return block;
            }
            let moved = self.take(new);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block.cast::<u8>(), moved.cast::<u8>(), old.min(new));
                self.give(block, old);
            }
            moved
        }
    }

    /// What `lua_Alloc` is to do: `old` is zero for a new block, `new` is zero for one given back.
    pub unsafe fn serve(&mut self, block: *mut c_void, old: usize, new: usize) -> *mut c_void {
        unsafe {
            if new == 0 {
                if !block.is_null() {
                    self.give(block, old);
                    self.used -= old;
                }
                return ptr::null_mut();
            }
            if new > old && self.used - old > self.limit.saturating_sub(new) {
                self.refused = true;
                return ptr::null_mut();
            }
            let served = if block.is_null() { self.take(new) } else { self.resize(block, old, new) };
            if served.is_null() {
                self.refused = true;
                // Lua relies on it that a block can always shrink.
                return if new <= old { block } else { served };
            }
            self.used = self.used - old + new;
            served
        }
    }
}

/// The allocator as Lua calls it.
pub unsafe extern "C" fn serve(heap: *mut c_void, block: *mut c_void, old: usize, new: usize) -> *mut c_void {
    // For a new block Lua passes the kind of object in place of the old size.
    let old = if block.is_null() { 0 } else { old };
    unsafe { (*heap.cast::<Heap>()).serve(block, old, new) }
}

/// A block for a message of the host; null where there is no room.
pub unsafe fn message(size: usize) -> *mut u8 {
    unsafe { malloc(size.max(1)).cast() }
}

/// Gives back a block from [`message`].
pub unsafe fn free_message(block: *mut u8) {
    unsafe { free(block.cast()) }
}
