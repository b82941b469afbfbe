//! A deterministic executor on a virtual clock, IO objects with bad habits (`ios`), and raw frames:
//! what the tests of sessions share.
#![allow(dead_code, unused_imports, unreachable_pub, clippy::unwrap_used)]

mod ios;
mod random;
mod tapped;

pub use self::{
    ios::{Counted, FlushGate, Moody, Trickle},
    random::{Random, count, thorough},
    tapped::{Tapped, Writes},
};

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use trunkline::{
    Config, ConfigBuilder, ResetCode, Session, SessionError, Stream, StreamError,
    runtime::{ManualTimer, Timer},
    transport::memory::{self, Duplex},
};

/// Bytes that are unlike their neighbours, different for every seed.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The [`StreamError`] in an `io::Error` (`spec.md §11.1`).
pub fn inner(error: &io::Error) -> StreamError {
    *error.get_ref().expect("a StreamError").downcast_ref::<StreamError>().expect("a StreamError")
}

/// An executor that polls woken tasks in random order, knows when everyone sleeps, and then moves
/// the virtual clock. A lost wake is a panic, not a hang.
pub struct Sim {
    timer: Arc<ManualTimer>,
    random: Random,
    tasks: Vec<Task>,
    polls_left: u64,
}

struct Task {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    flag: Arc<Flag>,
}

/// A waker that notes that it was woken.
#[derive(Debug, Default)]
pub struct Flag {
    woken: AtomicBool,
    wakes: AtomicU64,
}

impl Flag {
    pub fn take(&self) -> bool {
        self.woken.swap(false, Ordering::SeqCst)
    }

    pub fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }
}

/// The output of a spawned task, once it is there.
pub struct Output<T>(Rc<RefCell<Option<T>>>);

impl<T> Output<T> {
    pub fn take(&self) -> Option<T> {
        self.0.borrow_mut().take()
    }

    pub fn is_ready(&self) -> bool {
        self.0.borrow().is_some()
    }
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        Self {
            timer: Arc::new(ManualTimer::new()),
            random: Random(seed),
            tasks: Vec::new(),
            polls_left: 3_000_000,
        }
    }

    /// A configuration on the virtual clock.
    pub fn config(&self) -> ConfigBuilder {
        Config::builder().timer(self.timer.clone()).seed(Some(1))
    }

    pub fn timer(&self) -> Arc<ManualTimer> {
        self.timer.clone()
    }

    pub fn now(&self) -> std::time::Instant {
        self.timer.now()
    }

    pub fn spawn<F>(&mut self, future: F) -> Output<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let (_, output) = self.spawn_flagged(future);
        output
    }

    /// As [`spawn`](Self::spawn); the number serves [`drop_task`](Self::drop_task).
    pub fn spawn_flagged<F>(&mut self, future: F) -> (usize, Output<F::Output>)
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let output = Rc::new(RefCell::new(None));
        let slot = output.clone();
        let future = Box::pin(async move {
            let done = future.await;
            *slot.borrow_mut() = Some(done);
        });
        let flag = Arc::new(Flag::default());
        flag.woken.store(true, Ordering::SeqCst);
        self.tasks.push(Task { future: Some(future), flag });
        (self.tasks.len() - 1, Output(output))
    }

    /// Cancels a task.
    pub fn drop_task(&mut self, number: usize) {
        self.tasks[number].future = None;
    }

    /// Two joined sessions over a pipe, their drivers spawned.
    pub fn pair(&mut self, capacity: usize) -> (Session, Session) {
        let config = self.config().build().unwrap();
        self.pair_with(capacity, config.clone(), config)
    }

    pub fn pair_with(
        &mut self,
        capacity: usize,
        client: Config,
        server: Config,
    ) -> (Session, Session) {
        let (left, right) = memory::duplex(capacity);
        self.pair_over(left, right, client, server)
    }

    pub fn pair_over<A, B>(
        &mut self,
        left: A,
        right: B,
        client: Config,
        server: Config,
    ) -> (Session, Session)
    where
        A: AsyncRead + AsyncWrite + Send + 'static,
        B: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (client, driver) = Session::client(left, client);
        let (server, peer) = Session::server(right, server);
        self.spawn(driver);
        self.spawn(peer);
        (client, server)
    }

    /// A server, and the other end of its pipe for raw frames.
    pub fn server_with_peer(&mut self, config: Config) -> (Session, Raw) {
        let (left, right) = memory::duplex(1 << 20);
        let (server, driver) = Session::server(right, config);
        self.spawn(driver);
        (server, Raw { io: left })
    }

    /// A client, and the other end of its pipe for raw frames.
    pub fn client_with_peer(&mut self, config: Config) -> (Session, Raw) {
        let (left, right) = memory::duplex(1 << 20);
        let (client, driver) = Session::client(left, config);
        self.spawn(driver);
        (client, Raw { io: right })
    }

    /// Runs until everyone sleeps; the clock stands still.
    pub fn settle(&mut self) {
        while self.step() {}
    }

    /// Lets time pass, timer by timer, and runs what that wakes.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now() + by;
        self.settle();
        while let Some(due) = self.timer.next_due().filter(|due| *due <= end) {
            self.timer.advance(due.saturating_duration_since(self.now()));
            self.settle();
        }
        self.timer.advance(end.saturating_duration_since(self.now()));
        self.settle();
    }

    /// Runs `work` to its end. Where everyone sleeps the clock moves on, by a second in total.
    pub fn run<F>(&mut self, work: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.run_for(Duration::from_secs(1), work)
    }

    pub fn run_for<F>(&mut self, patience: Duration, work: F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let end = self.now() + patience;
        let output = self.spawn(work);
        loop {
            if let Some(done) = output.take() {
                return done;
            }
            if self.step() {
                continue;
            }
            let due = self.timer.next_due();
            let due = due.filter(|due| *due <= end).expect("everyone sleeps, nothing will wake");
            self.timer.advance(due.saturating_duration_since(self.now()));
        }
    }

    /// Polls one woken task; false if there is none.
    pub fn step(&mut self) -> bool {
        let len = self.tasks.len();
        if len == 0 {
            return false;
        }
        let start = self.random.below(len);
        for offset in 0..len {
            let task = &mut self.tasks[(start + offset) % len];
            let Some(future) = &mut task.future else { continue };
            if !task.flag.take() {
                continue;
            }
            self.polls_left = self.polls_left.checked_sub(1).expect("no busy loop");
            let waker = Waker::from(task.flag.clone());
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                task.future = None;
            }
            return true;
        }
        false
    }
}

