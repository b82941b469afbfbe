//! What a socket counts.

/// What a socket has counted since it was made, and how many pipes it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Pipes in use now.
    pub pipes: usize,
    /// Pipes that came into use.
    pub attached: u64,
    /// Pipes that were not admitted, or too many.
    pub rejected: u64,
    /// Connections whose handshake failed.
    pub handshakes_failed: u64,
    /// Messages handed to pipes.
    pub sent: u64,
    /// Messages received, junk included.
    pub received: u64,
    /// Requests sent again.
    pub resent: u64,
    /// Received messages that were dropped: without a request id, with too many hops, or replies to
    /// no open request.
    pub junk: u64,
    /// Outgoing messages that were dropped because there was no room (`best_effort`), or no pipe of
    /// the number that they name.
    pub dropped: u64,
}
