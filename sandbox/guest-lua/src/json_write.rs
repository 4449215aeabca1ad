//! Lua values as JSON text.
//!
//! Owns the rules by which a table is a list or an object, and the sentence that says where a value has no JSON form.
//! Never calls a metamethod: what a script returns is data when it is read here.
//!
//! The rules: an empty table is `{}`; a table whose keys are 1 … n is a list; a table whose keys are all strings is an
//! object, written in the order of its keys; what `json.array` marked is a list even when it is empty. Anything else has
//! no JSON form, but for the outermost table of a step's output, where every key becomes a string.

use crate::guest::{Guest, null_pointer};
use crate::wire::Full;
use core::ffi::c_char;
use core::fmt::Write;
use mlua_sys::*;

/// Nesting of what a script may write.
pub const DEPTH_MAX: usize = 100;

/// What becomes of the outermost table.
#[derive(Clone, Copy, PartialEq)]
pub enum Top {
    /// The output of a step: an object whatever its keys are.
    Output,
    /// A value like any other.
    Value,
}

/// Why there is no text.
pub enum Refusal {
    /// No room in memory.
    Memory,
    /// Longer than allowed.
    TooLong,
    /// Nested too deep; whether a table contains itself.
    TooDeep { cyclic: bool },
    /// A value without a JSON form: the sentence, without the place.
    Value(String),
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        match full {
            Full::Limit => Self::TooLong,
            Full::Memory => Self::Memory,
        }
    }
}

/// One step of the way to the value that is being written.
#[derive(Clone, Copy)]
enum Place {
    Key(*const u8, usize),
    Index(i64),
}

/// Writes values to the output of the guest.
pub struct JsonWriter<'g> {
    guest: &'g mut Guest,
    path: Vec<Place>,
}

impl<'g> JsonWriter<'g> {
    pub fn new(guest: &'g mut Guest) -> Self {
        Self { guest, path: Vec::new() }
    }

    /// Writes the value at the top of the stack, which stays there. An error leaves the stack higher than it was.
    pub unsafe fn write(&mut self, lua: *mut lua_State, top: Top) -> Result<(), Refusal> {
        unsafe { if top == Top::Output { self.output(lua) } else { self.value(lua) } }
    }

    /// Where the value that was refused stands, such as `items[3].price`.
    pub fn place(&self) -> String {
        let mut text = String::new();
        for (i, place) in self.path.iter().enumerate() {
            if i == 24 {
                text.push('…');
                break;
            }
            match *place {
                // SAFETY: the key is held by the table that is being written, which is on the stack.
                Place::Key(start, len) => unsafe {
                    let key = core::slice::from_raw_parts(start, len.min(80));
                    if i > 0 {
                        text.push('.');
                    }
                    text.push_str(&String::from_utf8_lossy(key));
                },
                Place::Index(index) => _ = write!(text, "[{index}]"),
            }
        }
        text
    }

    unsafe fn value(&mut self, lua: *mut lua_State) -> Result<(), Refusal> {
        unsafe {
            match lua_type(lua, -1) {
                LUA_TNIL => Ok(self.guest.out.push(b"null")?),
                LUA_TBOOLEAN => {
                    Ok(self.guest.out.push(if lua_toboolean(lua, -1) != 0 { b"true" } else { b"false" })?)
                }
                LUA_TNUMBER => self.number(lua),
                LUA_TSTRING => {
                    let mut len = 0;
                    let start = lua_tolstring(lua, -1, &mut len);
                    self.string(core::slice::from_raw_parts(start.cast(), len))
                }
                LUA_TTABLE => self.table(lua),
                LUA_TUSERDATA if lua_topointer(lua, -1) == null_pointer() => Ok(self.guest.out.push(b"null")?),
                kind => {
                    let name = core::ffi::CStr::from_ptr(lua_typename(lua, kind)).to_string_lossy();
                    Err(Refusal::Value(format!("a {name} has no JSON form")))
                }
            }
        }
    }

    unsafe fn number(&mut self, lua: *mut lua_State) -> Result<(), Refusal> {
        unsafe {
            if lua_isinteger(lua, -1) != 0 {
                let mut digits = [0u8; 20];
                return Ok(self.guest.out.push(decimal(lua_tointeger(lua, -1), &mut digits))?);
            }
            let number = lua_tonumber(lua, -1);
            if !number.is_finite() {
                let name = if number.is_nan() { "nan (not a number)" } else { "inf (infinite)" };
                return Err(Refusal::Value(format!("the number {name} has no JSON form")));
            }
            let mut text = Digits { bytes: [0; 32], len: 0 };
            // The debug form is the shortest that reads back as the same number, always with a point or an exponent.
            // Numbers have at most 17 digits, so the buffer always suffices.
            _ = write!(text, "{number:?}");
            Ok(self.guest.out.push(&text.bytes[..text.len])?)
        }
    }

