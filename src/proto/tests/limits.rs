//! Bounds of the configuration and what a peer may send for nothing.

use std::{slice, time::Duration};

use super::{
    pair::{A, B, Pair, pattern},
    wire::{ACK, FIN, NONE, RST, SYN, Tail, Wire, data, go_away, parse, ping, take, update},
};
use crate::{
    Config, ConfigBuilder, Flood, ResetCode, Role, TryOpenError, Violation,
    frame::Frame,
    proto::{Half, Read, Slot},
};

// spec.md §9.1.1
#[test]
fn a_value_out_of_range_is_refused_by_name() {
    let zero = Duration::ZERO;
    type Build = fn(ConfigBuilder) -> ConfigBuilder;
    let refused: [(&str, Build); 19] = [
        ("ack_backlog", |b| b.ack_backlog(0)),
        ("max_streams", |b| b.max_streams(0)),
        ("max_outbound_streams", |b| b.max_outbound_streams(0)),
        ("keepalive", |b| b.keepalive(Some(Duration::ZERO))),
        ("ping_timeout", |b| b.ping_timeout(Duration::ZERO)),
        ("write_timeout", |b| b.write_timeout(Some(Duration::ZERO))),
        ("open_timeout", |b| b.open_timeout(Some(Duration::ZERO))),
        ("close_timeout", |b| b.close_timeout(Duration::ZERO)),
        ("stream_window", |b| b.stream_window(262_143)),
        ("max_stream_window", |b| b.stream_window(1 << 20).max_stream_window((1 << 20) - 1)),
        ("max_stream_window", |b| b.max_stream_window(262_143)),
        ("receive_budget", |b| b.receive_budget(262_143)),
        ("staging_limit", |b| b.staging_limit(16_383)),
        ("max_frame", |b| b.max_frame(1_023)),
        ("max_frame", |b| b.max_frame((16 << 20) + 1)),
        ("max_empty_frames", |b| b.max_empty_frames(0)),
        ("max_early_resets", |b| b.max_early_resets(0)),
        ("early_reset_interval", |b| b.early_reset_interval(Duration::ZERO)),
        ("ack_backlog", |b| b.early_reset_interval(Duration::ZERO).ack_backlog(0)),
    ];
    for (field, build) in refused {
        let error = build(Config::builder()).build().unwrap_err();
        assert_eq!(error.field(), field);
        assert!(error.to_string().starts_with(field), "{error}");
    }
    let extreme = Config::builder()
        .accept_backlog(0)
        .ack_backlog(1)
        .max_streams(1)
        .max_outbound_streams(1)
        .keepalive(None)
        .write_timeout(None)
        .open_timeout(None)
        .drain_timeout(zero)
        .linger(zero)
        .linger_bytes(0)
        .ack_delay(zero)
        .stream_window(262_144)
        .max_stream_window(262_144)
        .receive_budget(262_144)
        .staging_limit(16_384)
        .max_frame(1_024)
        .max_empty_frames(1)
        .max_early_resets(1);
    assert!(extreme.build().is_ok());
}

// spec.md §9.1.1: the smallest configuration works.
#[test]
fn the_smallest_limits_carry_data() {
    let mut pair = Pair::new(|builder| {
        builder
            .accept_backlog(1)
            .ack_backlog(1)
            .max_streams(1)
            .max_outbound_streams(1)
            .receive_budget(300_000)
            .staging_limit(16_384)
            .max_frame(1_024)
            .ack_delay(Duration::ZERO)
    });
    for _ in 0..3 {
        let (ours, theirs) = pair.stream(A);
        let bytes = pattern(400_000);
        assert_eq!(pair.carry(A, ours, &bytes, theirs), bytes);
        for (end, slot) in [(A, ours), (B, theirs)] {
            pair.ends[end].finish(slot).unwrap();
            pair.run();
            pair.ends[end].release(slot, Half::Both);
        }
    }
}

