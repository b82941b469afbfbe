//! The store: who is connected, and the ways to become so.

use std::{
    fmt,
    sync::{Arc, Weak, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, channel::oneshot, future::Shared, stream::FuturesUnordered};

use super::{
    AckReport, ConnectError, Message, Overflow, Peer, PeerConfig, PeerEvent, PeerId, PeerInfo,
    PeerStats, Queue, Verify,
    state::{Filter, State},
    verify::Trusting,
};
use crate::{
    Session,
    chance::Chance,
    runtime::Runtime,
    session::Dispatcher,
    sync::Mutex,
    transport::{Address, Transports},
};

/// At most one live session per peer, whoever dialled. Cheap to clone; the clones are one store,
/// which lives until [`shutdown`](Self::shutdown): sessions and listeners do not end with the last
/// handle.
///
/// ```
/// use futures::StreamExt;
/// use trunkline::peers::{Overflow, PeerId, PeerStore, Policy};
/// use trunkline::transport::Transports;
///
/// # #[cfg(feature = "tokio")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = trunkline::tokio::runtime();
/// let network = Transports::default();
/// let ann = PeerStore::builder(PeerId::new("ann")?, runtime.clone(), network.clone()).build();
/// let bob = PeerStore::builder(PeerId::new("bob")?, runtime, network).build();
///
/// let mut heard = bob.subscribe(|_| true, 16, Overflow::Wait);
/// bob.listen("memory://bob").await?;
/// let peer = ann.connect("memory://bob").await?;
/// assert_eq!(peer.id().to_string(), "bob");
///
/// peer.send("hello", Policy::Wait).await?;
/// let message = heard.next().await.expect("a message");
/// assert_eq!((message.from.to_string(), &message.body[..]), ("ann".to_owned(), &b"hello"[..]));
///
/// ann.shutdown().await;
/// bob.shutdown().await;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "tokio"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct PeerStore {
    pub(super) inner: Arc<Inner>,
}

/// Serves the streams of other protocols that a peer opens.
pub(super) type Serve = dyn Fn(&Peer, &Session, &mut Dispatcher) + Send + Sync;

/// Makes a [`PeerStore`].
#[must_use]
pub struct PeerStoreBuilder {
    me: PeerId,
    runtime: Runtime,
    transports: Transports,
    config: PeerConfig,
    verify: Arc<dyn Verify>,
    serve: Option<Arc<Serve>>,
}

/// What the handles and tasks of a store share.
pub(super) struct Inner {
    pub(super) me: PeerId,
    /// Which life of this id it is.
    pub(super) incarnation: u64,
    pub(super) runtime: Runtime,
    pub(super) transports: Transports,
    pub(super) config: PeerConfig,
    pub(super) verify: Arc<dyn Verify>,
    pub(super) serve: Option<Arc<Serve>>,
    pub(super) state: Mutex<State>,
    /// Resolves when the store shuts down.
    pub(super) closing: Shared<oneshot::Receiver<()>>,
    pub(super) dropped: AtomicU64,
    pub(super) myself: Weak<Self>,
}

impl PeerStore {
    /// A store for the peer `me`, with tasks and clock of `runtime`.
    pub fn builder(me: PeerId, runtime: Runtime, transports: Transports) -> PeerStoreBuilder {
        PeerStoreBuilder {
            me,
            runtime,
            transports,
            config: PeerConfig::default(),
            verify: Arc::new(Trusting),
            serve: None,
        }
    }

    /// The id of this store.
    #[must_use]
    pub fn id(&self) -> &PeerId {
        &self.inner.me
    }

    /// A peer by its id, connected or not.
    pub fn peer(&self, id: &PeerId) -> Peer {
        Peer::new(self.inner.clone(), id.clone())
    }

    /// Remembers where a peer can be dialled.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Address`] for what is no address.
    pub fn add_address(&self, id: &PeerId, address: &str) -> Result<(), ConnectError> {
        let address = parse(address)?;
        let mut state = self.inner.state.lock();
        state.remember(id, self.inner.config.max_peers).found_at(address);
        Ok(())
    }

    /// The peer, with a session: dialled at the address that is known if there is none. Any number
    /// of callers make one dial.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; a peer that came in meanwhile is as good as one that was reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the dial unless someone else waits for it.
    pub async fn get(&self, id: &PeerId) -> Result<Peer, ConnectError> {
        self.inner.get(id).await?;
        Ok(self.peer(id))
    }

