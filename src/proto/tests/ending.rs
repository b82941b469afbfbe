//! Go away, close, abort, end of file, dropped handles.

use std::{io::ErrorKind, time::Duration};

use super::{
    pair::{A, B, Pair, pattern},
    wire::{ACK, FIN, NONE, RST, SYN, Tail, WINDOW, Wire, data, go_away, hex, ping, take, update},
};
use crate::{
    GoAwayCode, OpenError, ResetCode, Role, SessionError, StreamError, TryOpenError,
    proto::{Event, Half, IoStep, Read, Written},
};

const GONE: TryOpenError = TryOpenError::Open(OpenError::RemoteGoAway);
const CLOSING: TryOpenError = TryOpenError::Open(OpenError::Closing);

// spec.md §8.1.1, §8.1.3
#[test]
fn go_away_refuses_new_streams_and_spares_live_ones() {
    let mut wire = Wire::server();
    let slot = wire.inbound(1);
    wire.core.go_away();
    wire.core.go_away();
    assert_eq!(wire.sent_bytes(), hex("00 03 0000 00000000 00000000"));
    wire.feed(&[update(3, SYN, 0), data(1, NONE, "goes on")]);
    wire.expect(&[update(3, RST, 3)]);
    assert_eq!(wire.core.open(), Err(CLOSING));
    assert_eq!(wire.drain(slot).0, b"goes on");
    wire.write(slot, b"here too");
    wire.expect(&[data(1, NONE, "here too")]);
    assert_eq!(wire.core.stats().refused, 1);
    assert!(wire.is_running());
    wire.expect_alive();
}

// spec.md §8.1.2, §3.4.2
#[test]
fn after_their_goaway_nothing_is_opened_and_streams_run_on() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[go_away(0)]);
    assert_eq!(wire.core.open(), Err(GONE));
    assert_eq!(wire.events(), [Event::Openable]);
    wire.feed(&[go_away(0), data(1, NONE, "still here")]);
    assert_eq!(wire.events(), [], "the second one is no news");
    assert_eq!(wire.drain(slot).0, b"still here");
    wire.write(slot, b"so am I");
    wire.expect(&[data(1, NONE, "so am I")]);
    // The peer may still open.
    wire.feed(&[data(2, SYN, "mine")]);
    let theirs = wire.accept();
    assert_eq!(wire.drain(theirs).0, b"mine");
    wire.expect_alive();
    // With another code it is the end after all.
    wire.feed(&[go_away(3)]);
    assert_eq!(wire.error(), Some(SessionError::RemoteGoAway(GoAwayCode(3))));
}

// spec.md §8.1.2: a stream whose SYN is not staged fails as never sent.
#[test]
fn their_goaway_fails_a_stream_that_was_not_sent() {
    let mut wire = Wire::client();
    let slot = wire.core.open().unwrap();
    assert_eq!(wire.core.read(slot, &mut [0]), Ok(Read::Blocked));
    wire.feed(&[go_away(0)]);
    assert!(wire.events().contains(&Event::Readable(slot)));
    assert!(wire.core.write(slot, b"x").is_err());
    assert!(wire.core.read(slot, &mut [0]).is_err());
    wire.expect(&[]);
    assert_eq!(wire.core.stats().ack_backlog, 0);
    wire.core.release(slot, Half::Both);
    assert_eq!(wire.core.live_streams(), 0);
    wire.expect_alive();
}

// spec.md §8.1.2: whoever waits to open is told.
#[test]
fn their_goaway_wakes_waiting_openers() {
    let mut wire = Wire::new(Role::Client, |builder| builder.ack_backlog(1));
    wire.open();
    assert_eq!(wire.core.open(), Err(TryOpenError::AckBacklogFull));
    wire.events();
    wire.feed(&[go_away(0)]);
    assert!(wire.events().contains(&Event::Openable));
    assert_eq!(wire.core.open(), Err(GONE));
}

