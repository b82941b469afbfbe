//! What is known of a peer, and what happens to it.

use std::time::Instant;

use bytes::Bytes;

use super::{ConnectError, PeerId};
use crate::{SessionError, transport::Address};

/// What is known of a peer with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Its id.
    pub id: PeerId,
    /// Its verified identity, as [`Verify`](super::Verify) returned it.
    pub identity: Bytes,
    /// The address of our end of the connection, if the transport knows it.
    pub local_addr: Option<Address>,
    /// The address of its end, if the transport knows it.
    pub remote_addr: Option<Address>,
    /// Whether we dialled; else the peer did.
    pub dialled: bool,
    /// Since when there is this session, on the clock of the store's runtime.
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
    /// The last session with the peer broke off without being closed: the peer may be dead.
    PresumedDead {
        /// Which peer.
        id: PeerId,
        /// How the session ended.
        error: SessionError,
    },
    /// A peer came whose verified identity is not the one it had before.
    IdentityChanged {
        /// Which peer.
        id: PeerId,
        /// The identity it had before.
        before: Bytes,
        /// The identity it has now.
        now: Bytes,
        /// Whether [`Verify`](super::Verify) accepted that; otherwise the peer was refused.
        accepted: bool,
    },
    /// A peer was dialled in the background and not reached: one that is to be
    /// [kept](super::PeerStore::keep), or that was lost. It will be dialled again.
    DialFailed {
        /// The address that was dialled.
        address: Address,
        /// Why there is no session.
        error: ConnectError,
    },
}
