//! The streams that the user of the core holds, and whatever a user may do with them.

use std::time::Duration;

use bytes::Bytes;
use trunkline::{
    ResetCode,
    proto::{Direction, Half, Read, Slot, Written},
};

use super::{super::cursor::Cursor, Subject, player::Player};

#[derive(Default)]
pub(super) struct Handles {
    handles: Vec<Handle>,
    /// Bytes that the core took.
    pub(super) written: u64,
}

struct Handle {
    slot: Slot,
    read: bool,
    write: bool,
}

impl Handles {
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.handles.iter().map(|handle| handle.slot)
    }

    pub(super) fn open(&mut self, subject: &mut Subject) {
        if self.handles.len() < MAX_HANDLES
            && let Ok(slot) = subject.on(|core| core.open())
        {
            self.hold(slot);
        }
    }

    pub(super) fn accept(&mut self, subject: &mut Subject) {
        if self.handles.len() < MAX_HANDLES
            && let Some(slot) = subject.on(|core| core.accept())
        {
            self.hold(slot);
        }
    }

    pub(super) fn hold(&mut self, slot: Slot) {
        assert!(self.handles.iter().all(|handle| handle.slot != slot), "a slot given out twice");
        self.handles.push(Handle { slot, read: true, write: true });
    }

    fn choose(&self, cursor: &mut Cursor<'_>) -> Option<usize> {
        let choice = usize::from(cursor.u8());
        (!self.handles.is_empty()).then(|| choice % self.handles.len())
    }

    pub(super) fn read(&self, subject: &mut Subject, player: &Player, cursor: &mut Cursor<'_>) {
        let chunked = cursor.flag();
        let max = cursor.pick(&[1, 100, 4_096, 70_000, 262_144]);
        let Some(index) = self.choose(cursor).filter(|index| self.handles[*index].read) else {
            return;
        };
        self.read_from(subject, player, index, chunked, max);
    }

    /// Returns whether bytes were read.
    fn read_from(
        &self,
        subject: &mut Subject,
        player: &Player,
        index: usize,
        chunked: bool,
        max: usize,
    ) -> bool {
        let slot = self.handles[index].slot;
        let fill = subject.core.id(slot).and_then(|id| player.fill(id.0));
        let right = |bytes: &[u8]| fill.is_none_or(|fill| bytes.iter().all(|byte| *byte == fill));
        let before = subject.core.stats().buffered;
        let max = max.min(before + 1);
        let mut buffer = vec![0; max];
        let (len, right) = subject.on(|core| {
            if chunked {
                match core.read_chunk(slot, max) {
                    Ok(Read::Data(chunk)) => (chunk.len(), right(&chunk)),
                    _ => (0, true),
                }
            } else {
                match core.read(slot, &mut buffer) {
                    Ok(Read::Data(len)) => (len, right(&buffer[..len])),
                    _ => (0, true),
                }
            }
        });
        assert!(right, "bytes of another stream");
        assert!(len <= max);
        assert_eq!(before - len, subject.core.stats().buffered);
        len > 0
    }

    pub(super) fn write(&mut self, subject: &mut Subject, cursor: &mut Cursor<'_>) {
        let chunked = cursor.flag();
        let len = cursor.pick(&[0, 1, 11, 1_500, 5_000, 70_000, 300_000]);
        let Some(index) = self.choose(cursor).filter(|index| self.handles[*index].write) else {
            return;
        };
        let slot = self.handles[index].slot;
        let written = subject.on(|core| {
            if chunked {
                let mut chunk = Bytes::from(vec![7; len]);
                core.write_chunk(slot, &mut chunk)
            } else {
                core.write(slot, &vec![7; len])
            }
        });
        if let Ok(Written::Bytes(staged)) = written {
            assert!(staged <= len && (staged > 0 || len == 0));
            self.written += staged as u64;
        }
    }

    pub(super) fn command(
        &mut self,
        subject: &mut Subject,
        player: &Player,
        cursor: &mut Cursor<'_>,
    ) {
        let command = cursor.u8() % 12;
        let now = subject.now;
        let Some(index) = self.choose(cursor) else { return };
        let Handle { slot, read, write } = self.handles[index];
        match command {
            0 | 1 if write => {
                let _ = subject.on(|core| core.finish(slot));
            }
            2 => {
                let code = ResetCode(cursor.pick(&[0, 1, 3, 4, 300, u32::MAX]));
                subject.on(|core| core.reset(slot, code));
            }
            3 | 4 if read => self.release(subject, index, Half::Read),
            5 if write => self.release(subject, index, Half::Write),
            6 | 7 => self.release(subject, index, Half::Both),
            8 if write => {
                let _ = subject.on(|core| core.flush(slot));
            }
            9 => {
                let at = cursor.pick(&[None, Some(0), Some(10), Some(60_000)]);
                let at = at.map(|millis| now + Duration::from_millis(millis));
                let direction = if cursor.flag() { Direction::Read } else { Direction::Write };
                let set = subject.on(|core| core.set_deadline(slot, direction, at, now));
                assert_eq!(set, subject.timed || at.is_none());
            }
            _ if read => {
                self.read_from(subject, player, index, true, 262_144);
            }
            _ => {}
        }
    }

    /// Drops a half, or what is left of the handle.
    fn release(&mut self, subject: &mut Subject, index: usize, half: Half) {
        let handle = &mut self.handles[index];
        let half = match (half, handle.read, handle.write) {
            (Half::Both, true, true) => Half::Both,
            (Half::Both, true, false) => Half::Read,
            (Half::Both, false, true) => Half::Write,
            (half, ..) => half,
        };
        handle.read &= half == Half::Write;
        handle.write &= half == Half::Read;
        let slot = handle.slot;
        if !handle.read && !handle.write {
            self.handles.swap_remove(index);
        }
        subject.on(|core| core.release(slot, half));
    }

    /// Whether a reader waits for more.
    pub(super) fn expect_more(&self, subject: &mut Subject) -> bool {
        let mut more = false;
        for Handle { slot, read, .. } in &self.handles {
            more |= *read && subject.on(|core| core.read(*slot, &mut [])) == Ok(Read::Blocked);
        }
        more
    }

    /// The session is over: reads what is left, and lets go of everything.
    pub(super) fn finish(&mut self, subject: &mut Subject, player: &Player) {
        while let Some(handle) = self.handles.last() {
            let (slot, index) = (handle.slot, self.handles.len() - 1);
            if handle.read {
                while self.read_from(subject, player, index, true, 262_144) {}
                let read = subject.on(|core| core.read(slot, &mut [0; 16]));
                assert!(matches!(read, Err(_) | Ok(Read::End)), "{read:?} after the end");
            }
            if self.handles[index].write {
                let written = subject.on(|core| core.write(slot, &[0]));
                assert!(written.is_err(), "{written:?} after the end");
            }
            self.release(subject, index, Half::Both);
        }
    }
}

const MAX_HANDLES: usize = 64;
