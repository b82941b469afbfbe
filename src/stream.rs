//! A stream: one byte channel of a session, and its halves.

mod handle;
#[cfg(feature = "exchange")]
mod messages;
mod traits;

#[cfg(feature = "exchange")]
pub(crate) use messages::{Remote, Sink, Source};

use std::{
    fmt, io,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::{Buf, Bytes};

use self::handle::Handle;
use crate::{
    error::{ResetCode, StreamError},
    frame::StreamId,
    proto::{Direction, Slot},
    session::shared::Shared,
};

/// One byte channel of a [`Session`](crate::Session), in both directions.
///
/// It implements the [`futures`] IO traits, and tokio's with the feature `tokio`.
///
/// * A **write** is done when its bytes are staged for the connection. It waits while the peer's
///   window is used up, and while `staging_limit` bytes wait for the connection.
/// * **Flush** waits until the connection has taken every byte that was written.
/// * **Close** finishes this direction: it sends FIN behind the data, and waits until the
///   connection has taken that too. The other direction can be read to its end.
/// * **Drop** without close resets the stream ([`CANCELLED`](ResetCode::CANCELLED)), so that a task
///   that is cancelled or panics never looks like a clean end. After close, dropping is silent: the
///   side that only reads has to close too. When many streams are dropped before the peer has
///   accepted them, most of their resets wait until it does (`spec.md §9.2.5`).
///
/// With the feature `tokio`, import one family of traits only: `close` is the name in futures,
/// `shutdown` the one in tokio.
///
/// # Errors
///
/// Every [`io::Error`] of reading, writing, flushing and closing holds a [`StreamError`], which
/// [`StreamError::of`] returns. What was received before an error is read before the error
/// (`spec.md §8.6`). End of file is read only if the peer closed its direction.
///
/// # Cancel safety
///
/// A pending read has taken nothing and a pending write has written nothing: either may be dropped.
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
/// stream.write_chunk(&mut chunk).await?;
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
        Self { handle: Handle::new(shared, slot), chunk: Bytes::new() }
    }

    /// The id of the stream on the wire; `None` until its SYN is staged.
    #[must_use]
    pub fn id(&self) -> Option<StreamId> {
        self.handle.id()
    }

    /// Ends both directions at once and tells the peer why. What was written still goes out before
    /// that; what was received and not read is discarded.
    pub fn reset(self, code: ResetCode) {
        self.handle.reset(code);
    }

    /// Splits the stream into two halves, which can go to different tasks.
    ///
    /// Dropping only the read half discards what arrives and grants the peer no more credit.
    /// When both are dropped and the write half was not closed, the stream is reset.
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
        let Self { handle, chunk } = self;
        let (read, write) = handle.split();
        (ReadHalf { handle: read, chunk }, WriteHalf { handle: write })
    }
}

/// The reading half of a [`Stream`].
pub struct ReadHalf {
    handle: Handle,
    chunk: Bytes,
}

impl ReadHalf {
    /// The id of the stream on the wire; `None` until its SYN is staged.
    #[must_use]
    pub fn id(&self) -> Option<StreamId> {
        self.handle.id()
    }

    /// Ends both directions at once and tells the peer why. What was received and not read is
    /// discarded; the write half fails with [`LocalReset`](StreamError::LocalReset).
    pub fn reset(self, code: ResetCode) {
        self.handle.reset(code);
    }

    /// Joins two halves of the same stream.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`], which holds both halves, if they are of different streams.
    pub fn reunite(self, write: WriteHalf) -> Result<Stream, ReuniteError> {
        if !self.handle.is_other_half_of(&write.handle) {
            return Err(ReuniteError { read: self, write });
        }
        let Self { handle, chunk } = self;
        Ok(Stream { handle: handle.join(write.handle), chunk })
    }
}

/// The writing half of a [`Stream`].
pub struct WriteHalf {
    handle: Handle,
}

impl WriteHalf {
    /// The id of the stream on the wire; `None` until its SYN is staged.
    #[must_use]
    pub fn id(&self) -> Option<StreamId> {
        self.handle.id()
    }

    /// Ends both directions at once and tells the peer why. What was written still goes out before
    /// that. The read half fails with [`LocalReset`](StreamError::LocalReset), and what it had not
    /// read is discarded; one that had read all the peer sent, to its end, gets the end of file.
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
            /// Reads the next bytes without copying them: at least one and at most `max`, which
            /// counts as 1 if it is 0. `None` at the end of the stream.
            ///
            /// # Errors
            ///
            /// Those of reading: see [`Stream`](Stream#errors).
            ///
            /// # Cancel safety
            ///
            /// Dropping the future loses nothing.
            pub async fn read_chunk(&mut self, max: usize) -> io::Result<Option<Bytes>> {
                std::future::poll_fn(|cx| self.poll_read_chunk(cx, max)).await
            }

            /// The poll form of [`read_chunk`](Self::read_chunk).
            ///
            /// # Errors
            ///
            /// Those of reading: see [`Stream`](Stream#errors).
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

            /// Reads wait until `at` and no longer: one that still waits then, and every later one
            /// that would have to, fails with [`StreamError::TimedOut`] until the deadline is
            /// changed. The stream stays usable, and bytes that have arrived can be read. With
            /// `None` reads wait forever.
            ///
            /// `at` is a moment on the clock of [`Config`](crate::Config)'s timer. With
            /// `trunkline::tokio` that is tokio's: `tokio::time::Instant::now().into_std()`.
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
            /// Writes all of `chunk`, taking bytes from its front as they are staged; large pieces
            /// are not copied.
            ///
            /// # Errors
            ///
            /// Those of writing: see [`Stream`](Stream#errors). What was not staged stays in
            /// `chunk`.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped, what was not staged stays in `chunk`.
            pub async fn write_chunk(&mut self, chunk: &mut Bytes) -> io::Result<()> {
                while !chunk.is_empty() {
                    std::future::poll_fn(|cx| self.poll_write_chunk(cx, chunk)).await?;
                }
                Ok(())
            }

            /// Stages as many bytes from the front of `chunk` as there is room for, and returns
            /// how many: at least one, unless `chunk` is empty.
            ///
            /// # Errors
            ///
            /// Those of writing: see [`Stream`](Stream#errors).
            pub fn poll_write_chunk(
                &mut self,
                cx: &mut Context<'_>,
                chunk: &mut Bytes,
            ) -> Poll<io::Result<usize>> {
                self.handle.poll_write_chunk(cx, chunk)
            }

            /// Waits until both directions are finished, or the stream has ended early. What was
            /// received can still be read. A writer that has nothing to write learns here that its
            /// peer is gone.
            ///
            /// # Errors
            ///
            /// Why it ended early: a reset, by the peer or by this side, or the end of the session.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future has no effect.
            pub async fn ended(&mut self) -> Result<(), StreamError> {
                std::future::poll_fn(|cx| self.handle.poll_ended(cx)).await
            }

            /// Writes, flushes and closes wait until `at` and no longer: one that still waits then,
            /// and every later one that would have to, fails with [`StreamError::TimedOut`] until
            /// the deadline is changed. The stream stays usable; after a
            /// [`write_chunk`](Self::write_chunk) that failed, its chunk holds what is still to be
            /// written. With `None` they wait forever.
            ///
            /// `at` is a moment on the clock of [`Config`](crate::Config)'s timer. With
            /// `trunkline::tokio` that is tokio's: `tokio::time::Instant::now().into_std()`.
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
