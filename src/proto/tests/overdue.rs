//! Streams that wait for the peer's ACK or FIN, against a list of when each is due.

use std::time::{Duration, Instant};

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::wire::*;
use crate::{
    Role, SessionError,
    frame::Frame,
    proto::{Event, Half, Slot},
};

const OPEN: Duration = Duration::from_secs(5);
const CLOSE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    Ack(u8),
    Finish(u8),
    Data(u8),
    Fin(u8),
    Drop(u8),
    Pass(u16),
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let which = u8::arbitrary(g);
        match u8::arbitrary(g) % 16 {
            0..=3 => Self::Open,
            4..=5 => Self::Ack(which),
            6..=8 => Self::Finish(which),
            9 => Self::Data(which),
            10 => Self::Fin(which),
            11 => Self::Drop(which),
            _ => Self::Pass(u16::arbitrary(g) % 8_000),
        }
    }
}

/// What is known of a live stream.
#[derive(Debug)]
struct Known {
    slot: Slot,
    id: u32,
    held: bool,
    finished: bool,
    /// Something came since its time ran.
    progress: bool,
    ack_due: Option<Instant>,
    fin_due: Option<Instant>,
}

impl Known {
    fn due(&self) -> Option<Instant> {
        self.ack_due.into_iter().chain(self.fin_due).min()
    }

    /// The code it is reset with at that moment, if it is. Its time may start anew instead.
    fn pass(&mut self, now: Instant) -> Option<u32> {
        if self.ack_due.is_some_and(|due| now >= due) {
            return Some(6);
        }
        if self.fin_due.is_none_or(|due| now < due) {
            return None;
        }
        if !(self.held && self.progress) {
            return Some(7);
        }
        (self.progress, self.fin_due) = (false, Some(now + CLOSE));
        None
    }
}

/// A core, and what is known of it.
struct Model {
    wire: Wire,
    streams: Vec<Known>,
}

impl Model {
    fn open(&mut self) {
        let slot = self.wire.open();
        self.streams.push(Known {
            slot,
            id: self.wire.core.id(slot).unwrap().0,
            held: true,
            finished: false,
            progress: false,
            ack_due: Some(self.wire.now + OPEN),
            fin_due: None,
        });
    }

    /// The peer sends something of a stream: it knows it.
    fn hear(&mut self, at: usize, frame: impl FnOnce(u32) -> Frame) {
        let known = &mut self.streams[at];
        known.ack_due = None;
        self.wire.feed(&[frame(known.id)]);
    }

    fn finish(&mut self, at: usize) {
        let known = &mut self.streams[at];
        if !std::mem::replace(&mut known.finished, true) {
            (known.progress, known.fin_due) = (false, Some(self.wire.now + CLOSE));
            self.wire.core.finish(known.slot).unwrap();
        }
    }

    fn let_go(&mut self, at: usize) {
        let known = &mut self.streams[at];
        if std::mem::replace(&mut known.held, false) {
            self.wire.core.release(known.slot, Half::Both);
        }
    }

    fn forget(&mut self, at: usize) {
        self.let_go(at);
        self.streams.remove(at);
    }

    /// Whether exactly those are reset that are due, each at its own time.
    fn pass(&mut self, time: Duration) -> bool {
        let end = self.wire.now + time;
        while let Some(at) = self.wire.core.poll_timeout().filter(|at| *at <= end) {
            let now = self.wire.now.max(at);
            self.wire.now = now;
            self.wire.core.handle_timeout(now);
            let mut expected = Vec::new();
            for at in (0..self.streams.len()).rev() {
                if let Some(code) = self.streams[at].pass(now) {
                    expected.push((self.streams[at].id, code));
                    self.forget(at);
                }
            }
            let mut found = resets(&self.wire.sent());
            found.sort_unstable();
            expected.sort_unstable();
            if found != expected {
                return false;
            }
        }
        self.wire.now = end;
        self.streams.iter().all(|known| known.due().is_none_or(|due| due > end))
    }

    fn step(&mut self, step: Step) -> bool {
        let at = match step {
            Step::Open => {
                self.open();
                return true;
            }
            Step::Pass(millis) => return self.pass(Duration::from_millis(millis.into())),
            _ if self.streams.is_empty() => return true,
            Step::Ack(which)
            | Step::Finish(which)
            | Step::Data(which)
            | Step::Fin(which)
            | Step::Drop(which) => usize::from(which) % self.streams.len(),
        };
        match step {
            Step::Ack(_) => self.hear(at, |id| update(id, ACK, 0)),
            Step::Data(_) => {
                self.hear(at, |id| data(id, ACK, "x"));
                self.streams[at].progress = true;
            }
            Step::Fin(_) => {
                self.hear(at, |id| update(id, FIN, 0));
                self.finish(at);
                self.forget(at);
            }
            // Unfinished, that resets it.
            Step::Drop(_) if !self.streams[at].finished => self.forget(at),
            Step::Drop(_) => self.let_go(at),
            _ => self.finish(at),
        }
        // What is said for other reasons has no part in this.
        self.wire.sent();
        true
    }
}

fn resets(frames: &[Frame]) -> Vec<(u32, u32)> {
    let code = |frame: &Frame| match *frame {
        Frame::WindowUpdate { stream, flags, delta } if flags.contains(RST) => {
            Some((stream.0, delta))
        }
        _ => None,
    };
    frames.iter().filter_map(code).collect()
}

fn wire() -> Wire {
    Wire::new(Role::Client, |builder| {
        let many = builder.max_early_resets(u32::MAX).max_outbound_streams(10_000);
        many.ack_backlog(10_000).open_timeout(Some(OPEN)).close_timeout(CLOSE)
    })
}

