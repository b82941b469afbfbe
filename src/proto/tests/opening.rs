//! Ids, SYN, ACK and the two backlogs.

use std::{slice, time::Duration};

use super::{
    pair::{A, B, Pair, pattern},
    wire::{ACK, FIN, NONE, RST, SYN, Tail, Wire, data, hex, parse, take, update},
};
use crate::{
    Config, OpenError, ResetCode, Role, StreamError, StreamId, TryOpenError, Violation,
    frame::Frame,
    proto::{Event, Half, Read, State, Written},
};

// spec.md §4.1.1
#[test]
fn the_client_opens_odd_ids_and_the_server_even_ones() {
    for (mut wire, ids) in [(Wire::client(), [1, 3, 5]), (Wire::server(), [2, 4, 6])] {
        for id in ids {
            wire.core.open().unwrap();
            wire.expect(&[update(id, SYN, 0)]);
        }
    }
}

// spec.md §4.1.2
#[test]
fn ids_run_out_without_harm() {
    for (mut wire, last) in [(Wire::client(), u32::MAX - 2), (Wire::server(), u32::MAX - 3)] {
        wire.core.next_id = last;
        let slot = wire.core.open().unwrap();
        let before = wire.core.stats();
        for _ in 0..1_000 {
            let exhausted = TryOpenError::Open(OpenError::StreamsExhausted);
            assert_eq!(wire.core.open(), Err(exhausted));
        }
        assert_eq!(wire.core.stats(), before, "a refused open leaks nothing");
        wire.expect(&[update(last, SYN, 0)]);
        assert_eq!(wire.core.open(), Err(TryOpenError::Open(OpenError::StreamsExhausted)));
        wire.feed(&[update(last, ACK, 0)]);
        wire.write(slot, b"fine");
        wire.expect(&[data(last, NONE, "fine")]);
        wire.expect_alive();
    }
}

// spec.md §4.1.2: a stream that was never sent gives its id back.
#[test]
fn a_stream_never_sent_uses_no_id() {
    let mut wire = Wire::client();
    wire.core.next_id = u32::MAX - 2;
    let slot = wire.core.open().unwrap();
    wire.core.release(slot, Half::Both);
    wire.expect(&[]);
    wire.core.open().unwrap();
    wire.expect(&[update(u32::MAX - 2, SYN, 0)]);
}

// spec.md §4.1.3
#[test]
fn a_lower_id_and_a_finished_one_are_accepted() {
    let mut wire = Wire::server();
    wire.feed(&[data(5, SYN, "five"), data(3, SYN, "three")]);
    let (five, three) = (wire.accept(), wire.accept());
    assert_eq!(wire.drain(five).0, b"five");
    assert_eq!(wire.drain(three).0, b"three");
    wire.feed(&[update(5, FIN, 0)]);
    wire.core.finish(five).unwrap();
    wire.sent();
    wire.core.release(five, Half::Both);
    wire.feed(&[data(5, SYN, "again")]);
    let five = wire.accept();
    assert_eq!(wire.drain(five).0, b"again");
    wire.expect_alive();
}

// spec.md §4.1.3: ids come in any order within the backlog.
#[test]
fn shuffled_syns_all_open() {
    let mut wire = Wire::server();
    let mut opened = Vec::new();
    let mut random = 0x2545_F491_u32;
    for round in 0..10_u32 {
        let mut ids: Vec<u32> = (0..256).map(|n| 2 * (round * 256 + n) + 1).collect();
        for at in (1..ids.len()).rev() {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            ids.swap(at, random as usize % (at + 1));
        }
        // Half of a round's ids come only after the other half, so that they lag far behind.
        for id in &ids {
            wire.feed(&[data(*id, SYN, id.to_be_bytes())]);
        }
        for id in ids {
            let slot = wire.accept();
            assert_eq!(wire.core.id(slot), Some(StreamId(id)), "in order of arrival");
            assert_eq!(wire.drain(slot).0, id.to_be_bytes());
            opened.push(slot);
        }
        wire.sent();
    }
    assert_eq!(opened.len(), 2_560);
    assert_eq!(wire.core.stats().inbound_streams, 2_560);
    assert_eq!(wire.core.stats().refused, 0);
    wire.expect_alive();
}

