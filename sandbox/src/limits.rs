//! The memory of a running step, as the engine asks about it.

use wasmtime::ResourceLimiter;

/// Refuses what is beyond the limit, and remembers that it did.
pub(crate) struct MemoryLimit {
    bytes: usize,
    refused: bool,
}

impl MemoryLimit {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes, refused: false }
    }

    /// Whether the step wanted more than it may have.
    pub(crate) fn was_reached(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.bytes && maximum.is_none_or(|maximum| desired <= maximum);
        self.refused |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // The guest's table is made in its size and stays so.
        Ok(current == 0)
    }
}
