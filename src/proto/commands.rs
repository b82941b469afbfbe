//! Commands: what a user does with a session and its streams.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    Core, Input, LEAST_DIRECT, Marks, Phase, Slot, State, Timeout, Verdict, ping::Purpose,
    stream::End,
};
use crate::{
    error::{OpenError, ResetCode, SessionError, StreamError, TryOpenError},
    frame::StreamId,
};

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// Bytes.
    Data(T),
    /// Nothing yet; [`Event::Readable`](super::Event::Readable) will follow.
    Blocked,
    /// The peer finished, and everything was read.
    End,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// So many bytes were staged; at least one, unless none was given.
    Bytes(usize),
    /// No window, or no turn; [`Event::Writable`](super::Event::Writable) will follow.
    Blocked,
}

/// A direction of a stream, for deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    Read = 0,
    /// To the peer.
    Write = 1,
}

/// What a handle holds of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The reading half.
    Read,
    /// The writing half.
    Write,
    /// The whole.
    Both,
    /// Nothing any more.
    None,
}

impl Core {
    /// Opens a stream. Its SYN goes out with the first data, or with the next output.
    ///
    /// After [`TryOpenError::AckBacklogFull`] or [`TryOpenError::TooManyStreams`] an
    /// [`Event::Openable`] follows when it is worth another try.
    #[inline]
    pub fn open(&mut self) -> Result<Slot, TryOpenError> {
        if let Some(error) = self.open_error() {
            return Err(error.into());
        }
        if self.unacked >= self.limits.ack_backlog {
            self.openers_wait = true;
            return Err(TryOpenError::AckBacklogFull);
        }
        if self.outbound >= self.limits.max_outbound_streams {
            self.openers_wait = true;
            return Err(TryOpenError::TooManyStreams);
        }
        // The last id of each parity is never used: there is no next one after it.
        let ids_left = (u32::MAX - self.next_id) / 2;
        if self.unnumbered >= ids_left {
            return Err(OpenError::StreamsExhausted.into());
        }
        let marks = Marks::UNACKED.with(Marks::OUTBOUND).with(Marks::HELD);
        let slot = self.insert(0, State::Init, marks);
        self.outbound += 1;
        self.unacked += 1;
        self.unnumbered += 1;
        self.owe(slot, Marks::OWES_SYN);
        Ok(slot)
    }

    /// How many streams could be opened now; without bound where the answer is the same error
    /// for everyone.
    pub(crate) fn room_to_open(&self) -> usize {
        if self.open_error().is_some() {
            return usize::MAX;
        }
        let permits = self.limits.ack_backlog.saturating_sub(self.unacked);
        permits.min(self.limits.max_outbound_streams.saturating_sub(self.outbound))
    }

    /// Whether someone waits for [`Event::Openable`](super::Event::Openable).
    pub(crate) const fn expect_openers(&mut self, wait: bool) {
        self.openers_wait = wait;
    }

    /// Takes the next stream that the peer opened.
    #[inline]
    pub fn accept(&mut self) -> Option<Slot> {
        let slot = self.accept_queue.pop_front()?;
        let entry = &mut self.streams[slot];
        entry.marks.clear(Marks::QUEUED);
        entry.marks.set(Marks::HELD);
        if entry.state != State::Reset {
            self.owe_ack(slot);
        }
        Some(slot)
    }

    /// Whether [`accept`](Self::accept) will never again return a stream.
    pub fn accepts_no_more(&self) -> bool {
        self.outcome.is_some() && self.accept_queue.is_empty()
    }

    /// The id of a stream, once it has one.
    pub fn id(&self, slot: Slot) -> Option<StreamId> {
        self.streams.get(slot).map(|entry| entry.stream_id()).filter(|id| *id != StreamId::SESSION)
    }

    /// Copies received bytes into `out`.
    // Without this a read costs 50 instructions more.
    #[inline(always)]
    pub fn read(&mut self, slot: Slot, out: &mut [u8]) -> Result<Read<usize>, StreamError> {
        let entry = &mut self.streams[slot];
        if entry.chunks.is_empty() {
            return self.read_nothing(slot, out.len());
        }
        let len = self.buffers.read(&mut entry.chunks, out);
        self.consumed(slot, len);
        Ok(Read::Data(len))
    }

    /// Takes up to `max` received bytes without copying them.
    #[inline]
    pub fn read_chunk(&mut self, slot: Slot, max: usize) -> Result<Read<Bytes>, StreamError> {
        let entry = &mut self.streams[slot];
        if entry.chunks.is_empty() {
            return self.read_nothing(slot, 0);
        }
        let chunk = self.buffers.read_chunk(&mut entry.chunks, max);
        self.consumed(slot, chunk.len());
        Ok(Read::Data(chunk))
    }

