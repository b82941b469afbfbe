//! Windows, credit, staging and turns.

use bytes::Bytes;

use super::{
    pair::{A, B, Pair, pattern},
    wire::{ACK, FIN, NONE, RST, SYN, Tail, WINDOW, Wire, data, ping, update},
};
use crate::{
    Role, StreamError, Violation,
    frame::{Frame, StreamId},
    proto::{Batch, Event, Half, Read, Slot, Written},
};

/// The bytes of all Data frames among `frames`.
fn body_len(frames: &[Frame]) -> usize {
    frames
        .iter()
        .map(|frame| match frame {
            Frame::Data { body, .. } => body.len(),
            _ => 0,
        })
        .sum()
}

/// Writes and sends until the stream blocks for good; what went over the wire.
fn write_until_blocked(wire: &mut Wire, slot: Slot, bytes: &[u8]) -> Vec<Frame> {
    let (mut at, mut frames) = (0, Vec::new());
    while at < bytes.len() {
        match wire.core.write(slot, &bytes[at..]).unwrap() {
            Written::Bytes(len) => at += len,
            Written::Blocked => {
                let sent = wire.sent();
                if sent.is_empty() {
                    return frames;
                }
                frames.extend(sent);
            }
        }
    }
    frames.extend(wire.sent());
    frames
}

// spec.md §5.2.1: of 262,145 bytes exactly 262,144 go out.
#[test]
fn a_writer_stops_exactly_at_the_window() {
    let mut wire = Wire::client();
    let slot = wire.established();
    let frames = write_until_blocked(&mut wire, slot, &vec![1; WINDOW + 1]);
    assert_eq!(body_len(&frames), WINDOW);
    wire.events();
    wire.feed(&[update(1, NONE, 1)]);
    assert_eq!(wire.events(), [Event::Writable(slot)]);
    assert_eq!(wire.core.write(slot, &[1, 2]), Ok(Written::Bytes(1)));
    wire.expect(&[data(1, NONE, [1])]);
}

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

// spec.md §5.2.2, §5.3.3: a stalled stream disturbs no other.
#[test]
fn a_stalled_stream_holds_back_only_itself() {
    let mut pair = Pair::new(|builder| builder);
    let (stalled, unread) = pair.stream(A);
    let (ours, theirs) = pair.stream(A);
    assert_eq!(pair.write(A, stalled, &pattern(2 * WINDOW)), WINDOW);
    let bytes = pattern(3 * WINDOW);
    assert_eq!(pair.carry(A, ours, &bytes, theirs), bytes);
    let kept = pair.drain(B, unread);
    assert_eq!(kept, (pattern(2 * WINDOW)[..WINDOW].to_vec(), Tail::Blocked));
}

// spec.md §5.3.1, §5.3.2: credit at half the window, and all of it.
#[test]
fn credit_is_granted_at_half_the_window() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[data(1, NONE, vec![0; 200_000])]);
    let mut buffer = vec![0; WINDOW / 2 - 1];
    assert_eq!(wire.core.read(slot, &mut buffer), Ok(Read::Data(WINDOW / 2 - 1)));
    wire.expect(&[]);
    assert_eq!(wire.core.read(slot, &mut buffer[..1]), Ok(Read::Data(1)));
    wire.expect(&[update(1, NONE, (WINDOW / 2) as u32)]);
    // Unread bytes are not granted again.
    let (credit, limit) = wire.core.receive_window(slot);
    assert_eq!(limit as usize, WINDOW);
    assert_eq!(credit as usize, WINDOW - 200_000 + WINDOW / 2);
}

// spec.md §5.3.2: what is owed goes with an ACK that is sent anyway.
#[test]
fn credit_rides_on_an_ack() {
    let mut wire = Wire::server();
    wire.feed(&[data(1, SYN, vec![0; 1_000])]);
    let slot = wire.accept();
    assert_eq!(wire.drain(slot).0.len(), 1_000);
    wire.expect(&[]);
    wire.millis(5);
    wire.expect(&[update(1, ACK, 1_000)]);
}

// spec.md §5.3.4
#[test]
fn no_credit_after_fin_or_reset() {
    for frame in [update(1, FIN, 0), update(1, RST, 0)] {
        let mut wire = Wire::client();
        let slot = wire.established();
        wire.feed(&[data(1, NONE, vec![0; WINDOW]), frame]);
        assert_eq!(wire.drain(slot).0.len(), WINDOW);
        wire.expect(&[]);
    }
}

// spec.md §5.3.4, §4.5.9: credit that was owed when the read half was dropped.
#[test]
fn a_dropped_read_half_forfeits_owed_credit() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[data(1, NONE, vec![0; WINDOW])]);
    let mut buffer = vec![0; WINDOW / 2];
    assert_eq!(wire.core.read(slot, &mut buffer), Ok(Read::Data(WINDOW / 2)));
    wire.core.release(slot, Half::Read);
    wire.expect(&[]);
}

