//! JSON text as Lua values, without a tree in between.
//!
//! Owns what each JSON value becomes: whole numbers that fit 64 bits are Lua integers and all others floats, `null` is
//! `json.null`, a list is a table marked as a list so that an empty one is written as a list again.
//! Never recovers: text that is not JSON is an error that says at which byte.

use crate::guest::Guest;
use core::ffi::c_char;
use mlua_sys::*;

/// Nesting of a document of the host: one of a step's output, wrapped a few times on its way through a workflow.
pub const DEPTH_SCOPE_MAX: usize = 128;

/// Members that are gathered on the Lua stack before their table is made, so that it is made in its size.
const BATCH: i32 = 16;

/// What is wrong with the text, and at which byte.
pub struct Malformed {
    pub what: &'static str,
    pub at: usize,
}

/// Reads one document.
pub struct JsonReader<'a> {
    text: &'a [u8],
    at: usize,
    depth_left: usize,
    null_ref: i64,
    array_ref: i64,
}

type Read = Result<(), Malformed>;

impl<'a> JsonReader<'a> {
    pub fn new(guest: &Guest, text: &'a [u8], depth: usize) -> Self {
        Self { text, at: 0, depth_left: depth, null_ref: guest.null_ref, array_ref: guest.array_ref }
    }

    /// Pushes the document. An error leaves the stack higher than it was. Raises a Lua error only for want of memory.
    pub unsafe fn push(&mut self, lua: *mut lua_State) -> Read {
        unsafe {
            self.value(lua)?;
            if self.peek().is_some() { self.fail("there is text after the value") } else { Ok(()) }
        }
    }

