//! Random numbers that are the same for the same seed, and how often a test runs with them.
#![allow(dead_code, unreachable_pub)]

/// Whether full counts are asked for: `TRUNKLINE_THOROUGH=1`.
pub fn thorough() -> bool {
    std::env::var_os("TRUNKLINE_THOROUGH").is_some()
}

/// `full` with `TRUNKLINE_THOROUGH=1`, a twentieth of it otherwise.
pub fn count(full: u64) -> u64 {
    if thorough() { full } else { full.div_ceil(20) }
}

/// SplitMix64: the same numbers for the same seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}
