//! From writers to the wire: frames, turns, and what may overtake.

use bytes::Bytes;

use super::{
    pair::{A, B, Pair, pattern},
    wire::{
        ACK, FIN, NONE, SYN, Tail, WINDOW, Wire, body_len, data, ping, take, update,
        write_until_blocked,
    },
};
use crate::{
    Role,
    frame::{Frame, StreamId},
    proto::{Batch, Event, Slot, Written},
};

// spec.md §3.1.1
#[test]
fn bodies_are_no_longer_than_max_frame() {
    let mut wire = Wire::new(Role::Client, |builder| builder.max_frame(1_024));
    let slot = wire.established();
    let frames = write_until_blocked(&mut wire, slot, &pattern(10_000));
    assert!(frames.iter().all(|frame| frame.header().body_len() <= 1_024));
    assert_eq!(body_len(&frames), 10_000);
    let mut chunk = Bytes::from(pattern(5_000));
    assert_eq!(wire.core.write_chunk(slot, &mut chunk), Ok(Written::Bytes(5_000)));
    let frames = wire.sent();
    assert!(frames.iter().all(|frame| frame.header().body_len() <= 1_024));
    assert_eq!(body_len(&frames), 5_000);
}

// spec.md §6.9: no sliver of a frame where a whole one has window.
#[test]
fn a_large_write_goes_out_in_whole_frames() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[update(1, NONE, WINDOW as u32)]);
    wire.core.handle_flushed(0, wire.now);
    let frames = write_until_blocked(&mut wire, slot, &pattern(2 * WINDOW));
    let lengths: Vec<_> = frames.iter().map(|frame| frame.header().body_len()).collect();
    assert!(lengths.iter().all(|length| length.is_multiple_of(16 << 10)), "{lengths:?}");
    assert_eq!(body_len(&frames), 2 * WINDOW);
}

// spec.md §3.1.2
#[test]
fn empty_data_carries_flags_and_nothing_else() {
    let mut wire = Wire::client();
    let slot = wire.open();
    wire.feed(&[data(1, ACK, ""), data(1, NONE, "")]);
    assert_eq!(wire.drain(slot), (Vec::new(), Tail::Blocked));
    wire.feed(&[data(1, FIN, "")]);
    assert_eq!(wire.drain(slot), (Vec::new(), Tail::Eof));
    wire.expect_alive();
}

// spec.md §6.3: credit and pongs overtake a bulk transfer.
#[test]
fn credit_and_pongs_overtake_data_of_other_streams() {
    let mut wire = Wire::client();
    let (bulk, slot) = (wire.established(), wire.open());
    wire.feed(&[data(3, NONE, vec![0; WINDOW])]);
    wire.write(bulk, b"bulk");
    assert_eq!(wire.drain(slot).0.len(), WINDOW);
    wire.feed(&[ping(SYN, 9)]);
    let sent = wire.sent();
    assert_eq!(sent.last(), Some(&data(1, NONE, "bulk")));
    assert_eq!(sent.len(), 3);
}

// spec.md §6.4: credit follows the SYN or ACK that is still staged.
#[test]
fn credit_does_not_overtake_its_own_ack() {
    let mut wire = Wire::server();
    wire.feed(&[data(1, SYN, vec![0; WINDOW])]);
    let slot = wire.accept();
    wire.write(slot, b"answer");
    assert_eq!(wire.drain(slot).0.len(), WINDOW);
    wire.expect(&[data(1, ACK, "answer"), update(1, NONE, WINDOW as u32)]);
}

// spec.md §6.8: reading goes on while nothing can be written, and what is owed is bounded.
#[test]
fn two_saturated_ends_do_not_deadlock() {
    let mut pair = Pair::new(|builder| builder);
    pair.split = 100;
    let (ours, theirs) = pair.stream(A);
    let bytes = pattern(3 * WINDOW);
    let (mut sent, mut got) = ([0; 2], [Vec::new(), Vec::new()]);
    let slots = [ours, theirs];
    while got.iter().any(|got| got.len() < bytes.len()) {
        let before = (sent, got[A].len(), got[B].len());
        for end in [A, B] {
            sent[end] += pair.write(end, slots[end], &bytes[sent[end]..]);
        }
        for end in [A, B] {
            let read = pair.drain(end, slots[end]).0;
            got[end].extend(read);
        }
        assert_ne!(before, (sent, got[A].len(), got[B].len()), "stuck");
    }
    assert!(got.iter().all(|got| *got == bytes));
}

