//! What once went wrong: each a test before it was mended.

use std::time::Duration;

use super::{
    pair::{A, B, Pair},
    wire::*,
};
use crate::{
    GoAwayCode, Role, SessionError,
    frame::Frame,
    proto::{Batch, Half, window::RecvWindow},
};

// spec.md §8.5.3
#[test]
fn flush_of_a_closed_stream_ends_with_the_session() {
    let mut wire = Wire::server();
    let slot = wire.inbound(1);
    wire.feed(&[update(1, FIN, 0)]);
    wire.core.finish(slot).unwrap();
    // The batch with FIN is taken, and the IO fails before it takes it.
    let mut batch = Batch::new();
    wire.core.take_output(&mut batch, wire.now).unwrap();
    assert_eq!(wire.core.flush(slot), Ok(false));
    wire.core.handle_failure(SessionError::WriteStall, wire.now);
    wire.events();
    assert!(wire.core.flush(slot) != Ok(false), "waits for ever");
}

// spec.md §9.2.1
#[test]
fn cancelled_calls_are_no_flood() {
    let mut pair = Pair::new(|b| b);
    pair.delay = Duration::from_millis(50);
    for i in 0..6000 {
        let slot = pair.ends[A].open().unwrap_or_else(|e| {
            panic!("{i}: {e:?} {:?} {:?}", pair.ends[A].ended(), pair.ends[B].ended())
        });
        pair.write(A, slot, b"call");
        pair.millis(50);
        // it arrived; the server accepts, and answers
        let Some(far) = pair.ends[B].accept() else { panic!("{i}: {:?}", pair.ends[A].ended()) };
        pair.write(B, far, b"answer");
        pair.ends[B].finish(far).unwrap();
        // the caller gives up before the answer comes
        pair.ends[A].release(slot, Half::Both);
        pair.millis(200);
        pair.ends[B].release(far, Half::Both);
        pair.events(A);
        pair.events(B);
    }
    assert_eq!(pair.ends[A].ended(), None);
    assert_eq!(pair.ends[B].ended(), None);
}

// spec.md §4.2.6
#[test]
fn two_thousand_opens_at_once_are_refused_one_by_one() {
    let mut wire = Wire::server();
    let syns: Vec<_> = (0..2000).map(|i| update(1 + 2 * i, SYN, 0)).collect();
    wire.feed(&syns); // 24 KB: half of one read
    assert_eq!(wire.core.ended(), None);
}

// spec.md §7.2.2
#[test]
fn one_lost_pong_does_not_end_a_session() {
    let mut wire = Wire::new(Role::Client, |b| b.keepalive(Some(Duration::from_secs(30))));
    wire.secs(30);
    assert_eq!(wire.sent().len(), 1, "a keepalive ping");
    // The peer lives, but has dropped the pong.
    wire.feed(&[ping(ACK, 0xdead)]);
    wire.secs(30);
    let sent = wire.sent();
    for f in &sent {
        if let Frame::Ping { value, .. } = f {
            wire.feed(&[ping(ACK, *value)]);
        }
    }
    wire.secs(11);
    assert_eq!(wire.core.ended(), None);
}

// spec.md §7.1.1: measurements of ours that nobody answers leave pings to those who ask.
#[test]
fn a_peer_that_answers_no_ping_does_not_use_them_up() {
    let mut wire = Wire::new(Role::Server, |b| b.max_stream_window(16 << 20));
    let slot = wire.inbound(1);
    for _ in 0..50 {
        wire.feed(&[data(1, NONE, vec![7; 200_000])]);
        assert_eq!(wire.drain(slot).0.len(), 200_000);
        wire.sent();
        wire.secs(11);
    }
    let value = wire.core.ping(wire.now).unwrap().expect("a place for one more");
    assert!(wire.sent().contains(&ping(SYN, value)));
}

// spec.md §9.1.1
#[test]
fn ping_deadlines_do_not_pile_up() {
    let mut wire = Wire::client();
    for _ in 0..10_000 {
        let value = wire.core.ping(wire.now).unwrap().unwrap();
        wire.sent();
        wire.feed(&[ping(ACK, value)]);
        wire.core.forget_ping(value);
        wire.core.poll_timeout();
    }
    wire.events();
    let held = format!("{:?}", wire.core).matches("Deadline {").count();
    assert!(held < 200, "{held}");
}