/// A peer made by hand: it sends and reads frames.
pub struct Raw {
    pub io: Duplex,
}

/// A frame as it was read: kind, flags, stream, length and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u16,
    pub stream: u32,
    pub length: u32,
    pub body: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const WINDOW: u8 = 1;
pub const PING: u8 = 2;
pub const GO_AWAY: u8 = 3;
pub const SYN: u16 = 1;
pub const ACK: u16 = 2;
pub const FIN: u16 = 4;
pub const RST: u16 = 8;

/// The bytes of a header (`spec.md §2.1`).
pub fn header(kind: u8, flags: u16, stream: u32, length: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[1] = kind;
    bytes[2..4].copy_from_slice(&flags.to_be_bytes());
    bytes[4..8].copy_from_slice(&stream.to_be_bytes());
    bytes[8..].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// A Data frame.
pub fn data(flags: u16, stream: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(DATA, flags, stream, body.len() as u32).to_vec();
    bytes.extend(body);
    bytes
}

/// Splits bytes into frames; panics if they are not whole frames.
pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let int = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(bytes[0], 0, "version");
        let (kind, flags) = (bytes[1], u16::from_be_bytes(bytes[2..4].try_into().unwrap()));
        let (stream, length) = (int(4), int(8));
        let end = 12 + if kind == DATA { length as usize } else { 0 };
        frames.push(Frame { kind, flags, stream, length, body: bytes[12..end].to_vec() });
        bytes = &bytes[end..];
    }
    frames
}

impl Raw {
    /// Writes as much as the pipe takes, which is all of it.
    pub fn send(&mut self, bytes: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        let written = Pin::new(&mut self.io).poll_write(&mut cx, bytes);
        assert!(matches!(written, Poll::Ready(Ok(len)) if len == bytes.len()));
    }

    /// Everything that has arrived, and whether the end followed.
    pub fn receive(&mut self) -> (Vec<Frame>, bool) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        let mut buffer = vec![0; 65_536];
        loop {
            match Pin::new(&mut self.io).poll_read(&mut cx, &mut buffer) {
                Poll::Ready(Ok(0)) => return (frames(&all), true),
                Poll::Ready(read) => all.extend(&buffer[..read.unwrap()]),
                Poll::Pending => return (frames(&all), false),
            }
        }
    }
}

/// Waits until every other task had a few turns.
pub async fn pause(turns: usize) {
    for _ in 0..turns {
        let mut first = true;
        std::future::poll_fn(|cx| {
            if std::mem::take(&mut first) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// Reads to the end, and tells how that ended.
pub async fn read_all<R: AsyncRead + Unpin>(reader: &mut R) -> (Vec<u8>, Option<StreamError>) {
    let mut all = Vec::new();
    let result = reader.read_to_end(&mut all).await;
    (all, result.err().map(|error| inner(&error)))
}

/// The error of a stream whose peer went away.
pub const CANCELLED: StreamError = StreamError::Reset(ResetCode::CANCELLED);

/// The error of a stream whose session ended.
pub const fn session_ended(error: SessionError) -> StreamError {
    StreamError::Session(error)
}

/// A stream of each side, joined; the client has written one byte, which was read.
pub async fn joined(client: &Session, server: &Session) -> (Stream, Stream) {
    let mut near = client.open().await.unwrap();
    near.write_all(b"!").await.unwrap();
    let mut far = server.accept().await.unwrap();
    let mut first = [0];
    far.read_exact(&mut first).await.unwrap();
    (near, far)
}
