//! Input: bytes from the IO, its end, and the clock.

use std::time::Instant;

use bytes::Bytes;

use super::{
    Core, Event, Input, Marks, Phase, Receiving, Slot, State, Verdict, ping::Purpose, stream::End,
};
use crate::{
    config::INITIAL_WINDOW,
    error::{Flood, GoAwayCode, ResetCode, SessionError, Violation},
    frame::{Flags, Header, HeaderError, Kind, Piece, StreamId},
};

impl Core {
    /// Takes everything that one read from the IO returned. Returns how many streams have news
    /// in it.
    pub fn handle_input(&mut self, input: &Bytes, now: Instant) -> usize {
        self.note_input(input.len(), now);
        let events = self.events.len();
        let mut rest: &[u8] = input;
        while self.outcome.is_none() {
            match self.decoder.decode(&mut rest) {
                Ok(Some(Piece::Header(header))) => {
                    if let Err(rule) = self.handle_header(header, now) {
                        self.violation(rule, Some(header), now);
                    }
                }
                Ok(Some(Piece::Body(body))) => self.handle_body(body, input),
                Ok(None) => break,
                Err(HeaderError::UnsupportedVersion(version)) => {
                    self.violation(Violation::UnsupportedVersion(version), None, now);
                }
                Err(HeaderError::UnknownKind(kind)) => {
                    self.violation(Violation::UnknownKind(kind), None, now);
                }
            }
        }
        self.events.len() - events
    }

    /// The IO returned `len` bytes.
    #[inline]
    pub(super) fn note_input(&mut self, len: usize, now: Instant) {
        self.liveness.note_input(now);
        self.input_us = self.micros(now);
        if let Phase::Lingering { bytes_left, .. } = &mut self.phase {
            *bytes_left = bytes_left.saturating_sub(len);
            if *bytes_left == 0 {
                self.end();
            }
        }
    }

    /// Everything of batches up to `batch` was taken by the IO, and the IO was flushed.
    pub fn handle_flushed(&mut self, batch: u64, now: Instant) {
        self.batches.note_flushed(batch, now);
        self.liveness.note_flushed();
        if self.flush_waiters.is_empty() {
            return;
        }
        let mut waiters = std::mem::take(&mut self.flush_waiters);
        waiters.retain(|&slot| {
            let entry = &mut self.streams[slot];
            let waits = entry.marks.any(Marks::LIVE) && !entry.is_flushed(self.batches.flushed());
            if !waits {
                entry.marks.clear(Marks::IN_FLUSH);
                self.wake_writer(slot);
            }
            waits
        });
        self.flush_waiters = waiters;
    }

    fn handle_header(&mut self, header: Header, now: Instant) -> Result<(), Violation> {
        self.stats.frames_received += 1;
        match header.kind {
            Kind::Data | Kind::WindowUpdate => self.handle_stream_frame(header, now),
            Kind::Ping => self.handle_ping(header, now),
            Kind::GoAway => self.handle_go_away(GoAwayCode(header.length), now),
        }
    }

    fn handle_stream_frame(&mut self, header: Header, now: Instant) -> Result<(), Violation> {
        let id = header.stream.0;
        if id == 0 {
            return Err(Violation::ZeroStreamId);
        }
        let known = if header.flags.contains(Flags::SYN) {
            if self.is_ours(id) {
                return Err(Violation::WrongParity);
            }
            // No stream has an id beyond the highest: the usual SYN needs no search.
            if id <= self.highest_remote && self.streams.find(id).is_some() {
                return Err(Violation::DuplicateStream);
            }
            let Some(slot) = self.handle_syn(header)? else { return Ok(()) };
            slot
        } else {
            let Some(slot) = self.streams.find(id) else { return self.handle_late(header) };
            slot
        };
        self.handle_known(known, header, now)
    }

