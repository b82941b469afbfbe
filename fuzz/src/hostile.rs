//! One core against a peer that sends anything, with a user who does anything allowed
//! (`spec.md §9.3`).

mod handles;
mod judge;
mod limits;
mod player;
mod subject;

use std::{io::IoSlice, time::Duration};

use bytes::Bytes;
use trunkline::{
    GoAwayCode, Role, SessionError,
    proto::{Batch, Core, IoStep},
    runtime::{ManualTimer, Timer},
};

use self::{
    handles::Handles,
    judge::Judge,
    limits::{LARGE, Limits, SMALL},
    player::Player,
    subject::Subject,
};
use super::{
    cursor::Cursor,
    memory,
    monitor::Monitor,
    naive::{ACK, Fields, PING, SYN, WINDOW_SIZE},
};

pub(crate) use player::LENGTHS;

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
        steps += if play.subject.core.ended().is_some() { MAX_STEPS / 16 } else { 1 };
        play.step(&mut cursor);
        play.settle();
    }
    let ended = play.subject.core.ended();
    play.probe();
    play.end(ending);
    ended
}

const MAX_STEPS: usize = 2_000;
const MAX_DELIVERED: usize = 4 << 20;
/// A read from the IO is no larger.
const MAX_PIECE: usize = 64 << 10;
/// What a batch may hold beyond data: owed frames of 8,192 streams, pongs, pings, refusals.
const MAX_CONTROL: usize = 12 * (3 * 8_192 + 8_192 + 32 + 8_192 + 16);

struct Play {
    subject: Subject,
    limits: &'static Limits,
    handles: Handles,
    pings: Vec<u32>,

    player: Player,
    judge: Judge,
    delivered: usize,
    frames: u64,
    local: u64,

    batch: Batch,
    writing: Option<u64>,
    out: Vec<u8>,
    monitor: Monitor,
}

impl Play {
    fn new(choice: u8) -> Self {
        let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
        let limits = if choice & 2 == 0 { &SMALL } else { &LARGE };
        let timed = choice & 4 == 0;
        let timer = ManualTimer::new();
        let now = timer.now();
        let config = limits.config(choice, timed.then_some(timer));
        let (core, held) = memory::change(|| Core::new(role, &config, now));
        Self {
            subject: Subject { core, held, now, timed },
            limits,
            handles: Handles::default(),
            pings: Vec::new(),
            player: Player::new(role),
            judge: Judge::new(role),
            delivered: 0,
            frames: 0,
            local: 0,
            batch: Batch::new(),
            writing: None,
            out: Vec::new(),
            monitor: Monitor::new(role == Role::Client, limits.max_frame, limits.max_window),
        }
    }

    fn step(&mut self, cursor: &mut Cursor<'_>) {
        let choice = cursor.u8() % 32;
        match choice {
            0..=10 => self.send_some(choice, cursor),
            11 | 12 => self.take_output(cursor.u8()),
            13 | 14 => {
                self.local += 1;
                let by = cursor.pick(&[0, 1, 6, 100, 1_000, 9_000, 31_000, 80_000, 301_000]);
                self.subject.advance(Duration::from_millis(by));
            }
            15..=28 => self.use_handles(choice, cursor),
            _ => self.rare(cursor),
        }
    }

    /// The peer sends.
    fn send_some(&mut self, choice: u8, cursor: &mut Cursor<'_>) {
        match choice {
            0..=5 => {
                let wire = self.player.frame(cursor);
                self.send(&wire);
            }
            6 => {
                let wire = self.player.many(cursor);
                self.send(&wire);
            }
            7 => {
                let wire = self.player.raw(cursor);
                self.send(wire);
            }
            8 => self.player.cut(cursor.u16()),
            9 => {
                let wire = self.player.noise(cursor);
                self.send(&wire);
            }
            _ => self.send(&self.player.rest_of_body()),
        }
    }

    /// The user does something with a stream.
    fn use_handles(&mut self, choice: u8, cursor: &mut Cursor<'_>) {
        self.local += 1;
        let Self { handles, subject, player, .. } = self;
        match choice {
            15 => handles.open(subject),
            16 | 17 => handles.accept(subject),
            18 | 19 => handles.read(subject, player, cursor),
            20 | 21 => handles.write(subject, cursor),
            _ => handles.command(subject, player, cursor),
        }
    }

    fn send(&mut self, wire: &[u8]) {
        for piece in self.player.pieces(wire) {
            self.deliver(piece);
        }
    }

