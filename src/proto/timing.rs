//! Time (`spec.md §7`): what is due when, and what happens then. Time comes in as an argument.

use std::time::Instant;

use super::{Core, Direction, Event, Marks, Phase, Slot, ping::Purpose};
use crate::error::SessionError;

/// What a deadline is for. A key is valid while its stream has that id, or that deadline, and
/// still waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timeout {
    User(Slot, Direction, u32),
    Ping(u32),
}

impl Core {
    /// The clock reached [`poll_timeout`](Self::poll_timeout), or went past it.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Finishing { until } | Phase::Lingering { until, .. } if now >= until => {
                self.end();
                return;
            }
            Phase::Open | Phase::Draining { .. } => {}
            Phase::Finishing { .. } | Phase::Lingering { .. } | Phase::Ended => return,
        }
        if self.liveness.stall_due().is_some_and(|due| now >= due) {
            return self.handle_failure(SessionError::WriteStall, now);
        }
        if self.liveness.keepalive_due().is_some_and(|due| now >= due) {
            self.keepalive(now);
        }
        if self.liveness.quiet_due().is_some_and(|due| now >= due) {
            self.quieten(now);
        }
        if self.acks.due().is_some_and(|due| now >= due) {
            self.send_acks();
        }
        self.reset_overdue(now);
        while self.outcome.is_none()
            && let Some(timeout) = self.deadlines.pop_due(now)
        {
            self.expire(timeout);
        }
        self.finish_if_drained(now);
    }

    /// The IO takes no more bytes for now. `progress` says whether it took some since the last
    /// call.
    pub fn handle_blocked(&mut self, progress: bool, now: Instant) {
        self.liveness.note_blocked(progress, now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    #[inline]
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.next_timeout = self.find_timeout();
        self.next_timeout
    }

    #[inline]
    fn find_timeout(&mut self) -> Option<Instant> {
        if !self.timed {
            return None;
        }
        let phase = match self.phase {
            Phase::Finishing { until } | Phase::Lingering { until, .. } => return Some(until),
            Phase::Ended => return None,
            Phase::Draining { until } => until,
            Phase::Open => None,
        };
        self.sweep_deadlines();
        let mut next = phase;
        let mut consider = |due: Option<Instant>| {
            if let Some(due) = due
                && next.is_none_or(|next| due < next)
            {
                next = Some(due);
            }
        };
        consider(self.acks.due());
        consider(self.liveness.quiet_due());
        consider(self.liveness.keepalive_due());
        consider(self.liveness.stall_due());
        consider(self.overdue());
        consider(self.deadlines.next());
        next
    }

    /// Sets or clears a deadline; a call that waits is woken to see it. False without a timer.
    pub fn set_deadline(
        &mut self,
        slot: Slot,
        direction: Direction,
        at: Option<Instant>,
        now: Instant,
    ) -> bool {
        if !self.timed {
            return at.is_none();
        }
        let expired = match direction {
            Direction::Read => Marks::READ_EXPIRED,
            Direction::Write => Marks::WRITE_EXPIRED,
        };
        let marks = &mut self.streams[slot].marks;
        marks.clear(expired);
        if self.user_deadlines.take(slot, direction) {
            self.deadlines.cancelled();
        }
        match at {
            Some(at) if at <= now => marks.set(expired),
            Some(at) => self.add_deadline(slot, direction, at),
            None => {}
        }
        match direction {
            Direction::Read => self.wake_reader(slot),
            Direction::Write => self.wake_writer(slot),
        }
        self.sweep_deadlines();
        true
    }

    /// The first deadline of a direction that nobody waits for yet. One that is past already
    /// shows with the next timeout.
    #[inline]
    pub(crate) fn add_deadline(&mut self, slot: Slot, direction: Direction, at: Instant) {
        if !self.timed {
            return;
        }
        let number = self.user_deadlines.set(slot, direction);
        self.deadlines.push(at, Timeout::User(slot, direction, number));
        // The driver sleeps long enough already, unless this comes first.
        self.wants_driver |= self.next_timeout.is_none_or(|next| at < next);
    }

    /// After a while without input the session gives back what it need not hold.
    fn quieten(&mut self, now: Instant) {
        if self.liveness.falls_quiet(now) {
            self.shrink();
            self.quiet = true;
        }
    }

    fn keepalive(&mut self, now: Instant) {
        if !self.liveness.ask(now) {
            self.finish_session(Err(SessionError::KeepaliveTimeout), None, now);
            self.end();
            return;
        }
        // An old one may never be answered.
        self.pings.forget_all(Purpose::Keepalive);
        self.pings.ask(Purpose::Keepalive);
        self.wants_driver = true;
    }

    fn expire(&mut self, timeout: Timeout) {
        match timeout {
            Timeout::User(slot, direction, number)
                if self.user_deadlines.is(slot, direction, number) =>
            {
                self.user_deadlines.take(slot, direction);
                let entry = &mut self.streams[slot];
                match direction {
                    Direction::Read => {
                        entry.marks.set(Marks::READ_EXPIRED);
                        self.wake_reader(slot);
                    }
                    Direction::Write => {
                        entry.marks.set(Marks::WRITE_EXPIRED);
                        self.wake_writer(slot);
                    }
                }
            }
            Timeout::Ping(value) => {
                if self.pings.forget(value) {
                    self.events.push_back(Event::Pong(value, None));
                }
            }
            Timeout::User(..) => {}
        }
    }

    fn sweep_deadlines(&mut self) {
        if !self.deadlines.wants_sweep() {
            return;
        }
        let mut deadlines = std::mem::replace(&mut self.deadlines, super::DeadlineQueue::new());
        deadlines.sweep(|timeout| match timeout {
            Timeout::User(slot, direction, number) => {
                self.user_deadlines.is(slot, direction, number)
            }
            Timeout::Ping(value) => self.pings.is_open(value),
        });
        self.deadlines = deadlines;
    }
}