    /// `spec.md §4.2`: the whole frame is judged before the stream exists. `None`: it is refused.
    fn handle_syn(&mut self, header: Header) -> Result<Option<Slot>, Violation> {
        match header.kind {
            Kind::Data if header.length > INITIAL_WINDOW => return Err(Violation::WindowExceeded),
            Kind::WindowUpdate
                if !header.flags.contains(Flags::RST)
                    && INITIAL_WINDOW.checked_add(header.length).is_none() =>
            {
                return Err(Violation::WindowOverflow);
            }
            _ => {}
        }
        self.highest_remote = self.highest_remote.max(header.stream.0);
        let full = self.accept_queue.len() >= self.limits.accept_backlog
            || self.inbound >= self.limits.max_streams;
        if full || self.refuse_inbound {
            return self.refuse(header).map(|()| None);
        }
        let marks = Marks::QUEUED.with(Marks::LINKED);
        let slot = self.insert(header.stream.0, State::SynReceived, marks);
        self.inbound += 1;
        self.streams.link(slot);
        self.accept_queue.push_back(slot);
        self.events.push_back(Event::Acceptable);
        Ok(Some(slot))
    }

    /// A stream beyond a limit costs one RST, never the session (`spec.md §4.4`).
    fn refuse(&mut self, header: Header) -> Result<(), Violation> {
        self.stats.refused += 1;
        self.late.expect(INITIAL_WINDOW.saturating_sub(header.body_len()));
        if header.flags.contains(Flags::RST) {
            self.withdraw_refusal(header.stream);
            return Ok(());
        }
        if self.refusals.len() >= MAX_REFUSALS {
            return Err(Violation::Flood(Flood::Refusals));
        }
        self.refusals.insert(header.stream);
        self.wants_driver = true;
        Ok(())
    }

    /// The peer reset the stream itself: a refusal that is still owed would answer that, or hit
    /// the next use of the id.
    fn withdraw_refusal(&mut self, stream: StreamId) {
        self.refusals.remove(&stream);
    }

    /// A frame of a live stream: judged whole, then ACK, RST, window or data, FIN
    /// (`spec.md §4.7`).
    fn handle_known(&mut self, slot: Slot, header: Header, now: Instant) -> Result<(), Violation> {
        let Header { kind, flags, length, .. } = header;
        let rst = flags.contains(Flags::RST);
        let mut entry = &mut self.streams[slot];
        match kind {
            Kind::Data if !entry.recv.fits(length) => return Err(Violation::WindowExceeded),
            Kind::WindowUpdate if !rst && !entry.send.can_grow(length) => {
                return Err(Violation::WindowOverflow);
            }
            _ => {}
        }
        let empty = length == 0 && !rst && !entry.is_moved_by(flags);
        self.empty_frames.account(empty)?;
        if flags.contains(Flags::ACK) {
            entry.advance(Input::Ack);
        }
        if entry.marks.any(Marks::PERMIT) {
            // Whatever the peer sends on it, it knows the stream.
            self.take_permit(slot);
            entry = &mut self.streams[slot];
        }
        if rst {
            self.skip_body(slot, header.body_len());
            let code = if kind == Kind::WindowUpdate { ResetCode(length) } else { ResetCode::NONE };
            return self.handle_rst(slot, code, now);
        }
        match kind {
            // FIN waits for the end of the body.
            Kind::Data if length > 0 => match entry.advance(Input::Data) {
                Verdict::Next(_) => {
                    if entry.marks.any(Marks::AWAITS_FIN) {
                        entry.marks.set(Marks::PROGRESS);
                    }
                    entry.recv.receive(length, self.input_us);
                    self.company.note(slot, length, self.input_us);
                    let mixed = self.last_body.replace(slot).is_some_and(|last| last != slot);
                    let fin = flags.contains(Flags::FIN);
                    self.receiving = Some(Receiving { slot, fin, mixed });
                    return Ok(());
                }
                verdict => {
                    self.refuse_body(slot, length, verdict);
                    return Ok(());
                }
            },
            Kind::WindowUpdate if length > 0 => {
                entry.send.grow(length);
                self.wake_writer(slot);
            }
            _ => {}
        }
        if flags.contains(Flags::FIN) {
            self.handle_fin(slot);
        }
        Ok(())
    }