// spec.md §4.2.3
#[test]
fn ids_are_assigned_when_syn_is_staged_so_they_leave_in_order() {
    let mut wire = Wire::client();
    let slots = [(); 3].map(|()| wire.core.open().unwrap());
    assert_eq!(wire.core.id(slots[0]), None);
    wire.write(slots[2], b"first to write");
    assert_eq!(wire.core.id(slots[2]), Some(StreamId(1)));
    wire.expect(&[data(1, SYN, "first to write"), update(3, SYN, 0), update(5, SYN, 0)]);
    assert_eq!(wire.core.id(slots[0]), Some(StreamId(3)));
}

// spec.md §4.2.4, §6.7: a small request, from open to finish, is one write.
#[test]
fn syn_rides_on_data_and_the_request_is_one_batch() {
    let mut wire = Wire::client();
    let slot = wire.core.open().unwrap();
    wire.write(slot, b"hi");
    wire.core.finish(slot).unwrap();
    let batch = take(&mut wire.core, usize::MAX, wire.now).unwrap();
    assert_eq!(batch, hex("00 00 0001 00000001 00000002 6869  00 01 0004 00000001 00000000"),);
    wire.expect(&[]);
}

// spec.md §4.2.4
#[test]
fn syn_goes_alone_so_that_a_server_can_speak_first() {
    let mut pair = Pair::new(|builder| builder);
    let ours = pair.ends[A].open().unwrap();
    pair.run();
    let theirs = pair.ends[B].accept().unwrap();
    pair.write(B, theirs, b"welcome");
    assert_eq!(pair.drain(A, ours).0, b"welcome");
}

// spec.md §4.2.2, §5.1.3
#[test]
fn a_larger_window_rides_on_syn() {
    let mut wire = Wire::new(Role::Client, |builder| {
        builder.max_stream_window(1 << 20).stream_window(1 << 20)
    });
    wire.core.open().unwrap();
    assert_eq!(wire.sent_bytes(), hex("00 01 0001 00000001 000C0000"));
}

// spec.md §4.2.2: where SYN rode on data, the credit follows.
#[test]
fn a_larger_window_follows_data_that_carried_syn_or_ack() {
    let large =
        |role| Wire::new(role, |builder| builder.max_stream_window(1 << 20).stream_window(1 << 20));
    let mut client = large(Role::Client);
    let slot = client.core.open().unwrap();
    client.write(slot, b"hi");
    client.expect(&[data(1, SYN, "hi"), update(1, NONE, 786_432)]);

    let mut server = large(Role::Server);
    server.feed(&[update(1, SYN, 0)]);
    let slot = server.accept();
    server.write(slot, b"yo");
    server.expect(&[data(1, ACK, "yo"), update(1, NONE, 786_432)]);
}

// spec.md §4.2.1, §4.2.2
#[test]
fn data_on_syn_can_be_read_right_after_accept() {
    let mut wire = Wire::server();
    wire.feed_bytes(hex("00 00 0001 00000001 00000002 6869"));
    assert_eq!(wire.events(), [Event::Acceptable]);
    let slot = wire.accept();
    assert_eq!(wire.drain(slot), (b"hi".to_vec(), Tail::Blocked));
}

// spec.md §4.2.1: nobody waits for an ACK.
#[test]
fn open_request_and_response_take_one_round_trip() {
    let mut pair = Pair::new(|builder| builder);
    pair.delay = Duration::from_millis(50);
    let start = pair.now;
    let ours = pair.ends[A].open().unwrap();
    pair.write(A, ours, b"request");
    pair.millis(50);
    let theirs = pair.ends[B].accept().unwrap();
    assert_eq!(pair.drain(B, theirs).0, b"request");
    pair.write(B, theirs, b"response");
    pair.millis(50);
    assert_eq!(pair.drain(A, ours).0, b"response");
    assert_eq!(pair.now - start, Duration::from_millis(100));
}

