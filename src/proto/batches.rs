//! Batches on their way to the IO: which one is under construction, which are flushed, and how long
//! the next may be.

use std::time::{Duration, Instant};

/// Counts batches, and fits their length to the speed of the IO (`spec.md §6.9`).
#[derive(Debug)]
pub(super) struct Batches {
    /// The number of the batch under construction.
    current: u64,
    /// When the batch that is being written was taken, and how long it is.
    taken: Option<(Instant, usize)>,
    /// Batches up to this number are flushed.
    flushed: u64,
    limit: usize,
    max_limit: usize,
}

impl Batches {
    pub(super) fn new(max_limit: usize) -> Self {
        let limit = max_limit.min(FIRST_LIMIT);
        Self { current: 1, taken: None, flushed: 0, limit, max_limit }
    }

    pub(super) const fn current(&self) -> u64 {
        self.current
    }

    pub(super) const fn flushed(&self) -> u64 {
        self.flushed
    }

    /// How much may be staged at present.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// The batch under construction goes to the IO. Returns its number.
    pub(super) const fn take(&mut self, len: usize, now: Instant) -> u64 {
        self.taken = Some((now, len));
        let number = self.current;
        self.current += 1;
        number
    }

    /// Everything up to `batch` was taken by the IO, and the IO was flushed.
    pub(super) fn note_flushed(&mut self, batch: u64, now: Instant) {
        self.flushed = self.flushed.max(batch);
        if let Some((taken, len)) = self.taken.take() {
            self.adapt(now.saturating_duration_since(taken), len);
        }
    }

    /// A batch that takes long on the wire holds up control behind it: the next one is smaller.
    fn adapt(&mut self, took: Duration, len: usize) {
        if took > SLOW {
            self.limit = (self.limit / 2).max(MIN_LIMIT);
        } else if len >= self.limit {
            self.limit = (self.limit * 2).min(self.max_limit);
        }
    }
}

/// Until batches have shown how fast the IO is, no more than this is staged.
const FIRST_LIMIT: usize = 64 << 10;

/// On a slow IO no less than this is.
const MIN_LIMIT: usize = 16 << 10;

/// A batch that the IO takes longer for halves the limit.
const SLOW: Duration = Duration::from_millis(50);
