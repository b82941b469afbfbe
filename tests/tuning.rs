//! How receive windows grow, and how soon pings are answered, on paths of many kinds.
#![allow(clippy::unwrap_used)]

#[path = "support/sim.rs"]
mod sim;

use std::time::{Duration, Instant};

use bytes::Bytes;
use sim::{Path, Sim};
use trunkline::{
    Config,
    proto::{Event, Read, Slot, Written},
};

const WINDOW: u32 = 262_144;
const MIB: u32 = 1 << 20;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A path of this rate in bytes per second and this round trip, with room for `queue` bytes
/// before its narrowest place.
fn path(rate: u64, round_trip: Duration, queue: usize) -> Path {
    let delay = round_trip / 2;
    let air = (rate as f64 * delay.as_secs_f64()) as usize;
    Path { rate, delay, capacity: air + queue, ..Path::PERFECT }
}

/// Bytes per second of a link of so many Mbit/s.
const fn mbit(rate: u64) -> u64 {
    rate * 125_000
}

/// How fast a user writes or reads.
#[derive(Clone, Copy, Debug)]
enum Pace {
    Full,
    /// Bytes per second.
    Limited(u64),
}

/// One end of one stream, and what it has done.
#[derive(Debug)]
struct Worker {
    pace: Pace,
    /// Since when it has done nothing.
    since: Instant,
    done: u64,
    waits: bool,
}

impl Worker {
    fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, since: now, done: 0, waits: false }
    }

    /// Bytes it may do now. Time that it spent waiting is lost, not made up for.
    fn allowance(&mut self, now: Instant) -> usize {
        match self.pace {
            _ if self.waits => 0,
            Pace::Full => 1 << 20,
            Pace::Limited(_) if now < self.since + MS => 0,
            Pace::Limited(rate) => {
                let time = (now - self.since).min(2 * MS);
                self.since = now;
                (time.as_secs_f64() * rate as f64) as usize
            }
        }
    }

    /// When it wants to go on.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let limited = matches!(self.pace, Pace::Limited(_));
        (!self.waits && limited).then(|| now.max(self.since + MS))
    }
}

/// Streams with bulk data from the client to the server.
struct Trace {
    sim: Sim,
    zeros: Bytes,
    /// Slots at the client and at the server, writer and reader.
    streams: Vec<(Slot, Slot, Worker, Worker)>,
    /// Pings of each end: when asked, and the longest that any took.
    asked: [Option<Instant>; 2],
    slowest_ping: [Duration; 2],
    pings: [u32; 2],
    pings_on: bool,
}

impl Trace {
    fn new(config: &Config, path: Path, streams: usize, write: Pace, read: Pace) -> Self {
        let mut sim = Sim::new([config, config], path, 7);
        let openers: Vec<Slot> = (0..streams).map(|_| sim.core(0).open().unwrap()).collect();
        let mut accepted = Vec::new();
        while accepted.len() < streams {
            sim.turn();
            accepted.extend(sim.core(1).accept());
            if let Some(at) = sim.next() {
                sim.advance_to(at);
            }
        }
        let worker = |pace| Worker::new(pace, sim.now);
        let streams = openers
            .into_iter()
            .zip(accepted)
            .map(|(ours, theirs)| (ours, theirs, worker(write), worker(read)))
            .collect();
        Self {
            sim,
            zeros: Bytes::from(vec![0; 1 << 20]),
            streams,
            asked: [None; 2],
            slowest_ping: [Duration::ZERO; 2],
            pings: [0; 2],
            pings_on: false,
        }
    }

    fn one(path: Path, write: Pace, read: Pace) -> Self {
        // Frames as long as a segment of the path: what fits of longer ones would leave ever smaller
        // pieces, and much to simulate.
        let config = Config::builder().max_frame(64 << 10).build().unwrap();
        Self::new(&config, path, 1, write, read)
    }

    /// Lets `time` pass; the bytes per second that were read.
    fn rate_over(&mut self, time: Duration) -> f64 {
        let before = self.received();
        let until = self.sim.now + time;
        loop {
            let mut busy = self.sim.turn();
            busy |= self.users();
            if busy {
                continue;
            }
            let now = self.sim.now;
            let wakes =
                self.streams.iter().flat_map(|(_, _, w, r)| [w.wake(now), r.wake(now)]).flatten();
            let wake = wakes.min();
            match [self.sim.next(), wake].into_iter().flatten().min() {
                Some(at) if at <= until => self.sim.advance_to(at),
                _ => break,
            }
        }
        self.sim.advance_to(until);
        (self.received() - before) as f64 / time.as_secs_f64()
    }

