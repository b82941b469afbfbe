//! Output: batches for the IO, events for the waiters, the next deadline, and getters.

use std::{collections::VecDeque, time::Instant};

use super::{
    Acks, Batch, Core, End, Entry, Event, Line, Marks, Phase, Slot, State, Stats,
    acks::ENOUGH_TURNS, ping::Purpose,
};
use crate::{
    error::{ResetCode, SessionError},
    frame::{Flags, Header, Kind, StreamId},
};

/// What the shell is to do with the IO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoStep {
    /// Write what there is, read what comes.
    Run,
    /// Write the last batch, then close the writing side and report
    /// [`handle_shutdown`](Core::handle_shutdown).
    Shutdown,
    /// Read and discard.
    Linger,
    /// Drop the IO: the session is over.
    Done(Result<(), SessionError>),
}

impl Core {
    /// Moves everything that is staged or owed into `batch`, which is empty. Returns the number
    /// to report to [`handle_flushed`](Self::handle_flushed) once the batch was written and
    /// flushed, or `None` if there is nothing to write.
    #[inline]
    pub fn take_output(&mut self, batch: &mut Batch, now: Instant) -> Option<u64> {
        self.wants_driver = false;
        if self.has_nothing_to_do() { None } else { self.take_batch(batch, now) }
    }

    fn take_batch(&mut self, batch: &mut Batch, now: Instant) -> Option<u64> {
        self.stage_ahead(now);
        self.send_many_acks();
        self.stage_owed(now);
        self.arm_acks(now);
        self.finish_if_drained(now);
        while self.outcome.is_some() && !self.owed.is_empty() {
            // GoAway ends what this side has to say: resets go out before it.
            self.stage_owed(now);
        }
        if let Some(code) = self.go_away.take() {
            let kind = Kind::GoAway;
            self.staging.trail(Header {
                kind,
                flags: Flags::NONE,
                stream: StreamId::SESSION,
                length: code.0,
            });
        }
        self.release_tables();
        if self.staging.is_empty() {
            if self.line.has_lapsed() {
                self.grant_turns();
            }
            self.leave_a_turn(ENOUGH_TURNS);
            return None;
        }
        self.leave_a_turn(1);
        let number = self.batches.take(self.staging.len(), now);
        self.staging.swap(batch);
        self.line.begin();
        self.grant_turns();
        Some(number)
    }

    /// The usual case of a driver that looks once more.
    fn has_nothing_to_do(&self) -> bool {
        matches!(self.phase, Phase::Open)
            && !self.has_output()
            && self.acks.is_empty()
            && self.streams.live() > 0
    }

    /// Whether [`take_output`](Self::take_output) may find something.
    pub fn has_output(&self) -> bool {
        !self.staging.is_empty()
            || !self.owed.is_empty()
            || !self.line.is_empty()
            || !self.refusals.is_empty()
            || self.acks.had_a_turn()
            || self.pings.has_output()
            || self.go_away.is_some()
    }

    /// Bytes staged and not taken.
    pub const fn staged(&self) -> usize {
        self.staging.len()
    }

    /// The next thing some waiter waited for.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there are events to poll.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether a command left something for the driver to do, since it last took output.
    pub const fn take_driver_wake(&mut self) -> bool {
        std::mem::replace(&mut self.wants_driver, false)
    }

    /// Whether the session has fallen idle since this was asked last.
    pub const fn take_quiet(&mut self) -> bool {
        std::mem::replace(&mut self.quiet, false)
    }

    /// Whether so many answers are owed that the next thing to do is to write them.
    pub fn owes_answers(&self) -> bool {
        self.pings.owed() + self.refusals.len() > MANY_ANSWERS
    }

    /// Gives back memory that an idle session need not hold.
    pub fn shrink(&mut self) {
        if self.staging.is_empty() {
            self.staging.shrink();
        }
        if self.budget.buffered == 0 {
            self.buffers.shrink();
        }
    }

