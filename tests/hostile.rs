//! Peers that mean harm, and peers that are merely strange: what they cost, and how it ends.
#![allow(clippy::unwrap_used)]

#[path = "support/heap.rs"]
mod heap;
#[path = "support/sim.rs"]
mod sim;

use std::time::{Duration, Instant};

use bytes::Bytes;
use heap::{alone, beside, in_use};
use sim::{Lone, Path, Rng, Sim, scaled, thorough};
use trunkline::{
    Config, Flood, GoAwayCode, ResetCode, Role, SessionError, StreamError, StreamId, TryOpenError,
    Violation,
    frame::{Flags, Header, Kind},
    proto::{Event, Half, Read, Slot, Written},
};

const WINDOW: u32 = 262_144;
const KIB: i64 = 1 << 10;

fn header(kind: Kind, flags: Flags, id: u32, length: u32) -> [u8; 12] {
    Header { kind, flags, stream: StreamId(id), length }.encode()
}

fn credit(flags: Flags, id: u32, length: u32) -> [u8; 12] {
    header(Kind::WindowUpdate, flags, id, length)
}

fn data(flags: Flags, id: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = header(Kind::Data, flags, id, body.len() as u32).to_vec();
    frame.extend_from_slice(body);
    frame
}

fn ping(value: u32) -> [u8; 12] {
    header(Kind::Ping, Flags::SYN, 0, value)
}

fn server() -> Lone {
    Lone::new(Role::Server, &Config::builder().seed(Some(3)).build().unwrap())
}

/// A server with stream 1 opened by the peer and accepted.
fn serving() -> (Lone, Slot) {
    let mut lone = server();
    lone.feed(&credit(Flags::SYN, 1, 0));
    let slot = lone.core.accept().unwrap();
    lone.pass(Duration::from_millis(5));
    lone.drain();
    (lone, slot)
}

/// A client with its first stream, id 1, opened.
fn calling() -> (Lone, Slot) {
    let mut lone = Lone::new(Role::Client, &Config::default());
    let slot = lone.core.open().unwrap();
    lone.drain();
    (lone, slot)
}

fn violation(lone: &Lone) -> Option<Violation> {
    match lone.core.ended() {
        Some(Err(SessionError::Violation { rule, .. })) => Some(rule),
        Some(other) => panic!("another end: {other:?}"),
        None => None,
    }
}

/// How many frames go in before the session ends, and why it does; at most `most`.
fn fed_until_end(
    lone: &mut Lone,
    most: usize,
    frame: impl FnMut(usize) -> Vec<u8>,
) -> (usize, Option<Violation>) {
    let (sent, rule, _) = measured_until_end(lone, most, frame);
    (sent, rule)
}

/// The same, and the memory that was held at the worst moment.
fn measured_until_end(
    lone: &mut Lone,
    most: usize,
    mut frame: impl FnMut(usize) -> Vec<u8>,
) -> (usize, Option<Violation>, i64) {
    let before = in_use();
    let mut held = 0;
    for sent in 0..most {
        lone.feed(&frame(sent));
        lone.events();
        held = held.max(in_use() - before);
        if let Some(rule) = violation(lone) {
            return (sent + 1, Some(rule), held);
        }
    }
    (most, None, held)
}

fn says_protocol_error(lone: &mut Lone) -> bool {
    let last = lone.drain().pop();
    last.is_some_and(|h| h.kind == Kind::GoAway && h.length == 1)
}

// Floods

/// spec.md §9.2.3.
#[test]
fn pings_whose_answers_are_not_read_end_the_session() {
    let _turn = alone();
    let mut lone = server();
    lone.feed(&ping(0));
    lone.block();
    let (sent, rule, held) =
        measured_until_end(&mut lone, 1_000_000, |i| ping(1 + i as u32).to_vec());
    println!("pings until the end: {sent}, memory {held} bytes");
    assert_eq!((sent, rule), (8_193, Some(Violation::Flood(Flood::Pings))));
    assert!(held < 64 * KIB, "{held}");
    assert!(says_protocol_error(&mut lone), "GoAway is the last word");
}

/// spec.md §9.2.3, §3.3.1: equal questions in a row share an answer, read answers make room.
#[test]
fn any_number_of_pings_is_fine_while_answers_are_read() {
    let _turn = alone();
    let mut lone = server();
    lone.feed(&ping(0));
    lone.block();
    let equal = scaled(1_000_000) as usize;
    let (sent, rule, held) = measured_until_end(&mut lone, equal, |_| ping(9).to_vec());
    assert_eq!((sent, rule), (equal, None));
    println!("{equal} equal pings, unread: memory {held} bytes");
    assert!(held < 16 * KIB, "{held}");
    lone.drain();
    for round in 0..scaled(2_000) as u32 {
        let burst: Vec<u8> = (0..1_000).flat_map(|i| ping(round * 1_000 + i)).collect();
        lone.feed(&burst);
        assert_eq!(lone.drain().len(), 1_000);
    }
    assert_eq!(violation(&lone), None);
}

