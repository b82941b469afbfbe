//! An IO that is seen to read, and a session over it that is polled by hand.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    fmt, io,
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::{AsyncRead, AsyncWrite, FutureExt};
use trunkline::{Config, Driver, Session, Stream, transport::memory};

use super::support::{DATA, Raw, SYN, WINDOW, header};

/// How the next read of an IO goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Fails,
    Panics,
    /// It claims to have read more than there was room for.
    Lies,
}

/// What an IO was seen to do, and is to do.
#[derive(Debug, Default)]
pub struct Seen {
    /// Where the reader's memory is.
    memory: Mutex<Range<usize>>,
    /// Bytes that were read into it, and elsewhere.
    direct: AtomicU64,
    pub copied: AtomicU64,
    pub fault: Mutex<Option<Fault>>,
    /// It takes no bytes.
    pub stuck: AtomicBool,
    /// It panicked: whoever uses it again does not know what state it is in.
    panicked: AtomicBool,
    /// What happens meanwhile.
    pub meanwhile: Mutex<Option<Meanwhile>>,
}

pub struct Meanwhile(pub Box<dyn FnOnce() + Send>);

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Seen {
    fn is_direct(&self, out: &[u8]) -> bool {
        self.memory.lock().unwrap().contains(&(out.as_ptr() as usize))
    }

    /// Readers read into `memory` from now on.
    pub fn watch(&self, memory: &[u8]) {
        let start = memory.as_ptr() as usize;
        *self.memory.lock().unwrap() = start..start + memory.len();
    }

    fn check(&self) {
        assert!(!self.panicked.load(Ordering::SeqCst), "an IO that panicked is used again");
    }

    pub fn direct(&self) -> u64 {
        self.direct.load(Ordering::SeqCst)
    }
}

/// An IO that notes whose memory it reads into; a fault befalls a reader who reads directly.
pub struct Watched<T> {
    pub io: T,
    pub seen: Arc<Seen>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.seen.check();
        let direct = self.seen.is_direct(out);
        let meanwhile = if direct { self.seen.meanwhile.lock().unwrap().take() } else { None };
        if let Some(Meanwhile(act)) = meanwhile {
            act();
        }
        let fault = if direct { self.seen.fault.lock().unwrap().take() } else { None };
        match fault {
            Some(Fault::Fails) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Some(Fault::Panics) => {
                self.seen.panicked.store(true, Ordering::SeqCst);
                panic!("a fault of the IO");
            }
            Some(Fault::Lies) => return Poll::Ready(Ok(out.len() + 1)),
            None => {}
        }
        let read = Pin::new(&mut self.io).poll_read(cx, out);
        if let Poll::Ready(Ok(len)) = read {
            let count = if direct { &self.seen.direct } else { &self.seen.copied };
            count.fetch_add(len as u64, Ordering::SeqCst);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.seen.check();
        if self.seen.stuck.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seen.check();
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seen.check();
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// A session that is polled by hand, a stream of it, and the peer.
pub struct World {
    pub session: Session,
    pub driver: Driver,
    pub stream: Stream,
    pub peer: Raw,
    pub seen: Arc<Seen>,
    pub memory: Vec<u8>,
}

impl World {
    pub fn new() -> Self {
        let config = Config::builder().no_timer().seed(Some(1)).build().unwrap();
        let (left, right) = memory::duplex(1 << 20);
        let seen = Arc::new(Seen::default());
        let (session, driver) = Session::server(Watched { io: right, seen: seen.clone() }, config);
        let memory = vec![0; 64 << 10];
        seen.watch(&memory);
        let mut peer = Raw { io: left };
        peer.send(&header(WINDOW, SYN, 1, 0));
        let mut driver = driver;
        run(&mut driver);
        let stream = session.accept().now_or_never().unwrap().unwrap();
        run(&mut driver);
        Self { session, driver, stream, peer, seen, memory }
    }

    /// One whose reader waits, with the port, for the rest of a body of `len` bytes.
    pub fn lent(len: u32) -> Self {
        let mut world = Self::new();
        world.lend(len);
        world
    }

    /// Makes it so.
    pub fn lend(&mut self, len: u32) {
        assert!(self.read().is_pending());
        self.peer.send(&header(DATA, 0, 1, len));
        assert!(self.driver.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
        // It is called, and comes.
        assert!(self.read().is_pending());
        self.run();
    }

    pub fn run(&mut self) {
        run(&mut self.driver);
    }

    /// One read of the stream's reader.
    pub fn read(&mut self) -> Poll<io::Result<usize>> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_read(&mut cx, &mut self.memory)
    }
}

/// Polls the driver until it sleeps, at most a few times: a reader that is called may come later.
pub fn run(driver: &mut Driver) {
    for _ in 0..8 {
        let _ = driver.poll_unpin(&mut Context::from_waker(Waker::noop()));
    }
}
