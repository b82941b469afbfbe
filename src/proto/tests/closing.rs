//! FIN, RST, dropped handles, late frames.

use super::{
    pair::{A, B, Pair, pattern},
    wire::{ACK, FIN, NONE, RST, SYN, Tail, WINDOW, Wire, data, update},
};
use crate::{
    GoAwayCode, ResetCode, Role, SessionError, StreamError, Violation,
    proto::{Direction, Event, Half, Read, Slot, State, Written},
};

/// To close a stream is to finish it and to flush it, at every step of its life.
#[test]
fn closing_finishes_and_flushes() {
    type Close = fn(&mut Wire, Slot) -> Result<bool, StreamError>;
    let closes: [Close; 2] = [
        |wire, slot| wire.core.close_stream(slot),
        |wire, slot| wire.core.finish(slot).and_then(|()| wire.core.flush(slot)),
    ];
    let lives = closes.map(|close| {
        let (mut wire, mut life) = (Wire::client(), Vec::new());
        let mut step = |wire: &mut Wire, slot| {
            let closed = close(wire, slot);
            life.push((closed, wire.sent(), wire.events(), close(wire, slot)));
        };
        let slot = wire.established();
        wire.write(slot, b"bytes");
        step(&mut wire, slot);
        step(&mut wire, slot);
        wire.feed(&[data(1, FIN, "more")]);
        step(&mut wire, slot);
        let slot = wire.established();
        wire.feed(&[update(3, RST, 9)]);
        step(&mut wire, slot);
        let slot = wire.established();
        wire.core.set_deadline(slot, Direction::Write, Some(wire.now), wire.now);
        step(&mut wire, slot);
        wire.core.abort(GoAwayCode::NORMAL, wire.now);
        step(&mut wire, slot);
        life
    });
    assert_eq!(lives[0], lives[1]);
    let answers: Vec<_> = lives[0].iter().map(|(first, .., then)| (*first, *then)).collect();
    let reset = Err(StreamError::Reset(ResetCode(9)));
    let late = Err(StreamError::TimedOut);
    let over = Err(StreamError::Session(SessionError::Aborted(GoAwayCode::NORMAL)));
    let expected = [
        (Ok(false), Ok(true)),
        (Ok(true), Ok(true)),
        (Ok(true), Ok(true)),
        (reset, reset),
        (late, Ok(true)),
        (over, over),
    ];
    assert_eq!(answers, expected);
}

// spec.md §4.5.1, §4.5.2
#[test]
fn after_half_close_the_other_direction_goes_on() {
    let mut pair = Pair::new(|builder| builder);
    let (ours, theirs) = pair.stream(A);
    pair.write(A, ours, b"request");
    pair.ends[A].finish(ours).unwrap();
    pair.run();
    assert_eq!(pair.drain(B, theirs), (b"request".to_vec(), Tail::Eof));
    let response = pattern(1 << 20);
    assert_eq!(pair.carry(B, theirs, &response, ours), response);
    pair.ends[B].finish(theirs).unwrap();
    pair.run();
    assert_eq!(pair.drain(A, ours), (Vec::new(), Tail::Eof));
    // A second time changes nothing.
    pair.ends[A].finish(ours).unwrap();
    pair.ends[B].finish(theirs).unwrap();
    pair.run();
    assert_eq!(pair.ends[A].write(ours, b"x"), Err(StreamError::Finished));
    for (end, slot) in [(A, ours), (B, theirs)] {
        pair.ends[end].release(slot, Half::Both);
        assert_eq!(pair.ends[end].live_streams(), 0);
    }
}

// spec.md §4.5.4, §6.2, §6.6
#[test]
fn fin_is_a_frame_of_its_own_behind_the_data() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.write(slot, b"data");
    wire.core.finish(slot).unwrap();
    wire.expect(&[data(1, NONE, "data"), update(1, FIN, 0)]);
}

// spec.md §4.5.4, §12.1: received with a body, FIN comes after it, also when the body is cut.
#[test]
fn fin_with_a_body_is_honoured() {
    let mut wire = Wire::client();
    let slot = wire.established();
    let frame = data(1, FIN, "the end").to_bytes();
    wire.feed_bytes(frame[..15].to_vec());
    assert_eq!(wire.drain(slot), (b"the".to_vec(), Tail::Blocked));
    wire.feed_bytes(frame[15..].to_vec());
    assert_eq!(wire.drain(slot), (b" end".to_vec(), Tail::Eof));
}

