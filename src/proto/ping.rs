//! Pings in both directions, and the round trip they measure (`spec.md §7.1`).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Pings of ours that wait for their pong, and pongs that we owe.
#[derive(Debug)]
pub(super) struct Pings {
    next: u32,
    sent: VecDeque<Probe>,
    unsent: usize,
    owed: VecDeque<u32>,
}

impl Pings {
    pub(super) const fn new() -> Self {
        Self { next: 1, sent: VecDeque::new(), unsent: 0, owed: VecDeque::new() }
    }

    /// Queues a ping, unless too many are unanswered: peers answer no more than that.
    pub(super) fn ask(&mut self, purpose: Purpose) -> Option<u32> {
        if self.sent.len() >= MAX_OUTSTANDING {
            return None;
        }
        let value = self.next;
        self.next = self.next.wrapping_add(1);
        self.sent.push_back(Probe { value, purpose, at: None });
        self.unsent += 1;
        Some(value)
    }

    /// Whether a ping for `purpose` is unanswered and no older than `patience`: pongs get lost.
    pub(super) fn is_asking(&self, purpose: Purpose, now: Instant, patience: Duration) -> bool {
        let fresh = |at: Instant| now.saturating_duration_since(at) < patience;
        self.sent.iter().any(|probe| probe.purpose == purpose && probe.at.is_none_or(fresh))
    }

    /// Nobody waits any more for what was asked for `purpose`.
    pub(super) fn forget_all(&mut self, purpose: Purpose) {
        let unsent = |probe: &&Probe| probe.purpose == purpose && probe.at.is_none();
        self.unsent -= self.sent.iter().filter(unsent).count();
        self.sent.retain(|probe| probe.purpose != purpose);
    }

    /// Whether somebody waits for this pong.
    pub(super) fn is_open(&self, value: u32) -> bool {
        self.sent.iter().any(|probe| probe.value == value)
    }

    pub(super) fn owed(&self) -> usize {
        self.owed.len()
    }

    /// The value of the next ping to stage. The clock of its round trip starts now.
    pub(super) fn stage(&mut self, now: Instant) -> Option<u32> {
        if self.unsent == 0 {
            return None;
        }
        self.unsent -= 1;
        let probe = self.sent.iter_mut().find(|probe| probe.at.is_none())?;
        probe.at = Some(now);
        Some(probe.value)
    }

    /// A pong came; `None` if nobody asked.
    pub(super) fn answered(&mut self, value: u32, now: Instant) -> Option<(Purpose, Duration)> {
        let index =
            self.sent.iter().position(|probe| probe.value == value && probe.at.is_some())?;
        let probe = self.sent.remove(index)?;
        Some((probe.purpose, now.saturating_duration_since(probe.at?)))
    }

    /// Nobody waits for this one any more; its pong will be unknown. Returns whether it was still
    /// unanswered.
    pub(super) fn forget(&mut self, value: u32) -> bool {
        let index = self.sent.iter().position(|probe| probe.value == value);
        let Some(probe) = index.and_then(|index| self.sent.remove(index)) else { return false };
        if probe.at.is_none() {
            self.unsent -= 1;
        }
        true
    }

    /// The peer pinged; false if it has asked far more than it has read answers.
    pub(super) fn owe(&mut self, value: u32) -> bool {
        if self.owed.back() == Some(&value) {
            return true;
        }
        if self.owed.len() >= MAX_OWED {
            return false;
        }
        self.owed.push_back(value);
        true
    }

    pub(super) fn pay(&mut self) -> Option<u32> {
        self.owed.pop_front()
    }

    pub(super) fn has_output(&self) -> bool {
        self.unsent > 0 || !self.owed.is_empty()
    }
}

/// go-yamux answers no more pings at a time than this.
const MAX_OUTSTANDING: usize = 32;

/// Pongs owed to a peer that does not read them: more than one read can ask for, and 32 KiB.
const MAX_OWED: usize = 8_192;

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    User,
    Keepalive,
    RoundTrip,
}

#[derive(Debug)]
struct Probe {
    value: u32,
    purpose: Purpose,
    at: Option<Instant>,
}

/// The smallest of the recent round trips: the path without our own queues.
#[derive(Debug)]
pub(super) struct RoundTrip {
    samples: VecDeque<(Instant, Duration)>,
    smallest: Option<Duration>,
    next_probe: Option<Instant>,
}

impl RoundTrip {
    pub(super) const fn new() -> Self {
        Self { samples: VecDeque::new(), smallest: None, next_probe: None }
    }

    pub(super) const fn smallest(&self) -> Option<Duration> {
        self.smallest
    }

    /// Whether so few bytes fit on the path that no stream needs more than it starts with.
    pub(super) fn is_short(&self) -> bool {
        self.smallest.is_some_and(|rtt| rtt <= SHORT_PATH)
    }

    pub(super) fn sample(&mut self, now: Instant, rtt: Duration) {
        self.samples.push_back((now, rtt));
        while self.samples.len() > MAX_SAMPLES
            || self
                .samples
                .front()
                .is_some_and(|(at, _)| now.saturating_duration_since(*at) > SAMPLE_LIFE)
        {
            self.samples.pop_front();
        }
        self.smallest = self.samples.iter().map(|(_, rtt)| *rtt).min();
        let pause = if self.samples.len() < QUICK_SAMPLES { Duration::ZERO } else { PROBE_PAUSE };
        self.next_probe = Some(now + pause);
    }

    /// Whether data that flows now should be accompanied by a probe.
    pub(super) fn wants_probe(&self, now: Instant) -> bool {
        self.next_probe.is_none_or(|at| now >= at)
    }
}

/// The first samples are taken one after the other: the very first is often ten times too high.
const QUICK_SAMPLES: usize = 4;

/// Then one at a time, this far apart.
const PROBE_PAUSE: Duration = Duration::from_millis(500);

/// A path may change: older samples are forgotten.
const SAMPLE_LIFE: Duration = Duration::from_secs(5);

const MAX_SAMPLES: usize = 20;

/// 256 KiB per round trip are 4 Gbit/s here, and 20 where it takes 100 µs.
const SHORT_PATH: Duration = Duration::from_micros(500);