// spec.md §3.4.1, §8.3.6
#[test]
fn a_goaway_with_a_code_ends_the_session() {
    for code in [1, 2, 3, 77, u32::MAX] {
        let mut wire = Wire::client();
        let slot = wire.established();
        let error = SessionError::RemoteGoAway(GoAwayCode(code));
        wire.feed(&[data(1, NONE, "before"), go_away(code), data(1, NONE, "after")]);
        assert_eq!(wire.error(), Some(error));
        wire.expect(&[]);
        assert_eq!(wire.core.open(), Err(TryOpenError::Open(OpenError::Session(error))));
        assert_eq!(wire.core.write(slot, b"x"), Err(StreamError::Session(error)));
        let tail = Tail::Error(StreamError::Session(error));
        assert_eq!(wire.drain(slot), (b"before".to_vec(), tail));
        assert_eq!(wire.core.io_step(), IoStep::Shutdown);
        wire.core.handle_shutdown(wire.now);
        wire.core.handle_eof(wire.now);
        assert_eq!(wire.core.io_step(), IoStep::Done(Err(error)));
    }
}

// spec.md §8.2.1
#[test]
fn close_of_an_idle_session_is_one_goaway() {
    let mut wire = Wire::client();
    wire.core.close(wire.now);
    wire.core.close(wire.now);
    wire.expect(&[go_away(0)]);
    assert_eq!(wire.core.io_step(), IoStep::Shutdown);
    wire.core.handle_shutdown(wire.now);
    assert_eq!(wire.core.io_step(), IoStep::Linger);
    wire.feed(&[ping(SYN, 1)]);
    wire.expect(&[]);
    wire.core.handle_eof(wire.now);
    assert_eq!(wire.core.io_step(), IoStep::Done(Ok(())));
    assert_eq!(wire.core.outcome(), Some(Ok(())));
    wire.core.close(wire.now);
    wire.expect(&[]);
    assert_eq!(wire.core.poll_timeout(), None);
}

// spec.md §8.2.1, §8.2.2
#[test]
fn close_lets_streams_finish_and_says_goodbye_last() {
    let mut wire = Wire::server();
    let slot = wire.inbound(1);
    wire.core.close(wire.now);
    wire.expect(&[]);
    wire.feed(&[update(3, SYN, 0)]);
    wire.expect(&[update(3, RST, 3)]);
    assert_eq!(wire.core.open(), Err(CLOSING));
    wire.feed(&[data(1, FIN, "last words")]);
    assert_eq!(wire.drain(slot), (b"last words".to_vec(), Tail::Eof));
    wire.write(slot, b"mine");
    wire.core.finish(slot).unwrap();
    wire.expect(&[data(1, NONE, "mine"), update(1, FIN, 0), go_away(0)]);
    assert_eq!(wire.core.io_step(), IoStep::Shutdown);
}

// spec.md §8.2.1: what is left after the drain timeout is reset.
#[test]
fn close_resets_what_does_not_finish() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.close(wire.now);
    wire.millis(29_999);
    wire.expect(&[]);
    wire.millis(1);
    wire.expect(&[update(1, RST, 4), go_away(0)]);
    assert_eq!(wire.core.ended(), Some(Ok(())));
    assert!(matches!(wire.drain(slot).1, Tail::Error(_)), "no end of file without FIN");
}

// spec.md §8.2.2: GoAway is the last frame, also where the output is what notices the time.
#[test]
fn goaway_follows_the_resets_of_an_overdue_close() {
    let mut wire = Wire::client();
    wire.established();
    wire.core.close(wire.now);
    wire.now += Duration::from_secs(31);
    wire.expect(&[update(1, RST, 4), go_away(0)]);
}

// spec.md §8.2.2: however many streams there are.
#[test]
fn goaway_follows_ten_thousand_resets() {
    let mut wire =
        Wire::new(Role::Client, |builder| builder.ack_backlog(10_000).max_outbound_streams(10_000));
    for _ in 0..10_000 {
        wire.core.open().unwrap();
    }
    assert_eq!(wire.sent().len(), 10_000);
    wire.core.close(wire.now);
    wire.secs(30);
    let sent = wire.sent();
    assert_eq!(sent.len(), 10_001);
    assert_eq!(sent.last(), Some(&go_away(0)));
}

// spec.md §8.2.3: two ends that close at the same time.
#[test]
fn both_ends_may_close_at_once() {
    let mut pair = Pair::new(|builder| builder);
    let (ours, theirs) = pair.stream(A);
    for core in &mut pair.ends {
        core.close(pair.now);
    }
    pair.run();
    for (end, slot) in [(A, ours), (B, theirs)] {
        pair.write(end, slot, b"bye");
        pair.ends[end].finish(slot).unwrap();
        pair.run();
    }
    for (end, slot) in [(A, ours), (B, theirs)] {
        assert_eq!(pair.drain(end, slot), (b"bye".to_vec(), Tail::Eof));
        assert_eq!(pair.ends[end].ended(), Some(Ok(())));
    }
}

