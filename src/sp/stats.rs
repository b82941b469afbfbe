//! What a socket counts.

/// Counters of a socket since it was made, and a gauge.
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
    /// Messages received, the junk among them.
    pub received: u64,
    /// Requests sent again.
    pub resent: u64,
    /// Messages dropped because the peer sent junk: no request id, too many hops, or a reply to
    /// no request that is open.
    pub junk: u64,
    /// Messages of ours dropped because they had no room (best effort), or no route.
    pub dropped: u64,
}
