//! Bodies that go from the IO to their reader, past the buffers.

use std::time::Duration;

use quickcheck::quickcheck;

use super::wire::{FIN, NONE, Tail, Wire, data, drain, encode, update};
use crate::{
    ResetCode, Role,
    proto::{Event, Half, LEAST_DIRECT, Read, Slot},
};

/// A server with a stream whose reader waits with room for much.
fn waiting() -> (Wire, Slot) {
    let mut wire = Wire::client();
    let slot = wire.established();
    assert_eq!(drain(&mut wire.core, slot), (vec![], Tail::Blocked));
    wire.events();
    (wire, slot)
}

/// Takes `bytes` from the IO as a shell does that reads directly wherever it may.
fn take_directly(wire: &mut Wire, slot: Slot, bytes: &[u8]) -> Vec<u8> {
    if wire.core.direct_reader() != Some(slot) {
        wire.feed_bytes(bytes.to_vec());
        return drain(&mut wire.core, slot).0;
    }
    let (body, rest) = bytes.split_at(bytes.len().min(wire.core.body_left()));
    assert!(wire.core.handle_direct(slot, body.len(), wire.now));
    let mut taken = body.to_vec();
    if !rest.is_empty() {
        taken.extend(take_directly(wire, slot, rest));
    }
    taken
}

quickcheck! {
    /// Credit, counters, FIN and what is read are the same whether a body was copied or not.
    fn what_is_read_directly_counts_as_what_was_copied(
        bodies: Vec<u16>,
        pieces: Vec<u16>,
        fin: bool
    ) -> bool {
        let (mut copies, slot) = waiting();
        let (mut direct, same) = waiting();
        assert_eq!(slot, same);
        let mut bytes = Vec::new();
        for (n, len) in bodies.iter().take(6).enumerate() {
            // So large, and pieces no larger: the window is never exceeded.
            let body = vec![n as u8; usize::from(*len)];
            bytes.extend(encode(&[data(1, NONE, body)]));
        }
        bytes.extend(encode(&[data(1, if fin { FIN } else { NONE }, [7; 100])]));
        let mut pieces = pieces.iter().map(|len| 1 + usize::from(*len)).cycle();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(pieces.next().unwrap_or(5_000).min(rest.len()));
            rest = later;
            copies.feed_bytes(piece.to_vec());
            let copied = drain(&mut copies.core, slot).0;
            if take_directly(&mut direct, slot, piece) != copied {
                return false;
            }
            let seen = |wire: &mut Wire| {
                (wire.sent(), wire.core.receive_window(slot), format!("{:?}", wire.core.stats()))
            };
            if seen(&mut copies) != seen(&mut direct) {
                return false;
            }
        }
        drain(&mut copies.core, slot) == drain(&mut direct.core, slot)
    }
}

#[test]
fn only_a_large_body_of_a_reader_with_room_is_read_directly() {
    let (mut wire, slot) = waiting();
    assert_eq!(wire.core.direct_reader(), None, "nothing is on its way");
    let frame = encode(&[data(1, NONE, [3; LEAST_DIRECT + 1])]);
    wire.feed_bytes(frame[..13].to_vec());
    assert_eq!(wire.core.direct_reader(), Some(slot));
    wire.feed_bytes(frame[13..14].to_vec());
    assert_eq!(wire.core.direct_reader(), None, "too little is left");

    let mut wire = Wire::client();
    let slot = wire.established();
    assert_eq!(wire.core.read(slot, &mut [0; LEAST_DIRECT - 1]), Ok(Read::Blocked));
    wire.feed_bytes(frame[..13].to_vec());
    assert_eq!(wire.core.direct_reader(), None, "its reader has little room");
    assert_eq!(drain(&mut wire.core, slot).0, [3]);
    assert_eq!(wire.core.direct_reader(), Some(slot));
    wire.core.forget_direct();
    assert_eq!(wire.core.direct_reader(), None, "it does not come");
    assert_eq!(drain(&mut wire.core, slot), (vec![], Tail::Blocked));
    assert_eq!(wire.core.direct_reader(), Some(slot), "it waits again");
    assert_eq!(wire.core.read_chunk(slot, usize::MAX), Ok(Read::Blocked));
    assert_eq!(wire.core.direct_reader(), None, "it waits for a chunk, which has no room");
    assert_eq!(drain(&mut wire.core, slot), (vec![], Tail::Blocked));
    assert_eq!(wire.core.direct_reader(), Some(slot));
    wire.core.release(slot, Half::Read);
    assert_eq!(wire.core.direct_reader(), None, "nobody reads it");
}