// spec.md §8.2.4
#[test]
fn abort_ends_now() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.write(slot, b"not sent");
    wire.core.abort(GoAwayCode(77), wire.now);
    wire.expect(&[go_away(77)]);
    let error = SessionError::Aborted(GoAwayCode(77));
    assert_eq!(wire.drain(slot).1, Tail::Error(StreamError::Session(error)));
    assert_eq!(wire.core.io_step(), IoStep::Shutdown);
    assert_eq!(wire.core.ended(), Some(Err(error)));
    // The first cause stays.
    wire.core.abort(GoAwayCode(1), wire.now);
    wire.core.handle_failure(SessionError::Io(ErrorKind::BrokenPipe), wire.now);
    assert_eq!(wire.core.io_step(), IoStep::Done(Err(error)));
}

// spec.md §8.3.3
#[test]
fn lingering_ends_with_time_bytes_or_the_end_of_file() {
    let lingering = || {
        let mut wire = Wire::new(Role::Client, |builder| builder.linger_bytes(1_000));
        wire.core.abort(GoAwayCode::INTERNAL_ERROR, wire.now);
        wire.sent();
        wire.core.handle_shutdown(wire.now);
        assert_eq!(wire.core.io_step(), IoStep::Linger);
        wire
    };
    let done = IoStep::Done(Err(SessionError::Aborted(GoAwayCode::INTERNAL_ERROR)));

    let mut wire = lingering();
    wire.millis(1_999);
    assert_eq!(wire.core.io_step(), IoStep::Linger);
    wire.millis(1);
    assert_eq!(wire.core.io_step(), done);

    let mut wire = lingering();
    wire.feed_bytes(vec![0xFF; 999]);
    assert_eq!(wire.core.io_step(), IoStep::Linger);
    wire.feed_bytes(vec![0xFF; 1]);
    assert_eq!(wire.core.io_step(), done);

    let mut wire = lingering();
    wire.core.handle_eof(wire.now);
    assert_eq!(wire.core.io_step(), done);

    let mut wire = Wire::new(Role::Client, |builder| builder.linger(Duration::ZERO));
    wire.core.abort(GoAwayCode::INTERNAL_ERROR, wire.now);
    wire.sent();
    wire.core.handle_shutdown(wire.now);
    assert_eq!(wire.core.io_step(), done);
}

// spec.md §8.3.3: the flush itself is under a time limit.
#[test]
fn a_goaway_that_cannot_be_written_does_not_hold_up_the_end() {
    let mut wire = Wire::client();
    wire.core.abort(GoAwayCode::INTERNAL_ERROR, wire.now);
    assert_eq!(wire.core.io_step(), IoStep::Shutdown);
    wire.secs(2);
    assert!(matches!(wire.core.io_step(), IoStep::Done(Err(_))));
}

// spec.md §8.4.1, §12.20
#[test]
fn end_of_file_without_streams_is_a_clean_end() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.finish(slot).unwrap();
    wire.sent();
    wire.feed(&[data(1, FIN, "bye")]);
    wire.core.handle_eof(wire.now);
    assert_eq!(wire.core.ended(), Some(Ok(())));
    assert_eq!(wire.drain(slot), (b"bye".to_vec(), Tail::Eof));
    wire.expect(&[]);
    wire.core.handle_shutdown(wire.now);
    assert_eq!(wire.core.io_step(), IoStep::Done(Ok(())));
    let closed = TryOpenError::Open(OpenError::Session(SessionError::Closed));
    assert_eq!(wire.core.open(), Err(closed));
}

// spec.md §8.4.1: what is staged is still written.
#[test]
fn what_is_staged_at_a_clean_end_is_written() {
    let mut wire = Wire::client();
    wire.feed(&[ping(SYN, 3)]);
    wire.core.handle_eof(wire.now);
    wire.expect(&[ping(ACK, 3)]);
}