    /// How many received bytes lie in one piece in front.
    #[inline]
    pub fn front_len(&self, slot: Slot) -> usize {
        self.buffers.front_len(self.streams[slot].chunks)
    }

    #[inline]
    fn consumed(&mut self, slot: Slot, len: usize) {
        self.budget.buffered -= len;
        self.taken(slot, len);
    }

    /// The user has bytes that count against the window.
    #[inline]
    pub(super) fn taken(&mut self, slot: Slot, len: usize) {
        let company = self.in_company();
        let entry = &mut self.streams[slot];
        entry.recv.consume(len);
        if !entry.state.can_receive() {
            self.uncount_if_done(slot);
        } else if entry.recv.is_due(company) {
            self.owe(slot, Marks::OWES_CREDIT);
        }
    }

    /// Whether the end is all that a reader will get from now on.
    #[inline]
    pub fn is_read_out(&self, slot: Slot) -> bool {
        let entry = &self.streams[slot];
        entry.is_at_end() && entry.chunks.is_empty()
    }

    /// A reader waits, which found nothing to read: [`Event::Readable`](super::Event::Readable) will
    /// follow.
    #[cfg(feature = "exchange")]
    pub(crate) fn expect_data(&mut self, slot: Slot) {
        self.streams[slot].marks.set(Marks::READ_WAIT);
    }

    /// What a reader gets where no byte is buffered, and into how much room it would copy.
    fn read_nothing<T>(&mut self, slot: Slot, room: usize) -> Result<Read<T>, StreamError> {
        let entry = &mut self.streams[slot];
        if entry.is_at_end() {
            return Ok(Read::End);
        }
        if entry.state == State::Reset {
            return Err(self.stream_error(slot));
        }
        if entry.marks.any(Marks::READ_EXPIRED) {
            return Err(StreamError::TimedOut);
        }
        entry.marks.set(Marks::READ_WAIT);
        if room >= LEAST_DIRECT {
            entry.marks.set(Marks::ROOMY);
        } else {
            entry.marks.clear(Marks::ROOMY);
        }
        Ok(Read::Blocked)
    }

    /// How the stream ended, once both directions have; else [`Event::Writable`] follows.
    pub fn ended_stream(&mut self, slot: Slot) -> Option<Result<(), StreamError>> {
        match self.streams[slot].state {
            State::Reset => Some(Err(self.stream_error(slot))),
            State::Closed if self.streams[slot].is_flushed(self.batches.flushed()) => Some(Ok(())),
            _ if matches!(self.phase, Phase::Ended) => {
                Some(Err(StreamError::Session(self.session_error())))
            }
            _ => {
                self.wait_for_flush(slot);
                None
            }
        }
    }

    /// Why the stream ended early, if it did. Else the event of `direction` follows when it does,
    /// at that deadline, and now and then for nothing.
    pub fn early_end(&mut self, slot: Slot, direction: Direction) -> Option<StreamError> {
        if self.streams[slot].state == State::Reset {
            return Some(self.stream_error(slot));
        }
        if let Phase::Ended = self.phase {
            return Some(StreamError::Session(self.session_error()));
        }
        self.streams[slot].marks.set(match direction {
            Direction::Read => Marks::READ_WAIT,
            Direction::Write => Marks::WRITE_WAIT,
        });
        None
    }

    /// While it is held, the stream may stay half closed for as long as the peer likes
    /// (`spec.md §7.4.4`). To be said before it is finished.
    pub fn be_patient(&mut self, slot: Slot) {
        self.streams[slot].marks.set(Marks::PATIENT);
    }

    /// This side writes no more. FIN follows what is staged. A second time does nothing.
    #[inline]
    pub fn finish(&mut self, slot: Slot) -> Result<(), StreamError> {
        let entry = &mut self.streams[slot];
        if entry.state == State::Reset {
            return Err(self.stream_error(slot));
        }
        if let Verdict::Next(_) = entry.advance(Input::Close) {
            self.owe(slot, Marks::OWES_FIN);
        }
        Ok(())
    }

    /// [Finishes](Self::finish) a stream; whether everything it staged was flushed, FIN too. Else
    /// [`Event::Writable`](super::Event::Writable) follows.
    #[inline]
    pub fn close_stream(&mut self, slot: Slot) -> Result<bool, StreamError> {
        let entry = &mut self.streams[slot];
        if entry.state == State::Reset {
            return Err(self.stream_error(slot));
        }
        if let Verdict::Next(_) = entry.advance(Input::Close) {
            self.owe(slot, Marks::OWES_FIN);
        } else if entry.is_flushed(self.batches.flushed()) {
            return Ok(true);
        }
        self.await_flush(slot)
    }

