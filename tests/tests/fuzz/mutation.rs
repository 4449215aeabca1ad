//! A small deterministic mutator: the same seed gives the same inputs on every machine.

/// Changes bytes, one to four places at a time.
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// SplitMix64.
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % below.max(1) as u64) as usize
    }

    /// A changed copy.
    pub(crate) fn mutate(&mut self, seed: &[u8], pieces: &[&str]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.next(4) {
            let start = self.next(bytes.len() + 1);
            let end = (start + self.next(12)).min(bytes.len());
            match self.next(5) {
                0 => drop(bytes.drain(start..end)),
                1 => drop(bytes.splice(start..start, pieces[self.next(pieces.len())].bytes())),
                2 => drop(bytes.splice(start..end, pieces[self.next(pieces.len())].bytes())),
                3 => {
                    let copied = bytes[start..end].to_vec();
                    let target = self.next(bytes.len() + 1);
                    drop(bytes.splice(target..target, copied));
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(start) {
                        *byte ^= 1 << self.next(8);
                    }
                }
            }
        }
        bytes
    }
}
