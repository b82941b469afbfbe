//! The IO object and its buffers. Nothing else polls the IO.

use std::{
    fmt, io,
    io::IoSlice,
    pin::Pin,
    task::{Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures::io::{AsyncRead, AsyncWrite};

use super::bell::Bell;
use crate::{
    config::READ_BUFFER,
    error::SessionError,
    proto::Batch,
    recycle::{Recycler, allocate},
};

/// One connection: what is being written to it, and room to read into.
pub(super) struct Port<T> {
    io: Pin<Box<T>>,
    bell: Bell,
    /// There was nothing to read.
    read_waits: bool,
    /// What a reader found that is for the driver to handle: the end, or a failure.
    found: Option<Result<Bytes, SessionError>>,
    /// The IO panicked while a reader used it: it is asked for nothing any more.
    broken: bool,
    /// It was asked for input since the poll began, or there is no more to come.
    pub(super) read_tried: bool,
    pub(super) batch: Batch,
    flushed: bool,
    progress: bool,
    buffers: ReadBuffers,
    /// Why the IO failed, in its own words.
    pub(super) cause: Option<io::Error>,
}

impl<T: AsyncRead + AsyncWrite> Port<T> {
    pub(super) fn new(io: T, bell: Bell) -> Self {
        Self {
            io: Box::pin(io),
            bell,
            read_waits: false,
            found: None,
            broken: false,
            read_tried: false,
            batch: Batch::new(),
            flushed: true,
            progress: false,
            buffers: ReadBuffers::default(),
            cause: None,
        }
    }

    /// Writes the batch to its end and flushes the IO.
    ///
    /// An IO that claims to have taken more than it was given ends the session: what it would
    /// send next is anybody's guess.
    #[inline]
    pub(super) fn poll_write(&mut self) -> Poll<Result<(), SessionError>> {
        if self.broken {
            return Poll::Pending;
        }
        while !self.batch.is_empty() {
            self.flushed = false;
            let written = ready!(self.poll_write_once());
            let (written, given) = written.map_err(|error| self.failed(error))?;
            if written > given {
                return Poll::Ready(Err(SessionError::IoMisbehaved));
            }
            if written == 0 {
                return Poll::Ready(Err(SessionError::Io(io::ErrorKind::WriteZero)));
            }
            self.progress = true;
            self.batch.advance(written);
        }
        if !self.flushed {
            let flushed = ready!(self.io.as_mut().poll_flush(&mut self.bell.context()));
            flushed.map_err(|error| self.failed(error))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// How many bytes the IO took, and how many it was given.
    fn poll_write_once(&mut self) -> Poll<io::Result<(usize, usize)>> {
        let mut cx = self.bell.context();
        if let Some(bytes) = self.batch.single() {
            let written = ready!(self.io.as_mut().poll_write(&mut cx, bytes))?;
            return Poll::Ready(Ok((written, bytes.len())));
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let set = self.batch.slices(&mut slices);
        let given = slices[..set].iter().map(|slice| slice.len()).sum();
        let written = ready!(self.io.as_mut().poll_write_vectored(&mut cx, &slices[..set]))?;
        Poll::Ready(Ok((written, given)))
    }

    /// Whether the IO took anything since this was asked last.
    pub(super) const fn take_progress(&mut self) -> bool {
        std::mem::replace(&mut self.progress, false)
    }

    /// The next read tries, whether or not the IO rang.
    pub(super) const fn try_read(&mut self) {
        self.read_waits = false;
    }

    /// Whether the next read would find nothing.
    #[inline]
    pub(super) fn waits(&mut self) -> bool {
        if self.bell.rang() {
            self.read_waits = false;
        }
        self.read_waits && self.found.is_none()
    }

    /// Reads once; no bytes mean the end.
    #[inline]
    pub(super) fn poll_read(&mut self) -> Poll<Result<Bytes, SessionError>> {
        if self.waits() {
            return Poll::Pending;
        }
        self.read_tried = true;
        if self.found.is_some() {
            return self.take_found();
        }
        let mut buffer = self.buffers.take();
        let result = self.io.as_mut().poll_read(&mut self.bell.context(), &mut buffer);
        let read = match result {
            Poll::Ready(Ok(read)) if read > buffer.len() => {
                return Poll::Ready(Err(SessionError::IoMisbehaved));
            }
            Poll::Ready(Ok(read)) => read,
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(self.failed(error)));
            }
            Poll::Pending => {
                self.read_waits = true;
                self.buffers.put_back(buffer);
                return Poll::Pending;
            }
        };
        Poll::Ready(Ok(self.buffers.lend(buffer, read)))
    }

    #[cold]
    fn take_found(&mut self) -> Poll<Result<Bytes, SessionError>> {
        self.found.take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Reads once, into memory of a reader's. Only bytes are for the reader: the end, or a failure,
    /// is what the driver reads next.
    pub(super) fn poll_read_into(&mut self, out: &mut [u8]) -> Poll<usize> {
        if self.waits() || self.found.is_some() {
            return Poll::Pending;
        }
        // Readers take the bodies: the driver needs no room but for the headers between.
        self.buffers.busy = false;
        self.found = Some(match self.io.as_mut().poll_read(&mut self.bell.context(), out) {
            Poll::Ready(Ok(0)) => Ok(Bytes::new()),
            Poll::Ready(Ok(read)) if read > out.len() => Err(SessionError::IoMisbehaved),
            Poll::Ready(Ok(read)) => return Poll::Ready(read),
            Poll::Ready(Err(error)) => Err(self.failed(error)),
            Poll::Pending => {
                self.read_waits = true;
                return Poll::Pending;
            }
        });
        Poll::Pending
    }

    /// Whether a reader left something for the driver to handle.
    pub(super) const fn has_found(&self) -> bool {
        self.found.is_some()
    }

    /// The IO panicked while a reader used it: nobody knows what it returned last.
    pub(super) fn break_down(&mut self) {
        let error = self.failed(io::Error::other("panicked while it was read"));
        self.found = Some(Err(error));
        self.broken = true;
    }

    pub(super) fn poll_close(&mut self) -> Poll<Result<(), SessionError>> {
        let closed = self.io.as_mut().poll_close(&mut self.bell.context());
        closed.map_err(|error| self.failed(error))
    }

    #[cold]
    fn failed(&mut self, error: io::Error) -> SessionError {
        log::debug!("connection failed: {error}");
        let kind = error.kind();
        self.cause = Some(error);
        SessionError::Io(kind)
    }

    /// Gives back memory that an idle connection need not hold.
    pub(super) fn shrink(&mut self) {
        self.batch.shrink();
        self.buffers = ReadBuffers::default();
    }
}

impl<T> fmt::Debug for Port<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("to_write", &self.batch.remaining()).finish_non_exhaustive()
    }
}

/// The kernel takes up to 1,024; beyond 64 a call costs more than it saves.
const MAX_SLICES: usize = 64;

/// Buffers to read into.
struct ReadBuffers {
    ready: Option<BytesMut>,
    lent: Recycler,
    /// Whether the last read filled its buffer: the next may be large.
    busy: bool,
}

impl Default for ReadBuffers {
    fn default() -> Self {
        Self { ready: None, lent: Recycler::new(MAX_LENT * READ_BUFFER), busy: false }
    }
}

impl ReadBuffers {
    /// A buffer with every byte initialised.
    fn take(&mut self) -> BytesMut {
        let size = if self.busy { READ_BUFFER } else { QUIET_BUFFER };
        let ready = self.ready.take().filter(|ready| ready.len() >= size);
        ready.or_else(|| self.lent.take(size)).unwrap_or_else(|| allocate(size))
    }

    fn put_back(&mut self, buffer: BytesMut) {
        self.ready = Some(buffer);
    }

    /// The first `read` bytes of `buffer`; the whole comes back through [`take`](Self::take).
    fn lend(&mut self, buffer: BytesMut, read: usize) -> Bytes {
        self.busy = read == buffer.len() || (self.busy && read > QUIET_BUFFER / 2);
        self.lent.lend(buffer, read)
    }
}

/// Where messages are small, so is the buffer.
const QUIET_BUFFER: usize = 8 << 10;

/// Buffers whose slices readers still hold; beyond these they are simply freed when let go.
const MAX_LENT: usize = 8;
