//! A stream: one byte channel of a session, and its halves.

#[cfg(feature = "exchange")]
mod messages;
mod traits;

#[cfg(feature = "exchange")]
pub(crate) use messages::{Remote, Sink, Source};

use std::{
    fmt, io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Buf, Bytes};

use crate::{
    error::{ResetCode, StreamError},
    frame::StreamId,
    proto::{Direction, Half, Read, Slot, Written},
    session::shared::{Shared, State},
};

/// One byte channel of a [`Session`](crate::Session), in both directions.
///
/// It implements the [`futures`] IO traits, and tokio's with the feature `tokio`.
///
/// * A **write** is ready when the bytes are staged for the connection; it waits while the
///   peer's window is used up or the connection is behind.
/// * **Flush** waits until every byte written was taken by the connection.
/// * **Close** finishes this direction: FIN follows the data, and the future waits until it was
///   taken by the connection. The other direction stays readable to its end.
/// * **Drop** without close resets the stream ([`CANCELLED`](ResetCode::CANCELLED)): a task that
///   is cancelled or panics never looks like a clean end. After close, dropping is silent. So the
///   side that only reads closes too. Of a burst of streams that are dropped before the peer
///   accepted them, most are reset when it did (`spec.md §9.2.5`).
///
/// With the feature `tokio`, import one family of traits: `close` is futures', `shutdown` tokio's.
///
/// # Errors
///
/// Every [`io::Error`] of reading, writing, flushing and closing holds a [`StreamError`]:
/// [`StreamError::of`] finds it. What was received before an error is read before
/// the error; end of file is read only if the peer closed its direction.
///
/// # Cancel safety
///
/// A pending read has taken nothing, a pending write has written nothing.
///
/// # Examples
///
/// Bytes that are sent and received without being copied:
///
/// ```
/// use bytes::Bytes;
/// use futures::AsyncWriteExt;
/// # use trunkline::{Config, Session};
/// # let (left, right) = trunkline::transport::memory::duplex(4096);
/// # let (client, driver) = Session::client(left, Config::default());
/// # smol::spawn(driver).detach();
/// # let (server, driver) = Session::server(right, Config::default());
/// # smol::spawn(driver).detach();
/// # smol::block_on(async {
///
/// let mut stream = client.open().await?;
/// let mut chunk = Bytes::from_static(b"no copy of this is made");
/// while !chunk.is_empty() {
///     stream.write_chunk(&mut chunk).await?; // takes what there is room for
/// }
/// stream.close().await?;
///
/// let mut other = server.accept().await.ok_or("the session ended")?;
/// let mut received = 0;
/// while let Some(chunk) = other.read_chunk(64 << 10).await? {
///     received += chunk.len();
/// }
/// assert_eq!(received, 23);
/// other.close().await?; // the side that only reads closes too
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A peer that gives up says why:
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use trunkline::{ResetCode, StreamError};
/// # use trunkline::{Config, Session};
/// # let (left, right) = trunkline::transport::memory::duplex(4096);
/// # let (client, driver) = Session::client(left, Config::default());
/// # smol::spawn(driver).detach();
/// # let (server, driver) = Session::server(right, Config::default());
/// # smol::spawn(driver).detach();
/// # smol::block_on(async {
///
/// let mut stream = client.open().await?;
/// stream.write_all(b"ab").await?;
/// let mut other = server.accept().await.ok_or("the session ended")?;
/// stream.reset(ResetCode(0x100)); // before it is accepted, a stream that is reset vanishes
///
/// let mut text = String::new();
/// let error = other.read_to_string(&mut text).await.unwrap_err();
/// assert_eq!(StreamError::of(&error), Some(StreamError::Reset(ResetCode(0x100))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Stream {
    handle: Handle,
    /// Taken from the session and not consumed: what `poll_fill_buf` lends out.
    chunk: Bytes,
}

impl Stream {
    pub(crate) const fn new(shared: Arc<Shared>, slot: Slot) -> Self {
        Self { handle: Handle { shared, slot, half: Half::Both }, chunk: Bytes::new() }
    }

    /// The number of the stream on the wire; `None` until its SYN is on its way.
    pub fn id(&self) -> Option<StreamId> {
        self.handle.id()
    }

    /// Ends both directions at once and tells the peer why. What was written and not sent yet
    /// still goes out before.
    pub fn reset(self, code: ResetCode) {
        self.handle.reset(code);
    }

