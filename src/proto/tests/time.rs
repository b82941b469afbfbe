//! Pings and everything that waits for the clock.

use std::time::{Duration, Instant};

use super::{
    pair::{A, B, Pair, pattern},
    wire::{ACK, FIN, NONE, RST, SYN, Tail, WINDOW, Wire, data, go_away, ping, update},
};
use crate::{
    Config, ConfigBuilder, Role, SessionError, StreamError,
    frame::Frame,
    proto::{Batch, Direction, Event, Half, IoStep, Read, State, Written, ping::RoundTrip},
};

fn keepalive(builder: ConfigBuilder) -> ConfigBuilder {
    builder.keepalive(Some(Duration::from_secs(30)))
}

// spec.md §3.3.1, §3.3.2, §12.8
#[test]
fn a_ping_is_answered_even_as_the_first_frame() {
    let mut wire = Wire::server();
    wire.feed(&[ping(SYN, 0xDEAD_BEEF)]);
    wire.expect(&[ping(ACK, 0xDEAD_BEEF)]);
}

// spec.md §3.3.1: with both flags it is a question.
#[test]
fn a_ping_with_both_flags_is_a_question() {
    let mut wire = Wire::server();
    wire.feed(&[ping(SYN.with(ACK), 5)]);
    wire.expect(&[ping(ACK, 5)]);
}

// spec.md §3.3.3, §12.6
#[test]
fn stray_answers_and_pings_without_a_flag_are_ignored() {
    let mut wire = Wire::server();
    wire.feed(&[ping(ACK, 7), ping(NONE, 8), ping(FIN, 9)]);
    wire.expect(&[]);
    wire.expect_alive();
}

// spec.md §3.3.4: each question has a value of its own, and its own answer.
#[test]
fn concurrent_pings_get_their_own_answers() {
    let mut wire = Wire::client();
    let first = wire.core.ping(wire.now).unwrap().unwrap();
    let second = wire.core.ping(wire.now).unwrap().unwrap();
    wire.expect(&[ping(SYN, first), ping(SYN, second)]);
    wire.millis(10);
    wire.feed(&[ping(ACK, second)]);
    wire.millis(20);
    wire.feed(&[ping(ACK, first), ping(ACK, first)]);
    let rtt = |millis| Some(Duration::from_millis(millis));
    assert_eq!(wire.events(), [Event::Pong(second, rtt(10)), Event::Pong(first, rtt(30))]);
}

// spec.md §3.3.4, §12.7
#[test]
fn at_most_32_pings_are_outstanding() {
    let mut wire = Wire::client();
    let asked = (0..100).filter(|_| wire.core.ping(wire.now).unwrap().is_some()).count();
    assert_eq!(asked, 32);
    let sent = wire.sent();
    assert_eq!(sent.len(), 32);
    let Frame::Ping { value, .. } = sent[5] else { panic!() };
    wire.feed(&[ping(ACK, value)]);
    assert!(wire.core.ping(wire.now).unwrap().is_some());
    assert!(wire.core.ping(wire.now).unwrap().is_none());
}

// spec.md §7.1.1
#[test]
fn a_ping_measures_the_round_trip() {
    let mut pair = Pair::new(|builder| builder);
    pair.delay = Duration::from_millis(25);
    let value = pair.ends[A].ping(pair.now).unwrap().unwrap();
    pair.millis(49);
    assert_eq!(pair.events(A), []);
    pair.millis(1);
    assert_eq!(pair.events(A), [Event::Pong(value, Some(Duration::from_millis(50)))]);
    assert_eq!(pair.ends[A].rtt(), Some(Duration::from_millis(50)));
}

// spec.md §7.1.1: the call fails, not the session.
#[test]
fn an_unanswered_ping_gives_up_alone() {
    let mut wire = Wire::client();
    let value = wire.core.ping(wire.now).unwrap().unwrap();
    wire.sent();
    wire.millis(9_999);
    assert_eq!(wire.events(), []);
    wire.millis(1);
    assert_eq!(wire.events(), [Event::Pong(value, None)]);
    // Its answer comes after all.
    wire.feed(&[ping(ACK, value)]);
    assert_eq!(wire.events(), []);
    wire.expect_alive();
}

