//! Stores on a network whose wires can be cut, muted and blocked one by one, on tokio's clock,
//! which stands still but for sleeps; and peers made by hand.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::FutureExt;
use trunkline::{
    Session, Stream,
    peers::{PeerConfig, PeerConfigBuilder, PeerStore, PeerStoreBuilder},
    transport::{Acceptor, Address, Connecting, Connector, Io, Transport, Transports, memory},
};

#[path = "peers.rs"]
mod peers;

pub use peers::*;

use gates::{Gate, Over, Way, gated};

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
    /// The network as one node sees it.
    pub fn of(&self, name: &str) -> Transports {
        let (net, from) = (self.clone(), name.to_owned());
        let dial = move |to: &Address, below: &Arc<dyn Connector>| {
            net.dials.fetch_add(1, Ordering::SeqCst);
            net.clone().dial(from.clone(), to.rest().to_owned(), below.clone())
        };
        Transports::none().with("memory", Over::new(self.memory.clone(), dial))
    }

    fn dial(self, from: String, to: String, below: Arc<dyn Connector>) -> Connecting {
        async move {
            let ends = (from.clone(), to.clone());
            if self.state.lock().unwrap().blocked.contains(&ends) {
                return futures::future::pending().await;
            }
            let connection = below.connect().await?;
            let wire = Arc::new(Wire {
                from,
                to,
                cut: AtomicBool::new(false),
                mute: AtomicBool::new(false),
                waiting: Mutex::default(),
            });
            self.state.lock().unwrap().wires.push(Arc::downgrade(&wire));
            Ok(gated(connection, wire))
        }
        .boxed()
    }

    pub fn builder(&self, name: &str) -> PeerStoreBuilder {
        builder(name, &self.of(name))
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
        plain(&self.plainly(), to).await
    }

    /// A session of a stranger, who may say what it likes on it.
    pub async fn session(&self, to: &str) -> Session {
        session(&self.plainly(), to).await
    }

    /// A stranger's session and its first stream, on which these bytes are written.
    pub async fn say(&self, to: &str, bytes: &[u8]) -> (Session, Stream) {
        say(&self.plainly(), to, bytes).await
    }

    /// A peer made by hand, after its handshake.
    pub async fn peer(&self, to: &str, name: &str, dial: u64) -> (Session, Stream) {
        peer(&self.plainly(), to, name, dial).await
    }

    /// The network without its wires.
    fn plainly(&self) -> Transports {
        Transports::none().with("memory", memory::Memory::clone(&self.memory))
    }

    /// Someone who accepts at an address, and says what it likes.
    pub async fn acceptor(&self, name: &str) -> Box<dyn Acceptor> {
        self.memory.bind(&address(name), &settings()).await.unwrap()
    }
}

impl Wire {
    fn wake(&self) {
        std::mem::take(&mut *self.waiting.lock().unwrap()).into_iter().for_each(Waker::wake);
    }
}

/// Nothing passes while it is mute.
impl Gate for Arc<Wire> {
    fn poll_open(&mut self, _: Way, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting.lock().unwrap().push(cx.waker().clone());
        if self.cut.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.is_mute() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn is_mute(&self) -> bool {
        self.mute.load(Ordering::SeqCst)
    }
}
