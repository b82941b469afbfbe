//! Two cores and their users, any operations, any splits: every byte arrives once and in order,
//! nobody waits for ever, and at the end every table is empty.

use std::{
    collections::{HashMap, VecDeque},
    io::IoSlice,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use trunkline::{
    Config, GoAwayCode, ResetCode, Role, StreamError,
    proto::{Batch, Core, Direction, Event, Half, IoStep, Read, Slot, Written},
    runtime::{ManualTimer, Timer},
};

use super::{cursor::Cursor, monitor::Monitor, naive::Splitter, pattern::pattern};

/// Plays `data` on two cores.
pub fn operations(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let mut pair = Pair::new(&mut cursor);
    let mut steps = 0;
    while !cursor.is_empty() && steps < MAX_STEPS {
        steps += 1;
        pair.step(&mut cursor);
        pair.notice();
    }
    pair.settle();
    pair.check_settled();
    pair.end(steps);
}

const MAX_STEPS: usize = 1_000;
const MAX_HANDLES: usize = 24;
const MAX_PIECE: usize = 64 << 10;
const PING_TIMEOUT: Duration = Duration::from_secs(10);

struct Pair {
    ends: [End; 2],
    /// What one end sent and the other has not received.
    pipes: [VecDeque<u8>; 2],
    capacity: usize,
    /// Bytes that may still be written, so that small pipes do not take for ever.
    allowance: usize,
    /// The end closed its writing side.
    shut: [bool; 2],
    lines: Vec<Line>,
    /// Which line an id belongs to.
    ids: HashMap<u32, usize>,
    now: Instant,
    /// How far the clock was moved to settle.
    waited: Duration,
    /// How often the clock went on for long.
    idled: usize,
    /// Someone ended the session: streams may fail.
    disturbed: bool,
    /// Whether the sessions have a clock.
    timed: bool,
    /// Someone sent GoAway(0): streams may be refused.
    refusing: bool,
}

struct End {
    core: Core,
    batch: Batch,
    writing: Option<u64>,
    handles: Vec<Handle>,
    /// Streams closed and dropped before they had an id, with their lines.
    ghosts: Vec<(Slot, usize)>,
    open_blocked: bool,
    /// Pings that were not answered, and when they were asked.
    pings: Vec<(u32, Instant)>,
    monitor: Monitor,
    splitter: Splitter,
}

struct Handle {
    slot: Slot,
    line: usize,
    read: bool,
    write: bool,
    read_blocked: bool,
    write_blocked: bool,
    /// Bytes the user still means to write.
    wants: usize,
    finished: bool,
    read_over: bool,
    write_over: bool,
}

/// One stream, seen from above: index 0 is what end 0 did.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    written: [usize; 2],
    read: [usize; 2],
    finished: [bool; 2],
    /// A user reset it, or dropped it without closing it.
    torn: bool,
    /// The end writes and reads no more. Where both only write they may wait for each other until the drain
    /// is over (`spec.md §4.5.9`).
    deaf: [bool; 2],
    /// Both ends had it when one began to close: it may finish (`spec.md §8.2.1`).
    protected: bool,
}

impl Pair {
    fn new(cursor: &mut Cursor<'_>) -> Self {
        let timed = !cursor.u8().is_multiple_of(4);
        let timer = ManualTimer::new();
        let now = timer.now();
        let capacity = cursor.pick(&[1 << 20, 1, 7, 100, 4_096, 65_536]);
        let mut end = |role| {
            let window = cursor.pick(&[262_144, 262_144, 300_000, 1 << 20]);
            let max_frame = cursor.pick(&[64 << 10, 1_024, 5_000]);
            let max_window = window.max(cursor.pick(&[262_144, 1 << 20]));
            let mut builder = Config::builder()
                .stream_window(window)
                .max_stream_window(max_window)
                .max_frame(max_frame)
                .accept_backlog(cursor.pick(&[256, 0, 1, 3]))
                .ack_backlog(cursor.pick(&[256, 1, 2, 5]))
                .max_streams(cursor.pick(&[8_192, 1, 4]))
                .max_outbound_streams(cursor.pick(&[8_192, 1, 4]))
                .staging_limit(cursor.pick(&[256 << 10, 16 << 10]))
                .ack_delay(Duration::from_millis(cursor.pick(&[5, 0])))
                .keepalive(None)
                .ping_timeout(PING_TIMEOUT)
                .drain_timeout(Duration::from_secs(500))
                .write_timeout(None)
                .open_timeout(None)
                .seed(Some(1));
            let timer = Arc::new(timer.clone());
            builder = if timed { builder.timer(timer) } else { builder.no_timer() };
            let config = builder.build().expect("limits in range");
            End {
                core: Core::new(role, &config, now),
                batch: Batch::new(),
                writing: None,
                handles: Vec::new(),
                ghosts: Vec::new(),
                open_blocked: false,
                pings: Vec::new(),
                monitor: Monitor::new(role == Role::Client, max_frame, max_window),
                splitter: Splitter::default(),
            }
        };
        Self {
            ends: [end(Role::Client), end(Role::Server)],
            pipes: [VecDeque::new(), VecDeque::new()],
            capacity,
            allowance: capacity.saturating_mul(2_000).min(1 << 20),
            shut: [false; 2],
            lines: Vec::new(),
            ids: HashMap::new(),
            now,
            waited: Duration::ZERO,
            idled: 0,
            disturbed: false,
            timed,
            refusing: false,
        }
    }