    /// How long until the rate over two round trips is `rate`.
    fn time_until(&mut self, rate: f64, rtt: Duration, most: Duration) -> Option<Duration> {
        let start = self.sim.now;
        while self.sim.now - start < most {
            if self.rate_over(2 * rtt) >= rate {
                return Some(self.sim.now - start);
            }
        }
        None
    }

    fn users(&mut self) -> bool {
        let mut busy = false;
        for end in 0..2 {
            while let Some(event) = self.sim.core(end).poll_event() {
                self.note(end, event);
            }
            self.ping(end);
        }
        let now = self.sim.now;
        for (ours, theirs, writer, reader) in &mut self.streams {
            let mut left = writer.allowance(now);
            while left > 0 {
                let mut chunk = self.zeros.slice(..left.min(self.zeros.len()));
                match self.sim.core(0).write_chunk(*ours, &mut chunk).unwrap() {
                    Written::Bytes(taken) => {
                        writer.done += taken as u64;
                        left -= taken;
                        busy = true;
                    }
                    Written::Blocked => {
                        writer.waits = true;
                        left = 0;
                    }
                }
            }
            let mut left = reader.allowance(now);
            while left > 0 {
                match self.sim.core(1).read_chunk(*theirs, left).unwrap() {
                    Read::Data(chunk) => {
                        reader.done += chunk.len() as u64;
                        left -= chunk.len();
                        busy = true;
                    }
                    Read::Blocked | Read::End => {
                        reader.waits = true;
                        left = 0;
                    }
                }
            }
        }
        busy
    }

    fn note(&mut self, end: usize, event: Event) {
        for (ours, theirs, writer, reader) in &mut self.streams {
            match event {
                Event::Writable(slot) if end == 0 && slot == *ours => writer.waits = false,
                Event::Readable(slot) if end == 1 && slot == *theirs => reader.waits = false,
                _ => {}
            }
        }
        if let Event::Pong(_, answer) = event {
            let asked = self.asked[end].take().unwrap();
            assert!(answer.is_some(), "a ping was given up");
            self.slowest_ping[end] = self.slowest_ping[end].max(self.sim.now - asked);
            self.pings[end] += 1;
        }
    }

    fn ping(&mut self, end: usize) {
        if self.pings_on && self.asked[end].is_none() {
            let now = self.sim.now;
            self.sim.core(end).ping(now).unwrap();
            self.asked[end] = Some(now);
        }
    }

    fn received(&self) -> u64 {
        self.streams.iter().map(|(_, _, _, reader)| reader.done).sum()
    }

    fn limits(&self) -> Vec<u32> {
        let core = &self.sim.ends[1].core;
        self.streams.iter().map(|(_, theirs, ..)| core.receive_window(*theirs).1).collect()
    }

    fn limit(&self) -> u32 {
        self.limits()[0]
    }
}

/// spec.md §5.5.3.
#[test]
fn a_long_fat_path_is_filled_within_three_seconds() {
    let rate = mbit(1_000);
    let bdp = (rate / 20) as u32;
    let mut trace = Trace::one(path(rate, 50 * MS, 1 << 20), Pace::Full, Pace::Full);
    let took = trace.time_until(0.9 * rate as f64, 50 * MS, 3 * SECOND);
    let settled = trace.rate_over(SECOND) / rate as f64;
    let limit = trace.limit();
    println!("1 Gbit/s, 50 ms: 0.9 of it after {took:?}; then {settled:.3}; window {limit}");
    assert!(took.is_some() && settled >= 0.9, "{took:?}, {settled}");
    assert!(f64::from(limit) <= 2.5 * f64::from(bdp), "{limit}");
}