/// The deadlines that users set, by number: one that was replaced has another, and one that is
/// over has none. Streams that never had any cost nothing.
#[derive(Debug)]
pub(super) struct UserDeadlines {
    /// By slot and direction; 0 where none is set.
    numbers: Vec<[u32; 2]>,
    last: u32,
}

impl UserDeadlines {
    pub(super) const fn new() -> Self {
        Self { numbers: Vec::new(), last: 0 }
    }

    /// The number of a new deadline.
    fn set(&mut self, slot: Slot, direction: Direction) -> u32 {
        if slot.index() >= self.numbers.len() {
            self.numbers.resize(slot.index() + 1, [0; 2]);
        }
        self.last = self.last.wrapping_add(1).max(1);
        self.numbers[slot.index()][direction as usize] = self.last;
        self.last
    }

    /// Forgets a deadline; whether there was one.
    pub(super) fn take(&mut self, slot: Slot, direction: Direction) -> bool {
        let numbers = self.numbers.get_mut(slot.index());
        numbers.is_some_and(|numbers| std::mem::take(&mut numbers[direction as usize]) != 0)
    }

    /// Whether this deadline is the one that is set.
    fn is(&self, slot: Slot, direction: Direction, number: u32) -> bool {
        let numbers = self.numbers.get(slot.index());
        numbers.is_some_and(|numbers| numbers[direction as usize] == number)
    }

    /// Forgets those of a stream; how many there were.
    pub(super) fn take_both(&mut self, slot: Slot) -> usize {
        let numbers = self.numbers.get_mut(slot.index()).map(std::mem::take);
        numbers.map_or(0, |numbers| numbers.iter().filter(|number| **number != 0).count())
    }

    /// Gives back the memory of a session without streams.
    pub(super) fn release(&mut self) {
        self.numbers = Vec::new();
    }
}
