//! How much useless work a peer may cause (`spec.md §9.2`).

use std::time::{Duration, Instant};

use crate::{
    config::INITIAL_WINDOW,
    error::{Flood, Violation},
};

/// What a session holds for its streams: bytes received and not read, and credit granted beyond the
/// initial windows.
#[derive(Debug)]
pub(super) struct ReceiveBudget {
    pub(super) buffered: usize,
    pub(super) extra_credit: usize,
    max: usize,
}

impl ReceiveBudget {
    pub(super) const fn new(max: usize) -> Self {
        Self { buffered: 0, extra_credit: 0, max }
    }

    /// Grants so much credit more, if there is room for it. One initial window is set aside: a stream
    /// that is alone can fill the window it was given (`spec.md §5.6.2`).
    pub(super) const fn charge(&mut self, more: usize) -> bool {
        let charged = self.buffered + self.extra_credit + INITIAL_WINDOW as usize;
        let fits = charged + more <= self.max;
        if fits {
            self.extra_credit += more;
        }
        fits
    }

    pub(super) const fn is_exceeded(&self) -> bool {
        self.buffered > self.max
    }
}

/// What may still arrive for streams that are over.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Bytes of bodies (`spec.md §4.8.2`).
    bytes: u64,
    /// Frames without a body (`§9.2.1`).
    frames: u64,
}

impl Late {
    /// A stream ended whose peer may still have sent so much.
    pub(super) const fn expect(&mut self, credit: u32) {
        self.bytes += credit as u64;
        self.frames += LATE_FRAMES;
    }

    /// A frame without a body. False: there are too many.
    pub(super) const fn frame(&mut self) -> bool {
        let expected = self.frames > 0;
        self.frames = self.frames.saturating_sub(1);
        expected
    }

    pub(super) fn body(&mut self, len: u32) -> Result<(), Violation> {
        self.bytes = self.bytes.checked_sub(u64::from(len)).ok_or(Violation::LateData)?;
        Ok(())
    }
}

/// What may be in flight of a stream that ends: ACK, credit, FIN, RST.
const LATE_FRAMES: u64 = 4;

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
