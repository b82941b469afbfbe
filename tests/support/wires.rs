//! Stores on a network whose wires can be cut, muted and blocked one by one, on tokio's clock,
//! which stands still but for sleeps; and peers made by hand.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    collections::HashSet,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, StreamExt};
use trunkline::{
    Config, Session, Stream,
    peers::{PeerConfig, PeerConfigBuilder, PeerId, PeerStore, PeerStoreBuilder, Queue},
    transport::{
        Acceptor, Address, Binding, Connecting, Connection, Connector, Io, Settings, Transport,
        Transports, memory,
    },
};

pub fn id(name: &str) -> PeerId {
    PeerId::new(name.to_owned()).unwrap()
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Waits for something, and not for ever.
pub async fn soon<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(secs(60), work).await.expect("it hangs")
}

pub async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(ms(1)).await;
        }
    })
    .await;
}

pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

pub async fn next<T>(queue: &mut Queue<T>) -> T {
    soon(queue.next()).await.expect("no more")
}

/// The wires between all nodes.
#[derive(Clone, Debug, Default)]
pub struct Net {
    memory: Arc<memory::Memory>,
    state: Arc<Mutex<State>>,
    dials: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    /// Who does not reach whom: dialling takes for ever.
    blocked: HashSet<(String, String)>,
    wires: Vec<Weak<Wire>>,
}

#[derive(Debug)]
struct Wire {
    from: String,
    to: String,
    cut: AtomicBool,
    mute: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Net {
    pub fn builder(&self, name: &str) -> PeerStoreBuilder {
        let network = Transports::none().with("memory", Node(self.clone(), name.to_owned()));
        PeerStore::builder(id(name), trunkline::tokio::runtime(), network)
    }

    /// A store that listens at `memory://NAME`.
    pub async fn store(&self, name: &str) -> PeerStore {
        self.configured(name, |config| config).await
    }

    pub async fn configured(
        &self,
        name: &str,
        change: impl FnOnce(PeerConfigBuilder) -> PeerConfigBuilder,
    ) -> PeerStore {
        let config = change(PeerConfig::builder()).build().unwrap();
        let store = self.builder(name).config(config).build();
        store.listen(&at(name)).await.unwrap();
        store
    }

    /// How often someone dialled.
    pub fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }

    /// Connections of which the dialling end is open.
    pub fn open(&self) -> usize {
        self.state.lock().unwrap().wires.iter().filter(|wire| wire.strong_count() > 0).count()
    }

    pub fn block(&self, from: &str, to: &str) {
        self.state.lock().unwrap().blocked.insert((from.to_owned(), to.to_owned()));
    }

    /// The connections between two nodes carry nothing any more, and nobody is told.
    pub fn mute(&self, a: &str, b: &str) {
        self.between(a, b).iter().for_each(|wire| wire.mute.store(true, Ordering::SeqCst));
    }

    /// As before, with nothing lost of what was being written.
    pub fn unmute(&self, a: &str, b: &str) {
        for wire in self.between(a, b) {
            wire.mute.store(false, Ordering::SeqCst);
            wire.wake();
        }
    }

    /// The connections between two nodes break, and both are told.
    pub fn cut(&self, a: &str, b: &str) {
        for wire in self.between(a, b) {
            wire.cut.store(true, Ordering::SeqCst);
            wire.wake();
        }
    }

    fn between(&self, a: &str, b: &str) -> Vec<Arc<Wire>> {
        let state = self.state.lock().unwrap();
        let wires = state.wires.iter().filter_map(Weak::upgrade);
        let ends = [a.to_owned(), b.to_owned()];
        wires.filter(|wire| ends.contains(&wire.from) && ends.contains(&wire.to)).collect()
    }

    /// A connection to an address, as a stranger makes it.
    pub async fn plain(&self, to: &str) -> Box<dyn Io> {
        let connector = self.memory.connector(&address(to), &settings()).unwrap();
        connector.connect().await.unwrap().into_io()
    }

    /// A session of a stranger, who may say what it likes on it.
    pub async fn session(&self, to: &str) -> Session {
        let (session, driver) = Session::client(self.plain(to).await, Config::default());
        tokio::spawn(driver);
        session
    }

    /// A stranger's session and its first stream, on which these bytes are written.
    pub async fn say(&self, to: &str, bytes: &[u8]) -> (Session, Stream) {
        let session = self.session(to).await;
        let mut stream = session.open().await.unwrap();
        // What it says may end the session at once.
        stream.write_all(bytes).await.ok();
        stream.flush().await.ok();
        (session, stream)
    }