// spec.md §4.2.5
#[test]
fn a_stream_dropped_or_reset_before_its_syn_was_staged_sends_nothing() {
    let mut wire = Wire::client();
    let dropped = wire.core.open().unwrap();
    wire.core.release(dropped, Half::Both);
    let reset = wire.core.open().unwrap();
    wire.core.reset(reset, ResetCode::CANCELLED);
    wire.core.release(reset, Half::Both);
    wire.expect(&[]);
    let stats = wire.core.stats();
    assert_eq!((stats.outbound_streams, stats.ack_backlog, stats.resets_sent), (0, 0, 0));
    assert_eq!(wire.core.live_streams(), 0);
    wire.core.open().unwrap();
    wire.expect(&[update(1, SYN, 0)]);
}

// spec.md §4.2.5, §12.2
#[test]
fn a_stream_closed_without_a_write_sends_syn_then_fin() {
    let mut wire = Wire::client();
    let slot = wire.core.open().unwrap();
    wire.core.finish(slot).unwrap();
    wire.core.release(slot, Half::Both);
    wire.expect(&[update(1, SYN, 0), update(1, FIN, 0)]);
}

// spec.md §4.3.2, §4.3.3
#[test]
fn ack_is_sent_on_accept_and_not_before() {
    let mut wire = Wire::server();
    wire.feed(&[update(1, SYN, 0)]);
    wire.secs(1);
    wire.expect(&[]);
    wire.accept();
    wire.expect(&[]);
    wire.millis(4);
    wire.expect(&[]);
    wire.millis(1);
    wire.expect(&[update(1, ACK, 0)]);
    wire.secs(1);
    wire.expect(&[]);
}

// spec.md §4.3.1, §2.12: a window of 1 MiB rides on it.
#[test]
fn ack_carries_the_larger_window() {
    let mut wire = Wire::new(Role::Server, |builder| {
        builder.max_stream_window(1 << 20).stream_window(1 << 20)
    });
    wire.feed(&[update(1, SYN, 0)]);
    wire.accept();
    wire.expect(&[]);
    wire.millis(5);
    assert_eq!(wire.sent_bytes(), hex("00 01 0002 00000001 000C0000"));
}

// spec.md §4.3.3
#[test]
fn ack_rides_on_the_first_data() {
    let mut wire = Wire::server();
    wire.feed(&[update(1, SYN, 0)]);
    let slot = wire.accept();
    wire.write(slot, b"yo");
    assert_eq!(wire.sent_bytes(), hex("00 00 0002 00000001 00000002 796F"));
    wire.write(slot, b"!");
    wire.expect(&[data(1, NONE, "!")]);
    wire.secs(1);
    wire.expect(&[]);
}

// spec.md §4.3.3: an ACK that found its frame sets no clock, and does not stand for the next in
// its place.
#[test]
fn an_ack_that_found_a_frame_is_done_with() {
    let mut wire = Wire::server();
    wire.feed(&[data(1, SYN.with(FIN), "ask")]);
    let slot = wire.accept();
    wire.drain(slot);
    wire.write(slot, b"yo");
    wire.core.finish(slot).unwrap();
    wire.expect(&[data(1, ACK, "yo"), update(1, FIN, 0)]);
    let due = wire.core.poll_timeout().unwrap() - wire.now;
    assert!(due > Duration::from_secs(1), "nothing is to be done in {due:?}");
    wire.core.release(slot, Half::Both);
    wire.feed(&[update(3, SYN, 0)]);
    assert_eq!(wire.accept(), slot, "the same place");
    wire.expect(&[]);
    wire.millis(5);
    wire.expect(&[update(3, ACK, 0)]);
}

// spec.md §4.3.3: a quarter of the backlog waits no longer than it takes to answer.
#[test]
fn many_acks_do_not_wait() {
    let mut wire = Wire::new(Role::Server, |builder| builder.accept_backlog(16));
    for id in [1, 3, 5, 7] {
        wire.feed(&[update(id, SYN, 0)]);
    }
    for _ in 0..3 {
        wire.accept();
        wire.expect(&[]);
    }
    wire.accept();
    wire.expect(&[]);
    assert!(wire.core.has_output(), "the driver comes back at once");
    wire.expect(&[1, 3, 5, 7].map(|id| update(id, ACK, 0)));
    assert!(!wire.core.has_output());
}

