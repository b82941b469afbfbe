//! One core and its user: the streams that the user holds, and what it means to do with them.

use std::{
    collections::VecDeque,
    io::IoSlice,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use trunkline::{
    Config, ResetCode, Role, StreamError, TryOpenError,
    proto::{Batch, Core, Direction, Event, Half, IoStep, Read, Slot, Written},
    runtime::ManualTimer,
};

use super::{
    super::{cursor::Cursor, monitor::Monitor, naive::Splitter},
    MAX_PIECE,
    handle::Handle,
    lines::Lines,
};

pub(super) struct End {
    /// 0 or 1, as its lines count.
    number: usize,
    pub(super) core: Core,
    pub(super) batch: Batch,
    pub(super) writing: Option<u64>,
    pub(super) handles: Vec<Handle>,
    /// Streams closed and dropped before they had an id, with their lines.
    ghosts: Vec<(Slot, usize)>,
    pub(super) open_blocked: bool,
    /// Pings that were not answered, and when they were asked.
    pub(super) pings: Vec<(u32, Instant)>,
    monitor: Monitor,
    splitter: Splitter,
}

impl End {
    pub(super) fn new(
        role: Role,
        cursor: &mut Cursor<'_>,
        timer: Option<ManualTimer>,
        now: Instant,
    ) -> Self {
        let window = cursor.pick(&[262_144, 262_144, 300_000, 1 << 20]);
        let max_frame = cursor.pick(&[256 << 10, 1_024, 5_000]);
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
        builder = match timer {
            Some(timer) => builder.timer(Arc::new(timer)),
            None => builder.no_timer(),
        };
        let config = builder.build().expect("limits in range");
        Self {
            number: usize::from(role == Role::Server),
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
    }

    pub(super) fn open(&mut self, lines: &mut Lines) {
        let Self { core, handles, ghosts, open_blocked, .. } = self;
        if handles.len() >= MAX_HANDLES {
            return;
        }
        match core.open() {
            Ok(slot) => {
                ghosts.retain(|(ghost, _)| *ghost != slot);
                handles.push(Handle::new(slot, lines.open()));
            }
            Err(TryOpenError::Open(_)) => {}
            Err(_) => *open_blocked = true,
        }
    }

    pub(super) fn accept(&mut self, lines: &Lines) -> bool {
        let Self { core, handles, ghosts, .. } = self;
        if handles.len() >= 2 * MAX_HANDLES {
            return false;
        }
        let Some(slot) = core.accept() else { return false };
        ghosts.retain(|(ghost, _)| *ghost != slot);
        let id = core.id(slot).expect("an accepted stream has an id");
        handles.push(Handle::new(slot, lines.accepted(id.0)));
        true
    }

    pub(super) fn write(
        &mut self,
        lines: &mut Lines,
        index: usize,
        chunked: bool,
    ) -> Result<bool, StreamError> {
        let handle = &mut self.handles[index];
        handle.write(&mut self.core, self.number, &mut lines.lines[handle.line], chunked)
    }

    pub(super) fn read(
        &mut self,
        lines: &mut Lines,
        index: usize,
        max: usize,
        chunked: bool,
    ) -> Result<bool, StreamError> {
        let handle = &mut self.handles[index];
        handle.read(&mut self.core, self.number, &mut lines.lines[handle.line], max, chunked)
    }

    pub(super) fn finish(&mut self, lines: &mut Lines, index: usize) {
        let Self { core, handles, .. } = self;
        let handle = &mut handles[index];
        if !handle.write || handle.finished {
            return;
        }
        handle.finished = true;
        handle.wants = 0;
        // Who waited to write waits no more. Half of them wait until FIN is flushed instead.
        handle.write_blocked = false;
        let finished = if handle.line.is_multiple_of(2) {
            core.finish(handle.slot).is_ok()
        } else {
            let closed = core.close_stream(handle.slot);
            handle.write_blocked = closed == Ok(false);
            closed.is_ok()
        };
        if finished {
            lines.lines[handle.line].finished[self.number] = true;
        }
    }

    pub(super) fn release(&mut self, lines: &mut Lines, index: usize, half: Half) {
        let Self { core, handles, ghosts, .. } = self;
        let handle = &mut handles[index];
        let half = match (half, handle.read, handle.write) {
            (Half::Both, true, true) => Half::Both,
            (Half::Read, true, _) | (Half::Both, true, false) => Half::Read,
            (Half::Write, _, true) | (Half::Both, false, true) => Half::Write,
            _ => return,
        };
        handle.read &= half == Half::Write;
        let line = &mut lines.lines[handle.line];
        line.deaf[self.number] |= handle.write && !handle.read;
        handle.write &= half == Half::Read;
        let slot = handle.slot;
        if !handle.read && !handle.write {
            line.torn |= !handle.finished;
            let handle = handles.swap_remove(index);
            if core.id(slot).is_none() {
                ghosts.push((slot, handle.line));
            }
        }
        core.release(slot, half);
    }

    /// A deadline in the past fails what would wait, and does no harm.
    pub(super) fn try_deadline(&mut self, index: usize, read: bool, now: Instant) {
        let Self { core, handles, .. } = self;
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

    pub(super) fn reset(&mut self, lines: &mut Lines, index: usize, code: ResetCode) {
        let Handle { slot, line, .. } = self.handles[index];
        lines.lines[line].torn = true;
        self.core.reset(slot, code);
    }

    pub(super) fn flush(&mut self, index: usize) {
        let handle = &mut self.handles[index];
        if !handle.write {
            return;
        }
        let core = &mut self.core;
        let closes = handle.finished && !handle.line.is_multiple_of(2);
        let flushed = if closes { core.close_stream(handle.slot) } else { core.flush(handle.slot) };
        handle.write_blocked |= flushed == Ok(false);
    }

    pub(super) fn ping(&mut self, now: Instant) {
        if let Ok(Some(value)) = self.core.ping(now) {
            self.pings.push((value, now));
        }
    }

    pub(super) fn tick(&mut self, now: Instant, until: Instant) {
        for _ in 0..8 {
            let Some(due) = self.core.poll_timeout().filter(|due| *due <= until) else { break };
            self.core.handle_timeout(due.max(now));
        }
    }

    /// The IO of this end takes up to `room` bytes; returns whether anything happened.
    pub(super) fn transmit(
        &mut self,
        lines: &mut Lines,
        pipe: &mut VecDeque<u8>,
        room: usize,
        now: Instant,
    ) -> bool {
        if self.writing.is_none() {
            self.take_output(now);
            self.learn_ids(lines);
        }
        let Self { core, batch, writing, .. } = self;
        let Some(number) = *writing else { return false };
        let (mut room, mut busy) = (room, false);
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

    fn take_output(&mut self, now: Instant) {
        let Self { core, batch, writing, monitor, .. } = self;
        *writing = core.take_output(batch, now);
        assert_eq!(writing.is_none(), batch.is_empty());
        let mut slices = [IoSlice::new(&[]); 1_024];
        let set = batch.slices(&mut slices);
        let total: usize = slices[..set].iter().map(|slice| slice.len()).sum();
        assert_eq!(total, batch.remaining());
        slices[..set].iter().for_each(|slice| monitor.sent(slice));
        assert!(monitor.at_boundary(), "a batch ends within a frame");
    }

    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) {
        let Self { core, splitter, monitor, .. } = self;
        for piece in bytes.chunks(MAX_PIECE) {
            if core.ended().is_none() {
                splitter.push(piece, |header| monitor.received(header.expect("a valid header")));
            }
            core.handle_input(&Bytes::copy_from_slice(piece), now);
        }
    }

    /// What a reader that waits takes from the IO itself; returns how many bytes that is.
    pub(super) fn receive_directly(
        &mut self,
        lines: &mut Lines,
        bytes: &[u8],
        now: Instant,
    ) -> usize {
        let Self { number, core, handles, splitter, monitor, .. } = self;
        let Some(slot) = core.direct_reader() else { return 0 };
        let waits =
            |handle: &&mut Handle| handle.slot == slot && handle.read && handle.read_blocked;
        let Some(handle) = handles.iter_mut().find(waits) else { return 0 };
        let body = &bytes[..bytes.len().min(core.body_left())];
        splitter.push(body, |header| monitor.received(header.expect("a valid header")));
        if !body.is_empty() {
            assert!(core.handle_direct(slot, body.len(), now), "its stream is alive");
            handle.check(*number, &mut lines.lines[handle.line], body);
            handle.read_blocked = false;
        }
        body.len()
    }

    pub(super) fn learn_ids(&mut self, lines: &mut Lines) {
        let Self { number, core, handles, ghosts, .. } = self;
        ghosts.retain(|(slot, line)| {
            let id = core.id(*slot).filter(|id| id.0 as usize % 2 != *number);
            id.inspect(|id| lines.named(id.0, *line)).is_none()
        });
        for handle in handles {
            if let Some(id) = core.id(handle.slot) {
                lines.held(id.0, handle.line);
            }
        }
    }

    /// Who was waiting and is woken.
    pub(super) fn notice(&mut self, now: Instant) {
        let Self { core, handles, open_blocked, pings, .. } = self;
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
                        let late = now - *asked >= PING_TIMEOUT;
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
    }

    pub(super) fn eof_seen(&self) -> bool {
        // After the end of file a session is on its way to the end, and has nothing to wait for.
        self.core.ended().is_some() && self.core.io_step() == IoStep::Shutdown
    }
}

const MAX_HANDLES: usize = 24;
const PING_TIMEOUT: Duration = Duration::from_secs(10);
