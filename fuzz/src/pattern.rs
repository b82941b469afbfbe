//! Bytes that tell where they belong: a stream's are a stretch of one long random sequence.

use std::sync::OnceLock;

/// `len` bytes at `offset` of the sequence called `name`.
pub(crate) fn pattern(name: usize, offset: usize, len: usize) -> &'static [u8] {
    static SEQUENCE: OnceLock<Vec<u8>> = OnceLock::new();
    let sequence = SEQUENCE.get_or_init(|| {
        let mut state = 1_u64;
        (0..LENGTH)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    });
    let start = name % NAMES * 101 + offset;
    &sequence[start..start + len]
}

const NAMES: usize = 4_096;
const LENGTH: usize = (2 << 20) + NAMES * 101;