// spec.md §7.1.2
#[test]
fn rtt_is_the_smallest_of_the_recent_ones() {
    let mut wire = Wire::client();
    for millis in [30, 10, 50] {
        let value = wire.core.ping(wire.now).unwrap().unwrap();
        wire.sent();
        wire.millis(millis);
        wire.feed(&[ping(ACK, value)]);
    }
    assert_eq!(wire.core.rtt(), Some(Duration::from_millis(10)));
}

// spec.md §7.2.1, §7.2.3
#[test]
fn a_silent_peer_is_pinged_and_then_given_up() {
    for seed in 0..20 {
        let mut wire = Wire::new(Role::Client, |builder| keepalive(builder).seed(Some(seed)));
        let start = wire.now;
        wire.secs(26);
        wire.expect(&[]);
        let due = wire.core.poll_timeout().unwrap() - start;
        assert!(due <= Duration::from_secs(30), "never lengthened: {due:?}");
        wire.secs(4);
        let sent = wire.sent();
        assert!(matches!(sent[..], [Frame::Ping { flags: SYN, .. }]), "{sent:?}");
        wire.millis(5_900);
        assert_eq!(wire.core.ended(), None);
        wire.millis(4_100);
        assert_eq!(wire.error(), Some(SessionError::KeepaliveTimeout));
        assert_eq!(wire.core.io_step(), IoStep::Done(Err(SessionError::KeepaliveTimeout)));
        wire.expect(&[]);
    }
}

// spec.md §7.2.3: sessions do not ping in step.
#[test]
fn keepalives_of_two_sessions_differ() {
    let due = |seed| {
        let mut wire = Wire::new(Role::Client, |builder| keepalive(builder).seed(Some(seed)));
        wire.core.poll_timeout().unwrap() - wire.now
    };
    assert_ne!(due(1), due(2));
    assert_eq!(due(1), due(1));
}

// spec.md §7.2.2
#[test]
fn only_silence_counts() {
    let mut wire = Wire::new(Role::Client, keepalive);
    wire.established();
    for _ in 0..10 {
        wire.secs(20);
        wire.feed(&[data(1, NONE, "x")]);
        wire.expect(&[]);
    }
    // A ping under way, and any byte counts as life, also an incomplete header.
    wire.secs(30);
    assert_eq!(wire.sent().len(), 1);
    wire.feed_bytes(vec![0]);
    wire.secs(11);
    assert_eq!(wire.core.ended(), None);
}

// spec.md §7.2.1
#[test]
fn two_idle_ends_live_for_a_day() {
    let mut pair = Pair::new(keepalive);
    let (ours, theirs) = pair.stream(A);
    pair.secs(24 * 3_600);
    assert_eq!(pair.carry(A, ours, b"good morning", theirs), b"good morning");
}

// spec.md §7.3.1
#[test]
fn an_open_that_nobody_acknowledges_times_out_alone() {
    let mut wire = Wire::client();
    let (slot, other) = (wire.open(), wire.open());
    wire.feed(&[update(3, ACK, 0)]);
    let mut buffer = [0; 1];
    assert_eq!(wire.core.read(slot, &mut buffer), Ok(Read::Blocked));
    wire.millis(74_999);
    wire.expect(&[]);
    wire.events();
    wire.millis(1);
    wire.expect(&[update(1, RST, 6)]);
    assert_eq!(wire.events(), [Event::Readable(slot)]);
    assert_eq!(wire.drain(slot).1, Tail::Error(StreamError::OpenTimeout));
    assert_eq!(wire.core.stats().ack_backlog, 0);
    wire.write(other, b"lives");
    wire.expect(&[data(3, NONE, "lives")]);
}

