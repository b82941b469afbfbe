//! What the tests of SP sockets share: sockets on tokio's clock, which the tests pause, and peers
//! made by hand.
#![allow(dead_code, unused_imports, unreachable_pub, clippy::unwrap_used)]

#[path = "../support/random.rs"]
mod random;

pub use self::random::count;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use tokio::runtime::Builder;
use trunkline::{
    runtime::Runtime,
    sp::{
        Dialer, Options, OptionsBuilder, PipeEvent, PipeEvents, RawRep, RawReq, RepSocket,
        ReqSocket,
    },
    transport::{Acceptor, Address, Framing, Io, Settings, Transports},
};

pub const REQ: [u8; 8] = *b"\0SP\0\0\x30\0\0";
pub const REP: [u8; 8] = *b"\0SP\0\0\x31\0\0";

/// Runs a test on a clock that moves only while everyone waits. Who waits longer than all tests
/// together are allowed to waits for ever.
pub fn run(test: impl Future<Output = ()>) {
    let mut runtime = Builder::new_current_thread();
    bounded(runtime.enable_all().start_paused(true), Duration::from_secs(4 * 3_600), test);
}

/// The same where the operating system moves bytes, and so the clock has to be its own.
pub fn run_in_real_time(test: impl Future<Output = ()>) {
    bounded(Builder::new_current_thread().enable_all(), Duration::from_secs(120), test);
}

pub fn run_on_threads(test: impl Future<Output = ()>) {
    let mut runtime = Builder::new_multi_thread();
    bounded(runtime.worker_threads(3).enable_all(), Duration::from_secs(120), test);
}

fn bounded(runtime: &mut Builder, patience: Duration, test: impl Future<Output = ()>) {
    let _watched = watch();
    let test = async { tokio::time::timeout(patience, test).await };
    runtime.build().unwrap().block_on(test).expect("nobody waits for ever");
}

/// Ends the process where a test spins, and not even its clock gets a turn, until it is dropped.
fn watch() -> mpsc::Sender<()> {
    let (watched, watching) = mpsc::channel();
    let test = thread::current().name().map(str::to_owned);
    thread::spawn(move || {
        let patience = Duration::from_secs(300);
        if watching.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{test:?} does not end");
            std::process::abort();
        }
    });
    watched
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Options with a seed, changed by `change`.
pub fn options(change: impl FnOnce(OptionsBuilder) -> OptionsBuilder) -> Options {
    change(Options::builder().seed(Some(7))).build().unwrap()
}

pub fn defaults() -> Options {
    options(|builder| builder)
}

pub fn req(transports: &Transports, options: Options) -> ReqSocket {
    ReqSocket::new(trunkline::tokio::runtime(), transports.clone(), options)
}

pub fn rep(transports: &Transports, options: Options) -> RepSocket {
    RepSocket::new(trunkline::tokio::runtime(), transports.clone(), options)
}

pub fn raw_req(transports: &Transports, options: Options) -> RawReq {
    RawReq::new(trunkline::tokio::runtime(), transports.clone(), options)
}

pub fn raw_rep(transports: &Transports, options: Options) -> RawRep {
    RawRep::new(trunkline::tokio::runtime(), transports.clone(), options)
}

/// Answers every request with itself, until the socket closes.
pub fn echo(server: &RepSocket) {
    let server = server.clone();
    tokio::spawn(async move {
        while let Ok((request, replier)) = server.recv().await {
            // The peer may be gone.
            let _ = replier.send(request).await;
        }
    });
}

/// A server at an address, which answers every request with itself.
pub async fn echo_at(transports: &Transports, address: &str) -> RepSocket {
    let server = rep(transports, defaults());
    server.listen(address).await.unwrap();
    echo(&server);
    server
}

/// Lets every other task run until all of them wait.
pub async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Everything that happened so far.
pub async fn drain(events: &mut PipeEvents) -> Vec<PipeEvent> {
    settle().await;
    std::iter::from_fn(|| events.try_next()).collect()
}

