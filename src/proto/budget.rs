//! How much useless work a peer may cause (`spec.md §9.2`).

use std::time::{Duration, Instant};

use crate::error::{Flood, Violation};

/// Frames that carry nothing, paid for by those that carry something.
#[derive(Debug)]
pub(super) struct Balance {
    left: u32,
    max: u32,
}

impl Balance {
    pub(super) const fn new(max: u32) -> Self {
        Self { left: max, max }
    }

    /// A frame, that carries nothing or something. An error once the peer has spent it all.
    pub(super) const fn account(&mut self, empty: bool) -> Result<(), Violation> {
        if !empty {
            if self.left < self.max {
                self.left += 1;
            }
        } else if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
        } else {
            return Err(Violation::Flood(Flood::EmptyFrames));
        }
        Ok(())
    }
}

/// Events that may happen so often per interval.
#[derive(Debug)]
pub(super) struct RateLimit {
    max: u32,
    interval: Duration,
    count: u32,
    since: Option<Instant>,
}

impl RateLimit {
    pub(super) const fn new(max: u32, interval: Duration) -> Self {
        Self { max, interval, count: 0, since: None }
    }

    /// False if this one is too many.
    pub(super) fn count(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= self.interval) {
            self.since = Some(now);
            self.count = 0;
        }
        self.count += 1;
        self.count <= self.max
    }
}