    fn step(&mut self, cursor: &mut Cursor<'_>) {
        let choice = cursor.u8();
        let end = usize::from(choice >> 7);
        match choice & 31 {
            0 | 1 => self.open(end),
            2 | 3 => {
                self.accept(end);
            }
            4..=8 => self.with_handle(end, cursor, |pair, index, cursor| {
                let wants = cursor.pick(&[1, 5, 100, 2_048, 20_000, 262_144, 400_000]);
                let wants = wants.min(pair.allowance);
                pair.allowance -= wants;
                pair.ends[end].handles[index].wants += wants;
                pair.write(end, index, cursor.flag());
            }),
            9..=12 => self.with_handle(end, cursor, |pair, index, cursor| {
                let max = cursor.pick(&[65_536, 1, 50, 5_000, 300_000]);
                pair.read(end, index, max, cursor.flag());
            }),
            13..=17 => {
                let most = cursor.pick(&[1 << 20, 1, 11, 12, 13, 1_000, 70_000]);
                self.transmit(end, most);
            }
            18..=22 => {
                let most = cursor.pick(&[1 << 20, 1, 11, 12, 13, 1_000, 70_000]);
                self.deliver(end, most);
            }
            23 => self.with_handle(end, cursor, |pair, index, _| pair.finish(end, index)),
            24 => self.with_handle(end, cursor, |pair, index, _| {
                pair.release(end, index, Half::Both);
            }),
            25 => self.with_handle(end, cursor, |pair, index, cursor| {
                let half = if cursor.flag() { Half::Read } else { Half::Write };
                pair.release(end, index, half);
            }),
            26 => self.with_handle(end, cursor, |pair, index, cursor| {
                let handle = &pair.ends[end].handles[index];
                let (slot, line) = (handle.slot, handle.line);
                pair.lines[line].torn = true;
                pair.ends[end].core.reset(slot, ResetCode(cursor.u8().into()));
            }),
            27 => self.tick(cursor.pick(&[0, 1, 5, 100])),
            28 => self.with_handle(end, cursor, |pair, index, cursor| {
                pair.try_deadline(end, index, cursor.flag());
            }),
            29 => self.with_handle(end, cursor, |pair, index, _| {
                let End { core, handles, .. } = &mut pair.ends[end];
                if handles[index].write && core.flush(handles[index].slot) == Ok(false) {
                    handles[index].write_blocked = true;
                }
            }),
            30 => {
                let End { core, pings, .. } = &mut self.ends[end];
                if let Ok(Some(value)) = core.ping(self.now) {
                    pings.push((value, self.now));
                }
            }
            _ => self.rare(end, cursor.u8()),
        }
    }

    fn rare(&mut self, end: usize, choice: u8) {
        match choice % 16 {
            0 => {
                self.protect();
                self.ends[end].core.close(self.now);
            }
            1 => {
                self.disturbed = true;
                self.lines.iter_mut().for_each(|line| line.protected = false);
                self.ends[end].core.abort(GoAwayCode(u32::from(choice)), self.now);
            }
            2 => {
                self.protect();
                self.ends[end].core.handles_dropped(self.now);
            }
            3 | 4 => {
                self.ends[end].core.go_away();
                self.refusing = true;
            }
            // Long enough to fall idle, not so long that anything else is due.
            _ if self.idled < 8 => {
                self.idled += 1;
                self.tick(12_000);
            }
            _ => {}
        }
    }

