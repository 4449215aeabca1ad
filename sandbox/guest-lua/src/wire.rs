//! The bytes between host and guest: little-endian numbers, and texts with their length before them.
//!
//! Owns nothing but the reading and writing of that form; what the fields mean stands with those who call it.

/// Reads a message of the host, which is trusted to be well formed.
#[derive(Clone, Copy)]
pub struct Reader {
    next: *const u8,
}

impl Reader {
    pub unsafe fn new(start: *const u8) -> Self {
        Self { next: start }
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub fn text(&mut self) -> &'static [u8] {
        let len = self.u32() as usize;
        // SAFETY: the host wrote the text behind its length, and the message stays until the call is over.
        unsafe {
            let text = core::slice::from_raw_parts(self.next, len);
            self.next = self.next.add(len);
            text
        }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        // SAFETY: as for texts.
        unsafe {
            let value = self.next.cast::<[u8; N]>().read_unaligned();
            self.next = self.next.add(N);
            value
        }
    }
}

/// The output does not fit.
pub enum Full {
    /// It is longer than the step may write.
    Limit,
    /// There is no memory for it.
    Memory,
}

/// What the guest writes for the host. It never outgrows its limit.
pub struct Writer {
    bytes: Vec<u8>,
    /// Length that [`Writer::push`] refuses to pass.
    pub limit: usize,
}

impl Writer {
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), limit: usize::MAX }
    }

    /// Room that the snapshot already holds, so that short outputs allocate nothing.
    pub fn reserve_in_snapshot(&mut self, bytes: usize) {
        self.bytes.reserve_exact(bytes);
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    pub fn since(&self, start: usize) -> &[u8] {
        &self.bytes[start..]
    }

    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let len = self.bytes.len() + bytes.len();
        if len > self.limit {
            return Err(Full::Limit);
        }
        if len > self.bytes.capacity() && self.bytes.try_reserve(bytes.len()).is_err() {
            return Err(Full::Memory);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Reserves four bytes for a length that is known later.
    pub fn hole(&mut self) -> Result<usize, Full> {
        let at = self.bytes.len();
        self.push(&[0; 4])?;
        Ok(at)
    }

    /// Writes into a hole how many bytes follow it.
    pub fn fill(&mut self, hole: usize) {
        let len = (self.bytes.len() - hole - 4) as u32;
        self.set(hole, len);
    }

    pub fn set(&mut self, hole: usize, value: u32) {
        self.bytes[hole..hole + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) -> Result<(), Full> {
        self.push(&value.to_le_bytes())
    }

    pub fn text(&mut self, text: &[u8]) -> Result<(), Full> {
        self.u32(text.len() as u32)?;
        self.push(text)
    }

    /// Puts the members that were written since `start`, with a comma between them, into another order.
    pub fn permute(&mut self, start: usize, members: &[(usize, usize)]) -> Result<(), Full> {
        let len = self.bytes.len() - start;
        if self.bytes.try_reserve(len).is_err() {
            return Err(Full::Memory);
        }
        for (i, &(from, to)) in members.iter().enumerate() {
            if i > 0 {
                self.bytes.push(b',');
            }
            self.bytes.extend_from_within(from..to);
        }
        self.bytes.copy_within(start + len.., start);
        self.bytes.truncate(start + len);
        Ok(())
    }
}