    /// A body that must not come, or comes too late.
    #[cold]
    fn refuse_body(&mut self, slot: Slot, length: u32, verdict: Verdict) {
        self.skip_body(slot, length);
        if verdict == Verdict::ResetStream {
            log::debug!("stream {}: data after FIN", self.streams[slot].id);
            self.end_stream(slot, End::Local(ResetCode::STREAM_CLOSED));
        }
    }

    /// A body that counts against the window, and that nobody will read.
    fn skip_body(&mut self, slot: Slot, length: u32) {
        let recv = &mut self.streams[slot].recv;
        recv.receive(length, self.input_us);
        recv.consume(length as usize);
    }

    fn handle_rst(&mut self, slot: Slot, code: ResetCode, now: Instant) -> Result<(), Violation> {
        self.stats.resets_received += 1;
        if self.streams[slot].marks.take(Marks::OWES_RST) {
            // Both sides reset it: the peer needs no telling, and may use the id again.
            self.unlink(slot);
        }
        self.end_stream(slot, End::Remote(code));
        if !self.streams[slot].marks.take(Marks::QUEUED) {
            self.forget_if_over(slot);
            return Ok(());
        }
        // Reset before it was accepted: it leaves nothing behind but a count.
        self.accept_queue.retain(|queued| *queued != slot);
        self.forget(slot);
        if self.early_resets.count(now) {
            Ok(())
        } else {
            Err(Violation::Flood(Flood::EarlyResets))
        }
    }

    fn handle_fin(&mut self, slot: Slot) {
        let entry = &mut self.streams[slot];
        if entry.advance(Input::Fin) == Verdict::Ignore {
            log::trace!("stream {}: second FIN", entry.id);
            return;
        }
        entry.marks.set(Marks::REMOTE_FIN);
        let done = entry.state == State::Closed && !entry.marks.any(Marks::OWES);
        if entry.marks.take(Marks::READ_WAIT) {
            self.events.push_back(Event::Readable(slot));
        }
        if done {
            self.wake_writer(slot);
            self.unlink(slot);
            self.forget_if_over(slot);
        }
    }

    /// A frame for no live stream (`spec.md §4.8`): never answered, its body skipped.
    fn handle_late(&mut self, header: Header) -> Result<(), Violation> {
        let id = header.stream.0;
        let opened = if self.is_ours(id) { id < self.next_id } else { id <= self.highest_remote };
        let length = header.body_len();
        if header.flags.contains(Flags::RST) {
            self.withdraw_refusal(header.stream);
        }
        if length == 0 {
            log::trace!("late frame: {header}");
            self.stats.late_frames += 1;
            let expected = opened && self.late.frame();
            return if expected { Ok(()) } else { self.empty_frames.account(true) };
        }
        if !opened {
            return Err(Violation::NeverOpened);
        }
        self.stats.late_frames += 1;
        self.late.body(length)
    }

    fn handle_ping(&mut self, header: Header, now: Instant) -> Result<(), Violation> {
        if header.flags.contains(Flags::SYN) {
            self.wants_driver = true;
            return if self.pings.owe(header.length) {
                Ok(())
            } else {
                Err(Violation::Flood(Flood::Pings))
            };
        }
        let is_pong = header.flags.contains(Flags::ACK);
        let answered = if is_pong { self.pings.answered(header.length, now) } else { None };
        match answered {
            None => return self.empty_frames.account(true),
            Some((Purpose::User, rtt)) => {
                self.deadlines.cancelled();
                self.events.push_back(Event::Pong(header.length, Some(rtt)));
                self.round_trip.sample(now, rtt);
            }
            Some((Purpose::Keepalive | Purpose::RoundTrip, rtt)) => {
                self.round_trip.sample(now, rtt)
            }
        }
        Ok(())
    }