    /// Ends both directions at once, and discards what is unread.
    pub fn reset(&mut self, slot: Slot, code: ResetCode) {
        let entry = &self.streams[slot];
        let done = entry.state == State::Closed && !entry.marks.any(Marks::OWES);
        if !done && entry.state != State::Reset {
            self.end_stream(slot, End::User(code));
            self.drop_chunks(slot);
        }
    }

    /// A handle was dropped.
    #[inline]
    pub fn release(&mut self, slot: Slot, half: Half) {
        let entry = &mut self.streams[slot];
        entry.marks.clear(match half {
            Half::Read => Marks::READ_HELD,
            Half::Write => Marks::WRITE_HELD,
            Half::Both => Marks::HELD,
            Half::None => Marks::NONE,
        });
        if half != Half::Write {
            entry.marks.set(Marks::DISCARD);
            entry.marks.clear(Marks::READ_WAIT.with(Marks::OWES_CREDIT));
            self.drop_chunks(slot);
        }
        let entry = &mut self.streams[slot];
        if entry.marks.any(Marks::HELD) {
            return;
        }
        entry.marks.clear(Marks::WRITE_WAIT);
        match entry.state.on(Input::Drop) {
            Verdict::Forget | Verdict::ResetStream => self.drop_unfinished(slot),
            _ => self.let_finish(slot),
        }
        self.forget_if_over(slot);
    }

    /// Releases a stream that is held as a whole if both directions are finished, all was read, and
    /// the connection has all that was staged; returns its id.
    pub fn release_finished(&mut self, slot: Slot) -> Option<StreamId> {
        let entry = &self.streams[slot];
        let finished = entry.state == State::Closed
            && entry.chunks.is_empty()
            && entry.is_flushed(self.batches.flushed());
        if !finished {
            return None;
        }
        let id = entry.stream_id();
        self.forget(slot);
        Some(id)
    }

    /// `spec.md §8.5`: a dropped stream must not look like one that was closed.
    fn drop_unfinished(&mut self, slot: Slot) {
        let entry = &self.streams[slot];
        if entry.staged_in > self.batches.flushed() {
            self.stats.dropped_unsent += 1;
            log::debug!("stream {}: dropped with unsent data and without close", entry.id);
        }
        self.end_stream(slot, End::Local(ResetCode::CANCELLED));
    }

    /// It was closed before it was dropped: the peer may finish too, but has to hurry.
    #[inline]
    fn let_finish(&mut self, slot: Slot) {
        let company = self.in_company();
        let entry = &mut self.streams[slot];
        if entry.state != State::LocalClosed {
            return;
        }
        if entry.recv.is_due(company) {
            self.owe(slot, Marks::OWES_CREDIT);
        }
        // A FIN that is still owed arms it, else the driver does: it knows the time.
        if !self.streams[slot].marks.any(Marks::OWES_FIN.with(Marks::AWAITS_FIN)) {
            self.owe(slot, Marks::ARMS_CLOSE);
        }
    }

    /// Asks the peer for a sign of life; [`Event::Pong`] follows. `None` while too many such
    /// questions are open.
    pub fn ping(&mut self, now: Instant) -> Result<Option<u32>, SessionError> {
        if self.outcome.is_some() {
            return Err(self.session_error());
        }
        let value = self.pings.ask(Purpose::User);
        if let Some(value) = value {
            self.deadlines.push(now + self.limits.ping_timeout, Timeout::Ping(value));
            self.wants_driver = true;
        }
        Ok(value)
    }

    /// The user no longer waits for this pong.
    pub fn forget_ping(&mut self, value: u32) {
        if self.pings.forget(value) {
            self.deadlines.cancelled();
        }
    }

    /// Why a stream in [`State::Reset`] is there.
    pub(super) fn stream_error(&self, slot: Slot) -> StreamError {
        match self.streams[slot].end {
            End::Remote(code) => StreamError::Reset(code),
            End::Local(ResetCode::OPEN_TIMEOUT) => StreamError::OpenTimeout,
            End::Local(ResetCode::CLOSE_TIMEOUT) => StreamError::CloseTimeout,
            End::Local(ResetCode::OVERLOADED) => StreamError::Overloaded,
            End::Local(ResetCode::STREAM_CLOSED) => StreamError::DataAfterFin,
            End::Local(code) | End::User(code) => StreamError::LocalReset(code),
            End::Session | End::None => StreamError::Session(self.session_error()),
        }
    }

    /// The smallest round trip of the last seconds in which any was measured.
    pub fn rtt(&self) -> Option<Duration> {
        self.round_trip.smallest()
    }
}
