//! A store as the source of an RPC client's sessions.

use futures::{FutureExt, future::BoxFuture};

use super::{ConnectError, PeerStore};
use crate::{
    Session, SessionError,
    rpc::{BoxError, Connect, Node},
};

/// A client built on a store shares its sessions: a node's address is that of a peer.
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
