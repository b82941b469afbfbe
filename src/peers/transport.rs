//! Sockets on the sessions of a store.

use std::{fmt, io};

use futures::{FutureExt, StreamExt};

use super::{Overflow, Peer, PeerStore, Queue, store::Inner};
use crate::{
    session::{Dispatcher, Protocol},
    sync::Mutex,
    transport::{
        Accepting, Acceptor, Address, Binding, Connecting, Connection, Connector, Settings,
        Transport,
    },
};

/// Streams of a store's sessions as connections, for request/reply sockets.
///
/// Dialling `peer://ADDRESS`, where `ADDRESS` is a peer's whole address such as `tcp://host:port`,
/// opens a stream on the store's session with that peer. Listening on `peer://` and any name
/// accepts the streams of all peers. Made by [`PeerStore::transport`].
pub struct PeerTransport {
    store: PeerStore,
    streams: Mutex<Option<Queue<Connection>>>,
}

impl PeerStore {
    /// Makes a transport for sockets, on the sessions made from now on. Up to `queue` streams of
    /// peers (at least one) wait to be accepted; one more is reset. Of several transports of a
    /// store only the one made last accepts streams.
    ///
    /// ```
    /// # #[cfg(all(feature = "tokio", feature = "sp"))]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use trunkline::peers::{PeerId, PeerStore};
    /// use trunkline::sp::{Options, RepSocket, ReqSocket};
    /// use trunkline::transport::Transports;
    ///
    /// let runtime = trunkline::tokio::runtime();
    /// let network = Transports::default();
    /// let store = |name| {
    ///     let id = PeerId::new(name).expect("an id");
    ///     PeerStore::builder(id, trunkline::tokio::runtime(), network.clone()).build()
    /// };
    /// let (ann, bob) = (store("ann"), store("bob"));
    /// let over = |store: &PeerStore| Transports::none().with("peer", store.transport(16));
    ///
    /// let rep = RepSocket::new(runtime.clone(), over(&bob), Options::default());
    /// rep.listen("peer://everyone").await?;
    /// bob.listen("memory://bob").await?;
    /// let req = ReqSocket::new(runtime, over(&ann), Options::default());
    /// req.dial("peer://memory://bob").await?;
    ///
    /// let (reply, ()) = futures::join!(req.request("ping"), async {
    ///     let (request, replier) = rep.recv().await.expect("a request");
    ///     replier.send(request).await.expect("a peer");
    /// });
    /// assert_eq!(reply?, "ping");
    /// assert_eq!((ann.len(), bob.len()), (1, 1));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(all(feature = "tokio", feature = "sp")))]
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn transport(&self, queue: usize) -> PeerTransport {
        let (streams, feed) = Queue::new(queue, Overflow::DropNewest);
        self.inner.state.with(|state| state.sockets = Some((feed, queue.max(1))));
        PeerTransport { store: self.clone(), streams: Mutex::new(Some(streams)) }
    }
}

impl Transport for PeerTransport {
    fn connector(&self, address: &Address, _: &Settings) -> io::Result<Box<dyn Connector>> {
        Address::parse(address.rest())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Box::new(Dial { store: self.store.clone(), address: address.rest().to_owned() }))
    }

    fn bind(&self, address: &Address, _: &Settings) -> Binding {
        let streams = self.streams.lock().take();
        let address = address.clone();
        async move {
            let streams = streams.ok_or(io::ErrorKind::AddrInUse)?;
            Ok(Box::new(Streams { address, streams }) as Box<dyn Acceptor>)
        }
        .boxed()
    }
}

impl fmt::Debug for PeerTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTransport").field("store", &self.store).finish_non_exhaustive()
    }
}

struct Dial {
    store: PeerStore,
    address: String,
}

impl Connector for Dial {
    fn connect(&self) -> Connecting {
        let (store, address) = (self.store.clone(), self.address.clone());
        async move {
            let peer = store.connect(&address).await.map_err(io::Error::other)?;
            let session = peer.session().ok_or(io::ErrorKind::NotConnected)?;
            let stream = Dispatcher::open(&session, Protocol::SP).await?;
            let remote = Address::parse(&address).ok();
            Ok(Connection::new(stream).remote(remote))
        }
        .boxed()
    }
}

struct Streams {
    address: Address,
    streams: Queue<Connection>,
}

impl Acceptor for Streams {
    fn accept(&mut self) -> Accepting<'_> {
        async {
            match self.streams.next().await {
                Some(connection) => Ok(connection),
                // The store is gone.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn local_addr(&self) -> Option<Address> {
        Some(self.address.clone())
    }
}

impl Inner {
    /// Streams for sockets go to the transport, if there is one.
    pub(super) fn serve_sockets(&self, peer: &Peer, dispatcher: &mut Dispatcher) {
        let sockets = self.state.with(|state| state.sockets.clone());
        let Some((feed, queue)) = sockets else { return };
        let Ok(mut streams) = dispatcher.serve(Protocol::SP, queue) else { return };
        let remote = peer.info().and_then(|info| info.remote_addr);
        self.runtime.spawn(async move {
            while let Some(stream) = streams.next().await {
                let connection = Connection::new(stream).remote(remote.clone());
                if feed.is_over() {
                    return;
                }
                // What there is no room for is dropped, which resets it.
                let _ = feed.offer(connection);
            }
        });
    }
}
