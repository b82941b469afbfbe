//! What is known of a stream without asking the core.

use std::time::Instant;

use bytes::Bytes;
use trunkline::{
    StreamError,
    proto::{Core, Direction, Slot, Written},
};

/// A stream as its user knows it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) slot: Slot,
    pub(crate) key: u64,
    pub(crate) outbound: bool,
    pub(crate) id: Option<u32>,
    pub(crate) peer: Option<usize>,
    pub(crate) read_held: bool,
    pub(crate) write_held: bool,
    /// Bytes still to be written, and whether FIN is to follow.
    pub(crate) todo: usize,
    pub(crate) closing: bool,
    pub(crate) chunked: bool,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) finished: bool,
    /// Reset or dropped unfinished by its user: the other side may see a reset.
    pub(crate) disowned: bool,
    pub(crate) abandoned: bool,
    pub(crate) read_waits: bool,
    pub(crate) write_waits: bool,
    pub(crate) end: Option<Result<(), StreamError>>,
    pub(crate) write_error: Option<StreamError>,
}

impl Known {
    pub(crate) fn new(slot: Slot, outbound: bool, key: u64) -> Self {
        Self {
            slot,
            key,
            outbound,
            id: None,
            peer: None,
            read_held: true,
            write_held: true,
            todo: 0,
            closing: false,
            chunked: false,
            sent: 0,
            received: 0,
            finished: false,
            disowned: false,
            abandoned: false,
            read_waits: false,
            write_waits: false,
            end: None,
            write_error: None,
        }
    }

    pub(crate) fn held(&self) -> bool {
        self.read_held || self.write_held
    }

    pub(crate) fn can_write(&self) -> bool {
        self.write_held && !self.finished && self.write_error.is_none() && !self.abandoned
    }

    pub(crate) fn can_read(&self) -> bool {
        self.read_held && self.end.is_none() && !self.abandoned
    }

    /// Writes what is to be written, as far as that goes now.
    pub(crate) fn write(&mut self, core: &mut Core, now: Instant) {
        while self.can_write() && self.todo > 0 && !self.write_waits {
            let len = self.todo.min(if self.chunked { 150_000 } else { 5_000 });
            let bytes: Vec<u8> =
                (0..len as u64).map(|i| pattern(self.key, self.sent + i)).collect();
            let written = if self.chunked {
                let mut chunk = Bytes::from(bytes);
                let written = core.write_chunk(self.slot, &mut chunk);
                if let Ok(Written::Bytes(taken)) = written {
                    assert_eq!(taken + chunk.len(), len, "a chunk keeps what was not taken");
                }
                written
            } else {
                core.write(self.slot, &bytes)
            };
            match written {
                Ok(Written::Bytes(taken)) => {
                    assert!(taken > 0 && taken <= len);
                    self.sent += taken as u64;
                    self.todo -= taken;
                }
                Ok(Written::Blocked) => self.write_waits = true,
                Err(StreamError::TimedOut) => {
                    core.set_deadline(self.slot, Direction::Write, None, now);
                }
                Err(error) => self.write_error = Some(error),
            }
        }
        let done = self.todo == 0 && !self.finished && self.write_error.is_none();
        if self.closing && self.write_held && done {
            match core.finish(self.slot) {
                Ok(()) => self.finished = true,
                Err(error) => self.write_error = Some(error),
            }
        }
    }
}

/// The byte at a position of what the owner of `key` writes.
pub(crate) const fn pattern(key: u64, at: u64) -> u8 {
    (key.wrapping_add(at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}