// spec.md §8.4.2
#[test]
fn a_cut_connection_is_an_error_and_never_the_end_of_a_stream() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[data(1, NONE, "half")]);
    wire.core.handle_eof(wire.now);
    let lost = StreamError::Session(SessionError::ConnectionLost);
    assert_eq!(wire.drain(slot), (b"half".to_vec(), Tail::Error(lost)));
    assert_eq!(wire.core.write(slot, b"x"), Err(lost));
    wire.expect(&[]);

    // In the middle of a header, without any stream.
    let mut wire = Wire::client();
    wire.feed_bytes(vec![0; 5]);
    wire.core.handle_eof(wire.now);
    assert_eq!(wire.error(), Some(SessionError::ConnectionLost));

    // In the middle of a body that is skipped.
    let mut wire = Wire::new(Role::Server, |builder| builder.accept_backlog(0));
    wire.feed_bytes(data(1, SYN, "cut").to_bytes()[..13].to_vec());
    wire.sent();
    wire.core.handle_eof(wire.now);
    assert_eq!(wire.error(), Some(SessionError::ConnectionLost));
}

// spec.md §8.6.3: a FIN that was received stays an end of file.
#[test]
fn a_finished_direction_keeps_its_end_of_file() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[data(1, FIN, "whole")]);
    wire.core.handle_eof(wire.now);
    assert_eq!(wire.error(), Some(SessionError::ConnectionLost));
    assert_eq!(wire.drain(slot), (b"whole".to_vec(), Tail::Eof));
}

// spec.md §4.4.5, §8.5.3
#[test]
fn the_backlog_can_be_accepted_after_the_end() {
    let mut wire = Wire::server();
    wire.feed(&[data(1, SYN, "first"), data(3, SYN.with(FIN), "second")]);
    wire.core.handle_eof(wire.now);
    assert!(!wire.core.accepts_no_more());
    let (first, second) = (wire.accept(), wire.accept());
    let lost = Tail::Error(StreamError::Session(SessionError::ConnectionLost));
    assert_eq!(wire.drain(first), (b"first".to_vec(), lost));
    assert_eq!(wire.drain(second), (b"second".to_vec(), Tail::Eof));
    assert_eq!(wire.core.accept(), None);
    assert!(wire.core.accepts_no_more());
    for slot in [first, second] {
        wire.core.release(slot, Half::Both);
    }
    assert_eq!(wire.core.live_streams(), 0);
    wire.expect(&[]);
}

// spec.md §8.5.3: whichever way, every waiting call is woken.
#[test]
fn every_waiter_is_woken_at_the_end() {
    let ends: [fn(&mut Wire); 5] = [
        |wire| wire.core.handle_eof(wire.now),
        |wire| wire.core.abort(GoAwayCode(9), wire.now),
        |wire| wire.feed(&[go_away(2)]),
        |wire| wire.feed_bytes(vec![9; 12]),
        |wire| wire.core.handle_failure(SessionError::DriverDropped, wire.now),
    ];
    for end in ends {
        let mut wire = Wire::client();
        let (reader, writer) = (wire.established(), wire.open());
        assert_eq!(wire.core.read(reader, &mut [0]), Ok(Read::Blocked));
        while wire.core.write(writer, &[0; 50_000]).unwrap() != Written::Blocked {}
        wire.events();
        end(&mut wire);
        let events = wire.events();
        for event in [Event::Readable(reader), Event::Writable(writer), Event::Ended] {
            assert!(events.contains(&event), "{event:?} of {events:?}");
        }
        assert!(wire.core.ping(wire.now).is_err());
        assert!(wire.core.open().is_err());
    }
}

// spec.md §8.4.3
#[test]
fn the_first_error_is_the_one_that_stays() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.handle_failure(SessionError::Io(ErrorKind::ConnectionReset), wire.now);
    wire.core.handle_eof(wire.now);
    wire.core.close(wire.now);
    let error = SessionError::Io(ErrorKind::ConnectionReset);
    assert_eq!(wire.core.io_step(), IoStep::Done(Err(error)));
    assert_eq!(wire.drain(slot).1, Tail::Error(StreamError::Session(error)));
    wire.expect(&[]);
}

// spec.md §8.5.1
#[test]
fn without_handles_streams_run_on_and_then_the_session_ends() {
    let mut wire = Wire::server();
    let slot = wire.inbound(1);
    wire.feed(&[data(3, SYN, "nobody accepts")]);
    wire.core.handles_dropped(wire.now);
    wire.expect(&[update(3, RST, 3)]);
    wire.feed(&[update(5, SYN, 0)]);
    wire.expect(&[update(5, RST, 3)]);
    wire.feed(&[data(1, FIN, "live")]);
    assert_eq!(wire.drain(slot), (b"live".to_vec(), Tail::Eof));
    // There is no hurry.
    wire.secs(3_600);
    assert_eq!(wire.core.ended(), None);
    wire.core.finish(slot).unwrap();
    wire.core.release(slot, Half::Both);
    wire.expect(&[update(1, FIN, 0), go_away(0)]);
    assert_eq!(wire.core.ended(), Some(Ok(())));
    assert_eq!(wire.core.stats().buffered, 0);
}