// spec.md §7.3.1: the time runs from SYN, also when SYN rode on data.
#[test]
fn an_open_with_data_times_out_too() {
    let mut wire = Wire::client();
    let slot = wire.core.open().unwrap();
    wire.write(slot, b"hello?");
    wire.core.finish(slot).unwrap();
    wire.sent();
    wire.secs(75);
    wire.expect(&[update(1, RST, 6)]);
    assert_eq!(wire.drain(slot).1, Tail::Error(StreamError::OpenTimeout));
}

// spec.md §7.3.2, §8.3.6
#[test]
fn an_open_timeout_may_end_the_session() {
    let mut wire = Wire::new(Role::Client, |builder| builder.open_timeout_ends_session(true));
    wire.open();
    wire.secs(75);
    assert_eq!(wire.error(), Some(SessionError::OpenTimeout));
    wire.expect(&[go_away(2)]);
}

// spec.md §7.4.1
#[test]
fn a_half_closed_stream_is_reset_in_the_end() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.finish(slot).unwrap();
    wire.expect(&[update(1, FIN, 0)]);
    wire.feed(&[data(1, NONE, "arrived")]);
    // What arrived started the time anew, so it may take twice as long.
    wire.millis(299_999);
    wire.expect(&[]);
    wire.secs(301);
    wire.expect(&[update(1, RST, 7)]);
    let error = Tail::Error(StreamError::CloseTimeout);
    assert_eq!(wire.drain(slot), (b"arrived".to_vec(), error));
    wire.expect_alive();
}

// spec.md §7.4.2
#[test]
fn a_long_download_on_a_half_closed_stream_is_no_fault() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.finish(slot).unwrap();
    wire.sent();
    for _ in 0..20 {
        wire.secs(250);
        wire.feed(&[data(1, NONE, "more")]);
        wire.expect(&[]);
    }
    assert_eq!(wire.drain(slot).0.len(), 80);
    // Its handle dropped, the time is not renewed.
    wire.core.release(slot, Half::Both);
    let mut sent = Vec::new();
    for _ in 0..7 {
        wire.secs(100);
        wire.feed(&[data(1, NONE, "more")]);
        sent.extend(wire.sent());
    }
    assert_eq!(sent, [update(1, RST, 7)]);
}

// spec.md §7.4.2: from the drop, no longer than the close timeout.
#[test]
fn a_dropped_stream_has_one_close_timeout_from_its_drop() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.finish(slot).unwrap();
    wire.core.release(slot, Half::Both);
    wire.sent();
    wire.secs(200);
    wire.feed(&[data(1, NONE, "more")]);
    wire.millis(99_999);
    wire.expect(&[]);
    wire.millis(1);
    wire.expect(&[update(1, RST, 7)]);
    assert_eq!(wire.core.live_streams(), 0);
}

// spec.md §7.4.4
#[test]
fn a_patient_holder_waits_until_it_lets_go() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.be_patient(slot);
    wire.core.finish(slot).unwrap();
    wire.sent();
    wire.secs(100_000);
    wire.expect(&[]);
    wire.core.release(slot, Half::Both);
    wire.expect(&[]);
    wire.millis(299_999);
    wire.expect(&[]);
    wire.millis(1);
    wire.expect(&[update(1, RST, 7)]);
    assert_eq!(wire.core.live_streams(), 0);
}

// spec.md §7.4.3
#[test]
fn a_stream_that_the_peer_finished_waits_for_us() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.feed(&[update(1, FIN, 0)]);
    wire.secs(100_000);
    wire.expect(&[]);
    wire.write(slot, b"at last");
    wire.expect(&[data(1, NONE, "at last")]);
}