// spec.md §4.5.5
#[test]
fn a_second_fin_is_ignored() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[data(1, FIN, "x"), update(1, FIN, 0), data(1, FIN, "")]);
    assert_eq!(wire.drain(slot), (b"x".to_vec(), Tail::Eof));
    wire.write(slot, b"still open here");
    wire.expect(&[data(1, NONE, "still open here")]);
    wire.expect_alive();
}

// spec.md §4.5.6
#[test]
fn data_after_fin_resets_the_stream_and_only_it() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[data(1, FIN, "before"), data(1, NONE, ""), data(1, NONE, "after")]);
    wire.expect(&[update(1, RST, 8)]);
    assert_eq!(wire.core.write(slot, b"x"), Err(StreamError::DataAfterFin));
    // What came before FIN, then the error.
    assert_eq!(wire.drain(slot), (b"before".to_vec(), Tail::Error(StreamError::DataAfterFin)));
    wire.expect_alive();
}

// spec.md §4.6.6, §8.6.1
#[test]
fn what_came_before_rst_is_read_before_the_error() {
    let mut wire = Wire::client();
    let slot = wire.established();
    let mut buffer = [0; 4];
    assert_eq!(wire.core.read(slot, &mut buffer), Ok(Read::Blocked));
    wire.feed(&[data(1, NONE, "kept"), update(1, RST, 300)]);
    assert!(wire.events().contains(&Event::Readable(slot)));
    let reset = StreamError::Reset(ResetCode(300));
    assert_eq!(wire.core.write(slot, b"x"), Err(reset));
    assert_eq!(wire.drain(slot), (b"kept".to_vec(), Tail::Error(reset)));
    assert_eq!(wire.drain(slot), (Vec::new(), Tail::Error(reset)), "it stays so");
    wire.expect(&[]);
    wire.expect_alive();
}

// spec.md §4.6.2: Data+RST has no room for a code.
#[test]
fn rst_on_data_means_code_zero() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[data(1, RST, "skipped")]);
    assert_eq!(wire.drain(slot), (Vec::new(), Tail::Error(StreamError::Reset(ResetCode::NONE))));
    wire.expect_alive();
}

// spec.md §4.6.4, §4.8.2: a body beside RST is taken off the window.
#[test]
fn a_body_beside_rst_counts_against_the_window() {
    let mut wire = Wire::client();
    wire.established();
    wire.feed(&[data(1, RST, vec![0; 1_000])]);
    wire.feed(&[data(1, NONE, vec![0; WINDOW - 1_000])]);
    wire.expect_alive();
    wire.feed(&[data(1, NONE, "x")]);
    wire.expect_violation(Violation::LateData);
}

// spec.md §4.6.2, §4.6.7
#[test]
fn a_reset_carries_its_code_behind_what_was_staged() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[data(1, NONE, "unread")]);
    wire.write(slot, b"staged");
    wire.core.reset(slot, ResetCode(0x1234));
    wire.expect(&[data(1, NONE, "staged"), update(1, RST, 0x1234)]);
    let error = StreamError::LocalReset(ResetCode(0x1234));
    assert_eq!(wire.core.write(slot, b"x"), Err(error));
    // A reset of our own discards what is unread.
    assert_eq!(wire.drain(slot), (Vec::new(), Tail::Error(error)));
    assert_eq!(wire.core.stats().buffered, 0);
}

// spec.md §4.6.5
#[test]
fn rst_is_never_answered_with_rst() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.reset(slot, ResetCode(256));
    wire.feed(&[update(1, RST, 4)]);
    wire.expect(&[]);
    wire.feed(&[update(1, RST, 4), update(1, FIN, 0), data(1, NONE, "late")]);
    wire.expect(&[]);
    wire.expect_alive();
}

// spec.md §4.6.5, §4.7.3: a stale RST must not hit the stream that uses the id next.
#[test]
fn our_reset_does_not_hit_the_next_stream_of_that_id() {
    let mut wire = Wire::server();
    let slot = wire.inbound(1);
    wire.core.reset(slot, ResetCode(256));
    wire.feed(&[update(1, RST, 4), data(1, SYN, "new")]);
    let again = wire.accept();
    wire.write(again, b"fine");
    wire.expect(&[data(1, ACK, "fine")]);
}