// spec.md §4.5.9
#[test]
fn a_dropped_read_half_is_granted_nothing_with_the_ack() {
    let mut wire = Wire::new(Role::Server, |b| b.stream_window(1 << 20).max_stream_window(1 << 20));
    wire.feed(&[data(1, SYN, vec![1; 100_000])]);
    let slot = wire.accept();
    wire.core.release(slot, Half::Read);
    wire.expect(&[]);
    wire.millis(10);
    wire.expect(&[update(1, ACK, 0)]);
}

// spec.md §8.3.6
#[test]
fn stats_count_resets_that_were_sent() {
    let mut wire = Wire::client();
    let slots: Vec<_> = (0..10).map(|_| wire.established()).collect();
    wire.core.handle_eof(wire.now);
    assert_eq!(wire.sent(), []);
    assert_eq!(wire.core.stats().resets_sent, 0);
    drop(slots);
}

// spec.md §5.6.2
#[test]
fn growth_refused_by_the_budget_may_come_later() {
    let mut w = RecvWindow::new(262_144);
    let mut now = 0;
    let mut asked = Vec::new();
    for _ in 0..20 {
        now += 100_000;
        w.receive(262_144, now);
        w.consume(262_144);
        w.grant(None);
        asked.push(w.growth(now, 100_000, 16 << 20));
        // the budget refuses: no raise
    }
    assert!(asked[18..].iter().any(Option::is_some), "never asks again");
}

// spec.md §9.2.1
#[test]
fn repeated_goaways_are_counted() {
    let mut wire = Wire::client();
    for _ in 0..10_000 {
        wire.feed(&[go_away(0)]);
    }
    assert!(wire.core.ended().is_some());
}

// spec.md §8.2.4
#[test]
fn abort_ends_a_close_that_is_stuck() {
    let mut wire = Wire::client();
    wire.core.close(wire.now);
    let mut batch = Batch::new();
    wire.core.take_output(&mut batch, wire.now).unwrap(); // GoAway, not taken by the IO
    wire.core.abort(GoAwayCode::INTERNAL_ERROR, wire.now);
    let left = wire.core.poll_timeout().unwrap() - wire.now;
    assert!(left <= Duration::from_secs(2), "{left:?}");
}

// spec.md §8.5.3
#[test]
fn ended_says_whether_the_last_bytes_left() {
    let mut wire = Wire::server();
    let slot = wire.inbound(1);
    wire.feed(&[update(1, FIN, 0)]);
    wire.write(slot, b"answer");
    wire.core.finish(slot).unwrap();
    let mut batch = Batch::new();
    wire.core.take_output(&mut batch, wire.now).unwrap();
    wire.core.handle_failure(SessionError::WriteStall, wire.now);
    assert!(
        matches!(wire.core.ended_stream(slot), Some(Err(_))),
        "{:?}",
        wire.core.ended_stream(slot)
    );
}

// spec.md §5.5.4
#[test]
fn a_lost_pong_does_not_end_the_measuring() {
    let mut wire = Wire::new(Role::Server, |b| b.max_stream_window(16 << 20));
    let slot = wire.inbound(1);
    let mut pings = 0;
    for _ in 0..50 {
        wire.feed(&[data(1, NONE, vec![0; 131_072])]);
        wire.drain(slot);
        for f in wire.sent() {
            if let Frame::Ping { value, .. } = f {
                pings += 1;
                if pings > 1 {
                    wire.feed(&[ping(ACK, value)]);
                }
            }
        }
        wire.millis(1000);
    }
    assert!(pings > 1, "one lost pong: {pings} probe in 50 s, rtt {:?}", wire.core.rtt());
}

// spec.md §4.6.5
#[test]
fn a_refusal_does_not_answer_a_reset_that_came_with_another_syn() {
    let mut wire = Wire::new(Role::Server, |b| b.accept_backlog(0));
    wire.feed(&[update(1, SYN, 0), update(1, SYN.with(RST), 0)]);
    wire.expect(&[]);
}

// spec.md §4.6.5
#[test]
fn a_refusal_does_not_answer_a_reset_with_a_body() {
    let mut wire = Wire::new(Role::Server, |b| b.accept_backlog(0));
    wire.feed(&[update(1, SYN, 0), data(1, RST, [1; 10])]);
    wire.expect(&[]);
}
