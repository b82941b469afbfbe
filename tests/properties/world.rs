//! Two cores, and the model that says what their streams have to show.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use trunkline::{
    Config, ResetCode, StreamError,
    proto::{Direction, Event, Half, Read},
};

use crate::{
    known::{Known, pattern},
    scenario::{Op, Scenario, Step},
    sim::{Random, Sim},
};

pub(crate) struct World {
    pub(crate) sim: Sim,
    streams: [Vec<Known>; 2],
    pings: [HashMap<u32, bool>; 2],
    budget: usize,
    small: bool,
    keys: Random,
    drained: bool,
}

impl World {
    pub(crate) fn new(scenario: &Scenario) -> Self {
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
            keys: Random(scenario.seed),
            drained: false,
        }
    }

    pub(crate) fn act(&mut self, step: &Step) {
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

    fn write(&mut self, end: usize, index: usize) {
        let now = self.sim.now;
        self.streams[end][index].write(self.sim.core(end), now);
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
    pub(crate) fn run(&mut self, time: Duration) {
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
    pub(crate) fn settle_down(&mut self) {
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
    pub(crate) fn check_streams(&mut self) {
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
    pub(crate) fn let_go(&mut self) {
        for end in 0..2 {
            for index in 0..self.streams[end].len() {
                self.act_on(end, index, &Op::Drop);
            }
        }
        self.run(Duration::from_secs(400));
    }

    pub(crate) fn check_empty(&mut self) {
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

    pub(crate) fn close(&mut self) {
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