    /// A peer made by hand, after its handshake.
    pub async fn peer(&self, to: &str, name: &str, dial: u64) -> (Session, Stream) {
        let (session, mut stream) = self.say(to, &hello(1, dial, name)).await;
        assert_eq!(answer(&mut stream).await.unwrap()[0], 0, "refused");
        (session, stream)
    }

    /// Someone who accepts at an address, and says what it likes.
    pub async fn acceptor(&self, name: &str) -> Box<dyn Acceptor> {
        self.memory.bind(&address(name), &settings()).await.unwrap()
    }
}

/// The address of a node.
pub fn at(name: &str) -> String {
    format!("memory://{name}")
}

fn address(name: &str) -> Address {
    Address::parse(&at(name)).unwrap()
}

pub fn settings() -> Settings {
    Settings::new(trunkline::tokio::runtime())
}

/// The preface and the hello of spec.md §16.2.
pub fn hello(incarnation: u64, dial: u64, name: &str) -> Vec<u8> {
    let mut bytes = b"TK\x04\0".to_vec();
    bytes.extend(framed(&introduction(incarnation, dial, name)));
    bytes
}

pub fn introduction(incarnation: u64, dials: u64, name: &str) -> Vec<u8> {
    let mut bytes = [incarnation.to_be_bytes(), dials.to_be_bytes()].concat();
    bytes.push(name.len() as u8);
    bytes.extend(name.as_bytes());
    bytes
}

/// With its length before it.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// What the store answers.
pub async fn answer(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).await?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The network as one node sees it.
#[derive(Debug)]
struct Node(Net, String);

impl Transport for Node {
    fn connector(&self, address: &Address, settings: &Settings) -> io::Result<Box<dyn Connector>> {
        let inner = self.0.memory.connector(address, settings)?.into();
        let (net, from, to) = (self.0.clone(), self.1.clone(), address.rest().to_owned());
        Ok(Box::new(Dial { net, from, to, inner }))
    }

    fn bind(&self, address: &Address, settings: &Settings) -> Binding {
        self.0.memory.bind(address, settings)
    }
}

struct Dial {
    net: Net,
    from: String,
    to: String,
    inner: Arc<dyn Connector>,
}

impl Connector for Dial {
    fn connect(&self) -> Connecting {
        self.net.dials.fetch_add(1, Ordering::SeqCst);
        let (net, inner) = (self.net.clone(), self.inner.clone());
        let (from, to) = (self.from.clone(), self.to.clone());
        async move {
            let ends = (from.clone(), to.clone());
            if net.state.lock().unwrap().blocked.contains(&ends) {
                return futures::future::pending().await;
            }
            let connection = inner.connect().await?;
            let (local, remote) =
                (connection.local_addr().cloned(), connection.remote_addr().cloned());
            let wire = Arc::new(Wire {
                from,
                to,
                cut: AtomicBool::new(false),
                mute: AtomicBool::new(false),
                waiting: Mutex::default(),
            });
            net.state.lock().unwrap().wires.push(Arc::downgrade(&wire));
            let link = Link { wire, io: Some(connection.into_io()) };
            Ok(Connection::new(link).local(local).remote(remote))
        }
        .boxed()
    }
}

impl Wire {
    fn wake(&self) {
        std::mem::take(&mut *self.waiting.lock().unwrap()).into_iter().for_each(Waker::wake);
    }
}

struct Link {
    wire: Arc<Wire>,
    io: Option<Box<dyn Io>>,
}

impl Link {
    /// Nothing while it is mute.
    fn io(&mut self, cx: &Context<'_>) -> Poll<io::Result<&mut Box<dyn Io>>> {
        self.wire.waiting.lock().unwrap().push(cx.waker().clone());
        if self.wire.cut.load(Ordering::SeqCst) {
            self.io = None;
        }
        if self.wire.mute.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Poll::Ready(self.io.as_mut().ok_or_else(|| io::ErrorKind::ConnectionReset.into()))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.wire.mute.load(Ordering::SeqCst) {
            // Nobody hears of it.
            std::mem::forget(self.io.take());
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.io(cx)? {
            Poll::Ready(io) => Pin::new(io).poll_read(cx, buf),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.io(cx)? {
            Poll::Ready(io) => Pin::new(io).poll_write(cx, buf),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.io(cx)? {
            Poll::Ready(io) => Pin::new(io).poll_flush(cx),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.io(cx) {
            Poll::Ready(Ok(io)) => Pin::new(io).poll_close(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}