    fn string(&mut self, text: &[u8]) -> Result<(), Refusal> {
        if !text.is_ascii() && core::str::from_utf8(text).is_err() {
            return Err(Refusal::Value("the text is not valid UTF-8".into()));
        }
        let out = &mut self.guest.out;
        out.push(b"\"")?;
        let mut done = 0;
        for (i, &byte) in text.iter().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            out.push(&text[done..i])?;
            done = i + 1;
            match byte {
                b'"' => out.push(b"\\\"")?,
                b'\\' => out.push(b"\\\\")?,
                b'\n' => out.push(b"\\n")?,
                b'\r' => out.push(b"\\r")?,
                b'\t' => out.push(b"\\t")?,
                _ => {
                    let hex = |n: u8| b"0123456789abcdef"[usize::from(n)];
                    out.push(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)])?;
                }
            }
        }
        out.push(&text[done..])?;
        Ok(out.push(b"\"")?)
    }

    unsafe fn table(&mut self, lua: *mut lua_State) -> Result<(), Refusal> {
        unsafe {
            if self.path.len() >= DEPTH_MAX {
                return Err(Refusal::TooDeep { cyclic: self.is_cyclic(lua) });
            }
            if lua_checkstack(lua, 4) == 0 {
                return Err(Refusal::Memory);
            }
            let table = lua_gettop(lua);
            if lua_getmetatable(lua, table) != 0 {
                let marked = lua_topointer(lua, -1) == self.guest.array_metatable;
                lua_pop(lua, 1);
                if marked {
                    return self.list(lua, table);
                }
            }
            lua_pushnil(lua);
            if lua_next(lua, table) == 0 {
                return Ok(self.guest.out.push(b"{}")?);
            }
            if lua_isinteger(lua, -2) != 0 {
                lua_pop(lua, 2);
                return self.list(lua, table);
            }
            self.object(lua, table, Top::Value)
        }
    }

    unsafe fn list(&mut self, lua: *mut lua_State, table: i32) -> Result<(), Refusal> {
        unsafe {
            let len = self.list_len(lua, table)?;
            self.guest.out.push(b"[")?;
            for i in 1..=len {
                if i > 1 {
                    self.guest.out.push(b",")?;
                }
                lua_rawgeti(lua, table, i);
                self.path.push(Place::Index(i));
                self.value(lua)?;
                self.path.pop();
                lua_pop(lua, 1);
            }
            Ok(self.guest.out.push(b"]")?)
        }
    }

    /// The length of a table whose keys are 1 … n and nothing else.
    unsafe fn list_len(&mut self, lua: *mut lua_State, table: i32) -> Result<i64, Refusal> {
        unsafe {
            let (mut count, mut last) = (0, 0);
            lua_pushnil(lua);
            while lua_next(lua, table) != 0 {
                lua_pop(lua, 1);
                let key = if lua_isinteger(lua, -1) != 0 { lua_tointeger(lua, -1) } else { 0 };
                if key < 1 {
                    return Err(Refusal::Value(MIXED.into()));
                }
                count += 1;
                last = last.max(key);
            }
            if last == count {
                return Ok(count);
            }
            Err(Refusal::Value(format!(
                "the table has gaps: it has {count} elements and {last} is the last position; fill the gaps with \
                 json.null, or use strings as keys, such as t[tostring(id)]"
            )))
        }
    }

    unsafe fn output(&mut self, lua: *mut lua_State) -> Result<(), Refusal> {
        unsafe {
            if lua_checkstack(lua, 4) == 0 {
                return Err(Refusal::Memory);
            }
            let table = lua_gettop(lua);
            lua_pushnil(lua);
            if lua_next(lua, table) == 0 {
                return Ok(self.guest.out.push(b"{}")?);
            }
            self.object(lua, table, Top::Output)
        }
    }

    /// Writes the members of a table; its first key and value are on the stack.
    unsafe fn object(&mut self, lua: *mut lua_State, table: i32, top: Top) -> Result<(), Refusal> {
        unsafe {
            self.guest.out.push(b"{")?;
            let start = self.guest.out.len();
            let mut members = Members::new();
            loop {
                if !members.is_empty() {
                    self.guest.out.push(b",")?;
                }
                let from = self.guest.out.len();
                let key = self.key(lua, top)?;
                self.guest.out.push(b":")?;
                self.value(lua)?;
                self.path.pop();
                members.push(Member { key, from, to: self.guest.out.len() })?;
                lua_pop(lua, 1);
                if lua_next(lua, table) == 0 {
                    break;
                }
            }
            self.sort(members, start)?;
            Ok(self.guest.out.push(b"}")?)
        }
    }

    /// Writes the key beneath the top of the stack, and notes it as the place of what follows.
    unsafe fn key(&mut self, lua: *mut lua_State, top: Top) -> Result<Key, Refusal> {
        unsafe {
            if lua_type(lua, -2) == LUA_TSTRING {
                let mut len = 0;
                let start = lua_tolstring(lua, -2, &mut len).cast::<u8>();
                self.path.push(Place::Key(start, len));
                self.string(core::slice::from_raw_parts(start, len))?;
                return Ok(Key::Text(start, len));
            }
            if top == Top::Output && lua_isinteger(lua, -2) != 0 {
                let index = lua_tointeger(lua, -2);
                self.path.push(Place::Index(index));
                let mut digits = [0u8; 20];
                let digits = decimal(index, &mut digits);
                self.guest.out.push(b"\"")?;
                self.guest.out.push(digits)?;
                self.guest.out.push(b"\"")?;
                return Ok(Key::Index(index));
            }
            if top == Top::Output || lua_isinteger(lua, -2) == 0 {
                let name = core::ffi::CStr::from_ptr(lua_typename(lua, lua_type(lua, -2))).to_string_lossy();
                return Err(Refusal::Value(format!("a key is a {name}; keys have to be strings")));
            }
            Err(Refusal::Value(MIXED.into()))
        }
    }

    fn sort(&mut self, mut members: Members, start: usize) -> Result<(), Refusal> {
        let members = members.as_mut();
        if members.is_sorted_by(|a, b| a.key.text().as_bytes() < b.key.text().as_bytes()) {
            return Ok(());
        }
        members.sort_unstable_by(|a, b| a.key.text().as_bytes().cmp(b.key.text().as_bytes()));
        if let Some(twice) =
            members.windows(2).find(|pair| pair[0].key.text().as_bytes() == pair[1].key.text().as_bytes())
        {
            let key = String::from_utf8_lossy(twice[0].key.text().as_bytes()).into_owned();
            return Err(Refusal::Value(format!("the key {key} is there twice, as a number and as a string")));
        }
        let mut order = Vec::new();
        if order.try_reserve_exact(members.len()).is_err() {
            return Err(Refusal::Memory);
        }
        order.extend(members.iter().map(|member| (member.from, member.to)));
        Ok(self.guest.out.permute(start, &order)?)
    }

    /// Whether the table at the top of the stack is one of those that contain it.
    unsafe fn is_cyclic(&self, lua: *mut lua_State) -> bool {
        unsafe {
            let this = lua_topointer(lua, -1);
            (1..lua_gettop(lua)).any(|i| lua_topointer(lua, i) == this)
        }
    }
}