// spec.md §8.5.1: a stream just opened by the user is not forgotten.
#[test]
fn without_handles_a_stream_not_yet_sent_is_sent() {
    let mut wire = Wire::client();
    let slot = wire.core.open().unwrap();
    wire.core.handles_dropped(wire.now);
    wire.write(slot, b"fire and forget");
    wire.core.finish(slot).unwrap();
    wire.core.release(slot, Half::Both);
    wire.expect(&[data(1, SYN, "fire and forget"), update(1, FIN, 0)]);
    assert_eq!(wire.core.ended(), None);
    wire.feed(&[update(1, FIN, 0)]);
    wire.expect(&[go_away(0)]);
}

// spec.md §8.5.1: close sets a time limit where dropping the handles set none.
#[test]
fn close_after_the_handles_are_gone_still_has_a_time_limit() {
    let mut wire = Wire::client();
    wire.established();
    wire.core.handles_dropped(wire.now);
    wire.core.close(wire.now);
    wire.secs(30);
    wire.expect(&[update(1, RST, 4), go_away(0)]);
}

// spec.md §8.3.4, §8.3.3: a violation discards what is staged, and nothing follows GoAway.
#[test]
fn nothing_follows_the_goaway_of_a_violation() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.write(slot, b"staged");
    wire.feed(&[ping(SYN, 1), update(3, SYN, 0), ping(SYN, 2)]);
    wire.expect(&[go_away(1)]);
    wire.core.reset(slot, ResetCode(256));
    wire.core.release(slot, Half::Both);
    wire.expect(&[]);
}

// spec.md §8.2.1: a close while a bulk transfer runs loses no byte.
#[test]
fn close_loses_no_byte() {
    let mut pair = Pair::new(|builder| builder);
    pair.delay = Duration::from_millis(10);
    let (ours, theirs) = pair.stream(A);
    let bytes = pattern(3 * WINDOW);
    let (mut written, mut read) = (0, Vec::new());
    pair.ends[A].close(pair.now);
    while read.len() < bytes.len() {
        written += pair.write(A, ours, &bytes[written..]);
        if written == bytes.len() {
            pair.ends[A].finish(ours).unwrap();
            pair.ends[A].release(ours, Half::Both);
            written += 1;
        }
        written = written.min(bytes.len());
        pair.millis(20);
        read.extend(pair.drain(B, theirs).0);
        if written == bytes.len() && read.len() < bytes.len() {
            pair.millis(20);
            read.extend(pair.drain(B, theirs).0);
            break;
        }
    }
    assert!(read == bytes);
    assert_eq!(pair.drain(B, theirs).1, Tail::Eof);
    pair.ends[B].finish(theirs).unwrap();
    pair.secs(1);
    assert_eq!(pair.ends[A].ended(), Some(Ok(())));
    let [_, b] = &mut pair.ends;
    assert_eq!(b.open(), Err(GONE));
    assert_eq!(take(b, usize::MAX, pair.now), None);
}

// spec.md §4.6.7, §4.7.6: a reset that was decided before the end keeps its code.
#[test]
fn the_end_does_not_change_the_code_of_a_reset() {
    let mut wire = Wire::client();
    let (slot, other) = (wire.established(), wire.open());
    wire.core.close(wire.now);
    wire.core.reset(slot, ResetCode(256));
    wire.now += Duration::from_secs(30);
    wire.core.handle_timeout(wire.now);
    wire.expect(&[update(1, RST, 256), update(3, RST, 4), go_away(0)]);
    assert_eq!(wire.drain(slot).1, Tail::Error(StreamError::LocalReset(ResetCode(256))));
    assert_eq!(wire.drain(other).1, Tail::Error(StreamError::Session(SessionError::Closed)));

    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.reset(slot, ResetCode(256));
    wire.core.handle_failure(SessionError::DriverDropped, wire.now);
    assert_eq!(wire.drain(slot).1, Tail::Error(StreamError::LocalReset(ResetCode(256))));
}
