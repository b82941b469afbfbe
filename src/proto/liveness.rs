//! Whether the connection still moves (`spec.md §7`): what was heard of the peer, and what the IO
//! takes.

use std::time::{Duration, Instant};

use crate::{chance::Chance, config::Limits};

/// When the peer was last heard, and since when the IO is stuck. Without a timer nothing is ever due.
#[derive(Debug)]
pub(super) struct Liveness {
    heard: Instant,
    /// A little less than configured, and different for every session.
    keepalive: Option<Duration>,
    ping_timeout: Duration,
    /// When a keepalive ping was sent, if nothing has arrived since.
    asked: Option<Instant>,
    write_timeout: Option<Duration>,
    /// Since when the IO has taken nothing of what it was given.
    blocked: Option<Instant>,
    timed: bool,
    /// When it is to be seen whether the session has fallen idle.
    quiet_due: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(limits: &Limits, timed: bool, chance: &mut Chance, now: Instant) -> Self {
        let keepalive = limits.keepalive.map(|every| every.mul_f64(chance.between(0.9, 1.0)));
        Self {
            heard: now,
            keepalive: keepalive.filter(|_| timed),
            ping_timeout: limits.ping_timeout,
            asked: None,
            write_timeout: limits.write_timeout.filter(|_| timed),
            blocked: None,
            timed,
            quiet_due: None,
        }
    }

    /// Something arrived.
    #[inline]
    pub(super) fn note_input(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
        if self.quiet_due.is_none() && self.timed {
            self.quiet_due = Some(now + QUIET);
        }
    }

    /// The IO takes no more for now. `progress`: it took some since it was last asked.
    pub(super) const fn note_blocked(&mut self, progress: bool, now: Instant) {
        if progress || self.blocked.is_none() {
            self.blocked = Some(now);
        }
    }

    /// The IO took all it was given.
    pub(super) const fn note_flushed(&mut self) {
        self.blocked = None;
    }

    /// When the peer is to be asked for a sign of life, or has failed to give one.
    pub(super) fn keepalive_due(&self) -> Option<Instant> {
        let every = self.keepalive?;
        Some(self.asked.map_or(self.heard + every, |asked| asked + self.ping_timeout))
    }

    /// A keepalive is due. False: the one before had no answer.
    pub(super) const fn ask(&mut self, now: Instant) -> bool {
        if self.asked.is_some() {
            return false;
        }
        self.asked = Some(now);
        true
    }

    /// When the IO has been stuck for too long.
    pub(super) fn stall_due(&self) -> Option<Instant> {
        Some(self.blocked? + self.write_timeout?)
    }

    /// When [`falls_quiet`](Self::falls_quiet) is to be asked.
    pub(super) const fn quiet_due(&self) -> Option<Instant> {
        self.quiet_due
    }

    /// Whether the session falls idle now. If not, it is to be asked again later.
    pub(super) fn falls_quiet(&mut self, now: Instant) -> bool {
        let due = self.heard + QUIET;
        self.quiet_due = (now < due).then_some(due);
        self.quiet_due.is_none()
    }
}

/// A session without input for so long is idle.
const QUIET: Duration = Duration::from_secs(10);
