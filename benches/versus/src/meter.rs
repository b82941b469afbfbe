//! What is measured within a process: work done, processor time, allocations, round trips.

mod snapshot;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use kit::allocator;
pub use kit::histogram::{HISTOGRAM, percentile};
pub use snapshot::Snapshot;

/// Counts the work of one task.
#[derive(Debug, Default)]
#[repr(align(128))] // its own cache lines: tasks of two threads do not meet
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the count; only the task that owns the counter does.
    pub fn add(&self, count: u64) {
        // Not `fetch_add`: with a single writer a plain store will do, and costs next to nothing.
        self.0.store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }
}

/// A new counter, part of every snapshot from now on.
pub fn counter() -> Arc<Counter> {
    let counter = Arc::<Counter>::default();
    COUNTERS.lock().unwrap_or_else(PoisonError::into_inner).push(counter.clone());
    counter
}

static COUNTERS: Mutex<Vec<Arc<Counter>>> = Mutex::new(Vec::new());