    /// Gives back the tables of a session that had many streams and has none.
    fn release_tables(&mut self) {
        let listed = self.owed.len() + self.line.len() + self.acks.len() + self.flush_waiters.len();
        if self.streams.live() == 0 && listed == 0 && self.streams.is_large() {
            self.streams.release();
            self.owed = VecDeque::new();
            self.line = Line::default();
            self.acks = Acks::default();
            self.user_deadlines.release();
            self.events.shrink_to(0);
        }
    }

    /// Counters, and what is held now.
    pub fn stats(&self) -> Stats {
        Stats {
            outbound_streams: self.outbound,
            inbound_streams: self.inbound,
            accept_backlog: self.accept_queue.len(),
            ack_backlog: self.unacked,
            buffered: self.budget.buffered,
            extra_credit: self.budget.extra_credit,
            staged: self.staging.len(),
            ..self.stats
        }
    }

    /// Streams in the table, finished ones that are still held included.
    pub const fn live_streams(&self) -> usize {
        self.streams.live()
    }

    /// What the peer may still send on a stream, and how large its window may be: for tests.
    pub fn receive_window(&self, slot: Slot) -> (u32, u32) {
        let Entry { state, recv, .. } = &self.streams[slot];
        (if state.can_receive() { recv.credit() } else { 0 }, recv.limit())
    }

    /// What goes ahead of everything that is staged (`spec.md §6.3`): pongs, pings, and the RSTs of
    /// streams that were refused.
    fn stage_ahead(&mut self, now: Instant) {
        let (kind, stream) = (Kind::Ping, StreamId::SESSION);
        while let Some(length) = self.pings.pay() {
            self.staging.lead(Header { kind, flags: Flags::ACK, stream, length });
        }
        while let Some(length) = self.pings.stage(now) {
            self.staging.lead(Header { kind, flags: Flags::SYN, stream, length });
        }
        // That there is none, as a rule, is found out cheaper than by asking for the first.
        while !self.refusals.is_empty()
            && let Some(stream) = self.refusals.pop_first()
        {
            let (kind, flags) = (Kind::WindowUpdate, Flags::RST);
            self.staging.lead(Header { kind, flags, stream, length: ResetCode::REFUSED.0 });
        }
    }

    /// SYN, ACK, credit, FIN and RST of every stream that owes one.
    fn stage_owed(&mut self, now: Instant) {
        if self.owed.is_empty() {
            return;
        }
        self.note_begin(now);
        // Bounded: what does not fit goes with the next batch.
        for _ in 0..self.owed.len().min(MAX_OWED_PER_BATCH) {
            let Some(slot) = self.owed.pop_front() else { return };
            // Where the stream is gone by now, no mark says that it owes anything.
            let marks = &mut self.streams[slot].marks;
            marks.clear(Marks::IN_OWED);
            let marks = *marks;
            if marks.any(Marks::OWES_RST) {
                self.stage_rst(slot, now);
                continue;
            }
            if marks.any(Marks::UNACKED) {
                self.await_ack(slot, now);
            }
            if marks.any(Marks::OWES_WINDOW) {
                self.stage_window_update(slot, now);
            }
            if marks.any(Marks::OWES_FIN) {
                self.stage_fin(slot, now);
            } else if marks.any(Marks::ARMS_CLOSE) {
                self.streams[slot].marks.clear(Marks::ARMS_CLOSE);
                self.await_fin(slot, now);
            }
        }
    }

    fn stage_rst(&mut self, slot: Slot, now: Instant) {
        let early = self.streams[slot].marks.any(Marks::UNACKED);
        if early && matches!(self.phase, Phase::Open) && !self.early_resets_sent.count(now) {
            // `spec.md §9.2.5`: it waits for the ACK of its stream, or for `open_timeout`.
            return self.await_ack(slot, now);
        }
        let entry = &mut self.streams[slot];
        entry.marks.clear(Marks::OWES_RST);
        self.stats.resets_sent += 1;
        let code = match entry.end {
            End::Local(code) | End::User(code) => code,
            End::None | End::Remote(_) | End::Session => ResetCode::CANCELLED,
        };
        let stream = entry.stream_id();
        entry.staged_in = self.batches.current();
        let (kind, flags) = (Kind::WindowUpdate, Flags::RST);
        self.staging.trail(Header { kind, flags, stream, length: code.0 });
        self.unlink(slot);
        self.forget_if_over(slot);
    }