    /// The peer at an address, with a session: that which there is, or a new one. Any number of
    /// callers make one dial. An address that the peer was not reached by before is dialled even
    /// if there is a session with it, which the new one then replaces in good order.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn connect(&self, address: &str) -> Result<Peer, ConnectError> {
        let address = parse(address)?;
        let id = self.inner.get_at(address).await?;
        Ok(self.peer(&id))
    }

    /// Dials an address in the background until a peer answers, and again, with the waits of
    /// [`reconnect`](super::PeerConfigBuilder::reconnect), whenever it is lost; until
    /// [`Peer::disconnect`] or the end of the store.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Address`] for what is no address, [`ConnectError::Closed`].
    pub fn keep(&self, address: &str) -> Result<(), ConnectError> {
        let address = parse(address)?;
        self.inner.transport(&address)?;
        if self.inner.state.lock().open.is_none() {
            return Err(ConnectError::Closed);
        }
        self.inner.runtime.spawn(self.inner.clone().keep(address));
        Ok(())
    }

    /// Accepts peers at an address until the store shuts down; returns the address in full.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Address`], [`ConnectError::Dial`] with what the system says,
    /// [`ConnectError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the address.
    pub async fn listen(&self, address: &str) -> Result<Option<Address>, ConnectError> {
        self.inner.listen(parse(address)?).await
    }

    /// Messages that `filter` wants, from now on, in the order of each peer. Up to `capacity` wait,
    /// one at least.
    pub fn subscribe(
        &self,
        filter: impl Fn(&Message) -> bool + Send + Sync + 'static,
        capacity: usize,
        overflow: Overflow,
    ) -> Queue<Message> {
        let (queue, feed) = Queue::new(capacity, overflow);
        // A filter is the user's, and must not be let go of under the lock.
        let filter: Arc<Filter> = Arc::new(filter);
        let mut state = self.inner.state.lock();
        if state.open.is_none() {
            feed.end();
            return queue;
        }
        let over: Vec<_> = state.subscribers.extract_if(.., |(feed, _)| feed.is_over()).collect();
        state.subscribers.push((feed, filter));
        drop(state);
        drop(over);
        queue
    }

    /// What happens to peers, from now on. Who does not keep up loses the oldest.
    pub fn events(&self) -> Queue<PeerEvent> {
        let (queue, feed) = Queue::new(self.inner.config.event_queue, Overflow::DropOldest);
        let mut state = self.inner.state.lock();
        if state.open.is_none() {
            feed.end();
        }
        state.events.retain(|feed| !feed.is_over());
        state.events.push(feed);
        queue
    }

    /// Sends a message to several peers, and waits until `min` of them said that it went well, or
    /// `timeout` has passed, or all have answered.
    ///
    /// # Cancel safety
    ///
    /// As [`Peer::send_with_ack`].
    pub async fn send_with_ack<'a>(
        &self,
        to: impl IntoIterator<Item = &'a PeerId>,
        body: impl Into<Bytes>,
        min: usize,
        timeout: Duration,
    ) -> AckReport {
        let body = body.into();
        let mut answers: FuturesUnordered<_> = to
            .into_iter()
            .map(|id| {
                let (peer, body) = (self.peer(id), body.clone());
                async move { (peer.id().clone(), peer.send_with_ack(body, timeout).await) }
            })
            .collect();
        let mut report = AckReport::default();
        // Everyone is sent to, even where few acks or none are enough.
        while let Some(Some((id, answer))) = answers.next().now_or_never() {
            report.add(id, answer);
        }
        while report.succeeded.len() < min {
            match answers.next().await {
                Some((id, answer)) => report.add(id, answer),
                None => break,
            }
        }
        report.pending = answers.len();
        report
    }

    /// Peers with a session.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.state.lock().table.len()
    }

    /// Whether there is no session with anyone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The peers with a session, in no order.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.inner.state.lock().table.iter().map(|(_, live)| live.info.clone()).collect()
    }

    /// Counters, and what is held now.
    #[must_use]
    pub fn stats(&self) -> PeerStats {
        self.inner.stats()
    }

    /// Closes everything at once: nobody is dialled or accepted any more, what is being dialled is
    /// given up, and every session has the close timeout to end in good order, as by
    /// [`Peer::disconnect`]. The second time it waits for the same.
    ///
    /// # Cancel safety
    ///
    /// Everything closes all the same if the future is dropped after it was polled.
    pub async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}

impl PeerStoreBuilder {
    /// The limits and times.
    pub fn config(self, config: PeerConfig) -> Self {
        Self { config, ..self }
    }

    /// Who may be a peer.
    pub fn verify(self, verify: impl Verify) -> Self {
        Self { verify: Arc::new(verify), ..self }
    }

    /// Called with every session after its handshake: here the streams of other protocols that the
    /// peer opens can be served. The session is the one that the dispatcher is for; by the time
    /// it is called another may have taken its place in the store.
    pub fn serve(
        self,
        serve: impl Fn(&Peer, &Session, &mut Dispatcher) + Send + Sync + 'static,
    ) -> Self {
        Self { serve: Some(Arc::new(serve)), ..self }
    }

    /// The store.
    #[must_use]
    pub fn build(self) -> PeerStore {
        let (open, closing) = oneshot::channel();
        let state = State::new(self.me.clone(), self.config.sessions_per_peer, open);
        let inner = Arc::new_cyclic(|myself| Inner {
            me: self.me,
            incarnation: Chance::new(None).next(),
            runtime: self.runtime,
            transports: self.transports,
            config: self.config,
            verify: self.verify,
            serve: self.serve,
            state: Mutex::new(state),
            closing: closing.shared(),
            dropped: AtomicU64::new(0),
            myself: myself.clone(),
        });
        PeerStore { inner }
    }
}

pub(super) fn parse(address: &str) -> Result<Address, ConnectError> {
    Address::parse(address).map_err(|error| ConnectError::Address(error.to_string()))
}

impl fmt::Debug for PeerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerStore")
            .field("id", &self.inner.me)
            .field("peers", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PeerStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerStoreBuilder").field("id", &self.me).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("me", &self.me).finish_non_exhaustive()
    }
}
