//! Output: batches for the IO, events for the waiters, the next deadline, and getters.

use std::time::{Duration, Instant};

use super::{
    Batch, Core, Event, MIN_STAGING_LIMIT, Marks, Phase, SLOW_BATCH, Slot, State, Stats, Timeout,
    ping::Purpose,
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
    pub fn take_output(&mut self, batch: &mut Batch, now: Instant) -> Option<u64> {
        self.wants_driver = false;
        self.stage_pings(now);
        self.stage_owed(now);
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
        if self.staging.is_empty() {
            // Turns given out and not used lapse: the next in line must not wait for them.
            self.grant_turns();
            return None;
        }
        self.batch_taken = Some((now, self.staging.len()));
        self.staging.swap(batch);
        let number = self.batch;
        self.batch += 1;
        self.grant_turns();
        Some(number)
    }

    /// Whether [`take_output`](Self::take_output) may find something.
    pub fn has_output(&self) -> bool {
        !self.staging.is_empty()
            || !self.owed.is_empty()
            || !self.line.is_empty()
            || !self.refusals.is_empty()
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

    /// What the shell is to do with the IO.
    pub fn io_step(&self) -> IoStep {
        match self.phase {
            Phase::Open | Phase::Draining { .. } => IoStep::Run,
            Phase::Finishing { .. } => IoStep::Shutdown,
            Phase::Lingering { .. } => IoStep::Linger,
            Phase::Ended => IoStep::Done(self.outcome.unwrap_or(Ok(()))),
        }
    }

    /// Whether the session is over, and how it ended.
    pub fn outcome(&self) -> Option<Result<(), SessionError>> {
        matches!(self.phase, Phase::Ended).then(|| self.outcome.unwrap_or(Ok(())))
    }

    /// How the session ends, from when that is decided on; the IO may still be busy with it.
    pub const fn ended(&self) -> Option<Result<(), SessionError>> {
        self.outcome
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
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
        [phase, self.ack_due, self.keepalive_due(), self.stall_due(), self.deadlines.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether nothing came for so long that a keepalive ping is under way.
    pub const fn is_idle(&self) -> bool {
        self.keepalive_sent.is_some()
    }

    /// Gives back memory that an idle session need not hold.
    pub fn shrink(&mut self) {
        if self.staging.is_empty() {
            self.staging.shrink();
        }
        if self.buffered == 0 {
            self.buffers.shrink();
        }
    }

    /// Counters, and what is held now.
    pub fn stats(&self) -> Stats {
        Stats {
            outbound_streams: self.outbound,
            inbound_streams: self.inbound,
            accept_backlog: self.accept_queue.len(),
            ack_backlog: self.unacked,
            buffered: self.buffered,
            extra_credit: self.extra_credit,
            staged: self.staging.len(),
            ..self.stats
        }
    }

    /// Streams in the table, finished ones that are still held included.
    pub const fn live_streams(&self) -> usize {
        self.streams.live()
    }

    /// What the peer may still send on a stream and what it was promised at most: for tests.
    pub fn receive_window(&self, slot: Slot) -> (u32, u32) {
        let recv = &self.streams[slot].recv;
        (recv.credit(), recv.limit())
    }

    pub(super) fn keepalive_due(&self) -> Option<Instant> {
        let interval = self.keepalive_interval.filter(|_| self.timed)?;
        match self.keepalive_sent {
            Some(sent) => Some(sent + self.limits.ping_timeout),
            None => Some(self.last_received + interval),
        }
    }

    pub(super) fn stall_due(&self) -> Option<Instant> {
        let timeout = self.limits.write_timeout.filter(|_| self.timed)?;
        Some(self.blocked_since? + timeout)
    }

    /// A batch that takes long on the wire holds up control behind it: keep the next one smaller
    /// (`spec.md §6`).
    pub(super) fn adapt_staging(&mut self, took: Duration, len: usize) {
        if took > SLOW_BATCH {
            self.staging_limit = (self.staging_limit / 2).max(MIN_STAGING_LIMIT);
        } else if len >= self.staging_limit {
            self.staging_limit = (self.staging_limit * 2).min(self.limits.staging_limit);
        }
    }

    fn sweep_deadlines(&mut self) {
        let mut deadlines = std::mem::replace(&mut self.deadlines, super::DeadlineQueue::new());
        deadlines.sweep(|timeout| match timeout {
            Timeout::Open(slot, id) => self.waits_for_ack(slot, id),
            Timeout::Close(slot, id) => self.is_half_closed(slot, id),
            Timeout::Read(slot, at) => self.deadline_is(slot, 0, at),
            Timeout::Write(slot, at) => self.deadline_is(slot, 1, at),
            Timeout::Ping(_) => true,
        });
        self.deadlines = deadlines;
    }

    /// Pings and pongs overtake everything (`spec.md §6`).
    fn stage_pings(&mut self, now: Instant) {
        let (kind, stream) = (Kind::Ping, StreamId::SESSION);
        while let Some(length) = self.pings.pay() {
            self.staging.lead(Header { kind, flags: Flags::ACK, stream, length });
        }
        while let Some(length) = self.pings.stage(now) {
            self.staging.lead(Header { kind, flags: Flags::SYN, stream, length });
        }
        while let Some((stream, code)) = self.refusals.pop_front() {
            let (kind, flags) = (Kind::WindowUpdate, Flags::RST);
            self.staging.lead(Header { kind, flags, stream, length: code.0 });
        }
    }

    /// SYN, ACK, credit, FIN and RST of every stream that owes one.
    fn stage_owed(&mut self, now: Instant) {
        // Bounded: what does not fit goes with the next batch.
        let most = self.owed.len().min(MAX_OWED_PER_BATCH);
        for _ in 0..most {
            let Some(slot) = self.owed.pop_front() else { return };
            self.streams[slot].marks.clear(Marks::IN_OWED);
            if self.streams.get(slot).is_none() {
                continue;
            }
            if self.streams[slot].marks.any(Marks::OWES_RST) {
                self.stage_rst(slot);
                continue;
            }
            self.stage_window_update(slot, now);
            if self.streams[slot].marks.take(Marks::OWES_FIN) {
                self.stage_fin(slot, now);
            }
        }
    }

    fn stage_rst(&mut self, slot: Slot) {
        let entry = &mut self.streams[slot];
        entry.marks.clear(Marks::OWES_RST);
        let code = match entry.end {
            super::stream::End::Local(code) => code,
            super::stream::End::None
            | super::stream::End::Remote(_)
            | super::stream::End::Session => ResetCode::CANCELLED,
        };
        let stream = entry.stream_id();
        entry.staged_in = self.batch;
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
        self.arm_open_timeout(slot, now);
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
        if flags == Flags::NONE && entry.staged_in != self.batch {
            self.staging.lead(header);
        } else {
            self.staging.trail(header);
        }
        entry.staged_in = self.batch;
    }

    fn owed_credit(&mut self, slot: Slot, syn: bool, now: Instant) -> u32 {
        let entry = &self.streams[slot];
        let first = syn || entry.marks.any(Marks::ACK_NOW.with(Marks::OWES_ACK));
        let due = entry.marks.any(Marks::OWES_CREDIT);
        if !(first || due) || !entry.state.can_receive() {
            return 0;
        }
        if due {
            self.tune_window(slot, now);
        }
        let entry = &mut self.streams[slot];
        entry.marks.clear(Marks::OWES_CREDIT);
        entry.recv.grant()
    }

    /// `spec.md §5.5`.
    fn tune_window(&mut self, slot: Slot, now: Instant) {
        if !self.tunes_windows() {
            return;
        }
        if self.round_trip.wants_probe(now)
            && !self.pings.is_asking(Purpose::RoundTrip)
            && self.pings.ask(Purpose::RoundTrip).is_some()
        {
            self.wants_driver = true;
            self.stage_pings(now);
        }
        let Some(rtt) = self.round_trip.smallest() else { return };
        let rtt = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        let micros = self.micros(now);
        let max = self.limits.max_stream_window;
        let by = self.streams[slot].recv.growth(micros, rtt, max);
        if by > 0 && self.has_budget(by as usize) {
            self.extra_credit += by as usize;
            self.streams[slot].recv.raise(by);
        }
    }

    fn stage_fin(&mut self, slot: Slot, now: Instant) {
        let entry = &mut self.streams[slot];
        let mut flags = Flags::FIN;
        if entry.marks.take(Marks::ACK_NOW) {
            flags = flags.with(Flags::ACK);
        }
        entry.staged_in = self.batch;
        let stream = entry.stream_id();
        self.staging.trail(Header { kind: Kind::WindowUpdate, flags, stream, length: 0 });
        if self.streams[slot].state == State::Closed {
            self.wake_writer(slot);
            self.unlink(slot);
            self.forget_if_over(slot);
        } else {
            self.arm_close_timeout(slot, now);
        }
    }

    fn arm_open_timeout(&mut self, slot: Slot, now: Instant) {
        let entry = &mut self.streams[slot];
        let Some(timeout) = self.limits.open_timeout.filter(|_| self.timed) else { return };
        if entry.id != 0 && entry.marks.any(Marks::UNACKED) && !entry.marks.any(Marks::OPEN_TIMER) {
            entry.marks.set(Marks::OPEN_TIMER);
            self.deadlines.push(now + timeout, Timeout::Open(slot, entry.id));
        }
    }

    /// The batch is gone, so there is room: whoever waited longest may fill it.
    fn grant_turns(&mut self) {
        let mut granted = 0;
        while granted < self.staging_limit {
            let Some(slot) = self.line.pop_front() else { return };
            self.streams[slot].marks.clear(Marks::IN_LINE);
            if self.streams.get(slot).is_some() {
                self.streams[slot].marks.set(Marks::TURN);
                self.wake_writer(slot);
                granted += self.limits.max_frame as usize;
            }
        }
    }
}

/// Frames of owed control in one batch: 96 KiB of them.
const MAX_OWED_PER_BATCH: usize = 8_192;
