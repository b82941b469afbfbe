//! Streams that wait for their peer: to be acknowledged, or to be finished by it too
//! (`spec.md §7.3`, `§7.4`).
//!
//! The time limit is the same for all of them, and hardly any ever meets it. So a stream notes only
//! since when it waits, and the session when the first of them could be overdue: not before then
//! does it look through its table. With deadlines of its own in the queue, set and cancelled, a short
//! stream cost 200 instructions of 9,000 more.

use std::time::{Duration, Instant};

use super::{Core, Marks, Slot, State, stream::End};
use crate::error::{GoAwayCode, ResetCode, SessionError};

/// What a stream waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The ACK of its SYN.
    Ack = 0,
    /// The FIN of the peer, after ours.
    Fin = 1,
}

impl Wait {
    const ALL: [Self; 2] = [Self::Ack, Self::Fin];

    /// What a stream that waits is marked with.
    const fn mark(self) -> Marks {
        match self {
            Self::Ack => Marks::AWAITS_ACK,
            Self::Fin => Marks::AWAITS_FIN,
        }
    }
}

/// The streams that wait for the same thing.
#[derive(Debug)]
pub(super) struct Waiting {
    count: usize,
    /// None of them is overdue before.
    due: Instant,
    /// What their time is counted in, in microseconds: a millisecond, or more where the limit is
    /// longer than 2^30 of them, twelve days.
    tick: u64,
    /// When what is being staged begins to wait.
    begin: u32,
}

impl Waiting {
    pub(super) fn new(limit: Option<Duration>, now: Instant) -> Self {
        let micros = limit.unwrap_or_default().as_micros() as u64;
        Self { count: 0, due: now, tick: (micros >> 30).max(1_000), begin: 0 }
    }

    /// One of them waits no more.
    pub(super) const fn leave(&mut self) {
        self.count -= 1;
    }

    /// When a wait begins. Rounded up, so that none ends early; it may end two ticks late.
    const fn begins(&self, micros: u64) -> u32 {
        micros.div_ceil(self.tick) as u32
    }

    /// How long one has waited: no time at all, where the clock was set back.
    fn waited(&self, since: u32, micros: u64) -> Duration {
        let ticks = ((micros / self.tick) as u32).wrapping_sub(since).cast_signed();
        Duration::from_micros(u64::try_from(ticks).unwrap_or(0) * self.tick)
    }

    /// When to look for those that are overdue.
    fn due(&self) -> Option<Instant> {
        (self.count > 0).then_some(self.due)
    }
}

impl Core {
    /// With its SYN: the stream waits for its ACK, if it still does.
    #[inline]
    pub(super) fn await_ack(&mut self, slot: Slot, now: Instant) {
        let Some(limit) = self.limits.open_timeout else { return };
        let entry = &self.streams[slot];
        if entry.marks.any(Marks::UNACKED) && !entry.marks.any(Marks::AWAITS_ACK) {
            self.begin_to_wait(slot, Wait::Ack, limit, now);
        }
    }

    /// Once FIN is staged, or the holder let go: the stream waits for the peer's, if it still does.
    #[inline]
    pub(super) fn await_fin(&mut self, slot: Slot, now: Instant) {
        let entry = &mut self.streams[slot];
        debug_assert!(!entry.marks.any(Marks::AWAITS_FIN), "a stream that waits already");
        if entry.state != State::LocalClosed {
            return;
        }
        // `spec.md §7.4.4`: the time of a patient holder starts when it lets go.
        if entry.marks.any(Marks::PATIENT) && entry.marks.any(Marks::HELD) {
            return;
        }
        entry.marks.clear(Marks::PROGRESS);
        self.begin_to_wait(slot, Wait::Fin, self.limits.close_timeout, now);
    }

    /// What is staged from here on begins to wait now.
    pub(super) fn note_begin(&mut self, now: Instant) {
        let micros = self.micros(now);
        for waiting in &mut self.waiting {
            waiting.begin = waiting.begins(micros);
        }
    }

    #[inline]
    fn begin_to_wait(&mut self, slot: Slot, wait: Wait, limit: Duration, now: Instant) {
        let waiting = &mut self.waiting[wait as usize];
        if waiting.count == 0 {
            waiting.due = now + limit;
        }
        waiting.count += 1;
        let entry = &mut self.streams[slot];
        entry.marks.set(wait.mark());
        entry.waits_since[wait as usize] = waiting.begin;
    }

    /// When [`reset_overdue`](Self::reset_overdue) has something to do.
    #[inline]
    pub(super) fn overdue(&self) -> Option<Instant> {
        let [ack, fin] = &self.waiting;
        ack.due().into_iter().chain(fin.due()).min()
    }

    /// Streams that have waited for too long are reset.
    pub(super) fn reset_overdue(&mut self, now: Instant) {
        for wait in Wait::ALL {
            if self.waiting[wait as usize].due().is_some_and(|due| now >= due) {
                self.look_for_overdue(wait, now);
            }
        }
    }

    fn look_for_overdue(&mut self, wait: Wait, now: Instant) {
        let limit = match wait {
            Wait::Ack => self.limits.open_timeout,
            Wait::Fin => Some(self.limits.close_timeout),
        };
        let Some(limit) = limit else { return };
        let present = self.micros(now);
        let mut next = now + limit;
        let mut looked = 0;
        for slot in self.streams.slots() {
            if self.outcome.is_some() {
                return;
            }
            looked += 1;
            let entry = &self.streams[slot];
            if entry.marks.any(wait.mark()) {
                let since = entry.waits_since[wait as usize];
                match limit.checked_sub(self.waiting[wait as usize].waited(since, present)) {
                    Some(rest) if !rest.is_zero() => next = next.min(now + rest),
                    _ => self.handle_overdue(slot, wait, now),
                }
            }
        }
        // Where each of very many is overdue at another moment, most of the time is for others.
        let pause = Duration::from_micros(looked);
        self.waiting[wait as usize].due = next.max(now + pause);
    }

    fn handle_overdue(&mut self, slot: Slot, wait: Wait, now: Instant) {
        let present = self.waiting[wait as usize].begins(self.micros(now));
        let entry = &mut self.streams[slot];
        let held = entry.marks.any(Marks::HELD);
        if wait == Wait::Fin && held && entry.marks.take(Marks::PROGRESS) {
            entry.waits_since[wait as usize] = present;
            return;
        }
        entry.marks.clear(wait.mark());
        self.waiting[wait as usize].leave();
        match wait {
            // Its reset has waited long enough (`spec.md §9.2.5`).
            Wait::Ack if entry.state == State::Reset => self.release_permit(slot),
            Wait::Ack if self.limits.open_timeout_ends_session => {
                let code = GoAwayCode::INTERNAL_ERROR;
                self.finish_session(Err(SessionError::OpenTimeout), Some(code), now);
            }
            Wait::Ack => self.end_stream(slot, End::Local(ResetCode::OPEN_TIMEOUT)),
            Wait::Fin => self.end_stream(slot, End::Local(ResetCode::CLOSE_TIMEOUT)),
        }
    }
}
