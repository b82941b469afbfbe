//! Two cores joined by a simulated path on a virtual clock, and a tap on the wire between them.
//!
//! Nothing here sleeps or looks at a real clock beyond its first reading: the same seed gives the
//! same run.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub, clippy::unwrap_used)]

mod random;

pub use self::random::{Random, count, thorough};

use std::{
    collections::{HashMap, VecDeque},
    io::IoSlice,
    time::{Duration, Instant},
};

use bytes::Bytes;
use trunkline::{
    Config, Role,
    frame::{Decoder, Flags, Header, Kind, Piece},
    proto::{Batch, Core, IoStep},
};

/// One direction of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Bytes per second; 0 is unlimited.
    pub rate: u64,
    /// From the last byte sent to its arrival.
    pub delay: Duration,
    /// Bytes the path holds: those in the air and those that wait to be sent.
    pub capacity: usize,
    /// Arriving bytes come in random pieces.
    pub shatter: bool,
    /// Answers to pings are lost.
    pub no_pongs: bool,
}

impl Path {
    pub const PERFECT: Self = Self {
        rate: 0,
        delay: Duration::ZERO,
        capacity: usize::MAX,
        shatter: false,
        no_pongs: false,
    };

    fn segment(&self) -> usize {
        if self.rate == 0 {
            64 << 10
        } else {
            ((self.rate / 1_000) as usize).clamp(1_200, 64 << 10)
        }
    }

    fn time_for(&self, len: usize) -> Duration {
        match self.rate {
            0 => Duration::ZERO,
            rate => Duration::from_nanos((len as u64 * 1_000_000_000).div_ceil(rate)),
        }
    }
}

/// A frame as it went by, without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub at: Instant,
    pub header: Header,
}

/// One direction: what is on its way, and what was seen of it.
#[derive(Debug)]
struct Pipe {
    path: Path,
    in_flight: VecDeque<(Instant, Bytes)>,
    held: usize,
    /// When the last byte given to it has left.
    free_at: Instant,
    closed: bool,
    eof_told: bool,
    entering: Decoder,
    leaving: Decoder,
    seen: Vec<Seen>,
    carried: u64,
}

impl Pipe {
    fn new(path: Path, now: Instant) -> Self {
        Self {
            path,
            in_flight: VecDeque::new(),
            held: 0,
            free_at: now,
            closed: false,
            eof_told: false,
            entering: Decoder::new(),
            leaving: Decoder::new(),
            seen: Vec::new(),
            carried: 0,
        }
    }

    fn room(&self) -> usize {
        self.path.capacity.saturating_sub(self.held)
    }

    fn push(&mut self, bytes: Vec<u8>, now: Instant) {
        self.held += bytes.len();
        self.carried += bytes.len() as u64;
        self.free_at = self.free_at.max(now) + self.path.time_for(bytes.len());
        let arrival = self.free_at + self.path.delay;
        // A path whose delay falls does not reorder.
        let arrival = self.in_flight.back().map_or(arrival, |(last, _)| arrival.max(*last));
        self.in_flight.push_back((arrival, Bytes::from(bytes)));
    }

    fn is_due(&self, now: Instant) -> bool {
        self.in_flight.front().is_some_and(|(at, _)| *at <= now)
    }
}

/// One side: a core and what its driver would keep.
#[derive(Debug)]
pub struct End {
    pub core: Core,
    batch: Batch,
    writing: Option<u64>,
    shut: bool,
    /// The driver is done.
    pub done: bool,
    /// The driver does not read.
    pub deaf: bool,
}

/// What the peer of a direction may still send on a stream, as the wire shows it.
type Windows = HashMap<u32, i64>;

/// Two ends, the paths between them, and the time. End 0 is the client.
#[derive(Debug)]
pub struct Sim {
    pub now: Instant,
    pub start: Instant,
    pub ends: [End; 2],
    pub random: Random,
    /// `pipes[end]` carries what `end` sends.
    pipes: [Pipe; 2],
    windows: [Windows; 2],
    turns_at_once: u64,
}

impl Sim {
    pub fn new(configs: [&Config; 2], path: Path, seed: u64) -> Self {
        let now = Instant::now();
        let end = |role, config| End {
            core: Core::new(role, config, now),
            batch: Batch::new(),
            writing: None,
            shut: false,
            done: false,
            deaf: false,
        };
        Self {
            now,
            start: now,
            ends: [end(Role::Client, configs[0]), end(Role::Server, configs[1])],
            random: Random(seed),
            pipes: [Pipe::new(path, now), Pipe::new(path, now)],
            windows: [Windows::new(), Windows::new()],
            turns_at_once: 0,
        }
    }

