//! How much is allocated. Under a fuzzer `fuzz_targets/allocator.rs` counts; elsewhere nothing
//! does, and the assertions built on these counts hold trivially.

use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering::Relaxed};

/// Calls of the allocator.
pub static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Bytes allocated and not freed.
pub static HELD: AtomicIsize = AtomicIsize::new(0);

/// Runs `work` and returns by how many bytes it changed what is held.
pub(crate) fn change<R>(work: impl FnOnce() -> R) -> (R, isize) {
    let before = HELD.load(Relaxed);
    let result = work();
    (result, HELD.load(Relaxed) - before)
}

/// Bytes held.
#[cfg(feature = "rpc")]
pub(crate) fn held() -> isize {
    HELD.load(Relaxed)
}

/// How many allocations there were.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.load(Relaxed)
}