    /// Two halves that can go to different tasks.
    ///
    /// Dropping only the read half discards what arrives and grants the peer no more credit.
    /// When both are gone and the write half was not closed, the stream is reset.
    ///
    /// ```
    /// # use futures::{AsyncReadExt, AsyncWriteExt};
    /// # use trunkline::{Config, Session};
    /// # let (left, right) = trunkline::transport::memory::duplex(4096);
    /// # let (client, driver) = Session::client(left, Config::default());
    /// # smol::spawn(driver).detach();
    /// # let (server, driver) = Session::server(right, Config::default());
    /// # smol::spawn(driver).detach();
    /// # smol::block_on(async {
    /// let (mut read, mut write) = client.open().await?.into_split();
    /// let writing = smol::spawn(async move {
    ///     write.write_all(b"question").await?;
    ///     write.close().await?;
    ///     Ok::<_, std::io::Error>(write)
    /// });
    ///
    /// let mut other = server.accept().await.ok_or("the session ended")?;
    /// let mut text = String::new();
    /// other.read_to_string(&mut text).await?;
    /// other.write_all(text.to_uppercase().as_bytes()).await?;
    /// other.close().await?;
    ///
    /// let mut answer = String::new();
    /// read.read_to_string(&mut answer).await?;
    /// assert_eq!(answer, "QUESTION");
    /// let stream = read.reunite(writing.await?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        let Self { mut handle, chunk } = self;
        let read = Handle { shared: handle.shared.clone(), slot: handle.slot, half: Half::Read };
        handle.half = Half::Write;
        (ReadHalf { handle: read, chunk }, WriteHalf { handle })
    }
}

/// The reading half of a [`Stream`].
pub struct ReadHalf {
    handle: Handle,
    chunk: Bytes,
}

impl ReadHalf {
    /// The number of the stream on the wire; `None` until its SYN is on its way.
    pub fn id(&self) -> Option<StreamId> {
        self.handle.id()
    }

    /// Ends both directions at once and tells the peer why. The other half fails with
    /// [`LocalReset`](StreamError::LocalReset), and what it had not read is discarded.
    pub fn reset(self, code: ResetCode) {
        self.handle.reset(code);
    }

    /// Joins two halves of the same stream.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`], which holds both halves, if they are of different streams.
    pub fn reunite(self, write: WriteHalf) -> Result<Stream, ReuniteError> {
        let same = Arc::ptr_eq(&self.handle.shared, &write.handle.shared)
            && self.handle.slot == write.handle.slot;
        if !same {
            return Err(ReuniteError { read: self, write });
        }
        let Self { mut handle, chunk } = self;
        let WriteHalf { handle: mut other } = write;
        handle.half = Half::Both;
        other.half = Half::None;
        Ok(Stream { handle, chunk })
    }
}

/// The writing half of a [`Stream`].
pub struct WriteHalf {
    handle: Handle,
}

impl WriteHalf {
    /// The number of the stream on the wire; `None` until its SYN is on its way.
    #[must_use]
    pub fn id(&self) -> Option<StreamId> {
        self.handle.id()
    }

    /// Ends both directions at once and tells the peer why. The other half fails with
    /// [`LocalReset`](StreamError::LocalReset), and what it had not read is discarded.
    pub fn reset(self, code: ResetCode) {
        self.handle.reset(code);
    }
}

/// Two halves that do not belong together.
#[derive(Debug)]
pub struct ReuniteError {
    /// The reading half, unchanged.
    pub read: ReadHalf,
    /// The writing half, unchanged.
    pub write: WriteHalf,
}

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves belong to different streams")
    }
}

impl std::error::Error for ReuniteError {}

