//! Credit arithmetic: nothing else in the crate adds to or takes from a window.

use super::{SHORT, Slot};
use crate::config::INITIAL_WINDOW;

/// What this side may still send on a stream (`spec.md §5.2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SendWindow(u32);

impl SendWindow {
    pub(super) const fn initial() -> Self {
        Self(INITIAL_WINDOW)
    }

    pub(super) const fn available(self) -> usize {
        self.0 as usize
    }

    /// Whether `delta` more would still be a window.
    pub(super) const fn can_grow(self, delta: u32) -> bool {
        self.0.checked_add(delta).is_some()
    }

    /// Adds credit; the caller has asked [`can_grow`](Self::can_grow). Never wraps.
    pub(super) const fn grow(&mut self, delta: u32) {
        self.0 = self.0.saturating_add(delta);
    }

    /// Takes `len` bytes, which the caller knows to be available.
    pub(super) fn take(&mut self, len: usize) {
        debug_assert!(len <= self.available(), "sent beyond the window");
        self.0 = self.0.saturating_sub(len as u32);
    }
}

/// What the peer may still send on a stream, and how far that may grow (`spec.md §5.3`, `§5.5`).
///
/// Invariant: `credit + unread <= limit`. A body counts as unread from its header on.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecvWindow {
    credit: u32,
    unread: u32,
    limit: u32,
    /// Bytes the user took since `epoch`.
    taken: u32,
    /// When the epoch began, in microseconds of the session; the first begins with the first
    /// bytes.
    epoch: u64,
    /// The rate of the epoch before, in bytes per millisecond; 0 before the first.
    previous: u32,
    /// The rate before the last growth; 0 before the first.
    baseline: u32,
    /// The round trip at that time, in microseconds.
    baseline_rtt: u32,
}

/// By how much a limit should grow, and what the larger one has to beat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) by: u32,
    rate: u32,
    rtt: u32,
}

impl Growth {
    /// Growth that nothing was measured for: the next has nothing to beat.
    const LOCAL: Self = Self { by: 0, rate: 0, rtt: 0 };
}

impl RecvWindow {
    /// A window of 256 KiB on the wire that grows to `limit` with the first frame we send.
    pub(super) const fn new(limit: u32) -> Self {
        Self {
            credit: INITIAL_WINDOW,
            unread: 0,
            limit,
            taken: 0,
            epoch: NOT_BEGUN,
            previous: 0,
            baseline: 0,
            baseline_rtt: 0,
        }
    }

    pub(super) const fn fits(&self, len: u32) -> bool {
        len <= self.credit
    }

    pub(super) const fn credit(&self) -> u32 {
        self.credit
    }

    /// What the limit takes from the session's budget.
    const fn beyond_initial(&self) -> usize {
        self.limit.saturating_sub(INITIAL_WINDOW) as usize
    }

    /// The stream is over: hands back what its limit took from the session's budget.
    pub(super) fn give_back(&mut self) -> usize {
        let extra = self.beyond_initial();
        self.limit = self.limit.min(INITIAL_WINDOW);
        extra
    }

    /// A header announced `len` bytes, which the caller knows to fit.
    pub(super) fn receive(&mut self, len: u32, now_us: u64) {
        debug_assert!(self.fits(len), "received beyond the window");
        if self.epoch == NOT_BEGUN {
            self.epoch = now_us;
        }
        self.credit = self.credit.saturating_sub(len);
        self.unread = self.unread.saturating_add(len);
    }

    /// The user took `len` bytes.
    pub(super) const fn consume(&mut self, len: usize) {
        let len = if len > u32::MAX as usize { u32::MAX } else { len as u32 };
        self.unread = self.unread.saturating_sub(len);
        self.taken = self.taken.saturating_add(len);
    }

    /// How much of the limit is used: in company no more than that, since others wait behind
    /// everything that is in flight.
    fn in_use(&self, company: Option<u32>) -> u32 {
        company.map_or(self.limit, |most| self.limit.min(most))
    }

    fn owed(&self, company: Option<u32>) -> u32 {
        self.in_use(company).saturating_sub(self.unread).saturating_sub(self.credit)
    }

    /// Whether so much credit is owed that a frame of its own is worth it.
    pub(super) fn is_due(&self, company: Option<u32>) -> bool {
        let used = self.in_use(company);
        self.owed(company) >= (used / 2).min(LARGE_CREDIT.max(used / GRANTS_PER_WINDOW))
    }