/// Each of these carries nothing on an established stream 1 that was finished by the peer.
fn nothings() -> Vec<Frame> {
    vec![
        data(1, NONE, ""),
        update(1, NONE, 0),
        update(1, ACK, 0),
        data(1, ACK, ""),
        update(1, FIN, 0),
        data(1, FIN.with(ACK), ""),
        update(9, FIN, 0),
        update(9, NONE, 5),
        data(9, NONE, ""),
        ping(ACK, 77),
        ping(NONE, 77),
    ]
}

// spec.md §9.2.1
#[test]
fn frames_that_carry_nothing_are_counted() {
    for frame in nothings() {
        let mut wire = Wire::new(Role::Client, |builder| builder.max_empty_frames(10));
        wire.established();
        wire.feed(&[update(1, FIN, 0)]);
        for _ in 0..10 {
            wire.feed(slice::from_ref(&frame));
        }
        assert_eq!(wire.core.ended(), None, "{frame:?}");
        wire.expect(&[]);
        wire.feed(slice::from_ref(&frame));
        assert_eq!(wire.rule(), Some(Violation::Flood(Flood::EmptyFrames)), "{frame:?}");
        wire.expect_violation(Violation::Flood(Flood::EmptyFrames));
    }
}

// spec.md §9.2.1: four for each stream that is over, whatever comes for one that never was.
#[test]
fn so_many_late_frames_of_a_stream_that_is_over_are_expected() {
    let mut wire = Wire::new(Role::Client, |builder| builder.max_empty_frames(10));
    let slot = wire.established();
    wire.core.reset(slot, ResetCode(1));
    wire.sent();
    for _ in 0..5 {
        wire.feed(&[update(99, NONE, 1)]);
    }
    for _ in 0..4 + 5 {
        wire.feed(&[update(1, NONE, 1)]);
    }
    assert_eq!(wire.core.ended(), None);
    wire.feed(&[update(1, NONE, 1)]);
    wire.expect_violation(Violation::Flood(Flood::EmptyFrames));
}

// spec.md §9.2.1: each that carries something takes one off; pings do neither.
#[test]
fn useful_frames_pay_for_empty_ones() {
    let mut wire = Wire::new(Role::Client, |builder| builder.max_empty_frames(10));
    let slot = wire.established();
    for _ in 0..1_000 {
        wire.feed(&[data(1, NONE, ""), data(1, NONE, "x"), update(1, NONE, 0), update(1, NONE, 1)]);
    }
    assert_eq!(wire.drain(slot).0.len(), 1_000);
    for _ in 0..10 {
        wire.feed(&[data(1, NONE, ""), ping(SYN, 1)]);
        wire.sent();
    }
    assert_eq!(wire.core.ended(), None);
    wire.feed(&[data(1, NONE, "")]);
    wire.expect_violation(Violation::Flood(Flood::EmptyFrames));
}

// spec.md §9.2.1: honest peers acknowledge, and finish, every stream.
#[test]
fn ten_thousand_short_streams_are_no_flood() {
    let mut wire = Wire::server();
    for n in 0..10_000 {
        let id = 2 * n + 1;
        wire.feed(&[update(id, SYN, 0), update(id, FIN, 0)]);
        let slot = wire.accept();
        wire.core.finish(slot).unwrap();
        wire.sent();
        assert_eq!(wire.drain(slot).1, Tail::Eof);
        wire.core.release(slot, Half::Both);
    }
    assert_eq!(wire.core.live_streams(), 0);
    wire.expect_alive();
}

// spec.md §9.2.2
#[test]
fn early_resets_are_a_rate() {
    let mut wire = Wire::new(Role::Server, |builder| builder.max_early_resets(3));
    let mut id = 1;
    let mut reset_early = |wire: &mut Wire| {
        wire.feed(&[update(id, SYN, 0), update(id, RST, 4)]);
        id += 2;
    };
    for _ in 0..10 {
        for _ in 0..3 {
            reset_early(&mut wire);
        }
        wire.secs(10);
    }
    assert_eq!(wire.core.live_streams(), 0);
    wire.expect(&[]);
    for _ in 0..3 {
        reset_early(&mut wire);
    }
    assert_eq!(wire.core.ended(), None);
    reset_early(&mut wire);
    wire.expect_violation(Violation::Flood(Flood::EarlyResets));
}