// spec.md §7.5.1
#[test]
fn an_io_that_takes_nothing_ends_the_session() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.write(slot, b"stuck");
    let mut batch = Batch::new();
    wire.core.take_output(&mut batch, wire.now).unwrap();
    wire.core.handle_blocked(false, wire.now);
    wire.secs(9);
    // One byte of progress starts the time anew.
    wire.core.handle_blocked(true, wire.now);
    wire.millis(9_999);
    wire.core.handle_blocked(false, wire.now);
    assert_eq!(wire.core.ended(), None);
    wire.millis(1);
    assert_eq!(wire.core.io_step(), IoStep::Done(Err(SessionError::WriteStall)));
    let error = Tail::Error(StreamError::Session(SessionError::WriteStall));
    assert_eq!(wire.drain(slot).1, error);
}

// What came meanwhile puts it off, and does not call it off.
#[test]
fn a_session_falls_idle_ten_seconds_after_the_last_input() {
    let mut wire = Wire::server();
    wire.feed(&[ping(SYN, 1)]);
    wire.advance(Duration::from_secs(6));
    wire.feed(&[ping(SYN, 2)]);
    wire.advance(Duration::from_secs(9));
    assert!(!wire.core.take_quiet());
    wire.advance(Duration::from_secs(1));
    assert!(wire.core.take_quiet());
    wire.advance(Duration::from_secs(60));
    assert!(!wire.core.take_quiet(), "once");
}

// spec.md §7.5.1: nothing waits, so nothing stalls.
#[test]
fn an_idle_io_does_not_stall() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.write(slot, b"x");
    wire.core.handle_blocked(false, wire.now);
    wire.sent();
    wire.secs(1_000);
    wire.expect_alive();
}

// spec.md §7.6.1, §7.6.2
#[test]
fn a_read_deadline_fails_the_read_and_spares_the_stream() {
    let mut wire = Wire::client();
    let slot = wire.established();
    let at = wire.now + Duration::from_secs(1);
    assert!(wire.core.set_deadline(slot, Direction::Read, Some(at), wire.now));
    assert_eq!(wire.drain(slot).1, Tail::Blocked);
    wire.events();
    wire.millis(999);
    assert_eq!(wire.events(), []);
    wire.millis(1);
    assert_eq!(wire.events(), [Event::Readable(slot)]);
    assert_eq!(wire.drain(slot).1, Tail::Error(StreamError::TimedOut));
    // What is there is read all the same.
    wire.feed(&[data(1, NONE, "late")]);
    assert_eq!(wire.drain(slot), (b"late".to_vec(), Tail::Error(StreamError::TimedOut)));
    wire.core.set_deadline(slot, Direction::Read, None, wire.now);
    assert_eq!(wire.drain(slot).1, Tail::Blocked);
    wire.expect_alive();
}

// spec.md §7.6.1: changing a deadline wakes the call that waits.
#[test]
fn a_changed_deadline_wakes_the_call_that_waits() {
    let mut wire = Wire::client();
    let slot = wire.established();
    let later = wire.now + Duration::from_secs(10);
    wire.core.set_deadline(slot, Direction::Read, Some(later), wire.now);
    assert_eq!(wire.drain(slot).1, Tail::Blocked);
    wire.events();
    wire.core.set_deadline(slot, Direction::Read, Some(wire.now), wire.now);
    assert_eq!(wire.events(), [Event::Readable(slot)]);
    assert_eq!(wire.drain(slot).1, Tail::Error(StreamError::TimedOut));
    // Put off again: the first deadline no longer means anything.
    wire.core.set_deadline(slot, Direction::Read, Some(later + (later - wire.now)), wire.now);
    assert_eq!(wire.drain(slot).1, Tail::Blocked);
    wire.secs(15);
    assert_eq!(wire.drain(slot).1, Tail::Blocked);
    wire.secs(5);
    assert_eq!(wire.drain(slot).1, Tail::Error(StreamError::TimedOut));
}

