//! Two cores and their users, any operations, any splits: every byte arrives once and in order,
//! nobody waits for ever, and at the end every table is empty.

mod end;
mod handle;
mod lines;
mod settling;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use trunkline::{
    GoAwayCode, ResetCode, Role, StreamError,
    proto::Half,
    runtime::{ManualTimer, Timer},
};

use self::{end::End, lines::Lines};
use super::cursor::Cursor;

/// Plays `data` on two cores.
pub fn operations(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let mut pair = Pair::new(&mut cursor);
    let mut steps = 0;
    while !cursor.is_empty() && steps < MAX_STEPS {
        steps += 1;
        pair.step(&mut cursor);
        pair.notice();
    }
    pair.settle();
    pair.check_settled();
    pair.end(steps);
}

const MAX_STEPS: usize = 1_000;
const MAX_PIECE: usize = 64 << 10;

struct Pair {
    ends: [End; 2],
    /// What one end sent and the other has not received.
    pipes: [VecDeque<u8>; 2],
    capacity: usize,
    /// Bytes that may still be written, so that small pipes do not take for ever.
    allowance: usize,
    /// The end closed its writing side.
    shut: [bool; 2],
    lines: Lines,
    now: Instant,
    /// How far the clock was moved to settle.
    waited: Duration,
    /// How often the clock went on for long.
    idled: usize,
    /// Someone ended the session: streams may fail.
    disturbed: bool,
    /// Whether the sessions have a clock.
    timed: bool,
    /// Someone sent GoAway(0): streams may be refused.
    refusing: bool,
}

impl Pair {
    fn new(cursor: &mut Cursor<'_>) -> Self {
        let timed = !cursor.u8().is_multiple_of(4);
        let timer = ManualTimer::new();
        let now = timer.now();
        let capacity = cursor.pick(&[1 << 20, 1, 7, 100, 4_096, 65_536]);
        let mut end = |role| End::new(role, cursor, timed.then(|| timer.clone()), now);
        Self {
            ends: [end(Role::Client), end(Role::Server)],
            pipes: [VecDeque::new(), VecDeque::new()],
            capacity,
            allowance: capacity.saturating_mul(2_000).min(1 << 20),
            shut: [false; 2],
            lines: Lines::default(),
            now,
            waited: Duration::ZERO,
            idled: 0,
            disturbed: false,
            timed,
            refusing: false,
        }
    }

    fn step(&mut self, cursor: &mut Cursor<'_>) {
        let choice = cursor.u8();
        let end = usize::from(choice >> 7);
        match choice & 31 {
            0 | 1 => self.ends[end].open(&mut self.lines),
            2 | 3 => {
                self.ends[end].accept(&self.lines);
            }
            4..=8 => self.with_handle(end, cursor, |pair, index, cursor| {
                let wants = cursor.pick(&[1, 5, 100, 2_048, 20_000, 262_144, 400_000]);
                let wants = wants.min(pair.allowance);
                pair.allowance -= wants;
                pair.ends[end].handles[index].wants += wants;
                pair.write(end, index, cursor.flag());
            }),
            9..=12 => self.with_handle(end, cursor, |pair, index, cursor| {
                let max = cursor.pick(&[65_536, 1, 50, 5_000, 300_000]);
                pair.read(end, index, max, cursor.flag());
            }),
            13..=17 => {
                let most = cursor.pick(&[1 << 20, 1, 11, 12, 13, 1_000, 70_000]);
                self.transmit(end, most);
            }
            18..=22 => {
                let most = cursor.pick(&[1 << 20, 1, 11, 12, 13, 1_000, 70_000]);
                self.deliver(end, most);
            }
            23 => self.with_handle(end, cursor, |pair, index, _| {
                pair.ends[end].finish(&mut pair.lines, index);
            }),
            24 => self.with_handle(end, cursor, |pair, index, _| {
                pair.ends[end].release(&mut pair.lines, index, Half::Both);
            }),
            25 => self.with_handle(end, cursor, |pair, index, cursor| {
                let half = if cursor.flag() { Half::Read } else { Half::Write };
                pair.ends[end].release(&mut pair.lines, index, half);
            }),
            26 => self.with_handle(end, cursor, |pair, index, cursor| {
                pair.ends[end].reset(&mut pair.lines, index, ResetCode(cursor.u8().into()));
            }),
            27 => self.tick(cursor.pick(&[0, 1, 5, 100])),
            28 => self.with_handle(end, cursor, |pair, index, cursor| {
                pair.ends[end].try_deadline(index, cursor.flag(), pair.now);
            }),
            29 => {
                self.with_handle(end, cursor, |pair, index, _| pair.ends[end].flush(index));
            }
            30 => self.ends[end].ping(self.now),
            _ => self.rare(end, cursor.u8()),
        }
    }

