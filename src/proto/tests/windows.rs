//! Credit, how far a window grows, what it leaves to others, and the budget of all of them.

use super::{
    pair::{A, B, Pair, pattern},
    wire::{
        ACK, FIN, NONE, RST, SYN, Tail, WINDOW, Wire, body_len, data, ping, update,
        write_until_blocked,
    },
};
use crate::{
    ResetCode, Role, StreamError, Violation,
    frame::Frame,
    proto::{Event, Half, Read, Slot, Written},
};

/// What comes for a stream that we reset takes from its window until the peer can know of it.
#[test]
fn a_stream_of_which_the_reset_is_owed_still_has_a_window() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.reset(slot, ResetCode::CANCELLED);
    wire.feed(&[data(1, NONE, vec![0; WINDOW])]);
    assert!(wire.is_running());
    wire.feed(&[data(1, NONE, "x")]);
    wire.expect_violation(Violation::WindowExceeded);
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
    // spec.md §5.6.2: an initial window is set aside.
    let mut wire = Wire::new(Role::Client, |builder| {
        builder.max_stream_window(1 << 20).stream_window(1 << 20).receive_budget((1 << 20) - 1)
    });
    wire.core.open().unwrap();
    wire.expect(&[update(1, SYN, 0)]);
}

// spec.md §5.6.3: whatever the budget, a peer that fills the one window it was given is within it.
#[test]
fn a_stream_alone_is_never_too_much() {
    for budget in [262_144, 1 << 20] {
        let mut wire = Wire::new(Role::Client, |builder| {
            builder.max_stream_window(1 << 20).stream_window(1 << 20).receive_budget(budget)
        });
        let slot = wire.established();
        let window = WINDOW + wire.core.stats().extra_credit;
        wire.sent();
        wire.feed(&[data(1, NONE, vec![0; window])]);
        wire.expect(&[]);
        assert_eq!(wire.drain(slot).0.len(), window);
        assert_eq!((window, wire.core.stats().overloaded), (budget, 0));
    }
}

// spec.md §5.6.3
#[test]
fn beyond_the_budget_the_heaviest_stream_pays() {
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

// spec.md §5.6.3: also a stream that nobody accepted yet may be the heaviest.
#[test]
fn overload_may_take_a_stream_from_the_backlog() {
    let mut wire = Wire::new(Role::Server, |builder| builder.receive_budget(262_144));
    wire.feed(&[data(1, SYN, vec![0; 1_000]), data(3, SYN, vec![0; 261_145])]);
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
