//! Connections within the process.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::{
    StreamExt,
    channel::mpsc,
    io::{AsyncRead, AsyncWrite},
};

use super::{Acceptor, Address, Attempt, Connection, Transport};
use crate::sync::Mutex;

/// `memory://NAME`: a table of names, and the listeners behind them. Clones share the table.
#[derive(Clone, Default)]
pub struct Memory {
    names: Arc<Mutex<HashMap<String, mpsc::Sender<Duplex>>>>,
}

impl Memory {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Transport for Memory {
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if nobody listens there, or too
    /// many connections wait to be accepted.
    fn connect<'a>(&'a self, to: &'a Address) -> Attempt<'a, Connection> {
        Box::pin(async move {
            let listener = self.names.lock().get(to.rest()).cloned();
            let mut listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (here, there) = duplex(CAPACITY);
            listener.try_send(there).map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Connection::new(here, to.rest(), to.rest()))
        })
    }

    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if somebody listens there.
    fn listen<'a>(&'a self, on: &'a Address) -> Attempt<'a, Box<dyn Acceptor>> {
        Box::pin(async move {
            let mut names = self.names.lock();
            if names.contains_key(on.rest()) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let (sender, waiting) = mpsc::channel(BACKLOG);
            names.insert(on.rest().to_owned(), sender);
            let name = on.rest().to_owned();
            Ok(Box::new(Listening { memory: self.clone(), name, waiting }) as Box<dyn Acceptor>)
        })
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names.lock().keys()).finish()
    }
}

/// Bytes that a connection holds each way.
const CAPACITY: usize = 64 << 10;

/// Connections that wait to be accepted.
const BACKLOG: usize = 128;

struct Listening {
    memory: Memory,
    name: String,
    waiting: mpsc::Receiver<Duplex>,
}

impl Acceptor for Listening {
    fn accept(&mut self) -> Attempt<'_, Connection> {
        Box::pin(async move {
            let end = self.waiting.next().await.ok_or(io::ErrorKind::ConnectionAborted)?;
            Ok(Connection::new(end, &*self.name, &*self.name))
        })
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::new("memory", &*self.name))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.memory.names.lock().remove(&self.name);
    }
}

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
        wake(waker);
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
        wake(waker);
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

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