/// spec.md §5.5.3: the window follows the path, not what it may be at most.
#[test]
fn a_smaller_path_gets_a_smaller_window() {
    for (rate, round_trip) in [(100, 50), (100, 100), (30, 200), (300, 20)] {
        let rtt = round_trip as u32 * MS;
        let rate = mbit(rate);
        let bdp = rate as f64 * rtt.as_secs_f64();
        let mut trace = Trace::one(path(rate, rtt, 128 << 10), Pace::Full, Pace::Full);
        let took = trace.time_until(0.9 * rate as f64, rtt, 5 * SECOND);
        let settled = trace.rate_over(3 * SECOND) / rate as f64;
        let limit = trace.limit();
        println!("{rate} B/s, {rtt:?}: 0.9 after {took:?}; then {settled:.3}; window {limit}");
        assert!(took.is_some() && settled >= 0.9, "{took:?} {settled}");
        assert!(f64::from(limit) <= (3.0 * bdp).max(f64::from(WINDOW)), "{limit}");
    }
}

/// spec.md §5.5.3: queues do not feed on themselves.
#[test]
fn a_deep_queue_does_not_grow_the_window_that_fills_it() {
    let rate = mbit(10);
    let mut trace = Trace::one(path(rate, 40 * MS, 4 << 20), Pace::Full, Pace::Full);
    let settled = trace.rate_over(120 * SECOND) / rate as f64;
    let limit = trace.limit();
    println!("10 Mbit/s behind a queue of 4 MiB: {settled:.3} of it; window {limit}");
    assert!(settled > 0.9 && limit <= MIB / 2, "{settled} {limit}");
}

/// spec.md §5.5.3.
#[test]
fn what_the_application_limits_does_not_grow() {
    let far = path(mbit(1_000), 50 * MS, 1 << 20);
    for (write, read) in [
        (Pace::Limited(500_000), Pace::Full),
        (Pace::Limited(2_000_000), Pace::Full),
        (Pace::Full, Pace::Limited(500_000)),
        (Pace::Full, Pace::Limited(2_000_000)),
    ] {
        let mut trace = Trace::one(far, write, read);
        let rate = trace.rate_over(10 * SECOND);
        println!("{write:?} to {read:?}: {rate} B/s, window {}", trace.limit());
        assert_eq!(trace.limit(), WINDOW);
        assert!(rate > 450_000.0, "{rate}");
    }
    // A reader faster than what the first window carries: a window for the reader, not the path.
    let mut trace = Trace::one(far, Pace::Full, Pace::Limited(10_000_000));
    let rate = trace.rate_over(10 * SECOND);
    println!("reader of 10 MB/s: {rate} B/s, window {}", trace.limit());
    assert!(rate > 9_000_000.0 && trace.limit() <= 1_300_000, "{rate} {}", trace.limit());
}

/// spec.md §5.5.3: what spares the ends their sleeps, and stays in the cache.
#[test]
fn a_busy_local_link_gets_a_mebibyte_and_no_more() {
    let near = path(4_000_000_000, MS / 20, 256 << 10);
    for (read, limit) in [
        (Pace::Full, MIB),
        (Pace::Limited(2_000_000_000), MIB),
        (Pace::Limited(100_000_000), WINDOW),
    ] {
        let mut trace = Trace::one(near, Pace::Full, read);
        let rate = trace.rate_over(SECOND / 4);
        println!("50 us at 4 GB/s, {read:?}: {rate} B/s, window {}", trace.limit());
        assert_eq!(trace.limit(), limit);
    }
}

/// spec.md §5.5.4: old round trips are forgotten.
#[test]
fn a_path_that_becomes_longer_is_filled_again() {
    let rate = mbit(500);
    let mut trace = Trace::one(path(rate, 5 * MS, 512 << 10), Pace::Full, Pace::Full);
    let near = trace.rate_over(2 * SECOND) / rate as f64;
    let before = trace.limit();
    trace.sim.set_path(path(rate, 50 * MS, 512 << 10));
    let took = trace.time_until(0.9 * rate as f64, 50 * MS, 8 * SECOND);
    let settled = trace.rate_over(SECOND) / rate as f64;
    let after = trace.limit();
    println!("5 ms: {near:.3}, window {before}; at 50 ms again 0.9 after {took:?}, {after}");
    assert!(near >= 0.9 && took.is_some() && settled >= 0.9, "{near} {took:?} {settled}");
    assert!(after <= 8 * MIB, "{after}");
}