    fn stage_window_update(&mut self, slot: Slot, now: Instant) {
        let mut flags = Flags::NONE;
        let syn = self.streams[slot].marks.any(Marks::OWES_SYN);
        if syn {
            flags = flags.with(Flags::SYN);
            self.stage_syn(slot);
        }
        let delta = self.owed_credit(slot, syn, now);
        let entry = &self.streams[slot];
        let alone = entry.marks.any(Marks::ACK_NOW.with(Marks::OWES_FIN));
        if entry.marks.any(Marks::OWES_ACK) && (delta > 0 || alone) {
            flags = flags.with(Flags::ACK);
            self.stage_ack(slot);
        }
        let entry = &mut self.streams[slot];
        // ACK without credit rides on the FIN that follows.
        if flags == Flags::ACK && delta == 0 && entry.marks.any(Marks::OWES_FIN) {
            entry.marks.set(Marks::ACK_NOW);
            return;
        }
        if flags == Flags::NONE && delta == 0 {
            return;
        }
        let stream = entry.stream_id();
        let header = Header { kind: Kind::WindowUpdate, flags, stream, length: delta };
        // Credit alone may overtake other streams, never what its own stream has staged.
        if flags == Flags::NONE && entry.staged_in != self.batches.current() {
            self.staging.lead(header);
        } else {
            self.staging.trail(header);
        }
        entry.staged_in = self.batches.current();
    }

    fn owed_credit(&mut self, slot: Slot, syn: bool, now: Instant) -> u32 {
        let entry = &self.streams[slot];
        let first = syn || entry.marks.any(Marks::ACK_NOW.with(Marks::OWES_ACK));
        let due = entry.marks.any(Marks::OWES_CREDIT);
        // The peer of a dropped read half is not encouraged (`spec.md §4.5.9`).
        let unread = entry.marks.any(Marks::DISCARD) && entry.marks.any(Marks::HELD);
        if !(first || due) || unread || !entry.state.can_receive() {
            return 0;
        }
        if due {
            self.tune_window(slot, now);
        }
        let company = self.in_company();
        let entry = &mut self.streams[slot];
        entry.marks.clear(Marks::OWES_CREDIT);
        entry.recv.grant(company)
    }

    /// `spec.md §5.5`.
    fn tune_window(&mut self, slot: Slot, now: Instant) {
        if !self.tunes_windows() {
            return;
        }
        if self.round_trip.wants_probe(now)
            && !self.pings.is_asking(Purpose::RoundTrip, now, self.limits.ping_timeout)
        {
            // An old one may never be answered.
            self.pings.forget_all(Purpose::RoundTrip);
            if self.pings.ask(Purpose::RoundTrip).is_some() {
                self.wants_driver = true;
                self.stage_ahead(now);
            }
        }
        let Some(rtt) = self.round_trip.smallest() else { return };
        let rtt = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        let micros = self.micros(now);
        let max = self.limits.max_stream_window;
        let growth = self.streams[slot].recv.growth(micros, rtt, max);
        if let Some(growth) = growth
            && self.budget.charge(growth.by as usize)
        {
            self.streams[slot].recv.raise(growth);
        }
    }

    fn stage_fin(&mut self, slot: Slot, now: Instant) {
        let entry = &mut self.streams[slot];
        let mut flags = Flags::FIN;
        if entry.marks.take(Marks::ACK_NOW) {
            flags = flags.with(Flags::ACK);
        }
        entry.marks.clear(Marks::OWES_FIN);
        entry.staged_in = self.batches.current();
        let (stream, closed) = (entry.stream_id(), entry.state == State::Closed);
        self.staging.trail(Header { kind: Kind::WindowUpdate, flags, stream, length: 0 });
        if closed {
            self.wake_writer(slot);
            self.unlink(slot);
            self.forget_if_over(slot);
        } else {
            self.await_fin(slot, now);
        }
    }
}

/// Pongs and refusals that one more read must not be added to.
const MANY_ANSWERS: usize = 1_024;

/// Frames of owed control in one batch: 96 KiB of them.
const MAX_OWED_PER_BATCH: usize = 8_192;