// spec.md §4.5.7
#[test]
fn a_closed_stream_is_dropped_silently_and_its_data_goes_out() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.write(slot, b"written");
    wire.core.finish(slot).unwrap();
    wire.core.release(slot, Half::Both);
    wire.expect(&[data(1, NONE, "written"), update(1, FIN, 0)]);
    wire.feed(&[update(1, FIN, 0)]);
    assert_eq!(wire.core.live_streams(), 0);
    wire.expect(&[]);
}

// spec.md §4.5.7
#[test]
fn a_stream_dropped_without_close_is_reset() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.write(slot, b"half a message");
    wire.core.release(slot, Half::Both);
    wire.expect(&[data(1, NONE, "half a message"), update(1, RST, 4)]);
    assert_eq!(wire.core.stats().dropped_unsent, 1);
    assert_eq!(wire.core.live_streams(), 0);
}

// spec.md §4.5.8
#[test]
fn input_of_a_closed_and_dropped_stream_is_discarded_and_credited() {
    let mut pair = Pair::new(|builder| builder);
    let (ours, theirs) = pair.stream(A);
    pair.ends[A].finish(ours).unwrap();
    pair.ends[A].release(ours, Half::Both);
    pair.run();
    let long = pattern(4 * WINDOW);
    let mut written = 0;
    while written < long.len() {
        let len = pair.write(B, theirs, &long[written..]);
        assert!(len > 0, "the peer can finish");
        written += len;
    }
    assert_eq!(pair.ends[A].stats().buffered, 0);
    pair.ends[B].finish(theirs).unwrap();
    pair.run();
    assert_eq!(pair.drain(B, theirs).1, Tail::Eof);
    assert_eq!(pair.ends[A].live_streams(), 0);
}

// spec.md §4.5.9
#[test]
fn a_dropped_read_half_discards_and_grants_nothing() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[data(1, NONE, vec![0; 150_000])]);
    assert_eq!(wire.drain(slot).0.len(), 150_000);
    wire.core.release(slot, Half::Read);
    wire.feed(&[data(1, NONE, vec![0; WINDOW - 150_000])]);
    wire.expect(&[]);
    assert_eq!(wire.core.stats().buffered, 0);
    wire.write(slot, b"writing goes on");
    wire.expect(&[data(1, NONE, "writing goes on")]);
    // Both halves gone without a close.
    wire.core.release(slot, Half::Write);
    wire.expect(&[update(1, RST, 4)]);
}

// spec.md §4.5.9: the write half was closed, so what is left is discarded and credited.
#[test]
fn halves_dropped_after_close_let_the_peer_finish() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.release(slot, Half::Read);
    wire.feed(&[data(1, NONE, vec![0; WINDOW])]);
    wire.expect(&[]);
    wire.core.finish(slot).unwrap();
    wire.core.release(slot, Half::Write);
    let sent = wire.sent();
    assert!(sent.contains(&update(1, NONE, WINDOW as u32)), "{sent:?}");
    assert!(sent.contains(&update(1, FIN, 0)), "{sent:?}");
    assert_eq!(sent.len(), 2);
    wire.feed(&[update(1, FIN, 0)]);
    assert_eq!(wire.core.live_streams(), 0);
}

// spec.md §4.8.1, §12.14
#[test]
fn late_frames_are_skipped_silently() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.release(slot, Half::Both);
    wire.expect(&[update(1, RST, 4)]);
    wire.feed(&[data(1, NONE, vec![7; 100_000]), update(1, NONE, 5), data(1, FIN, "x")]);
    wire.feed(&[update(1, RST, 0), update(1, ACK, 0)]);
    wire.expect(&[]);
    assert_eq!(wire.core.stats().buffered, 0);
    assert_eq!(wire.core.stats().late_frames, 5);
    wire.expect_alive();
}

// spec.md §4.8.2: exactly the credit that the peer held.
#[test]
fn late_bytes_are_allowed_up_to_the_outstanding_credit() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[data(1, NONE, vec![0; 1_000])]);
    wire.core.reset(slot, ResetCode::CANCELLED);
    wire.sent();
    wire.feed(&[data(1, NONE, vec![0; WINDOW - 1_000 - 1])]);
    wire.feed(&[data(1, NONE, "x")]);
    wire.expect_alive();
    wire.feed(&[data(1, NONE, "x")]);
    wire.expect_violation(Violation::LateData);
}

