//! A store as the source of an RPC client's sessions.

use futures::{FutureExt, future::BoxFuture};

use super::{ConnectError, PeerStore};
use crate::{
    Session, SessionError,
    rpc::{BoxError, Connect, Node},
};

/// A client built on a store shares its sessions: a node's address is that of a peer.
///
/// ```
/// use bytes::Bytes;
/// use trunkline::peers::{PeerId, PeerStore};
/// use trunkline::rpc::{ClientBuilder, Connection, Fixed, Router, Server};
/// use trunkline::{Protocol, runtime::Runtime, transport::Transports};
///
/// # smol::block_on(async {
/// let runtime = Runtime::new(|task| smol::spawn(task).detach());
/// let network = Transports::default();
///
/// let mut router = Router::bytes();
/// router.unary("Echo.Say", |_ctx, said: Bytes| async move { Ok(said) })?;
/// let server = Server::new(router, &runtime);
/// let bob = PeerStore::builder(PeerId::new("bob")?, runtime.clone(), network.clone())
///     .serve(move |_peer, session, dispatcher| {
///         if let Ok(calls) = dispatcher.serve(Protocol::RPC, 64) {
///             let serving = server.serve_streams(session.clone(), calls, Connection::default());
///             smol::spawn(serving).detach();
///         }
///     })
///     .build();
/// bob.listen("memory://bob").await?;
///
/// let ann = PeerStore::builder(PeerId::new("ann")?, runtime.clone(), network).build();
/// let client = ClientBuilder::new(&runtime, ann.clone())
///     .resolve(Fixed::new(["memory://bob"]))
///     .build();
/// let heard: Bytes = client.call("Echo.Say", &Bytes::from("hello")).await?;
/// assert_eq!((&heard[..], ann.len()), (&b"hello"[..], 1));
/// # ann.shutdown().await;
/// # bob.shutdown().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Connect for PeerStore {
    fn connect(&self, node: &Node) -> BoxFuture<'static, Result<Session, BoxError>> {
        let (store, address) = (self.clone(), node.address.to_string());
        async move {
            let peer = Self::connect(&store, &address).await?;
            let gone = ConnectError::Session(SessionError::Closed);
            peer.session().ok_or_else(|| BoxError::from(gone))
        }
        .boxed()
    }
}
