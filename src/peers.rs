//! Peers: at most one live session with each, whoever dialled (`spec.md §16`).
//!
//! A [`PeerStore`] dials, accepts, and knows who is there. However many callers want a peer, it is
//! dialled once; when two peers dial each other at the same time, both keep the same session. On
//! that session everything goes: messages of the store's own, RPC, sockets, plain streams.
//!
//! # A whole program
//!
//! ```
//! use std::time::Duration;
//!
//! use futures::StreamExt;
//! use trunkline::peers::{Overflow, PeerEvent, PeerId, PeerStore};
//! use trunkline::{runtime::Runtime, transport::Transports};
//!
//! smol::block_on(async {
//!     let runtime = Runtime::new(|task| smol::spawn(task).detach());
//!     let network = Transports::default(); // with the feature `tokio` also tcp:// and ipc://
//!     let ann = PeerStore::builder(PeerId::new("ann")?, runtime.clone(), network.clone()).build();
//!     let bob = PeerStore::builder(PeerId::new("bob")?, runtime, network).build();
//!
//!     // Bob listens, and says yes to every message that wants an answer.
//!     let mut heard = bob.subscribe(|message| message.ack.is_some(), 16, Overflow::Wait);
//!     bob.listen("memory://bob").await?;
//!     let answering = smol::spawn(async move {
//!         while let Some(message) = heard.next().await {
//!             message.ack.into_iter().for_each(|ack| ack.succeed());
//!         }
//!     });
//!
//!     // Ann dials until bob is there, and again whenever he is lost.
//!     let mut events = ann.events();
//!     ann.keep("memory://bob")?;
//!     while let Some(event) = events.next().await {
//!         if let PeerEvent::Connected(info) = event {
//!             let peer = ann.peer(&info.id);
//!             peer.send_with_ack("are you there?", Duration::from_secs(5)).await?;
//!             break;
//!         }
//!     }
//!
//!     ann.shutdown().await;
//!     bob.shutdown().await;
//!     answering.await; // the subscription ended with the store
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where things are
//!
//! | You want | Look at |
//! |---|---|
//! | a session with a peer, dialled or not | [`PeerStore::get`], [`PeerStore::connect`] |
//! | to be found | [`PeerStore::listen`] |
//! | to say who may come | [`Verify`] |
//! | to send a message, and know what became of it | [`Peer::send`], [`Peer::send_with_ack`], [`PeerStore::send_with_ack`] |
//! | to hear messages | [`PeerStore::subscribe`] |
//! | to know who comes and goes | [`PeerStore::events`] |
//! | other protocols on the same sessions | [`PeerStoreBuilder::serve`], [`Peer::session`] |
//! | request/reply sockets on them | [`PeerStore::transport`] |
//! | an RPC client on them | `rpc::ClientBuilder::new(&runtime, store)`: a store is an `rpc::Connect` |
//! | every limit and time by name | [`PeerConfig`] |

mod accept;
mod config;
mod delivery;
mod dial;
mod error;
mod event;
mod id;
mod link;
mod locked;
mod mailbox;
mod panic;
mod parting;
mod peer;
#[cfg(feature = "rpc")]
mod rpc;
mod sessions;
mod state;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod transport;
mod verify;
pub mod wire;

pub use config::{PeerConfig, PeerConfigBuilder};
pub use error::{ConnectError, IoError, RefusalCode, SendError};
pub use event::{PeerEvent, PeerInfo};
pub use id::{InvalidPeerId, PeerId};
pub use peer::{Ack, Message, Peer, Policy, Sending};
pub use store::{PeerStore, PeerStoreBuilder};
pub use transport::PeerTransport;
pub use verify::{Claim, Verify};

pub use crate::queue::{Overflow, Queue};

/// What became of a message to several peers: see [`PeerStore::send_with_ack`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AckReport {
    /// The peers that said it went well.
    pub succeeded: Vec<PeerId>,
    /// The peers that did not get it or said it failed, and why.
    pub failed: Vec<(PeerId, SendError)>,
    /// How many peers had not answered yet when enough had.
    pub pending: usize,
}

impl AckReport {
    fn add(&mut self, id: PeerId, answer: Result<(), SendError>) {
        match answer {
            Ok(()) => self.succeeded.push(id),
            Err(error) => self.failed.push((id, error)),
        }
    }
}

/// Counters of a store, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Sessions whose handshake is done.
    pub sessions: usize,
    /// Accepted connections whose handshake is under way.
    pub handshakes: usize,
    /// Dials under way.
    pub dials: usize,
    /// Sessions that are being closed.
    pub closing: usize,
    /// Peers with a queue for messages.
    pub queues: usize,
    /// Messages that [`Policy::Drop`] dropped.
    pub dropped: u64,
}