/// Frames that carry nothing, each of its own sort, as a function of how many came before.
type Nothing = (&'static str, fn(usize) -> Vec<u8>);

const NOTHINGS: [Nothing; 9] = [
    ("empty data", |_| header(Kind::Data, Flags::NONE, 1, 0).to_vec()),
    ("no credit", |_| credit(Flags::NONE, 1, 0).to_vec()),
    ("repeated ACK", |_| credit(Flags::ACK, 1, 0).to_vec()),
    ("ACK on empty data", |_| header(Kind::Data, Flags::ACK, 1, 0).to_vec()),
    ("unknown flags", |_| credit(Flags(0xfff0), 1, 0).to_vec()),
    ("frames of no stream", |i| credit(Flags::FIN, 1 + 2 * (i as u32 + 1), 0).to_vec()),
    ("resets of no stream", |_| credit(Flags::RST, 99, 4).to_vec()),
    ("unknown pongs", |i| header(Kind::Ping, Flags::ACK, 0, 1_000 + i as u32).to_vec()),
    ("pings without a flag", |i| header(Kind::Ping, Flags::NONE, 0, i as u32).to_vec()),
];

/// spec.md §9.2.1.
#[test]
fn frames_that_carry_nothing_end_the_session() {
    let _turn = beside();
    for (name, frame) in NOTHINGS {
        let (mut lone, _slot) = serving();
        let (sent, rule) = fed_until_end(&mut lone, 20_000, frame);
        assert_eq!(rule, Some(Violation::Flood(Flood::EmptyFrames)), "{name}");
        // The SYN of the stream is worth nothing above the full allowance.
        assert_eq!(sent, 4_097, "{name}");
        assert!(says_protocol_error(&mut lone), "{name}");
    }
    let (mut lone, _slot) = serving();
    lone.feed(&credit(Flags::FIN, 1, 0));
    let (sent, rule) = fed_until_end(&mut lone, 20_000, |_| credit(Flags::FIN, 1, 0).to_vec());
    assert_eq!((sent, rule), (4_097, Some(Violation::Flood(Flood::EmptyFrames))));
}

/// spec.md §9.2.1: what carries something pays for what does not.
#[test]
fn empty_frames_among_useful_ones_are_fine() {
    let _turn = beside();
    for (name, frame) in NOTHINGS {
        let (mut lone, _slot) = serving();
        for i in 0..scaled(200_000) as usize {
            lone.feed(&credit(Flags::NONE, 1, 1));
            lone.feed(&frame(i % 1_000));
        }
        assert_eq!(violation(&lone), None, "{name}");
    }
}

/// spec.md §9.2.2.
#[test]
fn streams_reset_before_accept_leave_nothing_and_end_the_session() {
    let _turn = alone();
    type Early = fn(u32) -> Vec<u8>;
    let two: Early = |id| [credit(Flags::SYN, id, 0), credit(Flags::RST, id, 4)].concat();
    let one: Early = |id| credit(Flags::SYN.with(Flags::RST), id, 0).to_vec();
    let full: Early = |id| {
        let mut frames = data(Flags::SYN, id, &[7; 1_000]);
        frames.extend_from_slice(&credit(Flags::RST, id, 0));
        frames
    };
    for early in [two, one, full] {
        let mut lone = server();
        lone.feed(&early(1));
        lone.pass(Duration::from_secs(10));
        let (sent, rule, held) =
            measured_until_end(&mut lone, 1_000, |i| early(3 + 2 * (i as u32)));
        assert_eq!((sent, rule), (1_000, None));
        assert_eq!((lone.core.live_streams(), lone.core.stats().buffered), (0, 0));
        assert!(lone.core.accept().is_none());
        println!("1000 early resets: memory {held} bytes");
        assert!(held < 64 * KIB, "{held}");
        // A new interval, a new count.
        lone.pass(Duration::from_secs(10));
        let (sent, rule) = fed_until_end(&mut lone, 5_000, |i| early(5_001 + 2 * (i as u32)));
        assert_eq!((sent, rule), (1_001, Some(Violation::Flood(Flood::EarlyResets))));
        assert!(says_protocol_error(&mut lone));
    }
}

/// spec.md §9.2.2: only resets before accept count.
#[test]
fn streams_reset_after_accept_do_not_count() {
    let _turn = beside();
    let mut lone = server();
    for i in 0..scaled(100_000) as u32 {
        let id = 1 + 2 * i;
        lone.feed(&credit(Flags::SYN, id, 0));
        let slot = lone.core.accept().unwrap();
        lone.feed(&credit(Flags::RST, id, 4));
        lone.core.release(slot, Half::Both);
    }
    assert_eq!(violation(&lone), None);
    lone.drain();
    assert_eq!(lone.core.live_streams(), 0);
}

/// spec.md §9.2.4, §4.4.1: refusals that are not read.
#[test]
fn a_flood_of_opens_is_refused_and_ends_the_session_unless_refusals_are_read() {
    let _turn = alone();
    let syn = |i: usize| credit(Flags::SYN, 1 + 2 * i as u32, 0).to_vec();
    let mut lone = server();
    lone.feed(&ping(0));
    lone.block();
    let (sent, rule, held) = measured_until_end(&mut lone, 1_000_000, syn);
    println!("opens until the end: {sent}, memory {held} bytes");
    assert_eq!((sent, rule), (256 + 8_193, Some(Violation::Flood(Flood::Refusals))));
    assert!(held < 256 * KIB, "{held}");
    assert!(says_protocol_error(&mut lone));

    let mut lone = server();
    let opens = scaled(2_000_000) as usize;
    let mut refusals = 0;
    for i in 0..opens {
        lone.feed(&syn(i));
        if i % 500 == 499 {
            lone.events();
            refusals += lone.drain().iter().filter(|h| h.flags == Flags::RST).count();
        }
    }
    refusals += lone.drain().len();
    assert_eq!(violation(&lone), None);
    assert_eq!(refusals, opens - 256);
    assert_eq!(lone.core.stats().refused, refusals as u64);
    assert_eq!(lone.core.live_streams(), 256);
}

/// spec.md §9.2.4, §4.5.6: resets that the peer provokes and does not read.
#[test]
fn provoked_resets_are_bounded() {
    let _turn = alone();
    // SYN, FIN, then a body: the body costs the stream, and us an RST.
    let provoke = |i: usize| {
        let id = 1 + 2 * i as u32;
        let mut frames = credit(Flags::SYN.with(Flags::FIN), id, 0).to_vec();
        frames.extend_from_slice(&data(Flags::NONE, id, b"x"));
        frames
    };
    for accepted in [false, true] {
        let mut lone = server();
        lone.feed(&ping(0));
        lone.block();
        let before = in_use();
        let mut sent = 0;
        while violation(&lone).is_none() && sent < 100_000 {
            lone.feed(&provoke(sent));
            while accepted && let Some(slot) = lone.core.accept() {
                lone.core.release(slot, Half::Both);
            }
            lone.events();
            sent += 1;
        }
        let held = in_use() - before;
        println!("provoked resets until the end: {sent}, memory {held} bytes");
        assert_eq!(violation(&lone), Some(Violation::Flood(Flood::Refusals)));
        assert!(sent <= 8_192 + 8_193, "{sent}");
        assert!(held < 4 * 1_024 * KIB, "{held}");
    }
}

// Numbers

/// spec.md §3.2.2.
#[test]
fn credit_past_the_largest_window_ends_the_session() {
    let _turn = beside();
    let most = u32::MAX - WINDOW;
    for (extra, ends) in [(0, false), (1, true)] {
        let expected = ends.then_some(Violation::WindowOverflow);
        // Beside SYN.
        let mut lone = server();
        lone.feed(&credit(Flags::SYN, 1, most + extra));
        assert_eq!(violation(&lone), expected);
        assert_eq!(lone.core.live_streams(), usize::from(!ends), "judged before it is opened");
        // Beside ACK.
        let (mut lone, _slot) = calling();
        lone.feed(&credit(Flags::ACK, 1, most + extra));
        assert_eq!(violation(&lone), expected);
        // Little by little.
        let (mut lone, _slot) = serving();
        lone.feed(&credit(Flags::NONE, 1, most));
        lone.feed(&credit(Flags::NONE, 1, extra));
        assert_eq!(violation(&lone), expected);
        assert_eq!(ends, lone.drain().iter().any(|h| h.kind == Kind::GoAway));
    }
    // spec.md §4.6.2: beside RST it is a code.
    let (mut lone, slot) = serving();
    lone.feed(&credit(Flags::RST, 1, u32::MAX));
    let read = lone.core.read(slot, &mut [0]);
    assert_eq!(read, Err(StreamError::Reset(ResetCode(u32::MAX))));
    assert_eq!(violation(&lone), None);
}

/// spec.md §2.10, §5.4.2.
#[test]
fn a_body_beyond_the_window_opens_nothing_and_ends_the_session() {
    let _turn = beside();
    for length in [WINDOW + 1, 1 << 31, u32::MAX] {
        let mut lone = server();
        lone.feed(&header(Kind::Data, Flags::SYN, 1, length));
        assert_eq!(violation(&lone), Some(Violation::WindowExceeded));
        assert_eq!(lone.core.live_streams(), 0);
        assert!(!lone.events().contains(&Event::Acceptable));
        let (mut lone, _slot) = serving();
        lone.feed(&header(Kind::Data, Flags::NONE, 1, length));
        assert_eq!(violation(&lone), Some(Violation::WindowExceeded));
    }
    let mut lone = server();
    lone.feed(&data(Flags::SYN, 1, &vec![1; WINDOW as usize]));
    assert_eq!((violation(&lone), lone.core.stats().buffered), (None, WINDOW as usize));
    lone.feed(&data(Flags::NONE, 1, b"x"));
    assert_eq!(violation(&lone), Some(Violation::WindowExceeded));
}

/// spec.md §2.11.
#[test]
fn an_announced_length_costs_nothing() {
    let _turn = alone();
    let max = u32::MAX;
    let frames = [
        header(Kind::Data, Flags::NONE, 1, max),
        header(Kind::Data, Flags::NONE, 1, WINDOW),
        header(Kind::Data, Flags::NONE, 99, max),
        header(Kind::WindowUpdate, Flags::NONE, 1, max),
        header(Kind::WindowUpdate, Flags::RST, 1, max),
        header(Kind::Ping, Flags::SYN, 0, max),
        header(Kind::GoAway, Flags::NONE, 0, max),
    ];
    for frame in frames {
        let (mut lone, _slot) = serving();
        let frame = Bytes::copy_from_slice(&frame);
        let before = in_use();
        lone.core.handle_input(&frame, lone.now);
        let held = in_use() - before;
        assert!(held < 4 * KIB, "{frame:?}: {held}");
        lone.pass(Duration::from_secs(5));
    }
}

/// spec.md §2.2, §2.3, §2.8, §9.3.1: every value of every field has a defined effect.
#[test]
fn unknown_values_are_refused_or_ignored_and_never_more() {
    let _turn = beside();
    for version in 1..=255 {
        let (mut lone, _slot) = serving();
        lone.feed(&[version, 200, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(violation(&lone), Some(Violation::UnsupportedVersion(version)));
    }
    for kind in 4..=255 {
        let (mut lone, _slot) = serving();
        lone.feed(&[0, kind, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(violation(&lone), Some(Violation::UnknownKind(kind)));
    }
    for code in [1, 2, 3, 77, u32::MAX] {
        let (mut lone, _slot) = serving();
        lone.feed(&header(Kind::GoAway, Flags(0xffff), 5, code));
        assert_eq!(lone.core.ended(), Some(Err(SessionError::RemoteGoAway(GoAwayCode(code)))));
        assert!(lone.drain().is_empty(), "nothing is sent after the peer's end");
    }
    let step = if thorough() { 1 } else { 37 };
    for kind in [Kind::Data, Kind::WindowUpdate, Kind::Ping, Kind::GoAway] {
        for flags in (0..=u16::MAX).step_by(step) {
            for id in [0, 1, 2, 3, u32::MAX] {
                let (mut lone, _slot) = serving();
                lone.feed(&header(kind, Flags(flags), id, 1));
                lone.feed(b"x");
                lone.drain();
                // The high bits decide nothing.
                let (mut same, _slot) = serving();
                same.feed(&header(kind, Flags(flags & 0xf), id, 1));
                same.feed(b"x");
                assert_eq!(lone.core.ended().is_some(), same.core.ended().is_some());
                assert_eq!(lone.core.stats().buffered, same.core.stats().buffered);
            }
        }
    }
}

/// spec.md §9.3.1: noise ends a session in order, whatever it says.
#[test]
fn noise_never_panics_and_never_allocates_much() {
    let _turn = alone();
    let mut rng = Rng(5);
    let mut worst = 0;
    let rounds = scaled(20_000);
    for _ in 0..rounds {
        let (mut lone, slot) = serving();
        let before = in_use();
        let mut bytes = Vec::new();
        for _ in 0..60 {
            let kind = [Kind::Data, Kind::WindowUpdate, Kind::Ping, Kind::GoAway][rng.below(40)
                * usize::from(rng.below(9) > 0)
                % 3
                + usize::from(rng.below(60) == 0)];
            let length = [0, 1, 5, 300, WINDOW, u32::MAX][rng.below(6)];
            let id = [0, 1, 1, 3, 5, 2, 4, u32::MAX][rng.below(8)];
            bytes.extend_from_slice(&header(kind, Flags(rng.below(16) as u16), id, length));
            bytes.resize(bytes.len() + rng.below(400), 0);
        }
        let sent = bytes.len() as i64;
        for piece in bytes.chunks(1 + rng.below(3_000)) {
            lone.feed(piece);
            lone.events();
            if rng.below(4) == 0 && lone.core.read(slot, &mut [0; 50]).is_err() {
                lone.drain();
            }
        }
        drop(bytes);
        // Besides what came, one table of each sort.
        worst = worst.max(in_use() - before - sent);
        lone.drain();
    }
    println!("{rounds} rounds of noise: memory at most {worst} bytes beyond what was sent");
    assert!(worst < 64 * KIB, "{worst}");
}

/// spec.md §4.8.2, §4.8.3.
#[test]
fn bodies_for_no_stream_are_skipped_within_bounds() {
    let _turn = alone();
    let (mut lone, _slot) = serving();
    lone.feed(&header(Kind::Data, Flags::NONE, 3, 1));
    assert_eq!(violation(&lone), Some(Violation::NeverOpened));

    let (mut lone, slot) = serving();
    lone.core.reset(slot, ResetCode(300));
    lone.core.release(slot, Half::Both);
    lone.drain();
    let before = in_use();
    for _ in 0..WINDOW / 1_024 {
        lone.feed(&data(Flags::NONE, 1, &[0; 1_024]));
    }
    let held = in_use() - before;
    // What the test runner holds meanwhile counts too.
    assert!(held < 16 * KIB, "late bodies are not buffered: {held}");
    assert_eq!(violation(&lone), None);
    lone.feed(&data(Flags::NONE, 1, b"x"));
    assert_eq!(violation(&lone), Some(Violation::LateData));
}

// Memory

/// A window filled with bodies of `len` bytes; what that costs, read buffers included.
fn cost_of_bodies(len: usize) -> (i64, Lone, Slot) {
    let (mut lone, slot) = serving();
    let body: Vec<u8> = (0..len).map(|i| i as u8).collect();
    let mut wire = Vec::new();
    for _ in 0..WINDOW as usize / len {
        wire.extend_from_slice(&data(Flags::NONE, 1, &body));
    }
    let before = in_use();
    for read in wire.chunks(64 << 10) {
        lone.feed(read);
    }
    (in_use() - before, lone, slot)
}

/// spec.md §5.6.4.
#[test]
fn a_window_of_small_bodies_costs_at_most_twice_its_size() {
    let _turn = alone();
    for len in [1, 2, 3, 100, 511, 513, 4_095, 4_097, 9_000, 16_383] {
        let (held, mut lone, slot) = cost_of_bodies(len);
        println!("bodies of {len}: {held} bytes for a window of {WINDOW}");
        assert!(held <= 2 * i64::from(WINDOW), "{len}: {held}");
        let mut expected = (0..).map(|i| (i % len) as u8);
        let mut buffer = vec![0; 10_000];
        while let Ok(Read::Data(read)) = lone.core.read(slot, &mut buffer) {
            assert!(buffer[..read].iter().copied().eq(expected.by_ref().take(read)));
        }
        assert_eq!(lone.core.stats().buffered, 0);
    }
}

/// spec.md §5.6.4: a body pins its read buffer, which is at most four times as large.
#[test]
fn a_window_of_large_bodies_costs_at_most_four_times_its_size() {
    let _turn = alone();
    for len in [16 << 10, 20_000, 32 << 10, 50_000] {
        let (mut lone, _slot) = serving();
        let mut frame = data(Flags::NONE, 1, &vec![7; len]);
        // The rest of the buffer is of no use to anybody.
        while frame.len() + 12 <= 64 << 10 {
            frame.extend_from_slice(&ping(1));
        }
        let before = in_use();
        for _ in 0..WINDOW as usize / len {
            lone.feed(&frame);
        }
        let held = in_use() - before;
        let unread = lone.core.stats().buffered;
        println!("bodies of {len}: {held} bytes for {unread} unread");
        assert!(held <= 4 * unread as i64 + 16 * KIB, "{len}: {held}");
    }
}

/// spec.md §5.6.4: a stream with nothing unread holds no buffer.
#[test]
fn memory_is_given_back_once_it_was_read() {
    let _turn = alone();
    let mut lone = server();
    let before = in_use();
    for id in (1..400).step_by(2) {
        lone.feed(&data(Flags::SYN, id, &[1; 40_000]));
    }
    let full = in_use() - before;
    let mut buffer = vec![0; 64 << 10];
    let mut slots = Vec::new();
    while let Some(slot) = lone.core.accept() {
        assert_eq!(lone.core.read(slot, &mut buffer), Ok(Read::Data(40_000)));
        slots.push(slot);
    }
    lone.pass(Duration::from_secs(1));
    lone.drain();
    lone.events();
    lone.core.shrink();
    let idle = in_use() - before;
    println!("200 streams with 40,000 unread bytes each: {full} bytes; read: {idle}");
    assert!(full >= 8_000_000, "{full}");
    // The table, the backlog and the buffer of this test itself.
    assert!(idle < 256 * KIB, "{idle}");
    for slot in slots {
        lone.core.reset(slot, ResetCode::CANCELLED);
        lone.core.release(slot, Half::Both);
    }
    lone.drain();
    assert_eq!(lone.core.live_streams(), 0);
}

/// spec.md §5.6.3.
#[test]
fn unread_bytes_stay_within_the_budget() {
    let _turn = alone();
    let budget = 1 << 20;
    let config = Config::builder().receive_budget(budget).build().unwrap();
    let mut lone = Lone::new(Role::Server, &config);
    let before = in_use();
    let mut worst = 0;
    for id in (1..).step_by(2).take(200) {
        lone.feed(&data(Flags::SYN, id, &vec![0; 200_000 - id as usize]));
        worst = worst.max(lone.core.stats().buffered);
        lone.drain();
    }
    let held = in_use() - before;
    let overloaded = lone.core.stats().overloaded;
    println!("budget {budget}: at most {worst} unread, {overloaded} resets, memory {held}");
    assert!(worst < budget + (64 << 10) && overloaded > 100);
    assert!(held < 4 * budget as i64, "{held}");
    assert_eq!(violation(&lone), None, "a limit of ours ends no session");
}

// One stream beside the others

/// spec.md §5.2.2, §5.3.3.
#[test]
fn a_stream_that_nobody_reads_stalls_only_itself() {
    let _turn = beside();
    let config = Config::default();
    let mut sim = Sim::new([&config, &config], Path { capacity: 10_000, ..Path::PERFECT }, 1);
    let now = sim.now;
    let [stuck, flowing] = [(); 2].map(|()| sim.core(0).open().unwrap());
    let zeros = vec![0; 100_000];
    let mut stuck_sent = 0;
    let (mut sent, mut received) = (0, 0);
    let total = 5_000_000;
    let mut accepted = Vec::new();
    sim.run(now + Duration::from_secs(10), |sim| {
        while sim.core(0).poll_event().is_some() || sim.core(1).poll_event().is_some() {}
        let mut busy = false;
        while let Ok(Written::Bytes(n)) = sim.core(0).write(stuck, &zeros) {
            stuck_sent += n;
            busy = true;
        }
        while sent < total
            && let Ok(Written::Bytes(n)) = sim.core(0).write(flowing, &zeros)
        {
            sent += n;
            busy = true;
        }
        accepted.extend(sim.core(1).accept());
        if let [_, slot] = accepted[..]
            && let Ok(Read::Data(chunk)) = sim.core(1).read_chunk(slot, usize::MAX)
        {
            received += chunk.len();
            busy = true;
        }
        (busy, None)
    });
    assert_eq!(stuck_sent, WINDOW as usize, "exactly its window");
    assert_eq!(received, sent);
    assert!(received >= total);
}

/// spec.md §2.11: the same frames, split anywhere.
#[test]
fn bytes_mean_the_same_however_they_are_split() {
    let _turn = beside();
    let script = [
        ping(1).to_vec(),
        data(Flags::SYN, 1, b"hello"),
        credit(Flags::SYN, 3, 12).to_vec(),
        data(Flags::NONE, 1, b" world"),
        data(Flags::FIN, 3, b"body before FIN"),
        credit(Flags::NONE, 1, 100).to_vec(),
        credit(Flags::SYN.with(Flags::FIN), 5, 0).to_vec(),
        data(Flags::NONE, 5, b"after FIN"),
        data(Flags::RST, 1, b"skipped"),
        data(Flags::NONE, 1, b"late"),
        header(Kind::GoAway, Flags::NONE, 0, 0).to_vec(),
        ping(2).to_vec(),
    ]
    .concat();
    let outcome = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut lone = server();
        let mut slots = Vec::new();
        for piece in pieces {
            lone.feed(piece);
            slots.extend(std::iter::from_fn(|| lone.core.accept()));
        }
        let mut reads = Vec::new();
        for slot in &slots {
            let mut bytes = Vec::new();
            let end = loop {
                match lone.core.read_chunk(*slot, usize::MAX) {
                    Ok(Read::Data(chunk)) => bytes.extend_from_slice(&chunk),
                    other => break other,
                }
            };
            reads.push((bytes, end));
        }
        // ACKs and the order of what is owed depend on when it was accepted.
        let pongs = lone.drain().iter().filter(|h| h.kind == Kind::Ping).count();
        (reads, pongs, lone.core.ended(), lone.core.stats().bytes_received)
    };
    // Accepted at once, so that the early reset of stream 1 finds it accepted.
    let head = ping(1).len() + 12;
    let whole = outcome(&mut [&script[..head], &script[head..]].into_iter());
    assert_eq!(whole.0[0].0, b"hello world");
    assert_eq!(whole.0[1], (b"body before FIN".to_vec(), Ok(Read::End)));
    for at in head..script.len() {
        let (one, two) = script.split_at(at);
        let split = outcome(&mut [&one[..head], &one[head..], two].into_iter());
        assert_eq!(split, whole, "split at {at}");
    }
    for size in 1..20 {
        assert_eq!(outcome(&mut script.chunks(size)), whole, "in pieces of {size}");
    }
}

/// spec.md §7.2, §8.4.2: a frame that never completes holds nothing but its stream.
#[test]
fn a_dribbled_frame_ends_with_the_connection() {
    let _turn = beside();
    let (mut lone, slot) = serving();
    lone.feed(&data(Flags::NONE, 1, b"whole"));
    lone.feed(&header(Kind::Data, Flags::NONE, 1, 100)[..7]);
    lone.core.handle_eof(lone.now);
    assert_eq!(lone.core.ended(), Some(Err(SessionError::ConnectionLost)));
    let mut buffer = [0; 9];
    assert_eq!(lone.core.read(slot, &mut buffer), Ok(Read::Data(5)));
    let lost = StreamError::Session(SessionError::ConnectionLost);
    assert_eq!(lone.core.read(slot, &mut buffer), Err(lost));
}

/// spec.md §6.12: lengths are `usize` until they are framed.
#[test]
#[cfg(target_pointer_width = "64")]
fn writes_beyond_four_gibibytes_make_progress() {
    let _turn = alone();
    // Zeroed pages that nobody touches cost no memory.
    let huge = vec![0; (1 << 32) + (1 << 20)];
    for len in [1 << 32, (1 << 32) + 5, huge.len()] {
        let (mut lone, slot) = calling();
        let written = lone.core.write(slot, &huge[..len]);
        assert_eq!(written, Ok(Written::Bytes(64 << 10)));
        let frames = lone.drain();
        assert!(frames.iter().all(|h| h.length <= 64 << 10), "{frames:?}");
    }
    let mut chunk = Bytes::from(huge);
    let len = chunk.len();
    let (mut lone, slot) = calling();
    let Ok(Written::Bytes(taken)) = lone.core.write_chunk(slot, &mut chunk) else { panic!() };
    assert!(taken > 0 && taken <= WINDOW as usize);
    assert_eq!(chunk.len(), len - taken);
}

// Ids

/// Opens streams at `stride` and sends to each; the time that took.
fn strided(count: u32, stride: u32, rounds: u32) -> Duration {
    let config = Config::builder()
        .accept_backlog(count as usize)
        .max_streams(count as usize)
        .build()
        .unwrap();
    let mut lone = Lone::new(Role::Server, &config);
    let ids: Vec<u32> = (0..count).map(|i| 1 + i.wrapping_mul(stride)).collect();
    let wire = |frame: &dyn Fn(u32) -> Vec<u8>| -> Bytes {
        ids.iter().flat_map(|id| frame(*id)).collect::<Vec<u8>>().into()
    };
    let syns = wire(&|id| credit(Flags::SYN, id, 0).to_vec());
    let bodies = wire(&|id| data(Flags::NONE, id, &id.to_be_bytes()));
    let start = Instant::now();
    lone.core.handle_input(&syns, lone.now);
    for _ in 0..rounds {
        lone.core.handle_input(&bodies, lone.now);
    }
    let took = start.elapsed();
    assert_eq!(lone.core.stats().inbound_streams, count as usize);
    for id in ids {
        let slot = lone.core.accept().unwrap();
        assert_eq!(lone.core.id(slot), Some(StreamId(id)));
        let mut buffer = vec![0; 4 * rounds as usize];
        assert_eq!(lone.core.read(slot, &mut buffer), Ok(Read::Data(buffer.len())));
        assert!(buffer.chunks(4).all(|word| word == id.to_be_bytes()));
        assert_eq!(lone.core.read(slot, &mut buffer), Ok(Read::Blocked));
    }
    took
}

/// spec.md §9.3.2.
#[test]
fn ids_at_any_stride_find_their_streams() {
    let _turn = alone();
    let count = if thorough() { 16_384 } else { 2_048 };
    let best = |stride| (0..3).map(|_| strided(count, stride, 20)).min().unwrap();
    let dense = best(2);
    let mut worst = (0.0, 0);
    for stride in (1..=18).map(|bit| 1 << bit).chain([6, 10, 510, 65_534, 131_074, 262_142]) {
        let ratio = best(stride).as_secs_f64() / dense.as_secs_f64();
        if ratio > worst.0 {
            worst = (ratio, stride);
        }
    }
    println!("{count} streams: stride {} costs {:.2} times the dense ids", worst.1, worst.0);
    if thorough() {
        assert!(worst.0 <= 3.0, "{worst:?}");
    }
}

// Strange but legal

/// spec.md §4.7.6: every end wakes every waiter, and is final.
#[test]
fn every_end_wakes_readers_writers_and_flushers() {
    let _turn = beside();
    type End = (&'static str, fn(&mut Lone, Slot), bool);
    let ends: [End; 8] = [
        ("FIN", |lone, _| lone.feed(&credit(Flags::FIN, 1, 0)), true),
        ("FIN with data", |lone, _| lone.feed(&data(Flags::FIN, 1, b"x")), true),
        ("RST", |lone, _| lone.feed(&credit(Flags::RST, 1, 9)), false),
        ("GoAway", |lone, _| lone.feed(&header(Kind::GoAway, Flags::NONE, 0, 1)), false),
        ("violation", |lone, _| lone.feed(&[9; 12]), false),
        ("end of file", |lone, _| lone.core.handle_eof(lone.now), false),
        ("abort", |lone, _| lone.core.abort(GoAwayCode::INTERNAL_ERROR, lone.now), false),
        ("local reset", |lone, slot| lone.core.reset(slot, ResetCode(7)), false),
    ];
    for (name, end, reader_only) in ends {
        let (mut lone, slot) = calling();
        let zeros = vec![0; WINDOW as usize];
        while let Ok(Written::Bytes(_)) = lone.core.write(slot, &zeros) {
            lone.drain();
        }
        lone.block();
        assert_eq!(lone.core.read(slot, &mut [0]), Ok(Read::Blocked));
        lone.events();
        end(&mut lone, slot);
        let events = lone.events();
        let readable = events.iter().filter(|e| **e == Event::Readable(slot)).count();
        let writable = events.iter().filter(|e| **e == Event::Writable(slot)).count();
        assert_eq!((readable, writable), (1, usize::from(!reader_only)), "{name}: {events:?}");
        let first = lone.core.read(slot, &mut [0; 9]);
        let second = lone.core.read(slot, &mut [0; 9]);
        assert!(first != Ok(Read::Blocked) && second != Ok(Read::Blocked), "{name}");
        assert_eq!(lone.core.read(slot, &mut [0; 9]), second, "{name}: the same for ever");
        assert!(lone.events().is_empty(), "{name}: nobody waits any more");
    }
}

/// spec.md §4.4.3: the permit belongs to the stream, and is released once.
#[test]
fn permits_of_the_ack_backlog_are_never_lost_nor_doubled() {
    let _turn = beside();
    let config = Config::builder().ack_backlog(4).max_early_resets(1_000_000).build().unwrap();
    let mut lone = Lone::new(Role::Client, &config);
    let mut rng = Rng(8);
    for _ in 0..scaled(20_000) {
        let mut slots = Vec::new();
        while let Ok(slot) = lone.core.open() {
            slots.push(slot);
        }
        assert_eq!(slots.len(), 4, "all places are free again");
        assert_eq!(lone.core.open(), Err(TryOpenError::AckBacklogFull));
        if rng.below(5) > 0 {
            lone.drain();
        }
        lone.events();
        for slot in slots {
            let id = lone.core.id(slot).map_or(0, |id| id.0);
            match rng.below(6) {
                _ if id == 0 => {}
                0 => lone.feed(&credit(Flags::ACK, id, 0)),
                1 => lone.feed(&credit(Flags::RST, id, 0)),
                2 => lone.feed(&credit(Flags::FIN, id, 0)),
                3 => lone.feed(&data(Flags::NONE, id, b"x")),
                4 => {
                    // Twice is once.
                    lone.feed(&credit(Flags::ACK, id, 0));
                    lone.feed(&credit(Flags::ACK, id, 0));
                }
                _ => {}
            }
            if rng.below(2) == 0 {
                lone.core.finish(slot).ok();
                lone.core.reset(slot, ResetCode(3));
            }
            lone.core.release(slot, Half::Both);
        }
        lone.drain();
        assert_eq!(lone.core.stats().ack_backlog, 0);
        assert!(lone.events().contains(&Event::Openable), "who was refused is told");
        assert_eq!(violation(&lone), None);
    }
    assert_eq!(lone.core.live_streams(), 0);
}

/// spec.md §4.4.2, §4.4.4: a limit delays an open, and ends nothing.
#[test]
fn limits_on_streams_delay_opens_and_end_nothing() {
    let _turn = beside();
    let config = Config::builder().ack_backlog(2).max_outbound_streams(3).build().unwrap();
    let mut lone = Lone::new(Role::Client, &config);
    let open = |lone: &mut Lone| lone.core.open();
    let first = open(&mut lone).unwrap();
    open(&mut lone).unwrap();
    assert_eq!(open(&mut lone), Err(TryOpenError::AckBacklogFull));
    lone.drain();
    lone.events();
    lone.feed(&[credit(Flags::ACK, 1, 0), credit(Flags::ACK, 3, 0)].concat());
    assert_eq!(lone.events(), [Event::Openable], "told once");
    open(&mut lone).unwrap();
    assert_eq!(open(&mut lone), Err(TryOpenError::TooManyStreams));
    lone.drain();
    lone.feed(&credit(Flags::RST, 1, 0));
    lone.core.release(first, Half::Both);
    assert_eq!(lone.events(), [Event::Openable]);
    open(&mut lone).unwrap();
    assert_eq!(lone.core.ended(), None);
}

/// spec.md §3.2.1, §3.2.4, §4.3.4, §12.4, §12.9, §12.10.
#[test]
fn credit_counts_whenever_it_comes_and_any_frame_acknowledges() {
    let _turn = beside();
    type First = fn() -> Vec<u8>;
    let firsts: [First; 7] = [
        || credit(Flags::ACK, 1, 0).to_vec(),
        || data(Flags::ACK, 1, b"yo"),
        || data(Flags::NONE, 1, b"yo"),
        || credit(Flags::NONE, 1, 262_146).to_vec(),
        || credit(Flags::FIN, 1, 0).to_vec(),
        || credit(Flags::ACK.with(Flags::FIN), 1, 0).to_vec(),
        || header(Kind::Data, Flags::FIN, 1, 0).to_vec(),
    ];
    for first in firsts {
        let (mut lone, slot) = calling();
        lone.feed(&first());
        assert_eq!(lone.core.stats().ack_backlog, 0, "{:?}", first());
        let granted = if first()[8..12] == 262_146_u32.to_be_bytes() { 262_146 } else { 0 };
        let mut sent = 0;
        let zeros = vec![0; 50_000];
        let mut write_all = |lone: &mut Lone| {
            while let Ok(Written::Bytes(taken)) = lone.core.write(slot, &zeros) {
                sent += taken;
                lone.drain();
            }
            sent
        };
        assert_eq!(write_all(&mut lone), WINDOW as usize + granted);
        // After the peer's FIN too.
        lone.feed(&credit(Flags::FIN, 1, 0));
        lone.feed(&credit(Flags::NONE, 1, 1_000));
        assert!(lone.events().contains(&Event::Writable(slot)));
        assert_eq!(write_all(&mut lone), WINDOW as usize + granted + 1_000);
    }
}

/// spec.md §8.5.3, §4.7.6: the end is final, and costs nothing.
#[test]
fn after_the_end_nothing_happens_any_more() {
    let _turn = beside();
    let (mut lone, slot) = serving();
    lone.core.handle_failure(SessionError::Io(std::io::ErrorKind::BrokenPipe), lone.now);
    lone.events();
    let now = lone.now;
    for _ in 0..3 {
        assert_eq!(lone.core.poll_timeout(), None);
        assert!(lone.drain().is_empty() && !lone.core.has_output());
        lone.feed(&ping(1));
        lone.core.handle_timeout(now + Duration::from_secs(1_000));
        lone.core.handle_eof(now);
        lone.core.abort(GoAwayCode::NORMAL, now);
        lone.core.close(now);
        assert!(lone.core.accept().is_none() && lone.core.accepts_no_more());
        assert!(lone.core.write(slot, b"x").is_err() && lone.core.ping(now).is_err());
        let outcome = lone.core.outcome();
        assert_eq!(outcome, Some(Err(SessionError::Io(std::io::ErrorKind::BrokenPipe))));
        assert_eq!(lone.events(), []);
    }
}
