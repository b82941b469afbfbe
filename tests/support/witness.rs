//! A peer that behaves, and sees to it that those who do not hurt nobody.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use futures::{FutureExt, StreamExt};
use trunkline::{
    Session, SessionError,
    peers::{Message, Overflow, PeerStore, Policy, Queue},
};

use super::wires::{Net, at, id, next, soon, until};

/// A peer that behaves, whom the others must not hurt.
pub struct Witness {
    ann: PeerStore,
    heard: Queue<Message>,
}

impl Witness {
    pub async fn new(net: &Net, bob: &PeerStore) -> Self {
        let ann = net.store("ann").await;
        let heard = bob.subscribe(|message| message.from == id("ann"), 16, Overflow::DropOldest);
        ann.connect(&at("bob")).await.unwrap();
        until(|| bob.peers().iter().any(|peer| peer.id == id("ann"))).await;
        Self { ann, heard }
    }

    /// It says something, and is heard on the session it had all the time.
    pub async fn is_well(&mut self) {
        let peer = self.ann.peer(&id("bob"));
        assert!(peer.info().unwrap().dialled);
        assert_eq!(soon(peer.send("well", Policy::Wait)).await, Ok(()));
        assert_eq!(next(&mut self.heard).await.body, "well");
        assert!(self.ann.events().next().now_or_never().is_none());
    }
}

/// The store that strangers come to, and its witness.
pub async fn bob(net: &Net) -> (PeerStore, Witness) {
    let bob = net.store("bob").await;
    let witness = Witness::new(net, &bob).await;
    (bob, witness)
}

/// How a session that a stranger holds ended.
pub async fn end(session: &Session) -> SessionError {
    soon(session.closed()).await.expect_err("it should not end well")
}