quickcheck! {
    // spec.md §7.3.1, §7.4.1, §7.4.2
    fn each_is_reset_at_its_own_time(steps: Vec<Step>) -> bool {
        let mut model = Model { wire: wire(), streams: Vec::new() };
        let right = steps.into_iter().chain([Step::Pass(60_000)]).all(|step| model.step(step));
        let core = &model.wire.core;
        right && core.live_streams() == model.streams.len() && core.overdue().is_none()
    }
}

/// Where each of many is due at another moment, not each of them costs a look at all.
#[test]
fn many_are_found_in_few_looks() {
    let mut wire = wire();
    let count = 5_000_u32;
    let mut due = Vec::new();
    for _ in 0..count {
        let slot = wire.open();
        due.push((wire.core.id(slot).unwrap().0, wire.now + OPEN));
        wire.now += Duration::from_micros(1);
    }
    let mut looks = 0;
    while let Some(at) = wire.core.overdue() {
        wire.now = wire.now.max(at);
        wire.core.handle_timeout(wire.now);
        looks += 1;
        for (id, _) in resets(&wire.sent()) {
            let at = due.iter().position(|(other, _)| *other == id).unwrap();
            let (_, due) = due.swap_remove(at);
            let late = wire.now - due;
            assert!(late <= Duration::from_micros(count.into()), "{late:?} late");
        }
    }
    assert!(due.is_empty(), "{} are never reset", due.len());
    assert!(looks <= 3, "{looks} looks");
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Sessions of any age, and limits of any length: none is missed, and none is met early.
#[test]
fn limits_of_any_length_are_met() {
    for age in [Duration::ZERO, 7 * 7 * DAY, 50 * DAY, 400 * DAY] {
        for limit in [
            Duration::from_nanos(1),
            Duration::from_micros(300),
            Duration::from_micros(1_500),
            OPEN,
            24 * DAY,
            50 * DAY,
            1_000 * DAY,
        ] {
            let mut wire = Wire::new(Role::Client, |builder| {
                builder.open_timeout(Some(limit)).close_timeout(limit)
            });
            wire.advance(age + Duration::from_micros(999));
            let opened = wire.open();
            let finished = wire.established();
            wire.core.finish(finished).unwrap();
            wire.sent();
            let tick = (limit / (1 << 29)).max(Duration::from_millis(1));
            wire.advance(limit - Duration::from_nanos(1));
            assert_eq!(resets(&wire.sent()), [], "{limit:?} too early, after {age:?}");
            wire.advance(Duration::from_nanos(1) + 2 * tick);
            let ids = [opened, finished].map(|slot| wire.core.id(slot).unwrap().0);
            let expected = [(ids[0], 6), (ids[1], 7)];
            assert_eq!(resets(&wire.sent()), expected, "{limit:?}, after {age:?}");
            assert_eq!(wire.core.overdue(), None);
        }
    }
}

/// A machine that slept for weeks missed no time limit.
#[test]
fn a_look_may_come_late() {
    for late in [Duration::from_secs(40 * 60), 20 * DAY] {
        let mut wire = wire();
        let opened = wire.open();
        let finished = wire.established();
        wire.core.finish(finished).unwrap();
        wire.sent();
        wire.now += late;
        wire.core.handle_timeout(wire.now);
        let ids = [opened, finished].map(|slot| wire.core.id(slot).unwrap().0);
        assert_eq!(resets(&wire.sent()), [(ids[0], 6), (ids[1], 7)], "{late:?} late");
        assert_eq!(wire.core.overdue(), None);
    }
}

/// The first stream that is overdue ends the session, and nobody is told that there is room in it.
#[test]
fn the_look_ends_with_the_session() {
    let mut wire = Wire::new(Role::Client, |builder| {
        builder.ack_backlog(2).open_timeout(Some(OPEN)).open_timeout_ends_session(true)
    });
    wire.open();
    wire.open();
    assert!(wire.core.open().is_err());
    wire.events();
    wire.now += OPEN;
    wire.core.handle_timeout(wire.now);
    assert_eq!(wire.error(), Some(SessionError::OpenTimeout));
    assert_eq!(wire.events(), [Event::Ended]);
}

/// A clock that is set back ends no wait.
#[test]
fn a_clock_may_go_backwards() {
    let mut wire = wire();
    wire.secs(1);
    let first = wire.open();
    let due = wire.now + OPEN;
    wire.now = due + Duration::from_millis(3);
    let second = wire.open();
    wire.now = due;
    wire.core.handle_timeout(wire.now);
    assert_eq!(resets(&wire.sent()), [(wire.core.id(first).unwrap().0, 6)]);
    wire.advance(OPEN - Duration::from_millis(1));
    assert_eq!(resets(&wire.sent()), []);
    wire.secs(1);
    assert_eq!(resets(&wire.sent()), [(wire.core.id(second).unwrap().0, 6)]);
}

/// At whatever part of a tick a wait begins.
#[test]
fn no_wait_ends_early() {
    let mut wire = wire();
    let mut due = Vec::new();
    for _ in 0..200 {
        let slot = wire.open();
        due.push((wire.core.id(slot).unwrap().0, wire.now + OPEN));
        wire.now += Duration::from_micros(317);
    }
    while let Some(at) = wire.core.overdue() {
        wire.now = wire.now.max(at);
        wire.core.handle_timeout(wire.now);
        for (id, _) in resets(&wire.sent()) {
            let (_, due) = due.remove(due.iter().position(|(of, _)| *of == id).unwrap());
            assert!(wire.now >= due, "{:?} early", due - wire.now);
            assert!(wire.now - due <= Duration::from_millis(2), "{:?} late", wire.now - due);
        }
    }
    assert!(due.is_empty(), "{} are never reset", due.len());
}