    fn deliver(&mut self, piece: &[u8]) {
        let alive = self.subject.core.ended().is_none();
        self.delivered += piece.len();
        if alive {
            self.player.sends(piece, |header| {
                self.judge.hear(header);
                self.frames += 1;
                if let Ok(fields) = header {
                    self.monitor.received(fields);
                }
            });
        }
        let before = self.subject.core.stats().frames_received;
        let now = self.subject.now;
        self.subject.on(|core| {
            let piece = Bytes::copy_from_slice(piece);
            core.handle_input(&piece, now);
        });
        if !alive {
            assert_eq!(self.subject.core.stats().frames_received, before, "read on after the end");
        }
        self.judge.judge(self.subject.core.ended());
        self.drain_events();
    }

    fn drain_events(&mut self) {
        let mut events = 0;
        while self.subject.on(Core::poll_event).is_some() {
            events += 1;
        }
        // A piece holds some 5,461 frames, and the end of a session wakes everyone.
        assert!(events <= 3 * MAX_PIECE / 12 + 4_096, "{events} events at once");
    }

    /// Takes a batch, or lets the IO finish the one before. `stall` leaves it unfinished.
    fn take_output(&mut self, stall: u8) {
        self.local += 1;
        if let Some(number) = self.writing.take() {
            let now = self.subject.now;
            return self.subject.on(|core| core.handle_flushed(number, now));
        }
        let mut batch = std::mem::take(&mut self.batch);
        let now = self.subject.now;
        self.writing = self.subject.on(|core| core.take_output(&mut batch, now));
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
            self.subject.on(|_| batch.advance(taken));
            self.monitor.sent(&self.out);
        }
        self.batch = batch;
        assert!(self.monitor.at_boundary(), "a batch ends within a frame");
        if stall % 4 != 3
            && let Some(number) = self.writing.take()
        {
            self.subject.on(|core| core.handle_flushed(number, now));
        } else if self.writing.is_some() {
            self.subject.on(|core| core.handle_blocked(stall & 4 != 0, now));
        }
    }

    fn rare(&mut self, cursor: &mut Cursor<'_>) {
        self.local += 1;
        let now = self.subject.now;
        match cursor.u8() % 32 {
            0..=7 => {
                if let Ok(Some(value)) = self.subject.on(|core| core.ping(now)) {
                    self.pings.push(value);
                }
            }
            8..=11 => {
                if let Some(value) = self.pings.pop() {
                    self.subject.on(|core| core.forget_ping(value));
                }
            }
            12..=15 => self.subject.on(Core::shrink),
            16 => self.subject.on(Core::go_away),
            17 => self.subject.on(|core| core.close(now)),
            18 => self.subject.on(|core| core.handles_dropped(now)),
            19 => self.subject.on(|core| core.abort(GoAwayCode(cursor.u8().into()), now)),
            20 => self.eof(),
            21 => self.subject.on(|core| core.handle_failure(SessionError::IoMisbehaved, now)),
            22..=25 => {
                // The value of the last ping of ours, or some other.
                let length = self.pings.last().copied().unwrap_or_default();
                let wire = self.player.whole(Fields { kind: PING, flags: ACK, stream: 0, length });
                self.send(&wire);
            }
            _ => self.take_output(0),
        }
    }

    /// The connection ends: within a frame, or with a stream that might have had more to say, that
    /// is no clean end.
    fn eof(&mut self) {
        let alive = self.subject.core.ended().is_none();
        let mut cut = self.player.missing() != Some(0);
        cut |= self.handles.expect_more(&mut self.subject);
        let now = self.subject.now;
        self.subject.on(|core| core.handle_eof(now));
        if alive && cut {
            assert_eq!(self.subject.core.ended(), Some(Err(SessionError::ConnectionLost)));
        }
    }

    /// What holds after every step.
    fn settle(&mut self) {
        self.drain_events();
        self.check_bounds();
        let answers = 2 * self.frames + 3 * self.local + 64;
        let sent = self.monitor.control;
        assert!(sent <= answers, "{sent} control frames for {} received", self.frames);
        assert!(self.monitor.data <= self.handles.written, "more data sent than written");
    }

    fn check_bounds(&self) {
        let (stats, limits) = (self.subject.core.stats(), self.limits);
        assert!(stats.accept_backlog <= limits.accept_backlog, "{stats:?}");
        assert!(stats.ack_backlog <= limits.ack_backlog, "{stats:?}");
        assert!(stats.inbound_streams <= limits.max_streams, "{stats:?}");
        assert!(stats.outbound_streams <= limits.max_outbound, "{stats:?}");
        assert!(stats.inbound_streams + stats.outbound_streams <= self.subject.core.live_streams());
        assert!(stats.buffered < limits.budget + WINDOW_SIZE as usize, "{stats:?}");
        assert!(stats.extra_credit <= limits.budget, "{stats:?}");
        assert!(stats.staged <= 2 * limits.staging + MAX_CONTROL, "{stats:?}");
        assert!(stats.bytes_received <= self.delivered as u64, "{stats:?}");
        for slot in self.handles.slots() {
            let (credit, limit) = self.subject.core.receive_window(slot);
            // One that is over has given its limit back, and its credit means nothing any more.
            assert!(credit.max(limit) <= limits.max_window.max(WINDOW_SIZE));
        }
        // Read buffers pinned (four times), copies and spares, staging twice, table and lists.
        let table =
            1_024 * (self.subject.core.live_streams() + limits.max_streams + limits.max_outbound);
        let bound = 4 * stats.buffered + 8 * limits.staging + 2 * MAX_CONTROL + table + (4 << 20);
        let held = self.subject.held;
        assert!(held <= bound as isize, "{held} bytes held, {bound} allowed: {stats:?}");
    }

    /// A session that was not ended answers a ping.
    fn probe(&mut self) {
        self.send(&self.player.rest_of_body());
        if self.player.missing() != Some(0) {
            return;
        }
        for _ in 0..2 {
            self.take_output(0);
        }
        if self.subject.core.ended().is_some() {
            return;
        }
        self.monitor.pongs.clear();
        let ping = Fields { kind: PING, flags: SYN, stream: 0, length: 0xfeed_beef };
        let wire = self.player.whole(ping);
        self.send(&wire);
        self.take_output(0);
        assert!(self.subject.core.ended().is_none(), "{:?} by a ping", self.subject.core.ended());
        assert!(self.monitor.pongs.contains(&0xfeed_beef), "a ping without an answer");
        self.settle();
    }

    /// However it ends, nothing is live afterwards.
    fn end(&mut self, ending: u8) {
        let now = self.subject.now;
        match ending % 5 {
            0 => self.eof(),
            1 => self.subject.on(|core| core.abort(GoAwayCode(7), now)),
            2 => self.subject.on(|core| core.close(now)),
            3 => self.subject.on(|core| core.handles_dropped(now)),
            _ => self.subject.on(|core| core.handle_failure(SessionError::DriverDropped, now)),
        }
        self.settle();
        for round in 0.. {
            assert!(round < 1_000, "the session does not end: {:?}", self.subject.core.io_step());
            self.take_output(0);
            match self.subject.core.io_step() {
                IoStep::Done(_) => break,
                IoStep::Shutdown => {
                    let now = self.subject.now;
                    self.subject.on(|core| core.handle_shutdown(now));
                }
                // A peer that never closes must not matter where there is a clock.
                IoStep::Run | IoStep::Linger => match self.subject.on(Core::poll_timeout) {
                    Some(due) if ending & 128 == 0 && round < 500 => {
                        self.subject.now = self.subject.now.max(due);
                        let now = self.subject.now;
                        self.subject.on(|core| core.handle_timeout(now));
                    }
                    _ => {
                        let now = self.subject.now;
                        self.subject.on(|core| core.handle_eof(now));
                    }
                },
            }
            self.settle();
        }
        self.check_ended();
    }

    fn check_ended(&mut self) {
        let outcome = self.subject.core.outcome().expect("an outcome");
        assert_eq!(self.subject.core.ended(), Some(outcome), "two outcomes");
        assert_eq!(self.subject.on(Core::poll_timeout), None, "a timeout after the end");
        let now = self.subject.now;
        while let Some(slot) = self.subject.on(|core| core.accept()) {
            self.handles.hold(slot);
        }
        assert!(self.subject.core.accepts_no_more());
        assert!(self.subject.core.open().is_err(), "opened after the end");
        assert!(self.subject.core.ping(now).is_err(), "pinged after the end");
        self.handles.finish(&mut self.subject, &self.player);
        let stats = self.subject.core.stats();
        assert_eq!(self.subject.core.live_streams(), 0, "{stats:?}");
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
        assert_eq!(self.subject.core.outcome(), Some(outcome), "ended twice");
    }
}