/// spec.md §5.5.4.
#[test]
fn without_answers_nothing_grows_and_nothing_ends() {
    let far = path(mbit(100), 50 * MS, 1 << 20);
    let mut trace = Trace::one(far, Pace::Full, Pace::Full);
    trace.sim.set_path_from(0, Path { no_pongs: true, ..far });
    let rate = trace.rate_over(60 * SECOND);
    println!("no pongs: {rate} B/s, window {}", trace.limit());
    assert_eq!(trace.limit(), WINDOW);
    assert_eq!((trace.sim.core(0).ended(), trace.sim.core(1).ended()), (None, None));
    // Half a window for each round trip, at the least.
    assert!(rate > 2_500_000.0, "{rate}");
}

/// spec.md §5.6.2.
#[test]
fn growth_stops_at_the_budget() {
    let far = path(mbit(1_000), 50 * MS, 1 << 20);
    // The least budget is one initial window: 256 KiB, in halves, for each round trip.
    for (budget, streams, least) in [(262_144, 1, 3e6), (1 << 20, 1, 8e6), (2 << 20, 4, 16e6)] {
        let config = Config::builder().receive_budget(budget).build().unwrap();
        let mut trace = Trace::new(&config, far, streams, Pace::Full, Pace::Full);
        let rate = trace.rate_over(2 * SECOND);
        let limits = trace.limits();
        let stats = trace.sim.core(1).stats();
        println!("budget {budget}: {rate} B/s, windows {limits:?}");
        let extra: usize = limits.iter().map(|limit| (limit - WINDOW) as usize).sum();
        assert_eq!(extra, stats.extra_credit);
        assert!(extra <= budget && stats.overloaded == 0, "{extra} {stats:?}");
        // A reader that stops now costs no stream, if it has the budget to itself.
        assert!(streams > 1 || limits[0] as usize <= budget, "{limits:?}");
        assert_eq!(trace.sim.core(1).ended(), None);
        assert!(rate > least, "{rate}");
    }
}

/// spec.md §5.5.2.
#[test]
fn a_window_that_may_not_grow_sends_no_pings() {
    let far = path(mbit(100), 50 * MS, 1 << 20);
    let config = Config::builder().max_stream_window(WINDOW).build().unwrap();
    let mut trace = Trace::new(&config, far, 1, Pace::Full, Pace::Full);
    trace.rate_over(10 * SECOND);
    assert_eq!(trace.limit(), WINDOW);
    let pings = trace.sim.seen_from(1).iter().filter(|seen| seen.header.stream.0 == 0).count();
    assert_eq!(pings, 0);
}

/// spec.md §6.3, §6.9: little is queued ahead of control, the less the slower the link.
#[test]
fn pings_pass_a_bulk_transfer_on_a_slow_link_within_two_seconds() {
    let config =
        Config::builder().keepalive(Some(SECOND / 2)).ping_timeout(2 * SECOND).build().unwrap();
    for streams in [1, 10] {
        let slow = path(mbit(1), 20 * MS, 64 << 10);
        let mut trace = Trace::new(&config, slow, streams, Pace::Full, Pace::Full);
        trace.pings_on = true;
        let rate = trace.rate_over(60 * SECOND) / mbit(1) as f64;
        let (slowest, pings) = (trace.slowest_ping, trace.pings);
        println!("1 Mbit/s, {streams} streams: {rate:.3} of it; pings {pings:?}, {slowest:?}");
        assert!(slowest.iter().all(|slowest| *slowest <= 2 * SECOND), "{slowest:?}");
        assert!(pings.iter().all(|pings| *pings >= 60), "{pings:?}");
        assert!(rate > 0.95, "{rate}");
        assert_eq!((trace.sim.core(0).ended(), trace.sim.core(1).ended()), (None, None));
    }
}

/// spec.md §7.2: a live peer behind a slow link is not taken for dead.
#[test]
fn keepalives_are_answered_on_a_slow_link() {
    let config =
        Config::builder().keepalive(Some(SECOND / 4)).ping_timeout(2 * SECOND).build().unwrap();
    let slow = path(mbit(1), 20 * MS, 64 << 10);
    let mut trace = Trace::new(&config, slow, 3, Pace::Full, Pace::Full);
    let rate = trace.rate_over(60 * SECOND) / mbit(1) as f64;
    let asked = trace.sim.seen_from(0).iter().filter(|s| s.header.stream.0 == 0).count();
    println!("{asked} session frames from the sender in 60 s");
    assert!(rate > 0.95, "{rate}");
    assert!(asked > 60, "{asked}");
    assert_eq!((trace.sim.core(0).ended(), trace.sim.core(1).ended()), (None, None));
}