// spec.md §9.2.2: resets after accept do not count.
#[test]
fn resets_after_accept_are_no_flood() {
    let mut wire = Wire::new(Role::Server, |builder| builder.max_early_resets(1));
    for id in [1, 3, 5, 7] {
        let slot = wire.inbound(id);
        wire.feed(&[update(id, RST, 4)]);
        wire.core.release(slot, Half::Both);
    }
    assert_eq!(wire.core.stats().resets_received, 4);
    wire.expect_alive();
}

// spec.md §9.2.5
#[test]
fn resets_of_our_own_wait_for_the_ack_when_there_are_many() {
    let mut wire = Wire::new(Role::Client, |builder| builder.max_early_resets(9).ack_backlog(5));
    let open_and_reset = |wire: &mut Wire| {
        let slot = wire.core.open().unwrap();
        wire.sent();
        wire.core.release(slot, Half::Both);
        wire.sent()
    };
    for id in [1, 3, 5] {
        assert_eq!(open_and_reset(&mut wire), [update(id, RST, 4)]);
    }
    for _ in 0..5 {
        assert_eq!(open_and_reset(&mut wire), []);
    }
    // They keep their places, so that there is no more to open.
    assert_eq!(wire.core.open(), Err(TryOpenError::AckBacklogFull));
    wire.feed(&[update(7, ACK, 0)]);
    wire.expect(&[update(7, RST, 4)]);
    // What the peer says on the others before it knows is skipped.
    wire.feed(&[data(9, NONE, "answer"), update(11, RST, 3)]);
    wire.expect(&[update(9, RST, 4)]);
    assert_eq!((wire.core.live_streams(), wire.core.stats().ack_backlog), (2, 2));
    // A new interval: three more.
    wire.secs(10);
    assert_eq!(open_and_reset(&mut wire), [update(17, RST, 4)]);
    // In the end they go without an ACK.
    wire.secs(65);
    wire.expect(&[update(13, RST, 4), update(15, RST, 4)]);
    assert_eq!((wire.core.live_streams(), wire.core.stats().ack_backlog), (0, 0));
    wire.expect_alive();
}

// spec.md §9.2.5: also of a stream whose SYN went with data, and that was dropped at once.
#[test]
fn a_reset_that_waits_goes_at_the_open_timeout_even_if_nobody_looked_before() {
    let mut wire = Wire::new(Role::Client, |builder| builder.max_early_resets(1));
    for _ in 0..3 {
        let slot = wire.core.open().unwrap();
        wire.write(slot, b"x");
        wire.core.release(slot, Half::Both);
    }
    let sent = wire.sent();
    assert_eq!(sent.len(), 4, "three streams and one reset: {sent:?}");
    wire.millis(74_999);
    wire.expect(&[]);
    wire.millis(1);
    wire.expect(&[update(3, RST, 4), update(5, RST, 4)]);
    assert_eq!((wire.core.live_streams(), wire.core.stats().ack_backlog), (0, 0));
}

// spec.md §9.2.5: also when the session is closed.
#[test]
fn resets_wait_no_longer_when_the_session_closes() {
    let mut wire = Wire::new(Role::Client, |builder| builder.max_early_resets(1));
    for sent in [&[update(1, RST, 4)][..], &[], &[]] {
        let slot = wire.core.open().unwrap();
        wire.sent();
        wire.core.release(slot, Half::Both);
        wire.expect(sent);
    }
    wire.core.close(wire.now);
    wire.expect(&[update(3, RST, 4), update(5, RST, 4), go_away(0)]);
}

