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
    locked::Locked,
    state::{Filter, State},
    verify::Trusting,
};
use crate::{
    Session,
    chance::Chance,
    runtime::Runtime,
    session::Dispatcher,
    transport::{Address, Transports},
};

/// Keeps at most one session with each peer, whoever dialled. Cheap to clone; all clones are the
/// same store. It lives until [`shutdown`](Self::shutdown): dropping the last handle ends neither
/// sessions nor listeners.
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

/// Builds a [`PeerStore`].
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
    pub(super) state: Locked,
    /// Resolves when the store shuts down.
    pub(super) closing: Shared<oneshot::Receiver<()>>,
    pub(super) dropped: AtomicU64,
    pub(super) myself: Weak<Self>,
}

impl PeerStore {
    /// A builder of a store whose own id is `me`, with the tasks and the clock of `runtime`, for
    /// the addresses that `transports` knows.
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
    /// [`ConnectError::Address`] if it is not an address.
    pub fn add_address(&self, id: &PeerId, address: &str) -> Result<(), ConnectError> {
        let address = parse(address)?;
        let most = self.inner.config.max_peers;
        self.inner.state.with(|state| state.remember(id, most).found_at(address));
        Ok(())
    }

    /// Makes sure that there is a session with a peer. If there is none, the peer is dialled at the
    /// address known last; a session that it opens meanwhile serves as well. Any number of callers
    /// make one dial.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], unless the peer came in meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the dial unless someone else waits for it.
    pub async fn get(&self, id: &PeerId) -> Result<Peer, ConnectError> {
        self.inner.get(id).await?;
        Ok(self.peer(id))
    }

    /// Makes sure that there is a session with the peer at an address, and returns the peer. Any
    /// number of callers make one dial. An address at which no peer was found before is dialled,
    /// even if it turns out to be that of a peer with a session; the new session then replaces that
    /// one in good order.
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

    /// Dials an address in the background until a peer answers, and dials that peer again whenever
    /// it is lost, with the waits of [`reconnect`](super::PeerConfigBuilder::reconnect), until
    /// [`Peer::disconnect`] or the end of the store.
    ///
    /// Each attempt that fails is told as [`PeerEvent::DialFailed`]. After one that time does not
    /// mend, the next comes after the longest wait: the peer was not verified or did not verify us,
    /// or has our own id, or what is at the address is none. It is not given up, because all of
    /// these may change.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Address`] if it is not an address, or not one that its transport can dial;
    /// [`ConnectError::Closed`] if the store is shut down.
    pub fn keep(&self, address: &str) -> Result<(), ConnectError> {
        let address = parse(address)?;
        self.inner.connector(&address)?;
        if self.inner.is_shut() {
            return Err(ConnectError::Closed);
        }
        self.inner.runtime.spawn(self.inner.clone().keep(address));
        Ok(())
    }

    /// Accepts peers at an address until the store shuts down. Returns the address in full, with
    /// the port that was taken, if the transport knows it.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Address`] if it is not an address, or not one that its transport can listen
    /// on; [`ConnectError::Bind`] if it could not be taken; [`ConnectError::Closed`] if the store is
    /// shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the address.
    pub async fn listen(&self, address: &str) -> Result<Option<Address>, ConnectError> {
        self.inner.listen(parse(address)?).await
    }

    /// The messages from now on for which `filter` is true; those of each peer come in their order.
    /// Up to `capacity` of them (at least one) wait in the queue. A message at which `filter` panics
    /// is skipped, and an error logged.
    pub fn subscribe(
        &self,
        filter: impl Fn(&Message) -> bool + Send + Sync + 'static,
        capacity: usize,
        overflow: Overflow,
    ) -> Queue<Message> {
        let (queue, feed) = Queue::new(capacity, overflow);
        // Filters are the user's: what is not kept of them ends after the lock.
        let mut subscriber = Some((feed, Arc::new(filter) as Arc<Filter>));
        let over: Vec<_> = self.inner.state.with(|state| {
            if state.open.is_none() {
                return Vec::new();
            }
            let over = state.subscribers.extract_if(.., |(feed, _)| feed.is_over()).collect();
            state.subscribers.extend(subscriber.take());
            over
        });
        drop(over);
        if let Some((feed, _)) = subscriber {
            drop(feed.end());
        }
        queue
    }

    /// What happens to peers from now on. Up to `event_queue` events wait; beyond that the oldest
    /// are lost, and counted.
    pub fn events(&self) -> Queue<PeerEvent> {
        let (queue, feed) = Queue::new(self.inner.config.event_queue, Overflow::DropOldest);
        let ended = self.inner.state.with(|state| {
            let ended = state.open.is_none().then(|| feed.end());
            state.events.retain(|feed| !feed.is_over());
            state.events.push(feed);
            ended
        });
        drop(ended);
        queue
    }

    /// Sends a message to several peers. Waits until `min` of them have said that it went well, all
    /// have answered, or `timeout` has passed.
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

    /// How many peers have a session.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.state.with(|state| state.table.len())
    }

    /// Whether there is no session with anyone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The peers with a session, in no order.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.inner
            .state
            .with(|state| state.table.iter().map(|(_, live)| live.info.clone()).collect())
    }

    /// Counters, and what is held now.
    #[must_use]
    pub fn stats(&self) -> PeerStats {
        self.inner.stats()
    }

    /// Shuts the store down: no peer is dialled or accepted any more, dials under way are given up,
    /// and all sessions are closed side by side, each as by [`Peer::disconnect`]. A second call
    /// waits for the same end.
    ///
    /// # Cancel safety
    ///
    /// Once this was polled the store shuts down, even if the future is dropped.
    pub async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}

impl PeerStoreBuilder {
    /// The limits and times of the store. Default [`PeerConfig::default`].
    pub fn config(self, config: PeerConfig) -> Self {
        Self { config, ..self }
    }

    /// Decides who may be a peer. By default everyone may, under the id they give.
    pub fn verify(self, verify: impl Verify) -> Self {
        Self { verify: Arc::new(verify), ..self }
    }

    /// Calls `serve` with every session after its handshake, so that it can serve the streams of
    /// other protocols that the peer opens. The session is the one that the dispatcher is for; by
    /// then another may have taken its place in the store. If `serve` panics, that session ends.
    pub fn serve(
        self,
        serve: impl Fn(&Peer, &Session, &mut Dispatcher) + Send + Sync + 'static,
    ) -> Self {
        Self { serve: Some(Arc::new(serve)), ..self }
    }

    /// Makes the store.
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
            state: Locked::new(state),
            closing: closing.shared(),
            dropped: AtomicU64::new(0),
            myself: myself.clone(),
        });
        PeerStore { inner }
    }
}

impl Inner {
    /// Whether the store was shut down.
    pub(super) fn is_shut(&self) -> bool {
        self.state.with(|state| state.open.is_none())
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
