//! Connections within the process.

mod table;

pub use table::Memory;

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::io::{AsyncRead, AsyncWrite};

use crate::{sync::Mutex, wait::wake};

/// Two ends of a connection that holds up to `capacity` bytes each way, at least one.
///
/// Closing or dropping an end lets the other read to the end of file; writing to an end that is
/// gone fails with [`BrokenPipe`](io::ErrorKind::BrokenPipe).
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt, executor::block_on};
///
/// let (mut left, mut right) = trunkline::transport::memory::duplex(64);
/// block_on(async {
///     left.write_all(b"hi").await?;
///     left.close().await?;
///     let mut text = String::new();
///     right.read_to_string(&mut text).await?;
///     assert_eq!(text, "hi");
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn duplex(capacity: usize) -> (Duplex, Duplex) {
    let there = Arc::new(Mutex::new(Pipe::new(capacity)));
    let back = Arc::new(Mutex::new(Pipe::new(capacity)));
    let left = Duplex { read: back.clone(), write: there.clone() };
    let right = Duplex { read: there, write: back };
    (left, right)
}

/// One end of a [`duplex`].
pub struct Duplex {
    read: Arc<Mutex<Pipe>>,
    write: Arc<Mutex<Pipe>>,
}

impl AsyncRead for Duplex {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (result, waker) = self.read.lock().read(cx, out);
        wake(waker.filter(|_| result.is_ready()));
        result
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (result, waker) = self.write.lock().write(cx, bytes);
        wake(waker.filter(|_| result.is_ready()));
        result
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waker = self.write.lock().close();
        wake(waker);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        let reader = self.write.lock().close();
        let writer = self.read.lock().close();
        wake(reader);
        wake(writer);
    }
}

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Duplex").finish_non_exhaustive()
    }
}

/// One direction.
struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    closed: bool,
    /// Whichever end waits: only one of them can.
    waiting: Option<Waker>,
}

impl Pipe {
    fn new(capacity: usize) -> Self {
        Self { bytes: VecDeque::new(), capacity: capacity.max(1), closed: false, waiting: None }
    }

    /// With the waker that is to be woken, or, where this waits, let go.
    fn read(
        &mut self,
        cx: &Context<'_>,
        out: &mut [u8],
    ) -> (Poll<io::Result<usize>>, Option<Waker>) {
        if self.bytes.is_empty() && !self.closed && !out.is_empty() {
            return (Poll::Pending, self.wait(cx));
        }
        let read = io::Read::read(&mut self.bytes, out);
        (Poll::Ready(read), self.waiting.take())
    }

    /// With the waker that is to be woken, or, where this waits, let go.
    fn write(
        &mut self,
        cx: &Context<'_>,
        bytes: &[u8],
    ) -> (Poll<io::Result<usize>>, Option<Waker>) {
        if self.closed {
            return (Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())), None);
        }
        let len = bytes.len().min(self.capacity - self.bytes.len());
        if len == 0 && !bytes.is_empty() {
            return (Poll::Pending, self.wait(cx));
        }
        self.bytes.extend(&bytes[..len]);
        (Poll::Ready(Ok(len)), self.waiting.take())
    }

    /// Returns the waker of another task that waited before, to be let go after the lock.
    fn wait(&mut self, cx: &Context<'_>) -> Option<Waker> {
        self.waiting.replace(cx.waker().clone()).filter(|old| !old.will_wake(cx.waker()))
    }

    fn close(&mut self) -> Option<Waker> {
        self.closed = true;
        self.waiting.take()
    }
}
