//! Messages in.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::{
    recycle::{Recycler, allocate},
    transport::Framing,
};

/// Bytes from the IO, turned into messages.
///
/// The IO puts bytes into [`room`](Self::room), [`filled`](Self::filled) is told how many, and
/// [`next`](Self::next) takes the messages out. What is allocated depends on what has arrived,
/// never on a length that was announced (`spec.md §13.3.5`).
#[derive(Debug)]
pub struct Inbox {
    framing: Framing,
    limit: Option<usize>,
    buffer: Vec<u8>,
    /// What of the buffer was received and not yet taken.
    start: usize,
    end: usize,
    large: Option<Large>,
    /// Small messages are copied together, so that none pins a whole buffer.
    tail: BytesMut,
    /// How many reads in a row needed little of the buffer.
    small_reads: u8,
    /// The memory of large messages, used again when they are gone.
    lent: Recycler,
}

/// A message that is longer than what has arrived of it.
#[derive(Debug)]
struct Large {
    /// Initialised, and at least as long as what has arrived.
    body: BytesMut,
    filled: usize,
    len: usize,
}

impl Inbox {
    /// An inbox for messages of up to `limit` bytes, or of any length with `None`.
    #[must_use]
    pub fn new(framing: Framing, limit: Option<usize>) -> Self {
        Self {
            framing,
            limit,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            large: None,
            tail: BytesMut::new(),
            small_reads: 0,
            lent: Recycler::new(MAX_LENT),
        }
    }

    /// Where the next bytes go. Not empty, once [`next`](Self::next) has returned `None`.
    pub fn room(&mut self) -> &mut [u8] {
        if let Some(large) = &mut self.large {
            return large.room();
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            let size = (self.buffer.len() * 4).clamp(BUFFER_MIN, BUFFER_MAX).max(self.end + 64);
            self.buffer.resize(size, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Takes note that `len` bytes were put into the [`room`](Self::room).
    pub fn filled(&mut self, len: usize) {
        if let Some(large) = &mut self.large {
            large.filled = (large.filled + len).min(large.len).min(large.body.len());
            return;
        }
        self.end = (self.end + len).min(self.buffer.len());
        let small = len < self.buffer.len() / 8;
        self.small_reads = if small { self.small_reads.saturating_add(1) } else { 0 };
    }

    /// The next message, if all of it has arrived.
    ///
    /// # Errors
    ///
    /// [`MessageError`]. What follows has no meaning: do not call this again.
    #[expect(clippy::should_implement_trait, reason = "not the end, only for now")]
    pub fn next(&mut self) -> Result<Option<Bytes>, MessageError> {
        if let Some(large) = self.large.take() {
            if large.filled == large.len {
                return Ok(Some(self.lend(large)));
            }
            self.large = Some(large);
            return Ok(None);
        }
        let received = &self.buffer[self.start..self.end];
        let Some((head, len)) = parse_head(received, self.framing, self.limit)? else {
            self.shrink();
            return Ok(None);
        };
        let body = &received[head..];
        if body.len() < len {
            let room = self.lent.take(len.min(MAX_RECYCLED));
            self.large = Some(Large::new(body, len, room));
            (self.start, self.end) = (0, 0);
            return Ok(None);
        }
        let message = take(&mut self.tail, &body[..len]);
        self.start += head + len;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        Ok(Some(message))
    }

    /// Whether part of a message has arrived.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.large.is_some() || self.start < self.end
    }

    /// Bytes of memory held for what arrives, without those of messages that were taken.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |large| large.body.capacity());
        self.buffer.capacity() + large
    }

    fn lend(&mut self, large: Large) -> Bytes {
        let Large { mut body, len, .. } = large;
        if body.len() <= MAX_RECYCLED {
            return self.lent.lend(body, len);
        }
        body.truncate(len);
        body.freeze()
    }

    /// A buffer that has been too large for a while is given back.
    fn shrink(&mut self) {
        if self.small_reads >= SMALL_READS
            && self.buffer.len() > BUFFER_MIN
            && self.start == self.end
        {
            self.buffer = vec![0; BUFFER_MIN];
            self.small_reads = 0;
        }
        if self.small_reads >= SMALL_READS {
            self.lent.clear();
        }
    }
}

impl Large {
    fn new(received: &[u8], len: usize, room: Option<BytesMut>) -> Self {
        let mut body = room.unwrap_or_else(|| allocate(len.min(received.len() + CHUNK)));
        body[..received.len()].copy_from_slice(received);
        Self { filled: received.len(), body, len }
    }

    /// Grows with what has arrived: by a chunk at least, by half when there is much.
    fn room(&mut self) -> &mut [u8] {
        if self.filled == self.body.len() {
            let more = CHUNK.max(self.filled / 2).min(self.len - self.filled);
            let mut larger = allocate(self.filled + more);
            larger[..self.filled].copy_from_slice(&self.body);
            self.body = larger;
        }
        let end = self.body.len().min(self.len);
        &mut self.body[self.filled..end]
    }
}

/// The length of the head, and of the message behind it (`spec.md §13.3`).
fn parse_head(
    bytes: &[u8],
    framing: Framing,
    limit: Option<usize>,
) -> Result<Option<(usize, usize)>, MessageError> {
    let bytes = match (framing, bytes) {
        (Framing::Plain, bytes) => bytes,
        (Framing::Local, []) => return Ok(None),
        (Framing::Local, [1, rest @ ..]) => rest,
        (Framing::Local, [other, ..]) => return Err(MessageError::Kind(*other)),
    };
    let Some(length) = bytes.first_chunk() else { return Ok(None) };
    let length = u64::from_be_bytes(*length);
    let head = match framing {
        Framing::Plain => 8,
        Framing::Local => 9,
    };
    // No message can be longer than memory, limit or not.
    let most = limit.unwrap_or(isize::MAX as usize) as u64;
    if length > most {
        return Err(MessageError::TooLong { length, limit: most });
    }
    Ok(Some((head, length as usize)))
}

fn take(tail: &mut BytesMut, message: &[u8]) -> Bytes {
    if message.len() > SMALL {
        return Bytes::copy_from_slice(message);
    }
    if message.len() > tail.capacity() {
        *tail = BytesMut::with_capacity(TAIL);
    }
    tail.extend_from_slice(message);
    tail.split().freeze()
}

/// Why what the peer sent is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// It is longer than the limit. A length with its high bit set, which other implementations
    /// take for negative, always is.
    TooLong {
        /// The length that the peer announced.
        length: u64,
        /// The greatest length that is accepted.
        limit: u64,
    },
    /// On a local socket the byte before the length was not 1.
    Kind(u8),
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length, limit } => {
                write!(f, "a message of {length} bytes where {limit} are allowed")
            }
            Self::Kind(kind) => write!(f, "a message of unknown kind {kind}"),
        }
    }
}

impl std::error::Error for MessageError {}

/// What a quiet connection reads into.
const BUFFER_MIN: usize = 4 << 10;
/// What a busy one does.
const BUFFER_MAX: usize = 64 << 10;
/// After as many small reads a busy connection counts as quiet.
const SMALL_READS: u8 = 64;
/// How far memory for a large message runs ahead of what has arrived of it.
const CHUNK: usize = 64 << 10;
/// Longer messages are rare, and their memory is given back.
const MAX_RECYCLED: usize = 256 << 10;
/// Bytes of messages whose memory is remembered: of 256 contexts with 64 KiB each.
const MAX_LENT: usize = 16 << 20;
/// Messages up to this length share memory...
const SMALL: usize = 1 << 10;
/// ...of this size.
const TAIL: usize = 8 << 10;