#[test]
fn bodies_of_streams_that_alternate_are_copied() {
    let (mut wire, slot) = waiting();
    let other = wire.established();
    assert_eq!(drain(&mut wire.core, other), (vec![], Tail::Blocked));
    let frames = [3, 1, 1].map(|id| encode(&[data(id, NONE, vec![5; 30_000])]));
    for (frame, direct) in frames.iter().zip([Some(other), None, Some(slot)]) {
        wire.feed_bytes(frame[..13].to_vec());
        assert_eq!(wire.core.direct_reader(), direct);
        wire.feed_bytes(frame[13..].to_vec());
        drain(&mut wire.core, slot);
        drain(&mut wire.core, other);
    }
}

#[test]
fn who_is_called_wakes_and_who_has_bytes_does_not_wait() {
    let (mut wire, slot) = waiting();
    let frame = encode(&[data(1, NONE, vec![3; 100_000])]);
    // No byte of the body has come yet.
    wire.feed_bytes(frame[..12].to_vec());
    assert_eq!(wire.events(), []);
    wire.core.call_direct();
    wire.core.call_direct();
    assert_eq!(wire.events(), [Event::Readable(slot)]);
    assert_eq!(drain(&mut wire.core, slot), (vec![], Tail::Blocked));
    assert!(wire.core.handle_direct(slot, 50_000, wire.now));
    wire.core.call_direct();
    assert_eq!(wire.events(), [], "nobody waits");
}

// spec.md §8.6: the stream ended while its reader had the IO.
#[test]
fn what_a_stream_that_ended_would_have_got_is_skipped() {
    let (mut wire, slot) = waiting();
    let frames = encode(&[data(1, NONE, vec![3; 100_000]), update(1, NONE, 5)]);
    wire.feed_bytes(frames[..12].to_vec());
    wire.core.reset(slot, ResetCode(9));
    assert!(!wire.core.handle_direct(slot, 60_000, wire.now));
    assert_eq!(wire.core.direct_reader(), None);
    wire.feed_bytes(frames[60_012..].to_vec());
    assert_eq!(wire.core.ended(), None, "the next header is where it should be");
    assert_eq!(wire.core.stats().frames_received, 3);
}

// spec.md §7.2.1: it is a sign of life, as any byte.
#[test]
fn a_direct_read_puts_off_the_keepalive() {
    let mut wire =
        Wire::new(Role::Client, |builder| builder.keepalive(Some(Duration::from_secs(30))));
    let slot = wire.established();
    drain(&mut wire.core, slot);
    let frame = encode(&[data(1, NONE, vec![3; 200_000])]);
    wire.feed_bytes(frame[..12].to_vec());
    for _ in 0..5 {
        wire.advance(Duration::from_secs(20));
        wire.expect(&[]);
        assert!(wire.core.handle_direct(slot, 20_000, wire.now));
    }
    wire.advance(Duration::from_secs(31));
    assert!(!wire.sent().is_empty(), "a ping");
}

// spec.md §4.5.4: a peer may send both in one frame.
#[test]
fn the_fin_of_a_body_that_is_read_directly_counts() {
    let (mut wire, slot) = waiting();
    let frame = encode(&[data(1, FIN, vec![3; 100_000])]);
    wire.feed_bytes(frame[..12].to_vec());
    assert!(wire.core.handle_direct(slot, 50_000, wire.now));
    assert_eq!(drain(&mut wire.core, slot), (vec![], Tail::Blocked));
    assert!(wire.core.handle_direct(slot, 50_000, wire.now));
    assert_eq!(drain(&mut wire.core, slot), (vec![], Tail::Eof));
}