// spec.md §7.6.2, §12.19: bytes reported as written go out, the rest when the deadline is cleared.
#[test]
fn a_write_deadline_loses_and_repeats_nothing() {
    let mut pair = Pair::new(|builder| builder);
    let (ours, theirs) = pair.stream(A);
    let bytes = pattern(2 * WINDOW);
    let at = pair.now + Duration::from_secs(1);
    pair.ends[A].set_deadline(ours, Direction::Write, Some(at), pair.now);
    let mut written = pair.write(A, ours, &bytes);
    assert_eq!(written, WINDOW);
    pair.secs(1);
    assert_eq!(pair.ends[A].write(ours, &bytes[written..]), Err(StreamError::TimedOut));
    let mut read = pair.drain(B, theirs).0;
    assert_eq!(read, bytes[..WINDOW], "what was reported as written arrived");
    pair.ends[A].set_deadline(ours, Direction::Write, None, pair.now);
    while written < bytes.len() {
        written += pair.write(A, ours, &bytes[written..]);
        read.extend(pair.drain(B, theirs).0);
    }
    assert!(read == bytes, "every byte once");
}

// spec.md §7.0
#[test]
fn without_a_timer_no_time_limit_exists() {
    let mut wire = Wire::new(Role::Client, |builder| keepalive(builder).no_timer());
    let slot = wire.open();
    assert_eq!(wire.core.poll_timeout(), None);
    wire.core.finish(slot).unwrap();
    wire.sent();
    assert_eq!(wire.core.poll_timeout(), None);
    let at = Some(wire.now);
    assert!(!wire.core.set_deadline(slot, Direction::Read, at, wire.now));
    assert_eq!(wire.core.read(slot, &mut [0]), Ok(Read::Blocked));
    assert_eq!(wire.core.streams[slot].state, State::LocalClosed);
}

// spec.md §9.1.1
#[test]
fn defaults_are_those_that_every_peer_uses() {
    let l = Config::default().limits;
    let secs = Duration::from_secs;
    assert_eq!((l.accept_backlog, l.ack_backlog), (256, 256));
    assert_eq!((l.max_streams, l.max_outbound_streams), (8_192, 8_192));
    assert_eq!((l.stream_window, l.max_stream_window), (262_144, 16 << 20));
    assert_eq!((l.receive_budget, l.staging_limit, l.max_frame), (256 << 20, 256 << 10, 256 << 10));
    assert_eq!((l.keepalive, l.ping_timeout), (Some(secs(30)), secs(10)));
    assert_eq!((l.write_timeout, l.open_timeout), (Some(secs(10)), Some(secs(75))));
    assert_eq!((l.close_timeout, l.drain_timeout), (secs(300), secs(30)));
    assert_eq!((l.linger, l.linger_bytes), (secs(2), 64 << 20));
    assert_eq!(l.ack_delay, Duration::from_millis(5));
    assert_eq!((l.max_empty_frames, l.max_early_resets), (4_096, 1_000));
    assert_eq!(l.early_reset_interval, secs(10));
    assert!(!l.open_timeout_ends_session);
}

// spec.md §6.11: a write that came partly through reports exactly that part.
#[test]
fn a_write_reports_what_it_staged() {
    let mut wire = Wire::client();
    let slot = wire.established();
    wire.core.set_deadline(slot, Direction::Write, Some(wire.now), wire.now);
    assert_eq!(wire.core.write(slot, b"room is room"), Ok(Written::Bytes(12)));
    wire.expect(&[data(1, NONE, "room is room")]);
}