// spec.md §5.4.1: found at the header, before a byte of the body is stored.
#[test]
fn a_body_beyond_the_window_is_refused_at_its_header() {
    let mut wire = Wire::server();
    let slot = wire.inbound(1);
    wire.feed(&[data(1, NONE, vec![0; WINDOW])]);
    assert_eq!(wire.core.ended(), None, "exactly the window is fine");
    wire.feed(&[data(1, NONE, "x")]);
    assert_eq!(wire.core.stats().buffered, WINDOW);
    wire.expect_violation(Violation::WindowExceeded);
    // spec.md §8.6.1: what came before is read first.
    assert_eq!(wire.drain(slot).0.len(), WINDOW);
    assert!(matches!(wire.drain(slot).1, Tail::Error(StreamError::Session(_))));
}

// spec.md §3.2.1, §3.2.2, §12.9
#[test]
fn credit_adds_up_and_never_wraps() {
    let mut wire = Wire::client();
    let slot = wire.established();
    for _ in 0..3 {
        wire.feed(&[update(1, NONE, 262_146)]);
    }
    assert_eq!(wire.core.streams[slot].send.available(), WINDOW + 3 * 262_146);
    let room = u32::MAX - (WINDOW + 3 * 262_146) as u32;
    wire.feed(&[update(1, NONE, room)]);
    assert_eq!(wire.core.streams[slot].send.available(), u32::MAX as usize);
    wire.expect_alive();
    wire.feed(&[update(1, NONE, 1)]);
    wire.expect_violation(Violation::WindowOverflow);
}

// spec.md §3.2.2: credit that comes with ACK is on top of the initial window.
#[test]
fn credit_with_ack_may_overflow_too() {
    let mut wire = Wire::client();
    wire.open();
    wire.feed(&[update(1, ACK, u32::MAX - 262_143)]);
    wire.expect_violation(Violation::WindowOverflow);
}

// spec.md §3.2.4, §12.10: its sender finished writing, not reading.
#[test]
fn credit_counts_after_fin() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[update(1, FIN, 0)]);
    let frames = write_until_blocked(&mut wire, slot, &vec![0; WINDOW + 10]);
    assert_eq!(body_len(&frames), WINDOW);
    wire.feed(&[update(1, NONE, 10)]);
    assert_eq!(wire.core.write(slot, &[0; 20]), Ok(Written::Bytes(10)));
}

