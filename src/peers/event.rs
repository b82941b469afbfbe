//! What is known of a peer, and what happens to it.

use std::time::Instant;

use bytes::Bytes;

use super::PeerId;
use crate::{SessionError, transport::Address};

/// What is known of a peer with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Its id.
    pub id: PeerId,
    /// What [`Verify`](super::Verify) made of it.
    pub identity: Bytes,
    /// Our end of the connection, if the transport knows.
    pub local_addr: Option<Address>,
    /// Its end of the connection, if the transport knows.
    pub remote_addr: Option<Address>,
    /// Whether we dialled.
    pub dialled: bool,
    /// Since when, on the clock of the store's runtime.
    pub since: Instant,
}

/// What happens to the peers of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerEvent {
    /// There was no session with the peer, and now there is.
    Connected(PeerInfo),
    /// Another session with the peer took the place of the one before.
    Replaced(PeerInfo),
    /// The last session with the peer was closed by either side.
    Disconnected(PeerId),
    /// The last session with the peer broke off: the peer may be dead.
    PresumedDead {
        /// Which peer.
        id: PeerId,
        /// How the session ended.
        error: SessionError,
    },
    /// The peer came with another identity than before.
    IdentityChanged {
        /// Which peer.
        id: PeerId,
        /// What it was before.
        before: Bytes,
        /// What it says now.
        now: Bytes,
        /// Whether [`Verify`](super::Verify) took that; else it was refused.
        accepted: bool,
    },
}