/// A runtime that counts the tasks that are alive.
pub fn counting(alive: &Arc<AtomicUsize>) -> Runtime {
    let alive = alive.clone();
    let timer = trunkline::tokio::runtime().clock().clone();
    Runtime::new(move |task: trunkline::runtime::BoxFuture| {
        let alive = alive.clone();
        alive.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(task.map(move |()| alive.fetch_sub(1, Ordering::SeqCst)));
    })
    .timer(timer)
}

fn settings() -> Settings {
    Settings::new(trunkline::tokio::runtime())
}

/// One end of a connection, made by hand.
pub struct Peer {
    pub io: Box<dyn Io>,
    pub framing: Framing,
}

impl Peer {
    pub async fn connect(transports: &Transports, address: &str) -> io::Result<Self> {
        let address = Address::parse(address).unwrap();
        let connector = transports.find(&address).unwrap().connector(&address, &settings())?;
        let io = connector.connect().await?.into_io();
        let local = address.scheme() == "ipc";
        let framing = if local { Framing::Local } else { Framing::Plain };
        Ok(Self { io, framing })
    }

    /// Connects and shakes hands.
    pub async fn dial(transports: &Transports, address: &str, own: [u8; 8]) -> Self {
        let mut peer = Self::connect(transports, address).await.unwrap();
        peer.shake_hands(own).await;
        peer
    }

    pub async fn shake_hands(&mut self, own: [u8; 8]) {
        self.write(&own).await;
        let theirs = if own == REQ { REP } else { REQ };
        assert_eq!(self.read(8).await, theirs);
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
        self.io.flush().await.unwrap();
    }

    pub async fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.io.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    pub async fn send(&mut self, message: &[u8]) {
        self.try_send(message).await.unwrap();
    }

    /// The same to someone who may hang up in the middle of it.
    pub async fn try_send(&mut self, message: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        if self.framing == Framing::Local {
            bytes.push(1);
        }
        bytes.extend((message.len() as u64).to_be_bytes());
        bytes.extend(message);
        self.io.write_all(&bytes).await?;
        self.io.flush().await
    }

    pub async fn recv(&mut self) -> Vec<u8> {
        if self.framing == Framing::Local {
            assert_eq!(self.read(1).await, [1]);
        }
        let len = u64::from_be_bytes(self.read(8).await.try_into().unwrap());
        self.read(len as usize).await
    }

    /// The next message, unless none comes for a while.
    pub async fn recv_within(&mut self, patience: Duration) -> Option<Vec<u8>> {
        tokio::time::timeout(patience, self.recv()).await.ok()
    }

    /// Whether the other end closed the connection.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        let read = tokio::time::timeout(ms(5), self.io.read(&mut byte)).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    }
}

/// Takes connections by hand.
pub struct PeerListener {
    acceptor: Box<dyn Acceptor>,
}

impl PeerListener {
    pub async fn bind(transports: &Transports, address: &str) -> Self {
        let address = Address::parse(address).unwrap();
        let transport = transports.find(&address).unwrap();
        Self { acceptor: transport.bind(&address, &settings()).await.unwrap() }
    }

    /// Binds where `dialer` dials, and shakes hands with it as REP.
    pub async fn dialled(transports: &Transports, dialer: &Dialer) -> (Self, Peer) {
        let mut listener = Self::bind(transports, &dialer.address().to_string()).await;
        dialer.dial_background().unwrap();
        let peer = listener.serve().await;
        (listener, peer)
    }

    pub async fn accept(&mut self) -> Peer {
        let io = self.acceptor.accept().await.unwrap().into_io();
        Peer { io, framing: Framing::Plain }
    }

    /// Accepts and shakes hands as REP.
    pub async fn serve(&mut self) -> Peer {
        let mut peer = self.accept().await;
        peer.shake_hands(REP).await;
        peer
    }
}

/// A request's id, and its body.
pub fn split(message: &[u8]) -> (u32, &[u8]) {
    let (id, body) = message.split_first_chunk().unwrap();
    (u32::from_be_bytes(*id), body)
}

/// A message from words and a body.
pub fn words(words: &[u32], body: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend(body);
    bytes
}