    pub fn core(&mut self, end: usize) -> &mut Core {
        &mut self.ends[end].core
    }

    pub fn set_path(&mut self, path: Path) {
        self.pipes.iter_mut().for_each(|pipe| pipe.path = path);
    }

    pub fn set_path_from(&mut self, end: usize, path: Path) {
        self.pipes[end].path = path;
    }

    /// Frames that `end` sent, in order.
    pub fn seen_from(&self, end: usize) -> &[Seen] {
        &self.pipes[end].seen
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Lets both drivers do what they can at this moment; whether there was anything to do.
    pub fn turn(&mut self) -> bool {
        self.turns_at_once += 1;
        assert!(self.turns_at_once < 1_000_000, "an end is busy without end: {:?}", self.ends);
        let mut busy = false;
        for end in 0..2 {
            busy |= self.read(end);
            busy |= self.write(end);
            busy |= self.settle(end);
        }
        busy
    }

    /// When something will happen by itself.
    pub fn next(&mut self) -> Option<Instant> {
        let mut next = None;
        for end in 0..2 {
            let arrival = self.pipes[1 - end].in_flight.front().map(|(at, _)| *at);
            let arrival = arrival.filter(|_| !self.ends[end].deaf);
            let timeout = if self.ends[end].done { None } else { self.core(end).poll_timeout() };
            next = [next, arrival, timeout].into_iter().flatten().min();
        }
        next
    }

    pub fn advance_to(&mut self, at: Instant) {
        if at > self.now {
            self.now = at;
            self.turns_at_once = 0;
        }
    }

    /// Runs to `until`, or until nothing happens any more; `user` acts between the turns and says
    /// whether it did anything, and when it wants to act again.
    pub fn run(
        &mut self,
        until: Instant,
        mut user: impl FnMut(&mut Self) -> (bool, Option<Instant>),
    ) {
        loop {
            let mut busy = self.turn();
            let (acted, wake) = user(self);
            busy |= acted;
            if busy {
                continue;
            }
            match [self.next(), wake].into_iter().flatten().min() {
                Some(at) if at <= until => self.advance_to(at.max(self.now + TICK)),
                _ => break,
            }
        }
        self.advance_to(until);
    }

    /// Runs for `time` with nobody acting.
    pub fn pass(&mut self, time: Duration) {
        self.run(self.now + time, |_| (false, None));
    }

    fn read(&mut self, end: usize) -> bool {
        let from = 1 - end;
        if self.ends[end].deaf {
            return false;
        }
        let mut busy = false;
        while self.pipes[from].is_due(self.now) {
            let (_, mut bytes) = self.pipes[from].in_flight.pop_front().unwrap();
            self.pipes[from].held -= bytes.len();
            busy = true;
            while !bytes.is_empty() {
                let mut len = bytes.len();
                if self.pipes[from].path.shatter {
                    let most = [1, 13, 100, 5_000, len][self.random.below(5)];
                    len = len.min(1 + self.random.below(most));
                }
                let piece = bytes.split_to(len);
                self.note_credit(from, &piece);
                if !self.ends[end].done {
                    let now = self.now;
                    self.core(end).handle_input(&piece, now);
                }
            }
        }
        let pipe = &mut self.pipes[from];
        if pipe.closed && pipe.in_flight.is_empty() && !pipe.eof_told {
            pipe.eof_told = true;
            busy = true;
            let now = self.now;
            if !self.ends[end].done {
                self.core(end).handle_eof(now);
            }
        }
        busy
    }

    fn write(&mut self, end: usize) -> bool {
        let now = self.now;
        let this = &mut self.ends[end];
        if this.done || this.shut {
            return false;
        }
        if this.writing.is_none() {
            this.writing = this.core.take_output(&mut this.batch, now);
        }
        let Some(number) = this.writing else {
            if this.core.io_step() != IoStep::Shutdown {
                return false;
            }
            this.shut = true;
            self.pipes[end].closed = true;
            this.core.handle_shutdown(now);
            return true;
        };
        let progress = self.send(end);
        let this = &mut self.ends[end];
        if this.batch.is_empty() {
            this.writing = None;
            this.core.handle_flushed(number, now);
        } else {
            this.core.handle_blocked(progress, now);
        }
        progress
    }

    /// Moves bytes of the batch into the path; whether any.
    fn send(&mut self, end: usize) -> bool {
        let mut progress = false;
        loop {
            let pipe = &self.pipes[end];
            let room = pipe.room().min(pipe.path.segment());
            let batch = &mut self.ends[end].batch;
            if room == 0 || batch.is_empty() {
                return progress;
            }
            let mut slices = [IoSlice::new(&[]); 64];
            let set = batch.slices(&mut slices);
            let mut bytes = Vec::with_capacity(room.min(64 << 10));
            for slice in &slices[..set] {
                let len = slice.len().min(room - bytes.len());
                bytes.extend_from_slice(&slice[..len]);
            }
            batch.advance(bytes.len());
            progress = true;
            let bytes = self.tap(end, bytes);
            let now = self.now;
            self.pipes[end].push(bytes, now);
        }
    }

    /// Looks at what `end` sends, holds it against the windows, and filters it.
    fn tap(&mut self, end: usize, bytes: Vec<u8>) -> Vec<u8> {
        let pipe = &mut self.pipes[end];
        let mut kept = Vec::new();
        let mut rest: &[u8] = &bytes;
        while let Some(piece) = pipe.entering.decode(&mut rest).unwrap() {
            match piece {
                Piece::Header(header) => {
                    pipe.seen.push(Seen { at: self.now, header });
                    if header.kind == Kind::Data {
                        let window =
                            self.windows[end].entry(header.stream.0).or_insert(INITIAL_WINDOW);
                        *window -= i64::from(header.length);
                        assert!(*window >= 0, "sent beyond the window: {header}");
                    }
                    let pong = header.kind == Kind::Ping && header.flags.contains(Flags::ACK);
                    if pipe.path.no_pongs && !pong {
                        kept.extend_from_slice(&header.encode());
                    }
                }
                Piece::Body(body) if pipe.path.no_pongs => kept.extend_from_slice(body),
                Piece::Body(_) => {}
            }
        }
        if pipe.path.no_pongs { kept } else { bytes }
    }

    /// Credit counts from when it arrives.
    fn note_credit(&mut self, from: usize, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(piece) = self.pipes[from].leaving.decode(&mut rest).unwrap() {
            if let Piece::Header(header) = piece
                && header.kind == Kind::WindowUpdate
                && !header.flags.contains(Flags::RST)
            {
                let window =
                    self.windows[1 - from].entry(header.stream.0).or_insert(INITIAL_WINDOW);
                *window += i64::from(header.length);
            }
        }
    }

    fn settle(&mut self, end: usize) -> bool {
        let now = self.now;
        let this = &mut self.ends[end];
        if this.done {
            return false;
        }
        let mut busy = false;
        if this.core.poll_timeout().is_some_and(|at| at <= now) {
            this.core.handle_timeout(now);
            busy = true;
        }
        if let IoStep::Done(_) = this.core.io_step() {
            this.done = true;
            self.pipes[end].closed = true;
            busy = true;
        }
        busy
    }
}

/// The least the clock moves when something is due.
const TICK: Duration = Duration::from_nanos(1);

const INITIAL_WINDOW: i64 = 262_144;

/// One core and a peer made of bytes.
#[derive(Debug)]
pub struct Lone {
    pub core: Core,
    pub now: Instant,
    batch: Batch,
    writing: Option<u64>,
    decoder: Decoder,
}

impl Lone {
    pub fn new(role: Role, config: &Config) -> Self {
        let now = Instant::now();
        Self {
            core: Core::new(role, config, now),
            now,
            batch: Batch::new(),
            writing: None,
            decoder: Decoder::new(),
        }
    }