    fn handle_go_away(&mut self, code: GoAwayCode, now: Instant) -> Result<(), Violation> {
        if code != GoAwayCode::NORMAL {
            self.finish_session(Err(SessionError::RemoteGoAway(code)), None, now);
            return Ok(());
        }
        if self.remote_gone {
            return self.empty_frames.account(true);
        }
        self.remote_gone = true;
        self.events.push_back(Event::Openable);
        for slot in self.streams.slots() {
            // `spec.md §8.1.2`: what the peer never heard of is refused as if it had.
            if self.streams.get(slot).is_some_and(|entry| entry.marks.any(Marks::OWES_SYN)) {
                self.end_stream(slot, End::Remote(ResetCode::REFUSED));
                self.forget_if_over(slot);
            }
        }
        Ok(())
    }

    fn handle_body(&mut self, body: &[u8], owner: &Bytes) {
        let Some(Receiving { slot, fin, .. }) = self.receiving else { return };
        self.stats.bytes_received += body.len() as u64;
        let entry = &mut self.streams[slot];
        if entry.marks.any(Marks::DISCARD) {
            self.discard(slot, body.len());
        } else {
            self.buffers.push(&mut entry.chunks, body, owner);
            self.budget.buffered += body.len();
            if entry.marks.take(Marks::READ_WAIT) {
                self.events.push_back(Event::Readable(slot));
            }
        }
        self.end_body(slot, fin);
        if self.budget.is_exceeded() {
            self.shed_load();
        }
    }

    /// If this was the last of a body, the FIN of its frame counts.
    #[inline]
    pub(super) fn end_body(&mut self, slot: Slot, fin: bool) {
        if self.body_left() == 0 {
            self.receiving = None;
            if fin {
                self.handle_fin(slot);
            }
        }
    }

    /// Nobody will read this. While the user still writes the peer is not encouraged; once the
    /// user is gone the peer may as well finish.
    fn discard(&mut self, slot: Slot, len: usize) {
        let company = self.in_company();
        let entry = &mut self.streams[slot];
        entry.recv.consume(len);
        if !entry.marks.any(Marks::HELD) && entry.recv.is_due(company) {
            self.owe(slot, Marks::OWES_CREDIT);
        }
    }

    /// The budget is spent (`spec.md §5.6`): the stream with most unread bytes pays.
    fn shed_load(&mut self) {
        let heaviest = self
            .streams
            .slots()
            .filter(|&slot| self.streams.get(slot).is_some_and(|entry| !entry.chunks.is_empty()))
            .max_by_key(|&slot| self.streams[slot].recv.unread());
        if let Some(slot) = heaviest {
            log::debug!("stream {}: receive budget spent", self.streams[slot].id);
            self.stats.overloaded += 1;
            let entry = &mut self.streams[slot];
            // Its end of file went with the bytes.
            entry.marks.clear(Marks::REMOTE_FIN);
            if entry.state.is_terminal() && !entry.marks.any(Marks::OWES) {
                // The peer is done with it: nothing is left to reset on the wire.
                entry.state = State::Reset;
                entry.end = End::Local(ResetCode::OVERLOADED);
                self.wake_stream(slot);
            } else {
                self.end_stream(slot, End::Local(ResetCode::OVERLOADED));
            }
            self.drop_chunks(slot);
            if self.streams[slot].marks.take(Marks::QUEUED) {
                self.accept_queue.retain(|queued| *queued != slot);
            }
            self.forget_if_over(slot);
        }
    }
}

/// RSTs owed to a peer that does not read them: more than one read can cause, and 64 KiB.
const MAX_REFUSALS: usize = 8_192;
