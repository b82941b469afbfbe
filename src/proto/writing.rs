//! From a writer into the staging buffer: window, turn, frame (`spec.md §5.2`, `§6`).

use bytes::Bytes;

use super::{Core, Input, Marks, Phase, SHORT, Slot, State, Written};
use crate::{
    error::StreamError,
    frame::{Flags, StreamId},
};

impl Core {
    /// Copies bytes into the staging buffer, as many as window and turn allow.
    #[inline]
    pub fn write(&mut self, slot: Slot, bytes: &[u8]) -> Result<Written, StreamError> {
        let Some(room) = self.room(slot, bytes.len())? else { return Ok(Written::Blocked) };
        self.stage_copy(slot, &bytes[..room.len], room.ahead);
        Ok(Written::Bytes(room.len))
    }

    /// Moves bytes from the front of `chunk` into staging, large ones without copying.
    pub fn write_chunk(&mut self, slot: Slot, chunk: &mut Bytes) -> Result<Written, StreamError> {
        let mut total = 0;
        while !chunk.is_empty() {
            let room = match self.room(slot, chunk.len()) {
                // What was taken is reported first; the error will still be there.
                Err(_) if total > 0 => break,
                room => room?,
            };
            let Some(room) = room else { break };
            let part = chunk.split_to(room.len);
            total += part.len();
            if part.len() < MIN_SPLICE {
                self.stage_copy(slot, &part, room.ahead);
            } else {
                self.stage_splice(slot, part);
            }
        }
        Ok(if total == 0 && !chunk.is_empty() { Written::Blocked } else { Written::Bytes(total) })
    }

    /// Stages `head`, then `body`, then with `finish` FIN; what was staged is gone from both.
    /// False: there is no room for the rest now, and [`Event::Writable`](super::Event::Writable)
    /// will follow.
    #[inline]
    pub fn stage(
        &mut self,
        slot: Slot,
        head: &mut &[u8],
        body: &mut Bytes,
        finish: bool,
    ) -> Result<bool, StreamError> {
        while !head.is_empty() {
            match self.write(slot, head)? {
                Written::Bytes(len) => *head = &head[len..],
                Written::Blocked => return Ok(false),
            }
        }
        while !body.is_empty() {
            if self.write_chunk(slot, body)? == Written::Blocked {
                return Ok(false);
            }
        }
        if finish {
            self.finish(slot)?;
        }
        Ok(true)
    }

    /// Whether everything this stream staged was flushed; else [`Event::Writable`] follows.
    #[inline]
    pub fn flush(&mut self, slot: Slot) -> Result<bool, StreamError> {
        let entry = &self.streams[slot];
        if entry.state == State::Reset {
            return Err(self.stream_error(slot));
        }
        if entry.is_flushed(self.batches.flushed()) {
            return Ok(true);
        }
        self.await_flush(slot)
    }

    pub(super) fn await_flush(&mut self, slot: Slot) -> Result<bool, StreamError> {
        if let Phase::Ended = self.phase {
            return Err(StreamError::Session(self.session_error()));
        }
        if self.streams[slot].marks.any(Marks::WRITE_EXPIRED) {
            return Err(StreamError::TimedOut);
        }
        self.wait_for_flush(slot);
        Ok(false)
    }

    pub(super) fn wait_for_flush(&mut self, slot: Slot) {
        let marks = &mut self.streams[slot].marks;
        marks.set(Marks::WRITE_WAIT);
        if !marks.any(Marks::IN_FLUSH) {
            marks.set(Marks::IN_FLUSH);
            self.flush_waiters.push(slot);
        }
    }

    /// How many of the `wanted` bytes may be staged now. `None`: the stream waits, for its window
    /// or its turn.
    #[inline]
    fn room(&mut self, slot: Slot, wanted: usize) -> Result<Option<Room>, StreamError> {
        let bulk = self.staging.data_len() > MIN_OVERTAKEN;
        let entry = &mut self.streams[slot];
        if entry.state == State::Reset {
            return Err(self.stream_error(slot));
        }
        if !entry.state.can_write() {
            return Err(StreamError::Finished);
        }
        if wanted == 0 {
            return Ok(Some(Room { len: 0, ahead: false }));
        }
        let window = entry.send.available();
        if bulk && wanted <= window && self.overtakes(slot, wanted) {
            return Ok(Some(Room { len: wanted, ahead: true }));
        }
        let entry = &mut self.streams[slot];
        let has_room = self.staging.data_len() < self.batches.limit();
        let has_turn = entry.marks.any(Marks::TURN) || self.line.is_empty();
        if window > 0 && has_room && has_turn {
            entry.marks.clear(Marks::TURN);
            // Whole frames, even if the last goes beyond the limit: a sliver of one costs a
            // header, a write and a wake of its own.
            let most = self.turn().min(self.batches.limit());
            return Ok(Some(Room { len: wanted.min(window).min(most), ahead: false }));
        }
        if entry.marks.any(Marks::WRITE_EXPIRED) {
            return Err(StreamError::TimedOut);
        }
        entry.marks.set(Marks::WRITE_WAIT);
        if window > 0 && !entry.marks.any(Marks::IN_LINE) {
            entry.marks.set(Marks::IN_LINE);
            self.line.join(slot, entry.marks.any(Marks::TURN));
        }
        Ok(None)
    }

