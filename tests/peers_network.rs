//! Fifty stores on one simulated network, on tokio's clock: partitions, restarts, slow links and
//! cuts, and what is left when it heals.
#![allow(clippy::unwrap_used)]

#[path = "support/peers.rs"]
mod peers;

use std::{
    collections::{BTreeSet, HashSet},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::join_all};
use peers::{
    at,
    gates::{Gate, Over, Way, gated},
    ms, pause, secs,
};
use trunkline::{
    peers::{Overflow, PeerStore, Policy},
    transport::{Address, Connecting, Connector, Transports, memory},
};

const NODES: usize = 50;

/// Chance with a seed, so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// The wires between all nodes.
#[derive(Clone, Debug)]
struct Net {
    memory: Arc<memory::Memory>,
    state: Arc<Mutex<Wires>>,
}

#[derive(Debug, Default)]
struct Wires {
    /// Nodes that are cut off from all others.
    apart: HashSet<usize>,
    /// The connections that were made: between whom, and how to break them.
    made: Vec<(usize, usize, Arc<Fuse>)>,
    dice: u64,
}

/// Breaks a connection.
#[derive(Debug, Default)]
struct Fuse {
    blown: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

impl Fuse {
    fn blow(&self) {
        self.blown.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.lock().unwrap().take() {
            reader.wake();
        }
    }
}

impl Net {
    fn new(seed: u64) -> Self {
        let state = Wires { dice: seed, ..Wires::default() };
        Self { memory: Arc::default(), state: Arc::new(Mutex::new(state)) }
    }

    /// The network as one node sees it.
    fn of(&self, node: usize) -> Transports {
        let net = self.clone();
        let dial = move |to: &Address, below: &Arc<dyn Connector>| {
            let to = to.rest().trim_start_matches('n').parse().unwrap();
            net.clone().dial(node, to, below.clone())
        };
        Transports::none().with("memory", Over::new(self.memory.clone(), dial))
    }

    fn dial(self, from: usize, to: usize, below: Arc<dyn Connector>) -> Connecting {
        async move {
            // Every fifth link is slow.
            let (way, slow) = {
                let mut wires = self.state.lock().unwrap();
                let mut dice = Dice(wires.dice);
                let (way, slow) = (dice.below(50), dice.below(5) == 0);
                wires.dice = dice.0;
                (ms(way as u64), slow)
            };
            pause(way).await;
            let connection = below.connect().await?;
            let fuse = Arc::new(Fuse::default());
            {
                let mut wires = self.state.lock().unwrap();
                if wires.apart.contains(&from) != wires.apart.contains(&to) {
                    return Err(io::ErrorKind::NetworkUnreachable.into());
                }
                wires.made.push((from, to, fuse.clone()));
            }
            let delay = if slow { ms(40) } else { ms(1) };
            let sleep = Box::pin(tokio::time::sleep(delay));
            Ok(gated(connection, Link { fuse, delay, sleep, slept: false }))
        }
        .boxed()
    }

    fn set_apart(&self, nodes: HashSet<usize>) {
        let mut wires = self.state.lock().unwrap();
        for (a, b, fuse) in &wires.made {
            if nodes.contains(a) != nodes.contains(b) {
                fuse.blow();
            }
        }
        wires.apart = nodes;
    }

    fn cut_some(&self, dice: &mut Dice) {
        let mut wires = self.state.lock().unwrap();
        wires.made.retain(|(_, _, fuse)| !fuse.blown.load(Ordering::SeqCst));
        for (_, _, fuse) in &wires.made {
            if dice.below(20) == 0 {
                fuse.blow();
            }
        }
    }
}

/// A connection that takes its time, and may break.
struct Link {
    fuse: Arc<Fuse>,
    delay: Duration,
    sleep: Pin<Box<tokio::time::Sleep>>,
    slept: bool,
}

impl Gate for Link {
    fn poll_open(&mut self, way: Way, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if way == Way::In {
            *self.fuse.reader.lock().unwrap() = Some(cx.waker().clone());
        }
        if self.fuse.blown.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if way == Way::In && !self.slept {
            ready!(self.sleep.as_mut().poll(cx));
            self.slept = true;
        }
        Poll::Ready(Ok(()))
    }

    fn passed(&mut self, way: Way, _: usize) {
        if way == Way::In {
            let again = tokio::time::Instant::now() + self.delay;
            self.sleep.as_mut().reset(again);
            self.slept = false;
        }
    }
}

/// The messages of all stores: none must stay without an answer.
#[derive(Clone, Default)]
struct Fates {
    sent: Arc<AtomicUsize>,
    told: Arc<AtomicUsize>,
}

struct Nodes {
    net: Net,
    stores: Vec<PeerStore>,
    wanted: Vec<BTreeSet<usize>>,
    fates: Fates,
}

impl Nodes {
    async fn new(seed: u64, dice: &mut Dice) -> Self {
        let wanted = (0..NODES)
            .map(|node| {
                let others = (0..6).map(|_| dice.below(NODES)).filter(|other| *other != node);
                others.collect()
            })
            .collect();
        let mut nodes =
            Self { net: Net::new(seed), stores: Vec::new(), wanted, fates: Fates::default() };
        for node in 0..NODES {
            let store = nodes.start(node).await;
            nodes.stores.push(store);
        }
        nodes
    }

