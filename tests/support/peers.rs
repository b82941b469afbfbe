//! Stores of peers on tokio's clock, which stands still but for sleeps, ways to wait for them, and
//! peers made by hand.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
use trunkline::{
    Config, Session, Stream,
    peers::{PeerConfig, PeerConfigBuilder, PeerId, PeerStore, PeerStoreBuilder, Queue},
    transport::{Address, Io, Settings, Transports, memory},
};

#[path = "gates.rs"]
pub mod gates;

use gates::Over;

pub fn id(name: &str) -> PeerId {
    PeerId::new(name.to_owned()).unwrap()
}

/// Where a node listens.
pub fn at(name: &str) -> String {
    format!("memory://{name}")
}

pub fn address(name: &str) -> Address {
    Address::parse(&at(name)).unwrap()
}

pub fn settings() -> Settings {
    Settings::new(trunkline::tokio::runtime())
}

pub fn builder(name: &str, network: &Transports) -> PeerStoreBuilder {
    PeerStore::builder(id(name), trunkline::tokio::runtime(), network.clone())
}

pub fn store(name: &str, network: &Transports) -> PeerStore {
    builder(name, network).build()
}

pub fn configured(
    name: &str,
    network: &Transports,
    change: impl FnOnce(PeerConfigBuilder) -> PeerConfigBuilder,
) -> PeerStore {
    builder(name, network).config(change(PeerConfig::builder()).build().unwrap()).build()
}

/// Two stores, the second listening at `memory://bob`.
pub async fn two(network: &Transports) -> (PeerStore, PeerStore) {
    let (ann, bob) = (store("ann", network), store("bob", network));
    bob.listen("memory://bob").await.unwrap();
    (ann, bob)
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
            pause(ms(1)).await;
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

/// A connection to an address, as a stranger makes it.
pub async fn plain(network: &Transports, to: &str) -> Box<dyn Io> {
    let to = address(to);
    let connector = network.find(&to).unwrap().connector(&to, &settings()).unwrap();
    connector.connect().await.unwrap().into_io()
}

/// A session of a stranger, who may say what it likes on it.
pub async fn session(network: &Transports, to: &str) -> Session {
    let (session, driver) = Session::client(plain(network, to).await, Config::default());
    tokio::spawn(driver);
    session
}

/// A stranger's session and its first stream, on which these bytes are written.
pub async fn say(network: &Transports, to: &str, bytes: &[u8]) -> (Session, Stream) {
    let session = session(network, to).await;
    let mut stream = session.open().await.unwrap();
    // What it says may end the session at once.
    stream.write_all(bytes).await.ok();
    stream.flush().await.ok();
    (session, stream)
}

/// A peer made by hand, after its handshake.
pub async fn peer(network: &Transports, to: &str, name: &str, dial: u64) -> (Session, Stream) {
    let (session, mut stream) = say(network, to, &hello(1, dial, name)).await;
    assert_eq!(answer(&mut stream).await.unwrap()[0], 0, "refused");
    (session, stream)
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

/// Counts the dials of a network in memory, each of which takes its time.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    dials: Arc<AtomicUsize>,
}

impl Counted {
    pub fn network(delay: Duration) -> (Transports, Self) {
        let counted = Self::default();
        let dials = counted.dials.clone();
        let memory = Arc::new(memory::Memory::default());
        let slow = Over::new(memory, move |_, below| {
            dials.fetch_add(1, Ordering::SeqCst);
            let below = below.clone();
            async move {
                pause(delay).await;
                below.connect().await
            }
            .boxed()
        });
        (Transports::none().with("memory", slow), counted)
    }

    pub fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }
}
