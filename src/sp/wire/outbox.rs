//! Messages out.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures::io::AsyncWrite;

use crate::{stream::Stream, transport::Framing};

/// Messages in the form they have on the wire, in order. Small ones are copied together, large
/// bodies stay where they are.
#[derive(Debug, Default)]
pub struct Outbox {
    framing: Framing,
    staged: Vec<u8>,
    /// How much of `staged` has been written.
    written: usize,
    /// Large bodies, each with the end of the staged bytes that go before it.
    bodies: VecDeque<(usize, Bytes)>,
    bytes: usize,
    messages: usize,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self { framing, ..Self::default() }
    }

    /// Adds a message: the header, then the body (`spec.md §13.3`).
    pub fn push(&mut self, header: &[u8], body: &Bytes) {
        let before = self.staged.len();
        let len = header.len() + body.len();
        if self.framing == Framing::Local {
            self.staged.push(1);
        }
        self.staged.extend_from_slice(&(len as u64).to_be_bytes());
        self.staged.extend_from_slice(header);
        self.bytes += self.staged.len() - before + body.len();
        self.messages += 1;
        if body.len() <= COPIED {
            self.staged.extend_from_slice(body);
        } else {
            self.bodies.push_back((self.staged.len(), body.clone()));
        }
    }

    /// Whether there is nothing left to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes left to write.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// How many messages were added since it was last empty.
    #[must_use]
    pub const fn messages(&self) -> usize {
        self.messages
    }

    /// Sets `slices` to the bytes that come next, and returns how many of them were set.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut from = self.written;
        let mut set = 0;
        let pieces = self.bodies.iter().map(|(end, body)| (*end, &body[..]));
        for (end, body) in pieces.chain([(self.staged.len(), &[][..])]) {
            for piece in [&self.staged[from..end], body] {
                if set == slices.len() {
                    return set;
                }
                if !piece.is_empty() {
                    slices[set] = IoSlice::new(piece);
                    set += 1;
                }
            }
            from = end;
        }
        set
    }

    /// All bytes that are left, if they lie in one piece.
    #[must_use]
    pub fn single(&self) -> Option<&[u8]> {
        self.bodies.is_empty().then(|| &self.staged[self.written..])
    }

    /// Takes note that `len` bytes were written.
    pub fn advance(&mut self, len: usize) {
        let mut left = len.min(self.bytes);
        self.bytes -= left;
        while let Some((end, body)) = self.bodies.front_mut() {
            let staged = left.min(*end - self.written);
            self.written += staged;
            left -= staged;
            if self.written < *end || left < body.len() {
                body.advance(left);
                return;
            }
            left -= body.len();
            self.bodies.pop_front();
        }
        self.written += left;
        if self.bytes == 0 {
            self.clear();
        }
    }

    /// Gives everything to a stream of a session, which need not copy large bodies.
    pub(crate) fn poll_stage(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<io::Result<()>> {
        while self.bytes > 0 {
            let end = self.bodies.front().map_or(self.staged.len(), |(end, _)| *end);
            if self.written < end {
                let head = &self.staged[self.written..end];
                let len = ready!(AsyncWrite::poll_write(Pin::new(&mut *stream), cx, head))?;
                self.advance(len);
            } else if let Some((_, body)) = self.bodies.front_mut() {
                self.bytes -= ready!(stream.poll_write_chunk(cx, body))?;
                if body.is_empty() {
                    self.bodies.pop_front();
                }
            }
        }
        self.clear();
        Poll::Ready(Ok(()))
    }

    /// Forgets everything. Memory is kept for the next messages, within reason.
    pub fn clear(&mut self) {
        self.staged.clear();
        if self.staged.capacity() > KEPT {
            self.staged = Vec::new();
        }
        self.bodies.clear();
        (self.written, self.bytes, self.messages) = (0, 0, 0);
    }

    /// A copy of everything that is left to write.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.bytes);
        let mut from = self.written;
        for (end, body) in &self.bodies {
            all.extend_from_slice(&self.staged[from..*end]);
            all.extend_from_slice(body);
            from = *end;
        }
        all.extend_from_slice(&self.staged[from..]);
        all
    }
}

/// A body up to this length is copied beside its header: cheaper than a slice of its own.
const COPIED: usize = 4 << 10;

/// What an empty outbox keeps.
const KEPT: usize = 64 << 10;