// spec.md §4.8.2
#[test]
fn a_refused_syn_allows_one_window_of_late_bytes() {
    let mut wire = Wire::new(Role::Server, |builder| builder.accept_backlog(0));
    wire.feed(&[data(1, SYN, vec![0; 1_000])]);
    wire.feed(&[data(1, NONE, vec![0; WINDOW - 1_000])]);
    wire.expect(&[update(1, RST, 3)]);
    wire.expect_alive();
    wire.feed(&[data(1, NONE, "x")]);
    wire.expect_violation(Violation::LateData);
}

// spec.md §4.8.4, §12.2: FIN for a stream that never had a SYN.
#[test]
fn frames_without_a_body_for_unknown_streams_are_ignored() {
    let mut wire = Wire::server();
    wire.feed(&[update(9, FIN, 0), update(9, ACK, 0), update(9, RST, 1), update(9, NONE, 77)]);
    wire.feed(&[data(9, NONE, ""), data(4, FIN, "")]);
    wire.expect(&[]);
    wire.expect_alive();
}

// spec.md §4.1.6: below the highest id seen nothing counts as never opened.
#[test]
fn an_id_below_the_highest_counts_as_finished() {
    let mut wire = Wire::server();
    let slot = wire.inbound(9);
    wire.core.reset(slot, ResetCode::CANCELLED);
    wire.sent();
    wire.feed(&[data(3, NONE, "late, or so it seems")]);
    wire.expect_alive();
    wire.feed(&[data(11, NONE, "x")]);
    wire.expect_violation(Violation::NeverOpened);
}

// spec.md §4.7.6
#[test]
fn a_reset_wakes_whoever_waits() {
    let mut wire = Wire::client();
    let slot = wire.established();
    let mut buffer = [0; 4];
    assert_eq!(wire.core.read(slot, &mut buffer), Ok(Read::Blocked));
    wire.write(slot, &[0; 65_000]);
    assert_eq!(wire.core.flush(slot), Ok(false));
    wire.events();
    wire.feed(&[update(1, RST, 5)]);
    let events = wire.events();
    assert!(events.contains(&Event::Readable(slot)), "{events:?}");
    assert!(events.contains(&Event::Writable(slot)), "{events:?}");
}

// spec.md §6.2: an owed ACK comes before FIN, or with it.
#[test]
fn a_stream_accepted_and_closed_is_acknowledged() {
    let mut wire = Wire::server();
    wire.feed(&[update(1, SYN, 0)]);
    let slot = wire.accept();
    wire.core.finish(slot).unwrap();
    wire.core.release(slot, Half::Both);
    let sent = wire.sent();
    let acks = sent.iter().filter(|frame| frame.header().flags.contains(ACK)).count();
    assert_eq!(acks, 1, "{sent:?}");
    assert!(sent[0].header().flags.contains(ACK), "{sent:?}");
    assert!(sent.last().unwrap().header().flags.contains(FIN), "{sent:?}");
    wire.secs(1);
    wire.expect(&[]);
}

// spec.md §6.10: a close is done when FIN was taken by the IO.
#[test]
fn flush_waits_for_the_io() {
    let mut wire = Wire::client();
    let slot = wire.established();
    assert_eq!(wire.core.flush(slot), Ok(true));
    wire.write(slot, b"x");
    assert_eq!(wire.core.flush(slot), Ok(false));
    let mut batch = crate::proto::Batch::new();
    let number = wire.core.take_output(&mut batch, wire.now).unwrap();
    assert_eq!(wire.core.flush(slot), Ok(false));
    wire.events();
    super::wire::empty(&mut batch, 5);
    wire.core.handle_flushed(number, wire.now);
    assert_eq!(wire.events(), [Event::Writable(slot)]);
    assert_eq!(wire.core.flush(slot), Ok(true));
    wire.core.finish(slot).unwrap();
    assert_eq!(wire.core.flush(slot), Ok(false));
    wire.sent();
    assert_eq!(wire.core.flush(slot), Ok(true));
    assert_eq!(wire.core.streams[slot].state, State::LocalClosed);
    assert_eq!(wire.core.write(slot, b"x"), Err(StreamError::Finished));
}

// spec.md §6.9: a stream that is reset leaves the line.
#[test]
fn a_reset_stream_gives_up_its_turn() {
    let mut wire = Wire::client();
    let (first, second) = (wire.established(), wire.core.open().unwrap());
    wire.sent();
    while wire.core.write(first, &[0; 60_000]).unwrap() != Written::Blocked {}
    assert_eq!(wire.core.write(second, &[1; 2_000]), Ok(Written::Blocked));
    wire.core.reset(first, ResetCode::CANCELLED);
    wire.events();
    wire.sent();
    assert_eq!(wire.events(), [Event::Writable(second)]);
    assert_eq!(wire.core.write(second, &[1; 2_000]), Ok(Written::Bytes(2_000)));
}