// spec.md §7.6.1: a deadline wakes a write, and a flush, that waits.
#[test]
fn a_write_deadline_wakes_writes_and_flushes() {
    let mut wire = Wire::client();
    let (writer, flusher) = (wire.established(), wire.open());
    wire.write(flusher, b"x");
    assert_eq!(wire.core.flush(flusher), Ok(false));
    while wire.core.write(writer, &[0; 60_000]).unwrap() != Written::Blocked {}
    let at = wire.now + Duration::from_secs(1);
    for slot in [writer, flusher] {
        wire.core.set_deadline(slot, Direction::Write, Some(at), wire.now);
        let woken = wire.events();
        assert_eq!(woken, [Event::Writable(slot)], "to look at its deadline");
    }
    assert_eq!(wire.core.write(writer, b"x"), Ok(Written::Blocked));
    assert_eq!(wire.core.flush(flusher), Ok(false));
    wire.secs(1);
    let woken = wire.events();
    assert!(woken.contains(&Event::Writable(writer)), "{woken:?}");
    assert!(woken.contains(&Event::Writable(flusher)), "{woken:?}");
    assert_eq!(wire.core.write(writer, b"x"), Err(StreamError::TimedOut));
    assert_eq!(wire.core.flush(flusher), Err(StreamError::TimedOut));
    wire.sent();
    assert_eq!(wire.core.flush(flusher), Ok(true), "it is flushed by now");
}

// spec.md §7: a timeout that is looked at too early, or again, changes nothing.
#[test]
fn the_clock_may_be_read_at_any_time() {
    let mut wire = Wire::new(Role::Client, keepalive);
    wire.open();
    for _ in 0..100 {
        wire.core.handle_timeout(wire.now);
        wire.now += Duration::from_millis(100);
    }
    wire.expect(&[]);
    assert_eq!(wire.core.ended(), None);
    assert_eq!(wire.core.stats().ack_backlog, 1);
}

// spec.md §9.1.1: what waits for the clock is bounded by the streams there are.
#[test]
fn deadlines_of_dropped_streams_do_not_pile_up() {
    let mut wire = Wire::client();
    let at = wire.now + Duration::from_secs(3_600);
    for _ in 0..1_000 {
        let slot = wire.core.open().unwrap();
        wire.core.set_deadline(slot, Direction::Read, Some(at), wire.now);
        wire.core.set_deadline(slot, Direction::Write, Some(at), wire.now);
        wire.core.release(slot, Half::Both);
        wire.core.poll_timeout();
    }
    let held = format!("{:?}", wire.core).matches("Deadline {").count();
    assert!(held < 200, "{held} deadlines of no stream");
}

// spec.md §7.6.1: a deadline is one of its stream, not of the next in its place.
#[test]
fn a_deadline_ends_with_its_stream() {
    let mut wire = Wire::client();
    let first = wire.established();
    let at = wire.now + Duration::from_secs(10);
    wire.core.set_deadline(first, Direction::Read, Some(at), wire.now);
    wire.core.set_deadline(first, Direction::Write, Some(at), wire.now);
    wire.core.release(first, Half::Both);
    wire.sent();
    let next = wire.established();
    assert_eq!(next, first, "the same place");
    wire.secs(10);
    assert_eq!(wire.drain(next).1, Tail::Blocked);
    assert_eq!(wire.core.write(next, &[0; WINDOW]), Ok(Written::Bytes(65_536)));
    wire.events();
    wire.core.set_deadline(next, Direction::Read, Some(wire.now), wire.now);
    assert_eq!(wire.drain(next).1, Tail::Error(StreamError::TimedOut));
}

// spec.md §7.6.1: also when the tables of a session that had many streams were given back.
#[test]
fn a_deadline_does_not_outlive_the_tables() {
    let mut wire = Wire::new(Role::Client, |builder| builder.ack_backlog(2_000));
    let slots: Vec<_> = (0..2_000).map(|_| wire.core.open().unwrap()).collect();
    let at = wire.now + Duration::from_secs(10);
    wire.core.set_deadline(slots[0], Direction::Read, Some(at), wire.now);
    for slot in slots {
        wire.core.release(slot, Half::Both);
    }
    wire.expect(&[]);
    assert!(!wire.core.streams.is_large(), "the tables are gone");
    assert!(!format!("{:?}", wire.core.user_deadlines).contains("[0, 0]"), "this one too");
    let next = wire.established();
    let later = at + Duration::from_secs(10);
    wire.core.set_deadline(next, Direction::Read, Some(later), wire.now);
    wire.secs(19);
    assert_eq!(wire.drain(next).1, Tail::Blocked);
    wire.secs(1);
    assert_eq!(wire.drain(next).1, Tail::Error(StreamError::TimedOut));
}