// spec.md §4.3.3: a bulk transfer that leaves no batch empty holds up nobody's ACK.
#[test]
fn many_acks_do_not_wait_for_a_pause() {
    let mut wire = Wire::new(Role::Server, |builder| builder.accept_backlog(16));
    wire.feed(&[update(1, SYN, 0)]);
    let bulk = wire.accept();
    wire.write(bulk, b"bulk");
    wire.expect(&[data(1, ACK, "bulk")]);
    for id in [3, 5, 7, 9] {
        wire.feed(&[update(id, SYN, 0)]);
        wire.accept();
    }
    let mut batch = || {
        wire.write(bulk, b"bulk");
        parse(&take(&mut wire.core, usize::MAX, wire.now).unwrap())
    };
    let bulk = data(1, NONE, "bulk");
    assert_eq!([batch(), batch()], [[bulk.clone()], [bulk.clone()]], "handlers may answer");
    let acks = [3, 5, 7, 9].map(|id| update(id, ACK, 0));
    assert_eq!(batch(), [&[bulk][..], &acks].concat());
    assert!(!wire.core.has_output());
}

// spec.md §4.3.3: who answers at once is not acknowledged twice, however many they are.
#[test]
fn many_acks_ride_on_answers() {
    let mut wire = Wire::new(Role::Server, |builder| builder.accept_backlog(16));
    let slots = [1, 3, 5, 7].map(|id| {
        wire.feed(&[update(id, SYN, 0)]);
        wire.accept()
    });
    wire.expect(&[]);
    for slot in slots {
        wire.write(slot, b"yo");
    }
    wire.expect(&[1, 3, 5, 7].map(|id| data(id, ACK, "yo")));
    wire.expect(&[]);
    assert!(!wire.core.has_output());
}

// spec.md §4.3.3: without a timer nothing can wait.
#[test]
fn without_a_timer_ack_goes_at_once() {
    let mut wire = Wire::new(Role::Server, |builder| builder.no_timer());
    wire.feed(&[update(1, SYN, 0)]);
    wire.accept();
    wire.expect(&[update(1, ACK, 0)]);
}

// spec.md §4.3.3: a handler that never answers delays no other stream.
#[test]
fn a_thousand_silent_handlers_do_not_delay_the_next_call() {
    let mut pair = Pair::new(|builder| builder);
    for _ in 0..1_000 {
        let slot = pair.ends[A].open().unwrap();
        pair.write(A, slot, b"never answered");
        pair.ends[B].accept().unwrap();
        pair.millis(5);
    }
    let ours = pair.ends[A].open().unwrap();
    pair.write(A, ours, b"call");
    let theirs = pair.ends[B].accept().unwrap();
    assert_eq!(pair.drain(B, theirs).0, b"call");
    pair.write(B, theirs, b"answer");
    assert_eq!(pair.drain(A, ours).0, b"answer");
    assert_eq!(pair.ends[A].stats().ack_backlog, 0);
}

// spec.md §4.3.4
#[test]
fn any_frame_of_a_stream_acknowledges_it() {
    let frames: [Frame; 9] = [
        update(1, ACK, 0),
        data(1, ACK, "x"),
        data(1, NONE, "x"),
        data(1, NONE, ""),
        update(1, NONE, 100),
        update(1, FIN, 0),
        data(1, FIN, ""),
        update(1, RST, 0),
        data(1, RST, ""),
    ];
    for frame in frames {
        let mut wire = Wire::new(Role::Client, |builder| builder.ack_backlog(1));
        let slot = wire.open();
        assert_eq!(wire.core.open(), Err(TryOpenError::AckBacklogFull));
        wire.events();
        wire.feed(slice::from_ref(&frame));
        assert_eq!(wire.core.stats().ack_backlog, 0, "{frame:?}");
        assert!(wire.events().contains(&Event::Openable), "{frame:?}");
        assert!(wire.core.open().is_ok(), "{frame:?}");
        // The open timeout is off as well.
        wire.secs(74);
        wire.sent();
        wire.feed(&[update(3, ACK, 0)]);
        wire.secs(10);
        assert_ne!(wire.drain(slot).1, Tail::Error(StreamError::OpenTimeout), "{frame:?}");
    }
}