    /// One end is about to close: what both ends hold by now runs on, what comes later may not.
    fn protect(&mut self) {
        if std::mem::replace(&mut self.disturbed, true) {
            return;
        }
        for (number, line) in self.lines.iter_mut().enumerate() {
            let held = |end: &End| {
                end.handles
                    .iter()
                    .any(|handle| handle.line == number && handle.read && handle.write)
            };
            line.protected = !line.torn && self.ends.iter().all(held);
        }
    }

    fn with_handle(
        &mut self,
        end: usize,
        cursor: &mut Cursor<'_>,
        work: impl FnOnce(&mut Self, usize, &mut Cursor<'_>),
    ) {
        let choice = usize::from(cursor.u8());
        let handles = self.ends[end].handles.len();
        if handles > 0 {
            work(self, choice % handles, cursor);
        }
    }

    fn open(&mut self, end: usize) {
        let End { core, handles, ghosts, open_blocked, .. } = &mut self.ends[end];
        if handles.len() >= MAX_HANDLES {
            return;
        }
        match core.open() {
            Ok(slot) => {
                ghosts.retain(|(ghost, _)| *ghost != slot);
                let line = self.lines.len();
                self.lines.push(Line::default());
                handles.push(Handle::new(slot, line));
            }
            Err(trunkline::TryOpenError::Open(_)) => {}
            Err(_) => *open_blocked = true,
        }
    }

    fn accept(&mut self, end: usize) -> bool {
        let End { core, handles, ghosts, .. } = &mut self.ends[end];
        if handles.len() >= 2 * MAX_HANDLES {
            return false;
        }
        let Some(slot) = core.accept() else { return false };
        ghosts.retain(|(ghost, _)| *ghost != slot);
        let id = core.id(slot).expect("an accepted stream has an id");
        let line = self.ids.get(&id.0).copied().expect("accepted what nobody opened");
        handles.push(Handle::new(slot, line));
        true
    }

    /// Writes what the user wants to; returns whether anything was written.
    fn write(&mut self, end: usize, index: usize, chunked: bool) -> bool {
        let End { core, handles, .. } = &mut self.ends[end];
        let handle = &mut handles[index];
        if !handle.write || handle.finished || handle.write_over || handle.wants == 0 {
            return false;
        }
        let line = &mut self.lines[handle.line];
        let len = handle.wants.min(MAX_PIECE);
        let bytes = pattern(handle.line * 2 + end, line.written[end], len);
        let written = if chunked {
            let mut chunk = Bytes::copy_from_slice(bytes);
            let written = core.write_chunk(handle.slot, &mut chunk);
            if let Ok(Written::Bytes(taken)) = written {
                assert_eq!(taken + chunk.len(), len, "the chunk keeps what was not taken");
            }
            written
        } else {
            core.write(handle.slot, bytes)
        };
        match written {
            Ok(Written::Bytes(taken)) => {
                assert!(taken > 0 && taken <= len);
                line.written[end] += taken;
                handle.wants -= taken;
                return true;
            }
            Ok(Written::Blocked) => handle.write_blocked = true,
            Err(error) => {
                handle.write_over = true;
                self.excuse(end, index, error);
            }
        }
        false
    }

    fn read(&mut self, end: usize, index: usize, max: usize, chunked: bool) -> bool {
        let End { core, handles, .. } = &mut self.ends[end];
        let handle = &mut handles[index];
        if !handle.read {
            return false;
        }
        let max = max.min(core.stats().buffered + 1);
        let mut buffer = vec![0; max];
        let read = if chunked {
            core.read_chunk(handle.slot, max).map(|read| match read {
                Read::Data(chunk) => {
                    buffer[..chunk.len()].copy_from_slice(&chunk);
                    Read::Data(chunk.len())
                }
                Read::Blocked => Read::Blocked,
                Read::End => Read::End,
            })
        } else {
            core.read(handle.slot, &mut buffer)
        };
        let line = &mut self.lines[handle.line];
        match read {
            Ok(Read::Data(len)) => {
                assert!(len > 0 && len <= max);
                assert!(!handle.read_over, "bytes after the end");
                let sent = pattern(handle.line * 2 + 1 - end, line.read[end], len);
                assert!(buffer[..len] == *sent, "other bytes than were sent on {line:?}");
                line.read[end] += len;
                assert!(line.read[end] <= line.written[1 - end], "more than was sent: {line:?}");
                return true;
            }
            Ok(Read::Blocked) => {
                assert!(!handle.read_over, "blocked after the end");
                handle.read_blocked = true;
            }
            Ok(Read::End) => {
                let whole = line.finished[1 - end] && line.read[end] == line.written[1 - end];
                assert!(whole, "an end too early: {line:?}");
                handle.read_over = true;
            }
            Err(StreamError::TimedOut) => panic!("a deadline that nobody set"),
            Err(error) => {
                handle.read_over = true;
                self.excuse(end, index, error);
            }
        }
        false
    }

    /// Whether there was a reason for a stream to fail.
    fn excuse(&self, end: usize, index: usize, error: StreamError) {
        let line = self.lines[self.ends[end].handles[index].line];
        let refused = self.ends.iter().any(|end| end.core.stats().refused > 0);
        let protected = line.protected && line.deaf != [true; 2];
        let excused = match error {
            StreamError::Reset(ResetCode::REFUSED) if refused || self.refusing => true,
            StreamError::Reset(_) | StreamError::LocalReset(_) => {
                line.torn || self.disturbed && !protected
            }
            StreamError::Session(_) => self.disturbed && (line.torn || !protected),
            _ => false,
        };
        assert!(excused, "end {end}: {error} for no reason: {line:?}");
    }

    fn finish(&mut self, end: usize, index: usize) {
        let End { core, handles, .. } = &mut self.ends[end];
        let handle = &mut handles[index];
        if !handle.write || handle.finished {
            return;
        }
        handle.finished = true;
        handle.wants = 0;
        if core.finish(handle.slot).is_ok() {
            self.lines[handle.line].finished[end] = true;
        }
    }

    fn release(&mut self, end: usize, index: usize, half: Half) {
        let End { core, handles, ghosts, .. } = &mut self.ends[end];
        let handle = &mut handles[index];
        let half = match (half, handle.read, handle.write) {
            (Half::Both, true, true) => Half::Both,
            (Half::Read, true, _) | (Half::Both, true, false) => Half::Read,
            (Half::Write, _, true) | (Half::Both, false, true) => Half::Write,
            _ => return,
        };
        handle.read &= half == Half::Write;
        self.lines[handle.line].deaf[end] |= handle.write && !handle.read;
        handle.write &= half == Half::Read;
        let slot = handle.slot;
        if !handle.read && !handle.write {
            self.lines[handle.line].torn |= !handle.finished;
            let handle = handles.swap_remove(index);
            if core.id(slot).is_none() {
                ghosts.push((slot, handle.line));
            }
        }
        core.release(slot, half);
    }

    /// A deadline in the past fails what would wait, and does no harm.
    fn try_deadline(&mut self, end: usize, index: usize, read: bool) {
        let now = self.now;
        let End { core, handles, .. } = &mut self.ends[end];
        let slot = handles[index].slot;
        let direction = if read { Direction::Read } else { Direction::Write };
        if !core.set_deadline(slot, direction, Some(now), now) {
            return;
        }
        if read && handles[index].read {
            let read = core.read(slot, &mut []);
            assert_ne!(read, Ok(Read::Blocked), "blocked past the deadline");
        } else if !read && handles[index].write {
            let written = core.write(slot, &[]);
            assert_ne!(written, Ok(Written::Blocked), "an empty write waits for nothing");
        }
        assert!(core.set_deadline(slot, direction, None, now));
    }

    fn tick(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        for end in 0..2 {
            for _ in 0..8 {
                let core = &mut self.ends[end].core;
                let Some(due) = core.poll_timeout().filter(|due| *due <= until) else { break };
                core.handle_timeout(due.max(self.now));
            }
        }
        self.now = until;
    }

    /// The IO of `end` takes up to `most` bytes; returns whether anything happened.
    fn transmit(&mut self, end: usize, most: usize) -> bool {
        let now = self.now;
        let End { core, batch, writing, monitor, .. } = &mut self.ends[end];
        let mut busy = false;
        if writing.is_none() {
            *writing = core.take_output(batch, now);
            assert_eq!(writing.is_none(), batch.is_empty());
            let mut slices = [IoSlice::new(&[]); 1_024];
            let set = batch.slices(&mut slices);
            let total: usize = slices[..set].iter().map(|slice| slice.len()).sum();
            assert_eq!(total, batch.remaining());
            slices[..set].iter().for_each(|slice| monitor.sent(slice));
            assert!(monitor.at_boundary(), "a batch ends within a frame");
            self.learn_ids(end);
        }
        let End { core, batch, writing, .. } = &mut self.ends[end];
        let Some(number) = *writing else { return false };
        let pipe = &mut self.pipes[end];
        let mut room = most.min(self.capacity.saturating_sub(pipe.len()));
        while room > 0 && !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let set = batch.slices(&mut slices);
            let mut taken = 0;
            for slice in &slices[..set] {
                let len = slice.len().min(room);
                pipe.extend(&slice[..len]);
                room -= len;
                taken += len;
            }
            batch.advance(taken);
            busy = true;
        }
        if batch.is_empty() {
            *writing = None;
            core.handle_flushed(number, now);
            busy = true;
        }
        busy
    }

