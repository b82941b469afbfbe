//! Two cores under random operations, joined by a path that delays, splits and holds back bytes:
//! what must hold whatever the users do and however the bytes travel.
#![allow(clippy::unwrap_used)]

#[path = "support/sim.rs"]
mod sim;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quickcheck::{Arbitrary, Gen, QuickCheck};
use sim::{Path, Rng, Seen, Sim, scaled};
use trunkline::{
    Config, ResetCode, StreamError,
    frame::{Flags, Kind},
    proto::{Direction, Event, Half, Read, Slot, Written},
};

#[test]
fn whatever_users_do_streams_carry_their_bytes_and_end() {
    let cases = scaled(4_000);
    QuickCheck::new().tests(cases).max_tests(cases).quickcheck(holds as fn(Scenario) -> bool);
}

/// One random run, and every property of it.
fn holds(scenario: Scenario) -> bool {
    let mut world = World::new(&scenario);
    for step in &scenario.steps {
        world.act(step);
        world.run(Duration::ZERO);
    }
    world.settle_down();
    world.check_streams();
    world.let_go();
    world.check_empty();
    world.close();
    check_wire(&world.sim);
    true
}

/// What one user wants next.
#[derive(Clone, Debug)]
enum Op {
    Open,
    Accept,
    Write {
        len: usize,
        chunk: bool,
    },
    Read {
        len: usize,
        chunk: bool,
    },
    ReadAll,
    Finish,
    Reset(u32),
    Drop,
    DropRead,
    DropWrite,
    Flush,
    /// Never ask this stream again, though it may wait for its turn.
    Abandon,
    Ping,
    Deadline {
        direction: Direction,
        after: Duration,
    },
    GoAway,
    Pass(Duration),
}

#[derive(Clone, Debug)]
struct Step {
    end: usize,
    stream: usize,
    op: Op,
}

#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    path: Path,
    stream_window: u32,
    receive_budget: usize,
    max_frame: u32,
    steps: Vec<Step>,
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let roll = u8::arbitrary(g) % 64;
        let len = usize::arbitrary(g);
        let len = len % *g.choose(&[10, 1_000, 70_000, 400_000]).unwrap();
        let chunk = bool::arbitrary(g);
        let micros = u64::arbitrary(g) % *g.choose(&[100, 20_000, 500_000]).unwrap();
        let time = Duration::from_micros(micros);
        let op = match roll {
            0..=7 => Op::Open,
            8..=13 => Op::Accept,
            14..=29 => Op::Write { len, chunk },
            30..=37 => Op::Read { len, chunk },
            38..=41 => Op::ReadAll,
            42..=45 => Op::Finish,
            46 => Op::Reset(u32::arbitrary(g)),
            47 => Op::Drop,
            48 => Op::DropRead,
            49 => Op::DropWrite,
            50 | 51 => Op::Flush,
            52 => Op::Abandon,
            53 => Op::Ping,
            54 => Op::Deadline { direction: Direction::Read, after: time },
            55 => Op::Deadline { direction: Direction::Write, after: time },
            56 if chunk && len.is_multiple_of(8) => Op::GoAway,
            _ => Op::Pass(time),
        };
        Self { end: usize::from(bool::arbitrary(g)), stream: usize::arbitrary(g), op }
    }
}