    /// The peer sends.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.core.handle_input(&Bytes::copy_from_slice(bytes), self.now);
    }

    /// The driver takes a batch, which the IO does not accept.
    pub fn block(&mut self) {
        assert!(self.writing.is_none());
        self.writing = self.core.take_output(&mut self.batch, self.now);
    }

    /// The peer reads everything there is; the headers of it.
    pub fn drain(&mut self) -> Vec<Header> {
        let mut headers = Vec::new();
        loop {
            if self.writing.is_none() {
                self.writing = self.core.take_output(&mut self.batch, self.now);
            }
            let Some(number) = self.writing.take() else { return headers };
            while !self.batch.is_empty() {
                let mut slices = [IoSlice::new(&[]); 64];
                let set = self.batch.slices(&mut slices);
                let bytes: Vec<u8> = slices[..set].iter().flat_map(|s| s.to_vec()).collect();
                let mut rest: &[u8] = &bytes;
                while let Some(piece) = self.decoder.decode(&mut rest).unwrap() {
                    if let Piece::Header(header) = piece {
                        headers.push(header);
                    }
                }
                self.batch.advance(bytes.len());
            }
            self.core.handle_flushed(number, self.now);
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        while self.core.poll_timeout().is_some_and(|at| at <= self.now) {
            self.core.handle_timeout(self.now);
        }
    }

    /// Events so far; they must be taken, as a shell would.
    pub fn events(&mut self) -> Vec<trunkline::proto::Event> {
        std::iter::from_fn(|| self.core.poll_event()).collect()
    }
}