macro_rules! reading {
    ($name:ident) => {
        impl $name {
            /// The next bytes, at most `max` of them and at least one, without copying; `None` at
            /// the end.
            ///
            /// # Errors
            ///
            /// As reading.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future takes nothing.
            pub async fn read_chunk(&mut self, max: usize) -> io::Result<Option<Bytes>> {
                std::future::poll_fn(|cx| self.poll_read_chunk(cx, max)).await
            }

            /// The poll form of [`read_chunk`](Self::read_chunk).
            ///
            /// # Errors
            ///
            /// As reading.
            pub fn poll_read_chunk(
                &mut self,
                cx: &mut Context<'_>,
                max: usize,
            ) -> Poll<io::Result<Option<Bytes>>> {
                if self.chunk.is_empty() {
                    return self.handle.poll_read_chunk(cx, max.max(1));
                }
                let rest = self.chunk.split_off(self.chunk.len().min(max.max(1)));
                Poll::Ready(Ok(Some(std::mem::replace(&mut self.chunk, rest))))
            }

            /// Reads that still wait at `at` fail with [`StreamError::TimedOut`], and so does
            /// every later one that would wait, until the deadline is changed. The stream stays
            /// usable, and bytes that are there are read all the same. `None` waits forever.
            ///
            /// `at` is on the clock of [`Config`](crate::Config)'s timer; with `trunkline::tokio`
            /// that is `tokio::time::Instant::now().into_std()`.
            ///
            /// ```
            /// use std::{io::ErrorKind, time::{Duration, Instant}};
            /// use futures::AsyncReadExt;
            /// # use trunkline::{Config, Session};
            /// # let (left, right) = trunkline::transport::memory::duplex(4096);
            /// # let (client, driver) = Session::client(left, Config::default());
            /// # smol::spawn(driver).detach();
            /// # let (server, driver) = Session::server(right, Config::default());
            /// # smol::spawn(driver).detach();
            /// # smol::block_on(async {
            /// let mut stream = client.open().await?;
            /// stream.set_read_deadline(Some(Instant::now() + Duration::from_millis(5)))?;
            /// let error = stream.read(&mut [0; 16]).await.unwrap_err();
            /// assert_eq!(error.kind(), ErrorKind::TimedOut);
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// # })?;
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            ///
            /// # Errors
            ///
            /// [`io::ErrorKind::Unsupported`] if the session has no timer.
            pub fn set_read_deadline(&mut self, at: Option<Instant>) -> io::Result<()> {
                self.handle.set_deadline(Direction::Read, at)
            }
        }
    };
}

macro_rules! writing {
    ($name:ident) => {
        impl $name {
            /// Stages bytes from the front of `chunk` until none is left; large pieces are not
            /// copied.
            ///
            /// # Errors
            ///
            /// As writing.
            ///
            /// # Cancel safety
            ///
            /// What was not staged stays in `chunk`.
            pub async fn write_chunk(&mut self, chunk: &mut Bytes) -> io::Result<()> {
                while !chunk.is_empty() {
                    std::future::poll_fn(|cx| self.poll_write_chunk(cx, chunk)).await?;
                }
                Ok(())
            }

            /// Stages some bytes from the front of `chunk`, and tells how many.
            ///
            /// # Errors
            ///
            /// As writing.
            pub fn poll_write_chunk(
                &mut self,
                cx: &mut Context<'_>,
                chunk: &mut Bytes,
            ) -> Poll<io::Result<usize>> {
                self.handle.poll_write_chunk(cx, chunk)
            }

            /// Waits until the stream is over: until both directions were finished, or it ended
            /// early. What was received stays readable. A writer with nothing to write learns
            /// here that its peer is gone.
            ///
            /// # Errors
            ///
            /// Why it ended early: the peer's reset, or the end of the session.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future has no effect.
            pub async fn ended(&mut self) -> Result<(), StreamError> {
                std::future::poll_fn(|cx| self.handle.poll_ended(cx)).await
            }

            /// Writes, flushes and closes that still wait at `at` fail with
            /// [`StreamError::TimedOut`], and so does every later one that would wait, until the
            /// deadline is changed. The stream stays usable; `write_chunk` tells what was taken,
            /// so that it can go on. `None` waits forever.
            ///
            /// `at` is on the clock of [`Config`](crate::Config)'s timer; with `trunkline::tokio`
            /// that is `tokio::time::Instant::now().into_std()`.
            ///
            /// # Errors
            ///
            /// [`io::ErrorKind::Unsupported`] if the session has no timer.
            pub fn set_write_deadline(&mut self, at: Option<Instant>) -> io::Result<()> {
                self.handle.set_deadline(Direction::Write, at)
            }
        }
    };
}

reading!(Stream);
reading!(ReadHalf);
writing!(Stream);
writing!(WriteHalf);

macro_rules! debug {
    ($($name:ident),*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("id", &self.id()).finish_non_exhaustive()
            }
        })*
    };
}

debug!(Stream, ReadHalf, WriteHalf);

/// What a handle does, whichever half it is.
struct Handle {
    shared: Arc<Shared>,
    slot: Slot,
    half: Half,
}

impl Handle {
    fn id(&self) -> Option<StreamId> {
        self.shared.with(|state| state.core.id(self.slot))
    }