    /// `end` reads up to `most` bytes; returns whether there were any.
    fn deliver(&mut self, end: usize, most: usize) -> bool {
        let pipe = &mut self.pipes[1 - end];
        let len = pipe.len().min(most);
        let bytes = pipe.make_contiguous()[..len].to_vec();
        pipe.drain(..len);
        let End { core, splitter, monitor, .. } = &mut self.ends[end];
        for piece in bytes.chunks(MAX_PIECE) {
            if core.ended().is_none() {
                splitter.push(piece, |header| monitor.received(header.expect("a valid header")));
            }
            core.handle_input(&Bytes::copy_from_slice(piece), self.now);
        }
        len > 0
    }

    fn learn_ids(&mut self, end: usize) {
        let End { core, handles, ghosts, .. } = &mut self.ends[end];
        ghosts.retain(|(slot, line)| {
            let id = core.id(*slot).filter(|id| id.0 as usize % 2 != end);
            id.inspect(|id| assert_eq!(self.ids.insert(id.0, *line), None)).is_none()
        });
        for handle in handles {
            if let Some(id) = core.id(handle.slot) {
                let line = *self.ids.entry(id.0).or_insert(handle.line);
                assert_eq!(line, handle.line, "stream {id} is two streams");
            }
        }
    }

    /// Ids that were given out, events, and limits.
    fn notice(&mut self) {
        for end in 0..2 {
            self.learn_ids(end);
            let End { core, handles, open_blocked, pings, .. } = &mut self.ends[end];
            while let Some(event) = core.poll_event() {
                match event {
                    Event::Readable(slot) => handles
                        .iter_mut()
                        .filter(|handle| handle.slot == slot)
                        .for_each(|handle| handle.read_blocked = false),
                    Event::Writable(slot) => handles
                        .iter_mut()
                        .filter(|handle| handle.slot == slot)
                        .for_each(|handle| handle.write_blocked = false),
                    Event::Openable => *open_blocked = false,
                    Event::Pong(value, rtt) => {
                        pings.retain(|(ping, asked)| {
                            let late = self.now - *asked >= PING_TIMEOUT;
                            assert!(*ping != value || rtt.is_some() || late, "too early");
                            *ping != value
                        });
                    }
                    Event::Ended => {
                        pings.clear();
                        *open_blocked = false;
                        for handle in handles.iter_mut() {
                            (handle.read_blocked, handle.write_blocked) = (false, false);
                        }
                    }
                    Event::Acceptable => {}
                }
            }
            if let Some(Err(error)) = core.ended() {
                assert!(self.disturbed, "end {end}: {error}");
            }
            assert_eq!(core.stats().overloaded, 0);
        }
    }

