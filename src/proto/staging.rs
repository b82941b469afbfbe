//! Frames on their way to the IO, encoded in place into one buffer per session: one copy, few large
//! writes, no queue per stream.

use std::{io::IoSlice, mem};

use bytes::Bytes;

use crate::frame::{Flags, HEADER_LEN, Header, Kind, StreamId};

/// The batch under construction.
#[derive(Debug)]
pub(super) struct Staging {
    batch: Batch,
    /// The Data frame at the very end, which the same stream may still extend.
    open: Option<OpenFrame>,
    /// Bytes of Data frames in line. Other frames do not count: they must never wait.
    data: usize,
    /// Bytes of Data frames that go ahead of the line.
    overtaking: usize,
}

impl Staging {
    pub(super) const fn new() -> Self {
        Self { batch: Batch::new(), open: None, data: 0, overtaking: 0 }
    }

    /// Bytes of Data frames in line, headers included.
    pub(super) const fn data_len(&self) -> usize {
        self.data
    }

    /// All bytes staged.
    pub(super) const fn len(&self) -> usize {
        self.batch.lead.len() + self.batch.body.len() + self.batch.spliced
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A frame without a body, ahead of everything that is staged.
    pub(super) fn lead(&mut self, header: Header) {
        self.batch.lead.extend_from_slice(&header.encode());
    }

    /// A Data frame, copied, ahead of everything that is staged.
    pub(super) fn lead_data(&mut self, stream: StreamId, flags: Flags, bytes: &[u8]) {
        self.lead(Header { kind: Kind::Data, flags, stream, length: bytes.len() as u32 });
        self.batch.lead.extend_from_slice(bytes);
        self.overtaking += HEADER_LEN + bytes.len();
    }

    /// Bytes of Data frames that go ahead of the line, headers included.
    pub(super) const fn overtaking(&self) -> usize {
        self.overtaking
    }

    /// A frame without a body, behind everything that is staged.
    pub(super) fn trail(&mut self, header: Header) {
        self.open = None;
        self.batch.body.extend_from_slice(&header.encode());
    }

    /// How many bytes could join the last frame of `stream`.
    pub(super) fn extensible(&self, stream: StreamId, max_frame: usize) -> Option<usize> {
        let open = self.open.as_ref().filter(|open| open.stream == stream)?;
        Some(max_frame.saturating_sub(open.len)).filter(|room| *room > 0)
    }

    /// Adds bytes to the frame that [`extensible`](Self::extensible) found.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.lengthen(bytes.len());
        self.batch.body.extend_from_slice(bytes);
    }

    /// The same without a copy.
    pub(super) fn extend_spliced(&mut self, bytes: Bytes) {
        self.lengthen(bytes.len());
        self.batch.splice(bytes);
    }

    #[inline]
    fn lengthen(&mut self, by: usize) {
        let Some(open) = &mut self.open else { return };
        open.len += by;
        let length = (open.len as u32).to_be_bytes();
        self.batch.body[open.at + LENGTH_AT..open.at + HEADER_LEN].copy_from_slice(&length);
        self.data += by;
    }

    /// A Data frame, copied.
    pub(super) fn data(&mut self, stream: StreamId, flags: Flags, bytes: &[u8]) {
        let header = Header { kind: Kind::Data, flags, stream, length: bytes.len() as u32 };
        self.open = Some(OpenFrame { stream, at: self.batch.body.len(), len: bytes.len() });
        self.batch.body.extend_from_slice(&header.encode());
        self.batch.body.extend_from_slice(bytes);
        self.data += HEADER_LEN + bytes.len();
    }

    /// A Data frame whose body is not copied.
    pub(super) fn splice(&mut self, stream: StreamId, flags: Flags, bytes: Bytes) {
        let header = Header { kind: Kind::Data, flags, stream, length: bytes.len() as u32 };
        self.open = Some(OpenFrame { stream, at: self.batch.body.len(), len: bytes.len() });
        self.batch.body.extend_from_slice(&header.encode());
        self.data += HEADER_LEN + bytes.len();
        self.batch.splice(bytes);
    }