    fn reset(&self, code: ResetCode) {
        self.shared.with(|state| state.core.reset(self.slot, code));
    }

    fn poll_read(&self, cx: &Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        if out.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.shared.with(|state| match state.core.read(self.slot, out) {
            Ok(Read::Data(len)) => Poll::Ready(Ok(len)),
            Ok(Read::End) => Poll::Ready(Ok(0)),
            Ok(Read::Blocked) => {
                state.wait_readable(self.slot, cx);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
        })
    }

    fn poll_read_chunk(&self, cx: &Context<'_>, max: usize) -> Poll<io::Result<Option<Bytes>>> {
        self.shared.with(|state| match state.core.read_chunk(self.slot, max) {
            Ok(Read::Data(chunk)) => Poll::Ready(Ok(Some(chunk))),
            Ok(Read::End) => Poll::Ready(Ok(None)),
            Ok(Read::Blocked) => {
                state.wait_readable(self.slot, cx);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
        })
    }

    /// Lends out the next chunk, which stays in `chunk` until it is consumed.
    fn poll_fill<'a>(&self, chunk: &'a mut Bytes, cx: &Context<'_>) -> Poll<io::Result<&'a [u8]>> {
        if chunk.is_empty()
            && let Some(next) = ready!(self.poll_read_chunk(cx, usize::MAX))?
        {
            *chunk = next;
        }
        Poll::Ready(Ok(chunk))
    }

    fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.with(|state| {
            let written = state.core.write(self.slot, bytes);
            self.written(state, cx, written)
        })
    }

    fn poll_write_vectored(
        &self,
        cx: &Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.with(|state| {
            let mut total = 0;
            for slice in slices.iter().filter(|slice| !slice.is_empty()) {
                match state.core.write(self.slot, slice) {
                    Ok(Written::Bytes(len)) => {
                        total += len;
                        if len < slice.len() {
                            break;
                        }
                    }
                    // What was staged counts; the rest is for the next call to meet.
                    _ if total > 0 => break,
                    blocked => return self.written(state, cx, blocked),
                }
            }
            Poll::Ready(Ok(total))
        })
    }

    fn poll_write_chunk(&self, cx: &Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<usize>> {
        self.shared.with(|state| {
            let written = state.core.write_chunk(self.slot, chunk);
            self.written(state, cx, written)
        })
    }

    fn written(
        &self,
        state: &mut State,
        cx: &Context<'_>,
        written: Result<Written, StreamError>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Ok(Written::Bytes(len)) => Poll::Ready(Ok(len)),
            Ok(Written::Blocked) => {
                state.wait_writable(self.slot, cx);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn poll_flush(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|state| match state.core.flush(self.slot) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => {
                state.wait_writable(self.slot, cx);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
        })
    }

    fn poll_close(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|state| {
            let flushed = state.core.finish(self.slot).and_then(|()| state.core.flush(self.slot));
            match flushed {
                Ok(true) => Poll::Ready(Ok(())),
                Ok(false) => {
                    state.wait_writable(self.slot, cx);
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error.into())),
            }
        })
    }

    fn poll_ended(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        self.shared.with(|state| match state.core.ended_stream(self.slot) {
            Some(result) => Poll::Ready(result),
            None => {
                state.wait_writable(self.slot, cx);
                Poll::Pending
            }
        })
    }

    fn set_deadline(&self, direction: Direction, at: Option<Instant>) -> io::Result<()> {
        let now = self.shared.now();
        if self.shared.with(|state| state.core.set_deadline(self.slot, direction, at, now)) {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::Unsupported, "the session has no timer"))
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.half == Half::None {
            return;
        }
        self.shared.with(|state| {
            let (read, write) = (self.half != Half::Write, self.half != Half::Read);
            state.forget_wakers(self.slot, read, write);
            state.core.release(self.slot, self.half);
        });
    }
}

/// Takes what a lent chunk has, as a plain read would.
fn take_from(chunk: &mut Bytes, out: &mut [u8]) -> usize {
    let len = chunk.len().min(out.len());
    out[..len].copy_from_slice(&chunk[..len]);
    consume(chunk, len);
    len
}

/// Lets go of the buffer behind a chunk with its last byte.
fn consume(chunk: &mut Bytes, len: usize) {
    if len < chunk.len() {
        chunk.advance(len);
    } else {
        *chunk = Bytes::new();
    }
}