impl Arbitrary for Scenario {
    fn arbitrary(g: &mut Gen) -> Self {
        let (rate, capacity, micros) = *g
            .choose(&[
                (0, usize::MAX, 0),
                (0, 1, 0),
                (0, 17, 0),
                (0, 4_096, 300),
                (2_000_000, 20_000, 5_000),
                (50_000_000, 1 << 20, 20_000),
            ])
            .unwrap();
        let delay = Duration::from_micros(micros);
        let shatter = bool::arbitrary(g);
        Self {
            seed: u64::arbitrary(g),
            path: Path { rate, delay, capacity, shatter, ..Path::PERFECT },
            stream_window: *g.choose(&[262_144, 262_144, 400_000]).unwrap(),
            receive_budget: *g.choose(&[262_144, 1 << 20, 256 << 20]).unwrap(),
            max_frame: *g.choose(&[1 << 10, 64 << 10]).unwrap(),
            steps: Vec::arbitrary(g),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let this = self.clone();
        let len = self.steps.len();
        let spans = std::iter::successors(Some(len.div_ceil(2)), |span| Some(span / 2))
            .take_while(|span| *span > 0);
        Box::new(spans.flat_map(move |span| {
            let this = this.clone();
            (0..len).step_by(span).map(move |at| {
                let mut less = this.clone();
                less.steps.drain(at..(at + span).min(len));
                less
            })
        }))
    }
}

/// A stream as its user knows it.
#[derive(Debug)]
struct Known {
    slot: Slot,
    key: u64,
    outbound: bool,
    id: Option<u32>,
    peer: Option<usize>,
    read_held: bool,
    write_held: bool,
    /// Bytes still to be written, and whether FIN is to follow.
    todo: usize,
    closing: bool,
    chunked: bool,
    sent: u64,
    received: u64,
    finished: bool,
    /// Reset or dropped unfinished by its user: the other side may see a reset.
    disowned: bool,
    abandoned: bool,
    read_waits: bool,
    write_waits: bool,
    end: Option<Result<(), StreamError>>,
    write_error: Option<StreamError>,
}

impl Known {
    fn new(slot: Slot, outbound: bool, key: u64) -> Self {
        Self {
            slot,
            key,
            outbound,
            id: None,
            peer: None,
            read_held: true,
            write_held: true,
            todo: 0,
            closing: false,
            chunked: false,
            sent: 0,
            received: 0,
            finished: false,
            disowned: false,
            abandoned: false,
            read_waits: false,
            write_waits: false,
            end: None,
            write_error: None,
        }
    }

    fn held(&self) -> bool {
        self.read_held || self.write_held
    }

    fn can_write(&self) -> bool {
        self.write_held && !self.finished && self.write_error.is_none() && !self.abandoned
    }