    /// Whether the window is larger than what a new stream has on the wire.
    pub(super) const fn starts_larger(&self) -> bool {
        self.limit > INITIAL_WINDOW
    }

    /// Hands over all credit that is owed.
    pub(super) fn grant(&mut self, company: Option<u32>) -> u32 {
        let delta = self.owed(company);
        self.credit += delta;
        delta
    }

    /// How much the limit should grow, judged by what one round trip carried.
    ///
    /// Credit is granted by half windows, so with bad luck only half of the limit travels in one
    /// round trip: a limit of twice the bandwidth-delay product is never in the way, and one that
    /// is in the way is filled to half. The target is a little more than that, or a limit that
    /// holds the stream back would look like one that is just right.
    ///
    /// A limit grows only while growing has helped: a window beyond what the path holds makes
    /// queues, which lengthen the round trip, which would ask for more window.
    pub(super) fn growth(&mut self, now_us: u64, rtt_us: u64, max: u32) -> Option<Growth> {
        // Bytes come in two bursts a round trip, and this is asked at the end of one. An epoch of
        // two round trips must not take in a burst of the third only because the second was a
        // little shorter than the smallest: such a rate no larger limit could beat.
        let elapsed = now_us.saturating_sub(self.epoch);
        if elapsed < (rtt_us / 4).saturating_mul(7).max(MIN_EPOCH_US) {
            return None;
        }
        let taken = u64::from(std::mem::take(&mut self.taken));
        self.epoch = now_us;
        let rate = u32::try_from(taken * 1_000 / elapsed).unwrap_or(u32::MAX);
        if let Some(by) = self.local_growth(rate, rtt_us, max) {
            return Some(Growth { by, ..Growth::LOCAL });
        }
        let before = std::mem::replace(&mut self.previous, rate);
        let target = (5 * taken).saturating_mul(rtt_us) / (2 * elapsed);
        let target = u32::try_from(target).unwrap_or(u32::MAX);
        let target = target.min(self.limit.saturating_mul(2)).min(max);
        // A little more is not worth a change: growth comes in eighths at least, and so does help.
        if target < self.limit.saturating_add(self.limit / 8) {
            return None;
        }
        // One rate may be luck: what the next limit has to beat is the lesser of two.
        let steady = rate.min(before);
        if steady == 0 {
            return None;
        }
        let helped = rate >= self.baseline.saturating_add(self.baseline / 8);
        if !helped && !self.is_longer_path(rate, rtt_us) {
            return None;
        }
        let rtt = u32::try_from(rtt_us).unwrap_or(u32::MAX);
        Some(Growth { by: target - self.limit, rate: steady, rtt })
    }

    /// Within a machine or a rack the sleeps and wakes of both ends cost more than the path does:
    /// a stream that turns its window over within a millisecond gets one that spares them, and is
    /// no larger than what processors cache. From there on growth has to help.
    fn local_growth(&self, rate: u32, rtt_us: u64, max: u32) -> Option<u32> {
        let most = LOCAL_WINDOW.min(max);
        let busy = rtt_us <= LOCAL_RTT_US && rate >= self.limit;
        (busy && self.limit < most).then(|| (most - self.limit).min(self.limit))
    }

    /// Whether the path has changed since the last growth. Queues of our own also lengthen the
    /// round trip, but carry no less.
    fn is_longer_path(&self, rate: u32, rtt_us: u64) -> bool {
        let longer = rtt_us > u64::from(self.baseline_rtt) * 5 / 4;
        longer && rate < self.baseline - self.baseline / 8
    }

    /// Raises the limit by what [`growth`](Self::growth) asked for.
    pub(super) const fn raise(&mut self, growth: Growth) {
        (self.baseline, self.baseline_rtt) = (growth.rate, growth.rtt);
        self.limit = self.limit.saturating_add(growth.by);
    }

    pub(super) const fn unread(&self) -> u32 {
        self.unread
    }

    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }
}

/// Whether short messages of one stream travel beside the bulk of another: they wait behind all
/// that is in flight (`spec.md §5.5.6`).
#[derive(Debug)]
pub(super) struct Company {
    /// The stream of the last body that was not short.
    bulk: Option<Slot>,
    /// Another one with a short body since then. The head of a long message is none.
    short: Option<Slot>,
    /// Until when more of both is expected, in microseconds of the session.
    until: u64,
}