    /// Whether a small write goes ahead of a bulk transfer (`spec.md §6.3`): its stream has
    /// nothing staged that it could overtake, and its id is known, since ids go in order.
    fn overtakes(&self, slot: Slot, len: usize) -> bool {
        let entry = &self.streams[slot];
        len <= SHORT
            && self.staging.data_len() > MIN_OVERTAKEN
            && entry.staged_in != self.batches.current()
            && !entry.marks.any(Marks::OWES_SYN)
            && self.staging.overtaking() + len <= self.batches.limit() / OVERTAKING_SHARE
    }

    #[inline]
    fn stage_copy(&mut self, slot: Slot, bytes: &[u8], ahead: bool) {
        if bytes.is_empty() {
            return;
        }
        if ahead {
            let (id, flags) = self.data_header(slot);
            self.staging.lead_data(id, flags, bytes);
            return self.note_staged(slot, bytes.len());
        }
        if self.extends(slot, bytes.len()) {
            self.staging.extend(bytes);
        } else {
            let (id, flags) = self.data_header(slot);
            self.staging.data(id, flags, bytes);
        }
        self.note_staged(slot, bytes.len());
    }

    fn stage_splice(&mut self, slot: Slot, bytes: Bytes) {
        let len = bytes.len();
        if self.extends(slot, len) {
            self.staging.extend_spliced(bytes);
        } else {
            let (id, flags) = self.data_header(slot);
            self.staging.splice(id, flags, bytes);
        }
        self.note_staged(slot, len);
    }

    /// Whether `len` bytes more may join the frame that was staged last.
    #[inline]
    fn extends(&self, slot: Slot, len: usize) -> bool {
        let id = self.streams[slot].stream_id();
        let extensible = self.staging.extensible(id, self.limits.max_frame as usize);
        id != StreamId::SESSION && extensible.is_some_and(|room| room >= len)
    }

    /// The id and flags of a Data frame: SYN and ACK ride on it if they are still owed.
    fn data_header(&mut self, slot: Slot) -> (StreamId, Flags) {
        let entry = &self.streams[slot];
        if !entry.marks.any(Marks::OWES_SYN.with(Marks::OWES_ACK)) {
            return (entry.stream_id(), Flags::NONE);
        }
        let (marks, larger) = (entry.marks, entry.recv.starts_larger());
        let mut flags = Flags::NONE;
        if marks.any(Marks::OWES_SYN) {
            flags = flags.with(Flags::SYN);
            self.stage_syn(slot);
        }
        if marks.any(Marks::OWES_ACK) {
            flags = flags.with(Flags::ACK);
            self.stage_ack(slot);
        }
        if larger {
            self.owe(slot, Marks::OWES_CREDIT);
        }
        (self.streams[slot].stream_id(), flags)
    }

    /// The stream gets its id, so that ids go out in order.
    pub(super) fn stage_syn(&mut self, slot: Slot) {
        let id = self.next_id;
        self.next_id += 2;
        self.unnumbered -= 1;
        let entry = &mut self.streams[slot];
        entry.id = id;
        entry.marks.clear(Marks::OWES_SYN);
        entry.marks.set(Marks::LINKED);
        entry.advance(Input::SynStaged);
        self.streams.link(slot);
    }

    pub(super) fn stage_ack(&mut self, slot: Slot) {
        let entry = &mut self.streams[slot];
        entry.marks.clear(Marks::OWES_ACK.with(Marks::ACK_NOW));
        entry.advance(Input::AckStaged);
    }

    fn note_staged(&mut self, slot: Slot, len: usize) {
        self.stats.bytes_sent += len as u64;
        let entry = &mut self.streams[slot];
        entry.send.take(len);
        entry.staged_in = self.batches.current();
        self.wants_driver = true;
    }

    /// The batch is gone, so there is room: whoever waited longest may fill it.
    pub(super) fn grant_turns(&mut self) {
        let mut granted = 0;
        while granted < self.batches.limit() {
            let Some(slot) = self.line.next() else { return };
            let entry = &mut self.streams[slot];
            entry.marks.clear(Marks::IN_LINE);
            if entry.marks.any(Marks::LIVE) && entry.state.can_write() {
                entry.marks.set(Marks::TURN);
                self.wake_writer(slot);
                granted += self.turn();
            }
        }
    }

    /// What one write stages at most. Where nobody else is in line the next one may extend its frame.
    fn turn(&self) -> usize {
        (self.limits.max_frame as usize).min(TURN)
    }
}

/// Writers in line get this much in turn.
const TURN: usize = 64 << 10;

/// What a write may stage.
struct Room {
    len: usize,
    /// Ahead of what is staged, instead of behind it.
    ahead: bool,
}

/// The part of the staging limit that may overtake in one batch.
const OVERTAKING_SHARE: usize = 16;

/// Less than this is not worth overtaking.
const MIN_OVERTAKEN: usize = 8 << 10;

/// Smaller chunks are copied: that costs less than a slice of their own in a vectored write.
const MIN_SPLICE: usize = 2 << 10;
