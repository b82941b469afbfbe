//! Peers that break a rule, or are merely strange: what they are told, and how it ends.
#![allow(clippy::unwrap_used)]

#[path = "support/attacks.rs"]
mod attacks;
#[path = "support/heap.rs"]
mod heap;
#[path = "support/sim.rs"]
mod sim;

use std::time::Duration;

use attacks::{KIB, WINDOW, calling, credit, data, header, ping, server, serving, violation};
use heap::{alone, beside, in_use};
use sim::{Random, count, thorough};
use trunkline::{
    GoAwayCode, ResetCode, SessionError, StreamError, Violation,
    frame::{Flags, Kind},
    proto::{Event, Half, Read},
};

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
    let mut rng = Random(5);
    let mut worst = 0;
    let rounds = count(20_000);
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