const MIXED: &str = "the table mixes list positions and named keys; return either a list or an object";

#[derive(Clone, Copy)]
enum Key {
    Text(*const u8, usize),
    Index(i64),
}

/// A key as text, wherever it lies.
enum KeyText {
    Held(&'static [u8]),
    Digits([u8; 20], usize),
}

impl Key {
    fn text(&self) -> KeyText {
        match *self {
            // SAFETY: the table that is being written holds the key.
            Self::Text(start, len) => KeyText::Held(unsafe { core::slice::from_raw_parts(start, len) }),
            Self::Index(index) => {
                let mut digits = [0; 20];
                let len = decimal(index, &mut digits).len();
                KeyText::Digits(digits, 20 - len)
            }
        }
    }
}

impl KeyText {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Held(text) => text,
            Self::Digits(digits, start) => &digits[*start..],
        }
    }
}

#[derive(Clone, Copy)]
struct Member {
    key: Key,
    from: usize,
    to: usize,
}

/// The members of an object; the first few without allocating.
struct Members {
    few: [Member; 8],
    len: usize,
    many: Vec<Member>,
}

impl Members {
    fn new() -> Self {
        Self { few: [Member { key: Key::Index(0), from: 0, to: 0 }; 8], len: 0, many: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, member: Member) -> Result<(), Refusal> {
        if self.len < self.few.len() {
            self.few[self.len] = member;
            self.len += 1;
            return Ok(());
        }
        let missing = if self.many.is_empty() { self.few.len() + 1 } else { 1 };
        if self.many.try_reserve(missing).is_err() {
            return Err(Refusal::Memory);
        }
        if self.many.is_empty() {
            self.many.extend_from_slice(&self.few);
        }
        self.many.push(member);
        Ok(())
    }

    fn as_mut(&mut self) -> &mut [Member] {
        if self.many.is_empty() { &mut self.few[..self.len] } else { &mut self.many }
    }
}

/// The decimal digits of a number, at the end of the buffer.
fn decimal(number: i64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    &buffer[at..]
}

/// A buffer for the text of one number.
struct Digits {
    bytes: [u8; 32],
    len: usize,
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(core::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// The pointer of a text that Lua holds, for messages.
pub unsafe fn push_text(lua: *mut lua_State, text: &str) {
    unsafe { _ = lua_pushlstring(lua, text.as_ptr().cast::<c_char>(), text.len()) }
}