// spec.md §9.2.3: any number of pings is fine as long as the answers are read.
#[test]
fn pings_are_bounded_only_while_answers_are_not_read() {
    let mut wire = Wire::server();
    for value in 0..10_000 {
        wire.feed(&[ping(SYN, value)]);
        wire.expect(&[ping(ACK, value)]);
    }
    for value in 0..8_192 {
        wire.feed(&[ping(SYN, value)]);
    }
    assert_eq!(wire.core.ended(), None);
    wire.feed(&[ping(SYN, 8_192)]);
    wire.expect_violation(Violation::Flood(Flood::Pings));
}

// spec.md §3.3.1: equal questions in a row share an answer.
#[test]
fn ten_thousand_equal_pings_cost_one_answer() {
    let mut wire = Wire::server();
    for _ in 0..10_000 {
        wire.feed(&[ping(SYN, 5)]);
    }
    wire.expect(&[ping(ACK, 5)]);
}

// spec.md §9.2.4, §9.1.1
#[test]
fn refusals_are_bounded_only_while_they_are_not_read() {
    let mut wire = Wire::new(Role::Server, |builder| builder.accept_backlog(0));
    for n in 0..5_000 {
        wire.feed(&[update(2 * n + 1, SYN, 0)]);
        wire.expect(&[update(2 * n + 1, RST, 3)]);
    }
    for n in 5_000..13_192 {
        wire.feed(&[update(2 * n + 1, SYN, 0)]);
    }
    assert_eq!(wire.core.ended(), None);
    assert_eq!(wire.core.stats().refused, 13_192);
    wire.feed(&[update(40_001, SYN, 0)]);
    wire.expect_violation(Violation::Flood(Flood::Refusals));
}

// spec.md §5.6.4: a stream with nothing unread holds no buffer.
#[test]
fn chunks_keep_their_bytes_and_an_empty_stream_holds_none() {
    let mut wire = Wire::server();
    let slot = wire.inbound(1);
    let bytes = pattern(100_000);
    for piece in bytes[..10_000].chunks(1) {
        wire.feed(&[data(1, NONE, piece)]);
    }
    wire.feed(&[data(1, NONE, &bytes[10_000..])]);
    assert_eq!(wire.core.stats().buffered, 100_000);
    let mut read = Vec::new();
    for max in [1, 7, 100, 5_000, 20_000].into_iter().cycle() {
        match wire.core.read_chunk(slot, max).unwrap() {
            Read::Data(chunk) => {
                assert!(!chunk.is_empty() && chunk.len() <= max);
                read.extend_from_slice(&chunk);
            }
            _ => break,
        }
    }
    assert!(read == bytes);
    assert_eq!(wire.core.stats().buffered, 0);
    assert!(wire.core.streams[slot].chunks.is_empty());
}

// spec.md §9.3.2, §4.7.3: nothing is left of streams that ended, however they did.
#[test]
fn a_thousand_streams_that_ended_leave_nothing() {
    let mut pair = Pair::new(|builder| builder.ack_delay(Duration::ZERO));
    for n in 0..1_000 {
        let end = n % 2;
        let (ours, theirs) = pair.stream(end);
        pair.write(end, ours, b"unread");
        match n % 5 {
            0 => pair.ends[end].reset(ours, ResetCode(256)),
            1 => pair.ends[1 - end].reset(theirs, ResetCode(256)),
            2 => {
                pair.ends[end].finish(ours).unwrap();
                pair.ends[1 - end].finish(theirs).unwrap();
            }
            3 => pair.ends[end].finish(ours).unwrap(),
            _ => {}
        }
        pair.run();
        pair.ends[end].release(ours, Half::Both);
        pair.run();
        pair.ends[1 - end].release(theirs, Half::Both);
        pair.run();
    }
    for core in &pair.ends {
        let stats = core.stats();
        assert_eq!(core.live_streams(), 0);
        assert_eq!((stats.outbound_streams, stats.inbound_streams), (0, 0));
        assert_eq!((stats.ack_backlog, stats.accept_backlog), (0, 0));
        assert_eq!((stats.buffered, stats.extra_credit, stats.staged), (0, 0, 0));
        assert_eq!(core.ended(), None);
    }
}