// spec.md §4.5.4, §6.2: a reset takes the place of a FIN that was not staged.
#[test]
fn a_reset_after_close_is_only_a_reset() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.write(slot, b"data");
    wire.core.finish(slot).unwrap();
    wire.core.reset(slot, ResetCode(256));
    wire.expect(&[data(1, NONE, "data"), update(1, RST, 256)]);
}

// spec.md §6.2: after our FIN no Data follows, but credit does.
#[test]
fn credit_follows_fin() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.finish(slot).unwrap();
    wire.expect(&[update(1, FIN, 0)]);
    wire.feed(&[data(1, NONE, vec![0; WINDOW])]);
    assert_eq!(wire.drain(slot).0.len(), WINDOW);
    wire.expect(&[update(1, NONE, WINDOW as u32)]);
}

// spec.md §4.8.1: the rest of a body that was cut by a reset is skipped, and the next frame read.
#[test]
fn a_stream_may_end_in_the_middle_of_a_body() {
    let ends: [fn(&mut Wire, Slot); 3] = [
        |wire, slot| wire.core.reset(slot, ResetCode(256)),
        |wire, slot| wire.core.release(slot, Half::Both),
        |wire, slot| wire.core.release(slot, Half::Read),
    ];
    for end in ends {
        let mut wire = Wire::server();
        let slot = wire.inbound(1);
        let frame = data(1, NONE, vec![1; 1_000]).to_bytes();
        wire.feed_bytes(frame[..500].to_vec());
        end(&mut wire, slot);
        wire.sent();
        wire.feed_bytes(frame[500..].to_vec());
        assert_eq!(wire.core.stats().buffered, 0);
        wire.feed(&[data(3, SYN, "next")]);
        let next = wire.accept();
        assert_eq!(wire.drain(next).0, b"next");
        wire.expect_alive();
    }
}

// spec.md §4.6.2, §3.4.1
#[test]
fn codes_have_their_numbers() {
    let codes = [
        ResetCode::NONE,
        ResetCode::PROTOCOL_ERROR,
        ResetCode::INTERNAL_ERROR,
        ResetCode::REFUSED,
        ResetCode::CANCELLED,
        ResetCode::OVERLOADED,
        ResetCode::OPEN_TIMEOUT,
        ResetCode::CLOSE_TIMEOUT,
        ResetCode::STREAM_CLOSED,
        ResetCode::UNKNOWN_PROTOCOL,
        ResetCode::PREFACE_TIMEOUT,
    ];
    assert!(codes.iter().zip(0..).all(|(code, number)| code.0 == number));
    let codes = [GoAwayCode::NORMAL, GoAwayCode::PROTOCOL_ERROR, GoAwayCode::INTERNAL_ERROR];
    assert!(codes.iter().zip(0..).all(|(code, number)| code.0 == number));
}

// spec.md §8.6.2, §8.6.3: a reset of our own is no end of file, though FIN came before it.
#[test]
fn a_reset_here_is_no_end_of_file() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[data(1, FIN, "never read")]);
    wire.core.reset(slot, ResetCode(256));
    let error = StreamError::LocalReset(ResetCode(256));
    assert_eq!(wire.drain(slot), (Vec::new(), Tail::Error(error)));
}

// spec.md §4.5.2, §4.7.6: a reader that waits is told of the end of file.
#[test]
fn fin_wakes_the_reader() {
    let mut wire = Wire::client();
    let slot = wire.established();
    assert_eq!(wire.drain(slot).1, Tail::Blocked);
    wire.events();
    wire.feed(&[update(1, FIN, 0)]);
    assert_eq!(wire.events(), [Event::Readable(slot)]);
    assert_eq!(wire.drain(slot).1, Tail::Eof);
}

// spec.md §4.1.6: the highest id stays the highest, whatever comes after it.
#[test]
fn late_data_of_the_highest_id_is_late_though_lower_ids_came_after() {
    let mut wire = Wire::server();
    for id in [9, 3] {
        let slot = wire.inbound(id);
        wire.core.reset(slot, ResetCode::CANCELLED);
        wire.sent();
    }
    wire.feed(&[data(9, NONE, "late"), data(3, NONE, "late"), data(5, NONE, "so it seems")]);
    wire.expect_alive();
}