    fn can_read(&self) -> bool {
        self.read_held && self.end.is_none() && !self.abandoned
    }
}

/// The byte at a position of what the owner of `key` writes.
const fn pattern(key: u64, at: u64) -> u8 {
    (key.wrapping_add(at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

struct World {
    sim: Sim,
    streams: [Vec<Known>; 2],
    pings: [HashMap<u32, bool>; 2],
    budget: usize,
    small: bool,
    keys: Rng,
    drained: bool,
}

impl World {
    fn new(scenario: &Scenario) -> Self {
        let config = Config::builder()
            .accept_backlog(8)
            .ack_backlog(6)
            .max_streams(10)
            .max_outbound_streams(12)
            .stream_window(scenario.stream_window)
            .max_stream_window(2 << 20)
            .receive_budget(scenario.receive_budget)
            .max_frame(scenario.max_frame)
            .seed(Some(scenario.seed))
            .build()
            .unwrap();
        Self {
            sim: Sim::new([&config, &config], scenario.path, scenario.seed),
            streams: [Vec::new(), Vec::new()],
            pings: [HashMap::new(), HashMap::new()],
            budget: scenario.receive_budget,
            small: scenario.path.capacity < 100,
            keys: Rng(scenario.seed),
            drained: false,
        }
    }

    fn act(&mut self, step: &Step) {
        let (end, now) = (step.end, self.sim.now);
        match step.op {
            Op::Open => return self.open(end),
            Op::Accept => return self.accept(end),
            Op::Ping => {
                if let Ok(Some(value)) = self.sim.core(end).ping(now) {
                    assert!(self.pings[end].insert(value, false).is_none());
                }
                return;
            }
            Op::GoAway => return self.sim.core(end).go_away(),
            Op::Pass(time) => return self.run(time),
            _ => {}
        }
        if !self.streams[end].is_empty() {
            let index = step.stream % self.streams[end].len();
            self.act_on(end, index, &step.op);
        }
    }

    fn act_on(&mut self, end: usize, index: usize, op: &Op) {
        let now = self.sim.now;
        let stream = &mut self.streams[end][index];
        if !stream.held() {
            return;
        }
        let (slot, core) = (stream.slot, self.sim.core(end));
        match *op {
            Op::Write { len, chunk } if stream.can_write() && !stream.closing => {
                stream.todo += if self.small { len.min(2_000) } else { len };
                stream.chunked = chunk;
                self.write(end, index);
            }
            Op::Read { len, chunk } if stream.can_read() => {
                self.read(end, index, len.max(1), chunk);
            }
            Op::ReadAll => self.read_all(end, index),
            Op::Finish if stream.write_held => {
                stream.closing = true;
                self.write(end, index);
            }
            Op::Reset(code) => {
                core.reset(slot, ResetCode(code));
                stream.disowned = true;
                core.release(slot, Half::Both);
                (stream.read_held, stream.write_held) = (false, false);
            }
            Op::Drop => {
                stream.disowned |= !stream.finished;
                core.release(slot, Half::Both);
                (stream.read_held, stream.write_held) = (false, false);
            }
            Op::DropRead if stream.read_held => {
                stream.disowned |= !stream.finished && !stream.write_held;
                stream.read_held = false;
                let half = if stream.write_held { Half::Read } else { Half::Both };
                core.release(slot, half);
            }
            Op::DropWrite if stream.write_held => {
                stream.disowned |= !stream.finished && !stream.read_held;
                stream.write_held = false;
                let half = if stream.read_held { Half::Write } else { Half::Both };
                core.release(slot, half);
            }
            Op::Flush if stream.write_held && !stream.write_waits => {
                stream.write_waits = core.flush(slot) == Ok(false);
            }
            Op::Abandon => stream.abandoned = true,
            Op::Deadline { direction, after } => {
                assert!(core.set_deadline(slot, direction, Some(now + after), now));
            }
            _ => {}
        }
    }

    fn open(&mut self, end: usize) {
        if let Ok(slot) = self.sim.core(end).open() {
            let key = self.keys.next();
            self.streams[end].push(Known::new(slot, true, key));
        }
    }

    fn accept(&mut self, end: usize) {
        let Some(slot) = self.sim.core(end).accept() else { return };
        let mut known = Known::new(slot, false, self.keys.next());
        // A stream that was reset here before it was accepted keeps its id too.
        known.id = self.sim.core(end).id(slot).map(|id| id.0);
        let mine = self.streams[end].len();
        let openers = &mut self.streams[1 - end];
        let theirs = openers.iter().position(|s| s.outbound && s.id == known.id).or_else(|| {
            // Closed and dropped before its SYN was staged, so without a byte.
            let silent = |s: &Known| s.outbound && s.id.is_none() && s.finished && !s.held();
            openers.iter().position(|s| silent(s) && s.sent == 0)
        });
        let opener = &mut openers[theirs.expect("accepted what nobody opened")];
        (opener.id, opener.peer) = (known.id, Some(mine));
        known.peer = theirs;
        self.streams[end].push(known);
    }

    /// Writes what is to be written, as far as that goes now.
    fn write(&mut self, end: usize, index: usize) {
        let stream = &mut self.streams[end][index];
        let core = &mut self.sim.ends[end].core;
        while stream.can_write() && stream.todo > 0 && !stream.write_waits {
            let len = stream.todo.min(if stream.chunked { 150_000 } else { 5_000 });
            let bytes: Vec<u8> =
                (0..len as u64).map(|i| pattern(stream.key, stream.sent + i)).collect();
            let written = if stream.chunked {
                let mut chunk = Bytes::from(bytes);
                let written = core.write_chunk(stream.slot, &mut chunk);
                if let Ok(Written::Bytes(taken)) = written {
                    assert_eq!(taken + chunk.len(), len, "a chunk keeps what was not taken");
                }
                written
            } else {
                core.write(stream.slot, &bytes)
            };
            match written {
                Ok(Written::Bytes(taken)) => {
                    assert!(taken > 0 && taken <= len);
                    stream.sent += taken as u64;
                    stream.todo -= taken;
                }
                Ok(Written::Blocked) => stream.write_waits = true,
                Err(StreamError::TimedOut) => {
                    core.set_deadline(stream.slot, Direction::Write, None, self.sim.now);
                }
                Err(error) => stream.write_error = Some(error),
            }
        }
        let done = stream.todo == 0 && !stream.finished && stream.write_error.is_none();
        if stream.closing && stream.write_held && done {
            match core.finish(stream.slot) {
                Ok(()) => stream.finished = true,
                Err(error) => stream.write_error = Some(error),
            }
        }
    }

    fn read(&mut self, end: usize, index: usize, len: usize, chunk: bool) {
        let stream = &mut self.streams[end][index];
        let core = &mut self.sim.ends[end].core;
        let got = if chunk {
            core.read_chunk(stream.slot, len)
        } else {
            let mut buffer = vec![0; len];
            core.read(stream.slot, &mut buffer).map(|read| match read {
                Read::Data(len) => {
                    buffer.truncate(len);
                    Read::Data(Bytes::from(buffer))
                }
                Read::Blocked => Read::Blocked,
                Read::End => Read::End,
            })
        };
        match got {
            Ok(Read::Data(bytes)) => {
                assert!(!bytes.is_empty() && bytes.len() <= len);
                let peer = &self.streams[1 - end][self.streams[end][index].peer.unwrap()];
                let at = self.streams[end][index].received;
                let expected = (at..).map(|at| pattern(peer.key, at));
                assert!(bytes.iter().copied().eq(expected.take(bytes.len())), "other bytes");
                assert!(at + bytes.len() as u64 <= peer.sent);
                self.streams[end][index].received += bytes.len() as u64;
            }
            Ok(Read::Blocked) => stream.read_waits = true,
            Ok(Read::End) => stream.end = Some(Ok(())),
            Err(StreamError::TimedOut) => {
                core.set_deadline(stream.slot, Direction::Read, None, self.sim.now);
            }
            Err(error) => stream.end = Some(Err(error)),
        }
    }

    fn read_all(&mut self, end: usize, index: usize) {
        while self.streams[end][index].can_read() && !self.streams[end][index].read_waits {
            self.read(end, index, 100_000, index.is_multiple_of(2));
        }
    }

    /// Lets time pass; writers go on when, and only when, they are woken.
    fn run(&mut self, time: Duration) {
        let until = self.sim.now + time;
        loop {
            let mut busy = self.sim.turn();
            busy |= self.after_turn();
            if busy {
                continue;
            }
            match self.sim.next() {
                Some(at) if at <= until => self.sim.advance_to(at),
                _ => break,
            }
        }
        self.sim.advance_to(until);
    }

    /// Passes on events, and checks what holds at all times.
    fn after_turn(&mut self) -> bool {
        let mut busy = false;
        for end in 0..2 {
            self.note_ids(end);
            while let Some(event) = self.sim.core(end).poll_event() {
                busy = true;
                self.note_event(end, event);
            }
            for index in 0..self.streams[end].len() {
                self.write(end, index);
                if self.drained {
                    self.read_all(end, index);
                }
            }
            if self.drained {
                self.accept(end);
            }
            let stats = self.sim.core(end).stats();
            // spec.md §5.6.3: below the budget and one body.
            assert!(stats.buffered < self.budget + (64 << 10), "{stats:?}");
            assert!(stats.extra_credit <= self.budget, "{stats:?}");
            // spec.md §5.6.1: unread bytes and credit in the peer's hands.
            let core = &self.sim.ends[end].core;
            let held = self.streams[end].iter().filter(|stream| stream.held());
            let credit: usize = held.map(|s| core.receive_window(s.slot).0 as usize).sum();
            assert!(stats.buffered + credit <= (10 + 12) * 262_144 + self.budget, "{stats:?}");
            assert!(stats.accept_backlog <= 8 && stats.ack_backlog <= 6, "{stats:?}");
            assert!(stats.inbound_streams <= 10 && stats.outbound_streams <= 12, "{stats:?}");
        }
        busy
    }

    fn note_ids(&mut self, end: usize) {
        let core = &self.sim.ends[end].core;
        for stream in &mut self.streams[end] {
            if stream.id.is_none() && stream.held() {
                stream.id = core.id(stream.slot).map(|id| id.0);
            }
        }
    }

    fn note_event(&mut self, end: usize, event: Event) {
        match event {
            Event::Readable(slot) => {
                for stream in self.streams[end].iter_mut().filter(|s| s.held() && s.slot == slot) {
                    stream.read_waits = false;
                }
            }
            Event::Writable(slot) => {
                for stream in self.streams[end].iter_mut().filter(|s| s.held() && s.slot == slot) {
                    stream.write_waits = false;
                }
            }
            Event::Pong(value, _) => {
                let answered = self.pings[end].insert(value, true);
                assert_eq!(answered, Some(false), "one end for each ping");
            }
            Event::Acceptable | Event::Openable | Event::Ended => {}
        }
    }

    /// From now on everybody accepts, reads to the end and finishes, but for the abandoned.
    fn settle_down(&mut self) {
        self.drained = true;
        for _ in 0..3 {
            for end in 0..2 {
                for index in 0..self.streams[end].len() {
                    let stream = &mut self.streams[end][index];
                    stream.closing |= !stream.abandoned;
                    // What nobody reads any more must not stand in the way of the peer's end.
                    // A writer that went without a word is told of only when the reader goes too.
                    let unread = !stream.read_held && stream.finished;
                    let mute = !stream.write_held && !stream.finished;
                    if unread || mute {
                        self.act_on(end, index, &Op::Drop);
                    }
                }
            }
            self.run(Duration::from_secs(40));
        }
    }

    /// Every stream came to the end that its two users gave it.
    fn check_streams(&mut self) {
        for end in 0..2 {
            let overloaded = self.overloaded();
            for stream in &self.streams[end] {
                let peer = stream.peer.map(|peer| &self.streams[1 - end][peer]);
                if stream.end == Some(Ok(())) {
                    // spec.md §8.6.3: end of file only after FIN, and after all before it.
                    let peer = peer.expect("end of file from nobody");
                    assert!(peer.finished, "end of file without a finish: {stream:?}");
                    assert_eq!(stream.received, peer.sent, "end of file before the end");
                }
                if stream.abandoned || peer.is_some_and(|peer| peer.abandoned) || overloaded {
                    continue;
                }
                let disowned = stream.disowned || peer.is_none_or(|peer| peer.disowned);
                if stream.read_held {
                    let end = stream.end.unwrap_or_else(|| panic!("still reads: {stream:?}"));
                    assert!(end.is_ok() || disowned, "{stream:?} of {peer:?}");
                }
                if stream.write_held {
                    let ended = stream.finished || stream.write_error.is_some();
                    // spec.md §4.5.9: two ends that both only write wait for each other.
                    let unread = peer.is_some_and(|peer| !peer.read_held && peer.write_held);
                    assert!(ended || unread, "still writes: {stream:?} of {peer:?}");
                    assert!(stream.write_error.is_none() || disowned, "{stream:?} of {peer:?}");
                }
            }
            assert!(self.pings[end].values().all(|ended| *ended), "a ping without an end");
        }
    }

    fn overloaded(&mut self) -> bool {
        (0..2).any(|end| self.sim.core(end).stats().overloaded > 0)
    }

    /// Drops every handle; the close timeout is the longest that anything may take.
    fn let_go(&mut self) {
        for end in 0..2 {
            for index in 0..self.streams[end].len() {
                self.act_on(end, index, &Op::Drop);
            }
        }
        self.run(Duration::from_secs(400));
    }

    fn check_empty(&mut self) {
        for end in 0..2 {
            let core = self.sim.core(end);
            assert_eq!(core.ended(), None, "the session survives all of it");
            assert_eq!(core.live_streams(), 0, "end {end}: {:?}", core.stats());
            let stats = core.stats();
            let mut empty = stats;
            empty.outbound_streams = 0;
            empty.inbound_streams = 0;
            empty.accept_backlog = 0;
            empty.ack_backlog = 0;
            empty.buffered = 0;
            empty.extra_credit = 0;
            empty.staged = 0;
            assert_eq!(stats, empty);
        }
    }

    fn close(&mut self) {
        let now = self.sim.now;
        self.sim.core(0).close(now);
        self.run(Duration::from_secs(60));
        for end in 0..2 {
            assert_eq!(self.sim.core(end).outcome(), Some(Ok(())), "end {end}");
            assert!(self.sim.ends[end].done);
            assert_eq!(self.sim.core(end).poll_timeout(), None, "the end is the end");
        }
    }
}

/// What one direction of one stream has shown so far.
#[derive(Clone, Copy, Debug, Default)]
struct Trail {
    frames: u32,
    acked: bool,
    finished: bool,
    reset: bool,
}

/// The order of frames in both directions (`spec.md §6`).
fn check_wire(sim: &Sim) {
    let mut trails = [HashMap::new(), HashMap::new()];
    for (end, trails) in trails.iter_mut().enumerate() {
        let mut next_id = if end == 0 { 1 } else { 2 };
        let mut gone = None;
        for seen in sim.seen_from(end) {
            // §6.3: the closing GoAway is the last frame, `go_away` may send one before.
            assert!(gone != Some(2), "a frame behind the last: {seen:?}");
            match seen.header.kind {
                Kind::Data | Kind::WindowUpdate => check_frame(end, trails, &mut next_id, seen),
                Kind::Ping => {}
                Kind::GoAway => {
                    assert_eq!(seen.header.length, 0);
                    gone = Some(gone.unwrap_or(0) + 1);
                }
            }
        }
    }
    let [ours, theirs] = &trails;
    for id in ours.keys().chain(theirs.keys()) {
        let trail = |side: &HashMap<u32, Trail>| side.get(id).copied().unwrap_or_default();
        let (one, other) = (trail(ours), trail(theirs));
        let reset = one.reset || other.reset;
        assert!(reset || (one.finished && other.finished), "stream {id} without an end");
    }
}

fn check_frame(end: usize, trails: &mut HashMap<u32, Trail>, next_id: &mut u32, seen: &Seen) {
    let header = seen.header;
    let trail = trails.entry(header.stream.0).or_default();
    let ours = (header.stream.0 % 2 == 1) == (end == 0);
    // §6.1, §4.2.3: SYN is on the first frame and no other, and ids leave in order.
    assert_eq!(header.flags.contains(Flags::SYN), ours && trail.frames == 0, "{header}");
    if header.flags.contains(Flags::SYN) {
        assert_eq!(header.stream.0, *next_id, "ids out of order");
        *next_id += 2;
    }
    // §6.2: nothing follows RST; after FIN only credit and RST do.
    assert!(!trail.reset, "behind RST: {header}");
    assert!(!trail.finished || header.kind == Kind::WindowUpdate, "data behind FIN: {header}");
    if header.flags.contains(Flags::FIN) {
        // §4.5.4, §4.5.5: alone, and once.
        assert_eq!(header.length, 0, "FIN is not alone: {header}");
        assert!(!header.flags.contains(Flags::SYN) && !trail.finished, "{header}");
    }
    if header.flags.contains(Flags::ACK) {
        // §4.3.5: once, from the one who accepted.
        assert!(!ours && !trail.acked, "{header}");
    }
    // §2.8.
    assert_eq!(header.flags.0 & !0xf, 0, "{header}");
    trail.acked |= header.flags.contains(Flags::ACK);
    trail.finished |= header.flags.contains(Flags::FIN);
    trail.reset |= header.flags.contains(Flags::RST);
    trail.frames += 1;
}

/// Runs many writers of one end at once; those named by `stays` never ask again once they wait.
/// Returns when the others had finished.
fn crowd(writers: usize, len: usize, path: Path, stays: impl Fn(usize) -> bool) -> Duration {
    let config = Config::builder().seed(Some(1)).build().unwrap();
    let mut sim = Sim::new([&config, &config], path, 1);
    let slots: Vec<Slot> = (0..writers).map(|_| sim.core(0).open().unwrap()).collect();
    let mut left = vec![len; writers];
    let mut waits = vec![false; writers];
    let mut finished: Option<Instant> = None;
    let zeros = vec![0; 100_000];
    let limit = sim.now + Duration::from_secs(600);
    sim.run(limit, |sim| {
        let now = sim.now;
        for event in std::iter::from_fn(|| sim.core(0).poll_event()).collect::<Vec<_>>() {
            if let Event::Writable(slot) = event
                && let Some(index) = slots.iter().position(|other| *other == slot)
            {
                waits[index] = false;
            }
        }
        let mut busy = false;
        for index in 0..writers {
            let started = left[index] < len;
            while left[index] > 0 && !waits[index] && !(started && stays(index)) {
                let part = left[index].min(zeros.len());
                match sim.core(0).write(slots[index], &zeros[..part]).unwrap() {
                    Written::Bytes(taken) => {
                        busy = true;
                        left[index] -= taken;
                    }
                    Written::Blocked => waits[index] = true,
                }
            }
        }
        while let Some(slot) = sim.core(1).accept() {
            sim.core(1).release(slot, Half::Read);
            busy = true;
        }
        if (0..writers).all(|index| left[index] == 0 || stays(index)) {
            finished.get_or_insert(now);
        }
        (busy, None)
    });
    finished.expect("the others finish").duration_since(sim.start)
}

/// spec.md §6.9: a wake grants a turn, a turn not used lapses.
#[test]
fn writers_that_never_ask_again_keep_nobody_waiting() {
    let path = Path { rate: 1_000_000, capacity: 20_000, ..Path::PERFECT };
    let all = crowd(100, 200_000, path, |_| false);
    let half = crowd(100, 200_000, path, |index| index % 2 == 0);
    println!("100 writers of 200 kB at 1 MB/s: {all:?}; with half of them asleep: {half:?}");
    assert!(half <= all);
}

/// spec.md §6.9: a dropped or reset stream leaves the line.
#[test]
fn writers_dropped_while_they_wait_keep_nobody_waiting() {
    let config = Config::builder().seed(Some(2)).build().unwrap();
    let path = Path { rate: 1_000_000, capacity: 5_000, ..Path::PERFECT };
    let mut sim = Sim::new([&config, &config], path, 2);
    let zeros = vec![0; 100_000];
    let slots: Vec<Slot> = (0..200).map(|_| sim.core(0).open().unwrap()).collect();
    let mut sent = vec![0; slots.len()];
    for (index, slot) in slots.iter().enumerate() {
        while let Written::Bytes(taken) = sim.core(0).write(*slot, &zeros).unwrap() {
            sent[index] += taken;
        }
    }
    let waiting = sent.iter().filter(|sent| **sent == 0).count();
    assert!(waiting > 150, "most find no room: {waiting}");
    // Of those that wait, all but the last few go, one way or the other.
    let (gone, last) = slots.split_at(190);
    for (index, slot) in gone.iter().enumerate() {
        if index % 2 == 0 {
            sim.core(0).reset(*slot, ResetCode(7));
        }
        sim.core(0).release(*slot, Half::Both);
    }
    let mut left = vec![zeros.len(); last.len()];
    let mut woken = vec![false; last.len()];
    let limit = sim.now + Duration::from_secs(20);
    sim.run(limit, |sim| {
        let mut busy = false;
        while let Some(event) = sim.core(0).poll_event() {
            if let Event::Writable(slot) = event
                && let Some(index) = last.iter().position(|other| *other == slot)
            {
                woken[index] = true;
            }
        }
        for (index, slot) in last.iter().enumerate() {
            while woken[index] && left[index] > 0 {
                let part = &zeros[..left[index]];
                match sim.core(0).write(*slot, part).unwrap() {
                    Written::Bytes(taken) => left[index] -= taken,
                    Written::Blocked => woken[index] = false,
                }
                busy = true;
            }
        }
        (busy, None)
    });
    assert!(left.iter().all(|left| *left == 0), "still waiting: {left:?}");
    // Those that had sent nothing leave no trace on the wire but the SYN of the live.
    let opened = sim.seen_from(0).iter().filter(|s| s.header.flags.contains(Flags::SYN)).count();
    assert!(opened <= slots.len() - waiting + last.len(), "{opened}");
    for slot in last {
        sim.core(0).finish(*slot).unwrap();
        sim.core(0).release(*slot, Half::Both);
    }
    sim.run(limit + Duration::from_secs(400), |sim| {
        let accepted = sim.core(1).accept();
        if let Some(slot) = accepted {
            sim.core(1).finish(slot).ok();
            sim.core(1).release(slot, Half::Both);
        }
        (accepted.is_some(), None)
    });
    assert_eq!((sim.core(0).live_streams(), sim.core(1).live_streams()), (0, 0));
}