    fn fail(&self, what: &'static str) -> Read {
        Err(Malformed { what, at: self.at })
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    unsafe fn value(&mut self, lua: *mut lua_State) -> Read {
        unsafe {
            match self.peek() {
                Some(b'{') => self.nested(lua, Self::object),
                Some(b'[') => self.nested(lua, Self::list),
                Some(b'"') => self.string(lua),
                Some(b'-' | b'0'..=b'9') => self.number(lua),
                Some(b't') => self.word(b"true", || lua_pushboolean(lua, 1)),
                Some(b'f') => self.word(b"false", || lua_pushboolean(lua, 0)),
                Some(b'n') => {
                    let null = self.null_ref;
                    self.word(b"null", || _ = lua_rawgeti(lua, LUA_REGISTRYINDEX, null))
                }
                Some(_) => self.fail("a value was expected"),
                None => self.fail("the text ends where a value was expected"),
            }
        }
    }

    fn word(&mut self, word: &'static [u8], push: impl FnOnce()) -> Read {
        if !self.text[self.at..].starts_with(word) {
            return self.fail("a value was expected");
        }
        self.at += word.len();
        push();
        Ok(())
    }

    unsafe fn nested(&mut self, lua: *mut lua_State, read: unsafe fn(&mut Self, *mut lua_State) -> Read) -> Read {
        unsafe {
            if self.depth_left == 0 {
                return self.fail("it is nested too deep");
            }
            luaL_checkstack(lua, 2 * BATCH + 8, c"JSON nests too deep".as_ptr());
            self.depth_left -= 1;
            self.at += 1;
            read(self, lua)?;
            self.depth_left += 1;
            Ok(())
        }
    }

    unsafe fn object(&mut self, lua: *mut lua_State) -> Read {
        unsafe {
            lua_pushnil(lua);
            let table = lua_gettop(lua);
            let (mut gathered, mut made) = (0, false);
            let mut more = self.peek() != Some(b'}');
            while more {
                self.member(lua)?;
                gathered += 1;
                more = match self.peek() {
                    Some(b',') => true,
                    Some(b'}') => false,
                    _ => return self.fail("`,` or `}` was expected"),
                };
                if more {
                    self.at += 1;
                }
                if gathered == BATCH || (made && gathered > 0) {
                    made = store_members(lua, table, gathered, made, if more { 2 * BATCH } else { gathered });
                    gathered = 0;
                }
            }
            self.at += 1;
            if gathered > 0 || !made {
                store_members(lua, table, gathered, made, gathered);
            }
            Ok(())
        }
    }

    unsafe fn member(&mut self, lua: *mut lua_State) -> Read {
        unsafe {
            if self.peek() != Some(b'"') {
                return self.fail("a key in quotes was expected");
            }
            self.string(lua)?;
            if self.peek() != Some(b':') {
                return self.fail("`:` was expected");
            }
            self.at += 1;
            self.value(lua)
        }
    }

    unsafe fn list(&mut self, lua: *mut lua_State) -> Read {
        unsafe {
            lua_pushnil(lua);
            let table = lua_gettop(lua);
            let (mut gathered, mut stored) = (0, 0);
            let mut more = self.peek() != Some(b']');
            while more {
                self.value(lua)?;
                gathered += 1;
                more = match self.peek() {
                    Some(b',') => true,
                    Some(b']') => false,
                    _ => return self.fail("`,` or `]` was expected"),
                };
                if more {
                    self.at += 1;
                }
                if gathered == BATCH {
                    stored = self.store_elements(lua, table, gathered, stored, if more { 2 * BATCH } else { gathered });
                    gathered = 0;
                }
            }
            self.at += 1;
            if gathered > 0 || stored == 0 {
                self.store_elements(lua, table, gathered, stored, gathered);
            }
            Ok(())
        }
    }

    unsafe fn store_elements(&self, lua: *mut lua_State, table: i32, count: i32, stored: i64, size: i32) -> i64 {
        unsafe {
            if stored == 0 {
                lua_createtable(lua, size, 0);
                lua_rawgeti(lua, LUA_REGISTRYINDEX, self.array_ref);
                lua_setmetatable(lua, -2);
                lua_replace(lua, table);
            }
            for i in (1..=count).rev() {
                lua_rawseti(lua, table, stored + i64::from(i));
            }
            stored + i64::from(count)
        }
    }

    unsafe fn string(&mut self, lua: *mut lua_State) -> Read {
        unsafe {
            let start = self.at + 1;
            let mut end = start;
            while let Some(&byte) = self.text.get(end) {
                match byte {
                    b'"' => {
                        self.at = end + 1;
                        lua_pushlstring(lua, self.text.as_ptr().add(start).cast::<c_char>(), end - start);
                        return Ok(());
                    }
                    b'\\' => return self.escaped(lua, start, end),
                    0..0x20 => break,
                    _ => end += 1,
                }
            }
            self.at = end;
            self.fail("the text in quotes does not end")
        }
    }

    /// A text with escapes; the first is at `end`.
    unsafe fn escaped(&mut self, lua: *mut lua_State, start: usize, end: usize) -> Read {
        unsafe {
            let mut closing = end;
            loop {
                match self.text.get(closing) {
                    Some(b'"') => break,
                    Some(b'\\') => closing += 2,
                    Some(0x20..) => closing += 1,
                    _ => {
                        self.at = closing.min(self.text.len());
                        return self.fail("the text in quotes does not end");
                    }
                }
            }
            // The text gets shorter, never longer, so its own length is room enough. Lua owns the buffer: an error
            // frees it.
            let buffer = lua_newuserdatauv(lua, closing - start, 0).cast::<u8>();
            let mut len = 0;
            self.at = start;
            while self.at < closing {
                let byte = self.text[self.at];
                if byte != b'\\' {
                    *buffer.add(len) = byte;
                    len += 1;
                    self.at += 1;
                    continue;
                }
                let character = self.escape()?;
                let mut utf8 = [0; 4];
                for &byte in character.encode_utf8(&mut utf8).as_bytes() {
                    *buffer.add(len) = byte;
                    len += 1;
                }
            }
            self.at = closing + 1;
            lua_pushlstring(lua, buffer.cast::<c_char>(), len);
            lua_remove(lua, -2);
            Ok(())
        }
    }

    fn escape(&mut self) -> Result<char, Malformed> {
        let wrong = Malformed { what: "the escape after `\\` is not one of JSON's", at: self.at };
        let simple = match self.text.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex(self.at + 2).ok_or(wrong)?;
                self.at += 6;
                let is_pair = (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with(b"\\u");
                if let Some(second @ 0xdc00..0xe000) = self.hex(self.at + 2).filter(|_| is_pair) {
                    self.at += 6;
                    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                    return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                // Half of a pair is no character and cannot be written as UTF-8.
                return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            _ => return Err(wrong),
        };
        self.at += 2;
        Ok(simple)
    }

    fn hex(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 4)?;
        digits.iter().try_fold(0, |code, &digit| Some(code * 16 + char::from(digit).to_digit(16)?))
    }

    unsafe fn number(&mut self, lua: *mut lua_State) -> Read {
        let start = self.at;
        let negative = self.text[self.at] == b'-';
        self.at += usize::from(negative);
        let mut whole: Option<i64> = Some(0);
        let digits = self.digits(|digit| {
            let digit = i64::from(digit);
            whole = whole
                .and_then(|n| n.checked_mul(10))
                .and_then(|n| if negative { n.checked_sub(digit) } else { n.checked_add(digit) });
        });
        if digits == 0 || (digits > 1 && self.text[start + usize::from(negative)] == b'0') {
            return self.fail("a number was expected");
        }
        let mut is_whole = !(negative && whole == Some(0));
        if self.text.get(self.at) == Some(&b'.') {
            is_whole = false;
            self.at += 1;
            if self.digits(|_| ()) == 0 {
                return self.fail("a digit was expected after the point");
            }
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            is_whole = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            if self.digits(|_| ()) == 0 {
                return self.fail("a digit was expected in the exponent");
            }
        }
        unsafe {
            match whole.filter(|_| is_whole) {
                Some(number) => lua_pushinteger(lua, number),
                None => lua_pushnumber(lua, self.float(start)),
            }
        }
        Ok(())
    }

    fn float(&self, start: usize) -> f64 {
        core::str::from_utf8(&self.text[start..self.at]).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
    }

    #[inline]
    fn digits(&mut self, mut each: impl FnMut(u8)) -> usize {
        let start = self.at;
        while let Some(&byte @ b'0'..=b'9') = self.text.get(self.at) {
            each(byte - b'0');
            self.at += 1;
        }
        self.at - start
    }
}

/// Moves the keys and values above the table's place into the table, in their order: of two equal keys the last wins.
unsafe fn store_members(lua: *mut lua_State, table: i32, count: i32, made: bool, size: i32) -> bool {
    unsafe {
        if !made {
            lua_createtable(lua, 0, size);
            lua_replace(lua, table);
        }
        if count == 1 {
            lua_rawset(lua, table);
            return true;
        }
        for i in 0..count {
            lua_pushvalue(lua, table + 1 + 2 * i);
            lua_pushvalue(lua, table + 2 + 2 * i);
            lua_rawset(lua, table);
        }
        lua_settop(lua, table);
        true
    }
}