// spec.md §4.3.5, §4.4.3
#[test]
fn a_thousand_spare_acks_release_nothing() {
    let mut wire = Wire::new(Role::Client, |builder| builder.ack_backlog(2));
    wire.open();
    wire.open();
    wire.feed(&[update(1, ACK, 0)]);
    assert_eq!(wire.core.stats().ack_backlog, 1);
    let inbound = wire.inbound(2);
    for _ in 0..1_000 {
        wire.feed(&[update(1, ACK, 0), update(2, ACK, 0), update(99, ACK, 0)]);
    }
    assert_eq!(wire.core.stats().ack_backlog, 1);
    assert!(wire.core.open().is_ok());
    assert_eq!(wire.core.open(), Err(TryOpenError::AckBacklogFull));
    wire.write(inbound, b"lives");
    wire.expect(&[data(2, NONE, "lives"), update(5, SYN, 0)]);
    wire.expect_alive();
}

// spec.md §4.4.1, §4.2.6
#[test]
fn the_backlog_overflows_into_resets_and_the_session_lives() {
    let mut wire = Wire::new(Role::Server, |builder| builder.accept_backlog(2));
    wire.feed(&[update(1, SYN, 0), update(3, SYN, 0), data(5, SYN, "too much"), update(7, SYN, 0)]);
    wire.expect(&[update(5, RST, 3), update(7, RST, 3)]);
    assert_eq!(wire.core.stats().refused, 2);
    // What follows on the refused stream is skipped.
    wire.feed(&[data(5, NONE, [0; 1_000]), update(5, FIN, 0), data(1, NONE, "kept")]);
    let slot = wire.accept();
    assert_eq!(wire.drain(slot).0, b"kept");
    assert_eq!(wire.core.stats().buffered, 0);
    // There is room again.
    wire.feed(&[update(9, SYN, 0)]);
    assert_eq!(wire.core.stats().refused, 2);
    wire.expect_alive();
}

// spec.md §4.4.1: no backlog at all, for an end that only opens.
#[test]
fn an_end_without_a_backlog_refuses_every_stream() {
    let mut wire = Wire::new(Role::Server, |builder| builder.accept_backlog(0));
    wire.feed(&[update(1, SYN, 0)]);
    wire.expect(&[update(1, RST, 3)]);
    wire.core.open().unwrap();
    wire.expect(&[update(2, SYN, 0)]);
}

// spec.md §4.4.4
#[test]
fn inbound_streams_are_bounded() {
    let mut wire = Wire::new(Role::Server, |builder| builder.max_streams(2));
    let first = wire.inbound(1);
    wire.inbound(3);
    wire.feed(&[update(5, SYN, 0)]);
    wire.expect(&[update(5, RST, 3)]);
    wire.core.reset(first, ResetCode(256));
    wire.core.release(first, Half::Both);
    wire.expect(&[update(1, RST, 256)]);
    wire.feed(&[update(7, SYN, 0)]);
    assert!(wire.core.accept().is_some());
}

// spec.md §4.4.4: a stream counts while it is live, then while it holds unread bytes.
#[test]
fn a_finished_stream_that_is_only_held_counts_no_more() {
    let mut wire =
        Wire::new(Role::Client, |builder| builder.max_outbound_streams(1).max_streams(1));
    let slot = wire.established();
    assert_eq!(wire.core.open(), Err(TryOpenError::TooManyStreams));
    wire.core.finish(slot).unwrap();
    wire.expect(&[update(1, FIN, 0)]);
    wire.feed(&[data(1, FIN, "unread")]);
    assert_eq!(wire.core.open(), Err(TryOpenError::TooManyStreams));
    wire.events();
    assert_eq!(wire.drain(slot), (b"unread".to_vec(), Tail::Eof));
    assert_eq!(wire.events(), [Event::Openable]);
    assert!(wire.core.open().is_ok(), "the handle does not count");
    assert_eq!(wire.drain(slot).1, Tail::Eof);
    wire.core.release(slot, Half::Both);
    assert_eq!(wire.core.stats().outbound_streams, 1);
}