// spec.md §6.9: a thousand writers, one bound, and every one gets its turn.
#[test]
fn a_thousand_writers_share_a_bounded_staging() {
    let limit = 256 << 10;
    let mut wire = Wire::new(Role::Client, |builder| {
        builder.ack_backlog(2_000).staging_limit(limit).max_frame(16 << 10)
    });
    let slots: Vec<_> = (0..1_000).map(|_| wire.core.open().unwrap()).collect();
    wire.sent();
    let mut left = vec![100_usize << 10; slots.len()];
    for at in 0..slots.len() {
        write_some(&mut wire, slots[at], &mut left[at]);
    }
    let mut rounds = 0;
    while left.iter().any(|left| *left > 0) {
        assert!(wire.core.staged() <= limit + (16 << 10) + 24, "{}", wire.core.staged());
        let mut batch = Batch::new();
        let number = wire.core.take_output(&mut batch, wire.now).unwrap();
        super::wire::empty(&mut batch, usize::MAX);
        wire.core.handle_flushed(number, wire.now);
        let mut woken = 0;
        while let Some(event) = wire.core.poll_event() {
            let Event::Writable(slot) = event else { continue };
            woken += 1;
            let at = slots.iter().position(|other| *other == slot).unwrap();
            write_some(&mut wire, slot, &mut left[at]);
        }
        assert!(woken > 0, "nobody gets a turn");
        rounds += 1;
        assert!(rounds < 10_000, "it takes too long");
        if rounds == 200 {
            let least = left.iter().max().unwrap();
            assert!(*least < 100 << 10, "some writer never had a turn");
        }
    }
}

// spec.md §6.9: no writer falls behind the others, however often the driver looks before those
// that it woke are there.
#[test]
fn writers_in_line_are_served_alike() {
    for looks in [1, 2, 3, 10] {
        let mut wire = Wire::client();
        let slots = [(); 100].map(|()| wire.established());
        for at in 0..slots.len() as u32 {
            wire.feed(&[update(2 * at + 1, NONE, 1 << 30)]);
        }
        let (mut sent, mut woken) = ([0; 100], Vec::from(slots));
        for _ in 0..500 {
            for slot in woken.drain(..) {
                let at = slots.iter().position(|other| *other == slot).unwrap();
                while let Written::Bytes(len) = wire.core.write(slot, &[0; FRAME]).unwrap() {
                    sent[at] += len;
                }
            }
            for _ in 0..looks {
                take(&mut wire.core, usize::MAX, wire.now);
            }
            woken.extend(wire.events().into_iter().filter_map(|event| match event {
                Event::Writable(slot) => Some(slot),
                _ => None,
            }));
        }
        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        // The first, who met no line, filled a batch alone.
        assert!(most - least <= 4 * FRAME, "{looks} looks: {least} to {most} bytes");
    }
}

const FRAME: usize = 64 << 10;

fn write_some(wire: &mut Wire, slot: Slot, left: &mut usize) {
    let bytes = [0; 16 << 10];
    while *left > 0 {
        match wire.core.write(slot, &bytes[..bytes.len().min(*left)]).unwrap() {
            Written::Bytes(len) => *left -= len,
            Written::Blocked => return,
        }
    }
}

