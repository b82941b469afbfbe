//! One core against a peer that sends anything, with a user who does anything allowed
//! (`spec.md §9.3`).

use std::{
    io::IoSlice,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use trunkline::{
    Config, Flood, GoAwayCode, ResetCode, Role, SessionError, Violation,
    frame::Kind,
    proto::{Batch, Core, Direction, Half, IoStep, Read, Slot, Written},
    runtime::{ManualTimer, Timer},
};

use super::{
    cursor::Cursor,
    memory,
    monitor::Monitor,
    naive::{DATA, Fields, GO_AWAY, Malformed, PING, RST, SYN, Splitter, WINDOW, WINDOW_SIZE},
};

/// Plays `data` against a core.
pub fn hostile(data: &[u8]) {
    hostile_outcome(data);
}

/// Plays `data` against a core; returns how it ended the session, if it did.
pub fn hostile_outcome(data: &[u8]) -> Option<Result<(), SessionError>> {
    let mut cursor = Cursor::new(data);
    let mut play = Play::new(cursor.u8());
    let ending = cursor.u8();
    let mut steps = 0;
    while !cursor.is_empty() && steps < MAX_STEPS && play.delivered < MAX_DELIVERED {
        // A session that ended has little more to show.
        steps += if play.core.ended().is_some() { MAX_STEPS / 16 } else { 1 };
        play.step(&mut cursor);
        play.settle();
    }
    let ended = play.core.ended();
    play.probe();
    play.end(ending);
    ended
}

const MAX_STEPS: usize = 2_000;
const MAX_DELIVERED: usize = 4 << 20;
const MAX_HANDLES: usize = 64;
/// A read from the IO is no larger.
const MAX_PIECE: usize = 64 << 10;
/// What a batch may hold beyond data: owed frames of 8,192 streams, pongs, pings, refusals.
const MAX_CONTROL: usize = 12 * (3 * 8_192 + 8_192 + 32 + 8_192 + 16);

/// Limits of a session, as far as the assertions need them.
struct Limits {
    accept_backlog: usize,
    ack_backlog: usize,
    max_streams: usize,
    max_outbound: usize,
    budget: usize,
    staging: usize,
    max_frame: u32,
    max_window: u32,
}

const SMALL: Limits = Limits {
    accept_backlog: 4,
    ack_backlog: 3,
    max_streams: 6,
    max_outbound: 5,
    budget: 300_000,
    staging: 16 << 10,
    max_frame: 1_024,
    max_window: 262_144,
};

const LARGE: Limits = Limits {
    accept_backlog: 256,
    ack_backlog: 256,
    max_streams: 1_024,
    max_outbound: 1_024,
    budget: 8 << 20,
    staging: 256 << 10,
    max_frame: 64 << 10,
    max_window: 1 << 20,
};

struct Handle {
    slot: Slot,
    read: bool,
    write: bool,
    /// Bytes of this stream that the peer may fill freely were not the expected ones.
    id: Option<u32>,
}

struct Play {
    core: Core,
    limits: &'static Limits,
    timed: bool,
    role: Role,
    now: Instant,
    handles: Vec<Handle>,
    pings: Vec<u32>,

    /// What the peer sent so far, header by header.
    splitter: Splitter,
    /// Headers in the pieces delivered since the last check.
    headers: Vec<Result<Fields, Malformed>>,
    /// Every body was filled as [`fill`] says.
    pure: bool,
    piece: usize,
    fresh: u32,
    delivered: usize,
    frames: u64,
    local: u64,

    batch: Batch,
    writing: Option<u64>,
    out: Vec<u8>,
    monitor: Monitor,
    written: u64,
    held: isize,
}

impl Play {
    fn new(choice: u8) -> Self {
        let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
        let limits = if choice & 2 == 0 { &SMALL } else { &LARGE };
        let timed = choice & 4 == 0;
        let timer = ManualTimer::new();
        let now = timer.now();
        let mut builder = Config::builder()
            .accept_backlog(limits.accept_backlog)
            .ack_backlog(limits.ack_backlog)
            .max_streams(limits.max_streams)
            .max_outbound_streams(limits.max_outbound)
            .receive_budget(limits.budget)
            .staging_limit(limits.staging)
            .max_frame(limits.max_frame)
            .max_stream_window(limits.max_window)
            .open_timeout_ends_session(choice & 16 != 0)
            .seed(Some(u64::from(choice)));
        if choice & 8 != 0 && limits.max_window > WINDOW_SIZE {
            builder = builder.stream_window(limits.max_window / 2);
        }
        if choice & 32 != 0 {
            builder = builder.max_empty_frames(64).max_early_resets(8);
        }
        builder = if timed { builder.timer(Arc::new(timer)) } else { builder.no_timer() };
        let config = builder.build().expect("limits in range");
        let (core, held) = memory::change(|| Core::new(role, &config, now));
        Self {
            core,
            limits,
            timed,
            role,
            now,
            handles: Vec::new(),
            pings: Vec::new(),
            splitter: Splitter::default(),
            headers: Vec::new(),
            pure: true,
            piece: MAX_PIECE,
            fresh: 0,
            delivered: 0,
            frames: 0,
            local: 0,
            batch: Batch::new(),
            writing: None,
            out: Vec::new(),
            monitor: Monitor::new(role == Role::Client, limits.max_frame, limits.max_window),
            written: 0,
            held,
        }
    }

    /// Every call of the core goes through here, so that what it holds is known.
    fn on<R>(&mut self, work: impl FnOnce(&mut Core) -> R) -> R {
        let (result, change) = memory::change(|| work(&mut self.core));
        self.held += change;
        result
    }

    fn step(&mut self, cursor: &mut Cursor<'_>) {
        match cursor.u8() % 32 {
            0..=5 => self.send_frame(cursor),
            6 => self.send_many(cursor),
            7 => self.send_raw(cursor),
            8 => self.piece = usize::from(cursor.u16()).max(1),
            9 => {
                let len = usize::from(cursor.u16());
                self.pure = false;
                self.send(&vec![cursor.u8(); len]);
            }
            10 => self.finish_body(),
            11 | 12 => self.take_output(cursor.u8()),
            13 | 14 => self.advance(cursor),
            15 => self.open(),
            16 | 17 => self.accept(),
            18 | 19 => self.read(cursor),
            20 | 21 => self.write(cursor),
            22..=28 => self.command(cursor),
            _ => self.rare(cursor),
        }
    }

    fn send_frame(&mut self, cursor: &mut Cursor<'_>) {
        let frame = self.choose_frame(cursor);
        self.send_whole(frame);
    }

    /// The same frame over and over, each for the next id, or all for one.
    fn send_many(&mut self, cursor: &mut Cursor<'_>) {
        let mut frame = self.choose_frame(cursor);
        let count = usize::from(cursor.u16() % 16_385);
        let stride = cursor.pick(&[0, 2, 1, 4, 0x1_0000]);
        let size = 12 + frame.body().min(MAX_BODY);
        let mut wire = Vec::new();
        for _ in 0..count.min(1 + (1 << 20) / size) {
            push_whole(&mut wire, frame);
            frame.stream = frame.stream.wrapping_add(stride);
            if frame.kind == PING {
                frame.length = frame.length.wrapping_add(stride);
            }
        }
        self.send_wire(&wire, frame);
    }

    fn choose_frame(&mut self, cursor: &mut Cursor<'_>) -> Fields {
        let kind = cursor.u8() % 4;
        let flags = match cursor.u8() {
            flags @ 0..=0x3f => u16::from(flags & 15),
            flags => u16::from(flags) << 4 | u16::from(flags & 15),
        };
        let stream = match cursor.u8() {
            255 => cursor.u32(),
            254 => u32::MAX,
            253 => u32::MAX - 1,
            // The next id that the peer may open.
            252 => {
                self.fresh += 2;
                self.fresh + u32::from(self.role == Role::Server) - 2 + 64
            }
            small => u32::from(small % 32),
        };
        let length = match cursor.u8() {
            255 => cursor.u32(),
            other => LENGTHS[usize::from(other) % LENGTHS.len()],
        };
        Fields { kind, flags, stream, length }
    }

    fn send_whole(&mut self, frame: Fields) {
        let mut wire = Vec::new();
        push_whole(&mut wire, frame);
        self.send_wire(&wire, frame);
    }

    /// Sends frames like `frame`.
    fn send_wire(&mut self, wire: &[u8], frame: Fields) {
        // Unless a body is left open, or they land in one.
        self.pure &= frame.body() <= MAX_BODY && self.splitter.missing() == Some(0);
        self.send(wire);
    }

    fn send_raw(&mut self, cursor: &mut Cursor<'_>) {
        let len = usize::from(cursor.u8());
        self.pure = false;
        self.send(cursor.bytes(len));
    }

    /// Completes what the last header announced, within reason.
    fn finish_body(&mut self) {
        if let Some(missing @ 1..=MAX_BODY) = self.splitter.missing() {
            self.send(&vec![0; missing]);
        }
    }

    fn send(&mut self, wire: &[u8]) {
        let piece = self.piece.max(wire.len() / 256).min(MAX_PIECE);
        for piece in wire.chunks(piece) {
            self.deliver(piece);
        }
    }

    fn deliver(&mut self, piece: &[u8]) {
        let alive = self.core.ended().is_none();
        self.delivered += piece.len();
        let (monitor, headers) = (&mut self.monitor, &mut self.headers);
        let frames = &mut self.frames;
        if alive {
            self.splitter.push(piece, |header| {
                headers.push(header);
                *frames += 1;
                if let Ok(fields) = header {
                    monitor.received(fields);
                }
            });
        }
        let before = self.core.stats().frames_received;
        let now = self.now;
        self.on(|core| {
            let piece = Bytes::copy_from_slice(piece);
            core.handle_input(&piece, now);
        });
        if !alive {
            assert_eq!(self.core.stats().frames_received, before, "read on after the end");
        }
        self.judge();
        self.drain_events();
    }

    /// Whether the core ended the session where it had to, and only for a reason.
    fn judge(&mut self) {
        let headers = std::mem::take(&mut self.headers);
        let must_end = headers.iter().any(|header| self.ends_session(*header));
        match self.core.ended() {
            None => assert!(!must_end, "not ended by {headers:?}"),
            Some(Err(SessionError::Violation { rule, frame })) if !headers.is_empty() => {
                let named = frame.map(|header| Fields {
                    kind: header.kind as u8,
                    flags: header.flags.0,
                    stream: header.stream.0,
                    length: header.length,
                });
                let there = match (named, rule) {
                    (Some(named), _) => headers.contains(&Ok(named)),
                    (None, Violation::UnsupportedVersion(version)) => {
                        headers.contains(&Err(Malformed::Version(version)))
                    }
                    (None, Violation::UnknownKind(kind)) => {
                        headers.contains(&Err(Malformed::Kind(kind)))
                    }
                    (None, _) => false,
                };
                assert!(there, "{rule:?} by {frame:?}, but it got {headers:?}");
                if let Some(frame) = named {
                    self.judge_rule(rule, frame);
                }
            }
            Some(_) => {}
        }
        self.headers = headers;
        self.headers.clear();
    }

    /// Frames that end a session in whatever state it is.
    fn ends_session(&self, header: Result<Fields, Malformed>) -> bool {
        let Ok(frame) = header else { return true };
        let ours = (frame.stream % 2 == 1) == (self.role == Role::Client);
        match frame.kind {
            GO_AWAY => frame.length != 0,
            PING => false,
            _ if frame.stream == 0 => true,
            DATA if frame.has(SYN) && frame.length > WINDOW_SIZE => true,
            WINDOW
                if frame.has(SYN) && !frame.has(RST) && frame.length > u32::MAX - WINDOW_SIZE =>
            {
                true
            }
            _ => frame.has(SYN) && ours,
        }
    }

    fn judge_rule(&self, rule: Violation, frame: Fields) {
        let ours = (frame.stream % 2 == 1) == (self.role == Role::Client);
        let fits = match rule {
            Violation::ZeroStreamId => frame.stream == 0 && frame.kind < PING,
            Violation::WrongParity => frame.has(SYN) && ours && frame.kind < PING,
            Violation::DuplicateStream => frame.has(SYN) && !ours && frame.kind < PING,
            Violation::WindowOverflow => frame.kind == WINDOW && frame.length > 0,
            Violation::WindowExceeded => frame.kind == DATA && frame.length > 0,
            Violation::LateData | Violation::NeverOpened => {
                frame.kind == DATA && frame.length > 0 && !frame.has(SYN)
            }
            Violation::Flood(Flood::EmptyFrames) => frame.body() == 0,
            Violation::Flood(Flood::EarlyResets) => frame.has(RST) && frame.kind < PING,
            Violation::Flood(Flood::Pings) => frame.kind == PING && frame.has(SYN),
            Violation::Flood(Flood::Refusals) => frame.has(SYN) && !ours,
            _ => false,
        };
        assert!(fits, "{rule:?} does not fit {frame:?}");
    }

    fn drain_events(&mut self) {
        let mut events = 0;
        while self.on(Core::poll_event).is_some() {
            events += 1;
        }
        // A piece holds some 5,461 frames, and the end of a session wakes everyone.
        assert!(events <= 3 * MAX_PIECE / 12 + 4_096, "{events} events at once");
    }

    /// Takes a batch, or lets the IO finish the one before. `stall` leaves it unfinished.
    fn take_output(&mut self, stall: u8) {
        self.local += 1;
        if let Some(number) = self.writing.take() {
            let now = self.now;
            return self.on(|core| core.handle_flushed(number, now));
        }
        let mut batch = std::mem::take(&mut self.batch);
        let now = self.now;
        self.writing = self.on(|core| core.take_output(&mut batch, now));
        assert_eq!(self.writing.is_none(), batch.is_empty());
        let bound = 2 * self.limits.staging + 64 + MAX_CONTROL;
        assert!(batch.remaining() <= bound, "a batch of {} bytes", batch.remaining());
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let set = batch.slices(&mut slices);
            self.out.clear();
            slices[..set].iter().for_each(|slice| self.out.extend_from_slice(slice));
            assert!(!self.out.is_empty());
            let taken = self.out.len();
            self.on(|_| batch.advance(taken));
            self.monitor.sent(&self.out);
        }
        self.batch = batch;
        assert!(self.monitor.at_boundary(), "a batch ends within a frame");
        if stall % 4 != 3
            && let Some(number) = self.writing.take()
        {
            self.on(|core| core.handle_flushed(number, now));
        } else if self.writing.is_some() {
            self.on(|core| core.handle_blocked(stall & 4 != 0, now));
        }
    }

    fn advance(&mut self, cursor: &mut Cursor<'_>) {
        self.local += 1;
        let by = cursor.pick(&[0, 1, 6, 100, 1_000, 9_000, 31_000, 80_000, 301_000]);
        let until = self.now + Duration::from_millis(by);
        for _ in 0..16 {
            let due = self.on(Core::poll_timeout);
            assert!(self.timed || due.is_none(), "a timeout without a timer");
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            let now = self.now;
            self.on(|core| core.handle_timeout(now));
        }
        self.now = until;
    }

    fn open(&mut self) {
        self.local += 1;
        if self.handles.len() < MAX_HANDLES
            && let Ok(slot) = self.on(|core| core.open())
        {
            self.hold(slot);
        }
    }

    fn accept(&mut self) {
        self.local += 1;
        if self.handles.len() < MAX_HANDLES
            && let Some(slot) = self.on(|core| core.accept())
        {
            self.hold(slot);
        }
    }

    fn hold(&mut self, slot: Slot) {
        assert!(self.handles.iter().all(|handle| handle.slot != slot), "a slot given out twice");
        let id = self.core.id(slot).map(|id| id.0);
        self.handles.push(Handle { slot, read: true, write: true, id });
    }

    fn choose(&self, cursor: &mut Cursor<'_>) -> Option<usize> {
        let choice = usize::from(cursor.u8());
        (!self.handles.is_empty()).then(|| choice % self.handles.len())
    }

    fn read(&mut self, cursor: &mut Cursor<'_>) {
        self.local += 1;
        let chunked = cursor.flag();
        let max = cursor.pick(&[1, 100, 4_096, 70_000, 262_144]);
        let Some(index) = self.choose(cursor).filter(|index| self.handles[*index].read) else {
            return;
        };
        self.read_from(index, chunked, max);
    }

    /// Returns whether bytes were read.
    fn read_from(&mut self, index: usize, chunked: bool, max: usize) -> bool {
        let Handle { slot, id, .. } = self.handles[index];
        let id = id.or_else(|| self.core.id(slot).map(|id| id.0));
        let fill = id.filter(|_| self.pure).map(fill);
        let right = |bytes: &[u8]| fill.is_none_or(|fill| bytes.iter().all(|byte| *byte == fill));
        let before = self.core.stats().buffered;
        let max = max.min(before + 1);
        let mut buffer = vec![0; max];
        let (len, right) = self.on(|core| {
            if chunked {
                match core.read_chunk(slot, max) {
                    Ok(Read::Data(chunk)) => (chunk.len(), right(&chunk)),
                    _ => (0, true),
                }
            } else {
                match core.read(slot, &mut buffer) {
                    Ok(Read::Data(len)) => (len, right(&buffer[..len])),
                    _ => (0, true),
                }
            }
        });
        assert!(right, "bytes of another stream");
        assert!(len <= max);
        assert_eq!(before - len, self.core.stats().buffered);
        len > 0
    }

    fn write(&mut self, cursor: &mut Cursor<'_>) {
        self.local += 1;
        let chunked = cursor.flag();
        let len = cursor.pick(&[0, 1, 11, 1_500, 5_000, 70_000, 300_000]);
        let Some(index) = self.choose(cursor).filter(|index| self.handles[*index].write) else {
            return;
        };
        let slot = self.handles[index].slot;
        let written = self.on(|core| {
            if chunked {
                let mut chunk = Bytes::from(vec![7; len]);
                core.write_chunk(slot, &mut chunk)
            } else {
                core.write(slot, &vec![7; len])
            }
        });
        if let Ok(Written::Bytes(staged)) = written {
            assert!(staged <= len && (staged > 0 || len == 0));
            self.written += staged as u64;
        }
    }

    fn command(&mut self, cursor: &mut Cursor<'_>) {
        self.local += 1;
        let command = cursor.u8() % 12;
        let now = self.now;
        let Some(index) = self.choose(cursor) else { return };
        let Handle { slot, read, write, .. } = self.handles[index];
        match command {
            0 | 1 if write => {
                let _ = self.on(|core| core.finish(slot));
            }
            2 => {
                let code = ResetCode(cursor.pick(&[0, 1, 3, 4, 300, u32::MAX]));
                self.on(|core| core.reset(slot, code));
            }
            3 | 4 if read => self.release(index, Half::Read),
            5 if write => self.release(index, Half::Write),
            6 | 7 => self.release(index, Half::Both),
            8 if write => {
                let _ = self.on(|core| core.flush(slot));
            }
            9 => {
                let at = cursor.pick(&[None, Some(0), Some(10), Some(60_000)]);
                let at = at.map(|millis| now + Duration::from_millis(millis));
                let direction = if cursor.flag() { Direction::Read } else { Direction::Write };
                let set = self.on(|core| core.set_deadline(slot, direction, at, now));
                assert_eq!(set, self.timed || at.is_none());
            }
            _ => {
                let _ = self.read_from_if(index, read);
            }
        }
    }

    fn read_from_if(&mut self, index: usize, read: bool) -> bool {
        read && self.read_from(index, true, 262_144)
    }

    /// Drops a half, or what is left of the handle.
    fn release(&mut self, index: usize, half: Half) {
        let handle = &mut self.handles[index];
        let half = match (half, handle.read, handle.write) {
            (Half::Both, true, true) => Half::Both,
            (Half::Both, true, false) => Half::Read,
            (Half::Both, false, true) => Half::Write,
            (half, ..) => half,
        };
        handle.read &= half == Half::Write;
        handle.write &= half == Half::Read;
        let slot = handle.slot;
        if !handle.read && !handle.write {
            self.handles.swap_remove(index);
        }
        self.on(|core| core.release(slot, half));
    }

    fn rare(&mut self, cursor: &mut Cursor<'_>) {
        self.local += 1;
        let now = self.now;
        match cursor.u8() % 32 {
            0..=7 => {
                if let Ok(Some(value)) = self.on(|core| core.ping(now)) {
                    self.pings.push(value);
                }
            }
            8..=11 => {
                if let Some(value) = self.pings.pop() {
                    self.on(|core| core.forget_ping(value));
                }
            }
            12..=15 => self.on(Core::shrink),
            16 => self.on(Core::go_away),
            17 => self.on(|core| core.close(now)),
            18 => self.on(|core| core.handles_dropped(now)),
            19 => self.on(|core| core.abort(GoAwayCode(cursor.u8().into()), now)),
            20 => self.eof(),
            21 => self.on(|core| core.handle_failure(SessionError::IoMisbehaved, now)),
            22..=25 => {
                // The value of the last ping of ours, or some other.
                let length = self.pings.last().copied().unwrap_or_default();
                self.send_whole(Fields { kind: 2, flags: 2, stream: 0, length });
            }
            _ => self.take_output(0),
        }
    }

    /// The connection ends: within a frame, or with a stream that might have had more to say, that
    /// is no clean end.
    fn eof(&mut self) {
        let alive = self.core.ended().is_none();
        let mut cut = self.splitter.missing() != Some(0);
        for index in 0..self.handles.len() {
            let Handle { slot, read, .. } = self.handles[index];
            cut |= read && self.on(|core| core.read(slot, &mut [])) == Ok(Read::Blocked);
        }
        let now = self.now;
        self.on(|core| core.handle_eof(now));
        if alive && cut {
            assert_eq!(self.core.ended(), Some(Err(SessionError::ConnectionLost)));
        }
    }

    /// What holds after every step.
    fn settle(&mut self) {
        self.drain_events();
        self.check_bounds();
        let answers = 2 * self.frames + 3 * self.local + 64;
        let sent = self.monitor.control;
        assert!(sent <= answers, "{sent} control frames for {} received", self.frames);
        assert!(self.monitor.data <= self.written, "more data sent than written");
    }

    fn check_bounds(&self) {
        let (stats, limits) = (self.core.stats(), self.limits);
        assert!(stats.accept_backlog <= limits.accept_backlog, "{stats:?}");
        assert!(stats.ack_backlog <= limits.ack_backlog, "{stats:?}");
        assert!(stats.inbound_streams <= limits.max_streams, "{stats:?}");
        assert!(stats.outbound_streams <= limits.max_outbound, "{stats:?}");
        assert!(stats.inbound_streams + stats.outbound_streams <= self.core.live_streams());
        assert!(stats.buffered < limits.budget + WINDOW_SIZE as usize, "{stats:?}");
        assert!(stats.extra_credit <= limits.budget, "{stats:?}");
        assert!(stats.staged <= 2 * limits.staging + MAX_CONTROL, "{stats:?}");
        assert!(stats.bytes_received <= self.delivered as u64, "{stats:?}");
        for handle in &self.handles {
            let (credit, limit) = self.core.receive_window(handle.slot);
            // One that is over has given its limit back, and its credit means nothing any more.
            assert!(credit.max(limit) <= limits.max_window.max(WINDOW_SIZE));
        }
        // Read buffers pinned (four times), copies and spares, staging twice, table and lists.
        let table = 1_024 * (self.core.live_streams() + limits.max_streams + limits.max_outbound);
        let bound = 4 * stats.buffered + 8 * limits.staging + 2 * MAX_CONTROL + table + (4 << 20);
        let held = self.held;
        assert!(held <= bound as isize, "{held} bytes held, {bound} allowed: {stats:?}");
    }

    /// A session that was not ended answers a ping.
    fn probe(&mut self) {
        self.finish_body();
        if self.splitter.missing() != Some(0) {
            return;
        }
        for _ in 0..2 {
            self.take_output(0);
        }
        if self.core.ended().is_some() {
            return;
        }
        self.monitor.pongs.clear();
        self.send_whole(Fields { kind: PING, flags: SYN, stream: 0, length: 0xfeed_beef });
        self.take_output(0);
        assert!(self.core.ended().is_none(), "{:?} by a ping", self.core.ended());
        assert!(self.monitor.pongs.contains(&0xfeed_beef), "a ping without an answer");
        self.settle();
    }

    /// However it ends, nothing is live afterwards.
    fn end(&mut self, ending: u8) {
        let now = self.now;
        match ending % 5 {
            0 => self.eof(),
            1 => self.on(|core| core.abort(GoAwayCode(7), now)),
            2 => self.on(|core| core.close(now)),
            3 => self.on(|core| core.handles_dropped(now)),
            _ => self.on(|core| core.handle_failure(SessionError::DriverDropped, now)),
        }
        self.settle();
        for round in 0.. {
            assert!(round < 1_000, "the session does not end: {:?}", self.core.io_step());
            self.take_output(0);
            match self.core.io_step() {
                IoStep::Done(_) => break,
                IoStep::Shutdown => {
                    let now = self.now;
                    self.on(|core| core.handle_shutdown(now));
                }
                // A peer that never closes must not matter where there is a clock.
                IoStep::Run | IoStep::Linger => match self.on(Core::poll_timeout) {
                    Some(due) if ending & 128 == 0 && round < 500 => {
                        self.now = self.now.max(due);
                        let now = self.now;
                        self.on(|core| core.handle_timeout(now));
                    }
                    _ => {
                        let now = self.now;
                        self.on(|core| core.handle_eof(now));
                    }
                },
            }
            self.settle();
        }
        self.check_ended();
    }

    fn check_ended(&mut self) {
        let outcome = self.core.outcome().expect("an outcome");
        assert_eq!(self.core.ended(), Some(outcome), "two outcomes");
        assert_eq!(self.on(Core::poll_timeout), None, "a timeout after the end");
        let now = self.now;
        while let Some(slot) = self.on(|core| core.accept()) {
            self.hold(slot);
        }
        assert!(self.core.accepts_no_more());
        assert!(self.core.open().is_err(), "opened after the end");
        assert!(self.core.ping(now).is_err(), "pinged after the end");
        while let Some(handle) = self.handles.last() {
            let (slot, index) = (handle.slot, self.handles.len() - 1);
            if handle.read {
                while self.read_from(index, true, 262_144) {}
                let read = self.on(|core| core.read(slot, &mut [0; 16]));
                assert!(matches!(read, Err(_) | Ok(Read::End)), "{read:?} after the end");
            }
            if self.handles[index].write {
                let written = self.on(|core| core.write(slot, &[0]));
                assert!(written.is_err(), "{written:?} after the end");
            }
            self.release(index, Half::Both);
        }
        let stats = self.core.stats();
        assert_eq!(self.core.live_streams(), 0, "{stats:?}");
        let left = [
            stats.outbound_streams,
            stats.inbound_streams,
            stats.accept_backlog,
            stats.ack_backlog,
            stats.buffered,
            stats.extra_credit,
        ];
        assert_eq!(left, [0; 6], "{stats:?}");
        self.deliver(&[0; 12]);
        assert_eq!(self.core.outcome(), Some(outcome), "ended twice");
    }
}

/// A header, with all of its body unless that is very long.
fn push_whole(wire: &mut Vec<u8>, frame: Fields) {
    wire.extend(frame.wire());
    if frame.body() <= MAX_BODY {
        wire.resize(wire.len() + frame.body(), fill(frame.stream));
    }
}

/// The byte that fills every body of a stream.
const fn fill(id: u32) -> u8 {
    (id as u8).wrapping_mul(31).wrapping_add(7)
}

/// A longer body is announced only.
const MAX_BODY: usize = 300_000;

/// Lengths at which something changes.
pub(crate) const LENGTHS: [u32; 20] = [
    0,
    1,
    2,
    12,
    1_000,
    4_095,
    4_096,
    16_383,
    16_384,
    65_536,
    131_072,
    262_143,
    262_144,
    262_145,
    300_000,
    0x7fff_ffff,
    u32::MAX - WINDOW_SIZE,
    u32::MAX - WINDOW_SIZE + 1,
    u32::MAX,
    100,
];

const _: () = assert!(Kind::Data as u8 == DATA);
