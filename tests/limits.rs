//! Limits and ends, whatever the peer does: nobody waits for ever, and no place is lost.
#![allow(clippy::unwrap_used)]

#[path = "support/attacks.rs"]
mod attacks;
#[path = "support/heap.rs"]
mod heap;
#[path = "support/sim.rs"]
mod sim;

use attacks::{WINDOW, calling, credit, data, header, violation};
use heap::beside;
use sim::{Lone, Random, count};
use trunkline::{
    Config, GoAwayCode, ResetCode, Role, TryOpenError,
    frame::{Flags, Kind},
    proto::{Event, Half, Read, Slot, Written},
};

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
    let mut rng = Random(8);
    for _ in 0..count(20_000) {
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