// spec.md §5.1.3, §5.3.3
#[test]
fn two_mebibytes_fit_unread_into_a_window_of_two_mebibytes() {
    let mut pair = Pair::new(|builder| builder.max_stream_window(2 << 20).stream_window(2 << 20));
    for end in [A, B] {
        let (ours, theirs) = pair.stream(end);
        for (from, slot, to, other) in [(end, ours, 1 - end, theirs), (1 - end, theirs, end, ours)]
        {
            let bytes = pattern((2 << 20) + 1);
            assert_eq!(pair.write(from, slot, &bytes), 2 << 20);
            assert_eq!(pair.drain(to, other).0, bytes[..2 << 20]);
        }
    }
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

fn write_some(wire: &mut Wire, slot: Slot, left: &mut usize) {
    let bytes = [0; 16 << 10];
    while *left > 0 {
        match wire.core.write(slot, &bytes[..bytes.len().min(*left)]).unwrap() {
            Written::Bytes(len) => *left -= len,
            Written::Blocked => return,
        }
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
    assert_eq!(sent.iter().filter(|frame| matches!(frame, Frame::Data { .. })).count(), 3);
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
        let most = wire.core.staging_limit / 16 / 512;
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
        let batch = super::wire::take(&mut wire.core, step, wire.now).unwrap();
        let frames = super::wire::parse(&batch);
        assert_eq!(frames[0], ping(ACK, 1));
        assert_eq!(body_len(&frames), 5_005);
    }
}

// spec.md §5.5.3: a stream held back by its window doubles it.
#[test]
fn a_window_grows_with_the_path() {
    let mut pair = Pair::new(|builder| builder.max_stream_window(4 << 20));
    pair.delay = std::time::Duration::from_millis(25);
    let (ours, theirs) = pair.stream(A);
    let bytes = pattern(1 << 20);
    let mut written = 0;
    for _ in 0..4_000 {
        written += pair.write(A, ours, &bytes);
        pair.millis(1);
        pair.drain(B, theirs);
    }
    let limit = pair.ends[B].receive_window(theirs).1;
    assert!(limit >= 2 << 20, "the window stayed at {limit} after {written} bytes");
    assert!(limit <= 4 << 20, "the window grew beyond its maximum: {limit}");
    assert_eq!(pair.ends[B].stats().extra_credit, limit as usize - WINDOW);
}

/// A peer within the same machine sends all it may on stream 1 for so long, and `beside` once a
/// millisecond; pings are answered at once. What it may then send on stream 1.
fn busy_for(wire: &mut Wire, bulk: Slot, millis: u64, beside: &[Frame]) -> u32 {
    for _ in 0..millis {
        for _ in 0..4 {
            let credit = wire.core.receive_window(bulk).0;
            wire.feed(&[data(1, NONE, vec![0; credit as usize])]);
            wire.drain(bulk);
            let pongs: Vec<_> = wire.sent().into_iter().filter_map(pong).collect();
            wire.feed(&pongs);
        }
        wire.feed(beside);
        wire.millis(1);
    }
    wire.core.receive_window(bulk).0
}

fn pong(frame: Frame) -> Option<Frame> {
    match frame {
        Frame::Ping { flags: SYN, value } => Some(ping(ACK, value)),
        _ => None,
    }
}

/// A session with a stream that has grown to the window of a local link, and another one.
fn busy_and_other(least: u32) -> (Wire, Slot, Slot) {
    let mut wire =
        Wire::new(Role::Client, |builder| builder.max_stream_window(16 << 20).stream_window(least));
    let (bulk, other) = (wire.established(), wire.core.open().unwrap());
    wire.sent();
    wire.feed(&[update(3, ACK, 0)]);
    wire.sent();
    assert_eq!(busy_for(&mut wire, bulk, 5, &[]), 1 << 20);
    (wire, bulk, other)
}

// spec.md §5.5.3, §5.5.6
#[test]
fn bulk_leaves_room_for_short_messages_of_others() {
    for least in [WINDOW as u32, 2 * WINDOW as u32] {
        for len in [1, 1_024] {
            let (mut wire, bulk, other) = busy_and_other(least);
            let short = data(3, NONE, vec![0; len]);
            assert_eq!(busy_for(&mut wire, bulk, 3, &[short]), least);
            assert_eq!(busy_for(&mut wire, bulk, 1, &[]), least);
            wire.millis(98);
            assert_eq!(busy_for(&mut wire, bulk, 1, &[]), least, "another may come soon");
            assert_eq!(busy_for(&mut wire, bulk, 1, &[]), 1 << 20, "none came");
            assert_eq!(wire.drain(other).0.len(), 3 * len);
        }
    }
}

// spec.md §5.5.6
#[test]
fn only_short_messages_of_others_are_company() {
    let short = |id| data(id, NONE, [0; 64]);
    let long = |id| data(id, NONE, [0; 1_025]);
    for (beside, in_flight) in [
        (vec![short(1)], 64),
        (vec![long(3)], 0),
        (vec![long(3), short(3)], 0),
        // The head of a long message.
        (vec![short(3), long(3)], 0),
    ] {
        let (mut wire, bulk, _) = busy_and_other(WINDOW as u32);
        assert_eq!(busy_for(&mut wire, bulk, 3, &beside), (1 << 20) - in_flight, "{beside:?}");
    }
    // Where nothing else is read, short messages are what a window may grow for.
    let mut wire = Wire::new(Role::Client, |builder| {
        builder.max_stream_window(1 << 20).stream_window(1 << 20)
    });
    let slot = wire.established();
    wire.sent();
    let frames = vec![data(1, NONE, [0; 1_024]); 512];
    wire.feed(&frames);
    wire.drain(slot);
    wire.expect(&[update(1, NONE, 512 << 10)]);
}

// spec.md §5.3.2, §5.5.6: credit of the smaller window comes by its halves.
#[test]
fn in_company_credit_is_due_at_half_of_what_is_used() {
    let (mut wire, bulk, _) = busy_and_other(WINDOW as u32);
    assert_eq!(busy_for(&mut wire, bulk, 3, &[data(3, NONE, [0; 64])]), WINDOW as u32);
    let half = WINDOW / 2;
    for (len, credit) in [(half - 1, 0), (1, half)] {
        wire.feed(&[data(1, NONE, vec![0; len])]);
        wire.drain(bulk);
        let credits = wire.sent().into_iter().map(|frame| match frame {
            Frame::WindowUpdate { delta, .. } => delta as usize,
            _ => 0,
        });
        assert_eq!(credits.sum::<usize>(), credit);
    }
}

/// The windows of a stream that waits for so long before its first bytes, millisecond by
/// millisecond from there on.
fn windows_after(seconds: u64) -> Vec<u32> {
    let mut pair = Pair::new(|builder| builder.max_stream_window(4 << 20));
    pair.delay = std::time::Duration::from_millis(25);
    let (ours, theirs) = pair.stream(A);
    pair.secs(seconds);
    let bytes = pattern(1 << 20);
    let mut windows = Vec::new();
    for _ in 0..1_000 {
        pair.write(A, ours, &bytes);
        pair.millis(1);
        pair.drain(B, theirs);
        windows.push(pair.ends[B].receive_window(theirs).1);
    }
    windows
}

// spec.md §5.5.1: what is measured begins with the first bytes.
#[test]
fn a_window_grows_as_fast_after_a_pause() {
    let at_once = windows_after(0);
    assert!(at_once.last() > at_once.first());
    assert_eq!(windows_after(3_600), at_once);
}

// spec.md §5.5.2
#[test]
fn equal_limits_mean_no_growth_and_no_pings() {
    let mut wire = Wire::client();
    let slot = wire.established();
    for _ in 0..20 {
        wire.feed(&[data(1, NONE, vec![0; WINDOW])]);
        wire.drain(slot);
        wire.millis(10);
        wire.expect(&[update(1, NONE, WINDOW as u32)]);
    }
}

// spec.md §5.5.4: nobody answers the measurement, and nothing happens.
#[test]
fn an_unanswered_measurement_ends_nothing() {
    let mut wire = Wire::new(Role::Client, |builder| builder.max_stream_window(1 << 20));
    let slot = wire.established();
    for _ in 0..50 {
        wire.feed(&[data(1, NONE, vec![0; WINDOW / 2])]);
        wire.drain(slot);
        wire.sent();
        wire.secs(1);
    }
    assert_eq!(wire.core.receive_window(slot).1 as usize, WINDOW);
    wire.expect_alive();
}

// spec.md §5.6.2: a growth that does not fit in the budget is refused; streams go on.
#[test]
fn an_initial_window_beyond_the_budget_is_not_given() {
    let mut wire = Wire::new(Role::Client, |builder| {
        builder.max_stream_window(1 << 20).stream_window(1 << 20).receive_budget(1 << 20)
    });
    for _ in 0..3 {
        wire.core.open().unwrap();
    }
    wire.expect(&[update(1, SYN, 786_432), update(3, SYN, 0), update(5, SYN, 0)]);
    assert_eq!(wire.core.stats().extra_credit, 786_432);
}

// spec.md §5.6.3
#[test]
fn at_the_budget_the_heaviest_stream_pays() {
    let mut wire = Wire::new(Role::Client, |builder| builder.receive_budget(262_144 + 1_000));
    let (light, heavy) = (wire.established(), wire.open());
    wire.feed(&[data(1, NONE, vec![0; 2_000]), data(3, NONE, vec![0; 262_000])]);
    wire.expect(&[update(3, RST, 5)]);
    assert_eq!(wire.drain(heavy), (Vec::new(), Tail::Error(StreamError::Overloaded)));
    assert_eq!(wire.drain(light).0.len(), 2_000);
    let stats = wire.core.stats();
    assert_eq!((stats.overloaded, stats.buffered), (1, 0));
    wire.expect_alive();
}

// spec.md §5.5.4: round trips are measured only while data flows.
#[test]
fn opening_a_stream_measures_nothing() {
    let mut wire = Wire::new(Role::Client, |builder| builder.max_stream_window(16 << 20));
    wire.core.open().unwrap();
    wire.expect(&[update(1, SYN, 0)]);
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
    assert!(slow[7] >= 16 << 10 && slow[7] <= (16 << 10) + 4_096 + 12, "{slow:?}");
    let again: Vec<_> = (0..8).map(|_| fill(1)).collect();
    assert_eq!(again[7], fast[4]);
}

// spec.md §5.6.3: also a stream that nobody accepted yet may be the heaviest.
#[test]
fn overload_may_take_a_stream_from_the_backlog() {
    let mut wire = Wire::new(Role::Server, |builder| builder.receive_budget(262_144));
    wire.feed(&[data(1, SYN, vec![0; 1_000]), data(3, SYN, vec![0; 261_144])]);
    wire.expect(&[update(3, RST, 5)]);
    let slot = wire.accept();
    assert_eq!(wire.drain(slot).0.len(), 1_000);
    assert_eq!(wire.core.accept(), None);
    assert_eq!(wire.core.live_streams(), 1);
    wire.expect_alive();
}

// spec.md §4.3.3, §6.4: an ACK that waits for company goes with credit.
#[test]
fn an_ack_rides_on_credit() {
    let mut wire = Wire::server();
    wire.feed(&[data(1, SYN, vec![0; WINDOW])]);
    let slot = wire.accept();
    assert_eq!(wire.drain(slot).0.len(), WINDOW);
    wire.expect(&[update(1, ACK, WINDOW as u32)]);
    wire.secs(1);
    wire.expect(&[]);
}