// spec.md §9.1.1: where no clock would ever let go of them, there are none.
#[test]
fn without_a_timer_no_deadline_is_kept() {
    let mut wire = Wire::new(Role::Client, ConfigBuilder::no_timer);
    let slot = wire.core.open().unwrap();
    wire.core.add_deadline(slot, Direction::Read, wire.now);
    assert!(!format!("{:?}", wire.core).contains("Deadline {"));
    assert_eq!(wire.drain(slot).1, Tail::Blocked);
}

// spec.md §9.1.1
#[test]
fn time_limits_of_streams_that_are_over_do_not_pile_up() {
    let mut wire = Wire::client();
    for _ in 0..1_000 {
        let slot = wire.established();
        let id = wire.core.id(slot).unwrap().0;
        let later = wire.now + Duration::from_secs(3_600);
        assert!(wire.core.set_deadline(slot, Direction::Read, Some(later), wire.now));
        wire.core.finish(slot).unwrap();
        wire.expect(&[update(id, FIN, 0)]);
        assert!(wire.core.overdue().is_some());
        wire.feed(&[update(id, FIN, 0)]);
        wire.core.release(slot, Half::Both);
        wire.core.poll_timeout();
        assert_eq!(wire.core.overdue(), None);
    }
    let held = format!("{:?}", wire.core).matches("Deadline {").count();
    assert!(held < 300, "{held} deadlines of no stream");
}

// spec.md §9.1.1: neither do those that are changed while the session is otherwise at rest.
#[test]
fn deadlines_that_are_changed_over_and_over_do_not_pile_up() {
    let mut wire = Wire::client();
    let slot = wire.core.open().unwrap();
    for n in 0..1_000 {
        let at = wire.now + Duration::from_secs(3_600 + n);
        wire.core.set_deadline(slot, Direction::Read, Some(at), wire.now);
    }
    let held = format!("{:?}", wire.core).matches("Deadline {").count();
    assert!(held < 200, "{held} deadlines of one stream");
}

// spec.md §7.6.1: a deadline that comes after the next thing to do changes nothing about when that
// is, so the driver may sleep on.
#[test]
fn only_a_deadline_that_comes_first_wakes_the_driver() {
    let mut wire = Wire::client();
    let slot = wire.core.open().unwrap();
    wire.sent();
    let near = wire.now + Duration::from_secs(1);
    wire.core.set_deadline(slot, Direction::Read, Some(near), wire.now);
    assert!(wire.core.take_driver_wake());
    assert_eq!(wire.core.poll_timeout(), Some(near));

    let later = near + Duration::from_secs(1);
    wire.core.set_deadline(slot, Direction::Write, Some(later), wire.now);
    wire.core.set_deadline(slot, Direction::Write, None, wire.now);
    assert!(!wire.core.take_driver_wake());

    let sooner = near - Duration::from_millis(1);
    wire.core.set_deadline(slot, Direction::Write, Some(sooner), wire.now);
    assert!(wire.core.take_driver_wake());
}

// spec.md §5.5.4, §5.5.6
#[test]
fn the_smallest_of_the_last_seconds_says_whether_a_path_is_short() {
    let start = Instant::now();
    let mut round_trip = RoundTrip::new();
    assert!(!round_trip.is_short(), "nothing is known");
    for (seconds, micros, smallest, short) in [
        (0, 501, 501, false),
        (1, 500, 500, true),
        (2, 900, 500, true),
        (6, 900, 500, true),
        (7, 900, 900, false),
    ] {
        let now = start + Duration::from_secs(seconds);
        round_trip.sample(now, Duration::from_micros(micros));
        assert_eq!(round_trip.smallest(), Some(Duration::from_micros(smallest)));
        assert_eq!(round_trip.is_short(), short, "after {seconds} s");
    }
}
