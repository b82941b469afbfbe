//! A stream in the hands of a user.

use bytes::Bytes;
use trunkline::{
    StreamError,
    proto::{Core, LEAST_DIRECT, Read, Slot, Written},
};

use super::{
    MAX_PIECE,
    lines::{Line, pattern_of},
};

pub(super) struct Handle {
    pub(super) slot: Slot,
    pub(super) line: usize,
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) read_blocked: bool,
    pub(super) write_blocked: bool,
    /// Bytes the user still means to write.
    pub(super) wants: usize,
    pub(super) finished: bool,
    pub(super) read_over: bool,
    pub(super) write_over: bool,
}

impl Handle {
    pub(super) const fn new(slot: Slot, line: usize) -> Self {
        Self {
            slot,
            line,
            read: true,
            write: true,
            read_blocked: false,
            write_blocked: false,
            wants: 0,
            finished: false,
            read_over: false,
            write_over: false,
        }
    }

    /// Writes what the user wants to; returns whether anything was written.
    pub(super) fn write(
        &mut self,
        core: &mut Core,
        end: usize,
        line: &mut Line,
        chunked: bool,
    ) -> Result<bool, StreamError> {
        if !self.write || self.finished || self.write_over || self.wants == 0 {
            return Ok(false);
        }
        let len = self.wants.min(MAX_PIECE);
        let bytes = pattern_of(self.line, end, line.written[end], len);
        let written = if chunked {
            let mut chunk = Bytes::copy_from_slice(bytes);
            let written = core.write_chunk(self.slot, &mut chunk);
            if let Ok(Written::Bytes(taken)) = written {
                assert_eq!(taken + chunk.len(), len, "the chunk keeps what was not taken");
            }
            written
        } else {
            core.write(self.slot, bytes)
        };
        match written {
            Ok(Written::Bytes(taken)) => {
                assert!(taken > 0 && taken <= len);
                line.written[end] += taken;
                self.wants -= taken;
                return Ok(true);
            }
            Ok(Written::Blocked) => self.write_blocked = true,
            Err(error) => {
                self.write_over = true;
                return Err(error);
            }
        }
        Ok(false)
    }

    /// Returns whether anything was read.
    pub(super) fn read(
        &mut self,
        core: &mut Core,
        end: usize,
        line: &mut Line,
        max: usize,
        chunked: bool,
    ) -> Result<bool, StreamError> {
        if !self.read {
            return Ok(false);
        }
        // Room for more than there is shows nothing new, but where it invites a direct read.
        let max = max.min(core.stats().buffered.max(LEAST_DIRECT - 1) + 1);
        let mut buffer = vec![0; max];
        let read = if chunked {
            core.read_chunk(self.slot, max).map(|read| match read {
                Read::Data(chunk) => {
                    buffer[..chunk.len()].copy_from_slice(&chunk);
                    Read::Data(chunk.len())
                }
                Read::Blocked => Read::Blocked,
                Read::End => Read::End,
            })
        } else {
            core.read(self.slot, &mut buffer)
        };
        match read {
            Ok(Read::Data(len)) => {
                assert!(len > 0 && len <= max);
                self.check(end, line, &buffer[..len]);
                return Ok(true);
            }
            Ok(Read::Blocked) => {
                assert!(!self.read_over, "blocked after the end");
                self.read_blocked = true;
            }
            Ok(Read::End) => {
                let whole = line.finished[1 - end] && line.read[end] == line.written[1 - end];
                assert!(whole, "an end too early: {line:?}");
                self.read_over = true;
            }
            Err(StreamError::TimedOut) => panic!("a deadline that nobody set"),
            Err(error) => {
                self.read_over = true;
                return Err(error);
            }
        }
        Ok(false)
    }

    /// The user got these bytes.
    pub(super) fn check(&self, end: usize, line: &mut Line, bytes: &[u8]) {
        assert!(!self.read_over, "bytes after the end");
        let sent = pattern_of(self.line, 1 - end, line.read[end], bytes.len());
        assert!(bytes == sent, "other bytes than were sent on {line:?}");
        line.read[end] += bytes.len();
        assert!(line.read[end] <= line.written[1 - end], "more than was sent: {line:?}");
    }
}