    /// A node keeps whom it wants, greets them all the time, and hears whoever greets.
    async fn start(&self, node: usize) -> PeerStore {
        let waits = Some((ms(50), secs(2)));
        let name = format!("n{node}");
        let network = self.net.of(node);
        let store = peers::configured(&name, &network, |config| config.reconnect(waits));
        store.listen(&at(&name)).await.unwrap();
        for other in &self.wanted[node] {
            store.keep(&at(&format!("n{other}"))).unwrap();
        }
        let heard = store.subscribe(|_| true, 16, Overflow::DropOldest);
        tokio::spawn(heard.for_each(|_| async {}));
        let (greeting, fates) = (store.clone(), self.fates.clone());
        let mut events = store.events();
        tokio::spawn(async move {
            loop {
                for peer in greeting.peers() {
                    fates.sent.fetch_add(1, Ordering::SeqCst);
                    let (sending, told) =
                        (greeting.peer(&peer.id).send("hi", Policy::Drop), fates.told.clone());
                    tokio::spawn(sending.map(move |_| told.fetch_add(1, Ordering::SeqCst)));
                }
                let pause = pause(ms(100));
                tokio::pin!(pause);
                // The events end with the store.
                while let futures::future::Either::Left((event, _)) =
                    futures::future::select(events.next(), &mut pause).await
                {
                    if event.is_none() {
                        return;
                    }
                }
            }
        });
        store
    }

    async fn restart(&mut self, node: usize, politely: bool) {
        let old = self.stores[node].clone();
        if !politely {
            // As a crash: its wires break first.
            let wires = self.net.state.lock().unwrap();
            let its = wires.made.iter().filter(|(a, b, _)| *a == node || *b == node);
            its.for_each(|(_, _, fuse)| fuse.blow());
        }
        old.shutdown().await;
        self.stores[node] = self.start(node).await;
    }

    /// Those with whom a node should have a session: whom it wants, and who want it.
    fn neighbours(&self, node: usize) -> BTreeSet<String> {
        let wants = |of: usize, whom: usize| self.wanted[of].contains(&whom);
        let with = (0..NODES).filter(|other| wants(node, *other) || wants(*other, node));
        with.map(|other| format!("n{other}")).collect()
    }

    /// Every pair that wants a session has exactly one.
    fn is_whole(&self) -> bool {
        (0..NODES).all(|node| {
            let peers = self.stores[node].peers();
            let seen: BTreeSet<_> = peers.iter().map(|peer| peer.id.to_string()).collect();
            seen == self.neighbours(node) && peers.len() == seen.len()
        })
    }

    async fn heal(&self) {
        self.net.set_apart(HashSet::new());
        let whole = async {
            while !self.is_whole() {
                pause(ms(100)).await;
            }
        };
        let healed = tokio::time::timeout(secs(120), whole).await;
        assert!(healed.is_ok(), "it does not heal");
    }
}

async fn live_through(seed: u64) {
    let mut dice = Dice(seed * 2 + 1);
    let mut nodes = Nodes::new(seed + 77, &mut dice).await;
    nodes.heal().await;
    for _ in 0..6 {
        match dice.below(4) {
            0 => {
                let apart = (0..NODES).filter(|_| dice.below(3) == 0).collect();
                nodes.net.set_apart(apart);
            }
            1 => nodes.net.cut_some(&mut dice),
            2 => nodes.restart(dice.0 as usize % NODES, true).await,
            _ => nodes.restart(dice.0 as usize % NODES, false).await,
        }
        pause(ms(dice.below(5_000) as u64)).await;
    }
    nodes.heal().await;
    // It stays so, with nothing half done behind it.
    pause(secs(30)).await;
    assert!(nodes.is_whole());
    for (node, store) in nodes.stores.iter().enumerate() {
        let (stats, most) = (store.stats(), nodes.neighbours(node).len());
        assert_eq!((stats.sessions, stats.handshakes, stats.dials), (most, 0, 0), "n{node}");
        assert!(stats.queues <= most);
    }
    join_all(nodes.stores.iter().map(PeerStore::shutdown)).await;
    pause(secs(10)).await;
    let (sent, told) = (&nodes.fates.sent, &nodes.fates.told);
    assert_eq!(sent.load(Ordering::SeqCst), told.load(Ordering::SeqCst));
    assert!(sent.load(Ordering::SeqCst) > 1_000);
    for store in &nodes.stores {
        let stats = store.stats();
        assert_eq!((stats.sessions, stats.handshakes, stats.dials, stats.queues), (0, 0, 0, 0));
    }
}

/// spec.md §16.1, §16.3, §16.4.
#[tokio::test(start_paused = true)]
async fn fifty_nodes_find_each_other_again_whatever_happens() {
    let seeds = if std::env::var_os("TRUNKLINE_THOROUGH").is_some() { 20 } else { 1 };
    for seed in 0..seeds {
        live_through(seed).await;
    }
}