    fn rare(&mut self, end: usize, choice: u8) {
        match choice % 16 {
            0 => {
                self.protect();
                self.ends[end].core.close(self.now);
            }
            1 => {
                self.disturbed = true;
                self.lines.lines.iter_mut().for_each(|line| line.protected = false);
                self.ends[end].core.abort(GoAwayCode(u32::from(choice)), self.now);
            }
            2 => {
                self.protect();
                self.ends[end].core.handles_dropped(self.now);
            }
            3 | 4 => {
                self.ends[end].core.go_away();
                self.refusing = true;
            }
            // Long enough to fall idle, not so long that anything else is due.
            _ if self.idled < 8 => {
                self.idled += 1;
                self.tick(12_000);
            }
            _ => {}
        }
    }

    /// One end is about to close: what both ends hold by now runs on, what comes later may not.
    fn protect(&mut self) {
        if std::mem::replace(&mut self.disturbed, true) {
            return;
        }
        for (number, line) in self.lines.lines.iter_mut().enumerate() {
            let held = |end: &End| {
                end.handles
                    .iter()
                    .any(|handle| handle.line == number && handle.read && handle.write)
            };
            line.protected = !line.torn && self.ends.iter().all(held);
        }
    }

    fn with_handle(
        &mut self,
        end: usize,
        cursor: &mut Cursor<'_>,
        work: impl FnOnce(&mut Self, usize, &mut Cursor<'_>),
    ) {
        let choice = usize::from(cursor.u8());
        let handles = self.ends[end].handles.len();
        if handles > 0 {
            work(self, choice % handles, cursor);
        }
    }

    /// Writes what the user wants to; returns whether anything was written.
    fn write(&mut self, end: usize, index: usize, chunked: bool) -> bool {
        let written = self.ends[end].write(&mut self.lines, index, chunked);
        written.unwrap_or_else(|error| self.excuse(end, index, error))
    }

    /// Returns whether anything was read.
    fn read(&mut self, end: usize, index: usize, max: usize, chunked: bool) -> bool {
        let read = self.ends[end].read(&mut self.lines, index, max, chunked);
        read.unwrap_or_else(|error| self.excuse(end, index, error))
    }

    /// Whether there was a reason for a stream to fail, by which nothing is read or written.
    fn excuse(&self, end: usize, index: usize, error: StreamError) -> bool {
        let line = self.lines.lines[self.ends[end].handles[index].line];
        let refused = self.ends.iter().any(|end| end.core.stats().refused > 0);
        let protected = line.protected && line.deaf != [true; 2];
        let excused = match error {
            StreamError::Reset(ResetCode::REFUSED) if refused || self.refusing => true,
            StreamError::Reset(_) | StreamError::LocalReset(_) => {
                line.torn || self.disturbed && !protected
            }
            StreamError::Session(_) => self.disturbed && (line.torn || !protected),
            _ => false,
        };
        assert!(excused, "end {end}: {error} for no reason: {line:?}");
        false
    }

    fn tick(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        self.ends.iter_mut().for_each(|end| end.tick(self.now, until));
        self.now = until;
    }

    /// The IO of `end` takes up to `most` bytes; returns whether anything happened.
    fn transmit(&mut self, end: usize, most: usize) -> bool {
        let pipe = &mut self.pipes[end];
        let room = most.min(self.capacity.saturating_sub(pipe.len()));
        self.ends[end].transmit(&mut self.lines, pipe, room, self.now)
    }

    /// `end` reads up to `most` bytes; returns whether there were any.
    fn deliver(&mut self, end: usize, most: usize) -> bool {
        let pipe = &mut self.pipes[1 - end];
        let len = pipe.len().min(most);
        let mut bytes = pipe.make_contiguous()[..len].to_vec();
        pipe.drain(..len);
        // A long read goes to a reader that waits for it, a short one finds no reader there.
        if most > 20_000 {
            bytes.drain(..self.ends[end].receive_directly(&mut self.lines, &bytes, self.now));
        }
        self.ends[end].receive(&bytes, self.now);
        len > 0
    }

    /// Ids that were given out, events, and limits.
    fn notice(&mut self) {
        for (number, end) in self.ends.iter_mut().enumerate() {
            end.learn_ids(&mut self.lines);
            end.notice(self.now);
            if let Some(Err(error)) = end.core.ended() {
                assert!(self.disturbed, "end {number}: {error}");
            }
            assert_eq!(end.core.stats().overloaded, 0);
        }
    }
}
