//! ACKs, which may wait a moment for a frame to ride on (`spec.md §4.3.3`).

use std::time::Instant;

use super::{Core, Marks, Slot};

/// The ACKs that are owed.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// Streams whose ACK waits for a frame to ride on; some have found one.
    owed: Vec<Slot>,
    /// When they go out by themselves.
    due: Option<Instant>,
    /// Batches since many are owed; one that was empty counts for [`ENOUGH_TURNS`].
    turns: u8,
}

impl Acks {
    pub(super) const fn len(&self) -> usize {
        self.owed.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Many are owed, and have waited for answers to ride on.
    pub(super) const fn had_a_turn(&self) -> bool {
        self.turns >= ENOUGH_TURNS
    }

    /// The session is over: nobody waits for them.
    pub(super) const fn forget_time(&mut self) {
        self.due = None;
    }
}

impl Core {
    /// `spec.md §4.3`: an ACK may wait a moment for a frame to ride on, but not for long.
    #[inline]
    pub(super) fn owe_ack(&mut self, slot: Slot) {
        let marks = &mut self.streams[slot].marks;
        marks.set(Marks::OWES_ACK);
        if !marks.any(Marks::IN_ACKS) {
            marks.set(Marks::IN_ACKS);
            self.acks.owed.push(slot);
        }
        if !self.timed || self.limits.ack_delay.is_zero() {
            self.send_acks();
        } else {
            self.wants_driver |= self.acks.due.is_none() || self.owes_many_acks();
        }
    }

    fn owes_many_acks(&self) -> bool {
        self.acks.len() >= (self.limits.accept_backlog / 4).max(1)
    }

    /// What has found no frame to ride on by now may wait for one a little longer.
    pub(super) fn arm_acks(&mut self, now: Instant) {
        if self.acks.is_empty() || self.acks.due.is_some() {
            return;
        }
        self.keep_owed_acks();
        if !self.acks.is_empty() {
            self.acks.due = Some(now + self.limits.ack_delay);
        }
    }

    /// Where many ACKs are owed: counts the batches for which they have waited for an answer to ride
    /// on.
    pub(super) fn leave_a_turn(&mut self, turns: u8) {
        let many = self.owes_many_acks();
        self.acks.turns = if many { self.acks.turns.saturating_add(turns) } else { 0 };
    }

    /// Sends them by themselves once those who were handed the streams have had time to answer.
    pub(super) fn send_many_acks(&mut self) {
        if self.acks.had_a_turn() {
            self.acks.turns = 0;
            self.keep_owed_acks();
            if self.owes_many_acks() {
                self.send_acks();
            }
        }
    }

    fn keep_owed_acks(&mut self) {
        self.acks.owed.retain(|&slot| {
            // Where the stream is gone by now, no mark says that it owes anything.
            let marks = &mut self.streams[slot].marks;
            let owes = marks.any(Marks::OWES_ACK);
            if !owes {
                marks.clear(Marks::IN_ACKS);
            }
            owes
        });
    }

    /// Every ACK that has found no frame to ride on gets one of its own.
    pub(super) fn send_acks(&mut self) {
        self.acks.due = None;
        let mut acks = std::mem::take(&mut self.acks.owed);
        for slot in acks.drain(..) {
            let marks = &mut self.streams[slot].marks;
            marks.clear(Marks::IN_ACKS);
            if marks.any(Marks::OWES_ACK) {
                self.owe(slot, Marks::ACK_NOW);
            }
        }
        self.acks.owed = acks;
    }
}

/// After this many batches whoever was handed a stream has had time to answer: one poll of a driver
/// writes no more.
pub(super) const ENOUGH_TURNS: u8 = 2;
