//! Streams that wait for the peer's ACK or FIN, against a list of when each is due.

use std::time::{Duration, Instant};

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::wire::*;
use crate::{
    Role,
    frame::Frame,
    proto::{Half, Slot},
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
struct Stream {
    slot: Slot,
    id: u32,
    held: bool,
    finished: bool,
    ack_due: Option<Instant>,
    fin_due: Option<Instant>,
    progress: bool,
}

impl Stream {
    /// The stream is reset at that moment, with that code; or it was heard of, and waits on.
    fn pass(&mut self, now: Instant) -> Option<u32> {
        if self.ack_due.is_some_and(|due| now >= due) {
            return Some(6);
        }
        if self.fin_due.is_some_and(|due| now >= due) {
            if !(self.held && self.progress) {
                return Some(7);
            }
            (self.progress, self.fin_due) = (false, Some(now + CLOSE));
        }
        None
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
        let mut wire = wire();
        let mut streams: Vec<Stream> = Vec::new();
        for step in steps.into_iter().chain([Step::Pass(60_000)]) {
            let (Step::Ack(which) | Step::Finish(which) | Step::Data(which) | Step::Fin(which)
            | Step::Drop(which)) = step
            else {
                match step {
                    Step::Open => {
                        let slot = wire.open();
                        let id = wire.core.id(slot).unwrap().0;
                        let ack_due = Some(wire.now + OPEN);
                        let (held, finished, fin_due, progress) = (true, false, None, false);
                        streams.push(Stream {
                            slot, id, held, finished, ack_due, fin_due, progress,
                        });
                    }
                    Step::Pass(millis) => {
                        let end = wire.now + Duration::from_millis(millis.into());
                        while let Some(at) = wire.core.poll_timeout().filter(|at| *at <= end) {
                            wire.now = wire.now.max(at);
                            let now = wire.now;
                            wire.core.handle_timeout(now);
                            let mut expected = Vec::new();
                            streams.retain_mut(|stream| match stream.pass(now) {
                                Some(code) => {
                                    expected.push((stream.id, code));
                                    if stream.held {
                                        wire.core.release(stream.slot, Half::Both);
                                    }
                                    false
                                }
                                None => true,
                            });
                            let mut found = resets(&wire.sent());
                            found.sort_unstable();
                            expected.sort_unstable();
                            if found != expected {
                                return false;
                            }
                        }
                        wire.now = end;
                        let due = |stream: &Stream| {
                            stream.ack_due.into_iter().chain(stream.fin_due).min()
                        };
                        if streams.iter().any(|stream| due(stream).is_some_and(|at| at <= end)) {
                            return false;
                        }
                    }
                    _ => {}
                }
                continue;
            };
            if streams.is_empty() {
                continue;
            }
            let at = usize::from(which) % streams.len();
            let now = wire.now;
            let stream = &mut streams[at];
            let over = match step {
                Step::Ack(_) => {
                    wire.feed(&[update(stream.id, ACK, 0)]);
                    false
                }
                Step::Data(_) => {
                    wire.feed(&[data(stream.id, ACK, "x")]);
                    stream.progress = true;
                    false
                }
                Step::Fin(_) => {
                    wire.feed(&[update(stream.id, FIN, 0)]);
                    if !stream.finished {
                        wire.core.finish(stream.slot).unwrap();
                    }
                    wire.sent();
                    true
                }
                Step::Drop(_) if !stream.finished => true,
                Step::Drop(_) => {
                    if stream.held {
                        wire.core.release(stream.slot, Half::Both);
                    }
                    stream.held = false;
                    false
                }
                _ => {
                    if !stream.finished {
                        wire.core.finish(stream.slot).unwrap();
                        stream.fin_due = Some(now + CLOSE);
                        stream.progress = false;
                    }
                    stream.finished = true;
                    false
                }
            };
            if !matches!(step, Step::Finish(_) | Step::Drop(_)) {
                stream.ack_due = None;
            }
            if over {
                let stream = streams.remove(at);
                if stream.held {
                    wire.core.release(stream.slot, Half::Both);
                }
            }
            // A window update has no part in this, nor has the reset of a drop.
            wire.sent();
        }
        wire.core.live_streams() == streams.len() && wire.core.overdue().is_none()
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