    /// Exchanges the batch for `written`, which is empty.
    pub(super) fn swap(&mut self, written: &mut Batch) {
        debug_assert!(written.is_empty(), "the batch before is not written");
        self.open = None;
        self.data = 0;
        self.overtaking = 0;
        mem::swap(&mut self.batch, written);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Gives back what an idle session need not hold.
    pub(super) fn shrink(&mut self) {
        self.batch.shrink();
    }
}

/// Where the length sits in a header.
const LENGTH_AT: usize = 8;

#[derive(Debug)]
struct OpenFrame {
    stream: StreamId,
    at: usize,
    len: usize,
}

/// Bytes in the order in which the IO is to take them, with what it has taken already.
#[derive(Debug, Default)]
pub struct Batch {
    lead: Vec<u8>,
    body: Vec<u8>,
    splices: std::collections::VecDeque<Splice>,
    spliced: usize,
    lead_at: usize,
    body_at: usize,
}

impl Batch {
    /// An empty batch.
    pub const fn new() -> Self {
        Self {
            lead: Vec::new(),
            body: Vec::new(),
            splices: std::collections::VecDeque::new(),
            spliced: 0,
            lead_at: 0,
            body_at: 0,
        }
    }

    /// Bytes still to be written.
    pub fn remaining(&self) -> usize {
        self.lead.len() - self.lead_at + self.body.len() - self.body_at + self.spliced
    }

    /// Whether everything was written.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// The next bytes, if they lie in one piece and nothing follows.
    pub fn single(&self) -> Option<&[u8]> {
        if !self.splices.is_empty() {
            None
        } else if self.lead_at == self.lead.len() {
            Some(&self.body[self.body_at..])
        } else if self.body_at == self.body.len() {
            Some(&self.lead[self.lead_at..])
        } else {
            None
        }
    }

    /// The next bytes as slices, as many as fit into `slices`; returns how many were set.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut set = 0;
        let mut push = |bytes: &'a [u8]| {
            if !bytes.is_empty() && set < slices.len() {
                slices[set] = IoSlice::new(bytes);
                set += 1;
            }
            set < slices.len()
        };
        let mut at = self.body_at;
        let mut more = push(&self.lead[self.lead_at..]);
        for splice in &self.splices {
            if !more {
                return set;
            }
            more = push(&self.body[at..splice.at]) && push(&splice.bytes);
            at = splice.at;
        }
        if more {
            push(&self.body[at..]);
        }
        set
    }

    /// The IO took `len` bytes, which is no more than remain.
    pub fn advance(&mut self, mut len: usize) {
        let step = len.min(self.lead.len() - self.lead_at);
        self.lead_at += step;
        len -= step;
        while let Some(splice) = self.splices.front_mut() {
            let step = len.min(splice.at - self.body_at);
            self.body_at += step;
            len -= step;
            if self.body_at < splice.at || len == 0 {
                return;
            }
            let step = len.min(splice.bytes.len());
            bytes::Buf::advance(&mut splice.bytes, step);
            self.spliced -= step;
            len -= step;
            if !splice.bytes.is_empty() {
                return;
            }
            self.splices.pop_front();
        }
        self.body_at += len;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Appends bytes without a copy.
    fn splice(&mut self, bytes: Bytes) {
        self.spliced += bytes.len();
        self.splices.push_back(Splice { at: self.body.len(), bytes });
    }

    fn clear(&mut self) {
        self.lead.clear();
        self.body.clear();
        self.splices.clear();
        self.spliced = 0;
        self.lead_at = 0;
        self.body_at = 0;
    }

    /// Gives back the memory of an empty batch beyond what small messages need.
    pub fn shrink(&mut self) {
        if self.is_empty() && self.body.capacity() > IDLE_CAPACITY {
            *self = Self::new();
        }
    }
}

/// What an idle batch may hold on to.
const IDLE_CAPACITY: usize = 4 << 10;

#[derive(Debug)]
struct Splice {
    /// The offset in `body` that these bytes stand in front of.
    at: usize,
    bytes: Bytes,
}