// spec.md §4.4.4
#[test]
fn outbound_streams_are_bounded() {
    let mut wire = Wire::new(Role::Client, |builder| builder.max_outbound_streams(1));
    let slot = wire.established();
    assert_eq!(wire.core.open(), Err(TryOpenError::TooManyStreams));
    wire.events();
    wire.core.release(slot, Half::Both);
    wire.expect(&[update(1, RST, 4)]);
    assert_eq!(wire.events(), [Event::Openable]);
    assert!(wire.core.open().is_ok());
}

// spec.md §4.4.2
#[test]
fn a_full_ack_backlog_delays_opens_and_nothing_else() {
    let mut wire = Wire::client();
    for _ in 0..256 {
        wire.core.open().unwrap();
    }
    for _ in 0..10 {
        assert_eq!(wire.core.open(), Err(TryOpenError::AckBacklogFull));
    }
    assert_eq!(wire.sent().len(), 256);
    wire.events();
    wire.feed(&[update(5, ACK, 0)]);
    assert_eq!(wire.events(), [Event::Openable]);
    wire.core.open().unwrap();
    assert_eq!(wire.core.open(), Err(TryOpenError::AckBacklogFull));
    wire.expect(&[update(513, SYN, 0)]);
    wire.expect_alive();
}

// spec.md §4.4.3: a permit comes back however the stream ends.
#[test]
fn no_permit_is_lost() {
    let mut wire = Wire::new(Role::Client, |builder| builder.ack_backlog(1));
    for round in 0..5 {
        let slot = wire.core.open().unwrap();
        if round == 0 {
            wire.core.release(slot, Half::Both);
            continue;
        }
        wire.sent();
        let id = wire.core.id(slot).unwrap().0;
        match round {
            1 => wire.core.reset(slot, ResetCode::CANCELLED),
            2 => wire.feed(&[update(id, RST, 0)]),
            3 => wire.core.release(slot, Half::Both),
            _ => wire.secs(75),
        }
        wire.sent();
        assert_eq!(wire.core.stats().ack_backlog, 0, "round {round}");
    }
}

// spec.md §4.4.5
#[test]
fn a_stream_reset_before_it_was_accepted_vanishes() {
    let mut wire = Wire::server();
    wire.feed(&[data(1, SYN, "gone"), data(3, SYN, "stays"), update(1, RST, 4)]);
    let slot = wire.accept();
    assert_eq!(wire.core.id(slot), Some(StreamId(3)));
    assert_eq!(wire.core.accept(), None);
    assert_eq!(wire.core.stats().buffered, 5);
    assert_eq!(wire.core.stats().inbound_streams, 1);
    wire.expect_alive();
}

// spec.md §4.1.4: two clients.
#[test]
fn two_ends_in_the_same_role_are_told() {
    let config = Config::default();
    for role in [Role::Client, Role::Server] {
        let mut pair = Pair::of([role, role], &config);
        pair.ends[A].open().unwrap();
        pair.ends[B].open().unwrap();
        let [a, b] = &mut pair.ends;
        let from_a = take(a, usize::MAX, pair.now).unwrap();
        let from_b = take(b, usize::MAX, pair.now).unwrap();
        a.handle_input(&from_b.into(), pair.now);
        b.handle_input(&from_a.into(), pair.now);
        for core in [a, b] {
            let ended = core.ended().unwrap().unwrap_err();
            assert!(
                matches!(
                    ended,
                    crate::SessionError::Violation { rule: Violation::WrongParity, frame: Some(_) }
                ),
                "{ended}"
            );
        }
    }
}