    /// Nothing new begins; all that waits, waits for an event.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 1_000_000, "it never settles");
            let mut busy = false;
            for end in 0..2 {
                while self.accept(end) {
                    busy = true;
                }
                busy |= self.use_handles(end);
                busy |= self.transmit(end, usize::MAX);
                busy |= self.deliver(end, usize::MAX);
                busy |= self.close_io(end);
                busy |= self.ends[end].core.has_events();
            }
            self.notice();
            if !busy && !self.wait() {
                return;
            }
        }
    }

    fn use_handles(&mut self, end: usize) -> bool {
        let mut busy = false;
        for index in (0..self.ends[end].handles.len()).rev() {
            while !self.ends[end].handles[index].write_blocked
                && self.write(end, index, index % 2 == 0)
            {
                busy = true;
            }
            let handle = &self.ends[end].handles[index];
            if handle.write && !handle.finished && (handle.wants == 0 || handle.write_over) {
                self.finish(end, index);
                busy = true;
            }
            loop {
                let handle = &self.ends[end].handles[index];
                let waits = handle.read_blocked || handle.read_over;
                if waits || !self.read(end, index, MAX_PIECE, index % 2 == 1) {
                    break;
                }
                busy = true;
            }
            let handle = &self.ends[end].handles[index];
            // A half dropped without a close says nothing: two such ends would wait for each other.
            let abandoned = !handle.write && !handle.finished;
            if abandoned || handle.finished && (handle.read_over || !handle.read) {
                self.release(end, index, Half::Both);
                busy = true;
            }
        }
        busy
    }

    /// Does with the IO what an ending core asks for.
    fn close_io(&mut self, end: usize) -> bool {
        let now = self.now;
        let other = 1 - end;
        let eof = self.shut[other] && self.pipes[other].is_empty();
        let End { core, writing, .. } = &mut self.ends[end];
        let mut busy = false;
        if !self.shut[end] && writing.is_none() && core.io_step() == IoStep::Shutdown {
            self.shut[end] = true;
            core.handle_shutdown(now);
            busy = true;
        }
        if eof && !matches!(core.io_step(), IoStep::Done(_)) && !self.ends[end].eof_seen() {
            self.ends[end].core.handle_eof(now);
            busy = true;
        }
        if matches!(self.ends[end].core.io_step(), IoStep::Done(_)) && !self.shut[end] {
            self.shut[end] = true;
            busy = true;
        }
        busy
    }

    /// A moment may pass, for what is delayed on purpose.
    fn wait(&mut self) -> bool {
        if self.waited >= Duration::from_millis(40) && !self.disturbed {
            return false;
        }
        if self.waited >= Duration::from_secs(700) {
            return false;
        }
        let step = if self.waited < Duration::from_millis(40) {
            Duration::from_millis(10)
        } else {
            Duration::from_secs(50)
        };
        self.waited += step;
        self.tick(u64::try_from(step.as_millis()).expect("short"));
        true
    }

    /// `spec.md §4.5.9`: two ends that both only write wait for each other.
    fn is_unread(&self, handle: &Handle) -> bool {
        let halves = self.ends.iter().flat_map(|end| &end.handles);
        let mut both = halves.filter(|other| other.line == handle.line);
        both.clone().count() == 2 && both.all(|half| half.write && !half.read)
    }

    fn check_settled(&self) {
        if self.ends.iter().flat_map(|end| &end.handles).any(|handle| self.is_unread(handle)) {
            return;
        }
        for (number, end) in self.ends.iter().enumerate() {
            let lines: Vec<_> = end.handles.iter().map(|h| self.lines[h.line]).collect();
            assert!(end.handles.is_empty(), "end {number} waits for ever: {lines:?}");
            assert!(!end.open_blocked || self.disturbed, "end {number}: an open waits for ever");
            assert!(end.pings.is_empty(), "end {number}: a ping waits for ever");
            let stats = end.core.stats();
            let left = [
                stats.outbound_streams,
                stats.inbound_streams,
                stats.accept_backlog,
                stats.ack_backlog,
                stats.buffered,
                stats.extra_credit,
                end.core.live_streams(),
            ];
            assert_eq!(left, [0; 7], "end {number}: {stats:?}");
        }
        for line in &self.lines {
            for end in 0..2 {
                assert!(line.read[end] <= line.written[1 - end]);
            }
        }
    }

    /// Closes, from either side or both.
    fn end(&mut self, choice: usize) {
        for end in [0, 1] {
            if choice % 3 != end {
                self.ends[end].core.close(self.now);
            }
        }
        let disturbed = std::mem::replace(&mut self.disturbed, true);
        // The drain takes its own time, however long was waited before.
        self.waited = Duration::ZERO;
        self.settle();
        let unread = self.ends.iter().flat_map(|end| &end.handles).any(|it| self.is_unread(it));
        if unread && !self.timed {
            // Without a clock nothing but an abort ends what two that both only write wait for.
            return;
        }
        for (number, end) in self.ends.iter().enumerate() {
            let outcome = end.core.outcome();
            assert!(outcome.is_some(), "end {number} does not end: {:?}", end.core.io_step());
            assert!(disturbed || outcome == Some(Ok(())), "end {number}: {outcome:?}");
        }
    }
}

impl End {
    fn eof_seen(&self) -> bool {
        // After the end of file a session is on its way to the end, and has nothing to wait for.
        self.core.ended().is_some() && self.core.io_step() == IoStep::Shutdown
    }
}

impl Handle {
    const fn new(slot: Slot, line: usize) -> Self {
        Self {
            slot,
            line,
            read: true,
            write: true,
            read_blocked: false,
            write_blocked: false,
            wants: 0,
            finished: false,
            read_over: false,
            write_over: false,
        }
    }
}
