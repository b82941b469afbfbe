//! Two cores, a pipe with a delay between them, and one virtual clock.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::wire::{Tail, drain, take};
use crate::{
    Config, ConfigBuilder, Role,
    proto::{Core, Event, Slot, Written},
};

/// The client.
pub(super) const A: usize = 0;
/// The server.
pub(super) const B: usize = 1;

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) ends: [Core; 2],
    pub(super) now: Instant,
    /// How long bytes are on the way.
    pub(super) delay: Duration,
    /// The IO takes, and delivers, no more than this at once.
    pub(super) split: usize,
    /// Bytes on the way to each end.
    pipes: [VecDeque<(Instant, Bytes)>; 2],
}

impl Pair {
    pub(super) fn new(build: impl Fn(ConfigBuilder) -> ConfigBuilder) -> Self {
        let builder = Config::builder().keepalive(None).max_stream_window(262_144).seed(Some(1));
        let config = build(builder).build().unwrap();
        Self::of([Role::Client, Role::Server], &config)
    }

    pub(super) fn of(roles: [Role; 2], config: &Config) -> Self {
        let now = Instant::now();
        Self {
            ends: roles.map(|role| Core::new(role, config, now)),
            now,
            delay: Duration::ZERO,
            split: usize::MAX,
            pipes: [VecDeque::new(), VecDeque::new()],
        }
    }

    /// Moves bytes until nothing moves without time.
    pub(super) fn run(&mut self) {
        for _ in 0..1_000_000 {
            if !self.send(A) & !self.send(B) & !self.receive(A) & !self.receive(B) {
                return;
            }
        }
        panic!("the two ends never fall silent");
    }

    fn send(&mut self, end: usize) -> bool {
        let Some(wire) = take(&mut self.ends[end], self.split, self.now) else { return false };
        let at = self.now + self.delay;
        for piece in wire.chunks(self.split.min(64 << 10)) {
            self.pipes[1 - end].push_back((at, Bytes::copy_from_slice(piece)));
        }
        true
    }

    fn receive(&mut self, end: usize) -> bool {
        let mut received = false;
        while self.pipes[end].front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, piece) = self.pipes[end].pop_front().unwrap();
            self.ends[end].handle_input(&piece, self.now);
            received = true;
        }
        received
    }

    /// The clock goes on, with every arrival and timeout on the way.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        for _ in 0..100_000 {
            self.run();
            let timeouts = [self.ends[A].poll_timeout(), self.ends[B].poll_timeout()];
            let arrivals = [A, B].map(|end| self.pipes[end].front().map(|(at, _)| *at));
            let next = timeouts.into_iter().chain(arrivals).flatten().min();
            match next {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => {
                    self.now = end;
                    return self.run();
                }
            }
            for core in &mut self.ends {
                if core.poll_timeout().is_some_and(|at| at <= self.now) {
                    core.handle_timeout(self.now);
                }
            }
        }
        panic!("the clock does not move");
    }

    pub(super) fn millis(&mut self, millis: u64) {
        self.advance(Duration::from_millis(millis));
    }

    pub(super) fn secs(&mut self, secs: u64) {
        self.advance(Duration::from_secs(secs));
    }

    /// A stream from `end` to the other, acknowledged: the two slots, the opener's first.
    #[track_caller]
    pub(super) fn stream(&mut self, end: usize) -> (Slot, Slot) {
        let ours = self.ends[end].open().unwrap();
        self.millis(2 * self.delay.as_millis() as u64);
        let theirs = self.ends[1 - end].accept().unwrap();
        self.millis(5 + 2 * self.delay.as_millis() as u64);
        (ours, theirs)
    }

    /// Writes what can be written now.
    pub(super) fn write(&mut self, end: usize, slot: Slot, bytes: &[u8]) -> usize {
        let mut total = 0;
        while total < bytes.len() {
            match self.ends[end].write(slot, &bytes[total..]).unwrap() {
                Written::Bytes(len) => total += len,
                Written::Blocked => {
                    let staged = self.ends[end].staged();
                    self.run();
                    if staged == 0 {
                        return total;
                    }
                }
            }
        }
        self.run();
        total
    }

    pub(super) fn drain(&mut self, end: usize, slot: Slot) -> (Vec<u8>, Tail) {
        let read = drain(&mut self.ends[end], slot);
        self.run();
        read
    }

    /// Carries `bytes` from one end to the other, where they are read as they come.
    #[track_caller]
    pub(super) fn carry(&mut self, end: usize, from: Slot, bytes: &[u8], to: Slot) -> Vec<u8> {
        let (mut written, mut read) = (0, Vec::new());
        while read.len() < bytes.len() {
            let before = (written, read.len());
            written += self.write(end, from, &bytes[written..]);
            read.extend(self.drain(1 - end, to).0);
            assert_ne!(before, (written, read.len()), "stuck at {written} of {}", bytes.len());
        }
        read
    }

    pub(super) fn events(&mut self, end: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.ends[end].poll_event()).collect()
    }
}

/// Bytes that differ from place to place.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ (at >> 12) as u8).collect()
}