// spec.md §5.6.4: nor do the tables, though nothing is said when the last handle goes.
#[test]
fn the_tables_go_with_the_last_of_many_streams() {
    let mut wire = Wire::new(Role::Client, |builder| builder.ack_backlog(2_000));
    let slots: Vec<_> = (0..2_000).map(|_| wire.core.open().unwrap()).collect();
    wire.sent();
    for &slot in &slots {
        let id = wire.core.id(slot).unwrap().0;
        wire.feed(&[update(id, ACK.with(FIN), 0)]);
        wire.core.finish(slot).unwrap();
    }
    wire.sent();
    assert!(wire.core.streams.is_large());
    for slot in slots {
        wire.core.release(slot, Half::Both);
    }
    wire.expect(&[]);
    assert!(!wire.core.streams.is_large());
}

// spec.md §5.6.2: the account of what is granted comes out even.
#[test]
fn the_budget_gets_back_what_streams_took() {
    let mut wire = Wire::new(Role::Client, |builder| {
        builder.max_stream_window(1 << 20).stream_window(1 << 20).receive_budget(1 << 20)
    });
    for _ in 0..5 {
        let slot: Slot = wire.established();
        assert_eq!(wire.core.stats().extra_credit, 786_432);
        wire.core.release(slot, Half::Both);
        wire.sent();
        assert_eq!(wire.core.stats().extra_credit, 0);
    }
    // A stream that is over takes nothing, though it is held and has unread bytes.
    let slot = wire.established();
    let id = wire.core.id(slot).unwrap().0;
    wire.core.finish(slot).unwrap();
    wire.sent();
    wire.feed(&[data(id, FIN, "unread")]);
    let stats = wire.core.stats();
    assert_eq!((stats.extra_credit, stats.buffered, stats.outbound_streams), (0, 6, 1));
    assert_eq!(wire.drain(slot), (b"unread".to_vec(), Tail::Eof));
    assert_eq!(wire.core.stats().outbound_streams, 0);
}

// spec.md §6.8: everything owed is staged in bounded batches, and all of it in the end.
#[test]
fn what_is_owed_goes_out_in_bounded_batches() {
    let mut wire =
        Wire::new(Role::Client, |builder| builder.ack_backlog(20_000).max_outbound_streams(20_000));
    for _ in 0..20_000 {
        wire.core.open().unwrap();
    }
    let mut frames = Vec::new();
    while let Some(batch) = take(&mut wire.core, usize::MAX, wire.now) {
        assert!(batch.len() <= 128 << 10, "{} bytes in one batch", batch.len());
        frames.extend(parse(&batch));
    }
    assert_eq!(frames.len(), 20_000);
    assert_eq!(frames[19_999], update(39_999, SYN, 0));
}

// spec.md §4.8.2: the allowance is a counter of the session, over all its streams.
#[test]
fn late_bytes_of_many_streams_share_one_allowance() {
    let mut wire = Wire::server();
    for id in [1, 3] {
        let slot = wire.inbound(id);
        wire.core.release(slot, Half::Both);
    }
    wire.expect(&[update(3, RST, 4)]);
    wire.feed(&[data(1, NONE, vec![0; 262_144]), data(1, NONE, vec![0; 262_144])]);
    wire.expect_alive();
    wire.feed(&[data(3, NONE, "x")]);
    wire.expect_violation(Violation::LateData);
}

// spec.md §5.6.5: a chunk is no longer than was asked for.
#[test]
fn a_chunk_is_no_longer_than_asked() {
    for len in [5_usize, 700, 20_000] {
        let mut wire = Wire::server();
        let slot = wire.inbound(1);
        wire.feed(&[data(1, NONE, pattern(len))]);
        let first = wire.core.read_chunk(slot, len - 1).unwrap();
        let second = wire.core.read_chunk(slot, len - 1).unwrap();
        let Read::Data(first) = first else { panic!("{first:?}") };
        assert_eq!(first, pattern(len)[..len - 1]);
        assert_eq!(second, Read::Data(pattern(len)[len - 1..].to_vec().into()));
    }
}