impl Company {
    pub(super) const fn new() -> Self {
        Self { bulk: None, short: None, until: 0 }
    }

    /// A header announced a body.
    pub(super) fn note(&mut self, slot: Slot, len: u32, now_us: u64) {
        if len as usize > SHORT {
            if self.short.take().is_some_and(|short| short != slot) {
                self.until = now_us.saturating_add(COMPANY_US);
            }
            self.bulk = Some(slot);
        } else if self.bulk != Some(slot) {
            self.short = Some(slot);
        }
    }

    pub(super) const fn is_there(&self, now_us: u64) -> bool {
        now_us < self.until
    }
}

/// Who had a short message may soon have another.
const COMPANY_US: u64 = 100_000;

/// Where the round trip is no longer than this, windows reach [`LOCAL_WINDOW`] by use alone.
const LOCAL_RTT_US: u64 = 1_000;

/// Less costs loopback a third of its throughput, more leaves the cache of one core.
const LOCAL_WINDOW: u32 = 1 << 20;

/// So much credit is worth a frame of its own, though it is less than half of a large window: on a
/// long path half a window withheld is half the rate.
const LARGE_CREDIT: u32 = 1 << 20;

/// Nor are there more grants than these for a window, where it is larger still: one for every
/// mebibyte is thousands a second, and the sender has no use for them.
const GRANTS_PER_WINDOW: u32 = 16;

/// No time has passed since then.
const NOT_BEGUN: u64 = u64::MAX;

/// Shorter epochs measure the scheduler, not the path.
const MIN_EPOCH_US: u64 = 1_000;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A stream that its window alone holds back: what is granted arrives a round trip later, in
    /// one burst. The round trip is known from the `known`th grant on. Returns the limit after so
    /// many round trips.
    fn held_back(rtt_us: u64, known: usize, round_trips: u64) -> u32 {
        let mut grants = 0;
        let mut window = RecvWindow::new(INITIAL_WINDOW);
        let mut on_the_way = VecDeque::from([(0, INITIAL_WINDOW)]);
        while let Some((now, burst)) = on_the_way.pop_front() {
            if now > round_trips * rtt_us {
                break;
            }
            window.receive(burst, now);
            let mut left = burst;
            while left > 0 {
                let taken = left.min(64 << 10);
                left -= taken;
                window.consume(taken as usize);
                if window.is_due(None) {
                    grants += 1;
                    let growth = (grants >= known).then(|| window.growth(now, rtt_us, 16 << 20));
                    if let Some(growth) = growth.flatten() {
                        window.raise(growth);
                    }
                    on_the_way.push_back((now + rtt_us, window.grant(None)));
                }
            }
        }
        window.limit()
    }

    /// `spec.md §5.5.3`: the first window comes at once, and makes the first rate too good; the
    /// next must not have to beat that.
    #[test]
    fn a_first_rate_that_is_too_good_does_not_end_growth() {
        for rtt_us in [5_000, 20_000, 50_000, 300_000] {
            for known in 0..10 {
                let limit = held_back(rtt_us, known, 40);
                assert!(limit >= 15 << 20, "{rtt_us} us, known from grant {known}: {limit}");
            }
        }
    }

    /// `spec.md §5.3.2`: with half of 16 MiB withheld only half the rate goes over a long path; and
    /// of 256 MiB a mebibyte at a time is more frames than anybody needs.
    #[test]
    fn credit_of_a_large_window_comes_in_sixteenths() {
        let (kib, mib) = (1 << 10, 1 << 20);
        for (limit, due) in [
            (256 * kib, 128 * kib),
            (mib, 512 * kib),
            (4 * mib, mib),
            (16 * mib, mib),
            (32 * mib, 2 * mib),
            (256 * mib, 16 * mib),
        ] {
            let mut window = RecvWindow::new(limit);
            window.grant(None);
            window.receive(due + 1, 0);
            window.consume(due as usize - 1);
            assert!(!window.is_due(None), "{limit}");
            window.consume(1);
            assert!(window.is_due(None), "{limit}");
            assert_eq!(window.grant(None), due);
        }
    }
}
