//! Peers that send too much of what costs them nothing: how far that gets them.
#![allow(clippy::unwrap_used)]

#[path = "support/attacks.rs"]
mod attacks;
#[path = "support/heap.rs"]
mod heap;
#[path = "support/sim.rs"]
mod sim;

use std::time::Duration;

use attacks::{
    KIB, credit, data, fed_until_end, header, measured_until_end, ping, says_protocol_error,
    server, serving, violation,
};
use heap::{alone, beside, in_use};
use sim::count;
use trunkline::{
    Flood, Violation,
    frame::{Flags, Kind},
    proto::Half,
};

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
    let equal = count(1_000_000) as usize;
    let (sent, rule, held) = measured_until_end(&mut lone, equal, |_| ping(9).to_vec());
    assert_eq!((sent, rule), (equal, None));
    println!("{equal} equal pings, unread: memory {held} bytes");
    assert!(held < 16 * KIB, "{held}");
    lone.drain();
    for round in 0..count(2_000) as u32 {
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
        for i in 0..count(200_000) as usize {
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
    for i in 0..count(100_000) as u32 {
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
    let opens = count(2_000_000) as usize;
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