// spec.md §6.9: one writer alone fills one frame, copied or not, up to the longest.
#[test]
fn writes_of_one_stream_extend_one_frame() {
    for (max_frame, most) in [(256 << 10, 1), (20_000, 4)] {
        let mut wire = Wire::new(Role::Client, |builder| builder.max_frame(max_frame));
        let slot = wire.established();
        let bytes = pattern(60_000);
        let mut rest = &bytes[..];
        for (n, len) in [1, 5_000, 3, 20_000, 2_000, 2_048, 15_000, 100].into_iter().enumerate() {
            let (piece, later) = rest.split_at(len);
            rest = later;
            if n % 2 == 0 {
                assert_eq!(wire.core.write(slot, piece), Ok(Written::Bytes(len)));
            } else {
                let mut chunk = Bytes::copy_from_slice(piece);
                assert_eq!(wire.core.write_chunk(slot, &mut chunk), Ok(Written::Bytes(len)));
            }
        }
        let bodies: Vec<_> = wire
            .sent()
            .into_iter()
            .map(|frame| match frame {
                Frame::Data { stream: StreamId(1), flags: NONE, body } => body,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(bodies.concat() == bytes[..bytes.len() - rest.len()]);
        assert!(bodies.iter().all(|body| body.len() <= max_frame as usize));
        assert!(bodies.len() <= most, "{} frames", bodies.len());
    }
}

// spec.md §6.9: a turn that is not used lapses.
#[test]
fn a_turn_not_used_lapses() {
    let mut wire = Wire::client();
    let slots = [(); 3].map(|()| wire.core.open().unwrap());
    wire.sent();
    while wire.core.write(slots[0], &[0; 60_000]).unwrap() != Written::Blocked {}
    assert_eq!(wire.core.write(slots[1], &[0; 9_000]), Ok(Written::Blocked));
    assert_eq!(wire.core.write(slots[2], &[0; 9_000]), Ok(Written::Blocked));
    // Only the last one writes when it is woken; the others say nothing more.
    for _ in 0..10 {
        wire.sent();
        if wire.events().contains(&Event::Writable(slots[2])) {
            assert_eq!(wire.core.write(slots[2], &[0; 9_000]), Ok(Written::Bytes(9_000)));
            return;
        }
    }
    panic!("a silent stream keeps another from its turn");
}

// spec.md §6.3: a message beside a bulk transfer does not wait for what is staged.
#[test]
fn a_small_write_overtakes_a_bulk_transfer() {
    let mut wire = Wire::client();
    let (bulk, small) = (wire.established(), wire.established());
    while wire.core.write(bulk, &[0; 60_000]).unwrap() != Written::Blocked {}
    wire.write(small, b"first");
    // What follows does not overtake its own stream.
    assert_eq!(wire.core.write(small, b"second"), Ok(Written::Blocked));
    wire.core.finish(small).unwrap();
    let sent = wire.sent();
    assert_eq!(sent[0], data(3, NONE, "first"));
    assert!(matches!(&sent[1], Frame::Data { stream: StreamId(1), .. }));
    assert_eq!(sent.last(), Some(&update(3, FIN, 0)));
    assert_eq!(sent.iter().filter(|frame| matches!(frame, Frame::Data { .. })).count(), 2);
}

// spec.md §6.3, §6.9: but no number of them keeps a bulk transfer from its turn.
#[test]
fn small_writes_overtake_only_so_many_bytes() {
    let mut wire = Wire::new(Role::Client, |builder| builder.ack_backlog(100));
    let bulk = wire.established();
    let small: Vec<_> = (0..40).map(|_| wire.established()).collect();
    // So many in every batch.
    for _ in 0..2 {
        while wire.core.write(bulk, &[0; 60_000]).unwrap() != Written::Blocked {}
        let most = wire.core.batches.limit() / 16 / 512;
        let taken = |&&slot: &&Slot| wire.core.write(slot, &[1; 500]).unwrap() != Written::Blocked;
        assert_eq!(small.iter().filter(taken).count(), most);
        let large = wire.core.write(small[39], &[1; 2_000]);
        assert_eq!(large, Ok(Written::Blocked), "it is not small");
        wire.sent();
    }
}

// spec.md §6.1: ids go in order.
#[test]
fn the_first_frame_of_a_stream_overtakes_nothing() {
    let mut wire = Wire::client();
    let bulk = wire.established();
    wire.write(bulk, &[0; 40_000]);
    let (one, two) = (wire.core.open().unwrap(), wire.core.open().unwrap());
    wire.write(one, &[0; 2_000]);
    wire.write(two, b"x");
    let opened: Vec<_> = wire
        .sent()
        .into_iter()
        .filter_map(|frame| match frame {
            Frame::Data { stream, flags, .. } if flags.contains(SYN) => Some(stream.0),
            _ => None,
        })
        .collect();
    assert_eq!(opened, [3, 5]);
}

// spec.md §6.11
#[test]
fn a_blocked_write_has_put_nothing_on_the_wire() {
    let mut wire = Wire::client();
    let slot = wire.established();
    write_until_blocked(&mut wire, slot, &vec![0; WINDOW]);
    let mut chunk = Bytes::from_static(b"kept by the caller");
    assert_eq!(wire.core.write_chunk(slot, &mut chunk), Ok(Written::Blocked));
    assert_eq!(chunk, "kept by the caller");
    wire.expect(&[]);
    wire.feed(&[update(1, NONE, 4)]);
    assert_eq!(wire.core.write_chunk(slot, &mut chunk), Ok(Written::Bytes(4)));
    assert_eq!(chunk, " by the caller");
    wire.expect(&[data(1, NONE, "kept")]);
}

// spec.md §3.1.3, §6.1: copied and spliced bodies keep their order.
#[test]
fn writes_of_every_kind_keep_their_order() {
    let mut wire = Wire::client();
    let slot = wire.established();
    let bytes = pattern(60_000);
    let cuts = [0, 10, 5_010, 5_011, 30_000, 30_100, 60_000];
    for (n, cut) in cuts.windows(2).enumerate() {
        let part = &bytes[cut[0]..cut[1]];
        if n % 2 == 0 {
            wire.write(slot, part);
        } else {
            let mut chunk = Bytes::copy_from_slice(part);
            wire.core.write_chunk(slot, &mut chunk).unwrap();
            assert!(chunk.is_empty());
        }
    }
    for step in [usize::MAX, 7, 1] {
        // The same batch, taken in steps.
        if step == usize::MAX {
            let frames = wire.sent();
            let body: Vec<u8> =
                frames.iter().flat_map(|frame| frame.to_bytes().split_off(12)).collect();
            assert_eq!(body, bytes);
            continue;
        }
        let mut chunk = Bytes::from(bytes[..5_000].to_vec());
        wire.write(slot, b"ahead");
        wire.core.write_chunk(slot, &mut chunk).unwrap();
        wire.feed(&[ping(SYN, 1)]);
        let batch = take(&mut wire.core, step, wire.now).unwrap();
        let frames = super::wire::parse(&batch);
        assert_eq!(frames[0], ping(ACK, 1));
        assert_eq!(body_len(&frames), 5_005);
    }
}

// spec.md §3.1.3, §6.7: what one stream writes in a row becomes one frame.
#[test]
fn small_writes_in_a_row_share_a_frame() {
    let mut wire = Wire::client();
    let (first, second) = (wire.core.open().unwrap(), wire.core.open().unwrap());
    wire.write(first, b"a");
    wire.write(first, b"b");
    wire.write(second, b"c");
    wire.write(first, b"d");
    wire.expect(&[data(1, SYN, "ab"), data(3, SYN, "c"), data(1, NONE, "d")]);
}

// spec.md §6.9: staging holds less while the IO is slow, and more again when it is fast.
#[test]
fn staging_follows_the_speed_of_the_io() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[update(1, NONE, 1 << 30)]);
    let mut fill = |millis: u64| {
        while wire.core.write(slot, &[0; 4_096]).unwrap() != Written::Blocked {}
        let staged = wire.core.staged();
        let mut batch = Batch::new();
        let number = wire.core.take_output(&mut batch, wire.now).unwrap();
        super::wire::empty(&mut batch, usize::MAX);
        wire.millis(millis);
        wire.core.handle_flushed(number, wire.now);
        wire.sent();
        staged
    };
    let fast: Vec<_> = (0..5).map(|_| fill(1)).collect();
    assert!(fast[4] >= 256 << 10 && fast[4] <= (256 << 10) + 4_096 + 12, "{fast:?}");
    assert!(fast.windows(2).all(|pair| pair[0] <= pair[1]), "{fast:?}");
    let slow: Vec<_> = (0..8).map(|_| fill(100)).collect();
    assert!(slow[1] > slow[0] / 3 && slow[1] < slow[0] * 2 / 3, "{slow:?}");
    assert!(slow[7] >= 16 << 10 && slow[7] <= (16 << 10) + 4_096 + 12, "{slow:?}");
    let again: Vec<_> = (0..8).map(|_| fill(1)).collect();
    assert_eq!(again[7], fast[4]);
}