// spec.md §2.10: the whole frame is judged before it changes anything.
#[test]
fn a_syn_that_breaks_a_rule_opens_nothing() {
    let too_long = vec![0; 262_145];
    for (frame, rule) in [
        (data(1, SYN, too_long), Violation::WindowExceeded),
        (update(1, SYN, u32::MAX - 262_143), Violation::WindowOverflow),
    ] {
        let mut wire = Wire::server();
        wire.feed(&[frame]);
        assert_eq!(wire.core.accept(), None);
        assert_eq!(wire.core.stats().inbound_streams, 0);
        wire.expect_violation(rule);
    }
}

// spec.md §3.2.2: the largest credit that fits.
#[test]
fn a_syn_may_carry_the_largest_window() {
    let mut wire = Wire::server();
    wire.feed(&[update(1, SYN, u32::MAX - 262_144)]);
    wire.accept();
    wire.expect_alive();
}

// spec.md §4.2.1: SYN with everything that may follow at once.
#[test]
fn syn_may_come_with_fin_and_data() {
    let mut wire = Wire::server();
    wire.feed(&[data(1, SYN.with(FIN), "all")]);
    let slot = wire.accept();
    assert_eq!(wire.drain(slot), (b"all".to_vec(), Tail::Eof));
    wire.write(slot, b"answer");
    wire.core.finish(slot).unwrap();
    wire.expect(&[data(1, ACK, "answer"), update(1, FIN, 0)]);
}

// spec.md §4.2.1: opened and reset in one frame.
#[test]
fn syn_with_rst_leaves_nothing_behind() {
    let mut wire = Wire::server();
    wire.feed(&[update(1, SYN.with(RST), 4), data(3, SYN.with(RST), "lost")]);
    assert_eq!(wire.core.accept(), None);
    assert_eq!(wire.core.live_streams(), 0);
    assert_eq!(wire.core.stats().buffered, 0);
    wire.expect(&[]);
    wire.expect_alive();
}

// spec.md §12.3, §12.4: peers acknowledge on Data or WindowUpdate, and sometimes twice.
#[test]
fn ack_on_data_and_again_is_fine() {
    let mut wire = Wire::client();
    let slot = wire.open();
    wire.feed(&[data(1, ACK, "a"), update(1, ACK, 0), data(1, ACK, "b")]);
    assert_eq!(wire.drain(slot), (b"ab".to_vec(), Tail::Blocked));
    assert_eq!(wire.core.streams[slot].state, State::Established);
    wire.expect_alive();
}

// spec.md §4.1.3, §6.1: two ends, many streams, bytes cut anywhere.
#[test]
fn streams_from_both_ends_stay_apart() {
    for split in [1, 11, 13, 4_096] {
        let mut pair = Pair::new(|builder| builder);
        pair.split = split;
        let mut streams = Vec::new();
        for n in 0..10 {
            let end = n % 2;
            let (ours, theirs) = pair.stream(end);
            streams.push((end, ours, theirs));
        }
        for (n, (end, ours, theirs)) in streams.into_iter().enumerate() {
            let there = pattern(2_000 + n);
            let back = pattern(1_000 + n);
            assert_eq!(pair.carry(end, ours, &there, theirs), there);
            assert_eq!(pair.carry(1 - end, theirs, &back, ours), back);
        }
    }
}

// spec.md §4.3.2: ACK is owed though the data came first.
#[test]
fn a_blocked_reader_is_woken_once() {
    let mut wire = Wire::server();
    let slot = wire.inbound(1);
    let mut buffer = [0; 8];
    assert_eq!(wire.core.read(slot, &mut buffer), Ok(Read::Blocked));
    wire.events();
    wire.feed(&[data(1, NONE, "a"), data(1, NONE, "b")]);
    assert_eq!(wire.events(), [Event::Readable(slot)]);
    assert_eq!(wire.core.read(slot, &mut buffer), Ok(Read::Data(2)));
    assert_eq!(wire.core.write(slot, b""), Ok(Written::Bytes(0)));
}
